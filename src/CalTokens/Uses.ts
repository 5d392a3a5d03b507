/**
 * When somebody last asked for a user's token, and when one was last handed out on purpose. The first says whose tokens are
 * refreshed before anybody waits, the second for how long pages may renew theirs. Noted in memory, and written for many users at
 * once a moment later; of one user at most once in a few minutes, for it is hours that count.
 */
import { Duration, Effect, Schedule, type Scope } from "effect"
import type { UserUlid } from "../Token.js"
import type { StorageUnavailable } from "../TokenError.js"
import type { TokenStorage } from "../TokenStorage.js"
import type { Memory } from "./Memory.js"

/** An instant that is known to within this is not written anew, in milliseconds. */
export const precision = Duration.toMillis("5 minutes")

/** How long what is written waits for more of its kind, and for a storage that does not answer. */
const pause = { usual: Duration.seconds(1), afterFailure: Duration.seconds(5) } as const

/** So many users are written in one call. */
const batchSize = 500

/** So many wait at most, while the storage is away; then the earliest are forgotten. */
const maxWaiting = 100_000

export interface Uses {
  /** The user's token is asked for now; `handsOut`: and handed out, or what is as good as a token. */
  readonly note: (userUlid: UserUlid, handsOut: boolean) => Effect.Effect<void>
}

type Write = (
  users: ReadonlyArray<{ readonly userUlid: UserUlid; readonly at: number }>
) => Effect.Effect<void, StorageUnavailable>

/** Writes what is noted with whatever else is noted by then, and at the end of the scope. */
const batch = (write: Write): Effect.Effect<(userUlid: UserUlid, at: number) => void, never, Scope.Scope> =>
  Effect.gen(function* () {
    const waiting = new Map<UserUlid, number>()
    const isNeeded = Effect.unsafeMakeLatch(false)

    const writeSome = Effect.suspend(() => {
      if (waiting.size === 0) return Effect.void
      const some = [...waiting].slice(0, batchSize).map(([userUlid, at]) => ({ userUlid, at }))
      return Effect.map(write(some), () => {
        for (const { at, userUlid } of some) if (waiting.get(userUlid) === at) waiting.delete(userUlid)
      })
    })
    const writeAll = Effect.repeat(writeSome, { until: () => waiting.size === 0 })

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

    return (userUlid, at) => {
      if (waiting.has(userUlid)) return
      if (waiting.size >= maxWaiting) waiting.delete(waiting.keys().next().value as UserUlid)
      waiting.set(userUlid, at)
      isNeeded.unsafeOpen()
    }
  })

export const make = (deps: {
  readonly memory: Pick<Memory, "warm">
  readonly storage: typeof TokenStorage.Service
  /** Cal.com's time in milliseconds. */
  readonly now: Effect.Effect<number>
}): Effect.Effect<Uses, never, Scope.Scope> =>
  Effect.gen(function* () {
    const { memory, storage } = deps
    const used = yield* batch((users) => storage.used(users, precision))
    const handedOut = yield* batch(storage.handedOut)

    return {
      note: (userUlid, handsOut) =>
        Effect.map(deps.now, (now) => {
          // What is remembered of a user goes on from row to row; of users who are not remembered, the storage knows better.
          const warm = memory.warm.get(userUlid)
          if (now - (warm?.usedAt ?? -Infinity) >= precision) {
            if (warm !== undefined) warm.usedAt = now
            used(userUlid, now)
          }
          if (!handsOut || now - (warm?.handedOutAt ?? -Infinity) < precision) return
          if (warm !== undefined) warm.handedOutAt = now
          handedOut(userUlid, now)
        })
    }
  })
