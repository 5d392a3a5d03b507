/** The worker: many of them share what is due, without a leader, and nobody who is active waits. */
import { assert, describe, it } from "@effect/vitest"
import { Array, Clock, Duration, Effect, Logger, TestClock } from "effect"
import * as RefreshAhead from "../src/RefreshAhead.js"
import * as Capacity from "../src/RefreshAhead/Capacity.js"
import { Fault, Sandbox } from "../src/Sandbox.js"
import { lifetime } from "../src/Token.js"
import * as TokenConfig from "../src/TokenConfig.js"
import * as StorageTap from "./support/StorageTap.js"
import * as Workers from "./support/Workers.js"
import * as World from "./support/World.js"

const { scenario } = World

const worker = Workers.make()

const connected = (n: number) =>
  Effect.forEach(World.users(n), (user, index) =>
    index % 2 === 0 ? Effect.asVoid(World.connectManaged(user)) : Effect.asVoid(World.connectOAuth2(user))
  )

describe("the worker", () => {
  scenario(
    "keeps active users from ever waiting, on three processes, one of which is replaced on the way",
    Effect.gen(function* () {
      const users = World.users(24)
      yield* connected(24)
      const { raw } = yield* StorageTap.StorageTap
      const busy = Workers.make({ aheadInterval: Duration.seconds(20) })
      const nodes = [yield* busy, yield* busy, yield* busy]
      let waited = 0
      for (let minutes = 0; minutes < 150; minutes += 2) {
        yield* TestClock.adjust("2 minutes")
        if (minutes === 70) {
          for (const old of nodes.splice(0, 1, yield* busy)) yield* World.passTime(old.stop, 60_000)
        }
        yield* Effect.forEach(users, (user, index) =>
          Effect.gen(function* () {
            const tokens = nodes[(index + minutes) % nodes.length]?.tokens
            if (tokens === undefined) return
            const begun = yield* Clock.currentTimeMillis
            const { refreshed } = yield* tokens.ensureValid(user, { handsOut: index % 3 === 0 })
            if (refreshed || (yield* Clock.currentTimeMillis) > begun) waited++
          })
        )
      }
      assert.strictEqual(waited, 0)
      // As often as tokens need it, and no more: the same for however many processes.
      const { count } = yield* Sandbox
      const refreshes = [yield* count("refresh"), yield* count("oauth2Refresh")] as const
      const each = [refreshes[0] / 12, refreshes[1] / 12] as const
      assert.isTrue(each[0] > 150 / 60 && each[0] < 150 / 39, `managed users: ${each[0]}`)
      assert.isTrue(each[1] > 150 / 30 && each[1] < 150 / 17, `OAuth2 users: ${each[1]}`)
      assert.isTrue((yield* raw.list({ limit: 100 })).every(({ status }) => status._tag === "Active"))
    })
  )

  scenario(
    "has a few under way at once, and goes on with the next as one ends",
    Effect.gen(function* () {
      yield* connected(40)
      const sandbox = yield* Sandbox
      yield* TestClock.adjust("55 minutes")
      yield* sandbox.inject(Fault.delayBefore("5 seconds", { times: 1 }))
      yield* sandbox.inject(Fault.delayBefore("200 millis", { times: 1000 }))
      yield* worker
      yield* TestClock.adjust("2 seconds")
      // The slow one holds nobody up but itself.
      yield* TestClock.adjust("1500 millis")
      const done = (yield* sandbox.count("refresh")) + (yield* sandbox.count("oauth2Refresh"))
      assert.isAtLeast(done, 39)
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual((yield* sandbox.count("refresh")) + (yield* sandbox.count("oauth2Refresh")), 40)
    })
  )

  it.effect("says once that the storage is away, and goes on when it is back", () => {
    const lines: Array<string> = []
    const logger = Logger.make(({ message }) => void lines.push(String(message)))
    return World.run(
      Effect.gen(function* () {
        yield* connected(1)
        const tap = yield* StorageTap.StorageTap
        const { count } = yield* Sandbox
        yield* tap.refuse("claimDue", 1000)
        yield* worker
        yield* TestClock.adjust("58 minutes")
        assert.deepStrictEqual(lines.filter((line) => line.includes("cannot be looked for")).length, 1)
        yield* tap.relent
        yield* TestClock.adjust("10 seconds")
        assert.strictEqual(yield* count("refresh"), 1)
      }),
      { around: Logger.replace(Logger.defaultLogger, logger) }
    )
  })

  scenario(
    "asks the storage every two seconds or so while there is nothing to do",
    Effect.gen(function* () {
      const tap = yield* StorageTap.StorageTap
      const { end } = yield* worker
      yield* TestClock.adjust("1 minute")
      const looks = tap.count("claimDue")
      // Two clients, and between one and two seconds.
      assert.isTrue(looks >= 58 && looks <= 122, `${looks}`)
      yield* end
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(tap.count("claimDue"), looks)
    })
  )
})

describe("a sweep", () => {
  scenario(
    "refreshes all that is due, and says what came of it",
    Effect.gen(function* () {
      yield* connected(30)
      const sandbox = yield* Sandbox
      yield* TestClock.adjust("56 minutes")
      yield* sandbox.inject(Fault.status(503, { times: 2 }))
      const swept = yield* World.passTime(RefreshAhead.sweep, 120_000)
      assert.deepStrictEqual(swept, { refreshed: 28, failed: 2 })
      assert.deepStrictEqual(yield* World.passTime(RefreshAhead.sweep, 1000), { refreshed: 0, failed: 0 })
    })
  )
})

describe("capacity", () => {
  it("counts the calls that background work may take, and how often a user needs one", () => {
    const managed = Capacity.of(TokenConfig.defaults, lifetime.managed)
    assert.deepStrictEqual([managed.perMinute, Duration.toMinutes(managed.period), managed.users], [375, 47.5, 17_812])
    assert.strictEqual(Capacity.of(TokenConfig.defaults, lifetime.oauth2).users, 7968)
    assert.isTrue(Array.every(Capacity.kinds, ({ kind }) => kind.endsWith("users")))
  })
})
