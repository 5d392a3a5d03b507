/**
 * Fibers that belong to the service and not to a caller. Nobody's interruption reaches them; at shutdown `waiting` work
 * is interrupted, and work that must reach its end (a refresh token was or may have been sent) is awaited, for a bounded
 * time.
 */
import { type Duration, Effect, type Fiber, Runtime, type Scope } from "effect"
import type { UserUlid } from "../Token.js"
import * as KeepAlive from "./KeepAlive.js"
import * as Spans from "./Spans.js"

export interface Owned {
  /** Starts work that a shutdown may interrupt. */
  readonly runWaiting: <A, E>(work: Effect.Effect<A, E>) => Fiber.RuntimeFiber<A, E>
  /** Starts work that a shutdown and the process wait for; `userUlid` is whose pair is lost if it does not end in time. */
  readonly runToEnd: <A, E>(work: Effect.Effect<A, E>, userUlid?: UserUlid) => Fiber.RuntimeFiber<A, E>
  /** Set once the shutdown began: nothing new should start. */
  readonly isClosing: () => boolean
  /** Set once the shutdown stopped waiting: loops that cannot end by themselves give up. */
  readonly isAbandoned: () => boolean
}

/**
 * Closing the scope ends the fibers as described; `onAbandoned` runs, with the users concerned, if some did not end
 * within `shutdownWait`. The fibers run in the context of this effect, so a caller's transaction is not inherited; they are
 * below the caller's span.
 */
export const make = (options: {
  readonly shutdownWait: Duration.Duration
  readonly onAbandoned: (users: ReadonlyArray<UserUlid>) => Effect.Effect<void>
}): Effect.Effect<Owned, never, Scope.Scope> =>
  Effect.gen(function* () {
    const runtime = yield* Effect.runtime<never>()
    const fork = Runtime.runFork(runtime)
    type Fibers = Map<Fiber.RuntimeFiber<unknown, unknown>, UserUlid | undefined>
    const waiting: Fibers = new Map()
    const toEnd: Fibers = new Map()
    let phase: "open" | "closing" | "abandoned" = "open"

    const run =
      (fibers: Fibers) =>
      <A, E>(work: Effect.Effect<A, E>, userUlid?: UserUlid): Fiber.RuntimeFiber<A, E> => {
        // Never started synchronously: whoever forks records the fiber before it can end.
        const fiber = fork(Spans.below(work), { immediate: false })
        fibers.set(fiber, userUlid)
        fiber.addObserver(() => fibers.delete(fiber))
        return fiber
      }

    const quiet = Effect.gen(function* () {
      while (toEnd.size > 0) yield* Effect.forEach([...toEnd.keys()], (fiber) => fiber.await, { discard: true })
    })

    yield* Effect.addFinalizer(() =>
      Effect.gen(function* () {
        phase = "closing"
        yield* Effect.forEach([...waiting.keys()], (fiber) => fiber.interruptAsFork(fiber.id()), { discard: true })
        const ended = yield* Effect.timeoutOption(Effect.interruptible(quiet), options.shutdownWait)
        phase = "abandoned"
        const users = [...toEnd.values()].filter((userUlid) => userUlid !== undefined)
        if (ended._tag === "None") yield* options.onAbandoned([...new Set(users)])
      })
    )

    return {
      runWaiting: run(waiting),
      runToEnd: (work, userUlid) => {
        const fiber = run(toEnd)(work, userUlid)
        const release = KeepAlive.hold()
        fiber.addObserver(release)
        return fiber
      },
      isClosing: () => phase !== "open",
      isAbandoned: () => phase === "abandoned"
    }
  })
