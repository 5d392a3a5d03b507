/** The pages that people read, and the blocks of code in them. */
import * as Fs from "node:fs"
import * as Path from "node:path"

/** Where tests run, and `npm run docs`, which is bundled elsewhere. */
export const root = process.cwd()

export const read = (path: string): string => Fs.readFileSync(Path.join(root, path), "utf8")

/** The README, and the page of each folder that has one. */
export const pages: ReadonlyArray<string> = [
  "README.md",
  ...Fs.readdirSync(Path.join(root, "src"))
    .map((folder) => `src/${folder}/README.md`)
    .filter((page) => Fs.existsSync(Path.join(root, page))),
  "test/README.md"
]

export interface Block {
  /** The nearest heading above it, without its `#`s. */
  readonly heading: string
  /** What follows the fence: `ts`, `sh` and so on, or nothing. */
  readonly language: string
  readonly text: string
}

/** What begins a heading, or a block with all that is in it. */
const part = /^#{1,6} (?<heading>.*)$|^```(?<language>\w*)\n(?<text>[^]*?)^```$/gm

export const blocks = (page: string): ReadonlyArray<Block> => {
  let heading = ""
  return Array.from(read(page).matchAll(part)).flatMap(({ groups = {} }) => {
    const { language, text } = groups
    if (language === undefined || text === undefined) {
      heading = groups["heading"] ?? ""
      return []
    }
    return [{ heading, language, text }]
  })
}

/** The texts of a page's blocks of one language below a heading. */
export const texts = (page: string, heading: string, language: string): ReadonlyArray<string> =>
  blocks(page)
    .filter((block) => block.heading === heading && block.language === language)
    .map(({ text }) => text)
