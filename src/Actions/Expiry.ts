/**
 * How close an expiry is, for callers that hold nothing but the expiry.
 */
import { Clock, Duration, Effect, Option } from "effect"
import { InvalidInput } from "../TokenError.js"
import * as TokenInput from "../TokenInput.js"

export interface Expiry {
  readonly isExpired: boolean
  /** Expired, or about to be within the buffer. */
  readonly isExpiringImminent: boolean
}

/** A buffer from an untrusted value, in milliseconds. */
export const buffer = (minutes: unknown): Effect.Effect<number, InvalidInput> =>
  typeof minutes === "number" && Number.isFinite(minutes) && minutes >= 0
    ? Effect.succeed(Duration.toMillis(Duration.minutes(minutes)))
    : Effect.fail(new InvalidInput({ field: "bufferMinutes", expected: "must be a number of minutes, 0 or more" }))

/**
 * Judges an expiry by the clock of this machine. One that cannot be read, or is more than two years away (seconds for
 * milliseconds, or the reverse), counts as expired: a token must never be taken for valid by mistake.
 */
export const judge = (expiresAt: unknown, bufferMinutes: unknown): Effect.Effect<Expiry> =>
  Effect.gen(function* () {
    const now = yield* Clock.currentTimeMillis
    const value = expiresAt instanceof Date ? expiresAt.getTime() : expiresAt
    const expiry = yield* Effect.option(TokenInput.expiry("expiresAt", value, now))
    const margin = yield* Effect.option(buffer(bufferMinutes))
    const left = Option.match(expiry, { onNone: () => 0, onSome: (millis) => millis - now })
    return {
      isExpired: left <= 0,
      isExpiringImminent: left <= Option.getOrElse(margin, () => Infinity)
    }
  })
