/**
 * One user's row and what each event makes of it: the table in `TokenStorage.ts` as pure functions. They take the row
 * and the storage's instant and answer with the result and the next row; the very same row means "nothing written". The
 * SQL statements say the same in another language, and the tests compare the two.
 *
 * Every instant is in milliseconds since the epoch, by the storage's clock; `null` where the database says null.
 */
import { Duration, Option } from "effect"
import { type Connection, hash, isSameAccount, type TokenPair } from "../Token.js"
import type { AttemptError } from "../TokenError.js"
import {
  AttemptFailure,
  ClaimResult,
  CommitResult,
  FailResult,
  ImportResult,
  maxDoublings,
  maxFallbacks,
  type ClaimDueRequest,
  type ClaimRequest,
  type CommitRequest,
  type ConnectionSummary,
  type ConnectRequest,
  type FailRequest,
  type ImportRequest,
  type Schedule,
  type SpendRequest,
  type Status,
  type StoredConnection,
  type StoredRow
} from "../TokenStorage.js"
import * as Lookups from "./Lookups.js"

export interface Row extends StoredRow {
  /** Set while an attempt is open, also after its lease is over. */
  readonly attemptId: string | null
  /** When the last attempt started; stays after its end. */
  readonly attemptStartedAt: number | null
  readonly leaseUntil: number | null
  /** Hash of the refresh token whose spending was begun and whose outcome is not known yet. */
  readonly journal: string | null
  readonly probeNotBefore: number | null
  readonly windowStartedAt: number | null
  readonly attempts: number
  readonly consecutiveFailures: number
  readonly nextAttemptAt: number | null
  readonly lastError: AttemptError | null
  readonly rejectedRefreshAt: number | null
  /** The version of the pair that a reissue brought last. */
  readonly reissuedVersion: number | null
  /** When it is looked at next for a refresh that nobody waits for; `null` where there is nothing to look for. */
  readonly visitAt: number | null
  readonly aheadAt: number | null
  readonly keepAt: number | null
  readonly usedAt: number | null
  /** Hash of the refresh token that an import stored, as long as nothing else stored a pair. */
  readonly importedHash: string | null
  readonly importedAt: number | null
  /** What the open attempt's claim overwrote, for a release that leaves no trace. */
  readonly priorStartedAt: number | null
  readonly priorRejectedAt: number | null
}

/** What an event answers, and what it makes of the row. */
type Transition<A> = readonly [result: A, next: Row]

const active: Status = { _tag: "Active" }

const closed = { attemptId: null, leaseUntil: null, journal: null, probeNotBefore: null } as const

const unharmed = { consecutiveFailures: 0, nextAttemptAt: null, lastError: null } as const

const blank = {
  ...closed,
  ...unharmed,
  attemptStartedAt: null,
  windowStartedAt: null,
  attempts: 0,
  rejectedRefreshAt: null,
  reissuedVersion: null,
  priorStartedAt: null,
  priorRejectedAt: null
} as const

const unimported = { importedHash: null, importedAt: null } as const

const unscheduled = { visitAt: null, aheadAt: null, keepAt: null, usedAt: null } as const

type Visits = Pick<Row, keyof typeof unscheduled>

/** After a new pair became the row's. Without a schedule the one before counts: it comes to nothing when it is due. */
const scheduled = (row: Visits, schedule: Schedule | undefined): Visits =>
  schedule === undefined
    ? { visitAt: row.visitAt, aheadAt: row.aheadAt, keepAt: row.keepAt, usedAt: row.usedAt }
    : {
        visitAt: (row.usedAt ?? schedule.usedAt ?? null) === null ? (schedule.keepAt ?? null) : schedule.aheadAt,
        aheadAt: schedule.aheadAt,
        keepAt: schedule.keepAt ?? null,
        usedAt: latest(row.usedAt, schedule.usedAt ?? null)
      }

const latest = (one: number | null, other: number | null) =>
  one === null || other === null ? (one ?? other) : Math.max(one, other)

/** A duration in whole milliseconds, as the storage counts; endless ones become a hundred years. */
export const millis = (duration: Duration.DurationInput): number =>
  Math.min(Math.round(Duration.toMillis(duration)), 100 * 365 * 86_400_000)

