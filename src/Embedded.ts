/**
 * A database that needs no installation: PGlite (PostgreSQL in WebAssembly) in this process. For development, tests and
 * demonstrations, not for production: one process, one statement at a time, and files that are not synced to the disk, so
 * that a power cut may lose what was stored last. It takes some 150 MB. On Node 24, V8 takes 500 more for a moment, to
 * optimize it; `node --liftoff-only` has it do without.
 */
import { randomBytes } from "node:crypto"
import * as Fs from "node:fs/promises"
import { join } from "node:path"
import type { PGlite, Results } from "@electric-sql/pglite"
import { Reactivity } from "@effect/experimental"
import { SqlClient, type SqlConnection, SqlError } from "@effect/sql"
import { PgClient } from "@effect/sql-pg"
import { type ConfigError, Effect, Layer, Redacted, Schema, type Scope, Stream } from "effect"
import * as Files from "./Embedded/Files.js"
import * as Lock from "./Embedded/Lock.js"
import * as Private from "./Embedded/Private.js"
import * as KeyRing from "./KeyRing.js"

/**
 * The embedded database cannot be opened.
 *
 * @since 0.1.0
 * @category errors
 */
export class EmbeddedError extends Schema.TaggedError<EmbeddedError>()("EmbeddedError", {
  directory: Schema.String,
  reason: Schema.String
}) {
  override get message() {
    return `The embedded database in ${this.directory} cannot be opened: ${this.reason}.`
  }
}

/**
 * Where the database is.
 *
 * @since 0.1.0
 * @category models
 */
export type Options =
  | {
      /** Where the files are kept. Made if it is missing, readable by its owner only, and ignored by Git. */
      readonly directory: string
    }
  | {
      /** Keep nothing. */
      readonly inMemory: true
    }

/**
 * Opens the database; the scope's end writes it out and closes it.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  options: Options
): Effect.Effect<SqlClient.SqlClient, EmbeddedError, Scope.Scope | Reactivity.Reactivity> =>
  Effect.gen(function* () {
    const directory = "directory" in options ? options.directory : "memory"
    const files = join(directory, "postgres")
    const failure = (reason: string) => new EmbeddedError({ directory, reason })
    const pglite = yield* Effect.tryPromise({
      // Left to Node by bundlers: it may be absent, and it looks for its files beside itself.
      try: () => import(/* webpackIgnore: true */ /* turbopackIgnore: true */ "@electric-sql/pglite"),
      catch: () => failure("the package @electric-sql/pglite is missing; install it with `npm i @electric-sql/pglite`")
    })
    const startParams = [...pglite.PGlite.defaultStartParams, ...settings.flatMap((setting) => ["-c", setting])]
    if ("directory" in options) {
      yield* Effect.mapError(own(directory), failure)
      yield* Effect.mapError(Lock.acquire(directory), (error) =>
        failure(
          error instanceof Lock.Held
            ? `process ${error.pid} on ${error.host} uses it; stop that process or choose another directory` +
                ` (${error.path} names the holder)`
            : `its lock file cannot be written (${error.code})`
        )
      )
      yield* Effect.mapError(
        Private.directory(files, () => true),
        failure
      )
      const here = (options: Files.Options) =>
        Effect.tryPromise({
          try: async () => (await pglite.PGlite.create(options)).close(),
          catch: firstLine
        })
      yield* Effect.mapError(Files.make(files, startParams, here), failure)
    }
    const db = yield* Effect.acquireRelease(
      Effect.tryPromise({
        try: () =>
          pglite.PGlite.create({
            dataDir: "directory" in options ? files : "memory://",
            startParams,
            // As the network driver gives it: a 64-bit number does not fit into a JavaScript one.
            parsers: { [pglite.types.INT8]: (text: string) => text }
          }),
        catch: (error) => failure(firstLine(error))
      }),
      (opened) =>
        Effect.ignore(
          Effect.tryPromise(async () => {
            await opened.exec("checkpoint").catch(() => [])
            await opened.close()
          })
        )
    )
    if ("directory" in options) yield* Effect.mapError(Private.below(files), failure)
    quieten(db)
    const permit = yield* Effect.makeSemaphore(1)
    const session = makeSession(db)
    return yield* SqlClient.make({
      acquirer: Effect.succeed(guard(session, permit)),
      transactionAcquirer: Effect.as(
        Effect.acquireRelease(permit.take(1), () => permit.release(1)),
        session
      ),
      compiler: PgClient.makeCompiler(),
      spanAttributes: [["db.system.name", "pglite"]]
    })
  })

/**
 * The embedded database as the program's `SqlClient`.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (options: Options): Layer.Layer<SqlClient.SqlClient, EmbeddedError> =>
  Layer.provide(Layer.scoped(SqlClient.SqlClient, make(options)), Reactivity.layer)

/**
 * A key for an embedded database that nobody gave one: it is made once and kept beside the data, for its owner only.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerKeys = (directory: string): Layer.Layer<KeyRing.KeyRing, EmbeddedError | ConfigError.ConfigError> =>
  Layer.unwrapEffect(Effect.map(keysIn(directory), KeyRing.layer))

/** What is in it are tokens and the key to them: a project's `git add .` must not take it along. */
const own = (directory: string) => Effect.zipRight(Private.directory(directory), Private.ignore(directory))

