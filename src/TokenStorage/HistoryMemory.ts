/** Users' histories in memory, written by the storage beside their rows. */
import { Struct } from "effect"
import * as History from "../History.js"
import type { UserUlid } from "../Token.js"
import type { StoredHistory } from "../TokenStorage.js"
import { type Row, toSummary } from "./Rows.js"

export interface Histories {
  /** Nothing is entered where nothing is said. */
  readonly enter: (userUlid: UserUlid, at: number, written: History.Written, event: History.Event | undefined) => void
  /** The attempt that the row has open never ended. */
  readonly lapsed: (row: Row, at: number) => void
  readonly remove: (userUlid: UserUlid) => void
  readonly read: (row: Row, now: number) => StoredHistory
}

export const make = (): Histories => {
  const all = new Map<UserUlid, ReadonlyArray<History.Entry>>()

  const kept = (userUlid: UserUlid, now: number) =>
    (all.get(userUlid) ?? []).filter(({ at }) => at > now - History.keptFor).slice(-History.maxEntries)

  const open = ({ attemptId, attemptStartedAt, journal, leaseUntil }: Row) =>
    attemptId === null ? undefined : History.openOf(attemptId, attemptStartedAt ?? 0, leaseUntil ?? 0, journal)

  const enter: Histories["enter"] = (userUlid, at, written, event) => {
    if (event !== undefined) all.set(userUlid, [...kept(userUlid, at), { at, written, event }])
  }

  return {
    enter,
    lapsed: (row, at) => {
      const attempt = open(row)
      if (attempt === undefined) return
      enter(row.userUlid, at, "noted", { _tag: "Lapsed", ...Struct.omit(attempt, "leaseUntil") })
    },
    remove: (userUlid) => void all.delete(userUlid),
    read: (row, now) => {
      const attempt = open(row)
      return {
        connection: toSummary(row),
        at: now,
        ...(attempt === undefined ? {} : { open: attempt }),
        entries: kept(row.userUlid, now)
      }
    }
  }
}
