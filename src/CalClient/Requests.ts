/**
 * The requests to Cal.com's token endpoints, exactly as its API v2 takes them. Platform endpoints read JSON and the
 * client's secret from a header; the OAuth2 one reads a form, refuses every field it does not know, and never looks at
 * Basic authentication.
 */
import { Redacted } from "effect"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import type { ClientSecret } from "./Secrets.js"

/**
 * A platform client: it owns managed users and authenticates with its secret.
 *
 * @since 0.1.0
 * @category models
 */
export interface ManagedClient {
  readonly clientId: string
  readonly clientSecret: ClientSecret
}

/**
 * An OAuth2 client. Without a secret it is a public one, which uses PKCE.
 *
 * @since 0.1.0
 * @category models
 */
export interface OAuth2Client {
  readonly clientId: string
  readonly clientSecret?: ClientSecret | undefined
  readonly redirectUrl?: string | undefined
  /** Where people consent: Cal.com's page; default `https://app.cal.com/auth/oauth2/authorize`. */
  readonly authorizeUrl?: string | undefined
  /** What they are asked to allow; needed unless the client is one of the old kind, which has no scopes. */
  readonly scopes?: ReadonlyArray<string> | undefined
}

/** Cal.com's own API. */
export const defaultApiUrl = "https://api.cal.com/v2"

/**
 * Where Cal.com is, and the clients that it knows.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /** Base of Cal.com's API, with its version: `https://api.cal.com/v2`. */
  readonly apiUrl: string
  /** The platform client that is meant where none is named. */
  readonly managed?: ManagedClient | undefined
  /** The OAuth2 client that is meant where none is named. */
  readonly oauth2?: OAuth2Client | undefined
  /**
   * The secret of a client as it is now, where that changes while the program runs: asked at each call. Default, and for
   * clients without an answer: as it is written beside their id.
   */
  readonly secretOf?: ((clientId: string) => ClientSecret | undefined) | undefined
  /** Clients beside these. A user's connection names its own; whoever makes one may name one. */
  readonly others?:
    | {
        readonly managed?: ReadonlyArray<ManagedClient> | undefined
        readonly oauth2?: ReadonlyArray<OAuth2Client> | undefined
      }
    | undefined
}

/**
 * A person as Cal.com is to know them.
 *
 * @since 0.1.0
 * @category models
 */
export interface NewManagedUser {
  readonly email: string
  readonly name: string
  readonly timeZone?: string | undefined
  readonly timeFormat?: 12 | 24 | undefined
  readonly weekStart?: string | undefined
  readonly locale?: string | undefined
  readonly avatarUrl?: string | undefined
  readonly bio?: string | undefined
  readonly metadata?: Readonly<Record<string, string>> | undefined
}

type Request = HttpClientRequest.HttpClientRequest

/** A client with the one of its secrets that a request carries. */
interface WithSecret<Secret> {
  readonly clientId: string
  readonly clientSecret: Secret
}
type Platform = WithSecret<Redacted.Redacted>
type OAuth2 = WithSecret<Redacted.Redacted | undefined>

/** Counts the call in the client's rate limit (500 a minute) instead of that of our address (120 a minute). */
const countedFor = ({ clientId }: { readonly clientId: string }) => ({ "x-cal-client-id": clientId })

const platform = (apiUrl: string, client: Platform, path: string): Request =>
  HttpClientRequest.post(`${apiUrl}${path}`, {
    headers: { "x-cal-secret-key": Redacted.value(client.clientSecret), ...countedFor(client) }
  })

const usersPath = ({ clientId }: Platform) => `/oauth-clients/${encodeURIComponent(clientId)}/users`

/** Spends a managed user's refresh token. */
export const refreshManaged = (apiUrl: string, client: Platform, refreshToken: Redacted.Redacted): Request =>
  platform(apiUrl, client, `/oauth/${encodeURIComponent(client.clientId)}/refresh`).pipe(
    HttpClientRequest.bodyUnsafeJson({ refreshToken: Redacted.value(refreshToken) })
  )

/** Force-refresh: no body. */
export const reissue = (apiUrl: string, client: Platform, calUserId: number): Request =>
  platform(apiUrl, client, `${usersPath(client)}/${calUserId}/force-refresh`)

/** Creates a managed user. Fields without a value are left out: Cal.com has defaults for them. */
export const createManagedUser = (apiUrl: string, client: Platform, user: NewManagedUser): Request => {
  const { avatarUrl, bio, email, locale, metadata, name, timeFormat, timeZone, weekStart } = user
  return platform(apiUrl, client, usersPath(client)).pipe(
    HttpClientRequest.bodyUnsafeJson({ email, name, timeFormat, weekStart, timeZone, locale, avatarUrl, bio, metadata })
  )
}

const oauth2Token = (apiUrl: string, client: OAuth2, fields: Readonly<Record<string, string>>): Request =>
  HttpClientRequest.post(`${apiUrl}/auth/oauth2/token`, { headers: countedFor(client) }).pipe(
    HttpClientRequest.bodyUrlParams({
      client_id: client.clientId,
      ...fields,
      ...(client.clientSecret === undefined ? {} : { client_secret: Redacted.value(client.clientSecret) })
    })
  )

/** Spends an OAuth2 refresh token. */
export const refreshOAuth2 = (apiUrl: string, client: OAuth2, refreshToken: Redacted.Redacted): Request =>
  oauth2Token(apiUrl, client, { grant_type: "refresh_token", refresh_token: Redacted.value(refreshToken) })

/** Exchanges an authorization code. The verifier is left out for a confidential client: Cal.com takes one or the other. */
export const exchange = (
  apiUrl: string,
  client: OAuth2 & { readonly redirectUrl: string },
  code: Redacted.Redacted,
  codeVerifier: Redacted.Redacted | undefined
): Request =>
  oauth2Token(apiUrl, client, {
    grant_type: "authorization_code",
    code: Redacted.value(code),
    redirect_uri: client.redirectUrl,
    ...(client.clientSecret === undefined && codeVerifier !== undefined
      ? { code_verifier: Redacted.value(codeVerifier) }
      : {})
  })

/** The profile behind an access token; served alike in every API version. */
export const me = (apiUrl: string, accessToken: Redacted.Redacted): Request =>
  HttpClientRequest.get(`${apiUrl}/me`).pipe(HttpClientRequest.bearerToken(accessToken))
