import { execFileSync } from "node:child_process"
import * as Fs from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { SqlClient } from "@effect/sql"
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Exit, Fiber, Layer, Option, Redacted, Scope } from "effect"
import { afterAll, beforeAll } from "vitest"
import * as Embedded from "../../src/Embedded.js"
import { KeyRing } from "../../src/KeyRing.js"
import * as Postgres from "../../src/TokenStorage/Postgres.js"
import { TokenStorage } from "../../src/TokenStorage.js"
import { keyOf } from "../support/Keys.js"
import * as Fixture from "../support/StorageFixture.js"

const makeDirectory = Effect.acquireRelease(
  Effect.promise(() => Fs.mkdtemp(join(tmpdir(), "cal-tokens-embedded-"))),
  (path) => Effect.promise(() => Fs.rm(path, { recursive: true, force: true }))
)
const modeOf = (path: string) => Effect.promise(async () => (await Fs.stat(path)).mode & 0o777)

/** What is in a directory and other users could read or write, but for the directory above it. */
const open = (directory: string) =>
  Effect.promise(async () => {
    const paths = await Fs.readdir(directory, { recursive: true })
    const modes = await Promise.all(
      paths.map(async (path) => [path, (await Fs.lstat(join(directory, path))).mode] as const)
    )
    // The running database makes some of its files anew.
    return modes.filter(([path, mode]) => (mode & 0o077) !== 0 && !/^postgres.pg_(wal|logical|stat)/.test(path))
  })

