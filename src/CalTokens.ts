/**
 * The product: a Cal.com access token that is always valid. Any number of callers in any number of processes may ask at
 * once; per expiry there is one refresh, and everybody gets its result.
 */
import { Clock, Context, Data, Duration, Effect, Layer, Option, type Redacted, type Scope, type Stream } from "effect"
import { CalClient } from "./CalClient.js"
import * as Commit from "./CalTokens/Commit.js"
import * as Changes from "./CalTokens/Changes.js"
import * as Circuit from "./CalTokens/Circuit.js"
import * as Claim from "./CalTokens/Claim.js"
import * as Flight from "./CalTokens/Flight.js"
import * as Gate from "./CalTokens/Gate.js"
import * as Memory from "./CalTokens/Memory.js"
import * as Owned from "./CalTokens/Owned.js"
import * as Reader from "./CalTokens/Reader.js"

import { type Connection, freshness, hash, isExpired, isExpiringSoon, type UserUlid } from "./Token.js"
import { TokenConfig } from "./TokenConfig.js"
import {
  CalUnavailable,
  InvalidInput,
  NotManagedUser,
  type ReauthorizationCause,
  RefreshCoolingDown,
  type TokenError,
  TokensNotFound
} from "./TokenError.js"
import * as TokenInput from "./TokenInput.js"
import { type StoredConnection, TokenStorage } from "./TokenStorage.js"

/** An access token that Cal.com accepts, as far as anybody can know. */
export interface ValidToken {
  readonly accessToken: Redacted.Redacted
  /** Milliseconds since the epoch, in Cal.com's time. */
  readonly expiresAt: number
  /** Grows with every stored pair. */
  readonly version: number
  /** Whether this call was answered by a refresh, its own or one it joined. */
  readonly refreshed: boolean
}

/** A connection as `connect` takes it; the client id defaults to the configured one of that kind. */
export type NewConnection =
  | { readonly _tag: "ManagedUser"; readonly clientId?: string | undefined; readonly calUserId: number }
  | {
      readonly _tag: "OAuth2"
      readonly clientId?: string | undefined
      readonly calUserId?: number | undefined
      readonly scope?: string | undefined
    }

/** What may be told about a connection: no tokens. Instants are milliseconds since the epoch. */
export interface ConnectionInfo {
  readonly userUlid: UserUlid
  readonly connection: Connection
  readonly status: StoredConnection["status"]
  readonly isExpired: boolean
  readonly isExpiringSoon: boolean
  readonly accessTokenExpiresAt: number
  readonly refreshTokenExpiresAt?: number | undefined
  readonly version: number
  readonly updatedAt: number
}

/** A stored change of one user's tokens. No tokens in it. */
export interface TokenChange {
  readonly userUlid: UserUlid
  readonly kind: "connected" | "updated" | "refreshed" | "reissued" | "disconnected" | "reauthorizationRequired"
  /** Milliseconds since the epoch. */
  readonly at: number
  /** The row's version after the change. */
  readonly version?: number | undefined
  /** Why a reconnect is needed. */
  readonly cause?: ReauthorizationCause | undefined
}

/** Cal.com's refusal of an access token. */
export interface Refusal {
  readonly accessToken: Redacted.Redacted
  /** The HTTP status: 498, 401 or 403. */
  readonly status: number
}

/** What to do with a request whose token Cal.com refused. */
export type Advice = Data.TaggedEnum<{
  /** Send the request once more with this token, after the delay. */
  Retry: { readonly token: ValidToken; readonly delay: Duration.Duration }
  /** No refresh can cure it: Cal.com's answer is the caller's. */
  GiveUp: {}
}>
export const Advice = Data.taggedEnum<Advice>()

export interface EnsureOptions {
  /** Refresh regardless of age; joins a running refresh and obeys the cooldown. */
  readonly forceRefresh?: boolean | undefined
}

export interface RefreshOptions extends EnsureOptions {
  /** Managed users: have Cal.com issue a new pair with the client secret. Every older token of the user dies. */
  readonly reissue?: boolean | undefined
}

