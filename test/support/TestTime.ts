/** What tests do with time, which passes when they say so. */
import { Chunk, Clock, Duration, Effect, Fiber, TestClock } from "effect"

/**
 * The test clock looks several times, a timer apart, whether all fibers rest. Where nothing waits for a socket or a
 * real timer, a turn of the event loop tells as much as a millisecond does.
 */
export const quicken = Effect.map(TestClock.testClock(), (clock) => {
  Object.assign(clock, {
    yieldTimer: Effect.async<void>((resume) => void setImmediate(() => resume(Effect.void)))
  })
})

/** Runs an effect while the clock jumps from one thing that is due to the next, until it ends or `atMost` has passed. */
export const passTime = <A, E, R>(effect: Effect.Effect<A, E, R>, atMost: number) =>
  Effect.gen(function* () {
    const fiber = yield* Effect.fork(effect)
    yield* untilDone(fiber, atMost)
    return yield* Fiber.join(fiber)
  })

/** Lets time pass until the fiber ended, at most so many milliseconds. Leaves the clock where that happened. */
export const untilDone = <A, E>(fiber: Fiber.RuntimeFiber<A, E>, atMost: number) =>
  Effect.gen(function* () {
    const end = (yield* Clock.currentTimeMillis) + atMost
    while (true) {
      yield* settle
      const now = yield* Clock.currentTimeMillis
      if (fiber.unsafePoll() !== null) return
      if (now >= end) return yield* Effect.dieMessage(`nothing came of it within ${atMost} ms`)
      const due = Chunk.filter(yield* TestClock.sleeps(), (instant) => instant > now)
      yield* TestClock.setTime(Math.min(end, ...due))
    }
  })

/** What came of a fiber that has ended, or ends within so many milliseconds. */
export const landed = <A, E>(fiber: Fiber.RuntimeFiber<A, E>, atMost = 0) =>
  Effect.zipRight(untilDone(fiber, atMost), Fiber.join(fiber))

/** Lets everything run that can run without time passing. */
export const settle: Effect.Effect<void> = TestClock.adjust(0)

/** Starts an effect and lets it run as far as it gets without time passing. */
export const start = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.zipLeft(Effect.fork(effect), settle)

/** Runs an effect and tells how many milliseconds it took. */
export const timed = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.map(Effect.timed(effect), ([duration, result]) => ({ took: Duration.toMillis(duration), result }))

/** So many at once. */
export const many = <A, E, R>(n: number, effect: Effect.Effect<A, E, R>) =>
  Effect.all(
    Array.from({ length: n }, () => effect),
    { concurrency: "unbounded" }
  )
