/** The client over real sockets: what Node and undici really report, and what they do with connections. */
import * as Http from "node:http"
import * as Net from "node:net"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Redacted } from "effect"
import * as CalClient from "../../src/CalClient.js"
import type { TokenHttp } from "../../src/CalHttp/HttpClients.js"
import * as CalClientNode from "../../src/CalHttp/Node.js"
import * as OtherHttp from "../support/OtherHttp.js"

const token = Redacted.make("the-refresh-token")
const user = { _tag: "ManagedUser", clientId: "C", calUserId: 7 } as const

const withClient =
  (apiUrl: string, http: Layer.Layer<TokenHttp> = CalClientNode.layerTokenHttp) =>
  <A, E>(effect: Effect.Effect<A, E, CalClient.CalClient>) =>
    Effect.provide(
      effect,
      CalClient.layer({ apiUrl, managed: { clientId: "C", clientSecret: Redacted.make("s") } }).pipe(
        Layer.provide(http)
      )
    )

const refresh = Effect.flatMap(CalClient.CalClient, (client) => client.refresh(user, token))
const outcome = Effect.map(Effect.flip(refresh), ({ _tag, error }) => `${_tag}/${error._tag}: ${error.message}`)

/** A server on a port of its own, with every connection it was given. */
const listen = (server: Net.Server) =>
  Effect.acquireRelease(
    Effect.async<{ readonly port: number; readonly sockets: ReadonlyArray<Net.Socket> }>((resume) => {
      const sockets: Array<Net.Socket> = []
      server.on("connection", (socket: Net.Socket) => {
        sockets.push(socket)
        socket.on("error", () => undefined)
      })
      server.listen(0, "127.0.0.1", () => {
        const address = server.address()
        resume(
          address === null || typeof address === "string"
            ? Effect.dieMessage("no port")
            : Effect.succeed({ port: address.port, sockets })
        )
      })
    }),
    ({ sockets }) =>
      Effect.sync(() => {
        sockets.forEach((socket) => socket.destroy())
        server.close()
      })
  )

const pair = JSON.stringify({
  status: "success",
  data: { accessToken: "a", refreshToken: "r", accessTokenExpiresAt: Date.UTC(2100, 0, 1) }
})

const serve = (handler: Http.RequestListener) => listen(Http.createServer(handler))

/** Sends these bytes as soon as a request has begun to arrive, then drops the connection. */
const raw = (bytes: string) =>
  listen(Net.createServer((socket) => void socket.once("data", () => socket.write(bytes, () => socket.destroy()))))

