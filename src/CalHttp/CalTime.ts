/**
 * Cal.com's time. Expiries are instants on Cal.com's clock, so they are compared with our clock plus the offset that its
 * last answer showed: a server whose clock is wrong neither serves dead tokens nor refreshes live ones.
 */
import { Clock, Duration, Effect, Option } from "effect"
import type { Headers } from "@effect/platform"
import { horizon } from "../Token.js"

/**
 * `Date` has a resolution of one second and was written some time before it arrives, so clocks that agree still differ
 * by up to about this much: a smaller offset is noise, and 0 is the better guess.
 */
const noise = Duration.toMillis(Duration.seconds(2))

/**
 * A date that is further than this from what is known counts when the next one agrees with it: one path may lead to some
 * other server's page, which would move the clock of all users.
 */
const jump = Duration.toMillis(Duration.minutes(2))
const agreement = Duration.toMillis(Duration.seconds(5))

const httpDate = /^[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT$/

export interface CalTime {
  /** Milliseconds since the epoch on Cal.com's clock. */
  readonly now: Effect.Effect<number>
  /** By how many milliseconds Cal.com's clock is ahead of ours, as far as is known. */
  readonly unsafeOffset: () => number
  /**
   * Learns the offset from an answer's headers. An answer without a credible date changes nothing, and of two dates that
   * are far from what is known only the second one, if it agrees with the first. `sentAt` is when its request was sent,
   * by our clock, in milliseconds: an answer that was long on its way tells Cal.com's time only roughly, and what is
   * known already may be better.
   */
  readonly observe: (headers: Headers.Headers, sentAt?: number) => Effect.Effect<void>
  /** The date of an answer that was observed, in milliseconds; `None` while it is not confirmed. */
  readonly dateOf: (headers: Headers.Headers) => Effect.Effect<Option.Option<number>>
}

/** An HTTP date in milliseconds, unless it is absurdly far from `localNow`. */
export const parseDate = (date: string | undefined, localNow: number): Option.Option<number> =>
  date === undefined || !httpDate.test(date)
    ? Option.none()
    : Option.filter(Option.some(Date.parse(date)), (millis) => Math.abs(millis - localNow) <= horizon)

/**
 * The `Date` of an answer in milliseconds. Not that of an answer out of a cache (`Age`), which is older than the answer,
 * and not one that is absurdly far from `localNow`.
 */
export const dateOf = (headers: Headers.Headers, localNow: number): Option.Option<number> =>
  /^0*$/.test(headers["age"] ?? "0") ? parseDate(headers["date"], localNow) : Option.none()

export const make: Effect.Effect<CalTime> = Effect.sync(() => {
  /** None before the first date, which there is nothing to judge by. */
  let known: number | undefined
  /** An offset that one answer told, and nobody yet has confirmed. */
  let told: number | undefined

  return {
    now: Effect.map(Clock.currentTimeMillis, (localNow) => localNow + (known ?? 0)),
    unsafeOffset: () => known ?? 0,
    observe: (headers, sentAt) =>
      Effect.map(Clock.currentTimeMillis, (localNow) => {
        Option.map(dateOf(headers, localNow), (date) => {
          // It was written between then and now: of the offsets that agree with that, the one nearest to what is known.
          const least = date - localNow
          const most = Math.max(least, date - (sentAt ?? localNow))
          const nearest = (offset: number) => Math.min(Math.max(offset, least), most)
          const isNear = (offset: number | undefined, distance: number): offset is number =>
            offset !== undefined && Math.abs(nearest(offset) - offset) <= distance
          const offset = known === undefined || isNear(known, jump) ? nearest(known ?? 0) : undefined
          const confirmed = offset ?? (isNear(told, agreement) ? nearest(told) : undefined)
          told = confirmed === undefined ? least : undefined
          if (confirmed !== undefined) known = Math.abs(confirmed) < noise ? 0 : confirmed
        })
      }),
    dateOf: (headers) =>
      Effect.map(Clock.currentTimeMillis, (localNow) =>
        Option.filter(dateOf(headers, localNow), (date) => Math.abs(date - localNow - (known ?? 0)) <= jump)
      )
  }
})
