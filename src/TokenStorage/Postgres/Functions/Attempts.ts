/** The writes of an attempt: the table at the head of `TokenStorage`, event by event. */
import { maxFallbacks } from "../../../TokenStorage.js"
import { brakeReason, keptReason, readingTime } from "../../Circuits.js"
import { entered, withoutDead } from "./Beside.js"
import * as Circuits from "./Circuits.js"
import * as Parts from "./Parts.js"

const row: Parts.Field = ["r", "cal_tokens.connection"]
const instant: Parts.Field = ["v_now", "bigint"]

/** An instant that something is added to, whatever somebody wrote there. */
const sane = (instant: string) => `case when ${instant} > 9e15 then 9e15::bigint else ${instant} end`

/** What a claim answers. */
export const claimFields: ReadonlyArray<Parts.Field> = [
  ["verdict", "text"],
  ["retry_after", "float8"],
  ["journal", "text"],
  ["last_error", "jsonb"],
  ["consecutive_failures", "integer"],
  ["sealed", "jsonb"],
  ["trial", "text"],
  ["trial_in", "float8"],
  ["held_cause", "text"],
  ["held_reason", "text"],
  ...Parts.stored
]

/** Nobody ended the attempt before this one: its process is gone, or sleeps. */
const lapsed = `perform cal_tokens.enter_1(v_now, p_user, 'noted', jsonb_strip_nulls(jsonb_build_object('_tag', 'Lapsed',
        'process', substring(r.attempt_id from '^([0-9a-z]{1,16})\\.'), 'startedAt', r.attempt_started_at,
        'token', left(r.journal, 8))));`

