/** Functions of a child process, called over the channel that Node puts between it and its parent. */
import { Effect } from "effect"
import type { Child } from "./Child.js"

/** By their names; each takes one value and answers one, of the sort that structured clones carry. */
export type Functions = Readonly<Record<string, (argument: never) => Effect.Effect<unknown>>>

interface Call {
  readonly id: number
  readonly name: string
  readonly argument: unknown
}

interface Answer {
  readonly id: number
  readonly value?: unknown
  readonly defect?: string
}

/** Answers the parent's calls, and ends with it. */
export const serve = (functions: Functions): void => {
  process.once("disconnect", () => process.exit(1))
  process.on("message", ({ argument, id, name }: Call) => {
    const work = Effect.suspend(() => functions[name]?.(argument as never) ?? Effect.dieMessage(`no function ${name}`))
    const tell = (answer: Answer) => Effect.sync(() => process.send?.(answer))
    Effect.runFork(
      Effect.matchCauseEffect(work, {
        onFailure: (cause) => tell({ id, defect: String(cause) }),
        onSuccess: (value) => tell({ id, value })
      })
    )
  })
}

/** Calls them. One that dies there dies here; so does every call once the child is gone. */
export const caller = <F extends Functions>({ process: child, tail }: Child) => {
  let last = 0
  const waiting = new Map<number, (answer: Omit<Answer, "id">) => void>()
  child.on("message", ({ id, ...answer }: Answer) => {
    waiting.get(id)?.(answer)
    waiting.delete(id)
  })
  child.once("exit", () => waiting.forEach((resolve) => resolve({ defect: `the process is gone\n${tail()}` })))
  return <Name extends keyof F & string>(
    name: Name,
    ...[argument]: Parameters<F[Name]>
  ): Effect.Effect<Effect.Effect.Success<ReturnType<F[Name]>>> =>
    Effect.async((resume) => {
      const id = ++last
      waiting.set(id, ({ defect, value }) =>
        resume(defect === undefined ? Effect.succeed(value as never) : Effect.dieMessage(`${name}: ${defect}`))
      )
      child.send({ id, name, argument } satisfies Call, (error) => {
        if (error !== null) resume(Effect.dieMessage(`${name}: ${error.message}`))
      })
    })
}
