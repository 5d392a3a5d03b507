/**
 * The browser's part of OAuth 2.0, by `oauth4webapi`: random values, PKCE, and what the redirect back says.
 *
 * Not its token request. That one takes part in the accounting of this package: it says whether a code was spent, refused
 * or nobody can know, over connections that were not idle before (`CalClient.exchange`); the library's answers a
 * `Response` or the bare failure of `fetch`, and its errors carry request and body. Nor its discovery: Cal.com publishes
 * no metadata, names no issuer in its redirects, and takes a secret and a PKCE verifier together for an error, so that a
 * client with a secret sends no challenge (Cal.com API v2: `auth/oauth2` input pipe, `OAuthService`).
 */
import { Effect, Either, Option, Redacted } from "effect"
import * as oauth from "oauth4webapi"

/** Where people consent, unless it is configured otherwise. */
export const defaultAuthorizeUrl = "https://app.cal.com/auth/oauth2/authorize"

/** A value that cannot be guessed: 32 random bytes, base64url. */
export const random = Effect.sync(() => Redacted.make(oauth.generateRandomState()))

export const codeVerifier = Effect.sync(() => Redacted.make(oauth.generateRandomCodeVerifier()))

/** What the consent page is asked, and for a public client what its answer is bound to. */
export interface Request {
  readonly clientId: string
  readonly redirectUrl: string
  /** Cal.com requires them of every client that is registered with scopes of the present kind. */
  readonly scopes: ReadonlyArray<string>
  readonly state: Redacted.Redacted
  /** Of PKCE, with S256. */
  readonly codeChallenge?: string | undefined
}

export const codeChallenge = (codeVerifier: Redacted.Redacted): Effect.Effect<string> =>
  Effect.promise(() => oauth.calculatePKCECodeChallenge(Redacted.value(codeVerifier)))

/** Where to send the browser. */
export const url = (authorizeUrl: string, request: Request): string => {
  const { codeChallenge, scopes } = request
  const url = new URL(authorizeUrl)
  const { searchParams } = url
  searchParams.set("client_id", request.clientId)
  searchParams.set("redirect_uri", request.redirectUrl)
  searchParams.set("response_type", "code")
  searchParams.set("state", Redacted.value(request.state))
  if (scopes.length > 0) searchParams.set("scope", scopes.join(" "))
  if (codeChallenge !== undefined) {
    searchParams.set("code_challenge", codeChallenge)
    searchParams.set("code_challenge_method", "S256")
  }
  return url.href
}

/** The state of a redirect back, if it has one. */
export const stateOf = (parameters: URLSearchParams): Option.Option<Redacted.Redacted> =>
  Option.map(
    Option.filter(Option.fromNullable(parameters.get("state")), (state) => state !== ""),
    Redacted.make
  )

/** Why a redirect back brings no code. Cal.com's words, which anybody can write into a link, stay out of it. */
export type NoCode =
  | "denied"
  | "invalidScope"
  | "invalidRequest"
  | "unauthorizedClient"
  | "serverError"
  /** An error of a code that Cal.com is not known to have. */
  | "otherError"
  /** Not a redirect of Cal.com's: a parameter is there twice, or for another flow, or the code is missing. */
  | "malformed"

const errors: ReadonlyMap<string, NoCode> = new Map([
  ["access_denied", "denied"],
  ["invalid_scope", "invalidScope"],
  ["invalid_request", "invalidRequest"],
  ["unauthorized_client", "unauthorizedClient"],
  ["server_error", "serverError"],
  ["temporarily_unavailable", "serverError"]
])

/** The code of a redirect back whose state is known. */
export const codeOf = (
  parameters: URLSearchParams,
  expected: { readonly authorizeUrl: string; readonly clientId: string; readonly state: Redacted.Redacted }
): Either.Either<Redacted.Redacted, NoCode> =>
  Either.try({
    try: () =>
      oauth.validateAuthResponse(
        { issuer: new URL(expected.authorizeUrl).origin },
        { client_id: expected.clientId },
        parameters,
        Redacted.value(expected.state)
      ),
    // What was thrown holds all parameters, the code too.
    catch: (error): NoCode =>
      error instanceof oauth.AuthorizationResponseError ? (errors.get(error.error) ?? "otherError") : "malformed"
  }).pipe(
    Either.flatMap((valid) => {
      const code = valid.get("code")
      return code !== null && isCode.test(code) && valid.getAll("code").length === 1
        ? Either.right(Redacted.make(code))
        : Either.left<NoCode>("malformed")
    })
  )

/** Cal.com's have 54 characters of base64url. */
const isCode = /^[\x21-\x7e]{1,1024}$/
