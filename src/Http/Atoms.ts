/**
 * The endpoint of `Api/Atoms`: for pages of allowed origins only, off without any. It knows no API keys; who asks is told
 * by the token they present and, in a program that has sessions of its own, by {@link AtomsSession}.
 */
import { HttpApiBuilder, type HttpApp, HttpServerRequest, HttpServerResponse } from "@effect/platform"
import { Context, Effect, Option } from "effect"
import { Api } from "../Api.js"
import * as AtomsApi from "../Api/Atoms.js"
import * as Failure from "../Api/Failure.js"
import type { UserUlid } from "../Token.js"
import * as TokenInput from "../TokenInput.js"
import * as AtomsTokens from "./AtomsTokens.js"
import * as Edge from "./Edge.js"
import { CallerLimits } from "./CallerLimits.js"

/** Origins of the pages that may ask, such as `https://app.example.com`. None: the endpoint is off. */
export class AllowedOrigins extends Context.Reference<AllowedOrigins>()("cal-tokens/Http/AllowedOrigins", {
  defaultValue: (): ReadonlyArray<string> => []
}) {}

/**
 * The session of the program around this service, for one that has its own: `false` refuses a request, a user allows
 * that user's tokens only (of several users of one token, this one), `true` leaves it to the token. It runs before anything is looked up.
 */
export class AtomsSession extends Context.Reference<AtomsSession>()("cal-tokens/Http/AtomsSession", {
  defaultValue: (): ((request: HttpServerRequest.HttpServerRequest) => Effect.Effect<boolean | UserUlid>) => () =>
    Effect.succeed(true)
}) {}

const wrongOrigin = Failure.service("Forbidden", "This page's origin is not allowed to refresh tokens here.")

/** One answer for all that is not accepted, so that nobody learns which it was. */
const unknown = Failure.service(
  "Unauthorized",
  "This access token is unknown here, or too old: load the page again to get another one."
)

/**
 * Browsers name the origin of whatever page asks another one. A page of this very origin they leave unnamed, and say so
 * elsewhere; programs that are no browsers have no use for being kept out by a header.
 */
const isAllowed = (origins: ReadonlyArray<string>, { headers }: HttpServerRequest.HttpServerRequest): boolean => {
  const { origin } = headers
  return origin === undefined
    ? ["same-origin", "none", undefined].includes(headers["sec-fetch-site"])
    : origins.includes(origin)
}

export const layer = HttpApiBuilder.group(Api, "atoms", (handlers) =>
  Effect.gen(function* () {
    const origins = yield* AllowedOrigins
    const session = yield* AtomsSession
    const limits = yield* CallerLimits
    const tokens = yield* AtomsTokens.make

    const refused = Effect.zipRight(Effect.catchAll(limits.failure, Edge.decline), Edge.decline(unknown))

    const refresh = Effect.gen(function* () {
      const request = yield* HttpServerRequest.HttpServerRequest
      if (origins.length === 0) return yield* Effect.fail(Edge.noEndpoint)
      if (!isAllowed(origins, request)) return yield* Edge.decline(wrongOrigin)
      yield* Effect.catchAll(limits.atoms, Edge.decline)
      const allowed = yield* session(request)
      const [, text = ""] = /^bearer +(\S+) *$/i.exec(request.headers["authorization"] ?? "") ?? []
      const presented = yield* Effect.option(TokenInput.token("authorization", text))
      if (allowed === false || Option.isNone(presented)) return yield* refused
      const only = allowed === true ? undefined : allowed
      const renewed = yield* Edge.refuseAll(tokens.exchange(presented.value, only))
      return Option.isNone(renewed) ? yield* refused : { accessToken: renewed.value.accessToken }
    })

    return handlers.handleRaw("refreshAtoms", () =>
      refresh.pipe(
        Effect.annotateLogs({ operation: "refreshAtoms" }),
        Effect.catchAll((failure) => Effect.succeed(Edge.respond(failure, AtomsApi.envelope)))
      )
    )
  })
)

const preflight = {
  "access-control-allow-methods": "GET",
  "access-control-allow-headers": "authorization, content-type",
  // Browsers cut it to what they allow themselves.
  "access-control-max-age": "86400"
}

/** Around everything that is answered: lets pages of the allowed origins read the endpoint's answers, failures too. */
export const cors = <E, R>(app: HttpApp.Default<E, R>): Effect.Effect<HttpApp.Default<E, R>> =>
  Effect.map(AllowedOrigins, (origins) =>
    origins.length === 0
      ? app
      : Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) => {
          if (Edge.pathOf(request) !== AtomsApi.path) return app
          const { origin } = request.headers
          const allowed = origin !== undefined && origins.includes(origin)
          const headers = {
            vary: "Origin",
            ...(allowed
              ? { "access-control-allow-origin": origin, "access-control-expose-headers": "Retry-After" }
              : {})
          }
          if (request.method !== "OPTIONS") {
            return Effect.map(app, (response) => HttpServerResponse.setHeaders(response, headers))
          }
          return Effect.succeed(
            allowed
              ? HttpServerResponse.empty({ status: 204, headers: { ...headers, ...preflight } })
              : HttpServerResponse.setHeaders(Edge.respond(wrongOrigin, AtomsApi.envelope), headers)
          )
        })
  )
