/** The audit trail, by what comes out of the log when somebody uses the service through its door. */
import * as Net from "node:net"
import { HttpServer } from "@effect/platform"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, HashMap, Layer, Logger, LogLevel, Option, Redacted, Ref, TestClock, TestServices } from "effect"
import * as Audit from "../../src/Http/Audit.js"
import * as Sandbox from "../../src/Sandbox.js"
import { TokensNotFound } from "../../src/TokenError.js"
import type { UserUlid } from "../../src/Token.js"
import * as Flow from "../support/FlowWorld.js"
import * as Fakes from "../support/HttpFakes.js"
import * as HttpWorld from "../support/HttpWorld.js"
import { StorageTap } from "../support/StorageTap.js"
import * as World from "../support/World.js"

const { Fake, userUlid } = Fakes

/** The lines of the trail, without what all of them have. */
const lines = Effect.map(Fake, ({ audit }) =>
  audit.splice(0).map(({ annotations: { logger, "request.id": id, ...annotations }, level }) => {
    assert.deepStrictEqual([logger, level], ["cal_tokens.audit", "INFO"])
    assert.strictEqual(typeof id, annotations["event.name"] === "key.suppressed" ? "undefined" : "string")
    return annotations
  })
)

const post = (path: string, more: object) => ({
  path,
  body: JSON.stringify({ userUlid, ...more }),
  key: Fakes.keys.all
})
const pair = { accessToken: "access-secret", refreshToken: "refresh-secret", accessTokenExpiresAt: Fakes.expiresAt }
const connection = `/api/cal/connections/${userUlid}`

const audited: ReadonlyArray<readonly [string, Fakes.Call]> = [
  ["token.read", { method: "GET", path: `/api/cal/access-token/${userUlid}`, key: Fakes.keys.all }],
  ["connection.created", { ...post(connection, { kind: "managed", calUserId: 42, ...pair }), method: "PUT" as const }],
  [
    "connection.created",
    {
      ...post("/api/cal/connections", { connections: [{ userUlid, kind: "managed", calUserId: 42, ...pair }] }),
      method: "PUT" as const
    }
  ],
  ["connection.created", post("/api/cal/oauth/exchange", { code: "code-secret", state: "state-secret" })],
  ["connection.created", post("/api/cal/oauth/confirm", { completion: "completion-secret" })],
  ["connection.created", post("/api/cal/managed-users", { email: "a@b.example", name: "A", timeZone: "Europe/Rome" })],
  ["connection.deleted", { method: "DELETE", path: connection, key: Fakes.keys.all }],
  ["session.created", post("/api/cal/sessions", {})],
  ["sessions.ended", { method: "DELETE", path: `/api/cal/sessions/${userUlid}`, key: Fakes.keys.all }]
]

const others: ReadonlyArray<Fakes.Call> = [
  { method: "GET", path: `/api/cal/proxy/${userUlid}/me`, key: Fakes.keys.all },
  { path: `/api/cal/proxy/${userUlid}/bookings`, body: "{}", key: Fakes.keys.all },
  { method: "GET", path: connection, key: Fakes.keys.all },
  { method: "GET", path: "/api/cal/connections", key: Fakes.keys.all },
  post("/api/cal/ensure-token", {}),
  post("/api/cal/refresh-token", { forceRefresh: true }),
  post("/api/cal/refresh-managed-user-token", { reissue: true }),
  post("/api/cal/oauth/authorize-url", {}),
  { method: "GET", path: "/metrics", key: Fakes.keys.all },
  { method: "GET", path: "/health/ready" },
  { method: "GET", path: "/openapi.json" }
]

