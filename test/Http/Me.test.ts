/** User sessions through the doors: who makes one, what it opens, and that it opens nothing else. */
import * as Net from "node:net"
import { HttpServer } from "@effect/platform"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Redacted, TestClock, TestServices } from "effect"
import * as CalApi from "../../src/CalApi.js"
import * as Sandbox from "../../src/Sandbox.js"
import { CalTokens } from "../../src/CalTokens.js"
import { converse, type Request } from "../support/Conversation.js"
import * as HttpWorld from "../support/HttpWorld.js"
import { StorageTap } from "../support/StorageTap.js"
import * as World from "../support/World.js"

const { call, keys, layer, origin } = HttpWorld
const user = World.user()

const post = (body: object, key: string = keys.all) => call({ method: "POST", path: "/api/cal/sessions", key, body })

/** A session of a user, as a server asks for one. */
const create = (options: object = {}, userUlid = user) =>
  Effect.map(post({ userUlid, ...options }), ({ json, status }) => {
    assert.strictEqual(status, 200, JSON.stringify(json))
    return String(json["session"])
  })

const me = (session: string | undefined, path: string, more: Partial<HttpWorld.Call> = {}) =>
  call({ method: "GET", path: `/api/cal/me${path}`, ...(session === undefined ? {} : { key: session }), ...more })

const end = (userUlid = user) => call({ method: "DELETE", path: `/api/cal/sessions/${userUlid}`, key: keys.manage })

const port = Effect.map(HttpServer.HttpServer, ({ address }) => (address._tag === "TcpAddress" ? address.port : 0))

/** As they are written: a client would make another path of some. */
const raw = (requests: ReadonlyArray<Request>) =>
  Effect.flatMap(port, (port) => Effect.promise(() => converse(port, requests)))

/** Requests that reached the API of Cal.com with a user's token: method, path, status, whose. */
const reached = Effect.gen(function* () {
  const sandbox = yield* Sandbox.Sandbox
  return (yield* sandbox.calls).filter(({ kind }) => kind === "api")
})

const connected = (n = 1) => World.connectManaged(World.user(n))

