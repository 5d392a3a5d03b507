/**
 * The flows on PostgreSQL and on PGlite, each statement a transaction of its own, so that PgBouncer in transaction mode
 * will do. A flow is one envelope that is bound to its state's hash; it holds the hash of its completion too. A row whose
 * envelope does not open, or names another completion, is somebody's forgery or under a lost key: it is as if it were not
 * there. An envelope is written over the one that was read, or not at all. States and completions carry their time and a
 * MAC: those that somebody made up, or kept for too long, cost no statement.
 */
import type { SqlClient } from "@effect/sql"
import { Clock, Duration, Effect, Layer, Option, Redacted, Schema, type Scope, Struct } from "effect"
import { hash, UserUlid } from "../../Token.js"
import type { StorageUnavailable } from "../../TokenError.js"
import { KeyRing } from "../../KeyRing.js"
import * as Call from "./Call.js"
import * as Migrations from "./Migrations.js"
import { FlowStorage, lifetime, longest } from "../../FlowStorage.js"

interface Columns {
  readonly state_hash: string
  readonly envelope: string
}

const Secret = Schema.Redacted(Schema.String)

/** What an envelope holds. The code is there until it is handed out. */
const Content = Schema.Struct({
  userUlid: Schema.typeSchema(UserUlid),
  clientId: Schema.String,
  returnTo: Schema.optional(Schema.String),
  replace: Schema.Boolean,
  codeVerifier: Schema.optional(Secret),
  returned: Schema.optional(
    Schema.Struct({ code: Schema.optional(Secret), codeHash: Schema.String, completionHash: Schema.String })
  )
})
type Content = typeof Content.Type

const Text = Schema.parseJson(Content)
const encode = Schema.encodeSync(Text)
const decode = Schema.decodeOption(Text)

/** So many expired flows are removed at a time, which keeps a write short and the table small. */
const purgeBatch = 100

/** The storage's instant, as the parameter of this number. */
const instant = (parameter: number) => `coalesce($${parameter}::bigint, ${databaseNow})`
const databaseNow = "floor(extract(epoch from clock_timestamp()) * 1000)::bigint"

const lifetimeMillis = Duration.toMillis(lifetime)
const longestMillis = Duration.toMillis(longest)

const begin = `
  with expired as (
    select f.state_hash from cal_tokens.connect_flow f where f.expires_at <= ${instant(3)}
    order by f.expires_at limit ${purgeBatch} for update skip locked
  ), purged as (
    delete from cal_tokens.connect_flow f using expired e where f.state_hash = e.state_hash
  )
  insert into cal_tokens.connect_flow as f (state_hash, envelope, expires_at)
  values ($1, $2, ${instant(3)} + ${lifetimeMillis})
  returning f.expires_at::float8 as expires_at`

const find = `
  select f.state_hash, f.envelope from cal_tokens.connect_flow f
  where f.state_hash = $1 and f.expires_at > ${instant(2)}`

const take = `
  with taken as (
    delete from cal_tokens.connect_flow f where f.state_hash = $1 and f.completion_hash is null returning f.*
  )
  select t.state_hash, t.envelope from taken t where t.expires_at > ${instant(2)}`

const findCompletion = `
  select f.state_hash, f.envelope from cal_tokens.connect_flow f
  where f.completion_hash = $1 and f.expires_at > ${instant(2)}`

const replace = `
  update cal_tokens.connect_flow f
  set envelope = $3, completion_hash = $4,
    expires_at = case when f.completion_hash is null then ${instant(5)} + ${lifetimeMillis} else f.expires_at end
  where f.state_hash = $1 and f.envelope = $2 and f.expires_at > ${instant(5)}
  returning f.state_hash`

