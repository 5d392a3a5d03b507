/** What documents show, for tests that carry it out. */
import * as Fs from "node:fs"

/** The blocks of a language in a section, from its heading to the next one. */
export const blocks = (document: string, heading: string, language: string): ReadonlyArray<string> => {
  const text = Fs.readFileSync(new URL(`../../${document}`, import.meta.url), "utf8")
  const [, section] = text.split(`\n${heading}\n`)
  if (section === undefined) throw new Error(`${document} has no ${heading}`)
  const [until = ""] = section.split(/\n#{2,3} /)
  return Array.from(until.matchAll(new RegExp(`^\`\`\`${language}\\n([^]*?)^\`\`\`$`, "gm")), ([, block = ""]) => block)
}
