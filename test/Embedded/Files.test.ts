import * as Fs from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { PGlite } from "@electric-sql/pglite"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import * as Files from "../../src/Embedded/Files.js"

const makeDirectory = Effect.acquireRelease(
  Effect.promise(async () => {
    const parent = await Fs.mkdtemp(join(tmpdir(), "cal-tokens-files-"))
    await Fs.mkdir(join(parent, "postgres"))
    return parent
  }),
  (path) => Effect.promise(() => Fs.rm(path, { recursive: true, force: true }))
)
const list = (...path: ReadonlyArray<string>) => Effect.promise(() => Fs.readdir(join(...path)))

const make = (parent: string, here: Parameters<typeof Files.make>[2] = () => Effect.dieMessage("made here")) =>
  Files.make(join(parent, "postgres"), PGlite.defaultStartParams, here)

/** What is in the directory that is made before the database comes to its place, as soon as that begins. */
const untilBegun = (parent: string): Effect.Effect<string> =>
  Effect.promise(async () => {
    const isBegun = async () => {
      const [draft] = (await Fs.readdir(parent)).filter((name) => name !== "postgres")
      if (draft === undefined) return undefined
      const files = await Fs.readdir(join(parent, draft, "files")).catch((): Array<string> => [])
      return files.includes("PG_VERSION") ? draft : undefined
    }
    let draft = await isBegun()
    while (draft === undefined) draft = await isBegun()
    return draft
  })

describe("the files of a new database", () => {
  it.scopedLive("are made by another process, for their owner only, and once", () =>
    Effect.gen(function* () {
      const parent = yield* makeDirectory
      yield* make(parent)
      assert.deepStrictEqual(yield* list(parent), ["postgres"])
      assert.include(yield* list(parent, "postgres"), "PG_VERSION")
      const { ino, mode } = yield* Effect.promise(() => Fs.stat(join(parent, "postgres")))
      assert.strictEqual(mode & 0o777, 0o700)
      yield* make(parent)
      assert.strictEqual((yield* Effect.promise(() => Fs.stat(join(parent, "postgres")))).ino, ino)
      const answer = yield* Effect.promise(async () => {
        const db = await PGlite.create(join(parent, "postgres"))
        const { rows } = await db.query("select 1 as one")
        await db.close()
        return rows
      })
      assert.deepStrictEqual(answer, [{ one: 1 }])
    })
  )

  it.scopedLive("are not in their place before they are whole, and nowhere when whoever asks gives up", () =>
    Effect.gen(function* () {
      const parent = yield* makeDirectory
      const making = yield* Effect.fork(make(parent))
      yield* untilBegun(parent)
      assert.deepStrictEqual(yield* list(parent, "postgres"), [])
      yield* Fiber.interrupt(making)
      assert.deepStrictEqual(yield* list(parent), ["postgres"])
      assert.deepStrictEqual(yield* list(parent, "postgres"), [])
    })
  )

  it.scopedLive("are made again after a start that was killed, and what that left is removed", () =>
    Effect.gen(function* () {
      const parent = yield* makeDirectory
      const [half, theirs] = ["postgres.0123456789abcdef", "postgres.backup"]
      yield* Effect.promise(async () => {
        for (const name of [half, theirs]) {
          await Fs.mkdir(join(parent, name, "files"), { recursive: true })
          await Fs.writeFile(join(parent, name, "files", "PG_VERSION"), "18\n")
        }
      })
      yield* make(parent)
      assert.deepStrictEqual((yield* list(parent)).sort(), ["postgres", theirs])
    })
  )

  it.scopedLive("are made here where no other process can be", () =>
    Effect.gen(function* () {
      const parent = yield* makeDirectory
      const { execPath } = process
      yield* Effect.acquireRelease(
        Effect.sync(() => void (process.execPath = join(parent, "no such program"))),
        () => Effect.sync(() => void (process.execPath = execPath))
      )
      yield* make(parent, ({ dataDir, startParams }) =>
        Effect.promise(async () => {
          assert.strictEqual(startParams, PGlite.defaultStartParams)
          await Fs.mkdir(dataDir)
          await Fs.writeFile(join(dataDir, "PG_VERSION"), "18\n")
        })
      )
      assert.deepStrictEqual(yield* list(parent), ["postgres"])
      assert.deepStrictEqual(yield* list(parent, "postgres"), ["PG_VERSION"])
      // One that fails leaves nothing, either.
      yield* Effect.promise(() => Fs.rm(join(parent, "postgres", "PG_VERSION")))
      assert.strictEqual(yield* Effect.flip(make(parent, () => Effect.fail("full"))), "full")
      assert.deepStrictEqual(yield* list(parent), ["postgres"])
    })
  )

  it.scopedLive("do not take the place of other files", () =>
    Effect.gen(function* () {
      const parent = yield* makeDirectory
      yield* Effect.promise(() => Fs.writeFile(join(parent, "postgres", "notes"), ""))
      assert.match(yield* Effect.flip(make(parent)), /postgres holds notes and no database; move that away$/)
      assert.deepStrictEqual(yield* list(parent, "postgres"), ["notes"])
    })
  )
})
