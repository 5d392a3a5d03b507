/**
 * The log of changes on PostgreSQL. Each entry knows the transaction that wrote it. A reader remembers the snapshot that
 * it read with, and is shown what that snapshot did not show: entries of transactions that were under way are neither
 * waited for nor missed, however long they take.
 */
import type { SqlClient, Statement } from "@effect/sql"
import { Effect, Option } from "effect"
import type { UserUlid } from "../../Token.js"
import type { ReauthorizationCause, StorageUnavailable } from "../../TokenError.js"
import * as ChangeLog from "../ChangeLog.js"
import { millis } from "../Rows.js"

/** Runs a statement that is given the storage's instant. */
export type Query = <A extends object>(
  operation: string,
  build: (now: Statement.Fragment) => Statement.Statement<A>
) => Effect.Effect<ReadonlyArray<A>, StorageUnavailable>

interface Present {
  readonly snapshot: string
  readonly xmin: string
  readonly now: number
}

interface ChangeColumns extends Present {
  readonly is_known: boolean
  /** Null when there is no change to tell of. */
  readonly id: string | null
  readonly xid: string
  readonly at: number
  readonly user_ulid: UserUlid
  readonly kind: ChangeLog.ChangeKind
  readonly version: number | null
  readonly cause: ReauthorizationCause | null
  readonly since: number | null
  readonly reauthorized: boolean
}

/** The statements, each run by itself. */
export const statements = (sql: SqlClient.SqlClient, now: Statement.Fragment) => ({
  end: sql<Present>`
    select p::text as snapshot, pg_snapshot_xmin(p)::text as xmin, (${now})::float8 as now from pg_current_snapshot() p`,

  read: ({ at, epoch, id }: ChangeLog.Position, { seen, until }: ChangeLog.Cursor, limit: number) => sql<ChangeColumns>`
    with present as materialized (select p as snapshot, ${now} as now from pg_current_snapshot() p)
    select p.snapshot::text, pg_snapshot_xmin(coalesce(${until?.snapshot ?? null}::pg_snapshot, p.snapshot))::text as xmin,
      p.now::float8 as now, e.id::text, e.xid::text, e.at::float8 as at, e.user_ulid, e.kind, e.version::float8 as version,
      e.cause, e.since::float8 as since, e.reauthorized,
      ${epoch}::xid8 <= pg_snapshot_xmax(p.snapshot)
        and ${at}::bigint >= p.now - ${millis(ChangeLog.retention)}::bigint as is_known
    from present p left join (
      select * from cal_tokens.change c
      where (c.xid, c.id) > (${epoch}::xid8, ${id}::bigint)
        and (${seen ?? null}::pg_snapshot is null or not pg_visible_in_snapshot(c.xid, ${seen ?? null}::pg_snapshot))
        and (${until?.snapshot ?? null}::pg_snapshot is null
          or pg_visible_in_snapshot(c.xid, ${until?.snapshot ?? null}::pg_snapshot))
      order by c.xid, c.id limit ${limit}::integer
    ) e on true
    order by e.xid, e.id`,

  claim: ({ holder, lease, limit }: Parameters<ChangeLog.ChangeLog["claim"]>[0]) => sql<{
    readonly id: string
    readonly kind: ChangeLog.Transition["kind"]
    readonly user_ulid: UserUlid
    readonly at: number
    readonly cause: ReauthorizationCause
    readonly since: number
    readonly attempts: number
  }>`
    with present as materialized (select ${now} as now), due as materialized (
      select t.id from cal_tokens.transition t
      where t.next_at <= (select now from present)
        and not exists (select 1 from cal_tokens.transition e where e.user_ulid = t.user_ulid and e.id < t.id)
      order by t.next_at limit ${limit}::integer for update skip locked
    )
    update cal_tokens.transition t set holder = ${holder}, attempts = t.attempts + 1,
      next_at = (select now from present) + ${millis(lease)}::bigint
    from due where t.id = due.id
    returning t.webhook_id::text as id, t.kind, t.user_ulid, t.at::float8 as at, t.cause, t.since::float8 as since,
      t.attempts`,

  settle: (id: string) => sql`delete from cal_tokens.transition t where t.webhook_id = ${id}::uuid`,

  postpone: ({ delay, holder, id }: Parameters<ChangeLog.ChangeLog["postpone"]>[0]) => sql`
    update cal_tokens.transition t set holder = null, next_at = ${now} + ${millis(delay)}::bigint
    where t.webhook_id = ${id}::uuid and t.holder = ${holder}`
})

export const make = (sql: SqlClient.SqlClient, query: Query): ChangeLog.ChangeLog => ({
  end: Effect.map(
    query("changes", (now) => statements(sql, now).end),
    ([present]) => (present === undefined ? { position: "0-0-0" } : after(present))
  ),

  read: (cursor, limit) =>
    Option.match(ChangeLog.parsePosition(cursor.position), {
      onNone: () => Effect.succeedNone,
      onSome: (position) =>
        Effect.map(
          query("changes", (now) => statements(sql, now).read(position, cursor, limit)),
          (rows) => pageOf(rows, cursor, limit)
        )
    }),

  claim: (request) =>
    Effect.map(
      query("transitions", (now) => statements(sql, now).claim(request)),
      (rows) => rows.map(({ attempts: attempt, user_ulid: userUlid, ...row }) => ({ ...row, userUlid, attempt }))
    ),

  settle: (id) => Effect.asVoid(query("transitions", (now) => statements(sql, now).settle(id))),

  postpone: (request) => Effect.asVoid(query("transitions", (now) => statements(sql, now).postpone(request)))
})

const pageOf = (rows: ReadonlyArray<ChangeColumns>, cursor: ChangeLog.Cursor, limit: number) => {
  const [first] = rows
  if (first === undefined || !first.is_known) return Option.none()
  const until = cursor.until ?? { snapshot: first.snapshot, at: first.now }
  const found = rows.filter(({ id }) => id !== null)
  const changes = found.map(toChange)
  const last = found.at(-1)
  if (last === undefined || found.length < limit) {
    const next = after({ snapshot: until.snapshot, xmin: first.xmin, now: until.at })
    return Option.some<ChangeLog.Page>({ changes, next, position: next.position })
  }
  // More of what the same snapshot shows, from the last one on.
  return Option.some<ChangeLog.Page>({
    changes,
    next: { position: exactly(last), seen: cursor.seen, until },
    position: changes.at(-1)?.position ?? cursor.position
  })
}

/** Behind all that a snapshot shows. Who comes back without the snapshot begins at the oldest writer it knew of. */
const after = ({ now, snapshot, xmin }: Present): ChangeLog.Cursor => ({
  position: ChangeLog.formatPosition({ at: now, epoch: xmin, id: "0" }),
  seen: snapshot
})

const exactly = ({ at, id, xid }: ChangeColumns) => ChangeLog.formatPosition({ at, epoch: xid, id: id ?? "0" })

const toChange = (row: ChangeColumns): ChangeLog.LoggedChange => ({
  userUlid: row.user_ulid,
  kind: row.kind,
  at: row.at,
  version: row.version ?? undefined,
  cause: row.cause ?? undefined,
  since: row.since ?? undefined,
  reauthorized: row.reauthorized,
  // Before the oldest writer, order is final. Among writers, only where that one stands is certain.
  position:
    BigInt(row.xid) < BigInt(row.xmin)
      ? exactly(row)
      : ChangeLog.formatPosition({ at: row.at, epoch: row.xmin, id: "0" })
})
