/**
 * What an answer of a token endpoint, or its absence, means for a single-use refresh token. Cal.com's texts are matched
 * by their beginning, as its source has them (API v2: `OAuthFlowService`, `OAuthService`, `ApiAuthStrategy`,
 * `PrismaExceptionFilter`).
 */
import { Data, Duration, Option, type Redacted } from "effect"
import {
  CalClientMisconfigured,
  CalProtocolError,
  CalRateLimited,
  CalRequestRejected,
  CalUnavailable,
  type CallError
} from "../TokenError.js"
import type * as History from "../History.js"
import * as RateLimits from "../CalHttp/RateLimits.js"
import * as Refusal from "../CalHttp/Refusal.js"
import { scrub } from "../CalHttp/Scrub.js"
import * as Transport from "../CalHttp/Transport.js"
import type { Unread } from "./TokenAnswer.js"
import { type ErrorBody, errorBody, errorText, type Issue } from "./Wire.js"

/**
 * Why a call to a token endpoint brought no pair.
 *
 * - `NotSpent`: Cal.com did not process it (429, the connection was never made, or the client waits for approval and
 *   serves others meanwhile).
 * - `Rejected`: Cal.com refuses this refresh token.
 * - `UserGone`: the managed user does not exist at Cal.com any more (reissue only).
 * - `ClientWide`: Cal.com refuses the client; the user has nothing to do with it.
 * - `Unknown`: the token may have been spent (5xx, reset, timeout).
 * - `Unreadable`: a success in which no pair was found. The token is spent, and the next one may be in the answer, which is
 *   to be kept for a program that finds it.
 *
 * @since 0.1.0
 * @category models
 */
export type CallFailure = Data.TaggedEnum<{
  NotSpent: { readonly error: CallError }
  Rejected: { readonly error: CallError; readonly refusal?: History.Refusal | undefined }
  UserGone: { readonly error: CallError }
  /** `isOwn`: a fault of this process, which others need not share; else Cal.com's own words. */
  ClientWide: { readonly error: CallError; readonly isOwn: boolean }
  Unknown: { readonly error: CallError }
  Unreadable: { readonly error: CallError; readonly answer: Unread }
}>
export const CallFailure = Data.taggedEnum<CallFailure>()

/** Which call it was, and what must not be seen of it. */
export interface Call {
  readonly operation: "refresh" | "reissue" | "exchange" | "createManagedUser" | "me"
  readonly clientId: string
  readonly secrets: ReadonlyArray<Redacted.Redacted>
}

/** A client that is not configured here: no call is made for it. */
export const notConfigured = (clientId: string): CallFailure =>
  CallFailure.ClientWide({
    isOwn: true,
    error: new CalClientMisconfigured({ clientId, reason: "this client is not configured" })
  })

/** No answer at all. */
export const fromNoReply = (call: Call, { phase, reason }: Transport.NoReply): CallFailure => {
  switch (phase) {
    case "impossible":
      // Nothing of a token is in the URL or the headers of a token call: it is the configuration that is wrong.
      return misconfigured(call, "the request cannot be built: check the API URL and the secret", true)
    case "notConnected":
      return CallFailure.NotSpent({ error: new CalUnavailable({ operation: call.operation, reason }) })
    case "unknown":
      return CallFailure.Unknown({ error: new CalUnavailable({ operation: call.operation, reason }) })
  }
}

/** A 2xx whose body broke off: the rest of it held the new pair. */
export const brokenOff = (call: Call, status: number): CallFailure =>
  CallFailure.Unknown({
    error: new CalUnavailable({ operation: call.operation, reason: "the answer broke off", status })
  })

/** A 2xx that does not hold what was asked for. */
export const undecodable = ({ operation }: Call, issue: Issue): CalProtocolError =>
  new CalProtocolError({ operation, issue })

/** A 2xx in which no pair was found. */
export const unreadable = (call: Call, answer: Unread): CallFailure =>
  CallFailure.Unreadable({ error: undecodable(call, answer.reason), answer })

/** An answer that is no success. `random`, from 0 to 1, makes the waits differ that all users of a client meet at once. */
export const fromReply = (call: Call, reply: Transport.Reply, random: number): CallFailure => {
  const body = errorBody(Transport.textOf(reply))
  const error = toError(call, reply, body)
  const { status } = reply
  if (status === 429) return CallFailure.NotSpent({ error })
  if (status >= 500) return CallFailure.Unknown({ error })
  // A token endpoint never redirects: a wrong host or scheme does. It is answered instead of being processed, and not
  // followed, because the body holds the token.
  if (status >= 300 && status < 400) return misconfigured(call, `status ${status}, a redirect: check the API URL`, true)
  if (isNotApproved(body)) return CallFailure.NotSpent({ error: notApproved(call, status, random) })
  // Not in Cal.com's words: something on this process's way to it.
  const isOwn = body._tag === "Foreign"
  if (status === 401 || status === 403) return misconfigured(call, refusal(call, status, body), isOwn)
  if (refusedUnread.has(status)) return CallFailure.ClientWide({ error, isOwn })
  switch (body._tag) {
    case "Platform":
      return fromPlatform(call, status, body.message, misconfigured(call, refusal(call, status, body)), error)
    case "OAuth2":
      return fromOAuth2(body, misconfigured(call, refusal(call, status, body)), error)
    case "Foreign":
      // Cal.com wraps its own 404s, so this one came from another server, or from another part of it.
      return status === 404
        ? misconfigured(call, "status 404: check the API URL", true)
        : CallFailure.Unknown({ error })
  }
}

