/**
 * Somebody who can write to the database, has no key, and asks at Atoms' door: with an access token of their own, or with
 * one of the victim's that leaked and counts no more.
 */
import { SqlClient } from "@effect/sql"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Redacted, TestClock } from "effect"
import * as CalTokens from "../../src/CalTokens.js"
import * as Sandbox from "../../src/Sandbox.js"
import { hash, unverifiedClaims, type UserUlid } from "../../src/Token.js"
import * as Postgres from "../../src/TokenStorage/Postgres.js"
import { call, keys, layerOn, origin } from "../support/HttpWorld.js"
import { layerKeys } from "../support/Keys.js"
import { layerDatabase } from "../support/Postgres.js"
import * as World from "../support/World.js"

const [attacker, victim] = [World.user(1), World.user(2)]

/** The service on PostgreSQL; time is the test clock's, in the database too. */
const layer = layerOn(
  World.node().pipe(
    Layer.provideMerge(Postgres.layer({ clock: "effect" })),
    Layer.provideMerge(layerDatabase()),
    Layer.provide(layerKeys()),
    Layer.provideMerge(Sandbox.layer())
  )
)

type World = Layer.Layer.Success<typeof layer>

const ask = (token: Redacted.Redacted) =>
  Effect.map(
    call({
      path: "/api/cal/atoms/refresh",
      headers: { origin, authorization: `Bearer ${Redacted.value(token)}` }
    }),
    ({ json, status }) =>
      status === 200
        ? `of ${unverifiedClaims(Redacted.make(json["accessToken"] as string)).calUserId}`
        : String(json["code"])
  )

const refresh = (userUlid: UserUlid, reissue = false) =>
  call({
    method: "POST",
    path: "/api/cal/refresh-managed-user-token",
    key: keys.manage,
    body: { userUlid, reissue }
  })

/** Both are connected, and had one refresh. */
const begin = Effect.gen(function* () {
  yield* TestClock.setTime(World.epoch)
  const sql = yield* SqlClient.SqlClient
  const connect = (userUlid: UserUlid) =>
    Effect.gen(function* () {
      const grant = yield* World.obtainManaged(userUlid)
      yield* TestClock.adjust("40 seconds")
      yield* refresh(userUlid)
      yield* TestClock.adjust("40 seconds")
      const tokens = yield* CalTokens.CalTokens
      const present = (yield* tokens.ensureValid(userUlid, { handsOut: false })).accessToken
      return { calUserId: grant.calUserId, old: grant.accessToken, present }
    })
  const own = yield* connect(attacker)
  const theirs = yield* connect(victim)
  assert.deepStrictEqual(yield* Effect.forEach([own.present, own.old, theirs.old], ask), [
    `of ${own.calUserId}`,
    `of ${own.calUserId}`,
    `of ${theirs.calUserId}`
  ])
  return { own, sql, theirs }
})

const copyLookups = (sql: SqlClient.SqlClient) => sql`
  insert into cal_tokens.access_token_lookup (name, user_ulid)
  select name, ${victim} from cal_tokens.access_token_lookup where user_ulid = ${attacker}`

const attack = (name: string, body: Effect.Effect<void, unknown, World>) =>
  it.effect(name, () => Effect.provide(body, layer), 120_000)

describe("with a token of their own they get no token of somebody else's", () => {
  attack(
    "by a look-up row that is inserted, moved, or copied and made another's",
    Effect.gen(function* () {
      const { own, sql } = yield* begin
      yield* copyLookups(sql)
      // It still is their own.
      assert.strictEqual(yield* ask(own.present), `of ${own.calUserId}`)
      yield* sql`delete from cal_tokens.access_token_lookup where user_ulid = ${attacker}`
      assert.deepStrictEqual(yield* Effect.forEach([own.present, own.old], ask), ["Unauthorized", "Unauthorized"])
    })
  )

  attack(
    "by what a row says of its look-ups, copied from their own row or written anew",
    Effect.gen(function* () {
      const { own, sql, theirs } = yield* begin
      yield* copyLookups(sql)
      yield* sql`delete from cal_tokens.access_token_lookup where user_ulid = ${attacker}`
      const key = hash(own.present).slice(0, 32)
      const current = hash(theirs.present).slice(0, 32)
      for (const said of [
        sql`lookups = o.lookups, lookups_code = o.lookups_code`,
        sql`lookups = ${JSON.stringify([[key, null]])}, lookups_code = o.lookups_code`,
        sql`lookups = ${JSON.stringify([
          [current, null],
          [key, World.epoch + 80_000]
        ])}`,
        sql`lookups = ${JSON.stringify([
          [current, null],
          [key, null]
        ])}, lookups_code = null`
      ]) {
        yield* sql`
          update cal_tokens.connection c set ${said}
          from cal_tokens.connection o where c.user_ulid = ${victim} and o.user_ulid = ${attacker}`
        yield* TestClock.adjust("3 seconds")
        assert.strictEqual(yield* ask(own.present), "Unauthorized")
      }
    })
  )

  attack(
    "by an account that their row is pointed at",
    Effect.gen(function* () {
      const sandbox = yield* Sandbox.Sandbox
      const { own, sql, theirs } = yield* begin
      yield* sql`delete from cal_tokens.cal_account`
      yield* sql`update cal_tokens.connection set cal_user_id = cal_user_id + 1000 where user_ulid = ${victim}`
      yield* sql`update cal_tokens.connection set cal_user_id = ${theirs.calUserId} where user_ulid = ${attacker}`
      yield* TestClock.adjust("31 seconds")
      for (const reissue of [true, false]) {
        const { json, status } = yield* refresh(attacker, reissue)
        assert.deepStrictEqual([status, json["code"]], [500, "TokenUnreadable"])
      }
      assert.strictEqual(yield* ask(own.present), "TokenUnreadable")
      assert.strictEqual(yield* sandbox.count("forceRefresh"), 0)
    })
  )
})

