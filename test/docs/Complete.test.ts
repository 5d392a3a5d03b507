/** The tables of the pages leave nothing out that a door offers. */
import * as Fs from "node:fs"
import { OpenApi } from "@effect/platform"
import { assert, describe, it } from "vitest"
import { descriptions } from "../../src/Cli.js"
import * as Actions from "../../src/Actions.js"
import { Api } from "../../src/Api.js"
import { startSandbox } from "../../src/Testing.js"

const read = (path: string) => Fs.readFileSync(new URL(`../../${path}`, import.meta.url), "utf8")

/** As the table calls one that takes every method. */
const anyOf = (endpoint: string) => endpoint.replace(/^[A-Z]+ /, "ANY ")

/** As a whole, or with its query. */
const isNamed = (page: string, endpoint: string) => page.includes(`\`${endpoint}\``) || page.includes(`\`${endpoint}?`)

describe("a page's table has", () => {
  it("all functions of the actions", async () => {
    const cal = await startSandbox()
    const actions = Actions.make({ layer: cal.layer })
    await actions.dispose()
    await cal.close()
    const page = read("src/Actions/README.md")
    const functions = Object.keys(actions).filter((name) => name !== "isFailure")
    assert.isAbove(functions.length, 15)
    assert.deepStrictEqual(
      functions.filter((name) => !page.includes(`\n| \`${name}(`)),
      []
    )
  })

  it("all endpoints of the HTTP API", () => {
    const page = read("src/Http/README.md").replace(/\{[a-zA-Z]+\}/g, "{}")
    const endpoints = Object.entries(OpenApi.fromApi(Api).paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method.toUpperCase()} ${path.replace(/\{[a-zA-Z]+\}/g, "{}")}`)
    )
    assert.isAbove(endpoints.length, 15)
    assert.deepStrictEqual(
      endpoints.filter((endpoint) => ![endpoint, anyOf(endpoint)].some((name) => isNamed(page, name))),
      []
    )
  })

  it("all commands of the program, and no other", () => {
    const [, section = ""] = /^## Command line\n([^]*?)^## /m.exec(read("src/Environment/README.md")) ?? []
    const told = Array.from(section.matchAll(/^\| `(\w+)` \|/gm), ([, name]) => name)
    assert.deepStrictEqual(
      told,
      descriptions.map(({ name }) => name)
    )
  })
})
