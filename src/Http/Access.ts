/** Checks API keys, before anything else of a request is looked at. */
import { HttpRouter, HttpServerRequest, type HttpServerResponse } from "@effect/platform"
import { type Context, Effect, Layer } from "effect"
import { Caller, Manage, type Scope } from "../Api/Access.js"
import { ApiKeys } from "./ApiKeys.js"
import * as Edge from "./Edge.js"

const authorize = (keys: Context.Tag.Service<ApiKeys>, scope: Scope) =>
  Effect.gen(function* () {
    const request = yield* HttpServerRequest.HttpServerRequest
    const { route } = yield* HttpRouter.RouteContext
    return yield* Edge.refuseAll(keys.authorize(request.headers["authorization"], scope)).pipe(
      Effect.annotateLogs({ operation: "authorize", endpoint: `${request.method} ${route.path}` })
    )
  })

/** For the endpoints of the API value. */
export const layerManage: Layer.Layer<Manage, never, ApiKeys> = Layer.effect(
  Manage,
  Effect.map(ApiKeys, (keys) => ({ apiKey: () => authorize(keys, "manage") }))
)

/** For a route beside the API value: a caller without the scope gets its answer here. */
export const protect = <E, R>(
  keys: Context.Tag.Service<ApiKeys>,
  scope: Scope,
  route: Effect.Effect<HttpServerResponse.HttpServerResponse, E, R>
) =>
  Effect.matchEffect(authorize(keys, scope), {
    onFailure: (failure) => Effect.succeed(Edge.respond(failure)),
    onSuccess: (caller) => Effect.provideService(route, Caller, caller)
  })