export class CalTokens extends Context.Tag("cal-tokens/CalTokens")<
  CalTokens,
  {
    /**
     * A valid access token. Fresh: at once. Expiring soon: at once, refreshed behind the caller's back. Due: waits a
     * little for the refresh, then still answers the valid token. Expired: waits for the refresh and fails if that fails.
     */
    readonly ensureValid: (userUlid: UserUlid, options?: EnsureOptions) => Effect.Effect<ValidToken, TokenError>
    /** Refreshes a token that is expiring soon or expired, any token if forced; `refreshed` says whether it did. */
    readonly refresh: (userUlid: UserUlid, options?: RefreshOptions) => Effect.Effect<ValidToken, TokenError>
    /** Cal.com refused this token: compares it with the stored one, refreshes if that can help, and advises. */
    readonly reportRejected: (userUlid: UserUlid, refusal: Refusal) => Effect.Effect<Advice, TokenError>
    /** Stores a new connection. `replace` takes the Cal.com account from another user. */
    readonly connect: (
      userUlid: UserUlid,
      connection: NewConnection,
      pair: TokenInput.PairInput,
      options?: { readonly replace?: boolean | undefined }
    ) => Effect.Effect<ConnectionInfo, TokenError>
    /** Stores a new pair of the same Cal.com account. */
    readonly update: (userUlid: UserUlid, pair: TokenInput.PairInput) => Effect.Effect<ConnectionInfo, TokenError>
    /** Forgets a user; fails with `TokensNotFound` when there is no connection. */
    readonly disconnect: (userUlid: UserUlid) => Effect.Effect<void, TokenError>
    /** What is known about a connection, without tokens. */
    readonly info: (userUlid: UserUlid) => Effect.Effect<ConnectionInfo, TokenError>
    /** Changes made by this process from now on. A slow reader loses the oldest. */
    readonly changes: Stream.Stream<TokenChange>
  }
>() {}

