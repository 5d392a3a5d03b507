/** What every storage has to do with users' histories. */
import { assert, it } from "@effect/vitest"
import { Duration, Effect, Option, TestClock } from "effect"
import * as History from "../../src/History.js"
import type { UserUlid } from "../../src/Token.js"
import type { AttemptFailure } from "../../src/TokenStorage.js"
import * as Fixture from "./StorageFixture.js"

const nameOf = (token: string) => History.nameOf(Fixture.refreshHash(token))

const connectedBy = (token: string, isGranted = false): History.Event => ({
  _tag: "Connected",
  process: "p0",
  token: nameOf(token),
  isGranted
})

export const history = (storage: () => Fixture.Storage) => {
  const connected = Effect.gen(function* () {
    const { calUserId, userUlid } = Fixture.newUser()
    // Long after what other tests entered.
    yield* TestClock.adjust(Duration.days(100))
    const connection = Fixture.managed(calUserId)
    yield* storage().connect({ userUlid, connection, pair: Fixture.pair("one"), history: connectedBy("one") })
    return { userUlid, connection }
  })

  const read = (userUlid: UserUlid) => Effect.map(storage().history(userUlid), Option.getOrThrow)
  const entries = (userUlid: UserUlid) =>
    Effect.map(read(userUlid), ({ entries }) => entries.map(({ event, written }) => [event._tag, written]))
  const claim = (userUlid: UserUlid, attemptId = "mine") => storage().claim(Fixture.claimOf(userUlid, { attemptId }))
  const fail = (userUlid: UserUlid, failure: AttemptFailure, attemptId = "mine") =>
    storage().fail({ userUlid, attemptId, failure, history: Fixture.attempted("one", { end: "unknown" }) })

  it.effect("come back as they were said, with what was written and when", () =>
    Effect.gen(function* () {
      const { connection, userUlid } = yield* connected
      const at = (yield* read(userUlid)).at
      yield* claim(userUlid)
      yield* TestClock.adjust(40)
      const event = Fixture.attempted("one", {
        trigger: "refused",
        brought: nameOf("two"),
        wentBack: true,
        steps: [
          { as: "probe", token: nameOf("one"), answer: "rejected", status: 400, refusal: "revoked", isExpired: true },
          { as: "fallback", token: nameOf("three"), answer: "unknown", isLate: true, error: "CalUnavailable" }
        ]
      })
      yield* storage().commit(Fixture.commitOf(userUlid, connection, { history: event }))
      const history = yield* read(userUlid)
      assert.deepStrictEqual(history.entries, [
        { at, written: "stored", event: connectedBy("one") },
        { at: at + 40, written: "stored", event }
      ])
      assert.deepStrictEqual(history.connection.connection, connection)
      assert.strictEqual(history.at, at + 40)
      assert.isFalse("open" in history)
    })
  )

  it.effect("say what each failure wrote, and nothing of what changes nothing", () =>
    Effect.gen(function* () {
      const { connection, userUlid } = yield* connected
      yield* claim(userUlid)
      yield* fail(userUlid, Fixture.unknown(0))
      // Its attempt is over.
      yield* fail(userUlid, Fixture.notSpent())
      yield* claim(userUlid)
      const kept = Fixture.commitOf(userUlid, connection, { attemptId: "other", pair: Fixture.pair("fallback") })
      yield* storage().commit({ ...kept, seen: "another", history: Fixture.attempted("zero") })
      // Repeated, it makes no difference; nor does a verdict that a fallback stands against.
      yield* storage().commit({ ...kept, seen: "another", history: Fixture.attempted("zero") })
      yield* fail(userUlid, Fixture.terminal())
      yield* storage().fail({ userUlid, attemptId: "mine", failure: Fixture.released() })
      assert.deepStrictEqual(yield* entries(userUlid), [
        ["Connected", "stored"],
        ["Attempt", "recorded"],
        ["Attempt", "late"],
        ["Attempt", "kept"]
      ])
    })
  )

  it.effect("tell of users whom the brake spared", () =>
    Effect.gen(function* () {
      const { calUserId, userUlid } = Fixture.newUser()
      const clientId = `client of ${userUlid}`
      const circuit = { clientId, fingerprint: "f", interval: Duration.seconds(30) }
      const connection = { ...Fixture.managed(calUserId), clientId }
      yield* storage().connect({ userUlid, connection, pair: Fixture.pair("one") })
      yield* claim(userUlid)
      const failure = Fixture.terminal()
      const brake = { users: 1, window: Duration.minutes(1) }
      const history = Fixture.attempted("one", { end: "terminal" })
      yield* storage().fail({ userUlid, attemptId: "mine", failure, circuit, brake, history })
      assert.deepStrictEqual((yield* entries(userUlid)).at(-1), ["Attempt", "spared"])
    })
  )

  it.effect("name who left an attempt open: while it may still end, and when the next one takes over", () =>
    Effect.gen(function* () {
      const { userUlid } = yield* connected
      yield* claim(userUlid, "p7.rest")
      const { at, open } = yield* read(userUlid)
      const attempt = { process: "p7", startedAt: at, token: nameOf("one") }
      assert.deepStrictEqual(open, { ...attempt, leaseUntil: at + Duration.toMillis(Fixture.lease) })
      // Not while the lease runs.
      yield* claim(userUlid, "p8.rest")
      yield* TestClock.adjust(Fixture.lease)
      yield* claim(userUlid, "nameless")
      assert.deepStrictEqual((yield* read(userUlid)).entries.at(-1), {
        at: at + Duration.toMillis(Fixture.lease),
        written: "noted",
        event: { _tag: "Lapsed", ...attempt }
      })
      yield* TestClock.adjust(Fixture.lease)
      yield* claim(userUlid)
      const last = (yield* read(userUlid)).entries.at(-1)?.event
      assert.isTrue(last?._tag === "Lapsed" && !("process" in last))
    })
  )

  it.effect("take in answers that are sealed, updates and imports", () =>
    Effect.gen(function* () {
      const { connection, userUlid } = yield* connected
      const answer = {
        spentHash: Fixture.refreshHash("one"),
        operation: "refresh" as const,
        connection,
        answer: Fixture.bytes("what was answered"),
        issuedAt: 5,
        isWhole: true
      }
      const sealed = Fixture.attempted("one", { end: "unknown" })
      yield* storage().seal({ userUlid, ...answer, history: sealed })
      yield* storage().seal({ userUlid, ...answer, history: sealed })
      const updated = { _tag: "Updated", process: "p1", token: nameOf("two") } as const
      yield* storage().update({ userUlid, connection, pair: Fixture.pair("two"), history: updated })
      const other = Fixture.newUser()
      const importing = (token: string) => ({
        userUlid: other.userUlid,
        connection: Fixture.managed(other.calUserId),
        pair: Fixture.pair(token),
        history: { _tag: "Imported", process: "p1", token: nameOf(token) } as const
      })
      for (const token of ["a", "a", "b"]) yield* storage().import([importing(token)])
      assert.deepStrictEqual(yield* entries(userUlid), [
        ["Connected", "stored"],
        ["Attempt", "sealed"],
        ["Updated", "stored"]
      ])
      assert.deepStrictEqual(
        (yield* read(other.userUlid)).entries.map(({ event }) => event),
        [importing("a").history, importing("b").history]
      )
    })
  )

  it.effect(`keep the last ${History.maxEntries} of 30 days, and go with the row`, () =>
    Effect.gen(function* () {
      const { connection, userUlid } = yield* connected
      for (let n = 0; n < History.maxEntries + 20; n++) {
        const pair = Fixture.pair("one")
        yield* storage().connect({ userUlid, connection, pair, history: connectedBy(`${n}`) })
      }
      const tokens = (yield* read(userUlid)).entries.map(({ event }) => "token" in event && event.token)
      const last = Array.from({ length: History.maxEntries }, (_, n) => nameOf(`${n + 20}`))
      assert.deepStrictEqual(tokens, last)
      yield* TestClock.adjust(History.keptFor - 1)
      assert.strictEqual((yield* read(userUlid)).entries.length, History.maxEntries)
      yield* TestClock.adjust(1)
      assert.strictEqual((yield* read(userUlid)).entries.length, 0)
      yield* storage().connect({ userUlid, connection, pair: Fixture.pair("one"), history: connectedBy("new") })
      assert.strictEqual((yield* read(userUlid)).entries.length, 1)
      yield* storage().disconnect(userUlid)
      assert.isTrue(Option.isNone(yield* storage().history(userUlid)))
      yield* storage().connect({ userUlid, connection, pair: Fixture.pair("one") })
      assert.deepStrictEqual(yield* entries(userUlid), [])
    })
  )

  it.effect("go with the row, too, when somebody else takes the account", () =>
    Effect.gen(function* () {
      const { connection, userUlid } = yield* connected
      const { userUlid: other } = Fixture.newUser()
      const request = { connection, pair: Fixture.pair("one"), history: connectedBy("one", true) }
      yield* storage().connect({ userUlid: other, ...request, replace: true })
      assert.isTrue(Option.isNone(yield* storage().history(userUlid)))
      assert.deepStrictEqual(yield* entries(other), [["Connected", "stored"]])
    })
  )
}
