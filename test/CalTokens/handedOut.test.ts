/** When tokens were handed out last: noted in memory, written now and then. */
import { assert, describe } from "@effect/vitest"
import { Effect, TestClock } from "effect"
import * as CalTokens from "../../src/CalTokens.js"
import * as StorageTap from "../support/StorageTap.js"
import * as World from "../support/World.js"

const { scenario } = World

/** Users of a time at which nothing that was written at their connection counts. */
const connected = (n: number) =>
  Effect.gen(function* () {
    const tap = yield* StorageTap.StorageTap
    yield* Effect.forEach(World.users(n), (user) => World.obtainManaged(user))
    const since = yield* Effect.clockWith((clock) => clock.currentTimeMillis)
    yield* TestClock.adjust("10 minutes")
    yield* tap.reset
    return { tap, since, tokens: yield* CalTokens.CalTokens }
  })

const stored = (n: number) => Effect.map(World.stored(World.user(n)), ({ handedOutAt }) => handedOutAt)

const now = Effect.clockWith((clock) => clock.currentTimeMillis)

describe("a token that is handed out", () => {
  scenario(
    "is written down with others a moment later, and not again for some minutes",
    Effect.gen(function* () {
      const { since, tap, tokens } = yield* connected(3)
      const began = yield* now
      const all = Effect.forEach(World.users(3), (user) => tokens.ensureValid(user))
      assert.strictEqual(yield* stored(1), since)
      yield* Effect.repeatN(all, 2)
      assert.strictEqual(tap.count("handedOut"), 0)
      yield* TestClock.adjust("1 seconds")
      assert.strictEqual(tap.count("handedOut"), 1)
      assert.deepStrictEqual(yield* Effect.forEach([1, 2, 3], stored), [began, began, began])
      yield* TestClock.adjust("298 seconds")
      yield* all
      yield* TestClock.adjust("1 seconds")
      assert.strictEqual(tap.count("handedOut"), 1)
      yield* tokens.handedOut(World.user(2))
      yield* TestClock.adjust("1 seconds")
      assert.deepStrictEqual(yield* Effect.forEach([1, 2, 3], stored), [began, began + 300_000, began])
    })
  )

  scenario(
    "is none where it stays with the process, or nobody got it",
    Effect.gen(function* () {
      const { tap, tokens } = yield* connected(1)
      yield* tokens.ensureValid(World.user(), { handsOut: false })
      yield* tokens.refresh(World.user(), { forceRefresh: true })
      yield* tokens.info(World.user())
      yield* Effect.either(tokens.ensureValid(World.user(2)))
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(tap.count("handedOut"), 0)
    })
  )

  scenario(
    "is written when the storage is back, and at the latest at the end",
    Effect.gen(function* () {
      const { tap, tokens } = yield* connected(2)
      const began = yield* now
      yield* tokens.ensureValid(World.user(1))
      yield* tap.refuse("handedOut", 3)
      yield* TestClock.adjust("10 seconds")
      assert.notStrictEqual(yield* stored(1), began)
      yield* TestClock.adjust("7 seconds")
      assert.strictEqual(yield* stored(1), began)
      const other = yield* World.anotherNode()
      yield* other.tokens.ensureValid(World.user(2))
      yield* other.stop
      assert.strictEqual(yield* stored(2), began + 17_000)
    })
  )
})