describe("a session", () => {
  it.effect("is made with manage and proxy together, for a user who is connected", () =>
    Effect.gen(function* () {
      assert.strictEqual((yield* post({ userUlid: user })).json["code"], "TokensNotFound")
      yield* connected()
      const { headers, json, status } = yield* post({ userUlid: user.toLowerCase(), ttl: 60 })
      assert.deepStrictEqual(
        [status, Object.keys(json), json["expiresAt"], headers["cache-control"]],
        [200, ["success", "session", "expiresAt"], "2026-01-15T12:01:00.000Z", "no-store"]
      )
      for (const key of [keys.manage, String(json["session"]), "x".repeat(40)]) {
        const refused = yield* post({ userUlid: user }, key)
        assert.deepStrictEqual(
          [refused.status, refused.json["code"]],
          key === keys.manage ? [403, "Forbidden"] : [401, "Unauthorized"]
        )
      }
      assert.include(String((yield* post({ userUlid: user }, keys.manage)).json["error"]), "proxy")
      assert.deepStrictEqual((yield* post({ userUlid: user, paths: ["/x/../me"] })).status, 400)
      assert.deepStrictEqual((yield* post({ userUlid: user, methods: ["GET", "BREW"] })).status, 400)
    }).pipe(Effect.provide(layer()))
  )

  it.effect("is the proxy for its user: Cal.com's own answer, fresh tokens, and nothing kept", () =>
    Effect.gen(function* () {
      const grants = [yield* connected(1), yield* connected(2)]
      const session = yield* create({ ttl: 86_400 }, World.user(2))
      const first = yield* me(session, "/me")
      assert.strictEqual(first.status, 200)
      assert.strictEqual((first.json["data"] as { readonly id: number }).id, grants[1]?.calUserId)
      assert.strictEqual(first.headers["cache-control"], "no-store")
      yield* TestClock.adjust("61 minutes")
      const second = yield* me(session, "/me")
      assert.strictEqual((second.json["data"] as { readonly id: number }).id, grants[1]?.calUserId)
      const missing = yield* me(session, "/nowhere?x=1")
      assert.deepStrictEqual([missing.status, missing.headers["cache-control"]], [404, "no-store"])
    }).pipe(Effect.provide(layer()))
  )

  it.effect("with GET on /bookings only can do nothing else", () =>
    Effect.gen(function* () {
      yield* connected()
      const session = yield* create({ methods: ["GET"], paths: ["/bookings"] })
      assert.strictEqual((yield* me(session, "/bookings?take=1")).status, 200)
      const before = yield* reached
      const elsewhere = [
        ...["/me", "/bookings-secret", "/Bookings", "/event-types", "/schedules", "/v2/bookings", "/", "/me?/bookings"],
        ...[
          "/bookings/../me",
          "/bookings/%2e%2e/me",
          "/bookings%2f..%2fme",
          "/bookings/..;/me",
          "//bookings",
          "/./bookings"
        ],
        ...[
          "/bookings\\..\\me",
          "/b%6fokings",
          "/%62ookings",
          "/bookings;x/../me",
          "/bookings%00",
          "/bookings%252f..%252fme"
        ],
        ...[
          "/oauth/x",
          "/oauth-clients/c/users",
          "/auth/oauth2/token",
          "/bookings@evil.example",
          "/%2e/me",
          "/bookings/."
        ]
      ]
      const requests = elsewhere.map((path) => ({
        method: "GET",
        target: `/api/cal/me${path}`,
        body: undefined,
        key: session
      }))
      for (const [index, { status, text }] of (yield* raw(requests)).entries()) {
        assert.include([400, 403], status, elsewhere[index])
        assert.match(text, /"code":"(InvalidInput|Forbidden)"/, elsewhere[index])
      }
      for (const method of ["POST", "PUT", "DELETE"] as const) {
        const { json, status } = yield* me(session, "/bookings", { method, body: {} })
        assert.deepStrictEqual([status, json["code"]], [403, "Forbidden"], method)
      }
      for (const header of ["x-http-method-override", "x-method-override", "x-http-method"]) {
        yield* me(session, "/bookings", { headers: { [header]: "DELETE" } })
      }
      const after = (yield* reached).slice(before.length)
      assert.deepStrictEqual(
        after.map(({ method, path }) => `${method} ${path}`),
        Array(3).fill("GET /v2/bookings")
      )
    }).pipe(Effect.provide(layer()))
  )

  it.effect("is told no token by what Cal.com answers with one, nor is an API key for the proxy", () =>
    Effect.gen(function* () {
      const { accessToken } = yield* connected()
      const session = yield* create()
      const reflecting = [
        "/calendars/google/connect",
        "/calendars/office365/connect?redir=https://app.example.com&isDryRun=true",
        "/stripe/connect",
        "/conferencing/zoom/oauth/auth-url"
      ]
      // Else the rest says nothing.
      const api = yield* CalApi.CalApi
      for (const path of reflecting) {
        const answer = yield* api.send(user, { method: "GET", path })
        assert.include(yield* answer.text, Redacted.value(accessToken), path)
      }
      const { calls } = yield* Sandbox.Sandbox
      const before = yield* calls
      const spelled = [
        ...[
          "/Calendars/google/CONNECT",
          "/calendars/google/connect/",
          "/calendars/google/c%6fnnect",
          "/%73tripe/connect"
        ],
        ...[
          "/v2/stripe/connect",
          "/stripe/connect;x=1",
          "/stripe/connect.json",
          "/organizations/1/teams/2/stripe/connect"
        ],
        ...["/gcal/oauth/auth-url", "/gcal/oauth/auth_url", "/conferencing/zoom/oauth/%41uth-url/"],
        "/organizations/1/teams/2/conferencing/zoom/oauth/auth-url"
      ]
      for (const path of [...reflecting, ...spelled]) {
        const answers = yield* raw([
          { method: "GET", target: `/api/cal/me${path}`, body: undefined, key: session },
          { method: "GET", target: `/api/cal/proxy/${user}${path}`, body: undefined }
        ])
        for (const { status, text } of answers) {
          assert.notInclude(text, "eyJ", path)
          assert.strictEqual(status, 400, path)
          assert.match(text, /"code":"InvalidInput"/, path)
        }
      }
      assert.deepStrictEqual(yield* calls, before)
      // What only sounds like them is not held.
      yield* me(session, "/conferencing/google-meet/connect", { method: "POST" })
      yield* me(session, "/calendars/google/check")
      assert.strictEqual((yield* calls).length, before.length + 2)
    }).pipe(Effect.provide(layer()))
  )

  it.effect("is taken nowhere else, and nothing else is taken in its place", () =>
    Effect.gen(function* () {
      const grant = yield* connected()
      const session = yield* create()
      const before = (yield* reached).length
      const doors: ReadonlyArray<HttpWorld.Call> = [
        { method: "GET", path: `/api/cal/access-token/${user}` },
        { method: "GET", path: `/api/cal/connections/${user}` },
        { method: "GET", path: "/api/cal/connections" },
        { method: "DELETE", path: `/api/cal/connections/${user}` },
        { method: "DELETE", path: `/api/cal/sessions/${user}` },
        { method: "POST", path: "/api/cal/sessions", body: { userUlid: user } },
        { method: "POST", path: "/api/cal/ensure-token", body: { userUlid: user } },
        { method: "POST", path: "/api/cal/refresh-token", body: { userUlid: user } },
        { method: "POST", path: "/api/cal/oauth/authorize-url", body: { userUlid: user } },
        { method: "GET", path: `/api/cal/proxy/${user}/me` },
        { method: "GET", path: "/api/cal/events" },
        { method: "GET", path: "/metrics" },
        { method: "GET", path: "/api/cal/atoms/refresh", headers: { origin } }
      ]
      for (const door of doors) {
        const { json, status } = yield* call({ ...door, key: session })
        assert.deepStrictEqual([status, json["code"]], [401, "Unauthorized"], `${door.method} ${door.path}`)
      }
      const notSessions = [
        ...[keys.all, keys.manage, World.reveal(grant.accessToken), World.reveal(grant.refreshToken), "", "null"],
        ...[`${session}x`, session.slice(0, -1), session.toLowerCase(), `${session} ${session}`, `"${session}"`]
      ]
      for (const presented of notSessions) {
        const { headers, json, status } = yield* me(undefined, "/me", {
          headers: { authorization: `Bearer ${presented}` }
        })
        assert.deepStrictEqual(
          [status, json["code"], headers["www-authenticate"]],
          [401, "Unauthorized", "Bearer"],
          presented
        )
      }
      for (const headers of [
        {},
        { authorization: session },
        { authorization: `Basic ${session}` },
        { cookie: `session=${session}` },
        { "x-api-key": session }
      ]) {
        assert.strictEqual(
          (yield* me(undefined, `/me?session=${session}&access_token=${session}`, { headers })).status,
          401
        )
      }
      assert.strictEqual((yield* reached).length, before)
      assert.strictEqual((yield* me(session, "/me")).status, 200)
    }).pipe(Effect.provide(layer({ limits: { failuresPerAddress: 1000 } })))
  )

  it.effect("ends by itself, with DELETE, and with the connection", () =>
    Effect.gen(function* () {
      yield* connected()
      yield* connected(2)
      const [short, ended, theirs] = [yield* create({ ttl: 1 }), yield* create(), yield* create({}, World.user(2))]
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* me(short, "/me")).status, 401)
      assert.strictEqual((yield* me(ended, "/me")).status, 200)
      assert.deepStrictEqual((yield* end()).json, { success: true })
      const before = (yield* reached).length
      const { headers, json, status } = yield* me(ended, "/me")
      assert.deepStrictEqual([status, json["code"], headers["www-authenticate"]], [401, "Unauthorized", "Bearer"])
      assert.strictEqual((yield* reached).length, before)
      assert.strictEqual((yield* me(theirs, "/me")).status, 200)
      const next = yield* create()
      assert.strictEqual((yield* me(next, "/me")).status, 200)
      assert.strictEqual(
        (yield* call({ method: "DELETE", path: `/api/cal/connections/${user}`, key: keys.manage })).status,
        200
      )
      assert.strictEqual((yield* me(next, "/me")).status, 401)
      assert.strictEqual((yield* end()).json["code"], "TokensNotFound")
      // Of the user who is connected again, and of nobody who had a session before.
      yield* connected()
      assert.strictEqual((yield* me(next, "/me")).status, 401)
    }).pipe(Effect.provide(layer()))
  )

  it.effect("is ended together with what Atoms may present", () =>
    Effect.gen(function* () {
      yield* connected()
      const tokens = yield* CalTokens
      yield* TestClock.adjust("61 minutes")
      const token = Redacted.value((yield* tokens.ensureValid(user)).accessToken)
      yield* TestClock.adjust("1 minute")
      yield* end()
      const atoms = yield* call({ method: "GET", path: "/api/cal/atoms/refresh", key: token, headers: { origin } })
      assert.deepStrictEqual([atoms.status, atoms.json["accessToken"]], [401, ""])
    }).pipe(Effect.provide(layer()))
  )

  it.effect("is refused while the storage is out of reach, though an API key is served from memory", () =>
    Effect.gen(function* () {
      yield* connected()
      const session = yield* create()
      const proxied = call({ method: "GET", path: `/api/cal/proxy/${user}/me`, key: keys.all })
      assert.strictEqual((yield* me(session, "/me")).status, 200)
      const tap = yield* StorageTap
      yield* tap.down
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual((yield* proxied).status, 200)
      const before = (yield* reached).length
      const { json, status } = yield* me(session, "/me")
      assert.deepStrictEqual([status, json["code"]], [503, "StorageUnavailable"])
      assert.strictEqual((yield* reached).length, before)
      yield* tap.up
      assert.strictEqual((yield* me(session, "/me")).status, 200)
    }).pipe(Effect.provide(layer()))
  )

  it.effect("that is ended while its request is still on the way is not served", () =>
    Effect.gen(function* () {
      yield* connected()
      const session = yield* create()
      const socket = Net.connect(yield* port, "127.0.0.1")
      const answer = new Promise<string>((resolve) => {
        let text = ""
        socket.setEncoding("latin1").on("data", (chunk: string) => (text += chunk))
        socket.on("close", () => resolve(text))
      })
      const head = `POST /api/cal/me/bookings HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${session}\r\nConnection: close\r\n`
      socket.write(`${head}Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{`)
      yield* TestServices.provideLive(Effect.sleep("100 millis"))
      const before = (yield* reached).length
      yield* end()
      socket.write("}")
      assert.match(yield* Effect.promise(() => answer), /^HTTP\/1\.1 401 /)
      assert.strictEqual((yield* reached).length, before)
    }).pipe(Effect.provide(layer()))
  )
})

