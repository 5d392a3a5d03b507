/**
 * Which of Cal.com's answers mean "this access token is dead", as opposed to a missing permission, a wrong origin or a
 * wrong client: only those may cause a refresh, because a refresh cures nothing else. And which scope is missing, where
 * the person's consent cures it.
 */
import { Option, Schema } from "effect"

/** Cal.com's status for a managed user's expired access token. Not an IANA code (API v2, `TokenExpiredException`). */
export const tokenExpiredStatus = 498

/**
 * 401: the token is unknown, purged, or an expired OAuth2 one; or, while Cal.com's cache still knows it, one that was
 * deleted by a force-refresh (API v2, `ApiAuthStrategy`).
 */
const unknownToken = [
  "Invalid Access Token.",
  "ApiAuthStrategy - access token - OAuth client not found given the access token"
]

/** 403 where the permissions guard runs before authentication: bookings, single event types (API v2, `PermissionsGuard`). */
const unknownTokenAtGuard = "PermissionsGuard - no oAuth client found for access token="

const Envelope = Schema.parseJson(Schema.Struct({ error: Schema.Struct({ message: Schema.String }) }))
const decodeEnvelope = Schema.decodeUnknownOption(Envelope)

/**
 * Whether Cal.com refused the access token itself. `bodyText` is the answer's body; it is looked at for 401 and 403
 * only, and may have had its token replaced.
 */
export const isTokenRefusal = (status: number, bodyText: string): boolean => {
  if (status === tokenExpiredStatus) return true
  if (status !== 401 && status !== 403) return false
  return Option.match(decodeEnvelope(bodyText), {
    onNone: () => false,
    onSome: ({ error }) =>
      status === 401 ? unknownToken.includes(error.message) : error.message.startsWith(unknownTokenAtGuard)
  })
}

/** The words of a 403 for a token without a scope that the endpoint asks for (API v2, OAuth2 scope guard). */
const missingScopes = /^insufficient_scope: .{0,200}?Required: ([A-Z][A-Z0-9_]{0,63}(?:, ?[A-Z][A-Z0-9_]{0,63}){0,9})\./

/** The scopes that an error message of Cal.com's says are missing. */
export const missingScopesIn = (message: string): Option.Option<ReadonlyArray<string>> =>
  Option.map(Option.fromNullable(missingScopes.exec(message)?.[1]), (scopes) => scopes.split(/, ?/))

/** The same of a whole answer. */
export const missingScopesOf = (status: number, bodyText: string): Option.Option<ReadonlyArray<string>> =>
  status === 403
    ? Option.flatMap(decodeEnvelope(bodyText), ({ error }) => missingScopesIn(error.message))
    : Option.none()
