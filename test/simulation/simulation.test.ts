/**
 * A fleet in a thousand and more short histories, and proof that the simulator would notice: every rule of the protocol
 * is left out once, and each time some history must break a promise. None of these rules is covered by another one.
 *
 * `npm run simulate` runs as many histories as wanted, and shows how a seed fails.
 */
import { randomInt } from "node:crypto"
import { assert, describe, it } from "vitest"
import * as Campaign from "./Campaign.js"
import type { Variant } from "./Fleet.js"
import * as History from "./History.js"
import * as Plan from "./Plan.js"
import { variants } from "./Variants.js"

/** Generous: all of it takes half a minute on one idle core. */
const timeout = 300_000

/** Runs histories until one fails, and lets the test runner breathe in between. */
const search = async (from: number, count: number, limits: Plan.Limits, variant?: () => Variant) => {
  const events = new Map<string, number>()
  for (let i = 0; i < count; i += 25) {
    const part = { from: from + i, step: 1, count: Math.min(25, count - i), limits }
    const { plan } = Campaign.run(part, { events }, variant)
    if (plan !== undefined) return { plan, events }
    await new Promise((resolve) => setImmediate(resolve))
  }
  return { plan: undefined, events }
}

const expectNone = async (from: number, count: number, limits: Plan.Limits) => {
  const { events, plan } = await search(from, count, limits)
  if (plan !== undefined) assert.fail(Campaign.explain(plan))
  return (event: string) => events.get(event) ?? 0
}

describe("a fleet", () => {
  it("keeps its promises", { timeout }, async () => {
    const times = await expectNone(1, 1000, { wire: "short" })
    // The histories are worth something only while mishaps happen and callers are served nevertheless.
    for (const event of [
      "crash",
      "pause",
      "stop",
      "interrupted",
      "Cal.com silentAfter",
      "storage zombie",
      "reissues"
    ]) {
      assert.isAbove(times(event), 5, event)
    }
    assert.isAbove(times("ensure: a token, refreshed"), 1000)
  })

  it("keeps them through HTTP and the sandbox", { timeout }, async () => {
    await expectNone(1_000_000, 200, { wire: "http" })
  })

  it("refreshes once per expiry while nothing goes wrong", { timeout }, async () => {
    await expectNone(2_000_000, 200, { calm: 1 })
  })

  it("keeps them from a seed that nobody tried", { timeout }, async () => {
    const seed = randomInt(2 ** 31)
    process.stdout.write(`fresh seed ${seed}\n`)
    await expectNone(seed, 200, {})
  })
})

describe("a history", () => {
  it.each(["short", "http"] as const)("is the same whenever it is played (%s)", { timeout }, (wire) => {
    for (let seed = 1; seed <= 10; seed++) {
      const play = () => History.run(Plan.draw(seed, { wire }), { events: new Map() }, {}, true).log
      assert.deepStrictEqual(play(), play())
    }
  })
})

describe("a rule that is left out is missed", () => {
  it.each(Object.entries(variants))("%s", { timeout }, async (_, variant) => {
    const { plan } = await search(1, 3000, { wire: "short", calm: 0.02 }, variant)
    assert.isDefined(plan, "no history missed it")
  })
})
