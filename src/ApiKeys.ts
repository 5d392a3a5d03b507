/**
 * The API keys of this service. Secrets are kept as SHA-256 only, and a presented key is compared with all of them in
 * constant time.
 */
import { createHash, timingSafeEqual } from "node:crypto"
import { Context, Data, Effect, Either, Layer, Option, Redacted, Schema } from "effect"
import { Scope } from "./ApiKeys/Scope.js"

/**
 * A key, by whom it is had and what it opens.
 *
 * @since 0.1.0
 * @category models
 */
export interface ApiKey {
  /** Appears in logs. */
  readonly name: string
  /** At least 32 characters. */
  readonly secret: Redacted.Redacted
  readonly scopes: ReadonlySet<Scope>
}

/**
 * Who presents a key: its name is fit for logs.
 *
 * @since 0.1.0
 * @category models
 */
export type KeyHolder = Pick<ApiKey, "name" | "scopes">

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
export const expected = `a list "name:secret[:scope+scope],…", each secret of at least 32 letters, digits or -._~+/=, scopes of ${Scope.literals.join(", ")}`

const entryPattern = /^([A-Za-z0-9_-]{1,64}):([A-Za-z0-9._~+/=-]{32,512})(?::([a-z+-]+))?$/

/**
 * Reads `name:secret[:scope+scope]` entries separated by commas. The failure says what is wrong and never quotes it.
 *
 * @since 0.1.0
 * @category constructors
 */
export const parse = (text: string): Either.Either<ReadonlyArray<ApiKey>, string> =>
  Either.gen(function* () {
    const keys = yield* Either.all(text.split(",").map((entry, index) => parseEntry(entry.trim(), index + 1)))
    const unique = (values: ReadonlyArray<string>) => new Set(values).size === values.length
    if (!unique(keys.map((key) => key.name))) return yield* Either.left("must not name two keys alike")
    if (!unique(keys.map((key) => Redacted.value(key.secret)))) {
      return yield* Either.left("must not give two keys the same secret")
    }
    return keys
  })

const parseEntry = (entry: string, position: number): Either.Either<ApiKey, string> => {
  const [, name, secret, scopes] = entryPattern.exec(entry) ?? []
  if (name === undefined || secret === undefined) {
    return Either.left(`must be ${expected}; entry ${position} is not`)
  }
  // Long enough, and still a placeholder.
  if (/^(.)\1*$/.test(secret)) {
    return Either.left(`must be ${expected}; entry ${position} has a secret of one repeated letter`)
  }
  if (scopes === undefined) return Either.right({ name, secret: Redacted.make(secret), scopes: defaultScopes })
  const known = scopes.split("+").filter(Schema.is(Scope))
  return known.length === scopes.split("+").length
    ? Either.right({ name, secret: Redacted.make(secret), scopes: new Set(known) })
    : Either.left(`must be ${expected}; entry ${position} has an unknown scope`)
}

/**
 * No key was presented, or one that nobody has.
 *
 * @since 0.1.0
 * @category errors
 */
export class Unauthorized extends Data.TaggedError("Unauthorized") {
  override get message() {
    return "Missing or unknown API key: send it as `Authorization: Bearer <key>`."
  }
}

/**
 * The key is known and may not do this.
 *
 * @since 0.1.0
 * @category errors
 */
export class Forbidden extends Data.TaggedError("Forbidden")<{ readonly scope: Scope }> {
  override get message() {
    return `This API key lacks the scope "${this.scope}".`
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
    readonly holder: (authorization: string | undefined) => Option.Option<KeyHolder>
  }
>() {}

/**
 * Without a layer.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (keys: ReadonlyArray<ApiKey>): Context.Tag.Service<ApiKeys> => {
  const known = keys.map(({ name, scopes, secret }) => ({
    caller: { name, scopes },
    digest: digest(Redacted.value(secret))
  }))
  const holder = (authorization: string | undefined) => {
    const presented = digest(credentials(authorization))
    // Every key is compared, and every comparison takes the same time: the answer's timing tells nothing.
    const matches = known.filter((key) => timingSafeEqual(key.digest, presented))
    return Option.fromNullable(matches[0]?.caller)
  }
  return {
    holder,
    authorize: (authorization, scope) =>
      Effect.suspend((): Effect.Effect<KeyHolder, Unauthorized | Forbidden> => {
        const caller = holder(authorization)
        if (Option.isNone(caller)) return new Unauthorized()
        return caller.value.scopes.has(scope) ? Effect.succeed(caller.value) : new Forbidden({ scope })
      })
  }
}

/**
 * With these keys; none opens nothing.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (keys: ReadonlyArray<ApiKey>): Layer.Layer<ApiKeys> => Layer.succeed(ApiKeys, make(keys))

const digest = (text: string) => createHash("sha256").update(text).digest()

/**
 * The credentials of the scheme `Bearer` (RFC 6750, 2.1), or nothing; a key is never empty, so nothing matches none.
 *
 * @since 0.1.0
 * @category getters
 */
export const credentials = (authorization: string | undefined): string =>
  /^bearer +([A-Za-z0-9._~+/=-]+) *$/i.exec(authorization ?? "")?.[1] ?? ""
