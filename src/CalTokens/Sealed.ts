/**
 * Answers of Cal.com in which this program found no pair. The refresh token that was sent is spent by then, and the next
 * one may be in there, under a name that nobody knew. So they are kept, sealed, beside the user's row, and read again
 * whenever a token of that user would be spent or a person asked to reconnect: by then another program may be running.
 */
import { randomUUID } from "node:crypto"
import { Chunk, Duration, Effect, Option, Schedule, Stream } from "effect"
import { readAgain, type Unread } from "../CalClient.js"
import { type Event, nameOf } from "../History.js"
import type { Owned } from "../Fibers/Owned.js"
import * as Metrics from "../Metrics.js"
import { hash, type UserUlid } from "../Token.js"
import type { StorageUnavailable } from "../TokenError.js"
import type { Drift, NewSealedAnswer, SealedAnswer, SealRequest, StoredRow, TokenStorage } from "../TokenStorage.js"
import type { Circuit } from "./Circuit.js"
import type { Commits } from "./Commit.js"
import type { Known } from "./Known.js"
import type { State } from "./Plan.js"

/** An answer that nobody understands: what is kept of it, and what it says about all users of the client. */
export interface Kept {
  readonly sealed: NewSealedAnswer
  readonly drift: Drift | undefined
}

/** `seen`: of the refresh token that the row had when it was claimed. */
export const keep = (
  { row, spending }: Pick<State, "row" | "spending">,
  seen: string,
  { bytes, drift, issuedAt, reason }: Unread
): Kept => ({
  sealed: {
    operation: spending === undefined ? "reissue" : "refresh",
    spentHash: spending ?? seen,
    connection: row.connection,
    answer: bytes,
    issuedAt,
    isWhole: drift !== "never"
  },
  drift:
    drift === "never" ? undefined : { reason: `Cal.com's answers changed: ${reason}`, users: drift === "now" ? 1 : 2 }
})

export interface Sealed {
  /** Keeps an answer that came when its attempt was over, or that no statement could take yet: offers it until one does. */
  readonly offer: (userUlid: UserUlid, kept: Kept, history: Event | undefined) => Effect.Effect<void>
  /** Reads answers again. A pair that is found is stored as one that came late, and the row is answered. */
  readonly read: (row: StoredRow, answers: ReadonlyArray<SealedAnswer>) => Effect.Effect<Option.Option<Known>>
  /**
   * Reads all that are stored: what a newer program does first, and again when it may be needed. Older ones may run beside
   * it, whose users' next tokens are in answers that came since. Never ends.
   */
  readonly readAlways: Effect.Effect<never>
  /** Reads all that are stored once. */
  readonly readAll: Effect.Effect<void, StorageUnavailable>
  /** The client's answers are not understood, by somebody. */
  readonly heardOfDrift: () => void
}

/** How many users' answers are looked at in one read. */
const page = 100

export const make = (deps: {
  readonly storage: typeof TokenStorage.Service
  readonly commits: Commits
  readonly owned: Owned
  readonly circuit: Pick<Circuit, "keyOf">
  /** How histories name this process. */
  readonly process: string
}): Sealed => {
  const { circuit, commits, owned, process, storage } = deps

  const pause = Schedule.union(Schedule.exponential("100 millis"), Schedule.spaced("2 seconds")).pipe(
    Schedule.whileInput(() => !owned.isAbandoned())
  )

  const isNeeded = Effect.unsafeMakeLatch(true)

  const readOne = (row: StoredRow, sealed: SealedAnswer) =>
    Effect.gen(function* () {
      const { refreshToken } = row.pair
      const grant = readAgain(sealed.connection, sealed.answer, {
        at: sealed.issuedAt,
        stored: row.pair,
        known: [sealed.spentHash, ...row.fallbacks.map((pair) => hash(pair.refreshToken))],
        ...(hash(refreshToken) === sealed.spentHash ? { sent: refreshToken } : {})
      })
      if (Option.isNone(grant)) return Option.none<Known>()
      yield* Effect.logInfo("An answer that could not be read before holds a pair").pipe(
        Effect.annotateLogs({ userUlid: row.userUlid })
      )
      yield* Metrics.sealedAnswerRead
      // A circuit that closes for this one holds nobody any more: the rest are to be read before anybody probes their tokens.
      isNeeded.unsafeOpen()
      return yield* commits.commit({
        // As whose it came: another account's pair is not stored.
        row: { ...row, connection: sealed.connection },
        grant: grant.value,
        request: {
          userUlid: row.userUlid,
          // Nobody's attempt: it takes its place as a pair that comes late.
          attemptId: randomUUID(),
          seen: sealed.spentHash,
          dead: [sealed.spentHash],
          unsealed: sealed.spentHash,
          circuit: circuit.keyOf(row.connection.clientId),
          history: {
            _tag: "Read",
            process,
            token: nameOf(sealed.spentHash),
            brought: nameOf(hash(grant.value.pair.refreshToken))
          }
        },
        reissued: sealed.operation === "reissue",
        isAsked: false
      })
    })

  const read: Sealed["read"] = (row, answers) =>
    Effect.reduce(answers, Option.none<Known>(), (found, sealed) =>
      Effect.map(readOne(row, sealed), (next) => Option.orElse(next, () => found))
    )

  const readAll = Stream.paginateChunkEffect(undefined as UserUlid | undefined, (after) =>
    Effect.map(
      storage.sealed({ after, limit: page }),
      (found) =>
        [Chunk.unsafeFromArray(found), Option.map(Option.fromNullable(found.at(-1)), (last) => last.userUlid)] as const
    )
  ).pipe(
    Stream.runForEach((sealed) =>
      storage.find(sealed.userUlid).pipe(
        Effect.flatMap(
          Option.match({ onNone: () => Effect.void, onSome: (row) => Effect.asVoid(read(row, [sealed])) })
        ),
        // Those whose keys another process has are its business.
        Effect.catchTag("TokenUnreadable", () => Effect.void),
        Effect.uninterruptible
      )
    )
  )

  return {
    offer: (userUlid, { drift, sealed }, history) => {
      const request: SealRequest = {
        userUlid,
        ...sealed,
        history,
        ...(drift === undefined ? {} : { drift: { ...drift, circuit: circuit.keyOf(sealed.connection.clientId) } })
      }
      return storage.seal(request).pipe(
        Effect.asVoid,
        Effect.catchAll(() =>
          Effect.sync(() => {
            owned.runToEnd(Effect.ignore(Effect.retry(storage.seal(request), pause)), userUlid)
          })
        )
      )
    },
    read,
    readAll,
    readAlways: Effect.forever(
      isNeeded.await.pipe(
        Effect.zipRight(isNeeded.close),
        Effect.zipRight(Effect.ignore(Effect.retry(readAll, Schedule.spaced(again)))),
        Effect.zipRight(Effect.sleep(pauseBetween))
      )
    ),
    heardOfDrift: () => isNeeded.unsafeOpen()
  }
}

/** How long a new process waits before it looks for answers again that it could not look for. */
const again = Duration.seconds(30)

/** Reading all is not begun more often. */
const pauseBetween = Duration.seconds(1)
