/**
 * Fibers that belong to the service and not to a caller. Nobody's interruption reaches them; at shutdown `waiting` work
 * is interrupted, and work that must reach its end (a refresh token was or may have been sent) is awaited, for a bounded
 * time.
 */
import { type Duration, Effect, type Fiber, Runtime, type Scope } from "effect"

export interface Owned {
  /** Starts work that a shutdown may interrupt. */
  readonly runWaiting: <A, E>(work: Effect.Effect<A, E>) => Fiber.RuntimeFiber<A, E>
  /** Starts work that a shutdown waits for. */
  readonly runToEnd: <A, E>(work: Effect.Effect<A, E>) => Fiber.RuntimeFiber<A, E>
  /** Set once the shutdown began: nothing new should start. */
  readonly isClosing: () => boolean
  /** Set once the shutdown stopped waiting: loops that cannot end by themselves give up. */
  readonly isAbandoned: () => boolean
}

/**
 * Closing the scope ends the fibers as described; `onAbandoned` runs if some did not end within `shutdownWait`.
 * The fibers run in the context of this effect, so a caller's transaction or span is not inherited.
 */
export const make = (options: {
  readonly shutdownWait: Duration.Duration
  readonly onAbandoned: Effect.Effect<void>
}): Effect.Effect<Owned, never, Scope.Scope> =>
  Effect.gen(function* () {
    const runtime = yield* Effect.runtime<never>()
    const fork = Runtime.runFork(runtime)
    const waiting = new Set<Fiber.RuntimeFiber<unknown, unknown>>()
    const toEnd = new Set<Fiber.RuntimeFiber<unknown, unknown>>()
    let phase: "open" | "closing" | "abandoned" = "open"

    const run =
      (fibers: Set<Fiber.RuntimeFiber<unknown, unknown>>) =>
      <A, E>(work: Effect.Effect<A, E>): Fiber.RuntimeFiber<A, E> => {
        // Never started synchronously: whoever forks records the fiber before it can end.
        const fiber = fork(work, { immediate: false })
        fibers.add(fiber)
        fiber.addObserver(() => fibers.delete(fiber))
        return fiber
      }

    const quiet = Effect.gen(function* () {
      while (toEnd.size > 0) yield* Effect.forEach([...toEnd], (fiber) => fiber.await, { discard: true })
    })

    yield* Effect.addFinalizer(() =>
      Effect.gen(function* () {
        phase = "closing"
        yield* Effect.forEach([...waiting], (fiber) => fiber.interruptAsFork(fiber.id()), { discard: true })
        const ended = yield* Effect.timeoutOption(Effect.interruptible(quiet), options.shutdownWait)
        phase = "abandoned"
        if (ended._tag === "None") yield* options.onAbandoned
      })
    )

    return {
      runWaiting: run(waiting),
      runToEnd: run(toEnd),
      isClosing: () => phase !== "open",
      isAbandoned: () => phase === "abandoned"
    }
  })
