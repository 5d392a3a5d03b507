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
import { type Known, withoutRefreshToken } from "./Known.js"
import * as ValidToken from "./ValidToken.js"

export interface Entry {
  readonly row: Known
  /** When the row was read or written, by our clock, in milliseconds; long ago once a newer one was heard of. */
  readonly readAt: number
  /** The same, whatever was heard since. */
  readonly learnedAt: number
  /** How often notices had been missed by then. */
  readonly missed: number
  /** The highest number heard of that the row lacks: a read that began before brings it no nearer. */
  readonly heard: number
  /** The storage could not be asked: the row serves on, and proves nothing. */
  readonly assumed: boolean
  /** Cal.com answered 498 to this very access token: it counts as expired. */
  readonly refused: boolean
  /** The pair is newer than the storage's. */
  readonly pending: boolean
  readonly warm: ValidToken.Warm
}

export interface Memory {
  readonly get: (userUlid: UserUlid) => Option.Option<Entry>
  /** An entry that may be used without asking the storage, and that Cal.com has not refused; `now` by our clock. */
  readonly recent: (userUlid: UserUlid, now: number) => Entry | undefined
  /** What a recent row answers while it is fresh, if there is one that Cal.com has not refused. */
  readonly warm: ReadonlyMap<UserUlid, ValidToken.Warm>
  /** Whether the entry may be used without asking the storage. */
  readonly isRecent: (entry: Entry) => Effect.Effect<boolean>
  /** The row as the storage itself told it not long ago, whatever is held. */
  readonly confirmed: (userUlid: UserUlid) => Effect.Effect<Option.Option<Known>>
  /**
   * Remembers a row unless a newer one is known. `askedAt`: when the storage was asked for it, by our clock, in
   * milliseconds; whatever was known before that is out of date, also if the storage has gone back (a restored backup).
   */
  readonly put: (row: Known, askedAt?: number) => Effect.Effect<Entry>
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
  /** How many rows are held. */
  readonly held: () => number
  /** The held row was stored, or is worth nothing any more. */
  readonly release: (row: StoredConnection) => Effect.Effect<void>
}

