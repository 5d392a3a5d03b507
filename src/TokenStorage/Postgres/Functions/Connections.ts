/** What people and programs do to a user's row: connect, update, import, disconnect, end its sessions. */
import { entered, withoutDead } from "./Beside.js"
import { close } from "./Circuits.js"
import * as Parts from "./Parts.js"

const row: Parts.Field = ["r", "cal_tokens.connection"]
const instant: Parts.Field = ["v_now", "bigint"]

/** Answers what is new in the row. */
const written = `
  version := r.version;
  sessions_after := r.sessions_after;
  updated_at := r.updated_at;
  handed_out_at := r.handed_out_at;
  handed_out_code := r.handed_out_code;
  return next;`

const writtenFields =
  "version float8, sessions_after float8, updated_at float8, handed_out_at float8, handed_out_code text"

/** What a new pair from outside does to the row `r`, which is locked; `v_keeps`: it is certainly the same account. */
const replaced = (version: string) => `${Parts.blank}, ${Parts.active}, ${Parts.newPair}, updated_at = v_now,
  fallbacks = case when v_keeps then ${withoutDead(
    "jsonb_build_array(jsonb_build_object('hash', c.refresh_hash, 'pair', c.pair)) || c.fallbacks",
    "jsonb_build_array(p_refresh_hash)"
  )} else '[]' end,
  version = ${version}`

/** A user, and the account that the pair belongs to. */
const accountParameters: ReadonlyArray<Parts.Field> = [
  ["user", "text"],
  ["kind", "text"],
  ["client_id", "text"],
  ["cal_user_id", "bigint"],
  ["scope", "text"]
]

const nextVersion = "nextval('cal_tokens.version')"

/** Another user's row goes, with all that hangs on it. */
const removeOther = `
      delete from cal_tokens.connection o where o.user_ulid = v_other returning * into v_gone;
      perform cal_tokens.log_1(v_now, v_other, 'disconnected', null, null, null, v_gone.cause, v_gone.since);
      displaced := v_other;`

const connect: Parts.Definition = {
  name: "connect_1",
  parameters: [
    ...accountParameters,
    ...Parts.pairParameters,
    ...Parts.lookupParameters,
    ["handed_out_at", "bigint"],
    ["handed_out_code", "text"],
    ["replace", "boolean"],
    ["fingerprint", "text"],
    ...Parts.scheduleParameters,
    ["history", "jsonb"],
    ["now", "bigint"]
  ],
  returns: `table (${writtenFields}, displaced text)`,
  declare: [
    row,
    instant,
    ["v_gone", "cal_tokens.connection"],
    ["v_other", "text"],
    ["v_version", "bigint"],
    ["v_cause", "text"],
    ["v_since", "bigint"],
    ["v_keeps", "boolean"],
    ["v_is_new", "boolean"]
  ],
  body: `
  select a.user_ulid into v_other from cal_tokens.cal_account a
  where a.kind = p_kind and a.client_id = p_client_id and a.cal_user_id = p_cal_user_id and a.user_ulid <> p_user;
  if v_other is not null and not p_replace then
    return;
  end if;
  ${Parts.durable}
  -- Rows in the order of their users, then accounts: whoever takes accounts from each other must not wait in a circle.
  perform from cal_tokens.connection c where c.user_ulid in (p_user, v_other) order by c.user_ulid for no key update;
  select * into r from cal_tokens.connection c where c.user_ulid = p_user;
  v_is_new := not found;
  v_now := ${Parts.now};
  if v_other is not null then
    -- It may have moved on to another account since.
    select a.user_ulid into v_other from cal_tokens.cal_account a
    where a.kind = p_kind and a.client_id = p_client_id and a.cal_user_id = p_cal_user_id and a.user_ulid = v_other;
    if found then
      ${removeOther}
    end if;
  end if;
  v_version := ${nextVersion};
  if v_is_new then
    insert into cal_tokens.connection as c (user_ulid, kind, client_id, cal_user_id, scope, pair, refresh_hash,
      access_token_expires_at, refresh_token_expires_at, lookups, lookups_code, handed_out_at, handed_out_code, version,
      sessions_after, updated_at)
    values (p_user, p_kind, p_client_id, p_cal_user_id, p_scope, p_pair, p_refresh_hash,
      p_access_token_expires_at, p_refresh_token_expires_at, p_lookups, p_lookups_code, p_handed_out_at,
      p_handed_out_code, v_version, v_version, v_now)
    returning * into r;
  else
    v_keeps := coalesce(r.kind = p_kind and r.client_id = p_client_id and r.cal_user_id = p_cal_user_id, false);
    v_cause := r.cause;
    v_since := r.since;
    if not v_keeps then
      -- Given up before the row moves on: the key refers to the account as the row names it.
      delete from cal_tokens.cal_account a where a.user_ulid = p_user;
    end if;
    update cal_tokens.connection c set kind = p_kind, client_id = p_client_id, cal_user_id = p_cal_user_id,
      scope = p_scope, lookups = p_lookups, lookups_code = p_lookups_code,
      handed_out_at = coalesce(p_handed_out_at, c.handed_out_at),
      handed_out_code = case when p_handed_out_at is null then c.handed_out_code else p_handed_out_code end,
      sessions_after = v_version, ${Parts.unimported}, ${replaced("v_version")}
    where c.user_ulid = p_user
    returning * into r;
  end if;
  if p_cal_user_id is not null and v_keeps is not true then
    insert into cal_tokens.cal_account (kind, client_id, cal_user_id, user_ulid)
    values (p_kind, p_client_id, p_cal_user_id, p_user);
  end if;
  perform cal_tokens.look_up_1(p_user, p_names);
  delete from cal_tokens.sealed_answer s where s.user_ulid = p_user;
  -- Before the client's row, as a claim of what is due takes the two.
  ${Parts.schedule}
  ${close("p_client_id", "true")}
  perform cal_tokens.log_1(v_now, p_user, 'connected', r.version, null, null, v_cause, v_since);
  ${entered("'stored'")}
  ${written}`
}

