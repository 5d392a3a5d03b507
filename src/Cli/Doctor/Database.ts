/** The database: whether it is there, what it lets the service do, and how it is reached. */
import { Clock, Effect, type Scope } from "effect"
import type { Database } from "../../Environment.js"
import * as Inspecting from "../../Environment/Inspecting.js"
import { count, type Finding, looking, ok, users, warning, wrong } from "./Finding.js"
import * as Users from "./Users.js"

/** In ms: what nobody notices. */
const skew = 2000

export const look = (database: Database): Effect.Effect<ReadonlyArray<Finding>, never, Scope.Scope> =>
  Effect.flatMap(Effect.either(Inspecting.open(database)), (opened) => {
    if (opened._tag === "Left") {
      const isEmbedded = database._tag === "Embedded"
      return Effect.succeed([
        isEmbedded
          ? warning(
              "database",
              `The embedded database was not looked at: ${opened.left}.`,
              "Look again when that is otherwise."
            )
          : wrong(
              "database",
              `PostgreSQL cannot be reached: ${opened.left}.`,
              "Check DATABASE_URL, and that the server runs and lets this machine in."
            )
      ])
    }
    const session = opened.right
    const { ask } = session
    return Effect.map(
      Effect.all([
        looking("database", server(session)),
        looking("clock of the database", clock(ask)),
        ...(database._tag === "Postgres"
          ? [looking("TLS", tls(session)), looking("pooler", pooler(session, database))]
          : []),
        Effect.flatMap(schema(ask), (found) =>
          found === "none"
            ? Effect.succeed([
                warning("schema", "The schema cal_tokens is not there yet.", "The first start of the service makes it.")
              ])
            : Effect.map(
                Effect.all([
                  looking("schema", migrations(ask)),
                  looking("privileges", privileges(ask)),
                  looking("encryption keys", keys(ask, database)),
                  looking("rows", rows(ask, database)),
                  ...Users.looks(ask)
                ]),
                (all) => all.flat()
              )
        )
      ]),
      (all) => all.flat()
    )
  })

interface Facts {
  readonly version: number
  readonly standby: boolean
  readonly readonly: string
  readonly sync: string
  readonly fsync: string
}

const server = ({ ask, server }: Inspecting.Session) =>
  Effect.map(
    ask<Facts>(`select current_setting('server_version_num')::int as version, pg_is_in_recovery() as standby,
      current_setting('transaction_read_only') as readonly, current_setting('synchronous_commit') as sync,
      current_setting('fsync') as fsync`),
    ([facts]): ReadonlyArray<Finding> => {
      const check = "database"
      if (facts === undefined) return []
      const { fsync, readonly, standby, sync, version } = facts
      const name = server === undefined ? "The embedded database" : `PostgreSQL ${Math.floor(version / 10_000)}`
      if (standby)
        return [wrong(check, `${name} is a replica, which takes no writes.`, "Point DATABASE_URL at the primary.")]
      if (readonly === "on") {
        return [
          wrong(check, `${name} only reads.`, "Find out who set default_transaction_read_only; the disk may be full.")
        ]
      }
      const found = [
        version < 140_000
          ? wrong(check, `${name} is too old.`, "14 is the oldest that will do.")
          : ok(
              check,
              server === undefined
                ? `${name} takes writes.`
                : `${name} takes writes; synchronous_commit is ${sync}, and what must not be lost waits for the disk.`
            )
      ]
      return server !== undefined && fsync === "off"
        ? [...found, warning(check, "fsync is off: a crash loses tokens that were stored.", "Turn it on.")]
        : found
    }
  )

const clock = (ask: Inspecting.Ask) =>
  Effect.gen(function* () {
    const check = "clock of the database"
    const began = yield* Clock.currentTimeMillis
    const [row] = yield* ask<{ readonly now: number }>(
      "select floor(extract(epoch from clock_timestamp()) * 1000)::float8 as now"
    )
    const ended = yield* Clock.currentTimeMillis
    const ahead = (row?.now ?? 0) - (began + ended) / 2
    const seconds = Math.round(Math.abs(ahead) / 1000)
    return Math.abs(ahead) <= skew + (ended - began) / 2
      ? ok(check, "It agrees with the clock of this machine.")
      : warning(
          check,
          `It is ${seconds} s ${ahead > 0 ? "ahead of" : "behind"} the clock of this machine.`,
          "Leases go by the database's clock alone, so nothing breaks; let NTP set both."
        )
  })

const tls = ({ server }: Inspecting.Session) =>
  Effect.succeed(
    server === undefined || server.isEncrypted
      ? ok("TLS", "The connection is encrypted.")
      : server.isLocal
        ? ok("TLS", "The connection is not encrypted, and does not leave this machine.")
        : warning(
            "TLS",
            "The connection to another machine is not encrypted: tokens are sealed, the password may not be.",
            "Add sslmode=verify-full to DATABASE_URL."
          )
  )

/**
 * A pooler gives a session a number of its own. Whether it keeps a server's connection for it shows when somebody else
 * takes the one that it had last.
 */
