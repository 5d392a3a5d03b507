/** What was tried for users lately, for whoever operates the service. No tokens: rows that no key opens are told of, too. */
import { SqlClient } from "@effect/sql"
import { Context, Duration, Effect, Layer } from "effect"
import type { UserUlid } from "../../Token.js"
import type { StorageUnavailable } from "../../TokenError.js"
import * as Sql from "./Sql.js"

const timeout = Duration.seconds(30)

/** Instants are milliseconds since the epoch, by the storage's clock. */
export interface Tried {
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
            last_error ->> '_tag' as last_error,
            nullif(greatest(next_attempt_at, probe_not_before, lease_until, 0), 0) as next_attempt_at
          from cal_tokens.connection
          where user_ulid in ${sql.in(users)}`,
        { operation: "attempts", timeout }
      ).pipe(
        Effect.map(
          (rows) =>
            new Map(
              rows.map(({ last_error: lastError, next_attempt_at: at, user_ulid: user }) => [
                user,
                { lastError: lastError ?? undefined, nextAttemptAt: at === null ? undefined : Number(at) }
              ])
            )
        )
      )
  })
)