/** What readers see of a row: nothing that is for claims. */
export const toConnection = ({ handedOutAt, ...row }: StoredConnection): StoredConnection => ({
  userUlid: row.userUlid,
  connection: row.connection,
  pair: row.pair,
  status: row.status,
  version: row.version,
  sessionsAfter: row.sessionsAfter,
  updatedAt: row.updatedAt,
  ...(handedOutAt === undefined ? {} : { handedOutAt })
})

/** The same with all that may be spent, and all that finds the user. */
export const toStored = (row: Row): StoredRow => ({
  ...toConnection(row),
  fallbacks: row.fallbacks,
  lookups: row.lookups
})

/** What lists show of a row. */
export const toSummary = (row: Row): ConnectionSummary => ({
  userUlid: row.userUlid,
  connection: row.connection,
  status: row.status,
  version: row.version,
  updatedAt: row.updatedAt,
  accessTokenExpiresAt: row.pair.accessTokenExpiresAt,
  refreshTokenExpiresAt: row.pair.refreshTokenExpiresAt
})

export const claim = (row: Row, request: ClaimRequest, now: number): Transition<ClaimResult> => {
  const stored = toStored(row)
  const until = (instant: number) => Duration.millis(instant - now)
  const lastError = Option.fromNullable(row.lastError)

  const { purpose } = request
  const isHold = purpose._tag === "Hold"
  const rejectedInterval = purpose._tag === "Refresh" ? purpose.rejectedInterval : undefined
  if (purpose._tag === "Refresh" && row.version > purpose.knownVersion) return [ClaimResult.Newer({ row: stored }), row]
  if (purpose._tag === "Refresh" || purpose._tag === "Ahead") {
    if (row.status._tag !== "Active") return [ClaimResult.Terminal({ row: stored, sealed: [] }), row]
  }
  if (purpose._tag === "Reissue") {
    if (!isSameAccount(row.connection, purpose.account)) return [ClaimResult.Moved({ row: stored }), row]
    // A number above the row's own is nobody's reissue.
    const reissued = row.reissuedVersion ?? 0
    if (reissued > purpose.knownVersion && reissued <= row.version) return [ClaimResult.Newer({ row: stored }), row]
  }
  if (row.attemptId !== null && row.leaseUntil !== null && row.leaseUntil > now) {
    return [ClaimResult.Busy({ row: stored, retryAfter: until(row.leaseUntil) }), row]
  }
  if (rejectedInterval !== undefined && row.rejectedRefreshAt !== null) {
    const over = row.rejectedRefreshAt + millis(rejectedInterval)
    if (over > now) return [ClaimResult.RejectedRecently({ row: stored, retryAfter: until(over), lastError }), row]
  }
  // The token has expired since the last attempt started: what failed before must not postpone the next one.
  const unheld =
    isHold ||
    (request.expiredFor !== undefined &&
      (row.attemptStartedAt === null || row.attemptStartedAt < now - millis(request.expiredFor)))
  if (!unheld && row.nextAttemptAt !== null && row.nextAttemptAt > now) {
    return [ClaimResult.CoolingDown({ row: stored, retryAfter: until(row.nextAttemptAt), lastError }), row]
  }
  const windowOver = row.windowStartedAt === null ? now : row.windowStartedAt + millis(request.cooldownWindow)
  // What is held is given back as it was, with its window.
  const counting = isHold || (!unheld && windowOver > now)
  if (!isHold && counting && row.attempts >= request.maxAttempts) {
    return [ClaimResult.CoolingDown({ row: stored, retryAfter: until(windowOver), lastError }), row]
  }
  const { consecutiveFailures } = row
  if (row.journal !== null && row.probeNotBefore !== null && row.probeNotBefore > now) {
    const retryAfter = until(row.probeNotBefore)
    return [ClaimResult.ProbeLater({ row: stored, retryAfter, lastError, consecutiveFailures }), row]
  }
  const next: Row = {
    ...row,
    attemptId: request.attemptId,
    attemptStartedAt: now,
    leaseUntil: now + millis(request.lease),
    journal: row.journal ?? hash(row.pair.refreshToken),
    probeNotBefore: null,
    windowStartedAt: counting ? (row.windowStartedAt ?? now) : now,
    attempts: counting ? row.attempts + 1 : 1,
    rejectedRefreshAt: rejectedInterval === undefined ? row.rejectedRefreshAt : now,
    priorStartedAt: row.attemptStartedAt,
    priorRejectedAt: row.rejectedRefreshAt
  }
  const probe = Option.fromNullable(row.journal)
  return [ClaimResult.Claimed({ row: stored, probe, consecutiveFailures, sealed: [] }), next]
}

