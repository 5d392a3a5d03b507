/**
 * Tells a program of its users' transitions: when a user has to reconnect, and when that is over. Each is posted as JSON,
 * signed as Standard Webhooks (standardwebhooks.com) say, at least once and in order per user, by whichever process comes
 * first. Whoever receives it knows repetitions by their `webhook-id`. No token is in it, and no token waits for it.
 */
import { randomUUID } from "node:crypto"
import { DateTime, Duration, Effect, Either, Layer, Random, Redacted, Schedule, type Scope, Stream } from "effect"
import { Webhook } from "standardwebhooks"
import { CalTokens } from "./CalTokens.js"
import { iso } from "./Token.js"
import { likelyCause } from "./TokenError.js"
import { TokenStorage } from "./TokenStorage.js"
import type { Transition } from "./TokenStorage/ChangeLog.js"
import * as Post from "./Webhook/Post.js"

/**
 * Where transitions are posted, and how they are signed.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /** https, or http to this machine. It may hold a secret: it is not logged. */
  readonly url: Redacted.Redacted
  /** `whsec_` and base64, as Standard Webhooks have it. A function is asked for each delivery. */
  readonly secret: Redacted.Redacted | (() => Redacted.Redacted)
  /** How long a transition of another process, or a repetition, stays unnoticed at most. Default 2 s. */
  readonly pollInterval?: Duration.DurationInput | undefined
}

/**
 * When a transition is posted again that was not taken: after the first attempt, the second, and so on. The times are
 * those of the Standard Webhooks specification.
 *
 * @since 0.1.0
 * @category constants
 */
export const schedule: ReadonlyArray<Duration.Duration> = [
  Duration.seconds(5),
  Duration.minutes(5),
  Duration.minutes(30),
  Duration.hours(2),
  Duration.hours(5),
  Duration.hours(10),
  Duration.hours(14),
  Duration.hours(20),
  Duration.hours(24)
]

/**
 * How long the receiver may take to answer.
 *
 * @since 0.1.0
 * @category constants
 */
export const timeout = Duration.seconds(15)

/**
 * Whoever began a delivery has so long to finish it; then another process begins anew.
 *
 * @since 0.1.0
 * @category constants
 */
export const lease = Duration.seconds(60)

/** So many deliveries at once. */
const batch = 8

const types = {
  reauthorizationRequired: "connection.reauthorization_required",
  reauthorized: "connection.reauthorized"
} as const

/**
 * What is posted.
 *
 * @since 0.1.0
 * @category conversions
 */
export const bodyOf = ({ at, cause, importedAt, kind, since, userUlid }: Transition): string => {
  const hint = likelyCause({ cause, importedAt, since })
  return JSON.stringify({ type: types[kind], timestamp: iso(at), data: { userUlid, cause, since: iso(since), hint } })
}

/**
 * Delivers until the scope ends; what is under way then is delivered again later.
 *
 * @since 0.1.0
 * @category running
 */
export const run = (options: Options): Effect.Effect<void, never, TokenStorage | CalTokens | Scope.Scope> =>
  Effect.gen(function* () {
    const { log } = yield* TokenStorage
    const tokens = yield* CalTokens
    const send = yield* Post.make
    const { secret } = options
    const signer = () => new Webhook(Redacted.value(Redacted.isRedacted(secret) ? secret : secret()))
    const holder = randomUUID()

    const post = (transition: Transition) =>
      Effect.gen(function* () {
        const body = bodyOf(transition)
        const now = yield* DateTime.now
        return yield* send(options.url, body, {
          "webhook-id": transition.id,
          "webhook-timestamp": String(Math.floor(DateTime.toEpochMillis(now) / 1000)),
          "webhook-signature": signer().sign(transition.id, DateTime.toDate(now), body)
        }).pipe(Effect.timeoutFail({ duration: timeout, onTimeout: () => "no answer within 15 s" }), Effect.either)
      })

    const deliver = (transition: Transition) =>
      Effect.gen(function* () {
        const answer = yield* post(transition)
        if (Either.isRight(answer) && answer.right >= 200 && answer.right < 300) return yield* log.settle(transition.id)
        const reason = Either.isRight(answer) ? `status ${answer.right}` : answer.left
        const delay = schedule[transition.attempt - 1]
        if (delay === undefined || (Either.isRight(answer) && answer.right === 410)) {
          yield* Effect.annotateLogs(Effect.logError("A webhook is given up"), {
            attempts: transition.attempt,
            reason
          })
          return yield* log.settle(transition.id)
        }
        yield* Effect.annotateLogs(Effect.logInfo("A webhook was not taken; it is posted again"), { reason })
        const jitter = yield* Random.nextRange(1, 1.1)
        yield* log.postpone({ id: transition.id, holder, delay: Duration.times(delay, jitter) })
      }).pipe(
        // The lease lapses, and it is delivered again.
        Effect.catchTag("StorageUnavailable", () => Effect.void),
        Effect.annotateLogs({
          operation: "webhook",
          webhookId: transition.id,
          userUlid: transition.userUlid,
          type: types[transition.kind]
        })
      )

    const round = Effect.gen(function* () {
      const transitions = yield* log.claim({ holder, lease, limit: batch })
      yield* Effect.forEach(transitions, deliver, { concurrency: "unbounded", discard: true })
      return transitions.length
    }).pipe(Effect.catchTag("StorageUnavailable", () => Effect.succeed(0)))

    /** Until there is nothing to deliver. A program that embeds may have no use for a fault in here. */
    const drain = Effect.repeat(round, { until: (count) => count === 0 }).pipe(
      Effect.catchAllCause((cause) =>
        Effect.annotateLogs(Effect.logError("Webhooks stumbled"), { operation: "webhook", failure: cause._tag })
      )
    )
    const ticks = Stream.repeatEffectWithSchedule(Effect.void, Schedule.spaced(options.pollInterval ?? "2 seconds"))
    // Changes of this process need not wait for the next look; a poll is dropped while a delivery is under way.
    yield* Stream.merge(Stream.as(tokens.changes, undefined), ticks).pipe(
      Stream.buffer({ capacity: 1, strategy: "sliding" }),
      Stream.runForEach(() => drain),
      Effect.forkScoped
    )
  })

/**
 * Delivers as long as the layer lives. Every process of a fleet may have it, or some.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (options: Options): Layer.Layer<never, never, TokenStorage | CalTokens> =>
  Layer.scopedDiscard(run(options))
