/**
 * The storage port on PostgreSQL (14 or later) and on PGlite: sealed pairs in, sealed pairs out, one call of one function
 * for each operation. A row that cannot be opened fails for its own user only.
 */
import type { SqlClient } from "@effect/sql"
import { Duration, Effect, Either, Layer, Option, Redacted, Schema, type Scope, Stream } from "effect"
import * as History from "../History.js"
import { KeyRing } from "../KeyRing.js"
import type { Connection, TokenPair, UserUlid } from "../Token.js"
import { CalAccountInUse, StorageUnavailable, AttemptError, type TokenUnreadable } from "../TokenError.js"
import {
  AttemptFailure,
  type CircuitRequest,
  ClaimResult,
  CommitResult,
  type Drift,
  FailResult,
  type FailRequest,
  hashAnswer,
  type ImportRequest,
  ImportResult,
  maxVisits,
  type NewSealedAnswer,
  type Schedule,
  type StoredConnection,
  type StoredHistory,
  type StoredRow,
  TokenStorage
} from "../TokenStorage.js"
import * as Call from "./Postgres/Call.js"
import * as ChangeLog from "./Postgres/ChangeLog.js"
import * as Defaults from "./Postgres/Defaults.js"
import * as Finding from "./Postgres/Finding.js"
import * as Migrations from "./Postgres/Migrations.js"
import * as Notifications from "./Postgres/Notifications.js"
import * as Pool from "./Postgres/Pool.js"
import * as Sealing from "./Postgres/Sealing.js"
import { reasonOf } from "./Postgres/Sql.js"
import * as Telling from "./Postgres/Telling.js"
import * as Writing from "./Postgres/Writing.js"
import type { Activity, OpenCircuit, Outlook } from "./Activity.js"
import type { CircuitCause } from "./Circuits.js"
import * as Lookups from "./Lookups.js"
import { millis } from "./Rows.js"

/**
 * How the storage asks its database.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options extends Call.Options {
  /**
   * Where the writes of other processes are heard of: the database itself, for a pooler (in transaction mode) does not
   * pass them on. Default: nowhere, and they are noticed by polling and re-reading, within seconds.
   */
  readonly listenUrl?: Redacted.Redacted | (() => Redacted.Redacted) | undefined
}

interface ClaimColumns extends Sealing.Columns {
  readonly verdict: Exclude<ClaimResult["_tag"], "NotFound">
  readonly retry_after: number | null
  readonly journal: string | null
  readonly last_error: unknown
  readonly consecutive_failures: number
  readonly sealed: ReadonlyArray<Sealing.SealedColumns> | null
  readonly trial: "refresh" | "reissue" | null
  readonly trial_in: number | null
  readonly held_cause: CircuitCause | null
  readonly held_reason: string | null
}

interface DueColumns extends Omit<ClaimColumns, "verdict"> {
  readonly attempt: string
  readonly due_at: number
  /** `More`: no user, but that many were put off, and there may be others. */
  readonly verdict: ClaimColumns["verdict"] | "More"
}

interface CommitColumns extends Sealing.Columns {
  readonly verdict: "Stored" | "AlreadyStored" | "AlreadyKept" | "Kept" | "Discarded"
}

interface FailColumns extends Sealing.Columns {
  readonly recorded: boolean
  readonly is_mine: boolean
  readonly retry_after: number | null
  readonly held_cause: CircuitCause | null
  readonly held_reason: string | null
}

interface HistoryColumns extends Sealing.Columns {
  readonly read_at: number
  readonly attempt: string | null
  readonly attempt_started_at: number | null
  readonly lease_until: number | null
  readonly journal: string | null
  readonly circuit: OpenCircuit | null
  readonly entries: ReadonlyArray<unknown>
}

/** What is new in a row that was written. */
type Written = Pick<Sealing.Columns, "version" | "sessions_after" | "updated_at" | "handed_out_at" | "handed_out_code">

interface ImportColumns extends Written {
  readonly verdict: ImportResult["_tag"]
  /** Of which request, from 1 on. */
  readonly n: number
}

interface ActivityColumns {
  readonly read_at: number
  readonly from_at: number
  readonly until_at: number
  readonly attempts: Activity["attempts"]
}

interface OutlookColumns {
  /** Without a minute: those that are over. */
  readonly ends: ReadonlyArray<{ readonly at: number | null; readonly users: number }>
  readonly circuits: Outlook["circuits"]
}

