/** Many wait, and one clock tells them. */
import { assert, it } from "@effect/vitest"
import { Effect, Either, Exit, Fiber, Scope, TestClock } from "effect"
import * as Deadline from "../../src/Fibers/Deadline.js"

type Lines = Parameters<typeof Deadline.make>[0]

it.scoped("everybody is told at their own time, whatever the order in which they came", () =>
  Effect.gen(function* () {
    const { after } = yield* Deadline.make()
    const told: Array<number> = []
    for (const until of [500, 100, 300, 100, 0]) after(until, () => told.push(until))
    assert.deepStrictEqual(told, [0])
    yield* TestClock.adjust("299 millis")
    assert.deepStrictEqual(told, [0, 100, 100])
    yield* TestClock.adjust("201 millis")
    assert.deepStrictEqual(told, [0, 100, 100, 300, 500])
  })
)

it.scoped("who called it off is not told, and those behind are in time", () =>
  Effect.gen(function* () {
    const lines: NonNullable<Lines> = new Map()
    const { after } = yield* Deadline.make(lines)
    const told: Array<string> = []
    const cancel = after(1000, () => told.push("first"))
    yield* TestClock.adjust("400 millis")
    after(1000, () => told.push("second"))
    cancel()
    yield* TestClock.adjust("999 millis")
    assert.deepStrictEqual(told, [])
    yield* TestClock.adjust("1 millis")
    assert.deepStrictEqual(told, ["second"])
    assert.strictEqual(lines.size, 0)
  })
)

it.scoped("ten thousand who wait equally long share one sleep", () =>
  Effect.gen(function* () {
    const { after } = yield* Deadline.make()
    let told = 0
    for (let i = 0; i < 10_000; i++) after(25_000, () => told++)
    assert.strictEqual([...(yield* TestClock.sleeps())].length, 1)
    yield* TestClock.adjust("25 seconds")
    assert.strictEqual(told, 10_000)
  })
)

it.effect("nobody is told once the scope is closed, and nothing sleeps on", () =>
  Effect.gen(function* () {
    const scope = yield* Scope.make()
    const { after } = yield* Scope.extend(Deadline.make(), scope)
    const told: Array<string> = []
    after(1000, () => told.push("before"))
    yield* Scope.close(scope, Exit.void)
    after(2000, () => told.push("after"))
    yield* TestClock.adjust("1 minute")
    assert.deepStrictEqual(told, [])
    assert.strictEqual([...(yield* TestClock.sleeps())].length, 0)
  })
)

it.scoped("a fiber's end comes first, and whoever stopped waiting leaves nothing behind", () =>
  Effect.gen(function* () {
    const deadline = yield* Deadline.make()
    const wait = { longest: 1000, onLate: () => "late" }
    const done = yield* Effect.fork(Effect.succeed(1))
    yield* Fiber.await(done)
    assert.deepStrictEqual(yield* Deadline.awaiting(deadline, done, wait), Exit.succeed(1))
    const slow = yield* Effect.fork(Effect.delay(Effect.succeed(2), "10 seconds"))
    const waiter = yield* Effect.fork(Deadline.awaiting(deadline, slow, wait))
    yield* TestClock.adjust("500 millis")
    yield* Fiber.interrupt(waiter)
    yield* TestClock.adjust("1 second")
    const exit = yield* Deadline.awaiting(deadline, slow, { ...wait, longest: 0 })
    assert.isTrue(Exit.isFailure(exit))
    assert.isNull(slow.unsafePoll())
  })
)

it.scoped("what is limited is answered as it ends, and interrupted when it is late or nobody waits any more", () =>
  Effect.gen(function* () {
    const deadline = yield* Deadline.make()
    const events: Array<string> = []
    const work = (name: string, length: number) =>
      Deadline.limited(
        deadline,
        Effect.as(Effect.sleep(length), name).pipe(Effect.onInterrupt(() => Effect.sync(() => events.push(name)))),
        { longest: 1000, onLate: () => "late" }
      )
    const [quick, slow, left] = yield* Effect.all(
      [work("quick", 999), work("slow", 1001), work("left", 1001)].map((each) => Effect.fork(Effect.either(each)))
    )
    yield* TestClock.adjust("500 millis")
    yield* Fiber.interrupt(left!)
    assert.deepStrictEqual(events, ["left"])
    yield* TestClock.adjust("500 millis")
    assert.deepStrictEqual(yield* Fiber.join(quick!), Either.right("quick"))
    assert.deepStrictEqual(yield* Fiber.join(slow!), Either.left("late"))
    assert.deepStrictEqual(events, ["left", "slow"])
  })
)
