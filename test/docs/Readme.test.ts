/** What the README says of settings and failures is what the code has. */
import * as Fs from "node:fs"
import { assert, describe, it } from "vitest"
import { facts } from "../../src/ErrorFacts.js"
import { withParts } from "./Readme.js"

const readme = Fs.readFileSync(new URL("../../README.md", import.meta.url), "utf8")

describe("the README", () => {
  it("has its tables as the code has them: `npm run docs` writes them anew", () => {
    assert.strictEqual(readme, withParts(readme))
  })

  for (const name of ["variables", "failures"]) {
    it(`loses its table of ${name} not without notice`, () => {
      assert.throws(() => withParts(readme.replace(`<!-- /${name} -->`, "")), name)
    })
  }

  it("names no failure that does not exist", () => {
    const like = /`((?:Cal|Token|Storage|Refresh|Reauthorization|NotManaged|Invalid|Start|Shutting|Internal)[A-Z]\w+)`/g
    const named = Array.from(readme.matchAll(like), ([, name = ""]) => name)
    const others = new Set([
      "CalTokens",
      "CalApi",
      "CalClient",
      "TokenStorage",
      "TokenConfig",
      "TokenError",
      "TokenInput",
      "CalProvider"
    ])
    assert.deepStrictEqual(
      named.filter((name) => !(name in facts) && !others.has(name)),
      []
    )
  })
})
