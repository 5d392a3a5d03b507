/**
 * The storage port: one row per user, changed only by the writes below. Each is atomic and conditional, so that a
 * process that lost its claim changes nothing; none of them knows a refresh rule beyond what the table says.
 *
 * ## The refresh protocol as a table
 *
 * A row is in one of four states, from its attempt, lease, journal and status columns. The *journal* is the hash of the
 * refresh token whose spending was begun and whose outcome is not known yet.
 *
 * | State    | attempt | lease  | journal | status       | Meaning                                                   |
 * | -------- | ------- | ------ | ------- | ------------ | --------------------------------------------------------- |
 * | idle     | –       | –      | –       | active       | nobody refreshes                                          |
 * | claimed  | id      | runs   | hash    | active       | its holder may be spending the token                      |
 * | lapsed   | id      | over   | hash    | active       | its holder died or sleeps: outcome unknown                |
 * | unknown  | –       | –      | hash    | active       | its holder saw no answer: outcome unknown                 |
 * | terminal | –       | –      | –       | reauthorize… | refused for good, pairs kept                              |
 *
 * | Event (write)                | idle              | claimed by me            | claimed by other   | lapsed               | unknown                          | terminal              |
 * | ---------------------------- | ----------------- | ------------------------ | ------------------ | -------------------- | -------------------------------- | --------------------- |
 * | `claim`                      | → claimed         | –                        | `Busy`             | → claimed, probe     | `ProbeLater`, then → claimed, probe | `Terminal`         |
 * | `spend` (next token)         | none              | journal := next          | none               | mine: journal := next | none                            | none                  |
 * | `commit`, attempt is mine    | –                 | → idle, new pair         | –                  | → idle, new pair     | –                                | –                     |
 * | `commit` late, same row pair | → idle, new pair  | –                        | → idle, new pair   | → idle, new pair     | → idle, new pair                 | → idle, new pair      |
 * | `commit` late, other pair, same account | pair kept as fallback in every state; terminal → idle |           |                      |                                  |                       |
 * | `commit` of another account, or no row  | `Discarded` in every state                            |           |                      |                                  |                       |
 * | `seal`                       | an answer nobody understood is kept beside the row in every state, and changes nothing else of it | | | | | |
 * | `fail` NotSpent              | none              | → idle, back-off         | none               | mine: → idle, back-off | none                           | none                  |
 * | `fail` Unknown               | none              | → unknown, probe time    | none               | mine: → unknown      | none                             | none                  |
 * | `fail` Terminal              | none              | → terminal, unless an untried fallback has come | none | mine: → terminal, same condition | none        | none                  |
 * | `fail` Released              | none              | → as before the claim    | none               | mine: → as before    | none                             | none                  |
 * | `claimDue`                   | → claimed if due  | none                     | none               | → claimed, probe     | none before its time, then → claimed, probe | none       |
 * | `connect`, `update`          | → idle with the given pair in every state; cooldown cleared, and attempt, lease and journal unless the given token is the journal's, which may be spent; a displaced pair of the same account becomes a fallback, of another or a nameless one it is dropped | | | | | |
 * | `import`, account of another user, or the row's is another | none, and the answer says which, in every state | | | | | |
 * | `import`, same refresh token as the row's, or older than its pair | none in every state     |                      |                                  |                       |
 * | `import`, row's pair is the one that an import stored | as `update` in every state                |                      |                                  |                       |
 * | `import`, any other row      | none in every state: it was refreshed here, or connected otherwise | | | | | |
 * | `disconnect`                 | row gone in every state, its sealed answers too; an open attempt then commits nothing | | | | | |
 * | `endSessions`                | user sessions made so far are over and no access token names the user any more, in every state; nothing else changes | | | | | |
 *
 * `fail` Terminal writes as Released instead while the brake of the client's circuit is on, or goes on with it; and while
 * Cal.com's answers are not understood, for a user of whom one is sealed. The circuit is the client's, see
 * `TokenStorage/Circuits.ts`; claim, commit and fail read and write it in the same step, the user's row first.
 *
 * A sealed answer ends with `connect`, `update`, an `import` that stores a pair and `disconnect`, with a pair of an attempt
 * that was claimed after it, with the commit of what was read in it, and after 30 days.
 *
 * `import` is for moving over from another system, again and again while that still runs. Where there is no row, it is as
 * `connect`. The row remembers the hash of the refresh token that an import stored until anything else stores a pair, and
 * when that was until somebody connects or updates: a second system that still refreshes a user is why that one is lost.
 *
 * `claim` checks, in this order: no row; what answers its purpose (refresh: a newer pair than the caller knows, terminal;
 * reissue: another account, a pair that was reissued since); busy; a rejection reported recently, back-off, attempts per
 * window (none of which holds a claim to `Hold`); probe time; the client's circuit (which holds no claim to `Hold`). A caller whose token has expired since the last attempt
 * started is not held by back-off or window: a failure before the expiry must not postpone the first attempt after it.
 *
 * "None" means: nothing written, and the answer says so.
 *
 * `connect`, `update`, an `import` that stores a pair and a commit of a reissue end whatever found the user by an access token (`Lookups`); a commit of a
 * refresh adds its own to what the row had when it was claimed.
 *
 * Changes of what readers see are entered into `log`, in the same step. A row that becomes terminal, and one that no
 * longer is, are *transitions* besides, each entered once, however often a write is repeated whose answer got lost.
 *
 * The end of an attempt, and a pair from outside, are entered into the user's *history* in the same step, as the request says
 * it (`history`), with what was written; a claim enters that the attempt before it lapsed. It goes with the row. What is
 * repeated, or makes no difference, enters nothing.
 *
 * Whatever changes a row besides `claim` and `spend` may be told of by `notices`, to spare others a part of their
 * waiting. Nothing depends on it.
 */
