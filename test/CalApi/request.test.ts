import * as Zlib from "node:zlib"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Layer, Schema, TestClock } from "effect"
import { HttpClient, HttpClientRequest } from "@effect/platform"
import * as CalApi from "../../src/CalApi.js"
import * as CalClient from "../../src/CalClient.js"
import { UserUlid } from "../../src/Token.js"
import { TokensNotFound } from "../../src/TokenError.js"
import * as ScriptedCal from "../support/ScriptedCal.js"
import * as FakeCalTokens from "../support/FakeCalTokens.js"

const user = Schema.decodeSync(UserUlid)("01ARZ3NDEKTSV4RRFFQ69G5FAV")
const layer = CalApi.layer.pipe(
  Layer.provideMerge(CalClient.layer({ apiUrl: "https://api.cal.com/v2/" })),
  Layer.provideMerge(Layer.merge(ScriptedCal.layer, FakeCalTokens.layer))
)
const ok: ScriptedCal.Reply = { status: 200, body: { status: "success", data: { id: 1 } } }
const Me = Schema.Struct({ data: Schema.Struct({ id: Schema.Number }) })

const reply = (...replies: ReadonlyArray<ScriptedCal.Reply>) =>
  Effect.flatMap(ScriptedCal.ScriptedCal, (http) => http.reply(...replies))
const last = Effect.flatMap(ScriptedCal.ScriptedCal, (http) =>
  Effect.map(http.requests, (all) => all[all.length - 1] ?? assert.fail("no request"))
)
const count = Effect.flatMap(ScriptedCal.ScriptedCal, (http) => Effect.map(http.requests, (all) => all.length))

