/** The README's first steps without Effect: what it shows is what `test/examples` runs. */
import * as Fs from "node:fs"
import { assert, it } from "vitest"

const read = (path: string) => Fs.readFileSync(new URL(`../../${path}`, import.meta.url), "utf8")
const readme = read("README.md")

/** The code of a section. */
const blocks = (heading: string): ReadonlyArray<string> => {
  const [, section = ""] = readme.split(`\n${heading}\n`)
  const [until = ""] = section.split(/\n#{2,3} /)
  return Array.from(until.matchAll(/^```(?:ts|js)\n([^]*?)^```$/gm), ([, block = ""]) => block)
}

it("the README's tests without Effect are those of the example, each as a whole", () => {
  const example = read("test/examples/promises.test.ts")
  const shown = blocks("### 2. In tests of your own program").filter((block) => !block.includes("Effect.gen"))
  assert.isAtLeast(shown.length, 3)
  for (const paragraph of shown.flatMap((block) => block.split(/\n\n(?=\S)/))) {
    assert.include(example, paragraph.trimEnd())
  }
})
