/** How a user's entry becomes a token for a caller: served, refreshed behind the caller's back, or waited for. */
import { Clock, Duration, Effect, Option, type Redacted } from "effect"
import { freshness, hash, isExpired, type UserUlid } from "../Token.js"
import type { CalClient } from "../CalClient.js"
import type { SingleFlight } from "../Fibers/SingleFlight.js"
import type { Options } from "../TokenConfig.js"
import { CalUnavailable, type ReauthorizationRequired, RefreshCoolingDown, type TokenError } from "../TokenError.js"
import type { StoredConnection } from "../TokenStorage.js"
import type { Commits } from "./Commit.js"
import * as Cooldowns from "./Cooldowns.js"
import { reauthorizationRequired } from "./Ending.js"
import type { Entry, Memory } from "./Memory.js"
import type { Reader } from "./Reader.js"

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

export const valid = (row: StoredConnection, refreshed: boolean): ValidToken => ({
  accessToken: row.pair.accessToken,
  expiresAt: row.pair.accessTokenExpiresAt,
  version: row.version,
  refreshed
})

/** Whether nothing but a refresh can help: the token is past its expiry, or Cal.com said so. */
export const isDead = (entry: Entry, now: number) => entry.refused || isExpired(entry.row.pair, now)

/**
 * By both tokens: OAuth2 access tokens of one second are equal, an OAuth2 server may let a refresh token live on (RFC 6749
 * §6), and a pair gets a version only when it is stored.
 */
const isSamePair = ({ pair: one }: StoredConnection, { pair: other }: StoredConnection) =>
  hash(one.refreshToken) === hash(other.refreshToken) && hash(one.accessToken) === hash(other.accessToken)

/** Refreshes of one kind are shared; a reissue is no answer to a refresh, nor the other way round. */
const kinds = { refresh: "refresh", reissue: "reissue" } as const

export interface JoinOptions {
  readonly reissue?: boolean
  readonly rejected?: boolean
}

export type Serving = ReturnType<typeof make>

export const make = (deps: {
  readonly config: Options
  readonly client: typeof CalClient.Service
  readonly memory: Memory
  readonly cooldowns: Cooldowns.Cooldowns
  readonly commits: Commits
  readonly reader: Reader
  readonly flights: SingleFlight<StoredConnection, TokenError>
  /** Refreshes, by whichever process. */
  readonly fly: (
    request: Required<JoinOptions> & { readonly entry: Entry }
  ) => Effect.Effect<StoredConnection, TokenError>
}) => {
  const { client, config, cooldowns, flights, memory, reader } = deps

  /** Ends loops without asking the storage: the mirrored cooldown of this very pair. */
  const admit = (entry: Entry) =>
    Effect.gen(function* () {
      const { userUlid, version } = entry.row
      const cooldown = yield* cooldowns.get(userUlid)
      if (Option.isNone(cooldown)) return
      const { lastError } = cooldown.value
      const pair = { version, expired: isDead(entry, yield* client.now) }
      const left = Cooldowns.remaining(cooldown.value, pair, yield* Clock.currentTimeMillis)
      if (Option.isNone(left)) return
      return yield* new RefreshCoolingDown({
        userUlid,
        retryAfter: left.value,
        ...(lastError === undefined ? {} : { lastError })
      })
    })

  const work = (entry: Entry, { reissue = false, rejected = false }: JoinOptions = {}) =>
    Effect.zipRight(admit(entry), deps.fly({ entry, reissue, rejected }))

  const board = (entry: Entry, options: JoinOptions = {}) =>
    flights.share(entry.row.userUlid, options.reissue === true ? kinds.reissue : kinds.refresh, work(entry, options))

  const waiting = Effect.timeoutFail({
    duration: config.callerWait,
    onTimeout: () =>
      new CalUnavailable({
        operation: "refresh",
        reason: "no result in time; the refresh goes on",
        retryAfter: config.probeDelayExpired
      })
  })

  /** Joins or starts the user's refresh; the caller only waits, and not for ever. */
  const join = (entry: Entry, options?: JoinOptions) => waiting(board(entry, options))

  /** The same, for another pair than the entry's: a flight that was under way may end with just that one. */
  const joinForNewer = (entry: Entry, options?: JoinOptions) =>
    waiting(
      Effect.iterate(entry, {
        while: ({ row }) => isSamePair(row, entry.row),
        body: (known) => Effect.map(board(known, options), (row): Entry => ({ ...known, row }))
      })
    ).pipe(Effect.map(({ row }) => row))

  /** Refreshes behind the caller's back, unless Cal.com's rate limit is better left to people who wait. */
  const refreshInBackground = (entry: Entry) =>
    Effect.gen(function* () {
      const limit = yield* client.rateLimit(entry.row.connection.clientId)
      if (Option.exists(limit, ({ limit, remaining }) => remaining < limit * config.backgroundReserve)) return
      yield* flights.start(entry.row.userUlid, kinds.refresh, work(entry))
    })

  /** The token of an entry, as fresh as its age demands. */
  const serve = (entry: Entry): Effect.Effect<ValidToken, TokenError> =>
    Effect.gen(function* () {
      const now = yield* client.now
      const terminal = reauthorizationRequired(entry.row)
      const isAlive = !isDead(entry, now)
      if (terminal !== undefined) return isAlive ? valid(entry.row, false) : yield* giveUp(terminal)
      const landed = Effect.map(entry.refused ? joinForNewer(entry) : join(entry), (row) => valid(row, true))
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

  /**
   * Tells that the user has to reconnect, unless this process has a pair on its way into the storage, which did not know
   * of it when it was asked.
   */
  const giveUp = (terminal: ReauthorizationRequired): Effect.Effect<ValidToken, TokenError> =>
    Effect.flatMap(
      deps.commits.land(terminal.userUlid),
      Option.match({
        onNone: () => Effect.fail(terminal),
        onSome: (row) => Effect.flatMap(memory.put(row), serve)
      })
    )

  /** A failed refresh hurts nobody while the token is valid, unless it was the news that the user is gone. */
  const stillValid = (entry: Entry, error: TokenError): Effect.Effect<ValidToken, TokenError> =>
    Effect.flatMap(client.now, (now) => {
      const latest = Option.getOrElse(memory.get(entry.row.userUlid), () => entry)
      return error._tag === "TokensNotFound" || isDead(latest, now)
        ? Effect.fail(error)
        : Effect.succeed(valid(latest.row, false))
    })

  /** Any pair stored after the call arrived will do: what is stored at that moment is read first. */
  const force = (userUlid: UserUlid) =>
    Effect.flatMap(reader.reload(userUlid), (entry) => Effect.map(joinForNewer(entry), (row) => valid(row, true)))

  /** A user in a terminal state may have been reconnected elsewhere; that is worth a read before saying no. */
  const load = (userUlid: UserUlid) =>
    Effect.gen(function* () {
      const entry = yield* reader.load(userUlid)
      const isDeadEnd = entry.row.status._tag !== "Active" && isDead(entry, yield* client.now)
      return isDeadEnd ? yield* reader.reload(userUlid) : entry
    })

  /** Waits for the refresh of a token that only expires soon; it may fail without harm. */
  const refreshSoon = (entry: Entry) =>
    Effect.catchAll(
      Effect.map(join(entry), (row) => valid(row, true)),
      (error) => stillValid(entry, error)
    )

  return { join, joinForNewer, serve, giveUp, force, load, refreshSoon }
}
