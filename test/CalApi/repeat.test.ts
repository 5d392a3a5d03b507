import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Exit, Fiber, Layer, Option, Random, Schema, TestClock } from "effect"
import type { HttpMethod } from "@effect/platform"
import * as CalApi from "../../src/CalApi.js"
import * as CalClient from "../../src/CalClient.js"
import { UserUlid } from "../../src/Token.js"
import * as ScriptedCal from "../support/ScriptedCal.js"
import { quicken } from "../support/TestTime.js"
import * as FakeCalTokens from "../support/FakeCalTokens.js"

const user = Schema.decodeSync(UserUlid)("01ARZ3NDEKTSV4RRFFQ69G5FAV")
const layer = CalApi.layer.pipe(
  Layer.provideMerge(CalClient.layer({ apiUrl: "https://api.cal.com/v2" })),
  Layer.provideMerge(Layer.merge(ScriptedCal.layer, FakeCalTokens.layer))
)

const ok: ScriptedCal.Reply = { status: 200, body: {} }
const reset: ScriptedCal.Reply = { fail: ScriptedCal.systemError("ECONNRESET") }
const refused: ScriptedCal.Reply = { fail: ScriptedCal.systemError("ECONNREFUSED", { syscall: "connect" }) }
const unavailable: ScriptedCal.Reply = { status: 503 }
const limited = (seconds: number): ScriptedCal.Reply => ({
  status: 429,
  headers: { "X-RateLimit-Reset-Default": String(seconds), "X-RateLimit-Remaining-Default": "0" }
})

/** How a send ends on these replies, and after how many requests, given all the time it wants. */
const run = (method: HttpMethod.HttpMethod, ...replies: ReadonlyArray<ScriptedCal.Reply>) =>
  Effect.gen(function* () {
    const http = yield* ScriptedCal.ScriptedCal
    yield* http.reply(...replies)
    const api = yield* CalApi.CalApi
    const fiber = yield* Effect.fork(api.send(user, { method, path: "/bookings" }))
    yield* TestClock.adjust("1 minute")
    const exit = yield* Fiber.await(fiber)
    const end = Exit.match(exit, {
      onSuccess: ({ status }) => String(status),
      onFailure: (cause) => (cause._tag === "Fail" ? cause.error._tag : cause._tag)
    })
    return `${end} after ${(yield* http.requests).length}`
  }).pipe(Effect.provide(layer))

const idempotent = ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"] as const
const others = ["POST", "PATCH"] as const

describe("an idempotent request", () => {
  it.effect.each(idempotent)("%s is repeated after 5xx and network errors, twice at most", (method) =>
    Effect.gen(function* () {
      assert.strictEqual(yield* run(method, unavailable, ok), "200 after 2")
      assert.strictEqual(yield* run(method, reset, ok), "200 after 2")
      assert.strictEqual(yield* run(method, refused, { status: 500 }, ok), "200 after 3")
      assert.strictEqual(yield* run(method, { status: 502 }, { status: 504 }, { status: 500 }), "500 after 3")
      assert.strictEqual(yield* run(method, reset, reset, reset), "CalUnavailable after 3")
      assert.strictEqual(yield* run(method, { truncated: 500 }, ok), "200 after 2")
    })
  )

  it.effect("is not repeated for what repeating does not change", () =>
    Effect.gen(function* () {
      for (const status of [200, 204, 301, 304, 400, 403, 404, 409, 422]) {
        assert.strictEqual(yield* run("GET", { status }), `${status} after 1`)
      }
      assert.strictEqual(
        yield* run("GET", { fail: ScriptedCal.systemError("UND_ERR_INVALID_ARG") }),
        "InvalidInput after 1"
      )
    })
  )

  it.effect("waits as long as a 503 says, if that is short", () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* run("GET", { status: 503, headers: { "retry-after": "5" } }, ok), "200 after 2")
      assert.strictEqual(yield* run("GET", { status: 503, headers: { "retry-after": "6" } }), "503 after 1")
    })
  )
})

describe("a request with effects", () => {
  it.effect.each(others)("%s is never repeated after 5xx or a network error", (method) =>
    Effect.gen(function* () {
      for (const status of [500, 502, 503, 504]) {
        assert.strictEqual(yield* run(method, { status }), `${status} after 1`)
      }
      assert.strictEqual(yield* run(method, { status: 503, headers: { "retry-after": "1" } }), "503 after 1")
      assert.strictEqual(yield* run(method, reset), "CalUnavailable after 1")
      assert.strictEqual(yield* run(method, refused), "CalUnavailable after 1")
    })
  )
})

