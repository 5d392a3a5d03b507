import * as Zlib from "node:zlib"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Layer, Option, Schema, Stream, TestClock } from "effect"
import { HttpBody, HttpClientRequest, type HttpMethod } from "@effect/platform"
import { CalApi } from "../../src/CalApi.js"
import * as CalApiModule from "../../src/CalApi.js"
import { isTokenRefusal } from "../../src/CalHttp/Refusal.js"
import * as CalClient from "../../src/CalClient.js"
import { UserUlid } from "../../src/Token.js"
import { ReauthorizationRequired, StorageUnavailable } from "../../src/TokenError.js"
import * as ScriptedCal from "../support/ScriptedCal.js"
import * as FakeCalTokens from "../support/FakeCalTokens.js"

const user = Schema.decodeSync(UserUlid)("01ARZ3NDEKTSV4RRFFQ69G5FAV")
const layer = CalApiModule.layer.pipe(
  Layer.provideMerge(CalClient.layer({ apiUrl: "https://api.cal.com/v2" })),
  Layer.provideMerge(Layer.merge(ScriptedCal.layer, FakeCalTokens.layer))
)

const ok: ScriptedCal.Reply = { status: 200, body: { status: "success", data: 1 } }
const expired = ScriptedCal.platformError(498, "ACCESS_TOKEN_IS_EXPIRED", "ACCESS_TOKEN_IS_EXPIRED")
const unknownToken = ScriptedCal.platformError(401, "Invalid Access Token.")
const guard = ScriptedCal.platformError(403, "PermissionsGuard - no oAuth client found for access token=token-1")

/** The same answer, compressed by somebody on the way, who may say so. */
const encoded = (reply: ScriptedCal.Reply, encode: (body: string) => Uint8Array): ScriptedCal.Reply =>
  "status" in reply ? { ...reply, body: encode(JSON.stringify(reply.body)) } : reply

const reply = (...replies: ReadonlyArray<ScriptedCal.Reply>) =>
  Effect.flatMap(ScriptedCal.ScriptedCal, (http) => http.reply(...replies))
const advise = (...advices: ReadonlyArray<FakeCalTokens.Scripted>) =>
  Effect.flatMap(FakeCalTokens.FakeTokens, (tokens) => tokens.advise(...advices))
const reports = Effect.flatMap(FakeCalTokens.FakeTokens, (tokens) => tokens.reports)
const requests = Effect.flatMap(ScriptedCal.ScriptedCal, (http) => http.requests)
const bearers = Effect.map(requests, (all) => all.map(({ headers }) => headers["authorization"]))
const send = (method: HttpMethod.HttpMethod = "GET", path = "/me", body?: string) =>
  Effect.flatMap(CalApi, (api) =>
    api.send(user, {
      method,
      path,
      ...(body === undefined
        ? {}
        : { body: { bytes: new TextEncoder().encode(body), contentType: "application/json" } })
    })
  )

