/** The variables that lead the service, or actions that read the environment, to a simulator on a port. */
import { Redacted } from "effect"
import type * as Sandbox from "../Sandbox.js"

/** In clear, as variables have it. */
export const textOf = (secret: Sandbox.ManagedClient["clientSecret"]) =>
  (Array.isArray(secret) ? (secret as ReadonlyArray<Redacted.Redacted>) : [secret as Redacted.Redacted])
    .map(Redacted.value)
    .join(",")

/** By their names. `url` is where the simulator listens. */
export const variables = (
  url: string,
  managed: Sandbox.ManagedClient | undefined,
  oauth2: Sandbox.OAuth2Client | undefined
): Readonly<Record<string, string>> => ({
  CAL_API_URL: `${url}/v2`,
  ...(managed === undefined
    ? {}
    : { CAL_CLIENT_ID: managed.clientId, CAL_CLIENT_SECRET: textOf(managed.clientSecret) }),
  ...(oauth2 === undefined
    ? {}
    : {
        CAL_OAUTH_CLIENT_ID: oauth2.clientId,
        ...(oauth2.clientSecret === undefined ? {} : { CAL_OAUTH_CLIENT_SECRET: textOf(oauth2.clientSecret) }),
        ...(oauth2.redirectUris[0] === undefined ? {} : { CAL_OAUTH_REDIRECT_URL: oauth2.redirectUris[0] }),
        CAL_OAUTH_AUTHORIZE_URL: `${url}/auth/oauth2/authorize`,
        ...(oauth2.scopes === undefined ? {} : { CAL_OAUTH_SCOPES: oauth2.scopes.join(" ") })
      })
})
