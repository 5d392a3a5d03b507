/**
 * What happened to the rows, for readers in any process: a log of changes, and the *transitions* among them, which have to
 * be told to somebody outside. Both are written in the same step as the change itself, so neither can be missing or
 * invented. No secrets in them.
 *
 * A change may become visible after one that began later. So a position in the log is not a number that grows: readers
 * hand back the cursor they were given, and are shown each change once. Only a position that a client kept (`position`)
 * may show a change twice, when it was taken while writers were at work; it never leaves one out.
 */
import { Duration, type Effect, Option } from "effect"
import type { UserUlid } from "../Token.js"
import type { ReauthorizationCause, StorageUnavailable } from "../TokenError.js"

/** `reauthorized`: a pair that came late made a row active that was terminal; what is served did not change. */
export type ChangeKind =
  "connected" | "updated" | "refreshed" | "reissued" | "disconnected" | "reauthorizationRequired" | "reauthorized"

export interface LoggedChange {
  readonly userUlid: UserUlid
  readonly kind: ChangeKind
  /** Milliseconds since the epoch, by the storage's clock. */
  readonly at: number
  /** The row's version after the change; absent when the row is gone. */
  readonly version: number | undefined
  /** Why, and since when, a reconnect is needed. */
  readonly cause: ReauthorizationCause | undefined
  readonly since: number | undefined
  /** Whether the change ended the need to reconnect. */
  readonly reauthorized: boolean
  /** Where to go on after this change, for whoever comes back later. */
  readonly position: string
}

/** Where a reader is. What is in it besides the position is the storage's. */
export interface Cursor {
  readonly position: string
  readonly seen?: string | undefined
  readonly until?: { readonly snapshot: string; readonly at: number } | undefined
}

export interface Page {
  readonly changes: ReadonlyArray<LoggedChange>
  readonly next: Cursor
  /** Where to go on after this page, for whoever comes back later. */
  readonly position: string
}

/** A user has to reconnect, or no longer has to. */
export interface Transition {
  /** The same for every delivery of it. */
  readonly id: string
  readonly kind: "reauthorizationRequired" | "reauthorized"
  readonly userUlid: UserUlid
  readonly at: number
  /** Why, and since when, a reconnect is or was needed. */
  readonly cause: ReauthorizationCause
  readonly since: number
  /** Of one who has to reconnect: when the user was imported, if so. */
  readonly importedAt?: number
  /** Counts the deliveries begun, this one included. */
  readonly attempt: number
}

export interface ChangeLog {
  /** Where the next change will be. */
  readonly end: Effect.Effect<Cursor, StorageUnavailable>
  /** The next changes; `None` if some may be missing: the position is too old, or none of this storage. */
  readonly read: (cursor: Cursor, limit: number) => Effect.Effect<Option.Option<Page>, StorageUnavailable>
  /**
   * Transitions to deliver now, of each user the oldest only. They are the holder's for the time of the lease, then
   * anybody's.
   */
  readonly claim: (request: {
    readonly holder: string
    readonly lease: Duration.Duration
    readonly limit: number
  }) => Effect.Effect<ReadonlyArray<Transition>, StorageUnavailable>
  /** The transition is delivered, or given up. */
  readonly settle: (id: string) => Effect.Effect<void, StorageUnavailable>
  /** Nobody delivers it for so long; only its holder may say so. */
  readonly postpone: (request: {
    readonly id: string
    readonly holder: string
    readonly delay: Duration.Duration
  }) => Effect.Effect<void, StorageUnavailable>
}

/** How long changes can be read again. */
export const retention = Duration.hours(24)

/** Removed so much later: in the order of the log, a change may be a little older than the one before it. */
export const retentionSlack = Duration.minutes(10)

/** How long a transition waits to be delivered, also when nobody is there to deliver it. */
export const transitionRetention = Duration.days(7)

/** One of so many writes removes old entries: a look for them costs as much as what is written. */
export const pruneEvery = 16

/** It removes so many of either kind at most: more than came since the one before it. */
export const pruneBatch = 4 * pruneEvery

/** A place in the order of the log: by transaction, then by number. */
export interface Position {
  readonly at: number
  readonly epoch: string
  readonly id: string
}

export const formatPosition = ({ at, epoch, id }: Position): string => `${at}-${epoch}-${id}`

/** Small enough for the columns that it is compared with. */
export const parsePosition = (text: string): Option.Option<Position> => {
  const [, at, epoch, id] = /^(\d{1,15})-(\d{1,19})-(\d{1,18})$/.exec(text) ?? []
  return at === undefined || epoch === undefined || id === undefined
    ? Option.none()
    : Option.some({ at: Number(at), epoch, id })
}
