/**
 * News of writes, by PostgreSQL's notifications. Every write that ends an attempt or changes what readers see tells the
 * row's user and version on one channel, right after it is committed: in the same transaction, the notification would hold
 * a lock of the whole server until the disk has the commit.
 * One connection of its own hears it. (The client's `listen` neither fails nor reconnects when its connection dies.)
 *
 * A connection that goes is replaced for ever, and each one begins with `Missed`, for nobody kept what was said before.
 */
import { Socket } from "node:net"
import { Data, Deferred, Duration, Effect, Option, Random, Redacted, Schema, type Scope, Stream } from "effect"
import { Client } from "pg"
import { UserUlid } from "../../Token.js"
import { Notice } from "../../TokenStorage.js"
import { allowWords, reasonOf } from "./Sql.js"

/** Where writes are told of. */
export const channel = "cal_tokens"

export interface Options {
  /** Of the database itself: a pooler gives its connections to others in between, and who listened hears nothing. */
  readonly url: Redacted.Redacted | (() => Redacted.Redacted)
  /** How long the server may take to answer, when connecting and later. Default 5 s. */
  readonly timeout?: Duration.DurationInput | undefined
  /** How often a connection is asked whether it is still alive. Default 30 s. */
  readonly keepAlive?: Duration.DurationInput | undefined
}

/**
 * The notices of a database. Each run holds one connection, from when it begins to when it ends; behind a pooler it ends
 * at once.
 */
export const stream = (options: Options): Stream.Stream<Notice> =>
  Stream.asyncPush<Notice>(
    (emit) =>
      keepListening(options, (notice) => void emit.single(notice)).pipe(
        Effect.zipRight(Effect.sync(() => emit.end())),
        Effect.forkScoped
      ),
    { bufferSize: backlog, strategy: "sliding" }
  )

/** How many notices a slow reader may be behind before it loses the oldest. */
const backlog = 1024

/** There is no connection, or there is none any more. */
class Lost extends Data.TaggedError("Lost")<{ readonly reason: string }> {}

/** The connection is a pooler's. */
class Pooled extends Data.TaggedError("Pooled")<{}> {}

const keepListening = (options: Options, hear: (notice: Notice) => void) => {
  let failures = 0
  const up = Effect.suspend(() => {
    const wasLost = failures > 0
    failures = 0
    hear(Notice.Missed())
    return wasLost ? Effect.logInfo("Notifications of the database are heard again") : Effect.void
  })
  const down = ({ reason }: Lost) =>
    Effect.gen(function* () {
      if (failures++ === 0) {
        yield* Effect.logWarning(
          "Notifications of the database are not heard; until they are, news of other processes takes seconds"
        ).pipe(Effect.annotateLogs({ reason }))
      }
      yield* Effect.sleep(yield* pauseAfter(failures))
    })
  return session(options, hear, up).pipe(
    Effect.scoped,
    Effect.catchTag("Lost", down),
    Effect.forever,
    Effect.catchTag("Pooled", () =>
      Effect.logInfo(
        "Not listening for notifications of the database: the connection leads through a pooler. News of other processes takes seconds; a direct URL of the database, past the pooler, makes it travel at once"
      )
    )
  )
}

/** Half a second, doubling up to 30 s, half of it jitter. */
const pauseAfter = (failures: number) =>
  Effect.map(Random.nextRange(0.5, 1), (jitter) => Duration.millis(Math.min(30_000, 250 * 2 ** failures) * jitter))

/** One connection, from its beginning to its death. */
const session = (
  options: Options,
  hear: (notice: Notice) => void,
  up: Effect.Effect<void>
): Effect.Effect<never, Lost | Pooled, Scope.Scope> =>
  Effect.gen(function* () {
    const timeout = Duration.decode(options.timeout ?? Duration.seconds(5))
    const inTime = Effect.timeoutFail({
      duration: timeout,
      onTimeout: () => new Lost({ reason: `no answer within ${Duration.format(timeout)}` })
    })
    const url = Redacted.isRedacted(options.url) ? options.url : options.url()
    const { client, died } = yield* open(url)
    const ask = <A>(call: () => Promise<A>) => Effect.tryPromise({ try: call, catch: lost })
    client.on("notification", (message) => {
      if (message.channel === channel) Option.map(parse(message.payload ?? ""), hear)
    })

    const begin = Effect.gen(function* () {
      yield* Effect.tryPromise({
        try: () => client.connect(),
        catch: (error) => {
          allowWords(error, url)
          return lost(error)
        }
      })
      const { rows } = yield* ask(() => client.query<{ pid: number }>("select pg_backend_pid() as pid"))
      // A pooler tells its clients keys of its own making, for it is the one whom they ask to cancel.
      if (rows[0]?.pid !== client.processID) return yield* new Pooled()
      yield* ask(() => client.query(`listen ${channel}`))
    })
    const ping = Effect.zipRight(
      Effect.sleep(options.keepAlive ?? Duration.seconds(30)),
      inTime(ask(() => client.query("select 1")))
    )
    return yield* inTime(begin).pipe(
      Effect.zipRight(up),
      Effect.zipRight(Effect.forever(ping)),
      Effect.raceFirst(Deferred.await(died))
    )
  })

const lost = (error: unknown) => new Lost({ reason: reasonOf(error) })

/** A client that is not connected yet; `died` fails once its connection is gone. */
const open = (url: Redacted.Redacted) =>
  Effect.gen(function* () {
    const died = yield* Deferred.make<never, Lost>()
    const die = (error: unknown) => Deferred.unsafeDone(died, Effect.fail(lost(error)))
    // News keeps no process from ending.
    const socket = new Socket().unref()
    const client = yield* Effect.acquireRelease(
      Effect.try({
        try: () =>
          new Client({
            connectionString: Redacted.value(url),
            application_name: "cal-tokens listen",
            keepAlive: true,
            keepAliveInitialDelayMillis: 10_000,
            stream: () => socket
          }) as Client & { readonly processID: number | null },
        catch: lost
      }),
      (client) =>
        // A server that fell silent does not say goodbye either.
        Effect.interruptible(Effect.promise(() => client.end())).pipe(
          Effect.timeoutOption(Duration.seconds(1)),
          Effect.ensuring(Effect.sync(() => socket.destroy()))
        )
    )
    client.on("error", die)
    client.on("end", () => die(new Error("Connection terminated")))
    return { client, died }
  })

/** A write as others hear of it; without a version when the row is gone. */
export const payload = (userUlid: UserUlid, version?: number): string =>
  version === undefined ? userUlid : `${userUlid} ${version}`

const parse = (payload: string): Option.Option<Notice> => {
  const [user, version = ""] = payload.split(" ")
  return Option.map(decodeUser(user), (userUlid) =>
    Notice.Written({ userUlid, version: /^[0-9]+$/.test(version) ? Number(version) : undefined })
  )
}

const decodeUser = Schema.decodeUnknownOption(UserUlid)
