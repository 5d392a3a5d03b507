/** A source that is a table in a PostgreSQL, which is read page by page and never written to. */
import { Chunk, Effect, Option, Redacted, type Scope, Stream } from "effect"
import { Client, DatabaseError, type QueryResultRow } from "pg"
import { StartError } from "../../Environment.js"
import { type Columns, codeOf, fieldsOf, named, type Position, Raw, type Source } from "./Source.js"

const page = 2000

/** How long to wait for a connection, in ms. */
const connectTimeout = 10_000

/** Where a database is, without who asks and with what. */
export const identityOf = (url: Redacted.Redacted): ReadonlyArray<unknown> => {
  try {
    const { database, host, port } = new Client({ connectionString: Redacted.value(url) })
    return [host, port, database]
  } catch {
    return []
  }
}

/** Statements in transactions that cannot write, whatever the database's own settings are; a pooler in between will do. */
export interface Reading {
  readonly query: <Row extends QueryResultRow>(
    text: string,
    values?: ReadonlyArray<unknown>
  ) => Effect.Effect<{ readonly rows: ReadonlyArray<Row>; readonly types: ReadonlyArray<number> }, DatabaseRefusal>
}

/** What a database, or the way to it, said. */
export class DatabaseRefusal {
  constructor(readonly error: unknown) {}

  /** SQLSTATE, where it is the database's word. */
  get code(): string | undefined {
    return this.error instanceof DatabaseError ? this.error.code : undefined
  }

  /** Rows and passwords are not in it: of the database's own words only those about names and rights are told. */
  get reason(): string {
    if (this.error instanceof DatabaseError) {
      const { code = "unknown", message } = this.error
      return /^(28|3D|3F|42)/.test(code) ? `${message} (SQLSTATE ${code})` : `SQLSTATE ${code}`
    }
    const code = codeOf(this.error)
    if (code !== "unreadable") return code
    return this.error instanceof Error ? this.error.message.split("\n", 1).join("") : "unknown reason"
  }
}

export const open = (url: Redacted.Redacted): Effect.Effect<Reading, DatabaseRefusal, Scope.Scope> =>
  Effect.gen(function* () {
    const make = Effect.try({
      try: () =>
        new Client({
          connectionString: Redacted.value(url),
          application_name: "cal-tokens import",
          connectionTimeoutMillis: connectTimeout
        }),
      catch: (error) => new DatabaseRefusal(error)
    })
    const client = yield* Effect.acquireRelease(
      Effect.tap(make, (client) => {
        // The statement that meets it fails; unheard, the event would end the process.
        client.on("error", () => undefined)
        return Effect.tryPromise({ try: () => client.connect(), catch: (error) => new DatabaseRefusal(error) })
      }),
      (client) => Effect.ignore(Effect.tryPromise(() => client.end()))
    )
    const ask = async <Row extends QueryResultRow>(text: string, values: ReadonlyArray<unknown>) => {
      await client.query("begin transaction read only")
      // After a failure it may not be there any more, and the failure is what is to be told.
      const end = () => client.query("rollback").catch(() => undefined)
      const { fields, rows } = await client.query<Row>(text, [...values]).finally(end)
      return { rows, types: fields.map(({ dataTypeID }) => dataTypeID) }
    }
    // Of two at once the one would end the other's transaction.
    const inTurn = (yield* Effect.makeSemaphore(1)).withPermits(1)
    return {
      query: <Row extends QueryResultRow>(text: string, values: ReadonlyArray<unknown> = []) =>
        inTurn(Effect.tryPromise({ try: () => ask<Row>(text, values), catch: (error) => new DatabaseRefusal(error) }))
    }
  })

const quoted = (name: string) => `"${name.replaceAll('"', '""')}"`