describe("a directory", () => {
  it.scopedLive("is not seen by Git, unless its owner wrote another .gitignore", () =>
    Effect.gen(function* () {
      const root = yield* makeDirectory
      const git = (...args: ReadonlyArray<string>) => execFileSync("git", args, { cwd: root, encoding: "utf8" })
      git("init", "--quiet")
      const directory = join(root, ".data")
      const make = Effect.scoped(Layer.build(Embedded.layerKeys(directory)))
      yield* make
      assert.isTrue((yield* Effect.promise(() => Fs.readdir(directory))).includes("encryption-keys"))
      assert.strictEqual(git("status", "--porcelain"), "")
      yield* Effect.promise(() => Fs.writeFile(join(directory, ".gitignore"), "postgres\n"))
      yield* make
      assert.strictEqual(git("status", "--porcelain"), "?? .data/\n")
    })
  )

  it.scopedLive(
    "keeps everything from one start to the next, for its owner only, and one process at a time",
    () =>
      Effect.gen(function* () {
        const directory = join(yield* makeDirectory, "data", "here")
        const { calUserId, userUlid } = Fixture.newUser()
        const started = <A, E>(use: Effect.Effect<A, E, TokenStorage>) =>
          Effect.provide(
            use,
            Postgres.layer().pipe(
              Layer.provide(Embedded.layer({ directory })),
              Layer.provide(Embedded.layerKeys(directory))
            )
          )
        yield* started(
          Effect.gen(function* () {
            const storage = yield* TokenStorage
            yield* storage.connect({ userUlid, connection: Fixture.managed(calUserId), pair: Fixture.pair("kept") })
            assert.strictEqual(yield* modeOf(directory), 0o700)
            assert.deepStrictEqual(yield* open(directory), [])
            const second = yield* Effect.flip(Effect.scoped(Layer.build(Embedded.layer({ directory }))))
            assert.strictEqual(second._tag, "EmbeddedError")
            assert.include(second.message, directory)
            assert.include(second.message, `process ${process.pid} `)
            assert.notInclude(second.message, "\n")
          })
        )
        assert.deepStrictEqual((yield* Effect.promise(() => Fs.readdir(directory))).sort(), [
          ".gitignore",
          "encryption-keys",
          "postgres"
        ])
        assert.strictEqual(yield* modeOf(join(directory, "encryption-keys")), 0o600)
        // As a copy, or an unpacked archive, may have left them.
        yield* Effect.promise(async () => {
          for (const path of ["", "encryption-keys", "postgres", "postgres/PG_VERSION", "postgres/base"]) {
            await Fs.chmod(join(directory, path), path.includes("_") ? 0o666 : 0o755)
          }
        })
        yield* started(
          Effect.gen(function* () {
            assert.strictEqual(yield* modeOf(directory), 0o700)
            assert.deepStrictEqual(yield* open(directory), [])
            const row = yield* (yield* TokenStorage).find(userUlid)
            assert.deepStrictEqual(Option.getOrThrow(Option.map(row, Fixture.names)), ["kept"])
          })
        )
      }),
    300_000
  )

  it.scopedLive(
    "with damaged files fails in one line and is left unlocked",
    () =>
      Effect.gen(function* () {
        const directory = yield* makeDirectory
        yield* Effect.promise(async () => {
          await Fs.mkdir(join(directory, "postgres"))
          await Fs.writeFile(join(directory, "postgres", "PG_VERSION"), "9\n")
        })
        const error = yield* Effect.flip(Effect.scoped(Layer.build(Embedded.layer({ directory }))))
        assert.strictEqual(error._tag, "EmbeddedError")
        assert.include(error.message, directory)
        assert.notInclude(error.message, "\n")
        assert.deepStrictEqual(yield* Effect.promise(() => Fs.readdir(directory)), [".gitignore", "postgres"])
      }),
    300_000
  )

  it.scopedLive("that others could have touched is refused in one line, and so is what is in it", () =>
    Effect.gen(function* () {
      const root = yield* makeDirectory
      const kept = join(root, "elsewhere")
      yield* Effect.promise(async () => {
        const make = async (name: string, mode = 0o700) => {
          await Fs.mkdir(join(root, name))
          await Fs.chmod(join(root, name), mode)
        }
        await make("elsewhere")
        await Fs.writeFile(join(kept, "keys"), keyOf("theirs", 7))
        await Fs.symlink(kept, join(root, "link"))
        await make("shared", 0o755)
        await Fs.writeFile(join(root, "shared", "somebody's"), "")
        await make("sticky", 0o1777)
        await make("linked key")
        await Fs.symlink(join(kept, "keys"), join(root, "linked key", "encryption-keys"))
        await make("no key")
        await Fs.mkdir(join(root, "no key", "encryption-keys"))
        await make("linked files")
        await Fs.symlink(kept, join(root, "linked files", "postgres"))
      })
      const refusal = (name: string) =>
        Effect.map(
          Effect.flip(
            Effect.scoped(
              Layer.build(
                Layer.merge(Embedded.layerKeys(join(root, name)), Embedded.layer({ directory: join(root, name) }))
              )
            )
          ),
          ({ message }) => message
        )
      for (const [name, expected] of [
        ["link", /link is a link; name what it leads to[^\n]*$/],
        ["shared", /shared is open to other users \(mode 755\)[^\n]*chmod 700[^\n]*$/],
        ["sticky", /sticky is open to other users \(mode 1777\)[^\n]*$/],
        ["linked key", /encryption-keys is a link[^\n]*$/],
        ["no key", /encryption-keys is no file[^\n]*$/],
        ["linked files", /postgres is a link[^\n]*$/]
      ] as const) {
        assert.match(yield* refusal(name), expected)
      }
      // Nothing of anybody else was changed.
      assert.strictEqual(yield* modeOf(join(root, "shared")), 0o755)
      assert.deepStrictEqual(yield* Effect.promise(() => Fs.readdir(kept)), ["keys"])
    })
  )

  it.scopedLive.skipIf(process.getuid?.() !== 0)("of another user is refused, by root too", () =>
    Effect.gen(function* () {
      const directory = yield* makeDirectory
      yield* Effect.promise(() => Fs.chown(directory, 4711, 4711))
      const error = yield* Effect.flip(Effect.scoped(Layer.build(Embedded.layer({ directory }))))
      assert.match(error.message, /belongs to another user \(uid 4711, and this process is uid 0\)/)
    })
  )

  it.scopedLive("that cannot be made fails in one line", () =>
    Effect.gen(function* () {
      const file = join(yield* makeDirectory, "file")
      yield* Effect.promise(() => Fs.writeFile(file, ""))
      const error = yield* Effect.flip(Effect.scoped(Layer.build(Embedded.layer({ directory: join(file, "data") }))))
      assert.match(error.message, /ENOTDIR/)
    })
  )

  it.scopedLive("has one key, whoever asks first", () =>
    Effect.gen(function* () {
      const directory = yield* makeDirectory
      const keys = Effect.map(Layer.build(Embedded.layerKeys(directory)), Context.get(KeyRing))
      const [first, ...others] = yield* Effect.all([keys, keys, keys, keys], { concurrency: "unbounded" })
      const binding = { userUlid: Fixture.newUser().userUlid, purpose: "token-pair" } as const
      const envelope = yield* first.seal(binding, Redacted.make("text"))
      for (const other of others) {
        assert.strictEqual(Redacted.value(yield* other.open(binding, envelope)), "text")
      }
      assert.deepStrictEqual((yield* Effect.promise(() => Fs.readdir(directory))).sort(), [
        ".gitignore",
        "encryption-keys"
      ])
    })
  )
})

