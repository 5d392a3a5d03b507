/** One claim, and what its verdict means for the flight that made it. */
import { randomUUID } from "node:crypto"
import { Clock, Duration, Effect, Option, Random } from "effect"
import { isExpired, type UserUlid } from "../Token.js"
import {
  CalUnavailable,
  ReauthorizationRequired,
  RefreshCoolingDown,
  type TokenError,
  TokensNotFound
} from "../TokenError.js"
import { ClaimResult, type StoredConnection } from "../TokenStorage.js"
import * as Attempt from "./Attempt.js"
import type { Commits } from "./Commit.js"
import type { Cooldown } from "../Fibers/SingleFlight.js"
import type { Entry, Memory } from "./Memory.js"
import type { Notices } from "./Notices.js"

export interface Dependencies extends Omit<Attempt.Dependencies, "commit"> {
  readonly commits: Commits
  readonly memory: Memory
  readonly notices: Notices
  readonly setCooldown: (userUlid: UserUlid, cooldown: Option.Option<Cooldown>) => Effect.Effect<void>
  /** Tells of a user who has to reconnect. */
  readonly publish: (row: StoredConnection) => Effect.Effect<void>
}

export interface Request {
  /** What the caller knows: anything newer satisfies it. */
  readonly entry: Entry
  readonly reissue: boolean
  /** Cal.com rejected the token although it does not look expired. */
  readonly rejected: boolean
}

/** What a flight has learned so far. */
export interface Progress {
  row: StoredConnection
  /** Only a pair with a higher version is news. */
  knownVersion: number
  waitedForHolder: boolean
  waitedForProbe: boolean
}

export interface Flight {
  readonly deps: Dependencies
  readonly request: Request
  readonly progress: Progress
}

export type Step =
  | { readonly _tag: "Landed"; readonly row: StoredConnection }
  /** Claim again after the pause, or when there is news; `error` is for a caller who has no time left. */
  | {
      readonly _tag: "Wait"
      readonly for: "holder" | "probe"
      readonly pause: Duration.Duration
      readonly error: TokenError
    }
  | { readonly _tag: "LookAgain" }

type Verdict<Tag extends ClaimResult["_tag"]> = Extract<ClaimResult, { readonly _tag: Tag }>

/** A user's terminal state as an error; `undefined` while there is none. */
export const reauthorizationRequired = (row: StoredConnection): ReauthorizationRequired | undefined =>
  row.status._tag === "Active"
    ? undefined
    : new ReauthorizationRequired({ userUlid: row.userUlid, cause: row.status.cause, since: row.status.since })

/** Claims, and runs the attempt if the claim is granted. Must not be interrupted. */
export const run = (flight: Flight): Effect.Effect<Step, TokenError> =>
  Effect.gen(function* () {
    const { config, memory, storage } = flight.deps
    const { progress, request } = flight
    const { userUlid } = request.entry.row
    const attemptId = randomUUID()
    const startedAt = yield* Clock.currentTimeMillis
    const result = yield* storage.claim({
      userUlid,
      attemptId,
      knownVersion: progress.knownVersion,
      lease: config.lease,
      cooldownWindow: config.cooldownWindow,
      maxAttempts: config.maxAttempts,
      expiredFor: Option.getOrUndefined(yield* expiredFor(flight)),
      rejectedInterval: request.rejected ? config.rejectedInterval : undefined,
      reissue: request.reissue
    })
    if (result._tag === "NotFound") {
      yield* memory.remove(userUlid)
      return yield* new TokensNotFound({ userUlid })
    }
    progress.row = result.row
    return yield* ClaimResult.$match(result, {
      NotFound: () => Effect.fail(new TokensNotFound({ userUlid })),
      Newer: () => newer(flight),
      Terminal: () => terminal(flight),
      Busy: (verdict) => busy(flight, verdict),
      RejectedRecently: ({ retryAfter }) => Effect.fail(new RefreshCoolingDown({ userUlid, retryAfter })),
      CoolingDown: (verdict) => coolingDown(flight, verdict),
      ProbeLater: (verdict) => probeLater(flight, verdict),
      Claimed: (verdict) => attempt(flight, verdict, { attemptId, startedAt })
    })
  })

/** For how long the row's access token has been expired, if it is. */
const expiredFor = ({ deps, progress: { row } }: Flight) =>
  Effect.map(deps.client.now, (now) =>
    isExpired(row.pair, now) ? Option.some(Duration.millis(now - row.pair.accessTokenExpiresAt)) : Option.none()
  )

