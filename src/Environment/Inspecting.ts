/** The database of the service as somebody looks at it who wants to know what is wrong: nothing of it is changed. */
import * as Fs from "node:fs"
import { join } from "node:path"
import type { TLSSocket } from "node:tls"
import { Effect, Redacted, type Scope } from "effect"
import { Reactivity } from "@effect/experimental"
import { Client, type QueryResult } from "pg"
import * as Embedded from "../Embedded.js"
import type { Database } from "../Environment.js"
import * as KeyRing from "../KeyRing.js"
import type { UserUlid } from "../Token.js"
import * as Migrations from "../TokenStorage/Postgres/Migrations.js"
import * as Sealing from "../TokenStorage/Postgres/Sealing.js"
import * as Sql from "../TokenStorage/Postgres/Sql.js"
import { keysOf } from "./Services.js"

/** Asks one statement; why there is no answer is words that hold no secret. */
export type Ask = <Row extends object>(
  text: string,
  values?: ReadonlyArray<unknown>
) => Effect.Effect<ReadonlyArray<Row>, string>

export interface Session {
  readonly ask: Ask
  /** Of a server, not of an embedded database. */
  readonly server?: {
    readonly isLocal: boolean
    readonly isEncrypted: boolean
    /** As the other side gave it to the session. A pooler gives one of its own. */
    readonly processId: number
  }
}

/** How long a connection, or a statement, may take, in ms. */
const patience = 5000

/** The last migration of this release. */
export const latestMigration = Math.max(...Object.keys(Migrations.migrations).map((key) => Number.parseInt(key, 10)))

export const connect = (url: Redacted.Redacted): Effect.Effect<Session, string, Scope.Scope> =>
  Effect.gen(function* () {
    const failure = (error: unknown) => {
      Sql.allowWords(error, url)
      return Sql.reasonOf(error)
    }
    const make = () =>
      new Client({
        connectionString: Redacted.value(url),
        application_name: "cal-tokens doctor",
        connectionTimeoutMillis: patience,
        query_timeout: patience
      })
    const client = yield* Effect.acquireRelease(Effect.try({ try: make, catch: failure }), (client) =>
      Effect.ignore(Effect.tryPromise(() => client.end()))
    )
    // The statement that meets it fails; unheard, the event would end the process.
    client.on("error", () => undefined)
    yield* Effect.tryPromise({ try: () => client.connect(), catch: failure })
    const inTurn = (yield* Effect.makeSemaphore(1)).withPermits(1)
    const { connection, host, processID } = client as Client & {
      readonly connection: { readonly stream: Partial<TLSSocket> }
      readonly processID: number
    }
    return {
      ask: <Row extends object>(text: string, values: ReadonlyArray<unknown> = []) =>
        inTurn(
          Effect.tryPromise({
            try: () =>
              client.query(text, [...values]) as unknown as Promise<QueryResult<Row & Record<string, unknown>>>,
            catch: failure
          })
        ).pipe(Effect.map(({ rows }): ReadonlyArray<Row> => rows)),
      server: {
        isLocal: host.startsWith("/") || /^(localhost|127\.\d+\.\d+\.\d+|::1)$/.test(host),
        isEncrypted: connection.stream.encrypted === true,
        processId: processID
      }
    }
  })

const openEmbedded = (directory: string): Effect.Effect<Session, string, Scope.Scope> =>
  Effect.gen(function* () {
    if (!Fs.existsSync(join(directory, "postgres"))) {
      return yield* Effect.fail("there is none yet: the first start of the service makes it")
    }
    const sql = yield* Embedded.make({ directory }).pipe(
      Effect.provide(Reactivity.layer),
      Effect.mapError(({ reason }) => reason)
    )
    return {
      ask: <Row extends object>(text: string, values: ReadonlyArray<unknown> = []) =>
        Effect.mapError(sql.unsafe<Row>(text, values), Sql.reasonOf)
    }
  })

export const open = (database: Database): Effect.Effect<Session, string, Scope.Scope> =>
  database._tag === "Postgres" ? connect(database.url) : openEmbedded(database.directory)

/** The ring that the service would have. */
export const ringOf = (database: Database): Effect.Effect<KeyRing.KeyRing["Type"], string> =>
  Effect.mapError(Effect.provide(KeyRing.KeyRing, keysOf(database)), (error) =>
    error instanceof Embedded.EmbeddedError ? error.reason : "they cannot be used"
  )

/** Some users whose rows do not open although their key is there. */
export const altered = (ask: Ask, keys: KeyRing.KeyRing["Type"]): Effect.Effect<ReadonlyArray<UserUlid>, string> =>
  Effect.gen(function* () {
    const rows = yield* ask<Sealing.Columns & { readonly key_id: string }>(
      `select f.*, c.key_id from cal_tokens.find_1((select coalesce(jsonb_agg(s.user_ulid), '[]') from (
         select user_ulid from cal_tokens.connection limit ${sample}) s)) f
       join cal_tokens.connection c on c.user_ulid = f.user_ulid`
    )
    const opened = yield* Effect.forEach(rows, (row) =>
      Effect.match(Sealing.open(keys, row), {
        onFailure: () => (keys.ids.includes(row.key_id) ? [row.user_ulid] : []),
        onSuccess: () => []
      })
    )
    return opened.flat()
  })

/** So many rows are tried. */
const sample = 200
