/**
 * The parts that the port's SQL statements are made of.
 */
import type { SqlClient, Statement } from "@effect/sql"
import type { Connection, UserUlid } from "../../Token.js"
import { maxFallbacks, supersededLookup } from "../../TokenStorage.js"
import { pruneBatch, retention, retentionSlack, transitionRetention } from "../ChangeLog.js"
import { millis } from "../Rows.js"

/** A pair as it is written: sealed, with what has to be compared or listed beside it. */
export interface Sealed {
  readonly envelope: string
  readonly refreshHash: string
  readonly accessHash: string
  readonly accessTokenExpiresAt: number
  readonly refreshTokenExpiresAt: number | null
}

/** The columns that readers get. Counts and instants come as numbers: the driver would make text of a `bigint`. */
export interface Columns {
  readonly user_ulid: UserUlid
  readonly kind: Connection["_tag"]
  readonly client_id: string
  readonly cal_user_id: number | null
  readonly scope: string | null
  readonly pair: string
  readonly fallbacks: ReadonlyArray<{ readonly hash: string; readonly pair: string }>
  readonly version: number
  readonly status: "active" | "reauthorization_required"
  readonly cause: string | null
  readonly since: number | null
  readonly updated_at: number
  readonly access_token_expires_at: number
  readonly refresh_token_expires_at: number | null
}

const asTheyAre = ["user_ulid", "kind", "client_id", "scope", "pair", "fallbacks", "status", "cause"]
const asNumbers = [
  "cal_user_id",
  "version",
  "since",
  "updated_at",
  "access_token_expires_at",
  "refresh_token_expires_at"
]

/** An empty attempt. */
export const closed = "attempt_id = null, lease_until = null, journal = null, probe_not_before = null"

/** Nothing is held against the row, though its attempts still count. */
export const unharmed = "consecutive_failures = 0, next_attempt_at = null, last_error = null"

/** A row as new. */
export const blank = `${closed}, ${unharmed}, attempt_started_at = null, window_started_at = null, attempts = 0,
  rejected_refresh_at = null, prior_started_at = null, prior_rejected_at = null`

/** Of a row that goes by the name of `c`; remembers what this ended. */
export const active = "status = 'active', cause = null, since = null, ended_cause = c.cause, ended_since = c.since"

/** What the log keeps of a row as it was written, under another kind of change if need be. */
export const change = (row: string, kind: string) =>
  `select ${row}.updated_at as at, ${row}.user_ulid, ${kind} as kind, ${row}.version, ${row}.cause, ${row}.since,
    ${row}.ended_cause, ${row}.ended_since from ${row}`

/** What the log keeps of a row that is gone, as `user_ulid, cause, since`. With it goes the need to reconnect. */
export const removal = (row: string, at: string) =>
  `select ${at} as at, ${row}.user_ulid, 'disconnected' as kind, null::bigint as version, null::text as cause,
    null::bigint as since, ${row}.cause as ended_cause, ${row}.since as ended_since from ${row}`

/** How long a superseded access token still names its user. */
export const lookupMillis = supersededLookup.minutes * 60_000

/** Where writes are told of. */
export const channel = "cal_tokens"

