/**
 * What tests of the storage port share: users, pairs, accounts, requests with every field filled in, and plain views of
 * answers, for `Redacted` values of different content look alike to an assertion.
 */
import { Clock, Duration, Effect, Option, Redacted, Schema, Struct } from "effect"
import type { Event } from "../../src/History.js"
import { type Connection, hash, type ManagedUser, type TokenPair, UserUlid } from "../../src/Token.js"
import { CalUnavailable } from "../../src/TokenError.js"
import {
  AttemptFailure,
  type ClaimRequest,
  type ClaimResult,
  type CommitRequest,
  Purpose,
  type StoredConnection,
  type StoredRow,
  type TokenStorage
} from "../../src/TokenStorage.js"
import * as Lookups from "../../src/TokenStorage/Lookups.js"

export type Storage = TokenStorage["Type"]

let counter = 0

/** A user (and a number) that no other test of this process has. `prefix` decides where it stands in lists. */
export const newUser = (prefix = "01"): { readonly userUlid: UserUlid; readonly calUserId: number } => {
  counter += 1
  const text = prefix + counter.toString().padStart(26 - prefix.length, "0")
  return { userUlid: Schema.decodeSync(UserUlid)(text), calUserId: 1000 + counter }
}

export const pair = (name: string, extra: Partial<TokenPair> = {}): TokenPair => ({
  accessToken: Redacted.make(`access-${name}`),
  refreshToken: Redacted.make(`refresh-${name}`),
  accessTokenExpiresAt: 3_600_000,
  ...extra
})

export const refreshHash = (name: string): string => hash(Redacted.make(`refresh-${name}`))
export const accessHash = (name: string): string => hash(Redacted.make(`access-${name}`))

const managedUser = (calUserId: number): ManagedUser => ({ _tag: "ManagedUser", clientId: "platform", calUserId })
export const managed = (calUserId: number): Connection => managedUser(calUserId)
export const oauth = (calUserId?: number, scope?: string): Connection => ({
  _tag: "OAuth2",
  clientId: "oauth",
  ...(calUserId === undefined ? {} : { calUserId }),
  ...(scope === undefined ? {} : { scope })
})

export const lease = Duration.seconds(30)
const cooldownWindow = Duration.seconds(60)
export const error = new CalUnavailable({ operation: "refresh", reason: "status 503", status: 503 })

/** A claim that nothing but the row's state holds back. */
export const claimOf = (userUlid: UserUlid, request: Partial<ClaimRequest> = {}): ClaimRequest => ({
  userUlid,
  attemptId: "mine",
  purpose: refresh(),
  lease,
  cooldownWindow,
  maxAttempts: 1000,
  ...request
})

/** For a refresh of whatever pair there is, unless a version is known. */
export const refresh = (knownVersion = Number.MAX_SAFE_INTEGER, rejectedInterval?: Duration.Duration): Purpose =>
  Purpose.Refresh({ knownVersion, rejectedInterval })
export const reissue = (calUserId: number, knownVersion = Number.MAX_SAFE_INTEGER): Purpose =>
  Purpose.Reissue({ account: managedUser(calUserId), knownVersion })

export const commitOf = (
  userUlid: UserUlid,
  connection: Connection,
  request: Partial<CommitRequest> = {}
): CommitRequest => ({
  userUlid,
  attemptId: "mine",
  connection,
  pair: pair("two"),
  seen: refreshHash("one"),
  dead: [],
  ...request
})

/** A refresh as it is committed: with what finds the user from then on. */
export const refreshing = (
  storage: Storage,
  userUlid: UserUlid,
  connection: Connection,
  request: Partial<CommitRequest> = {}
) =>
  Effect.flatMap(Effect.all([storage.find(userUlid), Clock.currentTimeMillis]), ([row, at]) => {
    const commit = commitOf(userUlid, connection, request)
    const lookups = Option.map(row, (row) => ({
      before: row.lookups,
      after: request.reissued === true ? Lookups.granted(commit.pair) : Lookups.refreshed(row, commit.pair, at)
    }))
    return storage.commit({ ...commit, lookups: request.lookups ?? Option.getOrUndefined(lookups) })
  })

