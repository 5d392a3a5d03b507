/**
 * The schema `cal_tokens` and how it comes to be. It holds its own table of migrations, so it lives beside an application
 * that migrates the same database. Instants are `bigint` milliseconds since the epoch, as everywhere in this package.
 */
import { Migrator, SqlClient, type SqlError } from "@effect/sql"
import { Duration, Effect, Layer } from "effect"
import type { StorageUnavailable } from "../TokenError.js"
import { accountConstraint, run } from "./Sql.js"

const table = "cal_tokens.migrations"

/** A waiting instance waits for the one that migrates. */
const timeout = Duration.seconds(60)

const migrations: Record<string, Effect.Effect<void, SqlError.SqlError, SqlClient.SqlClient>> = {
  "0001_connections": Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    yield* sql`create sequence cal_tokens.version`
    // Room on each page keeps the frequent updates of lease and cooldown off the indexes.
    yield* sql`
      create table cal_tokens.connection (
        user_ulid text collate "C" primary key check (user_ulid ~ '^[0-7][0-9A-HJKMNP-TV-Z]{25}$'),
        kind text not null check (kind in ('ManagedUser', 'OAuth2')),
        client_id text not null,
        cal_user_id bigint check (kind = 'OAuth2' or cal_user_id is not null),
        scope text,
        pair text not null,
        refresh_hash text not null,
        access_hash text not null,
        displaced_access_hash text,
        access_token_expires_at bigint not null,
        refresh_token_expires_at bigint,
        fallbacks jsonb not null default '[]',
        version bigint not null,
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
        prior_started_at bigint,
        prior_rejected_at bigint
      ) with (fillfactor = 80)`
    yield* sql`
      create unique index ${sql(accountConstraint)} on cal_tokens.connection (kind, client_id, cal_user_id)`
    yield* sql`
      create index connection_not_active on cal_tokens.connection (user_ulid) where status <> 'active'`
    yield* sql`
      create table cal_tokens.access_token_lookup (
        hash text primary key,
        user_ulid text collate "C" not null references cal_tokens.connection on delete cascade,
        version bigint not null,
        superseded_at bigint
      )`
    yield* sql`
      create index access_token_lookup_user on cal_tokens.access_token_lookup (user_ulid, version)`
    yield* sql`
      comment on table cal_tokens.connection is 'cal-tokens: one row per user; instants in ms since the epoch; pairs encrypted'`
  })
}

const latest = Math.max(...Object.keys(migrations).map((key) => Number.parseInt(key, 10)))

/** Whether there is nothing to do, which needs no right but to read. */
const isCurrent = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const [exists] = yield* sql<{ found: boolean }>`select to_regclass(${table}) is not null as found`
  if (exists?.found !== true) return false
  const [row] = yield* sql<{ id: number | null }>`select max(migration_id) as id from ${sql(table)}`
  return (row?.id ?? 0) >= latest
})

/**
 * Brings the schema up to date. Any number of processes may do so at once: one migrates, the others wait for it (an
 * advisory lock, because creating a schema or the migrations table is not safe against doing so twice).
 */
export const migrate: Effect.Effect<void, StorageUnavailable, SqlClient.SqlClient> = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) => {
    const underLock = Effect.gen(function* () {
      yield* sql`select pg_advisory_xact_lock(hashtextextended('cal_tokens.migrations', 0))`
      if (yield* isCurrent) return
      const [schema] = yield* sql<{ found: boolean }>`select to_regnamespace('cal_tokens') is not null as found`
      if (schema?.found !== true) yield* sql`create schema cal_tokens`
      // The migrator finds out about its table by a failing statement, which would end our transaction.
      yield* sql`
        create table if not exists ${sql(table)} (
          migration_id integer primary key,
          created_at timestamp with time zone not null default now(),
          name text not null
        )`
      yield* Migrator.make({})({ loader: Migrator.fromRecord(migrations), table })
      if (!(yield* isCurrent)) return yield* Effect.die(new Error("migrations were skipped"))
    })
    const work = Effect.flatMap(isCurrent, (current) => (current ? Effect.void : sql.withTransaction(underLock))).pipe(
      Effect.catchTag("MigrationError", (error) => Effect.die(error)),
      Effect.provideService(SqlClient.SqlClient, sql)
    )
    return run(work, { operation: "migrate", timeout })
  }
)

/** Brings the schema up to date when the layer is built. */
export const layer: Layer.Layer<never, StorageUnavailable, SqlClient.SqlClient> = Layer.effectDiscard(migrate)