const update: Parts.Definition = {
  name: "update_1",
  parameters: [
    ["user", "text"],
    ["kind", "text"],
    ["client_id", "text"],
    ["cal_user_id", "bigint"],
    ...Parts.pairParameters,
    ...Parts.scheduleParameters,
    ["history", "jsonb"],
    ["now", "bigint"]
  ],
  returns: `table (${writtenFields}, kind text, client_id text, cal_user_id float8, scope text)`,
  declare: [row, instant, ["v_cause", "text"], ["v_since", "bigint"], ["v_keeps", "boolean"]],
  body: `
  ${Parts.lock}
  -- The pair was sealed for this account.
  if not ${Parts.fits} then
    return;
  end if;
  ${Parts.durable}
  -- A nameless account is never known to be the same.
  v_keeps := r.cal_user_id is not null;
  v_cause := r.cause;
  v_since := r.since;
  update cal_tokens.connection c set lookups = '[]', lookups_code = null, ${Parts.unimported}, ${replaced(nextVersion)}
  where c.user_ulid = p_user
  returning * into r;
  perform cal_tokens.look_up_1(p_user, '[]');
  delete from cal_tokens.sealed_answer s where s.user_ulid = p_user;
  perform cal_tokens.log_1(v_now, p_user, 'updated', r.version, null, null, v_cause, v_since);
  ${Parts.schedule}
  ${entered("'stored'")}
  kind := r.kind;
  client_id := r.client_id;
  cal_user_id := r.cal_user_id;
  scope := r.scope;
  ${written}`
}

