/**
 * No operation of the storage reads a table from end to end, and none gets dearer with the number of users: each is run
 * on ten thousand and on a million of them. What operators are told of all users is not among them: it is read for all who
 * ask at once, and less often the longer it takes.
 */
import { SqlClient } from "@effect/sql"
import { assert, describe, it } from "@effect/vitest"
import { Context, Duration, Effect, Exit, Layer, Scope } from "effect"
import { afterAll, beforeAll } from "vitest"
import * as Migrations from "../../src/TokenStorage/Postgres/Migrations.js"
import * as Postgres from "../../src/TokenStorage/Postgres.js"
import { layerKeys } from "../support/Keys.js"
import { layerDatabase } from "../support/Postgres.js"
import { answerOf, pagesOf } from "./Buffers.js"
import { fill } from "./Fill.js"
import { type Case, cases } from "./Operations.js"
import { median, medians } from "./Timing.js"

const small = 10_000
const large = 1_000_000
const sizes = [small, large]

/**
 * At most so many times the pages, and four: for a hundred times the rows, indexes are a level deeper, and some operations
 * are little but ways through indexes.
 */
const isFlat = (few: number, many: number) => many <= 1.25 * few + 4

/** In ms; the tests say themselves what may not take long. */
const patience = 1_200_000

const scope = Effect.runSync(Scope.make())
const databases = new Map<number, Context.Context<SqlClient.SqlClient>>()

/** A database of so many users. */
const make = (size: number) =>
  Effect.gen(function* () {
    // One connection for the whole time: it keeps its plans, and tells what it read when it is asked.
    const connection = layerDatabase({ poolSize: 1, maxAge: "1 day" })
    const context = yield* Layer.buildWithScope(connection, scope)
    databases.set(size, context)
    const made = Effect.zipRight(Migrations.migrate, fill(size))
    const [took] = yield* Effect.provide(Effect.timed(made), context)
    const [row] = yield* Effect.provide(bytes, context)
    console.log(`${size} users: made in ${Duration.format(took)}, ${row?.size} with indexes`)
  })

const bytes = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) => sql<{ size: string }>`
    select pg_size_pretty(sum(pg_total_relation_size(c.oid))) as size from pg_class c
    where c.relnamespace = 'cal_tokens'::regnamespace and c.relkind = 'r'`
)

// Nothing is measured yet, so both at once.
beforeAll(() => Effect.runPromise(Effect.forEach(sizes, make, { concurrency: "unbounded", discard: true })), patience)
afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))

const sqlOf = (size: number): SqlClient.SqlClient => {
  const built = databases.get(size)
  if (built === undefined) throw new Error("the database is not built")
  return Context.get(built, SqlClient.SqlClient)
}

const storageOf = (size: number) =>
  Effect.provide(Postgres.make(), Layer.merge(Layer.succeed(SqlClient.SqlClient, sqlOf(size)), layerKeys()))

/** Some users from all over the table, active ones with an active one behind them. */
const some = (size: number, count: number) =>
  Array.from({ length: count }, (_, index) => Math.floor(((index + 1) * size) / (count + 1) / 50) * 50 + 7)

const caseOf = (name: string, n: number, size: number): Case => {
  const found = cases(n, size)[name]
  if (found === undefined) throw new Error(`no operation ${name}`)
  return found
}

const names = Object.keys(cases(1, small))

/** The median of the pages that an operation touches, once its plans are kept. */
const pages = (name: string, size: number) =>
  Effect.gen(function* () {
    const counted = yield* Effect.forEach(some(size, 20), (n) => pagesOf(sqlOf(size), caseOf(name, n, size)))
    return median(counted.slice(8))
  })

/** What the server has counted until now. */
const statistics = <A extends object>(sql: SqlClient.SqlClient, query: string) =>
  Effect.zipRight(sql`select pg_stat_force_next_flush()`, sql.unsafe<A>(query))

/** How often each table was read from end to end. */
const reads = (sql: SqlClient.SqlClient) =>
  Effect.map(
    statistics<{ relname: string; scans: number }>(
      sql,
      `select relname, seq_scan::integer as scans from pg_stat_user_tables
        where schemaname = 'cal_tokens' and relname <> 'migrations'`
    ),
    (rows) => new Map(rows.map(({ relname, scans }) => [relname, scans]))
  )

