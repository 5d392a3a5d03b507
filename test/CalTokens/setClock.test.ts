/** The machine's clock may be set: no wait is longer or shorter for it. */
import { assert, it } from "@effect/vitest"
import { Clock, Duration, Effect, Exit, TestClock } from "effect"
import * as Call from "../../src/CalTokens/Call.js"
import * as Deadline from "../../src/Fibers/Deadline.js"
import * as Owned from "../../src/Fibers/Owned.js"
import type { Grant } from "../../src/CalClient.js"
import type { UserUlid } from "../../src/Token.js"

/** The test clock, as somebody sets it. What is slept and counted in nanoseconds goes on as it does. */
const settable = Effect.map(Effect.clock, (test) => {
  const at = { offset: 0 }
  const clock: Clock.Clock = {
    [Clock.ClockTypeId]: Clock.ClockTypeId,
    sleep: (duration) => test.sleep(duration),
    unsafeCurrentTimeMillis: () => test.unsafeCurrentTimeMillis() + at.offset,
    unsafeCurrentTimeNanos: () => test.unsafeCurrentTimeNanos(),
    currentTimeMillis: Effect.sync(() => test.unsafeCurrentTimeMillis() + at.offset),
    currentTimeNanos: test.currentTimeNanos
  }
  return { at, clock }
})

const user = "01ARZ3NDEKTSV4RRFFQ69G5FAV" as UserUlid
const grant = { pair: "the only live one" } as unknown as Grant

it.scoped("an answer that comes while it is listened for is not lost because the machine's clock was put forward", () =>
  Effect.gen(function* () {
    const { at, clock } = yield* settable
    const late: Array<string> = []
    const begin = yield* Effect.gen(function* () {
      const deadline = yield* Deadline.make()
      const owned = yield* Owned.make({ shutdownWait: Duration.seconds(1), onAbandoned: () => Effect.void })
      return (after: Duration.DurationInput) =>
        Call.bounded({ deadline, owned }, Effect.delay(Effect.succeed(grant), after), {
          operation: "refresh",
          userUlid: user,
          timeout: Duration.millis(300),
          lateWait: Duration.millis(700),
          onLate: (exit) => Effect.sync(() => void late.push(Exit.isSuccess(exit) ? "granted" : "lost"))
        }).pipe(Effect.exit, Effect.forkScoped, Effect.withClock(clock))
    }).pipe(Effect.withClock(clock))
    yield* begin("10 seconds")
    yield* TestClock.adjust("500 millis")
    // Answered after 800 ms: late, but in time to be kept.
    yield* begin("800 millis")
    yield* TestClock.adjust("100 millis")
    at.offset = 60_000
    yield* TestClock.adjust("1 seconds")
    assert.deepStrictEqual(late, ["lost", "granted"])
  })
)

it.scoped("nobody waits longer because the machine's clock was put back", () =>
  Effect.gen(function* () {
    const { at, clock } = yield* settable
    const deadline = yield* Effect.withClock(Deadline.make(), clock)
    let late = 0
    for (let times = 0; times < 10; times++) deadline.after(200, () => void late++)
    at.offset = -3_600_000
    yield* TestClock.adjust("600 millis")
    assert.strictEqual(late, 10)
  })
)
