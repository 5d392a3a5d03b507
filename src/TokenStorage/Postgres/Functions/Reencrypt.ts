/** Whatever is sealed, sealed anew under the first key. `Postgres/Reencryption.ts` says how; here is what it reads and writes. */
import * as Parts from "./Parts.js"

/** Under which key a sealed text is, or a code that names its key. */
const keyOf = (column: string, part = 2) => `split_part(${column}, '.', ${part})`

/** Whether something of the row `c` is not under the key. */
const isLeft = `(c.key_id <> p_key or ${keyOf("c.handed_out_code", 1)} <> p_key or exists (
      select from unnest(string_to_array(c.fallback_key_ids, ' ')) k (id) where k.id not in ('', p_key)))`

/** Tells the row `c` as it was read from what it is by now. */
const print = `encode(sha256(convert_to(jsonb_build_array(c.kind, c.client_id, c.cal_user_id, c.pair, c.fallbacks,
      c.lookups, c.lookups_code, c.handed_out_at, c.handed_out_code)::text, 'UTF8')), 'hex')`

/** Those of the next so many rows of which something is left: where they end, if that is not the end, and how many they are. */
const next: Parts.Definition = {
  name: "reencrypt_next_1",
  parameters: [
    ["key", "text"],
    ["after", "text"],
    ["limit", "integer"]
  ],
  returns: "table (last text, seen float8, rows jsonb)",
  body: `
  return query
    with page as materialized (
      select c.user_ulid, ${isLeft} as is_left from cal_tokens.connection c
      where c.user_ulid > coalesce(p_after, '') order by c.user_ulid limit p_limit
    )
    select case when count(*) = p_limit then max(p.user_ulid) end, count(*)::float8, (
      select coalesce(jsonb_agg(jsonb_build_object('user_ulid', c.user_ulid, 'print', ${print}, 'kind', c.kind,
        'client_id', c.client_id, 'cal_user_id', c.cal_user_id, 'pair', c.pair, 'fallbacks', c.fallbacks, 'lookups', c.lookups,
        'lookups_code', c.lookups_code, 'handed_out_at', c.handed_out_at, 'handed_out_code', c.handed_out_code)), '[]')
      from cal_tokens.connection c where c.user_ulid in (select l.user_ulid from page l where l.is_left)
    ) from page p;`
}

/**
 * Writes over what was read, or not at all, and waits for nobody: a row that somebody has, or that is another by now, is
 * left. Answers how many were written. Nothing of it is news to anybody: neither the version of a row changes nor an attempt.
 */
const rows: Parts.Definition = {
  name: "reencrypt_rows_1",
  parameters: [["rows", "jsonb"]],
  returns: "float8",
  declare: [
    ["v_mine", "text[]"],
    ["v_written", "text[]"]
  ],
  body: `
  v_mine := array(
    select c.user_ulid from cal_tokens.connection c
    where c.user_ulid = any (array(select r.value ->> 'user_ulid' from jsonb_array_elements(p_rows) r))
    order by c.user_ulid for no key update skip locked
  );
  ${Parts.durable}
  with given as materialized (
    select * from jsonb_to_recordset(p_rows) as g (user_ulid text, print text, pair text, fallbacks jsonb,
      lookups_code text, handed_out_code text)
    where g.user_ulid = any (v_mine)
  ), written as (
    update cal_tokens.connection c set pair = g.pair, fallbacks = g.fallbacks, lookups_code = g.lookups_code,
      handed_out_code = g.handed_out_code
    from given g where c.user_ulid = g.user_ulid and g.print = ${print}
    returning c.user_ulid
  )
  select array_agg(w.user_ulid) into v_written from written w;
  with named as materialized (
    select g.user_ulid, g.names from jsonb_to_recordset(p_rows) as g (user_ulid text, names jsonb)
    where g.user_ulid = any (v_written) and g.names is not null
  ), gone as (
    delete from cal_tokens.access_token_lookup l using named m where l.user_ulid = m.user_ulid and not m.names ? l.name
  )
  insert into cal_tokens.access_token_lookup (name, user_ulid)
  select n.name, m.user_ulid from named m, jsonb_array_elements_text(m.names) as n (name) on conflict do nothing;
  return coalesce(cardinality(v_written), 0);`
}