describe("the session", () => {
  const scope = Effect.runSync(Scope.make())
  let sql: SqlClient.SqlClient
  beforeAll(async () => {
    const layer = Embedded.layer({ inMemory: true })
    sql = Context.get(await Effect.runPromise(Layer.buildWithScope(layer, scope)), SqlClient.SqlClient)
    await Effect.runPromise(sql`create table counter (n int not null); insert into counter values (0)`)
  }, 300_000)
  afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))

  const count = Effect.map(
    Effect.suspend(() => sql<{ n: number }>`select n from counter`),
    ([row]) => row?.n
  )

  it.live("answers as the network driver does", () =>
    Effect.gen(function* () {
      const [row] = yield* sql`select 1::bigint as big, 2::int as small, 1.5::numeric as exact, 0.5::float8 as real,
        ${JSON.stringify({ a: 1 })}::jsonb as json, ${null}::text as nothing, ${true}::boolean as truth`
      assert.deepStrictEqual(row, {
        big: "1",
        small: 2,
        exact: "1.5",
        real: 0.5,
        json: { a: 1 },
        nothing: null,
        truth: true
      })
      assert.deepStrictEqual(yield* sql`select 1 as a; select 2 as b`.pipe(Effect.map((all) => [...all])), [
        [{ a: 1 }],
        [{ b: 2 }]
      ] as never)
      assert.deepStrictEqual(yield* sql`select 1 as a, 2 as a`.values, [[1, 2]])
      const error = yield* Effect.flip(sql`select * from ${sql("missing")} where a = ${"SENTINEL"}`)
      assert.strictEqual(error._tag, "SqlError")
      assert.notInclude(JSON.stringify(error.cause), "SENTINEL")
    })
  )

  it.live("keeps transactions apart", () =>
    Effect.gen(function* () {
      const increment = (during: Effect.Effect<unknown>) =>
        sql.withTransaction(
          Effect.gen(function* () {
            const before = (yield* count) ?? 0
            yield* during
            yield* sql`update counter set n = ${before + 1}`
          })
        )
      const inside = yield* Effect.makeLatch()
      yield* Effect.all(
        [
          increment(Effect.zipRight(inside.open, Effect.sleep("50 millis"))),
          Effect.zipRight(inside.await, sql`update counter set n = n + 1`),
          ...Array.from({ length: 18 }, () => increment(Effect.void))
        ],
        { concurrency: "unbounded" }
      )
      assert.strictEqual(yield* count, 20)
    })
  )

  it.live("rolls back what fails or is interrupted, and goes on", () =>
    Effect.gen(function* () {
      const before = yield* count
      yield* Effect.flip(sql.withTransaction(Effect.zipRight(sql`update counter set n = -1`, Effect.fail("no"))))
      const running = yield* Effect.fork(
        sql.withTransaction(Effect.zipRight(sql`update counter set n = -2`, Effect.never))
      )
      yield* Effect.sleep("50 millis")
      yield* Fiber.interrupt(running)
      yield* sql.withTransaction(
        Effect.ignore(sql.withTransaction(Effect.zipRight(sql`update counter set n = -3`, Effect.fail("inner"))))
      )
      assert.strictEqual(yield* count, before)
    })
  )
})
