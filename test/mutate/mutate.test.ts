/** Some thousands of mutated answers. `npm run mutate` reads as many as wanted, and shows how a seed fails. */
import { randomInt } from "node:crypto"
import { assert, describe, it } from "vitest"
import * as Campaign from "./Campaign.js"
import * as Case from "./Case.js"
import { exclusions } from "./Exclusions.js"
import { inclusions } from "./Inclusions.js"

const read = async (cases: Iterable<Case.Case>) => {
  const result = Campaign.tally()
  await Campaign.run(cases, result)
  assert.deepStrictEqual(result.failures.slice(0, 3).map(Campaign.explain), [])
  return result
}

const draws = (from: number, answers: number) => Array.from({ length: answers }, (_, index) => Case.draw(from + index))

describe("of mutated answers", () => {
  it("every new token is taken, and no other", async () => {
    const result = await read(draws(1, 4000))
    // They are worth something only while everything is done to them.
    for (const name of Object.keys(inclusions)) assert.isAbove(result.inclusions.get(name) ?? 0, 100, name)
    for (const name of Object.keys(exclusions)) assert.isAbove(result.exclusions.get(name) ?? 0, 25, name)
    for (const [outcome, times] of result.outcomes) assert.isAbove(times, 10, outcome)
    assert.strictEqual(result.outcomes.size, 7)
  })

  it("the same holds from a seed that nobody tried", async () => {
    const seed = randomInt(2 ** 31)
    process.stdout.write(`fresh seed ${seed}\n`)
    await read(draws(seed, 1000))
  })

  it("every new token is taken that is there when the answer is cut off, after any of its bytes", async () => {
    for (const seed of [1, 2, 3, 4]) {
      const { answers, outcomes } = await read(Case.cuts(seed))
      assert.isAbove(answers, 100)
      assert.isAbove(outcomes.get("nothing") ?? 0, 0)
    }
  })
})
