/**
 * Proof that the simulator would notice: every rule of the protocol is left out once, and each time some history must
 * break a promise. None of these rules is covered by another one.
 */
import { assert, describe, it } from "vitest"
import * as History from "./History.js"
import { search, timeout } from "./search.js"
import { variants } from "./Variants.js"

/** Where few histories miss a rule, the search begins shortly before one of them. */
const rare: Readonly<Record<string, number>> = {
  "no re-read before failing": 500,
  "a decoder that does not ask whose a pair is": 1550,
  "a failure written without its condition": 2400
}

/** The short way to Cal.com knows nothing of these. */
const full = new Set(["one of two secrets"])

describe("a rule that is left out is missed", () => {
  it.each(Object.entries(variants))("%s", { timeout }, async (name, variant) => {
    const { plan } = await search(
      rare[name] ?? 1,
      3000,
      { wire: full.has(name) ? "http" : "short", calm: 0.02 },
      variant
    )
    assert(plan !== undefined, "no history missed it")
    const [violation] = History.run(plan, { events: new Map() }, variant()).violations
    // A promise to somebody, not a fault of the variant itself.
    assert.notInclude([undefined, "no crash", "no defects"], violation?.rule)
  })
})
