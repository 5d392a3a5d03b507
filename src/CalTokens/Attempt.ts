/**
 * One attempt, from the claim to its end: spend the tokens of the row in turn, reissue for a managed user when all are
 * refused, and commit what Cal.com grants. It runs where nothing interrupts it.
 */
import { Clock, Duration, Effect, Option } from "effect"
import { CallFailure, type CalClient, type Grant } from "../CalClient.js"
import * as Metrics from "../Metrics.js"
import { hash, type TokenPair } from "../Token.js"
import type { Options } from "../TokenConfig.js"
import { CalUnavailable } from "../TokenError.js"
import type { StoredConnection, TokenStorage } from "../TokenStorage.js"
import * as Call from "./Call.js"
import type { Circuit } from "./Circuit.js"
import type { Commit } from "./Commit.js"
import * as Ending from "./Ending.js"
import type { Owned } from "../Fibers/Owned.js"

export interface Dependencies {
  readonly config: Options
  readonly storage: typeof TokenStorage.Service
  readonly client: typeof CalClient.Service
  readonly circuit: Circuit
  readonly owned: Owned
  readonly commit: Commit
}

/** A refresh token that may be spent. */
interface Candidate {
  readonly pair: TokenPair
  readonly hash: string
}

/** The token whose outcome is unknown first, then the row's, then the fallbacks; refused ones are out. */
const candidates = (
  row: StoredConnection,
  probe: Option.Option<string>,
  refused: ReadonlySet<string>
): ReadonlyArray<Candidate> => {
  const all = [row.pair, ...row.fallbacks].map((pair) => ({ pair, hash: hash(pair.refreshToken) }))
  const isProbe = (candidate: Candidate) => Option.contains(probe, candidate.hash)
  return [...all.filter(isProbe), ...all.filter((candidate) => !isProbe(candidate))].filter(
    (candidate) => !refused.has(candidate.hash)
  )
}

/** Runs one attempt. */
export const run = (deps: Dependencies, claim: Ending.Claim): Effect.Effect<Ending.Ended, Ending.Failure> =>
  Effect.gen(function* () {
    const { client, config, storage } = deps
    // From the claim on: whoever slept since then may have lost the lease, and sends nothing any more.
    const { attemptId, probe, startedAt } = claim
    const { userUlid } = claim.row
    const seen = hash(claim.row.pair.refreshToken)
    const refused = new Set<string>()
    const endings = Ending.make(deps, claim, refused)

    const commit = (row: StoredConnection, grant: Grant, spent: ReadonlyArray<string>) =>
      deps.commit({
        row,
        grant,
        request: { userUlid, attemptId, seen, dead: [...new Set([...refused, ...spent])] },
        reissued: claim.reissue
      })

    /** One call to a token endpoint, within the time the attempt has left; `spent` are the tokens it kills. */
    const call = (
      operation: "refresh" | "reissue",
      row: StoredConnection,
      spent: ReadonlyArray<string>,
      request: Effect.Effect<Grant, CallFailure>
    ) =>
      Effect.gen(function* () {
        const elapsed = Math.max(0, (yield* Clock.currentTimeMillis) - startedAt)
        const left = Duration.subtract(config.attemptTimeout, Duration.millis(elapsed))
        if (Duration.lessThanOrEqualTo(left, Duration.zero)) {
          const error = new CalUnavailable({ operation, reason: "the attempt ran out of time" })
          return yield* Effect.fail(CallFailure.NotSpent({ error }))
        }
        const granted = Effect.tap(request, () => deps.circuit.granted(row.connection.clientId))
        return yield* Call.bounded(deps.owned, granted, {
          operation,
          userUlid,
          timeout: Duration.min(left, config.callTimeout),
          lateWait: config.lateAnswerWait,
          onLate: (grant) =>
            Effect.zipRight(Effect.logWarning("Cal.com's answer came late"), commit(row, grant, spent)).pipe(
              Effect.asVoid,
              Effect.annotateLogs({ userUlid, operation })
            )
        }).pipe(Metrics.calCall(operation))
      }).pipe(Effect.either)

    /** Nothing here that was not tried: the same pair, and no fallback that has come since. */
    const isNoNews = (row: StoredConnection) =>
      row.version === claim.row.version && candidates(row, Option.none(), refused).length === 0

    /** A pair that a refused token was spent for may be on its way into the storage; then, or with the user gone, this ends. */
    const awaitLatePair = Effect.option(storage.find(userUlid)).pipe(
      Effect.delay(Duration.times(config.pollInterval, 2)),
      Effect.repeat({ until: Option.exists((row) => !Option.exists(row, isNoNews)) }),
      Effect.timeoutOption(config.latePairWait)
    )

    /** Reissuing kills a newer pair, so the row is looked at right before. An unknown outcome is repeated once. */
    const reissue = (row: StoredConnection): Effect.Effect<Ending.Step, Ending.Failure> =>
      Effect.gen(function* () {
        const { connection } = row
        if (connection._tag === "OAuth2") {
          // A displaced token tells no more of who had spent it, but whoever did has the pair that lives.
          const wasDisplaced = refused.size > 1
          if (Option.isSome(probe) || wasDisplaced) yield* awaitLatePair
          return yield* endings.terminal(row, Option.isSome(probe) ? "rotationLost" : "revoked")
        }
        for (const isLast of [false, true]) {
          const current = yield* storage.spend({ userUlid, attemptId, next: seen, dead: [...refused] })
          if (Option.isNone(current)) break
          const spent = candidates(current.value, probe, refused).map((candidate) => candidate.hash)
          const outcome = yield* call("reissue", current.value, spent, client.reissue(connection))
          if (outcome._tag === "Right") return yield* commit(current.value, outcome.right, spent)
          if (outcome.left._tag === "UserGone") return yield* endings.terminal(current.value, "calUserGone")
          if (outcome.left._tag !== "Unknown" || isLast) return yield* endings.after(outcome.left)
        }
        return { _tag: "Moved" }
      })

    yield* endings.admit
    let row = claim.row
    for (let isFirst = true; ; isFirst = false) {
      const next = claim.reissue ? undefined : candidates(row, probe, refused)[0]
      if (next === undefined) {
        const step = yield* reissue(row)
        if (step._tag !== "Again") return step
        row = step.row
        continue
      }
      // The claim journalled the first token (the probed one, if there is one); the others follow as their turn comes.
      if (!isFirst || Option.exists(probe, (probed) => probed !== next.hash)) {
        const current = yield* storage.spend({ userUlid, attemptId, next: next.hash, dead: [...refused] })
        if (Option.isNone(current)) return { _tag: "Moved" }
        row = current.value
      }
      const outcome = yield* call("refresh", row, [next.hash], client.refresh(row.connection, next.pair.refreshToken))
      if (outcome._tag === "Right") return yield* commit(row, outcome.right, [next.hash])
      if (outcome.left._tag !== "Rejected") return yield* endings.after(outcome.left)
      refused.add(next.hash)
    }
  })
