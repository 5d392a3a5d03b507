/** How a user's entry becomes a token for a caller: served, refreshed behind the caller's back, or waited for. */
import { Clock, Duration, Effect, Exit, Option } from "effect"
import { freshness, isExpired, isSameAccessToken, type UserUlid } from "../Token.js"
import type { CalClient } from "../CalClient.js"
import type { Wait } from "../Fibers/Deadline.js"
import type { SingleFlight } from "../Fibers/SingleFlight.js"
import * as Metrics from "../Metrics.js"
import type { Options } from "../TokenConfig.js"
import {
  CalUnavailable,
  type EnsureError,
  NotManagedUser,
  type ReadError,
  type ReauthorizationRequired,
  type TokenError,
  RefreshCoolingDown
} from "../TokenError.js"
import type { Circuit } from "./Circuit.js"
import type { Commits } from "./Commit.js"
import * as Cooldowns from "./Cooldowns.js"
import { reauthorizationRequired } from "./Ending.js"
import type { Request } from "./Claim.js"
import type { Flight } from "./Flight.js"
import { isSamePair, type Known } from "./Known.js"
import type { Entry, Memory } from "./Memory.js"
import type { Reader } from "./Reader.js"
import type { Untold } from "./Untold.js"
import { valid, type ValidToken } from "./ValidToken.js"

/** Whether nothing but a refresh can help: the token is past its expiry, or Cal.com said so. */
export const isDead = (entry: Entry, now: number) => entry.refused || isExpired(entry.row.pair, now)

/** What keeps a client or a process from refreshing is not what a user waits for who has to reconnect. */
const isOfRefreshing = ({ _tag }: EnsureError) =>
  _tag === "CalClientMisconfigured" || _tag === "CalProtocolError" || _tag === "RefreshCoolingDown"

export type Serving = ReturnType<typeof make>

