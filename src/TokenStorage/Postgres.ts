/**
 * The storage port on PostgreSQL (14 or later) and on PGlite: sealed pairs in, sealed pairs out, one statement for each
 * call. A row that cannot be opened fails for its own user only.
 */
import type { PgClient } from "@effect/sql-pg"
import { SqlClient, type SqlError, type Statement } from "@effect/sql"
import { Config, type ConfigError, Duration, Effect, Layer, Option, Redacted, Schema, Stream } from "effect"
import type { UserUlid } from "../Token.js"
import { CalAccountInUse, StorageUnavailable, TokenError, type TokenUnreadable } from "../TokenError.js"
import { AttemptFailure, ClaimResult, CommitResult, FailResult, TokenStorage } from "../TokenStorage.js"
import * as ChangeLogSql from "./Postgres/Changes.js"
import { KeyRing } from "../KeyRing.js"
import type { Columns } from "./Postgres/Fragments.js"
import * as Migrations from "./Postgres/Migrations.js"
import * as Notifications from "./Postgres/Notifications.js"
import * as Pool from "./Postgres/Pool.js"
import * as Sealing from "./Postgres/Sealing.js"
import { reasonOf, run } from "./Postgres/Sql.js"
import * as Statements from "./Postgres/Statements.js"

export interface Options extends Migrations.Options {
  /**
   * Whose time judges leases and cooldowns: the database's, which is one for all processes, or Effect's, so that a
   * `TestClock` governs. Default `database`.
   */
  readonly clock?: "database" | "effect" | undefined
  /** How long a call waits for the database at most, the wait for a connection included. Default 5 s. */
  readonly statementTimeout?: Duration.DurationInput | undefined
  /**
   * Where the writes of other processes are heard of: the database itself, for a pooler (in transaction mode) does not
   * pass them on. Default: nowhere, and they are noticed by polling and re-reading, within seconds.
   */
  readonly listenUrl?: Redacted.Redacted | undefined
}