describe("after Cal.com refused a token", () => {
  it.effect.each([
    ["498", expired, 498],
    ["401 Invalid Access Token.", unknownToken, 401],
    [
      "401 of a deleted token that Cal.com's cache still knows",
      ScriptedCal.platformError(401, "ApiAuthStrategy - access token - OAuth client not found given the access token"),
      401
    ],
    ["403 of the permissions guard", guard, 403],
    ["401 in gzip, unasked", encoded(unknownToken, Zlib.gzipSync), 401],
    ["401 in br, unasked", encoded(unknownToken, Zlib.brotliCompressSync), 401],
    ["403 in deflate, unasked", encoded(guard, Zlib.deflateSync), 403]
  ] as const)("%s: the request is sent again with the token advised", ([, refusal, status]) =>
    Effect.gen(function* () {
      yield* reply(refusal, ok)
      yield* advise(FakeCalTokens.retryWith("token-2"))
      const response = yield* send()
      assert.strictEqual(response.status, 200)
      assert.deepStrictEqual(yield* reports, [{ accessToken: "token-1", status }])
      assert.deepStrictEqual(yield* bearers, ["Bearer token-1", "Bearer token-2"])
    }).pipe(Effect.provide(layer))
  )

  it.effect.each([
    [
      "a missing permission",
      ScriptedCal.platformError(
        403,
        "PermissionsGuard - oAuth client with id=C does not have the required permissions=BOOKING_READ."
      )
    ],
    [
      "no authentication at the guard",
      ScriptedCal.platformError(403, "PermissionsGuard - no authentication provided.")
    ],
    [
      "a missing scope",
      ScriptedCal.platformError(
        403,
        "insufficient_scope: token does not have the required scopes. Required: X. Token has: Y"
      )
    ],
    [
      "a wrong origin",
      ScriptedCal.platformError(401, "ApiAuthStrategy - access token - Invalid request origin - please open x")
    ],
    ["another 401", ScriptedCal.platformError(401, "Unauthorized")],
    ["a longer text", ScriptedCal.platformError(401, "Invalid Access Token. Or so.")],
    [
      "the text in the details only",
      ScriptedCal.platformError(401, "Unauthorized", { message: "Invalid Access Token." })
    ],
    ["the text with another status", ScriptedCal.platformError(400, "Invalid Access Token.")],
    [
      "the guard's text with 401",
      ScriptedCal.platformError(401, "PermissionsGuard - no oAuth client found for access token=x")
    ],
    ["401 without a body", { status: 401 }],
    ["401 that is not JSON", { status: 401, body: "Invalid Access Token." }],
    ["success with the text", { status: 200, body: { error: { message: "Invalid Access Token." } } }]
  ] as const)("%s is not such a refusal", ([, answer]) =>
    Effect.gen(function* () {
      yield* reply(answer)
      const response = yield* send()
      assert.strictEqual(response.status, "status" in answer ? answer.status : 0)
      assert.deepStrictEqual(yield* reports, [])
      assert.strictEqual((yield* requests).length, 1)
    }).pipe(Effect.provide(layer))
  )

  it.effect("a token that is expired at the second send is reported for those who come next", () =>
    Effect.gen(function* () {
      yield* reply(unknownToken, expired, ok)
      yield* advise(FakeCalTokens.retryWith("token-2"), FakeCalTokens.retryWith("token-3"))
      assert.strictEqual((yield* send()).status, 498)
      yield* Effect.yieldNow()
      assert.strictEqual((yield* requests).length, 2)
      assert.deepStrictEqual(yield* reports, [
        { accessToken: "token-1", status: 401 },
        { accessToken: "token-2", status: 498 }
      ])
    }).pipe(Effect.provide(layer))
  )

  it.effect("and that report ends with the layer, not after it", () =>
    Effect.gen(function* () {
      const ended = yield* Deferred.make<void>()
      yield* Effect.gen(function* () {
        yield* reply(unknownToken, expired)
        const waiting = Effect.never.pipe(Effect.onInterrupt(() => Deferred.succeed(ended, undefined)))
        yield* advise(FakeCalTokens.retryWith("token-2"), waiting)
        assert.strictEqual((yield* send()).status, 498)
        yield* Effect.yieldNow()
        assert.strictEqual((yield* reports).length, 2)
        assert.isFalse(yield* Deferred.isDone(ended))
      }).pipe(Effect.provide(layer))
      assert.isTrue(yield* Deferred.isDone(ended))
    })
  )

  it.effect.each([
    ["nothing can be done", FakeCalTokens.giveUp],
    ["there is another token by now", FakeCalTokens.retryWith("token-3")],
    ["the storage is away", Effect.fail(new StorageUnavailable({ operation: "find", reason: "x" }))]
  ] as const)("a second refusal goes to the caller where %s: two sends are the most", ([, advice]) =>
    Effect.gen(function* () {
      yield* reply(unknownToken, guard, ok)
      yield* advise(FakeCalTokens.retryWith("token-2"), advice)
      assert.strictEqual((yield* send()).status, 403)
      assert.strictEqual((yield* requests).length, 2)
      assert.deepStrictEqual(yield* reports, [
        { accessToken: "token-1", status: 401 },
        { accessToken: "token-2", status: 403, isSecond: true }
      ])
    }).pipe(Effect.provide(layer))
  )

  it.effect.each([
    ["401", unknownToken, 401],
    ["403", guard, 403]
  ] as const)("%s for a young pair at the second send: a third one after the delay, with the same token", (row) =>
    Effect.gen(function* () {
      const [, refusal, status] = row
      yield* reply(expired, refusal, ok)
      yield* advise(FakeCalTokens.retryWith("token-2"), FakeCalTokens.retryWith("token-2", "500 millis"))
      const fiber = yield* Effect.fork(send("POST", "/bookings", '{"start":"x"}'))
      yield* TestClock.adjust("499 millis")
      assert.strictEqual((yield* requests).length, 2)
      yield* TestClock.adjust("1 millis")
      assert.strictEqual((yield* Fiber.join(fiber)).status, 200)
      assert.deepStrictEqual(yield* bearers, ["Bearer token-1", "Bearer token-2", "Bearer token-2"])
      assert.deepStrictEqual(new Set((yield* requests).map(({ body }) => body)), new Set(['{"start":"x"}']))
      assert.deepStrictEqual(yield* reports, [
        { accessToken: "token-1", status: 498 },
        { accessToken: "token-2", status, isSecond: true }
      ])
    }).pipe(Effect.provide(layer))
  )

  it.effect("the third answer is the caller's, whatever it is: there is no fourth send", () =>
    Effect.gen(function* () {
      const again = FakeCalTokens.retryWith("token-1")
      for (const last of [unknownToken, guard, ScriptedCal.platformError(404, "no such booking"), ok]) {
        yield* reply(unknownToken, unknownToken, last)
        yield* advise(again, again, again, again)
        assert.strictEqual((yield* send()).status, "status" in last ? last.status : 0)
      }
      assert.strictEqual((yield* requests).length, 12)
      assert.strictEqual((yield* reports).length, 8)
    }).pipe(Effect.provide(layer))
  )

  it.effect("a token that is expired at the third send is reported for those who come next", () =>
    Effect.gen(function* () {
      yield* reply(unknownToken, unknownToken, expired, ok)
      yield* advise(FakeCalTokens.retryWith("token-2"), FakeCalTokens.retryWith("token-2"))
      assert.strictEqual((yield* send()).status, 498)
      yield* Effect.yieldNow()
      assert.strictEqual((yield* requests).length, 3)
      assert.deepStrictEqual((yield* reports).at(-1), { accessToken: "token-2", status: 498 })
    }).pipe(Effect.provide(layer))
  )

  it.effect("another answer at the second send is the caller's, and nothing is asked about it", () =>
    Effect.gen(function* () {
      yield* reply(unknownToken, ScriptedCal.platformError(401, "Unauthorized"))
      yield* advise(FakeCalTokens.retryWith("token-2"), FakeCalTokens.retryWith("token-2"))
      assert.strictEqual((yield* send()).status, 401)
      assert.strictEqual((yield* reports).length, 1)
    }).pipe(Effect.provide(layer))
  )

  it.effect("and nothing can be done, the answer goes to the caller", () =>
    Effect.gen(function* () {
      yield* reply(unknownToken)
      yield* advise(FakeCalTokens.giveUp)
      const response = yield* send()
      assert.strictEqual(response.status, 401)
      assert.include(yield* response.text, "Invalid Access Token.")
      assert.strictEqual((yield* requests).length, 1)
    }).pipe(Effect.provide(layer))
  )

  it.effect("and the user has to reconnect, that is the failure", () =>
    Effect.gen(function* () {
      yield* reply(unknownToken)
      yield* advise(Effect.fail(new ReauthorizationRequired({ userUlid: user, cause: "revoked", since: 0 })))
      assert.strictEqual((yield* Effect.flip(send()))._tag, "ReauthorizationRequired")
    }).pipe(Effect.provide(layer))
  )

  it.effect("the delay is kept, on Effect's clock", () =>
    Effect.gen(function* () {
      yield* reply(unknownToken, ok)
      yield* advise(FakeCalTokens.retryWith("token-1", "500 millis"))
      const fiber = yield* Effect.fork(send())
      yield* TestClock.adjust("499 millis")
      assert.strictEqual((yield* requests).length, 1)
      assert.isTrue(Option.isNone(yield* Fiber.poll(fiber)))
      yield* TestClock.adjust("1 millis")
      assert.strictEqual((yield* Fiber.join(fiber)).status, 200)
    }).pipe(Effect.provide(layer))
  )

  it.effect.each(["POST", "PATCH", "PUT", "DELETE"] as const)("%s is sent again too, with the same body", (method) =>
    Effect.gen(function* () {
      yield* reply(expired, ok)
      yield* advise(FakeCalTokens.retryWith("token-2"))
      yield* send(method, "/bookings", '{"start":"x"}')
      const sent = yield* requests
      assert.deepStrictEqual(
        sent.map(({ body, headers, method }) => [method, body, headers["content-type"]]),
        [
          [method, '{"start":"x"}', "application/json"],
          [method, '{"start":"x"}', "application/json"]
        ]
      )
    }).pipe(Effect.provide(layer))
  )

  it.effect("without a user nothing is reported and no token sent", () =>
    Effect.gen(function* () {
      yield* reply(unknownToken)
      const api = yield* CalApi
      const response = yield* api.send(undefined, {
        method: "GET",
        path: "/slots?eventTypeId=1",
        headers: { authorization: "Bearer smuggled" }
      })
      assert.strictEqual(response.status, 401)
      assert.deepStrictEqual(yield* bearers, [undefined])
      assert.deepStrictEqual(yield* reports, [])
      assert.deepStrictEqual(yield* Effect.flatMap(FakeCalTokens.FakeTokens, (tokens) => tokens.ensured), [])
    }).pipe(Effect.provide(layer))
  )
})

