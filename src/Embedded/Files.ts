/**
 * The files of a new database. They are made in a process that ends: what PGlite takes for it, 700 MB, stays with the
 * process that did it, because the memory of WebAssembly never shrinks. They come to their place whole, in one step.
 */
import { execFile } from "node:child_process"
import { randomBytes } from "node:crypto"
import * as Fs from "node:fs/promises"
import { createRequire } from "node:module"
import { basename, dirname, join } from "node:path"
import { Effect } from "effect"

/** Of which PGlite makes a database, or opens one. */
export interface Options {
  readonly dataDir: string
  readonly startParams: Array<string>
}

/**
 * Makes the database in `directory`, an empty one, unless there is one. For who has the lock. A `string` that fails is
 * why, for one line. `here` makes one in this process.
 */
export const make = (
  directory: string,
  startParams: Array<string>,
  here: (options: Options) => Effect.Effect<void, string>
): Effect.Effect<void, string> =>
  Effect.gen(function* () {
    yield* sweep(directory)
    const held = yield* attempt(() => Fs.readdir(directory))
    if (held.includes("PG_VERSION")) return
    if (held.length > 0) return yield* Effect.fail(`${directory} holds ${held[0]} and no database; move that away`)
    const draft = `${directory}.${randomBytes(8).toString("hex")}`
    yield* Effect.acquireUseRelease(
      attempt(() => Fs.mkdir(draft, { mode: 0o700 })),
      () => {
        const options = { dataDir: join(draft, "files"), startParams }
        return elsewhere(options).pipe(
          // A package that is in no place of its own, or a process that may start no others.
          Effect.catchAll(() =>
            Effect.zipRight(
              attempt(() => remove(options.dataDir)),
              here(options)
            )
          ),
          Effect.zipRight(
            attempt(async () => {
              await Fs.rmdir(directory)
              await Fs.chmod(options.dataDir, 0o700)
              await Fs.rename(options.dataDir, directory)
            })
          )
        )
      },
      () => Effect.ignore(attempt(() => remove(draft)))
    )
  })

/** Removes what starts that were killed have left. One of their children may still be at it: then the next start does. */
const sweep = (directory: string): Effect.Effect<void> =>
  attempt(async () => {
    const parent = dirname(directory)
    const isDraft = (name: string) => name.startsWith(`${basename(directory)}.`) && /\.[0-9a-f]{16}$/.test(name)
    const drafts = (await Fs.readdir(parent)).filter(isDraft)
    await Promise.all(drafts.map((name) => remove(join(parent, name))))
  }).pipe(Effect.ignore)

/** In milliseconds; it takes two seconds. Then it is made here. */
const patience = 60_000

/** Ends the process when it is interrupted. */
const elsewhere = (options: Options): Effect.Effect<void, unknown> =>
  Effect.async((resume) => {
    try {
      // Where the program of today has it from, bundled or not.
      const pglite = createRequire(import.meta.url).resolve("@electric-sql/pglite")
      const child = execFile(
        process.execPath,
        [...flags, "--eval", program, pglite, JSON.stringify(options)],
        // What this process was told to do for whoever debugs it is not for that one.
        { timeout: patience, killSignal: "SIGKILL", env: { ...process.env, NODE_OPTIONS: "" } },
        (error) => resume(error === null ? Effect.void : Effect.fail(error))
      )
      return Effect.async((ended) => {
        child.once("close", () => ended(Effect.void))
        child.kill("SIGKILL")
      })
    } catch (error) {
      resume(Effect.fail(error))
    }
  })

/** Better code would come too late: it is compiled while that of the baseline compiler has long begun to run. */
const flags = ["--liftoff-only", "--input-type=commonjs"]

/** What Ctrl-C does is for the parent to say: a terminal sends it to both. */
const program = `
  const [, pglite, options] = process.argv
  process.on("SIGINT", () => {}).on("SIGTERM", () => {})
  require(pglite).PGlite.create(JSON.parse(options))
    .then(async (db) => {
      await db.exec("checkpoint")
      await db.close()
      process.exit()
    })
`

const remove = (path: string): Promise<void> => Fs.rm(path, { recursive: true, force: true })

const attempt = <A>(f: () => Promise<A>): Effect.Effect<A, string> =>
  Effect.tryPromise({
    try: f,
    catch: (error) => (error instanceof Error ? (error.message.split("\n")[0] ?? "") : "unknown reason")
  })
