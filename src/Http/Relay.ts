/**
 * Bodies that go on while they arrive: no more of one is in memory than its caller is about to take. What breaks off at
 * Cal.com breaks off here, so that nobody takes the half of an answer for all of it.
 */
import { type HttpClientResponse, type HttpServerRequest, HttpServerResponse } from "@effect/platform"
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import { Duration, Effect, type Scope, Stream } from "effect"
import * as Reading from "../CalHttp/Reading.js"
import * as Deadline from "../Fibers/Deadline.js"
import type { Lifecycle } from "./Lifecycle.js"
import * as Peer from "./Peer.js"

/** A body of which nothing came for so long has stopped. Event streams, too, say something more often than that. */
const idleTimeout = Duration.minutes(1)

/** A caller that does not read keeps a stopping process for so long. */
const patience = Duration.millis(500)

/** Of a body that is no longer, nobody is handed the beginning before the end is there: pieces cost more than they gain. */
const maxWhole = 64 * 1024

/** A response whose body is relayed; its other parts are `options`. */
export const relay = (
  request: HttpServerRequest.HttpServerRequest,
  response: HttpClientResponse.HttpClientResponse,
  options: HttpServerResponse.Options,
  { deadline, lifecycle }: { readonly deadline: Deadline.Deadline; readonly lifecycle: Lifecycle["Type"] }
): Effect.Effect<HttpServerResponse.HttpServerResponse, never, Scope.Scope> => {
  const isShort = options.contentLength !== undefined && options.contentLength <= maxWhole
  if (isShort && !isEventStream(options.contentType)) {
    const there = Reading.arrived(response)
    if (there !== undefined) return Effect.succeed(HttpServerResponse.uint8Array(there, options))
    let hasCome = false
    const body = Reading.read(response, undefined, () => {
      hasCome = true
    })
    // One that is only slow is awaited.
    const isAlive = () => {
      const isSo = hasCome
      hasCome = false
      return isSo
    }
    return Deadline.limited(deadline, body, idle, isAlive).pipe(
      Effect.flatMap(({ bytes, end }) =>
        end === "whole"
          ? Effect.succeed(HttpServerResponse.uint8Array(bytes, options))
          : Effect.succeed(
              HttpServerResponse.stream(
                Stream.concat(
                  Stream.make(bytes),
                  Stream.execute(Effect.zipRight(sent(request), broken(request, "it broke off")))
                ),
                options
              )
            )
      ),
      Effect.catchAll((reason) =>
        Peer.webOf(request) === undefined
          ? broken(request, reason)
          : Effect.succeed(HttpServerResponse.stream(Stream.execute(broken(request, reason)), options))
      )
    )
  }
  const whole = response.stream.pipe(
    Stream.catchAll((error) => (error.reason === "EmptyBody" ? Stream.empty : Stream.fail("it broke off"))),
    Stream.timeoutFail(idle.onLate, idleTimeout),
    Stream.catchAll((reason) => Stream.execute(broken(request, reason)))
  )
  return isEventStream(options.contentType)
    ? Effect.map(endingWithProcess(request, whole, lifecycle), (body) =>
        HttpServerResponse.stream(Stream.concat(flush(request), body), {
          ...options,
          headers: { ...options.headers, "x-accel-buffering": "no" }
        })
      )
    : Effect.succeed(HttpServerResponse.stream(whole, options))
}

const idle = {
  longest: Duration.toMillis(idleTimeout),
  onLate: () => `nothing came for ${Duration.format(idleTimeout)}`
}

/** Its end ends the fiber that comes here, too: an answer that ends by itself is a whole one. */
const broken = (request: HttpServerRequest.HttpServerRequest, reason: string): Effect.Effect<never> =>
  Effect.logWarning(`Cal.com's answer was cut: ${reason}`).pipe(
    Effect.zipRight(cut(request)),
    Effect.zipRight(Effect.never)
  )

const isEventStream = (contentType: string | undefined) => /^text\/event-stream\b/i.test(contentType ?? "")

/** For streams that do not end by themselves: they end when the process stops, whether or not their callers read. */
export const endingWithProcess = <A, E>(
  request: HttpServerRequest.HttpServerRequest,
  stream: Stream.Stream<A, E>,
  { stopping }: Lifecycle["Type"]
) =>
  Effect.gen(function* () {
    yield* Effect.forkScoped(Effect.zipRight(stopping, Effect.delay(cut(request), patience)))
    return Stream.interruptWhen(stream, stopping)
  })

const cut = (request: HttpServerRequest.HttpServerRequest): Effect.Effect<void> =>
  Peer.webOf(request) === undefined
    ? Effect.sync(() => void NodeHttpServerRequest.toIncomingMessage(request).socket.destroy())
    : Peer.breakOff

/** What was written goes on before it is cut: its caller sees an answer that is not whole, and no connection that broke. */
const sent = (request: HttpServerRequest.HttpServerRequest) =>
  Peer.webOf(request) === undefined
    ? Effect.async<void>((resume) => {
        NodeHttpServerRequest.toIncomingMessage(request).socket.write("", () => resume(Effect.void))
      })
    : Effect.void

/** Sends the head, which Node keeps until there is something of the body: with events that may be long after. */
const flush = (request: HttpServerRequest.HttpServerRequest) =>
  Peer.webOf(request) === undefined
    ? Stream.execute(Effect.sync(() => NodeHttpServerRequest.toServerResponse(request).flushHeaders()))
    : Stream.empty
