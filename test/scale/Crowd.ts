/**
 * Very many users whose tokens were refreshed within the last hour, as their histories tell: made by the server itself, for
 * pages that people read. Their pairs are no tokens, only as long, and nothing is due for them.
 */
import { SqlClient } from "@effect/sql"
import { Effect, Schema } from "effect"
import { UserUlid } from "../../src/Token.js"

const prefix = "01JQ"

/** The n-th user. */
export const user = (n: number): UserUlid => Schema.decodeSync(UserUlid)(prefix + n.toString().padStart(22, "0"))

export interface Clients {
  readonly managed: { readonly clientId: string }
  readonly oauth2: { readonly clientId: string }
}

/** Numbers at Cal.com that the simulator gives to nobody. */
const firstCalUser = 10_000_000

/** Users 1 to `count`, of whom one in `reconnects` has to reconnect; in one transaction, without checking their foreign keys. */
export const fill = (count: number, reconnects: number, { managed, oauth2 }: Clients) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    yield* sql.withTransaction(
      Effect.gen(function* () {
        yield* sql`set local session_replication_role = replica`
        yield* sql`set local synchronous_commit = off`
        yield* sql`select setseed(0.5)`
        // When each was refreshed last, what that took, and what became of it.
        yield* sql`
          create temporary table crowd on commit drop as
          select n, ${prefix}::text || lpad(n::text, 22, '0') as user_ulid,
            case n % 3 when 0 then 'OAuth2' else 'ManagedUser' end as kind,
            case n % 3 when 0 then ${oauth2.clientId}::text else ${managed.clientId}::text end as client_id,
            n % ${reconnects}::integer <> 0 as is_active,
            (extract(epoch from clock_timestamp()) * 1000)::bigint - (random() * 3500000)::bigint as at,
            (120 - 90 * ln(1 - random()))::integer as took,
            case when random() < 0.7 then 'ahead' when random() < 0.9 then 'asked' else 'refused' end as trigger,
            encode(sha256(('refresh-' || n)::bytea), 'hex') as refresh_hash
          from generate_series(1, ${count}::integer) n`
        yield* sql`
          insert into cal_tokens.connection (user_ulid, kind, client_id, cal_user_id, scope, pair, refresh_hash,
            access_token_expires_at, version, sessions_after, status, cause, since, updated_at)
          select user_ulid, kind, client_id, ${firstCalUser}::bigint + n,
            case kind when 'OAuth2' then 'PROFILE_READ BOOKING_READ' end, 'v1.k1.' || repeat('x', 400), refresh_hash,
            case when is_active then at + 3600000 else at end, nextval('cal_tokens.version'), 0,
            case when is_active then 'active' else 'reauthorization_required' end,
            case when not is_active then (array['revoked', 'rotationLost', 'calUserGone'])[1 + n % 3] end,
            case when not is_active then at end, at
          from crowd order by user_ulid`
        yield* sql`
          insert into cal_tokens.cal_account (kind, client_id, cal_user_id, user_ulid)
          select kind, client_id, cal_user_id, user_ulid from cal_tokens.connection
          where user_ulid like ${`${prefix}%`} order by 1, 2, 3`
        // Nobody used them for long, so nothing is to be done for them.
        yield* sql`
          insert into cal_tokens.due (user_ulid, client_id, ends_at, ahead_at)
          select user_ulid, client_id, access_token_expires_at, access_token_expires_at
          from cal_tokens.connection where user_ulid like ${`${prefix}%`} order by 1`
        yield* sql`
          insert into cal_tokens.history (user_ulid, at, written, event)
          select user_ulid, at, case when is_active then 'stored' else 'recorded' end, jsonb_strip_nulls(jsonb_build_object(
            '_tag', 'Attempt', 'process', 'p' || n % 4, 'purpose', 'refresh', 'trigger', trigger, 'took', took,
            'steps', jsonb_build_array(jsonb_build_object('as', 'own', 'token', left(refresh_hash, 8),
              'answer', case when is_active then 'granted' else 'rejected' end, 'status', case when is_active then 200 else 400 end,
              'refusal', case when not is_active then 'revoked' end)),
            'end', case when is_active then 'granted' else 'terminal' end,
            'brought', case when is_active then md5(n::text)::varchar(8) end))
          from crowd order by at`
      })
    )
    for (const table of ["connection", "cal_account", "due", "history"] as const) {
      yield* sql`vacuum (analyze) cal_tokens.${sql.literal(table)}`
    }
  })
