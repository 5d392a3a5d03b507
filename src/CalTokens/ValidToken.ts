/** What a caller is answered: made when a row is remembered, so that whoever asks while it is fresh costs a look. */
import { type Duration, Exit, type Redacted } from "effect"
import { freshUntil, type Windows } from "../Token.js"
import type { Known } from "./Known.js"

/**
 * An access token that Cal.com accepts, as far as anybody can know.
 *
 * @since 0.1.0
 * @category models
 */
export interface ValidToken {
  readonly accessToken: Redacted.Redacted
  /** Milliseconds since the epoch, in Cal.com's time. */
  readonly expiresAt: number
  /** Grows with every stored pair. */
  readonly version: number
  /** Whether this call was answered by a refresh, its own or one it joined. */
  readonly refreshed: boolean
  /** When it makes sense to force a refresh again, where too many have just been. */
  readonly retryAfter?: Duration.Duration | undefined
}

export const valid = (row: Known, refreshed: boolean): ValidToken => ({
  accessToken: row.pair.accessToken,
  expiresAt: row.pair.accessTokenExpiresAt,
  version: row.version,
  refreshed
})

/** The answer while a row is fresh. */
export interface Warm {
  readonly token: ValidToken
  /** The same as an effect. */
  readonly exit: Exit.Exit<ValidToken>
  /** Until when the token is fresh, in Cal.com's time, in milliseconds. */
  readonly freshUntil: number
  /** From when until when the row is recent, by our clock, in milliseconds. */
  from: number
  until: number
  /** When it was last noted that somebody asked for the token, and that it was handed out; in Cal.com's time, in ms. */
  usedAt: number
  handedOutAt: number
}

/** `known`: of the row before, whose notes go on. */
export const warm = (row: Known, windows: Windows, known?: Warm): Warm => {
  const token = valid(row, false)
  return {
    token,
    exit: Exit.succeed(token),
    freshUntil: freshUntil(row.pair, windows),
    from: -Infinity,
    until: -Infinity,
    usedAt: Math.max(row.handedOutAt ?? -Infinity, known?.usedAt ?? -Infinity),
    handedOutAt: Math.max(row.handedOutAt ?? -Infinity, known?.handedOutAt ?? -Infinity)
  }
}
