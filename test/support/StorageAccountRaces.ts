/**
 * Users who race for Cal.com accounts: whatever the order, one of them has it, and the table of accounts says what the
 * rows say.
 */
import { assert, it } from "@effect/vitest"
import { Array, Effect, Option } from "effect"
import type { Connection, UserUlid } from "../../src/Token.js"
import { strays } from "./StorageAccounts.js"
import * as Fixture from "./StorageFixture.js"
import { all, connected, tally, type TwoProcesses } from "./TwoProcesses.js"

export const accountRaces = (processes: () => TwoProcesses) => {
  let n = 0
  /** Connects with a new pair, in one process and the other by turns. */
  const connect = (userUlid: UserUlid, connection: Connection, replace = false) =>
    Effect.suspend(() => {
      n += 1
      const storage = n % 2 === 0 ? processes().one : processes().two
      return storage.connect({ userUlid, connection, replace, pair: Fixture.pair(`${userUlid} ${n}`) })
    })
  const newUsers = (count: number) => Array.makeBy(count, () => Fixture.newUser().userUlid)
  const newAccounts = (count: number) => Array.makeBy(count, () => Fixture.oauth(Fixture.newUser().calUserId))
  const inStep = Effect.gen(function* () {
    assert.deepStrictEqual(yield* strays(processes().sql), [])
  })
  /** How many of these users have a row that names this account. */
  const owners = (users: ReadonlyArray<UserUlid>, { calUserId }: Connection) =>
    Effect.map(
      Effect.forEach(users, (userUlid) => processes().one.find(userUlid)),
      (rows) => rows.filter(Option.exists((row) => row.connection.calUserId === calUserId)).length
    )

  it.live("of many users that connect one account at once, one gets it", () =>
    Effect.gen(function* () {
      const users = newUsers(20)
      const [account] = newAccounts(1)
      assert(account !== undefined)
      const results = yield* all(users.map((userUlid) => Effect.either(connect(userUlid, account))))
      assert.deepStrictEqual(tally(results), { Right: 1, Left: 19 })
      const failures = results.flatMap((result) => (result._tag === "Left" ? [result.left._tag] : []))
      assert.deepStrictEqual([...new Set(failures)], ["CalAccountInUse"])
      yield* inStep
    })
  )

  it.live("of many users that take one account from each other at once, one has it and one row", () =>
    Effect.gen(function* () {
      const [account] = newAccounts(1)
      assert(account !== undefined)
      for (const users of Array.makeBy(10, () => newUsers(6))) {
        yield* all(users.map((userUlid) => connect(userUlid, account, true)))
        const rows = yield* Effect.forEach(users, (userUlid) => processes().one.find(userUlid))
        assert.strictEqual(rows.filter(Option.isSome).length, 1)
      }
      yield* inStep
    })
  )

  it.live("two users who swap their accounts by force do not block each other for ever", () =>
    Effect.gen(function* () {
      const [a, b] = [yield* connected(processes()), yield* connected(processes())]
      yield* all([connect(a.userUlid, b.connection, true), connect(b.userUlid, a.connection, true)])
      assert.include([0, 1], yield* owners([a.userUlid, b.userUlid], a.connection))
      assert.include([0, 1], yield* owners([a.userUlid, b.userUlid], b.connection))
      yield* inStep
    })
  )

  it.live("one user who connects many accounts at once ends with one, and the others are free", () =>
    Effect.gen(function* () {
      for (const isNew of [true, false, true, false, true, false]) {
        const [user, other] = newUsers(2)
        const accounts = newAccounts(6)
        assert(user !== undefined && other !== undefined && accounts[0] !== undefined)
        if (!isNew) yield* connect(user, accounts[0])
        yield* all([...accounts, Fixture.oauth()].map((account) => connect(user, account)))
        yield* inStep
        const kept = Option.getOrThrow(yield* processes().one.find(user)).connection.calUserId
        for (const account of accounts.filter(({ calUserId }) => calUserId !== kept)) yield* connect(other, account)
      }
    })
  )

  it.live("accounts that go back and forth between users, by force and not, have one owner at most", () =>
    Effect.gen(function* () {
      const users = newUsers(4)
      const accounts = newAccounts(3)
      for (const round of Array.range(1, 12)) {
        const results = yield* all(
          users.map((userUlid, m) => {
            const account = accounts[(round * (m + 1)) % accounts.length]
            assert(account !== undefined)
            return Effect.either(connect(userUlid, account, (round + m) % 3 === 0))
          })
        )
        for (const result of results) {
          if (result._tag === "Left") assert.strictEqual(result.left._tag, "CalAccountInUse")
        }
        yield* inStep
      }
    })
  )

  it.live("an account is taken from a user who is just moving on to another: both get what they want", () =>
    Effect.gen(function* () {
      for (const round of Array.range(1, 40)) {
        const leaving = yield* connected(processes())
        const [user] = newUsers(1)
        const [next] = newAccounts(1)
        assert(user !== undefined && next !== undefined)
        const move = connect(leaving.userUlid, next)
        const take = connect(user, leaving.connection, true)
        yield* all(round % 2 === 0 ? [move, take] : [take, move])
        assert.deepStrictEqual(
          [yield* owners([leaving.userUlid], next), yield* owners([user], leaving.connection)],
          [1, 1]
        )
      }
      yield* inStep
    })
  )

  it.live("an account is taken from a user whose refresh is just ending", () =>
    Effect.gen(function* () {
      for (const round of Array.range(1, 20)) {
        const { one, sql, two } = processes()
        const displaced = yield* connected(processes())
        const [user] = newUsers(1)
        assert(user !== undefined)
        yield* one.claim(Fixture.claimOf(displaced.userUlid))
        const commit = two.commit(
          Fixture.commitOf(displaced.userUlid, displaced.connection, {
            pair: Fixture.pair(`${displaced.userUlid} 1`),
            seen: displaced.seen
          })
        )
        const take = connect(user, displaced.connection, true)
        yield* all<unknown, unknown>(round % 2 === 0 ? [commit, take] : [take, commit])
        assert.isTrue(Option.isNone(yield* one.find(displaced.userUlid)))
        assert.strictEqual((yield* commit)._tag, "Discarded")
        assert.deepStrictEqual(
          yield* sql`select 1 from cal_tokens.access_token_lookup where user_ulid = ${displaced.userUlid}`,
          []
        )
        assert.strictEqual(yield* owners([user], displaced.connection), 1)
      }
      yield* inStep
    })
  )

  it.live("a commit that learns its account meets a user who connects it: one has it, and no pair is lost", () =>
    Effect.gen(function* () {
      for (const round of Array.range(1, 20)) {
        const { one, two } = processes()
        const [nameless, other] = newUsers(2)
        const [account] = newAccounts(1)
        assert(nameless !== undefined && other !== undefined && account !== undefined)
        yield* connect(nameless, Fixture.oauth())
        yield* one.claim(Fixture.claimOf(nameless))
        const learned = Fixture.pair(`${nameless} learned`)
        const commit = two.commit(Fixture.commitOf(nameless, account, { pair: learned }))
        const take = Effect.either(connect(other, account, round % 4 === 0))
        yield* all<unknown, unknown>(round % 2 === 0 ? [commit, take] : [take, commit])
        const row = yield* one.find(nameless)
        // By force, the other may have taken the account just learned, and the row with it.
        if (round % 4 !== 0)
          assert.deepStrictEqual(Option.map(row, Fixture.names), Option.some([`${nameless} learned`]))
        assert.strictEqual(yield* owners([nameless, other], account), 1)
      }
      yield* inStep
    })
  )

  it.live("a disconnect meets a connect of the same account", () =>
    Effect.gen(function* () {
      for (const round of Array.range(1, 20)) {
        const leaving = yield* connected(processes())
        const [user] = newUsers(1)
        assert(user !== undefined)
        const leave = processes().one.disconnect(leaving.userUlid)
        const again = connect(leaving.userUlid, leaving.connection)
        const take = Effect.either(connect(user, leaving.connection, round % 2 === 0))
        yield* all<unknown, unknown>([leave, Effect.either(again), take])
        assert.include([0, 1], yield* owners([user, leaving.userUlid], leaving.connection))
      }
      yield* inStep
    })
  )
}
