/** A route of the simulator: a handler that gets the parsed request and answers or refuses. */
import { type HttpMethod, HttpRouter, type HttpServerResponse } from "@effect/platform"
import { Effect, Either } from "effect"
import { badRequest, noRoute, type Refusal } from "./Errors.js"
import { Request, type Incoming } from "./World.js"

export type Params = Readonly<Record<string, string | undefined>>
export type Handler = (
  request: Incoming,
  params: Params
) => Effect.Effect<HttpServerResponse.HttpServerResponse, Refusal>

/** Uninterruptible: Cal.com finishes what it started even when the caller is gone. */
export const route = (method: HttpMethod.HttpMethod, path: HttpRouter.PathInput, handler: Handler) =>
  HttpRouter.makeRoute(
    method,
    path,
    Effect.flatMap(HttpRouter.RouteContext, ({ params }) =>
      Effect.flatMap(Request, (request) => handler(request, params))
    ),
    { uninterruptible: true }
  )

/** A path parameter that the route's pattern guarantees. */
export const param = (params: Params, name: string): string => params[name] ?? ""

export const intParam = (params: Params, name: string): Either.Either<number, Refusal> => {
  const text = param(params, name)
  return /^-?\d+$/.test(text)
    ? Either.right(Number(text))
    : Either.left(badRequest("Validation failed (numeric string is expected)"))
}

const versions = ["2024-04-15", "2024-06-11", "2024-06-14", "2024-08-13", "2024-09-04"] as const
export type Version = (typeof versions)[number]

/**
 * The `cal-api-version` of a request, if the resource serves it. An unknown or missing one means the oldest; a known one
 * that this resource does not serve is no route at all.
 */
export const version = (request: Incoming, served: ReadonlyArray<Version>): Either.Either<Version, Refusal> => {
  const asked = request.headers["cal-api-version"]
  const known = versions.find((version) => version === asked) ?? "2024-04-15"
  return served.includes(known) ? Either.right(known) : Either.left(noRoute(request))
}