describe("a line is written", () => {
  it.effect("for whatever gives a token or changes a connection, once, and for nothing else", () =>
    Effect.gen(function* () {
      for (const [event, request] of audited) {
        assert.strictEqual((yield* Fakes.call(request)).status, 200, request.path)
        assert.deepStrictEqual(
          yield* lines,
          [{ "event.name": event, "api_key.name": "all", "user.id": userUlid, "client.address": "127.0.0.1" }],
          request.path
        )
      }
      for (const request of others) {
        assert.strictEqual((yield* Fakes.call(request)).status, 200, request.path)
        assert.deepStrictEqual(yield* lines, [], request.path)
      }
    }).pipe(Effect.provide(Fakes.layer))
  )

  it.effect("for nothing that failed", () =>
    Effect.gen(function* () {
      const { failure } = yield* Fake
      yield* Ref.set(failure, Option.some(Effect.fail(new TokensNotFound({ userUlid }))))
      for (const [, request] of audited) {
        assert.strictEqual((yield* Fakes.call(request)).status, 404, request.path)
        assert.deepStrictEqual(yield* lines, [], request.path)
      }
    }).pipe(Effect.provide(Fakes.layer))
  )

  it.effect("for a key that is refused, with the name of whoever holds it and never the key", () =>
    Effect.gen(function* () {
      const wrong = "x".repeat(40)
      const common = { "client.address": "127.0.0.1", "http.request.method": "GET" }
      const asked: ReadonlyArray<readonly [path: string, route: string]> = [
        [`/api/cal/access-token/${userUlid}`, "/api/cal/access-token/:userUlid"],
        [`/api/cal/proxy/${userUlid}/me`, "/api/cal/proxy/*"]
      ]
      for (const [path, route] of asked) {
        assert.strictEqual((yield* Fakes.call({ method: "GET", path, key: wrong })).status, 401)
        assert.strictEqual((yield* Fakes.call({ method: "GET", path, key: Fakes.keys.metrics })).status, 403)
        const [unknown, forbidden, ...more] = yield* lines
        assert.deepStrictEqual(unknown, { ...common, "event.name": "key.unknown", "http.route": route })
        assert.deepStrictEqual(forbidden, {
          ...common,
          "event.name": "key.forbidden",
          "api_key.name": "metrics",
          "http.route": route
        })
        assert.deepStrictEqual(more, [])
        // Whoever presents no key is told so, and that is all.
        assert.strictEqual((yield* Fakes.call({ method: "GET", path })).status, 401)
        assert.deepStrictEqual(yield* lines, [])
      }
    }).pipe(Effect.provide(Fakes.layer))
  )

  it.effect("for a key that is tried where nobody needs one, but the answer tells a known one from others", () =>
    Effect.gen(function* () {
      const ready = (key?: string) =>
        Effect.map(
          Fakes.call({ method: "GET", path: "/health/ready", ...(key === undefined ? {} : { key }) }),
          (answer) => {
            assert.strictEqual(answer.status, 200)
            return "missingKeys" in (JSON.parse(answer.body) as object)
          }
        )
      assert.isTrue(yield* ready(Fakes.keys.metrics))
      assert.isFalse(yield* ready())
      assert.deepStrictEqual(yield* lines, [])
      assert.isFalse(yield* ready("x".repeat(40)))
      assert.deepStrictEqual(yield* lines, [
        {
          "event.name": "key.unknown",
          "client.address": "127.0.0.1",
          "http.request.method": "GET",
          "http.route": "/health/ready"
        }
      ])
    }).pipe(Effect.provide(Fakes.layer))
  )

  it.effect("for ten refused keys of an address in a minute; the others are counted", () =>
    Effect.gen(function* () {
      const guess = (n: number) => Fakes.call({ method: "GET", path: connection, key: `guess-${n}`.padEnd(40, "x") })
      const events = Effect.map(lines, (lines) => lines.map((line) => [line["event.name"], line["suppressed"]]))
      const ten = Array.from({ length: Audit.maxRefusals }, () => ["key.unknown", undefined])
      yield* Effect.forEach(
        Array.from({ length: 75 }, (_, n) => n),
        guess
      )
      assert.deepStrictEqual(yield* events, ten)
      yield* TestClock.adjust("59 seconds")
      yield* guess(1)
      assert.deepStrictEqual(yield* events, [])
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* events, [["key.suppressed", 66]])
      // A window like any other, and one in which nothing is left out.
      yield* guess(2)
      assert.deepStrictEqual(yield* events, [["key.unknown", undefined]])
      yield* TestClock.adjust("2 minutes")
      assert.deepStrictEqual(yield* events, [])
      yield* Effect.forEach(
        Array.from({ length: 12 }, (_, n) => n),
        guess
      )
      assert.deepStrictEqual(yield* events, ten)
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(yield* events, [["key.suppressed", 2]])
    }).pipe(Effect.provide(Fakes.layer))
  )
})

