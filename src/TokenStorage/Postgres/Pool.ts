/**
 * The connections to PostgreSQL: pg's pool under Effect's client, with two promises more. A connection whose statement has
 * not ended when it is given back is closed, and never given to anybody else. So is one whose session turns out to only
 * read, and all that were opened before that was noticed: a failover left them at a server that is a replica by now.
 *
 * `PgClient.layer` lacks the first one: pg's pool takes such a connection back as idle and hands it out first, so that the
 * next statement waits behind the running one, is given up on in its turn, and takes place later although its caller was
 * told that it failed.
 *
 * So a write that was given up on before it had a connection never takes place. One that was sent is cancelled. It may
 * have taken place before that; and it may do so later where the cancellation does not arrive, and where it still waits
 * for one of a pooler's own connections, for PgBouncer (1.18) looks neither at the cancellation nor at the end of a client
 * that waits.
 */
import { Socket } from "node:net"
import { SqlError, SqlClient } from "@effect/sql"
import { PgClient } from "@effect/sql-pg"
import { Clock, Context, Duration, Effect, Layer, Redacted, type Scope } from "effect"
import { Client, type ClientConfig, Connection, type DatabaseError, Pool, type PoolClient, type QueryResult } from "pg"
import * as Sql from "./Sql.js"

export interface Options {
  readonly url: () => Redacted.Redacted
  readonly poolSize: number
  readonly connectTimeout: Duration.Duration
  readonly maxAge: Duration.Duration
  readonly applicationName: string
  /** For how long a database that is not up yet is tried again when the pool is made. */
  readonly startWithin: Duration.Duration
}

/** The pause before a database is tried again that is not up yet. */
const startPause = Duration.seconds(2)

/** Where the client of this pool has an {@link Sql.Ask}. */
const asking: unique symbol = Symbol.for("cal-tokens/TokenStorage/Postgres/Pool/ask")

/** Of a client of this pool; another one (an application's own, an embedded database) has none. */
export const askOf = (sql: SqlClient.SqlClient & { readonly [asking]?: Sql.Ask }): Sql.Ask | undefined => sql[asking]

/** `PgClient.layer` on a pool that is kept as said above. */
export const layer = (options: Options): Layer.Layer<PgClient.PgClient | SqlClient.SqlClient, SqlError.SqlError> =>
  Layer.unwrapScoped(
    Effect.map(make(options), ({ ask, pool }) =>
      Layer.map(PgClient.layerFromPool({ acquire: Effect.succeed(pool) }), (context) => {
        Object.assign(Context.get(context, SqlClient.SqlClient), { [asking]: ask })
        return context
      })
    )
  )

/** What `PgClient.make` does about its own pool: the same options, the first statement, and the bounded end. */
const make = (
  options: Options
): Effect.Effect<{ readonly pool: Pool; readonly ask: Sql.Ask }, SqlError.SqlError, Scope.Scope> =>
  Effect.gen(function* () {
    const { ask, pool } = yield* Effect.acquireRelease(
      Effect.sync(() =>
        guarded(
          new Pool({
            Client: clientAt(options.url),
            connectionTimeoutMillis: Duration.toMillis(options.connectTimeout),
            max: options.poolSize,
            maxLifetimeSeconds: Duration.toSeconds(options.maxAge),
            application_name: options.applicationName,
            // Connections that nobody uses keep no process from ending.
            allowExitOnIdle: true
          })
        )
      ),
      ({ pool }) =>
        Effect.promise(() => pool.end()).pipe(Effect.interruptible, Effect.timeoutOption(Duration.seconds(1)))
    )
    // Idle connections that break are replaced when they are needed; unheard, the event would end the process.
    pool.on("error", () => undefined)
    tellingWords(pool, options.url)
    const first = Effect.tryPromise({
      try: () => pool.query("SELECT 1"),
      catch: (cause) => new SqlError.SqlError({ cause, message: "Failed to connect" })
    }).pipe(
      Effect.timeoutFail({
        duration: options.connectTimeout,
        onTimeout: () =>
          new SqlError.SqlError({ cause: new Error("Connection timed out"), message: "Failed to connect" })
      })
    )
    yield* patiently(first, options.startWithin)
    return { ask, pool }
  })

