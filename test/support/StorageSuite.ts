/**
 * What every storage has to do, on the test clock: the table, its boundaries to the millisecond, and what the table
 * leaves to the comments of the port.
 */
import { assert, describe, it } from "@effect/vitest"
import { Context, Duration, Effect, Exit, Layer, Option, Scope, TestClock } from "effect"
import { afterAll, beforeAll } from "vitest"
import type { UserUlid } from "../../src/Token.js"
import { type AttemptFailure, type ClaimRequest, type ClaimResult, TokenStorage } from "../../src/TokenStorage.js"
import { accounts } from "./StorageAccounts.js"
import { activity } from "./StorageActivity.js"
import { due } from "./StorageDue.js"
import * as Lookups from "../../src/TokenStorage/Lookups.js"
import * as Fixture from "./StorageFixture.js"
import { history } from "./StorageHistory.js"
import { lookups } from "./StorageLookups.js"
import { sealed } from "./StorageSealed.js"
import { table } from "./StorageTable.js"

/** Runs the suite on one storage that all its tests share, each with users of its own. */
export const suite = <E>(name: string, layer: Layer.Layer<TokenStorage, E>) => {
  describe(name, () => {
    const scope = Effect.runSync(Scope.make())
    let built: Fixture.Storage | undefined
    const storage = (): Fixture.Storage => {
      if (built === undefined) throw new Error("the storage is not built")
      return built
    }
    beforeAll(async () => {
      built = Context.get(await Effect.runPromise(Layer.buildWithScope(layer, scope)), TokenStorage)
    }, 300_000)
    afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))
    describe("table", () => table(storage))
    describe("boundaries", () => boundaries(storage))
    describe("attempts", () => attempts(storage))
    describe("accounts", () => accounts(storage))
    describe("lookups and lists", () => lookups(storage))
    describe("what is due", () => due(storage))
    describe("sealed answers", () => sealed(storage))
    describe("histories", () => history(storage))
    describe("what goes on", () => activity(storage))
    describe("sessions", () => sessions(storage))
  })
}

const connected = (storage: Fixture.Storage) =>
  Effect.gen(function* () {
    const { calUserId, userUlid } = Fixture.newUser()
    yield* TestClock.adjust(Duration.days(1))
    const connection = Fixture.managed(calUserId)
    const row = yield* storage.connect({ userUlid, connection, pair: Fixture.pair("one") })
    return { userUlid, connection, row }
  })

const retryAfter = (result: ClaimResult) =>
  "retryAfter" in result ? [result._tag, Duration.toMillis(result.retryAfter)] : [result._tag]

