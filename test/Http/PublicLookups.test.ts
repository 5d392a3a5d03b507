import { assert, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, TestClock } from "effect"
import * as PublicLookups from "../../src/Http/PublicLookups.js"

it.effect("look-ups of every kind share two permits, and nobody waits for longer than five seconds", () =>
  Effect.gen(function* () {
    const { queue } = yield* PublicLookups.PublicLookups
    const answer = yield* Deferred.make<string>()
    let begun = 0
    const lookUp = Effect.suspend(() => {
      begun++
      return Deferred.await(answer)
    })
    const waiting = yield* Effect.fork(
      Effect.all(
        ["one", "other", "one", "other"].map((kind) => Effect.either(queue(kind, lookUp))),
        { concurrency: "unbounded" }
      )
    )
    yield* TestClock.adjust("4 seconds")
    assert.strictEqual(begun, 2)
    const late = yield* Effect.fork(queue("late", lookUp))
    yield* TestClock.adjust("1 second")
    for (const result of yield* Fiber.join(waiting)) {
      assert(result._tag === "Left")
      assert.strictEqual(result.left._tag, "StorageUnavailable")
    }
    yield* Deferred.succeed(answer, "found")
    assert.strictEqual(yield* Fiber.join(late), "found")
  }).pipe(Effect.provide(PublicLookups.layer))
)
