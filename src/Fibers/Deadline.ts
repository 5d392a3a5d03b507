/**
 * One clock for many who wait. Whoever waits for a fiber costs a slot in a line and neither a fiber nor a timer: all that
 * wait equally long fall due in the order in which they came, so one sleep per line is enough.
 */
import { Effect, Exit, Fiber, Runtime, type Scope } from "effect"

export interface Deadline {
  /** Runs `late` after so many milliseconds, unless what is answered is called before. It must not throw. */
  readonly after: (length: number, late: () => void) => () => void
}

/** How long somebody waits, and what they are told then. */
export interface Wait<E> {
  /** In milliseconds. */
  readonly longest: number
  readonly onLate: () => E
}

interface Slot {
  readonly until: number
  readonly late: () => void
}

interface Line {
  readonly slots: Set<Slot>
  sleeper: Fiber.RuntimeFiber<void> | undefined
}

/** Nobody is told any more once the scope is closed. `given`: the lines, for tests to look into. */
export const make = (given?: Map<number, Line>): Effect.Effect<Deadline, never, Scope.Scope> =>
  Effect.gen(function* () {
    const lines = given ?? new Map<number, Line>()
    const clock = yield* Effect.clock
    // Of a clock that nobody sets.
    const begun = clock.unsafeCurrentTimeNanos()
    const now = () => Number(clock.unsafeCurrentTimeNanos() - begun) / 1e6
    const fork = Runtime.runFork(yield* Effect.runtime<never>())

    const watch = (length: number, { slots }: Line) =>
      Effect.gen(function* () {
        for (let [first] = slots; first !== undefined; [first] = slots) {
          // It may have been called off meanwhile.
          const left = first.until - now()
          if (left > 0) yield* Effect.sleep(left)
          if (!slots.delete(first)) continue
          // One that breaks its promise keeps nobody else from being told.
          yield* Effect.ignore(Effect.try(first.late))
        }
        lines.delete(length)
      })

    let isClosed = false
    yield* Effect.addFinalizer(() => {
      isClosed = true
      return Effect.forEach(
        [...lines.values()].flatMap(({ sleeper }) => sleeper ?? []),
        (sleeper) => sleeper.interruptAsFork(sleeper.id()),
        { discard: true }
      )
    })

    return {
      after: (length, late) => {
        if (isClosed) return () => {}
        const line = lines.get(length) ?? { slots: new Set(), sleeper: undefined }
        const slot = { until: now() + length, late }
        line.slots.add(slot)
        if (!lines.has(length)) {
          lines.set(length, line)
          line.sleeper = fork(watch(length, line))
        }
        return () => void line.slots.delete(slot)
      }
    }
  })

/** The end of a fiber, which goes on when nobody waits for it any longer. */
export const awaiting = <A, E, E2>(
  deadline: Deadline,
  fiber: Fiber.RuntimeFiber<A, E>,
  { longest, onLate }: Wait<E2>
): Effect.Effect<Exit.Exit<A, E | E2>> =>
  Effect.async((resume) => {
    const told = (exit: Exit.Exit<A, E>) => {
      cancel()
      resume(Effect.succeed(exit))
    }
    const cancel = deadline.after(longest, () => {
      fiber.removeObserver(told)
      resume(Effect.succeed(Exit.fail(onLate())))
    })
    fiber.addObserver(told)
    return Effect.sync(() => {
      cancel()
      fiber.removeObserver(told)
    })
  })

/**
 * An effect that is interrupted when it has not ended in time. For itself it costs a fiber, and no timer. `isAlive`: asked then
 * whether to wait as long once more.
 */
export const limited = <A, E, R, E2>(
  deadline: Deadline,
  effect: Effect.Effect<A, E, R>,
  wait: Wait<E2>,
  isAlive: () => boolean = () => false
): Effect.Effect<A, E | E2, R> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.flatMap(Effect.forkDaemon(restore(effect)), (fiber) => {
      const end: Effect.Effect<A, E | E2> = Effect.flatMap(
        Effect.onInterrupt(restore(awaiting(deadline, fiber, wait)), () => Fiber.interrupt(fiber)),
        (exit) => {
          if (fiber.unsafePoll() !== null) return exit
          return isAlive() ? end : Effect.zipRight(Fiber.interrupt(fiber), exit)
        }
      )
      return end
    })
  )
