/** Our clock is wrong, or jumps: no loop, no dead token for longer than Cal.com's first word, no lock-out. */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect, Option, Ref, TestClock } from "effect"
import { CalApi } from "../../src/CalApi.js"
import * as Cooldowns from "../../src/CalTokens/Cooldowns.js"
import { Sandbox } from "../../src/Sandbox.js"
import * as World from "../support/World.js"

const { scenario, user } = World

const me = Effect.flatMap(CalApi, (api) => api.send(user(), { method: "GET", path: "/me" }))

const minute = 60_000

for (const [kind, lifetime] of [
  ["managed", 60],
  ["oauth2", 30]
] as const) {
  describe(kind, () => {
    for (const [what, skew] of [
      ["10 minutes ahead", -10 * minute],
      ["one hour behind", 60 * minute],
      ["50 minutes ahead", -50 * minute],
      ["one day behind", 24 * 60 * minute]
    ] as const) {
      scenario(
        `S22: our clock is ${what}: each life of a token costs one refresh, and Cal.com never sees a dead one twice`,
        Effect.gen(function* () {
          const { refreshes, sandbox, tokens } = yield* World.connected(kind)
          yield* Effect.either(tokens.refresh(user(), { forceRefresh: true }))
          yield* sandbox.resetCalls
          let dead = 0
          for (let passed = 0; passed < 10 * lifetime; passed += 5) {
            yield* TestClock.adjust("5 minutes")
            const answer = yield* tokens.ensureValid(user())
            if (!(yield* sandbox.isAccessLive(answer.accessToken))) dead++
            yield* World.settle
          }
          assert.strictEqual(dead, 0)
          assert.isAtLeast(yield* refreshes, 9)
          assert.isAtMost(yield* refreshes, 13)
        }),
        { sandbox: { switches: { clockSkewMillis: skew } } }
      )
    }

    scenario(
      "S22: our clock jumps back one hour: a dead token is refused once, refreshed once, and the clocks agree again",
      Effect.gen(function* () {
        const { refreshes, sandbox, tokens } = yield* World.connected(kind)
        yield* TestClock.adjust(lifetime * minute + 10 * minute)
        yield* jumpBack(60 * minute)
        const answers = yield* World.passTime(Effect.all([me, me, me], { concurrency: 3 }), 10_000)
        assert.isTrue(answers.every(({ status }) => status === 200))
        assert.strictEqual(yield* refreshes, 1)
        for (let i = 0; i < 10; i++) {
          assert.strictEqual((yield* me).status, 200)
          assert.isTrue(yield* sandbox.isAccessLive((yield* tokens.ensureValid(user())).accessToken))
          yield* TestClock.adjust("1 second")
        }
        assert.strictEqual(yield* refreshes, 1)
      })
    )

    scenario(
      "S22: our clock jumps ahead ten minutes: at most one refresh that was not needed",
      Effect.gen(function* () {
        const { refreshes, tokens } = yield* World.connected(kind)
        yield* TestClock.adjust("1 minute")
        yield* World.turn({ clockSkewMillis: -10 * minute })
        yield* TestClock.adjust("10 minutes")
        for (let i = 0; i < lifetime - 8; i++) {
          yield* tokens.ensureValid(user())
          yield* World.settle
          yield* TestClock.adjust("1 minute")
        }
        assert.isAtMost(yield* refreshes, 1)
      })
    )
  })
}

/** Our clock alone: Cal.com's goes on. */
const jumpBack = (millis: number) =>
  Effect.gen(function* () {
    const sandbox = yield* Sandbox
    const now = yield* Clock.currentTimeMillis
    yield* TestClock.setTime(now - millis)
    yield* Ref.update(sandbox.switches, (switches) => ({
      ...switches,
      clockSkewMillis: switches.clockSkewMillis + millis
    }))
  })

describe("S22: our clock jumps back one hour in the middle of a pause", () => {
  it("a cooldown that this process remembers is asked of the storage again", () => {
    const pair = { version: 1, expired: true }
    const cooldown = { since: World.epoch, until: World.epoch + 2000, ...pair, lastError: undefined }
    const left = (now: number) =>
      Option.getOrNull(Option.map(Cooldowns.remaining(cooldown, pair, now), Duration.toMillis))
    assert.strictEqual(left(World.epoch), 2000)
    assert.strictEqual(left(World.epoch + 1999), 1)
    assert.isNull(left(World.epoch + 2000))
    assert.isNull(left(World.epoch - 60 * minute))
  })

  scenario(
    "an open circuit lets a trial through after 30 s, not after an hour",
    Effect.gen(function* () {
      const { tokens } = yield* World.connected("managed")
      yield* TestClock.adjust("3 hours")
      yield* World.turn({ managedSecretRejected: true })
      yield* Effect.flip(tokens.ensureValid(user()))
      yield* World.turn({ managedSecretRejected: false })
      yield* jumpBack(60 * minute)
      yield* TestClock.adjust("31 seconds")
      assert.isTrue((yield* tokens.ensureValid(user())).refreshed)
    })
  )
})
