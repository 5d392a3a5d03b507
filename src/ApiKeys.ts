/**
 * The API keys of this service. Secrets are kept as SHA-256 only, and a presented key is compared with all of them in
 * constant time.
 */
import { createHash, timingSafeEqual } from "node:crypto"
import { Context, Data, Duration, Effect, Either, Layer, Option, Redacted } from "effect"
import * as List from "./ApiKeys/List.js"
import * as Rules from "./ApiKeys/Rules.js"
import type { Limits, Scope } from "./ApiKeys/Scope.js"
import { iso } from "./Token.js"

export type { Limits } from "./ApiKeys/Scope.js"

/**
 * A key, by whom it is had and what it opens.
 *
 * @since 0.1.0
 * @category models
 */
export interface ApiKey extends Limits {
  /** Appears in logs. */
  readonly name: string
  /** At least 32 characters; or, so that nobody reads it here, the SHA-256 of them. */
  readonly secret: Redacted.Redacted | Hashed
  readonly scopes: ReadonlySet<Scope>
}

/**
 * A secret that only its holder knows, by its SHA-256.
 *
 * @since 0.1.0
 * @category models
 */
export interface Hashed {
  /** 64 hexadecimal digits. */
  readonly sha256: string
}

/**
 * Who presents a key: its name is fit for logs.
 *
 * @since 0.1.0
 * @category models
 */
export type KeyHolder = Omit<ApiKey, "secret">

/**
 * The scopes of a key that names none: all but the one that hands out tokens.
 *
 * @since 0.1.0
 * @category constants
 */
export const defaultScopes: ReadonlySet<Scope> = new Set<Scope>(["manage", "proxy", "metrics"])

/**
 * The form of a list of keys, for people.
 *
 * @since 0.1.0
 * @category constants
 */
export const expected = List.expected

/**
 * Reads `name:secret[:scope+scope]` entries separated by commas, or a JSON list of objects. Of a secret the SHA-256 will do.
 * The failure says what is wrong and never quotes it.
 *
 * @since 0.1.0
 * @category constructors
 */
export const parse = (text: string): Either.Either<ReadonlyArray<ApiKey>, string> =>
  Either.gen(function* () {
    const keys = yield* Either.map(List.parse(text), (entries) =>
      entries.map(({ scopes = defaultScopes, ...entry }) => ({ ...entry, scopes }))
    )
    const unique = (values: ReadonlyArray<string>) => new Set(values).size === values.length
    if (!unique(keys.map((key) => key.name))) return yield* Either.left("must not name two keys alike")
    if (!unique(keys.map((key) => digestOf(key.secret).toString("hex")))) {
      return yield* Either.left("must not give two keys the same secret")
    }
    return keys
  })

/**
 * No key was presented, or one that nobody has, or has any more.
 *
 * @since 0.1.0
 * @category errors
 */
export class Unauthorized extends Data.TaggedError("Unauthorized")<{
  /** The name of a key whose time is over. Whoever presents it is not told. */
  readonly expired?: string | undefined
}> {
  override get message() {
    return "Missing or unknown API key: send it as `Authorization: Bearer <key>`."
  }
}

const limited = {
  user: "This API key is not for this user.",
  users: "This API key is for some users only, and this may concern others.",
  cal: "This API key is not for this method and path.",
  session: "This API key opens less of Cal.com's API than this session would."
} as const

const isLimit = (beyond: string): beyond is keyof typeof limited => beyond in limited

/**
 * The key is known and may not do this: it lacks a scope, or is limited.
 *
 * @since 0.1.0
 * @category errors
 */
export class Forbidden extends Data.TaggedError("Forbidden")<{
  /** The scope that it lacks, or what it is limited to. */
  readonly beyond: Scope | keyof typeof limited
}> {
  override get message() {
    const { beyond } = this
    return isLimit(beyond) ? limited[beyond] : `This API key lacks the scope "${beyond}".`
  }
}

/**
 * Who may ask for what.
 *
 * @since 0.1.0
 * @category tags
 */
export class ApiKeys extends Context.Tag("cal-tokens/ApiKeys")<
  ApiKeys,
  {
    /** Whoever is behind an `Authorization` header, if its key has the scope. */
    readonly authorize: (
      authorization: string | undefined,
      scope: Scope
    ) => Effect.Effect<KeyHolder, Unauthorized | Forbidden>
    /** Whoever is behind it, whatever their scopes. */
    readonly holder: (authorization: string | undefined) => Effect.Effect<Option.Option<KeyHolder>>
    /**
     * Who has a key of this name now, for what was given out for that key and ends with it. `fingerprint` is that of the
     * secret: another key that takes over the name has another one.
     */
    readonly named: (
      name: string
    ) => Effect.Effect<ReadonlyArray<{ readonly holder: KeyHolder; readonly fingerprint: string }>>
  }
