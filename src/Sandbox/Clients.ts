/** The clients that Cal.com knows: a platform client for managed users and an OAuth2 client. */
import { Redacted } from "effect"

/** One secret, or all that are alive: Cal.com keeps two while one replaces the other. `Switches.revokedSecrets` ends one. */
export type ClientSecret = Redacted.Redacted | ReadonlyArray<Redacted.Redacted>

/**
 * A Cal.com Platform client; its users are managed users.
 *
 * @since 0.1.0
 * @category models
 */
export interface ManagedClient {
  readonly clientId: string
  readonly clientSecret: ClientSecret
  /** Browser origins that may present this client's access tokens. */
  readonly redirectUris?: ReadonlyArray<string> | undefined
  readonly name?: string | undefined
  /** The sum of Cal.com's permission bits, `EVENT_TYPE_READ` 1 to `PROFILE_WRITE` 512. Default: all of them. */
  readonly permissions?: number | undefined
}

/**
 * An OAuth2 client. Without a secret it is a public one, which must use PKCE.
 *
 * @since 0.1.0
 * @category models
 */
export interface OAuth2Client {
  readonly clientId: string
  readonly clientSecret?: ClientSecret | undefined
  readonly redirectUris: ReadonlyArray<string>
  /** Registered scopes. None, or only `READ_BOOKING` and `READ_PROFILE`, makes it a legacy client without limits. */
  readonly scopes?: ReadonlyArray<string> | undefined
  readonly name?: string | undefined
}

export interface Clients {
  readonly managed: ReadonlyMap<string, ManagedClient>
  readonly oauth2: ReadonlyMap<string, OAuth2Client>
}

/** The organization and the admin that own every platform client here. */
export const organizationId = 100
export const ownerId = 1

export const userScopes: ReadonlyArray<string> = ["EVENT_TYPE", "BOOKING", "SCHEDULE", "APPS", "PROFILE"].flatMap(
  (resource) => [`${resource}_READ`, `${resource}_WRITE`]
)

/**
 * The platform client that is known unless others are named.
 *
 * @since 0.1.0
 * @category constants
 */
export const demoManaged = {
  clientId: "sandbox-platform-client",
  clientSecret: Redacted.make("sandbox-platform-secret"),
  redirectUris: ["http://localhost:*"],
  name: "Sandbox platform"
} satisfies ManagedClient

/**
 * The OAuth2 client that is known unless others are named.
 *
 * @since 0.1.0
 * @category constants
 */
export const demoOAuth2 = {
  clientId: "sandbox-oauth-client",
  clientSecret: Redacted.make("sandbox-oauth-secret"),
  redirectUris: ["http://127.0.0.1:4000/api/cal/oauth/callback", "http://localhost:4000/api/cal/oauth/callback"],
  scopes: userScopes,
  name: "Sandbox app"
} satisfies OAuth2Client

export const make = (
  managed: ManagedClient | ReadonlyArray<ManagedClient> = demoManaged,
  oauth2: OAuth2Client | ReadonlyArray<OAuth2Client> = demoOAuth2
): Clients => ({ managed: byId(managed), oauth2: byId(oauth2) })

/** Whether a client may show itself with this secret. */
export const hasSecret = (
  clientSecret: ClientSecret,
  shown: string | undefined,
  revoked: ReadonlyArray<Redacted.Redacted>
): boolean => {
  const matches = (secret: Redacted.Redacted) => Redacted.value(secret) === shown
  const alive = isList(clientSecret) ? clientSecret : [clientSecret]
  return alive.some(matches) && !revoked.some(matches)
}

export const isLegacy = (scopes: ReadonlyArray<string>): boolean =>
  scopes.every((scope) => scope === "READ_BOOKING" || scope === "READ_PROFILE")

const byId = <Client extends { readonly clientId: string }>(clients: Client | ReadonlyArray<Client>) =>
  new Map((isList(clients) ? clients : [clients]).map((client) => [client.clientId, client]))

const isList = <A>(self: A | ReadonlyArray<A>): self is ReadonlyArray<A> => Array.isArray(self)
