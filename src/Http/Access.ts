/** Checks API keys, before anything else of a request is looked at. */
import { HttpRouter, HttpServerRequest, type HttpServerResponse } from "@effect/platform"
import { type Context, Effect, Layer, Option } from "effect"
import { Caller, Manage, ReadMetrics, ReadToken } from "../Api/Access.js"
import type { Scope } from "../ApiKeys/Scope.js"
import type { AccessFailure } from "../Api/Failure.js"
import { ApiKeys } from "../ApiKeys.js"
import { Audit } from "./Audit.js"
import * as ClientAddress from "./ClientAddress.js"
import * as Edge from "./Edge.js"
import { CallerLimits } from "./CallerLimits.js"

/**
 * The caller of a request, if its key has the scope and is within its limit.
 *
 * @since 0.1.0
 * @category models
 */
export type Authorize = (
  scope: Scope
) => Effect.Effect<
  Context.Tag.Service<Caller>,
  AccessFailure,
  HttpServerRequest.HttpServerRequest | HttpRouter.RouteContext
>

/**
 * Counts credentials that nobody has against the address that they come from, and names it where they are refused.
 *
 * @since 0.1.0
 * @category constants
 */
export const refusing = Effect.zipWith(
  CallerLimits,
  ClientAddress.exact,
  (limits, addressOf) =>
    <A, E, R>(refusal: Effect.Effect<A, E, R>) =>
      Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) =>
        Effect.annotateLogs(Effect.zipRight(Effect.catchAll(limits.failure, Edge.decline), refusal), {
          address: addressOf(request)
        })
      )
)

/**
 * A key that is not known counts against the address it came from. The limit only changes the answer: a known key is
 * taken from any address, or whoever shares an address with a careless program would be locked out with it.
 */
const authorize: Effect.Effect<Authorize, never, ApiKeys | Audit | CallerLimits> = Effect.gen(function* () {
  const keys = yield* ApiKeys
  const limits = yield* CallerLimits
  const { refused } = yield* Audit
  const refuse = yield* refusing
  return (scope) =>
    Effect.gen(function* () {
      const request = yield* HttpServerRequest.HttpServerRequest
      const { route } = yield* HttpRouter.RouteContext
      const authorization = request.headers["authorization"]
      const caller = yield* keys.authorize(authorization, scope).pipe(
        // Who presents no key has none that could be refused.
        Effect.tapErrorTag("Unauthorized", () =>
          authorization === undefined ? Effect.void : refused("key.unknown", { route: route.path })
        ),
        Effect.tapErrorTag("Forbidden", () =>
          refused("key.forbidden", {
            key: Option.getOrUndefined(keys.holder(authorization))?.name,
            route: route.path
          })
        ),
        Effect.catchTags({
          Unauthorized: (error) => refuse(Edge.refuse(error)),
          Forbidden: (error) => Edge.refuse(error)
        }),
        Effect.annotateLogs({ operation: "authorize", endpoint: `${request.method} ${route.path}` })
      )
      yield* Effect.catchAll(limits.key(caller.name), Edge.decline)
      return caller
    })
})

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
      Effect.map(authorize, (authorize) => ({ manage: () => authorize("manage") }))
    ),
    Layer.effect(
      ReadToken,
      Effect.map(authorize, (authorize) => ({ "read-token": () => authorize("read-token") }))
    ),
    Layer.effect(
      ReadMetrics,
      Effect.map(authorize, (authorize) => ({ metrics: () => authorize("metrics") }))
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
  authorize,
  (authorize) => (scope) => (route) =>
    Effect.matchEffect(authorize(scope), {
      onFailure: (failure) => Effect.succeed(Edge.respond(failure)),
      onSuccess: (caller) => Effect.provideService(route, Caller, caller)
    })
)