/** What `counts_1` answers. */
type CountColumns = Readonly<Record<"active" | "terminal" | "client" | "brake" | "drift" | "sealed", number>>

/**
 * The storage without a layer. Its schema has to be up to date.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  options: Options = {}
): Effect.Effect<TokenStorage["Type"], never, SqlClient.SqlClient | KeyRing | Scope.Scope> =>
  Effect.gen(function* () {
    const keys = yield* KeyRing
    const scope = yield* Effect.scope
    const { call, statement } = yield* Call.make(options)

    const find = yield* Finding.make(call<Sealing.Columns>("find", "find_1"))
    const claim = yield* Writing.make<ClaimColumns>("claim", call("claim", "claim_1"), call("claim", "claim_many_1"))
    const claimDue = call<DueColumns>("claimDue", "claim_due_1")
    const used = call("used", "used_1")
    const spend = call<Sealing.Columns>("spend", "spend_1")
    const commitAlone = call<CommitColumns>("commit", "commit_1")
    const commit = yield* Writing.make<CommitColumns>("commit", commitAlone, call("commit", "commit_many_1"))
    const fail = call<FailColumns>("fail", "fail_1")
    const connect = call<Written & { readonly displaced: UserUlid | null }>("connect", "connect_1")
    const update = call<Written & Sealing.Account>("update", "update_1")
    const importMany = call<ImportColumns>("import", "import_many_1")
    const disconnect = call<{ readonly disconnect_1: boolean }>("disconnect", "disconnect_1")
    const endSessions = call<{ readonly end_sessions_1: number | null }>("endSessions", "end_sessions_1")
    const findByAccessToken = call<Sealing.Columns>("findByAccessToken", "find_by_access_token_1")
    const handedOut = call("handedOut", "handed_out_1")
    const missingKeys = call<{ readonly key_id: string; readonly rows: number }>("missingKeys", "missing_keys_1")
    const seal = call<{ readonly seal_1: boolean }>("seal", "seal_1")
    const sealed = call<Sealing.SealedColumns & { readonly user_ulid: UserUlid }>("sealed", "sealed_1")
    const list = call<Sealing.Columns>("list", "list_1")
    const listOfCalUser = call<Sealing.Columns>("list", "list_cal_user_1")
    const reconnecting = call<Sealing.Columns>("reconnecting", "reconnecting_1")
    const counts = call<CountColumns>("counts", "counts_1")
    const history = call<HistoryColumns>("history", "history_1")
    const activity = call<ActivityColumns>("activity", "activity_1")
    const outlook = call<OutlookColumns>("outlook", "outlook_1")
    const notify = statement(
      "notify",
      `select pg_notify('${Notifications.channel}', p.payload) from jsonb_array_elements_text($1::jsonb) as p (payload)`
    )
    // Fails on a replica, on a database that only reads, and where the schema is missing.
    const ping = statement("ping", "select nextval('cal_tokens.version')")

    const configured = () => keys.ids.filter((id) => !keys.retired.includes(id))

    const tell = Telling.make((payloads) => notify([JSON.stringify(payloads)]), scope)

    const open = (row: Sealing.Columns) => Sealing.open(keys, row)
    const openFirst = ([row]: ReadonlyArray<Sealing.Columns>) =>
      row === undefined ? Effect.succeedNone : Effect.asSome(open(row))

    /** The parameters of an answer to be sealed, and of what it says about all users. */
    const sealing = (userUlid: UserUlid, answer: NewSealedAnswer | undefined, drift: Drift | undefined) =>
      answer === undefined
        ? Effect.succeed([null, null, null, null, null, null])
        : Effect.map(Sealing.sealAnswer(keys, userUlid, answer), (envelope) => [
            answer.connection.clientId,
            answer.spentHash,
            hashAnswer(answer.answer),
            envelope,
            drift?.reason ?? null,
            drift?.users ?? null
          ])
    const openAnswers = (userUlid: UserUlid, answers: ReadonlyArray<Sealing.SealedColumns> | null) =>
      Effect.map(
        Effect.forEach(answers ?? [], (answer) => Sealing.openAnswer(keys, userUlid, answer)),
        (opened) => opened.flatMap(Option.toArray)
      )

    const failing = ({ attemptId, brake, circuit, failure, history, userUlid }: FailRequest) => {
      const none = { error: null, backoff: null, probeIn: null, cause: null, dead: "[]", probe: null, refusal: null }
      const { backoff, cause, dead, error, probe, probeIn, refusal } = AttemptFailure.$match(failure, {
        NotSpent: ({ backoff, error }) => ({ ...none, error: encodeError(error), backoff: millis(backoff) }),
        Unknown: ({ backoff, error, probeIn }) => ({
          ...none,
          error: encodeError(error),
          backoff: millis(backoff),
          probeIn: millis(probeIn)
        }),
        Terminal: ({ cause, dead, probe }) => ({
          ...none,
          cause,
          dead: JSON.stringify(dead),
          probe: Option.getOrNull(probe)
        }),
        Released: ({ probe, refusal = null }) => ({ ...none, probe: Option.getOrNull(probe), refusal })
      })
      const [answer, drift] = failure._tag === "Unknown" ? [failure.sealed, failure.drift] : []
      return Effect.flatMap(sealing(userUlid, answer, drift), (sealed) =>
        fail(
          [
            ...[userUlid, attemptId, failure._tag, error, backoff, probeIn, cause, dead, probe, refusal],
            circuit?.clientId ?? null,
            ...sealed,
            brake?.users ?? null,
            optionalMillis(brake?.window),
            ...circuitOf(circuit),
            eventOf(history)
          ],
          "now"
        )
      )
    }

    /** The row after a pair came from outside. */
    const written = (userUlid: UserUlid, connection: Connection, pair: TokenPair, row: Written): StoredConnection => ({
      userUlid,
      connection,
      pair,
      status: { _tag: "Active" },
      version: row.version,
      sessionsAfter: row.sessions_after,
      updatedAt: row.updated_at,
      ...Sealing.handedOutOf(keys, { ...row, user_ulid: userUlid })
    })

    const imported = ({ connection, pair, userUlid }: ImportRequest, row: ImportColumns): ImportResult => {
      switch (row.verdict) {
        case "Imported":
          return ImportResult.Imported({ row: written(userUlid, connection, pair, row) })
        case "Updated":
          return ImportResult.Updated({ row: written(userUlid, connection, pair, row) })
        case "Unchanged":
          return ImportResult.Unchanged()
        case "RefreshedHere":
          return ImportResult.RefreshedHere()
        case "AccountInUse":
          return ImportResult.AccountInUse()
        case "OtherAccount":
          return ImportResult.OtherAccount()
      }
    }

    const openClaimed = (answer: Omit<ClaimColumns, "verdict">, row: StoredRow) =>
      Effect.map(openAnswers(row.userUlid, answer.sealed), (sealed) =>
        ClaimResult.Claimed({
          row,
          probe: Option.fromNullable(answer.journal),
          consecutiveFailures: answer.consecutive_failures,
          sealed,
          ...(answer.trial === null ? {} : { trial: answer.trial })
        })
      )

    /** Others may have the key that is missing here: let them have the lease. */
    const letGo = (userUlid: UserUlid, attemptId: string, { journal }: Pick<ClaimColumns, "journal">) =>
      Effect.ignore(
        failing({ userUlid, attemptId, failure: AttemptFailure.Released({ probe: Option.fromNullable(journal) }) })
      )

    return TokenStorage.of({
      find: (userUlid) =>
        Effect.flatMap(find(userUlid), (row) => (row === undefined ? Effect.succeedNone : Effect.asSome(open(row)))),

      claim: (request) =>
        Effect.gen(function* () {
          const { attemptId, circuit, purpose, userUlid } = request
          const account = purpose._tag === "Reissue" ? purpose.account : undefined
          const answer = yield* claim([
            userUlid,
            attemptId,
            purpose._tag,
            "knownVersion" in purpose ? purpose.knownVersion : null,
            account?.clientId ?? null,
            account?.calUserId ?? null,
            millis(request.lease),
            millis(request.cooldownWindow),
            request.maxAttempts,
            optionalMillis(request.expiredFor),
            purpose._tag === "Refresh" ? optionalMillis(purpose.rejectedInterval) : null,
            circuit?.clientId ?? null,
            ...circuitOf(circuit)
          ])
          if (answer === undefined) return ClaimResult.NotFound()
          const row = yield* Effect.tapError(open(answer), () =>
            answer.verdict === "Claimed" ? letGo(userUlid, attemptId, answer) : Effect.void
          )
          const retryAfter = waitOf(answer.retry_after)
          const lastError = decodeError(answer.last_error)
          const consecutiveFailures = answer.consecutive_failures
          switch (answer.verdict) {
            case "Newer":
              return ClaimResult.Newer({ row })
            case "Terminal":
              return ClaimResult.Terminal({ row, sealed: yield* openAnswers(userUlid, answer.sealed) })
            case "Moved":
              return ClaimResult.Moved({ row })
            case "Busy":
              return ClaimResult.Busy({ row, retryAfter })
            case "RejectedRecently":
              return ClaimResult.RejectedRecently({ row, retryAfter, lastError })
            case "CoolingDown":
              return ClaimResult.CoolingDown({ row, retryAfter, lastError })
            case "ProbeLater":
              return ClaimResult.ProbeLater({ row, retryAfter, lastError, consecutiveFailures })
            case "Held":
              return ClaimResult.Held({
                row,
                retryAfter,
                trialIn: waitOf(answer.trial_in),
                cause: answer.held_cause ?? "client",
                reason: answer.held_reason ?? "",
                sealed: yield* openAnswers(userUlid, answer.sealed)
              })
            case "Claimed":
              return yield* openClaimed(answer, row)
          }
        }),

      claimDue: ({ circuit, cooldownWindow, lease, limit, maxAttempts, now, process, usedSince }) =>
        Effect.gen(function* () {
          const instants = [Math.floor(now), Math.floor(usedSince)]
          const rows = yield* claimDue(
            [
              circuit.clientId,
              ...circuitOf(circuit),
              limit,
              ...instants,
              millis(lease),
              millis(cooldownWindow),
              maxAttempts,
              JSON.stringify(keys.ids),
              process ?? null
            ],
            "now"
          )
          const granted = rows.filter(({ verdict }) => verdict === "Claimed")
          const claims = yield* Effect.forEach(granted, (answer) =>
            open(answer).pipe(
              Effect.tapError(() => letGo(answer.user_ulid, answer.attempt, answer)),
              Effect.flatMap((row) => openClaimed(answer, row)),
              Effect.map((claimed) => ({ attemptId: answer.attempt, dueAt: answer.due_at, claimed })),
              Effect.option
            )
          )
          const isMore =
            granted.length === limit ||
            rows.length >= limit * maxVisits ||
            rows.some(({ verdict }) => verdict === "More")
          return { claims: claims.flatMap(Option.toArray), isMore }
        }),

      used: (users, precision) =>
        Effect.asVoid(
          used([
            JSON.stringify(users.map(({ at, userUlid }) => ({ user_ulid: userUlid, at: Math.floor(at) }))),
            precision
          ])
        ),

      spend: ({ attemptId, dead, next, userUlid }) =>
        Effect.flatMap(spend([userUlid, attemptId, next, JSON.stringify(dead)]), openFirst),

      commit: ({
        attemptId,
        circuit,
        connection,
        dead,
        history,
        lookups,
        pair,
        reissued,
        schedule,
        seen,
        unread,
        unsealed,
        userUlid
      }) =>
        Effect.gen(function* () {
          const sealed = yield* Sealing.seal(keys, userUlid, connection, pair)
          const parameters = [
            ...[
              userUlid,
              attemptId,
              ...accountOf(connection),
              ...sealed,
              seen,
              JSON.stringify(dead),
              reissued === true
            ],
            lookups === undefined ? null : Lookups.encode(lookups.before),
            ...Sealing.lookups(keys, userUlid, lookups?.after ?? []),
            unsealed ?? null,
            optionalMillis(unread?.probeIn),
            ...(yield* sealing(userUlid, unread?.sealed, unread?.drift)),
            ...circuitOf(circuit),
            ...scheduleOf(schedule),
            eventOf(history)
          ]
          // What is sealed beside it may concern others of the client.
          const answer = yield* unread === undefined
            ? commit(parameters)
            : Effect.map(commitAlone(parameters, "now"), ([answer]) => answer)
          if (answer === undefined || answer.verdict === "Discarded") return CommitResult.Discarded()
          const row = yield* Sealing.around(keys, answer, pair)
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

      fail: (request) =>
        Effect.flatMap(failing(request), ([row]): Effect.Effect<FailResult, TokenUnreadable> =>
          row === undefined
            ? Effect.succeed<FailResult>(FailResult.NotRecorded({ row: Option.none(), attemptIsMine: false }))
            : Effect.flatMap(open(row), (stored) =>
                row.held_cause !== null
                  ? Effect.succeed<FailResult>(
                      FailResult.Spared({
                        row: stored,
                        retryAfter: waitOf(row.retry_after),
                        cause: row.held_cause,
                        reason: row.held_reason ?? ""
                      })
                    )
                  : row.recorded
                    ? Effect.as(tell(stored), FailResult.Recorded({ row: stored }))
                    : Effect.succeed<FailResult>(
                        FailResult.NotRecorded({ row: Option.some(stored), attemptIsMine: row.is_mine })
                      )
              )
        ),

      seal: ({ drift, history, userUlid, ...answer }) =>
        Effect.gen(function* () {
          const sealed = yield* sealing(userUlid, answer, drift)
          const [row] = yield* seal([userUlid, ...sealed, ...circuitOf(drift?.circuit), eventOf(history)], "now")
          return row?.seal_1 === true
        }),

      sealed: ({ after, limit }) =>
        Effect.gen(function* () {
          for (let from = after; ;) {
            const rows = yield* sealed([from ?? null, limit], "now")
            const opened = yield* Effect.forEach(rows, (row) =>
              Effect.map(
                Sealing.openAnswer(keys, row.user_ulid, row),
                Option.map((answer) => ({ ...answer, userUlid: row.user_ulid }))
              )
            )
            const found = opened.flatMap(Option.toArray)
            from = rows.at(-1)?.user_ulid
            if (found.length > 0 || from === undefined) return found
          }
        }),

      connect: ({ circuit, connection, granted, handedOutAt, history, pair, replace, schedule, userUlid }) =>
        Effect.gen(function* () {
          const sealed = yield* Sealing.seal(keys, userUlid, connection, pair)
          const [row] = yield* connect(
            [
              ...[userUlid, ...accountOf(connection), ...sealed],
              ...Sealing.lookups(keys, userUlid, granted === true ? Lookups.granted(pair) : []),
              ...(handedOutAt === undefined ? [null, null] : Sealing.handedOut(keys, userUlid, handedOutAt)),
              ...[replace === true, circuit?.fingerprint ?? null],
              ...scheduleOf(schedule),
              eventOf(history)
            ],
            "now"
          )
          if (row === undefined) return yield* new CalAccountInUse({ userUlid })
          yield* tell({ userUlid, version: row.version }, ...(row.displaced === null ? [] : [gone(row.displaced)]))
          const next = written(userUlid, connection, pair, row)
          return row.displaced === null ? next : { ...next, displaced: row.displaced }
        }),

      update: ({ connection, history, pair, schedule, userUlid }) =>
        Effect.gen(function* () {
          const sealed = yield* Sealing.seal(keys, userUlid, connection, pair)
          const [kind, clientId, calUserId] = accountOf(connection)
          const [row] = yield* update(
            [userUlid, kind, clientId, calUserId, ...sealed, ...scheduleOf(schedule), eventOf(history)],
            "now"
          )
          if (row === undefined) return Option.none()
          yield* tell({ userUlid, version: row.version })
          return Option.some(written(userUlid, Sealing.connectionOf(row), pair, row))
        }),

      import: (requests) =>
        Effect.gen(function* () {
          const calls = yield* Effect.forEach(requests, ({ connection, history, pair, schedule, userUlid }) =>
            Effect.map(Sealing.seal(keys, userUlid, connection, pair), (sealed) => [
              ...[userUlid, ...accountOf(connection), ...sealed],
              pair.issuedAt === undefined ? null : Math.floor(pair.issuedAt),
              ...scheduleOf(schedule),
              eventOf(history)
            ])
          )
          const rows = yield* importMany([JSON.stringify(calls)], "now")
          const results = [...rows]
            .sort((a, b) => a.n - b.n)
            .flatMap((row) => {
              const request = requests[row.n - 1]
              return request === undefined ? [] : [imported(request, row)]
            })
          const stored = results.flatMap((result) => ("row" in result ? [result.row] : []))
          if (stored.length > 0) yield* tell(...stored)
          return results
        }),

      disconnect: (userUlid) =>
        Effect.gen(function* () {
          const [row] = yield* disconnect([userUlid], "now")
          const existed = row?.disconnect_1 === true
          if (existed) yield* tell(gone(userUlid))
          return existed
        }),

      endSessions: (userUlid) =>
        Effect.gen(function* () {
          const [row] = yield* endSessions([userUlid])
          const version = row?.end_sessions_1 ?? undefined
          if (version !== undefined) yield* tell({ userUlid, version })
          return version !== undefined
        }),

      findByAccessToken: (accessHash, userUlid) =>
        Effect.gen(function* () {
          const names = keys.lookups(Lookups.keyOf(accessHash))
          const rows = yield* findByAccessToken([JSON.stringify(names), userUlid ?? null])
          const opened = yield* Effect.forEach(rows, (row) => Effect.either(open(row)))
          const found = Lookups.latest(
            opened.flatMap((each) => Option.toArray(Either.getRight(each))),
            accessHash
          )
          // Only where nobody else has it does it matter that somebody's row cannot be read.
          const [unreadable] = opened.flatMap((each) => Option.toArray(Either.getLeft(each)))
          return Option.isNone(found) && unreadable !== undefined ? yield* unreadable : found
        }),

      handedOut: (users) =>
        Effect.asVoid(
          handedOut([
            JSON.stringify(
              users.map(({ at, userUlid }) => {
                const [, code] = Sealing.handedOut(keys, userUlid, at)
                return { user_ulid: userUlid, at, code }
              })
            )
          ])
        ),

      // Those that are retired will be missing at the next start.
      missingKeys: Effect.map(
        Effect.suspend(() => missingKeys([JSON.stringify(configured())])),
        (rows) => rows.map(({ key_id: id, rows }) => ({ id, rows }))
      ),

      history: (userUlid) =>
        Effect.map(history([userUlid], "now"), ([row]) => Option.map(Option.fromNullable(row), historyOf)),

      list: ({ after, calUserId, limit, status }) => {
        const page = [status ?? null, after ?? null, Math.max(0, limit)]
        const found = calUserId === undefined ? list(page) : listOfCalUser([...page, calUserId])
        return Effect.map(found, (rows) => rows.map(Sealing.summary))
      },

      reconnecting: ({ before, limit }) =>
        Effect.map(reconnecting([before?.since ?? null, before?.userUlid ?? null, Math.max(0, limit)]), (rows) =>
          rows.map(Sealing.summary)
        ),

      counts: Effect.map(counts([], "now"), ([row]) => ({
        users: { active: row?.active ?? 0, reauthorizationRequired: row?.terminal ?? 0 },
        circuits: { client: row?.client ?? 0, brake: row?.brake ?? 0, drift: row?.drift ?? 0 },
        sealed: row?.sealed ?? 0
      })),

      activity: (since) =>
        Effect.map(activity([since ?? null], "now"), ([row]) => ({
          at: row?.read_at ?? 0,
          from: row?.from_at ?? 0,
          until: row?.until_at ?? 0,
          attempts: row?.attempts ?? []
        })),

      outlook: (now) =>
        Effect.map(outlook([Math.floor(now)]), ([row]) => {
          const ends = row?.ends ?? []
          return {
            overdue: ends.find(({ at }) => at === null)?.users ?? 0,
            minutes: ends.flatMap(({ at, users }) => (at === null ? [] : [{ at, users }])),
            circuits: row?.circuits ?? []
          }
        }),

      ping: Effect.asVoid(ping([])),

      notices: options.listenUrl === undefined ? Stream.empty : Notifications.stream({ url: options.listenUrl }),

      log: ChangeLog.make(call)
    })
  })

