import * as Fs from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Context, Effect, Layer, Option, Redacted } from "effect"
import { Database } from "../../src/Environment.js"
import * as Services from "../../src/Environment/Services.js"
import { KeyRing } from "../../src/KeyRing.js"
import { recorder } from "../support/ActionsFakes.js"
import { keyOf } from "../support/Keys.js"

const makeDirectory = Effect.acquireRelease(
  Effect.promise(() => Fs.mkdtemp(join(tmpdir(), "cal-tokens-services-"))),
  (path) => Effect.promise(() => Fs.rm(path, { recursive: true, force: true }))
)

/** The ids of an embedded database's keys, and whether some were made beside its data. */
const keysOf = (encryptionKeys: Option.Option<Redacted.Redacted>) =>
  Effect.gen(function* () {
    const directory = yield* makeDirectory
    const layer = Services.layerCal(Database.Embedded({ directory, encryptionKeys }), {
      apiUrl: "https://cal.invalid/v2"
    })
    const { ids } = Context.get(yield* Layer.build(layer), KeyRing)
    const made = (yield* Effect.promise(() => Fs.readdir(directory))).includes("encryption-keys")
    return { ids, made }
  }).pipe(
    Effect.scoped,
    // Settings alone say which keys: what stands in the environment has been looked at.
    Effect.withConfigProvider(
      ConfigProvider.fromMap(new Map([["CAL_TOKENS_ENCRYPTION_KEYS", keyOf("environment", 3)]]))
    )
  )

describe("an embedded database", () => {
  it.live("has the keys that it is given, and makes its own where there are none", () =>
    Effect.gen(function* () {
      const given = yield* keysOf(Option.some(Redacted.make(keyOf("given", 7))))
      assert.deepStrictEqual(given, { ids: ["given"], made: false })
      const own = yield* keysOf(Option.none())
      assert.match(own.ids.join(), /^k[0-9a-f]{8}$/)
      assert.isTrue(own.made)
    })
  )

  it.live.each([
    ["production", 1],
    ["development", 0]
  ] as const)("in %s is warned of %i times", ([stage, times]) =>
    Effect.gen(function* () {
      const log = recorder()
      const database = Database.Embedded({ directory: yield* makeDirectory, encryptionKeys: Option.none() })
      yield* Layer.build(Layer.provide(Services.layerCal(database, { apiUrl: "https://cal.invalid/v2" }), log.layer))
      const warned = log.lines.filter(({ level }) => level === "WARN").map(({ message }) => message)
      assert.strictEqual(warned.length, times, warned.join("\n"))
      for (const line of warned) {
        assert.match(line, /^NODE_ENV=production with the embedded database, .* Set DATABASE_URL$/)
      }
    }).pipe(Effect.scoped, Effect.withConfigProvider(ConfigProvider.fromMap(new Map([["NODE_ENV", stage]]))))
  )
})
