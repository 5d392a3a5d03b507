/** What is read of the rows. */
import { keptFor, maxEntries } from "../../../History.js"
import { exactly, sealedFor } from "../../../TokenStorage.js"
import * as Activity from "../../Activity.js"
import { maxUsers } from "../../Lookups.js"
import * as Parts from "./Parts.js"

/** So many are told of at most. */
const maxMissingKeys = 20

const find: Parts.Definition = {
  name: "find_1",
  parameters: [["users", "jsonb"]],
  returns: `table (${Parts.storedFields})`,
  body: `
  return query select ${Parts.storedColumns("c")} from cal_tokens.connection c
    where c.user_ulid = any (array(select jsonb_array_elements_text(p_users)));`
}

/** Whom a token may find: what the row says of it decides. */
const findByAccessToken: Parts.Definition = {
  name: "find_by_access_token_1",
  parameters: [
    ["names", "jsonb"],
    ["user", "text"]
  ],
  returns: `table (${Parts.storedFields})`,
  body: `
  return query
    select ${Parts.storedColumns("c")} from cal_tokens.access_token_lookup l
    join cal_tokens.connection c on c.user_ulid = l.user_ulid
    where l.name = any (array(select jsonb_array_elements_text(p_names))) and (p_user is null or l.user_ulid = p_user)
    order by c.version desc limit ${maxUsers};`
}

/** The values of an indexed column, one step of its index for each. */
const valuesOf = (column: string) => `
      (select c.${column} from cal_tokens.connection c order by c.${column} limit 1)
      union all
      select (select c.${column} from cal_tokens.connection c where c.${column} > u.value order by c.${column} limit 1)
      from ${column}_values u where u.value is not null`

/** The ids of the keys that rows need and that are not among the given ones. A row counts once for each. */
const missingKeys: Parts.Definition = {
  name: "missing_keys_1",
  parameters: [["ids", "jsonb"]],
  returns: "table (key_id text, rows float8)",
  body: `
  return query
    with recursive key_id_values (value) as (${valuesOf("key_id")}
    ), fallback_key_ids_values (value) as (${valuesOf("fallback_key_ids")}
    ), sealed (id) as (
      select split_part(s.envelope, '.', 2) from cal_tokens.sealed_answer s
      union all
      select split_part(e.value, '.', 2) from cal_tokens.connect_flow f, jsonb_each_text(to_jsonb(f)) e
      where e.value ~ '^v1\\.[^.]+\\.'
    ), missing (id, rows) as (
      select u.value, (select count(*) from cal_tokens.connection c where c.key_id = u.value)
      from key_id_values u where not p_ids ? u.value
      union all
      select k.id, (
        select count(*) from cal_tokens.connection c where c.fallback_key_ids = u.value and c.key_id <> k.id
      )
      from fallback_key_ids_values u, lateral (select distinct unnest(string_to_array(u.value, ' '))) k (id)
      where k.id <> '' and not p_ids ? k.id
      union all
      select s.id, count(*) from sealed s where not p_ids ? s.id group by s.id
    )
    select m.id, sum(m.rows)::float8 from missing m
    -- Whatever else stands there is no key's id, but somebody's who wrote it.
    where m.rows > 0 and m.id ~ '^[A-Za-z0-9_-]{1,64}$' group by m.id order by m.id limit ${maxMissingKeys};`
}

/** A page after a user, with a condition that an index may serve. */
const page = (condition: string) => `
    return query select ${Parts.storedColumns("c")} from cal_tokens.connection c
    where ${condition} and c.user_ulid > coalesce(p_after, '') order by c.user_ulid limit p_limit;`

const list: Parts.Definition = {
  name: "list_1",
  parameters: [
    ["status", "text"],
    ["after", "text"],
    ["limit", "integer"]
  ],
  returns: `table (${Parts.storedFields})`,
  body: `
  if p_status = 'Active' then ${page("c.status = 'active'")}
  elsif p_status is null then ${page("true")}
  else ${page("c.status <> 'active'")}
  end if;`
}

/**
 * The users of one user of Cal.com's, of whom there may be one for each kind and client: these are gone through by the index
 * that keeps accounts apart.
 */
