/** The ways an attempt ends without a pair, and what each writes. */
import { Duration, Effect, Option, Random } from "effect"
import type { CalClient, Unread } from "../CalClient.js"
import { hash, isSamePair } from "../Token.js"
import type { Options } from "../TokenConfig.js"
import {
  CalProtocolError,
  CalUnavailable,
  type CallError,
  type ReauthorizationCause,
  ReauthorizationRequired,
  retryAfter,
  type AttemptError,
  type EnsureError,
  TokenUnreadable
} from "../TokenError.js"
import {
  AttemptFailure,
  type CircuitRequest,
  type FailRequest,
  type FailResult,
  type StoredConnection,
  type StoredRow,
  type TokenStorage
} from "../TokenStorage.js"
import type { Circuit } from "./Circuit.js"
import type { Known } from "./Known.js"
import type { Memory } from "./Memory.js"
import * as Sealed from "./Sealed.js"
import type { Trail } from "./Trail.js"
import { type Ending, Ending as Endings, openProbe, Outcome, type State } from "./Plan.js"

/** A claim that was granted. */
export interface Claimed extends Pick<State, "purpose" | "row" | "probe" | "isYoung"> {
  readonly attemptId: string
  /** When it was asked for, by our clock, in milliseconds: the lease is not older. */
  readonly startedAt: number
  /** Before this attempt. */
  readonly consecutiveFailures: number
  /** Nobody asked for it. */
  readonly isAhead?: boolean | undefined
  /** Cal.com refused the access token, whatever its expiry says. */
  readonly isRefused: boolean
  readonly trail: Trail
}

/** Somebody else changed the row meanwhile, or the outcome is for the next claim to judge: claim again. */
export interface LookAgain {
  readonly _tag: "LookAgain"
}
export const lookAgain: LookAgain = { _tag: "LookAgain" }

/** There is a row to serve: with our pair, or with a newer one. */
export interface Landed {
  readonly _tag: "Landed"
  readonly row: Known
}

/**
 * Back-off before the next attempt: a ceiling that doubles up to `backoffMax`, half of it jitter. The lowest value is
 * `backoffMin`.
 */
export const backoff = (
  config: Pick<Options, "backoffMax" | "backoffMin">,
  consecutiveFailures: number
): Effect.Effect<Duration.Duration> => {
  const ceiling = Math.min(
    Duration.toMillis(config.backoffMax),
    Duration.toMillis(config.backoffMin) * 2 ** (Math.min(consecutiveFailures, 30) + 1)
  )
  return Effect.map(Random.next, (random) => Duration.millis(Math.round((ceiling / 2) * (1 + random))))
}

/** A user's terminal state as an error; `undefined` while there is none. */
export const reauthorizationRequired = ({ status, userUlid }: Known): ReauthorizationRequired | undefined =>
  status._tag === "Active"
    ? undefined
    : new ReauthorizationRequired({ userUlid, cause: status.cause, since: status.since, ...importOf(status) })

const importOf = ({ importedAt }: { readonly importedAt?: number | undefined }) =>
  importedAt === undefined ? {} : { importedAt }

/** Of an unknown outcome: nothing is sent before the probe is due, whatever was wished for at the time. */
export const waiting = <E extends AttemptError>(error: E, left: Duration.Duration): E | CalUnavailable => {
  if (error._tag !== "CalUnavailable") return error
  const { operation, reason, status } = error
  return new CalUnavailable({ operation, reason, retryAfter: left, ...(status === undefined ? {} : { status }) })
}

/** What became of the end: an error for whoever waits, a pair that came meanwhile, another look, or an untried token. */
export type Ended = Effect.Effect<Landed | LookAgain | Outcome, EnsureError>

export interface Finish {
  /** Gives the lease back as if it had not been taken, because of an error. */
  readonly release: (
    claimed: Claimed,
    probe: Option.Option<string>,
    error: AttemptError
  ) => Effect.Effect<Landed | LookAgain, EnsureError>
  readonly finish: (claimed: Claimed, state: State, ending: Ending) => Ended
}

