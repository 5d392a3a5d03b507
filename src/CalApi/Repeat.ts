/**
 * When an ordinary failure is worth another try: an idempotent request after a network error or a 5xx, any request after
 * a 429, which Cal.com's rate limiter answers before the request is looked at. Nobody is made to wait long for it.
 */
import { Clock, Duration, Effect, Option, Random } from "effect"
import type { Headers, HttpMethod } from "@effect/platform"
import * as RateLimits from "../CalHttp/RateLimits.js"

/** How many tries come on top of the first, over all reasons but a refused token. */
const maxRepeats = 2

/** A longer wait is the caller's to decide about. */
const maxWait = Duration.seconds(5)

const idempotent: ReadonlySet<HttpMethod.HttpMethod> = new Set(["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])

/** Equal jitter: between half of it and all of it, so that callers that failed together do not come back together. */
const jittered = (delay: Duration.Duration): Effect.Effect<Duration.Duration> =>
  Effect.map(Random.next, (random) => Duration.times(delay, 0.5 + random / 2))

const backoff = (repeats: number) => jittered(Duration.times(Duration.millis(500), 2 ** repeats))

/** The headers' wait, plus a little for the same reason: never less than they ask for. */
const asTold = (wait: Duration.Duration) =>
  Effect.map(jittered(Duration.millis(250)), (extra) => Duration.sum(wait, extra))

type Wait = Effect.Effect<Option.Option<Duration.Duration>>

const never: Wait = Effect.succeed(Option.none())

/** The wait before another try after an answer; `None`: the answer is the caller's. `repeats` counts those before it. */
export const afterAnswer = (
  method: HttpMethod.HttpMethod,
  { headers, status }: { readonly status: number; readonly headers: Headers.Headers },
  repeats: number
): Wait =>
  Effect.flatMap(Clock.currentTimeMillis, (receivedAt) => {
    if (repeats >= maxRepeats) return never
    if (status === 429) return ifShort(RateLimits.retryAfterLimit({ headers, receivedAt }))
    if (status < 500 || !idempotent.has(method)) return never
    const told = RateLimits.retryLater({ headers, receivedAt }).retryAfter
    return told === undefined ? Effect.asSome(backoff(repeats)) : ifShort(told)
  })

/** The same after a network error. */
export const afterNetworkError = (method: HttpMethod.HttpMethod, repeats: number): Wait =>
  repeats < maxRepeats && idempotent.has(method) ? Effect.asSome(backoff(repeats)) : never

const ifShort = (wait: Duration.Duration): Wait =>
  Duration.lessThanOrEqualTo(wait, maxWait) ? Effect.asSome(asTold(wait)) : never
