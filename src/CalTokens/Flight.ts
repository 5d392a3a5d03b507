/**
 * A user's refresh from the outside: take the lease of the whole fleet, or wait for whoever has it, until there is a
 * newer pair or a reason why not.
 */
import { Clock, Duration, Effect } from "effect"
import type { Owned } from "../Fibers/Owned.js"
import * as Spans from "../Fibers/Spans.js"
import * as Metrics from "../Metrics.js"
import { isExpired } from "../Token.js"
import type { Options } from "../TokenConfig.js"
import { CalUnavailable, type EnsureError, type TokenError } from "../TokenError.js"
import type { CalClient } from "../CalClient.js"
import type { Circuit } from "./Circuit.js"
import { begin, type Claim, type Request, type Turn } from "./Claim.js"
import type { Commits } from "./Commit.js"
import { lookAgain } from "./Ending.js"
import type { Known } from "./Known.js"
import type { Notices, Watch } from "./Notices.js"

/** It begins nothing after `callerWait`, and its last attempt takes `attemptTimeout` at most. */
export type Flight = <E extends TokenError = never>(request: Request<E>) => Effect.Effect<Known, EnsureError | E>

export const make = (deps: {
  readonly config: Pick<Options, "callerWait">
  readonly client: typeof CalClient.Service
  readonly circuit: Circuit
  readonly commits: Commits
  readonly notices: Notices
  readonly owned: Owned
  readonly claim: Claim
}): Flight => {
  const { circuit, client, commits, config, notices, owned } = deps

  /** A process that is stopping begins nothing new. */
  const isOpen = Effect.suspend(() =>
    owned.isClosing() ? Effect.fail(new CalUnavailable({ operation: "refresh", reason: "shutting down" })) : Effect.void
  )

  const fly = <E extends TokenError>(request: Request<E>, flown: Metrics.Flown) =>
    Effect.fnUntraced(function* (watch: Watch) {
      const startedAt = yield* Clock.currentTimeMillis
      const { row } = request.entry
      let { first } = request
      const progress = begin(request)
      yield* isOpen
      // No circuit keeps a pair from somebody who would have to reconnect without it: it may be in an answer that is kept.
      if (row.status._tag === "Active" && first === undefined) yield* circuit.look(row.connection.clientId)
      while (true) {
        yield* isOpen
        watch.forget()
        // A pair that this process holds is better than any that could be asked for.
        if (first === undefined) yield* commits.land(row.userUlid)
        // From the claim on nothing may cut the work: it runs in a fiber that only ends by itself.
        const claim = first ?? Effect.flatten(owned.runToEnd(deps.claim(request, progress), row.userUlid).await)
        const isGiven = first !== undefined
        first = undefined
        // A pair that came meanwhile is one that the storage did not know of when it was asked.
        const step = yield* Effect.catchIf(
          claim,
          (error) => error._tag === "ReauthorizationRequired" && commits.isOffering(row.userUlid),
          () => Effect.succeed<Turn>(lookAgain)
        )
        if (step._tag === "Landed") {
          flown.isOurs = isGiven || progress.hasTried
          if (!isExpired(step.row.pair, yield* client.now)) return step.row
          // Whoever slept on it landed an expired pair, which has to be refreshed in its turn.
          progress.row = step.row
          progress.knownVersion = step.row.version
          progress.purpose = "refresh"
        }
        const elapsed = (yield* Clock.currentTimeMillis) - startedAt
        const left = Duration.toMillis(config.callerWait) - elapsed
        if (step._tag === "Wait") {
          if (left < Duration.toMillis(step.pause)) return yield* Effect.fail(step.error)
          // A holder's end is news whether it brought a pair or not; before a probe is due only another pair helps.
          const above = step.for === "probe" ? progress.row.version : -Infinity
          const [waited, hasNews] = yield* Effect.timed(watch.pause(step.pause, above))
          flown.waited[step.for] += Duration.toMillis(waited)
          if (step.for === "probe" && !hasNews) progress.waitedForProbe = true
        } else if (left <= 0) {
          return yield* new CalUnavailable({ operation: "refresh", reason: "no result in time" })
        }
      }
    })

  return (request) => {
    const { row } = request.entry
    const flown = Metrics.flown()
    const flight = notices.watching(row.userUlid, fly(request, flown))
    // Who has to reconnect was told of when it came to that; what is tried here is whether it still is so.
    if (row.status._tag !== "Active") return flight
    const kind = row.connection._tag === "ManagedUser" ? "managed" : "oauth2"
    return flight.pipe(
      Spans.shown,
      Metrics.refresh({ kind, trigger: request.trigger }, flown),
      Effect.annotateLogs({ userUlid: row.userUlid, operation: "refresh" }),
      Effect.withSpan("CalTokens.refresh", {
        captureStackTrace: false,
        attributes: { "cal_tokens.user_ulid": row.userUlid, "cal_tokens.trigger": request.trigger }
      })
    )
  }
}
