/**
 * Refreshes before anybody waits. Every process has a worker that begins what is due, a few at a time; they need no leader and
 * know nothing of each other, for the storage gives each user's lease to one of them. What a killed one had in hand is due again
 * when its lease is over. Where no process lives long (serverless), {@link sweep} does the same once, for a scheduler of
 * your own.
 */
import { Duration, Effect, Layer, Random } from "effect"
import { CalTokens } from "./CalTokens.js"
import { TokenConfig } from "./TokenConfig.js"
import type { StorageUnavailable } from "./TokenError.js"

/** The pause after the storage could not be asked. */
const pauseAfterFailure = Duration.seconds(5)

/** Processes that were started together do not ask together. */
const about = (duration: Duration.Duration) =>
  Effect.flatMap(Random.nextRange(0.5, 1), (jitter) => Effect.sleep(Duration.times(duration, jitter)))

const worker = Effect.gen(function* () {
  const tokens = yield* CalTokens
  const { aheadConcurrency, aheadInterval } = yield* TokenConfig
  const hasEnded = Effect.unsafeMakeLatch(false)
  let running = 0
  let isFailing = false

  const end = Effect.sync(() => {
    running--
    hasEnded.unsafeOpen()
  })

  const step = Effect.gen(function* () {
    yield* hasEnded.close
    const free = aheadConcurrency - running
    const { begun, isMore } = yield* tokens.refreshDue(free)
    isFailing = false
    running += begun.length
    yield* Effect.forEach(begun, (refresh) => Effect.forkScoped(Effect.ensuring(refresh, end)), { discard: true })
    if (running >= aheadConcurrency) return yield* hasEnded.await
    if (!isMore) yield* about(aheadInterval)
  })

  const failed = (error: StorageUnavailable) =>
    Effect.gen(function* () {
      if (!isFailing) {
        yield* Effect.logWarning("Users whose tokens expire soon cannot be looked for").pipe(
          Effect.annotateLogs({ operation: "refreshDue", error: error.message })
        )
      }
      isFailing = true
      yield* about(pauseAfterFailure)
    })

  /** Nobody foresaw it, and the next round may do without it. */
  const broke = (defect: unknown) =>
    Effect.zipRight(
      Effect.logError("Looking for users whose tokens expire soon went wrong").pipe(
        Effect.annotateLogs({ operation: "refreshDue", fault: defect instanceof Error ? defect.name : typeof defect })
      ),
      about(pauseAfterFailure)
    )

  yield* about(aheadInterval)
  return yield* Effect.forever(step.pipe(Effect.catchAll(failed), Effect.catchAllDefect(broke)))
})

/**
 * The worker of this process, as long as the layer lives. What it began by then is ended by `CalTokens`.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<never, never, CalTokens> = Layer.scopedDiscard(
  Effect.forkScoped(Effect.interruptible(worker))
)

/**
 * What a sweep came to.
 *
 * @since 0.1.0
 * @category models
 */
export interface Swept {
  readonly refreshed: number
  /** They serve what they have, and are due again; why is in the log. */
  readonly failed: number
  /** Set where the rest was left for the next sweep: Cal.com's rate limit has room again after this. */
  readonly resumeIn?: Duration.Duration | undefined
}

/**
 * Refreshes what is due by now, and ends.
 *
 * @since 0.1.0
 * @category running
 */
export const sweep: Effect.Effect<Swept, StorageUnavailable, CalTokens> = Effect.gen(function* () {
  const tokens = yield* CalTokens
  const { aheadConcurrency } = yield* TokenConfig
  let refreshed = 0
  let failed = 0
  while (true) {
    const { begun, isMore, pause } = yield* tokens.refreshDue(aheadConcurrency)
    const results = yield* Effect.all(begun, { concurrency: "unbounded" })
    refreshed += results.filter((isDone) => isDone).length
    failed += results.filter((isDone) => !isDone).length
    if (isMore) continue
    return { refreshed, failed, ...(pause === undefined ? {} : { resumeIn: pause }) }
  }
})
