/**
 * Tells other processes of writes, after them and without waiting: a transaction that notifies makes all others that do
 * wait for its commit, and nothing depends on the news. What is written while a statement tells of what was written before
 * is told with the next one, so that many writes at once cost few statements.
 */
import { Effect, type Scope } from "effect"
import type { UserUlid } from "../../Token.js"
import * as Notifications from "./Notifications.js"

/** So much is told by one statement. */
const batchSize = 500

/** So much waits at most, while the database is slow or away; then the earliest is never told of. */
const maxWaiting = 10_000

/** What was written; without a version the row is gone. */
export interface Written {
  readonly userUlid: UserUlid
  readonly version?: number | undefined
}

export const make = (
  notify: (payloads: ReadonlyArray<string>) => Effect.Effect<unknown, unknown>,
  scope: Scope.Scope
): ((...rows: ReadonlyArray<Written>) => Effect.Effect<void>) => {
  /** By user, in the order in which they were written: of several writes, the last is enough. */
  const waiting = new Map<UserUlid, number | undefined>()
  let isTelling = false

  const tellAll = Effect.suspend(() => {
    const batch = [...waiting].slice(0, batchSize)
    for (const [userUlid] of batch) waiting.delete(userUlid)
    return Effect.ignore(notify(batch.map(([userUlid, version]) => Notifications.payload(userUlid, version))))
  }).pipe(
    Effect.repeat({ while: () => waiting.size > 0 }),
    Effect.ensuring(Effect.sync(() => void (isTelling = false)))
  )

  return (...rows) =>
    Effect.suspend(() => {
      for (const { userUlid, version } of rows) {
        const known = waiting.get(userUlid)
        waiting.delete(userUlid)
        waiting.set(userUlid, version === undefined || known === undefined ? version : Math.max(known, version))
      }
      for (const userUlid of waiting.keys()) {
        if (waiting.size <= maxWaiting) break
        waiting.delete(userUlid)
      }
      if (isTelling) return Effect.void
      isTelling = true
      return Effect.forkIn(tellAll, scope)
    })
}
