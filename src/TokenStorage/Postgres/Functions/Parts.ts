/**
 * What the functions in the database are made of. Their names carry a version: releases overlap, so a release that changes
 * one installs the next version beside it, and leaves the one that processes of the release before still call.
 *
 * They are `plpgsql`, which keeps the plans of its statements for the life of a connection, behind any pooler and without
 * anything to set up in a session. (PostgreSQL before 18 plans `language sql` anew at each call.) Each statement in a
 * function sees what is committed when it begins: whatever is decided about a row is decided after the row is locked.
 */

/** A column, a parameter or a variable: its name and its type. */
export type Field = readonly [name: string, type: string]

/** What readers get of a row. Counts and instants are numbers: the driver would make text of a `bigint`. */
export const stored: ReadonlyArray<Field> = [
  ["user_ulid", "text"],
  ["kind", "text"],
  ["client_id", "text"],
  ["cal_user_id", "float8"],
  ["scope", "text"],
  ["pair", "text"],
  ["fallbacks", "jsonb"],
  ["version", "float8"],
  ["sessions_after", "float8"],
  ["status", "text"],
  ["cause", "text"],
  ["since", "float8"],
  ["updated_at", "float8"],
  ["access_token_expires_at", "float8"],
  ["refresh_token_expires_at", "float8"],
  ["lookups", "text"],
  ["lookups_code", "text"],
  ["handed_out_at", "float8"],
  ["handed_out_code", "text"],
  ["imported_at", "float8"]
]

/** The columns of {@link stored}, as a result's or as a row's. */
export const storedFields = stored.map(([name, type]) => `${name} ${type}`).join(", ")
export const storedColumns = (row: string) =>
  stored.map(([name, type]) => (type === "float8" ? `${row}.${name}::float8` : `${row}.${name}`)).join(", ")

/** Answers one row: the columns of {@link stored} from the variable `r`, and whatever else was assigned. */
export const answer = `
  ${stored.map(([name]) => `${name} := r.${name};`).join(" ")}
  return next;`

/** The storage's instant in ms: the database's own, unless the caller brings one. To be taken when the lock is held. */
export const now = "coalesce(p_now, floor(extract(epoch from clock_timestamp()) * 1000)::bigint)"

/**
 * Waits for the disk before the statement answers, whatever the server's default is: what is known to be written must
 * survive a crash. Stronger defaults stay.
 */
export const durable = `
  if current_setting('synchronous_commit') in ('off', 'local', 'remote_write') then
    perform set_config('synchronous_commit', 'on', true);
  end if;`

/** A text as SQL has it. */
export const text = (value: string) => `'${value.replaceAll("'", "''")}'`

/** Locks the user's row into `r`; without one, the function answers nothing. */
export const lock = `
  select * into r from cal_tokens.connection c where c.user_ulid = p_user for no key update;
  if not found then
    return;
  end if;
  v_now := ${now};`

/** Whether a pair of the account in the parameters may be the row's: of the same, or of the first name of a nameless one. */
export const fits = `(r.kind = p_kind and r.client_id = p_client_id
    and coalesce(r.cal_user_id is null or r.cal_user_id = p_cal_user_id, false))`

/** An empty attempt. */
export const closed = "attempt_id = null, lease_until = null, journal = null, probe_not_before = null"

/** Nothing is held against the row, though its attempts still count. */
export const unharmed = "consecutive_failures = 0, next_attempt_at = null, last_error = null"

const attempt = ["attempt_id", "lease_until", "journal", "probe_not_before", "attempt_started_at"]
  .map((column) => `${column} = case when c.journal = p_refresh_hash then c.${column} end`)
  .join(", ")

/** A row as new, but for an attempt at the very token in the parameters: it may be spent. */
export const blank = `${attempt}, ${unharmed}, window_started_at = null, attempts = 0,
  rejected_refresh_at = null, reissued_version = null, prior_started_at = null, prior_rejected_at = null`

/** No import is known of. */
export const unimported = "imported_hash = null, imported_issued_at = null, imported_at = null"

export const active = "status = 'active', cause = null, since = null"

/** The pair of the parameters is the row's. */
export const newPair = `pair = p_pair, refresh_hash = p_refresh_hash,
  access_token_expires_at = p_access_token_expires_at, refresh_token_expires_at = p_refresh_token_expires_at`