const listOfCalUser: Parts.Definition = {
  name: "list_cal_user_1",
  parameters: [
    ["status", "text"],
    ["after", "text"],
    ["limit", "integer"],
    ["cal_user_id", "bigint"]
  ],
  returns: `table (${Parts.storedFields})`,
  body: `
  return query
    with recursive clients (kind, client_id) as (
      (select a.kind, a.client_id from cal_tokens.cal_account a order by a.kind, a.client_id limit 1)
      union all
      select n.kind, n.client_id from clients u, lateral (
        select a.kind, a.client_id from cal_tokens.cal_account a
        where (a.kind, a.client_id) > (u.kind, u.client_id) order by a.kind, a.client_id limit 1
      ) n
    )
    select ${Parts.storedColumns("c")} from clients u
    join cal_tokens.cal_account a
      on a.kind = u.kind and a.client_id = u.client_id and a.cal_user_id = p_cal_user_id
    join cal_tokens.connection c on c.user_ulid = a.user_ulid
    where c.user_ulid > coalesce(p_after, '') and (p_status is null or (p_status = 'Active') = (c.status = 'active'))
    order by c.user_ulid limit p_limit;`
}

/** From the end of the index of those who are active no more. */
const reconnecting: Parts.Definition = {
  name: "reconnecting_1",
  parameters: [
    ["since", "bigint"],
    ["user", "text"],
    ["limit", "integer"]
  ],
  returns: `table (${Parts.storedFields})`,
  body: `
  return query select ${Parts.storedColumns("c")} from cal_tokens.connection c
    where c.status <> 'active'
      and (c.since, c.user_ulid) < (coalesce(p_since, ${Number.MAX_SAFE_INTEGER}), coalesce(p_user, ''))
    order by c.since desc, c.user_ulid desc limit p_limit;`
}

/** How many there are of some rows, no more of which are looked at than that. */
const upTo = (rows: string) => `(select count(*) from (select ${rows} limit ${exactly}) few)`

/** Of many users the number is what the planner knows: nobody waits for a million rows. */
const counts: Parts.Definition = {
  name: "counts_1",
  parameters: [["now", "bigint"]],
  returns: "table (active float8, terminal float8, client float8, brake float8, drift float8, sealed float8)",
  body: `
  return query select
    greatest(0, case when t.few < ${exactly} then t.few else greatest(t.few, t.estimate) end - t.terminal)::float8,
    t.terminal::float8,
    (select count(*) from cal_tokens.client c where c.cause = 'client')::float8,
    (select count(*) from cal_tokens.client c where c.cause = 'brake')::float8,
    (select count(*) from cal_tokens.client c where c.cause = 'drift')::float8,
    ${upTo(`1 from cal_tokens.sealed_answer s where s.at > ${Parts.now} - ${sealedFor}`)}::float8
  from (select
    ${upTo("1 from cal_tokens.connection")} as few,
    ${upTo("1 from cal_tokens.connection c where c.status <> 'active'")} as terminal,
    (select c.reltuples::bigint from pg_catalog.pg_class c where c.oid = 'cal_tokens.connection'::regclass) as estimate
  ) t;`
}

const openCircuit =
  "jsonb_build_object('clientId', k.client_id, 'cause', k.cause, 'reason', k.reason, 'openedAt', k.since, 'trialAt', k.trial_at)"

const history: Parts.Definition = {
  name: "history_1",
  parameters: [
    ["user", "text"],
    ["now", "bigint"]
  ],
  returns: `table (read_at float8, attempt text, attempt_started_at float8, lease_until float8, journal text, circuit jsonb,
    entries jsonb, ${Parts.storedFields})`,
  declare: [
    ["r", "cal_tokens.connection"],
    ["v_now", "bigint"]
  ],
  body: `
  select * into r from cal_tokens.connection c where c.user_ulid = p_user;
  if not found then
    return;
  end if;
  v_now := ${Parts.now};
  select coalesce(jsonb_agg(jsonb_build_object('at', h.at, 'written', h.written, 'event', h.event) order by h.id), '[]')
  into entries from (
    select * from cal_tokens.history l where l.user_ulid = p_user and l.at > v_now - ${keptFor}
    order by l.id desc limit ${maxEntries}
  ) h;
  select ${openCircuit} into circuit from cal_tokens.client k
  where k.client_id = r.client_id and k.cause is not null order by k.since desc limit 1;
  read_at := v_now;
  attempt := r.attempt_id;
  attempt_started_at := r.attempt_started_at;
  lease_until := r.lease_until;
  journal := r.journal;
  r.pair := null;
  ${Parts.answer}`
}

const minuteOf = (at: string) => `(${at} / ${Activity.minute} * ${Activity.minute})`

