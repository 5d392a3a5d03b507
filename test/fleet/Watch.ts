/** What the database itself can tell of claims, circuits and answers that are kept, by its own clock. */
import { Deferred, Duration, Effect } from "effect"
import type { User } from "./Cal.js"
import { Fleet } from "./Fleet.js"

/** Has the database note every claim that it grants from now on. */
export const claims = Effect.gen(function* () {
  const { sql } = yield* Fleet
  yield* sql`create table if not exists public.granted_claim (at bigint not null, user_ulid text not null)`
  yield* sql`truncate public.granted_claim`
  yield* sql`
    create or replace function public.note_claim() returns trigger language plpgsql as $$
    begin
      insert into public.granted_claim values (new.attempt_started_at, new.user_ulid);
      return null;
    end $$`
  yield* sql`
    create or replace trigger note_claim after update on cal_tokens.connection for each row
    when (new.attempt_id is not null and new.attempt_id is distinct from old.attempt_id)
    execute function public.note_claim()`
  return {
    all: Effect.map(sql<{ n: number }>`select count(*)::int as n from public.granted_claim`, ([row]) => row?.n ?? 0),
    /** How many began after this instant. */
    since: (at: number) =>
      Effect.map(
        sql<{ n: number }>`select count(*)::int as n from public.granted_claim where at > ${at}`,
        ([row]) => row?.n ?? 0
      )
  }
})

/** When an answer was there to be seen for the first time, so when it was recorded already. */
export const firstSealed = Effect.gen(function* () {
  const { sql } = yield* Fleet
  while (true) {
    // The statement sees what was there before it looked at the clock.
    const [seen] = yield* sql<{ at: number }>`
      select ceil(extract(epoch from clock_timestamp()) * 1000)::float8 as at
      where exists (select from cal_tokens.sealed_answer)`
    if (seen !== undefined) return seen.at
    yield* Effect.sleep("2 millis")
  }
})

/** Users whose answers are kept. */
export const sealed = Effect.flatMap(Fleet, ({ sql }) =>
  Effect.map(sql<{ user: string }>`select user_ulid as user from cal_tokens.sealed_answer order by at`, (rows) =>
    rows.map(({ user }) => user)
  )
)

/** The open circuits of a client. */
export const circuits = (clientId: string) =>
  Effect.flatMap(
    Fleet,
    ({ sql }) => sql<{ cause: string; reason: string; opened_at: number }>`
      select cause, reason, opened_at::float8 from cal_tokens.client where client_id = ${clientId} and cause is not null`
  )

/** So much time passes for the open circuits, as the database's clock would have it. */
export const passTime = (duration: Duration.DurationInput) =>
  Effect.flatMap(Fleet, ({ sql }) => {
    const by = Duration.toMillis(duration)
    return sql`
      update cal_tokens.client
      set opened_at = opened_at - ${by}::bigint, trial_at = trial_at - ${by}::bigint, risk_at = risk_at - ${by}::bigint
      where cause is not null`
  })

/** Attempts whose end nobody has recorded. */
export const openAttempts = Effect.flatMap(Fleet, ({ sql }) =>
  Effect.map(
    sql<{ n: number }>`select count(*)::int as n from cal_tokens.connection where attempt_id is not null`,
    ([row]) => row?.n ?? 0
  )
)

/** Those of these users who were ever told to reconnect. */
export const marked = (users: ReadonlyArray<User>) =>
  Effect.flatMap(Fleet, ({ sql }) =>
    Effect.map(
      sql<{ user: string }>`select user_ulid as user from cal_tokens.change where kind = 'reauthorizationRequired'`,
      (rows) => rows.map(({ user }) => user).filter((marked) => users.some(({ userUlid }) => userUlid === marked))
    )
  )

/** Keeps everybody from writing a user's row until the scope ends. */
export const locked = ({ userUlid }: User) =>
  Effect.gen(function* () {
    const { sql } = yield* Fleet
    const isLocked = yield* Deferred.make<void>()
    const lock = sql`select from cal_tokens.connection where user_ulid = ${userUlid} for update`
    const holding = sql.withTransaction(
      Effect.zipRight(lock, Effect.zipRight(Deferred.succeed(isLocked, undefined), Effect.never))
    )
    yield* Effect.forkScoped(Effect.ignore(holding))
    yield* Deferred.await(isLocked)
  })

/** Whether a call of this function waits for a lock. */
export const isWaiting = (name: string) =>
  Effect.flatMap(Fleet, ({ sql }) =>
    Effect.map(
      sql`
        select from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock' and query like ${`%cal_tokens.${name}(%`}`,
      (rows) => rows.length > 0
    )
  )