const pooler = ({ ask, server }: Inspecting.Session, database: Database) =>
  Effect.scoped(
    Effect.gen(function* () {
      const check = "pooler"
      const pid = Effect.map(ask<{ readonly pid: number }>("select pg_backend_pid() as pid"), ([row]) => row?.pid)
      const before = yield* pid
      if (server === undefined || before === server.processId || database._tag !== "Postgres") {
        return ok(check, "None: DATABASE_URL leads to the database itself.")
      }
      const other = yield* Inspecting.connect(database.url)
      yield* other.ask("begin")
      yield* other.ask("select 1")
      const after = yield* pid
      yield* other.ask("rollback")
      return before === after
        ? warning(
            check,
            "DATABASE_URL leads to a pooler in session mode, which keeps a connection for each of ours.",
            "Transaction mode will do, and needs fewer."
          )
        : ok(check, "DATABASE_URL leads to a pooler in transaction mode, which is fine.")
    })
  )

const schema = (ask: Inspecting.Ask) =>
  Effect.match(ask<{ readonly found: boolean }>("select to_regclass('cal_tokens.migrations') is not null as found"), {
    onFailure: () => "unknown" as const,
    onSuccess: ([row]) => (row?.found === false ? "none" : "there")
  })

const migrations = (ask: Inspecting.Ask) =>
  Effect.map(
    ask<{ readonly id: number | null }>("select max(migration_id) as id from cal_tokens.migrations"),
    ([row]) => {
      const [check, id, latest] = ["schema", row?.id ?? 0, Inspecting.latestMigration]
      return id < latest
        ? warning(
            check,
            `It is that of an older release (${id} of ${latest}).`,
            "The next start of the service migrates it."
          )
        : id > latest
          ? warning(
              check,
              "It is that of a newer release than this program.",
              "It is left alone; upgrade this one when you can."
            )
          : ok(check, `It is up to date (migration ${id}).`)
    }
  )

const privileges = (ask: Inspecting.Ask) =>
  Effect.map(
    ask<{ readonly what: string }>(`
      select 'usage on schema cal_tokens' as what where not has_schema_privilege('cal_tokens', 'usage')
      union all
      select p || ' on ' || c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace,
        unnest(array['select', 'insert', 'update', 'delete']) p
      where n.nspname = 'cal_tokens' and c.relname <> 'migrations'
        and case when c.relkind = 'r' then not has_table_privilege(c.oid, p) end
      union all
      select 'usage on ' || c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where n.nspname = 'cal_tokens' and case when c.relkind = 'S' then not has_sequence_privilege(c.oid, 'usage') end
        and not exists (select from pg_depend d where d.objid = c.oid and d.deptype = 'i')
      union all
      select 'execute on ' || p.proname from pg_proc p join pg_namespace n on n.oid = p.pronamespace
      where n.nspname = 'cal_tokens' and not has_function_privilege(p.oid, 'execute')
      limit 100`),
    (lacking) =>
      lacking.length === 0
        ? ok("privileges", "The database's user may do what the service does.")
        : wrong(
            "privileges",
            `The database's user lacks ${users(lacking.map(({ what }) => what))}.`,
            "Grant them: src/TokenStorage/README.md has the statements."
          )
  )

const keys = (ask: Inspecting.Ask, database: Database) =>
  Effect.gen(function* () {
    const check = "encryption keys"
    const { ids } = yield* Inspecting.ringOf(database)
    const used = yield* ask<{ readonly key_id: string; readonly what: string; readonly rows: number }>(
      "select * from cal_tokens.keys_in_use_1() where key_id <> ''"
    )
    const rowsOf = (id: string) =>
      used.filter(({ key_id, what }) => key_id === id && what !== "handedOut").reduce((sum, { rows }) => sum + rows, 0)
    const all = [...new Set(used.map(({ key_id }) => key_id))].filter((id) => rowsOf(id) > 0).sort()
    const missing = all.filter((id) => !ids.includes(id))
    const older = all.filter((id) => ids.indexOf(id) > 0)
    const told = (some: ReadonlyArray<string>) => some.map((id) => `${id} (${count(rowsOf(id), "row")})`).join(", ")
    return [
      ...(missing.length === 0
        ? []
        : [
            wrong(
              check,
              `Rows need keys that are not configured: ${told(missing)}.`,
              "Append them to CAL_TOKENS_ENCRYPTION_KEYS. If they are lost, those users have to connect again."
            )
          ]),
      ...(older.length === 0
        ? []
        : [
            warning(
              check,
              `Rows are still under older keys: ${told(older)}.`,
              "Run cal-tokens reencrypt when every process has the new key first."
            )
          ]),
      ...(missing.length + older.length === 0
        ? [ok(check, `Whatever is sealed is under ${ids[0]}, the first key.`)]
        : [])
    ]
  })

const rows = (ask: Inspecting.Ask, database: Database) =>
  Effect.gen(function* () {
    const check = "rows"
    const altered = yield* Inspecting.altered(ask, yield* Inspecting.ringOf(database))
    return altered.length === 0
      ? ok(check, "A sample of them opens with the keys at hand, or names a key that is missing.")
      : wrong(
          check,
          `Rows were altered, or are under another key of the same id, and do not open: ${users(altered)}.`,
          "Those users connect again. Find out who else writes to the database, or which process has another key."
        )
  })
