/**
 * User sessions: signed keys for one user each, for what runs where no API key may be, such as a page, a widget or an
 * agent. A session is a JWS (RFC 7515) that says whose it is, what it may be used for, until when, and under which number
 * it was made; whether that number still counts, the storage knows. It opens the proxy to Cal.com's API and nothing else.
 */
import { Clock, Context, Effect, Layer, Option, Redacted, Schema } from "effect"
import { jwtVerify, SignJWT } from "jose"
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

/**
 * What a session may be used for, where it says so.
 *
 * @since 0.1.0
 * @category constants
 */
export const methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] as const
/**
 * A method that a session may open.
 *
 * @since 0.1.0
 * @category models
 */
export type Method = (typeof methods)[number]

/**
 * In seconds.
 *
 * @since 0.1.0
 * @category constants
 */
export const ttl = { default: 900, longest: 86_400 } as const

/**
 * So that a session fits into a header of whatever browser, server or proxy.
 *
 * @since 0.1.0
 * @category constants
 */
export const limits = { paths: 32, characters: 2048 } as const

/**
 * How narrow a session is, and how short-lived.
 *
 * @since 0.1.0
 * @category models
 */
export interface SessionOptions {
  /** How many seconds the session lasts, at most 24 h. Default 15 minutes. */
  readonly ttl?: number | undefined
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
  const { sessionKeys } = yield* KeyRing
  const keyOf = (id: string | undefined) => {
    const key = sessionKeys.find((key) => key.id === id)
    if (key === undefined) throw new Error("no such key")
    return Redacted.value(key.secret)
  }

  return Sessions.of({
    create: Effect.fn("Sessions.create")(function* (userUlid, options = {}) {
      const lasts = yield* seconds(options.ttl)
      const rules = { methods: yield* someMethods(options.methods), paths: yield* somePaths(options.paths) }
      const after = yield* tokens.beginSession(userUlid)
      const now = Math.floor((yield* Clock.currentTimeMillis) / 1000)
      const [{ id, secret }] = sessionKeys
      const jws = new SignJWT({ after, ...rules })
        .setProtectedHeader({ alg, typ, kid: id })
        .setIssuer(issuer)
        .setAudience(audience)
        .setSubject(userUlid)
        .setIssuedAt(now)
        .setExpirationTime(now + lasts)
      const session = Redacted.make(yield* Effect.promise(() => jws.sign(Redacted.value(secret))))
      return { session, expiresAt: (now + lasts) * 1000 }
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

/**
 * Whether a session is for this method and this target, of which `CalPath` has judged that all readers read it alike.
 *
 * @since 0.1.0
 * @category predicates
 */
export const allows = (session: Session, method: string, target: string): boolean => {
  const segments = segmentsOf(target.split("?", 1)[0] ?? "")
  return (
    (session.methods ?? methods).includes(method) &&
    (session.paths === undefined ||
      session.paths.some((path) => segmentsOf(path).every((segment, index) => segment === segments[index])))
  )
}

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

const segmentsOf = (path: string) => path.split("/").slice(1)

/** Unreserved characters only (RFC 3986, 2.3), so that each path has one spelling, and no dot segments. */
const plainPath = /^(?:\/(?!\.+(?:\/|$))[\w\-.~]+)+$/

const refuse = (field: string, expected: string) => Effect.fail(new InvalidInput({ field, expected }))

const seconds = (given: number = ttl.default): Effect.Effect<number, InvalidInput> =>
  Number.isInteger(given) && given >= 1 && given <= ttl.longest
    ? Effect.succeed(given)
    : refuse("ttl", `must be a whole number of seconds, 1 to ${ttl.longest}`)

const someMethods = (given: ReadonlyArray<string> | undefined) =>
  given === undefined || (given.length > 0 && given.every((method) => methods.some((known) => known === method)))
    ? Effect.succeed(given === undefined ? given : [...new Set(given)])
    : refuse("methods", `must be some of ${methods.join(", ")}`)

const somePaths = (given: ReadonlyArray<string> | undefined) =>
  given === undefined ||
  (given.length > 0 &&
    given.length <= limits.paths &&
    given.join("").length <= limits.characters &&
    given.every((path) => plainPath.test(path)))
    ? Effect.succeed(given)
    : refuse(
        "paths",
        `must be 1 to ${limits.paths} plain paths below the Cal.com base URL, such as /bookings, without a slash at the ` +
          `end, escapes or dot segments, of ${limits.characters} characters together`
      )