export const make = (deps: {
  readonly config: Options
  readonly client: typeof CalClient.Service
  readonly memory: Memory
  readonly cooldowns: Cooldowns.Cooldowns
  readonly circuit: Circuit
  readonly commits: Commits
  readonly reader: Reader
  readonly flights: SingleFlight<Known, EnsureError>
  /** Refreshes, by whichever process. */
  readonly fly: Flight
  readonly untold: Untold
}) => {
  const { circuit, client, config, cooldowns, flights, memory, reader, untold } = deps

  /** Ends loops without asking the storage: the mirrored cooldown of this very pair. */
  const admit = (entry: Entry) =>
    Effect.gen(function* () {
      const { userUlid, version } = entry.row
      const cooldown = yield* cooldowns.get(userUlid)
      if (Option.isNone(cooldown)) return
      const { lastError, told } = cooldown.value
      const pair = { version, expired: isDead(entry, yield* client.now) }
      const left = Cooldowns.remaining(cooldown.value, pair, yield* Clock.currentTimeMillis)
      if (Option.isNone(left)) return
      if (told !== undefined) return yield* Effect.fail(told(left.value))
      return yield* new RefreshCoolingDown({
        userUlid,
        retryAfter: left.value,
        ...(lastError === undefined ? {} : { lastError })
      })
    })

  const work = <E extends TokenError = never>(request: Request<E>) =>
    Effect.zipRight(admit(request.entry), Effect.tapError(deps.fly(request), untold.add))

  const refreshing = (entry: Entry, trigger: Metrics.Trigger, rejected = false, found?: () => void) =>
    work({ entry, purpose: "refresh", trigger, rejected, found })

  /** Who joins what is under way is counted. */
  const share = (userUlid: UserUlid, work: Effect.Effect<Known, EnsureError>, wait: Wait<EnsureError>) =>
    Effect.suspend(() => {
      const shared = flights.share(userUlid, work, wait)
      return flights.isRunning(userUlid) ? Metrics.joined(shared) : shared
    })

  /** Callers only wait, and not for ever. */
  const wait = (longest: number): Wait<CalUnavailable> => ({
    longest,
    onLate: () =>
      new CalUnavailable({
        operation: "refresh",
        reason: "no result in time; the refresh goes on",
        retryAfter: config.probeDelayExpired
      })
  })

  /** Joins or starts the user's refresh. */
  const join = (entry: Entry, trigger: Metrics.Trigger, longest = config.callerWait, found?: () => void) =>
    share(entry.row.userUlid, refreshing(entry, trigger, false, found), wait(Duration.toMillis(longest)))

  /**
   * The same, for another pair than the entry's: a flight that was under way may end with just that one, or with another
   * refresh token beside an access token that Cal.com has refused.
   */
  const joinForNewer = (
    entry: Entry,
    {
      longest = config.callerWait,
      rejected = false,
      trigger = "rejected"
    }: {
      readonly longest?: Duration.Duration
      readonly rejected?: boolean
      readonly trigger?: Metrics.Trigger
    } = {}
  ) =>
    Effect.gen(function* () {
      const until = (yield* Clock.currentTimeMillis) + Duration.toMillis(longest)
      const isSame = entry.refused || rejected ? isSameAccessToken : isSamePair
      let { row } = entry
      while (isSame(row.pair, entry.row.pair)) {
        const left = wait(until - (yield* Clock.currentTimeMillis))
        row = yield* share(row.userUlid, refreshing({ ...entry, row }, trigger, rejected), left)
      }
      return row
    })

  /** Refreshes behind the caller's back, unless Cal.com's rate limit is better left to people who wait. */
  const refreshInBackground = (entry: Entry) =>
    Effect.gen(function* () {
      const limit = yield* client.rateLimit(entry.row.connection.clientId)
      if (Option.exists(limit, ({ limit, remaining }) => remaining < limit * config.backgroundReserve)) return
      const { userUlid } = entry.row
      yield* flights.start(
        userUlid,
        Effect.tapError(refreshing(entry, "soon"), (error) => untold.tell(userUlid, error))
      )
    })

  /** The token of an entry, as fresh as its age demands; `found` as for a claim. */
  const serve = (entry: Entry, found?: () => void): Effect.Effect<ValidToken, EnsureError> =>
    Effect.gen(function* () {
      const now = yield* client.now
      const terminal = reauthorizationRequired(entry.row)
      const isAlive = !isDead(entry, now)
      if (terminal !== undefined) return isAlive ? valid(entry.row, false) : yield* giveUp(entry, terminal)
      const landed = (trigger: Metrics.Trigger, longest = config.callerWait) =>
        Effect.map(entry.refused ? joinForNewer(entry, { longest }) : join(entry, trigger, longest, found), (row) =>
          valid(row, true)
        )
      switch (entry.refused ? "expired" : freshness(entry.row.pair, now, config.windows)) {
        case "fresh":
          return valid(entry.row, false)
        case "expiringSoon":
          yield* refreshInBackground(entry)
          return valid(entry.row, false)
        case "due": {
          // A token that does not outlive the wait is no answer at its end.
          const outlives = entry.row.pair.accessTokenExpiresAt - now > Duration.toMillis(config.dueWait)
          return yield* Effect.catchAll(landed("due", outlives ? config.dueWait : config.callerWait), (error) =>
            stillValid(entry, error)
          )
        }
        case "expired":
          // Cal.com's refusal may be what tells that our clock is ahead of its own.
          return yield* entry.refused
            ? landed("rejected")
            : Effect.catchAll(landed("expired"), (error) => stillValid(entry, error))
      }
    })

  /**
   * Tells that the user has to reconnect, unless this process has a pair on its way into the storage, which did not know
   * of it when it was asked, or the storage knows better by now: somebody may have reconnected the user elsewhere, and an
   * answer of Cal.com's that could not be read may be readable.
   */
  const giveUp = (entry: Entry, terminal: ReauthorizationRequired): Effect.Effect<ValidToken, EnsureError> =>
    Effect.flatMap(
      deps.commits.land(terminal.userUlid),
      Option.match({
        onNone: () =>
          Effect.mapBoth(join(entry, "expired"), {
            onFailure: (error) => (isOfRefreshing(error) ? terminal : error),
            onSuccess: (row) => valid(row, true)
          }),
        onSome: (row) => Effect.flatMap(memory.put(row), (entry) => serve(entry))
      })
    )

  /**
   * A failed refresh hurts nobody while the token is valid, unless it was the news that the user is gone. Whoever waited in vain,
   * or slept, looks once more at what is stored: somebody else may have refreshed.
   */
  const stillValid = (entry: Entry, error: EnsureError): Effect.Effect<ValidToken, EnsureError> =>
    Effect.gen(function* () {
      const { userUlid } = entry.row
      if (error._tag === "TokensNotFound") return yield* Effect.fail(error)
      const known = Option.getOrElse(memory.get(userUlid), () => entry)
      const latest =
        error._tag === "CalUnavailable" && isDead(known, yield* client.now)
          ? yield* Effect.mapError(reader.reload(userUlid), () => error)
          : known
      if (isDead(latest, yield* client.now)) return yield* Effect.fail(error)
      yield* untold.tell(userUlid, error)
      return valid(latest.row, false)
    })

  /**
   * What is remembered of a user whose token has expired, recent or not: the claim sees the row, and answers what is newer
   * there, so nothing has to be read before. Not where the refresh would be ended or joined by what is remembered alone.
   */
  const expired = (userUlid: UserUlid): Effect.Effect<Entry | undefined> =>
    Effect.gen(function* () {
      const entry = Option.getOrUndefined(memory.get(userUlid))
      if (entry === undefined || entry.pending || entry.refused || entry.row.status._tag !== "Active") return undefined
      if (!isExpired(entry.row.pair, yield* client.now) || flights.isRunning(userUlid)) return undefined
      if (Option.isSome(yield* cooldowns.get(userUlid))) return undefined
      return (yield* Effect.isSuccess(circuit.look(entry.row.connection.clientId))) ? entry : undefined
    })

  /** The token of a user, as fresh as its age demands. */
  const ensure = (userUlid: UserUlid): Effect.Effect<ValidToken, EnsureError | ReadError> =>
    Effect.flatMap(expired(userUlid), (entry) => {
      if (entry === undefined) return Effect.flatMap(reader.load(userUlid), (entry) => serve(entry))
      let wasThere = false
      return Effect.map(
        serve(entry, () => (wasThere = true)),
        (token) => (wasThere ? { ...token, refreshed: false } : token)
      )
    })

  const patience = wait(Duration.toMillis(config.callerWait))

  /**
   * What {@link serve} comes to for whoever finds their token expired and a refresh of it under way: its result, without more
   * ado. `undefined` for everybody else. `now` is our time.
   */
  const joining = (userUlid: UserUlid, now: number): Effect.Effect<ValidToken, EnsureError> | undefined => {
    // What is not recent is asked for first: a flight may be asleep, and a newer pair stored since. Of one that was refused
    // another access token is awaited; and whoever has to reconnect is told so meanwhile.
    const entry = memory.recent(userUlid, now)
    if (entry === undefined || entry.row.status._tag !== "Active") return undefined
    if (!isExpired(entry.row.pair, now + client.unsafeTimeOffset())) return undefined
    const joined = flights.joining(userUlid, patience)
    return (
      joined &&
      Effect.flatMap(Metrics.joined(joined), (exit) =>
        Exit.isSuccess(exit)
          ? Effect.succeed(valid(exit.value, true))
          : Effect.catchAll(Effect.failCause(exit.cause), (error) => stillValid(entry, error))
      )
    )
  }

  /**
   * Any pair stored after the call arrived will do: what is stored at that moment is read first. Where nothing failed and
   * only the number of attempts holds it, what they brought is the answer.
   */
  const force = (userUlid: UserUlid): Effect.Effect<ValidToken, EnsureError> =>
    Effect.gen(function* () {
      const entry = yield* reader.anew(userUlid)
      const landed = yield* Effect.either(joinForNewer(entry, { trigger: "forced" }))
      if (landed._tag === "Right") return valid(landed.right, true)
      const error = landed.left
      const latest = Option.getOrElse(memory.get(userUlid), () => entry)
      return error._tag === "RefreshCoolingDown" && error.lastError === undefined && !isDead(latest, yield* client.now)
        ? { ...valid(latest.row, false), retryAfter: error.retryAfter }
        : yield* Effect.fail(error)
    })

  /**
   * Has Cal.com issue a new pair. A refresh is no answer to it; a reissue that is stored since it was asked for is. One
   * that this process holds was there before: it gets its version first.
   */
  const reissue = (userUlid: UserUlid): Effect.Effect<ValidToken, EnsureError | NotManagedUser> =>
    Effect.flatMap(Effect.zipRight(deps.commits.land(userUlid), reader.anew(userUlid)), (entry) => {
      const unmanaged = Effect.fail(new NotManagedUser({ userUlid }))
      if (entry.row.connection._tag === "OAuth2") return unmanaged
      const reissuing = work({ entry, purpose: "reissue", trigger: "reissue", rejected: false, unmanaged })
      return Effect.map(flights.alone(userUlid, reissuing, wait(Duration.toMillis(config.callerWait))), (row) =>
        valid(row, true)
      )
    })

  /** Waits for the refresh of a token that only expires soon; it may fail without harm. */
  const refreshSoon = (entry: Entry) =>
    Effect.catchAll(
      Effect.map(join(entry, "soon"), (row) => valid(row, true)),
      (error) => stillValid(entry, error)
    )

  return { ensure, joining, joinForNewer, serve, giveUp, force, reissue, refreshSoon }
}
