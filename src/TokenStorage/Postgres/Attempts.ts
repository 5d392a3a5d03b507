/** What was tried for users lately, for whoever operates the service. No tokens: rows that no key opens are told of, too. */
import { SqlClient } from "@effect/sql"
import { Context, Duration, Effect, Layer } from "effect"
import type { UserUlid } from "../../Token.js"
import type { StorageUnavailable } from "../../TokenError.js"
import * as Sql from "./Sql.js"

const timeout = Duration.seconds(30)

/** Instants are milliseconds since the epoch, by the storage's clock. */
export interface Tried {
  /** When a refresh last stored a pair, as far as the user's history reaches back. */
  readonly lastRefreshAt?: number | undefined
  /** The tag of the failure that the last attempt ended with. */
  readonly lastError?: string | undefined
  /** Until then nobody begins another one. */
  readonly nextAttemptAt?: number | undefined
}

export class Attempts extends Context.Tag("cal-tokens/Attempts")<
  Attempts,
  (users: ReadonlyArray<UserUlid>) => Effect.Effect<ReadonlyMap<string, Tried>, StorageUnavailable>
>() {}

interface Columns {
  readonly user_ulid: string
  readonly last_refresh_at: string | number | null
  readonly last_error: string | null
  readonly next_attempt_at: string | number | null
}

export const layer: Layer.Layer<Attempts, never, SqlClient.SqlClient> = Layer.scoped(
  Attempts,
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const run = yield* Sql.make
    return (users) =>
      run(
        sql<Columns>`
          select
            user_ulid,
            (
              select max(h.at) from cal_tokens.history h
              where h.user_ulid = c.user_ulid and h.written = 'stored' and h.event ->> '_tag' in ('Attempt', 'Read')
            ) as last_refresh_at,
            last_error ->> '_tag' as last_error,
            nullif(greatest(next_attempt_at, probe_not_before, lease_until, 0), 0) as next_attempt_at
          from cal_tokens.connection c
          where user_ulid in ${sql.in(users)}`,
        { operation: "attempts", timeout }
      ).pipe(
        Effect.map(
          (rows) =>
            new Map(
              rows.map((row) => [
                row.user_ulid,
                {
                  lastRefreshAt: instantOf(row.last_refresh_at),
                  lastError: row.last_error ?? undefined,
                  nextAttemptAt: instantOf(row.next_attempt_at)
                }
              ])
            )
        )
      )
  })
)

const instantOf = (at: string | number | null) => (at === null ? undefined : Number(at))
