/** What a call costs the database: the pages it touches. */
import type { SqlClient, SqlError } from "@effect/sql"
import { Effect } from "effect"
import { type Call, callOf } from "./Calls.js"
import type { Case } from "./Operations.js"

interface Explained {
  readonly "QUERY PLAN": readonly [
    { readonly Plan: { readonly "Shared Hit Blocks": number; readonly "Shared Read Blocks": number } }
  ]
}

/**
 * How often a call looks into a page, in PostgreSQL's memory or fetched into it, with all that its function does. `first`:
 * what the same transaction begins with.
 */
export const pagesOf = (sql: SqlClient.SqlClient, one: Case, first?: Call) =>
  Effect.gen(function* () {
    const { parameters, text } = yield* callOf(one.operation)
    const explained = { text: `explain (analyze, buffers, format json) ${text}`, parameters }
    const [row] = yield* rolledBack(sql, one, run<Explained>(sql, explained), first)
    if (row === undefined) return yield* Effect.dieMessage("no plan")
    const [{ Plan }] = row["QUERY PLAN"]
    return Plan["Shared Hit Blocks"] + Plan["Shared Read Blocks"]
  })

/** The verdict that is answered, or whether something was recorded, or how many rows there are. */
export const answerOf = (sql: SqlClient.SqlClient, one: Case) =>
  Effect.gen(function* () {
    const call = yield* callOf(one.operation)
    const rows = yield* rolledBack(sql, one, run<{ readonly verdict?: string; readonly recorded?: boolean }>(sql, call))
    return rows[0]?.verdict ?? rows[0]?.recorded ?? rows.length
  })

const run = <A extends object>(sql: SqlClient.SqlClient, { parameters, text }: Call) => sql.unsafe<A>(text, parameters)

/** After what has to have happened before, in a transaction that leaves nothing behind. */
const rolledBack = <A>(
  sql: SqlClient.SqlClient,
  { after = [] }: Case,
  effect: Effect.Effect<A, SqlError.SqlError>,
  first?: Call
) =>
  Effect.gen(function* () {
    const before = yield* Effect.forEach(after, callOf)
    yield* Effect.forEach(first === undefined ? before : [first, ...before], (call) => run(sql, call), {
      discard: true
    })
    const answer = yield* effect
    return yield* Effect.fail({ _tag: "RolledBack" as const, answer })
  }).pipe(
    sql.withTransaction,
    Effect.catchTag("RolledBack", ({ answer }) => Effect.succeed(answer))
  )
