/** Loops end: three attempts in half a minute, growing pauses after failures, and neither in the way of an expiry. */
import { assert, describe } from "@effect/vitest"
import { Duration, Effect, Random, TestClock } from "effect"
import * as Ending from "../../src/CalTokens/Ending.js"
import { CalTokens } from "../../src/CalTokens.js"
import { Fault } from "../../src/Sandbox.js"
import { defaults } from "../../src/TokenConfig.js"
import { StorageTap } from "../support/StorageTap.js"
import * as World from "../support/World.js"

const { scenario, user } = World

const force = Effect.flatMap(CalTokens, (tokens) => tokens.refresh(user(), { forceRefresh: true }))

describe("attempts per window", () => {
  for (const kind of World.kinds) {
    scenario(
      `P7: three forced refreshes in 30 s, then the stored token until exactly 30 s after the first (${kind})`,
      Effect.gen(function* () {
        const { refreshes } = yield* World.connected(kind)
        for (let i = 0; i < 3; i++) {
          yield* force
          yield* TestClock.adjust("4 seconds")
        }
        const held = yield* force
        assert.deepStrictEqual([held.refreshed, held.retryAfter], [false, Duration.millis(18_000)])
        assert.strictEqual(World.reveal(held.accessToken), World.reveal((yield* World.stored()).pair.accessToken))
        yield* TestClock.adjust("17999 millis")
        assert.deepStrictEqual((yield* force).retryAfter, Duration.millis(1))
        assert.strictEqual(yield* refreshes, 3)
        yield* TestClock.adjust("1 millis")
        assert.isTrue((yield* force).refreshed)
      })
    )
  }

  scenario(
    "P7: the three are the fleet's, not each process'",
    Effect.gen(function* () {
      const { sandbox } = yield* World.connected("managed")
      const others = [(yield* World.anotherNode()).tokens, (yield* World.anotherNode()).tokens]
      for (let i = 0; i < 4; i++) {
        yield* Effect.either(force)
        for (const other of others) yield* Effect.either(other.refresh(user(), { forceRefresh: true }))
      }
      assert.strictEqual(yield* sandbox.count("refresh"), 3)
    })
  )

  scenario(
    "P7: an expired token is no answer to whom the window holds, nor is one whose refresh failed",
    Effect.gen(function* () {
      const { sandbox, tokens } = yield* World.connected("managed")
      yield* sandbox.inject(Fault.refuseConnection({ kind: "refresh", times: Infinity }))
      for (let i = 0; i < 3; i++) {
        assert.strictEqual((yield* Effect.flip(force))._tag, i === 0 ? "CalUnavailable" : "RefreshCoolingDown")
      }
      assert.isFalse((yield* tokens.ensureValid(user())).refreshed)
    })
  )

  scenario(
    "forty forced refreshes that overlap in two processes all get a token that lives, for three calls",
    Effect.gen(function* () {
      const { sandbox, tokens } = yield* World.connected("managed")
      const other = (yield* World.anotherNode()).tokens
      yield* TestClock.adjust("1 minute")
      yield* sandbox.inject(Fault.delayAfter("200 millis", { kind: "refresh", times: Infinity }))
      const asking = Effect.forEach(
        Array.from({ length: 40 }, (_, i) => i),
        (i) =>
          (i % 2 === 0 ? tokens : other)
            .ensureValid(user(), { forceRefresh: true })
            .pipe(Effect.delay(Duration.millis(i * 50))),
        { concurrency: "unbounded" }
      )
      const answers = yield* World.passTime(asking, 60_000)
      const current = World.reveal((yield* World.stored()).pair.accessToken)
      assert.isTrue(yield* World.isStoredPairLive())
      // Whoever was held has what was stored last, and is told when to come back.
      for (const { accessToken, refreshed, retryAfter } of answers) {
        assert.isTrue(refreshed ? retryAfter === undefined : retryAfter !== undefined)
        if (!refreshed) assert.strictEqual(World.reveal(accessToken), current)
      }
      assert.strictEqual(yield* sandbox.count("refresh"), 3)
    })
  )

  scenario(
    "what another process stored before a forced refresh was asked for is no answer to it, although it is news here",
    Effect.gen(function* () {
      const { refreshes, tokens } = yield* World.connected("managed")
      const other = (yield* World.anotherNode()).tokens
      yield* other.ensureValid(user())
      yield* tokens.refresh(user(), { forceRefresh: true })
      const before = yield* World.stored()
      yield* TestClock.adjust("1 second")
      const { refreshed, version } = yield* other.refresh(user(), { forceRefresh: true })
      assert.isTrue(refreshed)
      assert.isAbove(version, before.version)
      assert.strictEqual(yield* refreshes, 2)
    })
  )

  scenario(
    "P7: a window counts from its first attempt, so that across the edge of two no 30 s hold more than five",
    Effect.gen(function* () {
      const { sandbox } = yield* World.connected("managed")
      for (let second = 0; second < 40; second++) {
        if (second === 0 || second >= 28) yield* Effect.either(force)
        yield* TestClock.adjust("1 second")
      }
      const instants = (yield* sandbox.calls).map(({ at }) => at)
      for (const from of instants) assert.isAtMost(instants.filter((at) => at >= from && at < from + 30_000).length, 5)
    })
  )

  scenario(
    "a tight loop costs neither claims nor reads once this process knows of the cooldown",
    Effect.gen(function* () {
      const { sandbox, tap, tokens } = yield* World.expired("managed")
      yield* sandbox.inject(Fault.refuseConnection({ kind: "refresh", times: Infinity }))
      for (let i = 0; i < 3; i++) yield* Effect.flip(tokens.ensureValid(user()))
      yield* tap.reset
      const errors = yield* Effect.forEach(Array.from({ length: 200 }), () => Effect.flip(tokens.ensureValid(user())))
      assert.isTrue(errors.every(({ _tag }) => _tag === "RefreshCoolingDown"))
      assert.deepStrictEqual([tap.count("find"), tap.count("claim")], [0, 0])
      const told = errors[0]
      assert.isTrue(told?._tag === "RefreshCoolingDown" && told.lastError === "CalUnavailable")
    })
  )

  scenario(
    "P7: a caller that polls every second through an hour of outage: at most one call per pause, and none faster than 2 s",
    Effect.gen(function* () {
      const { sandbox, tokens } = yield* World.expired("managed")
      yield* sandbox.inject(Fault.refuseConnection({ kind: "refresh", times: Infinity }))
      const tap = yield* StorageTap
      const claims: Array<number> = []
      yield* tap.around("fail", {
        before: Effect.map(sandbox.now, (now) => void claims.push(now)),
        times: Infinity
      })
      for (let second = 0; second < 600; second++) {
        yield* Effect.flip(tokens.ensureValid(user()))
        yield* TestClock.adjust("1 second")
      }
      const pauses = claims.slice(1).map((at, i) => at - claims[i]!)
      assert.isTrue(pauses.every((pause) => pause >= 2000))
      assert.isTrue(pauses.slice(6).every((pause) => pause >= 30_000))
      assert.isAtMost(claims.length, 25)
      yield* sandbox.clearFaults
      yield* TestClock.adjust("61 seconds")
      assert.isTrue((yield* tokens.ensureValid(user())).refreshed)
    })
  )
})

