/** Actions by the environment, where the packages of the drivers were not installed. */
import { afterEach, assert, beforeEach, describe, it } from "vitest"
import manifest from "../../package.json" with { type: "json" }
import { packageOf } from "../../src/Actions/Missing.js"
import * as Stranger from "../support/Stranger.js"

let stranger: Stranger.Stranger
beforeEach(async () => {
  stranger = await Stranger.make("Actions.ts")
  stranger.install(...Object.keys(manifest.dependencies), "effect", "@effect/platform")
})
afterEach(() => stranger.remove())

const program = `
import * as Actions from "./Actions.mjs"
const cal = Actions.make()
console.log(JSON.stringify(await cal.createManagedCalUser("01ARZ3NDEKTSV4RRFFQ69G5FAV", { email: "a@b.example", name: "A" })))
`

describe("a package that is missing", () => {
  it("is named in the log, with the command that installs all that are", async () => {
    const { code, output } = await stranger.run(program)
    assert.strictEqual(code, 0)
    assert.include(output, '"code":"StartFailed"')
    const [, name, command] =
      /failed: the package (\S+) is missing; .*`npm i ([^`]+)`/.exec(output) ?? assert.fail(output)
    assert.match(name ?? "", /^@effect\/(platform-node|sql|sql-pg|experimental)$/)
    for (const wanted of ["@effect/platform-node@0", "@effect/sql@0", "@effect/sql-pg@0"]) {
      assert.include(command ?? "", wanted)
    }
    // Where it was looked for is a path of the machine.
    assert.notInclude(output, "imported from")

    // npm brings the peers of those along.
    stranger.install(...(command ?? "").split(" ").map((it) => it.replace(/@0$/, "")), "@effect/experimental")
    const next = await stranger.run(program)
    assert.include(
      next.output,
      "the package @electric-sql/pglite is missing; install it with `npm i @electric-sql/pglite`"
    )
    assert.notInclude(next.output, "@effect/")
  })

  it("that is a peer of theirs is installed besides, and what is no missing package is not taken for one", () => {
    assert.include(
      packageOf(new Error("Cannot find package '@effect/cluster' imported from /srv/app/index.js")),
      "@effect/sql-pg@0 @effect/cluster@0`"
    )
    for (const error of [new Error("Cannot find module '/srv/app/x.js'"), new TypeError("fetch failed"), "text"]) {
      assert.isUndefined(packageOf(error))
    }
  })
})
