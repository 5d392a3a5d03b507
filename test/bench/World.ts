/** The product as a backend runs it: over a PostgreSQL of its own, and over connections to a token endpoint. */
import { Duration, Effect, Layer, Logger, ManagedRuntime, Redacted } from "effect"
import * as CalClient from "../../src/CalClient.js"
import { layerTokenHttp } from "../../src/CalHttp/Node.js"
import * as CalTokens from "../../src/CalTokens.js"
import { UserUlid } from "../../src/Token.js"
import * as TokenConfig from "../../src/TokenConfig.js"
import * as Postgres from "../../src/TokenStorage/Postgres.js"
import { layerKeys } from "../support/Keys.js"
import { makeServer } from "../support/PostgresServer.js"

export const users = Array.from({ length: 3000 }, (_, n) =>
  UserUlid.make(`01ARZ3NDEKTSV4RRFF${String(n).padStart(8, "0")}`)
)

/** The token that a user has before the first refresh; as long as Cal.com's. */
export const firstRefreshToken = (user: string) => `first-refresh-${user}`.padEnd(420, "r")

const hour = Duration.toMillis("1 hour")

const layer = (database: string, apiUrl: string, options: Partial<TokenConfig.Options>) =>
  CalTokens.layer.pipe(
    Layer.provide(CalClient.layer({ apiUrl, oauth2: { clientId: "client", clientSecret: Redacted.make("secret") } })),
    Layer.provide([layerTokenHttp, Postgres.layer()]),
    Layer.provide([Postgres.layerConnection({ url: Redacted.make(database) }), layerKeys()]),
    Layer.provide([TokenConfig.layer(options), Logger.remove(Logger.defaultLogger), Layer.setTracerEnabled(false)])
  )

export interface World {
  readonly database: string
  /** Asks for all tokens, so many at a time. */
  readonly ensureAll: (atATime: number) => Promise<void>
  /** Connects all users anew. */
  readonly connectAll: (tokens: "fresh" | "expired") => Promise<void>
  readonly close: () => Promise<void>
}

const connect = (tokens: typeof CalTokens.CalTokens.Service, user: UserUlid, expiresAt: number) =>
  tokens.connect(
    user,
    { _tag: "OAuth2", calUserId: Number(user.slice(-8)) + 1 },
    {
      accessToken: Redacted.make(`first-access-${user}`.padEnd(330, "a")),
      refreshToken: Redacted.make(firstRefreshToken(user)),
      accessTokenExpiresAt: expiresAt
    }
  )

export const make = async (apiUrl: string, options: Partial<TokenConfig.Options> = {}): Promise<World> => {
  const server = await makeServer()
  const runtime = ManagedRuntime.make(layer(server.url, apiUrl, options))
  const tokens = await runtime.runPromise(CalTokens.CalTokens)
  const forAll = (work: (user: UserUlid) => Effect.Effect<unknown, unknown>, concurrency: number) =>
    runtime.runPromise(Effect.forEach(users, work, { concurrency, discard: true }))
  return {
    database: server.url,
    ensureAll: (atATime) => forAll((user) => tokens.ensureValid(user, { handsOut: false }), atATime),
    connectAll: async (which) => {
      const now = await runtime.runPromise(Effect.clockWith((clock) => clock.currentTimeMillis))
      await forAll((user) => connect(tokens, user, which === "fresh" ? now + hour : now - 1000), 10)
    },
    close: async () => {
      await runtime.dispose()
      await server.remove()
    }
  }
}
