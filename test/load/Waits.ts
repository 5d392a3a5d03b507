/**
 * Which callers waited for a refresh, by what Cal.com and the answer say: an answer with a pair that Cal.com gave away
 * after the request was sent cannot have been given without waiting, and no refresh is quicker than Cal.com. Whoever
 * was held up by a busy machine for so long counts as waiting, too: the share is a floor.
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
}

export interface Waits {
  /** Of active users. */
  readonly active: Share & {
    /** Why those who waited count as such: their token was new, there was none, it only took long. */
    readonly newer: number
    readonly failed: number
    readonly slow: number
  }
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
  const met: Record<Freshness, { asked: number; waited: number }> = {
    fresh: { asked: 0, waited: 0 },
    expiringSoon: { asked: 0, waited: 0 },
    due: { asked: 0, waited: 0 },
    expired: { asked: 0, waited: 0 }
  }
  const active = { asked: 0, waited: 0, newer: 0, failed: 0, slow: 0 }
  for (const { calUserId, expiresAt, isActive, sentAt, took } of ensures) {
    const pair = byUser.get(calUserId)?.findLast(({ at }) => at <= sentAt)
    if (pair === undefined) continue
    const why =
      expiresAt === undefined
        ? "failed"
        : expiresAt - pair.expiresAt > precision
          ? "newer"
          : took >= latency
            ? "slow"
            : undefined
    const share = met[freshnessAt(pair.expiresAt, lifetime * 1000, sentAt)]
    share.asked++
    if (why !== undefined) share.waited++
    if (!isActive) continue
    active.asked++
    if (why === undefined) continue
    active.waited++
    active[why]++
  }
  return { active, met }
}

/** Instants in the claims of tokens are in whole seconds. */
const precision = 1000

const freshnessAt = (accessTokenExpiresAt: number, lifetime: number, at: number): Freshness => {
  const token = Redacted.make("")
  const issuedAt = accessTokenExpiresAt - lifetime
  return freshness({ accessToken: token, refreshToken: token, issuedAt, accessTokenExpiresAt }, at, defaults.windows)
}