describe("ten thousand and a million users", () => {
  it.live(
    "no operation, nor what a foreign key has the server do for it, reads a table from end to end",
    () =>
      Effect.forEach(sizes, (size) =>
        Effect.gen(function* () {
          const sql = sqlOf(size)
          let before = yield* reads(sql)
          for (const name of names) {
            // As often as it takes until a plan is for any parameters, and then on.
            for (const n of some(size, 8)) {
              const one = caseOf(name, n, size)
              // One that had nothing to do would say nothing.
              assert.strictEqual(yield* answerOf(sql, one), one.answer ?? 1, name)
            }
            const after = yield* reads(sql)
            for (const table of caseOf(name, 1, size).wholly ?? []) before.set(table, after.get(table) ?? 0)
            assert.deepStrictEqual(after, before, name)
            before = after
          }
          // Else the above says nothing.
          yield* sql`select count(refresh_hash) from cal_tokens.connection`
          assert.notDeepEqual(yield* reads(sql), before)
        })
      ),
    patience
  )

  it.live(
    "every operation touches as many pages among a million users as among ten thousand",
    () =>
      Effect.gen(function* () {
        const table = yield* Effect.forEach(names, (name) =>
          Effect.map(Effect.all([pages(name, small), pages(name, large)]), ([few, many]) => ({ name, few, many }))
        )
        console.log(table.map(({ few, many, name }) => `${name}: ${few} → ${many} pages`).join("\n"))
        assert.isAtLeast(table.length, 30)
        assert.deepStrictEqual(
          table.filter(({ few, many }) => !isFlat(few, many)),
          []
        )
      }),
    patience
  )

  it.live(
    "a missing index is noticed",
    () =>
      Effect.gen(function* () {
        const key = "alter table cal_tokens.access_token_lookup drop constraint access_token_lookup_pkey"
        for (const [text, name] of [
          ["drop index cal_tokens.access_token_lookup_user", "commit"],
          ["drop index cal_tokens.access_token_lookup_user", "disconnect"],
          ["drop index cal_tokens.cal_account_user", "connect, other account"],
          ["drop index cal_tokens.due_visit", "claimDue, nothing due"],
          [key, "findByAccessToken"]
        ] as const) {
          const dropped = { text, parameters: [] }
          const [few = 0, many = 0] = yield* Effect.forEach(sizes, (size) =>
            pagesOf(sqlOf(size), caseOf(name, some(size, 1)[0] ?? 0, size), dropped)
          )
          assert.isFalse(isFlat(few, many), `${name} after "${text}": ${few} → ${many} pages`)
        }
      }),
    patience
  )

  it.live(
    "users to reconnect, who are few among many, are found by an index of theirs",
    () =>
      Effect.gen(function* () {
        const sql = sqlOf(large)
        // Of this one alone: whoever plans looks where the others end, and is counted there.
        const scans = statistics<{ scans: number }>(
          sql,
          `select idx_scan::integer as scans from pg_stat_user_indexes
            where schemaname = 'cal_tokens' and indexrelname = 'connection_not_active'`
        )
        const [before] = yield* scans
        const after = some(large, 10)
        for (const n of after) {
          yield* answerOf(sql, caseOf("list, to reconnect", n, large))
          yield* answerOf(sql, caseOf("list, to reconnect, later page", n, large))
        }
        assert.deepStrictEqual(yield* scans, [{ scans: (before?.scans ?? 0) + 2 * after.length }])
      }),
    patience
  )

  // Printed only: a machine that is busy with something else is not wrong.
  it.live(
    "how long refreshes take",
    () =>
      Effect.gen(function* () {
        const sql = sqlOf(large)
        const updates = Effect.map(
          statistics<{ all: number; hot: number }>(
            sql,
            `select n_tup_upd::integer as all, n_tup_hot_upd::integer as hot
              from pg_stat_user_tables where schemaname = 'cal_tokens' and relname = 'connection'`
          ),
          ([row]) => row ?? { all: Number.NaN, hot: Number.NaN }
        )
        const before = yield* updates
        const [few, many] = yield* medians(
          yield* Effect.forEach(sizes, (size) => Effect.map(storageOf(size), (storage) => ({ size, storage })))
        )
        assert(few !== undefined && many !== undefined)
        const after = yield* updates
        const [all, hot] = [after.all - before.all, after.hot - before.hot]
        console.log(`${hot} of ${all} updates touched no index`)
        // A claim and a commit change what no index knows; only the connect before them does.
        assert.isAtLeast(hot / all, 0.6)
        for (const name of ["find", "refresh"] as const) {
          const ratio = (many[name] / few[name]).toFixed(2)
          console.log(`${name}: ${few[name].toFixed(2)} ms → ${many[name].toFixed(2)} ms, ${ratio} times`)
        }
      }).pipe(Effect.scoped),
    patience
  )
})
