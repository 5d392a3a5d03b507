/** Time as it is, with timers that keep no process from ending. Whoever waits for an answer does (`Fibers/KeepAlive`). */
import { setTimeout } from "node:timers"
import { Clock, Duration, Effect, Layer } from "effect"

/** Node's timers take no more milliseconds. What is due later never is, as by Effect's own clock. */
const longest = 2 ** 31 - 1

const time = Clock.make()

const clock: Clock.Clock = {
  [Clock.ClockTypeId]: Clock.ClockTypeId,
  unsafeCurrentTimeMillis: () => time.unsafeCurrentTimeMillis(),
  unsafeCurrentTimeNanos: () => time.unsafeCurrentTimeNanos(),
  currentTimeMillis: time.currentTimeMillis,
  currentTimeNanos: time.currentTimeNanos,
  sleep: (duration) =>
    Effect.async<void>((resume) => {
      const millis = Duration.toMillis(duration)
      if (millis > longest) return
      const timer = setTimeout(() => resume(Effect.void), millis).unref()
      return Effect.sync(() => clearTimeout(timer))
    })
}

/** For what is built on it. */
export const layer: Layer.Layer<never> = Layer.setClock(clock)