describe("back-off", () => {
  scenario(
    "grows from 2 s to 60 s with equal jitter, whatever the number of failures",
    Effect.gen(function* () {
      for (let seed = 0; seed < 50; seed++) {
        for (let failures = 0; failures < 40; failures++) {
          const pause = yield* Ending.backoff(defaults, failures).pipe(Effect.withRandom(Random.make(seed)))
          const ceiling = Math.min(60_000, 4000 * 2 ** failures)
          assert.isAtLeast(Duration.toMillis(pause), ceiling / 2)
          assert.isAtMost(Duration.toMillis(pause), ceiling)
        }
      }
      const firsts = yield* Effect.forEach(
        Array.from({ length: 20 }, (_, seed) => seed),
        (seed) => Ending.backoff(defaults, 3).pipe(Effect.withRandom(Random.make(seed)))
      )
      assert.isAbove(new Set(firsts.map(Duration.toMillis)).size, 10)
    })
  )

  scenario(
    "after a success it starts anew",
    Effect.gen(function* () {
      const { sandbox, tokens } = yield* World.expired("managed")
      yield* sandbox.inject(Fault.refuseConnection({ kind: "refresh", times: 3 }))
      for (let i = 0; i < 3; i++) {
        yield* Effect.flip(tokens.ensureValid(user()))
        yield* TestClock.adjust("61 seconds")
      }
      yield* tokens.ensureValid(user())
      const after = yield* World.peek()
      assert.isTrue(after._tag === "Claimed" && after.consecutiveFailures === 0)
    })
  )
})

