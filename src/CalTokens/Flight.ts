/**
 * A user's refresh from the outside: take the lease of the whole fleet, or wait for whoever has it, until there is a
 * newer pair or a reason why not.
 */
import { randomUUID } from "node:crypto"
import { Clock, Duration, Effect, Option, Random } from "effect"
import { isExpired, type UserUlid } from "../Token.js"
import {
  CalUnavailable,
  ReauthorizationRequired,
  RefreshCoolingDown,
  retryAfter,
  type TokenError,
  TokensNotFound
} from "../TokenError.js"
import { ClaimResult, type StoredConnection } from "../TokenStorage.js"
import * as Attempt from "./Attempt.js"
import type { Commits } from "./Commit.js"
import type { Cooldown } from "./Gate.js"
import type { Entry, Memory } from "./Memory.js"

export interface Dependencies extends Omit<Attempt.Dependencies, "commit"> {
  readonly commits: Commits
  readonly memory: Memory
  readonly setCooldown: (userUlid: UserUlid, cooldown: Option.Option<Cooldown>) => Effect.Effect<void>
  readonly publish: (row: StoredConnection) => Effect.Effect<void>
}

export interface Request {
  /** What the caller knows: anything newer satisfies it. */
  readonly entry: Entry
  readonly reissue: boolean
  /** Cal.com rejected the token although it does not look expired. */
  readonly rejected: boolean
}

/** The end of a user's terminal state, as an error. */
export const reauthorizationRequired = (row: StoredConnection): ReauthorizationRequired | undefined =>
  row.status._tag === "Active"
    ? undefined
    : new ReauthorizationRequired({ userUlid: row.userUlid, cause: row.status.cause, since: row.status.since })

type Step =
  | { readonly _tag: "Landed"; readonly row: StoredConnection }
  | { readonly _tag: "Wait"; readonly duration: Duration.Duration; readonly error: TokenError }
  | { readonly _tag: "LookAgain" }

