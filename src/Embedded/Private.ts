/**
 * Keeps what is in a data directory from other users of the machine, as ssh does with its keys: what is ours is made
 * private, and what somebody else could have put there is refused. A `string` that fails is why, for one line.
 */
import { constants } from "node:fs"
import * as Fs from "node:fs/promises"
import { join } from "node:path"
import { Effect } from "effect"

/** What this program keeps in a data directory, and what a file system of its own brings along. */
const known = /^(\.gitignore|encryption-keys|postgres|sandbox|cal\.com\.json|cal-tokens\.lock|lost\+found)(\.|$)/

const sticky = 0o1000
const others = 0o077

/** Makes a directory, or an existing one private; `isOurs` tells from a name in it whether this program made that. */
export const directory = (path: string, isOurs = (name: string) => known.test(name)): Effect.Effect<void, string> =>
  attempt(async () => {
    await Fs.mkdir(path, { recursive: true, mode: 0o700 })
    const { mode } = await owned(path, "directory")
    if ((mode & others) === 0) return
    // Closing a directory that belongs to more than this program would break what else is in there.
    const foreign = (await Fs.readdir(path)).find((name) => !isOurs(name))
    if ((mode & sticky) !== 0 || foreign !== undefined) {
      throw new Refused(
        `${path} is open to other users (mode ${modeText(mode)}) and not for this program alone; ` +
          "choose a directory of its own, or close that one with chmod 700"
      )
    }
    await Fs.chmod(path, 0o700)
  })

/** Keeps a directory out of Git's reach; who has written another `.gitignore` there meant it. */
export const ignore = (path: string): Effect.Effect<void, string> =>
  attempt(() =>
    Fs.writeFile(join(path, ".gitignore"), "*\n", { mode: 0o600, flag: "wx" }).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "EEXIST") throw error
    })
  )

/** The text of a file that only its owner reads. */
export const read = (path: string): Effect.Effect<string, string> =>
  attempt(async () => {
    await owned(path, "file")
    // It may have become a link since.
    const file = await Fs.open(path, constants.O_RDONLY | constants.O_NOFOLLOW)
    try {
      if (((await file.stat()).mode & others) !== 0) await file.chmod(0o600)
      return await file.readFile("utf8")
    } finally {
      await file.close()
    }
  })

/** Makes everything below a directory private. The embedded database opens its files to everybody (0666). */
export const below = (path: string): Effect.Effect<void, string> => attempt(() => close(path))

const close = async (directory: string): Promise<void> => {
  for (const entry of await Fs.readdir(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name)
    // Temporary files of the database come and go.
    const found = await owned(path, entry.isDirectory() ? "directory" : "file").catch(unlessGone)
    if (found === undefined) continue
    if ((found.mode & others) !== 0) await Fs.chmod(path, found.mode & 0o700).catch(unlessGone)
    if (entry.isDirectory()) await close(path)
  }
}

/** Looks at something without following links; it must be of its kind and belong to the user of this process. */
const owned = async (path: string, kind: "directory" | "file") => {
  const found = await Fs.lstat(path)
  if (found.isSymbolicLink()) throw new Refused(`${path} is a link; name what it leads to, or replace it by that`)
  if (kind === "directory" ? !found.isDirectory() : !found.isFile()) throw new Refused(`${path} is no ${kind}`)
  const user = process.getuid?.()
  if (user !== undefined && found.uid !== user) {
    throw new Refused(`${path} belongs to another user (uid ${found.uid}, and this process is uid ${user})`)
  }
  return found
}

class Refused extends Error {}

const unlessGone = (error: NodeJS.ErrnoException): undefined => {
  if (error.code !== "ENOENT") throw error
}

const modeText = (mode: number) => (mode & 0o7777).toString(8)

const attempt = <A>(f: () => Promise<A>): Effect.Effect<A, string> =>
  Effect.tryPromise({
    try: f,
    catch: (error) => (error instanceof Error ? (error.message.split("\n")[0] ?? "") : "unknown reason")
  })