import { createHash } from "node:crypto"
import { Context, Data, type Duration, type Effect, type Option, Redacted, type Stream } from "effect"
import type { Entry, Event, OpenAttempt } from "./History.js"
import type { Connection, ManagedUser, TokenPair, UserUlid } from "./Token.js"
import type {
  CalAccountInUse,
  ReauthorizationCause,
  StorageUnavailable,
  AttemptError,
  TokenUnreadable
} from "./TokenError.js"
import type { Activity, OpenCircuit, Outlook } from "./TokenStorage/Activity.js"
import type { ChangeLog } from "./TokenStorage/ChangeLog.js"
import type { CircuitCause, ClientKey } from "./TokenStorage/Circuits.js"
import type { Lookup, Lookups } from "./TokenStorage/Lookups.js"

/**
 * Whether a user's refresh token is believed to work.
 *
 * @since 0.1.0
 * @category models
 */
export type Status =
  | { readonly _tag: "Active" }
  | {
      readonly _tag: "ReauthorizationRequired"
      readonly cause: ReauthorizationCause
      /** Milliseconds since the epoch, by the storage's clock. */
      readonly since: number
      /** When the connection was imported, by the same clock: whoever kept it before may refresh it, too. */
      readonly importedAt?: number | undefined
    }

/**
 * What is stored for one user, as far as readers care.
 *
 * @since 0.1.0
 * @category models
 */
export interface StoredConnection {
  readonly userUlid: UserUlid
  readonly connection: Connection
  readonly pair: TokenPair
  readonly status: Status
  /** Grows with every stored pair, across all users. */
  readonly version: number
  /** User sessions that were made under another number are over; `connect` and `endSessions` raise it, as `version` grows. */
  readonly sessionsAfter: number
  /** Milliseconds since the epoch, by the storage's clock. */
  readonly updatedAt: number
  /**
   * When a token of the user was last handed out on purpose, as far as that is written: ms since the epoch, in Cal.com's
   * time. Pages may renew theirs for so long after it.
   */
  readonly handedOutAt?: number | undefined
}

/**
 * The same with all that may be spent, and all that finds the user.
 *
 * @since 0.1.0
 * @category models
 */
export interface StoredRow extends StoredConnection {
  /** Pairs of the same Cal.com account that arrived late or were displaced, newest first, at most three. */
  readonly fallbacks: ReadonlyArray<TokenPair>
  readonly lookups: Lookups
}

/**
 * How many displaced pairs are kept per user.
 *
 * @since 0.1.0
 * @category constants
 */
export const maxFallbacks = 3

/**
 * So many answers of a user are kept, the first and the last ones each: a token that is probed may be answered again in
 * words that nobody reads, and either answer may be the one with the pair.
 *
 * @since 0.1.0
 * @category constants
 */
