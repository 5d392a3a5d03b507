/** What every line of the log says about a request. */
import { type Effect, FiberRef, HashMap } from "effect"

/**
 * Names the fields in every line from here on, to the end of the request: each is answered by a fiber of its own, which ends
 * with it. A finalizer that took them away again would cost more than the whole answer.
 */
export const annotate = (fields: Readonly<Record<string, string>>): Effect.Effect<void> =>
  FiberRef.update(FiberRef.currentLogAnnotations, (annotations) =>
    Object.entries(fields).reduce((all, [name, value]) => HashMap.set(all, name, value), annotations)
  )
