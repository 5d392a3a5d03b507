/**
 * Cal.com's rate-limit headers: `X-RateLimit-{Limit,Remaining,Reset}-<name>`, on every answer, with one name
 * (`Default`) for everything but API keys with limits of their own. `Reset` is whole seconds from now, not an instant,
 * and while a block lasts it is the rest of the block. Cal.com sends no `Retry-After`; a proxy before it may (API v2,
 * `CustomThrottlerGuard`).
 */
import { Clock, Duration, Effect, Option } from "effect"
import type { Headers } from "@effect/platform"
import * as CalTime from "./CalTime.js"

/**
 * How much of Cal.com's rate limit a client has left, from the last answer to one of its token calls.
 *
 * @since 0.1.0
 * @category models
 */
export interface RateLimit {
  readonly limit: number
  readonly remaining: number
  /** Until the window ends, or the block, when `remaining` is 0. */
  readonly resetIn: Duration.Duration
}

/**
 * The same as it has been lately. Instants are milliseconds since the epoch, by our clock.
 *
 * @since 0.1.0
 * @category models
 */
export interface Budget {
  readonly limit: number
  /** All of it, once the window is over. */
  readonly remaining: number
  /** When the window ends, or the block, while it lasts. */
  readonly resetsAt?: number | undefined
  /** The least that was left in each minute of the last hour in which there were answers. */
  readonly minutes: ReadonlyArray<{ readonly at: number; readonly remaining: number }>
}

/** Cal.com's block after a limit was exceeded. */
const block = Duration.seconds(60)
/** Nobody waits longer for a header that is wrong, nor in a tight loop for one that says 0. */
const bounds = { minimum: Duration.seconds(1), maximum: Duration.hours(1) }

const resetPrefix = "x-ratelimit-reset-"

const wholeNumber = (value: string | undefined): Option.Option<number> =>
  value !== undefined && /^\d{1,9}$/.test(value.trim()) ? Option.some(Number(value)) : Option.none()

/**
 * `Retry-After` in seconds. As an HTTP date it is measured against the date of the same answer: both are of the clock that
 * wrote them. `receivedAt` stands in for an answer without one.
 */
const standard = (headers: Headers.Headers, receivedAt: number): Option.Option<number> => {
  const value = headers["retry-after"]
  return Option.orElse(wholeNumber(value), () =>
    Option.map(CalTime.parseDate(value, receivedAt), (until) => {
      const now = Option.getOrElse(CalTime.dateOf(headers, receivedAt), () => receivedAt)
      return Math.ceil((until - now) / 1000)
    })
  )
}

const clamp = (seconds: number) => Duration.clamp(Duration.seconds(seconds), bounds)

/** How long until Cal.com answers again, if the headers say so: the latest of its resets, else `Retry-After`. */
const retryAfter = (headers: Headers.Headers, receivedAt: number): Option.Option<Duration.Duration> => {
  const resets = Object.keys(headers)
    .filter((name) => name.startsWith(resetPrefix))
    .flatMap((name) => Option.toArray(wholeNumber(headers[name])))
  return Option.map(resets.length > 0 ? Option.some(Math.max(...resets)) : standard(headers, receivedAt), clamp)
}

/** The head of an answer, and when it came by our clock, in milliseconds. */
interface Head {
  readonly headers: Headers.Headers
  readonly receivedAt: number
}

/** How long to wait after a 429: without a header, as long as Cal.com's block lasts. */
export const retryAfterLimit = ({ headers, receivedAt }: Head): Duration.Duration =>
  Option.getOrElse(retryAfter(headers, receivedAt), () => block)

/** How long to wait after a 5xx, if it says so. The limit's reset has nothing to do with it. */
export const retryLater = ({ headers, receivedAt }: Head): { readonly retryAfter?: Duration.Duration } =>
  Option.match(Option.map(standard(headers, receivedAt), clamp), {
    onNone: () => ({}),
    onSome: (retryAfter) => ({ retryAfter })
  })

/** What the headers say about the bucket that the request was counted in. */
const parse = (headers: Headers.Headers): Option.Option<RateLimit> =>
  Option.map(
    Option.all({
      limit: wholeNumber(headers["x-ratelimit-limit-default"]),
      remaining: wholeNumber(headers["x-ratelimit-remaining-default"]),
      reset: wholeNumber(headers["x-ratelimit-reset-default"])
    }),
    ({ limit, remaining, reset }) => ({ limit, remaining, resetIn: Duration.seconds(reset) })
  )

export interface RateLimits {
  /** Remembers what an answer to a token call of this client said; a 429 says it also without Cal.com's own headers. */
  readonly observe: (clientId: string, answer: Head & { readonly status: number }) => Effect.Effect<void>
  /** What was left, while that window lasts. */
  readonly get: (clientId: string) => Effect.Effect<Option.Option<RateLimit>>
  /** The last hour, if there was any answer that said so. */
  readonly budget: (clientId: string) => Effect.Effect<Option.Option<Budget>>
}

const minute = 60_000
const minutesKept = 60

/** One entry per configured client. */
export const make: Effect.Effect<RateLimits> = Effect.sync(() => {
  const windows = new Map<string, RateLimit & { readonly until: number }>()
  /** By client: in each minute the least, the latest minute last. */
  const minutes = new Map<string, Array<{ readonly at: number; remaining: number }>>()

  const note = (clientId: string, remaining: number, now: number) => {
    const at = Math.floor(now / minute) * minute
    const noted = minutes.get(clientId) ?? []
    minutes.set(clientId, noted)
    const last = noted.at(-1)
    if (last?.at === at) last.remaining = Math.min(last.remaining, remaining)
    else noted.push({ at, remaining })
    if (noted.length > minutesKept) noted.shift()
  }

  return {
    observe: (clientId, answer) =>
      Effect.map(Clock.currentTimeMillis, (now) => {
        const told = parse(answer.headers)
        const limit =
          Option.isNone(told) && answer.status === 429
            ? { limit: windows.get(clientId)?.limit ?? 1, remaining: 0, resetIn: retryAfterLimit(answer) }
            : Option.getOrUndefined(told)
        if (limit === undefined) return
        windows.set(clientId, { ...limit, until: now + Duration.toMillis(limit.resetIn) })
        note(clientId, limit.remaining, now)
      }),
    get: (clientId) =>
      Effect.map(Clock.currentTimeMillis, (now) =>
        Option.map(
          Option.filter(Option.fromNullable(windows.get(clientId)), ({ until }) => until > now),
          ({ limit, remaining, until }) => ({ limit, remaining, resetIn: Duration.millis(until - now) })
        )
      ),
    budget: (clientId) =>
      Effect.map(Clock.currentTimeMillis, (now) =>
        Option.map(Option.fromNullable(windows.get(clientId)), ({ limit, remaining, until }) => ({
          limit,
          ...(until > now ? { remaining, resetsAt: until } : { remaining: limit }),
          minutes: (minutes.get(clientId) ?? [])
            .filter(({ at }) => at <= now && at > now - minutesKept * minute)
            .map((noted) => ({ ...noted }))
        }))
      )
  }
})
