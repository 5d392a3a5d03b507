/** What stands behind the HTTP service, by settings: the real Cal.com or the sandbox, PostgreSQL or the embedded one. */
import type { SqlClient } from "@effect/sql"
import { type Duration, Effect, Layer, Option } from "effect"
import * as CalApi from "../CalApi.js"
import * as CalClient from "../CalClient.js"
import * as NodeHttp from "../CalHttp/Node.js"
import * as CalTokens from "../CalTokens.js"
import type { FlowStorage } from "../FlowStorage.js"
import * as Flows from "../TokenStorage/Postgres/Flows.js"
import * as Embedded from "../Embedded.js"
import {
  type Database,
  type Embedded as EmbeddedDatabase,
  type Postgres as PostgresDatabase,
  StartError
} from "../Environment.js"
import * as Sandbox from "../Sandbox.js"
import type { StorageUnavailable } from "../TokenError.js"
import type { TokenStorage } from "../TokenStorage.js"
import * as KeyRing from "../KeyRing.js"
import * as Postgres from "../TokenStorage/Postgres.js"
import * as Attempts from "../TokenStorage/Postgres/Attempts.js"
import * as Migrations from "../TokenStorage/Postgres/Migrations.js"
import * as Reencryption from "../TokenStorage/Postgres/Reencryption.js"
import * as Demo from "./Demo.js"
import * as Plaintext from "./Plaintext.js"
import * as SandboxFile from "./SandboxFile.js"
import * as Trial from "./Trial.js"
import { all } from "./Variables.js"

export { Attempts, type Tried } from "../TokenStorage/Postgres/Attempts.js"
export { Reencryption, type KeyInUse, type Kind, kinds } from "../TokenStorage/Postgres/Reencryption.js"

/** Foreseen failures of a start, as their messages. */
const toStartError = (error: { readonly message: string }) => new StartError({ message: error.message })

/** Tokens, and people on their way through Cal.com's consent. */
const tables = (options: Postgres.Options) => Layer.merge(Postgres.layer(options), Flows.layer(options))

/** What may change while the program runs, as it is now, and more of how it starts. */
export interface Running {
  /** That of the start but for passwords. */
  readonly database?: () => Database
  /** Default: of the keys that the database's settings have. */
  readonly keyRing?: Layer.Layer<KeyRing.KeyRing>
  /** A PostgreSQL that is not up yet is waited for so long; by default, not. */
  readonly startWithin?: Duration.Duration | undefined
}

/** The ring of a database. */
export const keysOf = (database: Database) =>
  database._tag === "Postgres"
    ? KeyRing.layer(database.encryptionKeys)
    : Option.match(database.encryptionKeys, {
        onNone: () => Embedded.layerKeys(database.directory),
        onSome: KeyRing.layer
      })

const postgresOf = (now: Database, otherwise: PostgresDatabase) => (now._tag === "Postgres" ? now : otherwise)

const connectionOf = (
  database: Database,
  { database: now = () => database, startWithin }: Running = {}
): Layer.Layer<SqlClient.SqlClient, { readonly message: string }> =>
  database._tag === "Postgres"
    ? Postgres.layerConnection({ ...database, url: () => postgresOf(now(), database).url, startWithin })
    : Embedded.layer({ directory: database.directory })

const optionsOf = (database: Database, { database: now = () => database }: Running = {}): Postgres.Options =>
  database._tag === "Postgres"
    ? {
        statementTimeout: database.statementTimeout,
        listenUrl: () => {
          const { directUrl, url } = postgresOf(now(), database)
          return Option.getOrElse(directUrl, () => url)
        }
      }
    : {}

/** What is on the database, with its keys. */
const on = <A, E extends { readonly message: string }, R>(
  database: Database,
  layer: Layer.Layer<A, E, R | SqlClient.SqlClient | KeyRing.KeyRing>,
  running: Running = {}
) =>
  layer.pipe(
    Layer.provide(connectionOf(database, running)),
    Layer.provideMerge(running.keyRing ?? keysOf(database)),
    Layer.catchAll((error) =>
      Layer.fail(
        "message" in error
          ? toStartError(error)
          : new StartError({ message: `The encryption keys cannot be used: ${String(error)}` })
      )
    )
  )

/** The keys come along, for what is signed and not stored. */
const storage = (
  database: Database,
  running: Running = {}
): Layer.Layer<TokenStorage | FlowStorage | KeyRing.KeyRing, StartError> =>
  on(database, tables(optionsOf(database, running)), running)

/** Connections as they stand, and what was tried for them: without Cal.com. */
export const layerStanding = (database: Database): Layer.Layer<TokenStorage | Attempts.Attempts, StartError> =>
  on(database, Layer.provideMerge(Attempts.layer, tables(optionsOf(database))))

/** What the database's schema lacks. */
export const pendingMigrations = (database: Database) => onSchema(database, Migrations.pending)

/** Brings it up to date, and does nothing else. */
export const migrate = (database: Database) => onSchema(database, Migrations.migrate)

const onSchema = <A>(database: Database, work: Effect.Effect<A, StorageUnavailable, SqlClient.SqlClient>) =>
  Effect.mapError(Effect.provide(work, connectionOf(database)), toStartError)

/** What seals anew, with the keys that it does that with. */
export const layerReencryption = (
  database: Database
): Layer.Layer<Reencryption.Reencryption | KeyRing.KeyRing, StartError> => on(database, Reencryption.layer)

/** For users of a real Cal.com. */
export const layerCal = (database: Database, options: CalClient.Options, running: Running = {}) =>
  CalApi.layer.pipe(
    Layer.provide(NodeHttp.layerApiHttp),
    Layer.provideMerge(CalTokens.layer),
    Layer.provideMerge(Layer.provide(CalClient.layer(options), NodeHttp.layerTokenHttp)),
    Layer.provideMerge(storage(database, running)),
    Layer.merge(Layer.merge(Plaintext.layer(database, options), Trial.layer(database)))
  )

/**
 * For the demo's users; the service is reached at `url`. The storage comes first: it holds the lock on the directory that
 * the sandbox shares.
 */
export const layerSandbox = (
  database: EmbeddedDatabase,
  url = `http://${all.HOST.default}:${all.PORT.default}`,
  running: Running = {}
) =>
  Demo.layerSeed.pipe(
    Layer.mapError(toStartError),
    Layer.provideMerge(CalApi.layer),
    Layer.provideMerge(CalTokens.layer),
    Layer.provideMerge(CalClient.layer(Demo.clientOptions(url))),
    Layer.provide(Sandbox.layerHttpClient),
    Layer.provideMerge(SandboxFile.layer(database.directory, Demo.sandboxOptions(url))),
    Layer.provideMerge(storage(database, running))
  )
