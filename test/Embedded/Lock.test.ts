import { spawn } from "node:child_process"
import * as Fs from "node:fs/promises"
import { hostname, tmpdir } from "node:os"
import { join } from "node:path"
import { assert, it } from "@effect/vitest"
import { Array, Effect, Exit, Scope } from "effect"
import * as Lock from "../../src/Embedded/Lock.js"

const makeDirectory = Effect.acquireRelease(
  Effect.promise(() => Fs.mkdtemp(join(tmpdir(), "cal-tokens-lock-"))),
  (path) => Effect.promise(() => Fs.rm(path, { recursive: true, force: true }))
)

/** A process that does nothing, until the scope ends. */
const makeProcess = Effect.acquireRelease(
  Effect.sync(() => spawn(process.execPath, ["-e", "setInterval(() => {}, 1000)"])),
  (child) => end(child)
)
const end = (child: ReturnType<typeof spawn>) =>
  Effect.promise(
    () =>
      new Promise<void>((resolve) => {
        if (child.exitCode !== null || child.signalCode !== null) return resolve()
        child.once("exit", () => resolve())
        child.kill("SIGKILL")
      })
  )

const read = (path: string) =>
  Fs.readFile(path, "utf8").then(
    (text) => text.trim(),
    () => ""
  )

/** Writes the lock of a process as it would have written it itself. */
const lockFor = (directory: string, pid: number, change: Record<string, unknown> = {}) =>
  Effect.promise(async () => {
    const stat = await read(`/proc/${pid}/stat`)
    const holder = {
      pid,
      host: hostname(),
      boot: await read("/proc/sys/kernel/random/boot_id"),
      started: stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? "",
      nonce: "theirs",
      ...change
    }
    await Fs.writeFile(join(directory, "cal-tokens.lock"), JSON.stringify(holder))
  })

/** `free`, or the pid of the holder. */
const attempt = (directory: string) =>
  Effect.scoped(Lock.acquire(directory)).pipe(
    Effect.as("free" as const),
    Effect.catchAll((error) => (error instanceof Lock.Held ? Effect.succeed(error.pid) : Effect.die(error)))
  )

it.scopedLive("a lock is held until the scope ends, and leaves nothing behind", () =>
  Effect.gen(function* () {
    const directory = yield* makeDirectory
    const scope = yield* Scope.make()
    yield* Scope.extend(Lock.acquire(directory), scope)
    assert.strictEqual(yield* attempt(directory), process.pid)
    yield* Scope.close(scope, Exit.void)
    assert.strictEqual(yield* attempt(directory), "free")
    assert.deepStrictEqual(yield* Effect.promise(() => Fs.readdir(directory)), [])
  })
)

it.scopedLive("another process's lock holds while it lives", () =>
  Effect.gen(function* () {
    const directory = yield* makeDirectory
    const child = yield* makeProcess
    const pid = child.pid ?? 0
    yield* lockFor(directory, pid)
    assert.strictEqual(yield* attempt(directory), pid)
    yield* end(child)
    assert.strictEqual(yield* attempt(directory), "free")
  })
)

it.scopedLive("a lock is not mistaken for that of a later process with the same pid", () =>
  Effect.gen(function* () {
    const directory = yield* makeDirectory
    yield* lockFor(directory, process.pid, { boot: "an earlier one" })
    assert.strictEqual(yield* attempt(directory), "free")
    yield* lockFor(directory, process.pid, { started: "1" })
    assert.strictEqual(yield* attempt(directory), "free")
  })
)

it.scopedLive("another host's lock holds while it is renewed", () =>
  Effect.gen(function* () {
    const directory = yield* makeDirectory
    yield* lockFor(directory, 1, { host: `${hostname()}-other`, boot: "theirs" })
    assert.strictEqual(yield* attempt(directory), 1)
    const old = new Date(Date.parse("2020-01-01T00:00:00Z"))
    yield* Effect.promise(() => Fs.utimes(join(directory, "cal-tokens.lock"), old, old))
    assert.strictEqual(yield* attempt(directory), "free")
  })
)

it.scopedLive("of many that find a dead lock, or none, one gets it", () =>
  Effect.gen(function* () {
    for (const isDead of [true, false, true, false]) {
      const directory = yield* makeDirectory
      if (isDead) yield* lockFor(directory, process.pid, { started: "1" })
      const scope = yield* Scope.make()
      const results = yield* Effect.all(
        Array.makeBy(12, () => Effect.either(Scope.extend(Lock.acquire(directory), scope))),
        { concurrency: "unbounded" }
      )
      assert.strictEqual(results.filter((result) => result._tag === "Right").length, 1)
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(yield* Effect.promise(() => Fs.readdir(directory)), [])
    }
  })
)

it.scopedLive("a lock file that says nothing is taken over", () =>
  Effect.gen(function* () {
    const directory = yield* makeDirectory
    yield* Effect.promise(() => Fs.writeFile(join(directory, "cal-tokens.lock"), ""))
    assert.strictEqual(yield* attempt(directory), "free")
  })
)
