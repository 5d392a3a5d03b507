/** What stands behind the HTTP service, by settings: the real Cal.com or the sandbox, PostgreSQL or the embedded one. */
import { type Duration, Layer, Option } from "effect"
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
import type { TokenStorage } from "../TokenStorage.js"
import * as KeyRing from "../KeyRing.js"
import * as Postgres from "../TokenStorage/Postgres.js"
import * as Demo from "./Demo.js"
import * as Plaintext from "./Plaintext.js"
import * as SandboxFile from "./SandboxFile.js"
import * as Trial from "./Trial.js"
import { all } from "./Variables.js"

/** Foreseen failures of a start, as their messages. */
const toStartError = (error: { readonly message: string }) => new StartError({ message: error.message })

/** Tokens, and people on their way through Cal.com's consent. */
const tables = (options: Postgres.Options) => Layer.merge(Postgres.layer(options), Flows.layer(options))

const embedded = ({ directory, encryptionKeys }: EmbeddedDatabase, keyRing?: Layer.Layer<KeyRing.KeyRing>) =>
  tables({}).pipe(
    Layer.provide(Embedded.layer({ directory })),
    Layer.provideMerge(
      keyRing ??
        Option.match(encryptionKeys, {
          onNone: () => Embedded.layerKeys(directory),
          onSome: KeyRing.layer
        })
    )
  )

/** What may change while the program runs, as it is now, and more of how it starts. */
export interface Running {
  /** That of the start but for passwords. */
  readonly database?: () => Database
  /** Default: of the keys that the database's settings have. */
  readonly keyRing?: Layer.Layer<KeyRing.KeyRing>
  /** A PostgreSQL that is not up yet is waited for so long; by default, not. */
  readonly startWithin?: Duration.Duration | undefined
}

/** The keys come along, for what is signed and not stored. */
const storage = (
  database: Database,
  { database: now = () => database, keyRing, startWithin }: Running = {}
): Layer.Layer<TokenStorage | FlowStorage | KeyRing.KeyRing, StartError> =>
  (database._tag === "Embedded"
    ? embedded(database, keyRing)
    : tables({
        statementTimeout: database.statementTimeout,
        listenUrl: () => {
          const { directUrl, url } = postgresOf(now(), database)
          return Option.getOrElse(directUrl, () => url)
        }
      }).pipe(
        Layer.provide(
          Postgres.layerConnection({ ...database, url: () => postgresOf(now(), database).url, startWithin })
        ),
        Layer.provideMerge(keyRing ?? KeyRing.layer(database.encryptionKeys))
      )
  ).pipe(
    Layer.catchAll((error) =>
      Layer.fail(
        "message" in error
          ? toStartError(error)
          : new StartError({ message: `The encryption keys cannot be used: ${String(error)}` })
      )
    )
  )

const postgresOf = (now: Database, otherwise: PostgresDatabase) => (now._tag === "Postgres" ? now : otherwise)

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
