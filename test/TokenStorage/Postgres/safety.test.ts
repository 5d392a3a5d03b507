import { SqlClient } from "@effect/sql"
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Exit, Layer, Option, type Redacted, Scope } from "effect"
import { afterAll, beforeAll } from "vitest"
import * as Postgres from "../../../src/TokenStorage/Postgres.js"
import { TokenStorage } from "../../../src/TokenStorage.js"
import { keyOf, layerKeys } from "../../support/Keys.js"
import { recording, renderings } from "../../support/Leaks.js"
import { makeDatabase } from "../../support/Postgres.js"
import * as Fixture from "../../support/StorageFixture.js"

const scope = Effect.runSync(Scope.make())
let url: Redacted.Redacted
let storage: Fixture.Storage
let sql: SqlClient.SqlClient

const build = (keys?: string) =>
  Postgres.layer().pipe(
    Layer.provideMerge(Postgres.layerConnection({ url, poolSize: 5 })),
    Layer.provide(layerKeys(keys)),
    Layer.buildWithScope(scope),
    Effect.runPromise
  )
const storageWith = (keys: string) =>
  Effect.map(
    Effect.promise(() => build(keys)),
    (context) => Context.get(context, TokenStorage)
  )

beforeAll(async () => {
  url = await Effect.runPromise(Scope.extend(makeDatabase, scope))
  const context = await build()
  storage = Context.get(context, TokenStorage)
  sql = Context.get(context, SqlClient.SqlClient)
})
afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))

/** What new connections to this database begin with. */
const setDefault = (name: string, value: string) =>
  Effect.flatMap(sql<{ name: string }>`select current_database() as name`, ([row]) =>
    sql.unsafe(`alter database ${row?.name} set ${name} = ${value}`)
  )

const connected = Effect.gen(function* () {
  const { calUserId, userUlid } = Fixture.newUser()
  const connection = Fixture.managed(calUserId)
  yield* storage.connect({ userUlid, connection, pair: Fixture.pair("one") })
  return { userUlid, connection }
})

describe("durability", () => {
  // What a commit waits for is decided at the commit, which is when a deferred trigger runs.
  it.live("every write waits for the disk where the server's default does not", () =>
    Effect.gen(function* () {
      yield* sql`create table levels (level text)`
      yield* sql`
        create function note_level() returns trigger language plpgsql as
        'begin insert into levels select current_setting(''synchronous_commit''); return null; end'`
      yield* sql`
        create constraint trigger note_level after insert or update or delete on cal_tokens.connection
        deferrable initially deferred for each row execute function note_level()`
      for (const [level, expected] of [
        ["off", "on"],
        ["local", "on"],
        ["on", "on"],
        ["remote_apply", "remote_apply"]
      ] as const) {
        yield* setDefault("synchronous_commit", level)
        const weak = Context.get(yield* Effect.promise(() => build()), TokenStorage)
        yield* sql`delete from levels`
        const { connection, userUlid } = yield* connected
        yield* sql`delete from levels`
        const writes: Record<string, Effect.Effect<unknown, unknown>> = {
          claim: weak.claim(Fixture.claimOf(userUlid)),
          spend: weak.spend({ userUlid, attemptId: "mine", next: "x", dead: [] }),
          commit: weak.commit(Fixture.commitOf(userUlid, connection)),
          "late commit": weak.commit(
            Fixture.commitOf(userUlid, connection, { attemptId: "late", pair: Fixture.pair("late"), seen: "x" })
          ),
          connect: weak.connect({ userUlid, connection, pair: Fixture.pair("three") }),
          update: Fixture.update(weak, userUlid, Fixture.pair("four")),
          "claim again": weak.claim(Fixture.claimOf(userUlid)),
          fail: weak.fail({ userUlid, attemptId: "mine", failure: Fixture.notSpent() }),
          "end sessions": weak.endSessions(userUlid),
          disconnect: weak.disconnect(userUlid)
        }
        for (const [name, write] of Object.entries(writes)) {
          yield* write
          const levels = yield* sql<{ level: string }>`delete from levels returning level`
          assert.deepStrictEqual(
            levels.map((row) => row.level),
            [expected],
            `${name} at ${level}`
          )
        }
      }
      yield* setDefault("synchronous_commit", "on")
      yield* sql`drop trigger note_level on cal_tokens.connection`
    })
  )

  it.live("a rollback of the caller's transaction takes no pair with it", () =>
    Effect.gen(function* () {
      const { userUlid } = yield* connected
      yield* Effect.ignore(
        sql.withTransaction(
          Effect.zipRight(Fixture.update(storage, userUlid, Fixture.pair("two")), Effect.fail("rolled back"))
        )
      )
      const row = Option.getOrThrow(yield* storage.find(userUlid))
      assert.deepStrictEqual(Fixture.names(row), ["two", "one"])
    })
  )

  it.live("a database that only reads is not ready", () =>
    Effect.gen(function* () {
      yield* storage.ping
      yield* setDefault("default_transaction_read_only", "on")
      const error = yield* SqlClient.SqlClient.pipe(
        Effect.zipRight(Postgres.make()),
        Effect.flatMap((reader) => Effect.flip(reader.ping)),
        Effect.provide(Layer.merge(Postgres.layerConnection({ url }), layerKeys())),
        Effect.scoped
      )
      assert.match(error.message, /read-only transaction \(SQLSTATE 25006\)/)
    }).pipe(Effect.ensuring(Effect.orDie(setDefault("default_transaction_read_only", "off"))))
  )
})

