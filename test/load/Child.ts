/** A process of Node's with a channel to this one, which ends with the scope. */
import { type ChildProcess, fork } from "node:child_process"
import { Deferred, Effect, type Scope } from "effect"

export interface Exit {
  readonly code: number | null
  readonly signal: string | null
}

export interface Child {
  readonly process: ChildProcess
  /** The last lines that it wrote, for whoever wonders why it ended. */
  readonly tail: () => string
  readonly exit: Effect.Effect<Exit>
}

const kept = 100

export const make = (
  script: string,
  options: {
    readonly arguments?: ReadonlyArray<string>
    readonly flags?: ReadonlyArray<string>
    readonly env: Readonly<Record<string, string>>
    readonly onLine?: (line: string) => void
  }
): Effect.Effect<Child, never, Scope.Scope> =>
  Effect.gen(function* () {
    const exit = yield* Deferred.make<Exit>()
    const lines: Array<string> = []
    const child = yield* Effect.acquireRelease(
      Effect.sync(() =>
        fork(script, options.arguments, {
          execArgv: [...(options.flags ?? [])],
          env: { PATH: process.env["PATH"] ?? "", ...options.env },
          serialization: "advanced",
          silent: true
        })
      ),
      (child) =>
        Effect.zipRight(
          Effect.sync(() => child.kill("SIGKILL")),
          Deferred.await(exit)
        )
    )
    for (const stream of [child.stdout, child.stderr]) {
      let rest = ""
      stream?.setEncoding("utf8").on("data", (text: string) => {
        const [last = "", ...before] = (rest + text).split("\n").reverse()
        rest = last
        for (const line of before.reverse()) {
          lines.push(line)
          options.onLine?.(line)
        }
        lines.splice(0, lines.length - kept)
      })
    }
    child.once("error", () => Deferred.unsafeDone(exit, Effect.succeed({ code: null, signal: null })))
    child.once("close", (code, signal) => Deferred.unsafeDone(exit, Effect.succeed({ code, signal })))
    return { process: child, tail: () => lines.join("\n"), exit: Deferred.await(exit) }
  })
