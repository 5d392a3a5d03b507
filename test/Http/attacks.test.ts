/** Clients that are slow, greedy, rude or broken, on real sockets: the service stays well and serves everybody else. */
import * as Net from "node:net"
import { HttpServer } from "@effect/platform"
import { assert, describe, it } from "@effect/vitest"
import { Context, type Duration, Effect, Fiber, Layer, Redacted, Ref, Schedule } from "effect"
import * as Http from "../../src/Http.js"
import * as ApiKeys from "../../src/ApiKeys.js"
import * as Lifecycle from "../../src/Http/Lifecycle.js"
import * as Server from "../../src/Http/Server.js"
import { Fake, keys, layerFake, layerServices, logger, userUlid } from "../support/HttpFakes.js"

/** Short, so that the tests of it are; long enough for a busy machine to get an honest request through. */
const impatient = { headersTimeout: 1500, requestTimeout: 2000, connectionsCheckingInterval: 100 }

/** The real server. */
const start = (limits?: Partial<Server.Limits>) =>
  Effect.gen(function* () {
    const context = yield* Server.layer({ host: "127.0.0.1", port: 0, limits }, Http.layer).pipe(
      Layer.provide(layerServices),
      Layer.provide(
        ApiKeys.layer([{ name: "all", secret: Redacted.make(keys.all), scopes: new Set(["manage", "proxy"]) }])
      ),
      Layer.provide(Lifecycle.layer),
      Layer.provide(logger),
      Layer.provideMerge(layerFake),
      Layer.build
    )
    const { address } = Context.get(context, HttpServer.HttpServer)
    return { port: address._tag === "TcpAddress" ? address.port : 0, fake: Context.get(context, Fake) }
  })

type Started = Effect.Effect.Success<ReturnType<typeof start>>

interface Conversation {
  readonly socket: Net.Socket
  /** Everything that came until the other side closed. */
  readonly whole: Promise<string>
}

const connect = (port: number, options: Partial<Net.TcpNetConnectOpts> = {}): Conversation => {
  const socket = Net.connect({ port, host: "127.0.0.1", ...options })
  let text = ""
  socket.setEncoding("latin1").on("data", (chunk: string) => (text += chunk))
  socket.on("error", () => {})
  return { socket, whole: new Promise((resolve) => socket.on("close", () => resolve(text))) }
}

const send = (port: number, ...parts: ReadonlyArray<string>) =>
  Effect.promise(() => {
    const { socket, whole } = connect(port)
    for (const part of parts) socket.write(part)
    return whole
  })

const body = JSON.stringify({ userUlid })

const head = (more: string, path = "/api/cal/ensure-token", key: string = keys.all) =>
  `POST ${path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${key}\r\nContent-Type: application/json\r\n${more}`

const good = head(`Content-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`)

/** The service answers, quickly, and nothing was logged that is worse than information. */
const isWell = ({ fake, port }: Started) =>
  Effect.gen(function* () {
    assert.match(yield* send(port, good), /^HTTP\/1\.1 200 /)
    assert.match(
      yield* send(port, "GET /health/ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
      /^HTTP\/1\.1 200 /
    )
    assert.deepStrictEqual(
      fake.logs.filter(({ level }) => level !== "INFO"),
      []
    )
  })

const attack = (name: string, body: (server: Started) => Effect.Effect<void>, limits?: Partial<Server.Limits>) =>
  it.scopedLive(name, () =>
    Effect.gen(function* () {
      const server = yield* start(limits)
      yield* body(server)
      yield* isWell(server)
    })
  )

/** A byte now and then, on each connection that takes one. */
const dripping = (conversations: ReadonlyArray<Conversation>, byte: string, pause: Duration.DurationInput = 50) =>
  Effect.sync(() => conversations.forEach(({ socket }) => socket.writable && socket.write(byte))).pipe(
    Effect.repeat(Schedule.spaced(pause)),
    Effect.fork
  )

// These wait for timeouts, so they do it together.
describe("slowness", { concurrent: true }, () => {
  attack(
    "in the headers: a hundred connections hinder nobody and are ended",
    (server) =>
      Effect.gen(function* () {
        const loris = Array.from({ length: 100 }, () => connect(server.port))
        for (const { socket } of loris) socket.write("POST /api/cal/ensure-token HTTP/1.1\r\nHost: x\r\nX-A: ")
        const drip = yield* dripping(loris, "b")
        yield* isWell(server)
        const answers = yield* Effect.promise(() => Promise.all(loris.map(({ whole }) => whole)))
        yield* Fiber.interrupt(drip)
        for (const answer of answers) assert.match(answer, /^(HTTP\/1\.1 408 [^]*"code":"InvalidInput"\})?$/)
      }),
    impatient
  )

  attack(
    "in the body: is ended too",
    (server) =>
      Effect.gen(function* () {
        const slow = connect(server.port)
        slow.socket.write(head("Content-Length: 1000\r\n\r\n{"))
        const drip = yield* dripping([slow], " ")
        yield* isWell(server)
        assert.match(yield* Effect.promise(() => slow.whole), /^(HTTP\/1\.1 4\d\d [^]*)?$/)
        yield* Fiber.interrupt(drip)
      }),
    impatient
  )
})

