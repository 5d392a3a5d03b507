/**
 * Cal.com's API for a user of this service: `/api/cal/proxy/{userUlid}/{path…}?query`. The request goes on with the
 * user's token, and Cal.com's answer comes back with its status, its body (a success's byte for byte, while it arrives) and
 * the safe headers.
 */
import {
  HttpApiBuilder,
  type HttpClientResponse,
  HttpMethod,
  HttpServerRequest,
  HttpServerResponse
} from "@effect/platform"
import { type Context, Effect, Either, Option } from "effect"
import type { Caller } from "../Api/Access.js"
import * as Failure from "../Api/Failure.js"
import * as ApiKeys from "../ApiKeys.js"
import { CalApi } from "../CalApi.js"
import { CalClient } from "../CalClient.js"
import * as Deadline from "../Fibers/Deadline.js"
import type { UserUlid } from "../Token.js"
import { InvalidInput } from "../TokenError.js"
import * as CalPath from "../CalHttp/CalPath.js"
import * as Refusal from "../CalHttp/Refusal.js"
import * as Access from "./Access.js"
import { Audit } from "./Audit.js"
import * as Body from "./Body.js"
import * as Edge from "./Edge.js"
import { Lifecycle } from "./Lifecycle.js"
import * as Relay from "./Relay.js"

export const proxyPath = "/api/cal/proxy/"

/** Of a caller's headers only these go on; a browser's origin and cookies are none of Cal.com's business. */
const requestHeaders = [
  "accept",
  "accept-language",
  "cal-api-version",
  "if-match",
  "if-modified-since",
  "if-none-match",
  "if-range",
  "if-unmodified-since",
  "range",
  "x-request-id"
] as const

/**
 * Of Cal.com's headers these come back, and its rate limits. Never a cookie: it would be set for this host. Nor what it
 * says of caches: they would keep one user's data under a path that other sessions ask for as well.
 */
const responseHeaders = new Set([
  "accept-ranges",
  "content-disposition",
  "content-encoding",
  "content-language",
  "content-range",
  "etag",
  "last-modified",
  "retry-after",
  "vary"
])

/** How a caller's request goes on as a user, whoever the caller is. `path` is written as in the request, with its query. */
export const make = Effect.gen(function* () {
  const api = yield* CalApi
  const { apiUrl } = yield* CalClient
  const lifecycle = yield* Lifecycle
  const deadline = yield* Deadline.make()
  return {
    /** Refuses what leads out of Cal.com's API, to its token endpoints, or to answers with the user's token in them. */
    judge: (path: string) =>
      CalPath.resolve(apiUrl, path).pipe(
        Either.andThen(() => CalPath.refuseTokenEndpoints(path)),
        Either.andThen(() => CalPath.refuseReflections(path))
      ),
    send: (userUlid: UserUlid, path: string, bytes: Uint8Array) =>
      Effect.gen(function* () {
        const request = yield* HttpServerRequest.HttpServerRequest
        const response = yield* api.send(userUlid, {
          method: request.method,
          path,
          headers: forwarded(request),
          ...(bytes.length === 0
            ? {}
            : { body: { bytes, contentType: request.headers["content-type"] ?? "application/octet-stream" } })
        })
        return yield* passOn(request, response, { apiUrl, deadline, lifecycle })
      })
  }
})

export const layer = HttpApiBuilder.Router.use((router) =>
  Effect.gen(function* () {
    const protect = yield* Access.protect
    const audit = yield* Audit
    const proxy = yield* make
    const forward = (caller: Context.Tag.Service<Caller>) =>
      Effect.gen(function* () {
        const request = yield* HttpServerRequest.HttpServerRequest
        const target = yield* parseTarget(request.url)
        const userUlid = yield* Edge.user(target.userUlid)
        yield* Edge.permit(caller, ApiKeys.refusesUser(caller, userUlid))
        yield* proxy.judge(target.path)
        yield* Edge.permit(caller, ApiKeys.refusesTarget(caller, request.method, target.path))
        return yield* proxy.send(userUlid, target.path, yield* Body.bytes)
      })
    const route = Effect.gen(function* () {
      const caller = yield* Edge.operationFor("proxy")
      const { method } = yield* HttpServerRequest.HttpServerRequest
      return yield* HttpMethod.isHttpMethod(method) ? Edge.refuseAll(forward(caller)) : Edge.decline(noMethod)
    })
    yield* router.all(
      `${proxyPath}*`,
      protect("proxy")(
        Effect.catchAll(Effect.provideService(route, Audit, audit), (failure) => Effect.succeed(Edge.respond(failure)))
      )
    )
  })
)

