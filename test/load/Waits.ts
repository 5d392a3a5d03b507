/**
 * Which callers waited for a refresh, by what Cal.com and the answer say: an answer with a pair that Cal.com gave away
 * after the request was sent cannot have been given without waiting, and neither can an error. Whoever got the pair that
 * was there, after as long as a refresh takes at least and while one of that user may have been under way, may have waited
 * for it, or only for a busy machine: nobody can tell from outside, so they are counted apart.
 */
import { Array as Arr, Redacted } from "effect"
import { freshness, type Freshness } from "../../src/Token.js"
import { defaults } from "../../src/TokenConfig.js"
import * as Requests from "./Requests.js"
import type { Settings } from "./Result.js"
import type { Truth } from "./Truth.js"

/** A request for a valid token that was answered, by whatever. */
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

/**
 * Whether an answer, or none, says if its caller waited. Of a process that died nobody knows; but whom none answered for as
 * long as anybody asks waited more than all others.
 */
export const isTelling = (answer: Requests.Answer | Requests.NoAnswer): boolean =>
  "body" in answer || answer.code === Requests.late

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
  truth: Pick<Truth, "answers" | "spendings">,
  { latency, lifetime }: Pick<Settings, "latency" | "lifetime">
): Waits => {
  const answers = Arr.groupBy(truth.answers, ({ calUserId }) => String(calUserId))
  const spendings = Arr.groupBy(truth.spendings, ({ calUserId }) => String(calUserId))
  const mayHaveMet = (calUserId: number, sentAt: number, took: number) =>
    spendings[calUserId]?.some(({ at, fault }) => {
      return at <= sentAt + took && sentAt <= at + (fault === undefined ? latency + slack : aftermath)
    }) ?? false
  const active = none()
  const met = { fresh: none(), expiringSoon: none(), due: none(), expired: none() }
  for (const { calUserId, expiresAt, isActive, sentAt, took } of ensures) {
    const pair = answers[calUserId]?.findLast(({ at }) => at <= sentAt)
    if (pair === undefined) continue
    const hasWaited = expiresAt === undefined || expiresAt - pair.expiresAt > precision
    for (const share of [met[freshnessAt(pair.expiresAt, lifetime * 1000, sentAt)], ...(isActive ? [active] : [])]) {
      share.asked++
      if (hasWaited) share.waited++
      else if (took >= latency && mayHaveMet(calUserId, sentAt, took)) share.heldUp++
    }
  }
  return { active, met }
}

const none = () => ({ asked: 0, waited: 0, heldUp: 0 })

/** So long after Cal.com began to answer at the latest, in ms, a busy machine has stored a pair. */
const slack = 2000

/** So long a call without an answer, and what follows from it, keep a user's callers at most, in ms. */
const aftermath = 30_000

/** Instants in the claims of tokens are in whole seconds. */
const precision = 1000

const freshnessAt = (accessTokenExpiresAt: number, lifetime: number, at: number): Freshness => {
  const token = Redacted.make("")
  const issuedAt = accessTokenExpiresAt - lifetime
  return freshness({ accessToken: token, issuedAt, accessTokenExpiresAt }, at, defaults.windows)
}
