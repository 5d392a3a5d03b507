/** What an operator is told of the whole service, and how seldom the storage is read for it. */
import { assert, describe } from "@effect/vitest"
import { Effect, Fiber, Option, TestClock } from "effect"
import { CalTokens } from "../../src/CalTokens.js"
import * as Overview from "../../src/Overview.js"
import { Fault, Sandbox } from "../../src/Sandbox.js"
import type { StorageUnavailable } from "../../src/TokenError.js"
import { Purpose } from "../../src/TokenStorage.js"
import * as Fixture from "../support/StorageFixture.js"
import { StorageTap } from "../support/StorageTap.js"
import * as World from "../support/World.js"

const { scenario, user } = World

const reads = Effect.map(StorageTap, (tap) => (["activity", "outlook", "counts"] as const).map(tap.count))

const force = (n: number) =>
  Effect.flatMap(CalTokens, (tokens) =>
    World.passTime(Effect.exit(tokens.refresh(user(n), { forceRefresh: true })), 60_000)
  )

const none = { asked: 0, refused: 0, ahead: 0, reissue: 0 }

/** What is told of the running minute, with a reading of its own. */
const running = (read: Effect.Effect<Overview.Overview, StorageUnavailable>) =>
  Effect.map(Effect.zipRight(TestClock.adjust("1 second"), read), ({ refreshes }) => refreshes.minutes.at(-1))