/** Nobody uses the user, and the grant is in no danger. */
export const isIdle = ({ keepAt, usedAt }: Row, { now, usedSince }: ClaimDueRequest): boolean =>
  (usedAt === null || usedAt < usedSince) && (keepAt === null || keepAt > now)

/** When a row that was due is looked at again. */
export const nextVisit = (result: ClaimResult, { lease, now }: ClaimDueRequest): number | null =>
  result._tag === "Claimed"
    ? now + millis(lease) * 2 ** Math.min(result.consecutiveFailures, maxDoublings)
    : "retryAfter" in result
      ? now + Math.max(1000, millis(result.retryAfter))
      : null

/** Somebody asked for the user's token at `at`, in Cal.com's time. */
export const used = (row: Row, at: number, precision: number): Row =>
  row.aheadAt === null || (row.usedAt !== null && Math.abs(at - row.usedAt) < precision)
    ? row
    : { ...row, usedAt: at, visitAt: Math.min(row.visitAt ?? Infinity, row.aheadAt) }

export const spend = (row: Row, request: SpendRequest): Transition<Option.Option<StoredRow>> => {
  if (row.attemptId !== request.attemptId) return [Option.none(), row]
  const next: Row = { ...row, journal: request.next, fallbacks: without(row.fallbacks, request.dead) }
  return [Option.some(toStored(next)), next]
}

/**
 * `version` is the number the pair gets if it becomes the row's. `isFree` tells whether a Cal.com account that the answer
 * named for the first time is nobody else's; if it is, the row stays nameless: a pair is never lost for its name.
 */
export const commit = (
  row: Row,
  request: CommitRequest,
  now: number,
  version: number,
  isFree: (connection: Connection) => boolean
): Transition<CommitResult> => {
  const committed = hash(request.pair.refreshToken)
  const current = hash(row.pair.refreshToken)
  const fits = isOf(row.connection, request.connection)
  const isMine = row.attemptId === request.attemptId && fits
  if (!isMine && current === committed) return [CommitResult.AlreadyStored({ row: toConnection(row) }), row]
  if (!isMine && row.fallbacks.some((pair) => hash(pair.refreshToken) === committed)) {
    return [CommitResult.KeptAsFallback({ row: toConnection(row) }), row]
  }
  if (isMine || (current === request.seen && fits)) {
    const next: Row = {
      ...row,
      ...closed,
      ...unharmed,
      connection: named(row.connection, request.connection, isFree),
      pair: request.pair,
      fallbacks: without(row.fallbacks, [...request.dead, committed]),
      lookups: isSame(request.lookups?.before, row.lookups) ? (request.lookups?.after ?? []) : [],
      version,
      reissuedVersion: request.reissued === true ? version : row.reissuedVersion,
      importedHash: null,
      ...(request.unread === undefined
        ? {}
        : { journal: committed, probeNotBefore: now + millis(request.unread.probeIn) }),
      ...scheduled(row, request.schedule),
      status: active,
      updatedAt: now
    }
    return [CommitResult.Stored({ row: toConnection(next) }), next]
  }
  if (!isSameAccount(row.connection, request.connection)) return [CommitResult.Discarded(), row]
  const next: Row = {
    ...row,
    fallbacks: [request.pair, ...without(row.fallbacks, request.dead)].slice(0, maxFallbacks),
    status: active,
    updatedAt: now
  }
  return [CommitResult.KeptAsFallback({ row: toConnection(next) }), next]
}

