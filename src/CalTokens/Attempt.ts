/**
 * One attempt, from the claim to its end: carries out what `Plan` says, and commits what Cal.com grants. It runs where
 * nothing interrupts it.
 */
import { Cause, Clock, Duration, Effect, Exit, Option } from "effect"
import { CallFailure, type CalClient, type Grant } from "../CalClient.js"
import type { Deadline } from "../Fibers/Deadline.js"
import type { Owned } from "../Fibers/Owned.js"
import * as Metrics from "../Metrics.js"
import type { Event, Step } from "../History.js"
import { hash } from "../Token.js"
import type { Options } from "../TokenConfig.js"
import { CalUnavailable, type EnsureError } from "../TokenError.js"
import type { StoredRow, TokenStorage } from "../TokenStorage.js"
import * as Call from "./Call.js"
import type { Circuit } from "./Circuit.js"
import type { Commits } from "./Commit.js"
import { type Claimed, type Finish, type Landed, type LookAgain, lookAgain } from "./Ending.js"
import { isSamePair } from "./Known.js"
import * as Plan from "./Plan.js"
import * as Sealed from "./Sealed.js"
import * as Trail from "./Trail.js"

/** What Cal.com's answer is judged by: what is there already is no news. */
const kept = ({ row }: Plan.State) => ({
  stored: row.pair,
  known: row.fallbacks.map((pair) => hash(pair.refreshToken))
})

/** What is sent, before anything has come of it. */
type Sent = Pick<Step, "as" | "token">

export type Attempt = (claimed: Claimed) => Effect.Effect<Landed | LookAgain, EnsureError>

