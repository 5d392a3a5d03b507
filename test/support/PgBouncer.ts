/** The pooler that many deployments have in front of PostgreSQL, in transaction mode, where it is installed. */
import { spawn } from "node:child_process"
import { existsSync } from "node:fs"
import * as Fs from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Effect, Redacted, type Scope } from "effect"
import { freePort } from "./Ports.js"
import { unprivileged } from "./Unprivileged.js"

const program = [
  "/usr/sbin/pgbouncer",
  "/usr/bin/pgbouncer",
  "/usr/local/bin/pgbouncer",
  "/opt/homebrew/bin/pgbouncer"
].find((path) => existsSync(path))

/** Whether there is one on this machine. */
export const isInstalled = program !== undefined

/** The address of the same database through a pooler of its own, which ends with the scope. */
export const through = (url: Redacted.Redacted): Effect.Effect<Redacted.Redacted, never, Scope.Scope> =>
  Effect.gen(function* () {
    const target = new URL(Redacted.value(url))
    const home = yield* Effect.acquireRelease(
      Effect.promise(() => Fs.mkdtemp(join(tmpdir(), "cal-tokens-pgbouncer-"))),
      (path) => Effect.promise(() => Fs.rm(path, { recursive: true, force: true }))
    )
    const port = yield* Effect.promise(freePort)
    const value = (text: string) => `'${decodeURIComponent(text).replaceAll("'", "''")}'`
    const login = [
      `host=${target.hostname}`,
      `port=${target.port === "" ? 5432 : target.port}`,
      `user=${value(target.username)}`,
      ...(target.password === "" ? [] : [`password=${value(target.password)}`])
    ]
    const settings = [
      "[databases]",
      `* = ${login.join(" ")}`,
      "[pgbouncer]",
      "listen_addr = 127.0.0.1",
      `listen_port = ${port}`,
      "unix_socket_dir =",
      "auth_type = any",
      "pool_mode = transaction",
      "max_client_conn = 500",
      // It does not ask again for 15 s after a failed login by default, which is no news about the service.
      "server_login_retry = 1",
      ""
    ]
    const file = join(home, "pgbouncer.ini")
    yield* Effect.promise(() => Fs.writeFile(file, settings.join("\n")))
    // It reads them as another user, whatever the umask.
    yield* Effect.promise(() => Fs.chmod(file, 0o644))
    yield* Effect.promise(() => Fs.chmod(home, 0o755))
    yield* Effect.acquireRelease(
      Effect.promise(() => start(file)),
      (stop) => Effect.promise(stop)
    )
    const own = new URL(target)
    own.hostname = "127.0.0.1"
    own.port = String(port)
    own.password = ""
    return Redacted.make(own.href)
  })

/** Starts it and answers how to stop it. */
const start = (file: string) =>
  new Promise<() => Promise<void>>((resolve, reject) => {
    const child = spawn(program ?? "pgbouncer", [file], { ...unprivileged(), stdio: ["ignore", "ignore", "pipe"] })
    const ended = new Promise<void>((done) => child.once("exit", () => done()))
    let log = ""
    child.once("error", reject)
    child.once("exit", () => reject(new Error(`PgBouncer ended: ${log}`)))
    child.stderr.on("data", (chunk: Buffer) => {
      log = (log + chunk.toString()).slice(-4000)
      if (!log.includes("process up")) return
      resolve(() => {
        child.kill("SIGQUIT")
        return ended
      })
    })
  })
