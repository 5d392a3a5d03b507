/** What somebody found who set out to break refreshes that nobody waits for. */
import { assert, describe } from "@effect/vitest"
import { Clock, Effect, TestClock } from "effect"
import { Fault, Sandbox } from "../../src/Sandbox.js"
import type * as CalTokens from "../../src/CalTokens.js"
import * as World from "../support/World.js"

const { scenario, user } = World

const round = (tokens: typeof CalTokens.CalTokens.Service, limit = 100) =>
  Effect.gen(function* () {
    const { begun, ...rest } = yield* tokens.refreshDue(limit)
    const results = yield* World.passTime(Effect.all(begun, { concurrency: "unbounded" }), 60_000)
    return { begun: begun.length, refreshed: results.filter((isDone) => isDone).length, ...rest }
  })

describe("refreshed", () => {
  scenario(
    "is true where this call did refresh, though the row had moved on (and expired) since it was remembered",
    Effect.gen(function* () {
      const { refreshes, tokens } = yield* World.connected("managed")
      yield* tokens.ensureValid(user())
      const other = yield* World.anotherNode()
      yield* TestClock.adjust("61 minutes")
      yield* other.tokens.ensureValid(user())
      yield* TestClock.adjust("61 minutes")
      const before = yield* refreshes
      const { refreshed } = yield* tokens.ensureValid(user())
      assert.strictEqual((yield* refreshes) - before, 1)
      assert.isTrue(refreshed)
    })
  )
  scenario(
    "is false for all who joined a flight that found a newer pair",
    Effect.gen(function* () {
      const { refreshes, tap, tokens } = yield* World.connected("managed")
      yield* tokens.ensureValid(user())
      const other = yield* World.anotherNode()
      yield* TestClock.adjust("61 minutes")
      yield* other.tokens.ensureValid(user())
      const before = yield* refreshes
      yield* tap.around("claim", { before: Effect.sleep("1 second") })
      const callers = yield* World.start(World.many(3, tokens.ensureValid(user())))
      const answers = yield* World.landed(callers, 5000)
      assert.strictEqual((yield* refreshes) - before, 0)
      assert.deepStrictEqual(
        answers.map(({ refreshed }) => refreshed),
        [false, false, false]
      )
    })
  )
})

describe("a dormant user", () => {
  scenario(
    "is not taken for an active one because the refresh met a 502",
    Effect.gen(function* () {
      const { refreshes, refresh, sandbox, tokens } = yield* World.connected("oauth2")
      yield* TestClock.adjust("5 hours")
      yield* round(tokens)
      yield* TestClock.adjust("27 days")
      yield* sandbox.inject(Fault.status(502, { ...refresh, times: 1 }))
      yield* round(tokens)
      yield* TestClock.adjust("40 seconds")
      yield* round(tokens)
      const kept = yield* refreshes
      for (let n = 0; n < 20; n++) {
        yield* TestClock.adjust("20 minutes")
        yield* round(tokens)
      }
      assert.strictEqual((yield* refreshes) - kept, 0)
    })
  )
})

describe("a 429", () => {
  scenario(
    "without Cal.com's own headers pauses background work too",
    Effect.gen(function* () {
      const { refreshes, refresh, sandbox, tokens } = yield* World.allExpired("managed", 60)
      yield* sandbox.inject(Fault.status(429, { ...refresh, times: Infinity, headers: { "retry-after": "60" } }))
      yield* round(tokens, 8)
      for (let n = 0; n < 5; n++) yield* round(tokens, 8)
      assert.isAtMost(yield* refreshes, 8)
    })
  )
})

describe("two clients", () => {
  scenario(
    "share the slots of a process",
    Effect.gen(function* () {
      yield* Effect.forEach(World.users(60), (each) => World.connectManaged(each))
      yield* World.connectOAuth2(user(100))
      yield* TestClock.adjust("61 minutes")
      const sandbox = yield* Sandbox
      const tokens = (yield* World.anotherNode()).tokens
      for (let n = 0; n < 6; n++) yield* round(tokens, 8)
      assert.strictEqual(yield* sandbox.count("oauth2Refresh"), 1)
    })
  )
})

describe("a use noted by a process with a fast clock", () => {
  scenario(
    "does not keep a user active for a year",
    Effect.gen(function* () {
      const { refreshes, tap, tokens } = yield* World.connected("managed")
      const now = yield* Clock.currentTimeMillis
      yield* tap.raw.used([{ userUlid: user(), at: now + 365 * 86_400_000 }], 300_000)
      yield* tokens.ensureValid(user())
      yield* TestClock.adjust("10 minutes")
      yield* tokens.ensureValid(user())
      yield* TestClock.adjust("10 seconds")
      yield* TestClock.adjust("5 days")
      yield* round(tokens)
      yield* TestClock.adjust("1 days")
      yield* round(tokens)
      assert.strictEqual(yield* refreshes, 0)
    })
  )
})

describe("an answer that brings no newer access token", () => {
  scenario(
    "does not make a user due at once again",
    Effect.gen(function* () {
      const { refreshes, refresh, sandbox, tokens } = yield* World.connected("managed")
      yield* TestClock.adjust("50 minutes")
      yield* sandbox.inject(Fault.odd("accessTokenMissing", { ...refresh, times: Infinity }))
      for (let n = 0; n < 60; n++) {
        yield* round(tokens)
        yield* TestClock.adjust("2 seconds")
      }
      assert.isAtMost(yield* refreshes, 3)
    })
  )
})
