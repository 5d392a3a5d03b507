/** A fresh token costs a look: no storage, no span, no fiber, and what is answered was made before. */
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Exit, FastCheck as fc, Fiber, Redacted, Runtime, TestClock } from "effect"
import { Fault } from "../../src/Sandbox.js"
import * as Token from "../../src/Token.js"
import * as TokenConfig from "../../src/TokenConfig.js"
import { StorageTap } from "../support/StorageTap.js"
import * as Spans from "../support/Spans.js"
import * as World from "../support/World.js"

const { scenario, user } = World

const millis = fc.integer({ min: -10_000_000, max: 10_000_000 })

it("`freshUntil` is where a token stops being fresh, for any window and lifetime", () => {
  const pair = fc.record({ accessTokenExpiresAt: millis, issuedAt: millis }, { requiredKeys: ["accessTokenExpiresAt"] })
  const duration = fc.integer({ min: 0, max: 5_000_000 }).map(Duration.millis)
  const fraction = fc.double({ min: 0, max: 1, noNaN: true })
  const windows = fc.record({ soon: duration, soonFraction: fraction, due: duration, dueFraction: fraction })
  const token = Redacted.make("token")
  fc.assert(
    fc.property(pair, windows, millis, fc.constantFrom(-1, 0, 1, undefined), (some, windows, at, beside) => {
      const pair: Token.TokenPair = { accessToken: token, refreshToken: token, ...some }
      const until = Token.freshUntil(pair, windows)
      const now = beside === undefined ? at : Math.round(until) + beside
      assert.strictEqual(now < until, Token.freshness(pair, now, windows) === "fresh", `${now} ${until}`)
    }),
    { numRuns: 2000 }
  )
})

describe("a fresh token", () => {
  scenario(
    "is the same object each time, from memory, without a span",
    Effect.gen(function* () {
      const { tap, tokens } = yield* World.connected("managed")
      const first = yield* tokens.ensureValid(user())
      yield* tap.reset
      const { names, tracer } = Spans.noting()
      const again = yield* Effect.withTracer(tokens.ensureValid(user()), tracer)
      assert.strictEqual(again, yield* tokens.ensureValid(user(), { handsOut: false }))
      assert.strictEqual(tokens.peek(user()), again)
      assert.deepStrictEqual(again, first)
      assert.isEmpty(names)
      yield* Effect.withTracer(tokens.ensureValid(user(), { forceRefresh: true }), tracer)
      assert.isNotEmpty(names)
      assert.strictEqual(tap.count("find"), 1)
    })
  )

  scenario(
    "is answered at once: nothing yields to another fiber",
    Effect.gen(function* () {
      const { tokens } = yield* World.connected("managed")
      yield* tokens.ensureValid(user())
      const runSyncExit = Runtime.runSyncExit(yield* Effect.runtime())
      assert.isTrue(Exit.isSuccess(runSyncExit(tokens.ensureValid(user(), { handsOut: false }))))
    })
  )
})

describe("a look tells nothing", () => {
  scenario(
    "of users that this process has not read, and of none any more once it is not recent",
    Effect.gen(function* () {
      const { tokens } = yield* World.connected("managed")
      assert.isUndefined(tokens.peek(user(7)))
      assert.isDefined(tokens.peek(user()))
      yield* TestClock.adjust(Duration.subtract(TokenConfig.defaults.memoryMaxAge, "1 millis"))
      assert.isDefined(tokens.peek(user()))
      yield* TestClock.adjust("1 millis")
      assert.isUndefined(tokens.peek(user()))
      yield* tokens.ensureValid(user())
      assert.isDefined(tokens.peek(user()))
    })
  )

  for (const withAge of ["expiringSoon", "due", "expired"] as const) {
    scenario(
      `of a token that is ${withAge}`,
      Effect.gen(function* () {
        const { tokens } = yield* World[withAge]("managed")
        yield* Effect.either(tokens.info(user()))
        assert.isUndefined(tokens.peek(user(), { handsOut: false }))
      })
    )
  }

  scenario(
    "of a token that Cal.com has refused, nor after a disconnect",
    Effect.gen(function* () {
      const { sandbox, tokens } = yield* World.connected("managed")
      const { accessToken } = yield* tokens.ensureValid(user())
      yield* sandbox.inject(Fault.dropAfter({ kind: "refresh" }))
      const reporting = yield* Effect.fork(Effect.either(tokens.reportRejected(user(), { accessToken, status: 498 })))
      yield* TestClock.adjust("1 seconds")
      assert.isUndefined(tokens.peek(user()))
      yield* TestClock.adjust("1 minute")
      yield* Fiber.join(reporting)
      yield* tokens.ensureValid(user())
      assert.isDefined(tokens.peek(user()))
      yield* tokens.disconnect(user())
      assert.isUndefined(tokens.peek(user()))
    })
  )

  scenario(
    "once in five minutes where a token is handed out, so that it is noted",
    Effect.gen(function* () {
      const { tokens } = yield* World.connected("managed")
      yield* TestClock.adjust("5 minutes")
      yield* tokens.ensureValid(user(), { handsOut: false })
      assert.isUndefined(tokens.peek(user()))
      assert.isDefined(tokens.peek(user(), { handsOut: false }))
      yield* tokens.ensureValid(user())
      assert.isDefined(tokens.peek(user()))
      const tap = yield* StorageTap
      yield* tap.reset
      yield* TestClock.adjust("1 seconds")
      assert.strictEqual(tap.count("handedOut"), 1)
    })
  )
})
