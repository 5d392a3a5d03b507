/** A fleet in a few thousand short histories. `npm run simulate` runs as many as wanted, and shows how a seed fails. */
import { randomInt } from "node:crypto"
import { assert, describe, it } from "vitest"
import * as Campaign from "./Campaign.js"
import * as History from "./History.js"
import * as Plan from "./Plan.js"
import { search, timeout } from "./search.js"

const expectNone = async (from: number, count: number, limits: Plan.Limits) => {
  const { events, plan } = await search(from, count, limits)
  if (plan !== undefined) assert.fail(Campaign.explain(plan))
  return (event: string) => events.get(event) ?? 0
}

describe("a fleet", () => {
  it("keeps its promises", { timeout }, async () => {
    const times = await expectNone(1, 1500, { wire: "short" })
    // The histories are worth something only while mishaps happen and callers are served nevertheless.
    for (const event of [
      "fault crash",
      "fault pause",
      "fault stop",
      "fault caller gives up",
      "fault Cal.com silentAfter",
      "fault storage zombie",
      "fault notice lost",
      "fault Cal.com expiryMissing",
      "call answers sealed",
      "fault drift",
      "fault release",
      "call reissues"
    ]) {
      assert.isAbove(times(event), 5, event)
    }
    assert.isAbove(times("answer ensure: a token, refreshed"), 1000)
  })

  it("keeps them through HTTP and the sandbox", { timeout }, async () => {
    await expectNone(1_000_000, 250, { wire: "http" })
  })

  it("refreshes once per expiry while nothing goes wrong", { timeout }, async () => {
    await expectNone(2_000_000, 250, { calm: 1 })
  })

  it("keeps them from a seed that nobody tried", { timeout }, async () => {
    const seed = randomInt(2 ** 31)
    process.stdout.write(`fresh seed ${seed}\n`)
    await expectNone(seed, 250, {})
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