/** One row of many: see {@link Parts.all}. */
const takeOver: Parts.Definition = {
  name: "import_1",
  parameters: [
    ...accountParameters,
    ...Parts.pairParameters,
    ["issued_at", "bigint"],
    ...Parts.scheduleParameters,
    ["history", "jsonb"],
    ["now", "bigint"]
  ],
  returns: `table (verdict text, ${writtenFields})`,
  declare: [
    row,
    instant,
    ["v_is_new", "boolean"],
    ["v_keeps", "boolean"],
    ["v_version", "bigint"],
    ["v_cause", "text"],
    ["v_since", "bigint"]
  ],
  body: `
  select * into r from cal_tokens.connection c where c.user_ulid = p_user for no key update;
  v_is_new := not found;
  v_now := ${Parts.now};
  if not v_is_new and (r.kind <> p_kind or r.client_id <> p_client_id or coalesce(r.cal_user_id <> p_cal_user_id, false)) then
    verdict := 'OtherAccount';
  elsif r.refresh_hash = p_refresh_hash then
    verdict := 'Unchanged';
  elsif r.refresh_hash is distinct from r.imported_hash then
    verdict := 'RefreshedHere';
  elsif (case when r.imported_issued_at <> p_issued_at then p_issued_at < r.imported_issued_at
    else p_access_token_expires_at < r.access_token_expires_at end) then
    verdict := 'Unchanged';
  elsif exists (
    select from cal_tokens.cal_account a
    where a.kind = p_kind and a.client_id = p_client_id and a.cal_user_id = p_cal_user_id and a.user_ulid <> p_user
  ) then
    verdict := 'AccountInUse';
  elsif v_is_new then
    verdict := 'Imported';
  else
    verdict := 'Updated';
  end if;
  if verdict not in ('Imported', 'Updated') then
    return next;
    return;
  end if;
  ${Parts.durable}
  v_version := ${nextVersion};
  if v_is_new then
    insert into cal_tokens.connection as c (user_ulid, kind, client_id, cal_user_id, scope, pair, refresh_hash,
      access_token_expires_at, refresh_token_expires_at, imported_hash, imported_issued_at, imported_at, version,
      sessions_after, updated_at)
    values (p_user, p_kind, p_client_id, p_cal_user_id, p_scope, p_pair, p_refresh_hash,
      p_access_token_expires_at, p_refresh_token_expires_at, p_refresh_hash, p_issued_at, v_now, v_version,
      v_version, v_now)
    returning * into r;
  else
    v_keeps := coalesce(r.cal_user_id = p_cal_user_id, false);
    v_cause := r.cause;
    v_since := r.since;
    if not v_keeps then
      delete from cal_tokens.cal_account a where a.user_ulid = p_user;
    end if;
    update cal_tokens.connection c set cal_user_id = p_cal_user_id, scope = p_scope, lookups = '[]',
      lookups_code = null, imported_hash = p_refresh_hash, imported_issued_at = p_issued_at, imported_at = v_now,
      sessions_after = case when v_keeps then c.sessions_after else v_version end, ${replaced("v_version")}
    where c.user_ulid = p_user
    returning * into r;
    perform cal_tokens.look_up_1(p_user, '[]');
    delete from cal_tokens.sealed_answer s where s.user_ulid = p_user;
  end if;
  if p_cal_user_id is not null and v_keeps is not true then
    insert into cal_tokens.cal_account (kind, client_id, cal_user_id, user_ulid)
    values (p_kind, p_client_id, p_cal_user_id, p_user);
  end if;
  ${Parts.schedule}
  perform cal_tokens.log_1(v_now, p_user, case when v_is_new then 'connected' else 'updated' end, r.version, null, null,
    v_cause, v_since);
  ${entered("'stored'")}
  ${written}`
}

const disconnect: Parts.Definition = {
  name: "disconnect_1",
  parameters: [
    ["user", "text"],
    ["now", "bigint"]
  ],
  returns: "boolean",
  declare: [row, instant],
  body: `
  delete from cal_tokens.connection c where c.user_ulid = p_user returning * into r;
  if not found then
    return false;
  end if;
  ${Parts.durable}
  v_now := ${Parts.now};
  perform cal_tokens.log_1(v_now, p_user, 'disconnected', null, null, null, r.cause, r.since);
  return true;`
}

const endSessions: Parts.Definition = {
  name: "end_sessions_1",
  parameters: [["user", "text"]],
  returns: "float8",
  declare: [["v_after", "bigint"]],
  body: `
  update cal_tokens.connection c set sessions_after = ${nextVersion}, lookups = '[]', lookups_code = null
  where c.user_ulid = p_user returning c.sessions_after into v_after;
  if not found then
    return null;
  end if;
  ${Parts.durable}
  perform cal_tokens.look_up_1(p_user, '[]');
  return v_after;`
}

/** In the order of the users, like whoever else takes several rows. */
const handedOut: Parts.Definition = {
  name: "handed_out_1",
  parameters: [["users", "jsonb"]],
  returns: "void",
  declare: [["v_each", "record"]],
  body: `
  for v_each in
    select u.user_ulid, u.at, u.code from jsonb_to_recordset(p_users) as u (user_ulid text, at bigint, code text)
    order by u.user_ulid collate "C"
  loop
    update cal_tokens.connection c set handed_out_at = v_each.at, handed_out_code = v_each.code
    where c.user_ulid = v_each.user_ulid and coalesce(c.handed_out_at, 0) < v_each.at;
  end loop;`
}

export const definitions: ReadonlyArray<Parts.Definition> = [
  connect,
  update,
  takeOver,
  Parts.all(takeOver),
  disconnect,
  endSessions,
  handedOut
]