/** One flight. It ends within `callerWait` and one attempt. */
export const run = (deps: Dependencies, request: Request): Effect.Effect<StoredConnection, TokenError> =>
  Effect.gen(function* () {
    const { circuit, client, config, memory, owned, storage } = deps
    const { entry } = request
    const { userUlid } = entry.row
    const startedAt = yield* Clock.currentTimeMillis
    let row = entry.row
    let knownVersion = row.version
    let waitedForHolder = false
    let waitedForProbe = false
    let admitted = false

    const expiredFor = Effect.map(client.now, (now) =>
      isExpired(row.pair, now) ? Option.some(Duration.millis(now - row.pair.accessTokenExpiresAt)) : Option.none()
    )

    const mirror = (until: Duration.Duration, lastError: string | undefined) =>
      Effect.gen(function* () {
        const now = yield* Clock.currentTimeMillis
        const expired = isExpired(row.pair, yield* client.now)
        yield* deps.setCooldown(
          userUlid,
          Option.some({ until: now + Duration.toMillis(until), version: row.version, expired, lastError })
        )
      })

    const coolingDown = (left: Duration.Duration, lastError: Option.Option<TokenError>) =>
      Effect.gen(function* () {
        const tag = Option.getOrUndefined(Option.map(lastError, (error) => error._tag))
        yield* mirror(left, tag)
        return yield* Effect.fail(
          waitedForHolder && Option.isSome(lastError)
            ? lastError.value
            : new RefreshCoolingDown({ userUlid, retryAfter: left, ...(tag === undefined ? {} : { lastError: tag }) })
        )
      })

    const attempt = (claimed: Extract<ClaimResult, { _tag: "Claimed" }>, attemptId: string) =>
      Effect.flatMap(
        Attempt.run(
          { ...deps, commit: deps.commits.commit },
          {
            attemptId,
            row: claimed.row,
            probe: claimed.probe,
            consecutiveFailures: claimed.consecutiveFailures,
            reissue: request.reissue
          }
        ),
        (ended): Effect.Effect<Step, TokenError> => {
          switch (ended._tag) {
            case "Committed":
              return Effect.succeed({ _tag: "Landed", row: ended.row })
            case "Moved":
              return Effect.succeed({ _tag: "LookAgain" })
            case "Unknown":
              // The claim that follows says when the token is probed, and whether that is worth waiting for.
              return claimed.consecutiveFailures === 0
                ? Effect.succeed({ _tag: "LookAgain" })
                : Effect.fail(ended.error)
            case "Terminal":
              return Effect.zipRight(
                Effect.zipRight(memory.put(ended.row), deps.publish(ended.row)),
                Effect.fail(reauthorizationRequired(ended.row) ?? new TokensNotFound({ userUlid }))
              )
          }
        }
      )

    const claim = Effect.gen(function* () {
      const attemptId = randomUUID()
      const result = yield* storage.claim({
        userUlid,
        attemptId,
        knownVersion,
        lease: config.lease,
        cooldownWindow: config.cooldownWindow,
        maxAttempts: config.maxAttempts,
        expiredFor: Option.getOrUndefined(yield* expiredFor),
        rejectedInterval: request.rejected ? config.rejectedInterval : undefined,
        reissue: request.reissue
      })
      return yield* ClaimResult.$match(result, {
        NotFound: () => Effect.zipRight(memory.remove(userUlid), Effect.fail(new TokensNotFound({ userUlid }))),
        Newer: (newer) =>
          Effect.zipWith(memory.put(newer.row), client.now, (_, now): Step => {
            row = newer.row
            knownVersion = row.version
            // A pair can be handed in expired: that one has to be refreshed in its turn.
            return isExpired(row.pair, now) ? { _tag: "LookAgain" } : { _tag: "Landed", row }
          }),
        Terminal: (terminal) =>
          Effect.zipRight(
            memory.put(terminal.row),
            Effect.fail(reauthorizationRequired(terminal.row) ?? new TokensNotFound({ userUlid }))
          ),
        Busy: (busy) =>
          Effect.map(Random.nextRange(0.5, 1), (jitter): Step => {
            row = busy.row
            waitedForHolder = true
            return {
              _tag: "Wait",
              duration: Duration.min(Duration.times(config.pollInterval, jitter), busy.retryAfter),
              error: new CalUnavailable({
                operation: "refresh",
                reason: "another process is refreshing and has not finished",
                retryAfter: busy.retryAfter
              })
            }
          }),
        RejectedRecently: ({ retryAfter }) => Effect.fail(new RefreshCoolingDown({ userUlid, retryAfter })),
        CoolingDown: (cooling) => {
          row = cooling.row
          return coolingDown(cooling.retryAfter, cooling.lastError)
        },
        ProbeLater: (later) => {
          row = later.row
          return probeLater(later)
        },
        Claimed: (claimed) => {
          row = claimed.row
          return attempt(claimed, attemptId)
        }
      })
    })

    /** Worth waiting for once, when nothing else can help the caller and it is the first failure. */
    const probeLater = (later: Extract<ClaimResult, { _tag: "ProbeLater" }>): Effect.Effect<Step, TokenError> =>
      Effect.gen(function* () {
        const error = Option.getOrElse(
          later.lastError,
          (): TokenError =>
            new CalUnavailable({
              operation: "refresh",
              reason: "the outcome of the last refresh is unknown",
              retryAfter: later.retryAfter
            })
        )
        const isAlive = Option.isNone(yield* expiredFor) && !entry.refused
        if (isAlive || waitedForProbe || later.consecutiveFailures > 1) {
          yield* mirror(later.retryAfter, error._tag)
          return yield* Effect.fail(error)
        }
        waitedForProbe = true
        return { _tag: "Wait", duration: later.retryAfter, error }
      })

    /** From the claim on nothing may cut the work, so both run in a fiber that only ends by itself. */
    const step: Effect.Effect<Step, TokenError> = Effect.gen(function* () {
      if (owned.isClosing()) {
        return yield* Effect.fail(new CalUnavailable({ operation: "refresh", reason: "shutting down" }))
      }
      yield* deps.commits.land(userUlid)
      if (!admitted) yield* circuit.enter(row.connection.clientId)
      admitted = true
      return yield* Effect.flatten(owned.runToEnd(claim).await)
    })

    while (true) {
      const next = yield* step
      if (next._tag === "Landed") return next.row
      const elapsed = (yield* Clock.currentTimeMillis) - startedAt
      const left = Duration.toMillis(config.callerWait) - elapsed
      if (next._tag === "Wait") {
        if (left < Duration.toMillis(next.duration)) return yield* Effect.fail(next.error)
        yield* Effect.sleep(next.duration)
      } else if (left <= 0) {
        return yield* Effect.fail(new CalUnavailable({ operation: "refresh", reason: "no result in time" }))
      }
    }
  }).pipe(
    Effect.tapError((error) =>
      Effect.logWarning("Refresh failed").pipe(
        Effect.annotateLogs({
          code: error._tag,
          error: error.message,
          retryAfter: Option.getOrUndefined(retryAfter(error))
        })
      )
    ),
    Effect.annotateLogs({ userUlid: request.entry.row.userUlid, operation: "refresh" }),
    Effect.withSpan("CalTokens.refresh", { attributes: { "cal_tokens.user_ulid": request.entry.row.userUlid } })
  )
