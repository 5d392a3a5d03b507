/**
 * The schema `cal_tokens` and how it comes to be. It holds its own table of migrations, so it lives beside an application
 * that migrates the same database. Instants are `bigint` milliseconds since the epoch, as everywhere in this package.
 *
 * ## Adding a migration
 *
 * Releases overlap: while one is rolled out, processes of the release before read and write the schema that it has just
 * migrated, and they must not notice. So a migration only ever adds: columns that are nullable or have a default,
 * tables, indexes, functions under new names. What a release no longer uses is removed by a later one, when no process that used it can be left;
 * nothing is renamed. A schema that is newer than the process is left alone.
 *
 * An `ALTER TABLE` that waits behind somebody's long transaction makes every later statement wait behind itself, which is
 * why waiting for a lock is short here (`lock_timeout`), then given up, and tried again.
 */
import { Reactivity } from "@effect/experimental"
import { Migrator, SqlClient, type SqlConnection, type SqlError } from "@effect/sql"
import { PgClient } from "@effect/sql-pg"
import { Cause, Duration, Effect, Layer, Schedule, Stream } from "effect"
import type { StorageUnavailable } from "../../TokenError.js"
import { maxFallbacks } from "../../TokenStorage.js"
import * as Functions from "./Functions.js"
import * as Sql from "./Sql.js"

const table = "cal_tokens.migrations"

/** A waiting instance waits for the one that migrates. */
const timeout = Duration.seconds(60)

/** In ms: how long the rest of the world may wait behind a migration that waits. */
const lockTimeout = 2000

/** By "number_name"; a test may append one of its own. */
export type Migrations = Readonly<Record<string, Effect.Effect<void, SqlError.SqlError, SqlClient.SqlClient>>>

