/** Calls for one user at the same time share one answer: whoever joins costs a promise, and neither a fiber nor a timer. */
import { type Failure, isFailure } from "./Failure.js"

/**
 * `ask` is for whoever comes first. Who joined gives up no sooner for that: if there was no answer in time, they ask for
 * themselves.
 */
export const make = <A extends object>(
  ask: (userUlid: string) => Promise<A | Failure>
): ((userUlid: string) => Promise<A | Failure>) => {
  const running = new Map<string, Promise<A | Failure>>()
  return (userUlid) => {
    const first = running.get(userUlid)
    if (first !== undefined) {
      return first.then((answer) =>
        isFailure(answer) && answer.code === "CalUnavailable" ? ask(userUlid) : { ...answer }
      )
    }
    const asked = ask(userUlid).finally(() => running.delete(userUlid))
    running.set(userUlid, asked)
    return asked
  }
}
