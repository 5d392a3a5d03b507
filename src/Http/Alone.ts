/**
 * One server has one app. A second one compiles, and whichever comes first answers with 404 what only the other one knows:
 * that is said, at the start where it can be seen there, and with the first request otherwise.
 */
import { HttpServer, type HttpServerRequest } from "@effect/platform"
import { NodeHttpServerRequest } from "@effect/platform-node"
import { Effect, Layer } from "effect"

const words =
  "Something else is served beside cal-tokens on the same server, and each answers 404 for the other's endpoints: " +
  "serve your HttpApi with it, by Http.layerWith({ api }) in the place of Http.layer and HttpApiBuilder.serve"

/** The server, for us alone: whoever serves on it from now on stops the start. */
export const layer: Layer.Layer<HttpServer.HttpServer, never, HttpServer.HttpServer> = Layer.scoped(
  HttpServer.HttpServer,
  Effect.gen(function* () {
    const server = yield* HttpServer.HttpServer
    const { address, serve } = server
    yield* Effect.acquireRelease(
      Effect.sync(() => Object.assign(server, { serve: () => Effect.dieMessage(words) })),
      () => Effect.sync(() => Object.assign(server, { serve }))
    )
    return HttpServer.make({ address, serve })
  })
)

/** What there is to say if somebody who was served before us has answered already: it is said once. */
export const answered = Effect.sync(() => {
  let isSaid = false
  return (request: HttpServerRequest.HttpServerRequest): Effect.Effect<void> | undefined => {
    if (!NodeHttpServerRequest.toServerResponse(request).headersSent) return undefined
    if (isSaid) return Effect.void
    isSaid = true
    return Effect.logError(words)
  }
})