/** A deployment, and what it logs: the trail as JSON lines, everything else by its number. */
const watched = (options: HttpWorld.Options = {}) => {
  const trail: Array<Readonly<Record<string, unknown>>> = []
  const seen = { others: 0, text: "", whole: "" }
  const logger = Logger.make<unknown, void>((line) => {
    const text = Logger.jsonLogger.log(line)
    seen.whole += text + Logger.logfmtLogger.log(line)
    if (!Option.contains(HashMap.get(line.annotations, "logger"), "cal_tokens.audit")) return void seen.others++
    seen.text += text
    const { annotations, timestamp } = JSON.parse(text) as {
      readonly annotations: Record<string, unknown>
      readonly timestamp: string
    }
    assert.match(timestamp, /^2026-01-15T\d\d:\d\d:\d\d\.\d{3}Z$/)
    trail.push({ event: annotations["event.name"], user: annotations["user.id"], from: annotations["client.address"] })
  })
  return { trail, seen, layer: HttpWorld.layer({ ...options, logger }) }
}

const user = World.user()
const { keys } = HttpWorld

const put = (grant: Sandbox.ManagedGrant, of = user) =>
  HttpWorld.call({
    method: "PUT",
    path: `/api/cal/connections/${of}`,
    key: keys.all,
    body: {
      kind: "managed",
      calUserId: grant.calUserId,
      accessToken: Redacted.value(grant.accessToken),
      refreshToken: Redacted.value(grant.refreshToken),
      accessTokenExpiresAt: grant.accessTokenExpiresAt
    }
  })

const create = (of = user) => ({
  method: "POST" as const,
  path: "/api/cal/managed-users",
  key: keys.all,
  body: { userUlid: of, email: "grace@example.com", name: "Grace", timeZone: "Europe/London" }
})

/** Lets sockets do their work, which know no test clock. */
const realTime = (millis: number) => TestServices.provideLive(Effect.sleep(millis))

