import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Layer, Option, Redacted, TestClock } from "effect"
import { Headers } from "@effect/platform"
import * as CalClient from "../../src/CalClient.js"
import * as ScriptedCal from "../support/ScriptedCal.js"

const start = Date.UTC(2026, 2, 14, 9, 26, 53)
const httpDate = (millis: number) => new Date(millis).toUTCString()

const layer = CalClient.layer({
  apiUrl: "https://api.cal.com/v2",
  managed: { clientId: "C", clientSecret: Redacted.make("s") }
}).pipe(Layer.provideMerge(ScriptedCal.layer))

const observe = (headers: Record<string, string>, sentAt?: number) =>
  Effect.flatMap(CalClient.CalClient, (client) => client.observeDate(Headers.fromInput(headers), sentAt))
const now = Effect.flatMap(CalClient.CalClient, (client) => client.now)

describe("Cal.com's time", () => {
  it.effect("is our clock until an answer says otherwise, and then runs with it", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(start)
      assert.strictEqual(yield* now, start)
      yield* observe({ date: httpDate(start - 90_000) })
      assert.strictEqual(yield* now, start - 90_000)
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(yield* now, start - 80_000)
      yield* observe({ Date: httpDate(start - 100_000) })
      assert.strictEqual(yield* now, start - 100_000)
    }).pipe(Effect.provide(layer))
  )

  it.effect("ignores offsets of less than two seconds, which are rounding and travel", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(start + 999)
      yield* observe({ date: httpDate(start - 1000) })
      assert.strictEqual(yield* now, start + 999)
      yield* observe({ date: httpDate(start + 2000) })
      assert.strictEqual(yield* now, start + 999)
      yield* TestClock.setTime(start)
      yield* observe({ date: httpDate(start - 2000) })
      assert.strictEqual(yield* now, start - 2000)
      yield* observe({ date: httpDate(start + 1000) })
      assert.strictEqual(yield* now, start)
    }).pipe(Effect.provide(layer))
  )

  it.effect("is not thrown off by an answer that was long on its way", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(start + 30_000)
      // Written at any time between its request and now: nothing speaks against our clock.
      yield* observe({ date: httpDate(start) }, start)
      assert.strictEqual(yield* now, start + 30_000)
      yield* observe({ date: httpDate(start + 30_000 + 600_000) }, start + 30_000)
      yield* observe({ date: httpDate(start + 30_000 + 600_000) }, start + 30_000)
      yield* observe({ date: httpDate(start + 600_000) }, start)
      assert.strictEqual(yield* now, start + 30_000 + 600_000)
      // Written at the latest now, and at the earliest when it was asked for.
      yield* observe({ date: httpDate(start + 510_000) }, start)
      assert.strictEqual(yield* now, start + 30_000 + 510_000)
    }).pipe(Effect.provide(layer))
  )

  it.effect("ignores dates that are missing, malformed, absurd or out of a cache", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(start)
      yield* observe({ date: httpDate(start + 60_000) })
      for (const headers of [
        {},
        { date: "soon" },
        { date: String(start) },
        { date: "2026-03-14T10:00:00Z" },
        { date: "Sat, 99 Mar 2026 09:26:53 GMT" },
        { date: httpDate(0) },
        { date: httpDate(start + 731 * 86_400_000) },
        { date: httpDate(start - 7_200_000), age: "30" }
      ]) {
        yield* observe(headers)
        assert.strictEqual(yield* now, start + 60_000)
      }
      yield* observe({ date: httpDate(start - 60_000), age: "0" })
      assert.strictEqual(yield* now, start - 60_000)
    }).pipe(Effect.provide(layer))
  )

  it.effect("is what the first answer says, and later jumps only where two in a row agree", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(start)
      const hour = 3_600_000
      const told = (offset: number) => observe({ date: httpDate(start + offset) })
      yield* told(hour)
      assert.strictEqual(yield* now, start + hour)
      // Steps of up to two minutes are a clock that is set, and count at once.
      yield* told(hour + 120_000)
      yield* told(hour)
      assert.strictEqual(yield* now, start + hour)
      for (const odd of [0, hour + 121_000, hour - 121_000, 300 * 86_400_000]) {
        yield* told(odd)
        assert.strictEqual(yield* now, start + hour, "one says so")
        yield* told(hour)
        yield* told(odd)
        assert.strictEqual(yield* now, start + hour, "another one said otherwise in between")
        yield* told(odd < hour ? odd - 6000 : odd + 6000)
        assert.strictEqual(yield* now, start + hour, "two do not agree")
        yield* told(hour)
      }
      yield* told(-hour)
      // No date and one out of a cache say nothing either way.
      yield* observe({})
      yield* observe({ date: httpDate(start + hour), age: "60" })
      yield* told(5000 - hour)
      assert.strictEqual(yield* now, start + 5000 - hour)
    }).pipe(Effect.provide(layer))
  )

  it.effect("of an answer that nobody confirmed is not when its tokens were issued", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(start)
      const client = yield* CalClient.CalClient
      const http = yield* ScriptedCal.ScriptedCal
      const reissue = Effect.gen(function* () {
        yield* http.reply({
          status: 200,
          headers: { date: httpDate(start + 600_000) },
          body: {
            status: "success",
            data: {
              accessToken: "an-access-token-of-cal-com",
              refreshToken: "a-refresh-token-of-cal-com",
              accessTokenExpiresAt: start + 3_600_000
            }
          }
        })
        const { pair } = yield* client.reissue({ _tag: "ManagedUser", clientId: "C", calUserId: 1 })
        return pair.issuedAt
      })
      yield* observe({ date: httpDate(start) })
      assert.strictEqual(yield* reissue, start)
      assert.strictEqual(yield* reissue, start + 600_000)
    }).pipe(Effect.provide(layer))
  )

  it.effect("is learned from every answer of a call, refusals too", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(start)
      const client = yield* CalClient.CalClient
      yield* (yield* ScriptedCal.ScriptedCal).reply({ status: 503, headers: { date: httpDate(start + 30_000) } })
      yield* Effect.exit(client.me(Redacted.make("a")))
      assert.strictEqual(yield* now, start + 30_000)
    }).pipe(Effect.provide(layer))
  )
})