describe("an expiry", () => {
  for (const [what, fault] of [
    ["a failure that spent nothing", Fault.refuseConnection({ kind: "refresh", times: 8 })],
    ["429 with a long reset", Fault.status(429, { kind: "refresh", headers: { "x-ratelimit-reset-default": "3000" } })]
  ] as const) {
    scenario(
      `${what} before the expiry never postpones the first attempt at the expiry`,
      Effect.gen(function* () {
        const { grant, sandbox, tokens } = yield* World.due("managed")
        yield* sandbox.inject(fault)
        for (let i = 0; i < 27; i++) {
          yield* tokens.ensureValid(user())
          yield* World.settle
          yield* TestClock.adjust("2 seconds")
        }
        yield* tokens.ensureValid(user())
        yield* sandbox.clearFaults
        yield* TestClock.setTime(grant.accessTokenExpiresAt + 1)
        assert.isTrue((yield* tokens.ensureValid(user())).refreshed)
      })
    )
  }

  scenario(
    "three attempts just before the expiry do not hold the first one after it; the three after it count again",
    Effect.gen(function* () {
      const { grant, sandbox, tokens } = yield* World.connected("managed")
      yield* TestClock.setTime(grant.accessTokenExpiresAt - 20_000)
      yield* sandbox.inject(Fault.refuseConnection({ kind: "refresh", times: Infinity }))
      for (let i = 0; i < 8; i++) {
        yield* tokens.ensureValid(user())
        yield* TestClock.adjust("2 seconds")
      }
      yield* TestClock.setTime(grant.accessTokenExpiresAt + 1)
      assert.strictEqual((yield* Effect.flip(tokens.ensureValid(user())))._tag, "CalUnavailable")
      assert.strictEqual((yield* Effect.flip(tokens.ensureValid(user())))._tag, "RefreshCoolingDown")
    })
  )

  scenario(
    "a token that is expired when it is granted ends in a cooldown, not in a loop",
    Effect.gen(function* () {
      const { sandbox, tokens } = yield* World.connected("managed")
      yield* TestClock.adjust("2 seconds")
      for (let i = 0; i < 50; i++) yield* Effect.either(tokens.ensureValid(user()))
      assert.isAtMost(yield* sandbox.count("refresh"), 3)
    }),
    { sandbox: { accessTokenLifetime: 0 } }
  )
})

describe("connect and update", () => {
  scenario(
    "clear the cooldown at once, here",
    Effect.gen(function* () {
      const { grant, sandbox, tokens } = yield* World.connected("managed")
      for (let i = 0; i < 3; i++) yield* force
      assert.isFalse((yield* force).refreshed)
      yield* tokens.update(user(), yield* sandbox.grantManaged({ calUserId: grant.calUserId }))
      assert.isTrue((yield* force).refreshed)
    })
  )

  scenario(
    "clear the cooldown for every process",
    Effect.gen(function* () {
      const { grant, sandbox, tokens } = yield* World.expired("managed")
      const other = (yield* World.anotherNode()).tokens
      yield* sandbox.inject(Fault.refuseConnection({ kind: "refresh", times: 1 }))
      yield* Effect.flip(other.ensureValid(user()))
      yield* Effect.flip(other.ensureValid(user()))
      const past = { ...(yield* sandbox.grantManaged({ calUserId: grant.calUserId })), accessTokenExpiresAt: 1 }
      yield* tokens.update(user(), { ...past, accessTokenExpiresAt: yield* sandbox.now })
      yield* TestClock.adjust("5 seconds")
      assert.isTrue((yield* other.ensureValid(user())).refreshed)
    })
  )

  scenario(
    "a connect during a flight does not let its end cool the new pair down",
    Effect.gen(function* () {
      const { grant, sandbox, tokens } = yield* World.expired("managed")
      yield* sandbox.inject(Fault.refuseConnection({ kind: "refresh" }))
      yield* sandbox.inject(Fault.status(429, { kind: "refresh", after: "2 seconds" }))
      yield* Effect.flip(tokens.ensureValid(user()))
      yield* TestClock.adjust("10 seconds")
      const caller = yield* World.start(Effect.either(tokens.ensureValid(user())))
      yield* tokens.update(user(), yield* sandbox.grantManaged({ calUserId: grant.calUserId }))
      yield* World.landed(caller, 10_000)
      assert.isTrue((yield* force).refreshed)
    })
  )
})
