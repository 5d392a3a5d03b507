/**
 * The last hour, minute by minute, of what a storage tells of attempts. Minutes that are over are remembered and not read
 * again: so the hour costs what its last two minutes do.
 */
import * as Activity from "../TokenStorage/Activity.js"

/** In ms, from the claim to the end; each to within 4 %. */
export interface Latency {
  readonly p50: number
  readonly p95: number
  readonly p99: number
}

export interface Minute {
  /** When it began, by the storage's clock, in milliseconds. */
  readonly at: number
  /** By what began the attempt. */
  readonly refreshed: Readonly<Record<Exclude<Activity.Origin, "lapsed">, number>>
  /** Attempts that ended without a pair. */
  readonly failed: Readonly<Record<Activity.Origin, number>>
  /** How many of those ended so that a person has to reconnect. */
  readonly reauthorizationRequired: number
  /** Why attempts ended without a pair: what was so most often first. */
  readonly reasons: ReadonlyArray<Activity.Reason & { readonly count: number }>
  /** Of those that brought a pair, where there are any. */
  readonly latency?: Latency
}

export interface Hour {
  /** All {@link Activity.span}, the oldest first; the last one is still running. */
  readonly minutes: ReadonlyArray<Minute>
  readonly latency?: Latency & { readonly max: number }
}

export interface Minutes {
  /** From which minute on the storage has to be asked, by its clock; not known before it was asked at all. */
  readonly since: () => number | undefined
  /** Whether the storage's clock stands in an earlier minute than it did: then what is remembered may never come again. */
  readonly wentBack: (at: number) => boolean
  readonly forget: () => void
  /** What the storage said of some minutes: whatever was known of them is replaced. */
  readonly take: (activity: Activity.Activity) => void
  /** As the storage had it when it was asked last. */
  readonly hour: () => Hour
}

/** After so long an entry that was dated in a minute can be read: statements end before that. */
const settled = Activity.minute

export const make = (): Minutes => {
  /** By when the minute began. */
  const known = new Map<number, Array<Activity.Attempts>>()
  let last: number | undefined
  let since: number | undefined

  return {
    since: () => since,
    wentBack: (at) => last !== undefined && Activity.minuteOf(at) < Activity.minuteOf(last),
    forget: () => {
      known.clear()
      last = since = undefined
    },
    take: ({ at, attempts, from, until }) => {
      const first = firstOf(at)
      for (const minute of known.keys()) {
        if (minute < first || (minute >= from && minute < until)) known.delete(minute)
      }
      for (const each of attempts) {
        const alike = known.get(each.at)
        if (alike === undefined) known.set(each.at, [each])
        else alike.push(each)
      }
      last = at
      since = Math.min(until, Activity.minuteOf(at - settled))
    },
    hour: () => {
      const first = firstOf(last ?? 0)
      const whole = latencyOf([...known.values()].flat())
      return {
        minutes: Array.from({ length: Activity.span }, (_, n) => first + n * Activity.minute).map((at) =>
          minuteOf(at, known.get(at) ?? [])
        ),
        ...(whole === undefined ? {} : { latency: whole })
      }
    }
  }
}

const firstOf = (at: number) => Activity.minuteOf(at) - (Activity.span - 1) * Activity.minute

const sum = (attempts: ReadonlyArray<Activity.Attempts>) => attempts.reduce((sum, { count }) => sum + count, 0)

const minuteOf = (at: number, all: ReadonlyArray<Activity.Attempts>): Minute => {
  const count = (isMeant: (outcome: Activity.Outcome) => boolean, origin: Activity.Origin) =>
    sum(all.filter((each) => each.origin === origin && isMeant(each.outcome)))
  const refreshed = (origin: Activity.Origin) => count((outcome) => outcome === "refreshed", origin)
  const failed = (origin: Activity.Origin) => count((outcome) => outcome !== "refreshed", origin)
  const latency = latencyOf(all)
  return {
    at,
    refreshed: {
      asked: refreshed("asked"),
      refused: refreshed("refused"),
      ahead: refreshed("ahead"),
      reissue: refreshed("reissue")
    },
    failed: {
      asked: failed("asked"),
      refused: failed("refused"),
      ahead: failed("ahead"),
      reissue: failed("reissue"),
      lapsed: failed("lapsed")
    },
    reauthorizationRequired: sum(all.filter(({ outcome }) => outcome === "reauthorizationRequired")),
    reasons: reasonsOf(all),
    ...(latency === undefined ? {} : { latency: { p50: latency.p50, p95: latency.p95, p99: latency.p99 } })
  }
}

const reasonsOf = (all: ReadonlyArray<Activity.Attempts>): Minute["reasons"] => {
  const counts = new Map<string, Minute["reasons"][number]>()
  for (const { count, reason } of all) {
    if (reason === undefined) continue
    const { answer, error, status } = reason
    const key = JSON.stringify([answer, status, error])
    counts.set(key, { ...reason, count: (counts.get(key)?.count ?? 0) + count })
  }
  return [...counts.values()].sort((a, b) => b.count - a.count)
}

/** The smallest time that so many of a hundred do not exceed, as the middle of its bucket. */
const latencyOf = (attempts: ReadonlyArray<Activity.Attempts>): Hour["latency"] => {
  const pairs = attempts.filter(({ outcome }) => outcome === "refreshed").sort((a, b) => a.bucket - b.bucket)
  const total = sum(pairs)
  if (total === 0) return undefined
  const max = Math.max(...pairs.map(({ longest }) => longest))
  const percentile = (percent: number) => {
    let left = Math.ceil((total * percent) / 100)
    const found = pairs.find(({ count }) => (left -= count) <= 0)
    return found === undefined ? max : Math.min(max, Activity.middleOf(found.bucket))
  }
  return { p50: percentile(50), p95: percentile(95), p99: percentile(99), max }
}