describe("pages", () => {
  const preflight = (path: string, headers: Readonly<Record<string, string>>) =>
    call({
      method: "OPTIONS",
      path,
      headers: {
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization",
        ...headers
      }
    })

  it.effect("of an allowed origin may ask what they need, and read answers and failures", () =>
    Effect.gen(function* () {
      yield* connected()
      const session = yield* create({ methods: ["GET"] })
      const asked = yield* preflight("/api/cal/me/bookings", { origin })
      assert.strictEqual(asked.status, 204)
      assert.deepStrictEqual(
        ["origin", "methods", "headers", "max-age"].map(
          (name) => asked.headers[`access-control-allow-${name}`] ?? asked.headers[`access-control-${name}`]
        ),
        [
          origin,
          "GET, HEAD, POST, PUT, PATCH, DELETE",
          "accept-language, authorization, cal-api-version, content-type, if-match, if-modified-since, if-none-match, if-range, if-unmodified-since, range, x-request-id",
          "86400"
        ]
      )
      for (const [path, expected] of [
        ["/me", 200],
        ["/nowhere", 404],
        ["//me", 400]
      ] as const) {
        const { headers, status } = yield* me(session, path, { headers: { origin } })
        assert.deepStrictEqual(
          [status, headers["access-control-allow-origin"], headers["cache-control"]],
          [expected, origin, "no-store"]
        )
        assert.include(headers["vary"], "Origin")
        assert.isUndefined(headers["access-control-allow-credentials"])
      }
      for (const [key, method, expected] of [
        [session, "POST", 403],
        ["x", "GET", 401]
      ] as const) {
        const { headers, status } = yield* me(key, "/me", { method, headers: { origin } })
        assert.deepStrictEqual([status, headers["access-control-allow-origin"]], [expected, origin])
      }
    }).pipe(Effect.provide(layer()))
  )

  it.effect("of another origin may not, whatever the method, and reach nothing", () =>
    Effect.gen(function* () {
      yield* connected()
      const session = yield* create()
      const before = (yield* reached).length
      for (const foreign of [
        "https://evil.example",
        `${origin}.evil.example`,
        "null",
        origin.toUpperCase(),
        `${origin}:444`,
        "http://app.example.com"
      ]) {
        const asked = yield* preflight("/api/cal/me/bookings", { origin: foreign })
        assert.deepStrictEqual([asked.status, asked.headers["access-control-allow-origin"]], [403, undefined], foreign)
        for (const method of ["GET", "POST"] as const) {
          const { headers, json, status } = yield* me(session, "/me", { method, headers: { origin: foreign } })
          assert.deepStrictEqual(
            [status, json["code"], headers["access-control-allow-origin"]],
            [403, "Forbidden", undefined],
            foreign
          )
        }
      }
      for (const site of ["cross-site", "same-site"]) {
        assert.strictEqual((yield* me(session, "/me", { headers: { "sec-fetch-site": site } })).status, 403)
      }
      assert.strictEqual((yield* reached).length, before)
      // Only what is for pages answers to pages.
      const proxied = yield* preflight(`/api/cal/proxy/${user}/me`, { origin })
      assert.isUndefined(proxied.headers["access-control-allow-origin"])
    }).pipe(Effect.provide(layer()))
  )

  it.effect("may not at all without allowed origins; programs may", () =>
    Effect.gen(function* () {
      yield* connected()
      const session = yield* create()
      assert.strictEqual((yield* me(session, "/me")).status, 200)
      for (const headers of [{ origin }, { "sec-fetch-site": "cross-site" }]) {
        const { headers: answered, status } = yield* me(session, "/me", { headers })
        assert.deepStrictEqual([status, answered["access-control-allow-origin"]], [403, undefined])
      }
      const asked = yield* preflight("/api/cal/me/bookings", { origin })
      assert.deepStrictEqual([asked.status, asked.headers["access-control-allow-origin"]], [403, undefined])
    }).pipe(Effect.provide(layer({ origins: [] })))
  )
})

