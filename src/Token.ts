/**
 * The token model: whose token it is, what a pair is, and the pure windows that say how close to its expiry an access
 * token is. Every instant is a number of milliseconds since the Unix epoch.
 */
import { createHash } from "node:crypto"
import { DateTime, Duration, Option, ParseResult, Redacted, Schema } from "effect"
import { decodeJwt } from "jose/jwt/decode"

/**
 * Instants further from now than this, either way, are mistakes, wherever they come from: seconds taken for milliseconds
 * land in 1970, milliseconds taken for seconds in the year 57000.
 *
 * @since 0.1.0
 * @category constants
 */
export const horizon = Duration.toMillis(Duration.days(730))

/**
 * How people are told what a user's id has to be, and what to do with other ids.
 *
 * @since 0.1.0
 * @category constants
 */
export const idExpected =
  "must be a ULID, 26 characters such as 01ARZ3NDEKTSV4RRFFQ69G5FAV, or a UUID. Users with other ids (numbers, e-mail " +
  "addresses, cuids) need one of either beside it, or one made of it (UUID version 5)"

/** Crockford's base 32: no I, L, O and U. */
const crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

const uuidForm = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i

/** Before the case is changed: `ſ` becomes an S, and `ﬀ` two of F. */
const ulidForm = /^[0-7][0-9A-HJKMNP-TV-Z]{25}$/i

/** The ULID that a text names, in upper case. */
const ulidOf = (text: string): string | undefined => {
  if (text.length === 26) return ulidForm.test(text) ? text.toUpperCase() : undefined
  return text.length === 36 && uuidForm.test(text) ? encode(text.replaceAll("-", "")) : undefined
}

/** Two bits that are 0 come first: 26 digits have 130. */
const encode = (hexadecimal: string): string => {
  let text = ""
  let bits = 0
  let held = 2
  for (const digit of hexadecimal) {
    bits = (bits << 4) | parseInt(digit, 16)
    held += 4
    if (held < 5) continue
    held -= 5
    text += crockford.charAt(bits >> held)
    bits &= (1 << held) - 1
  }
  return text
}

/**
 * A user of the embedding application, named by a ULID. ULIDs are case-insensitive (Crockford base 32), so a well-formed
 * one in lower case decodes to the same user in upper case. The first character is at most 7: more would not fit in
 * 128 bits. A UUID in its usual form, in either case, decodes to the ULID of the same 128 bits: see {@link ulidFromUuid}.
 *
 * @since 0.1.0
 * @category schemas
 */
export const UserUlid = Schema.transformOrFail(Schema.String, Schema.String, {
  strict: true,
  decode: (text, _, ast) => {
    const ulid = ulidOf(text)
    return ulid === undefined
      ? ParseResult.fail(new ParseResult.Type(ast, text, idExpected))
      : ParseResult.succeed(ulid)
  },
  encode: ParseResult.succeed
}).pipe(
  Schema.pattern(/^[0-7][0-9A-HJKMNP-TV-Z]{25}$/, { message: () => idExpected }),
  Schema.brand("cal-tokens/UserUlid")
)
export type UserUlid = typeof UserUlid.Type

/**
 * The ULID of the same 128 bits as a UUID, which is how a user with a UUID is called in every answer; `None` for what is no
 * UUID of the usual form (`xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`, in either case).
 *
 * @since 0.1.0
 * @category conversions
 */
export const ulidFromUuid = (uuid: string): Option.Option<UserUlid> =>
  uuid.length === 36 ? Option.fromNullable(ulidOf(uuid) as UserUlid | undefined) : Option.none()

/**
 * The UUID of the same 128 bits as a ULID, in lower case.
 *
 * @since 0.1.0
 * @category conversions
 */
export const uuidFromUlid = (userUlid: UserUlid): string => {
  const bits = Array.from(userUlid).reduce((bits, digit) => (bits << 5n) | BigInt(crockford.indexOf(digit)), 0n)
  return bits
    .toString(16)
    .padStart(32, "0")
    .replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5")
}

/**
 * An access token with the single-use refresh token that replaces it.
 *
 * `issuedAt` is absent for pairs whose age nobody knows; `refreshTokenExpiresAt` where Cal.com does not tell it (OAuth2).
 *
 * @since 0.1.0
 * @category schemas
 */
