/**
 * User sessions: signed keys for one user each, for what runs where no API key may be, such as a page, a widget or an
 * agent. A session is a JWS (RFC 7515) that says whose it is, what it may be used for, until when, and under which number
 * it was made; whether that number still counts, the storage knows. It opens the proxy to Cal.com's API and nothing else.
 */
import { Clock, Context, Effect, Layer, Option, Redacted, Schema } from "effect"
import { jwtVerify, SignJWT } from "jose"
import * as Rules from "./ApiKeys/Rules.js"
import { CalTokens } from "./CalTokens.js"
import { KeyRing } from "./KeyRing.js"
import { UserUlid } from "./Token.js"
import {
  InvalidInput,
  type ReadError,
  type StorageUnavailable,
  type TokensNotFound,
  type TokenUnreadable
} from "./TokenError.js"

export { allows, limits, type Method, methods } from "./ApiKeys/Rules.js"

/**
 * In seconds.
 *
 * @since 0.1.0
 * @category constants
 */
export const ttl = { default: 900, longest: 86_400 } as const

/**
 * How narrow a session is, and how short-lived.
 *
 * @since 0.1.0
 * @category models
 */
export interface SessionOptions {
  /** How many seconds the session lasts, at most 24 h. Default 15 minutes. */
  readonly ttl?: number | undefined
  /** When it ends at the latest, whatever its `ttl`: milliseconds since the epoch. Default: never. */
  readonly until?: number | undefined
  /** Default: all of {@link methods}. */
  readonly methods?: ReadonlyArray<string> | undefined
  /**
   * Paths below the Cal.com base URL, such as `/bookings`: each opens itself and what is below it, by whole segments as
   * they are written. Default: everything.
   */
  readonly paths?: ReadonlyArray<string> | undefined
}

/**
 * What a session says of itself. That it is not over by now is another question.
 *
 * @since 0.1.0
 * @category models
 */
export interface Session {
  readonly userUlid: UserUlid
  /** The number that it was made under: it counts while that is the user's. */
  readonly after: number
  readonly methods?: ReadonlyArray<string> | undefined
  readonly paths?: ReadonlyArray<string> | undefined
}

/**
 * Signed keys for one user each, for code that runs outside of your servers.
 *
 * @since 0.1.0
 * @category tags
 */
export class Sessions extends Context.Tag("cal-tokens/Sessions")<
  Sessions,
  {
    /** Makes a session of a user who is connected. `expiresAt`: milliseconds since the epoch. */
    readonly create: (
      userUlid: UserUlid,
      options?: SessionOptions
    ) => Effect.Effect<{ readonly session: Redacted.Redacted; readonly expiresAt: number }, InvalidInput | ReadError>
    /** What a session says, if it was made here and its time is not up. */
    readonly read: (session: Redacted.Redacted) => Effect.Effect<Option.Option<Session>>
    /** Whether nobody has ended it. Fails if the storage cannot be asked. */
    readonly isCurrent: (session: Session) => Effect.Effect<boolean, StorageUnavailable | TokenUnreadable>
    /** Ends all sessions of a user, and whatever Atoms may present, in all processes. */
    readonly endAll: (userUlid: UserUlid) => Effect.Effect<void, TokensNotFound | StorageUnavailable>
  }
>() {}

/**
 * Without a layer.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make: Effect.Effect<(typeof Sessions)["Service"], never, CalTokens | KeyRing> = Effect.gen(function* () {
  const tokens = yield* CalTokens
  // The ring may change while the process lives.
  const keys = yield* KeyRing
  const keyOf = (id: string | undefined) => {
    const key = keys.sessionKeys.find((key) => key.id === id)
    if (key === undefined) throw new Error("no such key")
    return Redacted.value(key.secret)
  }

  return Sessions.of({
    create: Effect.fn("Sessions.create")(function* (userUlid, options = {}) {
      const lasts = yield* seconds(options.ttl)
      const rules = yield* Rules.parse(options)
      const after = yield* tokens.beginSession(userUlid)
      const now = Math.floor((yield* Clock.currentTimeMillis) / 1000)
      const ends = Math.min(now + lasts, Math.floor((options.until ?? Infinity) / 1000))
      const [{ id, secret }] = keys.sessionKeys
      const jws = new SignJWT({ after, ...rules })
        .setProtectedHeader({ alg, typ, kid: id })
        .setIssuer(issuer)
        .setAudience(audience)
        .setSubject(userUlid)
        .setIssuedAt(now)
        .setExpirationTime(ends)
      const session = Redacted.make(yield* Effect.promise(() => jws.sign(Redacted.value(secret))))
      return { session, expiresAt: ends * 1000 }
    }),

    read: (session) =>
      Effect.gen(function* () {
        const text = Redacted.value(session)
        if (text.length > maxLength || !isCanonical(text)) return Option.none()
        const currentDate = new Date(yield* Clock.currentTimeMillis)
        const options = { algorithms: [alg], typ, issuer, audience, requiredClaims: ["sub", "iat", "exp"], currentDate }
        // Why not is nobody's business, and jose's errors hold what was signed.
        const verified = yield* Effect.option(
          Effect.tryPromise(() => jwtVerify(text, ({ kid }: Named) => keyOf(kid), options))
        )
        return Option.map(
          Option.flatMap(verified, ({ payload }) => decode(payload)),
          ({ sub, ...rest }) => ({ ...rest, userUlid: sub })
        )
      }),

    isCurrent: ({ after, userUlid }) =>
      // Not whatever is below: of a number that somebody wrote into the database for a while, nothing must outlive the end.
      tokens.sessionsAfter(userUlid, after).pipe(
        Effect.map((sessionsAfter) => after === sessionsAfter),
        Effect.catchTag("TokensNotFound", () => Effect.succeed(false))
      ),

    endAll: tokens.endSessions
  })
})

/**
 * Signed with the keys of `KeyRing`.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<Sessions, never, CalTokens | KeyRing> = Layer.effect(Sessions, make)

/** A header that names a key. */
interface Named {
  readonly kid?: string | undefined
}

const alg = "HS256"
const typ = "cal-tokens-session+jwt"
const issuer = "cal-tokens"
const audience = "cal-tokens/me"

const maxLength = 4096

/** Only bits that count: a signature in base64url can be written in several ways. */
const isCanonical = (text: string): boolean => {
  const [, signature] = /^[\w-]+\.[\w-]+\.([\w-]+)$/.exec(text) ?? []
  return signature !== undefined && Buffer.from(signature, "base64url").toString("base64url") === signature
}

const decode = Schema.decodeUnknownOption(
  Schema.Struct({
    sub: UserUlid,
    after: Schema.NonNegativeInt,
    methods: Schema.optional(Schema.Array(Schema.String)),
    paths: Schema.optional(Schema.Array(Schema.String))
  })
)

const refuse = (field: string, expected: string) => Effect.fail(new InvalidInput({ field, expected }))

const seconds = (given: number = ttl.default): Effect.Effect<number, InvalidInput> =>
  Number.isInteger(given) && given >= 1 && given <= ttl.longest
    ? Effect.succeed(given)
    : refuse("ttl", `must be a whole number of seconds, 1 to ${ttl.longest}`)
