/**
 * Which user an access token finds, how users are listed, and that every field comes back.
 */
import type { SqlClient } from "@effect/sql"
import { assert, it } from "@effect/vitest"
import { Duration, Effect, Option, Redacted, Schema, TestClock } from "effect"
import { UserUlid } from "../../src/Token.js"
import { AttemptFailure, type ConnectionSummary } from "../../src/TokenStorage.js"
import * as Lookups from "../../src/TokenStorage/Lookups.js"
import * as Fixture from "./StorageFixture.js"

/** Where the names to look users up by are not as many as their rows say, and who has more of the past than is kept: nowhere. */
export const strayLookups = (sql: SqlClient.SqlClient) => sql`
  select user_ulid from (
    select user_ulid, json_array_length(c.lookups::json) as said,
      (select count(*) from cal_tokens.access_token_lookup l where l.user_ulid = c.user_ulid) as kept
    from cal_tokens.connection c
  ) counted where said <> kept or said > ${1 + Lookups.superseded.tokens}`

/** Two users, who may have the same tokens: those are told apart by short names. */
const twoUsers = (storage: Fixture.Storage) => {
  const make = () => {
    const { calUserId, userUlid } = Fixture.newUser()
    return { userUlid, connection: Fixture.managed(calUserId), other: Fixture.oauth(calUserId) }
  }
  const [a, b] = [make(), make()]
  const token = (name: string) => `${a.userUlid} ${name}`
  /** Through Cal.com's consent, say. */
  const connect = (user: typeof a, name: string, connection = user.connection, replace = false) =>
    storage.connect({
      userUlid: user.userUlid,
      connection,
      pair: Fixture.pair(token(name)),
      replace,
      granted: true
    })
  const handIn = (user: typeof a, name: string) =>
    storage.connect({ userUlid: user.userUlid, connection: user.connection, pair: Fixture.pair(token(name)) })
  const moving = (user: typeof a, from: string, to: string, reissued = false) =>
    Fixture.refreshing(storage, user.userUlid, user.connection, {
      pair: Fixture.pair(token(to)),
      seen: Fixture.refreshHash(token(from)),
      reissued
    })
  /** From one token to another, by a refresh. */
  const moveOn = (user: typeof a, from: string, to: string, reissued = false) =>
    Effect.gen(function* () {
      yield* storage.claim(Fixture.claimOf(user.userUlid))
      assert.strictEqual((yield* moving(user, from, to, reissued))._tag, "Stored")
    })
  const owner = (name: string, only?: typeof a) =>
    Effect.map(
      storage.findByAccessToken(Fixture.accessHash(token(name)), only?.userUlid),
      Option.match({
        onNone: () => "nobody",
        onSome: ({ lookup: { supersededAt: at }, row: { userUlid } }) =>
          `${userUlid === a.userUlid ? "a" : "b"} ${at === null ? "now" : `until ${at}`}`
      })
    )
  return { a, b, connect, handIn, moveOn, owner, token }
}

