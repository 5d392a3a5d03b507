/** The log of changes, for readers, and the transitions to deliver. `Postgres/ChangeLog.ts` says how they are read. */
import { retention } from "../../ChangeLog.js"
import { millis } from "../../Rows.js"
import * as Parts from "./Parts.js"

const end: Parts.Definition = {
  name: "changes_end_1",
  parameters: [["now", "bigint"]],
  returns: "table (snapshot text, xmin text, now float8)",
  declare: [["v_snapshot", "pg_snapshot"]],
  body: `
  v_snapshot := pg_current_snapshot();
  snapshot := v_snapshot::text;
  xmin := pg_snapshot_xmin(v_snapshot)::text;
  now := ${Parts.now};
  return next;`
}

const read: Parts.Definition = {
  name: "changes_read_1",
  parameters: [
    ["at", "bigint"],
    ["epoch", "xid8"],
    ["id", "bigint"],
    ["seen", "pg_snapshot"],
    ["until", "pg_snapshot"],
    ["limit", "integer"],
    ["now", "bigint"]
  ],
  returns: `table (snapshot text, xmin text, now float8, is_known boolean, id text, xid text, at float8, user_ulid text,
    kind text, version float8, cause text, since float8, reauthorized boolean)`,
  declare: [
    ["v_snapshot", "pg_snapshot"],
    ["v_now", "bigint"],
    ["v_known", "boolean"]
  ],
  body: `
  -- Before the entries are read, so that whatever they do not show is shown the next time.
  v_snapshot := pg_current_snapshot();
  v_now := ${Parts.now};
  v_known := p_epoch <= pg_snapshot_xmax(v_snapshot) and p_at >= v_now - ${millis(retention)};
  return query
    select v_snapshot::text, pg_snapshot_xmin(coalesce(p_until, v_snapshot))::text, v_now::float8, v_known, e.id::text,
      e.xid::text, e.at::float8, e.user_ulid, e.kind, e.version::float8, e.cause, e.since::float8, e.reauthorized
    from (values (1)) one left join (
      select * from cal_tokens.change c
      where (c.xid, c.id) > (p_epoch, p_id)
        and pg_visible_in_snapshot(c.xid, v_snapshot)
        and (p_seen is null or not pg_visible_in_snapshot(c.xid, p_seen))
        and (p_until is null or pg_visible_in_snapshot(c.xid, p_until))
      order by c.xid, c.id limit p_limit
    ) e on true
    order by e.xid, e.id;`
}

const claim: Parts.Definition = {
  name: "transitions_claim_1",
  parameters: [
    ["holder", "text"],
    ["lease", "bigint"],
    ["limit", "integer"],
    ["now", "bigint"]
  ],
  returns: `table (id text, kind text, user_ulid text, at float8, cause text, since float8,
    imported_at float8, attempts integer)`,
  declare: [["v_now", "bigint"]],
  body: `
  v_now := ${Parts.now};
  return query
    with due as materialized (
      select t.id from cal_tokens.transition t
      where t.next_at <= v_now
        and not exists (select 1 from cal_tokens.transition e where e.user_ulid = t.user_ulid and e.id < t.id)
      order by t.next_at limit p_limit for update skip locked
    )
    update cal_tokens.transition t set holder = p_holder, attempts = t.attempts + 1, next_at = v_now + p_lease
    from due where t.id = due.id
    returning t.webhook_id::text, t.kind, t.user_ulid, t.at::float8, t.cause, t.since::float8,
      t.imported_at::float8, t.attempts;`
}

const settle: Parts.Definition = {
  name: "transition_settle_1",
  parameters: [["id", "uuid"]],
  returns: "void",
  body: `
  delete from cal_tokens.transition t where t.webhook_id = p_id;`
}

const postpone: Parts.Definition = {
  name: "transition_postpone_1",
  parameters: [
    ["id", "uuid"],
    ["holder", "text"],
    ["delay", "bigint"],
    ["now", "bigint"]
  ],
  returns: "void",
  body: `
  update cal_tokens.transition t set holder = null, next_at = ${Parts.now} + p_delay
  where t.webhook_id = p_id and t.holder = p_holder;`
}

export const definitions: ReadonlyArray<Parts.Definition> = [end, read, claim, settle, postpone]
