/**
 * The flows on PostgreSQL and on PGlite, each call one statement, so that PgBouncer in transaction mode will do. Codes
 * and verifiers are sealed and bound to their user; a row that cannot be opened is used up all the same.
 */
import type { SqlClient } from "@effect/sql"
import { Duration, Effect, Layer, Option, type Redacted, type Scope } from "effect"
import type { UserUlid } from "../../Token.js"
import type { StorageUnavailable } from "../../TokenError.js"
import { KeyRing } from "../../KeyRing.js"
import * as Call from "./Call.js"
import * as Migrations from "./Migrations.js"
import { FlowStorage, lifetime } from "../../FlowStorage.js"

interface Columns {
  readonly user_ulid: UserUlid
  readonly return_to: string | null
  readonly replaces: boolean
  readonly code_verifier: string | null
}

/** So many expired flows are removed at a time, which keeps a write short and the table small. */
const purgeBatch = 100

/** The storage's instant, as the parameter of this number. */
const instant = (parameter: number) => `coalesce($${parameter}::bigint, ${databaseNow})`
const databaseNow = "floor(extract(epoch from clock_timestamp()) * 1000)::bigint"

const lifetimeMillis = Duration.toMillis(lifetime)

const begin = `
  with expired as (
    select f.state_hash from cal_tokens.connect_flow f where f.expires_at <= ${instant(6)}
    order by f.expires_at limit ${purgeBatch} for update skip locked
  ), purged as (
    delete from cal_tokens.connect_flow f using expired e where f.state_hash = e.state_hash
  )
  insert into cal_tokens.connect_flow as f (state_hash, user_ulid, return_to, replaces, code_verifier, expires_at)
  values ($1, $2, $3, $4, $5, ${instant(6)} + ${lifetimeMillis})
  returning f.expires_at::float8 as expires_at`

const find = `
  select f.user_ulid, f.return_to from cal_tokens.connect_flow f
  where f.state_hash = $1 and f.completion_hash is null and f.expires_at > ${instant(2)}`

const take = `
  with taken as (
    delete from cal_tokens.connect_flow f where f.state_hash = $1 and f.completion_hash is null returning f.*
  )
  select t.user_ulid, t.return_to, t.replaces, t.code_verifier from taken t where t.expires_at > ${instant(2)}`

const keep = `
  update cal_tokens.connect_flow f
  set code = $3, completion_hash = $4, expires_at = ${instant(5)} + ${lifetimeMillis}
  where f.state_hash = $1 and f.user_ulid = $2 and f.expires_at > ${instant(5)} and f.completion_hash is null
  returning f.user_ulid`

const complete = `
  with taken as (
    delete from cal_tokens.connect_flow f where f.completion_hash = $1 returning f.*
  )
  select t.user_ulid, t.return_to, t.replaces, t.code_verifier, t.code from taken t where t.expires_at > ${instant(2)}`

export const make = (
  options: Call.Options = {}
): Effect.Effect<(typeof FlowStorage)["Service"], never, SqlClient.SqlClient | KeyRing | Scope.Scope> =>
  Effect.gen(function* () {
    const keys = yield* KeyRing
    const { statement } = yield* Call.make(options)
    const statements = {
      begin: statement<{ readonly expires_at: number }>("connectFlow.begin", begin),
      find: statement<Pick<Columns, "user_ulid" | "return_to">>("connectFlow.find", find),
      take: statement<Columns>("connectFlow.take", take),
      keep: statement("connectFlow.keep", keep),
      complete: statement<Columns & { readonly code: string }>("connectFlow.complete", complete)
    }

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
          const [row] = yield* statements.begin([stateHash, userUlid, returnTo ?? null, replace, verifier], "now")
          return row?.expires_at ?? 0
        }),

      find: (stateHash) =>
        Effect.map(statements.find([stateHash], "now"), ([row]) =>
          Option.map(Option.fromNullable(row), ({ return_to, user_ulid: userUlid }) => ({
            userUlid,
            ...(return_to === null ? {} : { returnTo: return_to })
          }))
        ),

      take: (stateHash) =>
        Effect.flatMap(statements.take([stateHash], "now"), ([row]) =>
          row === undefined ? Effect.succeedNone : Effect.asSome(flowOf(row))
        ),

      keep: ({ code, completionHash, stateHash, userUlid }) =>
        Effect.gen(function* () {
          const sealed = yield* seal(userUlid, code)
          const rows = yield* statements.keep([stateHash, userUlid, sealed, completionHash], "now")
          return rows.length > 0
        }),

      complete: (completionHash) =>
        Effect.flatMap(statements.complete([completionHash], "now"), ([row]) =>
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
  options: Call.Options = {}
): Layer.Layer<FlowStorage, StorageUnavailable, SqlClient.SqlClient | KeyRing> =>
  Layer.provide(Layer.scoped(FlowStorage, make(options)), Migrations.layer)