>() {}

/**
 * Without a layer.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (keys: ReadonlyArray<ApiKey>): Context.Tag.Service<ApiKeys> => makeReloading(() => keys)

/**
 * The same with keys that change: they are asked for at each request, and looked at when they are others than before.
 *
 * @since 0.1.0
 * @category constructors
 */
export const makeReloading = (keys: () => ReadonlyArray<ApiKey>): Context.Tag.Service<ApiKeys> => {
  let last: ReadonlyArray<ApiKey> = []
  let known: ReadonlyArray<{ readonly caller: KeyHolder; readonly digest: Buffer }> = []
  const knownNow = () => {
    const now = keys()
    if (now !== last) known = now.map(({ secret, ...caller }) => ({ caller, digest: digestOf(secret) }))
    last = now
    return known
  }
  const find = (authorization: string | undefined) => {
    const presented = digest(credentials(authorization))
    // Every key is compared, and every comparison takes the same time: the answer's timing tells nothing.
    return knownNow().filter((key) => timingSafeEqual(key.digest, presented))[0]?.caller
  }
  const holder = (authorization: string | undefined) =>
    Effect.clockWith((clock): Effect.Effect<KeyHolder, Unauthorized> => {
      const caller = find(authorization)
      if (caller === undefined) return new Unauthorized({})
      return isOver(caller, clock.unsafeCurrentTimeMillis())
        ? new Unauthorized({ expired: caller.name })
        : Effect.succeed(caller)
    })
  return {
    holder: (authorization) => Effect.option(holder(authorization)),
    named: (name) =>
      Effect.clockWith((clock) => {
        const now = clock.unsafeCurrentTimeMillis()
        const current = knownNow().filter(({ caller }) => caller.name === name && !isOver(caller, now))
        return Effect.succeed(
          current.map(({ caller, digest }) => ({ holder: caller, fingerprint: digest.toString("base64url") }))
        )
      }),
    authorize: (authorization, scope) =>
      Effect.flatMap(holder(authorization), (caller) =>
        caller.scopes.has(scope) ? Effect.succeed(caller) : new Forbidden({ beyond: scope })
      )
  }
}

/**
 * With these keys; none opens nothing.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (keys: ReadonlyArray<ApiKey>): Layer.Layer<ApiKeys> => Layer.succeed(ApiKeys, make(keys))

/**
 * With keys that change while the program runs.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerReloading = (keys: () => ReadonlyArray<ApiKey>): Layer.Layer<ApiKeys> =>
  Layer.sync(ApiKeys, () => makeReloading(keys))

const isOver = ({ expiresAt = Infinity }: Limits, now: number) => now >= expiresAt

/** Of keys that end within this time is told. */
const soon = Duration.days(14)

/**
 * A line for each key whose time is over, or soon will be. `now`: milliseconds since the epoch.
 *
 * @since 0.1.0
 * @category getters
 */
export const expiries = (keys: ReadonlyArray<ApiKey>, now: number): ReadonlyArray<string> =>
  keys.flatMap((key) =>
    key.expiresAt === undefined || !isOver(key, now + Duration.toMillis(soon))
      ? []
      : [
          `The API key "${key.name}" ${isOver(key, now) ? "opens nothing any more: it ended" : "ends"} at ${iso(key.expiresAt)}`
        ]
  )

/**
 * Why a key is not for this user, if it is not; `undefined` stands for all of them.
 *
 * @since 0.1.0
 * @category predicates
 */
export const refusesUser = ({ users }: Limits, userUlid: string | undefined): Option.Option<Forbidden> =>
  users === undefined || (userUlid !== undefined && users.has(userUlid))
    ? Option.none()
    : Option.some(new Forbidden({ beyond: userUlid === undefined ? "users" : "user" }))

/**
 * Why a key is not for this method and this target at Cal.com, if it is not.
 *
 * @since 0.1.0
 * @category predicates
 */
export const refusesTarget = (limits: Limits, method: string, target: string): Option.Option<Forbidden> =>
  Rules.allows({ ...limits, methods: limits.methods ?? [method] }, method, target)
    ? Option.none()
    : Option.some(new Forbidden({ beyond: "cal" }))

const digestOf = (secret: ApiKey["secret"]) =>
  Redacted.isRedacted(secret) ? digest(Redacted.value(secret)) : Buffer.from(secret.sha256, "hex")

const digest = (text: string) => createHash("sha256").update(text).digest()

/**
 * The credentials of the scheme `Bearer` (RFC 6750, 2.1), or nothing; a key is never empty, so nothing matches none.
 *
 * @since 0.1.0
 * @category getters
 */
export const credentials = (authorization: string | undefined): string =>
  /^bearer +([A-Za-z0-9._~+/=-]+) *$/i.exec(authorization ?? "")?.[1] ?? ""