export const notSpent = (backoff: Duration.DurationInput = 0): AttemptFailure =>
  AttemptFailure.NotSpent({ error, backoff: Duration.decode(backoff) })
export const unknown = (
  probeIn: Duration.DurationInput = "5 seconds",
  backoff: Duration.DurationInput = 0
): AttemptFailure =>
  AttemptFailure.Unknown({ error, backoff: Duration.decode(backoff), probeIn: Duration.decode(probeIn) })
export const terminal = (dead: ReadonlyArray<string> = [refreshHash("one")]): AttemptFailure =>
  AttemptFailure.Terminal({ cause: "revoked", dead, probe: Option.none() })
export const released = (probe: Option.Option<string> = Option.none()): AttemptFailure =>
  AttemptFailure.Released({ probe })

export const bytes = (text: string) => Redacted.make(new TextEncoder().encode(text))

/** What a process says of an attempt that sent the row's token. */
export const attempted = (token: string, extra: Partial<Extract<Event, { _tag: "Attempt" }>> = {}): Event => ({
  _tag: "Attempt",
  process: "p1",
  purpose: "refresh",
  trigger: "asked",
  took: 20,
  steps: [{ as: "own", token: refreshHash(token).slice(0, 8), answer: "granted" }],
  end: "granted",
  ...extra
})

/** The names of a row's pairs, the main one first. */
export const names = (row: StoredRow): ReadonlyArray<string> =>
  [row.pair, ...row.fallbacks].map((one) => Redacted.value(one.refreshToken).replace("refresh-", ""))

/** The same of what is stored by now. */
export const namesStored = (storage: Storage, userUlid: UserUlid) =>
  Effect.map(storage.find(userUlid), (row) => names(Option.getOrThrow(row)))

/** A row as plain data. Its numbers are left out: storages count them differently. */
export const plain = (row: StoredConnection | StoredRow) => ({
  ...Struct.omit(row, "version", "sessionsAfter"),
  pair: plainPair(row.pair),
  ...("fallbacks" in row ? { fallbacks: row.fallbacks.map(plainPair), lookups: row.lookups } : {})
})
const plainPair = (one: TokenPair) => ({
  ...one,
  accessToken: Redacted.value(one.accessToken),
  refreshToken: Redacted.value(one.refreshToken)
})

/** What a claim finds, as one word: the row's state as far as anybody can see it. Changes the row if it is free. */
export const observe = (storage: Storage, userUlid: UserUlid) =>
  Effect.map(storage.claim(claimOf(userUlid, { attemptId: "observer" })), stateOf)

const stateOf = (result: ClaimResult): string => {
  switch (result._tag) {
    case "NotFound":
      return "gone"
    case "Busy":
      return "claimed"
    case "CoolingDown":
      return "backing off"
    case "ProbeLater":
      return "unknown"
    case "Claimed":
      return Option.isSome(result.probe) ? "lapsed" : "idle"
    case "Newer":
    case "Terminal":
    case "RejectedRecently":
    case "Moved":
    case "Held":
      return result._tag.toLowerCase()
  }
}

/** An import of one user's pair: its result's name. */
export const takeOver = (storage: Storage, userUlid: UserUlid, connection: Connection, pair: TokenPair) =>
  Effect.map(storage.import([{ userUlid, connection, pair }]), (results) => results.map(({ _tag }) => _tag).join())

/** A new pair of whatever account the user has. */
export const update = (storage: Storage, userUlid: UserUlid, pair: TokenPair) =>
  Effect.flatMap(storage.find(userUlid), (row) =>
    storage.update({
      userUlid,
      connection: Option.match(row, { onNone: () => managed(0), onSome: ({ connection }) => connection }),
      pair,
      history: { _tag: "Updated", process: "p1", token: hash(pair.refreshToken).slice(0, 8) }
    })
  )