export const maxSealed = { first: 4, last: 4 } as const

/**
 * How long an answer is kept that nobody can read: as long as an OAuth2 refresh token lives, in milliseconds.
 *
 * @since 0.1.0
 * @category constants
 */
export const sealedFor = 30 * 86_400_000

/**
 * Asks for the lease of a user's row.
 *
 * @since 0.1.0
 * @category models
 */
export interface ClaimRequest {
  readonly userUlid: UserUlid
  /** Random, new for each claim; it begins with the name of its process and a dot. */
  readonly attemptId: string
  readonly purpose: Purpose
  readonly lease: Duration.Duration
  readonly cooldownWindow: Duration.Duration
  readonly maxAttempts: number
  /** Set when the access token is expired: for how long by now. */
  readonly expiredFor?: Duration.Duration | undefined
  /** Whose circuit has to let it pass. */
  readonly circuit?: CircuitRequest | undefined
}

/**
 * The circuit that a statement reads and writes.
 *
 * @since 0.1.0
 * @category models
 */
export interface CircuitRequest extends ClientKey {
  /** The time between two trials. */
  readonly interval: Duration.Duration
}

/**
 * What a claim is for, and with it what answers it in place of a lease.
 *
 * @since 0.1.0
 * @category models
 */
export type Purpose = Data.TaggedEnum<{
  /** A newer pair than the caller knows answers it, and so does a terminal status. */
  Refresh: {
    readonly knownVersion: number
    /** Set when Cal.com rejected a token that does not look expired: at most one such claim within this time. */
    readonly rejectedInterval?: Duration.Duration | undefined
  }
  /** A new pair of this very account: a pair answers it that was reissued since the caller knew the row. */
  Reissue: { readonly account: ManagedUser; readonly knownVersion: number }
  /** Nobody waits: a terminal status answers it, and while the client's circuit is open it is held. */
  Ahead: {}
  /** A connection is being made: nobody shall spend a token meanwhile. Neither the row's state nor a cooldown holds it. */
  Hold: {}
}>
export const Purpose = Data.taggedEnum<Purpose>()

/**
 * What a claim found.
 *
 * @since 0.1.0
 * @category models
 */
export type ClaimResult = Data.TaggedEnum<{
  NotFound: Record<never, never>
  /** The row holds a newer pair than the caller knew. */
  Newer: { readonly row: StoredRow }
  Terminal: { readonly row: StoredRow; readonly sealed: ReadonlyArray<SealedAnswer> }
  /** The row is another account by now than the one to reissue. */
  Moved: { readonly row: StoredRow }
  /** Another attempt holds the lease. */
  Busy: { readonly row: StoredRow; readonly retryAfter: Duration.Duration }
  /** A rejection already caused a refresh within the interval. */
  RejectedRecently: {
    readonly row: StoredRow
    readonly retryAfter: Duration.Duration
    /** Without a pair since: how the last refresh failed. */
    readonly lastError: Option.Option<AttemptError>
  }
  CoolingDown: {
    readonly row: StoredRow
    readonly retryAfter: Duration.Duration
    readonly lastError: Option.Option<AttemptError>
  }
  /** The last outcome is unknown and its probe is not due yet. */
  ProbeLater: {
    readonly row: StoredRow
    readonly retryAfter: Duration.Duration
    readonly lastError: Option.Option<AttemptError>
    readonly consecutiveFailures: number
  }
  /** The client's circuit is open, and this is no trial. */
  Held: {
    readonly row: StoredRow
    readonly retryAfter: Duration.Duration
    /** Until the next trial, which may be somebody else's. */
    readonly trialIn: Duration.Duration
    readonly cause: CircuitCause
    readonly reason: string
    /** What can be read by now needs no trial, and ends a drift. */
    readonly sealed: ReadonlyArray<SealedAnswer>
  }
  Claimed: {
    readonly row: StoredRow
    /** Hash of the refresh token whose outcome is unknown: this attempt begins by probing it. */
    readonly probe: Option.Option<string>
    /** Before this attempt. */
    readonly consecutiveFailures: number
    /** Answers that nobody could read so far. */
    readonly sealed: ReadonlyArray<SealedAnswer>
    /** Whether the client's circuit is open, and what may be tried: `reissue` spends no token. */
    readonly trial?: "refresh" | "reissue" | undefined
  }
}>
export const ClaimResult = Data.taggedEnum<ClaimResult>()

