/**
 * Schemas come to be once, beside whatever else is in the database, and change under processes that do not know it.
 */
import { Migrator, SqlClient } from "@effect/sql"
import { assert, describe, it } from "@effect/vitest"
import { Array, Context, Deferred, Effect, Fiber, Layer, Option, type Redacted, Ref, Schedule } from "effect"
import * as Functions from "../../../src/TokenStorage/Postgres/Functions.js"
import * as Migrations from "../../../src/TokenStorage/Postgres/Migrations.js"
import * as Postgres from "../../../src/TokenStorage/Postgres.js"
import { TokenStorage } from "../../../src/TokenStorage.js"
import { layerKeys } from "../../support/Keys.js"
import { layerDatabase, makeDatabase } from "../../support/Postgres.js"
import { strays } from "../../support/StorageAccounts.js"
import * as Fixture from "../../support/StorageFixture.js"
import { all } from "../../support/TwoProcesses.js"

const connections = (url: Redacted.Redacted) => Postgres.layerConnection({ url, poolSize: 4 })

/** A process's storage, with its own connections. */
const process = (url: Redacted.Redacted) =>
  Layer.build(Postgres.layer().pipe(Layer.provideMerge(connections(url)), Layer.provide(layerKeys())))

/** This release's migrations. */
const ours = Object.keys(Migrations.migrations).map((key) => {
  const [id = "", ...name] = key.split("_")
  return { migration_id: Number(id), name: name.join("_") }
})

/** Which migrations a database has had. */
const applied = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) => sql<{ migration_id: number; name: string }>`
    select migration_id, name from cal_tokens.migrations order by migration_id`
)

describe("the schema", () => {
  it.scopedLive("six processes boot on an empty database at once", () =>
    Effect.repeatN(
      Effect.gen(function* () {
        const url = yield* makeDatabase
        const booted = yield* all(Array.makeBy(6, () => process(url)))
        yield* Effect.forEach(booted, (context) => Context.get(context, TokenStorage).ping)
        assert.deepStrictEqual(yield* Effect.provide(applied, connections(url)), ours)
      }),
      2
    )
  )

  it.scopedLive(
    "a later release migrates under the load of this one, which works on and leaves the new schema be",
    () =>
      Effect.gen(function* () {
        const url = yield* makeDatabase
        const old = Context.get(yield* process(url), TokenStorage)
        const users = yield* Effect.forEach(Array.range(1, 6), () =>
          Effect.gen(function* () {
            const { calUserId, userUlid } = Fixture.newUser()
            const connection = Fixture.managed(calUserId)
            yield* old.connect({ userUlid, connection, pair: Fixture.pair(`${userUlid} 0`) })
            return { userUlid, connection, commits: yield* Ref.make(0) }
          })
        )
        /** One refresh after the other; each has to be claimed and stored. */
        const refresh = ({ commits, connection, userUlid }: (typeof users)[number]) =>
          Effect.gen(function* () {
            const before = yield* Ref.get(commits)
            const attemptId = `${userUlid} ${before + 1}`
            assert.strictEqual(
              (yield* old.claim(Fixture.claimOf(userUlid, { attemptId, maxAttempts: 1e9 })))._tag,
              "Claimed"
            )
            const seen = Fixture.refreshHash(`${userUlid} ${before}`)
            const pair = Fixture.pair(attemptId)
            const committed = yield* old.commit(Fixture.commitOf(userUlid, connection, { attemptId, pair, seen }))
            assert.strictEqual(committed._tag, "Stored")
            yield* Ref.set(commits, before + 1)
          })
        const total = Effect.map(
          Effect.forEach(users, ({ commits }) => Ref.get(commits)),
          (counts) => counts.reduce((sum, n) => sum + n, 0)
        )
        /** Waits until so many more refreshes are done. */
        const progress = (more: number) =>
          Effect.flatMap(total, (start) =>
            Effect.repeat(total, { schedule: Schedule.spaced("5 millis"), until: (n) => n >= start + more })
          )
        const load = yield* Effect.fork(
          Effect.forEach(users, (user) => Effect.forever(refresh(user)), { concurrency: "unbounded" })
        )
        yield* Effect.raceFirst(Fiber.join(load), progress(30))
        yield* Effect.provide(Migrations.apply({ ...Migrations.migrations, "9999_later": later }), connections(url))
        yield* Effect.raceFirst(Fiber.join(load), progress(30))

        // A process of this release that starts now has nothing to migrate, and works.
        const restarted = Context.get(yield* process(url), TokenStorage)
        yield* Effect.raceFirst(Fiber.join(load), progress(30))
        yield* Fiber.interrupt(load)
        const latest = yield* Effect.provide(applied, connections(url))
        assert.deepStrictEqual(
          latest.map((row) => row.name),
          [...ours.map((row) => row.name), "later"]
        )
        for (const { commits, userUlid } of users) {
          const n = yield* Ref.get(commits)
          const [main] = Fixture.names(Option.getOrThrow(yield* restarted.find(userUlid)))
          // The load may have been interrupted between a commit and its count.
          assert.include([`${userUlid} ${n}`, `${userUlid} ${n + 1}`], main)
        }
        const newcomer = Fixture.newUser()
        const request = { userUlid: newcomer.userUlid, connection: Fixture.managed(newcomer.calUserId) }
        yield* restarted.connect({ ...request, pair: Fixture.pair("newcomer") })
        yield* Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          assert.deepStrictEqual(yield* sql`select distinct flavour from cal_tokens.connection`, [{ flavour: "plain" }])
          assert.deepStrictEqual(yield* strays(sql), [])
        }).pipe(Effect.provide(connections(url)))
        assert.isTrue(yield* restarted.disconnect(newcomer.userUlid))
      })
  )

  it.scopedLive("a migration that waits for a long transaction steps back for everybody else, and comes again", () =>
    Effect.gen(function* () {
      const url = yield* makeDatabase
      const context = yield* process(url)
      const storage = Context.get(context, TokenStorage)
      const sql = Context.get(context, SqlClient.SqlClient)
      const [begun, end] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
      const long = yield* sql`select count(*) from cal_tokens.connection`.pipe(
        Effect.zipRight(Deferred.succeed(begun, undefined)),
        Effect.zipRight(Deferred.await(end)),
        sql.withTransaction,
        Effect.fork
      )
      yield* Deferred.await(begun)
      const migration = yield* Migrations.apply({ ...Migrations.migrations, "9999_later": later }).pipe(
        Effect.provide(connections(url)),
        Effect.fork
      )
      const waiting = sql<{ n: number }>`
          select count(*)::integer as n from pg_locks
          where not granted and mode = 'AccessExclusiveLock' and relation = 'cal_tokens.connection'::regclass`
      yield* Effect.repeat(waiting, { schedule: Schedule.spaced("5 millis"), until: ([row]) => row?.n === 1 })
      // Behind the waiting migration, while the transaction goes on.
      assert.isTrue(Option.isNone(yield* storage.find(Fixture.newUser().userUlid)))
      assert.isTrue(Option.isNone(yield* Fiber.poll(migration)))
      yield* Deferred.succeed(end, undefined)
      yield* Fiber.join(long)
      yield* Fiber.join(migration)
      assert.strictEqual((yield* Effect.provide(applied, connections(url))).length, ours.length + 1)
    })
  )
})