export const migrations: Migrations = {
  "0001_first": Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    yield* sql`create sequence cal_tokens.version`
    // Room on each page keeps the frequent updates of lease and cooldown off the indexes. A pair of long tokens stays in
    // its row, where a read finds it at once.
    yield* sql`
      create table cal_tokens.connection (
        user_ulid text collate "C" primary key check (user_ulid ~ '^[0-7][0-9A-HJKMNP-TV-Z]{25}$'),
        kind text not null check (kind in ('ManagedUser', 'OAuth2')),
        client_id text not null,
        cal_user_id bigint check (kind = 'OAuth2' or cal_user_id is not null),
        scope text,
        pair text not null,
        -- Under which key the pair is sealed: a column of its own, because an index over it never changes with a refresh.
        key_id text collate "C" not null generated always as (split_part(pair, '.', 2)) stored,
        refresh_hash text not null,
        access_token_expires_at bigint not null,
        refresh_token_expires_at bigint,
        fallbacks jsonb not null default '[]',
        -- The same of its fallbacks, three at most, apart by spaces.
        fallback_key_ids text collate "C" not null generated always as (${sql.literal(fallbackKeyIds)}) stored,
        version bigint not null,
        sessions_after bigint not null,
        status text not null default 'active' check (status in ('active', 'reauthorization_required')),
        cause text check (status = 'active' or cause in ('revoked', 'rotationLost', 'calUserGone')),
        since bigint check (status = 'active' or since is not null),
        updated_at bigint not null,
        attempt_id text,
        attempt_started_at bigint,
        lease_until bigint,
        journal text,
        probe_not_before bigint,
        window_started_at bigint,
        attempts integer not null default 0,
        consecutive_failures integer not null default 0,
        next_attempt_at bigint,
        last_error jsonb,
        rejected_refresh_at bigint,
        reissued_version bigint,
        prior_started_at bigint,
        prior_rejected_at bigint,
        lookups text not null default '[]',
        lookups_code text,
        handed_out_at bigint,
        handed_out_code text,
        -- Which pair an import stored, until anything else stores one, and when that was, until somebody connects.
        imported_hash text,
        imported_issued_at bigint,
        imported_at bigint
      ) with (fillfactor = 80, toast_tuple_target = 4080)`
    yield* sql`
      create unique index connection_cal_account on cal_tokens.connection (user_ulid, kind, client_id, cal_user_id)`
    yield* sql`
      create index connection_not_active on cal_tokens.connection (user_ulid) where status <> 'active'`
    yield* sql`
      create index connection_since on cal_tokens.connection (since, user_ulid) where status <> 'active'`
    // One user for each account. The key refers to the account as the user's row names it, so none can stay behind when a
    // row moves on to another.
    yield* sql`
      create table cal_tokens.cal_account (
        kind text not null,
        client_id text not null,
        cal_user_id bigint not null,
        user_ulid text collate "C" not null,
        primary key (kind, client_id, cal_user_id),
        constraint cal_account_connection foreign key (user_ulid, kind, client_id, cal_user_id)
          references cal_tokens.connection (user_ulid, kind, client_id, cal_user_id) on delete cascade
      )`
    yield* sql`create index cal_account_user on cal_tokens.cal_account (user_ulid)`
    yield* sql`create index connection_key on cal_tokens.connection (key_id)`
    yield* sql`create index connection_fallback_keys on cal_tokens.connection (fallback_key_ids)`
    // Where to look for the user of an access token: names are codes of its hash, and the row says whether it is theirs.
    // Several users may have one: of one team, or issued in one second.
    yield* sql`
      create table cal_tokens.access_token_lookup (
        name text collate "C" not null,
        user_ulid text collate "C" not null references cal_tokens.connection on delete cascade,
        primary key (name, user_ulid)
      )`
    yield* sql`create index access_token_lookup_user on cal_tokens.access_token_lookup (user_ulid)`
    // Apart from the rows, for it is an index that changes with each refresh. `visit_at`: when to look at the row for that.
    // `ends_at` is when the row's access token ends: who counts those looks at all rows, and these are small.
    yield* sql`
      create table cal_tokens.due (
        user_ulid text collate "C" primary key references cal_tokens.connection on delete cascade,
        client_id text not null,
        ends_at bigint not null,
        visit_at bigint,
        ahead_at bigint not null,
        keep_at bigint,
        used_at bigint
      ) with (fillfactor = 80)`
    yield* sql`
      create index due_visit on cal_tokens.due (client_id, visit_at, user_ulid) where visit_at is not null`
    // Open circuits; without a cause it is closed.
    yield* sql`
      create table cal_tokens.client (
        client_id text not null,
        fingerprint text not null,
        cause text check (cause in ('client', 'brake', 'drift')),
        reason text,
        since bigint,
        opened_at bigint,
        closed_at bigint,
        drift_ended_at bigint,
        trial_at bigint,
        risk_at bigint,
        risks integer not null default 0,
        tried jsonb not null default '[]',
        primary key (client_id, fingerprint)
      )`
    yield* sql`
      create table cal_tokens.sealed_answer (
        user_ulid text collate "C" not null references cal_tokens.connection on delete cascade,
        id bigint not null generated always as identity,
        spent_hash text not null,
        answer_hash text not null,
        client_id text not null,
        at bigint not null,
        envelope text not null,
        primary key (user_ulid, id)
      )`
    yield* sql`create index sealed_answer_client on cal_tokens.sealed_answer (client_id, at)`
    // Its users may have no connection yet, and rows live for minutes: nothing refers to anything. Whose row it is stands
    // in the envelope, which is bound to the state's hash.
    yield* sql`
      create table cal_tokens.connect_flow (
        state_hash text primary key,
        envelope text not null,
        completion_hash text unique,
        expires_at bigint not null
      )`
    yield* sql`create index connect_flow_expiry on cal_tokens.connect_flow (expires_at)`
    yield* sql`
      create table cal_tokens.change (
        id bigint generated always as identity primary key,
        xid xid8 not null default pg_current_xact_id(),
        at bigint not null,
        user_ulid text collate "C" not null,
        kind text not null,
        version bigint,
        cause text,
        since bigint,
        reauthorized boolean not null
      )`
    yield* sql`create index change_order on cal_tokens.change (xid, id)`
    yield* sql`create index change_age on cal_tokens.change (at)`
    yield* sql`
      create table cal_tokens.transition (
        id bigint generated always as identity primary key,
        webhook_id uuid not null unique default gen_random_uuid(),
        kind text not null,
        user_ulid text collate "C" not null,
        at bigint not null,
        cause text not null,
        since bigint not null,
        imported_at bigint,
        attempts integer not null default 0,
        next_at bigint not null,
        holder text
      )`
    yield* sql`create index transition_user on cal_tokens.transition (user_ulid, id)`
    yield* sql`create index transition_due on cal_tokens.transition (next_at)`
    yield* sql`create index transition_age on cal_tokens.transition (at)`
    // What happened to each user's tokens. The index leads whoever removes what is old.
    yield* sql`
      create table cal_tokens.history (
        user_ulid text collate "C" not null references cal_tokens.connection on delete cascade,
        id bigint not null generated always as identity,
        at bigint not null,
        written text not null,
        event jsonb not null,
        primary key (user_ulid, id)
      )`
    yield* sql`create index history_age on cal_tokens.history (at)`
    for (const definition of Functions.definitions) yield* sql.unsafe(Functions.create(definition))
    for (const [table, holds] of Object.entries(comments)) {
      yield* sql`comment on table cal_tokens.${sql.literal(table)} is ${sql.literal(`'cal-tokens: ${holds}'`)}`
    }
  })
}

