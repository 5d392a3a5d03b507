import { Migrator, SqlClient } from "@effect/sql"
import { assert, describe, it } from "@effect/vitest"
import { Array, Context, Duration, Effect, Exit, Layer, Option, type Redacted, Scope } from "effect"
import { afterAll, beforeAll } from "vitest"
import * as Migrations from "../src/TokenStorage/Migrations.js"
import * as Postgres from "../src/TokenStorage/Postgres.js"
import { TokenStorage } from "../src/TokenStorage.js"
import { layerCipher } from "./support/Keys.js"
import { layerDatabase, makeDatabase } from "./support/Postgres.js"
import * as Fixture from "./support/StorageFixture.js"

const scope = Effect.runSync(Scope.make())
let url: Redacted.Redacted
/** Two processes' worth of connections to one database. */
let one: Fixture.Storage
let two: Fixture.Storage
let sql: SqlClient.SqlClient

const build = () =>
  Postgres.layer().pipe(
    Layer.provideMerge(Postgres.layerConnection({ url, poolSize: 25 })),
    Layer.provide(layerCipher()),
    Layer.buildWithScope(scope),
    Effect.runPromise
  )

beforeAll(async () => {
  url = await Effect.runPromise(Scope.extend(makeDatabase, scope))
  const [first, second] = [await build(), await build()]
  one = Context.get(first, TokenStorage)
  two = Context.get(second, TokenStorage)
  sql = Context.get(first, SqlClient.SqlClient)
})
afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))

const all = <A, E>(effects: ReadonlyArray<Effect.Effect<A, E>>) => Effect.all(effects, { concurrency: "unbounded" })
const tally = (results: ReadonlyArray<{ readonly _tag: string }>) =>
  results.reduce<Record<string, number>>((sum, { _tag }) => ({ ...sum, [_tag]: (sum[_tag] ?? 0) + 1 }), {})

const connected = Effect.gen(function* () {
  const { calUserId, userUlid } = Fixture.newUser()
  const connection = Fixture.managed(calUserId)
  const row = yield* one.connect({ userUlid, connection, pair: Fixture.pair(`${userUlid} 0`) })
  return { userUlid, connection, row, seen: Fixture.refreshHash(`${userUlid} 0`) }
})

describe("claims", () => {
  it.live("of fifty, one wins", () =>
    Effect.gen(function* () {
      for (const round of Array.range(1, 5)) {
        const { row, userUlid } = yield* connected
        const results = yield* all(
          Array.makeBy(50, (n) =>
            (n % 2 === 0 ? one : two).claim(
              Fixture.claimOf(userUlid, { attemptId: `${round}.${n}`, knownVersion: row.version })
            )
          )
        )
        assert.deepStrictEqual(tally(results), { Claimed: 1, Busy: 49 })
      }
    })
  )

  it.live("of fifty on a lapsed attempt, one wins and probes", () =>
    Effect.gen(function* () {
      const { userUlid } = yield* connected
      yield* one.claim(Fixture.claimOf(userUlid, { lease: Duration.zero }))
      const results = yield* all(
        Array.makeBy(50, (n) => (n % 2 === 0 ? one : two).claim(Fixture.claimOf(userUlid, { attemptId: `${n}` })))
      )
      assert.deepStrictEqual(tally(results), { Claimed: 1, Busy: 49 })
      assert.isTrue(results.some((result) => result._tag === "Claimed" && Option.isSome(result.probe)))
    })
  )
})

describe("commits", () => {
  it.live("a commit, its repetitions and new claims meet", () =>
    Effect.gen(function* () {
      for (const round of Array.range(1, 20)) {
        const { connection, row, seen, userUlid } = yield* connected
        yield* one.claim(Fixture.claimOf(userUlid))
        const commit = Fixture.commitOf(userUlid, connection, { pair: Fixture.pair(`${userUlid} 1`), seen })
        const claim = Fixture.claimOf(userUlid, { attemptId: `next ${round}`, knownVersion: row.version })
        const [first, claimed, again] = yield* Effect.all([one.commit(commit), two.claim(claim), two.commit(commit)], {
          concurrency: "unbounded"
        })
        assert.deepStrictEqual([first._tag, again._tag].sort(), ["AlreadyStored", "Stored"])
        assert.include(["Busy", "Newer"], claimed._tag)
      }
    })
  )

  it.live("a commit and a connect leave the connected pair, and the late one as a fallback", () =>
    Effect.gen(function* () {
      for (const round of Array.range(1, 30)) {
        const { connection, seen, userUlid } = yield* connected
        yield* one.claim(Fixture.claimOf(userUlid))
        const late = Fixture.pair(`${userUlid} late`)
        const handed = Fixture.pair(`${userUlid} handed`)
        const commit = one.commit(Fixture.commitOf(userUlid, connection, { pair: late, seen }))
        const connect = two.connect({ userUlid, connection, pair: handed })
        yield* all<unknown, unknown>(round % 2 === 0 ? [commit, connect] : [connect, commit])
        const row = Option.getOrThrow(yield* one.find(userUlid))
        const [main, ...fallbacks] = Fixture.names(row)
        assert.strictEqual(main, `${userUlid} handed`)
        assert.include(fallbacks, `${userUlid} late`)
        const owner = Option.getOrThrow(yield* two.findByAccessToken(Fixture.accessHash(`${userUlid} handed`)))
        assert.strictEqual(owner.userUlid, userUlid)
        assert.isTrue(Option.isNone(owner.supersededAt))
      }
    })
  )

  it.live("versions never go back under concurrent writes", () =>
    Effect.gen(function* () {
      const { connection, userUlid } = yield* connected
      const write = (n: number) =>
        Effect.map(
          (n % 2 === 0 ? one : two).connect({ userUlid, connection, pair: Fixture.pair(`${userUlid} w${n}`) }),
          (row) => row.version
        )
      const versions = yield* all(Array.makeBy(40, write))
      assert.strictEqual(new Set(versions).size, 40)
      const row = Option.getOrThrow(yield* one.find(userUlid))
      assert.strictEqual(row.version, Math.max(...versions))
    })
  )

  it.live("a disconnect meets a commit: nothing comes back", () =>
    Effect.gen(function* () {
      for (const round of Array.range(1, 10)) {
        const { connection, seen, userUlid } = yield* connected
        yield* one.claim(Fixture.claimOf(userUlid))
        const pair = Fixture.pair(`${userUlid} ${round} late`)
        yield* all<unknown, unknown>([
          one.commit(Fixture.commitOf(userUlid, connection, { pair, seen })),
          two.disconnect(userUlid)
        ])
        assert.isTrue(Option.isNone(yield* one.find(userUlid)))
        const rows = yield* sql`select 1 from cal_tokens.access_token_lookup where user_ulid = ${userUlid}`
        assert.deepStrictEqual(rows, [])
      }
    })
  )
})

