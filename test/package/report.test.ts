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