/** The pool keeps what it was made with, and hands that to each client. */
const clientAt = (url: Options["url"]) =>
  class extends Client {
    constructor(config?: ClientConfig) {
      super({ ...config, connectionString: Redacted.value(url()) })
    }
  }

/** Tries again, and tells each time, while the database is not up yet and the time is not over. */
const patiently = <A>(first: Effect.Effect<A, SqlError.SqlError>, within: Duration.Duration) =>
  Effect.gen(function* () {
    const until = (yield* Clock.currentTimeMillis) + Duration.toMillis(within)
    const attempt: Effect.Effect<A, SqlError.SqlError> = Effect.catchIf(first, Sql.isAway, (error) =>
      Effect.gen(function* () {
        const left = until - (yield* Clock.currentTimeMillis)
        if (left <= 0) return yield* error
        yield* Effect.annotateLogs(Effect.logWarning("The database is not up yet; it is tried again"), {
          reason: Sql.reasonOf(error)
        })
        yield* Effect.sleep(Math.min(left, Duration.toMillis(startPause)))
        return yield* attempt
      })
    )
    return yield* attempt
  })

/** What connections are refused with may be told in its own words. */
const tellingWords = (pool: Pool, url: Options["url"]) => {
  const connect = pool.connect.bind(pool)
  pool.connect = ((done: Parameters<typeof connect>[0]) =>
    connect((error, client, release) => {
      Sql.allowWords(error, url())
      done(error, client, release)
    })) as Pool["connect"]
}

/**
 * Keeps the promise by two of the pool's public events and the client's public `end`: a client that is ending when its
 * `release` has been announced is not kept (pg-pool, `_release`).
 *
 * A statement that was given up on is also cancelled, or it would wait at the server for as long as a lock is held, for
 * the server looks at the connection only when it has something to say. `PgClient` asks for that by number,
 * `pg_cancel_backend`, on another connection of the same pool: through a pooler the number names nobody, and where all
 * connections are taken it waits for one, as does whoever comes next. So the question is answered here instead.
 */
const guarded = (pool: Pool): { readonly pool: Pool; readonly ask: Sql.Ask } => {
  const inUse = new Set<PoolClient>()
  const givenUp = new WeakSet<PoolClient>()
  pool.on("acquire", (client) => inUse.add(client))
  pool.on("release", (_, client) => {
    inUse.delete(client)
    if (givenUp.has(client) || isRunning(client)) void client.end()
  })
  pool.on("connect", (client) => {
    // Before the driver tells whoever waits for the statement, and they give the connection back.
    client.connection.prependListener("errorMessage", ({ code }: DatabaseError) => {
      if (code !== Sql.readOnly) return
      for (const other of inUse) givenUp.add(other)
      for (let idle = pool.idleCount; idle > 0; idle--) pool.connect((_, __, release) => release(true))
    })
  })

  const giveUp = (client: PoolClient, done: () => void) => {
    // Even if its statement ends by itself meanwhile: the cancellation may be late and would meet the next one.
    givenUp.add(client)
    cancel(client, () => {
      // Here, too, for a transaction is given back after a rollback, which would wait for a statement that still runs.
      void client.end()
      done()
    })
  }
  const query = pool.query.bind(pool) as (...args: ReadonlyArray<unknown>) => unknown
  pool.query = ((...args: ReadonlyArray<unknown>) => {
    const [text, done] = args
    const [, processId] = (typeof text === "string" && /^SELECT pg_cancel_backend\((.+)\)$/.exec(text)) || []
    if (processId === undefined) return query(...args)
    const client = [...inUse].find((client) => sessionOf(client).processID === Number(processId))
    return client === undefined ? (done as () => void)() : giveUp(client, done as () => void)
  }) as Pool["query"]

  const ask: Sql.Ask = (text, parameters, done) => {
    let isOver = false
    /** Gives the connection back. */
    let leave: ((cause?: Error) => void) | undefined
    let stop = (stopped: () => void) => stopped()
    pool.connect((failure, client, release) => {
      // Whoever gave up before there was a connection.
      if (isOver) return client === undefined ? undefined : release()
      if (client === undefined) {
        isOver = true
        return done(failure, [])
      }
      const end = (error: Error | undefined, rows: ReadonlyArray<never>, cause?: Error) => {
        if (leave === undefined) return
        leave(cause)
        if (isOver) return
        isOver = true
        done(error, rows)
      }
      const broken = (error: Error) => end(error, [], error)
      leave = (cause) => {
        leave = undefined
        client.off("error", broken)
        release(cause)
      }
      stop = (stopped) =>
        giveUp(client, () => {
          leave?.()
          stopped()
        })
      client.once("error", broken)
      client.query(text, [...parameters], (error: Error | null, result: QueryResult<never>) => {
        if (error === null || error === undefined) end(undefined, result.rows)
        else end(error, [], isLastWord(error) ? error : undefined)
      })
    })
    return (stopped) => {
      if (isOver && leave === undefined) return stopped()
      isOver = true
      stop(stopped)
    }
  }
  return { ask, pool }
}