export const TokenPair = Schema.Struct({
  accessToken: Schema.Redacted(Schema.String),
  refreshToken: Schema.Redacted(Schema.String),
  /** Milliseconds since the epoch, in Cal.com's time. */
  accessTokenExpiresAt: Schema.Number,
  /** Milliseconds since the epoch, in Cal.com's time. */
  issuedAt: Schema.optional(Schema.Number),
  /** Milliseconds since the epoch, in Cal.com's time. */
  refreshTokenExpiresAt: Schema.optional(Schema.Number)
})
export type TokenPair = typeof TokenPair.Type

/**
 * A pair without its refresh token: what whoever serves the access token has to know.
 *
 * @since 0.1.0
 * @category models
 */
export type Access = Omit<TokenPair, "refreshToken">

/**
 * A Cal.com platform ("managed") user: its tokens can be reissued with the client secret alone.
 *
 * @since 0.1.0
 * @category schemas
 */
export const ManagedUser = Schema.TaggedStruct("ManagedUser", {
  clientId: Schema.String,
  calUserId: Schema.Int
})
export type ManagedUser = typeof ManagedUser.Type

/**
 * A Cal.com account that granted access through OAuth2: only its owner can grant it again.
 *
 * @since 0.1.0
 * @category schemas
 */
export const OAuth2 = Schema.TaggedStruct("OAuth2", {
  clientId: Schema.String,
  calUserId: Schema.optional(Schema.Int),
  scope: Schema.optional(Schema.String)
})
export type OAuth2 = typeof OAuth2.Type

/**
 * What a stored pair belongs to at Cal.com.
 *
 * @since 0.1.0
 * @category schemas
 */
export const Connection = Schema.Union(ManagedUser, OAuth2)
export type Connection = typeof Connection.Type

/**
 * Whether two connections are known to be the same Cal.com account. An account nobody could name is never "the same":
 * a token of somebody else's calendar would be worse than one more consent.
 *
 * @since 0.1.0
 * @category predicates
 */
export const isSameAccount = (a: Connection, b: Connection): boolean =>
  a._tag === b._tag && a.clientId === b.clientId && a.calUserId !== undefined && a.calUserId === b.calUserId

/**
 * SHA-256 of a token as 64 hexadecimal digits. Tokens are high-entropy, so neither salt nor key is needed, and a key
 * would break comparisons while it rotates.
 *
 * @since 0.1.0
 * @category conversions
 */
export const hash = (token: Redacted.Redacted): string =>
  createHash("sha256").update(Redacted.value(token)).digest("hex")

/**
 * An instant as people and machines read it: ISO 8601 in UTC.
 *
 * @since 0.1.0
 * @category conversions
 */
export const iso = (millis: number): string => DateTime.formatIso(DateTime.unsafeMake(millis))

/**
 * The margins before an expiry: each is a duration, but at most a fraction of the token's lifetime.
 *
 * @since 0.1.0
 * @category models
 */
export interface Windows {
  readonly soon: Duration.Duration
  readonly soonFraction: number
  readonly due: Duration.Duration
  readonly dueFraction: number
}

/**
 * How long Cal.com's access tokens live: 60 minutes (less what is floored to a full minute) and 30 (API v2).
 *
 * @since 0.1.0
 * @category constants
 */
export const lifetime = { managed: Duration.minutes(60), oauth2: Duration.minutes(30) } as const

/**
 * How close to its expiry an access token is. See {@link freshness}.
 *
 * @since 0.1.0
 * @category models
 */
export type Freshness = "fresh" | "expiringSoon" | "due" | "expired"

/**
 * `accessTokenExpiresAt − issuedAt` in milliseconds, when `issuedAt` is known and earlier.
 *
 * @since 0.1.0
 * @category getters
 */
export const lifetimeMillis = (pair: Access): Option.Option<number> =>
  pair.issuedAt !== undefined && pair.issuedAt < pair.accessTokenExpiresAt
    ? Option.some(pair.accessTokenExpiresAt - pair.issuedAt)
    : Option.none()

/**
 * Where `now` (Cal.com's time, milliseconds) falls: at the expiry a token is `expired`, from `due` before it `due`, from
 * `soon` before it `expiringSoon`, else `fresh`. A window starts exactly at its margin. Margins are clamped to a fraction
 * of the lifetime, so that a short-lived token is not refreshed on every call.
 *
 * @since 0.1.0
 * @category getters
 */