/** `users`, `public.users`, `"my.schema"."My Table"`: as it is written, in either case. None where it is no name. */
const tableOf = (name: string): Option.Option<string> => {
  const parts = name.match(/"(?:[^"]|"")+"|[^".]+/g) ?? []
  if (parts.length < 1 || parts.length > 2 || parts.join(".") !== name || name.includes("\0")) return Option.none()
  return Option.some(
    parts.map((part) => quoted(part.startsWith('"') ? part.slice(1, -1).replaceAll('""', '"') : part)).join(".")
  )
}

/** By the numbers of `pg_type`. Without a zone they are taken for UTC. */
const instants = new Set([1082, 1114, 1184])

type Row = { readonly [Name in keyof Columns]?: unknown }

export const make = (
  url: Redacted.Redacted,
  name: string,
  columns: Columns
): Effect.Effect<Source, StartError, Scope.Scope> =>
  Effect.gen(function* () {
    const table = yield* Effect.mapError(
      tableOf(name),
      () => new StartError({ message: '--table must be a table such as users, public.users or public."My Users"' })
    )
    const refused = ({ reason }: DatabaseRefusal) =>
      new StartError({ message: `The table ${name} cannot be read: ${reason}` })
    const reading = yield* Effect.mapError(
      open(url),
      ({ reason }) => new StartError({ message: `The database of --from-postgres is unavailable (${reason})` })
    )
    const all = named(columns)
    const { types } = yield* Effect.mapError(
      reading.query(`select ${all.map(([, column]) => `t.${quoted(column)}`).join(", ")} from ${table} t limit 0`),
      refused
    )
    const selected = all.map(([key, column], index) => {
      const value = `t.${quoted(column)}`
      const isInstant = instants.has(types[index] ?? 0)
      return `${isInstant ? `(extract(epoch from ${value}) * 1000)::float8` : `${value}::text`} as ${quoted(key)}`
    })
    const user = `t.${quoted(columns.user)}`
    // Rows of one user come together: a page that ended between them would lose some.
    const rest = `order by ${user} fetch first ${page} rows with ties`
    const select = `select ${selected.join(", ")} from ${table} t where ${user}`

    const pageAfter = (after: string | undefined) =>
      after === undefined
        ? reading.query<Row>(`${select} is not null ${rest}`)
        : reading.query<Row>(`${select} > $1 ${rest}`, [after])

    const rowOf = (row: Row, place: number): Raw =>
      Raw.Row({ place, done: place, fields: fieldsOf(keys, (key) => row[key as keyof Columns]) })

    /** They have no place in the order, and nothing can be done about them but to tell. */
    const nameless = (place: number) =>
      Effect.map(reading.query(`select 1 from ${table} t where ${user} is null`), ({ rows }) =>
        Chunk.fromIterable(
          rows.map((_, index): Raw => {
            const number = place + index + 1
            return Raw.Unreadable({ place: number, done: number, problem: `has no ${columns.user}` })
          })
        )
      )

    return {
      name: `the table ${name}`,
      unit: "row",
      identity: ["postgres", ...identityOf(url), table, all],
      total: Effect.map(
        Effect.mapError(reading.query<{ readonly count: string }>(`select count(*) from ${table}`), refused),
        ({ rows: [row] }) => (row === undefined ? undefined : Number(row.count))
      ),
      rows: (after) =>
        Stream.paginateChunkEffect(after, ({ place, user }) =>
          Effect.gen(function* () {
            const { rows } = yield* pageAfter(user)
            const last = rows.at(-1)?.user
            if (typeof last !== "string") return [yield* nameless(place), Option.none<Position>()] as const
            const next = { place: place + rows.length, user: last }
            return [
              Chunk.fromIterable(rows.map((row, index) => rowOf(row, place + index + 1))),
              Option.some(next)
            ] as const
          })
        ).pipe(Stream.mapError(refused))
    }
  })

/** The columns are selected by what they are for. */
const keys: Columns = {
  user: "user",
  calUser: "calUser",
  accessToken: "accessToken",
  refreshToken: "refreshToken",
  expiry: "expiry",
  refreshExpiry: "refreshExpiry"
}
