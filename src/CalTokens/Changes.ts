/** Tells the world of stored changes: subscribers of the stream, and `Revalidation` in a fiber of its own. */
import { Clock, Duration, Effect, PubSub, type Scope, Stream } from "effect"
import * as Metrics from "../Metrics.js"
import { Revalidation, type TokenChange } from "../Revalidation.js"
import type { Owned } from "../Fibers/Owned.js"

/** How long one revalidation may take. */
const revalidationTimeout = Duration.seconds(30)

/** How many changes a slow reader of the stream may be behind before it loses the oldest. */
const backlog = 1024

export interface Changes {
  readonly publish: (change: Omit<TokenChange, "at">) => Effect.Effect<void>
  readonly stream: Stream.Stream<TokenChange>
}

/** Where changes go; subscribers' streams end with the scope. */
export const pubsub: Effect.Effect<PubSub.PubSub<TokenChange>, never, Scope.Scope> = Effect.acquireRelease(
  PubSub.sliding<TokenChange>(backlog),
  PubSub.shutdown
)

/** `process`: as histories name it, so that a line of the log leads from one to the other. */
export const make = (owned: Owned, pubsub: PubSub.PubSub<TokenChange>, process: string): Effect.Effect<Changes> =>
  Effect.gen(function* () {
    const revalidation = yield* Revalidation

    const revalidate = (change: TokenChange) =>
      Effect.suspend(() => revalidation.changed(change)).pipe(
        Effect.timeout(revalidationTimeout),
        // The cause may hold anything the user's code threw: its tag is enough to look further.
        Effect.catchAllCause((cause) =>
          Effect.logError("Revalidation failed").pipe(Effect.annotateLogs({ failure: cause._tag }))
        ),
        Effect.annotateLogs({ userUlid: change.userUlid, change: change.kind })
      )

    return {
      publish: (partial) =>
        Effect.gen(function* () {
          const change: TokenChange = { ...partial, at: yield* Clock.currentTimeMillis }
          // That a user has to reconnect is a failure, which is told with the refresh that it came of.
          if (change.kind !== "reauthorizationRequired") {
            yield* Effect.logInfo(`Tokens ${change.kind}`).pipe(
              Effect.annotateLogs({
                userUlid: change.userUlid,
                process,
                ...(change.version === undefined ? {} : { version: change.version })
              })
            )
          }
          yield* Metrics.change(change.kind)
          yield* PubSub.publish(pubsub, change)
          owned.runWaiting(revalidate(change))
        }),
      stream: Stream.fromPubSub(pubsub)
    }
  })
