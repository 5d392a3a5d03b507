/** One claim, and what its verdict means for the flight that made it. */
import { randomUUID } from "node:crypto"
import { Clock, Duration, Effect, Option, Random } from "effect"
import type { CalClient } from "../CalClient.js"
import type { Trigger } from "../Metrics.js"
import { isExpired, isYoung } from "../Token.js"
import type { Options } from "../TokenConfig.js"
import {
  type AttemptError,
  CalUnavailable,
  type EnsureError,
  RefreshCoolingDown,
  TokensNotFound
} from "../TokenError.js"
import { AttemptFailure, ClaimResult, Purpose, type TokenStorage } from "../TokenStorage.js"
import type { Attempt } from "./Attempt.js"
import { type Circuit, errorOf } from "./Circuit.js"
import type { Cooldown, Cooldowns } from "./Cooldowns.js"
import { type Claimed, type Landed, type LookAgain, lookAgain, reauthorizationRequired, waiting } from "./Ending.js"
import { isSamePair, type Known } from "./Known.js"
import type { Entry, Memory } from "./Memory.js"
import type { Sealed } from "./Sealed.js"
import * as Trail from "./Trail.js"

export interface Request<E = never> {
  /** What the caller knows: anything newer satisfies it. */
  readonly entry: Entry
  readonly purpose: "refresh" | "reissue"
  /** Why it is made, for whoever counts. */
  readonly trigger: Trigger
  /** Of a reissue: how it fails if the user turns out to be connected through OAuth2 by now. */
  readonly unmanaged?: Effect.Effect<never, E> | undefined
  /** Cal.com rejected the token although it does not look expired. */
  readonly rejected: boolean
  /** Told if a newer pair was there already: nobody refreshed for this. */
  readonly found?: (() => void) | undefined
  /** What a claim that was granted before comes to: it is awaited in place of the first one. */
  readonly first?: Effect.Effect<Turn, EnsureError> | undefined
}

/** What a flight has learned so far. */
export interface Progress {
  row: Known
  purpose: Request["purpose"]
  /** Only a pair with a higher version is news. */
  knownVersion: number
  waitedForHolder: boolean
  waitedForProbe: boolean
  /** What Cal.com's rejection asked for has been tried: what is left to ask is how it stands. */
  hasTried: boolean
  /** The storage has an older row than this process knew. */
  wentBack: boolean
}

export const begin = ({ entry: { row }, purpose }: Pick<Request<unknown>, "entry" | "purpose">): Progress => ({
  row,
  purpose,
  knownVersion: row.version,
  waitedForHolder: false,
  waitedForProbe: false,
  hasTried: false,
  wentBack: false
})

/** A timer of one process may end so much before the storage's clock has come as far. */
const early = Duration.millis(50)

/** What the flight does next. */
export type Turn =
  | Landed
  | LookAgain
  /** Claim again after the pause, or when there is news; `error` is for a caller who has no time left. */
  | {
      readonly _tag: "Wait"
      readonly for: "holder" | "probe"
      readonly pause: Duration.Duration
      readonly error: AttemptError
    }

/** Claims, and makes the attempt if the claim is granted. Must not be interrupted. */
export type Claim = <E>(request: Request<E>, progress: Progress) => Effect.Effect<Turn, EnsureError | E>

/** A claim that was granted, and when it was asked for: see `Ending.Claimed`. */
export interface Grant extends Pick<Claimed, "attemptId" | "startedAt" | "isAhead">, Verdict<"Claimed"> {}

/** Makes the attempt. Must not be interrupted. */
export type Granted = (request: Request, progress: Progress, grant: Grant) => Effect.Effect<Turn, EnsureError>

type Verdict<Tag extends ClaimResult["_tag"]> = Extract<ClaimResult, { readonly _tag: Tag }>

