/** A statement that outlives its time does no harm to the next one, directly and through the pooler of many deployments. */
import { randomBytes } from "node:crypto"
import { PgClient } from "@effect/sql-pg"
import { SqlClient } from "@effect/sql"
import { assert, describe, it } from "@effect/vitest"
import { Context, Deferred, Duration, Effect, Fiber, Layer, Option, Redacted, Schedule, type Scope } from "effect"
import type { UserUlid } from "../../../src/Token.js"
import * as Postgres from "../../../src/TokenStorage/Postgres.js"
import { askOf } from "../../../src/TokenStorage/Postgres/Pool.js"
import { TokenStorage } from "../../../src/TokenStorage.js"
import { layerKeys } from "../../support/Keys.js"
import * as PgBouncer from "../../support/PgBouncer.js"
import { makeDatabase } from "../../support/Postgres.js"
import * as SilentProxy from "../../support/SilentProxy.js"
import * as Fixture from "../../support/StorageFixture.js"

const timeout = Duration.seconds(1)

const storageAt = (url: Redacted.Redacted, poolSize: number) =>
  Layer.build(
    Postgres.layer({ statementTimeout: timeout }).pipe(
      Layer.provideMerge(Postgres.layerConnection({ url, poolSize })),
      Layer.provide(layerKeys())
    )
  ).pipe(
    Effect.map((context) => ({
      storage: Context.get(context, TokenStorage),
      sql: Context.get(context, SqlClient.SqlClient)
    }))
  )

/** Connections of nobody else. */
const aside = (url: Redacted.Redacted, maxConnections = 2) =>
  Effect.map(Layer.build(PgClient.layer({ url, maxConnections })), (context) =>
    Context.get(context, SqlClient.SqlClient)
  )

const connected = (storage: Fixture.Storage) =>
  Effect.gen(function* () {
    const { calUserId, userUlid } = Fixture.newUser()
    yield* storage.connect({ userUlid, connection: Fixture.managed(calUserId), pair: Fixture.pair("one") })
    return userUlid
  })

/** A transaction that did this and is open until it is told to end. */
const open = (
  sql: SqlClient.SqlClient,
  statement: Effect.Effect<unknown, unknown>
): Effect.Effect<Effect.Effect<void>, never, Scope.Scope> =>
  Effect.gen(function* () {
    const begun = yield* Deferred.make<void>()
    const go = yield* Deferred.make<void>()
    const held = statement.pipe(Effect.zipRight(Deferred.succeed(begun, undefined)), Effect.zipRight(go))
    const fiber = yield* Effect.forkScoped(Effect.orDie(sql.withTransaction(held)))
    yield* Effect.raceFirst(begun, fiber)
    return Effect.zipRight(Deferred.succeed(go, undefined), Fiber.join(fiber))
  })

const lock = (sql: SqlClient.SqlClient, userUlid: UserUlid) =>
  open(sql, sql`select from cal_tokens.connection where user_ulid = ${userUlid} for update`)

const soon = <A, E>(effect: Effect.Effect<A, E>) =>
  Effect.retry(effect, { schedule: Schedule.spaced("20 millis"), times: 100 })

