/**
 * An `HttpClient` that hands requests to the simulator without a network: no timers but Effect's, no promises, so it
 * runs on a test clock. Any base URL will do; what counts begins at `/v2`, `/api/v2`, `/_control`, or a path of
 * Cal.com's web application.
 */
import {
  Headers,
  HttpClient,
  HttpClientError,
  type HttpClientRequest,
  HttpClientResponse,
  HttpServerRequest,
  type HttpServerResponse,
  UrlParams
} from "@effect/platform"
import * as IncomingMessage from "@effect/platform/HttpIncomingMessage"
import { Effect, Fiber, Inspectable, Option, Stream } from "effect"
import { ServerRequest, toArrayBuffer } from "./ServerRequest.js"
import { bytesOf, type Line, newLine } from "./Wire.js"

export const make = (
  app: Effect.Effect<HttpServerResponse.HttpServerResponse, never, HttpServerRequest.HttpServerRequest>
): HttpClient.HttpClient =>
  HttpClient.make((request, url) =>
    Effect.gen(function* () {
      const body = yield* readBody(request)
      const line: Line = newLine()
      const target = targetOf(url)
      const headers = Headers.set(request.headers, "host", url.host)
      const served = new ServerRequest(line, request.method, target, target, headers, body)
      // Cal.com goes on when its caller gives up: the work belongs to a fiber of its own, and only the wait is the
      // caller's to interrupt.
      const fiber = yield* Effect.forkDaemon(Effect.provideService(app, HttpServerRequest.HttpServerRequest, served))
      const response = yield* Effect.flatten(Fiber.await(fiber))
      if (line.cut === "refused") {
        return yield* transportError(request, "ECONNREFUSED", `connect ECONNREFUSED ${url.host}`)
      }
      if (line.cut === "reset") return yield* transportError(request, "ECONNRESET", "read ECONNRESET")
      return new ClientResponse(request, response, line.cut === "truncated")
    })
  )

const targetOf = (url: URL) => {
  const start = url.pathname.search(/\/(?:api\/v2|v2|_control|auth\/oauth2\/authorize|api\/auth\/oauth)(?:\/|$)/)
  return `${start < 0 ? url.pathname : url.pathname.slice(start)}${url.search}`
}

/** As the Node clients report a connection that failed: no response, and the system's code in the cause. */
const transportError = (request: HttpClientRequest.HttpClientRequest, code: string, message: string) =>
  new HttpClientError.RequestError({
    request,
    reason: "Transport",
    cause: Object.assign(new Error(message), { code })
  })

const decoder = new TextDecoder()

const readBody = (
  request: HttpClientRequest.HttpClientRequest
): Effect.Effect<string, HttpClientError.HttpClientError> => {
  const { body } = request
  switch (body._tag) {
    case "Empty":
      return Effect.succeed("")
    case "Uint8Array":
      return Effect.succeed(decoder.decode(body.body))
    case "Raw":
      return Effect.succeed(typeof body.body === "string" ? body.body : "")
    case "Stream":
      return Stream.mkString(Stream.decodeText(body.stream)).pipe(
        Effect.mapError((cause) => new HttpClientError.RequestError({ request, reason: "Encode", cause }))
      )
    case "FormData":
      return Effect.fail(
        new HttpClientError.RequestError({
          request,
          reason: "Encode",
          description: "Cal.com takes no multipart bodies"
        })
      )
  }
}

class ClientResponse extends Inspectable.Class implements HttpClientResponse.HttpClientResponse {
  readonly [HttpClientResponse.TypeId]: HttpClientResponse.TypeId = HttpClientResponse.TypeId
  readonly [IncomingMessage.TypeId]: IncomingMessage.TypeId = IncomingMessage.TypeId
  readonly remoteAddress = Option.none()

  constructor(
    readonly request: HttpClientRequest.HttpClientRequest,
    private readonly source: HttpServerResponse.HttpServerResponse,
    private readonly truncated: boolean
  ) {
    super()
  }

  get status() {
    return this.source.status
  }
  get headers() {
    return this.source.headers
  }
  get cookies() {
    return this.source.cookies
  }
  get text() {
    return this.bytes((bytes) => decoder.decode(bytes))
  }
  get json() {
    return Effect.flatMap(this.text, (text) =>
      Effect.try({
        try: () => (text === "" ? null : (JSON.parse(text) as unknown)),
        catch: (cause) => this.error(cause)
      })
    )
  }
  get urlParamsBody() {
    return Effect.map(this.text, (text) => UrlParams.fromInput(new URLSearchParams(text)))
  }
  get arrayBuffer() {
    return this.bytes(toArrayBuffer)
  }
  get formData() {
    return Effect.fail(this.error("not a form"))
  }
  get stream() {
    const bytes = Stream.make(bytesOf(this.source))
    return this.truncated ? Stream.concat(bytes, Stream.fail(this.error(broken()))) : bytes
  }

  toJSON() {
    return IncomingMessage.inspect(this, { _id: "cal-tokens/Sandbox/ClientResponse", status: this.status })
  }

  private bytes<A>(f: (bytes: Uint8Array) => A): Effect.Effect<A, HttpClientError.ResponseError> {
    return Effect.suspend(() =>
      this.truncated ? Effect.fail(this.error(broken())) : Effect.succeed(f(bytesOf(this.source)))
    )
  }

  private error(cause: unknown): HttpClientError.ResponseError {
    return new HttpClientError.ResponseError({ request: this.request, response: this, reason: "Decode", cause })
  }
}

const broken = () => Object.assign(new Error("other side closed"), { code: "UND_ERR_SOCKET" })
