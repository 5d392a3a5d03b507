/**
 * A user's refresh from the outside: take the lease of the whole fleet, or wait for whoever has it, until there is a
 * newer pair or a reason why not.
 */
import { Clock, Duration, Effect, Option } from "effect"
import * as Metrics from "../Metrics.js"
import { isExpired } from "../Token.js"
import { CalUnavailable, retryAfter, type TokenError } from "../TokenError.js"
import type { StoredConnection } from "../TokenStorage.js"
import * as Claim from "./Claim.js"
import type { Watch } from "./Notices.js"

/** One flight. It begins nothing after `callerWait`, and its last attempt takes `attemptTimeout` at most. */
export const run = (deps: Claim.Dependencies, request: Claim.Request): Effect.Effect<StoredConnection, TokenError> => {
  const { row } = request.entry
  const fly = Effect.fnUntraced(function* (watch: Watch) {
    const startedAt = yield* Clock.currentTimeMillis
    const flight: Claim.Flight = {
      deps,
      request,
      progress: { row, knownVersion: row.version, waitedForHolder: false, waitedForProbe: false }
    }
    yield* isOpen(deps)
    yield* deps.circuit.look(row.connection.clientId, row.userUlid)
    while (true) {
      yield* isOpen(deps)
      watch.forget()
      // A pair that this process holds is better than any that could be asked for.
      yield* deps.commits.land(row.userUlid)
      // From the claim on nothing may cut the work: it runs in a fiber that only ends by itself.
      const claim = Effect.flatten(deps.owned.runToEnd(Claim.run(flight), row.userUlid).await)
      // A pair that came meanwhile is one that the storage did not know of when it was asked.
      const step = yield* Effect.catchIf(
        claim,
        (error) => error._tag === "ReauthorizationRequired" && deps.commits.isOffering(row.userUlid),
        () => Effect.succeed<Claim.Step>({ _tag: "LookAgain" })
      )
      if (step._tag === "Landed") {
        if (!isExpired(step.row.pair, yield* deps.client.now)) return step.row
        // Whoever slept on it landed an expired pair, which has to be refreshed in its turn.
        flight.progress.row = step.row
        flight.progress.knownVersion = step.row.version
      }
      const elapsed = (yield* Clock.currentTimeMillis) - startedAt
      const left = Duration.toMillis(deps.config.callerWait) - elapsed
      if (step._tag === "Wait") {
        if (left < Duration.toMillis(step.pause)) return yield* Effect.fail(step.error)
        // A holder's end is news whether it brought a pair or not; before a probe is due only another pair helps.
        const { progress } = flight
        const hasNews = yield* watch.pause(step.pause, step.for === "probe" ? progress.row.version : -Infinity)
        if (step.for === "probe" && !hasNews) progress.waitedForProbe = true
      } else if (left <= 0) {
        return yield* new CalUnavailable({ operation: "refresh", reason: "no result in time" })
      }
    }
  })
  return deps.notices.watching(row.userUlid, fly).pipe(
    Metrics.refresh(request.reissue ? "reissued" : "refreshed"),
    Effect.tapError((error) =>
      Effect.logWarning("Refresh failed").pipe(
        Effect.annotateLogs({
          code: error._tag,
          error: error.message,
          retryAfter: Option.getOrUndefined(Option.map(retryAfter(error), Duration.format))
        })
      )
    ),
    Effect.annotateLogs({ userUlid: row.userUlid, operation: "refresh" }),
    Effect.withSpan("CalTokens.refresh", { attributes: { "cal_tokens.user_ulid": row.userUlid } })
  )
}

/** A process that is stopping begins nothing new. */
const isOpen = ({ owned }: Claim.Dependencies) =>
  Effect.suspend(() =>
    owned.isClosing() ? Effect.fail(new CalUnavailable({ operation: "refresh", reason: "shutting down" })) : Effect.void
  )
