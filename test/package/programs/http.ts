/** `cal-tokens/http`: the service on a port of its own, asked over a socket. */
import * as Http from "cal-tokens/http"
import * as Sandbox from "cal-tokens/sandbox"
import { HttpServer } from "@effect/platform"
import { Effect, Layer, Logger, Redacted } from "effect"

const user = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
const key = "a-key-of-this-program-of-at-least-32-letters"

const layer = Http.Server.layer({ host: "127.0.0.1", port: 0 }, Http.layer).pipe(
  Layer.provide(Http.Lifecycle.layer),
  Layer.provide(Http.ApiKeys.layer([{ name: "own", secret: Redacted.make(key), scopes: Http.ApiKeys.defaultScopes }])),
  Layer.provide([
    Layer.succeed(Http.AllowedOrigins, ["https://app.example.com"]),
    Layer.succeed(Http.TrustedProxies, []),
    Layer.succeed(Http.Development, false),
    Http.CallerLimits.layerConfig({})
  ]),
  Layer.provideMerge(Sandbox.layerTest()),
  Layer.provide(Logger.remove(Logger.defaultLogger))
)

const program = Effect.gen(function* () {
  yield* Sandbox.connectManaged(user)
  const { address } = yield* HttpServer.HttpServer
  const url = `http://127.0.0.1:${address._tag === "TcpAddress" ? address.port : 0}`
  const ask = (path: string, init?: RequestInit) => Effect.promise(() => fetch(`${url}${path}`, init))
  const live = yield* ask("/health/live")
  const ensured = yield* ask("/api/cal/ensure-token", {
    method: "POST",
    body: JSON.stringify({ userUlid: user }),
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json", connection: "close" }
  })
  return `${live.status} ${ensured.status}`
})

console.log(await Effect.runPromise(Effect.provide(program, layer)))