export const lookups = (storage: () => Fixture.Storage) => {
  it.effect("tokens that Cal.com gave name their user, five of the past at most, and of the last hour", () =>
    Effect.gen(function* () {
      const { a, connect, moveOn, owner } = twoUsers(storage())
      yield* connect(a, "0")
      assert.strictEqual(yield* owner("0"), "a now")
      for (const n of [1, 2, 3, 4, 5, 6]) {
        yield* TestClock.adjust(1000)
        yield* moveOn(a, `${n - 1}`, `${n}`)
      }
      const all = Effect.forEach(["0", "1", "2", "6"], (name) => owner(name))
      assert.deepStrictEqual(yield* all, ["nobody", "a until 2000", "a until 3000", "a now"])
      yield* TestClock.adjust(Duration.subtract("60 minutes", "4001 millis"))
      yield* moveOn(a, "6", "7")
      assert.deepStrictEqual(yield* all, ["nobody", "nobody", "a until 3000", `a until ${3_600_000 + 1999}`])
      yield* TestClock.adjust(1001)
      yield* moveOn(a, "7", "8")
      assert.deepStrictEqual(yield* all, ["nobody", "nobody", "nobody", `a until ${3_600_000 + 1999}`])
    })
  )

  it.effect("one that was handed in names nobody, also when it is a token of the past; its first refresh's does", () =>
    Effect.gen(function* () {
      const { a, connect, handIn, moveOn, owner } = twoUsers(storage())
      const all = Effect.forEach(["given", "handed in", "x", "y"], (name) => owner(name))
      yield* connect(a, "given")
      yield* handIn(a, "handed in")
      assert.deepStrictEqual(yield* all, ["nobody", "nobody", "nobody", "nobody"])
      yield* moveOn(a, "handed in", "x")
      assert.deepStrictEqual(yield* all, ["nobody", "nobody", "a now", "nobody"])
      yield* moveOn(a, "x", "y")
      assert.deepStrictEqual(yield* all, ["nobody", "nobody", "a until 0", "a now"])
      yield* Fixture.update(storage(), a.userUlid, Fixture.pair("updated"))
      assert.deepStrictEqual(yield* all, ["nobody", "nobody", "nobody", "nobody"])
    })
  )

  it.effect("a reissue, another account and a disconnect end all of them, but for the new pair's own", () =>
    Effect.gen(function* () {
      const { a, connect, moveOn, owner } = twoUsers(storage())
      const all = Effect.forEach(["x", "y", "z"], (name) => owner(name))
      const begin = Effect.zipRight(connect(a, "x"), moveOn(a, "x", "y"))
      yield* begin
      assert.deepStrictEqual(yield* all, ["a until 0", "a now", "nobody"])
      yield* moveOn(a, "y", "z", true)
      assert.deepStrictEqual(yield* all, ["nobody", "nobody", "a now"])
      yield* begin
      yield* connect(a, "z", a.other)
      assert.deepStrictEqual(yield* all, ["nobody", "nobody", "a now"])
      yield* storage().disconnect(a.userUlid)
      assert.deepStrictEqual(yield* all, ["nobody", "nobody", "nobody"])
    })
  )

  it.effect("one that only brings a refresh token changes none", () =>
    Effect.gen(function* () {
      const { a, connect, handIn, owner, token } = twoUsers(storage())
      for (const [begin, left] of [
        [connect(a, "x"), "a now"],
        [handIn(a, "x"), "nobody"]
      ] as const) {
        yield* begin
        yield* storage().claim(Fixture.claimOf(a.userUlid))
        const { accessToken } = Fixture.pair(token("x"))
        const pair = Fixture.pair(token("next"), { accessToken })
        yield* Fixture.refreshing(storage(), a.userUlid, a.connection, { pair })
        assert.strictEqual(yield* owner("x"), left)
      }
    })
  )

  it.effect("a refresh that was begun before they were ended brings none back, nor adds its own", () =>
    Effect.gen(function* () {
      const { a, connect, handIn, moveOn, owner, token } = twoUsers(storage())
      yield* connect(a, "x")
      yield* moveOn(a, "x", "y")
      const before = Option.getOrThrow(yield* storage().find(a.userUlid)).lookups
      yield* storage().claim(Fixture.claimOf(a.userUlid))
      // The same pair once more, so that the late one still fits.
      yield* handIn(a, "y")
      const pair = Fixture.pair(token("late"))
      const after = [...Lookups.granted(pair), ...before]
      const commit = { pair, seen: Fixture.refreshHash(token("y")), lookups: { before, after } }
      const result = yield* storage().commit(Fixture.commitOf(a.userUlid, a.connection, commit))
      assert.strictEqual(result._tag, "Stored")
      const owners = yield* Effect.forEach(["x", "y", "late"], (name) => owner(name))
      assert.deepStrictEqual(owners, ["nobody", "nobody", "nobody"])
      yield* moveOn(a, "late", "next")
      assert.strictEqual(yield* owner("next"), "a now")
    })
  )

  it.effect("a token that comes back is current again", () =>
    Effect.gen(function* () {
      const { a, connect, moveOn, owner } = twoUsers(storage())
      yield* connect(a, "x")
      yield* moveOn(a, "x", "y")
      yield* moveOn(a, "y", "x")
      assert.deepStrictEqual([yield* owner("x"), yield* owner("y")], ["a now", "a until 0"])
    })
  )

  it.effect("of users with one access token, who has it now comes first, then who had it last", () =>
    Effect.gen(function* () {
      const { a, b, connect, moveOn, owner } = twoUsers(storage())
      assert.strictEqual(yield* owner("x"), "nobody")
      yield* connect(a, "x")
      yield* connect(b, "x")
      assert.strictEqual(yield* owner("x"), "b now")
      // Or whoever is asked for.
      assert.deepStrictEqual([yield* owner("x", a), yield* owner("x", b)], ["a now", "b now"])
      // Stored once more: the later one of the two.
      yield* connect(a, "x")
      assert.strictEqual(yield* owner("x"), "a now")
      yield* TestClock.adjust(1000)
      yield* moveOn(a, "x", "a's own")
      assert.deepStrictEqual([yield* owner("x"), yield* owner("a's own")], ["b now", "a now"])
      assert.deepStrictEqual([yield* owner("x", a), yield* owner("a's own", b)], ["a until 1000", "nobody"])
      yield* TestClock.adjust(1000)
      yield* moveOn(b, "x", "b's own")
      assert.deepStrictEqual([yield* owner("x"), yield* owner("b's own")], ["b until 2000", "b now"])
      // In the same instant, the later pair decides.
      yield* connect(a, "y")
      yield* connect(b, "y")
      yield* moveOn(b, "y", "z")
      assert.strictEqual(yield* owner("y"), "a now")
      yield* moveOn(a, "y", "z")
      assert.deepStrictEqual([yield* owner("y"), yield* owner("z")], ["a until 2000", "a now"])
    })
  )

  it.effect("a user who goes takes no look-up of another's along, and leaves none", () =>
    Effect.gen(function* () {
      const { a, b, connect, moveOn, owner } = twoUsers(storage())
      for (const [how, leaving, left] of [
        ["disconnected", storage().disconnect(b.userUlid), "a until 0"],
        ["another account", connect(b, "b's new", b.other), "a until 0"],
        ["a nameless account", connect(b, "b's new", Fixture.oauth()), "a until 0"],
        // Whoever takes an account is connected anew.
        ["the account is taken", connect(a, "y", b.connection, true), "nobody"]
      ] as const) {
        for (const user of [a, b]) {
          yield* storage().disconnect(user.userUlid)
          yield* connect(user, "x")
          yield* moveOn(user, "x", "y")
        }
        yield* moveOn(b, "y", "b's own")
        const owners = Effect.forEach(["x", "y", "b's own"], (name) => owner(name))
        assert.deepStrictEqual(yield* owners, ["b until 0", "a now", "b now"], how)
        yield* leaving
        assert.deepStrictEqual(yield* owners, [left, "a now", "nobody"], how)
      }
    })
  )

  it.effect("when a token was handed out last is kept, whatever else changes, but for a later time", () =>
    Effect.gen(function* () {
      const { a, b, connect, moveOn } = twoUsers(storage())
      const at = Effect.map(storage().find(a.userUlid), (row) => Option.getOrThrow(row).handedOutAt)
      const write = (at: number) => storage().handedOut([b, a].map(({ userUlid }) => ({ userUlid, at })))
      yield* connect(a, "x")
      assert.isUndefined(yield* at)
      yield* write(5000)
      assert.strictEqual(yield* at, 5000)
      yield* write(4000)
      yield* moveOn(a, "x", "y")
      yield* connect(a, "z")
      assert.strictEqual(yield* at, 5000)
      const updated = Option.getOrThrow(yield* Fixture.update(storage(), a.userUlid, Fixture.pair("updated")))
      assert.deepStrictEqual([updated.handedOutAt, yield* at], [5000, 5000])
      const connection = a.connection
      const pair = Fixture.pair("again")
      const connected = yield* storage().connect({ userUlid: a.userUlid, connection, pair, handedOutAt: 6000 })
      assert.deepStrictEqual([connected.handedOutAt, yield* at], [6000, 6000])
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

  it.effect("lists who have to reconnect with the latest first, and page through them", () =>
    Effect.gen(function* () {
      // Later than whoever else has to reconnect in this storage; of the last two at one instant.
      const began = 4_000_000_000_000
      const users = [Fixture.newUser("7X"), Fixture.newUser("7Z"), Fixture.newUser("7Y"), Fixture.newUser("7W")]
      for (const [index, { calUserId, userUlid }] of users.entries()) {
        yield* TestClock.setTime(began + Math.min(index, 2) * 1_000)
        yield* storage().connect({ userUlid, connection: Fixture.managed(calUserId), pair: Fixture.pair("one") })
        yield* storage().claim(Fixture.claimOf(userUlid))
        yield* storage().fail({ userUlid, attemptId: "mine", failure: Fixture.terminal() })
      }
      const [x, z, y, w] = users.map(({ userUlid }) => userUlid)
      const page = (request: Parameters<Fixture.Storage["reconnecting"]>[0]) =>
        Effect.map(storage().reconnecting(request), (rows) =>
          rows.map(({ status, userUlid }) => [userUlid, status._tag === "Active" ? 0 : status.since - began])
        )
      assert.deepStrictEqual(yield* page({ limit: 4 }), [
        [y, 2_000],
        [w, 2_000],
        [z, 1_000],
        [x, 0]
      ])
      assert(y !== undefined && w !== undefined)
      assert.deepStrictEqual(yield* page({ before: { since: began + 2_000, userUlid: y }, limit: 2 }), [
        [w, 2_000],
        [z, 1_000]
      ])
      assert.deepStrictEqual(yield* page({ before: { since: began + 2_000, userUlid: w }, limit: 1 }), [[z, 1_000]])
      assert.deepStrictEqual(yield* page({ limit: 0 }), [])
      // Who has reconnected is in it no more.
      yield* storage().connect({
        userUlid: y,
        connection: Fixture.managed(users[2]?.calUserId ?? 0),
        pair: Fixture.pair("two")
      })
      assert.deepStrictEqual(yield* page({ limit: 1 }), [[w, 2_000]])
      yield* Effect.forEach(users, ({ userUlid }) => storage().disconnect(userUlid))
    })
  )

  it.effect("lists whom a user of Cal.com's is connected to, through whichever client", () =>
    Effect.gen(function* () {
      const users = [Fixture.newUser("7Z"), Fixture.newUser("7X"), Fixture.newUser("7Y")]
      const [first, second, other] = users
      assert(first !== undefined && second !== undefined && other !== undefined)
      const { calUserId } = first
      const connections = [Fixture.managed(calUserId), Fixture.oauth(calUserId), Fixture.managed(other.calUserId)]
      for (const [index, { userUlid }] of users.entries()) {
        const connection = connections[index]
        assert(connection !== undefined)
        yield* storage().connect({ userUlid, connection, pair: Fixture.pair("one") })
      }
      const found = (request: Partial<Parameters<Fixture.Storage["list"]>[0]>) =>
        Effect.map(storage().list({ calUserId, limit: 10, ...request }), (rows) => rows.map((row) => row.userUlid))
      assert.deepStrictEqual(yield* found({}), [second.userUlid, first.userUlid])
      assert.deepStrictEqual(yield* found({ limit: 1 }), [second.userUlid])
      assert.deepStrictEqual(yield* found({ after: second.userUlid }), [first.userUlid])
      assert.deepStrictEqual(yield* found({ calUserId: other.calUserId }), [other.userUlid])
      assert.deepStrictEqual(yield* found({ calUserId: 4_711_000_000 }), [])
      yield* storage().claim(Fixture.claimOf(first.userUlid))
      yield* storage().fail({ userUlid: first.userUlid, attemptId: "mine", failure: Fixture.terminal() })
      assert.deepStrictEqual(yield* found({ status: "Active" }), [second.userUlid])
      assert.deepStrictEqual(yield* found({ status: "ReauthorizationRequired" }), [first.userUlid])
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
      const stored = yield* storage().connect({ userUlid: lower, connection, pair, granted: true, handedOutAt: 5 })
      const found = Option.getOrThrow(yield* storage().find(upper))
      const lookups = Lookups.granted(pair)
      assert.deepStrictEqual(Fixture.plain(found), { ...Fixture.plain(stored), fallbacks: [], lookups })
      assert.deepStrictEqual(Fixture.plain(found), {
        userUlid: upper,
        connection,
        status: { _tag: "Active" },
        updatedAt: 0,
        handedOutAt: 5,
        fallbacks: [],
        lookups,
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

  it.effect("counts users by status, open circuits by cause, and sealed answers", () =>
    Effect.gen(function* () {
      const counts = storage().counts
      const { circuits, sealed, users } = yield* counts
      const circuit = { clientId: "counted", fingerprint: "f", interval: Duration.seconds(30) }
      const [one, two] = [Fixture.newUser(), Fixture.newUser()]
      for (const { calUserId, userUlid } of [one, two]) {
        const connection = { ...Fixture.managed(calUserId), clientId: circuit.clientId }
        yield* storage().connect({ userUlid, connection, pair: Fixture.pair(`${userUlid} one`) })
        yield* storage().claim(Fixture.claimOf(userUlid))
      }
      const active = users.active + 2
      assert.deepStrictEqual(yield* counts, { circuits, sealed, users: { ...users, active } })
      const dead = [Fixture.refreshHash(`${one.userUlid} one`)]
      yield* storage().fail({ userUlid: one.userUlid, attemptId: "mine", failure: Fixture.terminal(dead) })
      const refused = AttemptFailure.Released({ probe: Option.none(), refusal: "wrong secret" })
      yield* storage().fail({ userUlid: two.userUlid, attemptId: "mine", failure: refused, circuit })
      const after = {
        sealed,
        circuits: { ...circuits, client: circuits.client + 1 },
        users: { active: users.active + 1, reauthorizationRequired: users.reauthorizationRequired + 1 }
      }
      assert.deepStrictEqual(yield* counts, after)
      const answer = {
        spentHash: "s",
        operation: "refresh",
        connection: { _tag: "ManagedUser", clientId: circuit.clientId, calUserId: two.calUserId },
        answer: Redacted.make(new Uint8Array([1])),
        issuedAt: 0,
        isWhole: true
      } as const
      yield* storage().seal({ userUlid: two.userUlid, ...answer, drift: { reason: "changed", users: 1, circuit } })
      assert.deepStrictEqual(yield* counts, {
        ...after,
        sealed: sealed + 1,
        circuits: { ...circuits, drift: circuits.drift + 1 }
      })
      yield* storage().disconnect(one.userUlid)
      yield* storage().disconnect(two.userUlid)
      const gone = yield* counts
      assert.deepStrictEqual({ users: gone.users, sealed: gone.sealed }, { users, sealed })
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
