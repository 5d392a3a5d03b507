/**
 * The simulator on a port, by Node's own server: whoever uses it from a test needs no package for that, and a mishap can
 * break a connection as it breaks in the wild.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http"
import { Headers, type HttpApp, type HttpMethod, HttpServerRequest, type HttpServerResponse } from "@effect/platform"
import { Data, Effect, Exit, Runtime, type Scope } from "effect"
import { ServerRequest } from "./ServerRequest.js"
import { bytesOf, type Line, newLine } from "./Wire.js"

/**
 * Where to listen.
 *
 * @since 0.1.0
 * @category models
 */
export interface ListenOptions {
  /** Default 127.0.0.1: whoever reaches the simulator controls it. */
  readonly host?: string | undefined
  /** Default 0: any free one. */
  readonly port?: number | undefined
}

/**
 * The simulator cannot listen there.
 *
 * @since 0.1.0
 * @category errors
 */
export class ListenError extends Data.TaggedError("ListenError")<{
  readonly host: string
  readonly port: number
  /** Node's, such as `EADDRINUSE`. */
  readonly code: string
}> {
  override get message(): string {
    return `The sandbox cannot listen on ${this.host}:${this.port} (${this.code})`
  }
}

/** With `keepsProcess: false`, nothing of it keeps the process from ending: who waits for an answer does that. */
export const listen = (
  app: HttpApp.Default,
  { host = "127.0.0.1", port = 0 }: ListenOptions = {},
  { keepsProcess = true }: { readonly keepsProcess?: boolean } = {}
): Effect.Effect<string, ListenError, Scope.Scope> =>
  Effect.gen(function* () {
    const fork = Runtime.runFork(yield* Effect.runtime<never>())
    const server = createServer((request, response) => {
      const chunks: Array<Buffer> = []
      request.on("data", (chunk: Buffer) => chunks.push(chunk))
      // One that breaks off before its end is none.
      request.on("error", () => {})
      request.on("end", () => {
        const line = newLine()
        const served = toServerRequest(request, line, Buffer.concat(chunks).toString())
        // Cal.com goes on when its caller hangs up.
        fork(Effect.provideService(app, HttpServerRequest.HttpServerRequest, served)).addObserver(
          Exit.match({
            onFailure: () => response.writeHead(500).end(),
            onSuccess: (answer) => send(response, line, answer)
          })
        )
      })
    })
    if (!keepsProcess) server.unref().on("connection", (socket) => socket.unref())
    yield* Effect.acquireRelease(open(server, host, port), () => close(server))
    const address = server.address()
    const actual = typeof address === "object" && address !== null ? address.port : port
    return `http://${host.includes(":") ? `[${host}]` : host}:${actual}`
  })

const open = (server: Server, host: string, port: number) =>
  Effect.async<void, ListenError>((resume) => {
    server.once("error", (cause) => {
      const code = "code" in cause ? String(cause.code) : cause.name
      resume(new ListenError({ host, port, code }))
    })
    server.listen({ host, port }, () => resume(Effect.void))
  })

const close = (server: Server) =>
  Effect.async<void>((resume) => {
    server.close(() => resume(Effect.void))
    server.closeAllConnections()
  })

const toServerRequest = (request: IncomingMessage, line: Line, body: string) => {
  const { headers, method = "GET", socket, url = "/" } = request
  // Node has judged the method.
  return new ServerRequest(
    line,
    method as HttpMethod.HttpMethod,
    url,
    url,
    Headers.fromInput(headers),
    body,
    socket.remoteAddress
  )
}

const send = (response: ServerResponse, line: Line, answer: HttpServerResponse.HttpServerResponse) => {
  const { socket } = response
  if (line.cut === "refused" || line.cut === "reset") {
    socket?.resetAndDestroy()
    return
  }
  const bytes = bytesOf(answer)
  // Without a body there is nothing to measure: 204 must not say how long it is.
  const length = answer.status === 204 ? {} : { "content-length": line.length ?? bytes.length }
  response.writeHead(answer.status, { ...answer.headers, ...length })
  if (line.cut !== "truncated") {
    response.end(bytes)
    return
  }
  response.flushHeaders()
  if (bytes.length > 0) response.write(bytes)
  socket?.destroySoon()
}
