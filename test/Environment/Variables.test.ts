import { afterEach, assert, describe, it, vi } from "@effect/vitest"
import { Config, ConfigProvider, Effect } from "effect"
import * as Environment from "../../src/Environment.js"
import * as Variables from "../../src/Environment/Variables.js"

const variables = Object.entries(Variables.all)

const valuesOf = (given: Readonly<Record<string, string>>) =>
  Config.zipWith(Variables.config, Variables.telemetryConfig, (own, telemetry) => ({ ...own, ...telemetry })).pipe(
    Effect.withConfigProvider(ConfigProvider.fromMap(new Map(Object.entries(given))))
  )

describe("the table of variables", () => {
  it("has each by its name, and in one group", () => {
    const names = variables.map(([name]) => name)
    assert.deepStrictEqual(
      variables.map(([, variable]) => variable.name),
      names
    )
    assert.deepStrictEqual(
      Variables.groups.flatMap((group) => group.variables.map(({ name }) => name)),
      names
    )
    const read = variables.flatMap(([, { names }]) => names)
    assert.strictEqual(new Set(read).size, read.length)
  })

  it("says of each in a sentence or two what it is, and what counts without it", () => {
    for (const [name, { description, form, unset }] of variables) {
      assert.match(description, /^[A-Z`].{8,158}\.$/, name)
      assert.match(form, /^\S.{2,}$/, name)
      assert.match(unset, /^\S.{0,80}$/, name)
    }
  })

  it.effect("writes each default as it may be written, and it is the one that counts", () =>
    Effect.gen(function* () {
      const defaulted = variables.filter(([, variable]) => "default" in variable)
      assert.isAbove(defaulted.length, 8)
      const written = Object.fromEntries(defaulted.map(([name, { unset }]) => [name, unset.replaceAll("`", "")]))
      assert.deepStrictEqual(yield* valuesOf(written), yield* valuesOf({}))
      const values: Readonly<Record<string, unknown>> = yield* valuesOf({})
      for (const [name, variable] of defaulted) {
        assert.deepStrictEqual(values[name], "default" in variable && variable.default, name)
      }
    })
  )

  it.effect("lets a file stand in for the secrets, and for nothing else", () =>
    Effect.gen(function* () {
      for (const [name, { isSecret, names }] of variables) {
        assert.strictEqual(names.includes(`${name}_FILE`), isSecret, name)
        const outcome = yield* Effect.either(valuesOf({ [`${name}_FILE`]: "/nowhere/at/all" }))
        assert.strictEqual(outcome._tag, isSecret ? "Left" : "Right", name)
      }
      for (const [name, { isSecret }] of variables) {
        if (/SECRET|KEYS|HEADERS|^DATABASE(_DIRECT)?_URL|^HTTPS?_PROXY|WEBHOOK/.test(name))
          assert.isTrue(isSecret, name)
      }
    })
  )
})

describe("the fingerprint of settings", () => {
  afterEach(() => void vi.unstubAllEnvs())

  it("changes with each variable, in either spelling, and with each file", () => {
    const names = variables.flatMap(([, { names }]) => names)
    assert.includeMembers(names, ["https_proxy", "https_proxy_FILE", "CAL_TOKENS_API_KEYS_FILE"])
    for (const name of names) {
      const before = Environment.fingerprint()
      vi.stubEnv(name, `another ${process.env[name] ?? ""}`)
      assert.notStrictEqual(Environment.fingerprint(), before, name)
    }
  })
})