export const make = (
  options: Options = {}
): Effect.Effect<TokenStorage["Type"], never, SqlClient.SqlClient | KeyRing> =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const keys = yield* KeyRing
    const timeout = Duration.decode(options.statementTimeout ?? Duration.seconds(5))

    /** Builds a statement with the storage's instant in it and runs it. */
    const queryAt = <A extends object>(
      operation: string,
      build: (now: Statement.Fragment) => Statement.Statement<A>
    ): Effect.Effect<ReadonlyArray<A>, StorageUnavailable> => {
      const statement: Effect.Effect<ReadonlyArray<A>, SqlError.SqlError> = options.clock === "effect"
        ? Effect.clockWith((clock) => build(sql`${clock.unsafeCurrentTimeMillis()}::bigint`))
        : Effect.suspend(() => build(sql.literal(databaseNow)))
      return run(statement, { operation, timeout })
    }
    const query = <A extends object>(
      operation: string,
      build: (statements: ReturnType<typeof Statements.make>) => Statement.Statement<A>
    ) => queryAt(operation, (now) => build(Statements.make(sql, () => now)))

    /**
     * Tells other processes, after the write and without waiting: a transaction that notifies makes all others that do
     * wait for its commit, and nothing depends on the news.
     */
    const tell = (...rows: ReadonlyArray<{ readonly userUlid: UserUlid; readonly version?: number }>) => {
      const payloads = rows.map(({ userUlid, version }) => Notifications.payload(userUlid, version))
      return Effect.forkDaemon(Effect.ignore(query("notify", (statements) => statements.notify(payloads))))
    }

    const open = (row: Columns) => Sealing.open(keys, row)
    const openFirst = ([row]: ReadonlyArray<Columns>) =>
      row === undefined ? Effect.succeedNone : Effect.asSome(open(row))

    const fail: TokenStorage["Type"]["fail"] = (request) =>
      Effect.flatMap(
        query("fail", (statements) => statements.fail(request)),
        ([row]): Effect.Effect<FailResult, TokenUnreadable> =>
          row === undefined
            ? Effect.succeed<FailResult>(FailResult.NotRecorded({ row: Option.none(), attemptIsMine: false }))
            : Effect.flatMap(open(row), (stored) =>
                row.recorded
                  ? Effect.as(tell(stored), FailResult.Recorded({ row: stored }))
                  : Effect.succeed<FailResult>(
                      FailResult.NotRecorded({ row: Option.some(stored), attemptIsMine: row.is_mine })
                    )
              )
      )

    return TokenStorage.of({
      find: (userUlid) =>
        Effect.flatMap(
          query("find", (statements) => statements.find(userUlid)),
          openFirst
        ),

      claim: (request) =>
        Effect.gen(function* () {
          const [answer] = yield* query("claim", (statements) => statements.claim(request))
          if (answer === undefined) return ClaimResult.NotFound()
          const row = yield* Effect.tapError(open(answer), () =>
            // Others may have the key that is missing here: let them have the lease.
            answer.verdict !== "Claimed"
              ? Effect.void
              : query("claim", (statements) =>
                  statements.fail({
                    userUlid: request.userUlid,
                    attemptId: request.attemptId,
                    failure: AttemptFailure.Released({ probe: Option.fromNullable(answer.journal) })
                  })
                ).pipe(Effect.ignore)
          )
          const retryAfter = Duration.millis(answer.retry_after ?? 0)
          const lastError = decodeError(answer.last_error)
          const consecutiveFailures = answer.consecutive_failures
          switch (answer.verdict) {
            case "Newer":
              return ClaimResult.Newer({ row })
            case "Terminal":
              return ClaimResult.Terminal({ row })
            case "Busy":
              return ClaimResult.Busy({ row, retryAfter })
            case "RejectedRecently":
              return ClaimResult.RejectedRecently({ row, retryAfter })
            case "CoolingDown":
              return ClaimResult.CoolingDown({ row, retryAfter, lastError })
            case "ProbeLater":
              return ClaimResult.ProbeLater({ row, retryAfter, lastError, consecutiveFailures })
            case "Claimed":
              return ClaimResult.Claimed({ row, probe: Option.fromNullable(answer.journal), consecutiveFailures })
          }
        }),

      spend: (request) =>
        Effect.flatMap(
          query("spend", (statements) => statements.spend(request)),
          openFirst
        ),

      commit: (request) =>
        Effect.gen(function* () {
          const pair = yield* Sealing.seal(keys, request.userUlid, request.pair)
          const [answer] = yield* query("commit", (statements) => statements.commit(request, pair))
          if (answer === undefined || answer.verdict === "Discarded") return CommitResult.Discarded()
          const row = yield* open(answer)
          if (answer.verdict === "Stored" || answer.verdict === "Kept") yield* tell(row)
          switch (answer.verdict) {
            case "Stored":
              return CommitResult.Stored({ row })
            case "AlreadyStored":
              return CommitResult.AlreadyStored({ row })
            case "AlreadyKept":
            case "Kept":
              return CommitResult.KeptAsFallback({ row })
          }
        }),

      fail,

      connect: (request) =>
        Effect.gen(function* () {
          const pair = yield* Sealing.seal(keys, request.userUlid, request.pair)
          const [row] = yield* query("connect", (statements) => statements.connect(request, pair))
          if (row === undefined) return yield* new CalAccountInUse({ userUlid: request.userUlid })
          yield* tell({ userUlid: request.userUlid, version: row.version }, ...(row.displaced ?? []).map(gone))
          return yield* open(row)
        }),

      update: (userUlid, pair) =>
        Sealing.seal(keys, userUlid, pair).pipe(
          Effect.flatMap((sealed) => query("update", (statements) => statements.update(userUlid, sealed))),
          Effect.tap(([row]) => (row === undefined ? Effect.void : tell({ userUlid, version: row.version }))),
          Effect.flatMap(openFirst)
        ),

      disconnect: (userUlid) =>
        query("disconnect", (statements) => statements.disconnect(userUlid)).pipe(
          Effect.map((rows) => rows.length > 0),
          Effect.tap((existed) => (existed ? tell(gone(userUlid)) : Effect.void))
        ),

      findByAccessToken: (hash) =>
        Effect.map(
          query("findByAccessToken", (statements) => statements.findByAccessToken(hash)),
          ([row]) =>
            Option.map(Option.fromNullable(row), ({ superseded_at, user_ulid }) => ({
              userUlid: user_ulid,
              supersededAt: Option.fromNullable(superseded_at)
            }))
        ),

      list: (request) =>
        Effect.map(
          query("list", (statements) => statements.list(request)),
          (rows) => rows.map(Sealing.summary)
        ),

      ping: Effect.asVoid(query("ping", (statements) => statements.ping)),

      notices: options.listenUrl === undefined ? Stream.empty : Notifications.stream({ url: options.listenUrl }),

      log: ChangeLogSql.make(sql, queryAt)
    })
  })