describe("with one of the victim's that counts no more they get none", () => {
  attack(
    "by bringing back what found the victim before a reissue",
    Effect.gen(function* () {
      const { sql, theirs } = yield* begin
      const [before] = yield* sql<{ lookups: string; lookups_code: string }>`
        select lookups, lookups_code from cal_tokens.connection where user_ulid = ${victim}`
      const names = yield* sql<{ name: string }>`
        select name from cal_tokens.access_token_lookup where user_ulid = ${victim}`
      assert.strictEqual((yield* refresh(victim, true)).status, 200)
      yield* sql`
        update cal_tokens.connection set lookups = ${before?.lookups ?? ""}, lookups_code = ${before?.lookups_code ?? ""}
        where user_ulid = ${victim}`
      for (const { name } of names) {
        yield* sql`insert into cal_tokens.access_token_lookup (name, user_ulid) values (${name}, ${victim})`
      }
      assert.deepStrictEqual(yield* Effect.forEach([theirs.old, theirs.present], ask), ["Unauthorized", "Unauthorized"])
    })
  )

  attack(
    "by pushing the time at which it was replaced",
    Effect.gen(function* () {
      const { sql, theirs } = yield* begin
      yield* TestClock.adjust("61 minutes")
      assert.strictEqual(yield* ask(theirs.old), "Unauthorized")
      const said = JSON.stringify([
        [hash(theirs.present).slice(0, 32), null],
        [hash(theirs.old).slice(0, 32), World.epoch + 3_600_000]
      ])
      yield* sql`update cal_tokens.connection set lookups = ${said} where user_ulid = ${victim}`
      yield* TestClock.adjust("3 seconds")
      assert.strictEqual(yield* ask(theirs.old), "Unauthorized")
    })
  )

  attack(
    "by pushing the time at which a token was handed out, with the code of somebody's who is active",
    Effect.gen(function* () {
      const { own, sql, theirs } = yield* begin
      yield* TestClock.adjust("12 hours")
      const tokens = yield* CalTokens.CalTokens
      yield* tokens.handedOut(attacker)
      yield* TestClock.adjust("2 seconds")
      for (;;) {
        const [row] = yield* sql<{ written: boolean }>`
          select handed_out_at > ${World.epoch + 3_600_000} as written from cal_tokens.connection
          where user_ulid = ${attacker}`
        if (row?.written === true) break
        yield* TestClock.adjust("1 second")
      }
      // Else the rest says nothing.
      const { accessToken } = yield* tokens.ensureValid(attacker, { handsOut: false })
      yield* TestClock.adjust("11 seconds")
      assert.strictEqual(yield* ask(accessToken), `of ${own.calUserId}`)
      assert.strictEqual(yield* ask(theirs.present), "Unauthorized")
      yield* sql`
        update cal_tokens.connection c set handed_out_at = o.handed_out_at, handed_out_code = o.handed_out_code
        from cal_tokens.connection o where c.user_ulid = ${victim} and o.user_ulid = ${attacker}`
      assert.strictEqual(yield* ask(theirs.present), "Unauthorized")
      yield* sql`update cal_tokens.connection set handed_out_at = null, handed_out_code = null where user_ulid = ${victim}`
      assert.strictEqual(yield* ask(theirs.present), "Unauthorized")
    })
  )
})

describe("what is ended later, when they are gone, is ended all the same:", () => {
  attack(
    "a reissue is made, whatever number of an earlier one they left in the row",
    Effect.gen(function* () {
      const sandbox = yield* Sandbox.Sandbox
      const { sql, theirs } = yield* begin
      for (const column of ["reissued_version = 9e15", "reissued_version = 9e15, version = 9e15", "version = 9e15"]) {
        yield* sql.unsafe(`update cal_tokens.connection set ${column} where user_ulid = $1`, [victim])
        yield* TestClock.adjust("31 seconds")
        assert.strictEqual((yield* refresh(victim, true)).status, 200)
      }
      assert.strictEqual(yield* sandbox.count("forceRefresh"), 3)
      assert.strictEqual(yield* ask(theirs.present), "Unauthorized")
    })
  )

  attack(
    "a session that they had made under a number of their choice",
    Effect.gen(function* () {
      const { sql } = yield* begin
      const set = (assignment: string) =>
        sql.unsafe(`update cal_tokens.connection set ${assignment} where user_ulid = $1`, [victim])
      const use = (session: unknown) =>
        Effect.map(call({ path: "/api/cal/me/me", key: session as string }), ({ status }) => status)
      const [before] = yield* sql<{ readonly after: string }>`
        select sessions_after as after from cal_tokens.connection where user_ulid = ${victim}`
      const sessions: Array<unknown> = []
      for (const number of ["sessions_after + 1", "sessions_after + 1000", "9007199254740991"]) {
        yield* set(`sessions_after = ${number}, version = greatest(version, ${number})`)
        yield* TestClock.adjust("6 seconds")
        const { json } = yield* call({
          method: "POST",
          path: "/api/cal/sessions",
          key: keys.all,
          body: { userUlid: victim, ttl: 86_400 }
        })
        assert.strictEqual(yield* use(json["session"]), 200)
        sessions.push(json["session"])
        yield* set(`sessions_after = ${before?.after}, version = ${before?.after}`)
      }
      yield* TestClock.adjust("6 seconds")
      assert.strictEqual(
        (yield* call({ method: "DELETE", path: `/api/cal/sessions/${victim}`, key: keys.manage })).status,
        200
      )
      assert.deepStrictEqual(yield* Effect.forEach(sessions, use), [401, 401, 401])
    })
  )
})
