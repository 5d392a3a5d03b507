/**
 * How many requests are taken from one API key, with one user's sessions and from one address. The limits are far above what a healthy caller
 * needs; they end loops, floods and guessing. Each process counts for itself.
 */
import * as RateLimiter from "@effect/experimental/RateLimiter"
import { HttpServerRequest } from "@effect/platform"
import { Context, Duration, Effect, Layer } from "effect"
import { LRUCache } from "lru-cache"
import * as Failure from "../Api/Failure.js"
import type { UserUlid } from "../Token.js"
import { toSeconds } from "../TokenError.js"
import * as ClientAddress from "./ClientAddress.js"

/**
 * Requests per window.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options {
  readonly window: Duration.Duration
  /** Of one API key, from wherever. */
  readonly perKey: number
  /** Of one address (IPv6: one /64), whatever is asked for; health checks are not counted. */
  readonly perAddress: number
  /** Of the Atoms endpoint, from one address: browsers behind one router share it. */
  readonly atomsPerAddress: number
  /** Of all sessions of one user, from wherever. */
  readonly perSessionUser: number
  /** With sessions, from one address: browsers behind one router share it. */
  readonly sessionsPerAddress: number
  /** Unknown API keys, access tokens or sessions from one address. Known ones are still taken from there. */
  readonly failuresPerAddress: number
}

/**
 * The numbers unless others are given: far above what a healthy caller needs.
 *
 * @since 0.1.0
 * @category constants
 */
export const defaults: Options = {
  window: Duration.minutes(1),
  perKey: 60_000,
  perAddress: 120_000,
  atomsPerAddress: 600,
  perSessionUser: 1200,
  sessionsPerAddress: 6000,
  failuresPerAddress: 60
}

/**
 * The numbers in force.
 *
 * @since 0.1.0
 * @category references
 */
export class RateLimitConfig extends Context.Reference<RateLimitConfig>()("cal-tokens/Http/RateLimitConfig", {
  defaultValue: () => defaults
}) {}

/**
 * The defaults with some numbers replaced.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerConfig = (options: Partial<Options>): Layer.Layer<never> =>
  Layer.succeed(RateLimitConfig, { ...defaults, ...options })

/**
 * The failure of whoever asks too often.
 *
 * @since 0.1.0
 * @category models
 */
export type RateLimited = typeof Failure.RateLimited.Type

type Check = Effect.Effect<void, RateLimited, HttpServerRequest.HttpServerRequest>

/**
 * Each check counts a request, and fails when it is one too many.
 *
 * @since 0.1.0
 * @category tags
 */
export class CallerLimits extends Context.Tag("cal-tokens/Http/CallerLimits")<
  CallerLimits,
  {
    /** A request of the API key with this name. */
    readonly key: (name: string) => Effect.Effect<void, RateLimited>
    readonly address: Check
    readonly atoms: Check
    /** A request with a session of this user. */
    readonly session: (userUlid: UserUlid) => Effect.Effect<void, RateLimited>
    readonly sessions: Check
    /** A request whose API key, access token or session is not known. */
    readonly failure: Check
  }
>() {}

/**
 * Without a layer.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make: Effect.Effect<Context.Tag.Service<CallerLimits>, never, RateLimiter.RateLimiter> = Effect.gen(
  function* () {
    const config = yield* RateLimitConfig
    const limiter = yield* RateLimiter.RateLimiter
    const addressOf = yield* ClientAddress.make
    const count = (kind: string, limit: number, who: string): Effect.Effect<void, RateLimited> =>
      Effect.matchEffect(limiter.consume({ key: `${kind} ${who}`, limit, window: config.window }), {
        onFailure: (error) => Effect.fail(rateLimited(error.reason === "Exceeded" ? error.retryAfter : config.window)),
        // Once per window: what follows is refused without a word.
        onSuccess: ({ remaining }) =>
          remaining === 0
            ? Effect.annotateLogs(Effect.logWarning("A rate limit is used up"), { kind, who, limit })
            : Effect.void
      })
    const byAddress = (kind: string, limit: number): Check =>
      Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) => count(kind, limit, addressOf(request)))
    return {
      key: (name) => count("key", config.perKey, name),
      address: byAddress("address", config.perAddress),
      atoms: byAddress("atoms", config.atomsPerAddress),
      session: (userUlid) => count("session", config.perSessionUser, userUlid),
      sessions: byAddress("sessions", config.sessionsPerAddress),
      failure: byAddress("failures", config.failuresPerAddress)
    }
  }
)

const rateLimited = (wait: Duration.Duration): RateLimited => {
  const seconds = toSeconds(wait)
  return Failure.service("RateLimited", `Too many requests: try again in ${seconds} s.`, seconds)
}

/** How many keys and addresses are counted. Who floods from more of them is not held by counters anyway. */
const maxCounters = 50_000

interface Counter {
  readonly count: number
  /** Milliseconds since the epoch. */
  readonly expiresAt: number
}

/**
 * The platform's store in memory, but bounded: that one remembers every address for ever. When it is full, the counters
 * that were used least recently are forgotten.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerStore: Layer.Layer<RateLimiter.RateLimiterStore> = Layer.sync(RateLimiter.RateLimiterStore, () => {
  const counters = new LRUCache<string, Counter>({ max: maxCounters })
  return {
    fixedWindow: ({ key, limit, refillRate, tokens }) =>
      Effect.clockWith((clock) => {
        const now = clock.unsafeCurrentTimeMillis()
        const known = counters.get(key)
        const { count, expiresAt } = known === undefined || known.expiresAt <= now ? fresh(now) : known
        if (limit !== undefined && count + tokens > limit) {
          return Effect.succeed([count + tokens, expiresAt - now] as const)
        }
        const next = { count: count + tokens, expiresAt: expiresAt + Duration.toMillis(refillRate) * tokens }
        counters.set(key, next)
        return Effect.succeed([next.count, next.expiresAt - now] as const)
      }),
    tokenBucket: () => Effect.dieMessage("the limits here are windows")
  }
})

const fresh = (now: number): Counter => ({ count: 0, expiresAt: now })

/**
 * The limits, counted in this process.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<CallerLimits> = Layer.effect(CallerLimits, make).pipe(
  Layer.provide(RateLimiter.layer),
  Layer.provide(layerStore)
)
