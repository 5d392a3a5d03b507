/** Who calls: whose API key a request has, and whether that has the scope and is within its limit. */
import { HttpRouter, HttpServerRequest } from "@effect/platform"
import { type Context, Effect, Either, Option } from "effect"
import type { Caller } from "../Api/Access.js"
import { type AccessFailure, service } from "../Api/Failure.js"
import { ApiKeys } from "../ApiKeys.js"
import type { Scope } from "../ApiKeys/Scope.js"
import { Audit } from "./Audit.js"
import * as ClientAddress from "./ClientAddress.js"
import { CallerLimits } from "./CallerLimits.js"
import * as Edge from "./Edge.js"
import * as Origins from "./Origins.js"
import { type Found, PageSession } from "./PageSession.js"

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

export const over = service("Unauthorized", "The session of this page is over: sign in again.")

const notOurs = service("Forbidden", "Only the page of this very service may ask this.")

/** Of a page that is not ours the log tells the origin: a proxy in front may make ours look like one. */
export const elsewhere = Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) =>
  Origins.refuse([], request, "the page's own", notOurs)
)

const beyond = service("Forbidden", 'A session of the page opens what the scope "manage" does, and nothing else.')

/** Tells of a refusal where it is logged and, of a key that was presented, in the audit trail. */
const noting = Effect.map(
  Audit,
  ({ refused }) =>
    <E, R>(refusal: Effect.Effect<never, E, R>, event?: Parameters<typeof refused>[0], key?: string) =>
      Effect.gen(function* () {
        const request = yield* HttpServerRequest.HttpServerRequest
        const route =
          Edge.routeOf(request) ?? Option.getOrThrow(yield* Effect.serviceOption(HttpRouter.RouteContext)).route.path
        if (event !== undefined) yield* refused(event, { key, route })
        return yield* Effect.annotateLogs(refusal, { operation: "authorize", endpoint: `${request.method} ${route}` })
      })
)

/**
 * The holder of the key in an `Authorization` header, whoever sent that. A key that is not known counts against the address
 * it came from. The limit only changes the answer: a known key is taken from any address, or whoever shares an address with
 * a careless program would be locked out with it.
 */
export const keyed = Effect.gen(function* () {
  const keys = yield* ApiKeys
  const limits = yield* CallerLimits
  const refuse = yield* refusing
  const noted = yield* noting
  return (authorization: string | undefined, scope: Scope) =>
    keys.authorize(authorization, scope).pipe(
      Effect.catchTags({
        Unauthorized: (error) =>
          noted(
            refuse(Edge.refuse(error)),
            // Who presents no key has none that could be refused.
            authorization === undefined ? undefined : error.expired === undefined ? "key.unknown" : "key.expired",
            error.expired
          ),
        Forbidden: (error) =>
          Effect.flatMap(keys.holder(authorization), (holder) =>
            noted(Edge.refuse(error), "key.forbidden", Option.getOrUndefined(holder)?.name)
          )
      }),
      Effect.tap(({ name }) => Effect.catchAll(limits.key(name), Edge.decline))
    )
})

/** By the key of a request or, where it has none and there is the operator's page, by the session of that. */
export const make: Effect.Effect<Authorize, never, ApiKeys | Audit | CallerLimits> = Effect.gen(function* () {
  const byKey = yield* keyed
  const limits = yield* CallerLimits
  const page = yield* PageSession
  const refuse = yield* refusing
  const noted = yield* noting

  const bySession = (found: Found, scope: Scope) => {
    if (Option.isNone(found)) return byKey(undefined, scope)
    if (Either.isLeft(found.value)) {
      return found.value.left === "over" ? noted(refuse(Edge.decline(over))) : noted(elsewhere)
    }
    const { caller } = found.value.right
    return caller.scopes.has(scope)
      ? Effect.as(Effect.catchAll(limits.key(caller.name), Edge.decline), caller)
      : noted(Edge.decline(beyond), "key.forbidden", caller.name)
  }

  return (scope) =>
    Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) => {
      const authorization = request.headers["authorization"]
      return authorization === undefined && Option.isSome(page)
        ? Effect.flatMap(page.value.of(request), (found) => bySession(found, scope))
        : byKey(authorization, scope)
    })
})
