/**
 * A server to be measured, in a process of its own: `ours` or `floor`, and what is behind them: `upstream`. Tells its port.
 * With the URL of a collector as well, it is told what there is to see.
 */
import * as Otlp from "@effect/opentelemetry/Otlp"
import { HttpServer } from "@effect/platform"
import { NodeHttpClient } from "@effect/platform-node"
import { Console, Effect, Layer, Logger, Redacted } from "effect"
import * as ApiKeys from "../../src/ApiKeys.js"
import * as Http from "../../src/Http.js"
import * as CallerLimits from "../../src/Http/CallerLimits.js"
import * as Lifecycle from "../../src/Http/Lifecycle.js"
import * as Server from "../../src/Http/Server.js"
import * as CalTokens from "../../src/CalTokens.js"
import * as CalApi from "../../src/CalApi.js"
import * as CalClient from "../../src/CalClient.js"
import * as HttpClients from "../../src/CalHttp/Node.js"
import * as FlowStorage from "../../src/FlowStorage.js"
import * as KeyRing from "../../src/KeyRing.js"
import * as Sandbox from "../../src/Sandbox.js"
import { UserUlid } from "../../src/Token.js"
import { layerMemory } from "../../src/TokenStorage/Memory.js"
import * as FloorServer from "./FloorServer.js"
import { key, user } from "./Load.js"
import * as Upstream from "./Upstream.js"

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

const ours = (upstream: string) =>
  Server.layer({ host: "127.0.0.1", port: 0 }, Http.layer).pipe(
    Layer.provide(ApiKeys.layer([{ name: "bench", secret: Redacted.make(key), scopes: ApiKeys.defaultScopes }])),
    Layer.provide([Lifecycle.layer, CallerLimits.layerConfig({ perKey: 1e9, perAddress: 1e9 })]),
    Layer.provide(connected),
    Layer.provide(CalApi.layer),
    Layer.provide(CalTokens.layer),
    Layer.provide(CalClient.layer({ apiUrl: upstream, managed: Sandbox.demoManaged })),
    Layer.provide([HttpClients.layerTokenHttp, HttpClients.layerApiHttp]),
    Layer.provide([layerMemory, FlowStorage.layerMemory, KeyRing.layerEphemeral])
  )

/** Spans, metrics and logs to a collector, as whoever watches a service has them. */
const layerOtlp = (baseUrl: string) =>
  Otlp.layerJson({ baseUrl, resource: { serviceName: "bench" } }).pipe(Layer.provide(NodeHttpClient.layerUndici))

const told = Layer.effectDiscard(
  Effect.flatMap(HttpServer.HttpServer, ({ address }) =>
    Console.log(address._tag === "TcpAddress" ? address.port : "no port")
  )
)

// Whoever measures asks what this process has used, in microseconds.
process.on("message", () => process.send?.(process.cpuUsage()))

const [which, upstream = "http://127.0.0.1:1", collector] = process.argv.slice(2)
if (which === "upstream") Upstream.serve()
else {
  const served = which === "ours" ? ours(upstream) : FloorServer.layer(upstream)
  Effect.runFork(
    Layer.launch(
      told.pipe(
        Layer.provide(served),
        Layer.provide([
          Logger.remove(Logger.defaultLogger),
          collector === undefined ? Layer.setTracerEnabled(false) : layerOtlp(collector)
        ])
      )
    )
  )
}