describe("the limits of sessions", () => {
  it.effect("count for a user across sessions and addresses, and for nobody else", () =>
    Effect.gen(function* () {
      yield* connected()
      yield* connected(2)
      const [one, two, other] = [yield* create(), yield* create(), yield* create({}, World.user(2))]
      const from = (n: number) => ({ headers: { "x-forwarded-for": `10.0.0.${n}` } })
      const statuses = yield* Effect.forEach([one, two, one, two], (session, n) =>
        Effect.map(me(session, "/me", from(n)), ({ status }) => status)
      )
      assert.deepStrictEqual(statuses, [200, 200, 200, 429])
      assert.strictEqual((yield* me(other, "/me", from(1))).status, 200)
      yield* TestClock.adjust(Duration.minutes(1))
      assert.strictEqual((yield* me(one, "/me", from(1))).status, 200)
    }).pipe(Effect.provide(layer({ limits: { perSessionUser: 3 }, proxies: ["127.0.0.1", "::1"] })))
  )

  it.effect("count for an address, and guessing for less", () =>
    Effect.gen(function* () {
      yield* connected()
      const session = yield* create()
      const statuses = (n: number, key: string) =>
        Effect.map(Effect.replicateEffect(me(key, "/me"), n), (all) => all.map(({ status }) => status).join())
      assert.strictEqual(yield* statuses(3, "guess"), "401,401,429")
      // Who knows one is taken all the same.
      assert.strictEqual(yield* statuses(3, session), "200,200,429")
    }).pipe(Effect.provide(layer({ limits: { sessionsPerAddress: 5, failuresPerAddress: 2 } })))
  )
})

describe("a method that is none of Cal.com's", () => {
  it.effect("is 403 with JSON", () =>
    Effect.gen(function* () {
      yield* connected()
      const session = yield* create()
      const requests = ["TRACE", "PROPFIND", "PURGE", "OPTIONS"].map((method) => ({
        method,
        target: "/api/cal/me/me",
        body: undefined,
        key: session
      }))
      const before = (yield* reached).length
      for (const { status, text } of yield* raw(requests)) {
        assert.strictEqual(status, 403, text)
        assert.include(text, `"code":"Forbidden"`)
      }
      assert.strictEqual((yield* reached).length, before)
    }).pipe(Effect.provide(layer()))
  )
})