const claim: Parts.Definition = {
  name: "claim_1",
  parameters: [
    ["user", "text"],
    ["attempt", "text"],
    ["purpose", "text"],
    ["known_version", "float8"],
    ["account_client_id", "text"],
    ["account_cal_user_id", "bigint"],
    ["lease", "bigint"],
    ["window", "bigint"],
    ["max_attempts", "integer"],
    ["expired_for", "bigint"],
    ["rejected_interval", "bigint"],
    ["client_id", "text"],
    ...Circuits.circuitParameters,
    ["now", "bigint"]
  ],
  returns: `table (${claimFields.map((field) => field.join(" ")).join(", ")})`,
  declare: [
    row,
    instant,
    ["k", "cal_tokens.client"],
    ["v_hold", "boolean"],
    ["v_unheld", "boolean"],
    ["v_counting", "boolean"],
    ["v_window_over", "bigint"],
    ["v_over", "bigint"],
    ["v_risk", "boolean"],
    ["v_waiting", "boolean"],
    ["v_trial_at", "bigint"],
    ["v_wait", "bigint"],
    ["v_longest", "bigint"]
  ],
  body: `
  ${Parts.lock}
  -- The token has expired since the last attempt started: what failed before must not postpone the next one.
  v_hold := p_purpose = 'Hold';
  v_unheld := v_hold
    or (p_expired_for is not null and coalesce(r.attempt_started_at < v_now - p_expired_for, true));
  v_window_over := coalesce((${sane("r.window_started_at")}) + p_window, v_now);
  -- What is held is given back as it was, with its window.
  v_counting := v_hold or (not v_unheld and v_window_over > v_now);
  if p_purpose = 'Refresh' and r.version > p_known_version then
    verdict := 'Newer';
  elsif p_purpose in ('Refresh', 'Ahead') and r.status <> 'active' then
    verdict := 'Terminal';
  elsif p_purpose = 'Reissue' and (r.kind, r.client_id, r.cal_user_id) is distinct from
    ('ManagedUser', p_account_client_id, p_account_cal_user_id) then
    verdict := 'Moved';
  elsif p_purpose = 'Reissue' and r.reissued_version > p_known_version and r.reissued_version <= r.version then
    verdict := 'Newer';
  elsif r.attempt_id is not null and r.lease_until > v_now then
    verdict := 'Busy';
    v_over := r.lease_until;
  elsif (${sane("r.rejected_refresh_at")}) + p_rejected_interval > v_now then
    verdict := 'RejectedRecently';
    v_over := (${sane("r.rejected_refresh_at")}) + p_rejected_interval;
  elsif not v_unheld and r.next_attempt_at > v_now then
    verdict := 'CoolingDown';
    v_over := r.next_attempt_at;
  elsif not v_hold and v_counting and r.attempts >= p_max_attempts then
    verdict := 'CoolingDown';
    v_over := v_window_over;
  elsif r.journal is not null and r.probe_not_before > v_now then
    verdict := 'ProbeLater';
    v_over := r.probe_not_before;
  else
    verdict := 'Claimed';
    if not v_hold and p_fingerprint is not null then
      select * into k from cal_tokens.client c
      where c.client_id = p_client_id and c.fingerprint = p_fingerprint and c.cause is not null for no key update;
      if found then
        v_risk := k.cause = 'drift' and r.kind = 'OAuth2';
        v_trial_at := case when v_risk then k.risk_at else k.trial_at end;
        v_wait := v_trial_at - v_now + case when not v_risk and k.tried ? p_user then p_interval else 0 end;
        -- Further away than that only after the clock was put back.
        v_longest := case when v_risk then ${Circuits.riskDelay("k.risks")} else p_interval end;
        v_waiting := p_purpose = 'Reissue' or p_expired_for is not null;
        -- Nobody's token that still serves is put at risk, and one that was spent for an answer would show nothing. Trials are
        -- for people who wait.
        if p_purpose = 'Ahead' or k.cause = 'drift' and (not v_waiting or v_risk and ${Circuits.hasSealed}) then
          verdict := 'Held';
          v_over := v_now + greatest(v_wait, p_interval);
        elsif v_wait > 0 and v_trial_at - v_now <= v_longest then
          verdict := 'Held';
          v_over := v_now + v_wait;
        end if;
        if verdict = 'Held' then
          trial_in := greatest(0, v_trial_at - v_now);
          held_cause := k.cause;
          held_reason := k.reason;
        else
          trial := case when k.cause = 'drift' and r.kind = 'ManagedUser' then 'reissue' else 'refresh' end;
          update cal_tokens.client c set
            trial_at = case when v_risk then c.trial_at else v_now + p_interval end,
            risk_at = case when v_risk then v_now + ${Circuits.riskDelay("c.risks + 1")} else c.risk_at end,
            risks = case when v_risk then c.risks + 1 else c.risks end
          where c.client_id = p_client_id and c.fingerprint = p_fingerprint;
        end if;
      elsif r.kind = 'OAuth2' and ${Circuits.hasSealed} then
        -- Not locked: a drift that ends just now was open for all who ask while it does.
        select * into k from cal_tokens.client c where c.client_id = p_client_id and c.fingerprint = p_fingerprint;
        if found and k.cause is null and ${Circuits.isReading("k.drift_ended_at")} then
          verdict := 'Held';
          v_over := v_now + least(p_interval, k.drift_ended_at + ${readingTime} - v_now);
          trial_in := 0;
          held_cause := 'drift';
          held_reason := ${Parts.text(keptReason)};
        end if;
      end if;
    end if;
  end if;
  if verdict in ('Claimed', 'Terminal', 'Held') then
    sealed := ${Circuits.sealedOf("p_user")};
  end if;
  if verdict = 'Claimed' then
    ${Parts.durable}
    if r.attempt_id is not null then
      ${lapsed}
    end if;
    update cal_tokens.connection c set attempt_id = p_attempt, attempt_started_at = v_now,
      lease_until = v_now + p_lease, journal = coalesce(r.journal, r.refresh_hash), probe_not_before = null,
      window_started_at = case when v_counting then coalesce(r.window_started_at, v_now) else v_now end,
      attempts = case when v_counting then r.attempts + 1 else 1 end,
      rejected_refresh_at = case when p_rejected_interval is null then r.rejected_refresh_at else v_now end,
      prior_started_at = r.attempt_started_at, prior_rejected_at = r.rejected_refresh_at
    where c.user_ulid = p_user;
  end if;
  retry_after := v_over - v_now;
  journal := r.journal;
  last_error := r.last_error;
  consecutive_failures := r.consecutive_failures;
  ${Parts.answer}`
}

