/** The log of changes: one contract in memory, on PGlite and on PostgreSQL, and what only a database can get wrong. */
import { SqlClient } from "@effect/sql"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { Context, Deferred, Duration, Effect, Fiber, Layer, Option, TestClock } from "effect"
import * as Embedded from "../../src/Embedded.js"
import * as TokenStorage from "../../src/TokenStorage.js"
import { layerMemory } from "../../src/TokenStorage/Memory.js"
import { type Cursor, pruneBatch, pruneEvery } from "../../src/TokenStorage/ChangeLog.js"
import * as Postgres from "../../src/TokenStorage/Postgres.js"
import { readAll, suite } from "../support/ChangeLogSuite.js"
import { layerKeys } from "../support/Keys.js"
import { layerDatabase, makeDatabaseOn } from "../support/Postgres.js"
import { makeServer, type PostgresServer } from "../support/PostgresServer.js"
import * as Fixture from "../support/StorageFixture.js"
import * as TwoProcesses from "../support/TwoProcesses.js"

const { all } = TwoProcesses

// A server of its own: a position is exact once nobody writes who began earlier, in whichever database of the server.
let server: PostgresServer
beforeAll(async () => {
  server = await makeServer()
})
afterAll(() => server.remove())
const database = Effect.suspend(() => makeDatabaseOn(server.url))
const make = (options: Postgres.Options) => TwoProcesses.make(options, database)

const onSql = (options: Postgres.Options) => Postgres.layer(options).pipe(Layer.provide(layerKeys()))

suite("in memory", layerMemory)
suite("on PGlite", onSql({ clock: "effect" }).pipe(Layer.provide(Embedded.layer({ inMemory: true }))))
suite("on PostgreSQL", onSql({ clock: "effect" }).pipe(Layer.provide(layerDatabase({}, database))))

const connect = (storage: Fixture.Storage) => {
  const { calUserId, userUlid } = Fixture.newUser()
  return Effect.as(
    storage.connect({ userUlid, connection: Fixture.managed(calUserId), pair: Fixture.pair(userUlid) }),
    userUlid
  )
}

/** What is new to a reader, by user. */
const read = (storage: Fixture.Storage, cursor: Cursor, limit = 100) =>
  Effect.map(readAll(storage, cursor, limit), ({ changes, next, position }) => ({
    users: changes.map(({ userUlid }) => userUlid),
    positions: changes.map(({ position }) => position),
    next,
    position
  }))

describe("a change that becomes visible late", () => {
  for (const limit of [100, 1]) {
    it.scopedLive(`is shown to who read on meanwhile, once, as are all others (pages of ${limit})`, () =>
      Effect.gen(function* () {
        const { one, sql, two } = yield* make({})
        const start = yield* one.log.end
        const slow = Fixture.newUser().userUlid
        const began = yield* Deferred.make<void>()
        const go = yield* Deferred.make<void>()
        // A transaction that took its number first and commits last.
        const late = yield* sql
          .withTransaction(
            Effect.gen(function* () {
              yield* sql`insert into cal_tokens.change (at, user_ulid, kind, reauthorized)
                values (floor(extract(epoch from clock_timestamp()) * 1000), ${slow}, 'updated', false)`
              yield* Deferred.succeed(began, undefined)
              yield* Deferred.await(go)
            })
          )
          .pipe(Effect.fork)
        yield* Deferred.await(began)
        const [a, b] = [yield* connect(one), yield* connect(two)]
        const first = yield* read(two, start, limit)
        assert.deepStrictEqual(first.users, [a, b])
        assert.deepStrictEqual((yield* read(two, first.next, limit)).users, [])
        const c = yield* connect(one)
        yield* Deferred.succeed(go, undefined)
        yield* Fiber.join(late)
        const d = yield* connect(two)
        const second = yield* read(two, first.next, limit)
        assert.deepStrictEqual(second.users, [slow, c, d])
        assert.deepStrictEqual((yield* read(two, second.next, limit)).users, [])

        // Who kept a position from while the writer was at work sees some twice, and misses none.
        for (const position of [first.position, ...first.positions]) {
          assert.includeMembers((yield* read(one, { position }, limit)).users, [slow, c, d])
        }
        // Afterwards positions are exact.
        for (const [index, position] of second.positions.entries()) {
          assert.deepStrictEqual(
            (yield* read(one, { position }, limit)).users.slice(-(2 - index) || 3),
            [c, d].slice(index)
          )
        }
      })
    )
  }

  it.scopedLive(
    "in a storm of two processes, readers that page, rest and come back see all, the steady one each once",
    () =>
      Effect.gen(function* () {
        const { one, two } = yield* make({})
        const start = yield* one.log.end
        const seen: Array<string> = []
        const kept: Array<string> = []
        let cursor = start
        let position = start.position
        const step = Effect.gen(function* () {
          const page = Option.getOrThrow(yield* two.log.read(cursor, 3))
          cursor = page.next
          seen.push(...page.changes.map(({ userUlid }) => userUlid))
          const again = Option.getOrThrow(yield* one.log.read({ position }, 3))
          position = again.changes.at(0)?.position ?? again.position
          kept.push(...again.changes.map(({ userUlid }) => userUlid))
        })
        let written = Infinity
        const isDone = () => seen.length >= written && new Set(kept).size >= written
        const reader = yield* Effect.fork(Effect.repeat(step, { until: isDone }))
        const users = yield* all(Array.from({ length: 120 }, (_, n) => connect(n % 2 === 0 ? one : two)))
        written = users.length
        yield* Fiber.join(reader)
        assert.sameMembers(seen, users)
        assert.strictEqual(seen.length, users.length)
        assert.sameMembers([...new Set(kept)], users)
      })
  )
})