/**
 * An answer of a token endpoint in which no pair was found, kept for a program that finds one.
 *
 * @since 0.1.0
 * @category models
 */
export interface SealedAnswer {
  /** Hash of the refresh token that was spent for it, or that the row had when it was reissued. */
  readonly spentHash: string
  readonly operation: "refresh" | "reissue"
  /** The account as it was claimed. */
  readonly connection: Connection
  /** As it came, at most 64 KiB. */
  readonly answer: Redacted.Redacted<Uint8Array>
  /** When Cal.com answered, in its time, in milliseconds. */
  readonly issuedAt: number
  /** Whether the answer came to its end. */
  readonly isWhole: boolean
  /** Milliseconds since the epoch, by the storage's clock. */
  readonly at: number
}

/**
 * A sealed answer before the storage has dated it.
 *
 * @since 0.1.0
 * @category models
 */
export type NewSealedAnswer = Omit<SealedAnswer, "at">

/**
 * Tells answers apart: one that is offered twice is kept once.
 *
 * @since 0.1.0
 * @category conversions
 */
export const hashAnswer = (answer: SealedAnswer["answer"]): string =>
  createHash("sha256").update(Redacted.value(answer)).digest("hex")

/**
 * An answer that nobody understands says something about all: at once, or when a second user of the client meets one.
 *
 * @since 0.1.0
 * @category models
 */
export interface Drift {
  readonly reason: string
  readonly users: 1 | 2
}

/**
 * An answer to be kept whose attempt is over.
 *
 * @since 0.1.0
 * @category models
 */
export interface SealRequest extends NewSealedAnswer {
  readonly userUlid: UserUlid
  readonly history?: Event | undefined
  readonly drift?: (Drift & { readonly circuit: CircuitRequest }) | undefined
}

/**
 * Announces the refresh token that is spent next.
 *
 * @since 0.1.0
 * @category models
 */
export interface SpendRequest {
  readonly userUlid: UserUlid
  readonly attemptId: string
  /** Hash of the refresh token that is spent next. */
  readonly next: string
  /** Hashes of refresh tokens Cal.com refused: fallbacks among them are removed. */
  readonly dead: ReadonlyArray<string>
}

/**
 * A pair that Cal.com answered, to be stored.
 *
 * @since 0.1.0
 * @category models
 */
export interface CommitRequest {
  readonly userUlid: UserUlid
  readonly attemptId: string
  /** The account as it was claimed, with what Cal.com's answer adds (scope, user id). */
  readonly connection: Connection
  readonly pair: TokenPair
  /** Hash of the row's refresh token when the attempt was claimed. */
  readonly seen: string
  /** Hashes of refresh tokens that were spent or refused on the way. */
  readonly dead: ReadonlyArray<string>
  /** The pair came of a reissue: the log of changes says so. */
  readonly reissued?: boolean | undefined
  /**
   * What finds the user from now on, provided that `before` did until now. Otherwise nothing does: somebody ended those
   * meanwhile, and what was thought of before that must not bring them back.
   */
  readonly lookups?: { readonly before: Lookups; readonly after: Lookups } | undefined
  /**
   * Only the access token is news: the refresh token of the pair is the one that was spent, and its successor may be in
   * this answer. It stays in the journal, to be probed after `probeIn`.
   */
  readonly unread?:
    | { readonly sealed: NewSealedAnswer; readonly drift: Drift | undefined; readonly probeIn: Duration.Duration }
    | undefined
  /** The pair was read in an answer that is sealed under this hash: all of these have done their duty. */
  readonly unsealed?: string | undefined
  /** Whose circuit a pair may close. */
  readonly circuit?: CircuitRequest | undefined
  readonly schedule?: Schedule | undefined
  readonly history?: Event | undefined
}

/**
 * What became of a pair.
 *
 * @since 0.1.0
 * @category models
 */
export type CommitResult = Data.TaggedEnum<{
  /** The pair is the row's now: in time, or late but nothing newer was there. */
  Stored: { readonly row: StoredConnection }
  /** It already was: an earlier answer of the storage got lost. */
  AlreadyStored: { readonly row: StoredConnection }
  /** Another pair of the same account is stored; ours is kept beside it. */
  KeptAsFallback: { readonly row: StoredConnection }
  /** No row, or another Cal.com account. */
  Discarded: Record<never, never>
}>
export const CommitResult = Data.taggedEnum<CommitResult>()