/** Whether the session ends with this: who is given its connection before it closes would fail with nothing of their own. */
const isLastWord = (error: Error): boolean => String(Sql.sqlState(error)).startsWith("57P")

/**
 * Whether a statement has not been answered yet, or not even been sent. pg has no public word for it: `activeQuery` and
 * `queryQueue` are deprecated and say so on standard error, and `drain` tells an end but no beginning. pg-pool looks at
 * private fields for want of better as well.
 */
const isRunning = (client: PoolClient): boolean => {
  const { _activeQuery, _queryQueue } = client as unknown as Partial<Statements>
  return (_activeQuery !== null && _activeQuery !== undefined) || _queryQueue?.length !== 0
}
interface Statements {
  /** Null once it has failed: what the server says after that, that it is ready, may be still to come. */
  readonly _activeQuery: object | null | undefined
  readonly _queryQueue: ReadonlyArray<object>
}

/**
 * Asks for the end of what a session runs, as the protocol has it: on a connection of its own, with the session's key,
 * which a pooler knows to belong to whom. The session's own connection must still be open, or a pooler forgets the key.
 * Continues when the other side has closed the connection, which it does when it has passed the question on, or after a
 * second.
 */
const cancel = (client: PoolClient, done: () => void): void => {
  const { processID, secretKey, ssl, sslNegotiation } = sessionOf(client)
  const socket = new Socket()
  socket.setTimeout(1000, () => socket.destroy())
  const connection = new Connection({ ssl, sslNegotiation, stream: () => socket } as object) as Wire
  connection.once("end", done)
  connection.on("error", () => socket.destroy())
  const ask = () => connection.cancel(processID, secretKey)
  if (ssl === false) connection.once("connect", ask)
  else {
    if (sslNegotiation !== "direct") connection.once("connect", () => connection.requestSsl())
    connection.once("sslconnect", ask)
  }
  if (client.host.startsWith("/")) connection.connect(`${client.host}/.s.PGSQL.${client.port}`)
  else connection.connect(client.port, client.host)
}

/** What a client knows of its session, and its types do not say. */
const sessionOf = (client: PoolClient) => client as unknown as Session
interface Session {
  readonly processID: number | null
  readonly secretKey: number | null
  readonly ssl: boolean | object
  readonly sslNegotiation: string
}

/** The steps of a connection's beginning, which pg's own `Client.cancel` takes, too, but without TLS. */
type Wire = Connection & {
  readonly connect: (port: number | string, host?: string) => void
  readonly requestSsl: () => void
  readonly cancel: (processId: number | null, secretKey: number | null) => void
}
