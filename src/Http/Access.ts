/** Checks API keys, before anything else of a request is looked at. */
import type { HttpRouter, HttpServerRequest, HttpServerResponse } from "@effect/platform"
import { Effect, Layer } from "effect"
import { Caller, Manage, ReadMetrics, ReadToken } from "../Api/Access.js"
import type { Scope } from "../ApiKeys/Scope.js"
import type { ApiKeys } from "../ApiKeys.js"
import type { Audit } from "./Audit.js"
import * as Authorize from "./Authorize.js"
import type { CallerLimits } from "./CallerLimits.js"
import * as Edge from "./Edge.js"

export { type Authorize, refusing } from "./Authorize.js"

/**
 * For the endpoints of the API value.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<Manage | ReadToken | ReadMetrics, never, ApiKeys | Audit | CallerLimits> =
  Layer.mergeAll(
    Layer.effect(
      Manage,
      Effect.map(Authorize.make, (authorize) => ({ manage: () => authorize("manage") }))
    ),
    Layer.effect(
      ReadToken,
      Effect.map(Authorize.make, (authorize) => ({ "read-token": () => authorize("read-token") }))
    ),
    Layer.effect(
      ReadMetrics,
      Effect.map(Authorize.make, (authorize) => ({ metrics: () => authorize("metrics") }))
    )
  )

/**
 * For a route beside the API value: a caller without the scope gets its answer here.
 *
 * @since 0.1.0
 * @category middleware
 */
export const protect: Effect.Effect<
  (
    scope: Scope
  ) => <E, R>(
    route: Effect.Effect<HttpServerResponse.HttpServerResponse, E, R>
  ) => Effect.Effect<
    HttpServerResponse.HttpServerResponse,
    E,
    Exclude<R, Caller> | HttpServerRequest.HttpServerRequest | HttpRouter.RouteContext
  >,
  never,
  ApiKeys | Audit | CallerLimits
> = Effect.map(
  Authorize.make,
  (authorize) => (scope) => (route) =>
    Effect.matchEffect(authorize(scope), {
      onFailure: (failure) => Effect.succeed(Edge.respond(failure)),
      onSuccess: (caller) => Effect.provideService(route, Caller, caller)
    })
)
