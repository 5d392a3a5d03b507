import { assert, describe, it } from "@effect/vitest"
import { Effect, TestClock } from "effect"
import { vi } from "vitest"
import * as Progress from "../../src/Cli/Progress.js"

const outOf = (terminal: Partial<Progress.Out>) => {
  const written: Array<string> = []
  return { out: { ...terminal, write: (text: string) => written.push(text) }, written }
}

/** What somebody saw on a terminal, one after another, and what is there at last. */
const linesOf = (written: ReadonlyArray<string>) =>
  written
    .join("")
    .split("\x1b[1G")
    .map((line) => line.replace("\x1b[0K", ""))

describe("progress", () => {
  it.effect("is a bar on a terminal, with rate and time left, and is gone at the end", () =>
    Effect.gen(function* () {
      const { out, written } = outOf({ isTTY: true, columns: 0 })
      const progress = yield* Progress.make(out, "rows", 1000)
      yield* TestClock.adjust("10 seconds")
      yield* progress.advance(100)
      yield* progress.advance(150)
      yield* progress.end
      assert.deepStrictEqual(linesOf(written), [
        "",
        "[--------------------] 0 rows, 0 %, 0 rows/s",
        "[=====---------------] 250 rows, 25 %, 25 rows/s, 30s left",
        "\x1b[2K"
      ])
    })
  )

  it("is drawn anew ten times a second, whether or not anything moves", () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "Date"], now: 0 })
    try {
      const { out, written } = outOf({ isTTY: true })
      const progress = Effect.runSync(Progress.make(out, "users", 100))
      Effect.runSync(progress.advance(20))
      Effect.runSync(progress.advance(30))
      vi.advanceTimersByTime(99)
      assert.lengthOf(linesOf(written), 2)
      vi.advanceTimersByTime(2001)
      assert.strictEqual(linesOf(written).at(-1), "[==========----------] 50 users, 50 %, 24 users/s, 3s left")
      assert.lengthOf(linesOf(written), 23)
      Effect.runSync(progress.end)
      // A timer that is left keeps a program from ending.
      assert.strictEqual(vi.getTimerCount(), 0)
    } finally {
      vi.useRealTimers()
    }
  })

  it.effect("has no bar where nobody knows how much there is", () =>
    Effect.gen(function* () {
      const { out, written } = outOf({ isTTY: true })
      const progress = yield* Progress.make(out, "rows", undefined)
      yield* TestClock.adjust("1 second")
      yield* progress.advance(2000)
      yield* progress.end
      assert.include(linesOf(written), "2,000 rows, 2,000 rows/s")
    })
  )

  it.effect("never breaks a line of a narrow terminal", () =>
    Effect.gen(function* () {
      const { out, written } = outOf({ isTTY: true, columns: 30 })
      const progress = yield* Progress.make(out, "rows", 1000)
      yield* TestClock.adjust("1 second")
      yield* progress.advance(100)
      yield* progress.end
      assert.include(linesOf(written), "[==------------------] 100 ro")
    })
  )

  it.effect("is a plain line each ten seconds elsewhere", () =>
    Effect.gen(function* () {
      const { out, written } = outOf({})
      const progress = yield* Progress.make(out, "rows", 100)
      for (let second = 1; second <= 25; second++) {
        yield* TestClock.adjust("1 second")
        yield* progress.advance(2000, 1)
      }
      yield* progress.end
      assert.deepStrictEqual(written, [
        "20,000 rows, 10 %, 2,000 rows/s, 1m 30s left\n",
        "40,000 rows, 20 %, 2,000 rows/s, 1m 20s left\n"
      ])
    })
  )

  it("has no share of nothing, and none above the whole", () => {
    const seen = { unit: "rows", elapsed: 1000 }
    assert.strictEqual(Progress.lineOf({ ...seen, count: 0, part: 0, total: 0 }), "0 rows, 0 rows/s")
    assert.strictEqual(Progress.lineOf({ ...seen, count: 7, part: 12, total: 10 }), "7 rows, 100 %, 7 rows/s, 0 left")
  })
})
