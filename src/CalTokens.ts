/**
 * The product: a Cal.com access token that is always valid. Any number of callers in any number of processes may ask at
 * once; per expiry there is one refresh, and everybody gets its result.
 */
import { Clock, Context, Effect, Layer, Option, type Scope, type Stream } from "effect"
import { CalClient } from "./CalClient.js"
import * as Account from "./CalTokens/Account.js"
import * as Deadline from "./Fibers/Deadline.js"
import * as Commit from "./CalTokens/Commit.js"
import * as Changes from "./CalTokens/Changes.js"
import * as Circuit from "./CalTokens/Circuit.js"
import * as Attempt from "./CalTokens/Attempt.js"
import * as Claim from "./CalTokens/Claim.js"
import * as Cooldowns from "./CalTokens/Cooldowns.js"
import * as Ending from "./CalTokens/Ending.js"
import * as Flight from "./CalTokens/Flight.js"
import { type DueRound, make as makeAhead } from "./CalTokens/Ahead.js"
import * as Plan from "./CalTokens/Plan.js"
import * as Connecting from "./CalTokens/Connecting.js"
import * as Importing from "./CalTokens/Importing.js"
import * as SingleFlight from "./Fibers/SingleFlight.js"
import type { Known } from "./CalTokens/Known.js"
import * as Memory from "./CalTokens/Memory.js"
import * as Notices from "./CalTokens/Notices.js"
import * as Gauges from "./CalTokens/Gauges.js"
import * as Owned from "./Fibers/Owned.js"
import * as Reader from "./CalTokens/Reader.js"
import * as Schedule from "./CalTokens/Schedule.js"
import * as Sealed from "./CalTokens/Sealed.js"
import * as Rejection from "./CalTokens/Rejection.js"
import * as Serving from "./CalTokens/Serving.js"
import * as Untold from "./CalTokens/Untold.js"
import * as Trail from "./CalTokens/Trail.js"
import * as Uses from "./CalTokens/Uses.js"
import type { ValidToken } from "./CalTokens/ValidToken.js"
import * as Metrics from "./Metrics.js"
import type { TokenChange } from "./Revalidation.js"
import { nameOf } from "./History.js"
import { type Connection, freshness, hash, isExpiringSoon, type TokenPair, type UserUlid } from "./Token.js"
import { TokenConfig } from "./TokenConfig.js"
import {
  type CalUnavailable,
  type ConnectError,
  type EnsureError,
  type InvalidInput,
  type NotManagedUser,
  type ReadError,
  type StorageUnavailable,
  TokensNotFound
} from "./TokenError.js"
import * as TokenInput from "./TokenInput.js"
import { Notice, type StoredConnection, TokenStorage } from "./TokenStorage.js"

export type { NewConnection } from "./CalTokens/Account.js"
export type { DueRound }
export type { OwnCircuit } from "./CalTokens/Circuit.js"
export type { Obtained } from "./CalTokens/Connecting.js"
export type { ImportedRow, ImportRow } from "./CalTokens/Importing.js"
export type { ValidToken } from "./CalTokens/ValidToken.js"
export type { TokenChange } from "./Revalidation.js"

/**
 * What may be told about a connection: no tokens. Instants are milliseconds since the epoch.
 *
 * @since 0.1.0
 * @category models
 */
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

/**
 * How a process stands. Instants are milliseconds since the epoch, by its clock.
 *
 * @since 0.1.0
 * @category models
 */
export interface Standing {
  /** Its name in histories and logs, new at each start. */
  readonly process: string
  readonly startedAt: number
  /** Pairs that could not be stored yet and are in its memory only. */
  readonly pairsHeld: number
  /** Its own circuits that are open. */
  readonly circuits: ReadonlyArray<Circuit.OwnCircuit>
}

/**
 * What a caller of `refresh` may ask for.
 *
 * @since 0.1.0
 * @category models
 */