describe("the trail", () => {
  it.effect("tells a first connection from one that replaces another, and a page's renewal by its user", () => {
    const { layer, seen, trail } = watched()
    return Effect.gen(function* () {
      const sandbox = yield* Sandbox.Sandbox
      const [one, two] = [
        yield* sandbox.grantManaged({ email: "one@example.com" }),
        yield* sandbox.grantManaged({ email: "two@example.com" })
      ]
      const events = () => trail.splice(0).map(({ event, user }) => [event, user])
      yield* put(one)
      yield* put(two)
      yield* put(one, World.user(2))
      assert.deepStrictEqual(events(), [
        ["connection.created", user],
        ["connection.replaced", user],
        ["connection.created", World.user(2)]
      ])
      // Refused, so nothing has changed.
      assert.strictEqual((yield* put(one)).status, 409)
      assert.deepStrictEqual(events(), [])

      assert.strictEqual((yield* HttpWorld.call(create(World.user(3)))).status, 200)
      assert.strictEqual((yield* HttpWorld.call(create(World.user(3)))).status, 200)
      assert.deepStrictEqual(events(), [["connection.created", World.user(3)]])

      const atoms = (token: Redacted.Redacted) =>
        HttpWorld.call({
          path: "/api/cal/atoms/refresh",
          headers: { authorization: `Bearer ${Redacted.value(token)}`, origin: HttpWorld.origin }
        })
      yield* TestClock.adjust("61 minutes")
      const { pair } = yield* World.stored(World.user(3))
      const renewed = yield* atoms(pair.accessToken)
      assert.strictEqual(renewed.status, 200)
      assert.deepStrictEqual(events(), [["token.renewed", World.user(3)]])
      assert.strictEqual((yield* atoms(Redacted.make("t".repeat(40)))).status, 401)
      assert.deepStrictEqual(events(), [])

      yield* HttpWorld.call({ path: `/api/cal/access-token/${user}`, key: keys.all })
      yield* HttpWorld.call({ path: `/api/cal/access-token/${user}`, key: keys.manage })
      assert.deepStrictEqual(events(), [
        ["token.read", user],
        ["key.forbidden", undefined]
      ])

      const secrets = [...Object.values(keys), String(renewed.json["accessToken"])]
      for (const grant of [one, two, pair]) {
        secrets.push(Redacted.value(grant.accessToken), Redacted.value(grant.refreshToken))
      }
      for (const secret of secrets) assert.notInclude(seen.text, secret)
    }).pipe(Effect.provide(layer))
  })

  it.effect("tells of who loses a Cal.com account to another user, also where that comes to nothing", () => {
    const { layer, trail } = watched({})
    return Effect.gen(function* () {
      const tap = yield* StorageTap
      const post = (path: string, body: object) =>
        HttpWorld.call({ method: "POST", path: `/api/cal/oauth/${path}`, key: keys.manage, body })
      const connect = (userUlid: UserUlid) =>
        Effect.gen(function* () {
          const { json } = yield* post("authorize-url", { userUlid, replace: true })
          const query = yield* Flow.consent(json["url"] as string)
          return (yield* post("exchange", { userUlid, ...Object.fromEntries(query) })).status
        })
      const events = () => trail.splice(0).map(({ event, user }) => [event, user])
      const [one, two, three] = [World.user(1), World.user(2), World.user(3)]
      assert.strictEqual(yield* connect(one), 200)
      assert.deepStrictEqual(events(), [["connection.created", one]])
      assert.strictEqual(yield* connect(two), 200)
      assert.deepStrictEqual(events(), [
        ["connection.created", two],
        ["connection.displaced", one]
      ])
      // Refreshed meanwhile, which ends the tokens that are new.
      yield* TestClock.adjust("1 minute")
      const other = yield* World.anotherNode()
      yield* tap.around("connect", {
        before: Effect.asVoid(Effect.orDie(other.tokens.refresh(two, { forceRefresh: true })))
      })
      const failing = yield* Effect.fork(connect(three))
      while (failing.unsafePoll() === null) yield* Effect.zipRight(realTime(2), TestClock.adjust("20 millis"))
      assert.strictEqual(yield* Fiber.join(failing), 409)
      assert.deepStrictEqual(events(), [
        ["connection.created", three],
        ["connection.displaced", two]
      ])
    }).pipe(Effect.scoped, Effect.provide(layer))
  })

  it.effect("tells of an account that is taken up, also where Cal.com gives no tokens for it yet", () => {
    const { layer, trail } = watched()
    return Effect.gen(function* () {
      const sandbox = yield* Sandbox.Sandbox
      yield* HttpWorld.call(create())
      yield* HttpWorld.call({ method: "DELETE", path: `/api/cal/connections/${user}`, key: keys.all })
      trail.length = 0
      yield* sandbox.inject(Sandbox.Fault.status(429, { kind: "forceRefresh" }))
      const taking = yield* Effect.fork(HttpWorld.call(create(World.user(2))))
      while (taking.unsafePoll() === null) yield* Effect.zipRight(realTime(2), TestClock.adjust("20 millis"))
      assert.notStrictEqual((yield* Fiber.join(taking)).status, 200)
      assert.deepStrictEqual(
        trail.map(({ event, user }) => [event, user]),
        [["connection.created", World.user(2)]]
      )
    }).pipe(Effect.provide(layer))
  })

  it.effect("is written at any level, as information", () => {
    const { layer, seen, trail } = watched()
    return Effect.gen(function* () {
      yield* HttpWorld.call({ ...create(), key: "wrong".padEnd(40, "x") })
      yield* HttpWorld.call(create())
      assert.deepStrictEqual(
        trail.map(({ event }) => event),
        ["key.unknown", "connection.created"]
      )
      assert.strictEqual(seen.others, 0)
    }).pipe(Effect.provide(Layer.provide(layer, Logger.minimumLogLevel(LogLevel.None))))
  })

  it.effect("has the whole address of who asked, as far as proxies are trusted", () => {
    const { layer, trail } = watched({ proxies: ["127.0.0.1"] })
    return Effect.gen(function* () {
      for (const forwarded of ["2001:db8:1:2:3:4:5:6", "203.0.113.9, 2001:db8::7", "not-an-address", ""]) {
        yield* HttpWorld.call({ ...create(), key: keys.all, headers: { "x-forwarded-for": forwarded } })
        yield* HttpWorld.call({ path: "/metrics", key: keys.manage, headers: { "x-forwarded-for": forwarded } })
      }
      assert.deepStrictEqual(
        trail.map(({ event, from }) => [event, from]),
        [
          ["connection.created", "2001:db8:1:2:3:4:5:6"],
          ...["2001:db8:1:2:3:4:5:6", "2001:db8::7", "127.0.0.1", "127.0.0.1"].map((from) => ["key.forbidden", from])
        ]
      )
    }).pipe(Effect.provide(layer))
  })

  it.effect("reads addresses with ports and brackets, on both sides of a proxy that it trusts", () => {
    const { layer, trail } = watched({ proxies: ["127.0.0.1", "10.0.0.0/8", "2001:db8:ffff::/48"] })
    const cases = [
      ["203.0.113.9:4711", "203.0.113.9"],
      ["[2001:db8::7]:4711", "2001:db8::7"],
      ["[2001:db8::7]", "2001:db8::7"],
      ["198.51.100.1, 203.0.113.9:4711 , 10.1.2.3:80,[2001:db8:ffff::1]:80", "203.0.113.9"],
      ["10.1.2.3:80, 203.0.113.9:4711", "203.0.113.9"],
      // What is no address with a port says nothing, whatever stands in it.
      ["203.0.113.9:", "127.0.0.1"],
      ["203.0.113.9:port", "127.0.0.1"],
      ["[203.0.113.9", "127.0.0.1"],
      ["[unknown]:80", "127.0.0.1"]
    ] as const
    return Effect.gen(function* () {
      for (const [forwarded] of cases) {
        yield* HttpWorld.call({ path: "/metrics", key: keys.manage, headers: { "x-forwarded-for": forwarded } })
      }
      assert.deepStrictEqual(
        trail.map(({ from }) => from),
        cases.map(([, from]) => from)
      )
    }).pipe(Effect.provide(layer))
  })

  it.effect("is written by nobody who asks, whatever they write where", () => {
    const { layer, seen, trail } = watched({ proxies: ["127.0.0.1"] })
    return Effect.gen(function* () {
      const { address } = yield* HttpServer.HttpServer
      const port = address._tag === "TcpAddress" ? address.port : 0
      const line = '{"annotations":{"logger":"cal_tokens.audit","event.name":"token.read"}}'
      const forgeries = [line, `\r\n${line}`, `\u001b[2K${line}`, "\u2028logger=cal_tokens.audit event.name=token.read"]
      const send = (request: string) =>
        Effect.async<string>((resume) => {
          const socket = Net.connect({ port, host: "127.0.0.1" })
          let text = ""
          socket.on("data", (chunk) => (text += chunk.toString("latin1")))
          socket.on("error", () => {})
          socket.on("close", () => resume(Effect.succeed(text)))
          socket.end(request, "latin1")
        })
      for (const forgery of forgeries) {
        const escaped = encodeURIComponent(forgery)
        const body = JSON.stringify({
          userUlid: forgery,
          kind: forgery,
          code: forgery,
          state: forgery,
          [forgery]: forgery
        })
        // In headers, as far as they may be sent; those that may not end a request.
        const told = forgery.replace(/[^\x20-\x7e]/g, "")
        for (const header of [told, forgery]) {
          const head = ["authorization: Bearer ", "x-forwarded-for: ", "user-agent: ", "x-request-id: ", "origin: "]
            .map((name) => `${name}${header}\r\n`)
            .join("")
          for (const [method, path] of [
            ["GET", `access-token/${escaped}`],
            ["PUT", `connections/${escaped}`],
            ["POST", "oauth/exchange"],
            ["GET", `oauth/callback?state=${escaped}&error=${escaped}&code=${escaped}`],
            ["GET", `proxy/${escaped}/${escaped}`],
            ["GET", `me/${escaped}`],
            ["GET", `atoms/refresh`],
            [told.replaceAll(/\W/g, ""), "connections"]
          ] as const) {
            const rest = `Host: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`
            const answer = yield* send(`${method} /api/cal/${path} HTTP/1.1\r\n${head}${rest}`)
            assert.match(answer, /^HTTP\/1\.1 [34]\d\d /, `${method} ${path}`)
          }
        }
      }
      for (const each of trail) {
        assert.match(String(each["event"]), /^key\.(unknown|suppressed)$/)
        assert.deepStrictEqual([each["user"], each["from"]], [undefined, "127.0.0.1"])
      }
      assert.isNotEmpty(trail)
      assert.notMatch(seen.text, /token\.read/)
      assert.notMatch(seen.whole, /token\.read|\u001b|\u2028|\n/)
    }).pipe(Effect.provide(layer))
  })

  it.effect("believes no header of somebody else", () => {
    const { layer, trail } = watched()
    return Effect.gen(function* () {
      yield* HttpWorld.call({
        ...create(),
        headers: { "x-forwarded-for": "203.0.113.9", forwarded: "for=203.0.113.9" }
      })
      assert.deepStrictEqual(
        trail.map(({ from }) => from),
        ["127.0.0.1"]
      )
    }).pipe(Effect.provide(layer))
  })

  it.effect("has the change of a caller who hung up before it was made", () => {
    const { layer, trail } = watched()
    return Effect.gen(function* () {
      const sandbox = yield* Sandbox.Sandbox
      yield* sandbox.inject(Sandbox.Fault.delayAfter("3 seconds", { kind: "createManaged" }))
      const { address } = yield* HttpServer.HttpServer
      const body = JSON.stringify(create().body)
      const socket = Net.connect({ port: address._tag === "TcpAddress" ? address.port : 0, host: "127.0.0.1" })
      socket.on("error", () => {})
      socket.write(
        `POST /api/cal/managed-users HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${keys.all}\r\n` +
          `Content-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`
      )
      // Until Cal.com was asked.
      yield* Effect.repeat(
        Effect.zipRight(
          realTime(5),
          Effect.map(sandbox.calls, (calls) => calls.length)
        ),
        { until: (calls) => calls > 0 }
      )
      socket.destroy()
      yield* realTime(100)
      assert.deepStrictEqual(trail, [])
      yield* TestClock.adjust("3 seconds")
      yield* realTime(100)
      assert.deepStrictEqual(trail, [{ event: "connection.created", user, from: "127.0.0.1" }])
    }).pipe(Effect.provide(layer))
  })
})
