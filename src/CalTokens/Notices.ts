/**
 * News of users' rows, from other processes through the storage's notices and from this one: what memory holds becomes
 * stale, and a flight that waits looks again. All of it is a hint. What is lost on the way is found later, by polling and
 * by re-reading.
 */
import { type Duration, Effect, Option, type Scope, Stream } from "effect"
import type { UserUlid } from "../Token.js"
import type { Notice } from "../TokenStorage.js"

/** What a flight hears of its user. */
export interface Watch {
  /** From here on the flight looks for itself: what it heard before is no news. */
  readonly forget: () => void
  /** Sleeps so long, or until a version above this one was heard of; whether it was. */
  readonly pause: (duration: Duration.Duration, above: number) => Effect.Effect<boolean>
}

export interface Notices {
  /** Of a user at most one flight runs at a time, so there is one watch. */
  readonly watching: <A, E>(userUlid: UserUlid, use: (watch: Watch) => Effect.Effect<A, E>) => Effect.Effect<A, E>
  /** This process learned something that memory knows by now. */
  readonly learned: (userUlid: UserUlid, version?: number) => Effect.Effect<void>
  /** Follows the storage's notices until the scope ends. */
  readonly follow: (notices: Stream.Stream<Notice>) => Effect.Effect<void, never, Scope.Scope>
}

interface Seat {
  /** The highest version heard of; a row that is gone, or of unknown version, counts as newer than any. */
  newest: number
  /** Wakes the flight while it sleeps. */
  wake: () => void
}

/** `outdate` is told of every notice before the flights are. */
export const make = (outdate: (notice: Notice) => void): Notices => {
  const seats = new Map<UserUlid, Seat>()

  const tell = (seat: Seat | undefined, version = Infinity) => {
    if (seat === undefined) return
    seat.newest = Math.max(seat.newest, version)
    seat.wake()
  }

  const hear = (notice: Notice) => {
    outdate(notice)
    if (notice._tag === "Written") tell(seats.get(notice.userUlid), notice.version)
    else for (const seat of seats.values()) tell(seat)
  }

  const watch = (seat: Seat): Watch => ({
    forget: () => {
      seat.newest = -Infinity
    },
    pause: (duration, above) =>
      Effect.async<void>((resume) => {
        seat.wake = () => {
          if (seat.newest > above) resume(Effect.void)
        }
        seat.wake()
      }).pipe(Effect.timeoutOption(duration), Effect.map(Option.isSome))
  })

  return {
    watching: (userUlid, use) =>
      Effect.acquireUseRelease(
        Effect.sync(() => {
          const seat: Seat = { newest: -Infinity, wake: () => undefined }
          seats.set(userUlid, seat)
          return seat
        }),
        (seat) => use(watch(seat)),
        () => Effect.sync(() => void seats.delete(userUlid))
      ),
    learned: (userUlid, version) => Effect.sync(() => tell(seats.get(userUlid), version)),
    follow: (notices) =>
      Stream.runForEach(notices, (notice) => Effect.sync(() => hear(notice))).pipe(
        // The cause may hold anything a driver threw: its tag is enough to look further.
        Effect.catchAllCause((cause) =>
          Effect.logWarning("The storage's notices ended; news of other processes takes seconds").pipe(
            Effect.annotateLogs({ failure: cause._tag })
          )
        ),
        Effect.forkScoped,
        Effect.asVoid
      )
  }
}
