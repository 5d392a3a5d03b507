/** The pooler that many deployments have in front of PostgreSQL, in transaction mode, where it is installed. */
import { execFileSync, spawn } from "node:child_process"
import { existsSync } from "node:fs"
import * as Fs from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Effect, Redacted, type Scope } from "effect"
import { freePort } from "./Ports.js"

/** Its program, if it is there. */
export const program = ["/usr/sbin/pgbouncer", "/usr/local/bin/pgbouncer", "/opt/homebrew/bin/pgbouncer"].find((path) =>
  existsSync(path)
)

/** The address of the same database through a pooler of its own, which ends with the scope. */
export const through = (
  url: Redacted.Redacted,
  poolMode = "transaction"
): Effect.Effect<Redacted.Redacted, never, Scope.Scope> =>
  Effect.gen(function* () {
    const target = new URL(Redacted.value(url))
    const home = yield* Effect.acquireRelease(
      Effect.promise(() => Fs.mkdtemp(join(tmpdir(), "cal-tokens-pgbouncer-"))),
      (path) => Effect.promise(() => Fs.rm(path, { recursive: true, force: true }))
    )
    const port = yield* Effect.promise(freePort)
    const password = target.password === "" ? "" : ` password=${decodeURIComponent(target.password)}`
    const settings = [
      "[databases]",
      `* = host=${target.hostname} port=${target.port} user=${decodeURIComponent(target.username)}${password}`,
      "[pgbouncer]",
      "listen_addr = 127.0.0.1",
      `listen_port = ${port}`,
      "unix_socket_dir =",
      "auth_type = any",
      `pool_mode = ${poolMode}`
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
    return Redacted.make(own.href)
  })

/** Starts it and answers how to stop it. */
const start = (file: string) =>
  new Promise<() => Promise<void>>((resolve, reject) => {
    // It does not run as root.
    const user = process.getuid?.() === 0 ? { uid: Number(execFileSync("id", ["-u", "nobody"])) } : {}
    const child = spawn(program ?? "pgbouncer", [file], { ...user, stdio: ["ignore", "ignore", "pipe"] })
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