/** The storage on the `SqlClient` at hand, its schema brought up to date first. */
export const layer = (
  options: Options = {}
): Layer.Layer<TokenStorage, StorageUnavailable, SqlClient.SqlClient | KeyRing> =>
  Layer.provide(Layer.effect(TokenStorage, make(options)), Migrations.layerWith(options))

export interface ConnectionOptions {
  readonly url: Redacted.Redacted
  /** At most so many connections. Default 10. */
  readonly poolSize?: number | undefined
  /** How long to wait for a connection, a free one or a new one. Default 5 s. */
  readonly connectTimeout?: Duration.DurationInput | undefined
  /**
   * The age at which a connection is replaced. Default 60 s: it bounds how long one is used that leads to a host that
   * fell silent, or to a primary that became a replica.
   */
  readonly maxAge?: Duration.DurationInput | undefined
}

/**
 * Connections to PostgreSQL, directly or through PgBouncer in transaction mode: no session state, no named prepared
 * statements, no startup parameters of our own.
 */
export const layerConnection = (
  options: ConnectionOptions
): Layer.Layer<PgClient.PgClient | SqlClient.SqlClient, StorageUnavailable> =>
  Pool.layer({
    url: options.url,
    poolSize: options.poolSize ?? 10,
    connectTimeout: Duration.decode(options.connectTimeout ?? Duration.seconds(5)),
    maxAge: Duration.decode(options.maxAge ?? Duration.seconds(60)),
    applicationName: "cal-tokens"
  }).pipe(
    Layer.catchAll((error) => Layer.fail(new StorageUnavailable({ operation: "connect", reason: reasonOf(error) })))
  )

/**
 * The storage and its connections from `DATABASE_URL`, `DATABASE_DIRECT_URL` (past a pooler, to hear of other processes'
 * writes), `DATABASE_POOL_SIZE` and `DATABASE_…_TIMEOUT`.
 */
export const layerConfig: Layer.Layer<
  TokenStorage | PgClient.PgClient | SqlClient.SqlClient,
  ConfigError.ConfigError | StorageUnavailable,
  KeyRing
> = Layer.unwrapEffect(
  Effect.map(
    Config.all({
      url: Config.redacted("DATABASE_URL"),
      directUrl: Config.option(Config.redacted("DATABASE_DIRECT_URL")),
      poolSize: Config.withDefault(Config.integer("DATABASE_POOL_SIZE"), 10),
      connectTimeout: Config.withDefault(Config.duration("DATABASE_CONNECT_TIMEOUT"), Duration.seconds(5)),
      statementTimeout: Config.withDefault(Config.duration("DATABASE_STATEMENT_TIMEOUT"), Duration.seconds(5))
    }),
    ({ directUrl, ...options }) =>
      Layer.provideMerge(
        layer({
          ...options,
          listenUrl: Option.getOrElse(Option.filter(directUrl, isSet), () => options.url)
        }),
        layerConnection(options)
      )
  )
)

const isSet = (url: Redacted.Redacted) => Redacted.value(url) !== ""

const gone = (userUlid: UserUlid) => ({ userUlid })

const databaseNow = "floor(extract(epoch from clock_timestamp()) * 1000)::bigint"

/** An error that an older or newer release wrote differently is no reason to fail. */
const decodeError = Schema.decodeUnknownOption(TokenError)
