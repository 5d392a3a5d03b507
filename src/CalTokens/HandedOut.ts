/**
 * When tokens were last handed out on purpose: pages may renew theirs for so long after it. Noted in memory, and written
 * for many users at once a moment later; of one user at most once in a few minutes, for it is hours that count.
 */
import { Duration, Effect, Schedule, type Scope } from "effect"
import { LRUCache } from "lru-cache"
import type { UserUlid } from "../Token.js"
import type { TokenStorage } from "../TokenStorage.js"

/** An instant that is known to within this is not written anew, in milliseconds. */
export const precision = Duration.toMillis("5 minutes")

/** How long what is written waits for more of its kind, and for a storage that does not answer. */
const pause = { usual: Duration.seconds(1), afterFailure: Duration.seconds(5) } as const

/** So many users are written in one call. */
const batchSize = 500

/** So many wait at most, while the storage is away; then the earliest are forgotten. */
const maxWaiting = 100_000

export interface HandedOut {
  /** A token of the user is handed out now; `known` is what their row says of the last time. */
  readonly note: (userUlid: UserUlid, known: number | undefined) => Effect.Effect<void>
}

export const make = (deps: {
  readonly storage: typeof TokenStorage.Service
  /** Cal.com's time in milliseconds. */
  readonly now: Effect.Effect<number>
}): Effect.Effect<HandedOut, never, Scope.Scope> =>
  Effect.gen(function* () {
    const waiting = new Map<UserUlid, number>()
    /** What was written lately, until rows that are remembered say so themselves. */
    const written = new LRUCache<UserUlid, number>({ max: 10_000 })
    const isNeeded = Effect.unsafeMakeLatch(false)

    const write = Effect.suspend(() => {
      const batch = [...waiting].slice(0, batchSize).map(([userUlid, at]) => ({ userUlid, at }))
      return Effect.map(deps.storage.handedOut(batch), () => {
        for (const { at, userUlid } of batch) {
          written.set(userUlid, at)
          waiting.delete(userUlid)
        }
      })
    })
    const writeAll = Effect.repeat(write, { until: () => waiting.size === 0 })

    yield* Effect.addFinalizer(() =>
      waiting.size === 0 ? Effect.void : writeAll.pipe(Effect.disconnect, Effect.timeout("2 seconds"), Effect.ignore)
    )
    yield* isNeeded.await.pipe(
      Effect.zipRight(Effect.sleep(pause.usual)),
      Effect.zipRight(isNeeded.close),
      Effect.zipRight(Effect.retry(writeAll, Schedule.spaced(pause.afterFailure))),
      Effect.forever,
      Effect.forkScoped
    )

    return {
      note: (userUlid, known) =>
        Effect.map(deps.now, (now) => {
          if (waiting.has(userUlid) || now - Math.max(known ?? 0, written.peek(userUlid) ?? 0) < precision) return
          if (waiting.size >= maxWaiting) waiting.delete(waiting.keys().next().value as UserUlid)
          waiting.set(userUlid, now)
          isNeeded.unsafeOpen()
        })
    }
  })
