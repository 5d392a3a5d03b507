/** One piece of work per user at a time, where the whole service would take luck to come to it. */
import { assert, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Exit, Fiber, Scope, TestClock } from "effect"
import * as Deadline from "../../src/Fibers/Deadline.js"
import * as Owned from "../../src/Fibers/Owned.js"
import * as SingleFlight from "../../src/Fibers/SingleFlight.js"
import type { UserUlid } from "../../src/Token.js"
import * as World from "../support/World.js"

const { user } = World
const users = (n: number) => Array.from({ length: n }, (_, i) => user(i + 1))

const owning = Owned.make({ shutdownWait: Duration.seconds(1), onAbandoned: () => Effect.void })

/** With the users for whom something runs. */
const make = <A, E>() =>
  Effect.zipWith(Deadline.make(), owning, (deadline, owned) => {
    const running = new Map<UserUlid, SingleFlight.Running<A, E>>()
    return { running, ...SingleFlight.make<A, E>({ deadline, owned }, running) }
  })

it.scoped("shared work answers all who ask, work that is alone one caller, and neither runs beside the other", () =>
  Effect.gen(function* () {
    const { alone, share } = yield* make<number, never>()
    const gate = yield* Deferred.make<void>()
    let begun = 0
    const work = Effect.zipRight(
      Deferred.await(gate),
      Effect.sync(() => ++begun)
    )
    const callers = yield* Effect.fork(
      Effect.all([share(user(), work), share(user(), work), alone(user(), work), alone(user(), work)], {
        concurrency: "unbounded"
      })
    )
    yield* World.settle
    assert.strictEqual(begun, 0)
    yield* Deferred.succeed(gate, undefined)
    const [one, two, three, four] = yield* Fiber.join(callers)
    assert.deepStrictEqual([one, two], [1, 1])
    assert.sameMembers([three, four], [2, 3])
  })
)

it.scoped("work that is alone is answered to nobody else who is alone", () =>
  Effect.gen(function* () {
    const { alone } = yield* make<number, never>()
    let begun = 0
    const work = Effect.zipRight(
      Effect.yieldNow(),
      Effect.sync(() => ++begun)
    )
    const answers = yield* Effect.all(
      Array.from({ length: 5 }, () => alone(user(), work)),
      { concurrency: "unbounded" }
    )
    assert.sameMembers(answers, [1, 2, 3, 4, 5])
  })
)

it.scoped("a start joins nothing and waits for nothing; idle waits for what runs", () =>
  Effect.gen(function* () {
    const { idle, running, start } = yield* make<string, never>()
    const gate = yield* Deferred.make<void>()
    let begun = 0
    const work = Effect.zipRight(
      Effect.sync(() => ++begun),
      Effect.as(Deferred.await(gate), "done")
    )
    yield* start(user(), work)
    yield* start(user(), work)
    const waiting = yield* Effect.fork(idle(user()))
    yield* World.settle
    assert.strictEqual(begun, 1)
    assert.isNull(waiting.unsafePoll())
    yield* Deferred.succeed(gate, undefined)
    yield* Fiber.join(waiting)
    assert.strictEqual(running.size, 0)
    yield* idle(user())
  })
)

it.scoped("10 000 users for whom something ran, well or not, leave nothing", () =>
  Effect.gen(function* () {
    const { running, share } = yield* make<number, string>()
    for (let n = 0; n < 10_000; n++) {
      yield* Effect.either(share(user(n % 9999), n % 2 ? Effect.succeed(n) : Effect.fail("no")))
    }
    assert.strictEqual(running.size, 0)
  })
)

it.scoped("callers that are interrupted while they wait take nothing with them, and leave nothing", () =>
  Effect.gen(function* () {
    const { running, share } = yield* make<number, never>()
    const gate = yield* Deferred.make<void>()
    let ended = 0
    const work = Effect.as(
      Effect.tap(Deferred.await(gate), () => Effect.sync(() => ++ended)),
      1
    )
    const fibers = yield* Effect.forEach(users(50), (userUlid) => Effect.fork(share(userUlid, work)))
    yield* World.settle
    yield* Effect.forEach(fibers, (fiber) => fiber.interruptAsFork(fiber.id()))
    yield* Deferred.succeed(gate, undefined)
    yield* World.settle
    assert.strictEqual(ended, 50)
    assert.strictEqual(running.size, 0)
  })
)

it.live("work that a shutdown interrupts before it begins is awaited by nobody", () =>
  Effect.gen(function* () {
    const scope = yield* Scope.make()
    const { running, share, start } = yield* Scope.extend(make<string, never>(), scope)
    yield* start(user(), Effect.never)
    // No fiber but this one has run since.
    yield* Scope.close(scope, Exit.void)
    const other = share(user(), Effect.succeed("done"))
    assert.strictEqual(yield* Effect.timeout(other, "10 seconds"), "done")
    assert.strictEqual(running.size, 0)
  })
)

it.scoped("whoever waits too long is told so at their own time, the work goes on, and others get it", () =>
  Effect.gen(function* () {
    const { alone, running, share } = yield* make<number, string>()
    const work = Effect.delay(Effect.succeed(1), "10 seconds")
    const wait = (longest: number, onLate: string) => ({ longest, onLate: () => onLate })
    const early = yield* Effect.fork(Effect.flip(share(user(), work, wait(3000, "three"))))
    const behind = yield* Effect.fork(Effect.flip(alone(user(), work, wait(4000, "four"))))
    const last = yield* Effect.fork(share(user(), work, wait(11_000, "eleven")))
    yield* TestClock.adjust("2999 millis")
    assert.isNull(early.unsafePoll())
    yield* TestClock.adjust("1 second")
    assert.strictEqual(yield* Fiber.join(early), "three")
    assert.isNull(behind.unsafePoll())
    yield* TestClock.adjust("1 millis")
    assert.strictEqual(yield* Fiber.join(behind), "four")
    assert.strictEqual(running.size, 1)
    yield* TestClock.adjust("6 seconds")
    assert.strictEqual(yield* Fiber.join(last), 1)
    assert.strictEqual(running.size, 0)
  })
)