export interface RefreshOptions {
  /** Refresh regardless of age; joins a running refresh and obeys the cooldown. */
  readonly forceRefresh?: boolean | undefined
  /** Managed users: have Cal.com issue a new pair with the client secret. Every older token of the user dies. */
  readonly reissue?: boolean | undefined
}

/**
 * A reissue fails with `NotManagedUser` besides, for users who are connected through OAuth2.
 *
 * @since 0.1.0
 * @category models
 */
export interface Refresh {
  (
    userUlid: UserUlid,
    options?: Pick<RefreshOptions, "forceRefresh"> & { readonly reissue?: false | undefined }
  ): Effect.Effect<ValidToken, EnsureError>
  (userUlid: UserUlid, options?: RefreshOptions): Effect.Effect<ValidToken, EnsureError | NotManagedUser>
}

/**
 * What a caller of `ensureValid` may ask for.
 *
 * @since 0.1.0
 * @category models
 */
export interface EnsureOptions extends Pick<RefreshOptions, "forceRefresh"> {
  /**
   * `false`: the token stays with whoever asks, as with `CalApi`. Otherwise it counts as handed out, to a page say: pages
   * may renew theirs for some hours after that.
   */
  readonly handsOut?: boolean | undefined
}

/**
 * Cal.com's refusal of an access token.
 *
 * @since 0.1.0
 * @category models
 */
export type Refusal = Rejection.Refusal

/**
 * What to do with a request whose token Cal.com refused.
 *
 * @since 0.1.0
 * @category models
 */
export type Advice = Rejection.Advice
export const Advice = Rejection.Advice

/**
 * A new connection is stored; `displaced` had its Cal.com account until now, and has no connection any more.
 *
 * @since 0.1.0
 * @category models
 */
export type OnStored = (displaced: Option.Option<UserUlid>) => Effect.Effect<void>

/**
 * The one place that refreshes.
 *
 * @since 0.1.0
 * @category tags
 */