/** Parameters of a pair: sealed, with what has to be compared or listed beside it. */
export const pairParameters: ReadonlyArray<Field> = [
  ["pair", "text"],
  ["refresh_hash", "text"],
  ["access_token_expires_at", "bigint"],
  ["refresh_token_expires_at", "bigint"]
]

/** What finds a user by an access token: as the row says it, proven by a code, and the names to look it up by. */
export const lookupParameters: ReadonlyArray<Field> = [
  ["lookups", "text"],
  ["lookups_code", "text"],
  ["names", "jsonb"]
]

/** When the pair is refreshed before anybody waits. */
export const scheduleParameters: ReadonlyArray<Field> = [
  ["ahead_at", "bigint"],
  ["keep_at", "bigint"],
  ["used_at", "bigint"]
]

/** To be called with the user's row in `r`, which is locked. */
export const schedule = `
    perform cal_tokens.schedule_1(p_user, r.client_id, r.access_token_expires_at, p_ahead_at, p_keep_at, p_used_at);`

export interface Definition {
  readonly name: string
  readonly parameters: ReadonlyArray<Field>
  /** Its SQL: `returns …` takes one value or a table. */
  readonly returns: string
  readonly declare?: ReadonlyArray<Field>
  readonly body: string
}

/** The statement that installs a function. Parameters go by `p_name` in its body, and columns win over variables. */
export const create = ({ body, declare = [], name, parameters, returns }: Definition): string => `
create function cal_tokens.${name}(${parameters.map(([name, type]) => `p_${name} ${type}`).join(", ")})
returns ${returns} language plpgsql as $function$
#variable_conflict use_column
declare
${declare.map(([name, type]) => `  ${name} ${type};`).join("\n")}
begin
${body.trim()}
end
$function$`

/**
 * The same for the parameters of many calls, a list of lists, in one transaction: `n` says of which call a row is, from 1 on.
 * Nobody is waited for with others' rows locked: a call whose row is missing, or locked by somebody, is not answered, nor
 * one that `alone` holds of (it sees the call as `e.p`, and the user's row as `c`), and is to be made by itself. Circuits are
 * locked in one order, so that two of these never wait for each other.
 */
export const many = (
  { name, parameters, returns }: Definition,
  { alone = "false" }: { readonly alone?: string } = {}
): Definition => {
  const place = (wanted: string) => parameters.findIndex(([each]) => each === wanted)
  return {
    ...ofMany({ name, returns }),
    body: `
  for v_each in
    select e.n, e.p from jsonb_array_elements(p_calls) with ordinality as e (p, n) join (
      select * from cal_tokens.connection o
      where o.user_ulid = any (array(select a.p ->> 0 from jsonb_array_elements(p_calls) as a (p)))
      for no key update skip locked
    ) c on c.user_ulid = e.p ->> 0
    where not (${alone}) order by e.p ->> ${place("client_id")}, e.p ->> ${place("fingerprint")}, e.n
  loop
    return query select v_each.n::float8, g.* from cal_tokens.${name}(${argumentsOf(parameters)}) g;
  end loop;`
  }
}

/** Another function for many calls, which makes them all: it waits for whoever has their rows, in the order of the users. */
export const all = ({ name, parameters, returns }: Definition): Definition => ({
  ...ofMany({ name, returns }),
  body: `
  perform from cal_tokens.connection o
  where o.user_ulid = any (array(select a.p ->> 0 from jsonb_array_elements(p_calls) as a (p)))
  order by o.user_ulid for no key update;
  for v_each in
    select e.n, e.p from jsonb_array_elements(p_calls) with ordinality as e (p, n)
    order by (e.p ->> 0) collate "C", e.n
  loop
    return query select v_each.n::float8, g.* from cal_tokens.${name}(${argumentsOf(parameters)}) g;
  end loop;`
})

const ofMany = ({ name, returns }: Pick<Definition, "name" | "returns">) => ({
  name: name.replace("_", "_many_"),
  parameters: [
    ["calls", "jsonb"],
    ["now", "bigint"]
  ] as const,
  returns: returns.replace("table (", "table (n float8, "),
  declare: [["v_each", "record"]] as const
})

/** The parameters of a call, from the list of them that is at hand. */
const argumentsOf = (parameters: ReadonlyArray<Field>) =>
  parameters
    .map(([parameter, type], index) =>
      parameter === "now" ? "p_now" : type === "text" ? `v_each.p ->> ${index}` : `(v_each.p ->> ${index})::${type}`
    )
    .join(", ")