/** In SQL: the ids of the keys that the fallbacks of a row are sealed under. */
const fallbackKeyIds = Array.from(
  { length: maxFallbacks },
  (_, place) => `split_part(coalesce(fallbacks -> ${place} ->> 'pair', ''), '.', 2)`
).join(" || ' ' || ")

const comments = {
  connection: "one row per user; instants in ms since the epoch; pairs encrypted",
  due: "whose pair is refreshed before anybody waits; instants in ms since the epoch, by Cal.com",
  client: "what is wrong with a client for all of its users; instants in ms since the epoch",
  sealed_answer: "answers of Cal.com that could not be read; instants in ms since the epoch; encrypted",
  connect_flow: "people on their way through the consent of Cal.com; instants in ms since the epoch; encrypted",
  history: "how the row of each user came to be as it is, 30 days; instants in ms since the epoch",
  change: "what happened within a day; instants in ms since the epoch",
  transition: "users who have, or no longer have, to reconnect, until that is delivered"
}

/** The last one that was applied; none where there is no schema yet. */
const latestApplied = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const [exists] = yield* sql<{ found: boolean }>`select to_regclass(${table}) is not null as found`
  if (exists?.found !== true) return undefined
  const [row] = yield* sql<{ id: number | null }>`select max(migration_id) as id from ${sql(table)}`
  return row?.id ?? 0
})

const idOf = (key: string) => Number.parseInt(key, 10)

/** Whether there is nothing to do, which needs no right but to read. A newer schema has nothing to do either. */
const isCurrent = (record: Migrations) =>
  Effect.gen(function* () {
    const latest = Math.max(...Object.keys(record).map(idOf))
    return ((yield* latestApplied) ?? -1) >= latest
  })

/** Where migrations are noted. The migrator finds out about its table by a failing statement, which would end a transaction. */
const prepare = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const [schema] = yield* sql<{ found: boolean }>`select to_regnamespace('cal_tokens') is not null as found`
  if (schema?.found !== true) yield* sql`create schema cal_tokens`
  yield* sql`
    create table if not exists ${sql(table)} (
      migration_id integer primary key,
      created_at timestamp with time zone not null default now(),
      name text not null
    )`
})

/** Migrates in a transaction; of many at once, one does and the others find it done. */
const underLock = (record: Migrations) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    yield* sql`select pg_advisory_xact_lock(hashtextextended('cal_tokens.migrations', 0))`
    if (yield* isCurrent(record)) return
    yield* sql`select set_config('lock_timeout', ${String(lockTimeout)}, true)`
    yield* prepare
    yield* Migrator.make({})({ loader: Migrator.fromRecord(record), table })
    if (!(yield* isCurrent(record))) return yield* Effect.die(new Error("migrations were skipped"))
  })