export const fail = (row: Row, request: FailRequest, now: number): Transition<FailResult> => {
  if (row.attemptId !== request.attemptId) {
    return [FailResult.NotRecorded({ row: Option.some(toStored(row)), attemptIsMine: false }), row]
  }
  const cooled = (error: AttemptError, backoff: Duration.Duration) => ({
    consecutiveFailures: row.consecutiveFailures + 1,
    nextAttemptAt: millis(backoff) > 0 ? now + millis(backoff) : null,
    lastError: error
  })
  const next = AttemptFailure.$match(request.failure, {
    NotSpent: ({ backoff, error }): Row => ({ ...row, ...closed, ...cooled(error, backoff) }),
    Unknown: ({ backoff, error, probeIn }): Row => ({
      ...row,
      ...closed,
      journal: row.journal,
      probeNotBefore: now + millis(probeIn),
      ...cooled(error, backoff)
    }),
    Terminal: ({ cause, dead }): Row => {
      const fallbacks = without(row.fallbacks, dead)
      if (fallbacks.length > 0) return row
      const imported = row.importedAt === null ? {} : { importedAt: row.importedAt }
      const status: Status = { _tag: "ReauthorizationRequired", cause, since: now, ...imported }
      return { ...row, ...closed, fallbacks, status, nextAttemptAt: null, lastError: null, updatedAt: now }
    },
    Released: ({ probe }) => released(row, probe)
  })
  return next === row
    ? [FailResult.NotRecorded({ row: Option.some(toStored(row)), attemptIsMine: true }), row]
    : [FailResult.Recorded({ row: toStored(next) }), next]
}

/** As before the claim. */
export const released = (row: Row, probe: Option.Option<string>): Row => ({
  ...row,
  ...closed,
  journal: Option.getOrNull(probe),
  attempts: Math.max(0, row.attempts - 1),
  attemptStartedAt: row.priorStartedAt,
  rejectedRefreshAt: row.priorRejectedAt
})

/** The row after a connection was handed in; `row` is the user's present one, if any. Sessions made so far are over. */
export const connect = (row: Option.Option<Row>, request: ConnectRequest, now: number, version: number): Row => ({
  ...blank,
  ...Option.match(Option.filter(row, isSpending(request.pair)), { onNone: () => ({}), onSome: attempt }),
  userUlid: request.userUlid,
  connection: request.connection,
  pair: request.pair,
  fallbacks: Option.match(Option.filter(row, keepsAccount(request.connection)), {
    onNone: () => [],
    onSome: ({ fallbacks, pair }) =>
      without([pair, ...fallbacks], [hash(request.pair.refreshToken)]).slice(0, maxFallbacks)
  }),
  lookups: request.granted === true ? Lookups.granted(request.pair) : [],
  ...scheduled(
    Option.getOrElse(row, () => unscheduled),
    request.schedule
  ),
  handedOutAt: request.handedOutAt ?? Option.getOrUndefined(row)?.handedOutAt,
  ...unimported,
  version,
  sessionsAfter: version,
  status: active,
  updatedAt: now
})

/** The same for a connection that another system kept until now; `isFree` as for a commit. */
export const takeOver = (
  row: Option.Option<Row>,
  request: ImportRequest,
  now: number,
  version: number,
  isFree: (connection: Connection) => boolean
): readonly [result: ImportResult, next: Option.Option<Row>] => {
  const { connection } = request
  const given = importable(request)
  const known = Option.map(row, (row) => ({ ...importable(row), importedHash: row.importedHash }))
  const verdict = judgeImport(known, given, isFree(connection))
  if (verdict !== "Imported" && verdict !== "Updated") return [ImportResult[verdict](), row]
  const sessionsAfter = Option.match(Option.filter(row, keepsAccount(connection)), {
    onNone: () => version,
    onSome: ({ sessionsAfter }) => sessionsAfter
  })
  const next: Row = {
    ...connect(row, request, now, version),
    sessionsAfter,
    importedHash: given.refreshHash,
    importedAt: now
  }
  return [ImportResult[verdict]({ row: toConnection(next) }), Option.some(next)]
}