/** Everything between the edges and the storage; closing the scope waits for refreshes under way. */
export const make: Effect.Effect<typeof CalTokens.Service, never, CalClient | TokenStorage | Scope.Scope> = Effect.gen(
  function* () {
    const config = yield* TokenConfig
    const client = yield* CalClient
    const storage = yield* TokenStorage

    const memory = Memory.make(config)
    // Before the fibers that publish to it, so that it closes after them.
    const pubsub = yield* Changes.pubsub
    const owned = yield* Owned.make({
      shutdownWait: config.shutdownWait,
      onAbandoned: Effect.suspend(() => reportLost(memory.held()))
    })
    const changes = yield* Changes.make(owned, pubsub)
    const circuit = Circuit.make(config)
    const gates = Gate.make<StoredConnection, TokenError>(owned)
    const reader = Reader.make({ memory, storage, owned, now: client.now })
    const commits = Commit.make({ config, storage, memory, owned, publish: changes.publish })
    const flights: Claim.Dependencies = {
      config,
      storage,
      client,
      circuit,
      owned,
      memory,
      commits,
      setCooldown: gates.setCooldown,
      publish: (row) =>
        changes.publish({
          userUlid: row.userUlid,
          kind: "reauthorizationRequired",
          version: row.version,
          cause: row.status._tag === "Active" ? undefined : row.status.cause
        })
    }

    const isDead = (entry: Memory.Entry, now: number) => entry.refused || isExpired(entry.row.pair, now)

    const valid = (row: StoredConnection, refreshed: boolean): ValidToken => ({
      accessToken: row.pair.accessToken,
      expiresAt: row.pair.accessTokenExpiresAt,
      version: row.version,
      refreshed
    })

    /** Ends loops without asking the storage: the mirrored cooldown of this very pair. */
    const admit = (entry: Memory.Entry) => (cooldown: Option.Option<Gate.Cooldown>) =>
      Effect.gen(function* () {
        const pair = { version: entry.row.version, expired: isDead(entry, yield* client.now) }
        const left = Gate.remaining(cooldown, pair, yield* Clock.currentTimeMillis)
        if (Option.isNone(left)) return
        const lastError = Option.getOrUndefined(Option.flatMapNullable(cooldown, (held) => held.lastError))
        return yield* Effect.fail(
          new RefreshCoolingDown({
            userUlid: entry.row.userUlid,
            retryAfter: left.value,
            ...(lastError === undefined ? {} : { lastError })
          })
        )
      })

    const kinds = { refresh: "refresh", reissue: "reissue" } as const

    /** Joins or starts the user's refresh; the caller only waits, and not for ever. */
    const join = (entry: Memory.Entry, options?: { readonly reissue?: boolean; readonly rejected?: boolean }) => {
      const reissue = options?.reissue ?? false
      return gates
        .join(
          entry.row.userUlid,
          reissue ? kinds.reissue : kinds.refresh,
          admit(entry),
          Flight.run(flights, { entry, reissue, rejected: options?.rejected ?? false })
        )
        .pipe(
          Effect.timeoutFail({
            duration: config.callerWait,
            onTimeout: () =>
              new CalUnavailable({
                operation: "refresh",
                reason: "no result in time; the refresh goes on",
                retryAfter: config.probeDelayExpired
              })
          })
        )
    }

    /** Refreshes behind the caller's back, unless Cal.com's rate limit is better left to people who wait. */
    const refreshInBackground = (entry: Memory.Entry) =>
      Effect.gen(function* () {
        const limit = yield* client.rateLimit(entry.row.connection.clientId)
        if (Option.exists(limit, ({ limit, remaining }) => remaining < limit * config.backgroundReserve)) return
        yield* gates.start(
          entry.row.userUlid,
          kinds.refresh,
          admit(entry),
          Flight.run(flights, { entry, reissue: false, rejected: false })
        )
      }).pipe(Effect.ignore)

    /** The token of an entry, as fresh as its age demands. */
    const serve = (entry: Memory.Entry): Effect.Effect<ValidToken, TokenError> =>
      Effect.gen(function* () {
        const now = yield* client.now
        const terminal = Claim.reauthorizationRequired(entry.row)
        const isAlive = !isDead(entry, now)
        if (terminal !== undefined) return isAlive ? valid(entry.row, false) : yield* Effect.fail(terminal)
        const landed = Effect.map(join(entry), (row) => valid(row, true))
        switch (entry.refused ? "expired" : freshness(entry.row.pair, now, config.windows)) {
          case "fresh":
            return valid(entry.row, false)
          case "expiringSoon":
            yield* refreshInBackground(entry)
            return valid(entry.row, false)
          case "due": {
            // A token that does not outlive the wait is no answer at its end.
            const outlives = entry.row.pair.accessTokenExpiresAt - now > Duration.toMillis(config.dueWait)
            return yield* landed.pipe(
              Effect.timeoutFail({
                duration: outlives ? config.dueWait : config.callerWait,
                onTimeout: () =>
                  new CalUnavailable({ operation: "refresh", reason: "no result in time; the refresh goes on" })
              }),
              Effect.catchAll((error) => stillValid(entry, error))
            )
          }
          case "expired":
            // Cal.com's refusal may be what tells that our clock is ahead of its own.
            return yield* entry.refused ? landed : Effect.catchAll(landed, (error) => stillValid(entry, error))
        }
      })

    /** A failed refresh hurts nobody while the token is valid, unless it was the news that the user is gone. */
    const stillValid = (entry: Memory.Entry, error: TokenError): Effect.Effect<ValidToken, TokenError> =>
      Effect.flatMap(client.now, (now) => {
        const latest = Option.getOrElse(memory.get(entry.row.userUlid), () => entry)
        return error._tag === "TokensNotFound" || isDead(latest, now)
          ? Effect.fail(error)
          : Effect.succeed(valid(latest.row, false))
      })

    /** Any pair stored after the call arrived will do: what is stored at that moment is read first. */
    const force = (userUlid: UserUlid) =>
      Effect.gen(function* () {
        const entry = yield* reader.reload(userUlid)
        while (true) {
          const row = yield* join(entry)
          // The flight that was joined may have found what was read here already.
          if (isNewer(row, entry.row)) return valid(row, true)
        }
      })

    /** A user in a terminal state may have been reconnected elsewhere; that is worth a read before saying no. */
    const loadForUse = (userUlid: UserUlid) =>
      Effect.gen(function* () {
        const entry = yield* reader.load(userUlid)
        const isDeadEnd = entry.row.status._tag !== "Active" && isDead(entry, yield* client.now)
        return isDeadEnd ? yield* reader.reload(userUlid) : entry
      })

    const info = (entry: Memory.Entry) =>
      Effect.map(client.now, (now): ConnectionInfo => {
        const { pair, ...row } = entry.row
        return {
          userUlid: row.userUlid,
          connection: row.connection,
          status: row.status,
          isExpired: isDead(entry, now),
          isExpiringSoon: isDead(entry, now) || isExpiringSoon(pair, now, config.windows),
          accessTokenExpiresAt: pair.accessTokenExpiresAt,
          ...(pair.refreshTokenExpiresAt === undefined ? {} : { refreshTokenExpiresAt: pair.refreshTokenExpiresAt }),
          version: row.version,
          updatedAt: row.updatedAt
        }
      })

    /** A stored row replaces whatever this process knew of the user. */
    const adopt = (row: StoredConnection, kind: "connected" | "updated") =>
      Effect.gen(function* () {
        yield* reader.settle(row.userUlid)
        // Not over a newer one, which another process may have stored since.
        const entry = yield* memory.adopt(row)
        yield* gates.setCooldown(row.userUlid, Option.none())
        yield* changes.publish({ userUlid: row.userUlid, kind, version: row.version })
        return yield* info(entry)
      })

    return CalTokens.of({
      ensureValid: Effect.fn("CalTokens.ensureValid")(function* (userUlid, options) {
        if (options?.forceRefresh === true) return yield* force(userUlid)
        return yield* serve(yield* loadForUse(userUlid))
      }),

      refresh: Effect.fn("CalTokens.refresh")(function* (userUlid, options) {
        if (options?.reissue === true) {
          const entry = yield* reader.reload(userUlid)
          if (entry.row.connection._tag !== "ManagedUser") return yield* Effect.fail(new NotManagedUser({ userUlid }))
          return valid(yield* join(entry, { reissue: true }), true)
        }
        if (options?.forceRefresh === true) return yield* force(userUlid)
        const entry = yield* loadForUse(userUlid)
        const age = freshness(entry.row.pair, yield* client.now, config.windows)
        return age === "expiringSoon" && !entry.refused && entry.row.status._tag === "Active"
          ? yield* Effect.catchAll(
              Effect.map(join(entry), (row) => valid(row, true)),
              (error) => stillValid(entry, error)
            )
          : yield* serve(entry)
      }),

      reportRejected: Effect.fn("CalTokens.reportRejected")(function* (userUlid, refusal) {
        const entry = yield* reader.reload(userUlid)
        const { pair } = entry.row
        const retry = (token: ValidToken, delay = Duration.zero) => Advice.Retry({ token, delay })
        if (hash(pair.accessToken) !== hash(refusal.accessToken)) return retry(yield* serve(entry))
        const now = yield* client.now
        if (refusal.status === expiredStatus) yield* memory.markRefused(userUlid, entry.row.version)
        if (refusal.status === expiredStatus || isDead(entry, now)) {
          const refused: Memory.Entry = { ...entry, refused: true }
          return retry(yield* serve(refused))
        }
        if (pair.issuedAt !== undefined && now - pair.issuedAt < Duration.toMillis(config.youngToken)) {
          return retry(valid(entry.row, false), config.youngTokenDelay)
        }
        const terminal = Claim.reauthorizationRequired(entry.row)
        if (terminal !== undefined) return yield* Effect.fail(terminal)
        return yield* join(entry, { rejected: true }).pipe(
          Effect.map((row) => retry(valid(row, true))),
          Effect.catchTag("RefreshCoolingDown", () => Effect.succeed(Advice.GiveUp()))
        )
      }),

      connect: Effect.fn("CalTokens.connect")(function* (userUlid, wanted, input, options) {
        const decoded = yield* TokenInput.pair(input, yield* client.now)
        const connection = yield* resolve(client, wanted, decoded.calUserId)
        const row = yield* storage.connect({ userUlid, connection, pair: decoded.pair, replace: options?.replace })
        return yield* adopt(row, "connected")
      }, Effect.uninterruptible),

      update: Effect.fn("CalTokens.update")(function* (userUlid, input) {
        const decoded = yield* TokenInput.pair(input, yield* client.now)
        const entry = yield* reader.reload(userUlid)
        yield* sameCalUser(entry.row.connection.calUserId, decoded.calUserId)
        const row = yield* storage.update(userUlid, decoded.pair)
        if (Option.isNone(row)) return yield* Effect.fail(new TokensNotFound({ userUlid }))
        return yield* adopt(row.value, "updated")
      }, Effect.uninterruptible),

      disconnect: Effect.fn("CalTokens.disconnect")(function* (userUlid) {
        const existed = yield* storage.disconnect(userUlid)
        yield* reader.settle(userUlid)
        yield* memory.remove(userUlid)
        yield* gates.setCooldown(userUlid, Option.none())
        if (!existed) return yield* Effect.fail(new TokensNotFound({ userUlid }))
        yield* changes.publish({ userUlid, kind: "disconnected" })
      }, Effect.uninterruptible),

      info: Effect.fn("CalTokens.info")(function* (userUlid) {
        return yield* info(yield* reader.load(userUlid))
      }),

      changes: changes.stream
    })
  }
)