const spend: Parts.Definition = {
  name: "spend_1",
  parameters: [
    ["user", "text"],
    ["attempt", "text"],
    ["next", "text"],
    ["dead", "jsonb"]
  ],
  returns: `table (${Parts.storedFields})`,
  declare: [row],
  body: `
  update cal_tokens.connection c set journal = p_next, fallbacks = ${withoutDead("c.fallbacks", "p_dead")}
  where c.user_ulid = p_user and c.attempt_id = p_attempt
  returning * into r;
  if not found then
    return;
  end if;
  ${Parts.durable}
  ${Parts.answer}`
}

const commit: Parts.Definition = {
  name: "commit_1",
  parameters: [
    ["user", "text"],
    ["attempt", "text"],
    ["kind", "text"],
    ["client_id", "text"],
    ["cal_user_id", "bigint"],
    ["scope", "text"],
    ...Parts.pairParameters,
    ["seen", "text"],
    ["dead", "jsonb"],
    ["reissued", "boolean"],
    ["lookups_before", "text"],
    ...Parts.lookupParameters,
    ["unsealed", "text"],
    ["probe_in", "bigint"],
    ...Circuits.sealedParameters,
    ...Circuits.circuitParameters,
    ...Parts.scheduleParameters,
    ["history", "jsonb"],
    ["now", "bigint"]
  ],
  returns: `table (verdict text, ${Parts.storedFields})`,
  declare: [
    row,
    instant,
    ["v_fits", "boolean"],
    ["v_cal_user_id", "bigint"],
    ["v_finds", "boolean"],
    ["v_version", "bigint"],
    ["v_claimed_at", "bigint"],
    ["v_cause", "text"],
    ["v_since", "bigint"]
  ],
  body: `
  ${Parts.lock}
  v_claimed_at := case when r.attempt_id = p_attempt then r.attempt_started_at else -1 end;
  if p_unsealed is not null then
    delete from cal_tokens.sealed_answer s where s.user_ulid = p_user and s.spent_hash = p_unsealed;
  end if;
  -- The pair was sealed for this account: of another one, it would not open in this row.
  v_fits := ${Parts.fits};
  if r.attempt_id = p_attempt and v_fits then
    verdict := 'Stored';
  elsif r.refresh_hash = p_refresh_hash then
    verdict := 'AlreadyStored';
  elsif r.fallbacks @> jsonb_build_array(jsonb_build_object('hash', p_refresh_hash)) then
    verdict := 'AlreadyKept';
  elsif r.refresh_hash = p_seen and v_fits then
    verdict := 'Stored';
  elsif v_fits and r.cal_user_id is not null then
    verdict := 'Kept';
  else
    verdict := 'Discarded';
  end if;
  v_cause := r.cause;
  v_since := r.since;
  if verdict = 'Stored' then
    ${Parts.durable}
    v_finds := coalesce(r.lookups = p_lookups_before, false);
    v_version := nextval('cal_tokens.version');
    -- The first name of an account, unless it is somebody else's: a pair is never lost for its name.
    if r.cal_user_id is null and not exists (
      select from cal_tokens.cal_account a
      where a.kind = r.kind and a.client_id = r.client_id and a.cal_user_id = p_cal_user_id
    ) then
      v_cal_user_id := p_cal_user_id;
    end if;
    update cal_tokens.connection c set attempt_id = null, lease_until = null, ${Parts.unharmed}, ${Parts.active},
      ${Parts.newPair}, cal_user_id = coalesce(c.cal_user_id, v_cal_user_id),
      scope = coalesce(p_scope, c.scope),
      fallbacks = ${withoutDead("c.fallbacks", "p_dead || to_jsonb(p_refresh_hash)")},
      version = v_version, updated_at = v_now, imported_hash = null, imported_issued_at = null,
      reissued_version = case when p_reissued then v_version else c.reissued_version end,
      lookups = case when v_finds then p_lookups else '[]' end,
      lookups_code = case when v_finds then p_lookups_code end,
      -- Of a pair whose refresh token was spent for the access token, the successor is still to be found.
      journal = case when p_probe_in is not null then p_refresh_hash end, probe_not_before = v_now + p_probe_in
    where c.user_ulid = p_user
    returning * into r;
    delete from cal_tokens.sealed_answer s where s.user_ulid = p_user and s.at < v_claimed_at;
    if v_cal_user_id is not null then
      insert into cal_tokens.cal_account (kind, client_id, cal_user_id, user_ulid)
      values (r.kind, r.client_id, r.cal_user_id, p_user);
    end if;
    perform cal_tokens.look_up_1(p_user, case when v_finds then p_names else '[]' end);
    perform cal_tokens.log_1(v_now, p_user, case when p_reissued then 'reissued' else 'refreshed' end, r.version, null,
      null, v_cause, v_since);
    ${Parts.schedule}
    ${entered("'stored'")}
    -- Whoever committed has the pair.
    r.pair := null;
  elsif verdict = 'Kept' then
    ${Parts.durable}
    update cal_tokens.connection c set ${Parts.active}, updated_at = v_now,
      fallbacks = jsonb_build_array(jsonb_build_object('hash', p_refresh_hash, 'pair', p_pair))
        || ${withoutDead("c.fallbacks", "p_dead", maxFallbacks - 1)}
    where c.user_ulid = p_user
    returning * into r;
    if v_since is not null then
      perform cal_tokens.log_1(v_now, p_user, 'reauthorized', r.version, null, null, v_cause, v_since);
    end if;
    ${entered("'kept'")}
  end if;
  if p_envelope is not null then
    perform cal_tokens.seal_1(p_user, p_sealed_client_id, p_spent_hash, p_answer_hash, p_envelope, p_drift_reason,
      p_drift_users, p_fingerprint, p_interval, null, v_now);
  end if;
  -- An answer that is not understood says nothing good of the client.
  if p_envelope is null then
    ${Circuits.close("p_client_id", "p_unsealed is not null or c.opened_at < v_claimed_at")}
  end if;
  ${Parts.answer}`
}

