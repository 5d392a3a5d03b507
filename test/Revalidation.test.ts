import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, Layer, Option, TestClock } from "effect"
import type { TokenChange } from "../src/CalTokens.js"
import * as Revalidation from "../src/Revalidation.js"
import { UserUlid } from "../src/Token.js"

const change = (version: number): TokenChange => ({
  userUlid: UserUlid.make("01ARZ3NDEKTSV4RRFFQ69G5FAV"),
  kind: "refreshed",
  at: 0,
  version
})

const told = (change: TokenChange) => Effect.flatMap(Revalidation.Revalidation, (service) => service.changed(change))

describe("Revalidation", () => {
  it.effect("runs nothing unless asked to", () => told(change(1)))

  it.effect("layerNoop silences an outer layer", () => {
    const seen: Array<number> = []
    const outer = Revalidation.layerFromPromise((change) => void seen.push(change.version ?? 0))
    return told(change(1)).pipe(
      Effect.provide(Layer.provideMerge(Revalidation.layerNoop, outer)),
      Effect.andThen(() => assert.deepStrictEqual(seen, []))
    )
  })

  describe("layerFromPromise", () => {
    it.effect("hands the change over and waits for the promise", () => {
      const seen: Array<TokenChange> = []
      return told(change(3)).pipe(
        Effect.provide(
          Revalidation.layerFromPromise(async (change) => {
            await Promise.resolve()
            seen.push(change)
          })
        ),
        Effect.andThen(() => assert.deepStrictEqual(seen, [change(3)]))
      )
    })

    for (const [label, changed] of [
      ["a rejection", () => Promise.reject(new Error("no cache"))],
      [
        "a synchronous throw",
        () => {
          throw new Error("no cache")
        }
      ]
    ] as const) {
      it.effect(`${label} is a failure, not a defect`, () =>
        Effect.gen(function* () {
          const exit = yield* Effect.exit(told(change(1)))
          assert(Exit.isFailure(exit))
          assert.isTrue(Option.isSome(Cause.failureOption(exit.cause)))
        }).pipe(Effect.provide(Revalidation.layerFromPromise(changed)))
      )
    }

    it.effect("a promise that never settles can be given up", () =>
      Effect.gen(function* () {
        const fiber = yield* Effect.fork(Effect.timeoutOption(told(change(1)), "30 seconds"))
        yield* TestClock.adjust("30 seconds")
        assert.isTrue(Option.isNone(yield* Fiber.join(fiber)))
      }).pipe(Effect.provide(Revalidation.layerFromPromise(() => new Promise(() => {}))))
    )
  })
})