describe("request", () => {
  it.effect("sends JSON below the base with the user's token and decodes the answer", () =>
    Effect.gen(function* () {
      yield* reply(ok)
      const api = yield* CalApi.CalApi
      const body = { start: "2026-03-14T09:00:00Z" }
      assert.deepStrictEqual(yield* api.request(user, { method: "POST", path: "/bookings?x=1", body, schema: Me }), {
        data: { id: 1 }
      })
      const request = yield* last
      assert.strictEqual(`${request.method} ${request.url}`, "POST https://api.cal.com/v2/bookings?x=1")
      assert.deepStrictEqual(JSON.parse(request.body), body)
      assert.deepStrictEqual(
        { ...request.headers },
        {
          accept: "application/json",
          "accept-encoding": "identity",
          authorization: "Bearer token-1",
          "cal-api-version": "2024-08-13",
          "content-length": "32",
          "content-type": "application/json",
          "user-agent": "cal-tokens"
        }
      )
      assert.deepStrictEqual(yield* Effect.flatMap(FakeCalTokens.FakeTokens, ({ ensured }) => ensured), [user])
    }).pipe(Effect.provide(layer))
  )

  it.effect.each([
    ["gzip", Zlib.gzipSync],
    ["deflate", Zlib.deflateSync],
    ["br", Zlib.brotliCompressSync]
  ] as const)("decodes what comes in %s, though nobody asked", ([encoding, encode]) =>
    Effect.gen(function* () {
      const body = encode(JSON.stringify(ok.body))
      yield* reply({ status: 200, body, headers: { "content-encoding": encoding } }, { status: 200, body })
      const { request } = yield* CalApi.CalApi
      for (let i = 0; i < 2; i++) {
        assert.deepStrictEqual(yield* request(user, { path: "/me", schema: Me }), { data: { id: 1 } })
      }
    }).pipe(Effect.provide(layer))
  )

  it.effect("gives null to the schema when there is no body", () =>
    Effect.gen(function* () {
      yield* reply({ status: 204 }, { status: 200 })
      const { request } = yield* CalApi.CalApi
      const options = { method: "DELETE", path: "/schedules/1", schema: Schema.Null } as const
      assert.isNull(yield* request(user, options))
      assert.isNull(yield* request(user, options))
      yield* reply({ status: 204 })
      assert.strictEqual((yield* Effect.flip(request(user, { path: "/me", schema: Me })))._tag, "CalProtocolError")
    }).pipe(Effect.provide(layer))
  )

  it.effect.each([
    ["another shape", { status: 200, body: { data: { id: "s3cret" } } }, "data.id is not as expected"],
    ["a missing field", { status: 200, body: { data: {} } }, "data.id is missing"],
    ["no object", { status: 200, body: ["s3cret"] }, "the body is not as expected"],
    ["no JSON", { status: 200, body: "<s3cret>" }, "it is not JSON"]
  ] as const)("names where an answer departs: %s", ([, answer, issue]) =>
    Effect.gen(function* () {
      yield* reply(answer)
      const { request } = yield* CalApi.CalApi
      const error = yield* Effect.flip(request(user, { path: "/me", schema: Me }))
      assert(error._tag === "CalProtocolError")
      assert.strictEqual(error.issue, issue)
      assert.strictEqual(error.operation, "GET /me")
    }).pipe(Effect.provide(layer))
  )

  it.effect("translates refusals, limits and faults", () =>
    Effect.gen(function* () {
      const { request } = yield* CalApi.CalApi
      const failure = (answer: ScriptedCal.Reply) =>
        Effect.zipRight(
          reply(answer),
          Effect.flip(request(user, { method: "POST", path: "/bookings/abc?secret=1", schema: Me }))
        )
      const rejected = yield* failure(ScriptedCal.platformError(404, "Booking not found"))
      assert(rejected._tag === "CalRequestRejected")
      assert.deepStrictEqual(
        [rejected.status, rejected.reason, rejected.operation],
        [404, "Booking not found", "POST /bookings/abc"]
      )
      const limited = yield* failure({ status: 429, headers: { "X-RateLimit-Reset-Default": "30" } })
      assert(limited._tag === "CalRateLimited")
      assert.strictEqual(Duration.toSeconds(limited.retryAfter), 30)
      const down = yield* failure({ status: 502 })
      assert(down._tag === "CalUnavailable")
      assert.strictEqual(down.status, 502)
      const broken = yield* failure({ truncated: 200 })
      assert(broken._tag === "CalUnavailable")
      const redirected = yield* failure({ status: 302, headers: { location: "https://elsewhere.example" } })
      assert(redirected._tag === "CalRequestRejected" && redirected.status === 302)
      assert.strictEqual(yield* count, 5)
    }).pipe(Effect.provide(layer))
  )

  it.effect("refuses a body that is no JSON value, and passes on why there is no token", () =>
    Effect.gen(function* () {
      const { request } = yield* CalApi.CalApi
      const cyclic: { self?: unknown } = {}
      cyclic.self = cyclic
      const bad = yield* Effect.flip(request(user, { method: "POST", path: "/x", body: cyclic, schema: Me }))
      assert(bad._tag === "InvalidInput" && bad.field === "body")
      const tokens = yield* FakeCalTokens.FakeTokens
      yield* tokens.setToken(Effect.fail(new TokensNotFound({ userUlid: user })))
      assert.strictEqual((yield* Effect.flip(request(user, { path: "/me", schema: Me })))._tag, "TokensNotFound")
      assert.strictEqual(yield* count, 0)
    }).pipe(Effect.provide(layer))
  )

  it.effect("goes to no token endpoint of Cal.com, as a user or as nobody", () =>
    Effect.gen(function* () {
      const { client, request } = yield* CalApi.CalApi
      const base = "https://api.cal.com/v2"
      for (const path of ["/oauth/c/refresh", `${base}/auth/oauth2/token`, "/api/v2/%4fauth-clients;x=1/c/users"]) {
        for (const who of [user, undefined]) {
          const error = yield* Effect.flip(request(who, { method: "POST", path, body: {}, schema: Schema.Unknown }))
          assert.deepInclude(error, { _tag: "InvalidInput", field: "path" }, path)
        }
        assert.strictEqual((yield* Effect.flip(client(user).post(path)))._tag, "InvalidInput")
      }
      assert.strictEqual(yield* count, 0)
    }).pipe(Effect.provide(layer))
  )

  it.effect("lets Cal.com's clock be learned from any answer", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(Date.UTC(2026, 2, 14, 9, 0, 0))
      yield* reply({ ...ok, headers: { date: "Sat, 14 Mar 2026 10:00:00 GMT" } })
      const { request } = yield* CalApi.CalApi
      yield* request(undefined, { path: "/me", schema: Me })
      const { now } = yield* CalClient.CalClient
      assert.strictEqual(yield* now, Date.UTC(2026, 2, 14, 10, 0, 0))
    }).pipe(Effect.provide(layer))
  )
})

describe("cal-api-version", () => {
  it.effect.each([
    ["/bookings", "2024-08-13"],
    ["/bookings?take=1", "2024-08-13"],
    ["/bookings/abc/cancel", "2024-08-13"],
    ["/event-types/1", "2024-06-14"],
    ["/schedules/default", "2024-06-11"],
    ["/slots?eventTypeId=1", "2024-09-04"],
    ["/me", undefined],
    ["/teams/1/event-types", undefined],
    ["/bookings-x", undefined]
  ] as const)("of %s is %s", ([path, version]) =>
    Effect.gen(function* () {
      yield* reply(ok, ok, ok)
      const api = yield* CalApi.CalApi
      yield* api.send(user, { method: "GET", path })
      assert.strictEqual((yield* last).headers["cal-api-version"], version)
      yield* api.request(user, { path, schema: Me, apiVersion: "2024-04-15" })
      assert.strictEqual((yield* last).headers["cal-api-version"], "2024-04-15")
      yield* api.send(user, { method: "GET", path, headers: { "Cal-Api-Version": "2024-06-11" } })
      assert.strictEqual((yield* last).headers["cal-api-version"], "2024-06-11")
    }).pipe(Effect.provide(layer))
  )
})

