/**
 * A token call over undici itself says of every server what the platform's client says: what was answered, how much of it, and
 * whether the request may have arrived. What is wrong here would send a token a second time, or lose one.
 */
import * as Http from "node:http"
import * as Net from "node:net"
import { HttpClientRequest } from "@effect/platform"
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import * as Undici from "@effect/platform-node/Undici"
import { assert, describe, it } from "@effect/vitest"
import { Cause, Deferred, Duration, Effect, Either, Exit, Fiber, Option, Predicate, Redacted, Stream } from "effect"
import * as Exchange from "../../src/CalHttp/Exchange.js"
import * as Opening from "../../src/CalHttp/Opening.js"
import * as Transport from "../../src/CalHttp/Transport.js"
import { portOf } from "../fleet/Port.js"

const body = `{"a":1}`
const ok = `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 7\r\n\r\n${body}`
const longer = "HTTP/1.1 200 OK\r\ncontent-length: 70\r\n\r\n"
const chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"

type End = "stays" | "ends" | "resets"

/** What a server writes, piece by piece, and what it does with the connection then. */
const servers: Readonly<Record<string, readonly [End, ...ReadonlyArray<string>]>> = {
  "an answer": ["stays", ok],
  "an answer after a 100": ["stays", "HTTP/1.1 100 Continue\r\n\r\n", ok],
  "an answer after a 103": ["stays", "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n", ok],
  "a 103 and no more": ["ends", "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"],
  "another protocol": ["stays", "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"],
  "nothing, and ends": ["ends"],
  "nothing, and resets": ["resets"],
  "half a head": ["ends", "HTTP/1.1 200 OK\r\ncontent-"],
  "half a head, and resets": ["resets", "HTTP/1.1 200 OK\r\ncontent-"],
  "less than it said": ["ends", longer + body],
  "less than it said, and resets": ["resets", longer, body],
  "a head alone, and resets": ["resets", longer],
  "more than it said": ["ends", `HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n${body}`],
  "no length": ["ends", "HTTP/1.1 200 OK\r\n\r\n", body],
  chunks: ["stays", chunked, `3\r\n{"a\r\n`, `4\r\n":1}\r\n0\r\n\r\n`],
  "chunks that end too soon": ["ends", chunked, `7\r\n${body}\r\n`],
  "chunks that are none": ["stays", chunked, `7\r\n${body}\r\n`, "zz\r\n"],
  "a length and chunks": [
    "stays",
    `HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n7\r\n${body}\r\n0\r\n\r\n`
  ],
  "two lengths": ["stays", `HTTP/1.1 200 OK\r\ncontent-length: 7\r\ncontent-length: 6\r\n\r\n${body}`],
  "a length below zero": ["stays", "HTTP/1.1 200 OK\r\ncontent-length: -3\r\n\r\n"],
  "a head of 40 KB": ["stays", `HTTP/1.1 200 OK\r\nx: ${"a".repeat(40_000)}\r\n\r\n`],
  garbage: ["stays", "garbage\r\n\r\n"],
  "no head": ["ends", body],
  "HTTP/1.0": ["ends", `HTTP/1.0 200 OK\r\n\r\n${body}`],
  "a 204": ["stays", "HTTP/1.1 204 No Content\r\n\r\n"],
  "a redirect": ["stays", "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"],
  "headers twice": [
    "stays",
    `HTTP/1.1 200 OK\r\ndate: a\r\ndate: b\r\nset-cookie: a=1\r\nset-cookie: b=2\r\ncontent-length: 7\r\n\r\n${body}`
  ],
  "an error that ends": ["ends", `HTTP/1.1 500 X\r\nconnection: close\r\ncontent-length: 7\r\n\r\n${body}`],
  "2 MB": ["stays", `HTTP/1.1 200 OK\r\ncontent-length: 3000000\r\n\r\n${"a".repeat(2_000_000)}`]
}

