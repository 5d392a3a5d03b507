/** The guide to moving over: what it shows is the app of `test/examples/moving`, and it leads to what is there. */
import * as Fs from "node:fs"
import { assert, describe, it } from "vitest"
import { help } from "../../src/Cli/Import/Settings.js"

const read = (path: string) => Fs.readFileSync(new URL(`../../${path}`, import.meta.url), "utf8")

/** Wherever the code stands in its file. */
const flush = (text: string) =>
  text
    .split("\n")
    .map((line) => line.trim())
    .join("\n")

const guide = read("src/Import/README.md")
const app = flush(["before", "during", "after"].map((name) => read(`test/examples/moving/${name}.ts`)).join("\n"))

const blocks = (language: string): ReadonlyArray<string> =>
  Array.from(guide.matchAll(new RegExp(`^\`\`\`${language}\\n([^]*?)^\`\`\`$`, "gm")), ([, block = ""]) =>
    flush(block).trim()
  )

describe("the guide to moving over", () => {
  it("shows the code that moves", () => {
    const shown = blocks("ts")
    assert.isAtLeast(shown.length, 12)
    for (const block of shown) assert.include(app, block)
  })

  it("shows the table and its column", () => {
    for (const statement of blocks("sql").filter((block) => block.includes("table"))) assert.include(app, statement)
  })

  it("names its functions as they are called", () => {
    const functions = read("src/Actions.ts")
    const named = Array.from(guide.matchAll(/`(\w+(?:Cal|Managed|Expir)\w*)\(/g), ([, name = ""]) => name)
    assert.isAtLeast(named.length, 5)
    for (const name of named) assert.include(functions, `readonly ${name}: `)
  })
  it("imports by options that there are", () => {
    const named = Array.from(guide.matchAll(/(?<=[ `])--[a-z-]+/g), ([name]) => name).filter(
      (name) => !["--exclude-dir", "--help", "--include", "--mode"].includes(name)
    )
    assert.isAtLeast(named.length, 8)
    for (const name of named) assert.match(help, new RegExp(`${name}(?![\\w-])`))
  })
})
