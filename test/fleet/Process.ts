/** A child process that ends with its scope, whatever happens to the test. */
import { type ChildProcess, spawn, type SpawnOptions } from "node:child_process"
import { Deferred, Duration, Effect, type Scope } from "effect"

export interface Exit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

export interface Process {
  readonly pid: number
  /** All that it wrote so far. */
  readonly output: () => string
  /** What a pattern finds in the output, as soon as it does. A process that ends before is a defect. */
  readonly until: (pattern: RegExp) => Effect.Effect<RegExpExecArray>
  readonly kill: (signal: NodeJS.Signals) => Effect.Effect<void>
  /** After its last output. */
  readonly exit: Effect.Effect<Exit>
  readonly isRunning: () => boolean
}

/** A scope that ends waits so long for a process to be gone. */
const goneWithin = Duration.seconds(10)

export const make = (
  command: string,
  args: ReadonlyArray<string>,
  options: Pick<SpawnOptions, "cwd" | "env" | "gid" | "uid"> = {}
): Effect.Effect<Process, never, Scope.Scope> =>
  Effect.gen(function* () {
    const exit = yield* Deferred.make<Exit>()
    const child: ChildProcess = yield* Effect.acquireRelease(
      Effect.sync(() => spawn(command, args, { ...options, stdio: ["pipe", "pipe", "pipe"] })),
      (child) =>
        Effect.sync(() => child.kill("SIGKILL")).pipe(
          Effect.zipRight(Deferred.await(exit)),
          Effect.timeoutFail({ duration: goneWithin, onTimeout: () => `${command} (${child.pid}) does not end` }),
          Effect.orDie
        )
    )
    let output = ""
    const listeners = new Set<() => void>()
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding("utf8").on("data", (text: string) => {
        output += text
        listeners.forEach((listener) => listener())
      })
    }
    child.once("error", () => Deferred.unsafeDone(exit, Effect.succeed({ code: null, signal: null })))
    child.once("close", (code, signal) => Deferred.unsafeDone(exit, Effect.succeed({ code, signal })))
    const isRunning = () => child.exitCode === null && child.signalCode === null

    const found = (pattern: RegExp) =>
      Effect.async<RegExpExecArray>((resume) => {
        const look = () => {
          const match = pattern.exec(output)
          if (match === null) return
          listeners.delete(look)
          resume(Effect.succeed(match))
        }
        listeners.add(look)
        look()
        return Effect.sync(() => listeners.delete(look))
      })

    return {
      pid: child.pid ?? 0,
      output: () => output,
      until: (pattern) =>
        Effect.raceFirst(
          found(pattern),
          Effect.flatMap(Deferred.await(exit), ({ code, signal }) =>
            Effect.dieMessage(`${command} ended (${code ?? signal}) before ${String(pattern)}:\n${output}`)
          )
        ),
      kill: (signal) => Effect.sync(() => void child.kill(signal)),
      exit: Deferred.await(exit),
      isRunning
    }
  })
