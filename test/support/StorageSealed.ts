/** What every storage has to do with answers that nobody could read. */
import { assert, it } from "@effect/vitest"
import { Duration, Effect, Redacted, TestClock } from "effect"
import type { NewSealedAnswer } from "../../src/TokenStorage.js"
import * as Fixture from "./StorageFixture.js"

const bytes = (text: string) => Redacted.make(new TextEncoder().encode(text))

export const sealed = (storage: () => Fixture.Storage) => {
  const answer = (calUserId: number, spentHash: string): NewSealedAnswer => ({
    spentHash,
    operation: "refresh",
    connection: Fixture.managed(calUserId),
    answer: bytes(`what was answered for ${spentHash}`),
    issuedAt: 5,
    isWhole: true
  })

  const page = (after: ReturnType<typeof Fixture.newUser>, limit: number) =>
    Effect.map(storage().sealed({ after: after.userUlid, limit }), (found) =>
      found.map(({ answer, userUlid, ...rest }) => ({
        userUlid,
        text: new TextDecoder().decode(Redacted.value(answer)),
        ...rest
      }))
    )

  it.effect("come back as they were, page by page, with all of a user's in one", () =>
    Effect.gen(function* () {
      const before = Fixture.newUser()
      const users = [Fixture.newUser(), Fixture.newUser(), Fixture.newUser()] as const
      for (const { calUserId, userUlid } of users) {
        const connection = Fixture.managed(calUserId)
        assert.isFalse(yield* storage().seal({ userUlid, ...answer(calUserId, "too early") }))
        yield* storage().connect({ userUlid, connection, pair: Fixture.pair(userUlid) })
        for (const spent of ["one", "two"]) {
          assert.isTrue(yield* storage().seal({ userUlid, ...answer(calUserId, spent) }))
        }
      }
      const [a, b, c] = users
      const whole = (user: typeof a) =>
        ["one", "two"].map((spentHash) => ({
          userUlid: user.userUlid,
          text: `what was answered for ${spentHash}`,
          spentHash,
          operation: "refresh",
          connection: Fixture.managed(user.calUserId),
          issuedAt: 5,
          isWhole: true,
          at: 0
        }))
      assert.sameDeepMembers([...(yield* page(before, 2))], [...whole(a), ...whole(b)])
      assert.sameDeepMembers([...(yield* page(b, 2))], whole(c))
      assert.deepStrictEqual(yield* page(c, 2), [])
      // The same answer is kept once; another one to the same token takes nothing from it.
      yield* storage().seal({ userUlid: c.userUlid, ...answer(c.calUserId, "one") })
      const again = (n: number) => ({ ...answer(c.calUserId, "one"), answer: bytes(`again ${n}`) })
      for (const n of [1, 2, 3, 4, 5, 6, 7, 8]) yield* storage().seal({ userUlid: c.userUlid, ...again(n) })
      assert.deepStrictEqual(
        (yield* page(b, 2)).map(({ text }) => text),
        ["one", "two"]
          .map((spent) => `what was answered for ${spent}`)
          .concat([1, 2, 5, 6, 7, 8].map((n) => `again ${n}`))
      )
      for (const { userUlid } of users) yield* storage().disconnect(userUlid)
      assert.deepStrictEqual(yield* page(before, 2), [])
    })
  )

  it.effect(
    "end with a pair of a claim after them, but for the answer in which that pair was, sealed before or not",
    () =>
      Effect.gen(function* () {
        const before = Fixture.newUser()
        const { calUserId, userUlid } = Fixture.newUser()
        const connection = Fixture.managed(calUserId)
        yield* storage().connect({ userUlid, connection, pair: Fixture.pair("one") })
        for (const spent of ["one", "two"]) yield* storage().seal({ userUlid, ...answer(calUserId, spent) })
        yield* TestClock.adjust("1 second")
        yield* storage().claim(Fixture.claimOf(userUlid))
        const unread = { sealed: answer(calUserId, "one"), drift: undefined, probeIn: Duration.seconds(5) }
        yield* storage().commit(Fixture.commitOf(userUlid, connection, { unread }))
        assert.deepStrictEqual(
          (yield* page(before, 1)).map(({ at, spentHash }) => [spentHash, at]),
          [["one", 1000]]
        )
        yield* storage().disconnect(userUlid)
      })
  )

  it.effect("keep their OAuth2 user from being tried or marked while others may be reading, and no longer", () =>
    Effect.gen(function* () {
      const { calUserId, userUlid } = Fixture.newUser()
      const connection = Fixture.oauth(calUserId)
      const clientId = `client of ${userUlid}`
      const circuit = { clientId, fingerprint: "f", interval: Duration.seconds(30) }
      const brake = { users: 5, window: Duration.minutes(1) }
      const own = { ...connection, clientId }
      yield* storage().connect({ userUlid, connection: own, pair: Fixture.pair(userUlid) })
      const spentHash = Fixture.refreshHash(userUlid)
      const drift = { reason: "changed", users: 1, circuit } as const
      yield* storage().seal({ userUlid, ...answer(calUserId, spentHash), connection: own, drift })
      const claim = (whose?: typeof circuit) =>
        storage().claim(Fixture.claimOf(userUlid, { circuit: whose, expiredFor: Duration.zero }))
      const mark = Effect.gen(function* () {
        assert.strictEqual((yield* claim())._tag, "Claimed")
        const failure = Fixture.terminal([spentHash])
        const request = { userUlid, attemptId: Fixture.claimOf(userUlid).attemptId, failure, circuit, brake }
        return (yield* storage().fail(request))._tag
      })
      assert.strictEqual((yield* claim(circuit))._tag, "Held")
      assert.strictEqual(yield* mark, "Spared")
      // Cal.com exchanges somebody else's code.
      const other = Fixture.newUser()
      const theirs = { ...Fixture.oauth(other.calUserId), clientId }
      const pair = Fixture.pair(other.userUlid)
      yield* storage().connect({ userUlid: other.userUlid, connection: theirs, pair, circuit })
      yield* TestClock.adjust("299999 millis")
      const held = yield* claim(circuit)
      assert.isTrue(held._tag === "Held" && held.cause === "drift" && held.sealed.length === 1)
      assert.isTrue(held._tag === "Held" && Duration.toMillis(held.retryAfter) === 1)
      assert.strictEqual(yield* mark, "Spared")
      yield* TestClock.adjust("1 millis")
      assert.strictEqual(yield* mark, "Recorded")
    })
  )

  it.effect("to a token that the user has no more keep nobody from a trial, and everybody from being marked", () =>
    Effect.gen(function* () {
      const { calUserId, userUlid } = Fixture.newUser()
      const clientId = `client of ${userUlid}`
      const connection = { ...Fixture.oauth(calUserId), clientId }
      const circuit = { clientId, fingerprint: "f", interval: Duration.seconds(30) }
      yield* storage().connect({ userUlid, connection, pair: Fixture.pair(`${userUlid} new`) })
      const drift = { reason: "changed", users: 1, circuit } as const
      const brake = { users: 5, window: Duration.minutes(1) }
      for (const [token, verdict, marked] of [
        ["old", "Claimed", "Spared"],
        ["new", "Held", "NotRecorded"]
      ] as const) {
        const spentHash = Fixture.refreshHash(`${userUlid} ${token}`)
        yield* storage().seal({ userUlid, ...answer(calUserId, spentHash), connection, drift })
        yield* TestClock.adjust("2 minutes")
        const claim = yield* storage().claim(Fixture.claimOf(userUlid, { circuit, expiredFor: Duration.zero }))
        assert.strictEqual(claim._tag, verdict)
        const failure = Fixture.terminal([Fixture.refreshHash(`${userUlid} new`)])
        const mark = yield* storage().fail({ userUlid, attemptId: "mine", failure, circuit, brake })
        assert.strictEqual(mark._tag, marked)
      }
    })
  )
}
