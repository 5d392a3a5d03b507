/** Whoever has to reconnect is told why: what the fleet says, beside what Cal.com knows. */
import { assert, describe, it } from "vitest"
import * as Reconnects from "./Reconnects.js"
import { timeout } from "./search.js"

describe("the cause that is stated", () => {
  it("is the one that was injected, or the narrowest that can be told", { timeout }, async () => {
    const outcomes: Array<Reconnects.Outcome> = []
    for (let seed = 1; seed <= 140; seed += 20) {
      outcomes.push(...Reconnects.run(seed, 20).outcomes)
      await new Promise((resolve) => setImmediate(resolve))
    }
    const wrong = outcomes.filter(({ isRight }) => !isRight)
    const [first] = wrong
    assert.deepStrictEqual(first, undefined)
    // Each is met often enough, and none explains everything.
    assert.isAbove(outcomes.length, 130)
    for (const mishap of Reconnects.mishaps) {
      assert.isAtLeast(outcomes.filter(({ truth }) => truth === mishap).length, 8, mishap)
    }
    const stated = new Set(outcomes.map(({ stated }) => stated))
    assert.isAtLeast(stated.size, 6)
    for (const cause of stated) {
      assert.isBelow(outcomes.filter(({ stated }) => stated === cause).length, outcomes.length / 2, cause)
    }
  })

  it("is the same whenever a history is played", { timeout }, () => {
    for (const mishap of Reconnects.mishaps) {
      const play = () => {
        const outcome = Reconnects.play(7, mishap)
        return outcome && [outcome.truth, outcome.stated, outcome.lines.length, outcome.lines[0]?.slice(0, 24)]
      }
      assert.deepStrictEqual(play(), play())
    }
  })
})
