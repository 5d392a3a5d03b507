/** What is due to be refreshed before anybody waits: whose turn it is, who is put off, and until when. */
import { assert, it } from "@effect/vitest"
import { Duration, Effect, Option, TestClock } from "effect"
import type { UserUlid } from "../../src/Token.js"
import { type ClaimDueRequest, maxVisits, quiet } from "../../src/TokenStorage.js"
import * as Fixture from "./StorageFixture.js"

/** Cal.com's time in these tests has nothing to do with the storage's. */
const now = 1_000_000_000
const hour = 3_600_000

export const due = (storage: () => Fixture.Storage) => {
  let clients = 0

  /** Users of a client of their own, due now and a moment before each other, and used just now. */
  const users = (
    count: number,
    schedule: { readonly aheadAt?: number; readonly keepAt?: number; readonly usedAt?: number } = {}
  ) =>
    Effect.gen(function* () {
      const clientId = `client ${++clients} of what is due`
      const circuit = { clientId, fingerprint: "one", interval: Duration.seconds(30) }
      yield* TestClock.adjust("1 day")
      const all = yield* Effect.forEach(Array.from({ length: count }), (_, index) => {
        const { calUserId, userUlid } = Fixture.newUser()
        const connection = { ...Fixture.managed(calUserId), clientId }
        const request = { userUlid, connection, pair: Fixture.pair(userUlid) }
        const aheadAt = now - (count - index)
        return Effect.as(
          storage().connect({ ...request, schedule: { aheadAt, usedAt: now - 1000, ...schedule } }),
          request
        )
      })
      const claimDue = (request: Partial<ClaimDueRequest> = {}) =>
        storage().claimDue({
          circuit,
          limit: 100,
          now,
          usedSince: now - hour,
          lease: Fixture.lease,
          cooldownWindow: Duration.seconds(60),
          maxAttempts: 3,
          ...request
        })
      const claimed = (request?: Partial<ClaimDueRequest>) =>
        Effect.map(claimDue(request), ({ claims }) => claims.map(({ claimed }) => claimed.row.userUlid))
      return { all: all.map(({ userUlid }) => userUlid), requests: all, circuit, claimDue, claimed }
    })

  const first = (all: ReadonlyArray<UserUlid>): UserUlid => {
    const [user] = all
    assert(user !== undefined)
    return user
  }

  it.effect("is claimed in the order of its time, each once, and committed like any other claim", () =>
    Effect.gen(function* () {
      const { all, claimDue, claimed, requests } = yield* users(5)
      const { claims, isMore } = yield* claimDue({ limit: 2 })
      assert.deepStrictEqual(
        claims.map(({ claimed, dueAt }) => [claimed.row.userUlid, dueAt, Fixture.names(claimed.row)]),
        all.slice(0, 2).map((user, index) => [user, now - 5 + index, [user]])
      )
      assert.isTrue(isMore)
      assert.isFalse((yield* claimDue({ limit: 4 })).isMore)
      assert.deepStrictEqual(yield* claimed(), [])
      const [claim] = claims
      const [request] = requests
      assert(claim !== undefined && request !== undefined)
      const { attemptId, claimed: granted } = claim
      assert.isTrue(Option.isNone(granted.probe))
      const result = yield* storage().commit(
        Fixture.commitOf(request.userUlid, request.connection, {
          attemptId,
          seen: Fixture.refreshHash(request.userUlid),
          schedule: { aheadAt: now + hour }
        })
      )
      assert.strictEqual(result._tag, "Stored")
      // Those that nobody came back for are due again when their leases are over.
      yield* TestClock.adjust("50 seconds")
      assert.deepStrictEqual(yield* claimed({ now: now + 50_000, usedSince: 0 }), all.slice(1))
      assert.deepStrictEqual(yield* claimed({ now: now + hour - 1, usedSince: 0 }), [])
      assert.deepStrictEqual(yield* claimed({ now: now + hour, usedSince: 0 }), [all[0]])
    })
  )

  it.effect("is left to its holder while the lease runs, and is a probe after it", () =>
    Effect.gen(function* () {
      const { all, claimDue, claimed } = yield* users(1)
      yield* storage().claim(Fixture.claimOf(first(all)))
      assert.deepStrictEqual(yield* claimed(), [])
      // Put off until the lease is over: nothing is looked at before.
      yield* TestClock.adjust(Fixture.lease)
      assert.deepStrictEqual(yield* claimed({ now: now + 29_999 }), [])
      const [claim] = (yield* claimDue({ now: now + 30_000 })).claims
      assert.isTrue(claim !== undefined && Option.isSome(claim.claimed.probe))
    })
  )

  it.effect("waits for back-off and for the window's attempts, also when the token is expired", () =>
    Effect.gen(function* () {
      const { all, claimed } = yield* users(1)
      const user = first(all)
      yield* storage().claim(Fixture.claimOf(user))
      yield* storage().fail({ userUlid: user, attemptId: "mine", failure: Fixture.notSpent("20 seconds") })
      assert.deepStrictEqual(yield* claimed(), [])
      yield* TestClock.adjust("20 seconds")
      assert.deepStrictEqual(yield* claimed({ now: now + 19_999 }), [])
      assert.deepStrictEqual(yield* claimed({ now: now + 20_000, maxAttempts: 1 }), [])
      assert.deepStrictEqual(yield* claimed({ now: now + 60_000, maxAttempts: 2 }), [user])
    })
  )

  it.effect("is tried at longer and longer intervals while it fails", () =>
    Effect.gen(function* () {
      const { all, claimDue } = yield* users(1)
      const waits: Array<number> = []
      for (let failures = 0, at = now; failures < 8; failures++) {
        yield* TestClock.adjust("2 hours")
        const [claim] = (yield* claimDue({ now: at })).claims
        assert(claim !== undefined)
        yield* storage().fail({ userUlid: first(all), attemptId: claim.attemptId, failure: Fixture.notSpent() })
        const seen = yield* claimDue({ now: at + 2 ** 40, limit: 1 })
        const next = seen.claims[0]
        assert(next !== undefined)
        yield* storage().fail({ userUlid: first(all), attemptId: next.attemptId, failure: Fixture.released() })
        waits.push((next.dueAt - at) / Duration.toMillis(Fixture.lease))
        yield* storage().used([{ userUlid: first(all), at: at + 2 ** 41 }], 0)
        at += 2 ** 42
      }
      assert.deepStrictEqual(waits.slice(0, 7), [1, 2, 4, 8, 16, 32, 32])
    })
  )

  it.effect("is nobody who has to reconnect, until there is a pair again", () =>
    Effect.gen(function* () {
      const { all, claimed, requests } = yield* users(1)
      const [request] = requests
      assert(request !== undefined)
      yield* storage().claim(Fixture.claimOf(request.userUlid))
      const failure = Fixture.terminal([Fixture.refreshHash(request.userUlid)])
      yield* storage().fail({ userUlid: request.userUlid, attemptId: "mine", failure })
      assert.deepStrictEqual(yield* claimed({ now: now + hour, usedSince: 0 }), [])
      yield* storage().connect({ ...request, pair: Fixture.pair("anew"), schedule: { aheadAt: now + 2 * hour } })
      assert.deepStrictEqual(yield* claimed({ now: now + 2 * hour, usedSince: 0 }), all)
    })
  )

  it.effect("while nobody uses it, is only what would lose its grant", () =>
    Effect.gen(function* () {
      const { all, claimed } = yield* users(1, { usedAt: now - hour, keepAt: now + 10 * hour })
      const usedSince = now - hour + 1
      assert.deepStrictEqual(yield* claimed({ usedSince }), [])
      assert.deepStrictEqual(yield* claimed({ now: now + 10 * hour - 1, usedSince: 0 }), [])
      assert.deepStrictEqual(yield* claimed({ now: now + 10 * hour, usedSince: now + 9 * hour }), all)
    })
  )

  it.effect("without a time at which the grant is lost is left alone until somebody uses it", () =>
    Effect.gen(function* () {
      const { all, claimed } = yield* users(1, { usedAt: now - hour })
      const user = first(all)
      assert.deepStrictEqual(yield* claimed({ usedSince: now }), [])
      assert.deepStrictEqual(yield* claimed({ now: now + 1e9, usedSince: now + 1e9 }), [])
      // Within the precision of what is known, it is no news.
      yield* storage().used([{ userUlid: user, at: now }], hour + 1)
      assert.deepStrictEqual(yield* claimed({ usedSince: 0 }), [])
      yield* storage().used([{ userUlid: user, at: now }], hour)
      assert.deepStrictEqual(yield* claimed({ usedSince: now }), all)
    })
  )

  it.effect("is not held up by users whom nobody uses, nor by those who are somebody else's", () =>
    Effect.gen(function* () {
      const { all, claimDue } = yield* users(maxVisits + 2, { usedAt: 0 })
      const last = all.at(-1)
      assert(last !== undefined)
      yield* storage().used([{ userUlid: last, at: now }], 0)
      const { claims, isMore } = yield* claimDue({ limit: 1 })
      assert.deepStrictEqual([claims.map(({ claimed }) => claimed.row.userUlid), isMore], [[last], true])
      for (const each of all) yield* storage().claim(Fixture.claimOf(each, { attemptId: each }))
      yield* storage().used(
        all.map((userUlid) => ({ userUlid, at: now + 1 })),
        0
      )
      const before = yield* claimDue({ limit: 1 })
      assert.deepStrictEqual([before.claims.length, before.isMore], [0, true])
      const after = yield* claimDue({ limit: 1 })
      assert.deepStrictEqual([after.claims.length, after.isMore], [0, false])
    })
  )

  it.effect("of a user of whom nobody ever asked is what would lose its grant", () =>
    Effect.gen(function* () {
      const { all, claimed } = yield* users(2, { keepAt: now + hour })
      const { claimed: others } = yield* users(1, { usedAt: undefined as never, keepAt: now + hour })
      assert.deepStrictEqual(yield* others({ usedSince: 0 }), [])
      assert.lengthOf(yield* others({ now: now + hour, usedSince: now + hour }), 1)
      assert.deepStrictEqual(yield* claimed({ usedSince: 0 }), all)
    })
  )

  it.effect("is nothing while the client's circuit is open, and another client's all the same", () =>
    Effect.gen(function* () {
      const { all, circuit, claimed, requests } = yield* users(2)
      const user = first(all)
      yield* storage().claim(Fixture.claimOf(user, { circuit }))
      const failure = { _tag: "Released" as const, probe: Option.none<string>(), refusal: "status 401" }
      yield* storage().fail({ userUlid: user, attemptId: "mine", failure, circuit })
      yield* TestClock.adjust("1 hour")
      // The trial that is due by now is left to somebody who waits.
      assert.deepStrictEqual(yield* claimed(), [])
      const other = { ...circuit, fingerprint: "two" }
      assert.deepStrictEqual(yield* claimed({ circuit: other, limit: 1 }), [user])
      const trial = yield* storage().claim(Fixture.claimOf(all[1] ?? user, { circuit, attemptId: "trial" }))
      assert.strictEqual(trial._tag, "Claimed")
      // Nor is what a circuit that has just closed lets through.
      yield* storage().commit(
        Fixture.commitOf(all[1] ?? user, requests[1]?.connection ?? Fixture.managed(0), {
          attemptId: "trial",
          seen: Fixture.refreshHash(all[1] ?? user),
          circuit
        })
      )
      yield* TestClock.adjust(quiet - 1)
      assert.deepStrictEqual(yield* claimed({ now: now + 2 ** 40, usedSince: 0 }), [])
      yield* TestClock.adjust(1)
      assert.isNotEmpty(yield* claimed({ now: now + 2 ** 40, usedSince: 0, limit: 1 }))
      const ahead = yield* storage().claim(
        Fixture.claimOf(all[1] ?? user, { circuit, attemptId: "ahead", purpose: { _tag: "Ahead" } })
      )
      assert.strictEqual(ahead._tag, "Busy")
    })
  )

  it.effect("of a user who moved to another client is that client's", () =>
    Effect.gen(function* () {
      const { all, claimed, requests } = yield* users(1)
      const other = yield* users(0)
      const [request] = requests
      assert(request !== undefined)
      const connection = { ...request.connection, clientId: other.circuit.clientId }
      yield* storage().connect({ ...request, connection, pair: Fixture.pair("elsewhere") })
      assert.deepStrictEqual(yield* claimed(), [])
      assert.deepStrictEqual(yield* other.claimed(), all)
    })
  )

  it.effect("ends with the connection", () =>
    Effect.gen(function* () {
      const { all, claimed } = yield* users(1)
      yield* storage().disconnect(first(all))
      assert.deepStrictEqual(yield* claimed(), [])
    })
  )
}
