/** PgBouncer in transaction mode before a PostgreSQL: a process of its own with its files in a temporary directory. */
import { execFileSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { Effect, Redacted } from "effect"
import { freePort } from "../support/Ports.js"
import * as Process from "./Process.js"

const binary = [
  "/usr/sbin/pgbouncer",
  "/usr/bin/pgbouncer",
  "/usr/local/bin/pgbouncer",
  "/opt/homebrew/bin/pgbouncer"
].find((path) => Fs.existsSync(path))

/** Whether there is a PgBouncer on this machine. */
export const isInstalled = binary !== undefined

/** The same database behind a pooler. */
export const make = (database: Redacted.Redacted) =>
  Effect.gen(function* () {
    const directory = yield* Effect.acquireRelease(
      Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "cal-tokens-pgbouncer-"))),
      (directory) => Effect.sync(() => Fs.rmSync(directory, { recursive: true, force: true }))
    )
    const port = yield* Effect.promise(freePort)
    const file = Path.join(directory, "pgbouncer.ini")
    const user = unprivileged()
    yield* Effect.sync(() => {
      Fs.writeFileSync(file, settings(new URL(Redacted.value(database)), port))
      // It reads them as another user, whatever the umask.
      Fs.chmodSync(file, 0o644)
      Fs.chmodSync(directory, 0o755)
    })
    const bouncer = yield* Process.make(binary ?? "pgbouncer", [file], { ...user, cwd: directory })
    yield* bouncer.until(/process up/)
    const url = new URL(Redacted.value(database))
    url.hostname = "127.0.0.1"
    url.port = String(port)
    url.password = ""
    return Redacted.make(url.href)
  })

const settings = (database: URL, port: number): string => {
  const { hostname, password, username } = database
  const login = [
    `host=${hostname}`,
    `port=${database.port === "" ? 5432 : database.port}`,
    `user=${decodeURIComponent(username)}`,
    ...(password === "" ? [] : [`password='${decodeURIComponent(password).replaceAll("'", "''")}'`])
  ]
  return [
    "[databases]",
    `* = ${login.join(" ")}`,
    "[pgbouncer]",
    "listen_addr = 127.0.0.1",
    `listen_port = ${port}`,
    "unix_socket_dir =",
    "auth_type = any",
    "pool_mode = transaction",
    "default_pool_size = 20",
    "max_client_conn = 500",
    // It does not ask again for 15 s after a failed login by default, which is no news about the service.
    "server_login_retry = 1",
    ""
  ].join("\n")
}

/** PgBouncer refuses to run as root: any other user will do. */
const unprivileged = (): { readonly uid?: number; readonly gid?: number } => {
  if (process.getuid?.() !== 0) return {}
  const id = (flag: string) => Number.parseInt(execFileSync("id", [flag, "nobody"], { encoding: "utf8" }), 10)
  return { uid: id("-u"), gid: id("-g") }
}