/** Each is held back until a limit: one ms before it with 1 ms to wait, and at it no more. */
const boundaries = (storage: () => Fixture.Storage) => {
  const cases: Record<
    string,
    {
      readonly before: ReadonlyArray<Partial<ClaimRequest> | AttemptFailure>
      readonly claim?: Partial<ClaimRequest>
      readonly limit: number
      readonly held: ClaimResult["_tag"]
    }
  > = {
    lease: { before: [{}], limit: 30_000, held: "Busy" },
    "back-off": { before: [{}, Fixture.notSpent("7 seconds")], limit: 7_000, held: "CoolingDown" },
    "back-off after an unknown outcome": {
      before: [{}, Fixture.unknown(0, "9 seconds")],
      limit: 9_000,
      held: "CoolingDown"
    },
    probe: { before: [{}, Fixture.unknown("5 seconds")], limit: 5_000, held: "ProbeLater" },
    "attempts per window": {
      before: [{}, Fixture.notSpent(), {}, Fixture.notSpent()],
      claim: { maxAttempts: 2 },
      limit: 60_000,
      held: "CoolingDown"
    },
    "rejections reported": {
      before: [{ purpose: Fixture.refresh(undefined, Duration.seconds(20)) }, Fixture.notSpent()],
      claim: { purpose: Fixture.refresh(undefined, Duration.seconds(20)) },
      limit: 20_000,
      held: "RejectedRecently"
    }
  }
  for (const [name, { before, claim, held, limit }] of Object.entries(cases)) {
    it.effect(name, () =>
      Effect.gen(function* () {
        const { userUlid } = yield* connected(storage())
        for (const step of before) {
          yield* "_tag" in step
            ? storage().fail({ userUlid, attemptId: "mine", failure: step })
            : storage().claim(Fixture.claimOf(userUlid, step))
        }
        const next = storage().claim(Fixture.claimOf(userUlid, { attemptId: "next", ...claim }))
        assert.deepStrictEqual(retryAfter(yield* next), [held, limit])
        yield* TestClock.adjust(limit - 1)
        assert.deepStrictEqual(retryAfter(yield* next), [held, 1])
        yield* TestClock.adjust(1)
        assert.deepStrictEqual(retryAfter(yield* next), ["Claimed"])
      })
    )
  }

  // The token expired at t + 1000; an attempt failed at t and holds the row for a minute.
  for (const [startedAgo, expiredFor, answer] of [
    [1001, 1000, "Claimed"],
    [1000, 1000, "CoolingDown"],
    [999, 1000, "CoolingDown"],
    [1001, undefined, "CoolingDown"]
  ] as const) {
    it.effect(`${answer}: token expired for ${expiredFor} ms, last attempt ${startedAgo} ms ago`, () =>
      Effect.gen(function* () {
        const { userUlid } = yield* connected(storage())
        yield* storage().claim(Fixture.claimOf(userUlid))
        yield* storage().fail({ userUlid, attemptId: "mine", failure: Fixture.notSpent("60 seconds") })
        yield* TestClock.adjust(startedAgo)
        const claim = Fixture.claimOf(userUlid, {
          maxAttempts: 1,
          ...(expiredFor === undefined ? {} : { expiredFor: Duration.millis(expiredFor) })
        })
        assert.strictEqual((yield* storage().claim(claim))._tag, answer)
      })
    )
  }

  it.effect("a claim after the expiry begins a new window", () =>
    Effect.gen(function* () {
      const { userUlid } = yield* connected(storage())
      yield* storage().claim(Fixture.claimOf(userUlid))
      yield* storage().fail({ userUlid, attemptId: "mine", failure: Fixture.notSpent() })
      yield* TestClock.adjust("10 seconds")
      const claim = Fixture.claimOf(userUlid, { maxAttempts: 1, expiredFor: Duration.seconds(1) })
      assert.strictEqual((yield* storage().claim(claim))._tag, "Claimed")
      yield* storage().fail({ userUlid, attemptId: "mine", failure: Fixture.notSpent() })
      assert.deepStrictEqual(retryAfter(yield* storage().claim(claim)), ["CoolingDown", 60_000])
    })
  )
}