export class CalTokens extends Context.Tag("cal-tokens/CalTokens")<
  CalTokens,
  {
    /**
     * A valid access token. Fresh: at once. Expiring soon: at once, refreshed behind the caller's back. Due: waits a
     * little for the refresh, then still answers the valid token. Expired: waits for the refresh and fails if that fails.
     */
    readonly ensureValid: (userUlid: UserUlid, options?: EnsureOptions) => Effect.Effect<ValidToken, EnsureError>
    /**
     * The token, at once, if it is fresh and this process has read it not long ago, by the clock that was there when the layer
     * was built. Otherwise nothing, and so once in five minutes for a token that is handed out, which has to be noted: then
     * ask `ensureValid`.
     */
    readonly peek: (userUlid: UserUlid, options?: Pick<EnsureOptions, "handsOut">) => ValidToken | undefined
    /** Refreshes a token that is expiring soon or expired, any token if forced; `refreshed` says whether it did. */
    readonly refresh: Refresh
    /** Cal.com refused this token: compares it with the stored one, refreshes if that can help, and advises. */
    readonly reportRejected: (userUlid: UserUlid, refusal: Refusal) => Effect.Effect<Advice, EnsureError>
    /** Stores a new connection. `replace` takes the Cal.com account from another user. */
    readonly connect: (
      userUlid: UserUlid,
      connection: Account.NewConnection,
      pair: TokenInput.PairInput,
      options?: { readonly replace?: boolean | undefined }
    ) => Effect.Effect<ConnectionInfo, ConnectError>
    /**
     * Obtains a pair from Cal.com (by exchanging a code, say) and stores it as a new connection. Meanwhile nobody refreshes
     * what the user has: Cal.com's rotation deletes every refresh token of the same client and user, the new one too. Waits
     * for a refresh under way; if that does not end within 25 s, it fails with `CalUnavailable` and obtains nothing. Once
     * begun it goes on without its caller; `obtain` runs once, for at most 8 s. A failure leaves the connection as it was.
     * `onStored` is told as soon as the new one is stored, and who had the Cal.com account until then.
     */
    readonly connectWith: <E>(
      userUlid: UserUlid,
      obtain: Effect.Effect<Connecting.Obtained, E>,
      options?: { readonly replace?: boolean | undefined; readonly onStored?: OnStored | undefined }
    ) => Effect.Effect<ConnectionInfo, ConnectError | CalUnavailable | E>
    /**
     * Takes over connections of another system, at most 500 at once; each row has its answer, in the order of the rows, and
     * one that is refused keeps no other back. May be repeated while that system runs: a user whose pair this one replaced, or
     * who connected here, is left alone. Nothing is refreshed for it before somebody asks for the user's token.
     */
    readonly importConnections: (
      rows: ReadonlyArray<Importing.ImportRow>
    ) => Effect.Effect<ReadonlyArray<Importing.ImportedRow>, InvalidInput | StorageUnavailable>
    /** Stores a new pair of the same Cal.com account. */
    readonly update: (
      userUlid: UserUlid,
      pair: TokenInput.PairInput
    ) => Effect.Effect<ConnectionInfo, InvalidInput | ReadError>
    /** Forgets a user; fails with `TokensNotFound` when there is no connection. */
    readonly disconnect: (userUlid: UserUlid) => Effect.Effect<void, TokensNotFound | StorageUnavailable>
    /**
     * The number to make a user session under, of a user who is connected: {@link sessionsAfter}. It counts as handing out a
     * token: what a page gets of it is as good as one.
     */
    readonly beginSession: (userUlid: UserUlid) => Effect.Effect<number, ReadError>
    /**
     * User sessions that were made under another number are over. As the storage tells it, within `memoryMaxAge`, and anew
     * if what it told is below `known`, a number that there has been: if it cannot be asked, this fails, although tokens may
     * be served from memory.
     */
    readonly sessionsAfter: (userUlid: UserUlid, known?: number) => Effect.Effect<number, ReadError>
    /** Ends all sessions of a user, and whatever Atoms may present, in all processes. */
    readonly endSessions: (userUlid: UserUlid) => Effect.Effect<void, TokensNotFound | StorageUnavailable>
    /** What is known about a connection, without tokens. */
    readonly info: (userUlid: UserUlid) => Effect.Effect<ConnectionInfo, ReadError>
    /** A token of the user is handed out, or what is as good as one: see `EnsureOptions`. Written a moment later. */
    readonly handedOut: (userUlid: UserUlid) => Effect.Effect<void>
    /**
     * Begins refreshes that nobody waits for, at most `limit`: of users who were active lately (`aheadActiveFor`), before their
     * tokens expire, and of others, before their refresh tokens do. Any number of processes may do so at once. It leaves a share
     * of Cal.com's rate limit to people who wait (`backgroundReserve`), and the trials of a client in trouble. `RefreshAhead`
     * calls it over and over.
     */
    readonly refreshDue: (limit: number) => Effect.Effect<DueRound, StorageUnavailable>
    /** Whether this process has pairs that no other one can know of, because they are not stored yet. */
    readonly holdsUnstored: Effect.Effect<boolean>
    /** How this process stands, of which the storage knows nothing. */
    readonly standing: Effect.Effect<Standing>
    /**
     * Reads answers again in which no version of this program had found a pair when they came: once, all that are stored. A
     * process does so by itself when it starts, and whenever it may help.
     */
    readonly salvage: Effect.Effect<void, StorageUnavailable>
    /** Changes made by this process from now on. A slow reader loses the oldest. */
    readonly changes: Stream.Stream<TokenChange>
  }
>() {}

/**
 * {@link make} with another plan of attempts: how tests leave a rule out.
 *
 * @since 0.1.0
 * @category constructors
 */