/** Answers the request, or says all before it is there. */
const serve = ([end, ...pieces]: readonly [End, ...ReadonlyArray<string>], isEarly: boolean) =>
  Effect.gen(function* () {
    const server = Net.createServer((socket) => {
      socket.on("error", () => undefined)
      const say = () => {
        for (const piece of pieces) socket.write(piece)
        if (end === "ends") socket.end()
        if (end === "resets") setImmediate(() => socket.resetAndDestroy())
      }
      let asked = ""
      if (isEarly) say()
      socket.on("data", (some: Buffer) => {
        asked += some.toString("latin1")
        if (!isEarly && asked.endsWith("}")) say()
      })
    })
    yield* Effect.addFinalizer(() => Effect.sync(() => void server.close()))
    return yield* portOf(server)
  })

const agentWith = (pipelining: number) =>
  Effect.acquireRelease(
    Effect.sync(() => new Undici.Agent({ pipelining })),
    (agent) => Effect.promise(() => agent.destroy())
  )

const shown = (exit: Exit.Exit<Transport.Reply, unknown>): unknown =>
  Exit.match(exit, {
    onSuccess: ({ body, headers, isWhole, status }) => ({
      status,
      headers: Object.entries(headers).sort(),
      isWhole,
      length: Redacted.value(body).length,
      begins: Buffer.from(Redacted.value(body).subarray(0, 20)).toString()
    }),
    onFailure: (cause) => Option.getOrElse(Option.map(Cause.failureOption(cause), told), () => Cause.pretty(cause))
  })

const told = (error: unknown) => (error instanceof Transport.NoReply ? [error.phase, error.reason] : String(error))

const isEnough = (_: Transport.Head, bytes: Uint8Array) => bytes.length >= 7

describe.each([
  ["answers", false],
  ["says before it was asked", true]
] as const)("of a server that %s", (_, isEarly) => {
  it.scopedLive.each(Object.keys(servers))("%s", (name) =>
    Effect.gen(function* () {
      const port = yield* serve(servers[name] ?? ["stays"], isEarly)
      const agent = yield* agentWith(0)
      const request = HttpClientRequest.post(`http://127.0.0.1:${port}/x?y=1#z`).pipe(
        HttpClientRequest.bodyUnsafeJson({ refreshToken: "r".repeat(300) })
      )
      const platform = NodeHttpClient.makeUndici(agent)
      const ours = Object.assign(NodeHttpClient.makeUndici(agent), { [Transport.exchange]: Exchange.make(agent) })
      const send = (client: typeof platform) =>
        Effect.exit(Effect.timeout(Transport.send(client, request, isEnough), Duration.seconds(4)))
      assert.deepStrictEqual(shown(yield* send(ours)), shown(yield* send(platform)))
    })
  )

  it.scopedLive.each(Object.keys(servers))("%s, handed on while it arrives", (name) =>
    Effect.gen(function* () {
      const port = yield* serve(servers[name] ?? ["stays"], isEarly)
      const agent = yield* agentWith(1)
      const request = HttpClientRequest.post(`http://127.0.0.1:${port}/x?y=1#z`).pipe(
        HttpClientRequest.bodyUnsafeJson({ bookingUid: "b".repeat(300) })
      )
      const platform = NodeHttpClient.makeUndici(agent)
      const ours = Object.assign(NodeHttpClient.makeUndici(agent), { [Transport.opening]: Opening.make(agent) })
      const ask = (client: typeof platform, read: (opened: Transport.Opened) => Effect.Effect<unknown, unknown>) =>
        Effect.exit(
          Effect.flatMap(Transport.open(client, request), (opened) =>
            Effect.map(Effect.either(read(opened)), (body) => ({
              status: opened.status,
              headers: Object.entries(opened.headers).sort(),
              body: Either.mapLeft(body, (error) => (Predicate.isRecord(error) ? error["reason"] : error))
            }))
          ).pipe(Effect.timeout(Duration.seconds(1)), Effect.mapError(told))
        )
      const ways = {
        read: ({ read }: Transport.Opened) =>
          Effect.map(read(), ({ bytes, end }) => [end, bytes.length, Buffer.from(bytes).toString("latin1", 0, 20)]),
        whole: ({ bytes }: Transport.Opened) => Effect.map(bytes, (bytes) => Buffer.from(bytes).toString("latin1")),
        stream: ({ stream }: Transport.Opened) =>
          Effect.map(Stream.runCollect(Stream.catchAll(stream, afterBody)), (chunks) =>
            Buffer.concat([...chunks]).toString("latin1")
          )
      }
      for (const read of Object.values(ways)) {
        assert.deepStrictEqual(yield* ask(ours, read), yield* ask(platform, read))
      }
    })
  )
})

