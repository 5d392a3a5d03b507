/**
 * The one place where values from outside become tokens and users: every edge (HTTP, actions, the Effect API) passes
 * here, so a malformed value is the same `InvalidInput` everywhere and is never echoed.
 */
import { Duration, Effect, Option, Predicate, Redacted, Schema } from "effect"
import { horizon, idExpected, type TokenPair, unverifiedClaims, UserUlid } from "./Token.js"
import { InvalidInput } from "./TokenError.js"
import { maxTokenLength } from "./TokenInput/Shape.js"

export { maxTokenLength } from "./TokenInput/Shape.js"

/**
 * A pair as people hand it in. Expiries are milliseconds since the epoch or ISO 8601 with a zone.
 *
 * @since 0.1.0
 * @category models
 */
export interface PairInput {
  readonly accessToken: string | Redacted.Redacted
  readonly refreshToken: string | Redacted.Redacted
  readonly accessTokenExpiresAt: number | string
  readonly refreshTokenExpiresAt?: number | string | undefined
}

/** How far Cal.com's clock may be ahead of what we take for it. */
const clockDifference = Duration.toMillis(Duration.seconds(10))

const invalid = (field: string, expected: string) => new InvalidInput({ field, expected })

/** The refusal of a value, or of none. */
const refuse = (field: string, value: unknown, expected: string) =>
  Effect.fail(invalid(field, Predicate.isNullable(value) ? "is required" : expected))

const decodeUserUlid = Schema.decodeUnknownOption(UserUlid)

/**
 * A user's ULID from an untrusted value: a ULID in either case, or a UUID.
 *
 * @since 0.1.0
 * @category validation
 */
export const userUlid = (value: unknown): Effect.Effect<UserUlid, InvalidInput> =>
  Option.match(decodeUserUlid(value), {
    onNone: () => Effect.fail(invalid("userUlid", idExpected)),
    onSome: Effect.succeed
  })

/**
 * A token from an untrusted value: printable ASCII without spaces, so that it can travel in a header.
 *
 * @since 0.1.0
 * @category validation
 */
export const token = (field: string, value: unknown): Effect.Effect<Redacted.Redacted, InvalidInput> => {
  const text: unknown = Redacted.isRedacted(value) ? Redacted.value(value) : value
  return typeof text === "string" && text.length > 0 && text.length <= maxTokenLength && /^[\x21-\x7e]+$/.test(text)
    ? Effect.succeed(Redacted.make(text))
    : refuse(field, text, `must be a token of 1 to ${maxTokenLength} printable characters without spaces`)
}

/**
 * All that Cal.com knows together are some hundred characters.
 *
 * @since 0.1.0
 * @category validation
 */
export const maxScopeLength = 2048

/**
 * Whether a value is a list of scopes as OAuth2 writes it, and no database refuses it.
 *
 * @since 0.1.0
 * @category validation
 */
export const isScope = (value: unknown): value is string =>
  typeof value === "string" && value.length <= maxScopeLength && /^[\x20-\x7e]*$/.test(value)

/**
 * The scopes of a connection from an untrusted value.
 *
 * @since 0.1.0
 * @category validation
 */
export const scope = (value: unknown): Effect.Effect<string, InvalidInput> =>
  isScope(value)
    ? Effect.succeed(value)
    : Effect.fail(invalid("scope", `must be at most ${maxScopeLength} printable characters`))

const isoInstant = /^(\d{4}-\d{2})-(\d{2})T\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]\d{2}:?\d{2})$/i

/**
 * Milliseconds from a number of them or an ISO 8601 instant with its zone; `None` for anything else.
 *
 * @since 0.1.0
 * @category validation
 */
export const parseInstant = (value: unknown): Option.Option<number> => {
  if (typeof value === "number") return Number.isFinite(value) ? Option.some(value) : Option.none()
  const [text, month, day] = (typeof value === "string" ? isoInstant.exec(value) : null) ?? []
  if (text === undefined || Number(day) > daysIn(month)) return Option.none()
  const millis = Date.parse(text)
  return Number.isNaN(millis) ? Option.none() : Option.some(millis)
}

/** Of a month like `2026-02`. `Date.parse` takes 31 days for each: the 30th of February would become the 2nd of March. */
const daysIn = (month = "") => new Date(Date.UTC(Number(month.slice(0, 4)), Number(month.slice(5)), 0)).getUTCDate()

/**
 * An expiry from an untrusted value, in milliseconds, at most two years away from `now`.
 *
 * @since 0.1.0
 * @category validation
 */
export const expiry = (field: string, value: unknown, now: number): Effect.Effect<number, InvalidInput> =>
  Option.match(
    Option.filter(parseInstant(value), (millis) => Math.abs(millis - now) <= horizon),
    {
      onNone: () =>
        refuse(
          field,
          value,
          "must be an instant within two years of now, as milliseconds since 1970 (not seconds) or ISO 8601 with a zone"
        ),
      onSome: (millis) => Effect.succeed(Math.floor(millis))
    }
  )

/**
 * What {@link pair} makes of an untrusted value: the pair, and the Cal.com user its access token names.
 *
 * @since 0.1.0
 * @category models
 */
export interface DecodedPair {
  readonly pair: TokenPair
  readonly calUserId: Option.Option<number>
}

/**
 * A pair from an untrusted value. `issuedAt` is the access token's own `iat`, if that can be true.
 *
 * @since 0.1.0
 * @category validation
 */
export const pair = (value: unknown, now: number): Effect.Effect<DecodedPair, InvalidInput> =>
  Effect.gen(function* () {
    const input = Predicate.isRecord(value) ? value : {}
    const accessToken = yield* token("accessToken", input["accessToken"])
    const refreshToken = yield* token("refreshToken", input["refreshToken"])
    const accessTokenExpiresAt = yield* expiry("accessTokenExpiresAt", input["accessTokenExpiresAt"], now)
    const refreshTokenExpiresAt = Predicate.isNullable(input["refreshTokenExpiresAt"])
      ? undefined
      : yield* expiry("refreshTokenExpiresAt", input["refreshTokenExpiresAt"], now)
    const claims = unverifiedClaims(accessToken)
    const { issuedAt } = claims
    return {
      pair: {
        accessToken,
        refreshToken,
        accessTokenExpiresAt,
        ...(issuedAt !== undefined && canBe(issuedAt, accessTokenExpiresAt, now) ? { issuedAt } : {}),
        ...(refreshTokenExpiresAt === undefined ? {} : { refreshTokenExpiresAt })
      },
      calUserId: Option.fromNullable(claims.calUserId)
    }
  })

/** Not after the expiry, not absurdly long ago, and not in the future: such a pair would count as young until then. */
const canBe = (issuedAt: number, expiresAt: number, now: number) =>
  issuedAt < expiresAt && issuedAt > now - horizon && issuedAt <= now + clockDifference

/**
 * A Cal.com user id from an untrusted value.
 *
 * @since 0.1.0
 * @category validation
 */
export const calUserId = (value: unknown): Effect.Effect<number, InvalidInput> =>
  Number.isSafeInteger(value) && Number(value) > 0
    ? Effect.succeed(Number(value))
    : refuse("calUserId", value, "must be a positive whole number")