const attempts = (storage: () => Fixture.Storage) => {
  it.effect("a newer pair answers before everything but a reissue", () =>
    Effect.gen(function* () {
      const { connection, row, userUlid } = yield* connected(storage())
      const calUserId = connection.calUserId ?? 0
      const claim = (request: Partial<ClaimRequest>) => storage().claim(Fixture.claimOf(userUlid, request))
      assert.strictEqual((yield* claim({ purpose: Fixture.refresh(row.version - 1) }))._tag, "Newer")
      assert.strictEqual((yield* claim({ purpose: Fixture.refresh(row.version), attemptId: "holder" }))._tag, "Claimed")
      assert.strictEqual((yield* claim({ purpose: Fixture.refresh(row.version - 1) }))._tag, "Newer")
      assert.strictEqual((yield* claim({ purpose: Fixture.reissue(calUserId, row.version - 1) }))._tag, "Busy")
    })
  )

  it.effect("a reissue may be claimed on a terminal row, which stays terminal until a pair comes", () =>
    Effect.gen(function* () {
      const { connection, userUlid } = yield* connected(storage())
      yield* storage().claim(Fixture.claimOf(userUlid))
      yield* storage().fail({ userUlid, attemptId: "mine", failure: Fixture.terminal() })
      assert.strictEqual(
        (yield* storage().claim(Fixture.claimOf(userUlid, { purpose: Fixture.reissue(connection.calUserId ?? 0) })))
          ._tag,
        "Claimed"
      )
      assert.strictEqual((yield* storage().claim(Fixture.claimOf(userUlid)))._tag, "Terminal")
      yield* storage().fail({ userUlid, attemptId: "mine", failure: Fixture.notSpent() })
      assert.strictEqual((yield* storage().claim(Fixture.claimOf(userUlid)))._tag, "Terminal")
      yield* storage().claim(Fixture.claimOf(userUlid, { purpose: Fixture.reissue(connection.calUserId ?? 0) }))
      assert.strictEqual((yield* storage().commit(Fixture.commitOf(userUlid, connection)))._tag, "Stored")
      assert.strictEqual(yield* Fixture.observe(storage(), userUlid), "idle")
    })
  )

  it.effect("failures are counted and told; a success forgets them, but not the attempts", () =>
    Effect.gen(function* () {
      const { connection, userUlid } = yield* connected(storage())
      for (const before of [0, 1, 2]) {
        const claimed = yield* storage().claim(Fixture.claimOf(userUlid))
        assert(claimed._tag === "Claimed")
        assert.strictEqual(claimed.consecutiveFailures, before)
        yield* storage().fail({ userUlid, attemptId: "mine", failure: Fixture.notSpent() })
      }
      const cooling = yield* storage().claim(Fixture.claimOf(userUlid, { maxAttempts: 3 }))
      assert(cooling._tag === "CoolingDown")
      assert.deepStrictEqual(Option.getOrThrow(Option.map(cooling.lastError, String)), String(Fixture.error))
      yield* storage().claim(Fixture.claimOf(userUlid))
      yield* storage().commit(Fixture.commitOf(userUlid, connection))
      const calm = yield* storage().claim(Fixture.claimOf(userUlid, { maxAttempts: 4 }))
      assert(calm._tag === "CoolingDown")
      assert.isTrue(Option.isNone(calm.lastError))
      const claimed = yield* storage().claim(Fixture.claimOf(userUlid))
      assert(claimed._tag === "Claimed")
      assert.strictEqual(claimed.consecutiveFailures, 0)
    })
  )

  it.effect("what becomes of one user's attempt is nobody else's", () =>
    Effect.gen(function* () {
      const [a, b] = [yield* connected(storage()), yield* connected(storage())]
      const bystander = Effect.map(storage().find(b.userUlid), Option.map(Fixture.plain))
      const before = yield* bystander
      const claim = (userUlid: typeof a.userUlid, attemptId: string) =>
        Effect.map(storage().claim(Fixture.claimOf(userUlid, { attemptId })), (result) => result._tag)
      assert.strictEqual(yield* claim(a.userUlid, "mine"), "Claimed")
      assert.strictEqual(yield* claim(b.userUlid, "mine"), "Claimed")
      const commit = Fixture.commitOf(a.userUlid, a.connection, { attemptId: "late", seen: "x" })
      assert.strictEqual((yield* storage().commit(commit))._tag, "KeptAsFallback")
      yield* storage().fail({ userUlid: a.userUlid, attemptId: "mine", failure: Fixture.notSpent() })
      assert.strictEqual(yield* claim(b.userUlid, "other"), "Busy")
      yield* claim(a.userUlid, "mine")
      yield* storage().commit(Fixture.commitOf(a.userUlid, a.connection, { pair: Fixture.pair("three") }))
      assert.strictEqual(yield* claim(b.userUlid, "other"), "Busy")
      assert.deepStrictEqual(yield* bystander, before)
      assert.strictEqual((yield* storage().commit(Fixture.commitOf(b.userUlid, b.connection)))._tag, "Stored")
    })
  )

  it.effect("a probe is told its token, and a release keeps it", () =>
    Effect.gen(function* () {
      const { userUlid } = yield* connected(storage())
      yield* storage().claim(Fixture.claimOf(userUlid))
      yield* storage().spend({ userUlid, attemptId: "mine", next: "fallback", dead: [] })
      yield* storage().fail({ userUlid, attemptId: "mine", failure: Fixture.unknown("1 second") })
      yield* TestClock.adjust("1 second")
      for (const attemptId of ["first", "second"]) {
        const claimed = yield* storage().claim(Fixture.claimOf(userUlid, { attemptId }))
        assert(claimed._tag === "Claimed")
        assert.deepStrictEqual(Option.getOrThrow(claimed.probe), "fallback")
        assert.strictEqual(claimed.consecutiveFailures, 1)
        yield* storage().fail({ userUlid, attemptId, failure: Fixture.released(claimed.probe) })
      }
      yield* storage().claim(Fixture.claimOf(userUlid))
      yield* storage().fail({ userUlid, attemptId: "mine", failure: Fixture.notSpent() })
      assert.strictEqual(yield* Fixture.observe(storage(), userUlid), "idle")
    })
  )

  it.effect("a released attempt leaves no trace", () =>
    Effect.gen(function* () {
      const { userUlid } = yield* connected(storage())
      const interval = Duration.seconds(20)
      for (const attemptId of ["first", "second", "third"]) {
        const claim = Fixture.claimOf(userUlid, {
          attemptId,
          maxAttempts: 1,
          purpose: Fixture.refresh(undefined, interval)
        })
        assert.strictEqual((yield* storage().claim(claim))._tag, "Claimed")
        const repeated = { userUlid, attemptId, failure: Fixture.released() }
        assert.strictEqual((yield* storage().fail(repeated))._tag, "Recorded")
        assert.strictEqual((yield* storage().fail(repeated))._tag, "NotRecorded")
      }
    })
  )

  it.effect("terminal is refused while there is an untried fallback, and drops the tried ones", () =>
    Effect.gen(function* () {
      const { connection, userUlid } = yield* connected(storage())
      yield* storage().claim(Fixture.claimOf(userUlid))
      yield* storage().commit(
        Fixture.commitOf(userUlid, connection, { attemptId: "late", seen: "another", pair: Fixture.pair("late") })
      )
      const refused = yield* storage().fail({ userUlid, attemptId: "mine", failure: Fixture.terminal() })
      assert(refused._tag === "NotRecorded" && Option.isSome(refused.row))
      assert.isTrue(refused.attemptIsMine)
      assert.deepStrictEqual(Fixture.names(refused.row.value), ["one", "late"])
      const dead = [Fixture.refreshHash("one"), Fixture.refreshHash("late")]
      const recorded = yield* storage().fail({ userUlid, attemptId: "mine", failure: Fixture.terminal(dead) })
      assert(recorded._tag === "Recorded")
      assert.deepStrictEqual(Fixture.names(recorded.row), ["one"])
      const { status, updatedAt } = recorded.row
      assert.deepStrictEqual(status, { _tag: "ReauthorizationRequired", cause: "revoked", since: updatedAt })
    })
  )

  it.effect("commits may be repeated", () =>
    Effect.gen(function* () {
      const { connection, userUlid } = yield* connected(storage())
      yield* storage().claim(Fixture.claimOf(userUlid))
      const inTime = storage().commit(Fixture.commitOf(userUlid, connection))
      const late = storage().commit(
        Fixture.commitOf(userUlid, connection, { attemptId: "late", pair: Fixture.pair("three") })
      )
      const first = yield* inTime
      assert(first._tag === "Stored")
      for (const again of [yield* inTime, yield* inTime]) {
        assert(again._tag === "AlreadyStored")
        assert.deepStrictEqual(Fixture.plain(again.row), Fixture.plain(first.row))
        assert.strictEqual(again.row.version, first.row.version)
      }
      for (const kept of [yield* late, yield* late]) {
        assert(kept._tag === "KeptAsFallback")
        assert.deepStrictEqual(yield* Fixture.namesStored(storage(), userUlid), ["two", "three"])
      }
    })
  )

  it.effect("at most three fallbacks, newest first, none twice, none that is dead", () =>
    Effect.gen(function* () {
      const { connection, userUlid } = yield* connected(storage())
      const late = (name: string, dead: ReadonlyArray<string> = []) =>
        storage().commit(
          Fixture.commitOf(userUlid, connection, { attemptId: "late", seen: "x", pair: Fixture.pair(name), dead })
        )
      for (const name of ["a", "b", "c", "d"]) yield* late(name)
      const row = () => Effect.map(storage().find(userUlid), Option.match({ onNone: () => [], onSome: Fixture.names }))
      assert.deepStrictEqual(yield* row(), ["one", "d", "c", "b"])
      yield* late("e", [Fixture.refreshHash("c")])
      assert.deepStrictEqual(yield* row(), ["one", "e", "d", "b"])
      yield* storage().connect({ userUlid, connection, pair: Fixture.pair("d") })
      assert.deepStrictEqual(yield* row(), ["d", "one", "e", "b"])
      yield* storage().claim(Fixture.claimOf(userUlid))
      yield* storage().spend({ userUlid, attemptId: "mine", next: "x", dead: [Fixture.refreshHash("e")] })
      assert.deepStrictEqual(yield* row(), ["d", "one", "b"])
      const spent = { pair: Fixture.pair("one"), dead: [Fixture.refreshHash("b")] }
      yield* storage().commit(Fixture.commitOf(userUlid, connection, spent))
      assert.deepStrictEqual(yield* row(), ["one"])
    })
  )
}

