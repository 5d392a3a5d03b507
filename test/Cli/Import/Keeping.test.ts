import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Option } from "effect"
import { zero } from "../../../src/Cli/Import/Counts.js"
import * as Keeping from "../../../src/Cli/Import/Keeping.js"

const directory = Effect.acquireRelease(
  Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "cal-tokens-"))),
  (path) => Effect.sync(() => Fs.rmSync(path, { recursive: true }))
)

const rejected = (place: number) => ({ place, user: undefined, reason: "is wrong" })

const state = { position: { place: 500, user: "u500" }, done: 4000, counts: { ...zero, imported: 499, rejected: 1 } }

/** A run that was killed after it had rejected more than it had noted. */
const killed = Effect.gen(function* () {
  const path = Path.join(yield* directory, "rejected.jsonl")
  const make = (run: ReadonlyArray<unknown> | undefined, isAnew = false) =>
    Keeping.make(path, { run, isAnew, unit: "line" })
  const keeping = yield* make(["from", "to"])
  assert.isTrue(Option.isNone(keeping.stopped))
  yield* keeping.reject([rejected(3)])
  yield* keeping.save(state)
  yield* keeping.reject([rejected(501)])
  const lines = () => (Fs.existsSync(path) ? Fs.readFileSync(path, "utf8") : undefined)
  return { lines, make, path }
})

describe("what an import leaves", () => {
  it.scoped("lets the same one go on, and no row is told of twice", () =>
    Effect.gen(function* () {
      const { lines, make, path } = yield* killed
      const next = yield* make(["from", "to"])
      assert.deepStrictEqual(next.stopped, Option.some(state))
      assert.strictEqual(lines(), `{"line":3,"reason":"is wrong"}\n`)
      yield* next.reject([rejected(501)])
      assert.strictEqual(lines(), `{"line":3,"reason":"is wrong"}\n{"line":501,"reason":"is wrong"}\n`)
      yield* next.finish
      assert.deepStrictEqual(Fs.readdirSync(Path.dirname(path)), ["rejected.jsonl"])
    })
  )

  it.scoped.each([
    [["from", "elsewhere"], false],
    [["from", "to"], true],
    [undefined, false]
  ] as const)("is nothing to another one: %j, anew: %s", ([run, isAnew]) =>
    Effect.gen(function* () {
      const { lines, make } = yield* killed
      const next = yield* make(run, isAnew)
      assert.isTrue(Option.isNone(next.stopped))
      assert.strictEqual(lines(), undefined)
    })
  )

  it.scoped("need not be readable", () =>
    Effect.gen(function* () {
      const { make, path } = yield* killed
      Fs.truncateSync(`${path}.state`, 30)
      assert.isTrue(Option.isNone((yield* make(["from", "to"])).stopped))
    })
  )
})
