/** Who has the package reads its documents there: what they lead to is in the package, or has an address. */
import { execFileSync } from "node:child_process"
import * as Path from "node:path"
import { assert, describe, it } from "vitest"
import * as Pages from "./Pages.js"

/** What `npm publish` takes of a checkout as it is; `dist` is built only then. */
const packed = (): ReadonlyArray<string> => {
  const stdout = execFileSync("npm", ["pack", "--dry-run", "--json", "--ignore-scripts"], {
    cwd: Pages.root,
    encoding: "utf8",
    maxBuffer: 16 * 1024 * 1024
  })
  // npm 12 answers by the package's name, earlier ones a list.
  const [answer] = Object.values(JSON.parse(stdout) as object) as ReadonlyArray<{
    readonly files: ReadonlyArray<{ readonly path: string }>
  }>
  return (answer?.files ?? []).map(({ path }) => path)
}

/** As GitHub and npm name headings. */
const anchors = (document: string): ReadonlyArray<string> =>
  Array.from(Pages.read(document).matchAll(/^#{1,6} (.*)$/gm), ([, heading = ""]) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, "")
      .replaceAll(" ", "-")
  )

const files = packed()
const documents = files.filter((path) => /\.md$|llms\.txt$/.test(path))

/** Whether a link of a document leads somewhere within the package. */
const leads = (document: string, link: string): boolean => {
  const [path = "", anchor] = link.split("#")
  const target = path === "" ? document : Path.posix.join(Path.posix.dirname(document), path)
  return files.includes(target) && (anchor === undefined || anchors(target).includes(anchor))
}

describe("the documents of the package", () => {
  it("are these", () => {
    assert.includeMembers(documents, [...Pages.pages, "SECURITY.md", "CHANGELOG.md"])
  })

  it.each(documents)("%s leads to what is there", (document) => {
    const links = Array.from(Pages.read(document).matchAll(/\]\(([^)\s]+)\)/g), ([, link = ""]) => link)
    const relative = links.filter((link) => !/^[a-z]+:/.test(link))
    assert.deepStrictEqual(
      relative.filter((link) => !leads(document, link)),
      []
    )
  })
})