/** Nobody waits for a lock in this database. */
const nobodyWaits = (sql: SqlClient.SqlClient) =>
  Effect.filterOrFail(
    sql`select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
    (rows) => rows.length === 0
  )

const pairsOf = (storage: Fixture.Storage, userUlid: UserUlid) =>
  Effect.map(storage.find(userUlid), (row) => Fixture.names(Option.getOrThrow(row)))

const late = <A, E extends Error & { readonly _tag: string }>(call: Effect.Effect<A, E>) =>
  Effect.map(Effect.flip(call), (error) => {
    assert.strictEqual(error._tag, "StorageUnavailable")
    assert.match(error.message, /no answer within 1s/)
  })

const suite = (through: (url: Redacted.Redacted) => Effect.Effect<Redacted.Redacted, never, Scope.Scope>) => {
  for (const poolSize of [1, 3]) {
    it.scopedLive(`a write that a lock holds up fails alone, with ${poolSize} in the pool`, () =>
      Effect.gen(function* () {
        const direct = yield* makeDatabase
        const { storage } = yield* storageAt(yield* through(direct), poolSize)
        const sql = yield* aside(direct)
        const [locked, other] = [yield* connected(storage), yield* connected(storage)]
        const unlock = yield* lock(sql, locked)
        for (const round of [1, 2]) {
          // As many as there are connections.
          yield* Effect.all(
            Array.from({ length: poolSize }, () => late(Fixture.update(storage, locked, Fixture.pair("two")))),
            { concurrency: "unbounded" }
          )
          for (let times = 0; times < 5; times += 1) {
            assert.deepStrictEqual(yield* pairsOf(storage, other), round === 1 ? ["one"] : ["three", "one"])
          }
          if (round === 1) yield* Fixture.update(storage, other, Fixture.pair("three"))
        }
        // The server noticed, too: what had begun waits there no longer, and does not take place when the lock is gone.
        yield* soon(nobodyWaits(sql))
        yield* unlock
        assert.deepStrictEqual(yield* pairsOf(storage, locked), ["one"])
        assert.deepStrictEqual(yield* pairsOf(storage, other), ["three", "one"])
      })
    )
  }

  it.scopedLive("a connection that is given back while its statement runs is closed", () =>
    Effect.gen(function* () {
      const direct = yield* makeDatabase
      const { sql, storage } = yield* storageAt(yield* through(direct), 1)
      const others = yield* aside(direct)
      const user = yield* connected(storage)
      const unlock = yield* lock(others, user)
      const statement = `update cal_tokens.connection set version = version where user_ulid = '${user}'`
      const abandon = Effect.flatMap(sql.reserve, (connection) =>
        Effect.zipRight(Effect.forkDaemon(connection.executeRaw(statement, [])), soon(Effect.flip(nobodyWaits(others))))
      )
      yield* Effect.scoped(abandon)
      assert.deepStrictEqual(yield* pairsOf(storage, user), ["one"])
      yield* unlock
    })
  )

  it.scopedLive("a write that got no connection in time never takes place", () =>
    Effect.gen(function* () {
      const { sql, storage } = yield* storageAt(yield* through(yield* makeDatabase), 1)
      const user = yield* connected(storage)
      const giveBack = yield* open(sql, sql`select 1`)
      yield* late(Fixture.update(storage, user, Fixture.pair("two")))
      yield* giveBack
      assert.deepStrictEqual(yield* pairsOf(storage, user), ["one"])
    })
  )

  it.scopedLive("a transaction whose statement is given up on ends with it", () =>
    Effect.gen(function* () {
      const direct = yield* makeDatabase
      const { sql, storage } = yield* storageAt(yield* through(direct), 1)
      const user = yield* connected(storage)
      const unlock = yield* lock(yield* aside(direct), user)
      const attempt = sql`delete from cal_tokens.connection where user_ulid = ${user}`
      yield* Effect.timeoutOption(Effect.disconnect(sql.withTransaction(attempt)), timeout)
      assert.deepStrictEqual(yield* pairsOf(storage, user), ["one"])
      yield* unlock
      assert.deepStrictEqual(yield* pairsOf(storage, user), ["one"])
    })
  )
}

it.scopedLive("nobody is given a connection whose server has just said that it ends", () =>
  Effect.gen(function* () {
    const url = yield* makeDatabase
    const context = yield* Layer.build(Postgres.layerConnection({ url, poolSize: 1 }))
    const ask = askOf(Context.get(context, SqlClient.SqlClient))
    assert(ask !== undefined)
    const answer = (text: string) =>
      Effect.async<string>((resume) => {
        ask(text, [], (error) => resume(Effect.succeed(error?.message ?? "answered")))
      })
    // The one who hears of it asks again at once, before the connection has closed.
    const ended = yield* answer("select pg_terminate_backend(pg_backend_pid())")
    assert.match(ended, /terminating connection/)
    assert.strictEqual(yield* answer("select 1"), "answered")
  })
)

it.scopedLive("who it connects as is asked for each connection, and none that is there ends for it", () =>
  Effect.gen(function* () {
    const url = yield* makeDatabase
    const role = `role_${randomBytes(8).toString("hex")}`
    const admin = yield* aside(url)
    yield* Effect.acquireRelease(admin.unsafe(`create role ${role} login password 'other'`), () =>
      Effect.orDie(admin.unsafe(`drop role ${role}`))
    )
    const other = new URL(Redacted.value(url))
    other.username = role
    other.password = "other"
    let now = url
    const context = yield* Layer.build(Postgres.layerConnection({ url: () => now, poolSize: 2 }))
    const sql = Context.get(context, SqlClient.SqlClient)
    const who = Effect.map(sql<{ readonly who: string }>`select current_user as who`, ([row]) => row?.who)
    const before = yield* who
    now = Redacted.make(other.href)
    const held = yield* Deferred.make<string | undefined>()
    const done = yield* Deferred.make<void>()
    yield* Effect.fork(
      sql.withTransaction(Effect.zipRight(Effect.intoDeferred(Effect.orDie(who), held), Deferred.await(done)))
    )
    // The one that is there is taken, and the next one is new.
    const both = [yield* Deferred.await(held), yield* who]
    yield* Deferred.succeed(done, undefined)
    assert.notStrictEqual(before, role)
    assert.deepStrictEqual(both, [before, role])
  })
)

describe("on PostgreSQL itself", () => {
  suite(Effect.succeed)

  it.scopedLive("a transaction is over also where no cancellation arrives", () =>
    Effect.gen(function* () {
      const url = new URL(Redacted.value(yield* makeDatabase))
      const proxy = yield* SilentProxy.make(Number(url.port))
      url.port = String(proxy.port)
      const { sql, storage } = yield* storageAt(Redacted.make(url.href), 1)
      const silenced = Effect.zipRight(sql`select 1`, Effect.sync(proxy.silence))
      const attempt = sql.withTransaction(Effect.zipRight(silenced, sql`select 2`))
      assert.isTrue(Option.isNone(yield* Effect.timeoutOption(Effect.disconnect(attempt), timeout)))
      proxy.heal()
      yield* Effect.timeout(soon(storage.ping), "5 seconds")
    })
  )

  for (const poolSize of [1, 4]) {
    it.scopedLive(
      `sessions that a failover left read-only are closed, and the write takes place, with ${poolSize} in the pool`,
      () =>
        Effect.gen(function* () {
          const url = yield* makeDatabase
          const others = yield* aside(url)
          const user = yield* connected((yield* storageAt(url, 1)).storage)
          const [{ name } = { name: "" }] = yield* others<{ name: string }>`select current_database() as name`
          const newSessions = (mode: "only" | "write") =>
            others.unsafe(
              `alter database ${name} set default_transaction_read_only = ${mode === "only" ? "on" : "off"}`
            )
          yield* newSessions("only")
          const { sql, storage } = yield* storageAt(url, poolSize)
          const pid = Effect.map(
            sql<{ pid: number }>`select pg_backend_pid() as pid, pg_sleep(0.2)`,
            ([row]) => row?.pid
          )
          const pids = yield* Effect.all(
            Array.from({ length: poolSize }, () => pid),
            { concurrency: "unbounded" }
          )
          assert.lengthOf(new Set(pids), poolSize)
          const set = `{${pids.join()}}`
          // When one finds out, some are in use and some are not.
          const sleep = sql`select pg_sleep(0.5)`
          const running = yield* Effect.fork(
            Effect.all(
              pids.slice(2).map(() => sleep),
              { concurrency: "unbounded" }
            )
          )
          yield* soon(
            Effect.filterOrFail(
              others`select pid from pg_stat_activity where pid = any (${set}::int[]) and state = 'active'`,
              (rows) => rows.length === pids.slice(2).length
            )
          )
          yield* newSessions("write")
          yield* Fixture.update(storage, user, Fixture.pair("two"))
          assert.deepStrictEqual(yield* pairsOf(storage, user), ["two", "one"])
          yield* Fiber.join(running)
          yield* soon(
            Effect.filterOrFail(
              others`select pid from pg_stat_activity where pid = any (${set}::int[])`,
              (rows) => rows.length === 0
            )
          )
        })
    )
  }

  it.scopedLive("a database that only reads fails a write at once, and in its own words", () =>
    Effect.gen(function* () {
      const url = yield* makeDatabase
      const others = yield* aside(url)
      const user = yield* connected((yield* storageAt(url, 1)).storage)
      const [{ name } = { name: "" }] = yield* others<{ name: string }>`select current_database() as name`
      yield* others.unsafe(`alter database ${name} set default_transaction_read_only = on`)
      const { storage } = yield* storageAt(url, 2)
      const error = yield* Effect.flip(Fixture.update(storage, user, Fixture.pair("two")))
      assert.match(error.message, /cannot execute \w+( \w+)* in a read-only transaction \(SQLSTATE 25006\)/)
      assert.deepStrictEqual(yield* pairsOf(storage, user), ["one"])
    })
  )

  it.scopedLive("a connection is used again, also after a statement that failed", () =>
    Effect.gen(function* () {
      const { sql } = yield* storageAt(yield* makeDatabase, 1)
      const pid = Effect.map(sql<{ pid: number }>`select pg_backend_pid() as pid`, ([row]) => row?.pid)
      const first = yield* pid
      assert.strictEqual(yield* pid, first)
      yield* Effect.flip(sql`select 1 / 0`)
      assert.strictEqual(yield* pid, first)
      yield* Effect.ignore(sql.withTransaction(Effect.flip(sql`select 1 / 0`)))
      assert.strictEqual(yield* pid, first)
    })
  )
})

describe.skipIf(!PgBouncer.isInstalled)("behind PgBouncer (skipped where it is not installed)", () => {
  suite(PgBouncer.through)
})
