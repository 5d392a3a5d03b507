/** Waiting for something to be so, for a bounded time. */
import { Duration, Effect, Schedule } from "effect"

/** Asks until it is so. If that takes too long, the test fails and says what did not come about. */
export const until = <E, R>(what: string, condition: Effect.Effect<boolean, E, R>, atMost: Duration.DurationInput) =>
  condition.pipe(
    Effect.repeat({ until: (isSo) => isSo, schedule: Schedule.spaced("50 millis") }),
    Effect.timeoutFail({
      duration: atMost,
      onTimeout: () => new Error(`not within ${Duration.format(Duration.decode(atMost))}: ${what}`)
    }),
    Effect.asVoid
  )