/** As `Activity.judge` has it. Whatever else stands in an entry is passed over, and no reason to fail. */
const activity: Parts.Definition = {
  name: "activity_1",
  parameters: [
    ["since", "bigint"],
    ["now", "bigint"]
  ],
  returns: "table (read_at float8, from_at float8, until_at float8, attempts jsonb)",
  declare: [
    ["v_now", "bigint"],
    ["v_running", "bigint"],
    ["v_from", "bigint"],
    ["v_until", "bigint"]
  ],
  body: `
  v_now := ${Parts.now};
  v_running := ${minuteOf("v_now")};
  v_from := greatest(p_since, v_running - ${(Activity.span - 1) * Activity.minute});
  v_until := least(v_from + ${Activity.atOnce * Activity.minute}, v_running + ${Activity.minute});
  return query
    with entry as (
      select ${minuteOf("h.at")} as at, h.written, h.event ->> '_tag' as tag, h.event ->> 'purpose' as purpose,
        h.event ->> 'trigger' as trigger, h.event ->> 'end' as "end",
        h.event #> '{steps,0,isLate}' is not distinct from 'true' as is_late,
        case when jsonb_typeof(h.event -> 'took') = 'number'
          then greatest(0, least((h.event -> 'took')::numeric, ${Activity.longest}))::float8 else 0 end as took,
        h.event -> 'steps' -> -1 as last
      from cal_tokens.history h where h.at >= v_from and h.at < v_until
    ), judged as (
      select e.at, e.took, e.last,
        case when e.tag = 'Lapsed' then 'lapsed' when e.purpose = 'reissue' then 'reissue' else e.trigger end as origin,
        case when e.tag = 'Lapsed' then 'failed' when e."end" = 'granted' then 'refreshed'
          when e."end" = 'terminal' and e.written = 'recorded' then 'reauthorizationRequired' else 'failed' end as outcome
      from entry e
      where e.tag = 'Lapsed' or e.tag = 'Attempt' and (e."end" = 'granted' or not e.is_late)
    ), counted as (
      select j.at, j.origin, j.outcome, count(*) as count, case
          when j.outcome = 'refreshed' then null
          when j.origin = 'lapsed' then jsonb_build_object('answer', j.origin)
          when j.last ->> 'answer' in (${Activity.answers.map(Parts.text).join(", ")}) then jsonb_build_object(
            'answer', j.last ->> 'answer', 'error', substring(j.last ->> 'error' from '^[A-Za-z]{1,40}$'),
            'status', substring(j.last ->> 'status' from '^[1-9][0-9]{2}$')::integer)
          else jsonb_build_object('answer', 'unsent') end as reason,
        max(case when j.outcome = 'refreshed' then j.took else 0 end) as longest,
        case when j.outcome = 'refreshed' then floor(ln(greatest(1, j.took)) / ln(${Activity.growth}::float8)) else 0 end
          as bucket
      from judged j where j.origin in (${Activity.origins.map(Parts.text).join(", ")})
      group by j.at, j.origin, j.outcome, reason, bucket
    )
    select v_now::float8, v_from::float8, v_until::float8, coalesce(jsonb_agg(jsonb_strip_nulls(to_jsonb(c))), '[]')
    from counted c;`
}

/** Of each user the end of the access token stands in `due`, too, whose rows are small: all of them are looked at. */
const outlook: Parts.Definition = {
  name: "outlook_1",
  parameters: [["cal_now", "bigint"]],
  returns: "table (ends jsonb, circuits jsonb)",
  body: `
  return query select (
    select coalesce(jsonb_agg(to_jsonb(e)), '[]') from (
      select case when d.ends_at > p_cal_now then ${minuteOf("d.ends_at")} end as at, count(*) as users
      from cal_tokens.due d
      where d.ends_at < ${minuteOf("p_cal_now")} + ${Activity.span * Activity.minute}
        and not exists (select from cal_tokens.connection c where c.user_ulid = d.user_ulid and c.status <> 'active')
      group by 1 order by 1
    ) e
  ), (
    select coalesce(jsonb_agg(${openCircuit} order by k.since), '[]')
    from cal_tokens.client k where k.cause is not null
  );`
}

export const definitions: ReadonlyArray<Parts.Definition> = [
  find,
  findByAccessToken,
  missingKeys,
  list,
  listOfCalUser,
  reconnecting,
  counts,
  history,
  activity,
  outlook
]
