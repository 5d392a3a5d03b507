/**
 * Stands between a browser and the service, on a port of its own, and keeps all that goes either way. It can hold answers
 * back, change them, or answer nothing.
 */
import * as Http from "node:http"
import * as Https from "node:https"
import type { AddressInfo } from "node:net"
import { Effect, type Scope } from "effect"

export interface Exchange {
  readonly method: string
  /** With its query. */
  readonly path: string
  readonly headers: Http.IncomingHttpHeaders
  sent: string
  status: number
  answered: Http.IncomingHttpHeaders
  /** As far as it has come. */
  body: string
  isOpen: boolean
}

export interface Recorder {
  readonly url: string
  readonly exchanges: Array<Exchange>
  readonly of: (path: RegExp) => ReadonlyArray<Exchange>
  /** What happens to requests from now on, of these paths: `hold` until the next mood; `cut`: the connection breaks. */
  readonly mood: (mood: "pass" | "hold" | "cut", paths?: RegExp) => void
  /** Changes the JSON of answers. */
  readonly rewrite: (change: (path: string, json: unknown) => unknown) => void
}

/** As a proxy in front of the service: with TLS of its own, below a path that it takes away. */
export interface Front {
  readonly port: number
  readonly tls: { readonly cert: string; readonly key: string }
  readonly prefix: string
}

const open = (server: Http.Server, port = 0) =>
  new Promise<number>((resolve) => {
    server.listen(port, "127.0.0.1", () => resolve((server.address() as AddressInfo).port))
  })

const make = async (target: string, front?: Front) => {
  const exchanges: Array<Exchange> = []
  let mood: Parameters<Recorder["mood"]>[0] = "pass"
  let paths = /^/
  let waiting: Array<() => void> = []
  let change: Parameters<Recorder["rewrite"]>[0] = (_, json) => json
  const { hostname, port } = new URL(target)
  const agent = new Http.Agent({ keepAlive: true })

  const pass = (request: Http.IncomingMessage, response: Http.ServerResponse, exchange: Exchange) => {
    const isConcerned = paths.test(exchange.path)
    if (mood === "hold" && isConcerned) return void waiting.push(() => pass(request, response, exchange))
    if (mood === "cut" && isConcerned) return void request.socket.destroy()
    const onward = Http.request(
      {
        ...{ hostname, port, agent, method: exchange.method, path: exchange.path.slice(front?.prefix.length ?? 0) },
        headers: {
          ...request.headers,
          ...(front && { "x-forwarded-proto": "https" }),
          // What is packed cannot be read here.
          "accept-encoding": "identity"
        }
      },
      (answer) => {
        exchange.status = answer.statusCode ?? 0
        exchange.answered = answer.headers
        const isJson = answer.headers["content-type"]?.startsWith("application/json") === true
        if (!isJson) response.writeHead(exchange.status, answer.headers).flushHeaders()
        answer.setEncoding("utf8").on("data", (text: string) => {
          exchange.body += text
          if (!isJson) response.write(text)
        })
        answer.on("end", () => {
          if (isJson) {
            const body = JSON.stringify(change(exchange.path, JSON.parse(exchange.body)))
            response.writeHead(exchange.status, { ...answer.headers, "content-length": Buffer.byteLength(body) })
            response.write(body)
          }
          response.end()
        })
        answer.on("error", () => response.destroy())
      }
    )
    onward.on("error", () => response.destroy())
    response.on("close", () => {
      exchange.isOpen = false
      onward.destroy()
    })
    onward.end(exchange.sent)
  }

  const listener: Http.RequestListener = (request, response) => {
    const { headers, method = "GET", url = "/" } = request
    const exchange = { method, path: url, headers, sent: "", status: 0, answered: {}, body: "", isOpen: true }
    exchanges.push(exchange)
    request.setEncoding("utf8").on("data", (text: string) => (exchange.sent += text))
    request.on("end", () => pass(request, response, exchange))
  }
  const server = front === undefined ? Http.createServer(listener) : Https.createServer(front.tls, listener)
  const recorder: Recorder = {
    url: `http${front ? "s" : ""}://127.0.0.1:${await open(server, front?.port)}${front?.prefix ?? ""}`,
    exchanges,
    of: (path) => exchanges.filter((exchange) => path.test(exchange.path)),
    mood: (next, concerned = /^/) => {
      mood = next
      paths = concerned
      const held = waiting
      waiting = []
      for (const go of held) go()
    },
    rewrite: (next) => void (change = next)
  }
  const close = () =>
    new Promise<void>((resolve) => {
      agent.destroy()
      server.close(() => resolve()).closeAllConnections()
    })
  return { recorder, close }
}

/** In front of the service that is there. */
export const acquire = (target: string, front?: Front): Effect.Effect<Recorder, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.promise(() => make(target, front)),
      ({ close }) => Effect.promise(close)
    ),
    ({ recorder }) => recorder
  )
