/**
 * What the package shows is in `.api`, so that a change of it is seen where it is reviewed. `npm run api` writes it anew.
 */
import * as Fs from "node:fs"
import { assert, describe, expect, it } from "vitest"
import * as Report from "./Report.js"

const subpaths = Report.read()

const fileOf = ({ name }: Report.Subpath) => `${name || "index"}.md`

describe.each(subpaths)("what cal-tokens/$name shows", (subpath) => {
  it("is what .api says", async () => {
    await expect(Report.write(subpath)).toMatchFileSnapshot(`../../.api/${fileOf(subpath)}`)
  })
})

it("is all that .api says", () => {
  const files = Fs.readdirSync(new URL("../../.api", import.meta.url))
  assert.sameMembers(files, subpaths.map(fileOf))
})

/** Effect's own words, in lower case. */
const categories = [
  "api",
  "auditing",
  "constants",
  "constructors",
  "conversions",
  "errors",
  "getters",
  "layers",
  "middleware",
  "models",
  "predicates",
  "references",
  "running",
  "schemas",
  "tags",
  "testing",
  "validation"
]

it("says of each export what it is, what kind of thing it is, and since when", () => {
  const exports = subpaths.flatMap(({ namespaces }) => namespaces.flatMap(({ exports }) => exports))
  const wanting = exports.flatMap(({ category = "", file, isDescribed, name, since = "" }) => {
    const lacks = [
      ...(isDescribed ? [] : ["a doc comment"]),
      ...(/^\d+\.\d+\.\d+$/.test(since) ? [] : ["@since 0.1.0"]),
      ...(categories.includes(category) ? [] : [`@category, one of ${categories.join(", ")}`])
    ]
    return lacks.length === 0 ? [] : [`${file}: ${name} lacks ${lacks.join(" and ")}`]
  })
  assert.deepStrictEqual(wanting, [])
})
