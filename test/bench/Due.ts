/** What is due among many users: a claim of 500 of a million takes about as long as one of ten thousand. */
import { SqlClient } from "@effect/sql"
import { Duration, Effect, Layer, ManagedRuntime, Redacted } from "effect"
import * as Migrations from "../../src/TokenStorage/Postgres/Migrations.js"
import * as Postgres from "../../src/TokenStorage/Postgres.js"
import { layerKeys } from "../support/Keys.js"
import { makeServer } from "../support/PostgresServer.js"
import { median, roundsOf, type Row } from "./Row.js"

const batch = 500
const rounds = roundsOf(9)

/** Users that are all due and used; only as much of each row as a claim looks at. */
const fill = (users: number) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    yield* sql.withTransaction(
      Effect.gen(function* () {
        // Nothing is referred to that is not there.
        yield* sql`set local session_replication_role = replica`
        yield* sql`
          insert into cal_tokens.connection (user_ulid, kind, client_id, cal_user_id, pair, refresh_hash,
            access_token_expires_at, version, sessions_after, updated_at)
          select '01' || lpad(n::text, 24, '0'), 'ManagedUser', 'client', n, 'v1.k1.' || repeat('x', 100),
            n::text, 4000000000000, n, 0, 0
          from generate_series(1, ${users}::integer) n`
        yield* sql`
          insert into cal_tokens.due (user_ulid, client_id, ends_at, visit_at, ahead_at, used_at)
          select user_ulid, client_id, access_token_expires_at, version, version, 1 from cal_tokens.connection order by 1`
      })
    )
    yield* sql`vacuum (analyze) cal_tokens.connection`
    yield* sql`vacuum (analyze) cal_tokens.due`
    yield* sql`checkpoint`
  })

/** A server of its own with so many users: how long the next claim takes, in ms. Each finds others. */
const make = async (users: number) => {
  const server = await makeServer()
  const runtime = ManagedRuntime.make(
    Layer.merge(Postgres.layerConnection({ url: Redacted.make(server.url) }), layerKeys())
  )
  await runtime.runPromise(Effect.zipRight(Migrations.migrate, fill(users)))
  const claim = Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    // What is opened of it is not the database's time.
    const call = sql.unsafe<{ readonly verdict: string | null }>(
      "select verdict from cal_tokens.claim_due_1('client', 'one', 30000, $1, 1000000000, 0, $2, 30000, 3, to_jsonb(array['k1']), null)",
      [batch, Duration.toMillis("1 hour")]
    )
    const [took, rows] = yield* Effect.timed(call)
    if (rows.filter(({ verdict }) => verdict === "Claimed").length !== batch)
      yield* Effect.dieMessage("nothing was due")
    return Duration.toMillis(took)
  })
  return {
    claim: () => runtime.runPromise(claim),
    close: async () => {
      await runtime.dispose()
      await server.remove()
    }
  }
}

const row: Row = {
  name: "claim-due",
  figure: `× the time of a claim of ${batch} users of 10,000, of 1,000,000`,
  target: 1.5,
  measure: async () => {
    const [few, many] = await Promise.all([make(10_000), make(1_000_000)])
    const took = { few: new Array<number>(), many: new Array<number>() }
    for (let round = -3; round < rounds; round++) {
      const each = { few: await few.claim(), many: await many.claim() }
      if (round < 0) continue
      took.few.push(each.few)
      took.many.push(each.many)
    }
    await Promise.all([few.close(), many.close()])
    return median(took.many) / median(took.few)
  }
}

export const rows: ReadonlyArray<Row> = [row]
