/**
 * Reads of users' rows: those that are asked for in one turn of the event loop travel in one statement. A read that is asked
 * for begins after that, whoever else it travels with, and waits for no statement that is under way.
 */
import { setImmediate } from "node:timers"
import { Effect, Exit, Runtime } from "effect"
import type { UserUlid } from "../../Token.js"
import type { StorageUnavailable } from "../../TokenError.js"
import type { CallOf } from "./Call.js"
import type { Columns } from "./Sealing.js"
import * as Sql from "./Sql.js"

/** So many are read by one statement. */
const batchSize = 100

type Tell = (exit: Exit.Exit<Columns | undefined, StorageUnavailable>) => void

/** `read` takes the users as JSON. */
export const make = (
  read: CallOf<Columns>
): Effect.Effect<(userUlid: UserUlid) => Effect.Effect<Columns | undefined, StorageUnavailable>> =>
  Effect.map(Effect.runtime<never>(), (runtime) => {
    // A statement is nobody's in particular: traces show the wait for it. It ends with the layer.
    const run = Runtime.runCallback(runtime)
    let waiting = new Map<UserUlid, Array<Tell>>()

    const send = (batch: ReadonlyMap<UserUlid, ReadonlyArray<Tell>>) =>
      run(Effect.withTracerEnabled(read([JSON.stringify([...batch.keys()])]), false), {
        onExit: (exit) => {
          const rows = new Map(Exit.isSuccess(exit) ? exit.value.map((row) => [row.user_ulid, row]) : [])
          for (const [userUlid, tellers] of batch) {
            const answer = Exit.map(exit, () => rows.get(userUlid))
            for (const tell of tellers) tell(answer)
          }
        }
      })

    const flush = () => {
      const batch = waiting
      waiting = new Map()
      if (batch.size > 0) send(batch)
    }

    const ask = (userUlid: UserUlid, tell: Tell) => {
      // A batch that is full before its turn leaves nothing, or those of the next one, to be sent then.
      if (waiting.size === 0) setImmediate(flush)
      waiting.set(userUlid, [...(waiting.get(userUlid) ?? []), tell])
      if (waiting.size >= batchSize) flush()
    }

    return (userUlid) =>
      Sql.spanned("find")(Effect.async<Columns | undefined, StorageUnavailable>((resume) => ask(userUlid, resume)))
  })
