/**
 * Cal.com's throttler: a fixed window per caller, and a block once it overflows. It runs before authentication, so
 * refused requests count as well. Facts: `CustomThrottlerGuard` of Cal.com API v2 and the Redis storage it uses.
 */
import { Duration } from "effect"
import { type Switches } from "./Switches.js"

export interface Verdict {
  readonly blocked: boolean
  /** Of the limit named "default". `reset` is the whole seconds that remain, not an instant. */
  readonly headers: Readonly<Record<string, string>>
}

export interface RateLimit {
  readonly consume: (caller: Caller, switches: Switches, now: number) => Verdict
}

export type Caller = { readonly kind: "accessToken" | "client" | "ip"; readonly id: string }

/** The path's client id is not looked at: a refresh with only `x-cal-secret-key` counts for its address. */
export const callerOf = (headers: Readonly<Record<string, string | undefined>>, address: string): Caller => {
  if (headers.authorization) return { kind: "accessToken", id: headers.authorization }
  const clientId = headers["x-cal-client-id"]
  return clientId ? { kind: "client", id: clientId } : { kind: "ip", id: headers["cf-connecting-ip"] ?? address }
}

interface Bucket {
  hits: number
  endsAt: number
  blocked: boolean
}

export const make = (): RateLimit => {
  const buckets = new Map<string, Bucket>()
  let sweepAt = minSweep
  return {
    consume: (caller, { rateLimits }, now) => {
      if (!rateLimits.enabled) return { blocked: false, headers: {} }
      const limit = rateLimits[caller.kind]
      const key = `${caller.kind} ${caller.id}`
      let bucket = buckets.get(key)
      if (bucket === undefined || bucket.endsAt <= now) {
        if (buckets.size >= sweepAt) {
          for (const [other, { endsAt }] of buckets) if (endsAt <= now) buckets.delete(other)
          sweepAt = Math.max(minSweep, 2 * buckets.size)
        }
        bucket = { hits: 0, endsAt: now + Duration.toMillis(rateLimits.window), blocked: false }
        buckets.set(key, bucket)
      }
      if (!bucket.blocked && ++bucket.hits > limit) {
        bucket.blocked = true
        bucket.endsAt = now + Duration.toMillis(rateLimits.block)
      }
      return {
        blocked: bucket.blocked,
        headers: {
          "x-ratelimit-limit-default": String(limit),
          "x-ratelimit-remaining-default": String(bucket.blocked ? 0 : limit - bucket.hits),
          "x-ratelimit-reset-default": String(Math.ceil((bucket.endsAt - now) / 1000))
        }
      }
    }
  }
}

const minSweep = 10_000
