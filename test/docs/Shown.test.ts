/** The README's first steps without Effect: what it shows is what `test/examples` runs. */
import * as Fs from "node:fs"
import { assert, describe, it, vi } from "vitest"

const read = (path: string) => Fs.readFileSync(new URL(`../../${path}`, import.meta.url), "utf8")
const readme = read("README.md")

/** The code of a section. */
const blocks = (heading: string): ReadonlyArray<string> => {
  const [, section = ""] = readme.split(`\n${heading}\n`)
  const [until = ""] = section.split(/\n#{2,3} /)
  return Array.from(until.matchAll(/^```(?:ts|js)\n([^]*?)^```$/gm), ([, block = ""]) => block)
}

describe("the script at the README's beginning", () => {
  it("is an example, as a whole", () => {
    assert.include(readme, `\n\`\`\`js\n${read("test/examples/first.ts")}\`\`\`\n`)
  })

  it("says what its last line says", async () => {
    const [, said = ""] = /console\.log\(.*\) \/\/ (.*)$/m.exec(read("test/examples/first.ts")) ?? []
    const log = vi.spyOn(console, "log").mockImplementation(() => {})
    try {
      await import("../examples/first.js")
      assert.deepStrictEqual(log.mock.calls, [[said]])
    } finally {
      log.mockRestore()
    }
  })
})

it("the README's tests without Effect are those of the example, each as a whole", () => {
  const example = read("test/examples/promises.test.ts")
  const shown = blocks("### 2. In tests of your own program").filter((block) => !block.includes("Effect.gen"))
  assert.isAtLeast(shown.length, 3)
  for (const paragraph of shown.flatMap((block) => block.split(/\n\n(?=\S)/))) {
    assert.include(example, paragraph.trimEnd())
  }
})
