/**
 * As the platform serves it, with nothing of ours: an empty `HttpApi` endpoint with the schemas of `ensure-token`, and a relay
 * that hands requests on to `upstream` and their answers back while they arrive.
 */
import * as Http from "node:http"
import {
  HttpApi,
  HttpApiBuilder,
  HttpApiEndpoint,
  HttpApiGroup,
  HttpClient,
  HttpClientRequest,
  HttpServerRequest,
  HttpServerResponse
} from "@effect/platform"
import { NodeHttpClient, NodeHttpServer, Undici } from "@effect/platform-node"
import { DateTime, Effect, Layer, Schema } from "effect"

const Ensured = Schema.Struct({ success: Schema.Literal(true), expiresAt: Schema.DateTimeUtc })

class Tokens extends HttpApiGroup.make("tokens")
  .add(
    HttpApiEndpoint.post("ensureToken", "/ensure-token")
      .setPayload(Schema.Struct({ userUlid: Schema.String }))
      .addSuccess(Ensured)
  )
  .prefix("/api/cal") {}

class Floor extends HttpApi.make("floor").add(Tokens) {}

const handlers = HttpApiBuilder.group(Floor, "tokens", (handlers) =>
  handlers.handle("ensureToken", () =>
    Effect.succeed({ success: true as const, expiresAt: DateTime.unsafeMake(4_102_444_800_000) })
  )
)

const passedOn = ["accept", "content-type"]
const passedBack = ["content-type", "content-length"]

const pick = (headers: Readonly<Record<string, string | undefined>>, names: ReadonlyArray<string>) =>
  Object.fromEntries(
    names.flatMap((name) => {
      const value = headers[name]
      return value === undefined ? [] : [[name, value] as const]
    })
  )

const relay = (upstream: string) =>
  HttpApiBuilder.Router.use((router) =>
    Effect.flatMap(HttpClient.HttpClient, (client) =>
      router.all(
        "/api/cal/proxy/*",
        Effect.gen(function* () {
          const request = yield* HttpServerRequest.HttpServerRequest
          const [, path = ""] = /^\/api\/cal\/proxy\/[^/]*(\/.*)$/.exec(request.url) ?? []
          const body = yield* request.arrayBuffer
          const response = yield* client.execute(
            HttpClientRequest.make(request.method)(`${upstream}${path}`).pipe(
              HttpClientRequest.setHeaders(pick(request.headers, passedOn)),
              body.byteLength === 0 ? (bare) => bare : HttpClientRequest.bodyUint8Array(new Uint8Array(body))
            )
          )
          return HttpServerResponse.stream(response.stream, {
            status: response.status,
            headers: pick(response.headers, passedBack)
          })
        }).pipe(Effect.orDie)
      )
    )
  ).pipe(Layer.provide(Layer.provide(NodeHttpClient.layerUndiciWithoutDispatcher, layerAgent)))

/** Connections are kept, with one request at a time on each. */
const layerAgent = Layer.scoped(
  NodeHttpClient.Dispatcher,
  Effect.acquireRelease(
    Effect.sync(() => new Undici.Agent({ pipelining: 1 })),
    (agent) => Effect.promise(() => agent.destroy())
  )
)

export const layer = (upstream: string) =>
  HttpApiBuilder.serve().pipe(
    Layer.provide(HttpApiBuilder.api(Floor)),
    Layer.provide([handlers, relay(upstream)]),
    Layer.provideMerge(NodeHttpServer.layer(() => Http.createServer(), { port: 0, host: "127.0.0.1" }))
  )
