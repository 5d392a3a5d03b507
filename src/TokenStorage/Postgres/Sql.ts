/**
 * How this package talks to a database: every call is bounded in time, runs outside any transaction of the caller, and
 * fails with {@link StorageUnavailable} alone. The driver's errors stay here, for they carry rows and parameters.
 */
import { Migrator, SqlClient, SqlError } from "@effect/sql"
import { Context, Duration, Effect, Fiber, FiberRef, Redacted, type Scope } from "effect"
import { Client, DatabaseError } from "pg"
import { awaiting, type Deadline, make as makeDeadline } from "../../Fibers/Deadline.js"
import * as Metrics from "../../Metrics.js"
import { StorageUnavailable } from "../../TokenError.js"

export interface RunOptions {
  /** Names the operation in errors and spans. */
  readonly operation: string
  /** How long the caller waits for the database at most, the wait for a connection included. */
  readonly timeout: Duration.Duration
  /** So much of that is over already, in ms. */
  readonly passed?: number | undefined
}

/** How long the caller waits from now on, in whole ms. */
const left = ({ passed = 0, timeout }: RunOptions): number =>
  Math.max(0, Math.ceil(Duration.toMillis(timeout) - passed))

/** Runs statements with all of the above. */
export type Run = <A>(
  call: Effect.Effect<A, SqlError.SqlError>,
  options: RunOptions
) => Effect.Effect<A, StorageUnavailable>

/**
 * Runs statements until the scope ends, and nothing of them longer. A statement that lost against a concurrent one
 * (deadlock, serialization, an account that changed hands meanwhile) is repeated at once: each is atomic, so the failed
 * one left nothing behind. So is, once, one of a session that a failover left at a replica.
 */
export const make: Effect.Effect<Run, never, Scope.Scope> = Effect.zipWith(
  makeDeadline(),
  Effect.scope,
  (deadline, scope): Run =>
    (call, options) =>
      call.pipe(
        Effect.retry({ times: maxLostRaces, while: isLostRace }),
        // On a new connection: `Pool.ts` closes those that were there.
        Effect.retry({ times: 1, while: (error) => sqlState(error) === readOnly }),
        Effect.mapError((error) => new StorageUnavailable({ operation: options.operation, reason: reasonOf(error) })),
        // Drivers die of some of the ways in which a database goes away, for example while it ends a transaction.
        Effect.catchAllDefect((defect) => {
          return new StorageUnavailable({ operation: options.operation, reason: reasonOf(defect) })
        }),
        outsideTransaction,
        // The driver's spans would end with its errors.
        Effect.withTracerEnabled(false),
        (effect) => bounded(effect, options, { deadline, scope }),
        Metrics.storageCall(options.operation),
        spanned(options.operation)
      )
)

/** The span of a call. Nothing is made of it where nobody traces. */
export const spanned =
  (operation: string) =>
  <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
    Effect.flatMap(FiberRef.get(FiberRef.currentTracerEnabled), (isTraced) =>
      isTraced
        ? Effect.withSpan(effect, `TokenStorage.${operation}`, {
            kind: "client",
            attributes: { "db.system.name": "postgresql", "db.operation.name": operation },
            captureStackTrace: false
          })
        : effect
    )

/**
 * One statement on any connection: what the client does for it, but nothing is made for it besides, as the client makes an
 * object with segments, a span, a scope and an interruptible region for each. `done` is called once, unless the statement
 * is given up on before by calling what is answered; `stopped` then, when the statement does not run any more.
 */
export type Ask = (
  text: string,
  parameters: ReadonlyArray<unknown>,
  done: (error: Error | undefined, rows: ReadonlyArray<never>) => void
) => (stopped: () => void) => void

/** Runs a statement as {@link Run} does; its text and parameters go to the pool itself. */
export type Asking = <A>(
  text: string,
  parameters: ReadonlyArray<unknown>,
  options: RunOptions
) => Effect.Effect<ReadonlyArray<A>, StorageUnavailable>

