/**
 * `src/llms.txt`, which leads machines to the pages (https://llmstxt.org). It is in `src` because that is both in the repository
 * and in the package; `dist` is in the package alone, and comes and goes with each build.
 */
import * as Path from "node:path"
import * as Pages from "./Pages.js"

export const file = "src/llms.txt"

/** A page's title, and its first paragraph as one line without links. */
const beginning = (page: string) => {
  const [title = "", first = ""] = Pages.read(page).split("\n\n")
  const words = first.replace(/\[([^\]]+)\]\([^)]+\)/g, "$1").replace(/\s+/g, " ")
  return { title: title.replace(/^# /, ""), words: words.startsWith("#") ? "" : words }
}

const link = (page: string): string => {
  const { title, words } = beginning(page)
  const path = Path.posix.relative(Path.posix.dirname(file), page)
  return `- [${title}](${path})${words === "" ? "" : `: ${words}`}`
}

export const text = (): string => {
  const [readme = "", ...pages] = Pages.pages
  const { title, words } = beginning(readme)
  return [
    `# ${title}`,
    `> ${words}`,
    [`## Pages`, "", ...[readme, ...pages].map(link)].join("\n"),
    ["## Optional", "", ...["SECURITY.md", "CHANGELOG.md"].map(link)].join("\n"),
    ""
  ]
    .join("\n\n")
    .replace(/\n+$/, "\n")
}