const fail: Parts.Definition = {
  name: "fail_1",
  parameters: [
    ["user", "text"],
    ["attempt", "text"],
    ["failure", "text"],
    ["error", "jsonb"],
    ["backoff", "bigint"],
    ["probe_in", "bigint"],
    ["cause", "text"],
    ["dead", "jsonb"],
    ["probe", "text"],
    ["refusal", "text"],
    ["client_id", "text"],
    ...Circuits.sealedParameters,
    ["brake_users", "integer"],
    ["brake_window", "bigint"],
    ...Circuits.circuitParameters,
    ["history", "jsonb"],
    ["now", "bigint"]
  ],
  returns: `table (recorded boolean, is_mine boolean, retry_after float8, held_cause text, held_reason text,
    ${Parts.storedFields})`,
  declare: [
    row,
    instant,
    ["k", "cal_tokens.client"],
    ["v_failure", "text"],
    ["v_granted", "bigint"],
    ["v_refused", "bigint"]
  ],
  body: `
  ${Parts.lock}
  if p_envelope is not null then
    perform cal_tokens.seal_1(p_user, p_sealed_client_id, p_spent_hash, p_answer_hash, p_envelope, p_drift_reason, p_drift_users,
      p_fingerprint, p_interval, null, v_now);
  end if;
  if p_refusal is not null and p_fingerprint is not null then
    perform cal_tokens.open_circuit_1(p_client_id, p_fingerprint, 'client', p_refusal, null, p_interval, v_now);
  end if;
  v_failure := p_failure;
  is_mine := coalesce(r.attempt_id = p_attempt, false);
  recorded := is_mine and (p_failure <> 'Terminal' or ${withoutDead("r.fallbacks", "p_dead")} = '[]');
  if recorded then
    ${Parts.durable}
    if p_failure = 'Terminal' and p_fingerprint is not null then
      -- Under the circuit's row: of many who are refused at once, each sees those before it.
      insert into cal_tokens.client (client_id, fingerprint) values (p_client_id, p_fingerprint) on conflict do nothing;
      select * into k from cal_tokens.client c
      where c.client_id = p_client_id and c.fingerprint = p_fingerprint for no key update;
      if k.cause = 'drift' then
        if ${Circuits.keepsAnswer} then
          v_failure := 'Spared';
        end if;
      elsif k.cause is null and ${Circuits.isReading("k.drift_ended_at")} and ${Circuits.keepsAnswer} then
        v_failure := 'Spared';
        k.cause := 'drift';
        k.reason := ${Parts.text(keptReason)};
        k.trial_at := v_now + p_interval;
      else
        select count(*) filter (where g.kind in ('refreshed', 'reissued')),
          1 + count(distinct g.user_ulid) filter (where g.kind = 'reauthorizationRequired' and g.user_ulid <> p_user)
        into v_granted, v_refused
        from cal_tokens.change g join cal_tokens.connection o on o.user_ulid = g.user_ulid
        -- What was refused before Cal.com granted something shows nothing any more.
        where g.at > greatest(v_now - p_brake_window, k.closed_at) and o.client_id = p_client_id;
        if k.cause = 'brake' or (v_refused >= p_brake_users and v_refused > v_granted) then
          v_failure := 'Spared';
          k := cal_tokens.open_circuit_1(p_client_id, p_fingerprint, 'brake', ${Parts.text(brakeReason)}, p_user, p_interval, v_now);
        else
          -- Cal.com looks at a user only after it accepted the client.
          ${Circuits.close("p_client_id", "c.cause = 'client' and c.opened_at < r.attempt_started_at")}
        end if;
      end if;
      if v_failure = 'Spared' then
        retry_after := greatest(0, k.trial_at - v_now);
        held_cause := k.cause;
        held_reason := k.reason;
        v_failure := 'Released';
      end if;
    end if;
    case v_failure
      when 'NotSpent' then
        update cal_tokens.connection c set ${Parts.closed}, consecutive_failures = c.consecutive_failures + 1,
          last_error = p_error, next_attempt_at = case when p_backoff > 0 then v_now + p_backoff end
        where c.user_ulid = p_user returning * into r;
      when 'Unknown' then
        update cal_tokens.connection c set attempt_id = null, lease_until = null, probe_not_before = v_now + p_probe_in,
          consecutive_failures = c.consecutive_failures + 1, last_error = p_error,
          next_attempt_at = case when p_backoff > 0 then v_now + p_backoff end
        where c.user_ulid = p_user returning * into r;
      when 'Released' then
        update cal_tokens.connection c set attempt_id = null, lease_until = null, probe_not_before = null,
          journal = p_probe, attempts = greatest(0, c.attempts - 1),
          attempt_started_at = c.prior_started_at, rejected_refresh_at = c.prior_rejected_at
        where c.user_ulid = p_user returning * into r;
      when 'Terminal' then
        if r.status = 'active' then
          perform cal_tokens.log_1(v_now, p_user, 'reauthorizationRequired', r.version, p_cause, v_now, null, null);
        end if;
        update cal_tokens.connection c set ${Parts.closed}, fallbacks = '[]', status = 'reauthorization_required',
          cause = p_cause, since = v_now, updated_at = v_now, next_attempt_at = null, last_error = null
        where c.user_ulid = p_user returning * into r;
    end case;
    ${entered("case when held_cause is null then 'recorded' else 'spared' end")}
  elsif not is_mine then
    ${entered("'late'")}
  end if;
  ${Parts.answer}`
}

const claimMany = Parts.many(claim)

// A pair that may name its user's account waits for whoever else names it.
const commitMany = Parts.many(commit, {
  alone: `c.cal_user_id is null and e.p ->> ${commit.parameters.findIndex(([name]) => name === "cal_user_id")} is not null`
})

export const definitions: ReadonlyArray<Parts.Definition> = [claim, claimMany, spend, commit, commitMany, fail]