/**
 * The storage of flows without a layer. Its schema has to be up to date.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  options: Call.Options = {}
): Effect.Effect<(typeof FlowStorage)["Service"], never, SqlClient.SqlClient | KeyRing | Scope.Scope> =>
  Effect.gen(function* () {
    const keys = yield* KeyRing
    const { statement } = yield* Call.make(options)
    const statements = {
      begin: statement<{ readonly expires_at: number }>("connectFlow.begin", begin),
      find: statement<Columns>("connectFlow.find", find),
      take: statement<Columns>("connectFlow.take", take),
      findCompletion: statement<Columns>("connectFlow.findCompletion", findCompletion),
      replace: statement("connectFlow.replace", replace)
    }

    const seal = (stateHash: string, content: Content) => keys.sealFlow(stateHash, Redacted.make(encode(content)))

    /** Writes what came back into the row that was read; `false` if that is another one by now. */
    const write = (
      { envelope, state_hash: stateHash }: Columns,
      content: Content & { readonly returned: { readonly completionHash: string } }
    ) =>
      Effect.gen(function* () {
        const next = yield* seal(stateHash, content)
        const rows = yield* statements.replace([stateHash, envelope, next, content.returned.completionHash], "now")
        return rows.length > 0
      })

    /** What a row holds, if it was written by somebody with a key and for this state. */
    const open = (row: Columns | undefined): Effect.Effect<Option.Option<Content>> =>
      Effect.gen(function* () {
        if (row === undefined) return Option.none()
        const text = yield* keys.openFlow(row.state_hash, row.envelope)
        const content = Option.flatMap(text, (json) => decode(Redacted.value(json)))
        if (Option.isNone(content)) {
          yield* Effect.logWarning(
            "A row of cal_tokens.connect_flow does not open: it was altered, or its key is not configured"
          )
        }
        return content
      })

    return FlowStorage.of({
      sign: (secret) =>
        Effect.map(Clock.currentTimeMillis, (now) => {
          const text = `${Redacted.value(secret)}~${Math.floor(now / 1000).toString(36)}`
          return Redacted.make(`${text}.${keys.mac("flow", text)}`)
        }),

      isSigned: (signed) =>
        Effect.map(Clock.currentTimeMillis, (now) => {
          const [text = "", mac = "", ...rest] = Redacted.value(signed).split(".", 3)
          const madeAt = Number.parseInt(text.split("~")[1] ?? "", 36) * 1000
          return rest.length === 0 && now - madeAt < longestMillis && keys.verify("flow", text, mac)
        }),

      begin: (stateHash, flow) =>
        Effect.gen(function* () {
          const envelope = yield* seal(stateHash, flow)
          const [row] = yield* statements.begin([stateHash, envelope], "now")
          return row?.expires_at ?? 0
        }),

      find: (stateHash) =>
        Effect.gen(function* () {
          const [row] = yield* statements.find([stateHash], "now")
          return Option.map(yield* open(row), ({ returned, ...flow }) => ({
            ...flow,
            codeHash: returned?.codeHash,
            isOver: returned !== undefined && returned.code === undefined,
            revision: row?.envelope ?? ""
          }))
        }),

      take: (stateHash) =>
        Effect.gen(function* () {
          const [row] = yield* statements.take([stateHash], "now")
          return Option.map(
            Option.filter(yield* open(row), ({ returned }) => returned === undefined),
            Struct.omit("returned")
          )
        }),

      keep: ({ code, completionHash, flow, stateHash }) =>
        flow.isOver
          ? Effect.succeed(false)
          : write(
              { state_hash: stateHash, envelope: flow.revision },
              { ...flow, returned: { code, codeHash: hash(code), completionHash } }
            ),

      complete: Effect.fnUntraced(function* (completionHash) {
        // Whoever seals the row anew meanwhile changes nothing but its envelope.
        for (let looks = 3; looks > 0; looks--) {
          const [row] = yield* statements.findCompletion([completionHash], "now")
          const content = Option.getOrUndefined(yield* open(row))
          if (row === undefined || content?.returned?.completionHash !== completionHash) return Option.none()
          const { returned, ...flow } = content
          const { code, codeHash } = returned
          if (code === undefined) return Option.none()
          if (yield* write(row, { ...flow, returned: { codeHash, completionHash } }))
            return Option.some({ ...flow, code })
        }
        return Option.none()
      })
    })
  })

/**
 * The flows on the `SqlClient` at hand, beside the token storage and with the same options. The schema is brought up to
 * date first.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (
  options: Call.Options = {}
): Layer.Layer<FlowStorage, StorageUnavailable, SqlClient.SqlClient | KeyRing> =>
  Layer.provide(Layer.scoped(FlowStorage, make(options)), Migrations.layer)
