/**
 * Which user an access token belongs to, how users are listed, and that every field comes back.
 */
import type { SqlClient } from "@effect/sql"
import { assert, it } from "@effect/vitest"
import { Duration, Effect, Option, Schema, TestClock } from "effect"
import { hash, UserUlid } from "../../src/Token.js"
import { supersededLookup, type ConnectionSummary } from "../../src/TokenStorage.js"
import * as Fixture from "./StorageFixture.js"

/**
 * Look-ups of a token that its user's row has not, or no longer, and more of the past than is kept: nowhere. A row whose
 * sessions were ended after its pair was stored has none.
 */
export const strayLookups = (sql: SqlClient.SqlClient) => sql`
  with said as (
    select user_ulid, access_hash, version from cal_tokens.connection
  ), kept as (
    select user_ulid, hash, version from cal_tokens.access_token_lookup where superseded_at is null
  )
  select 'without look-up' as problem, user_ulid from (select * from said except select * from kept) a
    join cal_tokens.connection c using (user_ulid) where c.version >= c.sessions_after
  union all select 'without row', user_ulid from (select * from kept except select * from said) b
  union all select 'too many', user_ulid from cal_tokens.access_token_lookup where superseded_at is not null
    group by user_ulid having count(*) > ${supersededLookup.tokens}`

/** Two users, who may have the same tokens: those are told apart by short names. */
const twoUsers = (storage: Fixture.Storage) => {
  const make = () => {
    const { calUserId, userUlid } = Fixture.newUser()
    return { userUlid, connection: Fixture.managed(calUserId), other: Fixture.oauth(calUserId) }
  }
  const [a, b] = [make(), make()]
  const token = (name: string) => `${a.userUlid} ${name}`
  const connect = (user: typeof a, name: string, connection = user.connection, replace = false) =>
    storage.connect({ userUlid: user.userUlid, connection, pair: Fixture.pair(token(name)), replace })
  /** From one token to another, by a refresh. */
  const moveOn = (user: typeof a, from: string, to: string) =>
    Effect.gen(function* () {
      yield* storage.claim(Fixture.claimOf(user.userUlid))
      const request = { pair: Fixture.pair(token(to)), seen: Fixture.refreshHash(token(from)) }
      const result = yield* storage.commit(Fixture.commitOf(user.userUlid, user.connection, request))
      assert.strictEqual(result._tag, "Stored")
    })
  const owner = (name: string) =>
    Effect.map(
      storage.findByAccessToken(Fixture.accessHash(token(name))),
      Option.match({
        onNone: () => "nobody",
        onSome: ({ supersededAt, userUlid }) =>
          `${userUlid === a.userUlid ? "a" : "b"} ${Option.match(supersededAt, { onNone: () => "now", onSome: (at) => `until ${at}` })}`
      })
    )
  return { a, b, connect, moveOn, owner }
}