export const layer: Layer.Layer<CalTokens, never, CalClient | TokenStorage> = Layer.scoped(CalTokens, make)

/** Cal.com's status for a managed access token that it knows and that is expired. */
const expiredStatus = 498

/** By version or, for a pair that is not stored yet, by refresh token: OAuth2 access tokens of one second are equal. */
const isNewer = (row: StoredConnection, known: StoredConnection) =>
  row.version > known.version || hash(row.pair.refreshToken) !== hash(known.pair.refreshToken)

const reportLost = (users: ReadonlyArray<UserUlid>) =>
  Effect.zipRight(
    Effect.logFatal("Stopped before these users' new tokens could be stored").pipe(Effect.annotateLogs({ users })),
    // A defect, so that the process does not report success.
    Effect.dieMessage(`Stopped with refreshes unfinished; users with unstored tokens: ${users.join(", ") || "none"}`)
  )

/** A token that names another Cal.com user than the connection does would hand one person's calendar to another. */
const sameCalUser = (expected: number | undefined, named: Option.Option<number>) =>
  expected !== undefined && Option.isSome(named) && named.value !== expected
    ? Effect.fail(
        new InvalidInput({ field: "calUserId", expected: "must be the Cal.com user that the access token names" })
      )
    : Effect.void

const resolve = (
  client: typeof CalClient.Service,
  wanted: NewConnection,
  named: Option.Option<number>
): Effect.Effect<Connection, InvalidInput> =>
  Effect.gen(function* () {
    const isManaged = wanted._tag === "ManagedUser"
    const configured = isManaged ? client.managedClientId : client.oauth2ClientId
    const clientId = wanted.clientId ?? Option.getOrUndefined(configured)
    if (clientId === undefined) {
      const variable = isManaged ? "CAL_CLIENT_ID" : "CAL_OAUTH_CLIENT_ID"
      return yield* Effect.fail(
        new InvalidInput({ field: "kind", expected: `needs a client of that kind: set ${variable}` })
      )
    }
    if (wanted.calUserId !== undefined) yield* TokenInput.calUserId(wanted.calUserId)
    yield* sameCalUser(wanted.calUserId, named)
    if (isManaged) return { _tag: "ManagedUser", clientId, calUserId: yield* TokenInput.calUserId(wanted.calUserId) }
    const calUserId = wanted.calUserId ?? Option.getOrUndefined(named)
    return {
      _tag: "OAuth2",
      clientId,
      ...(calUserId === undefined ? {} : { calUserId }),
      ...(wanted.scope === undefined ? {} : { scope: wanted.scope })
    }
  })
