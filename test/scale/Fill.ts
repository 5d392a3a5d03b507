/**
 * Databases with as many users as a test asks for, made by the server itself: the pairs are not tokens, only as long.
 */
import { SqlClient } from "@effect/sql"
import { Effect, Redacted, Schema } from "effect"
import { type Connection, hash, UserUlid } from "../../src/Token.js"

/** The n-th user, its account, the hashes of its tokens and what is to be told of it, as {@link fill} makes them. */
export const user = (n: number) => {
  const userUlid = Schema.decodeSync(UserUlid)(`01${n.toString().padStart(24, "0")}`)
  const connection: Connection = { _tag: "ManagedUser", clientId: "platform", calUserId: n }
  return {
    userUlid,
    connection,
    refreshHash: hash(Redacted.make(`refresh-${n}`)),
    transition: `00000000-0000-4000-8000-${n.toString().padStart(12, "0")}`
  }
}

/** When the users were used that are. */
export const dueUsedAt = 1_000_000_000

/** Users 1 to `count`, of whom each fiftieth has to reconnect; in one transaction, without checking their foreign keys. */
export const fill = (count: number) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const now = sql.literal("(extract(epoch from clock_timestamp()) * 1000)::bigint")
    yield* sql.withTransaction(
      Effect.gen(function* () {
        yield* sql`set local session_replication_role = replica`
        yield* sql`
          insert into cal_tokens.connection (user_ulid, kind, client_id, cal_user_id, pair, refresh_hash,
            access_token_expires_at, version, sessions_after, status, cause, since, updated_at)
          select '01' || lpad(n::text, 24, '0'), 'ManagedUser', 'platform', n, 'v1.k1.' || repeat('x', 400),
            encode(sha256(('refresh-' || n)::bytea), 'hex'),
            4000000000000, nextval('cal_tokens.version'), 0, case n % 50 when 0 then 'reauthorization_required' else 'active' end,
            case n % 50 when 0 then 'revoked' end, case n % 50 when 0 then 0 end, 0
          from generate_series(1, ${count}::integer) n`
        yield* sql`
          insert into cal_tokens.cal_account (kind, client_id, cal_user_id, user_ulid)
          select kind, client_id, cal_user_id, user_ulid from cal_tokens.connection order by cal_user_id`
        yield* sql`
          insert into cal_tokens.access_token_lookup (name, user_ulid)
          select left(encode(sha256(('name-' || version)::bytea), 'base64'), 43), user_ulid
          from cal_tokens.connection order by 1`
        // Each at a millisecond of its own; one in ten is used.
        yield* sql`
          insert into cal_tokens.due (user_ulid, client_id, ends_at, visit_at, ahead_at, used_at)
          select user_ulid, client_id, access_token_expires_at, case when status = 'active' and version % 10 = 7 then version end, version,
            case version % 10 when 7 then ${dueUsedAt}::bigint end
          from cal_tokens.connection order by 1`
        // As many changes as users, of the last twenty hours, by 500 transactions; the oldest are to be told of now, the others later.
        yield* sql`
          insert into cal_tokens.change (xid, at, user_ulid, kind, version, reauthorized)
          select (3 + n % 500)::text::xid8, ${now} - 72000000 + n * 72000000.0 / ${count}::integer,
            '01' || lpad(n::text, 24, '0'), 'refreshed', n, false
          from generate_series(1, ${count}::integer) n`
        yield* sql`
          insert into cal_tokens.transition (webhook_id, kind, user_ulid, at, cause, since, next_at)
          select ('00000000-0000-4000-8000-' || lpad(c.version::text, 12, '0'))::uuid, 'reauthorizationRequired',
            c.user_ulid, c.at, 'revoked', 0, c.at + 70000000
          from cal_tokens.change c order by c.id`
      })
    )
    // As a database is that has been up for a while. What else is removed meanwhile would be counted, too.
    const tables = ["connection", "cal_account", "access_token_lookup", "change", "transition", "due"] as const
    for (const table of tables) {
      yield* sql`alter table cal_tokens.${sql.literal(table)} set (autovacuum_enabled = off)`
      yield* sql`vacuum (analyze) cal_tokens.${sql.literal(table)}`
    }
  })