describe("headers of the caller", () => {
  it.effect("that would change who asks, or are another connection's, stay here", () =>
    Effect.gen(function* () {
      yield* reply(ok)
      const api = yield* CalApi.CalApi
      yield* api.send(user, {
        method: "POST",
        path: "/bookings",
        headers: {
          Authorization: "Bearer other",
          "X-Cal-Secret-Key": "platform",
          "x-cal-client-id": "C",
          "X-Cal-Platform-Embed": "true",
          Host: "evil.example",
          Origin: "https://app.example",
          Referer: "https://app.example/secret",
          Cookie: "session=1",
          Connection: "keep-alive, X-Hop",
          "X-Hop": "1",
          "Keep-Alive": "1",
          "Transfer-Encoding": "chunked",
          "Content-Length": "999",
          TE: "trailers",
          Upgrade: "websocket",
          Expect: "100-continue",
          "Proxy-Authorization": "Basic x",
          "Accept-Encoding": "gzip",
          "X-Forwarded-For": "10.0.0.1",
          "CF-Connecting-IP": "10.0.0.1",
          traceparent: "00-x",
          b3: "x",
          "Sec-Fetch-Site": "cross-site",
          "X-Custom": "kept",
          "Accept-Language": "it",
          "If-None-Match": "etag"
        },
        body: { bytes: new TextEncoder().encode("{}"), contentType: "application/json; charset=utf-8" }
      })
      assert.deepStrictEqual(
        { ...(yield* last).headers },
        {
          accept: "application/json",
          "accept-encoding": "identity",
          "accept-language": "it",
          authorization: "Bearer token-1",
          "cal-api-version": "2024-08-13",
          "content-length": "2",
          "content-type": "application/json; charset=utf-8",
          "if-none-match": "etag",
          "user-agent": "cal-tokens",
          "x-custom": "kept"
        }
      )
    }).pipe(Effect.provide(layer))
  )
})

describe("client", () => {
  it.effect("is an HttpClient: relative and absolute URLs, parameters, any status", () =>
    Effect.gen(function* () {
      yield* reply(ok, ok, ScriptedCal.platformError(404, "Booking not found"))
      const client = (yield* CalApi.CalApi).client(user)
      yield* client.get("/bookings", { urlParams: { take: 2, email: "a+b@c.d" } })
      assert.strictEqual((yield* last).url, "https://api.cal.com/v2/bookings?take=2&email=a%2Bb%40c.d")
      yield* client.get("https://api.cal.com/v2/me?x=1")
      assert.strictEqual((yield* last).url, "https://api.cal.com/v2/me?x=1")
      assert.strictEqual((yield* client.get("/bookings/nope")).status, 404)
    }).pipe(Effect.provide(layer))
  )

  it.effect("can be built upon", () =>
    Effect.gen(function* () {
      yield* reply(ScriptedCal.platformError(404, "Booking not found"), ok)
      const client = (yield* CalApi.CalApi)
        .client(user)
        .pipe(HttpClient.mapRequest(HttpClientRequest.prependUrl("/bookings")), HttpClient.filterStatusOk)
      assert.strictEqual((yield* Effect.flip(client.get("/nope")))._tag, "ResponseError")
      const response = yield* client.get("/1")
      assert.deepStrictEqual(yield* response.json, { status: "success", data: { id: 1 } })
      assert.strictEqual((yield* last).url, "https://api.cal.com/v2/bookings/1")
    }).pipe(Effect.provide(layer))
  )

  it.effect.each([
    "https://evil.example/v2/me",
    "https://api.cal.com/v1/me",
    "https://api.cal.com/v2/../v1/me",
    "https://api.cal.com@evil.example/v2/me",
    "//evil.example",
    "/../v1",
    "/%2e%2e/v1",
    "/\\evil.example",
    "me",
    ""
  ])("asks no token and sends nothing for %j", (url) =>
    Effect.gen(function* () {
      const api = yield* CalApi.CalApi
      const errors = yield* Effect.all([
        Effect.flip(api.client(user).get(url)),
        Effect.flip(api.send(user, { method: "GET", path: url })),
        Effect.flip(api.request(undefined, { path: url, schema: Me }))
      ])
      errors.forEach((error) => assert(error._tag === "InvalidInput" && error.field === "path"))
      assert.strictEqual(yield* count, 0)
      assert.deepStrictEqual(yield* Effect.flatMap(FakeCalTokens.FakeTokens, ({ ensured }) => ensured), [])
    }).pipe(Effect.provide(layer))
  )

  it.effect("refuses a fragment that was set apart from the URL", () =>
    Effect.gen(function* () {
      const client = (yield* CalApi.CalApi).client(user)
      const request = HttpClientRequest.get("/me").pipe(HttpClientRequest.setHash("x"))
      assert.strictEqual((yield* Effect.flip(client.execute(request)))._tag, "InvalidInput")
    }).pipe(Effect.provide(layer))
  )

  it.effect("fails as HTTP clients do when the network does", () =>
    Effect.gen(function* () {
      yield* reply({ fail: ScriptedCal.systemError("ECONNRESET") })
      const client = (yield* CalApi.CalApi).client(user)
      const request = HttpClientRequest.post("/bookings")
      const error = yield* Effect.flip(client.execute(request))
      assert(error._tag === "RequestError")
      assert.strictEqual(error.request, request)
      assert.strictEqual(error.message, "Transport: connection reset (POST /bookings)")
    }).pipe(Effect.provide(layer))
  )
})