/**
 * How an attempt failed. Durations count from the write, by the storage's clock.
 *
 * @since 0.1.0
 * @category models
 */
export type AttemptFailure = Data.TaggedEnum<{
  /** Cal.com did not spend the token. */
  NotSpent: { readonly error: AttemptError; readonly backoff: Duration.Duration }
  /** It may have been spent. */
  Unknown: {
    readonly error: AttemptError
    readonly backoff: Duration.Duration
    readonly probeIn: Duration.Duration
    /** The answer, if there was one that is not understood. It is kept also when the attempt is no longer ours. */
    readonly sealed?: NewSealedAnswer | undefined
    readonly drift?: Drift | undefined
  }
  /**
   * Every token was refused; `dead` are the ones that were tried. Not written if the row has a fallback besides, and not
   * while the brake is on: then it is as if released. `probe`: as for that.
   */
  Terminal: {
    readonly cause: ReauthorizationCause
    readonly dead: ReadonlyArray<string>
    readonly probe: Option.Option<string>
  }
  /**
   * The user is not at fault and the attempt does not count. `probe`: as the claim answered it. `refusal`: Cal.com refuses
   * the client, in these words.
   */
  Released: { readonly probe: Option.Option<string>; readonly refusal?: string | undefined }
}>
export const AttemptFailure = Data.taggedEnum<AttemptFailure>()

/**
 * The end of an attempt that brought no pair.
 *
 * @since 0.1.0
 * @category models
 */
export interface FailRequest {
  readonly userUlid: UserUlid
  readonly attemptId: string
  readonly failure: AttemptFailure
  readonly circuit?: CircuitRequest | undefined
  /** So many users refused for good within the window, and more than half of all refreshes, put the brake on. */
  readonly brake?: { readonly users: number; readonly window: Duration.Duration } | undefined
  readonly history?: Event | undefined
}

/**
 * What became of a failure.
 *
 * @since 0.1.0
 * @category models
 */
export type FailResult = Data.TaggedEnum<{
  Recorded: { readonly row: StoredRow }
  /** The attempt is no longer ours, or a fallback has come: nothing was written. */
  NotRecorded: { readonly row: Option.Option<StoredRow>; readonly attemptIsMine: boolean }
  /** Not marked as terminal, because of the client's circuit. */
  Spared: {
    readonly row: StoredRow
    readonly retryAfter: Duration.Duration
    readonly cause: CircuitCause
    readonly reason: string
  }
}>
export const FailResult = Data.taggedEnum<FailResult>()

/**
 * A connection to be stored.
 *
 * @since 0.1.0
 * @category models
 */
export interface ConnectRequest {
  readonly userUlid: UserUlid
  readonly connection: Connection
  readonly pair: TokenPair
  /** Take the Cal.com account from the user that has it; that user's connection is removed. */
  readonly replace?: boolean | undefined
  /** Cal.com granted the pair just now, and nobody handed it in: its access token finds the user. */
  readonly granted?: boolean | undefined
  /** When its token is handed out with it; see `StoredConnection`. */
  readonly handedOutAt?: number | undefined
  /** With a pair that was granted, nothing is wrong with this client: its circuit closes. */
  readonly circuit?: CircuitRequest | undefined
  readonly schedule?: Schedule | undefined
  readonly history?: Event | undefined
}

/**
 * The row after that.
 *
 * @since 0.1.0
 * @category models
 */
export interface Connected extends StoredConnection {
  /** Who had the Cal.com account until now, and has no connection any more. */
  readonly displaced?: UserUlid | undefined
}

/**
 * A new pair that somebody handed in for a connection.
 *
 * @since 0.1.0
 * @category models
 */
export interface UpdateRequest {
  readonly userUlid: UserUlid
  /** The account as it was read: of another one, the pair is not stored. */
  readonly connection: Connection
  readonly pair: TokenPair
  readonly schedule?: Schedule | undefined
  readonly history?: Event | undefined
}

/**
 * A connection that another system kept until now, with the pair that it had last.
 *
 * @since 0.1.0
 * @category models
 */