describe("over a socket", () => {
  it.scopedLive("a refused connection spent nothing", () =>
    Effect.gen(function* () {
      const { port } = yield* Effect.scoped(serve((_, response) => void response.end()))
      for (const host of ["127.0.0.1", "localhost"]) {
        const text = yield* withClient(`http://${host}:${port}`)(outcome)
        assert.include(text, "NotSpent/CalUnavailable")
        assert.include(text, "connection refused")
      }
    })
  )

  it.scopedLive("an unknown host spent nothing", () =>
    Effect.map(withClient("http://cal-tokens.invalid")(outcome), (text) =>
      assert.include(text, "NotSpent/CalUnavailable")
    )
  )

  it.scopedLive("TLS to a server without it spent nothing", () =>
    Effect.gen(function* () {
      const { port } = yield* serve((_, response) => void response.end())
      assert.include(yield* withClient(`https://127.0.0.1:${port}`)(outcome), "NotSpent/CalUnavailable")
    })
  )

  it.scopedLive("a TLS handshake that is cut spent nothing, though its code is that of any reset", () =>
    Effect.gen(function* () {
      const { port } = yield* listen(Net.createServer((socket) => void socket.once("data", () => socket.destroy())))
      assert.include(yield* withClient(`https://127.0.0.1:${port}`)(outcome), "NotSpent/CalUnavailable")
    })
  )

  it.scopedLive("a connection dropped after the request is unknown", () =>
    Effect.gen(function* () {
      const { port } = yield* listen(Net.createServer((socket) => void socket.once("data", () => socket.destroy())))
      assert.include(yield* withClient(`http://127.0.0.1:${port}`)(outcome), "Unknown/CalUnavailable")
    })
  )

  it.scopedLive("a connection reset after the request is unknown", () =>
    Effect.gen(function* () {
      const { port } = yield* listen(
        Net.createServer((socket) => void socket.once("data", () => socket.resetAndDestroy()))
      )
      assert.include(yield* withClient(`http://127.0.0.1:${port}`)(outcome), "Unknown/CalUnavailable")
    })
  )

  it.scopedLive("headers that break off are unknown", () =>
    Effect.gen(function* () {
      const { port } = yield* raw("HTTP/1.1 200 OK\r\ncontent-le")
      assert.include(yield* withClient(`http://127.0.0.1:${port}`)(outcome), "Unknown/CalUnavailable")
    })
  )

  it.scopedLive("a body that breaks off is unknown", () =>
    Effect.gen(function* () {
      const { port } = yield* raw(`HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n${pair.slice(0, 40)}`)
      const text = yield* withClient(`http://127.0.0.1:${port}`)(outcome)
      assert.include(text, "Unknown/CalUnavailable")
      assert.include(text, "the answer broke off")
    })
  )

  it.scopedLive("an answer that is not HTTP is unknown", () =>
    Effect.gen(function* () {
      const { port } = yield* raw("SSH-2.0-OpenSSH_9.2\r\n")
      assert.include(yield* withClient(`http://127.0.0.1:${port}`)(outcome), "Unknown/CalUnavailable")
    })
  )

  it.scopedLive("a secret that no header can carry is a configuration mistake", () =>
    Effect.gen(function* () {
      const { port } = yield* serve((_, response) => void response.end())
      const options = {
        apiUrl: `http://127.0.0.1:${port}`,
        managed: { clientId: "C", clientSecret: Redacted.make("line\nbreak") }
      }
      const text = yield* Effect.provide(
        outcome,
        CalClient.layer(options).pipe(Layer.provide(CalClientNode.layerTokenHttp))
      )
      assert.include(text, "ClientWide/CalClientMisconfigured")
      assert.notInclude(text, "break")
    })
  )

  it.scopedLive("token calls never reuse a connection, API requests do", () =>
    Effect.gen(function* () {
      const connections: Array<string | undefined> = []
      const { port, sockets } = yield* serve((request, response) => {
        connections.push(request.headers.connection)
        response.end(pair)
      })
      // undici lets a turn of the event loop pass before it takes a connection again.
      const turn = Effect.async<void>((resume) => void setImmediate(() => resume(Effect.void)))
      const twice = Effect.all([Effect.exit(refresh), turn, turn, Effect.exit(refresh)])
      yield* withClient(`http://127.0.0.1:${port}`)(twice)
      assert.deepStrictEqual(connections, ["close", "close"])
      assert.strictEqual(sockets.length, 2)
      yield* withClient(`http://127.0.0.1:${port}`, OtherHttp.reusing)(twice)
      assert.strictEqual(sockets.length, 3)
    })
  )

  it.scopedLive("ten token calls run side by side", () =>
    Effect.gen(function* () {
      const waiting: Array<() => void> = []
      const { port } = yield* serve((_, response) => {
        waiting.push(() => response.end(pair))
        if (waiting.length === 10) waiting.forEach((answer) => answer())
      })
      const all = Effect.all(
        Array.from({ length: 10 }, () => Effect.exit(refresh)),
        { concurrency: "unbounded" }
      )
      assert.strictEqual((yield* withClient(`http://127.0.0.1:${port}`)(all)).length, 10)
    })
  )

  for (const [name, http] of [
    ["undici", CalClientNode.layerTokenHttp],
    ["fetch", OtherHttp.fetch]
  ] as const) {
    it.scopedLive(`redirects are not followed (${name})`, () =>
      Effect.gen(function* () {
        const elsewhere: Array<string | undefined> = []
        const other = yield* serve((request, response) => {
          elsewhere.push(request.url)
          response.end(pair)
        })
        const { port } = yield* serve((_, response) => {
          response.writeHead(307, { location: `http://127.0.0.1:${other.port}/stolen` }).end()
        })
        assert.include(
          yield* withClient(`http://127.0.0.1:${port}`, http)(outcome),
          "ClientWide/CalClientMisconfigured"
        )
        assert.deepStrictEqual(elsewhere, [])
      })
    )
  }

  it.scopedLive("a fetch client's failures are read as well", () =>
    Effect.gen(function* () {
      const { port } = yield* Effect.scoped(serve((_, response) => void response.end()))
      assert.include(yield* withClient(`http://127.0.0.1:${port}`, OtherHttp.fetch)(outcome), "NotSpent/CalUnavailable")
      const dropping = yield* listen(Net.createServer((socket) => void socket.once("data", () => socket.destroy())))
      assert.include(
        yield* withClient(`http://127.0.0.1:${dropping.port}`, OtherHttp.fetch)(outcome),
        "Unknown/CalUnavailable"
      )
    })
  )

  it.scopedLive("an interrupted call closes its connection", () =>
    Effect.gen(function* () {
      const closed = yield* Effect.makeLatch()
      const arrived = yield* Effect.makeLatch()
      const { port } = yield* serve((request) => {
        arrived.unsafeOpen()
        request.socket.on("close", () => closed.unsafeOpen())
      })
      yield* withClient(`http://127.0.0.1:${port}`)(
        Effect.gen(function* () {
          const fiber = yield* Effect.fork(refresh)
          yield* arrived.await
          yield* Fiber.interrupt(fiber)
          yield* closed.await
        })
      )
    })
  )
})
