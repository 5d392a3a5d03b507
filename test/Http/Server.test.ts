import * as Net from "node:net"
import { assert, describe, it } from "@effect/vitest"
import { HttpApiBuilder, HttpServer, HttpServerResponse } from "@effect/platform"
import { Context, Deferred, Effect, Exit, Layer, Option, Scope } from "effect"
import * as Http from "../../src/Http.js"
import * as ApiKeys from "../../src/ApiKeys.js"
import * as Lifecycle from "../../src/Http/Lifecycle.js"
import * as Server from "../../src/Http/Server.js"
import { layerFake, layerServices } from "../support/HttpFakes.js"

/** A server on a free port whose route `/slow` answers when it is told to; `order` is what closed when. */
const start = Effect.gen(function* () {
  const order: Array<string> = []
  const started = yield* Deferred.make<void>()
  const release = yield* Deferred.make<void>()
  const slow = HttpApiBuilder.Router.use((router) =>
    router.get(
      "/slow",
      Effect.zipRight(Deferred.succeed(started, undefined), Deferred.await(release)).pipe(
        Effect.tap(() => Effect.sync(() => order.push("answered"))),
        Effect.as(HttpServerResponse.text("whole"))
      )
    )
  )
  const services = Layer.scopedDiscard(Effect.addFinalizer(() => Effect.sync(() => order.push("services"))))
  const scope = yield* Scope.make()
  const context = yield* Server.layer({ host: "127.0.0.1", port: 0 }, Http.layerWith({ routes: slow })).pipe(
    Layer.provideMerge(services),
    Layer.provide(layerServices),
    Layer.provide(ApiKeys.layer([])),
    Layer.provideMerge(Lifecycle.layer),
    Layer.provideMerge(layerFake),
    Layer.buildWithScope(scope)
  )
  const { address } = Context.get(context, HttpServer.HttpServer)
  const port = address._tag === "TcpAddress" ? address.port : 0
  return { close: Scope.close(scope, Exit.void), context, order, port, release, started }
})

/** A connection that stays open; `until` returns once the text was received, or the other side closed. */
const connect = (port: number) =>
  Effect.async<Connection, Error>((resume) => {
    let received = ""
    let closed = false
    let check = () => {}
    const socket = Net.connect(port, "127.0.0.1", () =>
      resume(
        Effect.succeed({
          send: (text) => Effect.sync(() => void socket.write(text)),
          until: (text) =>
            Effect.async((resume) => {
              check = () => {
                if (closed || received.includes(text)) resume(Effect.succeed(received))
              }
              check()
            }),
          closed: Effect.async((resume) => {
            check = () => {
              if (closed) resume(Effect.succeed(received))
            }
            check()
          })
        })
      )
    )
    socket.on("data", (chunk) => {
      received += chunk.toString()
      check()
    })
    socket.on("close", () => {
      closed = true
      check()
    })
    socket.on("error", (error) => resume(Effect.fail(error)))
  })

interface Connection {
  readonly send: (text: string) => Effect.Effect<void>
  readonly until: (text: string) => Effect.Effect<string>
  readonly closed: Effect.Effect<string>
}

const get = (path: string) => `GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`

describe("shutdown", () => {
  it.live("answers what runs, refuses what comes, closes what idles, and leaves services for last", () =>
    Effect.gen(function* () {
      const { close, context, order, port, release, started } = yield* start
      const idle = yield* connect(port)
      yield* idle.send(get("/health/ready"))
      assert.match(yield* idle.until("}"), /^HTTP\/1\.1 200 /)
      const silent = yield* connect(port)
      const busy = yield* connect(port)
      yield* busy.send(get("/slow"))
      yield* Deferred.await(started)

      const closing = yield* Effect.fork(close)
      yield* Context.get(context, Lifecycle.Lifecycle).stopping
      yield* idle.closed
      yield* silent.closed
      yield* busy.send(get("/health/live") + get("/nope"))
      const late = yield* Effect.either(connect(port))
      assert.strictEqual(late._tag, "Left")
      assert.deepStrictEqual(order, [])
      assert.isTrue(Option.isNone(yield* closing.poll))

      yield* Deferred.succeed(release, undefined)
      const answer = yield* busy.closed
      assert.match(answer, /^HTTP\/1\.1 200 [^]*\r\nconnection: close\r\n[^]*whole/i)
      assert.notMatch(answer, /HTTP\/1\.1 (200[^]*HTTP\/1\.1 200|404)/)
      yield* closing.await
      assert.deepStrictEqual(order, ["answered", "services"])
    })
  )

  it.live("treats a request for another protocol like any other", () =>
    Effect.gen(function* () {
      const { close, context, port, release, started } = yield* start
      const socket = yield* connect(port)
      yield* socket.send("GET /slow HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
      yield* Deferred.await(started)
      const closing = yield* Effect.fork(close)
      yield* Context.get(context, Lifecycle.Lifecycle).stopping
      yield* Deferred.succeed(release, undefined)
      assert.match(yield* socket.closed, /^HTTP\/1\.1 200 [^]*whole/)
      yield* closing.await
    })
  )
})

describe("a port", () => {
  it.live("that is taken fails with ServeError", () =>
    Effect.gen(function* () {
      const { close, port } = yield* start
      const error = yield* Server.layer({ host: "127.0.0.1", port }, Layer.empty).pipe(
        Layer.provide(Lifecycle.layer),
        Layer.build,
        Effect.scoped,
        Effect.flip
      )
      assert.strictEqual(error._tag, "ServeError")
      yield* close
    })
  )
})

describe("what is not HTTP", () => {
  it.live("is answered in JSON and disconnected", () =>
    Effect.gen(function* () {
      const { close, port } = yield* start
      const ask = (text: string) =>
        Effect.flatMap(connect(port), (socket) => Effect.zipRight(socket.send(text), socket.closed))
      assert.match(
        yield* ask("SECRET\r\n\r\n"),
        /^HTTP\/1\.1 400 [^]*\r\n\r\n\{"success":false,.*"code":"InvalidInput"\}$/
      )
      const long = yield* ask(`GET / HTTP/1.1\r\nHost: x\r\nX: ${"SECRET".repeat(4096)}\r\n\r\n`)
      assert.match(long, /^HTTP\/1\.1 431 [^]*"code":"InvalidInput"\}$/)
      assert.notInclude(long, "SECRET")
      yield* close
    })
  )
})
