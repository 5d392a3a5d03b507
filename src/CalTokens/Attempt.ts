/**
 * One attempt, from the claim to its end: spend the tokens of the row in turn, reissue for a managed user when all are
 * refused, and commit or record what came of it. It runs where nothing interrupts it.
 */
import { Clock, Duration, Effect, Option, Random } from "effect"
import { CallFailure, type CalClient, type Grant } from "../CalClient.js"
import { hash, type TokenPair, type UserUlid } from "../Token.js"
import type { Options } from "../TokenConfig.js"
import {
  CalUnavailable,
  type ReauthorizationCause,
  retryAfter,
  type StorageUnavailable,
  type TokenError,
  type TokenUnreadable
} from "../TokenError.js"
import { AttemptFailure, type StoredConnection, type TokenStorage } from "../TokenStorage.js"
import * as Call from "./Call.js"
import type { Circuit } from "./Circuit.js"
import type { Commit, Committed } from "./Commit.js"
import type { Owned } from "./Owned.js"

/** The claim an attempt starts from. */
export interface Claim {
  readonly attemptId: string
  readonly row: StoredConnection
  /** Hash of the refresh token whose outcome is unknown. */
  readonly probe: Option.Option<string>
  readonly consecutiveFailures: number
  readonly reissue: boolean
}

/** How an attempt ends, if not with an error. */
export type Ended =
  | Committed
  /** Somebody else changed the row meanwhile: look again. */
  | { readonly _tag: "Moved" }
  /** The outcome is unknown; the token is probed later. */
  | { readonly _tag: "Unknown"; readonly error: TokenError }
  /** Every token was refused, and so it is written. */
  | { readonly _tag: "Terminal"; readonly row: StoredConnection }

/** `Again`: a token turned up that was not tried yet. */
type Step = Ended | { readonly _tag: "Again"; readonly row: StoredConnection }

type Failure = StorageUnavailable | TokenUnreadable | TokenError

export interface Dependencies {
  readonly config: Options
  readonly storage: typeof TokenStorage.Service
  readonly client: typeof CalClient.Service
  readonly circuit: Circuit
  readonly owned: Owned
  readonly commit: Commit
}

/** Back-off before the next attempt: doubles from `backoffMin` to `backoffMax`; half of it is jitter, but never below the minimum. */
export const backoff = (
  config: Pick<Options, "backoffMax" | "backoffMin">,
  consecutiveFailures: number
): Effect.Effect<Duration.Duration> => {
  const most = Math.min(
    Duration.toMillis(config.backoffMax),
    Duration.toMillis(config.backoffMin) * 2 ** (Math.min(consecutiveFailures, 30) + 1)
  )
  return Effect.map(Random.next, (random) => Duration.millis(Math.round(most / 2 + (most / 2) * random)))
}