export const freshness = (pair: Access, now: number, windows: Windows): Freshness => {
  const left = pair.accessTokenExpiresAt - now
  if (!(left > 0)) return "expired"
  if (left <= margin(pair, windows.due, windows.dueFraction)) return "due"
  if (left <= margin(pair, windows.soon, windows.soonFraction)) return "expiringSoon"
  return "fresh"
}

/** How long before its expiry a window of a token begins, in milliseconds. */
const margin = (pair: Access, window: Duration.Duration, fraction: number): number =>
  Option.match(lifetimeMillis(pair), {
    onNone: () => Duration.toMillis(window),
    onSome: (millis) => Math.min(Duration.toMillis(window), millis * fraction)
  })

/**
 * Until when (Cal.com's time, milliseconds, not included) a token is `fresh`: the same as {@link freshness}, known in advance.
 *
 * @since 0.1.0
 * @category getters
 */
export const freshUntil = (pair: Access, windows: Windows): number =>
  // In whole milliseconds, so that no rounding moves it.
  pair.accessTokenExpiresAt -
  Math.floor(
    Math.max(0, margin(pair, windows.due, windows.dueFraction), margin(pair, windows.soon, windows.soonFraction))
  )

/**
 * Whether the access token is past its expiry (or exactly at it) at `now`.
 *
 * @since 0.1.0
 * @category predicates
 */
export const isExpired = (pair: Access, now: number): boolean => !(pair.accessTokenExpiresAt > now)

/**
 * Whether the access token is expired or inside the `soon` window at `now`.
 *
 * @since 0.1.0
 * @category predicates
 */
export const isExpiringSoon = (pair: Access, now: number, windows: Windows): boolean =>
  freshness(pair, now, windows) !== "fresh"

/**
 * The claims of Cal.com's JWTs that are of use without verification: as hints about age and owner, never as proof.
 *
 * @since 0.1.0
 * @category models
 */
export interface UnverifiedClaims {
  /** Milliseconds since the epoch. */
  readonly issuedAt?: number
  readonly calUserId?: number
}

/**
 * Reads a token's claims without verifying it. Managed tokens name their user as `ownerId` (and `userId` once refreshed),
 * OAuth2 tokens as `userId`; all carry `iat` in seconds (Cal.com API v2, tokens repository and OAuth service).
 *
 * @since 0.1.0
 * @category getters
 */
export const unverifiedClaims = (token: Redacted.Redacted): UnverifiedClaims => {
  const claims = Option.getOrElse(
    Option.liftThrowable((jwt: string) => decodeJwt<{ ownerId?: unknown; userId?: unknown }>(jwt))(
      Redacted.value(token)
    ),
    () => ({ iat: undefined, ownerId: undefined, userId: undefined })
  )
  const calUserId = [claims.ownerId, claims.userId].find(
    (id): id is number => Number.isSafeInteger(id) && Number(id) > 0
  )
  const issuedAt = typeof claims.iat === "number" ? claims.iat * 1000 : NaN
  return {
    ...(Number.isFinite(issuedAt) ? { issuedAt } : {}),
    ...(calUserId === undefined ? {} : { calUserId })
  }
}

/**
 * Whether a replica of Cal.com's may not know the pair yet: it was issued less than `youngToken` ago.
 *
 * @since 0.1.0
 * @category predicates
 */
export const isYoung = (pair: Access, now: number, youngToken: Duration.Duration): boolean =>
  pair.issuedAt !== undefined && now - pair.issuedAt < Duration.toMillis(youngToken)

/**
 * By both tokens: OAuth2 access tokens of one second are equal, an OAuth2 server may let a refresh token live on (RFC 6749
 * §6), and a pair gets a version only when it is stored.
 *
 * @since 0.1.0
 * @category predicates
 */
export const isSamePair = (one: TokenPair, other: TokenPair): boolean =>
  hash(one.refreshToken) === hash(other.refreshToken) && isSameAccessToken(one, other)

/**
 * Whether two pairs have the same access token, whatever else differs.
 *
 * @since 0.1.0
 * @category predicates
 */
export const isSameAccessToken = (one: Access, other: Access): boolean =>
  hash(one.accessToken) === hash(other.accessToken)
