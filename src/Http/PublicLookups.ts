/**
 * Look-ups that anybody on the internet can cause: with an access token, or with a state of the connect flow. They share
 * the permits of two connections, so that however many come, refreshes have the others.
 */
import { Context, Duration, Effect, Layer } from "effect"
import { StorageUnavailable } from "../TokenError.js"

const atOnce = 2

/** How long whoever asks waits, for their turn and for the answer. */
const patience = Duration.seconds(5)

export class PublicLookups extends Context.Tag("cal-tokens/Http/PublicLookups")<
  PublicLookups,
  {
    /** Looks up in its turn. */
    readonly queue: <A, E, R>(
      operation: string,
      lookUp: Effect.Effect<A, E, R>
    ) => Effect.Effect<A, E | StorageUnavailable, R>
  }
>() {}

export const layer: Layer.Layer<PublicLookups> = Layer.effect(
  PublicLookups,
  Effect.map(Effect.makeSemaphore(atOnce), (permits) => ({
    queue: (operation, lookUp) =>
      lookUp.pipe(
        permits.withPermits(1),
        Effect.timeoutFail({
          duration: patience,
          onTimeout: () => new StorageUnavailable({ operation, reason: "too many look-ups" })
        })
      )
  }))
)
