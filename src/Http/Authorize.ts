/** Who calls: whose API key a request has, and whether that has the scope and is within its limit. */
import { HttpRouter, HttpServerRequest } from "@effect/platform"
import { type Context, Effect, Option } from "effect"
import type { Caller } from "../Api/Access.js"
import type { AccessFailure } from "../Api/Failure.js"
import { ApiKeys } from "../ApiKeys.js"
import type { Scope } from "../ApiKeys/Scope.js"
import { Audit } from "./Audit.js"
import * as ClientAddress from "./ClientAddress.js"
import { CallerLimits } from "./CallerLimits.js"
import * as Edge from "./Edge.js"

/**
 * The caller of a request, if its key has the scope and is within its limit.
 *
 * @since 0.1.0
 * @category models
 */
export type Authorize = (
  scope: Scope
) => Effect.Effect<Context.Tag.Service<Caller>, AccessFailure, HttpServerRequest.HttpServerRequest>

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
      Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) => {
        const address = addressOf(request)
        return Effect.annotateLogs(
          Effect.zipRight(Effect.catchAll(limits.failure, Edge.decline), refusal),
          address === undefined ? {} : { address }
        )
      })
)

/**
 * A key that is not known counts against the address it came from. The limit only changes the answer: a known key is
 * taken from any address, or whoever shares an address with a careless program would be locked out with it.
 */
export const make: Effect.Effect<Authorize, never, ApiKeys | Audit | CallerLimits> = Effect.gen(function* () {
  const keys = yield* ApiKeys
  const limits = yield* CallerLimits
  const { refused } = yield* Audit
  const refuse = yield* refusing
  const noted = <E, R>(
    refusal: Effect.Effect<never, E, R>,
    event: "key.unknown" | "key.expired" | "key.forbidden",
    key?: string
  ) =>
    Effect.gen(function* () {
      const request = yield* HttpServerRequest.HttpServerRequest
      const { authorization } = request.headers
      const route =
        Edge.routeOf(request) ?? Option.getOrThrow(yield* Effect.serviceOption(HttpRouter.RouteContext)).route.path
      // Who presents no key has none that could be refused.
      if (authorization !== undefined) {
        yield* refused(event, { key, route })
      }
      return yield* Effect.annotateLogs(refusal, { operation: "authorize", endpoint: `${request.method} ${route}` })
    })
  return (scope) =>
    Effect.flatMap(HttpServerRequest.HttpServerRequest, ({ headers }) =>
      keys.authorize(headers["authorization"], scope).pipe(
        Effect.catchTags({
          Unauthorized: (error) =>
            noted(
              refuse(Edge.refuse(error)),
              error.expired === undefined ? "key.unknown" : "key.expired",
              error.expired
            ),
          Forbidden: (error) =>
            Effect.flatMap(keys.holder(headers["authorization"]), (holder) =>
              noted(Edge.refuse(error), "key.forbidden", Option.getOrUndefined(holder)?.name)
            )
        }),
        Effect.tap(({ name }) => Effect.catchAll(limits.key(name), Edge.decline))
      )
    )
})
