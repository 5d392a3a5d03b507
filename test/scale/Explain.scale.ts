/**
 * No statement reads a table from end to end, and none gets dearer with the number of users: the same statements are
 * planned and run on ten thousand and on a million rows, on a plain table and on a partitioned one.
 */
import { SqlClient } from "@effect/sql"
import { assert, describe, it } from "@effect/vitest"
import { Context, Duration, Effect, Exit, Layer, Scope } from "effect"
import { afterAll, beforeAll } from "vitest"
import * as Migrations from "../../src/TokenStorage/Postgres/Migrations.js"
import * as Postgres from "../../src/TokenStorage/Postgres.js"
import { layerKeys } from "../support/Keys.js"
import { layerDatabase } from "../support/Postgres.js"
import { fill } from "./Fill.js"
import { everyOperation, medians } from "./Operations.js"
import { explain } from "./Plans.js"
import { claim, queries, type Reach } from "./Queries.js"

const small = 10_000
const large = 1_000_000
const partitions = 16

/** At most so many times the cost, for a hundred times the rows: an index is a level deeper. */
const flat = 1.25

/** In ms; the tests say themselves what may not take long. */
const patience = 1_200_000

const forms = [
  { form: "plain", options: {} },
  { form: "partitioned", options: { partitions } }
] as const
type Form = (typeof forms)[number]["form"]

const scope = Effect.runSync(Scope.make())
const databases = new Map<string, Context.Context<SqlClient.SqlClient>>()

/** A database of so many users. */
const make = ({ form, options }: (typeof forms)[number], size: number) =>
  Effect.gen(function* () {
    // One connection: it tells what it read when it is asked, others would later.
    const context = yield* Layer.buildWithScope(layerDatabase({ poolSize: 1 }), scope)
    databases.set(`${form} ${size}`, context)
    const made = Effect.zipRight(Migrations.migrateWith(options), fill(size))
    const [took] = yield* Effect.provide(Effect.timed(made), context)
    const [row] = yield* Effect.provide(bytes, context)
    console.log(`${form}, ${size} users: made in ${Duration.format(took)}, ${row?.size} with indexes`)
  })

// Nothing is measured yet, so all of them at once.
beforeAll(
  () =>
    Effect.runPromise(
      Effect.forEach(
        [small, large].flatMap((size) => forms.map((form) => ({ form, size }))),
        ({ form, size }) => make(form, size),
        { concurrency: "unbounded", discard: true }
      )
    ),
  patience
)
afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))

const sqlIn = (form: Form, size: number): SqlClient.SqlClient => {
  const built = databases.get(`${form} ${size}`)
  if (built === undefined) throw new Error("the database is not built")
  return Context.get(built, SqlClient.SqlClient)
}