export const make = (config: Pick<Options, "memoryMaxAge" | "memoryMaxEntries" | "windows">): Memory => {
  const rows = new LRUCache<UserUlid, Entry>({
    max: config.memoryMaxEntries,
    dispose: (_, userUlid, reason) => {
      if (reason === "evict" && !holding.has(userUlid)) warm.delete(userUlid)
    }
  })
  const holding = new Map<UserUlid, Entry>()
  /** For as long as a refresh of theirs may be under way; the latest will do. */
  const removed = new LRUCache<UserUlid, true>({ max: 1000 })
  const maxAge = Duration.toMillis(config.memoryMaxAge)
  const counted = Metrics.pairsHeld(() => holding.size)
  let missed = 0

  const at = <A>(use: (now: number) => A) => Effect.map(Clock.currentTimeMillis, use)
  const isFresh = (entry: Entry, now: number) =>
    now - entry.readAt < maxAge && now >= entry.readAt && entry.missed === missed
  const get = (userUlid: UserUlid) => Option.fromNullable(holding.get(userUlid) ?? rows.get(userUlid))

  /**
   * What all but the first question find: one look into a plain map, at what says itself how long it is good. It is brought up
   * to date by whatever changes a user's entry.
   */
  const warm = new Map<UserUlid, ValidToken.Warm>()
  const show = (userUlid: UserUlid) => {
    const entry = holding.get(userUlid) ?? rows.peek(userUlid)
    if (entry === undefined) return void warm.delete(userUlid)
    const isGood = !entry.refused && (entry.pending || entry.missed === missed)
    entry.warm.from = entry.pending ? -Infinity : entry.readAt
    entry.warm.until = !isGood ? -Infinity : entry.pending ? Infinity : entry.readAt + maxAge
    warm.set(userUlid, entry.warm)
  }

  const enter = (entry: Entry, into: Map<UserUlid, Entry> | LRUCache<UserUlid, Entry>): Entry => {
    into.set(entry.row.userUlid, entry)
    show(entry.row.userUlid)
    return entry
  }

  const warmOf = (row: Known) => ValidToken.warm(row, config.windows, warm.get(row.userUlid))

  const put = (found: Known, askedAt = -Infinity): Effect.Effect<Entry> =>
    at((now) => {
      const row = withoutRefreshToken(found)
      const known = rows.get(row.userUlid)
      if (known !== undefined && numberOf(known.row) > numberOf(row) && known.learnedAt >= askedAt) return known
      const refused = isRefused(known, row)
      const readAt = known !== undefined && known.heard > numberOf(row) ? -Infinity : now
      const fresh = { ...unheard, row, readAt, learnedAt: now, missed, refused, pending: false, warm: warmOf(row) }
      const entry = enter(fresh, rows)
      removed.delete(row.userUlid)
      return holding.get(row.userUlid) ?? entry
    })

  return {
    get,
    recent: (userUlid, now) => {
      const known = warm.get(userUlid)
      return known !== undefined && now >= known.from && now < known.until
        ? (holding.get(userUlid) ?? rows.peek(userUlid))
        : undefined
    },
    warm,
    isRecent: (entry) => at((now) => entry.pending || isFresh(entry, now)),
    confirmed: (userUlid) =>
      at((now) => {
        const known = rows.get(userUlid)
        return known !== undefined && !known.assumed && isFresh(known, now) ? Option.some(known.row) : Option.none()
      }),
    put,
    adopt: (row) =>
      Effect.suspend(() => {
        holding.delete(row.userUlid)
        show(row.userUlid)
        return put(row)
      }).pipe(counted),
    touch: (userUlid) =>
      at((now) => {
        const known = rows.get(userUlid)
        if (known !== undefined) enter({ ...known, readAt: now, missed, assumed: true }, rows)
      }),
    outdate: (notice) => {
      if (notice._tag === "Missed") {
        missed++
        // Those that are held stay.
        for (const userUlid of warm.keys()) show(userUlid)
        return
      }
      const known = rows.peek(notice.userUlid)
      const heard = notice.version ?? Infinity
      if (known === undefined || numberOf(known.row) >= heard) return
      enter({ ...known, readAt: -Infinity, heard: Math.max(heard, known.heard) }, rows)
    },
    markRefused: (userUlid, version) =>
      Effect.sync(() => {
        for (const entries of [rows, holding]) {
          const known = entries.get(userUlid)
          if (known?.row.version === version) enter({ ...known, refused: true }, entries)
        }
      }),
    remove: (userUlid) =>
      Effect.sync(() => {
        rows.delete(userUlid)
        holding.delete(userUlid)
        warm.delete(userUlid)
        removed.set(userUlid, true)
      }).pipe(counted),
    isRemoved: (userUlid) => removed.has(userUlid),
    hold: (row) =>
      at((now) => {
        const refused = isRefused(rows.peek(row.userUlid), row)
        const held = { ...unheard, row, readAt: now, learnedAt: now, missed, refused, pending: true, warm: warmOf(row) }
        return enter(held, holding)
      }).pipe(counted),
    held: () => holding.size,
    release: (row) =>
      Effect.sync(() => {
        if (holding.get(row.userUlid)?.row !== row) return
        holding.delete(row.userUlid)
        show(row.userUlid)
      }).pipe(counted)
  }
}

/** A row's access token can outlive its refresh token: where an answer of Cal.com's holds no other one. */
const isRefused = (known: Entry | undefined, { pair }: Known): boolean =>
  known !== undefined && known.refused && isSameAccessToken(known.row.pair, pair)

const unheard = { heard: -Infinity, assumed: false } as const

/** What orders a user's rows: whatever readers see of one was written under a number of its own. */
const numberOf = ({ sessionsAfter, version }: Known) => Math.max(version, sessionsAfter)