export interface ImportRequest {
  readonly userUlid: UserUlid
  readonly connection: Connection
  readonly pair: TokenPair
  readonly schedule?: Schedule | undefined
  readonly history?: Event | undefined
}

/**
 * So many are imported by one call: their rows stay locked until its end.
 *
 * @since 0.1.0
 * @category constants
 */
export const maxImports = 500

/**
 * What became of it.
 *
 * @since 0.1.0
 * @category models
 */
export type ImportResult = Data.TaggedEnum<{
  /** Nothing was known of the user. */
  Imported: { readonly row: StoredConnection }
  /** The pair that an import stored was still there, and is replaced. */
  Updated: { readonly row: StoredConnection }
  /** The pair that is there already, or one from before it. */
  Unchanged: {}
  /** A pair came by any other way since, or the user was connected otherwise. */
  RefreshedHere: {}
  /** Another user has the Cal.com account. */
  AccountInUse: {}
  /** The user is connected to another Cal.com account, or through another client. */
  OtherAccount: {}
}>
export const ImportResult = Data.taggedEnum<ImportResult>()

/**
 * When a pair is to be refreshed before anybody waits, as far as the storage has to know. Instants are milliseconds since
 * the epoch, in Cal.com's time.
 *
 * @since 0.1.0
 * @category models
 */
export interface Schedule {
  /** Of a user who is active: before the access token expires. */
  readonly aheadAt: number
  /** Of anybody: before the refresh token itself expires; absent where nobody knows when that is. */
  readonly keepAt?: number | undefined
  /** When somebody last asked for the user's token; absent leaves what is known. */
  readonly usedAt?: number | undefined
}

/**
 * Asks for the leases of some users of one client whose pairs are due. It obeys back-off, attempts per window and probe
 * times, and claims nothing while the client's circuit is open: trials are for people who wait.
 *
 * @since 0.1.0
 * @category models
 */
export interface ClaimDueRequest extends Pick<ClaimRequest, "lease" | "cooldownWindow" | "maxAttempts"> {
  readonly circuit: CircuitRequest
  /** Whose attempts they are: what the attempts' ids begin with. */
  readonly process?: string | undefined
  /** So many leases at most. */
  readonly limit: number
  /** Cal.com's time, in milliseconds. */
  readonly now: number
  /** Users of whom nobody asked since then are only kept from losing their grant; in Cal.com's time, in milliseconds. */
  readonly usedSince: number
}

/**
 * What that found.
 *
 * @since 0.1.0
 * @category models
 */
export interface ClaimedDue {
  readonly claims: ReadonlyArray<DueClaim>
  /** Whether it ended at its limit, and more may be due. */
  readonly isMore: boolean
}

/**
 * A claim that was granted.
 *
 * @since 0.1.0
 * @category models
 */
export interface DueClaim {
  readonly attemptId: string
  /** Since when it is due, in Cal.com's time, in milliseconds. */
  readonly dueAt: number
  readonly claimed: Extract<ClaimResult, { readonly _tag: "Claimed" }>
}

/**
 * So many rows are looked at for each lease that is asked for: some are somebody else's, or have to wait.
 *
 * @since 0.1.0
 * @category constants
 */
export const maxVisits = 10

/**
 * For so long after a client's circuit closed nothing is claimed that nobody waits for, in milliseconds: what opened it may not
 * be over, and it would be closed to people again.
 *
 * @since 0.1.0
 * @category constants
 */
export const quiet = 60_000

/**
 * A row that is claimed is due again when its lease is over, or after twice as long for each failure before, at most so many
 * times.
 *
 * @since 0.1.0
 * @category constants
 */
export const maxDoublings = 5

/**
 * Of so many rows that are due first, those of users who are active no more are put off by one claim, so that they are in
 * nobody's way.
 *
 * @since 0.1.0
 * @category constants
 */
export const maxPutOff = 500

/**
 * Asks for a page of connections.
 *
 * @since 0.1.0
 * @category models
 */
export interface ListRequest {
  readonly status?: Status["_tag"] | undefined
  /** Only users who are connected to this user of Cal.com's, through whichever client. */
  readonly calUserId?: number | undefined
  /** Only users after this one, in the order of their ULIDs. */
  readonly after?: UserUlid | undefined
  readonly limit: number
}

/**
 * Asks for a page of those who have to reconnect, the latest first.
 *
 * @since 0.1.0
 * @category models
 */
