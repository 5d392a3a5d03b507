/** Users' histories in memory, written by the storage beside their rows. */
import { Struct } from "effect"
import * as History from "../History.js"
import type { UserUlid } from "../Token.js"
import type { StoredHistory } from "../TokenStorage.js"
import * as Activity from "./Activity.js"
import { type Row, toSummary } from "./Rows.js"

export interface Histories {
  /** Nothing is entered where nothing is said. */
  readonly enter: (userUlid: UserUlid, at: number, written: History.Written, event: History.Event | undefined) => void
  /** The attempt that the row has open never ended. */
  readonly lapsed: (row: Row, at: number) => void
  readonly remove: (userUlid: UserUlid) => void
  readonly read: (row: Row, now: number) => StoredHistory
  readonly activity: (since: number | undefined, now: number) => Activity.Activity
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
    },
    activity: (since, now) => {
      const running = Activity.minuteOf(now)
      const first = running - (Activity.span - 1) * Activity.minute
      const from = Math.max(since ?? first, first)
      const until = Math.min(from + Activity.atOnce * Activity.minute, running + Activity.minute)
      const found = new Map<string, Activity.Attempts>()
      for (const { at, event, written } of [...all.values()].flat()) {
        const judged = at >= from && at < until ? Activity.judge(written, event) : undefined
        if (judged === undefined) continue
        const { took, ...kind } = judged
        const of = { at: Activity.minuteOf(at), ...kind, bucket: Activity.bucketOf(took) }
        const known = found.get(JSON.stringify(of)) ?? { count: 0, longest: 0 }
        const longest = Math.max(known.longest, took)
        found.set(JSON.stringify(of), { ...of, count: known.count + 1, longest })
      }
      return { at: now, from, until, attempts: [...found.values()] }
    }
  }
}
