/** Whose pair is refreshed before anybody waits, and when: the table `due` beside the rows. */
import { maxDoublings, maxPutOff, maxVisits, quiet } from "../../../TokenStorage.js"
import * as Attempts from "./Attempts.js"
import * as Circuits from "./Circuits.js"
import * as Parts from "./Parts.js"

/**
 * The schedule of a new pair, in the statement that stores it; without one, that of the pair before comes to nothing when it is
 * due. Whoever writes here holds the lock of the user's row in `connection`, so that nobody waits in a circle.
 */
const schedule: Parts.Definition = {
  name: "schedule_1",
  parameters: [
    ["user", "text"],
    ["client_id", "text"],
    ["ends_at", "bigint"],
    ["ahead_at", "bigint"],
    ["keep_at", "bigint"],
    ["used_at", "bigint"]
  ],
  returns: "void",
  body: `
  if p_ahead_at is null then
    update cal_tokens.due d set client_id = p_client_id, ends_at = p_ends_at where d.user_ulid = p_user;
    return;
  end if;
  insert into cal_tokens.due as d (user_ulid, client_id, ends_at, visit_at, ahead_at, keep_at, used_at)
  values (p_user, p_client_id, p_ends_at, case when p_used_at is null then p_keep_at else p_ahead_at end, p_ahead_at,
    p_keep_at, p_used_at)
  on conflict (user_ulid) do update set client_id = p_client_id, ends_at = p_ends_at, ahead_at = p_ahead_at, keep_at = p_keep_at,
    visit_at = case when coalesce(d.used_at, p_used_at) is null then p_keep_at else p_ahead_at end,
    used_at = greatest(d.used_at, p_used_at);`
}

/** Users whom somebody writes are passed over: this one holds no lock of their rows, and must not wait for one. */
const used: Parts.Definition = {
  name: "used_1",
  parameters: [
    ["users", "jsonb"],
    ["precision", "bigint"]
  ],
  returns: "void",
  declare: [["v_each", "record"]],
  body: `
  for v_each in select u.user_ulid, u.at from jsonb_to_recordset(p_users) as u (user_ulid text, at bigint) loop
    -- Of an instant that is still to come, somebody's clock was wrong.
    perform from cal_tokens.due d
    where d.user_ulid = v_each.user_ulid and coalesce(abs(v_each.at - d.used_at) >= p_precision, true)
    for update skip locked;
    continue when not found;
    update cal_tokens.due d set used_at = v_each.at, visit_at = least(d.visit_at, d.ahead_at)
    where d.user_ulid = v_each.user_ulid;
  end loop;`
}

/** Nobody uses the user, and the grant is in no danger. */
const isIdle = (row: string) =>
  `(coalesce(${row}.used_at < p_used_since, true) and coalesce(${row}.keep_at > p_due, true))`

/**
 * First users who are active no more are put off, many at once. Then a row is looked at under its lock, with what is due by then;
 * those that are not claimed are put off, so that they are not in the way the next time.
 */
const claimDue: Parts.Definition = {
  name: "claim_due_1",
  parameters: [
    ["client_id", "text"],
    ...Circuits.circuitParameters,
    ["limit", "integer"],
    ["due", "bigint"],
    ["used_since", "bigint"],
    ["lease", "bigint"],
    ["window", "bigint"],
    ["max_attempts", "integer"],
    ["keys", "jsonb"],
    ["process", "text"],
    ["now", "bigint"]
  ],
  returns: `table (attempt text, due_at float8, ${Attempts.claimFields.map((field) => field.join(" ")).join(", ")})`,
  declare: [
    ["v_user", "text"],
    ["v_claims", "integer"],
    ["v_put_off", "integer"],
    ["v_visit_at", "bigint"]
  ],
  body: `
  if exists (
    select from cal_tokens.client k
    where k.client_id = p_client_id and k.fingerprint = p_fingerprint
      and (k.cause is not null or k.closed_at > ${Parts.now} - ${quiet})
  ) then
    return;
  end if;
  v_put_off := 0;
  for v_user in
    select f.user_ulid from (
      select * from cal_tokens.due w where w.client_id = p_client_id and w.visit_at <= p_due
      order by w.visit_at, w.user_ulid limit ${maxPutOff}
    ) f where ${isIdle("f")}
  loop
    -- Nobody waits for anybody here: no lock of the users' rows is held.
    perform from cal_tokens.due w
    where w.user_ulid = v_user and w.client_id = p_client_id and w.visit_at <= p_due and ${isIdle("w")}
    for update skip locked;
    continue when not found;
    update cal_tokens.due w set visit_at = w.keep_at where w.user_ulid = v_user;
    v_put_off := v_put_off + 1;
  end loop;
  if v_put_off >= ${maxPutOff / 10} then
    verdict := 'More';
    return next;
  end if;
  v_claims := 0;
  for v_user in
    select w.user_ulid from cal_tokens.due w join cal_tokens.connection c on c.user_ulid = w.user_ulid
    where w.client_id = p_client_id and w.visit_at <= p_due and not ${isIdle("w")} and p_keys ? c.key_id
    order by w.visit_at, w.user_ulid limit p_limit * ${maxVisits} for no key update of c skip locked
  loop
    -- As it is by now: somebody may have had the row in hand until just before.
    select w.visit_at into v_visit_at from cal_tokens.due w
    where w.user_ulid = v_user and w.client_id = p_client_id and w.visit_at <= p_due;
    continue when not found;
    due_at := v_visit_at;
    attempt := concat(p_process || '.', gen_random_uuid());
    select g.* into ${Attempts.claimFields.map(([name]) => name).join(", ")}
    from cal_tokens.claim_1(v_user, attempt, 'Ahead', null, null, null, p_lease, p_window, p_max_attempts, null, null,
      p_client_id, p_fingerprint, p_interval, p_now) g;
    update cal_tokens.due w set visit_at = case verdict
      when 'Claimed' then p_due + p_lease * power(2, least(consecutive_failures, ${maxDoublings}))::bigint
      when 'Terminal' then null
      else p_due + greatest(1000, least(retry_after, 9e15))::bigint
    end where w.user_ulid = v_user;
    return next;
    if verdict = 'Claimed' then
      v_claims := v_claims + 1;
    end if;
    exit when v_claims >= p_limit;
  end loop;`
}

export const definitions: ReadonlyArray<Parts.Definition> = [schedule, used, claimDue]