export interface ReconnectingRequest {
  /** Only users before this one in that order. */
  readonly before?: { readonly since: number; readonly userUlid: UserUlid } | undefined
  readonly limit: number
}

/**
 * A connection as lists show it: without tokens, so a row that cannot be decrypted is listed too.
 *
 * @since 0.1.0
 * @category models
 */
export interface ConnectionSummary extends Omit<StoredConnection, "pair" | "sessionsAfter"> {
  readonly accessTokenExpiresAt: number
  readonly refreshTokenExpiresAt?: number | undefined
}

/**
 * How a connection stands, and how it came to that: without tokens, as in lists.
 *
 * @since 0.1.0
 * @category models
 */
export interface StoredHistory {
  readonly connection: ConnectionSummary
  /** When it was read, by the storage's clock, in milliseconds. */
  readonly at: number
  readonly open?: OpenAttempt | undefined
  /** The circuit of the user's client, while it is open: nobody of it is refreshed but for trials. */
  readonly circuit?: OpenCircuit | undefined
  /** In their order, the latest last. */
  readonly entries: ReadonlyArray<Entry>
}

/**
 * A hint that somebody, perhaps this very process, wrote. It may come late, twice, out of order, or not at all.
 *
 * @since 0.1.0
 * @category models
 */
export type Notice = Data.TaggedEnum<{
  /** A new pair, a status, the end of an attempt or of sessions, a removal. */
  Written: {
    readonly userUlid: UserUlid
    /** The number that the write gave the row; absent when the row is gone, or when the driver cannot tell. */
    readonly version?: number | undefined
  }
  /** Notices may have been missed: any row may be another by now. */
  Missed: {}
}>
export const Notice = Data.taggedEnum<Notice>()

/**
 * A key that rows need and nobody configured.
 *
 * @since 0.1.0
 * @category models
 */
export interface MissingKey {
  readonly id: string
  readonly rows: number
}

/**
 * What a storage holds.
 *
 * @since 0.1.0
 * @category models
 */
export interface Counts {
  /** Above {@link exactly} those who are active are estimated, and of the others no more are counted. */
  readonly users: { readonly active: number; readonly reauthorizationRequired: number }
  /** Open circuits by their cause. */
  readonly circuits: Readonly<Record<CircuitCause, number>>
  /** Sealed answers; no more than {@link exactly} are counted. */
  readonly sealed: number
}

/**
 * So far things are counted.
 *
 * @since 0.1.0
 * @category constants
 */
export const exactly = 10_000

type Read<A> = Effect.Effect<A, StorageUnavailable | TokenUnreadable>

/**
 * Where tokens are kept. Lease and cooldown are judged by the storage's own clock, hence the durations.
 *
 * @since 0.1.0
 * @category tags
 */