it.scoped("the tables lose what is old, some of it with one write of several, and nothing else", () =>
  Effect.gen(function* () {
    const context = yield* Layer.build(onSql({ clock: "effect" }).pipe(Layer.provideMerge(layerDatabase({}, database))))
    const storage = Context.get(context, TokenStorage.TokenStorage)
    const sql = Context.get(context, SqlClient.SqlClient)
    const count = (table: "change" | "transition") =>
      Effect.map(
        sql<{ n: number }>`select count(*)::integer as n from ${sql(`cal_tokens.${table}`)}`,
        ([row]) => row?.n ?? 0
      )
    const users = yield* Effect.forEach(Array.from({ length: 12 }), () => connect(storage))
    yield* Effect.forEach(users, (userUlid) =>
      Effect.zipRight(
        storage.claim(Fixture.claimOf(userUlid)),
        storage.fail({ userUlid, attemptId: "mine", failure: Fixture.terminal([]) })
      )
    )
    // More than one write removes.
    yield* sql`
      insert into cal_tokens.change (at, user_ulid, kind, reauthorized)
      select 0, 'old', 'refreshed', false from generate_series(1, 100)`
    yield* sql`
      insert into cal_tokens.transition (kind, user_ulid, at, cause, since, next_at)
      select 'reauthorized', 'old', 0, 'revoked', 0, 0 from generate_series(1, 100)`
    yield* TestClock.adjust(Duration.minutes(24 * 60 + 10))
    const young = yield* connect(storage)
    /** How many entries are left after each of so many writes as make one look for old ones. */
    const writes = Effect.forEach(Array.from({ length: pruneEvery }), (_, n) =>
      Effect.zipRight(
        Fixture.update(storage, young, Fixture.pair(`${young} ${n}`)),
        Effect.all([count("change"), count("transition")])
      )
    )
    const last = (counts: ReadonlyArray<ReadonlyArray<number>>) => counts.at(-1)
    // Those at the very end of their time are still there.
    assert.deepStrictEqual(last(yield* writes), [125 + pruneEvery, 112])
    yield* TestClock.adjust(1)
    const changes = (yield* writes).map(([left]) => left ?? 0)
    const removed = changes.map((left, n) => (n === 0 ? 125 + pruneEvery : (changes[n - 1] ?? 0)) + 1 - left)
    assert.deepStrictEqual(
      removed.filter((each) => each > 0),
      [pruneBatch]
    )
    assert.deepStrictEqual(last(yield* writes), [1 + 3 * pruneEvery, 112])
    // What changes nothing removes nothing either.
    yield* storage.claim(Fixture.claimOf(young))
    yield* storage.fail({ userUlid: young, attemptId: "mine", failure: Fixture.notSpent() })
    assert.strictEqual(yield* count("change"), 1 + 3 * pruneEvery)
    yield* TestClock.adjust("7 days")
    assert.deepStrictEqual(last(yield* writes)?.[1], 112 - pruneBatch)
    assert.deepStrictEqual(last(yield* writes)?.[1], 0)
    yield* storage.disconnect(young)
    assert.isTrue(Option.isNone(yield* storage.find(young)))
  })
)
