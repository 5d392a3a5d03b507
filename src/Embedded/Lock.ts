/**
 * A lock file that lets one process use a directory: two would corrupt an embedded database without noticing. It names
 * its holder, so that the lock of a process that died is taken over, also when its pid belongs to another one by now.
 */
import { createHash, randomBytes } from "node:crypto"
import * as Fs from "node:fs/promises"
import { hostname } from "node:os"
import { join } from "node:path"
import { Effect, Option, Schedule, Schema, type Scope } from "effect"

/** Who holds a lock. `boot` and `started` tell a process from a later one with the same pid, where the system says. */
const Holder = Schema.parseJson(
  Schema.Struct({
    pid: Schema.Int,
    host: Schema.String,
    boot: Schema.String,
    started: Schema.String,
    nonce: Schema.String
  })
)
type Holder = typeof Holder.Type
const textOf = Schema.encodeSync(Holder)

/** Another process uses the directory. */
export class Held {
  readonly _tag = "Held"
  constructor(
    readonly pid: number,
    readonly host: string,
    readonly path: string
  ) {}
}

/** The file system refused something; `code` is its own name for why, such as `EACCES`. */
export class FileFailure {
  readonly _tag = "FileFailure"
  constructor(readonly code: string) {}
}

/** Holds the directory's lock until the scope ends. */
export const acquire = (directory: string): Effect.Effect<void, Held | FileFailure, Scope.Scope> =>
  Effect.gen(function* () {
    const path = join(directory, "cal-tokens.lock")
    const me = yield* identify
    const text = textOf(me)
    const draft = `${path}.${me.nonce}`
    const file = yield* Effect.acquireRelease(
      attempt(() => Fs.open(draft, "wx", 0o600)),
      (handle) => Effect.ignore(attempt(() => handle.close()))
    )
    yield* Effect.addFinalizer(() => Effect.ignore(attempt(() => Fs.rm(draft, { force: true }))))
    yield* attempt(() => file.write(text, 0))
    yield* Effect.acquireRelease(
      // Somebody else may release or take over the lock between two looks at it.
      Effect.retry(take(path, draft, me), { times: 3, while: isGone }),
      () =>
        attempt(() => Fs.readFile(path, "utf8")).pipe(
          Effect.flatMap((held) => (held === text ? attempt(() => Fs.rm(path, { force: true })) : Effect.void)),
          Effect.ignore
        )
    )
    yield* attempt(() => Fs.rm(draft, { force: true }))
    yield* attempt(() => file.write(text, 0)).pipe(
      Effect.ignore,
      Effect.repeat(Schedule.spaced(heartbeatSeconds * 1000)),
      Effect.forkScoped
    )
  })

/** A lock of another host (a container that shares the directory) counts as dead when it was not renewed for so long. */
const heartbeatSeconds = 5
const silenceMillis = 6 * heartbeatSeconds * 1000

/** Makes the draft the lock, in one step, if nobody alive holds it. */
const take = (path: string, draft: string, me: Holder): Effect.Effect<void, Held | FileFailure> =>
  attempt(() => Fs.link(draft, path)).pipe(
    Effect.catchIf(hasCode("EEXIST"), () =>
      Effect.gen(function* () {
        const text = yield* attempt(() => Fs.readFile(path, "utf8"))
        const age = yield* Effect.zipWith(
          attempt(() => Fs.stat(draft)),
          attempt(() => Fs.stat(path)),
          (mine, theirs) => mine.mtimeMs - theirs.mtimeMs
        )
        const holder = Schema.decodeOption(Holder)(text)
        if (Option.isSome(holder) && (yield* isAlive(holder.value, me, age))) {
          return yield* Effect.fail(new Held(holder.value.pid, holder.value.host, path))
        }
        // Whoever replaces this very lock needs the lock of that first, and looks again: it may be replaced by now.
        const turn = `${path}.${createHash("sha256").update(text).digest("hex").slice(0, 16)}`
        yield* take(turn, draft, me)
        const isReplaced = yield* replace(path, text, draft).pipe(
          Effect.ensuring(Effect.ignore(attempt(() => Fs.rm(turn, { force: true }))))
        )
        if (isReplaced) return
        return yield* take(path, draft, me)
      })
    )
  )

/** Puts the draft in the place of the lock, if that still says what it said. */
const replace = (path: string, text: string, draft: string): Effect.Effect<boolean, FileFailure> =>
  Effect.gen(function* () {
    const current = yield* Effect.catchIf(
      attempt(() => Fs.readFile(path, "utf8")),
      hasCode("ENOENT"),
      () => Effect.succeed(undefined)
    )
    if (current !== text) return false
    yield* attempt(() => Fs.rename(draft, path))
    return true
  })

const isAlive = (holder: Holder, me: Holder, ageMillis: number): Effect.Effect<boolean> => {
  if (holder.host !== me.host) return Effect.succeed(ageMillis < silenceMillis)
  if (holder.boot !== me.boot) return Effect.succeed(false)
  if (holder.started === "") return Effect.sync(() => isRunning(holder.pid))
  return Effect.map(startOf(holder.pid), (started) => started === holder.started)
}

const identify: Effect.Effect<Holder> = Effect.gen(function* () {
  const boot = yield* Effect.orElseSucceed(
    attempt(() => Fs.readFile("/proc/sys/kernel/random/boot_id", "utf8")),
    () => ""
  )
  const nonce = yield* Effect.sync(() => randomBytes(8).toString("hex"))
  return { pid: process.pid, host: hostname(), boot: boot.trim(), started: yield* startOf(process.pid), nonce }
})

/** When a process started, in ticks since the boot; empty where the system does not tell or there is no such process. */
const startOf = (pid: number): Effect.Effect<string> =>
  attempt(() => Fs.readFile(`/proc/${pid}/stat`, "utf8")).pipe(
    // The second field, the program's name, may contain anything; behind it, the start is the twentieth.
    Effect.map((stat) => stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? ""),
    Effect.orElseSucceed(() => "")
  )

const isRunning = (pid: number): boolean => {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "EPERM"
  }
}

const attempt = <A>(f: () => Promise<A>): Effect.Effect<A, FileFailure> =>
  Effect.tryPromise({
    try: f,
    catch: (error) => new FileFailure(error instanceof Error && "code" in error ? String(error.code) : "unknown")
  })

const hasCode =
  (code: string) =>
  (error: FileFailure): boolean =>
    error.code === code

const isGone = (error: Held | FileFailure): boolean => error._tag === "FileFailure" && error.code === "ENOENT"