/** The router takes whatever Node knows, and the answer to a `TRACE` would be the request, token and all (RFC 9110, 9.3.8). */
const noMethod = Failure.service("MethodNotAllowed", "Cal.com's API does not take this method.")

/** User and path from the raw request target: what a router decoded could hide a way out of Cal.com's API. */
const parseTarget = (target: string) => {
  const [, userUlid, path] = /^\/api\/cal\/proxy\/([^/?#]*)(\/[^#]*)?$/.exec(target) ?? []
  return userUlid === undefined || path === undefined
    ? Effect.fail(
        new InvalidInput({ field: "path", expected: `must be ${proxyPath}{userUlid}/{path below Cal.com's API}` })
      )
    : Effect.succeed({ userUlid, path })
}

const forwarded = (request: HttpServerRequest.HttpServerRequest): Record<string, string> => {
  const headers: Record<string, string> = {}
  for (const name of requestHeaders) {
    const value = request.headers[name]
    if (value !== undefined) headers[name] = value
  }
  return headers
}

const passOn = (
  request: HttpServerRequest.HttpServerRequest,
  response: HttpClientResponse.HttpClientResponse,
  {
    apiUrl,
    ...relaying
  }: { readonly apiUrl: string; readonly deadline: Deadline.Deadline; readonly lifecycle: Lifecycle["Type"] }
) =>
  Effect.gen(function* () {
    const headers: Record<string, string> = {}
    for (const [name, value] of Object.entries(response.headers)) {
      if (responseHeaders.has(name) || name.startsWith("x-ratelimit-")) headers[name] = value
    }
    const location = response.headers["location"]
    if (location !== undefined && isBelow(location, apiUrl)) headers["location"] = location
    const { status } = response
    const contentType = response.headers["content-type"]
    const length = response.headers["content-length"]
    if (status === 204 || status === 304) return HttpServerResponse.empty({ status, headers })
    if (request.method === "HEAD") {
      if (contentType !== undefined) headers["content-type"] = contentType
      if (length !== undefined) headers["content-length"] = length
      return HttpServerResponse.empty({ status, headers })
    }
    const options = { status, headers, ...(contentType === undefined ? {} : { contentType }) }
    if (status < 300) {
      // An HTTP client may have undone an encoding, and left the length of what came.
      const isLong = /^\d+$/.test(length ?? "") && headers["content-encoding"] === undefined
      return yield* Relay.relay(
        request,
        response,
        isLong ? { ...options, contentLength: Number(length) } : options,
        relaying
      )
    }
    // These were read when they came.
    const body = yield* Effect.orDie(response.arrayBuffer)
    const missing = Refusal.missingScopesOf(status, new TextDecoder().decode(body))
    if (Option.isSome(missing)) headers["www-authenticate"] = challenge(missing.value)
    return HttpServerResponse.uint8Array(new Uint8Array(body), options)
  })

/** What a token lacks, as RFC 6750 has it; Cal.com says so in words only, which stay as they are. */
const challenge = (missing: ReadonlyArray<string>): string => {
  const scopes = missing.join(" ")
  return `Bearer realm="Cal.com", error="insufficient_scope", error_description="ask for consent again with ${scopes}", scope="${scopes}"`
}

/** Whether a redirect stays at Cal.com. */
const isBelow = (location: string, apiUrl: string): boolean =>
  URL.canParse(location, apiUrl) && new URL(location, apiUrl).origin === new URL(apiUrl).origin