describe("the overview", () => {
  scenario(
    "tells of each attempt by what began it, and of what became of it",
    Effect.gen(function* () {
      const read = yield* Overview.make
      const sandbox = yield* Sandbox
      const tokens = yield* CalTokens
      const { raw } = yield* StorageTap
      yield* World.connectManaged(user(1))
      yield* World.connectOAuth2(user(2))
      const { calUserId } = (yield* World.stored(user(2))).connection
      yield* TestClock.adjust("20 seconds")
      assert.deepStrictEqual(yield* running(read), {
        ...{ at: World.epoch, refreshed: none, failed: { ...none, lapsed: 0 }, reauthorizationRequired: 0 },
        reasons: []
      })
      yield* force(1)
      yield* tokens.refresh(user(1), { reissue: true })
      yield* sandbox.inject(Fault.status(429, { kind: "oauth2Refresh" }))
      yield* force(2)
      assert.deepStrictEqual(yield* running(read), {
        at: World.epoch,
        refreshed: { ...none, asked: 1, reissue: 1 },
        failed: { ...none, asked: 1, lapsed: 0 },
        reauthorizationRequired: 0,
        reasons: [{ answer: "notSpent", status: 429, error: "CalRateLimited", count: 1 }],
        latency: { p50: 0, p95: 0, p99: 0 }
      })
      // Another process dies with a claim.
      yield* TestClock.adjust("10 minutes")
      yield* raw.claim(Fixture.claimOf(user(1), { attemptId: "gone.1", purpose: Purpose.Hold() }))
      yield* TestClock.adjust(Fixture.lease)
      yield* force(1)
      assert.deepInclude((yield* running(read))?.failed, { asked: 0, lapsed: 1 })
      yield* TestClock.adjust("10 minutes")
      yield* sandbox.revokeRefreshTokens(calUserId ?? 0)
      yield* force(2)
      const last = yield* running(read)
      assert.deepInclude(last?.failed, { asked: 1, lapsed: 0 })
      assert.strictEqual(last?.reauthorizationRequired, 1)
      assert.deepStrictEqual(last?.reasons, [{ answer: "rejected", status: 400, count: 1 }])
      const { process, refreshes, users } = yield* read
      assert.deepStrictEqual(users, { active: 1, reauthorizationRequired: 1, isEstimated: false })
      // What was told before has not gone.
      const sum = (of: (minute: (typeof refreshes.minutes)[number]) => number) =>
        refreshes.minutes.reduce((sum, minute) => sum + of(minute), 0)
      assert.deepStrictEqual(
        [
          sum(({ refreshed }) => refreshed.reissue),
          sum(({ failed }) => failed.asked),
          sum(({ failed }) => failed.lapsed)
        ],
        [1, 2, 1]
      )
      const { entries } = Option.getOrThrow(yield* raw.history(user(2)))
      assert.deepInclude(entries.at(-1)?.event, { process: process.name })
      assert.strictEqual(process.startedAt, World.epoch)
    })
  )

  scenario(
    "is read once for all who ask within a second",
    Effect.gen(function* () {
      const read = yield* Overview.make
      const answers = yield* World.many(100, read)
      assert.deepStrictEqual(yield* reads, [6, 1, 1])
      yield* TestClock.adjust("999 millis")
      assert.strictEqual(yield* read, answers[99])
      assert.deepStrictEqual(yield* reads, [6, 1, 1])
      yield* TestClock.adjust("1 millis")
      assert.notStrictEqual(yield* read, answers[0])
      // The minutes that are over are remembered.
      assert.deepStrictEqual(yield* reads, [7, 2, 2])
    })
  )

  scenario(
    "has a part that takes two seconds to read read anew after forty, and the others each second",
    Effect.gen(function* () {
      const read = yield* Overview.make
      const tap = yield* StorageTap
      // What the whole hour takes says nothing of the next reading.
      yield* tap.around("activity", { before: Effect.sleep("2 seconds"), times: 6 })
      yield* World.passTime(read, 12_000)
      assert.deepStrictEqual(yield* reads, [6, 1, 1])
      yield* tap.around("outlook", { before: Effect.sleep("2 seconds"), times: 1 })
      yield* TestClock.adjust("1 second")
      const asking = yield* World.start(World.many(5, read))
      yield* TestClock.adjust("1 second")
      // Comes while it is being read.
      const late = yield* World.start(read)
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* Fiber.join(late), (yield* Fiber.join(asking))[0])
      assert.deepStrictEqual(yield* reads, [7, 2, 2])
      for (let second = 1; second < 40; second++) {
        yield* TestClock.adjust("1 second")
        yield* read
        assert.deepStrictEqual(yield* reads, [7 + second, 2, 2 + second])
      }
      yield* TestClock.adjust("1 second")
      yield* read
      assert.deepStrictEqual(yield* reads, [47, 3, 42])

      yield* tap.around("activity", { before: Effect.sleep("2 seconds"), times: 1 })
      yield* TestClock.adjust("1 second")
      yield* World.passTime(read, 2000)
      yield* TestClock.adjust("39999 millis")
      yield* read
      assert.strictEqual((yield* reads)[0], 48)
      yield* TestClock.adjust("1 second")
      yield* read
      assert.strictEqual((yield* reads)[0], 49)
    })
  )

  scenario(
    "tells of a circuit at once, however dear what is read with it is",
    Effect.gen(function* () {
      const read = yield* Overview.make
      const tap = yield* StorageTap
      yield* World.connectManaged(user(1))
      yield* tap.around("outlook", { before: Effect.sleep("2 seconds") })
      const before = yield* World.passTime(read, 2000)
      assert.isEmpty(before.circuits)
      yield* World.turn({ managedSecretRejected: true })
      yield* force(1)
      yield* TestClock.adjust("1 second")
      const after = yield* World.passTime(read, 2000)
      assert.deepStrictEqual(
        after.circuits.map(({ cause }) => cause),
        ["client"]
      )
      assert.deepStrictEqual((yield* reads)[1], 2)
    })
  )

  scenario(
    "reaches those who wait when whoever asked first goes away",
    Effect.gen(function* () {
      const read = yield* Overview.make
      yield* (yield* StorageTap).around("counts", { before: Effect.sleep("2 seconds"), times: 2 })
      const first = yield* World.start(read)
      const second = yield* World.start(read)
      yield* Fiber.interrupt(first)
      assert.strictEqual((yield* World.landed(second, 3000)).sealedAnswers, 0)
    })
  )

  scenario(
    "fails for all who ask within a second when the storage does, and comes back after that",
    Effect.gen(function* () {
      const read = yield* Overview.make
      const tap = yield* StorageTap
      yield* tap.down
      const failed = yield* World.many(50, Effect.flip(read))
      assert.deepStrictEqual(yield* reads, [1, 0, 0])
      assert.deepStrictEqual([...new Set(failed.map(({ _tag }) => _tag))], ["StorageUnavailable"])
      yield* tap.up
      yield* TestClock.adjust("999 millis")
      yield* Effect.flip(read)
      yield* TestClock.adjust("1 millis")
      yield* read
      // In the middle: what was read of the hour need not be read again.
      yield* TestClock.adjust("1 second")
      yield* tap.reset
      yield* tap.refuse("outlook")
      yield* Effect.flip(read)
      yield* TestClock.adjust("1 second")
      yield* read
      assert.deepStrictEqual(yield* reads, [2, 2, 2])
    })
  )

  scenario(
    "tells nothing of a time that is still to come, where the storage's clock was put back",
    Effect.gen(function* () {
      const read = yield* Overview.make
      yield* World.connectManaged(user(1))
      yield* TestClock.adjust("30 minutes")
      yield* force(1)
      const sum = (minutes: Overview.Overview["refreshes"]["minutes"]) =>
        minutes.reduce((sum, { refreshed }) => sum + refreshed.asked, 0)
      assert.strictEqual(sum((yield* read).refreshes.minutes), 1)
      yield* TestClock.setTime(World.epoch + 600_000)
      const { at, refreshes } = yield* read
      assert.strictEqual(at, World.epoch + 600_000)
      assert.deepStrictEqual([refreshes.minutes.at(-1)?.at, sum(refreshes.minutes)], [at, 0])
      assert.isUndefined(refreshes.latency)
      yield* World.connectManaged(user(2))
      yield* TestClock.adjust("20 seconds")
      yield* force(2)
      assert.strictEqual(sum((yield* read).refreshes.minutes), 1)
      yield* TestClock.adjust("40 minutes")
      assert.strictEqual(sum((yield* read).refreshes.minutes), 2)
    })
  )

  scenario(
    "tells whose token ends when, what Cal.com's limit leaves, and who waits for whom",
    Effect.gen(function* () {
      const read = yield* Overview.make
      const tap = yield* StorageTap
      for (const n of [1, 2]) yield* World.connectManaged(user(n))
      const { accessTokenExpiresAt } = (yield* World.stored(user(2))).pair
      yield* TestClock.adjust("140 seconds")
      yield* force(1)
      const { budgets, circuits, expiries, pairsHeld } = yield* read
      assert.strictEqual(expiries.minutes.length, 60)
      assert.deepStrictEqual(
        expiries.minutes.filter(({ users }) => users > 0),
        // The new one lives for longer than an hour from the running minute on.
        [{ at: Math.floor(accessTokenExpiresAt / 60_000) * 60_000, users: 1 }]
      )
      const client = { kind: "managed" as const, clientId: World.clientOptions().managed?.clientId ?? "" }
      const whole = { ...client, limit: 500 }
      const minute = { at: World.epoch + 120_000, remaining: 499 }
      assert.deepStrictEqual(budgets, [
        { ...whole, remaining: 499, resetsAt: World.epoch + 200_000, minutes: [minute] }
      ])
      assert.deepStrictEqual([circuits, pairsHeld], [[], 0])

      yield* tap.refuse("commit", 1000)
      yield* World.start(force(2))
      yield* TestClock.adjust("70 seconds")
      yield* World.turn({ managedSecretRejected: true })
      yield* force(1)
      const later = yield* read
      assert.strictEqual(later.pairsHeld, 1)
      assert.deepStrictEqual(
        later.circuits.map(({ cause, clientId }) => ({ cause, clientId })),
        [{ cause: "client", clientId: client.clientId }]
      )
      const [circuit] = later.circuits
      assert.strictEqual((circuit?.nextTrialAt ?? 0) - (circuit?.openedAt ?? 0), 30_000)
      yield* tap.relent
      yield* TestClock.adjust("2 hours")
      const last = yield* read
      assert.deepStrictEqual(last.budgets, [{ ...whole, remaining: 500, minutes: [] }])
      assert.deepStrictEqual([last.expiries.overdue, last.pairsHeld], [2, 0])
    })
  )

  scenario(
    "tells of a circuit that is this process's own",
    Effect.gen(function* () {
      const read = yield* Overview.make
      const sandbox = yield* Sandbox
      const elsewhere = Fault.status(302, { kind: "oauth2Refresh", headers: { location: "https://example.com/" } })
      yield* World.connectOAuth2(user(1))
      yield* TestClock.adjust("20 seconds")
      yield* sandbox.inject(elsewhere)
      yield* force(1)
      const openedAt = World.epoch + 20_000
      const [circuit] = (yield* read).circuits
      assert.deepInclude(circuit, { cause: "process", openedAt, nextTrialAt: openedAt + 30_000 })
      // A trial that fails does not open it anew.
      yield* TestClock.adjust("40 seconds")
      yield* sandbox.inject(elsewhere)
      yield* force(1)
      const [still] = (yield* read).circuits
      assert.deepInclude(still, { openedAt, nextTrialAt: openedAt + 70_000 })
      yield* TestClock.adjust("40 seconds")
      yield* force(1)
      assert.deepStrictEqual((yield* read).circuits, [])
    })
  )
})