describe("accounts", () => {
  it.live("of many users that connect one account at once, one gets it", () =>
    Effect.gen(function* () {
      const { calUserId } = Fixture.newUser()
      const connection = Fixture.oauth(calUserId)
      const results = yield* all(
        Array.makeBy(20, (n) =>
          Effect.either(
            (n % 2 === 0 ? one : two).connect({
              userUlid: Fixture.newUser().userUlid,
              connection,
              pair: Fixture.pair(`${calUserId} ${n}`)
            })
          )
        )
      )
      assert.deepStrictEqual(tally(results), { Right: 1, Left: 19 })
      const failures = results.flatMap((result) => (result._tag === "Left" ? [result.left._tag] : []))
      assert.deepStrictEqual([...new Set(failures)], ["CalAccountInUse"])
    })
  )

  it.live("of many users that take one account from each other at once, one has it and one row", () =>
    Effect.gen(function* () {
      for (const round of Array.range(1, 5)) {
        const users = Array.makeBy(6, () => Fixture.newUser().userUlid)
        const connection = Fixture.oauth(Fixture.newUser().calUserId)
        yield* all(
          users.map((userUlid, n) =>
            (n % 2 === 0 ? one : two).connect({
              userUlid,
              connection,
              replace: true,
              pair: Fixture.pair(`${userUlid} ${round}`)
            })
          )
        )
        const rows = yield* Effect.forEach(users, (userUlid) => one.find(userUlid))
        assert.strictEqual(rows.filter(Option.isSome).length, 1)
      }
    })
  )

  it.live("two users who swap their accounts by force do not block each other for ever", () =>
    Effect.gen(function* () {
      const [a, b] = [yield* connected, yield* connected]
      const swap = (userUlid: typeof a.userUlid, connection: typeof a.connection) =>
        one.connect({ userUlid, connection, replace: true, pair: Fixture.pair(`${userUlid} swapped`) })
      yield* all([swap(a.userUlid, b.connection), swap(b.userUlid, a.connection)])
      const accounts = yield* sql<{ n: number }>`
        select count(*)::int as n from cal_tokens.connection where user_ulid in ${sql.in([a.userUlid, b.userUlid])}`
      assert.include([1, 2], accounts[0]?.n)
    })
  )
})

describe("migrations", () => {
  const boot = (connection: Redacted.Redacted) =>
    Effect.provide(Migrations.migrate, Postgres.layerConnection({ url: connection, poolSize: 2 }))

  it.scopedLive("six processes boot on an empty database", () =>
    Effect.repeatN(
      Effect.gen(function* () {
        const empty = yield* makeDatabase
        yield* all(Array.makeBy(6, () => boot(empty)))
        yield* boot(empty)
      }),
      2
    )
  )

  it.scopedLive("live beside an application that migrates with the default table", () =>
    Effect.gen(function* () {
      const database = yield* layerDatabase().pipe(Layer.build)
      yield* Effect.gen(function* () {
        const theirs = Migrator.make({})({
          loader: Migrator.fromRecord({
            "0001_theirs": Effect.flatMap(SqlClient.SqlClient, (client) => client`create table connection (id int)`),
            "0007_more": Effect.void
          })
        })
        yield* theirs
        yield* Migrations.migrate
        yield* Migrations.migrate
        assert.deepStrictEqual(yield* theirs, [])
        const client = yield* SqlClient.SqlClient
        assert.deepStrictEqual(yield* client`select migration_id, name from cal_tokens.migrations`, [
          { migration_id: 1, name: "connections" }
        ])
      }).pipe(Effect.provide(database))
    })
  )
})
