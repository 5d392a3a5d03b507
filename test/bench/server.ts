/** A server to be measured, in a process of its own: `ours` or `floor`. Tells its port. */
import { HttpServer } from "@effect/platform"
import { Console, Effect, Layer, Logger, Redacted } from "effect"
import * as ApiKeys from "../../src/ApiKeys.js"
import * as Http from "../../src/Http.js"
import * as CallerLimits from "../../src/Http/CallerLimits.js"
import * as Lifecycle from "../../src/Http/Lifecycle.js"
import * as Server from "../../src/Http/Server.js"
import * as CalTokens from "../../src/CalTokens.js"
import * as CalApi from "../../src/CalApi.js"
import * as CalClient from "../../src/CalClient.js"
import * as FlowStorage from "../../src/FlowStorage.js"
import * as KeyRing from "../../src/KeyRing.js"
import * as Sandbox from "../../src/Sandbox.js"
import { UserUlid } from "../../src/Token.js"
import { layerMemory } from "../../src/TokenStorage/Memory.js"
import * as FloorServer from "./FloorServer.js"
import { key, user } from "./Load.js"

const connected = Layer.effectDiscard(
  Effect.gen(function* () {
    const tokens = yield* CalTokens.CalTokens
    const now = yield* Effect.clockWith((clock) => clock.currentTimeMillis)
    yield* tokens.connect(
      UserUlid.make(user),
      { _tag: "ManagedUser", calUserId: 1 },
      {
        accessToken: Redacted.make("access".padEnd(330, "a")),
        refreshToken: Redacted.make("refresh".padEnd(420, "r")),
        accessTokenExpiresAt: now + 3_600_000
      }
    )
  })
)

const ours = Server.layer({ host: "127.0.0.1", port: 0 }, Http.layer).pipe(
  Layer.provide(ApiKeys.layer([{ name: "bench", secret: Redacted.make(key), scopes: ApiKeys.defaultScopes }])),
  Layer.provide([Lifecycle.layer, CallerLimits.layerConfig({ perKey: 1e9, perAddress: 1e9 })]),
  Layer.provide(connected),
  Layer.provide(CalApi.layer),
  Layer.provide(CalTokens.layer),
  Layer.provide(CalClient.layer({ apiUrl: "https://api.cal.com/v2", managed: Sandbox.demoManaged })),
  Layer.provide([Sandbox.layerHttpClient, layerMemory, FlowStorage.layerMemory, KeyRing.layerEphemeral]),
  Layer.provide([Sandbox.layer(), Logger.remove(Logger.defaultLogger), Layer.setTracerEnabled(false)])
)

const told = Layer.effectDiscard(
  Effect.flatMap(HttpServer.HttpServer, ({ address }) =>
    Console.log(address._tag === "TcpAddress" ? address.port : "no port")
  )
)

Effect.runFork(Layer.launch(Layer.provide(told, process.argv[2] === "ours" ? ours : FloorServer.layer)))