/** What an import looks at, of the row and of what is given. */
export interface Importable {
  readonly connection: Connection
  readonly refreshHash: string
  /** In ms, where it is known. */
  readonly issuedAt: number | undefined
  /** In ms. */
  readonly accessTokenExpiresAt: number
}

export const importable = ({ connection, pair }: Pick<ImportRequest, "connection" | "pair">): Importable => ({
  connection,
  refreshHash: hash(pair.refreshToken),
  issuedAt: pair.issuedAt,
  accessTokenExpiresAt: pair.accessTokenExpiresAt
})

/** What an import comes to. `isFree`: nobody else has the account. */
export const judgeImport = (
  row: Option.Option<Importable & { readonly importedHash: string | null }>,
  given: Importable,
  isFree: boolean
): ImportResult["_tag"] => {
  if (Option.isSome(row)) {
    const known = row.value
    if (isElsewhere(known.connection, given.connection)) return "OtherAccount"
    if (known.refreshHash === given.refreshHash) return "Unchanged"
    if (known.refreshHash !== known.importedHash) return "RefreshedHere"
    if (isOlder(given, known)) return "Unchanged"
  }
  if (!isFree) return "AccountInUse"
  return Option.isNone(row) ? "Imported" : "Updated"
}

/** Certainly another account, or another client's. */
const isElsewhere = (stored: Connection, given: Connection): boolean =>
  stored._tag !== given._tag ||
  stored.clientId !== given.clientId ||
  (stored.calUserId !== undefined && given.calUserId !== undefined && stored.calUserId !== given.calUserId)

/** By when they were issued, where that is known of both and tells them apart; else by when they expire. */
const isOlder = (given: Importable, stored: Importable): boolean =>
  given.issuedAt !== undefined &&
  stored.issuedAt !== undefined &&
  Math.floor(given.issuedAt) !== Math.floor(stored.issuedAt)
    ? given.issuedAt < stored.issuedAt
    : Math.floor(given.accessTokenExpiresAt) < Math.floor(stored.accessTokenExpiresAt)

/** Whether the pair's refresh token is being spent, or may have been: then it is no news that it is handed in again. */
const isSpending =
  ({ refreshToken }: TokenPair) =>
  (row: Row): boolean =>
    row.journal === hash(refreshToken)

const attempt = ({ attemptId, attemptStartedAt, journal, leaseUntil, probeNotBefore }: Row) => ({
  attemptId,
  attemptStartedAt,
  journal,
  leaseUntil,
  probeNotBefore
})

const isSame = (one: Lookups.Lookups | undefined, other: Lookups.Lookups): boolean =>
  one !== undefined && Lookups.encode(one) === Lookups.encode(other)

/** Whether what is stored of a user's earlier pairs stays useful: only if it certainly is the same Cal.com account. */
const keepsAccount =
  (connection: Connection) =>
  (row: Row): boolean =>
    isSameAccount(row.connection, connection)

/** Whether a pair of this account may be the row's: of the same account, or of the first name of a nameless one. */
export const isOf = (stored: Connection, answered: Connection): boolean =>
  stored._tag === answered._tag &&
  stored.clientId === answered.clientId &&
  (stored.calUserId === undefined || stored.calUserId === answered.calUserId)

const without = (pairs: ReadonlyArray<TokenPair>, dead: ReadonlyArray<string>): ReadonlyArray<TokenPair> =>
  pairs.filter((pair) => !dead.includes(hash(pair.refreshToken)))

/** The stored account with what Cal.com's answer adds to it. */
const named = (stored: Connection, answered: Connection, isFree: (connection: Connection) => boolean): Connection => {
  if (stored._tag !== "OAuth2" || answered._tag !== "OAuth2") return stored
  const scope = answered.scope ?? stored.scope
  const calUserId =
    stored.calUserId ?? (isFree({ ...answered, clientId: stored.clientId }) ? answered.calUserId : undefined)
  return {
    _tag: "OAuth2",
    clientId: stored.clientId,
    ...(calUserId === undefined ? {} : { calUserId }),
    ...(scope === undefined ? {} : { scope })
  }
}
