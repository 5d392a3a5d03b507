import { assert, describe, it } from "@effect/vitest"
import { Effect, TestClock } from "effect"
import * as Progress from "../../../src/Cli/Import/Progress.js"

const outOf = (terminal: Partial<Progress.Out>) => {
  const written: Array<string> = []
  return { out: { ...terminal, write: (text: string) => written.push(text) }, written }
}

describe("progress", () => {
  it.effect("is one line on a terminal, which changes ten times a second at most and is gone at the end", () =>
    Effect.gen(function* () {
      const { out, written } = outOf({ isTTY: true, columns: 0 })
      const progress = yield* Progress.make(out, 1000, 0)
      yield* TestClock.adjust("99 millis")
      yield* progress.tell(50, 50)
      assert.deepStrictEqual(written, [])
      yield* TestClock.adjust("1 millis")
      yield* progress.tell(100, 100)
      yield* progress.tell(101, 101)
      assert.deepStrictEqual(written, ["\r\x1b[2K100 rows, 10 %, 1,000 rows/s, 1s left"])
      yield* progress.end
      assert.deepStrictEqual(written.slice(1), ["\r\x1b[2K"])
    })
  )

  it.effect("never breaks a line of a narrow terminal", () =>
    Effect.gen(function* () {
      const { out, written } = outOf({ isTTY: true, columns: 20 })
      const progress = yield* Progress.make(out, 1000, 0)
      yield* TestClock.adjust("1 second")
      yield* progress.tell(100, 100)
      assert.deepStrictEqual(written, ["\r\x1b[2K100 rows, 10 %, 100"])
    })
  )

  it.effect("is a plain line each ten seconds elsewhere", () =>
    Effect.gen(function* () {
      const { out, written } = outOf({})
      const progress = yield* Progress.make(out, undefined, 0)
      for (let second = 1; second <= 25; second++) {
        yield* TestClock.adjust("1 second")
        yield* progress.tell(second * 2000, second)
      }
      yield* progress.end
      assert.deepStrictEqual(written, ["20,000 rows, 2,000 rows/s\n", "40,000 rows, 2,000 rows/s\n"])
    })
  )

  it("counts what is left from where this run began", () => {
    assert.strictEqual(
      Progress.lineOf({ rows: 500, done: 500, total: 5000 }, 10_000),
      "500 rows, 10 %, 50 rows/s, 1m 30s left"
    )
    assert.strictEqual(Progress.lineOf({ rows: 0, done: 0, total: 0 }, 0), "0 rows, 0 rows/s")
    assert.strictEqual(Progress.lineOf({ rows: 7, done: 12, total: 10 }, 1000), "7 rows, 100 %, 7 rows/s, 0 left")
  })
})