const keysIn = (directory: string): Effect.Effect<Redacted.Redacted, EmbeddedError> =>
  Effect.gen(function* () {
    const failure = (reason: string) => new EmbeddedError({ directory, reason: `its encryption key: ${reason}` })
    yield* Effect.mapError(own(directory), failure)
    const path = join(directory, "encryption-keys")
    const keys = yield* KeyRing.generateKeys
    yield* Effect.tryPromise({
      try: async () => {
        // Written aside and linked, so that nobody reads half a key and the first one stays.
        const draft = `${path}.${randomBytes(8).toString("hex")}`
        await Fs.writeFile(draft, `${Redacted.value(keys)}\n`, { mode: 0o600, flag: "wx" })
        await Fs.link(draft, path).catch((error: NodeJS.ErrnoException) => {
          if (error.code !== "EEXIST") throw error
        })
        await Fs.rm(draft, { force: true })
      },
      catch: (error) => failure(firstLine(error))
    })
    const text = yield* Effect.mapError(Private.read(path), failure)
    return Redacted.make(text.trim())
  })

const settings = [
  // It would be told every 10 s, and for ever after a crash, how far the start is.
  "log_startup_progress_interval=0",
  // The usual 128 MB are taken from the process at once, for a database that is a fraction of it.
  "shared_buffers=16MB"
]

/**
 * PostgreSQL has itself woken 10 s after a write, for its statistics, and PGlite takes the global function for that while
 * it runs a statement. No script needs to wait for it.
 */
const quieten = (db: PGlite): void => {
  const run = db.execProtocolRawSync.bind(db)
  db.execProtocolRawSync = (message) => {
    const { setTimeout } = globalThis
    globalThis.setTimeout = ((...args: Parameters<typeof setTimeout>) =>
      setTimeout(...args).unref()) as typeof setTimeout
    try {
      return run(message)
    } finally {
      globalThis.setTimeout = setTimeout
    }
  }
}

/** The one session, for whoever holds the permit. Statements without parameters may be several, as with the driver. */
const makeSession = (db: PGlite): SqlConnection.Connection => {
  const call = <A>(f: () => Promise<A>) =>
    Effect.tryPromise({
      try: f,
      catch: (cause) => {
        // PGlite hangs the parameters on its errors.
        if (cause instanceof Error) for (const key of ["params", "query"]) Reflect.deleteProperty(cause, key)
        return new SqlError.SqlError({ cause, message: "Failed to execute statement" })
      }
    })
  const results = (sql: string, params: ReadonlyArray<unknown>, rowMode: "object" | "array") =>
    call<ReadonlyArray<Results>>(async () =>
      params.length === 0 ? await db.exec(sql, { rowMode }) : [await db.query(sql, [...params], { rowMode })]
    )
  const rows = (sql: string, params: ReadonlyArray<unknown>) =>
    Effect.map(results(sql, params, "object"), (all): ReadonlyArray<object> => {
      const [only] = all
      return all.length > 1 ? all.map((result) => result.rows) : (only?.rows ?? [])
    })
  const execute: SqlConnection.Connection["execute"] = (sql, params, transformRows) =>
    transformRows === undefined ? rows(sql, params) : Effect.map(rows(sql, params), transformRows)
  return {
    execute,
    executeUnprepared: execute,
    executeRaw: (sql, params) => Effect.map(results(sql, params, "object"), (all) => (all.length > 1 ? all : all[0])),
    executeValues: (sql, params) =>
      Effect.map(results(sql, params, "array"), (all) =>
        (all[0]?.rows ?? []).map((row) => Object.values<unknown>(row))
      ),
    executeStream: (sql, params, transformRows) =>
      Stream.unwrap(Effect.map(execute(sql, params, transformRows), Stream.fromIterable))
  }
}

/** The session for single statements: each waits for the permit, so that none slips into somebody's transaction. */
const guard = (session: SqlConnection.Connection, permit: Effect.Semaphore): SqlConnection.Connection => {
  const alone = permit.withPermits(1)
  return {
    execute: (...args) => alone(session.execute(...args)),
    executeUnprepared: (...args) => alone(session.executeUnprepared(...args)),
    executeRaw: (...args) => alone(session.executeRaw(...args)),
    executeValues: (...args) => alone(session.executeValues(...args)),
    executeStream: (...args) =>
      Stream.unwrapScoped(
        Effect.as(
          Effect.acquireRelease(permit.take(1), () => permit.release(1)),
          session.executeStream(...args)
        )
      )
  }
}

const firstLine = (error: unknown): string => {
  const text = error instanceof Error ? error.message : String(error)
  const line = text.split("\n")[0]?.trim() ?? ""
  return line === "" ? "the database does not start" : line.replace(/\.$/, "")
}