export const makeWith = (
  plan: typeof Plan.next
): Effect.Effect<typeof CalTokens.Service, never, CalClient | TokenStorage | Scope.Scope> =>
  Effect.gen(function* () {
    const config = yield* TokenConfig
    const client = yield* CalClient
    const storage = yield* TokenStorage
    const process = Trail.nameProcess()
    const startedAt = yield* Clock.currentTimeMillis

    const memory = Memory.make(config)
    const notices = Notices.make(memory.outdate)
    yield* notices.follow(storage.notices)
    // Before the fibers that publish to it, so that it closes after them.
    const pubsub = yield* Changes.pubsub
    // Before the fibers that it ends waits of, so that it closes after them.
    const deadline = yield* Deadline.make()
    const owned = yield* Owned.make({
      shutdownWait: config.shutdownWait,
      onAbandoned: reportLost
    })
    const changes = yield* Changes.make(owned, pubsub, process)
    const publish: Changes.Changes["publish"] = (change) =>
      Effect.zipRight(notices.learned(change.userUlid, change.version), changes.publish(change))
    const circuit = Circuit.make(config, client.fingerprint)
    const cooldowns = Cooldowns.make()
    const reader = Reader.make({ memory, storage, owned, deadline, now: client.now })
    const commits = Commit.make({ config, storage, memory, notices, owned, publish, now: client.now })
    const publishTerminal = (row: StoredConnection) =>
      publish({
        userUlid: row.userUlid,
        kind: "reauthorizationRequired",
        version: row.version,
        cause: row.status._tag === "Active" ? undefined : row.status.cause
      })

    const sealed = Sealed.make({ storage, commits, owned, circuit, process })
    const endings = Ending.make({ config, storage, client, circuit, sealed, memory, publish: publishTerminal })
    const attempt = Attempt.make({ config, storage, client, circuit, owned, deadline, commits, endings, sealed, plan })
    const { claim, granted } = Claim.make({
      config,
      storage,
      client,
      memory,
      cooldowns,
      circuit,
      sealed,
      attempt,
      process
    })
    const fly = Flight.make({ config, client, circuit, commits, notices, owned, claim })
    yield* Effect.forkScoped(sealed.readAlways)
    const flights = SingleFlight.make<Known, EnsureError>({ deadline, owned })
    const untold = Untold.make()
    const serving = Serving.make({ config, client, memory, cooldowns, circuit, commits, reader, flights, fly, untold })
    const refreshDue = makeAhead({
      config,
      storage,
      client,
      circuit,
      owned,
      memory,
      commits,
      granted,
      flights,
      fly,
      untold,
      process
    })
    yield* Gauges.make({ client, storage, circuit })
    const uses = yield* Uses.make({ memory, storage, now: client.now })

    const clock = yield* Effect.clock
    /** Most of all questions end here. */
    const look = (userUlid: UserUlid, handsOut: boolean | undefined) => {
      const now = clock.unsafeCurrentTimeMillis()
      const warm = memory.warm.get(userUlid)
      if (warm === undefined || !(now >= warm.from && now < warm.until)) return undefined
      const calNow = now + client.unsafeTimeOffset()
      const notedAt = handsOut === false ? warm.usedAt : warm.handedOutAt
      const isGood = calNow < warm.freshUntil && calNow - notedAt < Uses.precision
      if (!isGood) return undefined
      Metrics.lookups.hit++
      return warm
    }

    const ensureValid = (userUlid: UserUlid, options?: EnsureOptions): Effect.Effect<ValidToken, EnsureError> => {
      const token = options?.forceRefresh === true ? serving.force(userUlid) : serving.ensure(userUlid)
      return spanned(Effect.zipLeft(token, uses.note(userUlid, options?.handsOut !== false)))
    }
    // Where it was called from shows the stack of whoever asked, and takes longer to find out than the rest.
    const spanned = Effect.withSpan("CalTokens.ensureValid", { captureStackTrace: false })

    const info = (entry: Memory.Entry) =>
      Effect.map(client.now, (now): ConnectionInfo => {
        const { pair, ...row } = entry.row
        return {
          userUlid: row.userUlid,
          connection: row.connection,
          status: row.status,
          isExpired: Serving.isDead(entry, now),
          isExpiringSoon: Serving.isDead(entry, now) || isExpiringSoon(pair, now, config.windows),
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
        yield* cooldowns.clear(row.userUlid)
        yield* publish({ userUlid: row.userUlid, kind, version: row.version })
        return entry
      })

    const importConnections = Importing.make({ config, client, storage, process, adopt })

    const connect = (
      userUlid: UserUlid,
      wanted: Account.NewConnection,
      input: TokenInput.PairInput,
      options: { readonly replace?: boolean | undefined; readonly isGranted?: boolean } | undefined
    ) =>
      Effect.gen(function* () {
        const now = yield* client.now
        const decoded = yield* TokenInput.pair(input, now)
        const connection = yield* Account.resolve(client, wanted, decoded.calUserId)
        const { displaced, ...row } = yield* storage.connect({
          userUlid,
          connection,
          pair: decoded.pair,
          replace: options?.replace,
          granted: options?.isGranted,
          handedOutAt: now,
          schedule: { ...Schedule.of(config, userUlid, connection, decoded.pair, now), usedAt: now },
          circuit: options?.isGranted === true ? circuit.keyOf(connection.clientId) : undefined,
          history: { _tag: "Connected", process, token: tokenOf(decoded.pair), isGranted: options?.isGranted === true }
        })
        return { entry: yield* adopt(row, "connected"), displaced: Option.fromNullable(displaced) }
      })

    return CalTokens.of({
      ensureValid: (userUlid, options) =>
        Effect.suspend(() => {
          if (options?.forceRefresh === true) return ensureValid(userUlid, options)
          const warm = look(userUlid, options?.handsOut)
          if (warm !== undefined) return warm.exit
          Metrics.lookups.miss++
          const joined = serving.joining(userUlid, clock.unsafeCurrentTimeMillis())
          if (joined === undefined) return ensureValid(userUlid, options)
          return spanned(Effect.zipLeft(joined, uses.note(userUlid, options?.handsOut !== false)))
        }),

      peek: (userUlid, options) => look(userUlid, options?.handsOut)?.token,

      // What a reissue alone may fail with is in the second of its two types.
      refresh: Effect.fn("CalTokens.refresh")(function* (userUlid: UserUlid, options?: RefreshOptions) {
        if (options?.reissue === true) return yield* serving.reissue(userUlid)
        if (options?.forceRefresh === true) return yield* serving.force(userUlid)
        const entry = yield* reader.load(userUlid)
        const age = freshness(entry.row.pair, yield* client.now, config.windows)
        const isSoon = age === "expiringSoon" && !entry.refused && entry.row.status._tag === "Active"
        const token = yield* isSoon ? serving.refreshSoon(entry) : serving.serve(entry)
        // The others are noted with the pair that they bring.
        yield* uses.note(userUlid, false)
        return token
      }) as Refresh,

      reportRejected: Rejection.make({ config, client, memory, reader, serving }),

      connect: Effect.fn("CalTokens.connect")(function* (userUlid, wanted, input, options) {
        return yield* info((yield* connect(userUlid, wanted, input, options)).entry)
      }, Effect.uninterruptible),

      connectWith: Effect.fn("CalTokens.connectWith")(function* (userUlid, obtain, { onStored, replace } = {}) {
        const store = (connection: Account.NewConnection, pair: TokenInput.PairInput) =>
          connect(userUlid, connection, pair, { replace, isGranted: true }).pipe(
            Effect.tap(({ displaced }) => onStored?.(displaced) ?? Effect.void),
            Effect.map(({ entry }) => entry.row)
          )
        const work = Connecting.run(
          { config, storage, circuit, owned, notices, process, connect: store },
          { userUlid, obtain, since: yield* Clock.currentTimeMillis }
        )
        const row = yield* flights.alone(userUlid, work)
        return yield* info(yield* memory.put(row))
      }),

      importConnections: Effect.fn("CalTokens.importConnections")(importConnections, Effect.uninterruptible),

      update: Effect.fn("CalTokens.update")(function* (userUlid, input) {
        const now = yield* client.now
        const decoded = yield* TokenInput.pair(input, now)
        const store = Effect.gen(function* () {
          const { connection } = (yield* reader.anew(userUlid)).row
          yield* Account.sameCalUser(connection.calUserId, decoded.calUserId)
          const { pair } = decoded
          const schedule = { ...Schedule.of(config, userUlid, connection, pair, now), usedAt: now }
          const history = { _tag: "Updated", process, token: tokenOf(pair) } as const
          return yield* storage.update({ userUlid, connection, pair, schedule, history })
        })
        // None: somebody disconnected the user, which the next look tells, or connected another account.
        const row = yield* Effect.repeat(store, { until: Option.isSome, times: 3 })
        if (Option.isNone(row)) return yield* Effect.fail(new TokensNotFound({ userUlid }))
        return yield* info(yield* adopt(row.value, "updated"))
      }, Effect.uninterruptible),

      disconnect: Effect.fn("CalTokens.disconnect")(function* (userUlid) {
        const existed = yield* storage.disconnect(userUlid)
        yield* reader.settle(userUlid)
        yield* memory.remove(userUlid)
        yield* cooldowns.clear(userUlid)
        if (!existed) return yield* Effect.fail(new TokensNotFound({ userUlid }))
        yield* publish({ userUlid, kind: "disconnected" })
      }, Effect.uninterruptible),

      beginSession: Effect.fn("CalTokens.beginSession")(function* (userUlid) {
        const { sessionsAfter } = yield* reader.confirmedAnew(userUlid)
        yield* uses.note(userUlid, true)
        return sessionsAfter
      }),

      sessionsAfter: (userUlid, known = 0) =>
        reader.confirmed(userUlid).pipe(
          Effect.filterOrElse(
            ({ sessionsAfter }) => sessionsAfter >= known,
            () => reader.confirmedAnew(userUlid)
          ),
          Effect.map(({ sessionsAfter }) => sessionsAfter)
        ),

      endSessions: Effect.fn("CalTokens.endSessions")(function* (userUlid) {
        const existed = yield* storage.endSessions(userUlid)
        yield* reader.settle(userUlid)
        memory.outdate(Notice.Written({ userUlid }))
        if (!existed) return yield* Effect.fail(new TokensNotFound({ userUlid }))
      }, Effect.uninterruptible),

      info: Effect.fn("CalTokens.info")(function* (userUlid) {
        return yield* info(yield* reader.load(userUlid))
      }),

      handedOut: (userUlid) => uses.note(userUlid, true),

      refreshDue,

      holdsUnstored: Effect.sync(() => memory.held() > 0),
      standing: Effect.sync(() => ({
        process,
        startedAt,
        pairsHeld: memory.held(),
        circuits: circuit.ownOpen()
      })),
      salvage: sealed.readAll,

      changes: changes.stream
    })
  })

/**
 * Everything between the edges and the storage; closing the scope waits for refreshes under way.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make: Effect.Effect<typeof CalTokens.Service, never, CalClient | TokenStorage | Scope.Scope> = makeWith(
  Plan.next
)

/**
 * With a memory of its own; attempts that are under way are finished when it is closed.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<CalTokens, never, CalClient | TokenStorage> = Layer.scoped(CalTokens, make)

const tokenOf = ({ refreshToken }: TokenPair) => nameOf(hash(refreshToken))

const reportLost = (users: ReadonlyArray<UserUlid>) =>
  Effect.zipRight(
    Effect.logFatal("Stopped before these users' new tokens could be stored").pipe(Effect.annotateLogs({ users })),
    // A defect, so that the process does not report success.
    Effect.dieMessage(`Stopped with refreshes unfinished; users with unstored tokens: ${users.join(", ") || "none"}`)
  )
