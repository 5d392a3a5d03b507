/** A world with two clients of each kind, of which the first is the usual one. */
import { Redacted } from "effect"
import { demoManaged, demoOAuth2 } from "../../src/Sandbox.js"
import * as World from "./World.js"

export const managed = { clientId: "second-platform", clientSecret: Redacted.make("second-platform-secret") }
export const oauth2 = {
  clientId: "second-oauth",
  clientSecret: Redacted.make("second-oauth-secret"),
  redirectUrl: "https://second.example/back",
  authorizeUrl: "https://app.cal.com/auth/oauth2/authorize?second=1",
  scopes: ["PROFILE_READ"]
}

export const client = { ...World.clientOptions(), others: { managed: [managed], oauth2: [oauth2] } }

export const options = {
  sandbox: {
    managed: [demoManaged, managed],
    oauth2: [demoOAuth2, { ...oauth2, redirectUris: [oauth2.redirectUrl] }]
  },
  client
} satisfies World.Options

export const clientIds = {
  managed: [demoManaged.clientId, managed.clientId],
  oauth2: [demoOAuth2.clientId, oauth2.clientId]
} as const
