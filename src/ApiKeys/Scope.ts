/** What an API key may do. A leaf, for browsers load the API value that speaks of it. */
import { Schema } from "effect"

/**
 * `read-token` hands out tokens, so no key has it unless that is said.
 *
 * @since 0.1.0
 * @category schemas
 */
export const Scope = Schema.Literal("manage", "read-token", "proxy", "metrics")
export type Scope = typeof Scope.Type

/**
 * How far a key reaches within its scopes. What is absent is no limit.
 *
 * @since 0.1.0
 * @category models
 */
export interface Limits {
  /** The users that it acts for. What concerns all users is closed to it. */
  readonly users?: ReadonlySet<string> | undefined
  /** With which methods it, and the sessions that it makes, may ask Cal.com. */
  readonly methods?: ReadonlyArray<string> | undefined
  /** For which paths below the Cal.com base URL, each with all that is below it, by whole segments. */
  readonly paths?: ReadonlyArray<string> | undefined
  /** When it stops to open anything: milliseconds since the epoch. */
  readonly expiresAt?: number | undefined
}
