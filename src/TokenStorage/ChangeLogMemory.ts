/** The log of changes in memory, written by the storage beside it. Everything is visible in the order of its numbers. */
import { randomInt, randomUUID } from "node:crypto"
import { Duration, Effect, Option } from "effect"
import type { UserUlid } from "../Token.js"
import * as ChangeLog from "./ChangeLog.js"
import { millis, type Row } from "./Rows.js"

interface Entry {
  readonly id: number
  readonly change: Omit<ChangeLog.LoggedChange, "position">
}

interface Waiting extends Omit<ChangeLog.Transition, "attempt"> {
  attempts: number
  nextAt: number
  holder: string | undefined
}

export interface Log {
  readonly service: ChangeLog.ChangeLog
  /** A row was written. `kind`: what happened to its pair, if anything did. */
  readonly written: (before: Row | undefined, next: Row, now: number, kind?: ChangeLog.ChangeKind) => void
  /**
   * How many users for whom `isOurs` were refreshed, and how many refused for good, since an instant; `refused` is one
   * more of those, each user once.
   */
  readonly refreshes: (
    since: number,
    isOurs: (userUlid: UserUlid) => boolean,
    refused: UserUlid
  ) => { readonly refused: number; readonly granted: number }
  /** A row is gone, and with it the need to reconnect. */
  readonly removed: (before: Row, now: number) => void
}

export const make = (): Log => {
  // Positions of another storage, perhaps of this process before its restart, are none of ours.
  const epoch = String(randomInt(1, 2 ** 47))
  let entries: Array<Entry> = []
  let waiting: Array<Waiting> = []
  let lastId = 0

  const add = (change: Entry["change"]) => {
    const oldest = change.at - millis(ChangeLog.retention) - millis(ChangeLog.retentionSlack)
    if ((entries[0]?.change.at ?? Infinity) < oldest) entries = entries.filter((entry) => entry.change.at >= oldest)
    entries.push({ id: (lastId += 1), change })
  }

  const tell = (transition: Omit<ChangeLog.Transition, "id" | "attempt">) => {
    const oldest = transition.at - millis(ChangeLog.transitionRetention)
    waiting = waiting.filter(({ at }) => at >= oldest)
    waiting.push({ ...transition, id: randomUUID(), attempts: 0, nextAt: transition.at, holder: undefined })
  }

  const positionOf = (id: number, at: number) => ChangeLog.formatPosition({ at, epoch, id: String(id) })

  const now = <A>(f: (now: number) => A) =>
    Effect.clockWith((clock) => Effect.sync(() => f(clock.unsafeCurrentTimeMillis())))

  const service: ChangeLog.ChangeLog = {
    end: now((now) => ({ position: positionOf(lastId, now) })),
    read: (cursor, limit) =>
      now((now) =>
        ChangeLog.parsePosition(cursor.position).pipe(
          Option.filter(
            (from) => from.epoch === epoch && Number(from.id) <= lastId && from.at >= now - millis(ChangeLog.retention)
          ),
          Option.map(({ id: after }) => {
            const some = entries.filter(({ id }) => id > Number(after)).slice(0, limit)
            const last = some.at(-1)
            const position =
              last === undefined || some.length < limit ? positionOf(lastId, now) : positionOf(last.id, last.change.at)
            const changes = some.map(({ change, id }) => ({ ...change, position: positionOf(id, change.at) }))
            return { changes, next: { position }, position }
          })
        )
      ),
    claim: ({ holder, lease, limit }) =>
      now((now) =>
        waiting
          .filter((one) => one.nextAt <= now && waiting.find(({ userUlid }) => userUlid === one.userUlid) === one)
          .sort((a, b) => a.nextAt - b.nextAt)
          .slice(0, limit)
          .map((one): ChangeLog.Transition => {
            Object.assign(one, { holder, nextAt: now + millis(lease), attempts: one.attempts + 1 })
            const { attempts: attempt, at, cause, id, importedAt, kind, since, userUlid } = one
            const imported = importedAt === undefined ? {} : { importedAt }
            return { id, kind, userUlid, at, cause, since, ...imported, attempt }
          })
      ),
    settle: (id) =>
      Effect.sync(() => {
        waiting = waiting.filter((one) => one.id !== id)
      }),
    postpone: ({ delay, holder, id }) =>
      now((now) => {
        const one = waiting.find((one) => one.id === id && one.holder === holder)
        if (one !== undefined) Object.assign(one, { nextAt: now + Duration.toMillis(delay), holder: undefined })
      })
  }

  return {
    service,
    written: (before, next, now, kind) => {
      const was = before?.status ?? { _tag: "Active" }
      const is = next.status
      const { userUlid, version } = next
      const isRequired = was._tag === "Active" && is._tag !== "Active"
      const reauthorized = was._tag !== "Active" && is._tag === "Active"
      const what = isRequired ? "reauthorizationRequired" : (kind ?? (reauthorized ? "reauthorized" : undefined))
      if (what === undefined) return
      const [cause, since] = isRequired ? [is.cause, is.since] : [undefined, undefined]
      add({ userUlid, kind: what, at: now, version, cause, since, reauthorized })
      if (isRequired) {
        const { cause, importedAt, since } = is
        const imported = importedAt === undefined ? {} : { importedAt }
        tell({ kind: "reauthorizationRequired", userUlid, at: now, cause, since, ...imported })
      }
      if (reauthorized) tell({ kind: "reauthorized", userUlid, at: now, cause: was.cause, since: was.since })
    },
    refreshes: (since, isOurs, refused) => {
      const counts = { granted: 0, refused: new Set([refused]) }
      for (const { change } of entries) {
        if (change.at <= since || !isOurs(change.userUlid)) continue
        if (change.kind === "refreshed" || change.kind === "reissued") counts.granted++
        if (change.kind === "reauthorizationRequired") counts.refused.add(change.userUlid)
      }
      return { granted: counts.granted, refused: counts.refused.size }
    },
    removed: ({ status, userUlid }, at) => {
      const [cause, since] = [undefined, undefined]
      const reauthorized = status._tag !== "Active"
      add({ userUlid, kind: "disconnected", at, version: undefined, cause, since, reauthorized })
      if (reauthorized) tell({ kind: "reauthorized", userUlid, at, cause: status.cause, since: status.since })
    }
  }
}
