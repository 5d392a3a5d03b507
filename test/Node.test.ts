/** The whole service in one layer. By the environment's variables it is run in `test/examples/embed.test.ts`. */
import { randomBytes } from "node:crypto"
import * as Http from "node:http"
import { NodeHttpServer } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Effect, Layer, Redacted } from "effect"
import { CalApi } from "../src/CalApi.js"
import { CalTokens } from "../src/CalTokens.js"
import { ConnectFlow } from "../src/ConnectFlow.js"
import { ManagedUsers } from "../src/ManagedUsers.js"
import * as Node from "../src/Node.js"
import { Sessions } from "../src/Sessions.js"
import * as Sandbox from "../src/Testing.js"
import { UserUlid } from "../src/Token.js"
import { portOf } from "./fleet/Port.js"
import { makeDatabase } from "./support/Postgres.js"

const user = UserUlid.make("01ARZ3NDEKTSV4RRFFQ69G5FAV")

describe("the layer", () => {
  it.scopedLive("makes everything of options, over PostgreSQL and sockets", () =>
    Effect.gen(function* () {
      const sandbox = yield* Sandbox.make()
      const server = Http.createServer(yield* NodeHttpServer.makeHandler(sandbox.app))
      yield* Effect.addFinalizer(() => Effect.sync(() => void server.close().closeAllConnections()))
      const { clientId, clientSecret, redirectUris, scopes } = Sandbox.demoOAuth2
      const layer = Node.layer({
        database: { url: yield* makeDatabase },
        encryptionKeys: Redacted.make(`k1:${randomBytes(32).toString("base64")}`),
        cal: {
          apiUrl: `http://127.0.0.1:${yield* portOf(server)}/v2`,
          managed: Sandbox.demoManaged,
          oauth2: { clientId, clientSecret, redirectUrl: redirectUris[0], scopes }
        },
        returnUrls: ["https://app.example/"]
      })
      yield* Effect.gen(function* () {
        const { calUserId } = yield* (yield* ManagedUsers).create(user, { email: "ada@example.com", name: "Ada" })
        const refreshed = yield* (yield* CalTokens).refresh(user, { forceRefresh: true })
        assert.isTrue(yield* sandbox.isAccessLive(refreshed.accessToken))
        const me = yield* (yield* CalApi).send(user, { method: "GET", path: "/me" })
        assert.deepInclude(yield* me.json, { status: "success" })
        const { session } = yield* (yield* Sessions).create(user, {})
        assert.isNotEmpty(Redacted.value(session))
        const { url } = yield* (yield* ConnectFlow).begin(user, { returnTo: "https://app.example/settings" })
        assert.include(url, `client_id=${clientId}`)
        assert.isAbove(calUserId, 0)
      }).pipe(Effect.provide(layer))
    })
  )

  it.effect("by the variables is none without a client: nobody's production is a demo", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(Layer.build(Node.layerConfig))
      assert.match(error.message, /^CAL_CLIENT_ID is required: [^\n]+$/)
    }).pipe(Effect.scoped, Effect.withConfigProvider(ConfigProvider.fromMap(new Map())))
  )
})
