/** What the documents say of settings and failures is what the code has. */
import * as Fs from "node:fs"
import { assert, describe, it } from "vitest"
import { facts } from "../../src/ErrorFacts.js"
import * as Llms from "./Llms.js"
import * as Pages from "./Pages.js"
import { documents, withParts } from "./Readme.js"

const read = (document: string) => Fs.readFileSync(new URL(`../../${document}`, import.meta.url), "utf8")

describe.each(Object.entries(documents))("%s", (document, names) => {
  const text = read(document)

  it("has its tables as the code has them: `npm run docs` writes them anew", () => {
    assert.strictEqual(text, withParts(document, text))
  })

  it.each(names)("loses its table of %s not without notice", (name) => {
    assert.throws(() => withParts(document, text.replace(`<!-- /${name} -->`, "")), name)
  })
})

describe.each(Pages.pages)("%s", (page) => {
  it("names no failure that does not exist", () => {
    const like = /`((?:Cal|Token|Storage|Refresh|Reauthorization|NotManaged|Invalid|Start|Shutting|Internal)[A-Z]\w+)`/g
    const named = Array.from(Pages.read(page).matchAll(like), ([, name = ""]) => name)
    // What has a file of its own, and an element of Cal.com's.
    const isOther = (name: string) =>
      name === "CalProvider" || Fs.existsSync(new URL(`../../src/${name}.ts`, import.meta.url))
    assert.deepStrictEqual(
      named.filter((name) => !(name in facts) && !isOther(name)),
      []
    )
  })
})

describe(Llms.file, () => {
  it("leads to all pages as they are: `npm run docs` writes it anew", () => {
    assert.strictEqual(Pages.read(Llms.file), Llms.text())
    for (const page of Pages.pages) assert.include(Llms.text(), `${page.replace(/^src\//, "")})`)
  })
})