/** The same promises as those of {@link make}, without a fiber for each statement. */
export const makeAsking = (ask: Ask): Effect.Effect<Asking, never, Scope.Scope> =>
  Effect.gen(function* () {
    const deadline = yield* makeDeadline()
    const running = new Set<(ended: () => void) => void>()
    let isClosed = false
    yield* Effect.addFinalizer(() =>
      Effect.suspend(() => {
        isClosed = true
        const ends = [...running].map((end) => Effect.async<void>((resume) => end(() => resume(Effect.void))))
        return Effect.all(ends, { concurrency: "unbounded", discard: true })
      })
    )

    const once = <A>(text: string, parameters: ReadonlyArray<unknown>, options: RunOptions) =>
      Effect.async<ReadonlyArray<A>, StorageUnavailable>((resume) => {
        if (isClosed) return resume(Effect.interrupt)
        const { operation, timeout } = options
        const repeats = { lostRace: maxLostRaces, readOnly: 1 }
        let stop: (stopped: () => void) => void = (stopped) => stopped()

        /** The end of the layer waits until the statement does not run any more. */
        const giveUp = () => {
          const gone = (ended: () => void) => void (isGone ? ended() : waiting.push(ended))
          const waiting: Array<() => void> = []
          let isGone = false
          running.delete(end)
          running.add(gone)
          stop(() => {
            isGone = true
            running.delete(gone)
            for (const ended of waiting) ended()
          })
        }

        const over = (outcome: Effect.Effect<ReadonlyArray<A>, StorageUnavailable>) => {
          cancel()
          running.delete(end)
          resume(outcome)
        }
        const fail = (reason: string) => over(Effect.fail(new StorageUnavailable({ operation, reason })))
        const cancel = deadline.after(left(options), () => {
          fail(lateReason(timeout))
          giveUp()
        })
        const end = (ended: () => void) => {
          over(Effect.interrupt)
          stop(ended)
        }
        const attempt = () => {
          try {
            stop = ask(text, parameters, (error, rows) => {
              if (error === undefined) over(Effect.succeed(rows))
              else if (isLostRace(error) && repeats.lostRace-- > 0) attempt()
              else if (sqlState(error) === readOnly && repeats.readOnly-- > 0) attempt()
              else fail(reasonOf(error))
            })
          } catch (defect) {
            fail(reasonOf(defect))
          }
        }
        running.add(end)
        attempt()
        return Effect.sync(() => {
          cancel()
          giveUp()
        })
      })

    return (text, parameters, options) =>
      spanned(options.operation)(Metrics.storageCall(options.operation)(once(text, parameters, options)))
  })

const maxLostRaces = 10

const late = "no answer within"
const lateReason = (timeout: Duration.Duration) => `${late} ${Duration.format(timeout)}`

/** Whether a statement was given up on because its time was over. */
export const isLate = ({ reason }: StorageUnavailable): boolean => reason.startsWith(late)

/** What happened, in words that contain neither parameters nor rows. */
export const reasonOf = (error: unknown): string => {
  if (error instanceof Migrator.MigrationError) return `${error.message}: ${reasonOf(error.cause)}`
  const cause = error instanceof SqlError.SqlError ? (error.cause ?? error) : error
  if (!(cause instanceof Error)) return "unknown driver failure"
  const code = "code" in cause && typeof cause.code === "string" ? cause.code : ""
  const [line = ""] = cause.message.split("\n")
  if (isSqlState(code)) {
    const words = refusals.get(cause) ?? (tellingClasses.has(code.slice(0, 2)) ? line : undefined)
    return words === undefined ? `SQLSTATE ${code}` : `${words} (SQLSTATE ${code})`
  }
  if (/^[A-Z0-9_]+$/.test(code)) return /^(connect|read|write|getaddrinfo) /.test(line) ? line : code
  return driverMessages.test(line) ? line : `driver failure ${cause.name}`
}

/**
 * SQLSTATE classes whose primary message names objects and limits only. Others (22, P0, XX, …) may quote values, and the
 * `detail` of any may quote a whole row.
 */
const tellingClasses = new Set(["08", "0A", "23", "25", "28", "3D", "3F", "40", "42", "53", "54", "55", "57", "58"])

/** Tells them from the codes of Node and of the driver. */
const isSqlState = (code: string) => /^[0-9A-Z]{5}$/.test(code) && /[0-9]/.test(code)

