/**
 * The flows on PostgreSQL and on PGlite, each call one statement, so that PgBouncer in transaction mode will do. Codes
 * and verifiers are sealed and bound to their user; a row that cannot be opened is used up all the same.
 */
import { SqlClient, type Statement } from "@effect/sql"
import { Duration, Effect, Layer, Option, type Redacted } from "effect"
import type { UserUlid } from "../../Token.js"
import type { StorageUnavailable } from "../../TokenError.js"
import { KeyRing } from "../../KeyRing.js"
import * as Migrations from "./Migrations.js"
import type { Options } from "../Postgres.js"
import { run } from "./Sql.js"
import { FlowStorage, lifetime } from "../../FlowStorage.js"

interface Columns {
  readonly user_ulid: UserUlid
  readonly return_to: string | null
  readonly replaces: boolean
  readonly code_verifier: string | null
}

/** So many expired flows are removed at a time, which keeps a write short and the table small. */
const purgeBatch = 100

const databaseNow = "floor(extract(epoch from clock_timestamp()) * 1000)::bigint"

export const make = (
  options: Pick<Options, "clock" | "statementTimeout"> = {}
): Effect.Effect<(typeof FlowStorage)["Service"], never, SqlClient.SqlClient | KeyRing> =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const keys = yield* KeyRing
    const timeout = Duration.decode(options.statementTimeout ?? Duration.seconds(5))
    const lifetimeMillis = Duration.toMillis(lifetime)

    const query = <A extends object>(
      operation: string,
      build: (now: Statement.Fragment) => Statement.Statement<A>
    ): Effect.Effect<ReadonlyArray<A>, StorageUnavailable> =>
      run(
        Effect.clockWith((clock) =>
          build(options.clock === "effect" ? sql`${clock.unsafeCurrentTimeMillis()}::bigint` : sql.literal(databaseNow))
        ),
        { operation: `connectFlow.${operation}`, timeout }
      )

    const seal = (userUlid: UserUlid, text: Redacted.Redacted) => keys.seal({ userUlid, purpose: "oauth-code" }, text)
    const open = (userUlid: UserUlid, envelope: string) => keys.open({ userUlid, purpose: "oauth-code" }, envelope)

    const flowOf = (row: Columns) =>
      Effect.gen(function* () {
        const { code_verifier: verifier, replaces, return_to, user_ulid: userUlid } = row
        return {
          userUlid,
          replace: replaces,
          ...(return_to === null ? {} : { returnTo: return_to }),
          ...(verifier === null ? {} : { codeVerifier: yield* open(userUlid, verifier) })
        }
      })

    return FlowStorage.of({
      begin: (stateHash, { codeVerifier, replace, returnTo, userUlid }) =>
        Effect.gen(function* () {
          const verifier = codeVerifier === undefined ? null : yield* seal(userUlid, codeVerifier)
          const [row] = yield* query(
            "begin",
            (now) => sql<{ readonly expires_at: number }>`
              with expired as (
                select f.state_hash from cal_tokens.connect_flow f where f.expires_at <= ${now}
                order by f.expires_at limit ${sql.literal(String(purgeBatch))} for update skip locked
              ), purged as (
                delete from cal_tokens.connect_flow f using expired e where f.state_hash = e.state_hash
              )
              insert into cal_tokens.connect_flow as f
                (state_hash, user_ulid, return_to, replaces, code_verifier, expires_at)
              values (${stateHash}, ${userUlid}, ${returnTo ?? null}, ${replace}, ${verifier},
                ${now} + ${lifetimeMillis}::bigint)
              returning f.expires_at::float8 as expires_at`
          )
          return row?.expires_at ?? 0
        }),

      find: (stateHash) =>
        Effect.map(
          query(
            "find",
            (now) => sql<Pick<Columns, "user_ulid" | "return_to">>`
              select f.user_ulid, f.return_to from cal_tokens.connect_flow f
              where f.state_hash = ${stateHash} and f.completion_hash is null and f.expires_at > ${now}`
          ),
          ([row]) =>
            Option.map(Option.fromNullable(row), ({ return_to, user_ulid: userUlid }) => ({
              userUlid,
              ...(return_to === null ? {} : { returnTo: return_to })
            }))
        ),

      take: (stateHash) =>
        Effect.flatMap(
          query(
            "take",
            (now) => sql<Columns>`
              with taken as (
                delete from cal_tokens.connect_flow f
                where f.state_hash = ${stateHash} and f.completion_hash is null returning f.*
              )
              select t.user_ulid, t.return_to, t.replaces, t.code_verifier from taken t where t.expires_at > ${now}`
          ),
          ([row]) => (row === undefined ? Effect.succeedNone : Effect.asSome(flowOf(row)))
        ),

      keep: ({ code, completionHash, stateHash, userUlid }) =>
        Effect.gen(function* () {
          const sealed = yield* seal(userUlid, code)
          const rows = yield* query(
            "keep",
            (now) => sql`
              update cal_tokens.connect_flow f
              set code = ${sealed}, completion_hash = ${completionHash}, expires_at = ${now} + ${lifetimeMillis}::bigint
              where f.state_hash = ${stateHash} and f.user_ulid = ${userUlid} and f.expires_at > ${now}
                and f.completion_hash is null
              returning f.user_ulid`
          )
          return rows.length > 0
        }),

      complete: (completionHash) =>
        Effect.flatMap(
          query(
            "complete",
            (now) => sql<Columns & { readonly code: string }>`
              with taken as (
                delete from cal_tokens.connect_flow f where f.completion_hash = ${completionHash} returning f.*
              )
              select t.user_ulid, t.return_to, t.replaces, t.code_verifier, t.code from taken t
              where t.expires_at > ${now}`
          ),
          ([row]) =>
            row === undefined
              ? Effect.succeedNone
              : Effect.asSome(
                  Effect.zipWith(flowOf(row), open(row.user_ulid, row.code), (flow, code) => ({ ...flow, code }))
                )
        )
    })
  })

/**
 * The flows on the `SqlClient` at hand, beside the token storage and with the same options. The schema is brought up to
 * date first.
 */
export const layer = (
  options: Options = {}
): Layer.Layer<FlowStorage, StorageUnavailable, SqlClient.SqlClient | KeyRing> =>
  Layer.provide(Layer.effect(FlowStorage, make(options)), Migrations.layerWith(options))
