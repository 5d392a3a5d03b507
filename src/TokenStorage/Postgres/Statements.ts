/**
 * The port in SQL, one statement for each operation: a row is locked, judged by its latest version and changed in a
 * single round trip, which needs neither a session nor an open transaction (PgBouncer in transaction mode is enough).
 *
 * The statements rely on READ COMMITTED, where a locked or updated row is read again in its latest version after waiting
 * for it, while everything else is seen as of the statement's start. So all that is decided comes from the one row, the
 * instant is taken after the lock is held, and what must be exact about other rows is left to the keys of their tables.
 * Every condition on a row names its user as a value, not by a join alone, which leads to its partition.
 */
import type { SqlClient, Statement } from "@effect/sql"
import { type Duration, Option, Schema } from "effect"
import type { UserUlid } from "../../Token.js"
import { TokenError } from "../../TokenError.js"
import {
  AttemptFailure,
  type ClaimRequest,
  type CommitRequest,
  type ConnectRequest,
  type FailRequest,
  type ListRequest,
  maxFallbacks,
  type SpendRequest,
  supersededLookup
} from "../../TokenStorage.js"
import * as Fragments from "./Fragments.js"
import { millis } from "../Rows.js"

type Columns = Fragments.Columns

export const make = (sql: SqlClient.SqlClient, instant: () => Statement.Fragment) => {
  const fragments = Fragments.make(sql, instant)
  const { accountOf, columns, durable, json, locked, lookups, now, pair: pairColumns, raw, without } = fragments
  const { logged } = fragments
  const optionalMillis = (duration: Duration.Duration | undefined) =>
    sql`${duration === undefined ? null : millis(duration)}::bigint`

  const find = (userUlid: UserUlid) =>
    sql<Columns>`select ${columns("c")} from cal_tokens.connection c where c.user_ulid = ${userUlid}`

  const claim = (request: ClaimRequest) => {
    const expiredFor = optionalMillis(request.expiredFor)
    const rejectedInterval = optionalMillis(request.rejectedInterval)
    const isReissue = sql`${request.reissue === true}::boolean`
    return sql<
      Columns & {
        readonly verdict: "Newer" | "Terminal" | "Busy" | "RejectedRecently" | "CoolingDown" | "ProbeLater" | "Claimed"
        readonly retry_after: number | null
        readonly journal: string | null
        readonly last_error: unknown
        readonly consecutive_failures: number
      }
    >`
      with ${locked(request.userUlid)}, weighed as materialized (
        select l.*, coalesce(l.window_started_at + ${millis(request.cooldownWindow)}::bigint, l.now) as window_over,
          l.rejected_refresh_at + ${rejectedInterval} as rejection_over,
          ${expiredFor} is not null and coalesce(l.attempt_started_at < l.now - ${expiredFor}, true) as unheld
        from locked l
      ), judged as materialized (
        select w.*, not w.unheld and w.window_over > w.now as counting, case
          when not ${isReissue} and w.version > ${request.knownVersion}::float8 then 'Newer'
          when not ${isReissue} and w.status <> 'active' then 'Terminal'
          when w.attempt_id is not null and w.lease_until > w.now then 'Busy'
          when w.rejection_over > w.now then 'RejectedRecently'
          when not w.unheld and w.next_attempt_at > w.now then 'CoolingDown'
          when not w.unheld and w.window_over > w.now and w.attempts >= ${request.maxAttempts}::integer then 'CoolingDown'
          when w.journal is not null and w.probe_not_before > w.now then 'ProbeLater'
          else 'Claimed' end as verdict
        from weighed w
      ), claimed as (
        update cal_tokens.connection c set attempt_id = ${request.attemptId}, attempt_started_at = j.now,
          lease_until = j.now + ${millis(request.lease)}::bigint,
          journal = coalesce(j.journal, j.refresh_hash), probe_not_before = null,
          window_started_at = case when j.counting then j.window_started_at else j.now end,
          attempts = case when j.counting then j.attempts + 1 else 1 end,
          rejected_refresh_at = case when ${rejectedInterval} is null then j.rejected_refresh_at else j.now end,
          prior_started_at = j.attempt_started_at, prior_rejected_at = j.rejected_refresh_at
        from judged j where c.user_ulid = ${request.userUlid} and j.verdict = 'Claimed'
        returning ${durable}
      )
      select ${columns("j.stored")}, j.verdict, j.journal, j.last_error, j.consecutive_failures,
        (case j.verdict
          when 'Busy' then j.lease_until
          when 'RejectedRecently' then j.rejection_over
          when 'CoolingDown' then case when j.next_attempt_at > j.now then j.next_attempt_at else j.window_over end
          when 'ProbeLater' then j.probe_not_before
        end - j.now)::float8 as retry_after
      from judged j`
  }

  const spend = ({ attemptId, dead, next, userUlid }: SpendRequest) => sql<Columns>`
    update cal_tokens.connection c set journal = ${next}, fallbacks = ${without("c.fallbacks", dead)}
    where c.user_ulid = ${userUlid} and c.attempt_id = ${attemptId}
    returning ${columns("c")}, ${durable}`

  const commit = (request: CommitRequest, pair: Fragments.Sealed) => {
    const { connection, seen } = request
    const calUserId = sql`${connection.calUserId ?? null}::bigint`
    const scope = sql`${connection._tag === "OAuth2" ? (connection.scope ?? null) : null}::text`
    const entry = json({ hash: pair.refreshHash, pair: pair.envelope })
    return sql<
      Columns & {
        readonly verdict: "Stored" | "AlreadyStored" | "AlreadyKept" | "Kept" | "Discarded"
      }
    >`
      with ${locked(request.userUlid)}, judged as materialized (
        select l.*, case
          when l.attempt_id = ${request.attemptId} then 'Stored'
          when l.refresh_hash = ${pair.refreshHash} then 'AlreadyStored'
          when l.fallbacks @> ${json([{ hash: pair.refreshHash }])} then 'AlreadyKept'
          when l.refresh_hash = ${seen} then 'Stored'
          when l.kind = ${connection._tag} and l.client_id = ${connection.clientId} and l.cal_user_id = ${calUserId}
            then 'Kept'
          else 'Discarded' end as verdict,
          l.kind = 'OAuth2' and ${connection._tag === "OAuth2"}::boolean as is_named,
          exists (
            select 1 from cal_tokens.cal_account a where a.kind = l.kind and a.client_id = l.client_id
              and a.cal_user_id = ${calUserId}
          ) as is_taken
        from locked l
      ), stored as (
        update cal_tokens.connection c set ${raw(`${Fragments.closed}, ${Fragments.unharmed}, ${Fragments.active}`)},
          cal_user_id = coalesce(c.cal_user_id, case when j.is_named and not j.is_taken then ${calUserId} end),
          scope = coalesce(case when j.is_named then ${scope} end, c.scope),
          ${pairColumns(pair)}, displaced_access_hash = c.access_hash,
          fallbacks = ${without("c.fallbacks", [...request.dead, pair.refreshHash])},
          version = nextval('cal_tokens.version'), updated_at = j.now
        from judged j where c.user_ulid = ${request.userUlid} and j.verdict = 'Stored'
        returning c as stored, c.*, ${durable}
      ), kept as (
        update cal_tokens.connection c set ${raw(Fragments.active)}, updated_at = j.now,
          fallbacks = jsonb_build_array(${entry}) || ${without("c.fallbacks", request.dead, maxFallbacks - 1)}
        from judged j where c.user_ulid = ${request.userUlid} and j.verdict = 'Kept'
        returning c as stored, c.*, ${durable}
      ), learned as (
        insert into cal_tokens.cal_account (kind, client_id, cal_user_id, user_ulid)
        select s.kind, s.client_id, s.cal_user_id, s.user_ulid from stored s join judged j on j.cal_user_id is null
        where s.cal_user_id is not null
      ), ${lookups}, ${logged(
        raw(`${Fragments.change("stored", `'${request.reissued === true ? "reissued" : "refreshed"}'`)} union all
          ${Fragments.change("kept", "'reauthorized'")} where kept.ended_since is not null`)
      )}
      select ${columns("coalesce(s.stored, k.stored, j.stored)")}, j.verdict
      from judged j left join stored s on true left join kept k on true`
  }

  const fail = ({ attemptId, failure, userUlid }: FailRequest) => {
    const cooled = (error: TokenError, backoff: Duration.Duration) => sql`
      consecutive_failures = l.consecutive_failures + 1, last_error = ${json(Schema.encodeSync(TokenError)(error))},
      next_attempt_at = ${millis(backoff) > 0 ? sql`l.now + ${millis(backoff)}::bigint` : raw("null")}`
    const change = AttemptFailure.$match(failure, {
      NotSpent: ({ backoff, error }) => sql`${raw(Fragments.closed)}, ${cooled(error, backoff)}`,
      Unknown: ({ backoff, error, probeIn }) => sql`attempt_id = null, lease_until = null,
        probe_not_before = l.now + ${millis(probeIn)}::bigint, ${cooled(error, backoff)}`,
      Terminal: ({ cause }) => sql`${raw(Fragments.closed)}, fallbacks = '[]', status = 'reauthorization_required',
        cause = ${cause}, since = l.now, updated_at = l.now, next_attempt_at = null, last_error = null,
        ended_cause = null, ended_since = null`,
      Released: ({ probe }) => sql`attempt_id = null, lease_until = null, probe_not_before = null,
        journal = ${Option.getOrNull(probe)}, attempts = greatest(0, l.attempts - 1),
        attempt_started_at = l.prior_started_at, rejected_refresh_at = l.prior_rejected_at`
    })
    const isAllowed = AttemptFailure.$is("Terminal")(failure)
      ? sql`${without("l.fallbacks", failure.dead)} = '[]'::jsonb`
      : raw("true")
    return sql<Columns & { readonly is_mine: boolean; readonly recorded: boolean }>`
      with ${locked(userUlid)}, changed as (
        update cal_tokens.connection c set ${change}
        from locked l where c.user_ulid = ${userUlid} and l.attempt_id = ${attemptId} and ${isAllowed}
        returning c as stored, c.*, true as recorded, l.status as was, ${durable}
      ), ${logged(
        raw(`${Fragments.change("changed", "'reauthorizationRequired'")}
          where changed.status <> 'active' and changed.was = 'active'`)
      )}
      select ${columns("coalesce(d.stored, l.stored)")}, coalesce(d.recorded, false) as recorded,
        coalesce(l.attempt_id = ${attemptId}, false) as is_mine
      from locked l left join changed d on true`
  }

  /** What a new pair from outside does to a row; `keepsAccount` is an SQL condition. */
  const replaced = (keepsAccount: string, pair: Fragments.Sealed) => sql`
    ${raw(`${Fragments.blank}, ${Fragments.active}`)}, ${pairColumns(pair)}, updated_at = ${now()},
    displaced_access_hash = case when ${raw(keepsAccount)} then c.access_hash end,
    fallbacks = case when ${raw(keepsAccount)} then ${without(
      "jsonb_build_array(jsonb_build_object('hash', c.refresh_hash, 'pair', c.pair)) || c.fallbacks",
      [pair.refreshHash]
    )} else '[]'::jsonb end,
    version = nextval('cal_tokens.version')`

  const connect = ({ connection, replace, userUlid }: ConnectRequest, pair: Fragments.Sealed) => {
    const scope = connection._tag === "OAuth2" ? (connection.scope ?? null) : null
    const isOthers = sql`${accountOf("a", connection)} and a.user_ulid <> ${userUlid}`
    // The displaced row goes first, in the order in which all statements lock: rows, then accounts.
    const displaced = sql`
      delete from cal_tokens.connection o using cal_tokens.cal_account a
      where ${isOthers} and o.user_ulid = a.user_ulid and ${accountOf("o", connection)}
      returning o.user_ulid, o.cause, o.since`
    const nobody = raw("select null::text as user_ulid, null::text as cause, null::bigint as since where false")
    // A row that is there is locked before the insert meets it: of many at once, each finds it already there.
    return sql<Columns & { readonly displaced: ReadonlyArray<UserUlid> | null }>`
      with present as materialized (
        select from cal_tokens.connection c where c.user_ulid = ${userUlid} for no key update
      ), displaced as (${replace === true ? displaced : nobody}), stored as (
        insert into cal_tokens.connection as c (user_ulid, kind, client_id, cal_user_id, scope, pair, refresh_hash,
          access_hash, access_token_expires_at, refresh_token_expires_at, version, updated_at)
        select ${userUlid}, ${connection._tag}, ${connection.clientId}, ${connection.calUserId ?? null}::bigint,
          ${scope}, ${pair.envelope}, ${pair.refreshHash}, ${pair.accessHash}, ${pair.accessTokenExpiresAt}::bigint,
          ${pair.refreshTokenExpiresAt}::bigint, nextval('cal_tokens.version'), ${now()}
        from (select count(*) from present) p, (select count(*) from displaced) d
        where ${replace === true}::boolean or not exists (select 1 from cal_tokens.cal_account a where ${isOthers})
        on conflict (user_ulid) do update set kind = excluded.kind, client_id = excluded.client_id,
          cal_user_id = excluded.cal_user_id, scope = excluded.scope, ${replaced(sameAccount, pair)}
        returning c as stored, c.*, ${durable}
      ), ${fragments.accounts}, ${lookups}, ${logged(sql`${raw(Fragments.removal("displaced", "stored.updated_at"))}, stored
        union all ${raw(Fragments.change("stored", "'connected'"))}`)}
      select ${columns("s.stored")}, (select jsonb_agg(d.user_ulid) from displaced d) as displaced from stored s`
  }

  const update = (userUlid: UserUlid, pair: Fragments.Sealed) => sql<Columns>`
    with stored as (
      update cal_tokens.connection c set ${replaced("c.cal_user_id is not null", pair)}
      where c.user_ulid = ${userUlid}
      returning c as stored, c.*, ${durable}
    ), ${lookups}, ${logged(raw(Fragments.change("stored", "'updated'")))}
    select ${columns("s.stored")} from stored s`

  const disconnect = (userUlid: UserUlid) => sql`
    with gone as (
      delete from cal_tokens.connection where user_ulid = ${userUlid}
      returning user_ulid, cause, since, ${now()} as at, ${durable}
    ), ${logged(raw(Fragments.removal("gone", "gone.at")))}
    select user_ulid from gone`

  const findByAccessToken = (hash: string) => sql<{
    readonly user_ulid: UserUlid
    readonly superseded_at: number | null
  }>`
    select l.user_ulid, case when c.access_hash = l.hash then null else l.superseded_at::float8 end as superseded_at
    from cal_tokens.access_token_lookup l join cal_tokens.connection c using (user_ulid)
    where l.hash = ${hash} and (c.access_hash = l.hash or (
      l.superseded_at + ${raw(String(Fragments.lookupMillis))} > ${now()}
      and (select count(*) from cal_tokens.access_token_lookup o where o.user_ulid = l.user_ulid
        and o.superseded_at is not null and o.version > l.version) < ${raw(String(supersededLookup.tokens))}))`

  const list = ({ after, limit, status }: ListRequest) => sql<Columns>`
    select ${columns("c")} from cal_tokens.connection c
    where ${status === undefined ? raw("true") : raw(status === "Active" ? "c.status = 'active'" : "c.status <> 'active'")}
      and ${after === undefined ? raw("true") : sql`c.user_ulid > ${after}`}
    order by c.user_ulid limit ${Math.max(0, limit)}::integer`

  /** Tells who listens. No secret in it. */
  const notify = (payloads: ReadonlyArray<string>) => sql`
    select pg_notify(${Fragments.channel}, p.payload) from jsonb_array_elements_text(${json(payloads)}) as p (payload)`

  /** Fails on a replica, on a database that only reads, and where the schema is missing. */
  const ping = sql`select nextval('cal_tokens.version')`

  return { find, claim, spend, commit, fail, connect, update, disconnect, findByAccessToken, list, notify, ping }
}

const sameAccount =
  "c.kind = excluded.kind and c.client_id = excluded.client_id and c.cal_user_id = excluded.cal_user_id"
