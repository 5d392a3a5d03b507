/**
 * Claims and commits: those that are asked for in one turn of the event loop travel in one statement, which is one
 * transaction, and one answer to read. A call that is alone in its turn is a statement of its own; so is, afterwards, one
 * that the common statement left out or failed with. Whoever asks waits for no statement that is under way.
 */
import { setImmediate } from "node:timers"
import { type Clock, Effect, Exit, Runtime } from "effect"
import type { StorageUnavailable } from "../../TokenError.js"
import type { CallOf } from "./Call.js"
import * as Sql from "./Sql.js"

/** So many are made by one statement: their rows stay locked until its end. */
const batchSize = 50

/** Answers one row at most. */
export type Write<A> = (parameters: ReadonlyArray<unknown>) => Effect.Effect<A | undefined, StorageUnavailable>

interface Asked<A> {
  readonly parameters: ReadonlyArray<unknown>
  /** Whoever asks knows what time it is. */
  readonly clock: Clock.Clock
  /** By that clock, in ns. */
  readonly at: bigint
  readonly resume: (outcome: Effect.Effect<A | undefined, StorageUnavailable>) => void
}

/** `single` makes one call, and `many` those of a list, in JSON; a call that it does not answer is made by `single`. */
export const make = <A>(
  operation: string,
  single: CallOf<A>,
  many: CallOf<A & { readonly n: number }>
): Effect.Effect<Write<A>> =>
  Effect.map(Effect.runtime<never>(), (runtime) => {
    // A statement is nobody's in particular: traces show the wait for it. It ends with the layer.
    const run = Runtime.runCallback(runtime)
    let waiting = new Set<Asked<A>>()

    const alone = (parameters: ReadonlyArray<unknown>, passed?: number) =>
      Effect.map(Effect.withTracerEnabled(single(parameters, "now", passed), false), ([row]) => row)
    /** Whoever has travelled has what is left of their time. */
    const after = ({ at, clock, parameters }: Asked<A>) =>
      alone(parameters, Number(clock.unsafeCurrentTimeNanos() - at) / 1e6)

    const send = (batch: ReadonlyArray<Asked<A>>, { clock }: Asked<A>) => {
      const calls = JSON.stringify(batch.map(({ parameters }) => parameters))
      run(Effect.withTracerEnabled(Effect.withClock(many([calls], "now"), clock), false), {
        onExit: (exit) => {
          const rows = new Array<A | undefined>(batch.length).fill(undefined)
          if (Exit.isSuccess(exit)) for (const row of exit.value) rows[row.n - 1] = row
          // One call fails nobody but its own; who has waited in vain for the time of a statement waits no longer.
          const isOver = Exit.isFailure(exit) && !(exit.cause._tag === "Fail" && !Sql.isLate(exit.cause.error))
          for (const [index, asked] of batch.entries()) {
            const row = rows[index]
            asked.resume(isOver ? Exit.as(exit, undefined) : row === undefined ? after(asked) : Effect.succeed(row))
          }
        }
      })
    }

    const flush = () => {
      const batch = [...waiting]
      waiting = new Set()
      const [first, ...others] = batch
      if (first !== undefined && others.length === 0) first.resume(alone(first.parameters))
      else if (first !== undefined) send(batch, first)
    }

    return (parameters) =>
      Sql.spanned(operation)(
        Effect.clockWith((clock) =>
          Effect.async<A | undefined, StorageUnavailable>((resume) => {
            const asked = { parameters, clock, at: clock.unsafeCurrentTimeNanos(), resume }
            // A batch that is full before its turn leaves nothing, or those of the next one, to be sent then.
            if (waiting.size === 0) setImmediate(flush)
            waiting.add(asked)
            if (waiting.size >= batchSize) flush()
            // One that was sent may take place, as a statement that is given up on may.
            return Effect.sync(() => void waiting.delete(asked))
          })
        )
      )
  })
