/** What reached Cal.com, for a test to read. No tokens: refresh tokens appear as SHA-256. */
import { type FaultLabel } from "./Faults.js"
import { type Kind } from "./Kind.js"

/**
 * A request that reached Cal.com.
 *
 * @since 0.1.0
 * @category models
 */
export interface Call {
  /** Effect's clock, in milliseconds, when the request arrived. */
  readonly at: number
  readonly method: string
  /** Without query and without the `/api` prefix. */
  readonly path: string
  /** What Cal.com answered, also if the answer was lost or replaced; 0 if the request never took effect. */
  readonly status: number
  readonly kind: Kind
  readonly calUserId?: number | undefined
  /** Who asked, by the name that it gave itself: where two systems have the same users, this one is `cal-tokens`. */
  readonly userAgent?: string | undefined
  /** Of the refresh token that was presented, and of the one that was issued. */
  readonly refreshTokenHash?: string | undefined
  readonly issuedRefreshTokenHash?: string | undefined
  readonly fault?: FaultLabel | undefined
}

export interface Calls {
  readonly add: (call: Call) => void
  readonly all: () => ReadonlyArray<Call>
  readonly count: (kind: Kind, calUserId?: number) => number
  readonly reset: () => void
}

/** Keeps the last calls only; the counts are of all of them. */
export const make = (): Calls => {
  let calls: Array<Call> = []
  const counts = new Map<string, number>()
  const increase = (key: string) => counts.set(key, (counts.get(key) ?? 0) + 1)
  return {
    add: (call) => {
      if (calls.length >= 2 * kept) calls = calls.slice(-kept)
      calls.push(call)
      increase(call.kind)
      if (call.calUserId !== undefined) increase(`${call.kind} ${call.calUserId}`)
    },
    all: () => calls.slice(-kept),
    count: (kind, calUserId) => counts.get(calUserId === undefined ? kind : `${kind} ${calUserId}`) ?? 0,
    reset: () => {
      calls = []
      counts.clear()
    }
  }
}

const kept = 10_000