describe("keys", () => {
  it.live("a row that cannot be opened is its own user's trouble, and its lease is left to others", () =>
    Effect.gen(function* () {
      const { connection, userUlid } = yield* connected
      const stranger = yield* storageWith(keyOf("k2", 2))
      const other = Fixture.newUser()
      yield* stranger.connect({
        userUlid: other.userUlid,
        connection: Fixture.managed(other.calUserId),
        pair: Fixture.pair("theirs")
      })
      const errors = yield* Effect.forEach(
        [stranger.find(userUlid), stranger.claim(Fixture.claimOf(userUlid))],
        (call: Effect.Effect<unknown, { readonly _tag: string }>) => Effect.flip(call)
      )
      assert.deepStrictEqual(
        errors.map((error) => error._tag),
        ["TokenUnreadable", "TokenUnreadable"]
      )
      assert.strictEqual((yield* stranger.find(other.userUlid))._tag, "Some")
      const listed = yield* stranger.list({ limit: 1000 })
      assert.isTrue(listed.some((row) => row.userUlid === userUlid))
      const claimed = yield* storage.claim(Fixture.claimOf(userUlid, { maxAttempts: 1 }))
      assert(claimed._tag === "Claimed")
      assert.isTrue(Option.isNone(claimed.probe))
      // A new pair makes the row readable; the old one, kept as a fallback, is left out.
      yield* stranger.connect({ userUlid, connection, pair: Fixture.pair("two") })
      const recorded = yield* recording
      const names = yield* Effect.provide(Fixture.namesStored(stranger, userUlid), recorded.layer)
      assert.include(yield* recorded.text, "A fallback token pair cannot be decrypted")
      assert.deepStrictEqual(names, ["two"])
      const both = yield* storageWith(`${keyOf("k3", 3)},${keyOf("k1", 1)},${keyOf("k2", 2)}`)
      assert.deepStrictEqual(Option.getOrThrow(Option.map(yield* both.find(userUlid), Fixture.names)), ["two", "one"])
    })
  )

  it.live("a pair that was moved to another user's row does not open", () =>
    Effect.gen(function* () {
      const [a, b] = [yield* connected, yield* connected]
      yield* sql`
        update cal_tokens.connection set pair = (select pair from cal_tokens.connection where user_ulid = ${a.userUlid})
        where user_ulid = ${b.userUlid}`
      assert.strictEqual((yield* Effect.flip(storage.find(b.userUlid)))._tag, "TokenUnreadable")
      assert.strictEqual((yield* storage.find(a.userUlid))._tag, "Some")
    })
  )

  it.live("no token is written in clear", () =>
    Effect.gen(function* () {
      yield* connected
      const rows = yield* sql`select c::text, l::text as lookup
        from cal_tokens.connection c left join cal_tokens.access_token_lookup l using (user_ulid)`
      assert.notMatch(JSON.stringify(rows), /access-|refresh-/)
    })
  )
})

describe("leaks", () => {
  it.live("errors, logs and spans of failing statements show neither tokens nor rows", () =>
    Effect.gen(function* () {
      const { calUserId, userUlid } = Fixture.newUser()
      const secret = "SENTINEL"
      const pair = Fixture.pair(secret)
      const recorded = yield* recording
      const watched = <A, E>(effect: Effect.Effect<A, E>) =>
        effect.pipe(
          Effect.tapErrorCause((cause) => Effect.logError("failed", cause)),
          Effect.flip,
          Effect.provide(recorded.layer)
        )
      const connect = storage.connect({ userUlid, connection: Fixture.managed(calUserId), pair })
      yield* sql`alter table cal_tokens.connection add constraint never check (user_ulid <> ${sql.literal(`'${userUlid}'`)}) not valid`
      const check = yield* watched(connect)
      assert.match(check.message, /violates check constraint "never" \(SQLSTATE 23514\)/)
      yield* sql`alter table cal_tokens.connection drop constraint never`
      yield* sql`
        create function tell() returns trigger language plpgsql as
        'begin raise exception ''row: %'', new::text; end'`
      yield* sql`create trigger tell before insert on cal_tokens.connection for each row execute function tell()`
      const told = yield* watched(connect)
      assert.match(told.message, /\(connect: SQLSTATE P0001\)/)
      yield* sql`drop trigger tell on cal_tokens.connection`
      const text = (yield* recorded.text) + renderings(check) + renderings(told)
      assert.include(text, "TokenStorage.connect")
      for (const forbidden of [secret, "v1.k1.", "Failing row"]) assert.notInclude(text, forbidden)
    })
  )
})
