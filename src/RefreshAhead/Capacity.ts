/**
 * How many users one client sustains. Cal.com counts a client's token calls together, 500 a minute (API v2,
 * `CustomThrottlerGuard`), and its tokens live 60 minutes (managed users) or 30 (OAuth2).
 */
import { Duration } from "effect"
import { lifetime } from "../Token.js"
import type { Options } from "../TokenConfig.js"

/** Calls of one client that Cal.com answers within a minute. */
export const callsPerMinute = 500

/** The kinds of users, and how long their access tokens live. */
export const kinds = [
  { kind: "managed users", lifetime: lifetime.managed },
  { kind: "OAuth2 users", lifetime: lifetime.oauth2 }
] as const

export interface Capacity {
  /** Between two refreshes of one user who stays active, on average. */
  readonly period: Duration.Duration
  /** Refreshes a minute that background work may take; the rest is for people who wait. */
  readonly perMinute: number
  /** So many users may be active at once before refreshes fall behind. */
  readonly users: number
}

export const of = (
  { aheadSpread, backgroundReserve, windows }: Pick<Options, "aheadSpread" | "backgroundReserve" | "windows">,
  lifetime: Duration.Duration
): Capacity => {
  const life = Duration.toMillis(lifetime)
  const soon = Math.max(
    Math.min(Duration.toMillis(windows.soon), windows.soonFraction * life),
    Math.min(Duration.toMillis(windows.due), windows.dueFraction * life)
  )
  const period = life - soon - (aheadSpread * life) / 2
  const perMinute = callsPerMinute * (1 - backgroundReserve)
  return { period: Duration.millis(period), perMinute, users: Math.floor((perMinute * period) / 60_000) }
}