export class TokenStorage extends Context.Tag("cal-tokens/TokenStorage")<
  TokenStorage,
  {
    readonly find: (userUlid: UserUlid) => Read<Option.Option<StoredRow>>
    /** Takes the lease of a user's row if it is free or lapsed. */
    readonly claim: (request: ClaimRequest) => Read<ClaimResult>
    /**
     * Takes the leases of rows that are due, the longest first, past those that somebody else has in hand. What is claimed
     * is due again when its lease is over, unless it was committed by then. Rows under keys that are not at hand are passed over.
     */
    readonly claimDue: (request: ClaimDueRequest) => Effect.Effect<ClaimedDue, StorageUnavailable>
    /** Journals the next refresh token of an open attempt; `None` when the attempt is no longer ours. */
    readonly spend: (request: SpendRequest) => Read<Option.Option<StoredRow>>
    /** Stores the pair that Cal.com answered, as the table says. Safe to repeat. */
    readonly commit: (request: CommitRequest) => Read<CommitResult>
    /** Ends an attempt that brought no pair. */
    readonly fail: (request: FailRequest) => Read<FailResult>
    /** Keeps an answer that came when its attempt was over; `false` when the user is gone. */
    readonly seal: (request: SealRequest) => Effect.Effect<boolean, StorageUnavailable>
    /**
     * Sealed answers of so many users, in the order of their ULIDs: those after `after`. Empty at the end only; those that
     * the keys do not open are passed over.
     */
    readonly sealed: (request: {
      readonly after?: UserUlid | undefined
      readonly limit: number
    }) => Effect.Effect<ReadonlyArray<SealedAnswer & { readonly userUlid: UserUlid }>, StorageUnavailable>
    /** Stores a new connection, or a new pair for an existing one. */
    readonly connect: (
      request: ConnectRequest
    ) => Effect.Effect<Connected, CalAccountInUse | StorageUnavailable | TokenUnreadable>
    /** Stores a new pair of the same account; `None` when there is no connection, or of another account by now. */
    readonly update: (request: UpdateRequest) => Read<Option.Option<StoredConnection>>
    /**
     * Takes over connections of another system, at most {@link maxImports}, user by user in the order of their ULIDs, in one
     * step. The answers are in the order of the requests.
     */
    readonly import: (
      requests: ReadonlyArray<ImportRequest>
    ) => Effect.Effect<ReadonlyArray<ImportResult>, StorageUnavailable>
    /** Removes a connection with everything about it; `false` when there was none. */
    readonly disconnect: (userUlid: UserUlid) => Effect.Effect<boolean, StorageUnavailable>
    /** Ends the user's sessions and forgets which access tokens name the user; `false` when there is no connection. */
    readonly endSessions: (userUlid: UserUlid) => Effect.Effect<boolean, StorageUnavailable>
    /**
     * The user whom an access token finds, by its SHA-256, and what the token is to them. Several may have the same one:
     * `userUlid` picks; else, of those who have it now, it is the one whose pair was stored last, or the one who had it
     * last.
     */
    readonly findByAccessToken: (
      hash: string,
      userUlid?: UserUlid
    ) => Read<Option.Option<{ readonly row: StoredRow; readonly lookup: Lookup }>>
    /**
     * Writes when somebody last asked for the users' tokens. A hint: who is being written is passed over, and an instant
     * within `precision` (milliseconds) of what is known changes nothing.
     */
    readonly used: (
      users: ReadonlyArray<{ readonly userUlid: UserUlid; readonly at: number }>,
      precision: number
    ) => Effect.Effect<void, StorageUnavailable>
    /** Writes when tokens were handed out last; an earlier instant than is known changes nothing. */
    readonly handedOut: (
      users: ReadonlyArray<{ readonly userUlid: UserUlid; readonly at: number }>
    ) => Effect.Effect<void, StorageUnavailable>
    /** What is sealed under keys that this process does not have: by the key's id, and how many rows. */
    readonly missingKeys: Effect.Effect<ReadonlyArray<MissingKey>, StorageUnavailable>
    /** How a user's connection came to stand as it does; `None` when there is no connection. */
    readonly history: (userUlid: UserUlid) => Effect.Effect<Option.Option<StoredHistory>, StorageUnavailable>
    /** A page of connections, in the order of their users' ULIDs. */
    readonly list: (request: ListRequest) => Effect.Effect<ReadonlyArray<ConnectionSummary>, StorageUnavailable>
    /** A page of those who have to reconnect, the latest first; of one instant the last ULID first. */
    readonly reconnecting: (
      request: ReconnectingRequest
    ) => Effect.Effect<ReadonlyArray<ConnectionSummary>, StorageUnavailable>
    /** How much there is of what an operator watches. Cheap, however many users there are. */
    readonly counts: Effect.Effect<Counts, StorageUnavailable>
    /**
     * How attempts of all users ended, by histories: from the minute on that begins at `since` by the storage's clock, but at
     * most within the last hour, and no more than `Activity.atOnce` minutes. What is older than a minute does not change, but
     * that the attempts of users who are gone are missing.
     */
    readonly activity: (since: number | undefined) => Effect.Effect<Activity, StorageUnavailable>
    /** Whose access token ends when, of active users, and which circuits are open. `now`: Cal.com's time, in milliseconds. */
    readonly outlook: (now: number) => Effect.Effect<Outlook, StorageUnavailable>
    /** Answers when the storage can be written to. */
    readonly ping: Effect.Effect<void, StorageUnavailable>
    /**
     * What is written from now on, as far as this process hears of it; what a driver holds for it (a connection) it holds
     * as long as the stream runs. Ends at once where no other process can write, or where there is no way to hear of it.
     */
    readonly notices: Stream.Stream<Notice>
    /** What was written by whichever process, in the same step as the writes themselves. */
    readonly log: ChangeLog
  }
>() {}
