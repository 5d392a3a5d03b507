/** The circuits of clients and the answers that nobody could read, as `TokenStorage/Circuits.ts` has them. */
import { maxSealed, sealedFor } from "../../../TokenStorage.js"
import { maxTried, readingTime } from "../../Circuits.js"
import { entered } from "./Beside.js"
import * as Parts from "./Parts.js"

const instant: Parts.Field = ["v_now", "bigint"]

/** Whose circuit, and the time between two trials. */
export const circuitParameters: ReadonlyArray<Parts.Field> = [
  ["fingerprint", "text"],
  ["interval", "bigint"]
]

/** An answer to be sealed, and what it says about all users of the client. */
export const sealedParameters: ReadonlyArray<Parts.Field> = [
  ["sealed_client_id", "text"],
  ["spent_hash", "text"],
  ["answer_hash", "text"],
  ["envelope", "text"],
  ["drift_reason", "text"],
  ["drift_users", "integer"]
]

/** The wait before the trial of this number that puts a user at risk, in ms. */
export const riskDelay = (risks: string) => `(least(60, power(2, least(${risks}, 6))) * 60000)::bigint`

/** The circuit after something opened it, or was found open to be so again. */
const open: Parts.Definition = {
  name: "open_circuit_1",
  parameters: [
    ["client_id", "text"],
    ["fingerprint", "text"],
    ["cause", "text"],
    ["reason", "text"],
    ["user", "text"],
    ["interval", "bigint"],
    ["now", "bigint"]
  ],
  returns: "cal_tokens.client",
  declare: [["k", "cal_tokens.client"]],
  body: `
  insert into cal_tokens.client (client_id, fingerprint) values (p_client_id, p_fingerprint) on conflict do nothing;
  select * into k from cal_tokens.client c
  where c.client_id = p_client_id and c.fingerprint = p_fingerprint for no key update;
  if k.cause = 'drift' then
    -- Nothing but an answer that is understood ends a drift.
    update cal_tokens.client c set opened_at = p_now, trial_at = p_now + p_interval
    where c.client_id = p_client_id and c.fingerprint = p_fingerprint returning * into k;
    return k;
  end if;
  update cal_tokens.client c set cause = p_cause, reason = p_reason, opened_at = p_now, trial_at = p_now + p_interval,
    since = case when k.cause is null then p_now else c.since end, risk_at = p_now + ${riskDelay("0")}, risks = 0,
    tried = case when p_cause = 'client' or p_user is null then '[]' else jsonb_build_array(p_user) end || (
      select coalesce(jsonb_agg(kept.who), '[]') from (
        select t.who from jsonb_array_elements_text(k.tried) with ordinality as t (who, place)
        where k.cause = p_cause and p_cause <> 'client' and t.who is distinct from p_user
        order by t.place limit ${maxTried} - 1
      ) kept
    )
  where c.client_id = p_client_id and c.fingerprint = p_fingerprint returning * into k;
  return k;`
}

/** Keeps an answer beside its user's row; without one, nothing. */
const seal: Parts.Definition = {
  name: "seal_1",
  parameters: [["user", "text"], ...sealedParameters, ...circuitParameters, ["history", "jsonb"], ["now", "bigint"]],
  returns: "boolean",
  declare: [instant],
  body: `
  perform from cal_tokens.connection c where c.user_ulid = p_user for key share;
  if not found then
    return false;
  end if;
  ${Parts.durable}
  v_now := ${Parts.now};
  delete from cal_tokens.sealed_answer s where s.client_id = p_sealed_client_id and s.at <= v_now - ${sealedFor};
  -- Offered before, it is no news of anything.
  if exists (
    select from cal_tokens.sealed_answer s
    where s.user_ulid = p_user and s.spent_hash = p_spent_hash and s.answer_hash = p_answer_hash
      and s.at > v_now - ${sealedFor}
  ) then
    return true;
  end if;
  insert into cal_tokens.sealed_answer (user_ulid, spent_hash, answer_hash, client_id, at, envelope)
  values (p_user, p_spent_hash, p_answer_hash, p_sealed_client_id, v_now, p_envelope);
  delete from cal_tokens.sealed_answer s where s.user_ulid = p_user and s.id in (
    select o.id from (
      select k.id, row_number() over (order by k.id) as first, row_number() over (order by k.id desc) as last
      from cal_tokens.sealed_answer k where k.user_ulid = p_user
    ) o where o.first > ${maxSealed.first} and o.last > ${maxSealed.last}
  );
  ${entered("'sealed'")}
  if p_fingerprint is not null and (p_drift_users = 1 or p_drift_users = 2 and exists (
    select from cal_tokens.sealed_answer s
    where s.client_id = p_sealed_client_id and s.user_ulid <> p_user and s.at > v_now - ${sealedFor}
  )) then
    perform cal_tokens.open_circuit_1(p_sealed_client_id, p_fingerprint, 'drift', p_drift_reason, null, p_interval, v_now);
  end if;
  return true;`
}

/** Sealed answers of so many users after a user, in the order of their users. */
const sealed: Parts.Definition = {
  name: "sealed_1",
  parameters: [
    ["after", "text"],
    ["limit", "integer"],
    ["now", "bigint"]
  ],
  returns: "table (user_ulid text, client_id text, spent_hash text, at float8, envelope text)",
  declare: [instant],
  body: `
  v_now := ${Parts.now};
  return query
    select s.user_ulid, s.client_id, s.spent_hash, s.at::float8, s.envelope from (
      select distinct d.user_ulid from cal_tokens.sealed_answer d
      where d.user_ulid > coalesce(p_after, '') and d.at > v_now - ${sealedFor} order by d.user_ulid limit p_limit
    ) page join cal_tokens.sealed_answer s on s.user_ulid = page.user_ulid
    where s.at > v_now - ${sealedFor} order by s.user_ulid, s.id;`
}

/** Whether an answer is sealed to the token that would be spent of the row `r`. */
export const hasSealed = `exists (select from cal_tokens.sealed_answer s where s.user_ulid = r.user_ulid
    and s.spent_hash in (r.journal, r.refresh_hash) and s.at > v_now - ${sealedFor})`

/** Whether any answer of the row `r` is sealed. */
export const keepsAnswer = `exists (select from cal_tokens.sealed_answer s where s.user_ulid = r.user_ulid
    and s.at > v_now - ${sealedFor})`

/** Whether a client's last drift ended so short a time ago that its answers may still be being read. */
export const isReading = (endedAt: string) => `(${endedAt} <= v_now and v_now < ${endedAt} + ${readingTime})`

/** All that is sealed of one user, as JSON. */
export const sealedOf = (user: string) => `(
    select coalesce(jsonb_agg(jsonb_build_object('client_id', s.client_id, 'spent_hash', s.spent_hash, 'at', s.at,
      'envelope', s.envelope) order by s.id), '[]')
    from cal_tokens.sealed_answer s where s.user_ulid = ${user} and s.at > v_now - ${sealedFor})`

/** Closes the circuit, if one is open and `condition` holds of it. */
export const close = (clientId: string, condition: string) => `
  if p_fingerprint is not null then
    update cal_tokens.client c set cause = null, closed_at = v_now,
      drift_ended_at = case when c.cause = 'drift' then v_now else c.drift_ended_at end
    where c.client_id = ${clientId} and c.fingerprint = p_fingerprint and c.cause is not null and (${condition});
  end if;`

export const definitions: ReadonlyArray<Parts.Definition> = [open, seal, sealed]