/** Runs one attempt. */
export const run = (deps: Dependencies, claim: Claim): Effect.Effect<Ended, Failure> =>
  Effect.gen(function* () {
    const { circuit, client, config, storage } = deps
    const { attemptId } = claim
    const userUlid: UserUlid = claim.row.userUlid
    const clientId = claim.row.connection.clientId
    const seen = hash(claim.row.pair.refreshToken)
    const startedAt = yield* Clock.currentTimeMillis
    const refused = new Set<string>()

    const timeLeft = Effect.map(Clock.currentTimeMillis, (now) =>
      Duration.subtract(config.attemptTimeout, Duration.millis(Math.max(0, now - startedAt)))
    )

    /** Is the outcome of an earlier attempt still open? Not once the probed token was refused. */
    const openProbe = () => Option.filter(claim.probe, (probed) => !refused.has(probed))

    /** The token whose outcome is unknown first, then the row's, then the fallbacks; refused ones are out. */
    const candidates = (row: StoredConnection): ReadonlyArray<{ readonly pair: TokenPair; readonly hash: string }> => {
      const all = [row.pair, ...row.fallbacks].map((pair) => ({ pair, hash: hash(pair.refreshToken) }))
      const probed = all.filter((candidate) => Option.contains(claim.probe, candidate.hash))
      const others = all.filter((candidate) => !Option.contains(claim.probe, candidate.hash))
      return [...probed, ...others].filter((candidate) => !refused.has(candidate.hash))
    }

    const commitGrant = (row: StoredConnection, grant: Grant, dead: ReadonlyArray<string>) =>
      deps.commit({
        row,
        grant,
        request: { userUlid, attemptId, seen, dead: [...new Set([...refused, ...dead])] },
        reissued: claim.reissue
      })

    const call = (
      operation: string,
      row: StoredConnection,
      dead: ReadonlyArray<string>,
      effect: Effect.Effect<Grant, CallFailure>
    ) =>
      Effect.gen(function* () {
        const left = yield* timeLeft
        if (Duration.lessThanOrEqualTo(left, Duration.zero)) {
          return yield* Effect.fail(
            CallFailure.NotSpent({ error: new CalUnavailable({ operation, reason: "the attempt ran out of time" }) })
          )
        }
        return yield* Call.bounded(deps.owned, effect, {
          operation,
          timeout: Duration.min(left, config.callTimeout),
          lateWait: config.lateAnswerWait,
          onLate: (grant) =>
            Effect.logWarning("Cal.com's answer came late").pipe(
              Effect.zipRight(commitGrant(row, grant, dead)),
              Effect.asVoid,
              Effect.annotateLogs({ userUlid, operation })
            )
        })
      })

    /** Writes how the attempt failed. A storage that does not answer leaves the claim to lapse, which says the same. */
    const record = (failure: AttemptFailure) =>
      storage.fail({ userUlid, attemptId, failure }).pipe(
        Effect.map(Option.some),
        Effect.catchAll((error) =>
          Effect.as(
            Effect.logWarning("The end of a refresh attempt was not recorded; its lease will lapse").pipe(
              Effect.annotateLogs({ userUlid, error: error.message })
            ),
            Option.none()
          )
        )
      )

    const pause = (error: TokenError) =>
      Effect.map(backoff(config, claim.consecutiveFailures), (duration) =>
        Duration.max(
          duration,
          Option.getOrElse(retryAfter(error), () => Duration.zero)
        )
      )

    const endNotSpent = (error: TokenError): Effect.Effect<Ended, Failure> =>
      Option.isSome(openProbe())
        ? endUnknown(error)
        : Effect.gen(function* () {
            yield* record(AttemptFailure.NotSpent({ error, backoff: yield* pause(error) }))
            return yield* Effect.fail(error)
          })

    const endUnknown = (error: TokenError): Effect.Effect<Ended, Failure> =>
      Effect.gen(function* () {
        const left = claim.row.pair.accessTokenExpiresAt - (yield* client.now)
        const probeIn = Duration.max(
          config.probeDelayExpired,
          Duration.min(config.probeDelayValid, Duration.millis(Math.max(0, left)))
        )
        const wait = Option.getOrElse(retryAfter(error), () => Duration.zero)
        yield* record(
          AttemptFailure.Unknown({
            error,
            backoff: claim.consecutiveFailures === 0 ? Duration.zero : yield* pause(error),
            probeIn: Duration.max(probeIn, wait)
          })
        )
        return { _tag: "Unknown", error }
      })

    const endClientWide = (error: TokenError): Effect.Effect<Ended, Failure> =>
      Effect.gen(function* () {
        yield* record(AttemptFailure.Released({ probe: openProbe() }))
        return yield* Effect.flatMap(circuit.misconfigured(clientId, error), Effect.fail)
      })

    const endTerminal = (row: StoredConnection, cause: ReauthorizationCause): Effect.Effect<Step, Failure> =>
      Effect.gen(function* () {
        const brake = yield* Effect.option(Effect.flip(circuit.refused(clientId)))
        if (Option.isSome(brake)) {
          yield* record(AttemptFailure.Released({ probe: openProbe() }))
          return yield* Effect.fail(brake.value)
        }
        const dead = [row.pair, ...row.fallbacks].map((pair) => hash(pair.refreshToken))
        const result = yield* storage.fail({
          userUlid,
          attemptId,
          failure: AttemptFailure.Terminal({ cause, dead: [...new Set([...refused, ...dead])] })
        })
        if (result._tag === "NotRecorded") {
          // A late pair arrived as a fallback in the last moment, or the attempt is somebody else's.
          return result.attemptIsMine && Option.isSome(result.row)
            ? { _tag: "Again", row: result.row.value }
            : { _tag: "Moved" }
        }
        return { _tag: "Terminal", row: result.row }
      })

    const reissue = (row: StoredConnection): Effect.Effect<Step, Failure> =>
      Effect.gen(function* () {
        const { connection } = row
        if (connection._tag === "OAuth2") {
          return yield* endTerminal(row, Option.isSome(claim.probe) ? "rotationLost" : "revoked")
        }
        // Reissuing kills a newer pair, so the row is looked at right before; an unknown outcome is repeated once.
        for (const isLast of [false, true]) {
          const current = yield* storage.spend({ userUlid, attemptId, next: seen, dead: [...refused] })
          if (Option.isNone(current)) return { _tag: "Moved" }
          const dead = candidates(current.value).map((candidate) => candidate.hash)
          const outcome = yield* Effect.either(call("reissue", current.value, dead, client.reissue(connection)))
          if (outcome._tag === "Right") return yield* commitGrant(current.value, outcome.right, dead)
          if (outcome.left._tag === "UserGone") return yield* endTerminal(current.value, "calUserGone")
          if (outcome.left._tag !== "Unknown" || isLast) return yield* endWith(outcome.left)
        }
        return { _tag: "Moved" }
      })

    const endWith = (failure: CallFailure): Effect.Effect<Ended, Failure> =>
      CallFailure.$match(failure, {
        NotSpent: ({ error }) => endNotSpent(error),
        Unknown: ({ error }) => endUnknown(error),
        ClientWide: ({ error }) => endClientWide(error),
        // Neither answers the call that was made; nothing is known about the token.
        Rejected: ({ error }) => endUnknown(error),
        UserGone: ({ error }) => endUnknown(error)
      })

    let row = claim.row
    let isFirst = true
    while (true) {
      const next = claim.reissue ? undefined : candidates(row)[0]
      if (next === undefined) {
        const step = yield* reissue(row)
        if (step._tag !== "Again") return step
        row = step.row
        continue
      }
      if (!isFirst) {
        const current = yield* storage.spend({ userUlid, attemptId, next: next.hash, dead: [...refused] })
        if (Option.isNone(current)) return { _tag: "Moved" }
        row = current.value
      }
      isFirst = false
      const outcome = yield* Effect.either(
        call("refresh", row, [next.hash], client.refresh(row.connection, next.pair.refreshToken))
      )
      if (outcome._tag === "Right") return yield* commitGrant(row, outcome.right, [next.hash])
      if (outcome.left._tag !== "Rejected") return yield* endWith(outcome.left)
      refused.add(next.hash)
    }
  })