/**
 * The storage on the `SqlClient` at hand, its schema brought up to date first.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (
  options: Options = {}
): Layer.Layer<TokenStorage, StorageUnavailable, SqlClient.SqlClient | KeyRing> =>
  Layer.provide(Layer.scoped(TokenStorage, Effect.tap(make(options), tellMissingKeys)), Migrations.layer)

/** At the start, rather than user by user. */
const tellMissingKeys = ({ missingKeys }: TokenStorage["Type"]) =>
  Effect.flatMap(missingKeys, (missing) =>
    missing.length === 0
      ? Effect.void
      : Effect.annotateLogs(
          Effect.logError(
            "Encryption keys that rows need are not configured: what is sealed under them cannot be used"
          ),
          { missingKeys: missing.map(({ id, rows }) => `${id} (${rows} rows)`).join(", ") }
        )
  ).pipe(Effect.ignore)

/**
 * How PostgreSQL is reached.
 *
 * @since 0.1.0
 * @category models
 */
export interface ConnectionOptions {
  /** A function is asked for each new connection: passwords change. */
  readonly url: Redacted.Redacted | (() => Redacted.Redacted)
  /** At most so many connections. Default 10. */
  readonly poolSize?: number | undefined
  /** How long to wait for a connection, a free one or a new one. Default 5 s. */
  readonly connectTimeout?: Duration.DurationInput | undefined
  /**
   * The age at which a connection is replaced. Default 60 s: it bounds how long one is used that leads to a host that
   * fell silent, or to a primary that became a replica.
   */
  readonly maxAge?: Duration.DurationInput | undefined
  /**
   * For how long a database that is not up yet is tried again while the layer is built, with a line in the log each time.
   * Default 0.
   */
  readonly startWithin?: Duration.DurationInput | undefined
}