/** The next sealed answers that are left. */
const answersNext: Parts.Definition = {
  name: "reencrypt_answers_next_1",
  parameters: [
    ["key", "text"],
    ["after", "text"],
    ["after_id", "bigint"],
    ["limit", "integer"]
  ],
  returns: "table (user_ulid text, id text, client_id text, spent_hash text, envelope text)",
  body: `
  return query select s.user_ulid, s.id::text, s.client_id, s.spent_hash, s.envelope from cal_tokens.sealed_answer s
    where ${keyOf("s.envelope")} <> p_key and (p_after is null or (s.user_ulid, s.id) > (p_after, p_after_id))
    order by s.user_ulid, s.id limit p_limit;`
}

/** Writes over what was read, in a table of envelopes, as {@link rows} does. */
const envelopes = (name: string, table: string, key: ReadonlyArray<Parts.Field>): Parts.Definition => {
  const isSame = key.map(([column]) => `c.${column} = g.${column}`).join(" and ")
  const given = `jsonb_to_recordset(p_rows) as g (${key.map(([column, type]) => `${column} ${type}`).join(", ")}, old text,
      envelope text)`
  return {
    name,
    parameters: [["rows", "jsonb"]],
    returns: "float8",
    declare: [["v_written", "integer"]],
    body: `
  ${Parts.durable}
  with mine as materialized (
    select ${key.map(([column]) => `c.${column}`).join(", ")}, g.envelope from cal_tokens.${table} c
    join ${given} on ${isSame} and c.envelope = g.old
    order by ${key.map(([column]) => `c.${column}`).join(", ")} for no key update of c skip locked
  )
  update cal_tokens.${table} c set envelope = g.envelope from mine g where ${isSame};
  get diagnostics v_written = row_count;
  return v_written;`
  }
}

const answers = envelopes("reencrypt_answers_1", "sealed_answer", [
  ["user_ulid", "text"],
  ["id", "bigint"]
])

/** The next flows that are left. */
const flowsNext: Parts.Definition = {
  name: "reencrypt_flows_next_1",
  parameters: [
    ["key", "text"],
    ["after", "text"],
    ["limit", "integer"]
  ],
  returns: "table (state_hash text, envelope text)",
  body: `
  return query select f.state_hash, f.envelope from cal_tokens.connect_flow f
    where ${keyOf("f.envelope")} <> p_key and f.state_hash > coalesce(p_after, '') order by f.state_hash limit p_limit;`
}

const flows = envelopes("reencrypt_flows_1", "connect_flow", [["state_hash", "text"]])

/** The ids of the keys that something is under, and how many; an empty one is whatever is no id. */
const keysInUse: Parts.Definition = {
  name: "keys_in_use_1",
  parameters: [],
  returns: "table (what text, key_id text, rows float8)",
  body: `
  return query
    with used (what, id) as (
      select u.what, u.id from cal_tokens.connection c, lateral (
        select 'pairs', c.key_id
        union all select 'handedOut', ${keyOf("c.handed_out_code", 1)} where c.handed_out_code is not null
        union all select distinct 'fallbacks', k.id from unnest(string_to_array(c.fallback_key_ids, ' ')) k (id)
          where k.id <> ''
      ) u (what, id)
      union all
      select 'sealedAnswers', ${keyOf("s.envelope")} from cal_tokens.sealed_answer s
      union all
      select 'flows', ${keyOf("f.envelope")} from cal_tokens.connect_flow f
    )
    select u.what, case when u.id ~ '^[A-Za-z0-9_-]{1,64}$' then u.id else '' end as key_id, count(*)::float8
    from used u group by 1, 2;`
}

export const definitions: ReadonlyArray<Parts.Definition> = [
  next,
  rows,
  answersNext,
  answers,
  flowsNext,
  flows,
  keysInUse
]