/** {@link migrate} for a given record of migrations. */
export const apply = (record: Migrations): Effect.Effect<void, StorageUnavailable, SqlClient.SqlClient> =>
  Effect.flatMap(SqlClient.SqlClient, (sql) => {
    const work = Effect.flatMap(isCurrent(record), (current) =>
      current ? Effect.void : sql.withTransaction(underLock(record))
    ).pipe(
      Effect.catchTag("MigrationError", (error) => Effect.die(error)),
      Effect.sandbox,
      Effect.retry({
        schedule: Schedule.spaced("500 millis"),
        times: 12,
        while: (cause) => Sql.sqlState(Cause.squash(cause)) === lockNotAvailable
      }),
      Effect.unsandbox,
      Effect.provideService(SqlClient.SqlClient, sql)
    )
    return Effect.scoped(Effect.flatMap(Sql.make, (run) => run(work, { operation: "migrate", timeout })))
  })

const lockNotAvailable = "55P03"

/** A statement that a migration would run, and of which one. */
export interface Pending {
  readonly migration: string
  readonly statement: string
}

/** What {@link migrate} would run by now, which needs no right but to read. */
export const pending: Effect.Effect<ReadonlyArray<Pending>, StorageUnavailable, SqlClient.SqlClient> = Effect.gen(
  function* () {
    const run = yield* Sql.make
    const sql = yield* SqlClient.SqlClient
    const latest = Effect.provideService(latestApplied, SqlClient.SqlClient, sql)
    const applied = yield* run(latest, { operation: "migrate", timeout })
    const work = Object.entries(migrations)
      .filter(([key]) => idOf(key) > (applied ?? -1))
      .map(([key, migration]) => [key, migration] as const)
    const first = applied === undefined && work.length > 0 ? [["schema", prepare] as const] : []
    const recorded = yield* Effect.forEach([...first, ...work], ([migration, statements]) =>
      Effect.map(recording(statements), (texts) =>
        [...texts, ...noteOf(migration)].map((statement) => ({ migration, statement }))
      )
    )
    return recorded.flat()
  }
).pipe(Effect.scoped)

/** As the migrator notes that it is done. */
const noteOf = (key: string): ReadonlyArray<string> => {
  const [, id, name] = /^(\d+)_(.+)$/.exec(key) ?? []
  return id === undefined ? [] : [`insert into ${table} (migration_id, name) values (${Number(id)}, '${name}')`]
}

/** The statements of a migration, of which none asks the database about anything but whether something is there. */
const recording = (migration: Effect.Effect<void, SqlError.SqlError, SqlClient.SqlClient>) =>
  Effect.suspend(() => {
    const texts: Array<string> = []
    const note = (text: string) =>
      Effect.sync(() => {
        if (!/^\s*select/i.test(text)) texts.push(undented(text))
        return []
      })
    const connection: SqlConnection.Connection = {
      execute: note,
      executeRaw: note,
      executeStream: (text) => Stream.fromIterableEffect(note(text)),
      executeValues: note,
      executeUnprepared: note
    }
    return SqlClient.make({
      acquirer: Effect.succeed(connection),
      compiler: PgClient.makeCompiler(),
      spanAttributes: []
    }).pipe(
      Effect.provide(Reactivity.layer),
      Effect.flatMap((sql) => Effect.provideService(migration, SqlClient.SqlClient, sql)),
      Effect.as(texts),
      Effect.orDie
    )
  })

/** Without the indentation that it has in this code. */
const undented = (text: string): string => {
  const lines = text
    .replace(/^\s*\n/, "")
    .trimEnd()
    .split("\n")
  const indent = Math.min(...lines.filter((line) => line.trim() !== "").map((line) => line.search(/\S/)))
  return lines.map((line) => line.slice(indent)).join("\n")
}

/**
 * Brings the schema up to date. Any number of processes may do so at once: one migrates, the others wait for it (an
 * advisory lock, because creating a schema or the migrations table is not safe against doing so twice).
 */
export const migrate: Effect.Effect<void, StorageUnavailable, SqlClient.SqlClient> = apply(migrations)

/** Brings the schema up to date when the layer is built. */
export const layer: Layer.Layer<never, StorageUnavailable, SqlClient.SqlClient> = Layer.effectDiscard(migrate)
