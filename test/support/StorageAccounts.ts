/**
 * Which user has which Cal.com account.
 */
import type { SqlClient } from "@effect/sql"
import { assert, it } from "@effect/vitest"
import { Effect, Option } from "effect"
import type { UserUlid } from "../../src/Token.js"
import * as Fixture from "./StorageFixture.js"

/** Where the table of accounts and the rows do not say the same: nowhere. */
export const strays = (sql: SqlClient.SqlClient) => sql`
  with said as (
    select kind, client_id, cal_user_id::text, user_ulid from cal_tokens.connection where cal_user_id is not null
  ), kept as (
    select kind, client_id, cal_user_id::text, user_ulid from cal_tokens.cal_account
  )
  select 'without account' as problem, * from (select * from said except select * from kept) a
  union all select 'without row', * from (select * from kept except select * from said) b`

export const accounts = (storage: () => Fixture.Storage) => {
  it.effect("an account belongs to one user, until that user leaves it", () =>
    Effect.gen(function* () {
      const [a, b] = [Fixture.newUser(), Fixture.newUser()]
      const shared = Fixture.managed(a.calUserId)
      const connect = (userUlid: UserUlid, connection = shared, replace = false) =>
        storage().connect({ userUlid, connection, pair: Fixture.pair(userUlid), replace })
      yield* connect(a.userUlid)
      const refused = yield* Effect.flip(connect(b.userUlid))
      assert.strictEqual(refused._tag, "CalAccountInUse")
      assert.isTrue(Option.isNone(yield* storage().find(b.userUlid)))
      // Another kind of client, another account.
      yield* connect(b.userUlid, { _tag: "OAuth2", clientId: "platform", calUserId: a.calUserId })
      yield* connect(a.userUlid, Fixture.managed(b.calUserId))
      yield* connect(b.userUlid)
      yield* connect(a.userUlid, shared, true)
      assert.isTrue(Option.isNone(yield* storage().find(b.userUlid)))
      assert.isTrue(Option.isNone(yield* storage().findByAccessToken(Fixture.accessHash(b.userUlid))))
      yield* storage().disconnect(a.userUlid)
      yield* connect(b.userUlid)
    })
  )

  it.effect("an account that its user leaves is free, however often, and one that is kept is not", () =>
    Effect.gen(function* () {
      const [a, b] = [Fixture.newUser(), Fixture.newUser()]
      const [x, y] = [Fixture.oauth(a.calUserId), Fixture.oauth(b.calUserId)]
      const connect = (userUlid: UserUlid, connection: typeof x, replace = false) =>
        Effect.match(storage().connect({ userUlid, connection, pair: Fixture.pair(userUlid), replace }), {
          onFailure: (error) => error._tag,
          onSuccess: () => "connected"
        })
      const steps = [
        [a, x, false, "connected"],
        [a, y, false, "connected"],
        [b, y, false, "CalAccountInUse"],
        [a, x, false, "connected"],
        [b, y, false, "connected"],
        [b, x, false, "CalAccountInUse"],
        // Forced where nobody is in the way, and on oneself.
        [b, y, true, "connected"],
        [a, Fixture.managed(a.calUserId), true, "connected"],
        [b, x, false, "connected"],
        [b, Fixture.oauth(), false, "connected"],
        [a, x, true, "connected"],
        [b, x, true, "connected"],
        [a, y, false, "connected"],
        [a, x, false, "CalAccountInUse"],
        [b, Fixture.oauth(), true, "connected"],
        [a, x, false, "connected"]
      ] as const
      for (const [number, [user, connection, replace, answer]] of steps.entries()) {
        assert.strictEqual(yield* connect(user.userUlid, connection, replace), answer, `step ${number}`)
      }
    })
  )

  it.effect("an update keeps the account; a commit that learned one keeps it from others", () =>
    Effect.gen(function* () {
      const [a, b] = [Fixture.newUser(), Fixture.newUser()]
      const x = Fixture.oauth(a.calUserId)
      const connect = (userUlid: UserUlid, connection: typeof x) =>
        Effect.either(storage().connect({ userUlid, connection, pair: Fixture.pair(userUlid) }))
      yield* connect(a.userUlid, Fixture.oauth())
      yield* storage().claim(Fixture.claimOf(a.userUlid))
      yield* storage().commit(Fixture.commitOf(a.userUlid, x, { seen: Fixture.refreshHash(a.userUlid) }))
      yield* Fixture.update(storage(), a.userUlid, Fixture.pair("three"))
      // Learned once more: nothing to learn.
      yield* storage().claim(Fixture.claimOf(a.userUlid))
      const again = Fixture.commitOf(a.userUlid, x, { seen: Fixture.refreshHash("three"), pair: Fixture.pair("four") })
      assert.strictEqual((yield* storage().commit(again))._tag, "Stored")
      assert.strictEqual((yield* connect(b.userUlid, x))._tag, "Left")
      assert.isTrue(yield* storage().disconnect(a.userUlid))
      assert.strictEqual((yield* connect(b.userUlid, x))._tag, "Right")
    })
  )

  it.effect("a pair of another account is not stored, whoever's attempt it is, and however it comes", () =>
    Effect.gen(function* () {
      const [a, b] = [Fixture.newUser(), Fixture.newUser()]
      const { userUlid } = a
      const mine = Fixture.managed(a.calUserId)
      yield* storage().connect({ userUlid, connection: mine, pair: Fixture.pair("one") })
      for (const other of [
        Fixture.managed(b.calUserId),
        Fixture.oauth(a.calUserId),
        { ...mine, clientId: "another" } as const
      ]) {
        // Late, of the very token that the row has; then in time.
        for (const attemptId of ["late", "mine"]) {
          assert.strictEqual(
            (yield* storage().commit(Fixture.commitOf(userUlid, other, { attemptId })))._tag,
            "Discarded",
            attemptId
          )
          assert.isTrue(
            Option.isNone(yield* storage().update({ userUlid, connection: other, pair: Fixture.pair("x") }))
          )
          yield* storage().claim(Fixture.claimOf(userUlid))
        }
      }
      assert.deepStrictEqual(yield* Fixture.namesStored(storage(), userUlid), ["one"])
      assert.strictEqual((yield* storage().commit(Fixture.commitOf(userUlid, mine)))._tag, "Stored")
      const update = { userUlid, connection: mine, pair: Fixture.pair("three") }
      assert.isTrue(Option.isSome(yield* storage().update(update)))
      assert.deepStrictEqual(yield* Fixture.namesStored(storage(), userUlid), ["three", "two"])
    })
  )

  it.effect("a refused connect changes nothing", () =>
    Effect.gen(function* () {
      const [a, b] = [Fixture.newUser(), Fixture.newUser()]
      const pair = Fixture.pair("kept")
      yield* storage().connect({ userUlid: a.userUlid, connection: Fixture.managed(a.calUserId), pair })
      yield* storage().connect({ userUlid: b.userUlid, connection: Fixture.managed(b.calUserId), pair })
      yield* storage().claim(Fixture.claimOf(b.userUlid))
      const before = yield* storage().find(b.userUlid)
      const taken = { userUlid: b.userUlid, connection: Fixture.managed(a.calUserId), pair: Fixture.pair("new") }
      yield* Effect.flip(storage().connect(taken))
      assert.deepStrictEqual(
        Option.map(yield* storage().find(b.userUlid), Fixture.plain),
        Option.map(before, Fixture.plain)
      )
      assert.strictEqual(yield* Fixture.observe(storage(), b.userUlid), "claimed")
    })
  )

  it.effect("a pair of another account, or of a nameless one, displaces everything", () =>
    Effect.gen(function* () {
      const { calUserId, userUlid } = Fixture.newUser()
      const connect = (connection: ReturnType<typeof Fixture.oauth>, name: string) =>
        Effect.zipRight(
          storage().connect({ userUlid, connection, pair: Fixture.pair(name) }),
          Fixture.namesStored(storage(), userUlid)
        )
      assert.deepStrictEqual(yield* connect(Fixture.oauth(calUserId), "a"), ["a"])
      assert.deepStrictEqual(yield* connect(Fixture.oauth(calUserId), "b"), ["b", "a"])
      assert.deepStrictEqual(yield* connect(Fixture.managed(calUserId), "c"), ["c"])
      assert.deepStrictEqual(yield* connect(Fixture.oauth(), "d"), ["d"])
      assert.deepStrictEqual(yield* connect(Fixture.oauth(), "e"), ["e"])
      yield* Fixture.update(storage(), userUlid, Fixture.pair("f"))
      assert.deepStrictEqual(yield* Fixture.namesStored(storage(), userUlid), ["f"])
    })
  )

  it.effect("a commit names a nameless account, unless it is somebody else's", () =>
    Effect.gen(function* () {
      const [a, b] = [Fixture.newUser(), Fixture.newUser()]
      const refreshed = (userUlid: UserUlid, scope?: string) =>
        Effect.gen(function* () {
          yield* storage().connect({
            userUlid,
            connection: Fixture.oauth(undefined, "OLD"),
            pair: Fixture.pair(`${userUlid} 1`)
          })
          yield* storage().claim(Fixture.claimOf(userUlid))
          const result = yield* storage().commit(
            Fixture.commitOf(userUlid, Fixture.oauth(a.calUserId, scope), { pair: Fixture.pair(`${userUlid} 2`) })
          )
          assert(result._tag === "Stored")
          assert.deepStrictEqual(yield* Fixture.namesStored(storage(), userUlid), [`${userUlid} 2`])
          return result.row.connection
        })
      assert.deepStrictEqual(yield* refreshed(a.userUlid, "NEW"), Fixture.oauth(a.calUserId, "NEW"))
      assert.deepStrictEqual(yield* refreshed(b.userUlid), Fixture.oauth(undefined, "OLD"))
      const stolen = { userUlid: b.userUlid, connection: Fixture.oauth(a.calUserId), pair: Fixture.pair("x") }
      assert.strictEqual((yield* Effect.flip(storage().connect(stolen)))._tag, "CalAccountInUse")
    })
  )
}