describe("a client that does not hang up", { concurrent: true }, () => {
  for (const [name, text] of [
    ["too slow", "POST /api/cal/ensure-token HTTP/1.1\r\nHost: x\r\nX-A: "],
    ["not HTTP", "good day\r\n\r\n"]
  ] as const) {
    attack(
      `after it was ${name}: is cut off`,
      (server) =>
        Effect.gen(function* () {
          const deaf = connect(server.port, { allowHalfOpen: true })
          deaf.socket.write(text)
          // What is written to a connection that is no more ends it here too.
          const drip = yield* dripping([deaf], "b")
          assert.match(yield* Effect.promise(() => deaf.whole), /^HTTP\/1\.1 4\d\d [^]*"code":"InvalidInput"\}$/)
          yield* Fiber.interrupt(drip)
        }),
      impatient
    )
  }

  attack(
    "and does not read its answer: is cut off",
    (server) =>
      Effect.gen(function* () {
        const deaf = connect(server.port)
        // More than the sockets' buffers take, and the beginning of a request that never ends.
        deaf.socket.pause().write(`${"GET /docs HTTP/1.1\r\nHost: x\r\n\r\n".repeat(20)}GET /`)
        // Seldom enough to be silent in between.
        const drip = yield* dripping([deaf], "b", "2 seconds")
        yield* Effect.promise(() => deaf.whole)
        yield* Fiber.interrupt(drip)
      }),
    { timeout: 500, headersTimeout: 100_000, requestTimeout: 100_000 }
  )
})

