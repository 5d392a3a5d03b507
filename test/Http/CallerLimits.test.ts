/** How many requests are taken from a key, from an address, and from people who guess. */
import { HttpApiClient, HttpClient, HttpClientRequest } from "@effect/platform"
import { RateLimiter } from "@effect/experimental"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Layer, Redacted, TestClock } from "effect"
import { Api } from "../../src/Api.js"
import * as ClientAddress from "../../src/Http/ClientAddress.js"
import * as CallerLimits from "../../src/Http/CallerLimits.js"
import { type Call, call, calls, Fake, keys, layerWith, userUlid } from "../support/HttpFakes.js"

const ensure = { path: "/api/cal/ensure-token", body: JSON.stringify({ userUlid }) } as const

const statuses = (request: Call, times: number) =>
  Effect.map(
    Effect.forEach(Array.from({ length: times }), () => call(request)),
    (answers) => answers.map(({ status }) => status).join()
  )

describe("an API key", () => {
  it.effect("has so many requests a minute, whatever for, and other keys have their own", () =>
    Effect.gen(function* () {
      const request = { ...ensure, key: keys.manage }
      assert.strictEqual(yield* statuses(request, 3), "200,200,200")
      const over = yield* call(request)
      assert.strictEqual(over.status, 429)
      const failure = JSON.parse(over.body) as { readonly retryAfter: number }
      assert.deepEqual<unknown>(failure, {
        success: false,
        error: `Too many requests: try again in ${failure.retryAfter} s.`,
        code: "RateLimited",
        retryAfter: failure.retryAfter
      })
      assert.strictEqual(over.headers["retry-after"], String(failure.retryAfter))
      assert.isAtMost(failure.retryAfter, 60)
      assert.strictEqual(
        yield* statuses({ method: "GET", path: `/api/cal/connections/${userUlid}`, key: keys.manage }, 2),
        "429,429"
      )
      assert.strictEqual(yield* statuses({ ...ensure, key: keys.all }, 1), "200")
      const proxied = { method: "GET", path: `/api/cal/proxy/${userUlid}/me`, key: keys.proxy } as const
      assert.strictEqual(yield* statuses(proxied, 4), "200,200,200,429")
      assert.strictEqual((yield* calls).length, 7)
      yield* TestClock.adjust(Duration.seconds(failure.retryAfter))
      assert.strictEqual(yield* statuses(request, 1), "200")
      // By name, once per window, and never the key.
      const { logs } = yield* Fake
      assert.deepStrictEqual(
        logs.map(({ annotations, level, message }) => [level, message, annotations["kind"], annotations["who"]]),
        [
          ["WARN", "A rate limit is used up", "key", "manage"],
          ["WARN", "A rate limit is used up", "key", "proxy"]
        ]
      )
      for (const secret of Object.values(keys)) assert.notInclude(JSON.stringify(logs), secret)
    }).pipe(Effect.provide(layerWith({ limits: { perKey: 3 } })))
  )

  it.effect("that is over its limit is a typed failure of a derived client", () =>
    Effect.gen(function* () {
      const { tokens } = yield* HttpApiClient.make(Api, {
        transformClient: HttpClient.mapRequest(HttpClientRequest.bearerToken(Redacted.make(keys.manage)))
      })
      yield* tokens.ensureToken({ payload: { userUlid } })
      const retryAfter = yield* tokens.ensureToken({ payload: { userUlid } }).pipe(
        Effect.as(0),
        Effect.catchTag("RateLimited", (failure) => Effect.succeed(failure.retryAfter ?? 0))
      )
      assert.strictEqual(retryAfter, 60)
    }).pipe(Effect.provide(layerWith({ limits: { perKey: 1 } })))
  )
})

describe("an address", () => {
  it.effect("has so many requests a minute, health checks not counted", () =>
    Effect.gen(function* () {
      const health = { method: "GET", path: "/health/ready" } as const
      assert.strictEqual(yield* statuses(health, 6), "200,200,200,200,200,200")
      assert.strictEqual(yield* statuses({ method: "GET", path: "/nowhere" }, 2), "404,404")
      assert.strictEqual(yield* statuses({ ...ensure, key: keys.manage }, 2), "200,429")
      assert.strictEqual(yield* statuses(health, 2), "200,200")
      const over = yield* call({ method: "GET", path: "/openapi.json" })
      assert.deepStrictEqual([over.status, over.headers["retry-after"]], [429, "60"])
    }).pipe(Effect.provide(layerWith({ limits: { perAddress: 3 } })))
  )

  it.effect("that guesses is told to wait, and locks nobody out who knows a key", () =>
    Effect.gen(function* () {
      const guess = { ...ensure, key: "x".repeat(40) }
      assert.strictEqual(yield* statuses(guess, 4), "401,401,401,429")
      const over = yield* call({ ...ensure, body: "{" })
      assert.strictEqual(over.status, 429)
      assert.include(over.body, `"code":"RateLimited"`)
      assert.isDefined(over.headers["retry-after"])
      assert.strictEqual(yield* statuses({ ...ensure, key: keys.manage }, 2), "200,200")
      // Somebody who lacks a scope does not guess.
      assert.strictEqual(yield* statuses({ ...ensure, key: keys.proxy }, 2), "403,403")
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(yield* statuses(guess, 1), "401")
    }).pipe(Effect.provide(layerWith({ limits: { failuresPerAddress: 3 } })))
  )

  it("of IPv6 is its network, written in any way", () => {
    for (const [address, expected] of [
      ["203.0.113.9", "203.0.113.9"],
      ["::ffff:203.0.113.9", "203.0.113.9"],
      ["::1", "0:0:0:0::/64"],
      ["2001:db8::1", "2001:db8:0:0::/64"],
      ["2001:0DB8:0000:0000:1::", "2001:db8:0:0::/64"],
      ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"],
      ["2001:db8:1:2::", "2001:db8:1:2::/64"],
      ["fe80::1%eth0", "fe80:0:0:0::/64"],
      ["unknown", "unknown"]
    ] as const) {
      assert.strictEqual(ClientAddress.network(address), expected)
    }
  })
})

describe("the counters", () => {
  it.effect("are so many at most: the oldest give way", () =>
    Effect.gen(function* () {
      const limiter = yield* RateLimiter.RateLimiter
      const once = (key: string) =>
        Effect.either(limiter.consume({ key, limit: 1, window: "1 hour" })).pipe(Effect.map(({ _tag }) => _tag))
      assert.deepStrictEqual([yield* once("a"), yield* once("a")], ["Right", "Left"])
      for (let n = 0; n < 49_999; n++) yield* once(`${n}`)
      assert.strictEqual(yield* once("a"), "Left")
      for (let n = 0; n < 50_000; n++) yield* once(`again ${n}`)
      assert.strictEqual(yield* once("a"), "Right")
    }).pipe(Effect.provide(Layer.provide(RateLimiter.layer, CallerLimits.layerStore)))
  )
})
