/**
 * Breaking a connection from inside a handler. A Node request is recognised by its socket and an in-process one by its
 * cut, so that nothing here depends on a platform. Anything else gets the nearest honest answer.
 */
import { type HttpServerRequest, HttpServerResponse } from "@effect/platform"
import { Effect, Predicate, Stream } from "effect"

/** The far end of a request; whoever carries the answer looks at `cut` when it is there. */
export interface Line {
  readonly _tag: "cal-tokens/Sandbox/Line"
  cut: "none" | "refused" | "reset" | "truncated"
  /** Of a truncated answer: how many bytes its body would have had. */
  length?: number
}

export const newLine = (): Line => ({ _tag: "cal-tokens/Sandbox/Line", cut: "none" })

type Response = HttpServerResponse.HttpServerResponse

/** No connection came about. */
export const refuse = (request: HttpServerRequest.HttpServerRequest): Response => cut(request, "refused")

/** The connection breaks before a byte of the answer. */
export const reset = (request: HttpServerRequest.HttpServerRequest): Response => cut(request, "reset")

/** The connection breaks after the headers and so many bytes of the body; default: half of them. */
export const truncate = (
  request: HttpServerRequest.HttpServerRequest,
  response: Response,
  at = half(response)
): Response => {
  const bytes = bytesOf(response)
  if (at >= bytes.length) return response
  const arriving = bytes.subarray(0, at)
  if (isLine(request.source)) {
    request.source.cut = "truncated"
    request.source.length = bytes.length
    return HttpServerResponse.uint8Array(arriving, { status: response.status, headers: response.headers })
  }
  const socket = socketOf(request)
  const body = Stream.concat(
    Stream.make(arriving),
    Stream.execute(Effect.sync(() => (socket?.destroySoon ?? socket?.destroy)?.call(socket)))
  )
  return HttpServerResponse.stream(body, {
    status: response.status,
    headers: response.headers,
    contentLength: bytes.length
  })
}

export const half = (response: Response): number => Math.floor(bytesOf(response).length / 2)

export const bytesOf = (response: Response): Uint8Array =>
  response.body._tag === "Uint8Array" ? response.body.body : new Uint8Array()

const cut = (request: HttpServerRequest.HttpServerRequest, how: "refused" | "reset"): Response => {
  if (isLine(request.source)) request.source.cut = how
  else {
    const socket = socketOf(request)
    ;(socket?.resetAndDestroy ?? socket?.destroy)?.call(socket)
  }
  return HttpServerResponse.empty({ status: 502 })
}

const isLine = (source: unknown): source is Line =>
  Predicate.hasProperty(source, "_tag") && source._tag === "cal-tokens/Sandbox/Line"

/** What is used of a `net.Socket`. */
interface Socket {
  readonly destroy: () => void
  readonly destroySoon?: () => void
  readonly resetAndDestroy?: () => void
}

const socketOf = (request: HttpServerRequest.HttpServerRequest): Socket | undefined =>
  Predicate.hasProperty(request.source, "socket") &&
  Predicate.hasProperty(request.source.socket, "destroy") &&
  Predicate.isFunction(request.source.socket.destroy)
    ? (request.source.socket as Socket)
    : undefined