/** What was said to connections that were refused, as it may be shown. */
const refusals = new WeakMap<Error, string>()

/**
 * Lets the words of an error be shown, whatever their class, because a connection failed with it: there was no statement
 * yet whose values it could quote. Poolers say in words only what is wrong, such as "Tenant or user not found" (XX000).
 */
export const allowWords = (error: unknown, url: Redacted.Redacted): void => {
  if (!(error instanceof DatabaseError)) return
  const address = Redacted.value(url)
  // As the driver reads it, or finds it elsewhere.
  const { password } = new Client({ connectionString: address })
  const secrets = [address, ...(password ? [password, encodeURIComponent(password)] : [])]
  const plain = secrets.reduce((text, secret) => text.replaceAll(secret, "<redacted>"), error.message)
  refusals.set(error, plain.replace(/[\x00-\x1f\x7f-\x9f\u2028\u2029]+/g, " ").slice(0, 300))
}

/**
 * Whether the database may only not be up yet, or not any more: nobody answers, or whoever does says that it is starting,
 * stopping, full or not connected itself. Time cures neither a wrong password nor a wrong name.
 */
export const isAway = (error: unknown): boolean => {
  const code = sqlState(error)
  if (typeof code !== "string") return /^(Connection (terminated|timed out)|timeout exceeded)/.test(messageOf(error))
  return isSqlState(code) ? ["08", "53", "57"].includes(code.slice(0, 2)) : /^E(?!RR_)[A-Z_]+$/.test(code)
}

const messageOf = (error: unknown): string =>
  error instanceof SqlError.SqlError ? messageOf(error.cause) : error instanceof Error ? error.message : ""

const driverMessages =
  /^(Connection (terminated|timed out)|timeout exceeded when trying to connect|Cannot use a pool|Client (was closed|has encountered)|SASL|The server does not support SSL|PGlite)/

/**
 * The keys of our tables are violated by races only: the statements look before they write. That includes an upsert that
 * meets another one of the same row, which may notice that at an index it does not arbitrate by.
 */
const isLostRace = (error: Error): boolean => {
  const state = sqlState(error)
  if (state === "40001" || state === "40P01") return true
  const isKey = state === "23505" || state === "23503"
  const cause = error instanceof SqlError.SqlError ? error.cause : error
  return isKey && cause instanceof Error && "schema" in cause && cause.schema === "cal_tokens"
}

/** The SQLSTATE of a statement that would write, in a session that may only read. */
export const readOnly = "25006"

/** The SQLSTATE of what a database refused, if it is that. */
export const sqlState = (error: unknown): unknown => {
  if (error instanceof Migrator.MigrationError || error instanceof SqlError.SqlError) return sqlState(error.cause)
  return error instanceof Error && "code" in error ? error.code : undefined
}

/**
 * Without the transaction the caller may be in: a token pair must not disappear in somebody's rollback, and must be
 * durable once the call returns.
 */
const outsideTransaction = <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
  Effect.mapInputContext(effect, (context: Context.Context<never>) =>
    Context.omit(SqlClient.TransactionConnection)(context as Context.Context<SqlClient.TransactionConnection>)
  )

/**
 * Gives up on the deadline even where the caller cannot be interrupted: the work runs in a fiber of its own. Whether a
 * write that was given up on took place is unknown (`Pool.ts` says when it still may); every write of the port may be
 * repeated.
 */
const bounded = <A, E>(
  effect: Effect.Effect<A, E>,
  options: RunOptions,
  { deadline, scope }: { readonly deadline: Deadline; readonly scope: Scope.Scope }
): Effect.Effect<A, E | StorageUnavailable> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function* () {
      const work = yield* Effect.forkIn(Effect.interruptible(effect), scope)
      const onLate = () => new StorageUnavailable({ operation: options.operation, reason: lateReason(options.timeout) })
      const giveUp = Effect.suspend(() => (work.unsafePoll() === null ? Fiber.interruptFork(work) : Effect.void))
      const exit = yield* restore(awaiting(deadline, work, { longest: left(options), onLate })).pipe(
        Effect.ensuring(giveUp)
      )
      return yield* exit
    })
  )
