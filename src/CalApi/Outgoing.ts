/**
 * Makes a caller's request fit to carry a user's token: the URL is judged, headers that would change who asks or that
 * belong to another connection are dropped, and the body can be sent twice.
 */
import { Chunk, Effect, Option, Stream } from "effect"
import * as Headers from "@effect/platform/Headers"
import * as HttpBody from "@effect/platform/HttpBody"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import { userAgent } from "../CalClient/Caller.js"
import * as CalPath from "../CalHttp/CalPath.js"
import { InvalidInput } from "../TokenError.js"

/** A body that arrives as a stream is kept in memory up to this many bytes. */
const maxBodyBytes = 1024 * 1024

/**
 * The version that serves the documented shape of each resource. There is no common one: an unknown version means the
 * oldest shape, a version that a resource does not serve is a 404 (Cal.com API v2, versioning).
 */
const apiVersions: ReadonlyMap<string, string> = new Map([
  ["bookings", "2024-08-13"],
  ["event-types", "2024-06-14"],
  ["schedules", "2024-06-11"],
  ["slots", "2024-09-04"]
])

/**
 * Not forwarded. A secret header beside a bearer would make the request the platform owner's, an `Origin` has to be
 * registered with the client, and an encoded answer could not be searched for the token.
 */
const dropped: ReadonlySet<string> = new Set([
  "authorization",
  "proxy-authorization",
  "proxy-authenticate",
  "host",
  "origin",
  "referer",
  "cookie",
  "connection",
  "proxy-connection",
  "keep-alive",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
  "expect",
  "content-length",
  "accept-encoding",
  "forwarded",
  "via",
  "x-real-ip",
  "true-client-ip",
  "traceparent",
  "tracestate",
  "baggage",
  "b3"
])
const droppedPrefixes: ReadonlyArray<string> = ["x-cal-", "x-forwarded-", "x-b3-", "cf-", "sec-"]

const isDropped = (name: string) => dropped.has(name) || droppedPrefixes.some((prefix) => name.startsWith(prefix))

/** The headers that may go to Cal.com, with defaults for those it needs. */
const forward = (headers: Headers.Headers, apiVersion: string | undefined): Headers.Headers => {
  const nominated = (headers["connection"] ?? "").split(",").map((name) => name.trim().toLowerCase())
  const kept = Object.entries(headers).filter(([name]) => !isDropped(name) && !nominated.includes(name))
  return Headers.fromInput({
    accept: "application/json",
    "user-agent": userAgent,
    ...(apiVersion === undefined ? {} : { "cal-api-version": apiVersion }),
    ...Object.fromEntries(kept),
    "accept-encoding": "identity"
  })
}

/** The path below the base URL, without query. */
const pathBelow = (base: string, url: string): string =>
  url.startsWith(base) ? url.slice(base.length).replace(/[?#].*$/s, "") : ""

const unrepeatable = new InvalidInput({ field: "body", expected: "must be text, bytes, a form or a stream" })
const tooLarge = new InvalidInput({
  field: "body",
  expected: `must have at most ${maxBodyBytes} bytes`,
  tooLarge: true
})

/** The body in a form that can be sent more than once. */
const replayable = (body: HttpBody.HttpBody): Effect.Effect<HttpBody.HttpBody, InvalidInput> => {
  switch (body._tag) {
    case "Empty":
    case "Uint8Array":
    case "FormData":
      return Effect.succeed(body)
    case "Raw":
      return typeof body.body === "string" || body.body instanceof Uint8Array
        ? Effect.succeed(body)
        : Effect.fail(unrepeatable)
    case "Stream":
      return Effect.map(collect(body.stream), (bytes) => HttpBody.uint8Array(bytes, body.contentType))
  }
}

const collect = (stream: Stream.Stream<Uint8Array, unknown>): Effect.Effect<Uint8Array, InvalidInput> =>
  stream.pipe(
    Stream.mapError(() => new InvalidInput({ field: "body", expected: "must be readable to its end" })),
    Stream.mapAccumEffect(0, (size, chunk) =>
      size + chunk.byteLength > maxBodyBytes
        ? Effect.fail(tooLarge)
        : Effect.succeed([size + chunk.byteLength, chunk] as const)
    ),
    Stream.runCollect,
    Effect.map((chunks) => Buffer.concat(Chunk.toReadonlyArray(chunks)))
  )

/** A request that may be sent, and its path below the base URL. */
export interface Prepared {
  readonly request: HttpClientRequest.HttpClientRequest
  readonly path: string
}

/** The request as it goes to Cal.com, but for the token. Fails with `InvalidInput` if it must not go there. */
export const prepare = (
  base: string,
  request: HttpClientRequest.HttpClientRequest
): Effect.Effect<Prepared, InvalidInput> =>
  Effect.gen(function* () {
    if (Option.isSome(request.hash)) {
      return yield* new InvalidInput({ field: "path", expected: "must not have a fragment" })
    }
    const url = yield* CalPath.resolveUrl(base, request.url)
    const path = pathBelow(base, url)
    yield* CalPath.refuseTokenEndpoints(path)
    const body = yield* replayable(request.body)
    const resource = path.split("/")[1] ?? ""
    const headers = forward(request.headers, apiVersions.get(resource))
    const contentType = request.headers["content-type"]
    const prepared = HttpClientRequest.make(request.method)(url).pipe(
      HttpClientRequest.setHeaders(headers),
      HttpClientRequest.appendUrlParams(request.urlParams),
      HttpClientRequest.setBody(body),
      // Setting the body brought its own type back over the one that was chosen.
      body._tag === "Empty" || body._tag === "FormData" || contentType === undefined
        ? (prepared) => prepared
        : HttpClientRequest.setHeader("content-type", contentType)
    )
    return { request: prepared, path }
  })
