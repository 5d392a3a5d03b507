/**
 * The HTTP surface: one pipeline around the routes, in the order of Cal.com's: preflight, body parser, throttler, route,
 * and on top of it the mishaps that a test scripted.
 */
import { randomUUID } from "node:crypto"
import { HttpRouter, HttpServerRequest, HttpServerResponse } from "@effect/platform"
import { Effect } from "effect"
import * as ApiRoutes from "./ApiRoutes.js"
import * as AtomsRoutes from "./AtomsRoutes.js"
import * as AuthorizePage from "./AuthorizePage.js"
import * as BookingRoutes from "./BookingRoutes.js"
import { type Calls } from "./Calls.js"
import * as ControlRoutes from "./ControlRoutes.js"
import { malformedJson, noRoute, throttled, toResponse, unauthorized, type Refusal } from "./Errors.js"
import { commits, labelOf, millis, type Queue } from "./Faults.js"
import { addressOf, pathOf, purposeOf, queryOf, readBody, stripApi } from "./Incoming.js"
import * as ManagedRoutes from "./ManagedRoutes.js"
import * as OAuth2Routes from "./OAuth2Routes.js"
import { callerOf, type RateLimit } from "./RateLimit.js"
import { strike } from "./Strike.js"
import { sha256 } from "./Tokens.js"
import * as Wire from "./Wire.js"
import { Request, type Body, type Incoming, type World } from "./World.js"

type Response = HttpServerResponse.HttpServerResponse

export interface Parts {
  readonly world: World
  /** Effect's clock, Cal.com's time, and the switches as they stand. */
  readonly context: Effect.Effect<Pick<Incoming, "now" | "switches"> & { readonly clock: number }>
  readonly calls: Calls
  readonly faults: Queue
  readonly rateLimit: RateLimit
  readonly controls: Omit<ControlRoutes.Controls, "calls" | "faults" | "now" | "world">
}

export const make = (parts: Parts): Effect.Effect<Response, never, HttpServerRequest.HttpServerRequest> => {
  const { calls, context, faults, rateLimit, world } = parts
  // Built when somebody asks: most simulators are never told anything over HTTP.
  let control: ReturnType<typeof ControlRoutes.make> | undefined
  const controlled = Effect.suspend(
    () =>
      (control ??= ControlRoutes.make({
        ...parts.controls,
        world,
        now: Effect.map(context, ({ now }) => now),
        calls,
        faults
      }))
  )

  /** Cal.com by itself, without mishaps. */
  const answer = (
    request: HttpServerRequest.HttpServerRequest,
    url: string,
    body: Body,
    note: Incoming["note"],
    raceWindow: number
  ) =>
    Effect.gen(function* () {
      const { clock, now, switches } = yield* context
      const incoming: Incoming = {
        world,
        method: request.method,
        url,
        path: pathOf(url),
        query: queryOf(url),
        headers: request.headers,
        body,
        address: addressOf(request),
        requestId: randomUUID(),
        now,
        switches,
        raceWindow: raceWindow || millis(switches.raceWindow),
        note
      }
      const date = new Date(now).toUTCString()
      const isApi = /^\/v2(?:\/|$)/.test(incoming.path)
      if (isApi && request.method === "OPTIONS") {
        return HttpServerResponse.empty({ status: 204, headers: { ...cors, ...preflight, date } })
      }
      const { headers, refusal } = isApi ? enter(incoming, clock) : open
      const response =
        refusal === undefined
          ? yield* routes.pipe(
              Effect.provideService(Request, incoming),
              Effect.provideService(
                HttpServerRequest.HttpServerRequest,
                url === request.url ? request : request.modify({ url })
              ),
              Effect.catchAll((failure) =>
                Effect.succeed(toResponse(failure._tag === "Refusal" ? failure : noRoute(incoming), incoming))
              )
            )
          : toResponse(refusal, incoming)
      return HttpServerResponse.setHeaders(response, {
        ...(isApi ? { ...cors, "x-request-id": response.headers["x-request-id"] ?? incoming.requestId } : {}),
        ...headers,
        date
      })
    })

  /** What stands before the routes of the API, in this order: the body parser, the look-up of API keys, the throttler. */
  const enter = (request: Incoming, clock: number): Entrance => {
    if (request.body._tag === "Malformed") return { headers: {}, refusal: malformedJson(request.body.message) }
    if (request.headers.authorization?.startsWith("Bearer cal_")) return { headers: {}, refusal: unknownApiKey }
    const { blocked, headers } = rateLimit.consume(callerOf(request.headers, request.address), request.switches, clock)
    return { headers, refusal: blocked ? throttled : undefined }
  }

  const serve = (request: HttpServerRequest.HttpServerRequest) =>
    Effect.gen(function* () {
      const url = stripApi(request.url)
      if (url.startsWith(ControlRoutes.prefix)) return yield* controlled
      const { clock: at } = yield* context
      const body = yield* readBody(request)
      const path = pathOf(url)
      const { kind, calUserId, refreshToken } = purposeOf(world.store, request, path, body)
      const fault = faults.take({ kind, method: request.method, path, calUserId }, at)
      if (fault?._tag === "RefuseConnection") return Wire.refuse(request)
      const note: Incoming["note"] = {}
      if (fault?.before !== undefined) yield* Effect.sleep(fault.before)
      const raceWindow = fault?._tag === "RaceBothSucceed" ? millis(fault.window) : 0
      const response =
        fault === undefined || commits(fault)
          ? yield* answer(request, url, body, note, raceWindow)
          : HttpServerResponse.empty({ status: 204 })
      calls.add({
        at,
        method: request.method,
        path,
        status: fault === undefined || commits(fault) ? response.status : 0,
        kind,
        calUserId: note.calUserId ?? calUserId,
        userAgent: request.headers["user-agent"],
        refreshTokenHash: refreshToken === undefined ? undefined : sha256(refreshToken),
        issuedRefreshTokenHash: note.issuedRefreshTokenHash,
        fault: fault && labelOf(fault)
      })
      if (fault === undefined) return response
      if (fault.after !== undefined) yield* Effect.sleep(fault.after)
      return strike(fault, kind, request, response, { world, refreshToken, ...(yield* context) })
    })

  return Effect.uninterruptible(Effect.flatMap(HttpServerRequest.HttpServerRequest, serve))
}

/** Shared by all simulators of a process: building a router costs more than answering a request. */
const routes = HttpRouter.fromIterable([
  ...ManagedRoutes.routes,
  ...OAuth2Routes.routes,
  ...AtomsRoutes.routes,
  ...ApiRoutes.routes,
  ...BookingRoutes.routes,
  ...AuthorizePage.routes
])

interface Entrance {
  readonly headers: Readonly<Record<string, string>>
  readonly refusal: Refusal | undefined
}

/** The web application has no throttler, and its own body parser. */
const open: Entrance = { headers: {}, refusal: undefined }

const unknownApiKey = unauthorized("CustomThrottlerGuard - Invalid API Key")

/** Nothing is exposed: browser code can read neither the request id nor the rate-limit headers. */
const cors = { "access-control-allow-origin": "*" } as const

const preflight = {
  "access-control-allow-methods": "GET,PATCH,DELETE,HEAD,POST,PUT,OPTIONS",
  "access-control-allow-headers":
    "x-cal-client-id,x-cal-secret-key,x-cal-platform-embed,cal-api-version,Accept,Authorization,Content-Type,Origin",
  "access-control-max-age": "86400"
} as const
