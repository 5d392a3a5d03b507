/** What our figures are measured against. Nothing of ours is in here: the peers as they are used, and the bare minimum. */
import { OAuth2Client as BadgatewayClient, OAuth2Fetch } from "@badgateway/oauth2-client"
import { Effect } from "effect"
import { OAuth2Client as GoogleClient } from "google-auth-library"

interface Token {
  readonly accessToken: string
  readonly refreshToken: string
  /** Milliseconds since the epoch. */
  readonly expiresAt: number
}

/** What one writes who needs no more than this: a clock and a map. */
export const written = (tokens: ReadonlyMap<string, Token>) => (user: string) =>
  Effect.clockWith((clock) => {
    const token = tokens.get(user)
    return token !== undefined && clock.unsafeCurrentTimeMillis() < token.expiresAt
      ? Effect.succeed(token)
      : Effect.die("none that is fresh")
  })

/** One client per user, as its documentation has it. */
export const google = (tokens: ReadonlyMap<string, Token>): ((user: string) => Promise<unknown>) => {
  const clients = new Map(
    Array.from(tokens, ([user, { accessToken, expiresAt, refreshToken }]) => {
      const client = new GoogleClient("client", "secret")
      client.setCredentials({ access_token: accessToken, refresh_token: refreshToken, expiry_date: expiresAt })
      return [user, client]
    })
  )
  return async (user) => clients.get(user)?.getAccessToken()
}

/** The same; timers of its own would keep 100,000 users' processes busy, so they are off. */
export const badgateway = (
  tokens: ReadonlyMap<string, Token>,
  tokenEndpoint = "http://127.0.0.1:1/token"
): ((user: string) => Promise<unknown>) => {
  const client = new BadgatewayClient({ clientId: "client", clientSecret: "secret", tokenEndpoint })
  const fetchers = new Map(
    Array.from(tokens, ([user, token]) => [
      user,
      new OAuth2Fetch({
        client,
        getNewToken: () => null,
        getStoredToken: () => ({ ...token }),
        scheduleRefresh: false
      })
    ])
  )
  return async (user) => fetchers.get(user)?.getAccessToken()
}
