/** What is written beside a user's row, in the same call: look-ups by access token, and the log of changes. */
import { maxFallbacks, supersededLookup } from "../../../TokenStorage.js"
import { pruneBatch, retention, retentionSlack, transitionRetention } from "../../ChangeLog.js"
import { millis } from "../../Rows.js"
import type { Definition } from "./Parts.js"

/** How long a superseded access token still names its user, in ms. */
export const lookupMillis = supersededLookup.minutes * 60_000

/** Fallbacks without the ones of some refresh tokens, newest first. */
const without: Definition = {
  name: "without_1",
  parameters: [
    ["fallbacks", "jsonb"],
    ["dead", "jsonb"],
    ["limit", "integer"]
  ],
  returns: "jsonb",
  body: `
  if p_fallbacks = '[]' then
    return p_fallbacks;
  end if;
  return (
    select coalesce(jsonb_agg(kept.entry order by kept.place), '[]') from (
      select f.entry, f.place from jsonb_array_elements(p_fallbacks) with ordinality as f (entry, place)
      where not p_dead ? (f.entry ->> 'hash') order by f.place limit p_limit
    ) kept
  );`
}

/**
 * The user's access token is this one now. `displaced` is the one before, which stays known for a while; without it all
 * older ones of this user are forgotten. What the same tokens say of other users stays as it is.
 */
const lookUp: Definition = {
  name: "look_up_1",
  parameters: [
    ["user", "text"],
    ["hash", "text"],
    ["version", "bigint"],
    ["displaced", "text"],
    ["at", "bigint"]
  ],
  returns: "void",
  body: `
  insert into cal_tokens.access_token_lookup as l (hash, user_ulid, version, superseded_at)
  values (p_hash, p_user, p_version, null)
  on conflict (hash, user_ulid) do update set superseded_at = null, version = excluded.version;
  if p_displaced <> p_hash then
    update cal_tokens.access_token_lookup l set superseded_at = p_at
    where l.hash = p_displaced and l.user_ulid = p_user;
  end if;
  delete from cal_tokens.access_token_lookup l
  where l.user_ulid = p_user and l.hash <> p_hash
    and (p_displaced is null
      or l.superseded_at + ${lookupMillis} <= p_at
      or (select count(*) from cal_tokens.access_token_lookup o
        where o.user_ulid = p_user and o.version > l.version and o.hash <> p_hash) >= ${supersededLookup.tokens});`
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
  body: `
  insert into cal_tokens.change (at, user_ulid, kind, version, cause, since, reauthorized)
  values (p_at, p_user, p_kind, p_version, p_cause, p_since, p_ended_since is not null);
  if p_ended_since is not null then
    insert into cal_tokens.transition (kind, user_ulid, at, cause, since, next_at)
    values ('reauthorized', p_user, p_at, p_ended_cause, p_ended_since, p_at);
  elsif p_kind = 'reauthorizationRequired' then
    insert into cal_tokens.transition (kind, user_ulid, at, cause, since, next_at)
    values (p_kind, p_user, p_at, p_cause, p_since, p_at);
  end if;
  ${prune("change", millis(retention) + millis(retentionSlack))}
  ${prune("transition", millis(transitionRetention))}`
}

export const definitions: ReadonlyArray<Definition> = [without, lookUp, log]

/** Calls of the above. */
export const withoutDead = (fallbacks: string, dead: string, limit = maxFallbacks) =>
  `cal_tokens.without_1(${fallbacks}, ${dead}, ${limit})`
