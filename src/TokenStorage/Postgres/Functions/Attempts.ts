/** The writes of an attempt: the table at the head of `TokenStorage`, event by event. */
import { maxFallbacks } from "../../../TokenStorage.js"
import { withoutDead } from "./Beside.js"
import * as Parts from "./Parts.js"

const row: Parts.Field = ["r", "cal_tokens.connection"]
const instant: Parts.Field = ["v_now", "bigint"]

const claim: Parts.Definition = {
  name: "claim_1",
  parameters: [
    ["user", "text"],
    ["attempt", "text"],
    ["known_version", "float8"],
    ["reissue", "boolean"],
    ["lease", "bigint"],
    ["window", "bigint"],
    ["max_attempts", "integer"],
    ["expired_for", "bigint"],
    ["rejected_interval", "bigint"],
    ["now", "bigint"]
  ],
  returns: `table (verdict text, retry_after float8, journal text, last_error jsonb, consecutive_failures integer,
    ${Parts.storedFields})`,
  declare: [row, instant, ["v_unheld", "boolean"], ["v_window_over", "bigint"], ["v_over", "bigint"]],
  body: `
  ${Parts.lock}
  -- The token has expired since the last attempt started: what failed before must not postpone the next one.
  v_unheld := p_expired_for is not null and coalesce(r.attempt_started_at < v_now - p_expired_for, true);
  v_window_over := coalesce(r.window_started_at + p_window, v_now);
  if not p_reissue and r.version > p_known_version then
    verdict := 'Newer';
  elsif not p_reissue and r.status <> 'active' then
    verdict := 'Terminal';
  elsif r.attempt_id is not null and r.lease_until > v_now then
    verdict := 'Busy';
    v_over := r.lease_until;
  elsif r.rejected_refresh_at + p_rejected_interval > v_now then
    verdict := 'RejectedRecently';
    v_over := r.rejected_refresh_at + p_rejected_interval;
  elsif not v_unheld and r.next_attempt_at > v_now then
    verdict := 'CoolingDown';
    v_over := r.next_attempt_at;
  elsif not v_unheld and v_window_over > v_now and r.attempts >= p_max_attempts then
    verdict := 'CoolingDown';
    v_over := v_window_over;
  elsif r.journal is not null and r.probe_not_before > v_now then
    verdict := 'ProbeLater';
    v_over := r.probe_not_before;
  else
    verdict := 'Claimed';
    ${Parts.durable}
    update cal_tokens.connection c set attempt_id = p_attempt, attempt_started_at = v_now,
      lease_until = v_now + p_lease, journal = coalesce(r.journal, r.refresh_hash), probe_not_before = null,
      window_started_at = case when not v_unheld and v_window_over > v_now then r.window_started_at else v_now end,
      attempts = case when not v_unheld and v_window_over > v_now then r.attempts + 1 else 1 end,
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
    ["now", "bigint"]
  ],
  returns: `table (verdict text, ${Parts.storedFields})`,
  declare: [
    row,
    instant,
    ["v_cal_user_id", "bigint"],
    ["v_displaced", "text"],
    ["v_cause", "text"],
    ["v_since", "bigint"]
  ],
  body: `
  ${Parts.lock}
  if r.attempt_id = p_attempt then
    verdict := 'Stored';
  elsif r.refresh_hash = p_refresh_hash then
    verdict := 'AlreadyStored';
  elsif r.fallbacks @> jsonb_build_array(jsonb_build_object('hash', p_refresh_hash)) then
    verdict := 'AlreadyKept';
  elsif r.refresh_hash = p_seen then
    verdict := 'Stored';
  elsif r.kind = p_kind and r.client_id = p_client_id and r.cal_user_id = p_cal_user_id then
    verdict := 'Kept';
  else
    verdict := 'Discarded';
  end if;
  v_cause := r.cause;
  v_since := r.since;
  if verdict = 'Stored' then
    ${Parts.durable}
    v_displaced := r.access_hash;
    -- The first name of an account, unless it is somebody else's: a pair is never lost for its name.
    if r.cal_user_id is null and r.kind = 'OAuth2' and p_kind = 'OAuth2' and not exists (
      select from cal_tokens.cal_account a
      where a.kind = r.kind and a.client_id = r.client_id and a.cal_user_id = p_cal_user_id
    ) then
      v_cal_user_id := p_cal_user_id;
    end if;
    update cal_tokens.connection c set ${Parts.closed}, ${Parts.unharmed}, ${Parts.active}, ${Parts.newPair},
      cal_user_id = coalesce(c.cal_user_id, v_cal_user_id),
      scope = case when c.kind = 'OAuth2' and p_kind = 'OAuth2' then coalesce(p_scope, c.scope) else c.scope end,
      fallbacks = ${withoutDead("c.fallbacks", "p_dead || to_jsonb(p_refresh_hash)")},
      version = nextval('cal_tokens.version'), updated_at = v_now
    where c.user_ulid = p_user
    returning * into r;
    if v_cal_user_id is not null then
      insert into cal_tokens.cal_account (kind, client_id, cal_user_id, user_ulid)
      values (r.kind, r.client_id, r.cal_user_id, p_user);
    end if;
    perform cal_tokens.look_up_1(p_user, r.access_hash, r.version, v_displaced, v_now);
    perform cal_tokens.log_1(v_now, p_user, case when p_reissued then 'reissued' else 'refreshed' end, r.version, null,
      null, v_cause, v_since);
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
    ["now", "bigint"]
  ],
  returns: `table (recorded boolean, is_mine boolean, ${Parts.storedFields})`,
  declare: [row, instant],
  body: `
  ${Parts.lock}
  is_mine := coalesce(r.attempt_id = p_attempt, false);
  recorded := is_mine and (p_failure <> 'Terminal' or ${withoutDead("r.fallbacks", "p_dead")} = '[]');
  if recorded then
    ${Parts.durable}
    case p_failure
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
  end if;
  ${Parts.answer}`
}

export const definitions: ReadonlyArray<Parts.Definition> = [claim, spend, commit, fail]