for (const { form } of forms) {
  describe(`${form} connections`, () => {
    const sqlOf = (size: number) => sqlIn(form, size)

    it.live(
      "every statement finds its rows by index, at the same cost",
      () =>
        Effect.gen(function* () {
          const plans = yield* Effect.forEach([small, large], (size) =>
            Effect.all(
              Object.entries(queries(sqlOf(size), size)).map(([name, { statement }]) =>
                Effect.map(explain(sqlOf(size), statement), (plan) => ({ name, ...plan }))
              )
            )
          )
          const [few = [], many = []] = plans
          const table = few.map(({ cost, name, sequential }, index) => {
            const other = many[index]
            const ratio = (other?.cost ?? Infinity) / cost
            return { name, cost, large: other?.cost, ratio, sequential: [...sequential, ...(other?.sequential ?? [])] }
          })
          console.log(
            table
              .map(({ cost, large, name, ratio }) => `${form}: ${name}: ${cost} → ${large}, ${ratio.toFixed(2)} times`)
              .join("\n")
          )
          assert.isAtLeast(table.length, 20)
          // Users to reconnect are few among many: reading on until there is a page of them is no way to find them.
          const ofStatus = many.filter(({ name }) => name.includes("to reconnect"))
          assert.lengthOf(ofStatus, 2)
          if (form === "plain") {
            for (const { indexes } of ofStatus) assert.deepStrictEqual(indexes, ["connection_not_active"])
          }
          assert.deepStrictEqual(
            table.filter(({ ratio, sequential }) => ratio > flat || sequential.length > 0),
            []
          )
        }),
      patience
    )

    it.live(
      "no operation, nor what a foreign key has the server do for it, reads a table from end to end",
      () =>
        Effect.forEach([small, large], (size) =>
          Effect.gen(function* () {
            const sql = sqlOf(size)
            /** How often each table was read from end to end. */
            const reads = Effect.zipRight(
              sql`select pg_stat_force_next_flush()`,
              sql<{ relname: string; seq_scan: number }>`
              select relname, seq_scan::integer from pg_stat_user_tables
              where schemaname = 'cal_tokens' and relname <> 'migrations' order by relname`
            )
            const storage = yield* storageOf(sql)
            const before = yield* reads
            yield* everyOperation(storage, size)
            assert.deepStrictEqual(yield* reads, before)
            // Else the above says nothing.
            yield* sql`select count(refresh_hash) from cal_tokens.connection`
            assert.notDeepEqual(yield* reads, before)
          })
        ),
      patience
    )

    if (form === "partitioned") {
      it.live(
        "a statement about a user looks into that user's partition",
        () =>
          Effect.gen(function* () {
            const most: Record<Reach, number> = { own: 1, found: 1, two: 2, all: partitions, none: 0 }
            for (const size of [small, large]) {
              const sql = sqlOf(size)
              for (const [name, { reach, statement }] of Object.entries(queries(sql, size))) {
                if (typeof statement === "string") continue
                const run = explain(sql, statement, { run: reach === "found" || reach === "two" })
                const { partitions: touched, types } = yield* rolledBack(
                  sql,
                  Effect.zipRight(claim(sql, size / 2), run)
                )
                assert.isAtMost(touched.length, most[reach], name)
                if (reach === "none") continue
                if (name !== "connect" && name !== "connect, refused") assert.isAtLeast(touched.length, 1, name)
                // A page is put together from the partitions' own order, not sorted.
                if (size === large && reach === "all") {
                  assert.include(types, "Merge Append", name)
                  assert.notInclude(types, "Sort", name)
                }
              }
            }
          }),
        patience
      )
    }

    it.live(
      "a missing index is noticed",
      () =>
        Effect.gen(function* () {
          const sql = sqlOf(small)
          for (const [index, name] of [
            ["access_token_lookup_user", "commit"],
            ["access_token_lookup_user", "cascade to lookups"],
            ["cal_account_user", "connect"]
          ] as const) {
            const query = queries(sql, small)[name]
            assert(query !== undefined)
            const dropped = sql`drop index cal_tokens.${sql.literal(index)}`
            const plan = yield* rolledBack(sql, Effect.zipRight(dropped, explain(sql, query.statement)))
            assert.lengthOf(plan.sequential, 1, `${name} without ${index}`)
          }
        }),
      patience
    )

    // Printed only: a machine that is busy with something else is not wrong.
    it.live(
      "how long refreshes take",
      () =>
        Effect.gen(function* () {
          const databases = yield* Effect.forEach([small, large], (size) =>
            Effect.map(storageOf(sqlOf(size)), (storage) => ({ size, storage }))
          )
          const [few, many] = yield* medians(databases)
          assert(few !== undefined && many !== undefined)
          yield* sqlOf(large)`select pg_stat_force_next_flush()`
          const [updates] = yield* sqlOf(large)<{ all: number; hot: number }>`
          select sum(n_tup_upd)::integer as all, sum(n_tup_hot_upd)::integer as hot
          from pg_stat_user_tables where schemaname = 'cal_tokens' and relname like 'connection%'`
          assert(updates !== undefined)
          console.log(`${form}: ${updates.hot} of ${updates.all} updates touched no index`)
          // A claim and a commit change what no index knows; only the connect before them does.
          assert.isAtLeast(updates.hot / updates.all, 0.6)
          for (const name of ["find", "refresh"] as const) {
            const ratio = (many[name] / few[name]).toFixed(2)
            console.log(`${form}: ${name}: ${few[name].toFixed(2)} ms → ${many[name].toFixed(2)} ms, ${ratio} times`)
          }
        }),
      patience
    )
  })
}

const bytes = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) => sql<{ size: string }>`
    select pg_size_pretty(sum(pg_total_relation_size(c.oid))) as size from pg_class c
    where c.relnamespace = 'cal_tokens'::regnamespace and c.relkind = 'r'`
)

const storageOf = (sql: SqlClient.SqlClient) =>
  Effect.provide(Postgres.make(), Layer.merge(Layer.succeed(SqlClient.SqlClient, sql), layerKeys()))

/** Runs in a transaction that leaves nothing behind. */
const rolledBack = <A, E>(sql: SqlClient.SqlClient, effect: Effect.Effect<A, E>) =>
  Effect.gen(function* () {
    const results: Array<A> = []
    const kept = Effect.map(effect, (result) => results.push(result))
    yield* Effect.zipRight(kept, Effect.fail("roll back")).pipe(
      sql.withTransaction,
      Effect.catchIf(
        (error) => error === "roll back",
        () => Effect.void
      )
    )
    const [result] = results
    return result ?? (yield* Effect.dieMessage("no result"))
  })