/**
 * Connections to PostgreSQL, directly or through PgBouncer in transaction mode: no session state, no named prepared
 * statements, no startup parameters of our own.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerConnection = (options: ConnectionOptions): Layer.Layer<SqlClient.SqlClient, StorageUnavailable> =>
  Pool.layer({
    url: asked(options.url),
    poolSize: options.poolSize ?? Defaults.poolSize,
    connectTimeout: Duration.decode(options.connectTimeout ?? Defaults.connectTimeout),
    maxAge: Duration.decode(options.maxAge ?? Defaults.maxAge),
    applicationName: "cal-tokens",
    startWithin: Duration.decode(options.startWithin ?? Defaults.startWithin)
  }).pipe(
    Layer.catchAll((error) => Layer.fail(new StorageUnavailable({ operation: "connect", reason: reasonOf(error) })))
  )

const asked = (url: Redacted.Redacted | (() => Redacted.Redacted)) => (Redacted.isRedacted(url) ? () => url : url)

const gone = (userUlid: UserUlid) => ({ userUlid })

/** The parameters of a circuit besides its client. */
const circuitOf = (circuit: CircuitRequest | undefined): ReadonlyArray<unknown> =>
  circuit === undefined ? [null, null] : [circuit.fingerprint, millis(circuit.interval)]