describe("size", () => {
  attack("of a body: 10 MB of JSON are refused", (server) =>
    Effect.gen(function* () {
      const large = `{"userUlid":"${"x".repeat(10_000_000)}"}`
      const announced = yield* send(server.port, head(`Content-Length: ${large.length}\r\n\r\n`), large)
      assert.match(announced, /^HTTP\/1\.1 413 [^]*"code":"InvalidInput"/)
      const stranger = yield* send(
        server.port,
        head(`Content-Length: ${large.length}\r\nConnection: close\r\n\r\n`, undefined, "nobody"),
        large
      )
      assert.match(stranger, /^(HTTP\/1\.1 401 [^]*)?$/)
    })
  )

  attack("of an idea: JSON nested a hundred thousand deep", (server) =>
    Effect.gen(function* () {
      const deep = "[".repeat(100_000) + "]".repeat(100_000)
      const objects = '{"a":'.repeat(100_000) + "1" + "}".repeat(100_000)
      const post = (text: string, path?: string) =>
        send(server.port, head(`Content-Length: ${text.length}\r\nConnection: close\r\n\r\n${text}`, path))
      assert.match(yield* post(deep), /^HTTP\/1\.1 400 [^]*"error":"body must be a JSON object\."/)
      assert.match(yield* post(objects), /^HTTP\/1\.1 400 [^]*"error":"userUlid is required\."/)
      assert.match(yield* post(`{"userUlid":${deep}}`), /^HTTP\/1\.1 400 [^]*"error":"userUlid must be/)
      assert.match(yield* post(`{"userUlid":"${userUlid}","x":${deep}}`), /^HTTP\/1\.1 200 /)
      const person = `{"userUlid":"${userUlid}","email":"a@b.example","name":"A","metadata":${objects}}`
      assert.match(yield* post(person, "/api/cal/managed-users"), /^HTTP\/1\.1 400 [^]*"error":"metadata must be/)
    })
  )

  attack("of texts, and NULs in them: no field takes either", (server) =>
    Effect.gen(function* () {
      const flow = { userUlid, code: "c", state: "s", completion: "c", returnTo: "https://a.example/" }
      const bodies: Record<string, Record<string, unknown>> = {
        "POST /refresh-token": { userUlid },
        "POST /refresh-managed-user-token": { userUlid },
        "POST /ensure-token": { userUlid },
        [`PUT /connections/${userUlid}`]: {
          kind: "oauth2",
          accessToken: "a",
          refreshToken: "r",
          accessTokenExpiresAt: "2030-01-01T00:00:00Z",
          refreshTokenExpiresAt: "2030-01-01T00:00:00Z",
          scope: "PROFILE_READ"
        },
        "POST /managed-users": {
          userUlid,
          email: "a@b.example",
          name: "A",
          timeZone: "Europe/Paris",
          locale: "en",
          avatarUrl: "https://a.example/a.png",
          bio: "words",
          metadata: { key: "text" }
        },
        "POST /oauth/authorize-url": flow,
        "POST /oauth/exchange": flow,
        "POST /oauth/confirm": flow,
        "POST /sessions": { userUlid, methods: ["GET"], paths: ["/bookings"] }
      }
      const known: Record<string, ReadonlyArray<string>> = {
        "POST /oauth/authorize-url": ["userUlid", "returnTo"],
        "POST /oauth/exchange": ["userUlid", "code", "state"],
        "POST /oauth/confirm": ["userUlid", "completion"]
      }
      const long = "x".repeat(900_000)
      for (const [endpoint, fields] of Object.entries(bodies)) {
        const [method = "", path = ""] = endpoint.split(" ")
        for (const [field, value] of Object.entries(fields)) {
          if (!(known[endpoint] ?? Object.keys(fields)).includes(field)) continue
          for (const odd of [
            `${JSON.stringify(value)
              .replace(/"[^"]*$/, "")
              .replace(/^\W*/, "")}\0`,
            long
          ]) {
            const wrongs = Array.isArray(value) ? [[odd]] : field === "metadata" ? [{ a: odd }, { [odd]: "a" }] : [odd]
            for (const wrong of wrongs) {
              const text = JSON.stringify({ ...fields, [field]: wrong })
              const answer = yield* send(
                server.port,
                head(
                  `Content-Length: ${Buffer.byteLength(text)}\r\nConnection: close\r\n\r\n${text}`,
                  `/api/cal${path}`
                ).replace("POST", method)
              )
              assert.match(answer, /^HTTP\/1\.1 400 [^]*"code":"InvalidInput"\}$/, `${endpoint} ${field}`)
              assert.include(answer, `"error":"${field}`)
              assert.isBelow(answer.length, 1000)
            }
          }
        }
      }
      assert.deepStrictEqual(yield* Ref.get(server.fake.calls), [])
      for (const query of ["cursor", "status", "limit"]) {
        const ask = head("Connection: close\r\n\r\n", `/api/cal/connections?${query}=%00`).replace("POST", "GET")
        assert.match(yield* send(server.port, ask), /^HTTP\/1\.1 400 /)
      }
    })
  )

  attack("of headers, in number and in length, and of URLs", (server) =>
    Effect.gen(function* () {
      const many = Array.from({ length: 100_000 }, (_, n) => `X-${n}: SECRET\r\n`).join("")
      for (const text of [
        head(`${many}\r\n`),
        head(`X: ${"SECRET".repeat(10_000)}\r\n\r\n`),
        head("\r\n", `/api/cal/${"SECRET".repeat(10_000)}`)
      ]) {
        const answer = yield* send(server.port, text)
        assert.match(answer, /^(HTTP\/1\.1 431 [^]*"code":"InvalidInput"\})?$/)
        assert.notInclude(answer, "SECRET")
      }
    })
  )
})