/** A body that is not there is a failure to the platform. */
const afterBody = (broken: Transport.Broken): Stream.Stream<Uint8Array, Transport.Broken> =>
  broken.reason === "EmptyBody" ? Stream.empty : Stream.fail(broken)

describe("an answer that is handed on", () => {
  const size = 64 * 1024 * 1024

  const world = Effect.gen(function* () {
    let written = 0
    const closed = yield* Deferred.make<void>()
    const server = Http.createServer((_, response) => {
      response.writeHead(200, { "content-length": size })
      response.once("close", () => Deferred.unsafeDone(closed, Effect.void))
      const piece = Buffer.alloc(64 * 1024, "a")
      const write = () => {
        while (written < size) {
          written += piece.length
          if (!response.write(piece)) return void response.once("drain", write)
        }
        response.end()
      }
      write()
    })
    yield* Effect.addFinalizer(() => Effect.sync(() => (server.closeAllConnections(), server.close())))
    const port = yield* portOf(server)
    const agent = yield* agentWith(1)
    const client = Object.assign(NodeHttpClient.makeUndici(agent), { [Transport.opening]: Opening.make(agent) })
    const open = Transport.open(client, HttpClientRequest.get(`http://127.0.0.1:${port}/`))
    return { open, closed: Deferred.await(closed), written: () => written }
  })

  it.scopedLive("is in memory only as far as its reader goes", () =>
    Effect.gen(function* () {
      const { open, written } = yield* world
      const { stream } = yield* open
      // Until the connection is full, and nothing moves any more.
      const isStill = Effect.gen(function* () {
        const before = written()
        yield* Effect.sleep("100 millis")
        return written() === before
      })
      let taken = 0
      yield* Stream.runForEach(stream, (bytes) => {
        const isFirst = taken === 0
        taken += bytes.length
        return isFirst
          ? Effect.map(Effect.repeat(isStill, { until: (is) => is }), () => assert.isBelow(written(), size / 2))
          : Effect.void
      })
      assert.strictEqual(taken, size)
    })
  )

  it.scopedLive("ends with its reader", () =>
    Effect.gen(function* () {
      const { closed, open, written } = yield* world
      const { stream } = yield* open
      yield* Stream.runDrain(Stream.take(stream, 1))
      yield* closed
      assert.isBelow(written(), size)
    })
  )

  it.scopedLive("ends with a caller who is gone", () =>
    Effect.gen(function* () {
      const { closed, open } = yield* world
      const { bytes } = yield* open
      yield* Effect.timeoutOption(bytes, "1 millis")
      yield* closed
    })
  )

  it.scopedLive.each([
    { reads: ["text", "text", "read"], found: ["all", "all", "all"] },
    { reads: ["text", "stream", "text", "read"], found: ["all", "all", "all", "all"] },
    { reads: ["read", "stream", "stream"], found: ["all", "all", "Decode"] },
    { reads: ["stream", "text", "read", "stream"], found: ["all", "Decode", "cut", "Decode"] },
    { reads: ["some", "text", "stream"], found: ["some", "Decode", "Decode"] }
  ] as const)("tells nobody that what is left of it is all: $reads", ({ found, reads }) =>
    Effect.gen(function* () {
      for (const pieces of [[body], [body.slice(0, 3), body.slice(3)]]) {
        const { open } = yield* saying(pieces)
        const opened = yield* open
        const seen = yield* Effect.forEach(reads, (way) => ways[way](opened))
        assert.deepStrictEqual(seen, [...found])
      }
    })
  )

  it.scopedLive("is not for two who take it piece by piece at once, nor for one beside them", () =>
    Effect.gen(function* () {
      const { open } = yield* saying([body.slice(0, 3), body.slice(3)])
      const opened = yield* open
      const two = yield* Effect.all([ways.stream(opened), ways.stream(opened)], { concurrency: 2 })
      assert.deepStrictEqual(two.sort(), ["Decode", "all"])
      const another = yield* open
      const beside = new Set<string>()
      yield* Stream.runForEach(another.stream, () => Effect.map(ways.text(another), (text) => void beside.add(text)))
      assert.deepStrictEqual([...beside], ["Decode"])
    })
  )

  it.scopedLive("goes on for one reader when another one leaves", () =>
    Effect.gen(function* () {
      const { more, open } = yield* saying([body.slice(0, 3)])
      const opened = yield* open
      const leaving = yield* Effect.fork(opened.bytes)
      const staying = yield* Effect.fork(ways.text(opened))
      yield* Effect.yieldNow()
      yield* Fiber.interrupt(leaving)
      more(body.slice(3))
      assert.strictEqual(yield* Fiber.join(staying), "all")
    })
  )

  const told = (bytes: ReadonlyArray<Uint8Array>) => (Buffer.concat([...bytes]).toString() === body ? "all" : "some")
  const reasonOf = Effect.catchAll(({ reason }: Transport.Broken) => Effect.succeed(reason))
  const ways = {
    text: ({ bytes }: Transport.Opened) => reasonOf(Effect.map(bytes, (bytes) => told([bytes]))),
    read: ({ read }: Transport.Opened) =>
      Effect.map(read(), ({ bytes, end }) => (end === "whole" ? told([bytes]) : end)),
    stream: ({ stream }: Transport.Opened) =>
      reasonOf(Effect.map(Stream.runCollect(stream), (chunks) => told([...chunks]))),
    some: ({ stream }: Transport.Opened) => reasonOf(Effect.as(Stream.runDrain(Stream.take(stream, 1)), "some"))
  }

  /** A body of a length that is known, and its pieces, each of which has arrived before the next one leaves. */
  const saying = (pieces: ReadonlyArray<string>) =>
    Effect.gen(function* () {
      let more: (piece: string) => void = () => {}
      const server = Http.createServer((_, response) => {
        more = (piece) => void response.write(piece)
        response.writeHead(200, { "content-length": body.length })
        const [first = "", ...others] = pieces
        response.write(first, () => setImmediate(() => others.forEach((piece) => response.write(piece))))
      })
      yield* Effect.addFinalizer(() => Effect.sync(() => (server.closeAllConnections(), server.close())))
      const port = yield* portOf(server)
      const agent = yield* agentWith(1)
      const client = Object.assign(NodeHttpClient.makeUndici(agent), { [Transport.opening]: Opening.make(agent) })
      const open = Transport.open(client, HttpClientRequest.get(`http://127.0.0.1:${port}/`))
      return { open, more: (piece: string) => more(piece) }
    })

  it.scopedLive("can be read twice", () =>
    Effect.gen(function* () {
      const { open } = yield* world
      const { bytes, read } = yield* open
      assert.strictEqual((yield* bytes).length, size)
      assert.strictEqual((yield* bytes).length, size)
      assert.strictEqual((yield* read()).end, "tooLong")
    })
  )
})
