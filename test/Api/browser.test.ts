import { fileURLToPath } from "node:url"
import { assert, describe, it } from "@effect/vitest"
import { bundle, run } from "../support/BrowserBundle.js"

const program = fileURLToPath(new URL("../package/programs/api.ts", import.meta.url))

describe("the API value in a browser", () => {
  it("needs no module of Node, and a client that is derived from it works", async () => {
    const { inputs, text } = await bundle(program)
    assert.deepStrictEqual(await run(text), ["2026-01-15T12:00:00.000Z TokensNotFound none"])
    const rooms = inputs.flatMap((path) => /^src\/([^/.]+)/.exec(path)?.[1] ?? [])
    assert.sameMembers([...new Set(rooms)], ["Api", "ApiKeys", "ErrorFacts", "History"])
  })
})