describe("rudeness", () => {
  attack("of pipelining: three hundred requests in one breath are answered in their order", (server) =>
    Effect.gen(function* () {
      const paths = Array.from({ length: 300 }, (_, n) => (n % 3 === 0 ? "/health/live" : `/nowhere/${n}`))
      const requests = paths.map((path) => `GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`).join("")
      const answer = yield* send(
        server.port,
        requests,
        "GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
      )
      const statuses = Array.from(answer.matchAll(/HTTP\/1\.1 (\d+)/g), ([, status]) => status)
      assert.deepStrictEqual(statuses, [...paths.map((path) => (path === "/health/live" ? "200" : "404")), "200"])
    })
  )

  attack("of leaving: a hundred uploads that are broken off", (server) =>
    Effect.gen(function* () {
      const gone = Array.from({ length: 100 }, (_, n) => {
        const conversation = connect(server.port)
        conversation.socket.write(head(`Content-Length: 100000\r\n\r\n${"x".repeat(n * 100)}`), () =>
          n % 2 === 0 ? conversation.socket.destroy() : conversation.socket.resetAndDestroy()
        )
        return conversation.whole
      })
      yield* Effect.promise(() => Promise.all(gone))
    })
  )

  attack("of ambiguity: a request that two servers could read differently is no request", (server) =>
    Effect.gen(function* () {
      const chunked = "Transfer-Encoding: chunked\r\n"
      for (const more of [
        `Content-Length: 5\r\n${chunked}\r\n0\r\n\r\nGET /health/live HTTP/1.1\r\nHost: x\r\n\r\n`,
        "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        "Content-Length: +5\r\n\r\nhello",
        "Content-Length: 5, 5\r\n\r\nhello",
        `Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n`,
        "X-A: a\nX-B: b\r\n\r\n",
        "X-A : a\r\n\r\n",
        "X-A: a\r\n folded\r\n\r\n",
        "X-A: \u0000\r\n\r\n",
        `Host: y\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`,
        `Authorization: Bearer nobody\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`,
        `Content-Type: text/plain\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`,
        `${chunked}${chunked}\r\n0\r\n\r\n`,
        `Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n`,
        "Content-Length: 0x5\r\n\r\nhello",
        "Content-Length: -1\r\n\r\n",
        `${chunked}\r\nfffffffffffffffff\r\n`,
        `${chunked}\r\n5;\nhello\r\n0\r\n\r\n`,
        `${chunked}\r\n 5\r\nhello\r\n0\r\n\r\n`
      ]) {
        const answer = yield* send(server.port, head(more))
        assert.match(answer, /^HTTP\/1\.1 400 [^]*"code":"InvalidInput"\}$/, JSON.stringify(more))
        assert.strictEqual(answer.match(/HTTP\/1\.1 \d/g)?.length, 1, JSON.stringify(more))
      }
      assert.match(yield* send(server.port, "GET /health/live HTTP/1.1\r\n\r\n"), /^HTTP\/1\.1 400 /)
    })
  )

  attack("of GET and HEAD with a body, which the next server may take for another request", (server) =>
    Effect.gen(function* () {
      const next = "GET /health/ready HTTP/1.1\r\nHost: x\r\n\r\n"
      for (const method of ["GET", "HEAD"]) {
        for (const path of ["proxy/01HZY9TESTSAAAAAAAAAAAAAAA/me", "me/bookings", "connections", "nowhere"]) {
          for (const more of [
            `Content-Length: ${next.length}\r\n\r\n${next}`,
            `Transfer-Encoding: chunked\r\n\r\n${next.length.toString(16)}\r\n${next}\r\n0\r\n\r\n`
          ]) {
            const answer = yield* send(server.port, head(more, `/api/cal/${path}`).replace("POST", method))
            assert.match(answer, /^HTTP\/1\.1 400 [^]*\r\nconnection: close\r\n/i)
            assert.strictEqual(answer.match(/HTTP\/1\.1 \d/g)?.length, 1)
            if (method === "GET") assert.include(answer, `"error":"request must have no body with GET."`)
          }
        }
      }
      assert.deepStrictEqual(yield* Ref.get(server.fake.calls), [])
      const empty = head("Content-Length: 0\r\nConnection: close\r\n\r\n", "/api/cal/connections")
      assert.match(yield* send(server.port, empty.replace("POST", "GET")), /^HTTP\/1\.1 200 /)
    })
  )

  attack("of compression: a body that claims to be packed is taken as it is", (server) =>
    Effect.gen(function* () {
      const answer = yield* send(
        server.port,
        head(
          `Content-Encoding: gzip\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n${"\u001f".repeat(body.length)}`
        )
      )
      assert.match(answer, /^HTTP\/1\.1 400 [^]*"error":"body must be JSON\."/)
    })
  )
})
