import { assert, describe, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Fiber } from "effect"
import { vi } from "vitest"

/** What keeps the process from ending. Others than this test do, too, so looks are compared that are taken in one go. */
const held = () => process.getActiveResourcesInfo().filter((resource) => resource === "Timeout").length

describe("the process", () => {
  it.scoped("does not end before work that must reach its end, and does before what only waits", () =>
    Effect.gen(function* () {
      // Test files share modules, and another one may hold the process just now.
      const Owned = yield* Effect.promise(() => {
        vi.resetModules()
        return import("../../src/Fibers/Owned.js")
      })
      const owned = yield* Owned.make({ shutdownWait: Duration.seconds(30), onAbandoned: () => Effect.void })
      const end = yield* Deferred.make<void>()
      const before = held()
      owned.runWaiting(Effect.never)
      assert.strictEqual(held(), before)
      const stored = [owned.runToEnd(Deferred.await(end)), owned.runToEnd(Deferred.await(end))]
      assert.strictEqual(held(), before + 1)
      const atEnds: Array<number> = []
      // Observers are told in the order of their fibers' ends, each before what was to happen then.
      for (const fiber of stored) fiber.addObserver(() => atEnds.push(held()))
      yield* Effect.forEach(stored, Fiber.await).pipe(
        Effect.map(() => atEnds.push(held())),
        Effect.fork
      )
      yield* Deferred.succeed(end, undefined)
      yield* Fiber.joinAll(stored)
      yield* Effect.yieldNow()
      const [first = 0, second, last] = atEnds
      assert.deepStrictEqual([second, last], [first, first - 1])
    })
  )
})