export const lookups = (storage: () => Fixture.Storage) => {
  it.effect("access tokens name their user, superseded ones for an hour and five at most", () =>
    Effect.gen(function* () {
      const { calUserId, userUlid } = Fixture.newUser()
      const connection = Fixture.managed(calUserId)
      const name = (n: number) => `${userUlid} ${n}`
      const lookup = (n: number) =>
        Effect.map(storage().findByAccessToken(Fixture.accessHash(name(n))), (found) =>
          Option.match(found, {
            onNone: () => "unknown",
            onSome: (owner) =>
              `${owner.userUlid === userUlid ? "mine" : "other's"} ${Option.getOrElse(owner.supersededAt, () => "current")}`
          })
        )
      yield* storage().connect({ userUlid, connection, pair: Fixture.pair(name(0)) })
      assert.strictEqual(yield* lookup(0), "mine current")
      for (const n of [1, 2, 3, 4, 5, 6]) {
        yield* TestClock.adjust(1000)
        yield* storage().claim(Fixture.claimOf(userUlid))
        yield* storage().commit(Fixture.commitOf(userUlid, connection, { pair: Fixture.pair(name(n)) }))
      }
      const all = Effect.forEach([0, 1, 2, 6], lookup)
      assert.deepStrictEqual(yield* all, ["unknown", "mine 2000", "mine 3000", "mine current"])
      yield* TestClock.adjust(Duration.minutes(60).pipe(Duration.subtract("4001 millis")))
      assert.deepStrictEqual(yield* all, ["unknown", "mine 2000", "mine 3000", "mine current"])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(yield* all, ["unknown", "unknown", "mine 3000", "mine current"])
      yield* Fixture.update(storage(), userUlid, Fixture.pair(name(7)))
      assert.deepStrictEqual(yield* Effect.forEach([1, 6, 7], lookup), ["unknown", "mine 3602000", "mine current"])
      // Another account: its predecessor's holder must not get at the new one's tokens.
      yield* storage().connect({ userUlid, connection: Fixture.oauth(calUserId), pair: Fixture.pair(name(8)) })
      assert.deepStrictEqual(yield* Effect.forEach([6, 7, 8], lookup), ["unknown", "unknown", "mine current"])
      yield* storage().disconnect(userUlid)
      assert.strictEqual(yield* lookup(8), "unknown")
    })
  )

  it.effect("a token that comes back is current again", () =>
    Effect.gen(function* () {
      const { calUserId, userUlid } = Fixture.newUser()
      const connection = Fixture.managed(calUserId)
      const [a, b] = [Fixture.pair(`${userUlid} a`), Fixture.pair(`${userUlid} b`)]
      for (const pair of [a, b, a, a]) yield* storage().connect({ userUlid, connection, pair })
      const found = (pair: typeof a) =>
        Effect.map(storage().findByAccessToken(hash(pair.accessToken)), (owner) =>
          Option.match(owner, { onNone: () => "none", onSome: ({ supersededAt }) => supersededAt._tag })
        )
      assert.deepStrictEqual([yield* found(a), yield* found(b)], ["None", "Some"])
    })
  )

  it.effect("of users with one access token, who has it now comes first, then who had it last", () =>
    Effect.gen(function* () {
      const { a, b, connect, moveOn, owner } = twoUsers(storage())
      assert.strictEqual(yield* owner("x"), "nobody")
      yield* connect(a, "x")
      yield* connect(b, "x")
      assert.strictEqual(yield* owner("x"), "b now")
      // Stored once more: the later one of the two.
      yield* connect(a, "x")
      assert.strictEqual(yield* owner("x"), "a now")
      yield* TestClock.adjust(1000)
      yield* moveOn(a, "x", "a's own")
      assert.deepStrictEqual([yield* owner("x"), yield* owner("a's own")], ["b now", "a now"])
      yield* TestClock.adjust(1000)
      yield* moveOn(b, "x", "b's own")
      assert.deepStrictEqual([yield* owner("x"), yield* owner("b's own")], ["b until 2000", "b now"])
      // In the same instant, the later pair decides, not who was the first to move on.
      yield* connect(a, "y")
      yield* connect(b, "y")
      yield* moveOn(b, "y", "z")
      assert.strictEqual(yield* owner("y"), "a now")
      yield* moveOn(a, "y", "z")
      assert.deepStrictEqual([yield* owner("y"), yield* owner("z")], ["b until 2000", "a now"])
      yield* TestClock.adjust(Duration.minutes(60).pipe(Duration.subtract("1 millis")))
      assert.deepStrictEqual([yield* owner("x"), yield* owner("z")], ["b until 2000", "a now"])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual([yield* owner("x"), yield* owner("y"), yield* owner("z")], ["nobody", "nobody", "a now"])
    })
  )

  it.effect("of users with one access token, each is found when the other is gone or no longer counts", () =>
    Effect.gen(function* () {
      const { a, b, connect, moveOn, owner } = twoUsers(storage())
      const both = Effect.zipRight(connect(a, "x"), connect(b, "x"))
      // Whoever came first.
      for (const [gone, left] of [
        [a, "b now"],
        [b, "a now"]
      ] as const) {
        yield* both
        yield* storage().disconnect(gone.userUlid)
        assert.strictEqual(yield* owner("x"), left)
      }
      yield* both
      yield* connect(b, "b's own", b.other)
      assert.strictEqual(yield* owner("x"), "a now")
      yield* both
      yield* moveOn(a, "x", "a's own")
      yield* TestClock.adjust(1000)
      yield* moveOn(b, "x", "b's own")
      assert.strictEqual(yield* owner("x"), "b until 1000")
      for (const n of [1, 2, 3, 4, 5]) yield* moveOn(b, n === 1 ? "b's own" : `b ${n - 1}`, `b ${n}`)
      assert.strictEqual(yield* owner("x"), "a until 0")
      yield* storage().disconnect(a.userUlid)
      assert.strictEqual(yield* owner("x"), "nobody")
    })
  )

  it.effect("a user who goes takes no look-up of another's along, and leaves none", () =>
    Effect.gen(function* () {
      const { a, b, connect, moveOn, owner } = twoUsers(storage())
      for (const [how, leaving, left] of [
        ["disconnected", storage().disconnect(b.userUlid), "a until 0"],
        ["another account", connect(b, "b's new", b.other), "a until 0"],
        ["a nameless account", connect(b, "b's new", Fixture.oauth()), "a until 0"],
        // Whoever takes an account leaves one, too.
        ["the account is taken", connect(a, "y", b.connection, true), "nobody"]
      ] as const) {
        for (const user of [a, b]) {
          yield* storage().disconnect(user.userUlid)
          yield* connect(user, "x")
          yield* moveOn(user, "x", "y")
        }
        yield* moveOn(b, "y", "b's own")
        const owners = Effect.forEach(["x", "y", "b's own"], owner)
        assert.deepStrictEqual(yield* owners, ["b until 0", "a now", "b now"], how)
        yield* leaving
        assert.deepStrictEqual(yield* owners, [left, "a now", "nobody"], how)
      }
    })
  )

  it.effect("lists page through users in the order of their ULIDs", () =>
    Effect.gen(function* () {
      const users = ["7Z", "7X", "7Y"].map((prefix) => Fixture.newUser(prefix))
      yield* Effect.forEach(users, ({ calUserId, userUlid }) =>
        storage().connect({ userUlid, connection: Fixture.managed(calUserId), pair: Fixture.pair("one") })
      )
      const [z, x, y] = users.map((user) => user.userUlid)
      assert(x !== undefined && y !== undefined && z !== undefined)
      yield* storage().claim(Fixture.claimOf(y))
      yield* storage().fail({ userUlid: y, attemptId: "mine", failure: Fixture.terminal() })
      const start = Schema.decodeSync(UserUlid)("7W000000000000000000000000")
      const page = (request: Partial<Parameters<Fixture.Storage["list"]>[0]>) =>
        Effect.map(storage().list({ after: start, limit: 10, ...request }), (rows) => rows.map((row) => row.userUlid))
      assert.deepStrictEqual(yield* page({}), [x, y, z])
      assert.deepStrictEqual(yield* page({ limit: 2 }), [x, y])
      assert.deepStrictEqual(yield* page({ limit: 0 }), [])
      assert.deepStrictEqual(yield* page({ after: y }), [z])
      assert.deepStrictEqual(yield* page({ status: "Active" }), [x, z])
      assert.deepStrictEqual(yield* page({ status: "ReauthorizationRequired" }), [y])
      const [summary] = yield* storage().list({ after: x, limit: 1 })
      assert.deepStrictEqual(summary, {
        userUlid: y,
        connection: Fixture.managed(users[2]?.calUserId ?? 0),
        status: { _tag: "ReauthorizationRequired", cause: "revoked", since: 0 },
        version: summary?.version ?? 0,
        updatedAt: 0,
        accessTokenExpiresAt: 3_600_000,
        refreshTokenExpiresAt: undefined
      } satisfies ConnectionSummary)
      yield* Effect.forEach(users, ({ userUlid }) => storage().disconnect(userUlid))
    })
  )

  it.effect("a ULID in lower case names the same user; every field comes back", () =>
    Effect.gen(function* () {
      const { calUserId } = Fixture.newUser()
      const decode = Schema.decodeSync(UserUlid)
      const upper = decode(`7ABCDEFGHJKMNPQRSTVW${calUserId.toString().padStart(6, "0")}`)
      const lower = decode(upper.toLowerCase())
      const pair = Fixture.pair("full", { issuedAt: 1, refreshTokenExpiresAt: 31_536_000_000 })
      const connection = Fixture.oauth(calUserId, "BOOKING_READ")
      const stored = yield* storage().connect({ userUlid: lower, connection, pair })
      const found = Option.getOrThrow(yield* storage().find(upper))
      assert.deepStrictEqual(Fixture.plain(found), { ...Fixture.plain(stored), fallbacks: [] })
      assert.deepStrictEqual(Fixture.plain(found), {
        userUlid: upper,
        connection,
        status: { _tag: "Active" },
        updatedAt: 0,
        fallbacks: [],
        pair: {
          accessToken: "access-full",
          refreshToken: "refresh-full",
          accessTokenExpiresAt: 3_600_000,
          issuedAt: 1,
          refreshTokenExpiresAt: 31_536_000_000
        }
      })
      assert.isTrue(yield* storage().disconnect(upper))
      assert.isFalse(yield* storage().disconnect(upper))
    })
  )

  it.effect("what concerns nobody answers so; versions only grow", () =>
    Effect.gen(function* () {
      const { calUserId, userUlid } = Fixture.newUser()
      const connection = Fixture.managed(calUserId)
      assert.strictEqual((yield* storage().claim(Fixture.claimOf(userUlid)))._tag, "NotFound")
      assert.strictEqual((yield* storage().commit(Fixture.commitOf(userUlid, connection)))._tag, "Discarded")
      const failed = yield* storage().fail({ userUlid, attemptId: "mine", failure: Fixture.notSpent() })
      assert(failed._tag === "NotRecorded")
      assert.isTrue(Option.isNone(failed.row))
      assert.isFalse(failed.attemptIsMine)
      assert.isTrue(Option.isNone(yield* Fixture.update(storage(), userUlid, Fixture.pair("one"))))
      assert.isTrue(Option.isNone(yield* storage().spend({ userUlid, attemptId: "mine", next: "x", dead: [] })))
      yield* storage().ping
      const first = yield* storage().connect({ userUlid, connection, pair: Fixture.pair("one") })
      const second = Option.getOrThrow(yield* Fixture.update(storage(), userUlid, Fixture.pair("two")))
      const other = Fixture.newUser()
      const third = yield* storage().connect({
        userUlid: other.userUlid,
        connection: Fixture.managed(other.calUserId),
        pair: Fixture.pair("three")
      })
      assert.isTrue(first.version < second.version && second.version < third.version)
    })
  )
}