const sessions = (storage: () => Fixture.Storage) => {
  it.effect("are ended by a connection and on demand, and by nothing else; what follows is above what was", () =>
    Effect.gen(function* () {
      const { connection, row, userUlid } = yield* connected(storage())
      const after = Effect.map(storage().find(userUlid), (row) => Option.getOrThrow(row).sessionsAfter)
      const first = yield* after
      assert.strictEqual(first, row.sessionsAfter)
      // A refresh, and a pair of the same account that was handed in.
      yield* storage().claim(Fixture.claimOf(userUlid))
      const committed = yield* storage().commit(Fixture.commitOf(userUlid, connection))
      assert(committed._tag === "Stored")
      assert.strictEqual(committed.row.sessionsAfter, first)
      const updated = Option.getOrThrow(yield* Fixture.update(storage(), userUlid, Fixture.pair("three")))
      assert.strictEqual(updated.sessionsAfter, first)
      assert.strictEqual(yield* after, first)

      assert.isTrue(yield* storage().endSessions(userUlid))
      const second = yield* after
      // Above whatever a session may have been made under.
      assert.isAbove(second, updated.version)
      assert.isTrue(yield* storage().endSessions(userUlid))
      const third = yield* after
      assert.isAbove(third, second)

      const again = yield* storage().connect({ userUlid, connection, pair: Fixture.pair("four") })
      assert.isAbove(again.sessionsAfter, third)
      assert.strictEqual(yield* after, again.sessionsAfter)
      yield* storage().disconnect(userUlid)
      assert.isFalse(yield* storage().endSessions(userUlid))
      const last = yield* storage().connect({ userUlid, connection, pair: Fixture.pair("five") })
      assert.isAbove(last.sessionsAfter, again.sessionsAfter)
    })
  )

  it.effect("end together with what access tokens say of the user, and of nobody else", () =>
    Effect.gen(function* () {
      const [one, other] = [yield* connected(storage()), yield* connected(storage())]
      const own = (user: UserUlid, n: number) => `${user} ${n}`
      for (const { connection, userUlid } of [one, other]) {
        for (const n of [1, 2]) {
          yield* storage().claim(Fixture.claimOf(userUlid))
          const seen = Fixture.refreshHash(n === 1 ? "one" : own(userUlid, 1))
          const request = { pair: Fixture.pair(own(userUlid, n)), seen }
          yield* Fixture.refreshing(storage(), userUlid, connection, request)
        }
      }
      const known = (user: UserUlid, n: number) =>
        Effect.map(storage().findByAccessToken(Fixture.accessHash(own(user, n))), Option.isSome)
      assert.deepStrictEqual([yield* known(one.userUlid, 1), yield* known(one.userUlid, 2)], [true, true])
      yield* storage().endSessions(one.userUlid)
      assert.deepStrictEqual([yield* known(one.userUlid, 1), yield* known(one.userUlid, 2)], [false, false])
      assert.deepStrictEqual([yield* known(other.userUlid, 1), yield* known(other.userUlid, 2)], [true, true])
      // The next pair names the user again.
      yield* storage().claim(Fixture.claimOf(one.userUlid))
      const next = { pair: Fixture.pair(own(one.userUlid, 3)), seen: Fixture.refreshHash(own(one.userUlid, 2)) }
      yield* Fixture.refreshing(storage(), one.userUlid, one.connection, next)
      assert.isTrue(yield* known(one.userUlid, 3))
      assert.deepStrictEqual([yield* known(one.userUlid, 1), yield* known(one.userUlid, 2)], [false, false])
    })
  )

  it.effect("end what access tokens say also while a refresh is under way", () =>
    Effect.gen(function* () {
      const { connection, userUlid } = yield* connected(storage())
      const own = (n: number) => `${userUlid} ${n}`
      const refreshed = (seen: string, n: number) => ({ seen, pair: Fixture.pair(own(n)) })
      yield* storage().claim(Fixture.claimOf(userUlid))
      yield* Fixture.refreshing(storage(), userUlid, connection, refreshed(Fixture.refreshHash("one"), 1))
      yield* storage().claim(Fixture.claimOf(userUlid))
      const row = Option.getOrThrow(yield* storage().find(userUlid))
      yield* storage().endSessions(userUlid)
      const { pair, seen } = refreshed(Fixture.refreshHash(own(1)), 2)
      const lookups = { before: row.lookups, after: Lookups.refreshed(row, pair, 0) }
      const result = yield* storage().commit(Fixture.commitOf(userUlid, connection, { pair, seen, lookups }))
      assert.strictEqual(result._tag, "Stored")
      const found = Effect.forEach([1, 2], (n) =>
        Effect.map(storage().findByAccessToken(Fixture.accessHash(own(n))), Option.isSome)
      )
      assert.deepStrictEqual(yield* found, [false, false])
    })
  )
}
