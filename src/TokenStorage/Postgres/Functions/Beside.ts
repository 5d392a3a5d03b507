/** What is written beside a user's row, in the same call: look-ups by access token, and the log of changes. */
import { keptFor, maxEntries } from "../../../History.js"
import { maxFallbacks } from "../../../TokenStorage.js"
import { pruneBatch, pruneEvery, retention, retentionSlack, transitionRetention } from "../../ChangeLog.js"
import { millis } from "../../Rows.js"
import type { Definition } from "./Parts.js"

/** Fallbacks without the ones of some refresh tokens, newest first. What is no list of them holds none. */
const without: Definition = {
  name: "without_1",
  parameters: [
    ["fallbacks", "jsonb"],
    ["dead", "jsonb"],
    ["limit", "integer"]
  ],
  returns: "jsonb",
  body: `
  if p_fallbacks = '[]' or jsonb_typeof(p_fallbacks) <> 'array' then
    return '[]';
  end if;
  return (
    select coalesce(jsonb_agg(kept.entry order by kept.place), '[]') from (
      select f.entry, f.place from jsonb_array_elements(p_fallbacks) with ordinality as f (entry, place)
      where not p_dead ? (f.entry ->> 'hash') order by f.place limit p_limit
    ) kept
  );`
}

/** The user is looked up by these names, and by no others. */
const lookUp: Definition = {
  name: "look_up_1",
  parameters: [
    ["user", "text"],
    ["names", "jsonb"]
  ],
  returns: "void",
  body: `
  delete from cal_tokens.access_token_lookup l where l.user_ulid = p_user and not p_names ? l.name;
  insert into cal_tokens.access_token_lookup (name, user_ulid)
  select n.name, p_user from jsonb_array_elements_text(p_names) as n (name) on conflict do nothing;`
}

/** Removes some entries of a table that are older than so many ms; never one that somebody else holds. */
const prune = (table: string, age: number) => `
  delete from cal_tokens.${table} p where p.id in (
    select o.id from cal_tokens.${table} o where o.at < p_at - ${age} order by o.at limit ${pruneBatch}
    for update skip locked
  );`

/**
 * Enters a change into the log, and whether a user has to reconnect from now on, or no longer has to, among what is to be
 * delivered. Old entries go as new ones come. `ended_…`: what the change put an end to.
 */
const log: Definition = {
  name: "log_1",
  parameters: [
    ["at", "bigint"],
    ["user", "text"],
    ["kind", "text"],
    ["version", "bigint"],
    ["cause", "text"],
    ["since", "bigint"],
    ["ended_cause", "text"],
    ["ended_since", "bigint"]
  ],
  returns: "void",
  declare: [["v_id", "bigint"]],
  body: `
  insert into cal_tokens.change (at, user_ulid, kind, version, cause, since, reauthorized)
  values (p_at, p_user, p_kind, p_version, p_cause, p_since, p_ended_since is not null)
  returning id into v_id;
  if p_ended_since is not null then
    insert into cal_tokens.transition (kind, user_ulid, at, cause, since, next_at)
    values ('reauthorized', p_user, p_at, p_ended_cause, p_ended_since, p_at);
  elsif p_kind = 'reauthorizationRequired' then
    insert into cal_tokens.transition (kind, user_ulid, at, cause, since, imported_at, next_at)
    values (p_kind, p_user, p_at, p_cause, p_since,
      (select c.imported_at from cal_tokens.connection c where c.user_ulid = p_user), p_at);
  end if;
  if v_id % ${pruneEvery} = 0 then
    ${prune("change", millis(retention) + millis(retentionSlack))}
    ${prune("transition", millis(transitionRetention))}
  end if;`
}

/**
 * Enters into a user's history what a process says of its attempt, or of a pair from outside. Nobody is waited for: what somebody
 * else removes is left to them.
 */
const enter: Definition = {
  name: "enter_1",
  parameters: [
    ["at", "bigint"],
    ["user", "text"],
    ["written", "text"],
    ["event", "jsonb"]
  ],
  returns: "void",
  declare: [["v_id", "bigint"]],
  body: `
  insert into cal_tokens.history (user_ulid, at, written, event) values (p_user, p_at, p_written, p_event)
  returning id into v_id;
  if v_id % ${pruneEvery} = 0 then
    delete from cal_tokens.history h where (h.user_ulid, h.id) in (
      select o.user_ulid, o.id from cal_tokens.history o where o.user_ulid = p_user and o.id <= (
        select l.id from cal_tokens.history l where l.user_ulid = p_user order by l.id desc offset ${maxEntries} limit 1
      ) for update skip locked
    );
    delete from cal_tokens.history h where (h.user_ulid, h.id) in (
      select o.user_ulid, o.id from cal_tokens.history o where o.at < p_at - ${keptFor} order by o.at limit ${pruneBatch}
      for update skip locked
    );
  end if;`
}

export const definitions: ReadonlyArray<Definition> = [without, lookUp, log, enter]

/** Calls of the above. */
export const entered = (written: string, event = "p_history") => `
    if ${event} is not null then
      perform cal_tokens.enter_1(v_now, p_user, ${written}, ${event});
    end if;`
export const withoutDead = (fallbacks: string, dead: string, limit = maxFallbacks) =>
  `cal_tokens.without_1(${fallbacks}, ${dead}, ${limit})`
