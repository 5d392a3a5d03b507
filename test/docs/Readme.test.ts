/** What the documents say of settings and failures is what the code has. */
import * as Fs from "node:fs"
import { assert, describe, it } from "vitest"
import { facts } from "../../src/ErrorFacts.js"
import { documents, withParts } from "./Readme.js"

const read = (document: string) => Fs.readFileSync(new URL(`../../${document}`, import.meta.url), "utf8")
const readme = read("README.md")

describe.each(Object.entries(documents))("%s", (document, names) => {
  const text = read(document)

  it("has its tables as the code has them: `npm run docs` writes them anew", () => {
    assert.strictEqual(text, withParts(document, text))
  })

  it.each(names)("loses its table of %s not without notice", (name) => {
    assert.throws(() => withParts(document, text.replace(`<!-- /${name} -->`, "")), name)
  })
})

describe("the README", () => {
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