describe("the rate limit", () => {
  const limits = (remaining: number, reset: number) => ({
    "X-RateLimit-Limit-Default": "500",
    "X-RateLimit-Remaining-Default": String(remaining),
    "X-RateLimit-Reset-Default": String(reset)
  })

  it.effect("is what the last token call of that client said, while its window lasts", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(start)
      const client = yield* CalClient.CalClient
      const http = yield* ScriptedCal.ScriptedCal
      assert.isTrue(Option.isNone(yield* client.rateLimit("C")))
      yield* http.reply({ status: 401, headers: limits(499, 60) }, { status: 429, headers: limits(0, 42) })
      const reissue = Effect.exit(client.reissue({ _tag: "ManagedUser", clientId: "C", calUserId: 1 }))
      yield* reissue
      assert.deepStrictEqual(Option.getOrThrow(yield* client.rateLimit("C")), {
        limit: 500,
        remaining: 499,
        resetIn: Duration.millis(60_000)
      })
      yield* reissue
      yield* TestClock.adjust("12 seconds")
      assert.deepStrictEqual(Option.getOrThrow(yield* client.rateLimit("C")), {
        limit: 500,
        remaining: 0,
        resetIn: Duration.millis(30_000)
      })
      yield* TestClock.adjust("30 seconds")
      assert.isTrue(Option.isNone(yield* client.rateLimit("C")))
      assert.isTrue(Option.isNone(yield* client.rateLimit("K")))
    }).pipe(Effect.provide(layer))
  )

  it.effect("is remembered minute by minute for an hour: the least of each", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(start)
      const client = yield* CalClient.CalClient
      const http = yield* ScriptedCal.ScriptedCal
      assert.deepStrictEqual(yield* client.budgets, [])
      const told = (remaining: number, reset = 60) =>
        Effect.zipRight(
          http.reply({ status: 401, headers: limits(remaining, reset) }),
          Effect.exit(client.reissue({ _tag: "ManagedUser", clientId: "C", calUserId: 1 }))
        )
      const minute = start - (start % 60_000)
      // Seven seconds before the next one begins.
      for (const remaining of [480, 300, 420]) yield* told(remaining)
      yield* TestClock.adjust("7 seconds")
      yield* told(490, 30)
      const noted = { at: minute + 60_000, remaining: 490 }
      const budget = { kind: "managed" as const, clientId: "C", limit: 500 }
      assert.deepStrictEqual(yield* client.budgets, [
        { ...budget, remaining: 490, resetsAt: start + 37_000, minutes: [{ at: minute, remaining: 300 }, noted] }
      ])
      yield* TestClock.adjust("59 minutes")
      assert.deepStrictEqual(yield* client.budgets, [{ ...budget, remaining: 500, minutes: [noted] }])
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(yield* client.budgets, [{ ...budget, remaining: 500, minutes: [] }])
      // No more are kept than are told of.
      for (let n = 0; n < 70; n++) yield* Effect.zipRight(told(n), TestClock.adjust("1 minute"))
      const [{ minutes } = { minutes: [] }] = yield* client.budgets
      assert.deepStrictEqual([minutes.length, minutes[0]?.remaining, minutes.at(-1)?.remaining], [59, 11, 69])
    }).pipe(Effect.provide(layer))
  )

  it.effect("is not mixed up with a user's own bucket, nor changed by an answer without it", () =>
    Effect.gen(function* () {
      const client = yield* CalClient.CalClient
      const http = yield* ScriptedCal.ScriptedCal
      const reissue = Effect.exit(client.reissue({ _tag: "ManagedUser", clientId: "C", calUserId: 1 }))
      yield* http.reply(
        { status: 401, headers: limits(7, 60) },
        { status: 200, headers: limits(1, 60) },
        { status: 502 }
      )
      yield* reissue
      yield* Effect.exit(client.me(Redacted.make("a")))
      yield* reissue
      assert.strictEqual(Option.getOrThrow(yield* client.rateLimit("C")).remaining, 7)
    }).pipe(Effect.provide(layer))
  )
})
