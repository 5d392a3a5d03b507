/**
 * Cooldowns of the storage as this process last met them, so that a loop is ended without asking the storage. A hint: the
 * claim has the last word.
 */
import { Clock, Duration, Effect, HashMap, Option, Ref } from "effect"
import type { UserUlid } from "../Token.js"
import type { CallError } from "../TokenError.js"

/** Until when, by our clock, refreshing a certain pair is pointless. */
export interface Cooldown {
  /** Milliseconds since the epoch. Before it the clock was put back, and `until` says nothing. */
  readonly since: number
  /** Milliseconds since the epoch. */
  readonly until: number
  /** The pair's version: another pair is not held. */
  readonly version: number
  /** Whether its access token was expired by then: the first attempt after an expiry is never held. */
  readonly expired: boolean
  /** The tag of the failure that started it. */
  readonly lastError: string | undefined
  /** What callers are told in place of a cooldown: it is not the user's own. */
  readonly told?: ((retryAfter: Duration.Duration) => CallError) | undefined
}

export interface Cooldowns {
  readonly get: (userUlid: UserUlid) => Effect.Effect<Option.Option<Cooldown>>
  readonly set: (userUlid: UserUlid, cooldown: Cooldown) => Effect.Effect<void>
  readonly clear: (userUlid: UserUlid) => Effect.Effect<void>
  /** How many are remembered. */
  readonly size: Effect.Effect<number>
}

/** Below this many, those that are over are not looked for. */
const fewest = 64

export const make = (): Cooldowns => {
  const ref = Ref.unsafeMake(HashMap.empty<UserUlid, Cooldown>())
  let sweepAt = fewest

  /** Looked through once per doubling: what is over is at most as much as what is not, at no cost to speak of. */
  const swept = (cooldowns: HashMap.HashMap<UserUlid, Cooldown>, now: number) => {
    if (HashMap.size(cooldowns) < sweepAt) return cooldowns
    const left = HashMap.filter(cooldowns, (cooldown) => isInForce(cooldown, now))
    sweepAt = Math.max(fewest, 2 * HashMap.size(left))
    return left
  }

  return {
    get: (userUlid) => Effect.map(Ref.get(ref), HashMap.get(userUlid)),
    set: (userUlid, cooldown) =>
      Effect.flatMap(Clock.currentTimeMillis, (now) =>
        Ref.update(ref, (cooldowns) => HashMap.set(swept(cooldowns, now), userUlid, cooldown))
      ),
    clear: (userUlid) => Ref.update(ref, HashMap.remove(userUlid)),
    size: Effect.map(Ref.get(ref), HashMap.size)
  }
}

const isInForce = ({ since, until }: Cooldown, now: number) => since <= now && until > now

/** The time left of a cooldown that holds this version at `now`, if it does. */
export const remaining = (
  cooldown: Cooldown,
  pair: { readonly version: number; readonly expired: boolean },
  now: number
): Option.Option<Duration.Duration> =>
  cooldown.version === pair.version && (cooldown.expired || !pair.expired) && isInForce(cooldown, now)
    ? Option.some(Duration.millis(cooldown.until - now))
    : Option.none()