/**
 * Whether it is the client's secret that Cal.com refuses. It looks at that before it looks at a token (API v2,
 * `ApiAuthStrategy`, `OAuthFlowService`, `OAuthService`), so nothing was spent.
 */
export const refusesSecret = (reply: Transport.Reply): boolean => {
  const { status } = reply
  if (status !== 400 && status !== 401) return false
  const body = errorBody(Transport.textOf(reply))
  switch (body._tag) {
    case "OAuth2":
      // No secret helps a client that is not known.
      return body.error === "invalid_client" && !body.description.startsWith("client_not_found")
    case "Platform":
      return status === 401
        ? body.message.startsWith("ApiAuthStrategy - oAuth client - Invalid client secret")
        : body.message.startsWith(invalidCredentials)
    case "Foreign":
      return false
  }
}

/** The platform's second look at the client, right before the token. */
const invalidCredentials = "Invalid OAuthClient credentials"

/**
 * The client waits for approval, as it does again after most changes to it. Its owner is exempt, and Cal.com looks at the
 * token before it says so (API v2, `OAuthService`): this is told to one user, and others may be served.
 */
const isNotApproved = (body: ErrorBody): boolean =>
  body._tag === "OAuth2" && body.error === "unauthorized_client" && body.description.startsWith("client_not_approved")

/** Nobody approves within seconds. Half of the wait is jitter: users who were refused together do not come back together. */
const approvalWait = (random: number) => Duration.millis(Math.round(300_000 * (1 + random)))

const notApproved = ({ operation }: Call, status: number, random: number) =>
  new CalRequestRejected({
    operation,
    status,
    reason:
      "client_not_approved: Cal.com has yet to approve this OAuth2 client, or to approve it again after a change of its name, logo, website, redirect URLs or scopes; only the client's owner is served meanwhile",
    retryAfter: approvalWait(random)
  })

/** Statuses with which a server turns a request away by its line or headers, which are the same for every user. */
const refusedUnread: ReadonlySet<number> = new Set([405, 406, 411, 413, 414, 415, 417, 421, 426, 431])

/**
 * A request that fails validation is wrong for everybody and not one user's fault: users' requests differ by a token
 * alone, and any non-empty text passes there. Validation precedes the handler, so nothing was spent either.
 */
const fromPlatform = (
  { operation }: Call,
  status: number,
  message: string,
  misconfigured: CallFailure,
  error: CallError
): CallFailure => {
  if (status === 400) {
    if (message.startsWith("Invalid refresh token")) return CallFailure.Rejected({ error, refusal: "unknown" })
    if (message.startsWith(invalidCredentials)) return misconfigured
    if (message.startsWith("Bad Request Exception") || message.startsWith("Validation failed")) {
      return CallFailure.ClientWide({ error, isOwn: false })
    }
  }
  if (status === 404) {
    if (message.startsWith("Cannot ")) return misconfigured
    // Somebody else spent it between Cal.com's look-up and its transaction.
    if (operation === "refresh" && message.startsWith("Invalid Query: ")) {
      return CallFailure.Rejected({ error, refusal: "raced" })
    }
    if (operation === "reissue" && /^User with ID .{1,40} is not part of this OAuth client/.test(message)) {
      return CallFailure.UserGone({ error })
    }
  }
  return CallFailure.Unknown({ error })
}

const fromOAuth2 = (
  body: Extract<ErrorBody, { _tag: "OAuth2" }>,
  misconfigured: CallFailure,
  error: CallError
): CallFailure => {
  switch (body.error) {
    case "invalid_client":
    case "unauthorized_client":
      return misconfigured
    case "invalid_grant":
      if (body.description.startsWith("client_id_mismatch")) return misconfigured
      if (body.description.startsWith("refresh_token_revoked")) {
        return CallFailure.Rejected({ error, refusal: "revoked" })
      }
      return body.description.startsWith("invalid_refresh_token")
        ? CallFailure.Rejected({ error, refusal: "invalid" })
        : CallFailure.Unknown({ error })
    case "invalid_request":
    case "unsupported_grant_type":
    case "invalid_scope":
      // As for the platform's validation: refused before the token was looked at.
      return CallFailure.ClientWide({ error, isOwn: false })
    default:
      return CallFailure.Unknown({ error })
  }
}

const misconfigured = (call: Call, reason: string, isOwn = false): CallFailure =>
  CallFailure.ClientWide({ isOwn, error: new CalClientMisconfigured({ clientId: call.clientId, reason }) })

const refusal = (call: Call, status: number, body: ErrorBody): string =>
  `status ${status}: ${scrub(errorText(body), call.secrets)}`

/** An answer that is no success, as an error about the call itself. */
export const toError = (
  call: { readonly operation: string; readonly secrets: ReadonlyArray<Redacted.Redacted> },
  head: Transport.Head,
  body: ErrorBody
): CalRateLimited | CalUnavailable | CalRequestRejected => {
  const { status } = head
  const { operation } = call
  if (status === 429) return new CalRateLimited({ operation, retryAfter: RateLimits.retryAfterLimit(head) })
  if (status >= 500) {
    return new CalUnavailable({ operation, reason: `status ${status}`, status, ...RateLimits.retryLater(head) })
  }
  const missing = body._tag === "Platform" && status === 403 ? Refusal.missingScopesIn(body.message) : Option.none()
  const advice = Option.match(missing, {
    onNone: () => "",
    onSome: (scopes) => `; ask for consent again with ${scopes.join(" ")}`
  })
  return new CalRequestRejected({
    operation,
    status,
    reason: `${scrub(errorText(body), call.secrets)}${advice}`,
    ...(Option.isNone(missing) ? {} : { missingScopes: missing.value })
  })
}
