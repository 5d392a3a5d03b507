/** Callers that come back at once, and what became of their requests. */
import { Effect, Fiber, type Scope } from "effect"
import type { User } from "./Cal.js"
import { type Answer, me, type Node } from "./Node.js"

export interface Load {
  readonly answers: ReadonlyArray<Answer>
  /** The system's words for requests without an answer. */
  readonly failures: ReadonlyArray<string>
  /** Lets the requests under way end, and begins no more. */
  readonly stop: Effect.Effect<void>
}

/** So many callers who use these users' tokens in turn, through one process, until nobody listens there. */
export const start = (
  node: Node,
  users: ReadonlyArray<User>,
  callers: number,
  ask = me
): Effect.Effect<Load, never, Scope.Scope> =>
  Effect.gen(function* () {
    const answers: Array<Answer> = []
    const failures: Array<string> = []
    let isStopped = false
    const call = (user: User) =>
      ask(node, user).pipe(
        Effect.match({ onSuccess: (answer) => answers.push(answer), onFailure: ({ code }) => failures.push(code) })
      )
    const isOver = () => isStopped || failures.at(-1) === "ECONNREFUSED"
    const caller = (number: number) =>
      Effect.gen(function* () {
        for (let next = number; !isOver(); next++) {
          yield* Effect.forEach(users.slice(next % users.length, (next % users.length) + 1), call)
        }
      })
    const fiber = yield* Effect.forkScoped(
      Effect.forEach(Array.from({ length: callers }).keys(), caller, { concurrency: "unbounded", discard: true })
    )
    return {
      answers,
      failures,
      stop: Effect.suspend(() => {
        isStopped = true
        return Fiber.join(fiber)
      })
    }
  })
