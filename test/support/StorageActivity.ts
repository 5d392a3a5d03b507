/** What every storage has to tell of all users' attempts, expiries and circuits. */
import { assert, it } from "@effect/vitest"
import { Clock, Duration, Effect, Option, TestClock } from "effect"
import type { Event, Step } from "../../src/History.js"
import type { UserUlid } from "../../src/Token.js"
import { AttemptFailure } from "../../src/TokenStorage.js"
import * as Activity from "../../src/TokenStorage/Activity.js"
import * as Fixture from "./StorageFixture.js"

let days = 300

/** At the beginning of a minute that no other test has entries near. */
const apart = Effect.suspend(() =>
  Effect.zipRight(TestClock.adjust(Duration.days((days += 2))), Clock.currentTimeMillis)
)

export const activity = (storage: () => Fixture.Storage) => {
  const connected = Effect.gen(function* () {
    const { calUserId, userUlid } = Fixture.newUser()
    const connection = Fixture.managed(calUserId)
    const history: Event = { _tag: "Connected", process: "p0", token: "00000000", isGranted: false }
    yield* storage().connect({ userUlid, connection, pair: Fixture.pair("one"), history })
    return { userUlid, connection, enter: enter(userUlid, connection) }
  })

  /** Enters what a process says of an attempt, with nothing around it. */
  const enter = (userUlid: UserUlid, connection: ReturnType<typeof Fixture.managed>) => (history: Event) =>
    storage().connect({ userUlid, connection, pair: Fixture.pair("one"), history })

  const claim = (userUlid: UserUlid) => storage().claim(Fixture.claimOf(userUlid))

  /** Without buckets, for what is no pair. */
  const read = (since: number) =>
    Effect.map(storage().activity(since), ({ attempts }) =>
      attempts
        .map(({ at, bucket, count, longest, origin, outcome }) =>
          [(at - since) / Activity.minute, origin, outcome, bucket, count, longest].join(" ")
        )
        .sort()
    )

  it.effect("count how attempts end, once each, by minute and by what began them", () =>
    Effect.gen(function* () {
      const start = yield* apart
      const { connection, enter, userUlid } = yield* connected
      const fail = (
        failure = Fixture.notSpent(),
        extra: Parameters<typeof Fixture.attempted>[1] = { end: "notSpent" }
      ) => storage().fail({ userUlid, attemptId: "mine", failure, history: Fixture.attempted("one", extra) })
      yield* claim(userUlid)
      const refused = Fixture.attempted("one", { trigger: "refused", took: 40 })
      yield* storage().commit(Fixture.commitOf(userUlid, connection, { history: refused }))
      yield* claim(userUlid)
      yield* fail()
      // Its attempt is over.
      yield* fail()
      yield* TestClock.adjust(Activity.minute)
      yield* claim(userUlid)
      yield* TestClock.adjust(Fixture.lease)
      yield* claim(userUlid)
      yield* fail(Fixture.terminal([]), { end: "terminal", trigger: "ahead" })
      yield* TestClock.adjust(Fixture.lease)
      yield* enter(Fixture.attempted("one", { purpose: "reissue", trigger: "refused", took: 52 }))
      yield* enter(Fixture.attempted("one", { purpose: "reissue", trigger: "refused", took: 51 }))
      // A verdict that was not written.
      yield* enter(Fixture.attempted("one", { end: "terminal" }))
      const isLate = { as: "own", token: "00000000", isLate: true } as const
      yield* enter(Fixture.attempted("one", { steps: [{ ...isLate, answer: "granted" }], took: 60_000 }))
      yield* enter(Fixture.attempted("one", { steps: [{ ...isLate, answer: "unreadable" }], end: "unknown" }))
      assert.deepStrictEqual(yield* read(start), [
        "0 asked failed 0 2 0",
        `0 refused refreshed ${Activity.bucketOf(40)} 1 40`,
        "1 ahead reauthorizationRequired 0 1 0",
        "1 lapsed failed 0 1 0",
        "2 asked failed 0 1 0",
        `2 asked refreshed ${Activity.bucketOf(60_000)} 1 60000`,
        // In one bucket.
        `2 reissue refreshed ${Activity.bucketOf(51)} 2 52`
      ])
    })
  )

  it.effect("say why attempts failed: what came of the last call, with its status and its error", () =>
    Effect.gen(function* () {
      const start = yield* apart
      const { enter } = yield* connected
      const own = { as: "own", token: "00000000" } as const
      const fail = (...steps: ReadonlyArray<Omit<Step, "as" | "token">>) =>
        enter(Fixture.attempted("one", { end: "notSpent", steps: steps.map((step) => ({ ...own, ...step })) }))
      const down = { answer: "notSpent", status: 503, error: "CalUnavailable" } as const
      yield* fail(down)
      yield* fail({ answer: "unknown", error: "CalUnavailable" }, down)
      yield* fail({ ...down, status: 502 })
      yield* fail({ answer: "notSpent", error: "CalUnavailable" })
      yield* fail({ answer: "rejected", status: 400, refusal: "revoked" })
      yield* fail({ answer: "unreadable" })
      yield* fail()
      const ahead = { trigger: "ahead", end: "notSpent", steps: [{ ...own, ...down }] } as const
      yield* enter(Fixture.attempted("one", ahead))
      yield* enter(Fixture.attempted("one"))
      yield* enter({ _tag: "Lapsed", startedAt: 0 })
      const { attempts } = yield* storage().activity(start)
      const told = attempts.map(({ count, origin, reason }) => [origin, count, reason] as const)
      assert.sameDeepMembers(told, [
        ["asked", 2, down],
        ["asked", 1, { ...down, status: 502 }],
        ["asked", 1, { answer: "notSpent", error: "CalUnavailable" }],
        ["asked", 1, { answer: "rejected", status: 400 }],
        ["asked", 1, { answer: "unreadable" }],
        ["asked", 1, { answer: "unsent" }],
        ["ahead", 1, down],
        ["asked", 1, undefined],
        ["lapsed", 1, { answer: "lapsed" }]
      ])
    })
  )

  it.effect("are found in the buckets of their times, whatever those are", () =>
    Effect.gen(function* () {
      const start = yield* apart
      const { enter } = yield* connected
      const times = [0, 1, 2, 3, 7, 49, 128, 999, 1000, 20_000, 1_000_000, Activity.longest, 1e12, -5]
      for (const took of times) yield* enter(Fixture.attempted("one", { took }))
      const { attempts } = yield* storage().activity(start)
      const believed = times.map((took) => Math.min(Math.max(0, took), Activity.longest))
      for (const { bucket, count, longest } of attempts) {
        const alike = believed.filter((took) => Activity.bucketOf(took) === bucket)
        assert.deepStrictEqual([count, longest], [alike.length, Math.max(...alike)])
      }
      assert.strictEqual(
        attempts.reduce((sum, { count }) => sum + count, 0),
        times.length
      )
    })
  )

  it.effect("are read some minutes at a time, of the last hour only, and go with their users", () =>
    Effect.gen(function* () {
      const start = yield* apart
      const { enter, userUlid } = yield* connected
      const minutes = (count: number) => count * Activity.minute
      yield* enter(Fixture.attempted("one"))
      yield* TestClock.adjust(minutes(1) - 1)
      yield* enter(Fixture.attempted("one"))
      yield* TestClock.adjust(1)
      yield* enter(Fixture.attempted("one"))
      yield* TestClock.adjust(minutes(9))
      yield* enter(Fixture.attempted("one"))
      const counts = (since: number | undefined) =>
        Effect.map(storage().activity(since), ({ at, attempts, from, until }) => ({
          at: at - start,
          covers: [from, until].map((edge) => (edge - start) / Activity.minute),
          attempts: attempts.map(({ at, count }) => [(at - start) / Activity.minute, count]).sort()
        }))
      const at = minutes(10)
      const first = { at, covers: [0, 10], attempts: [[0, 2], [1, 1]] } // prettier-ignore
      assert.deepStrictEqual(yield* counts(start), first)
      assert.deepStrictEqual(yield* counts(start + minutes(1)), { at, covers: [1, 11], attempts: [[1, 1], [10, 1]] }) // prettier-ignore
      assert.deepStrictEqual(yield* counts(start + minutes(10)), { at, covers: [10, 11], attempts: [[10, 1]] })
      assert.deepStrictEqual(yield* counts(undefined), { at, covers: [-49, -39], attempts: [] })
      assert.deepStrictEqual(yield* counts(0), { at, covers: [-49, -39], attempts: [] })
      yield* TestClock.adjust(minutes(49))
      assert.deepStrictEqual(yield* counts(undefined), { ...first, at: at + minutes(49) })
      yield* TestClock.adjust(minutes(1))
      assert.deepStrictEqual((yield* counts(undefined)).attempts, [[1, 1], [10, 1]]) // prettier-ignore
      yield* storage().disconnect(userUlid)
      assert.deepStrictEqual((yield* counts(undefined)).attempts, [])
    })
  )

  it.effect("say whose access tokens end in which minute, of those who are active", () =>
    Effect.gen(function* () {
      const start = yield* apart
      // In Cal.com's time.
      const now = start + 1e12 + 20_000
      const first = Activity.minuteOf(now)
      const { overdue } = yield* storage().outlook(now)
      const ending = (accessTokenExpiresAt: number) =>
        Effect.gen(function* () {
          const { calUserId, userUlid } = Fixture.newUser()
          const connection = Fixture.managed(calUserId)
          const schedule = { aheadAt: accessTokenExpiresAt - 1000 }
          const pair = Fixture.pair("one", { accessTokenExpiresAt })
          yield* storage().connect({ userUlid, connection, pair, schedule })
          return { userUlid, connection, schedule }
        })
      const at = [now - 1000, now, now + 1, first + 59_999, first + 60_000, first + 3_599_999, first + 3_600_000]
      for (const end of at) yield* ending(end)
      const lost = yield* ending(first + 60_000)
      yield* claim(lost.userUlid)
      yield* storage().fail({ userUlid: lost.userUlid, attemptId: "mine", failure: Fixture.terminal() })
      const renewed = yield* ending(now - 1)
      yield* claim(renewed.userUlid)
      const pair = Fixture.pair("two", { accessTokenExpiresAt: first + 120_000 })
      yield* storage().commit(Fixture.commitOf(renewed.userUlid, renewed.connection, { ...renewed, pair }))
      const gone = yield* ending(first + 180_000)
      yield* storage().disconnect(gone.userUlid)
      const outlook = yield* storage().outlook(now)
      assert.strictEqual(outlook.overdue - overdue, 2)
      assert.deepStrictEqual(
        outlook.minutes.map(({ at, users }) => [(at - first) / Activity.minute, users]),
        [[0, 2], [1, 1], [2, 1], [59, 1]] // prettier-ignore
      )
    })
  )

  it.effect("tell of each circuit that is open: of whom, why, since when, and when it is tried next", () =>
    Effect.gen(function* () {
      const at = yield* apart
      const { calUserId, userUlid } = Fixture.newUser()
      const circuit = { clientId: `client of ${userUlid}`, fingerprint: "f", interval: Duration.seconds(30) }
      const connection = { ...Fixture.managed(calUserId), clientId: circuit.clientId }
      yield* storage().connect({ userUlid, connection, pair: Fixture.pair("one") })
      const open = Effect.map(storage().outlook(0), ({ circuits }) =>
        circuits.filter(({ clientId }) => clientId === circuit.clientId)
      )
      const ofUser = Effect.map(storage().history(userUlid), (found) => Option.getOrThrow(found).circuit)
      assert.deepStrictEqual([yield* open, yield* ofUser], [[], undefined])
      yield* claim(userUlid)
      const refused = (refusal: string) => {
        const failure = AttemptFailure.Released({ probe: Option.none(), refusal })
        return storage().fail({ userUlid, attemptId: "mine", failure, circuit })
      }
      yield* refused("no such client")
      assert.deepStrictEqual(yield* open, [
        { clientId: circuit.clientId, cause: "client", reason: "no such client", openedAt: at, trialAt: at + 30_000 }
      ])
      // It does not open anew by a trial that fails.
      yield* TestClock.adjust("30 seconds")
      yield* claim(userUlid)
      yield* refused("still none")
      const still = { clientId: circuit.clientId, cause: "client", reason: "still none", openedAt: at } as const
      assert.deepStrictEqual(yield* open, [{ ...still, trialAt: at + 60_000 }])
      assert.deepStrictEqual(yield* ofUser, { ...still, trialAt: at + 60_000 })
      yield* TestClock.adjust("1 second")
      yield* storage().connect({ userUlid, connection, pair: Fixture.pair("two"), circuit, granted: true })
      assert.deepStrictEqual([yield* open, yield* ofUser], [[], undefined])
    })
  )
}