const newer = ({ deps, progress }: Flight): Effect.Effect<Step> =>
  Effect.zipWith(deps.memory.put(progress.row), deps.client.now, (_, now) => {
    progress.knownVersion = progress.row.version
    // A pair can be handed in expired: that one has to be refreshed in its turn.
    return isExpired(progress.row.pair, now) ? { _tag: "LookAgain" } : { _tag: "Landed", row: progress.row }
  })

const terminal = ({ deps, progress: { row } }: Flight): Effect.Effect<never, TokenError> =>
  Effect.zipRight(
    deps.memory.put(row),
    Effect.fail(reauthorizationRequired(row) ?? new TokensNotFound({ userUlid: row.userUlid }))
  )

const busy = ({ deps, progress }: Flight, { retryAfter }: Verdict<"Busy">): Effect.Effect<Step> =>
  Effect.map(Random.nextRange(0.5, 1), (jitter) => {
    progress.waitedForHolder = true
    const error = new CalUnavailable({
      operation: "refresh",
      reason: "another process is refreshing and has not finished",
      retryAfter
    })
    const pause = Duration.min(Duration.times(deps.config.pollInterval, jitter), retryAfter)
    return { _tag: "Wait", for: "holder", pause, error }
  })

/** Spares the storage the next questions about this pair. */
const mirror = ({ deps, progress: { row } }: Flight, left: Duration.Duration, lastError: string | undefined) =>
  Effect.gen(function* () {
    const since = yield* Clock.currentTimeMillis
    const until = since + Duration.toMillis(left)
    const expired = isExpired(row.pair, yield* deps.client.now)
    yield* deps.setCooldown(row.userUlid, Option.some({ since, until, version: row.version, expired, lastError }))
  })

/** Who waited for the holder of the lease gets the holder's failure. */
const coolingDown = (flight: Flight, { lastError, retryAfter }: Verdict<"CoolingDown">) =>
  Effect.gen(function* () {
    const { row, waitedForHolder } = flight.progress
    const tag = Option.getOrUndefined(Option.map(lastError, (error) => error._tag))
    yield* mirror(flight, retryAfter, tag)
    if (waitedForHolder && Option.isSome(lastError)) return yield* Effect.fail(lastError.value)
    return yield* new RefreshCoolingDown({
      userUlid: row.userUlid,
      retryAfter,
      ...(tag === undefined ? {} : { lastError: tag })
    })
  })

/** Worth waiting for once, when nothing else can help the caller and it was the first failure. */
const probeLater = (flight: Flight, verdict: Verdict<"ProbeLater">): Effect.Effect<Step, TokenError> =>
  Effect.gen(function* () {
    const { progress, request } = flight
    const { consecutiveFailures, retryAfter } = verdict
    const error = Option.getOrElse(
      verdict.lastError,
      (): TokenError =>
        new CalUnavailable({ operation: "refresh", reason: "the outcome of the last refresh is unknown", retryAfter })
    )
    const isAlive = Option.isNone(yield* expiredFor(flight)) && !request.entry.refused
    if (isAlive || progress.waitedForProbe || consecutiveFailures > 1) {
      yield* mirror(flight, retryAfter, error._tag)
      return yield* Effect.fail(error)
    }
    return { _tag: "Wait", for: "probe", pause: retryAfter, error }
  })

const attempt = (
  flight: Flight,
  claimed: Verdict<"Claimed">,
  claim: { readonly attemptId: string; readonly startedAt: number }
): Effect.Effect<Step, TokenError> =>
  Effect.gen(function* () {
    const { deps, progress, request } = flight
    const { consecutiveFailures, probe, row } = claimed
    const ended = yield* Attempt.run(
      { ...deps, commit: deps.commits.commit },
      { ...claim, row, probe, consecutiveFailures, reissue: request.reissue }
    )
    switch (ended._tag) {
      case "Committed":
        return { _tag: "Landed", row: ended.row }
      case "Moved":
        return { _tag: "LookAgain" }
      case "Unknown":
        // The next claim says when the token is probed, and whether that is worth waiting for.
        return consecutiveFailures === 0 ? { _tag: "LookAgain" } : yield* Effect.fail(ended.error)
      case "Terminal":
        progress.row = ended.row
        yield* deps.publish(ended.row)
        return yield* terminal(flight)
    }
  })