describe("bodies", () => {
  const post = (body: HttpBody.HttpBody) =>
    Effect.flatMap(CalApi, (api) =>
      api.client(user).execute(HttpClientRequest.post("/bookings").pipe(HttpClientRequest.setBody(body)))
    )
  const bytes = (length: number) => new Uint8Array(length).fill(120)

  it.effect("a stream is kept, so that it can be sent again", () =>
    Effect.gen(function* () {
      yield* reply(expired, ok)
      yield* advise(FakeCalTokens.retryWith("token-2"))
      yield* post(HttpBody.stream(Stream.make(bytes(3), bytes(2)), "text/plain"))
      assert.deepStrictEqual(
        (yield* requests).map(({ body, headers }) => [body, headers["content-type"], headers["content-length"]]),
        [
          ["xxxxx", "text/plain", "5"],
          ["xxxxx", "text/plain", "5"]
        ]
      )
    }).pipe(Effect.provide(layer))
  )

  it.effect("a stream of more than 1 MiB is refused before anything is sent", () =>
    Effect.gen(function* () {
      const half = 512 * 1024
      yield* reply(ok)
      yield* post(HttpBody.stream(Stream.make(bytes(half), bytes(half))))
      assert.strictEqual((yield* requests)[0]?.body.length, 2 * half)
      const error = yield* Effect.flip(post(HttpBody.stream(Stream.make(bytes(half), bytes(half), bytes(1)))))
      assert(error._tag === "InvalidInput")
      assert.isTrue(error.tooLarge)
      assert.strictEqual((yield* requests).length, 1)
    }).pipe(Effect.provide(layer))
  )

  it.effect("an endless stream is refused, too", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(post(HttpBody.stream(Stream.forever(Stream.make(bytes(1000))))))
      assert.strictEqual(error._tag, "InvalidInput")
    }).pipe(Effect.provide(layer))
  )

  it.effect("one that can be read only once is refused", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(post(HttpBody.raw(new ReadableStream())))
      assert(error._tag === "InvalidInput" && error.tooLarge === undefined)
      const failing = yield* Effect.flip(post(HttpBody.stream(Stream.fail("secret reason"))))
      assert(failing._tag === "InvalidInput")
      assert.notInclude(failing.message, "secret")
    }).pipe(Effect.provide(layer))
  )

  it.effect("forms and texts pass", () =>
    Effect.gen(function* () {
      yield* reply(ok, ok)
      const form = new FormData()
      form.append("a", "b")
      yield* post(HttpBody.formData(form))
      yield* post(HttpBody.raw("plain", { contentType: "text/x" }))
      assert.deepStrictEqual(
        (yield* requests).map(({ body }) => body),
        ['[["a","b"]]', "plain"]
      )
    }).pipe(Effect.provide(layer))
  )
})

describe("isTokenRefusal", () => {
  it("needs no body for 498 and survives any", () => {
    assert.isTrue(isTokenRefusal(498, ""))
    for (const text of [
      "",
      "{",
      "null",
      "[]",
      '{"error":null}',
      '{"error":"Invalid Access Token."}',
      '{"error":{"message":5}}'
    ]) {
      assert.isFalse(isTokenRefusal(401, text))
      assert.isFalse(isTokenRefusal(403, text))
    }
  })
  it("knows the guard's text with its token replaced", () => {
    const text = JSON.stringify({
      error: { message: "PermissionsGuard - no oAuth client found for access token=<redacted>" }
    })
    assert.isTrue(isTokenRefusal(403, text))
  })
})
