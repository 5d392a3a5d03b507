/**
 * Which callers waited for a refresh, by what Cal.com and the answer say: an answer with a pair that Cal.com gave away
 * after the request was sent cannot have been given without waiting, and neither can none. Whoever got the pair that was
 * there, after as long as a refresh takes at least, may have waited for one that failed, or only for a busy machine:
 * nobody can tell from outside, so they are counted apart.
 */
import { Redacted } from "effect"
import { freshness, type Freshness } from "../../src/Token.js"
import { defaults } from "../../src/TokenConfig.js"
import type { Settings } from "./Result.js"
import type { Answer } from "./Truth.js"

/** A request for a valid token. */
export interface Ensure {
  readonly calUserId: number
  /** Whether the user is one of those who are kept fresh: in use, and not one who has to reconnect. */
  readonly isActive: boolean
  /** Milliseconds since the epoch. */
  readonly sentAt: number
  readonly took: number
  /** Of the token that was answered; none if there was none. */
  readonly expiresAt: number | undefined
}

export interface Share {
  readonly asked: number
  readonly waited: number
  /** Who may have waited, besides. */
  readonly heldUp: number
}

export interface Waits {
  /** Of users in use. */
  readonly active: Share
  /** Of everybody, by the pair that was there when they asked. */
  readonly met: Readonly<Record<Freshness, Share>>
}

export const waits = (
  ensures: ReadonlyArray<Ensure>,
  answers: ReadonlyArray<Answer>,
  { latency, lifetime }: Pick<Settings, "latency" | "lifetime">
): Waits => {
  const byUser = new Map<number, Array<Answer>>()
  for (const answer of answers) {
    const known = byUser.get(answer.calUserId)
    if (known === undefined) byUser.set(answer.calUserId, [answer])
    else known.push(answer)
  }
  const active = none()
  const met = { fresh: none(), expiringSoon: none(), due: none(), expired: none() }
  for (const { calUserId, expiresAt, isActive, sentAt, took } of ensures) {
    const pair = byUser.get(calUserId)?.findLast(({ at }) => at <= sentAt)
    if (pair === undefined) continue
    const hasWaited = expiresAt === undefined || expiresAt - pair.expiresAt > precision
    for (const share of [met[freshnessAt(pair.expiresAt, lifetime * 1000, sentAt)], ...(isActive ? [active] : [])]) {
      share.asked++
      if (hasWaited) share.waited++
      else if (took >= latency) share.heldUp++
    }
  }
  return { active, met }
}

const none = () => ({ asked: 0, waited: 0, heldUp: 0 })

/** Instants in the claims of tokens are in whole seconds. */
const precision = 1000

const freshnessAt = (accessTokenExpiresAt: number, lifetime: number, at: number): Freshness => {
  const token = Redacted.make("")
  const issuedAt = accessTokenExpiresAt - lifetime
  return freshness({ accessToken: token, issuedAt, accessTokenExpiresAt }, at, defaults.windows)
}