const scheduleOf = (schedule: Schedule | undefined): ReadonlyArray<unknown> =>
  [schedule?.aheadAt, schedule?.keepAt, schedule?.usedAt].map((instant) =>
    instant === undefined ? null : Math.floor(instant)
  )

/** All that is in it is JSON as it is. */
const eventOf = (event: History.Event | undefined): string | null =>
  event === undefined ? null : JSON.stringify(event)

const decodeEntry = Schema.decodeUnknownOption(History.Entry)

/** Entries that another release wrote differently, or somebody else did, are left out. */
const historyOf = (row: HistoryColumns): StoredHistory => ({
  connection: Sealing.summary(row),
  at: row.read_at,
  ...(row.attempt === null
    ? {}
    : { open: History.openOf(row.attempt, row.attempt_started_at ?? 0, row.lease_until ?? 0, row.journal) }),
  ...(row.circuit === null ? {} : { circuit: row.circuit }),
  entries: row.entries.flatMap((entry) => Option.toArray(decodeEntry(entry)))
})

/** The parameters of an account, in their order. */
const accountOf = (connection: Connection): ReadonlyArray<unknown> => [
  connection._tag,
  connection.clientId,
  connection.calUserId ?? null,
  connection._tag === "OAuth2" ? (connection.scope ?? null) : null
]

/** A wait that the database tells, whatever instants are in it. */
const waitOf = (wait: number | null) => Duration.millis(millis(wait ?? 0))

const optionalMillis = (duration: Duration.Duration | undefined) => (duration === undefined ? null : millis(duration))

const encode = Schema.encodeSync(AttemptError)
const encodeError = (error: AttemptError) => JSON.stringify(encode(error))

/** An error that an older or newer release wrote differently is no reason to fail. */
const decodeError = Schema.decodeUnknownOption(AttemptError)
