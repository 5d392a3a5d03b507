/**
 * A token call over undici itself says of every server what the platform's client says: what was answered, how much of it, and
 * whether the request may have arrived. What is wrong here would send a token a second time, or lose one.
 */
import * as Net from "node:net"
import { HttpClientRequest } from "@effect/platform"
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import * as Undici from "@effect/platform-node/Undici"
import { assert, describe, it } from "@effect/vitest"
import { Cause, Duration, Effect, Exit, Option, Redacted } from "effect"
import * as Exchange from "../../src/CalHttp/Exchange.js"
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
      const agent = yield* Effect.acquireRelease(
        Effect.sync(() => new Undici.Agent({ pipelining: 0 })),
        (agent) => Effect.promise(() => agent.destroy())
      )
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
})
