/** An empty `HttpApi` endpoint with the schemas of `ensure-token`, as the platform serves it. Nothing of ours is in here. */
import * as Http from "node:http"
import { HttpApi, HttpApiBuilder, HttpApiEndpoint, HttpApiGroup } from "@effect/platform"
import { NodeHttpServer } from "@effect/platform-node"
import { DateTime, Effect, Layer, Logger, Schema } from "effect"

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

export const layer = HttpApiBuilder.serve().pipe(
  Layer.provide(HttpApiBuilder.api(Floor)),
  Layer.provide(handlers),
  Layer.provideMerge(NodeHttpServer.layer(() => Http.createServer(), { port: 0, host: "127.0.0.1" })),
  Layer.provide([Logger.remove(Logger.defaultLogger), Layer.setTracerEnabled(false)])
)