/** What a later release may do, as `Migrations.ts` has it. */
const later = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`alter table cal_tokens.connection add column flavour text not null default 'plain'`
  yield* sql`create table cal_tokens.later (user_ulid text collate "C" primary key, note text)`
  // A function that changes does so under a new name: processes of this release go on calling theirs.
  const claim = Functions.definitions.find(({ name }) => name === "claim_1")
  if (claim === undefined) return yield* Effect.dieMessage("there is no claim_1")
  yield* sql.unsafe(Functions.create({ ...claim, name: "claim_2" }))
})

describe("beside an application that migrates with the default table", () => {
  const theirs = Migrator.make({})({
    loader: Migrator.fromRecord({
      "0001_theirs": Effect.flatMap(SqlClient.SqlClient, (sql) => sql`create table connection (id int)`),
      "0007_more": Effect.flatMap(SqlClient.SqlClient, (sql) => sql`create table cal_account (id int)`)
    })
  })
  for (const [order, both] of [
    ["theirs first", Effect.zipRight(theirs, Migrations.migrate)],
    ["ours first", Effect.zipRight(Migrations.migrate, theirs)],
    ["at once", Effect.all([theirs, Migrations.migrate], { concurrency: "unbounded" })]
  ] as const) {
    it.scopedLive(order, () =>
      Effect.gen(function* () {
        yield* both
        // Again: nothing is left to do for either.
        yield* Migrations.migrate
        assert.deepStrictEqual(yield* theirs, [])
        const sql = yield* SqlClient.SqlClient
        assert.deepStrictEqual(yield* applied, ours)
        assert.deepStrictEqual(yield* sql`select migration_id from effect_sql_migrations order by 1`, [
          { migration_id: 1 },
          { migration_id: 7 }
        ])
        assert.deepStrictEqual(yield* sql`select * from connection`, [])
        const storage = yield* Effect.provide(Postgres.make(), layerKeys())
        yield* storage.ping
        const { calUserId, userUlid } = Fixture.newUser()
        yield* storage.connect({ userUlid, connection: Fixture.managed(calUserId), pair: Fixture.pair("one") })
        assert.isTrue(Option.isSome(yield* storage.find(userUlid)))
      }).pipe(Effect.provide(layerDatabase()))
    )
  }
})
