/**
 * The Node server: its limits, and a shutdown that loses nobody's answer. When the layers are closed, readiness turns
 * 503, the port closes, idle connections close at once, requests on open ones are refused, and running requests get
 * their answer, for at most {@link drainTimeout}.
 */
import * as Http from "node:http"
import type { Socket } from "node:net"
import { NodeHttpServer } from "@effect/platform-node"
import { Context, Duration, Effect, Layer } from "effect"
import * as Failure from "../Api/Failure.js"
import { Lifecycle } from "./Lifecycle.js"

/**
 * Where the server listens.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options {
  readonly host: string
  readonly port: number
  /** Instead of {@link limits}. */
  readonly limits?: Partial<Limits> | undefined
}

/**
 * How long a stopping server waits for its answers.
 *
 * @since 0.1.0
 * @category constants
 */
export const drainTimeout = Duration.seconds(30)

/** Who was let in just before the end has so long to send what it came for, and who is cut off to read why. */
const silence = Duration.seconds(1)

/**
 * Generous to slow clients, not to those who hold a connection for its own sake. Milliseconds and bytes.
 *
 * @since 0.1.0
 * @category constants
 */
export const limits = {
  headersTimeout: 10_000,
  requestTimeout: 60_000,
  connectionsCheckingInterval: 5_000,
  // Longer than the idle time of usual load balancers (60 s), which would otherwise send into a closing connection.
  keepAliveTimeout: 65_000,
  // Of silence in both directions, for who does not read an answer. Event streams are never silent that long.
  timeout: 120_000,
  // An access token of Cal.com is below 1 KiB; 16 KiB leave room for whatever a gateway adds.
  maxHeaderSize: 16 * 1024
} satisfies Http.ServerOptions & { readonly timeout: number }

/**
 * Milliseconds and bytes by name.
 *
 * @since 0.1.0
 * @category models
 */
export type Limits = Record<keyof typeof limits, number>

const maxHeadersCount = 100

interface Tracked {
  readonly server: Http.Server
  readonly sockets: Set<Socket>
  /** Those without a request yet. */
  readonly silent: Set<Socket>
  /** Requests without their whole answer yet, and where they came from. */
  readonly running: Map<Http.ServerResponse, Socket>
}

class NodeServer extends Context.Tag("cal-tokens/Http/NodeServer")<NodeServer, Tracked>() {}

const make = (options: Options): Tracked => {
  const sockets = new Set<Socket>()
  const silent = new Set<Socket>()
  const running = new Map<Http.ServerResponse, Socket>()
  const server = Http.createServer({ ...limits, ...options.limits })
  server.maxHeadersCount = maxHeadersCount
  server.timeout = options.limits?.timeout ?? limits.timeout
  server.on("connection", (socket) => {
    for (const set of [sockets, silent]) {
      set.add(socket)
      socket.once("close", () => set.delete(socket))
    }
  })
  server.on("request", (request, response) => {
    running.set(response, request.socket)
    silent.delete(request.socket)
    response.once("close", () => running.delete(response))
    // Alone, this listener means that the handlers are not there yet, or not any more: nobody else would answer.
    if (server.listenerCount("request") === 1) refuse(response)
  })
  server.on("clientError", (error: NodeJS.ErrnoException, socket) => {
    const answered = [...running].some(([response, from]) => from === socket && response.headersSent)
    if (answered || !socket.writable || error.code === "ECONNRESET") return socket.destroy()
    socket.end(malformed(error.code))
    // Node looks no further after such a connection, and its other end may stay silent for ever.
    Effect.runFork(
      Effect.delay(
        Effect.sync(() => socket.destroy()),
        silence
      )
    )
  })
  return { server, sockets, silent, running }
}

const refuse = (response: Http.ServerResponse) => {
  const failure = Failure.service("ShuttingDown", "This process takes no requests now: ask again.")
  response
    .writeHead(503, { "content-type": "application/json", connection: "close" })
    .end(JSON.stringify(Failure.toWire(failure)))
}

/** An answer to what is not HTTP, too slow or too long: no request object exists then. */
const malformed = (code: string | undefined): string => {
  const status = code === "HPE_HEADER_OVERFLOW" ? 431 : code === "ERR_HTTP_REQUEST_TIMEOUT" ? 408 : 400
  const body = JSON.stringify({
    success: false,
    error: `request must be well-formed HTTP/1.1 (${Http.STATUS_CODES[status] ?? "Bad Request"}).`,
    code: "InvalidInput"
  })
  return [
    `HTTP/1.1 ${status} ${Http.STATUS_CODES[status] ?? "Bad Request"}`,
    "content-type: application/json",
    `content-length: ${body.length}`,
    "connection: close",
    "",
    body
  ].join("\r\n")
}

/** Built after the handlers, hence finalised before them: nothing is taken away while it waits. */
const layerDrain = Layer.scopedDiscard(
  Effect.gen(function* () {
    const tracked = yield* NodeServer
    const lifecycle = yield* Lifecycle
    // There are no web sockets here, and an upgraded connection would be nobody's to close.
    tracked.server.removeAllListeners("upgrade")
    yield* Effect.addFinalizer(() => Effect.zipRight(lifecycle.stop, drain(tracked)))
  })
)

const drain = ({ running, server, silent, sockets }: Tracked) =>
  Effect.gen(function* () {
    if (running.size > 0) yield* Effect.logInfo(`Stopping; requests that still get their answer: ${running.size}`)
    const isBusy = (socket: Socket) => [...running.values()].includes(socket)
    // Node's own idle connections leave out those that never sent anything, and it no longer times them out.
    const closeIdle = (condition: (socket: Socket) => boolean) => {
      for (const socket of sockets) if (!isBusy(socket) && condition(socket)) socket.destroy()
    }
    const closed = Effect.async<void>((resume) => {
      const closeAfter = (response: Http.ServerResponse, socket: Socket) => {
        if (!response.headersSent) response.setHeader("connection", "close")
        response.once("close", () => {
          if (!isBusy(socket)) socket.destroySoon()
        })
      }
      server.on("request", (request, response) => closeAfter(response, request.socket))
      running.forEach((socket, response) => closeAfter(response, socket))
      server.close(() => resume(Effect.void))
      closeIdle((socket) => !silent.has(socket))
    })
    const closeSilent = Effect.delay(
      Effect.sync(() => closeIdle(() => true)),
      silence
    )
    yield* Effect.raceFirst(closed, Effect.zipRight(closeSilent, Effect.never)).pipe(
      Effect.interruptible,
      Effect.timeout(drainTimeout),
      Effect.catchAll(() => Effect.logWarning(`Stopping; requests without an answer: ${running.size}`))
    )
    server.closeAllConnections()
  })

/**
 * What is served, on a port. Fails with `ServeError` when the port cannot be had.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = <E, R>(options: Options, app: Layer.Layer<never, E, R>) =>
  layerDrain.pipe(
    Layer.provide(app),
    Layer.provideMerge(
      Layer.unwrapEffect(Effect.map(NodeServer, ({ server }) => NodeHttpServer.layer(() => server, options)))
    ),
    Layer.provide(Layer.sync(NodeServer, () => make(options)))
  )
