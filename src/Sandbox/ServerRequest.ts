/** A request whose body is at hand, on a line that a mishap can cut: from inside the process, or from Node's own server. */
import { Cookies, type Headers, type HttpMethod, HttpServerError, HttpServerRequest, UrlParams } from "@effect/platform"
import * as IncomingMessage from "@effect/platform/HttpIncomingMessage"
import { Effect, Inspectable, Option, Stream } from "effect"
import { type Line } from "./Wire.js"

export class ServerRequest extends Inspectable.Class implements HttpServerRequest.HttpServerRequest {
  readonly [HttpServerRequest.TypeId]: HttpServerRequest.TypeId = HttpServerRequest.TypeId
  readonly [IncomingMessage.TypeId]: IncomingMessage.TypeId = IncomingMessage.TypeId
  readonly remoteAddress: Option.Option<string>

  constructor(
    readonly source: Line,
    readonly method: HttpMethod.HttpMethod,
    readonly url: string,
    readonly originalUrl: string,
    readonly headers: Headers.Headers,
    private readonly body: string,
    address = "127.0.0.1"
  ) {
    super()
    this.remoteAddress = Option.some(address)
  }

  get cookies() {
    return Cookies.parseHeader(this.headers.cookie ?? "")
  }
  get text() {
    return Effect.succeed(this.body)
  }
  get json() {
    return Effect.try({ try: () => JSON.parse(this.body) as unknown, catch: (cause) => this.error(cause) })
  }
  get urlParamsBody() {
    return Effect.sync(() => UrlParams.fromInput(new URLSearchParams(this.body)))
  }
  get arrayBuffer() {
    return Effect.sync(() => toArrayBuffer(new TextEncoder().encode(this.body)))
  }
  get stream() {
    return Stream.make(new TextEncoder().encode(this.body))
  }
  get multipart() {
    return Effect.die("Cal.com takes no multipart bodies")
  }
  get multipartStream() {
    return Stream.die("Cal.com takes no multipart bodies")
  }
  get upgrade() {
    return Effect.fail(this.error("not an upgradeable request"))
  }

  modify(options: {
    readonly url?: string | undefined
    readonly headers?: Headers.Headers | undefined
    readonly remoteAddress?: string | undefined
  }) {
    return new ServerRequest(
      this.source,
      this.method,
      options.url ?? this.url,
      this.originalUrl,
      options.headers ?? this.headers,
      this.body,
      options.remoteAddress ?? Option.getOrUndefined(this.remoteAddress)
    )
  }

  toJSON() {
    return IncomingMessage.inspect(this, {
      _id: "cal-tokens/Sandbox/ServerRequest",
      method: this.method,
      url: this.originalUrl
    })
  }

  private error(cause: unknown): HttpServerError.RequestError {
    return new HttpServerError.RequestError({ request: this, reason: "Decode", cause })
  }
}

export const toArrayBuffer = (bytes: Uint8Array): ArrayBuffer => {
  const buffer = new ArrayBuffer(bytes.byteLength)
  new Uint8Array(buffer).set(bytes)
  return buffer
}