export const make = (sql: SqlClient.SqlClient, instant: () => Statement.Fragment) => {
  const raw = (text: string) => sql.literal(text)
  const json = (value: unknown) => sql`${JSON.stringify(value)}::jsonb`
  return {
    raw,
    json,

    /** The storage's instant in ms, evaluated where it stands. */
    now: instant,

    /** What {@link Columns} reads of a row, which is a table's name or an expression of the table's type. */
    columns: (row: string) =>
      raw(
        [
          ...asTheyAre.map((name) => `(${row}).${name}`),
          ...asNumbers.map((name) => `(${row}).${name}::float8 as ${name}`)
        ].join(", ")
      ),

    /**
     * Waits for the disk before the statement answers, whatever the server's default is: what is known to be written must
     * survive a crash. Stronger defaults stay. Belongs into what every written row returns.
     */
    durable: raw(`case when current_setting('synchronous_commit') in ('off', 'local', 'remote_write')
      then set_config('synchronous_commit', 'on', true) end as durable`),

    /**
     * Enters changes, a query made of `change` and `removal`, into the log, and whether a user has to reconnect from now
     * on, or no longer has to, among what is to be delivered. Old entries go as new ones come.
     */
    logged: (changes: Statement.Fragment) => sql`
      changes as (${changes}), logged as (
        insert into cal_tokens.change (at, user_ulid, kind, version, cause, since, reauthorized)
        select at, user_ulid, kind, version, cause, since, ended_since is not null from changes
      ), transitions as (
        insert into cal_tokens.transition (kind, user_ulid, at, cause, since, next_at)
        select case when ended_since is null then kind else 'reauthorized' end, user_ulid, at, coalesce(ended_cause, cause),
          coalesce(ended_since, since), at
        from changes where ended_since is not null or kind = 'reauthorizationRequired'
      ), ${raw(`${pruned("change", "id", millis(retention) + millis(retentionSlack))},
        ${pruned("transition", "id", millis(transitionRetention))}`)}`,

    /** The user's row, locked, and the instant at which the lock was held. */
    locked: (userUlid: UserUlid) => sql`
      held as materialized (
        select c as stored, c.* from cal_tokens.connection c where c.user_ulid = ${userUlid} for no key update
      ), locked as materialized (
        select held.*, ${instant()} as now from held
      )`,

    /** A pair that is the row's. */
    pair: ({ accessHash, accessTokenExpiresAt, envelope, refreshHash, refreshTokenExpiresAt }: Sealed) => sql`
      pair = ${envelope}, refresh_hash = ${refreshHash}, access_hash = ${accessHash},
      access_token_expires_at = ${accessTokenExpiresAt}::bigint,
      refresh_token_expires_at = ${refreshTokenExpiresAt}::bigint`,

    /** Fallbacks without the ones of some refresh tokens, newest first. */
    without: (fallbacks: string, dead: ReadonlyArray<string>, limit = maxFallbacks) => sql`(
      select coalesce(jsonb_agg(kept.entry order by kept.place), '[]'::jsonb) from (
        select f.entry, f.place from jsonb_array_elements(${raw(fallbacks)}) with ordinality as f (entry, place)
        where not ${json(dead)} ? (f.entry ->> 'hash') order by f.place limit ${raw(String(limit))}
      ) kept)`,

    /** Whether a row, of connections or of accounts, is about this Cal.com account. */
    accountOf: (row: string, { _tag, calUserId, clientId }: Connection) => sql`${raw(row)}.kind = ${_tag}
      and ${raw(row)}.client_id = ${clientId} and ${raw(row)}.cal_user_id = ${calUserId ?? null}::bigint`,

    /**
     * Keeps the accounts in step with `stored`, a user's row that may have moved on to another account, and `displaced`,
     * the users whose rows it took one from. An account is given up before it is taken. What others did since the
     * statement's start is invisible to a delete, but not to the keys: an account taken meanwhile is inserted once more,
     * in vain, and one that could not be given up refers to nothing; either fails the statement, which is then repeated.
     */
    accounts: raw(`
      given_up as (
        delete from cal_tokens.cal_account a
        using (select user_ulid from stored union all select user_ulid from displaced) u, stored s
        where a.user_ulid = u.user_ulid and (a.kind, a.client_id, a.cal_user_id, a.user_ulid)
          is distinct from (s.kind, s.client_id, s.cal_user_id, s.user_ulid)
        returning 1
      ), taken as (
        insert into cal_tokens.cal_account as a (kind, client_id, cal_user_id, user_ulid)
        select s.kind, s.client_id, s.cal_user_id, s.user_ulid from stored s, (select count(*) from given_up) g
        where s.cal_user_id is not null
        on conflict (kind, client_id, cal_user_id) do update set user_ulid = a.user_ulid
          where a.user_ulid <> excluded.user_ulid
        returning a.kind, a.client_id, a.cal_user_id, a.user_ulid
      ), lost as (
        insert into cal_tokens.cal_account (kind, client_id, cal_user_id, user_ulid)
        select t.kind, t.client_id, t.cal_user_id, t.user_ulid from taken t join stored s on t.user_ulid <> s.user_ulid
      )`),

    /**
     * Keeps the lookups of access tokens in step with `stored`, the row that got a new pair. A displaced token stays known
     * for a while; with `displaced_access_hash` null the account changed, and all older ones are forgotten.
     */
    lookups: raw(`
      looked_up as (
        insert into cal_tokens.access_token_lookup as l (hash, user_ulid, version, superseded_at)
        select s.access_hash, s.user_ulid, s.version, null::bigint from stored s
        union all
        select s.displaced_access_hash, s.user_ulid, s.version - 1, s.updated_at from stored s
        where s.displaced_access_hash <> s.access_hash
        on conflict (hash) do update set user_ulid = excluded.user_ulid, superseded_at = excluded.superseded_at,
          version = case when excluded.superseded_at is null then excluded.version else l.version end
          where excluded.superseded_at is null or l.user_ulid = excluded.user_ulid
      ), pruned as (
        delete from cal_tokens.access_token_lookup l using stored s
        where l.user_ulid = s.user_ulid and l.hash <> s.access_hash and l.hash is distinct from s.displaced_access_hash
          and (s.displaced_access_hash is null
            or l.superseded_at + ${lookupMillis} <= s.updated_at
            or (select count(*) from cal_tokens.access_token_lookup o where o.user_ulid = l.user_ulid
                and o.version > l.version and o.hash <> s.access_hash) >= ${supersededLookup.tokens})
      )`)
  }
}

/** Removes some entries that are older than so many ms, if anything is written; never one that somebody else holds. */
const pruned = (table: string, key: string, age: number) => `
  old_${table} as materialized (
    select o.${key} from cal_tokens.${table} o
    where o.at < (select max(at) from changes) - ${age} order by o.at limit ${pruneBatch} for update skip locked
  ), pruned_${table} as (
    delete from cal_tokens.${table} p using old_${table} o where p.${key} = o.${key}
  )`
