import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, Layer, Option, Stream, TestClock } from "effect"
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

  describe("layerPubSub", () => {
    it.effect("every running stream gets every change", () =>
      Effect.gen(function* () {
        const { stream } = yield* Revalidation.Changes
        const readers = yield* Effect.forEach([1, 2], () => stream.pipe(Stream.take(2), Stream.runCollect, Effect.fork))
        yield* TestClock.adjust(0)
        yield* told(change(1))
        yield* told(change(2))
        for (const reader of readers) {
          assert.deepStrictEqual([...(yield* Fiber.join(reader))], [change(1), change(2)])
        }
      }).pipe(Effect.provide(Revalidation.layerPubSub()))
    )

    it.effect("a consumer that reads nothing holds nobody up and loses the oldest", () =>
      Effect.scoped(
        Effect.gen(function* () {
          const { stream } = yield* Revalidation.Changes
          const pull = yield* Stream.toPull(stream)
          // The first pull subscribes; it takes the first change and then falls behind.
          const first = yield* Effect.fork(pull)
          yield* TestClock.adjust(0)
          yield* told(change(0))
          assert.deepStrictEqual([...(yield* Fiber.join(first))], [change(0)])
          for (let version = 1; version <= 10; version++) yield* told(change(version))
          assert.deepStrictEqual([...(yield* pull)], [change(9), change(10)])
        })
      ).pipe(Effect.provide(Revalidation.layerPubSub({ capacity: 2 })))
    )

    it.effect("streams end with the layer", () =>
      Effect.gen(function* () {
        const reader = yield* Effect.gen(function* () {
          const { stream } = yield* Revalidation.Changes
          const reader = yield* Effect.forkDaemon(Stream.runDrain(stream))
          yield* TestClock.adjust(0)
          return reader
        }).pipe(Effect.provide(Layer.fresh(Revalidation.layerPubSub())))
        assert.isTrue(Exit.isSuccess(yield* Fiber.await(reader)))
      })
    )
  })
})
