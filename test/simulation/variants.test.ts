/**
 * Proof that the simulator would notice: every rule of the protocol is left out once, and each time some history must
 * break a promise. None of these rules is covered by another one.
 */
import { assert, describe, it } from "vitest"
import { search, timeout } from "./search.js"
import { variants } from "./Variants.js"

describe("a rule that is left out is missed", () => {
  it.each(Object.entries(variants))("%s", { timeout }, async (_, variant) => {
    const { plan } = await search(1, 3000, { wire: "short", calm: 0.02 }, variant)
    assert.isDefined(plan, "no history missed it")
  })
})