export const make = (deps: {
  readonly config: Options
  readonly storage: typeof TokenStorage.Service
  readonly client: typeof CalClient.Service
  readonly circuit: Circuit
  readonly sealed: Sealed.Sealed
  readonly memory: Memory
  /** Tells of a user who has to reconnect. */
  readonly publish: (row: StoredConnection) => Effect.Effect<void>
}): Finish => {
  const { circuit, client, config, memory, sealed, storage } = deps

  const fail = (
    { attemptId, row: { userUlid }, trail }: Claimed,
    failure: AttemptFailure,
    request: Pick<FailRequest, "brake" | "circuit">
  ) =>
    Effect.flatMap(trail.end(ends[failure._tag]), (history) =>
      storage.fail({ userUlid, attemptId, failure, history, ...request })
    )

  /**
   * Writes how the attempt failed. A storage that does not answer leaves the claim to lapse, which says the same. Some:
   * the row of whoever took the attempt over.
   */
  const record = (claimed: Claimed, failure: AttemptFailure, circuit?: CircuitRequest) => {
    const { userUlid } = claimed.row
    return Effect.matchEffect(fail(claimed, failure, { circuit }), {
      onSuccess: (result) => Effect.succeed(takenOver(result)),
      onFailure: (error) =>
        Effect.logWarning("The end of a refresh attempt was not recorded; its lease will lapse").pipe(
          Effect.annotateLogs({ userUlid, error: error.message }),
          Effect.as(Option.none())
        )
    })
  }

  /** Whoever slept on an attempt fails at it, and that hurts nobody for whom a pair has come since. */
  const unlessNewer = <E>(
    { purpose, row }: Claimed,
    taken: Option.Option<StoredRow>,
    otherwise: Effect.Effect<LookAgain, E>
  ) =>
    Option.match(
      // A reissue ended every other pair: one that was stored meanwhile is no answer to it.
      Option.filter(
        taken,
        (now) => purpose === "refresh" && now.status._tag === "Active" && !isSamePair(now.pair, row.pair)
      ),
      {
        onNone: () => otherwise,
        onSome: (now): Effect.Effect<Landed | LookAgain, E> => Effect.as(memory.put(now), { _tag: "Landed", row: now })
      }
    )

  /** Cal.com's own wish, if it has one, and never less than the back-off. */
  const pause = ({ consecutiveFailures }: Claimed, error: AttemptError) =>
    Effect.map(backoff(config, consecutiveFailures), (duration) => Duration.max(duration, wish(error)))

  const notSpent = (claimed: Claimed, error: AttemptError) =>
    Effect.gen(function* () {
      const failure = AttemptFailure.NotSpent({ error, backoff: yield* pause(claimed, error) })
      return yield* unlessNewer(claimed, yield* record(claimed, failure), Effect.fail(error))
    })

  const unknown = (claimed: Claimed, state: State, failed: CallError, unread: Unread | undefined): Ended =>
    Effect.gen(function* () {
      const { row } = claimed
      const { userUlid } = row
      const kept = unread === undefined ? undefined : Sealed.keep(state, hash(row.pair.refreshToken), unread)
      // Whoever meets it is told what all are told who wait for its end.
      const error =
        failed._tag === "CalProtocolError" && kept?.drift?.users === 1
          ? new CalProtocolError({ operation: failed.operation, issue: kept.drift.reason })
          : failed
      const isFirst = claimed.consecutiveFailures === 0
      const serves = claimed.isRefused ? 0 : Math.max(0, claimed.row.pair.accessTokenExpiresAt - (yield* client.now))
      const left = Duration.millis(serves)
      const probeIn = Duration.max(config.probeDelayExpired, Duration.min(config.probeDelayValid, left))
      // The probe's own delay is pause enough after a first failure.
      const rest = isFirst ? Duration.zero : yield* pause(claimed, error)
      const due = Duration.max(probeIn, wish(error))
      const failure = AttemptFailure.Unknown({ error, backoff: rest, probeIn: due, ...kept })
      const taken = yield* kept === undefined
        ? record(claimed, failure)
        : fail(claimed, failure, { circuit: circuit.keyOf(row.connection.clientId) }).pipe(
            Effect.map(takenOver),
            Effect.catchAll(() =>
              Effect.flatMap(claimed.trail.end("unknown"), (history) =>
                Effect.as(sealed.offer(userUlid, kept, history), Option.none())
              )
            )
          )
      // The next claim says when the token is probed, and whether that is worth waiting for.
      return yield* unlessNewer(
        claimed,
        taken,
        isFirst ? Effect.succeed(lookAgain) : Effect.fail(waiting(error, Duration.max(rest, due)))
      )
    })

  const release = (claimed: Claimed, probe: Option.Option<string>, error: AttemptError) =>
    Effect.flatMap(record(claimed, AttemptFailure.Released({ probe })), (taken) =>
      unlessNewer(claimed, taken, Effect.fail(error))
    )

  /** Cal.com refuses the client for the whole fleet, unless it is a fault of this process. */
  const clientWide = (claimed: Claimed, probe: Option.Option<string>, error: CallError, isOwn: boolean): Ended =>
    Effect.gen(function* () {
      const { clientId } = claimed.row.connection
      if (isOwn) return yield* release(claimed, probe, yield* circuit.misconfigured(clientId, error))
      const reason = error._tag === "CalClientMisconfigured" ? error.reason : error.message
      const failure = AttemptFailure.Released({ probe, refusal: reason })
      const taken = yield* record(claimed, failure, circuit.keyOf(clientId))
      const retryAfter = config.circuitInterval
      const told = yield* circuit.heard(clientId, { cause: "client", reason, retryAfter }, retryAfter)
      return yield* unlessNewer(claimed, taken, Effect.fail(told))
    })

  const terminal = (claimed: Claimed, state: State, cause: ReauthorizationCause): Ended =>
    Effect.gen(function* () {
      const { row } = claimed
      const dead = new Set([...state.refused, ...hashes(state.row)])
      const failure = AttemptFailure.Terminal({ cause, dead: [...dead], probe: openProbe(state) })
      const { clientId } = row.connection
      const brake = { users: config.brakeRejections, window: config.brakeWindow }
      const result = yield* fail(claimed, failure, { brake, circuit: circuit.keyOf(clientId) })
      if (result._tag === "Spared") {
        return yield* Effect.flatMap(circuit.heard(clientId, result, result.retryAfter), Effect.fail)
      }
      if (result._tag === "Recorded") {
        yield* deps.publish(result.row)
        yield* memory.put(result.row)
        return yield* Effect.fail(reauthorizationRequired(result.row) ?? unreadable(claimed))
      }
      if (!result.attemptIsMine || Option.isNone(result.row)) return lookAgain
      const untried = result.row.value
      return hashes(untried).some((each) => !dead.has(each))
        ? Outcome.Untried({ row: untried })
        : yield* notSpent(claimed, unreadable(claimed))
    })

  return {
    release,
    finish: (claimed, state, ending) =>
      Endings.$match(ending, {
        NotSpent: ({ error }): Ended => notSpent(claimed, error),
        Unknown: ({ error, unread }) => unknown(claimed, state, error, unread),
        ClientWide: ({ error, isOwn }) => clientWide(claimed, openProbe(state), error, isOwn),
        Terminal: ({ cause }) => terminal(claimed, state, cause)
      })
  }
}

const ends = { NotSpent: "notSpent", Unknown: "unknown", Terminal: "terminal", Released: "released" } as const

/** One that could still work is kept in the row, and these keys do not open it. */
const unreadable = ({ row: { userUlid } }: Claimed) =>
  new TokenUnreadable({ userUlid, reason: "a pair that is kept as a fallback" })

/** The row that somebody else took the attempt over of. */
const takenOver = (result: FailResult): Option.Option<StoredRow> =>
  result._tag === "NotRecorded" && !result.attemptIsMine ? result.row : Option.none()

const hashes = ({ fallbacks, pair }: StoredRow) => [pair, ...fallbacks].map((each) => hash(each.refreshToken))

const wish = (error: AttemptError) => Option.getOrElse(retryAfter(error), () => Duration.zero)
