import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Chunk, Effect, type Scope, Stream } from "effect"
import * as Files from "../../../src/Cli/Import/Files.js"
import { type Columns, type Raw, start } from "../../../src/Cli/Import/Source.js"
import type { StartError } from "../../../src/Environment.js"

const columns: Columns = {
  user: "id",
  calUser: "cal",
  accessToken: "access",
  refreshToken: "refresh",
  expiry: "expiry",
  refreshExpiry: undefined
}

const written = (text: string): Effect.Effect<string, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "cal-tokens-"))),
      (directory) => Effect.sync(() => Fs.rmSync(directory, { recursive: true }))
    ),
    (directory) => {
      const path = Path.join(directory, "export")
      Fs.writeFileSync(path, text)
      return path
    }
  )

type Read = typeof Files.csv

const rowsOf = (read: Read, text: string, after = start) =>
  Effect.gen(function* () {
    const source = yield* read(yield* written(text), columns)
    return Chunk.toReadonlyArray(yield* Stream.runCollect(source.rows(after)))
  }).pipe(Effect.scoped)

/** Of a row its line, user and access token. */
const brief = (rows: ReadonlyArray<Raw>) =>
  rows.map((raw) =>
    raw._tag === "Row" ? [raw.place, raw.fields.user, raw.fields.accessToken] : [raw.place, raw.problem]
  )

const refusalOf = <A>(effect: Effect.Effect<A, StartError>) => Effect.map(Effect.flip(effect), ({ message }) => message)

const line = (n: number) => `u${n},${n},a${n},r${n},1\n`
const head = "id,cal,access,refresh,expiry\n"

describe("CSV", () => {
  it.effect("is read by the names of its first line, in any order and with others between them", () =>
    Effect.gen(function* () {
      const text = '\ufeffaccess, other ,id,cal,refresh,expiry\r\na1,"x, ""y""\nz",u1,1,r1,9\r\n\r\n"a2",,u2,2,r2,9'
      assert.deepStrictEqual(brief(yield* rowsOf(Files.csv, text)), [
        [3, "u1", "a1"],
        [5, "u2", "a2"]
      ])
    })
  )

  it.effect("has rows that are rejected by themselves", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(brief(yield* rowsOf(Files.csv, `${head}${line(1)}u2,2,SECRET\n${line(3)}`)), [
        [2, "u1", "a1"],
        [3, "has 3 columns, where the first line has 5"],
        [4, "u3", "a3"]
      ])
    })
  )

  it.effect.each([
    ["", /^The first line of \S+ names no column id: --column-user says what it is called there$/],
    ["u1,1,SECRET,r1,9\n", /^The first line of \S+ names no column id: /],
    ["id,cal,token,refresh,expiry\n", / names no column access: --column-access-token says /],
    ["id,id,cal,access,refresh,expiry\n", / names a column twice$/],
    [
      `${head}u1,1,"SECRET,r1,9\n${line(2)}`,
      / is no CSV \(a row that does not end in line \d+: is a quote missing\?\)$/
    ]
  ] as const)("that makes no sense is told without what is in it: %j", ([text, message]) =>
    Effect.gen(function* () {
      const told = yield* refusalOf(rowsOf(Files.csv, text))
      assert.match(told, message)
      assert.notInclude(told, "SECRET")
    })
  )
})

describe("JSON lines", () => {
  it.effect("are objects, and what is none is rejected by itself", () =>
    Effect.gen(function* () {
      const text = `{"id":"ü1","access":"a1"}\r\n\nSECRET\n[1]\n{"id":2}`
      assert.deepStrictEqual(brief(yield* rowsOf(Files.jsonLines, text)), [
        [1, "ü1", "a1"],
        [3, "is no JSON object"],
        [4, "is no JSON object"],
        [5, 2, undefined]
      ])
    })
  )

  it.effect("of any length are no rows", () =>
    Effect.gen(function* () {
      assert.match(
        yield* refusalOf(rowsOf(Files.jsonLines, `{}\n${"x".repeat(300_000)}`)),
        /^Line 2 of \S+ is longer than any row is: are these JSON lines\?$/
      )
    })
  )
})

describe("a file", () => {
  const text = Array.from({ length: 1200 }, (_, n) => line(n + 2)).join("")

  it.effect("is gone on with after a line", () =>
    Effect.gen(function* () {
      const rest = yield* rowsOf(Files.csv, head + text, { place: 1199, user: "u9" })
      assert.deepStrictEqual(brief(rest).slice(0, 1), [[1200, "u1200", "a1200"]])
      assert.lengthOf(rest, 2)
    })
  )

  it.effect("is begun behind a user, or not at all", () =>
    Effect.gen(function* () {
      const rest = yield* rowsOf(Files.csv, head + text, { place: 0, user: "u700" })
      assert.deepStrictEqual(brief(rest).slice(0, 1), [[701, "u701", "a701"]])
      assert.match(
        yield* refusalOf(rowsOf(Files.csv, head + text, { place: 0, user: "SECRET" })),
        /^No row of \S+ has in its column id what --after says$/
      )
    })
  )

  it.effect("that is not there is told with its path", () =>
    Effect.gen(function* () {
      assert.strictEqual(
        yield* refusalOf(Files.csv("/nowhere/at/all", columns)),
        "/nowhere/at/all cannot be read (ENOENT)"
      )
      assert.strictEqual(yield* refusalOf(Files.csv("/", columns)), "/ is a directory")
    })
  )
})