describe("the rate limit", () => {
  it.effect.each([...idempotent, ...others])("%s is repeated if the wait is at most 5 s", (method) =>
    Effect.gen(function* () {
      assert.strictEqual(yield* run(method, limited(5), ok), "200 after 2")
      assert.strictEqual(yield* run(method, limited(1), limited(1), ok), "200 after 3")
      assert.strictEqual(yield* run(method, limited(1), limited(1), limited(1)), "429 after 3")
      assert.strictEqual(yield* run(method, limited(6)), "429 after 1")
      assert.strictEqual(yield* run(method, { status: 429 }), "429 after 1")
    })
  )

  it.effect("is waited for as long as Cal.com says, and not much longer", () =>
    Effect.gen(function* () {
      const http = yield* ScriptedCal.ScriptedCal
      const api = yield* CalApi.CalApi
      yield* http.reply(limited(3), ok)
      const fiber = yield* Effect.fork(api.send(user, { method: "GET", path: "/me" }))
      yield* TestClock.adjust("3 seconds")
      assert.strictEqual((yield* http.requests).length, 1)
      yield* TestClock.adjust("250 millis")
      assert.strictEqual((yield* Fiber.join(fiber)).status, 200)
    }).pipe(Effect.provide(layer))
  )
})

describe("repetitions", () => {
  /** The requests that were sent by and by, one entry per 10 ms. */
  const times = Effect.gen(function* () {
    const http = yield* ScriptedCal.ScriptedCal
    const api = yield* CalApi.CalApi
    yield* http.reply(unavailable, unavailable, ok)
    const fiber = yield* Effect.fork(api.send(user, { method: "GET", path: "/me" }))
    const found: Array<number> = []
    for (let elapsed = 0; Option.isNone(yield* Fiber.poll(fiber)); elapsed += 10) {
      if ((yield* http.requests).length > found.length + 1) found.push(elapsed)
      yield* TestClock.adjust("10 millis")
    }
    return found
  }).pipe(Effect.provide(layer))

  it.effect("back off with jitter", () =>
    Effect.gen(function* () {
      yield* quicken
      const runs = yield* Effect.forEach(
        Array.from({ length: 12 }, (_, seed) => seed),
        (seed) => Effect.withRandom(times, Random.make(seed))
      )
      const firsts = runs.map(([first = 0]) => first)
      firsts.forEach((first) => {
        assert.isAtLeast(first, 250)
        assert.isAtMost(first, 510)
      })
      assert.isAbove(new Set(firsts).size, 5)
    })
  )

  it.effect("are counted over the whole request, refused tokens apart", () =>
    Effect.gen(function* () {
      const expired = ScriptedCal.platformError(498, "ACCESS_TOKEN_IS_EXPIRED")
      const http = yield* ScriptedCal.ScriptedCal
      const tokens = yield* FakeCalTokens.FakeTokens
      const api = yield* CalApi.CalApi
      yield* tokens.advise(FakeCalTokens.retryWith("token-2"))
      yield* http.reply(unavailable, expired, unavailable, unavailable)
      const fiber = yield* Effect.fork(api.send(user, { method: "GET", path: "/me" }))
      yield* TestClock.adjust("1 minute")
      assert.strictEqual((yield* Fiber.join(fiber)).status, 503)
      assert.deepStrictEqual(
        (yield* http.requests).map(({ headers }) => headers["authorization"]),
        ["Bearer token-1", "Bearer token-1", "Bearer token-2", "Bearer token-2"]
      )
    }).pipe(Effect.provide(layer))
  )

  it.effect("end with an interrupted caller", () =>
    Effect.gen(function* () {
      const http = yield* ScriptedCal.ScriptedCal
      const api = yield* CalApi.CalApi
      yield* http.reply(unavailable, ok)
      const fiber = yield* Effect.fork(api.send(user, { method: "GET", path: "/me" }))
      yield* TestClock.adjust("100 millis")
      yield* Fiber.interrupt(fiber)
      yield* TestClock.adjust("1 minute")
      assert.strictEqual((yield* http.requests).length, 1)
    }).pipe(Effect.provide(layer))
  )
})

describe("an answer that does not come", () => {
  it.effect("is given up after 30 s and not asked for again", () =>
    Effect.gen(function* () {
      const http = yield* ScriptedCal.ScriptedCal
      const api = yield* CalApi.CalApi
      yield* http.reply({ never: true }, ok)
      const fiber = yield* Effect.fork(Effect.flip(api.send(user, { method: "GET", path: "/me" })))
      yield* TestClock.adjust(Duration.millis(29_999))
      assert.isTrue(Option.isNone(yield* Fiber.poll(fiber)))
      yield* TestClock.adjust("1 minute")
      const error = yield* Fiber.join(fiber)
      assert(error._tag === "CalUnavailable")
      assert.strictEqual(error.reason, "timeout")
      assert.strictEqual((yield* http.requests).length, 1)
    }).pipe(Effect.provide(layer))
  )
})
