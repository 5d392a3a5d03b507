/**
 * What this process remembers of users: the last row it saw, bounded by number and age, and pairs that could not be
 * stored yet, which are kept whatever happens.
 */
import { Clock, Duration, Effect, Option } from "effect"
import { LRUCache } from "lru-cache"
import * as Metrics from "../Metrics.js"
import type { Options } from "../TokenConfig.js"
import { isSameAccessToken, type UserUlid } from "../Token.js"
import type { Notice, StoredConnection } from "../TokenStorage.js"

export interface Entry {
  readonly row: StoredConnection
  /** When the row was read or written, by our clock, in milliseconds; long ago once a newer one was heard of. */
  readonly readAt: number
  /** The same, whatever was heard since. */
  readonly learnedAt: number
  /** How often notices had been missed by then. */
  readonly missed: number
  /** Cal.com answered 498 to this very access token: it counts as expired. */
  readonly refused: boolean
  /** The pair is newer than the storage's. */
  readonly pending: boolean
}

export interface Memory {
  readonly get: (userUlid: UserUlid) => Option.Option<Entry>
  /** Whether the entry may be used without asking the storage. */
  readonly isRecent: (entry: Entry) => Effect.Effect<boolean>
  /**
   * Remembers a row unless a newer one is known. `askedAt`: when the storage was asked for it, by our clock, in
   * milliseconds; whatever was known before that is out of date, also if the storage has gone back (a restored backup).
   */
  readonly put: (row: StoredConnection, askedAt?: number) => Effect.Effect<Entry>
  /** Remembers a row that was handed in: a pair that is held from before is not served any more. */
  readonly adopt: (row: StoredConnection) => Effect.Effect<Entry>
  /** The storage cannot be asked: what is known counts as recent for a while. */
  readonly touch: (userUlid: UserUlid) => Effect.Effect<void>
  /** What the notice says is news: the row that is remembered is not recent any more. It goes on serving if need be. */
  readonly outdate: (notice: Notice) => void
  readonly markRefused: (userUlid: UserUlid, version: number) => Effect.Effect<void>
  /** Forgets a user who has no connection any more. */
  readonly remove: (userUlid: UserUlid) => Effect.Effect<void>
  /** Whether the user was the subject of `remove` and has not been seen since. */
  readonly isRemoved: (userUlid: UserUlid) => boolean
  /** Remembers a pair that is not stored yet; it is served before any row. */
  readonly hold: (row: StoredConnection) => Effect.Effect<Entry>
  /** Whether any row is held. */
  readonly isHolding: () => boolean
  /** The held row was stored, or is worth nothing any more. */
  readonly release: (row: StoredConnection) => Effect.Effect<void>
}

export const make = (config: Pick<Options, "memoryMaxAge" | "memoryMaxEntries">): Memory => {
  const rows = new LRUCache<UserUlid, Entry>({ max: config.memoryMaxEntries })
  const holding = new Map<UserUlid, Entry>()
  /** For as long as a refresh of theirs may be under way; the latest will do. */
  const removed = new LRUCache<UserUlid, true>({ max: 1000 })
  const maxAge = Duration.toMillis(config.memoryMaxAge)
  const counted = Metrics.pairsHeld(() => holding.size)
  let missed = 0

  const at = <A>(use: (now: number) => A) => Effect.map(Clock.currentTimeMillis, use)
  const get = (userUlid: UserUlid) => Option.fromNullable(holding.get(userUlid) ?? rows.get(userUlid))

  const put = (row: StoredConnection, askedAt = -Infinity): Effect.Effect<Entry> =>
    at((now) => {
      const known = rows.get(row.userUlid)
      if (known !== undefined && known.row.version > row.version && known.learnedAt >= askedAt) return known
      const refused = isRefused(known, row)
      const entry: Entry = { row, readAt: now, learnedAt: now, missed, refused, pending: false }
      rows.set(row.userUlid, entry)
      removed.delete(row.userUlid)
      return holding.get(row.userUlid) ?? entry
    })

  return {
    get,
    isRecent: (entry) =>
      at((now) => entry.pending || (now - entry.readAt < maxAge && now >= entry.readAt && entry.missed === missed)),
    put,
    adopt: (row) =>
      Effect.suspend(() => {
        holding.delete(row.userUlid)
        return put(row)
      }).pipe(counted),
    touch: (userUlid) =>
      at((now) => {
        const known = rows.get(userUlid)
        if (known !== undefined) rows.set(userUlid, { ...known, readAt: now, missed })
      }),
    outdate: (notice) => {
      if (notice._tag === "Missed") {
        missed++
        return
      }
      const known = rows.peek(notice.userUlid)
      if (known === undefined || known.row.version >= (notice.version ?? Infinity)) return
      rows.set(notice.userUlid, { ...known, readAt: -Infinity })
    },
    markRefused: (userUlid, version) =>
      Effect.sync(() => {
        for (const entries of [rows, holding]) {
          const known = entries.get(userUlid)
          if (known?.row.version === version) entries.set(userUlid, { ...known, refused: true })
        }
      }),
    remove: (userUlid) =>
      Effect.sync(() => {
        rows.delete(userUlid)
        holding.delete(userUlid)
        removed.set(userUlid, true)
      }).pipe(counted),
    isRemoved: (userUlid) => removed.has(userUlid),
    hold: (row) =>
      at((now) => {
        const refused = isRefused(rows.peek(row.userUlid), row)
        const entry: Entry = { row, readAt: now, learnedAt: now, missed, refused, pending: true }
        holding.set(row.userUlid, entry)
        return entry
      }).pipe(counted),
    isHolding: () => holding.size > 0,
    release: (row) =>
      Effect.sync(() => {
        if (holding.get(row.userUlid)?.row === row) holding.delete(row.userUlid)
      }).pipe(counted)
  }
}

/** A row's access token can outlive its refresh token: where an answer of Cal.com's holds no other one. */
const isRefused = (known: Entry | undefined, { pair }: StoredConnection): boolean =>
  known !== undefined && known.refused && isSameAccessToken(known.row.pair, pair)
