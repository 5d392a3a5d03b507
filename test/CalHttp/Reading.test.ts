import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, TestClock } from "effect"
import { HttpClientRequest, HttpClientResponse } from "@effect/platform"
import * as Reading from "../../src/CalHttp/Reading.js"

const request = HttpClientRequest.get("https://api.cal.com/v2/x")
const bytes = (text: string) => new TextEncoder().encode(text)

/** An answer of these chunks, and what happens after them. */
const answer = (chunks: ReadonlyArray<string>, after: "ends" | "breaks" | "stalls") => {
  let next = 0
  const body = new ReadableStream<Uint8Array>({
    pull: (controller) => {
      const chunk = chunks[next++]
      if (chunk !== undefined) return controller.enqueue(bytes(chunk))
      if (after === "ends") controller.close()
      if (after === "breaks") controller.error(new TypeError("terminated"))
      return after === "stalls" ? new Promise<void>(() => undefined) : undefined
    }
  })
  return HttpClientResponse.fromWeb(request, new Response(body))
}

const shown = Effect.map(({ bytes, end }: Reading.Body) => `${Buffer.from(bytes).toString()} ${end}`)

describe("a body", () => {
  it.effect("comes whole, or as far as it came", () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* shown(Reading.read(answer(["a", "", "b"], "ends"))), "ab whole")
      assert.strictEqual(yield* shown(Reading.read(answer([], "ends"))), " whole")
      assert.strictEqual(yield* shown(Reading.read(answer(["a", "b"], "breaks"))), "ab cut")
      assert.strictEqual(yield* shown(Reading.read(answer([], "breaks"))), " cut")
      const none = HttpClientResponse.fromWeb(request, new Response(null, { status: 204 }))
      assert.strictEqual(yield* shown(Reading.read(none)), " whole")
    })
  )

  it.effect("is read up to a mebibyte and not a byte further", () =>
    Effect.gen(function* () {
      const chunk = "x".repeat(300_000)
      let asked = 0
      const endless = new ReadableStream<Uint8Array>({
        pull: (controller) => {
          asked++
          if (asked > 100) throw new Error("it is read on and on")
          controller.enqueue(bytes(chunk))
        }
      })
      const body = yield* Reading.read(HttpClientResponse.fromWeb(request, new Response(endless)))
      assert.strictEqual(body.bytes.length, Reading.maxBytes)
      assert.strictEqual(body.end, "tooLong")
      assert.isBelow(asked, 10)
    })
  )

  it.effect("that stalls is asked each second whether it is enough, and is awaited until then", () =>
    Effect.gen(function* () {
      const asked: Array<string> = []
      const isEnough = (arrived: Uint8Array) => asked.push(Buffer.from(arrived).toString()) === 3
      const fiber = yield* Effect.fork(shown(Reading.read(answer(["a", "b"], "stalls"), isEnough)))
      // The chunks come by promises, which the clock does not wait for.
      yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
      yield* TestClock.adjust("2 seconds")
      assert.deepStrictEqual(asked, ["ab", "ab"])
      assert.isNull(fiber.unsafePoll())
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* Fiber.join(fiber), "ab cut")
    })
  )

  it.effect("of which nothing came is not asked", () =>
    Effect.gen(function* () {
      const fiber = yield* Effect.fork(Reading.read(answer([], "stalls"), () => true))
      yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
      yield* TestClock.adjust("1 minute")
      assert.isNull(fiber.unsafePoll())
      yield* Fiber.interrupt(fiber)
    })
  )
})