export const make = (deps: {
  readonly config: Options
  readonly storage: typeof TokenStorage.Service
  readonly client: typeof CalClient.Service
  readonly circuit: Circuit
  readonly owned: Owned
  readonly deadline: Deadline
  readonly commits: Commits
  readonly endings: Finish
  readonly sealed: Sealed.Sealed
  readonly plan: typeof Plan.next
}): Attempt => {
  const { circuit, client, commits, config, endings, plan, sealed, storage } = deps

  return (claimed) => {
    // From the claim on: whoever slept since then may have lost the lease, and sends nothing any more.
    const { attemptId, startedAt, trail } = claimed
    const { userUlid } = claimed.row
    const { clientId } = claimed.row.connection
    const seen = hash(claimed.row.pair.refreshToken)

    const commit = (state: Plan.State, grant: Grant, spent: ReadonlyArray<string>, history: Event) =>
      Effect.map(
        commits.commit({
          row: state.row,
          grant,
          request: {
            userUlid,
            attemptId,
            seen,
            dead: [...new Set([...state.refused, ...spent])],
            circuit: circuit.keyOf(clientId),
            history,
            ...(grant.unread === undefined
              ? {}
              : { unread: { ...Sealed.keep(state, seen, grant.unread), probeIn: config.probeDelayValid } })
          },
          reissued: state.spending === undefined,
          isAsked: claimed.isAhead !== true
        }),
        Option.match({
          onNone: () => lookAgain,
          // A reissue ended every other pair: one that was stored meanwhile is no answer to it.
          onSome: (row): Landed | LookAgain =>
            state.spending === undefined && !isSamePair(row.pair, grant.pair) ? lookAgain : { _tag: "Landed", row }
        })
      )

    const wentWell = (sent: Sent, grant: Grant): Step => ({
      ...sent,
      answer: grant.unread === undefined ? "granted" : "unreadable"
    })
    const broughtBy = ({ pair }: Grant) => hash(pair.refreshToken)

    /** One call to a token endpoint, within the time the attempt has left; `spent` are the tokens it kills. */
    const call = (
      operation: "refresh" | "reissue",
      state: Plan.State,
      sent: Sent,
      spent: ReadonlyArray<string>,
      request: (deadline: number) => Effect.Effect<Grant, CallFailure>
    ): Effect.Effect<Landed | LookAgain | Plan.Outcome> =>
      Effect.gen(function* () {
        const now = yield* Clock.currentTimeMillis
        const elapsed = Math.max(0, now - startedAt)
        const left = Duration.subtract(config.attemptTimeout, Duration.millis(elapsed))
        if (Duration.lessThanOrEqualTo(left, Duration.zero)) {
          const error = new CalUnavailable({ operation, reason: "the attempt ran out of time" })
          return yield* Effect.fail(CallFailure.NotSpent({ error }))
        }
        const timeout = Duration.min(left, config.callTimeout)
        const granted = Effect.tap(request(now + Duration.toMillis(timeout)), () => circuit.granted(clientId))
        return yield* Call.bounded(deps, granted, {
          operation,
          userUlid,
          timeout,
          lateWait: config.lateAnswerWait,
          onLate: (answer) =>
            Exit.matchEffect(answer, {
              onSuccess: (grant) =>
                trail.late("granted", wentWell(sent, grant), broughtBy(grant)).pipe(
                  Effect.zipLeft(Effect.logWarning("Cal.com's answer came late")),
                  Effect.flatMap((history) => commit(state, grant, spent, history))
                ),
              onFailure: (cause) => {
                const failure = Option.getOrUndefined(Cause.failureOption(cause))
                return failure?._tag === "Unreadable"
                  ? Effect.flatMap(trail.late("unknown", { ...sent, answer: "unreadable" }), (history) =>
                      sealed.offer(userUlid, Sealed.keep(state, seen, failure.answer), history)
                    )
                  : Effect.void
              }
            }).pipe(Effect.asVoid, Effect.annotateLogs({ userUlid, operation }))
        }).pipe(Metrics.calCall(operation))
      }).pipe(
        Effect.matchEffect({
          onFailure: (failure) =>
            Effect.map(client.now, (now) => {
              trail.went(Trail.failed(sent, failure, state, now))
              return Plan.Outcome.Failed({ failure })
            }),
          onSuccess: (grant) =>
            Effect.flatMap(trail.granted(broughtBy(grant), wentWell(sent, grant)), (history) =>
              commit(state, grant, spent, history)
            )
        })
      )

    /** The row with the next token in its journal; `None` when the attempt is no longer ours. */
    const journal = ({ refused }: Plan.State, next: string) =>
      storage.spend({ userUlid, attemptId, next, dead: [...refused] })

    const send = (state: Plan.State, { hash, pair }: Plan.Candidate, again = false) =>
      Effect.map(
        call("refresh", state, Trail.sending(state, seen, { hash, again }), [hash], (deadline) =>
          client.refresh(state.row.connection, pair.refreshToken, { ...kept(state), deadline })
        ),
        (outcome) => ({ state, outcome })
      )

    const spend = (state: Plan.State, { candidate, isJournalled }: Extract<Plan.Step, { _tag: "Spend" }>) =>
      Effect.gen(function* () {
        const row = isJournalled ? Option.some(state.row) : yield* journal(state, candidate.hash)
        if (Option.isNone(row)) return { state, outcome: lookAgain }
        return yield* send({ ...state, row: row.value }, candidate)
      })

    /** Reissuing kills a newer pair, so the row is looked at right before. */
    const reissue = (state: Plan.State) =>
      Effect.gen(function* () {
        const row = yield* journal(state, seen)
        if (Option.isNone(row) || row.value.connection._tag === "OAuth2") return { state, outcome: lookAgain }
        const now = { ...state, row: row.value }
        const spent = Plan.candidates(now).map((candidate) => candidate.hash)
        const { connection } = row.value
        return {
          state: now,
          outcome: yield* call("reissue", now, Trail.sending(now, seen, undefined), spent, (deadline) =>
            client.reissue(connection, { ...kept(now), deadline })
          )
        }
      })

    /** Nothing here that was not tried: the same pair, and no fallback that has come since. */
    const isNoNews = (state: Plan.State) => (row: StoredRow) =>
      row.version === claimed.row.version && Plan.candidates({ ...state, row, probe: Option.none() }).length === 0

    /** Until the late pair is there, or the user is gone; not for ever. */
    const awaitLatePair = (state: Plan.State) =>
      Effect.option(storage.find(userUlid)).pipe(
        Effect.delay(Duration.times(config.pollInterval, 2)),
        Effect.repeat({ until: Option.exists((row) => !Option.exists(row, isNoNews(state))) }),
        Effect.timeoutOption(config.latePairWait),
        Effect.as({ state, outcome: Plan.Outcome.Waited() })
      )

    const take = Plan.Step.$match({
      Spend: (step) => (state: Plan.State) => spend(state, step),
      SpendAgain:
        ({ candidate }) =>
        (state: Plan.State) =>
          Effect.delay(send(state, candidate, true), config.youngTokenDelay),
      Reissue: () => reissue,
      AwaitLatePair: () => awaitLatePair,
      End:
        ({ ending }) =>
        (state: Plan.State) =>
          Effect.map(endings.finish(claimed, state, ending), (outcome) => ({ state, outcome }))
    })

    const drive = Effect.gen(function* () {
      let [step, state] = plan(Plan.begin(claimed), Plan.Outcome.Claimed())
      while (true) {
        const taken = yield* take(step)(state)
        if (taken.outcome._tag === "Landed" || taken.outcome._tag === "LookAgain") return taken.outcome
        ;[step, state] = plan(taken.state, taken.outcome)
      }
    })

    return Effect.matchEffect(circuit.enter(clientId), {
      onFailure: (error) => endings.release(claimed, claimed.probe, error),
      onSuccess: () => drive
    })
  }
}