export const make = (deps: {
  readonly config: Options
  readonly storage: typeof TokenStorage.Service
  readonly client: typeof CalClient.Service
  readonly memory: Memory
  readonly cooldowns: Cooldowns
  readonly circuit: Circuit
  readonly sealed: Sealed
  readonly attempt: Attempt
  /** How histories name this process. */
  readonly process: string
}): { readonly claim: Claim; readonly granted: Granted } => {
  const { circuit, client, config, cooldowns, memory, process, sealed, storage } = deps

  /** For how long the row's access token has been expired, if it is. */
  const expiredFor = (row: Known) =>
    Effect.map(client.now, (now) =>
      isExpired(row.pair, now) ? Option.some(Duration.millis(now - row.pair.accessTokenExpiresAt)) : Option.none()
    )

  const newer = ({ found }: Request<unknown>, progress: Progress, { row }: Verdict<"Newer">): Effect.Effect<Turn> =>
    Effect.zipWith(memory.put(row), client.now, (_, now) => {
      progress.knownVersion = row.version
      // A pair can be handed in expired, and a reissue can bring one: that one has to be refreshed in its turn.
      progress.purpose = "refresh"
      if (isExpired(row.pair, now)) return lookAgain
      if (!progress.waitedForHolder && !progress.waitedForProbe) found?.()
      return { _tag: "Landed", row }
    })

  /** Cal.com shall not reissue an account that is nobody's here, nor one that nobody asked for. */
  const moved = <E>(
    { unmanaged }: Request<E>,
    progress: Progress,
    { row }: Verdict<"Moved">
  ): Effect.Effect<Turn, E> => {
    progress.purpose = "refresh"
    return row.connection._tag === "OAuth2" && unmanaged !== undefined ? unmanaged : Effect.succeed(lookAgain)
  }

  /** Nobody is asked to reconnect while an answer that can be read by now holds the pair. */
  const terminal = ({ row, sealed: answers }: Verdict<"Terminal">): Effect.Effect<Turn, EnsureError> =>
    Effect.flatMap(
      sealed.read(row, answers),
      Option.match({
        onSome: (row) => Effect.succeed<Turn>({ _tag: "Landed", row }),
        onNone: () =>
          Effect.zipRight(
            memory.put(row),
            Effect.fail(reauthorizationRequired(row) ?? new TokensNotFound({ userUlid: row.userUlid }))
          )
      })
    )

  const busy = (progress: Progress, { retryAfter }: Verdict<"Busy">): Effect.Effect<Turn> =>
    Effect.map(Random.nextRange(0.5, 1), (jitter) => {
      progress.waitedForHolder = true
      const error = new CalUnavailable({
        operation: "refresh",
        reason: "another process is refreshing and has not finished",
        retryAfter
      })
      const pause = Duration.min(Duration.times(config.pollInterval, jitter), retryAfter)
      return { _tag: "Wait", for: "holder", pause, error }
    })

  /** Spares the storage the next questions about this pair. */
  const mirror = (row: Known, left: Duration.Duration, lastError: string | undefined, told?: Cooldown["told"]) =>
    Effect.gen(function* () {
      yield* memory.put(row)
      const since = yield* Clock.currentTimeMillis
      const until = since + Duration.toMillis(left)
      const expired = isExpired(row.pair, yield* client.now)
      yield* cooldowns.set(row.userUlid, { since, until, version: row.version, expired, lastError, told })
    })

  const held = ({ row, sealed: answers, trialIn, ...fault }: Verdict<"Held">) =>
    Effect.gen(function* () {
      if (Option.isSome(yield* sealed.read(row, answers))) return lookAgain
      if (fault.cause === "drift") sealed.heardOfDrift()
      const error = yield* circuit.heard(row.connection.clientId, fault, trialIn)
      // Held though a trial is due: it is not this user's while the token serves, or an answer is kept that holds the next.
      if (Duration.equals(trialIn, Duration.zero)) {
        const told = (retryAfter: Duration.Duration) => errorOf(row.connection.clientId, { ...fault, retryAfter })
        yield* mirror(row, fault.retryAfter, error._tag, told)
      }
      return yield* Effect.fail(error)
    })

  const tagOf = (lastError: Option.Option<AttemptError>) =>
    Option.getOrUndefined(Option.map(lastError, (error) => error._tag))

  /** Who waited for the holder of the lease gets the holder's failure. */
  const resting = (
    { waitedForHolder }: Progress,
    { lastError, retryAfter, row: { userUlid } }: Verdict<"CoolingDown" | "RejectedRecently">
  ): Effect.Effect<never, EnsureError> => {
    if (waitedForHolder && Option.isSome(lastError)) return Effect.fail(lastError.value)
    const tag = tagOf(lastError)
    return Effect.fail(
      new RefreshCoolingDown({ userUlid, retryAfter, ...(tag === undefined ? {} : { lastError: tag }) })
    )
  }

  const coolingDown = (progress: Progress, verdict: Verdict<"CoolingDown">) =>
    Effect.zipRight(mirror(verdict.row, verdict.retryAfter, tagOf(verdict.lastError)), resting(progress, verdict))

  /** Worth waiting for once, when nothing else can help the caller and it was the first failure. */
  const probeLater = (
    { entry, rejected }: Request<unknown>,
    { waitedForProbe }: Progress,
    { consecutiveFailures, lastError, retryAfter, row }: Verdict<"ProbeLater">
  ): Effect.Effect<Turn, EnsureError> =>
    Effect.gen(function* () {
      const error = Option.match(lastError, {
        onNone: (): AttemptError =>
          new CalUnavailable({
            operation: "refresh",
            reason: "the outcome of the last refresh is unknown",
            retryAfter
          }),
        onSome: (error) => waiting(error, retryAfter)
      })
      const isAlive = Option.isNone(yield* expiredFor(row)) && !entry.refused && !rejected
      const hasWaited = waitedForProbe && Duration.greaterThan(retryAfter, early)
      if (isAlive || hasWaited || consecutiveFailures > 1) {
        yield* mirror(row, retryAfter, error._tag)
        return yield* Effect.fail(error)
      }
      return { _tag: "Wait", for: "probe", pause: retryAfter, error }
    })

  const granted = (
    { entry, rejected }: Request<unknown>,
    progress: Progress,
    { attemptId, consecutiveFailures, probe, row, sealed: answers, startedAt, trial, isAhead }: Grant
  ): Effect.Effect<Turn, EnsureError> =>
    Effect.gen(function* () {
      const found = yield* sealed.read(row, answers)
      if (Option.isSome(found)) {
        if (!isSamePair(found.value.pair, row.pair)) {
          // Whether it is of a reissue, which is what is asked for then, the next claim says.
          return progress.purpose === "reissue" ? lookAgain : { _tag: "Landed", row: found.value }
        }
        // It is kept beside the row's: the next claim sees it.
        const failure = AttemptFailure.Released({ probe })
        yield* Effect.ignore(storage.fail({ userUlid: row.userUlid, attemptId, failure }))
        return lookAgain
      }
      progress.hasTried = true
      const purpose = trial === "reissue" ? "reissue" : progress.purpose
      const isKnown = row.version === entry.row.version
      const isReported = rejected && isKnown
      return yield* deps.attempt({
        attemptId,
        startedAt,
        isAhead,
        row,
        probe,
        consecutiveFailures,
        purpose,
        isRefused: isReported || (entry.refused && isKnown),
        isYoung: isYoung(row.pair, yield* client.now, config.youngToken),
        trail: Trail.make({
          process,
          purpose,
          trigger: isAhead === true ? "ahead" : isReported ? "refused" : "asked",
          startedAt,
          ...(progress.wentBack ? { wentBack: true } : {})
        })
      })
    })

  const claim: Claim = (request, progress) =>
    Effect.gen(function* () {
      const { entry, rejected } = request
      const { connection, userUlid, version } = entry.row
      const attemptId = `${process}.${randomUUID()}`
      const startedAt = yield* Clock.currentTimeMillis
      const result = yield* storage.claim({
        userUlid,
        attemptId,
        purpose:
          progress.purpose === "reissue" && connection._tag === "ManagedUser"
            ? Purpose.Reissue({ account: connection, knownVersion: version })
            : Purpose.Refresh({
                knownVersion: progress.knownVersion,
                rejectedInterval: rejected && !progress.hasTried ? config.rejectedInterval : undefined
              }),
        lease: config.lease,
        cooldownWindow: config.cooldownWindow,
        maxAttempts: config.maxAttempts,
        expiredFor: Option.getOrUndefined(yield* expiredFor(progress.row)),
        circuit: circuit.keyOf(progress.row.connection.clientId)
      })
      if (result._tag !== "NotFound") {
        // A storage that has gone back (a restored backup) counts from where it is.
        if (result.row.version < version) {
          progress.wentBack = true
          yield* memory.put(result.row, startedAt)
        }
        progress.row = result.row
      }
      return yield* ClaimResult.$match(result, {
        NotFound: (): Effect.Effect<Turn, EnsureError> =>
          Effect.zipRight(memory.remove(userUlid), new TokensNotFound({ userUlid })),
        Newer: (verdict) => newer(request, progress, verdict),
        Moved: (verdict) => moved(request, progress, verdict),
        Terminal: terminal,
        Busy: (verdict) => busy(progress, verdict),
        RejectedRecently: (verdict) => resting(progress, verdict),
        CoolingDown: (verdict) => coolingDown(progress, verdict),
        ProbeLater: (verdict) => probeLater(request, progress, verdict),
        Held: held,
        Claimed: (verdict) =>
          // Whoever joined has been noted.
          granted(request, progress, { ...verdict, attemptId, startedAt, isAhead: request.first !== undefined })
      })
    })

  return { claim, granted }
}
