/** The hour that is told minute by minute, against attempts that are counted one by one. */
import { assert, describe, it } from "@effect/vitest"
import { Data, Equal, FastCheck, Struct } from "effect"
import * as Minutes from "../../src/Overview/Minutes.js"
import * as Activity from "../../src/TokenStorage/Activity.js"

const { minute } = Activity
const { array, constantFrom, integer, record } = FastCheck

const end = 120 * minute

const attempt = record({
  at: integer({ min: 0, max: end - 1 }),
  origin: constantFrom(...Activity.origins),
  outcome: constantFrom<Activity.Outcome>("refreshed", "failed", "reauthorizationRequired"),
  reason: constantFrom<Array<Activity.Reason>>(
    { answer: "lapsed" },
    { answer: "notSpent", status: 503, error: "CalUnavailable" },
    { answer: "notSpent", status: 502, error: "CalUnavailable" },
    { answer: "notSpent", error: "CalUnavailable" },
    { answer: "unknown", status: 503, error: "CalUnavailable" }
  ),
  took: integer({ min: 0, max: 40_000 })
}).map((attempt) => (attempt.origin === "lapsed" ? { ...attempt, outcome: "failed" as const } : attempt))

type Attempt = typeof attempt extends FastCheck.Arbitrary<infer A> ? A : never

const counted = ({ at, origin, outcome, reason, took: measured }: Attempt): Activity.Attempts => {
  const isPair = outcome === "refreshed"
  const took = isPair ? measured : 0
  return {
    ...{ at: Activity.minuteOf(at), origin, outcome, bucket: Activity.bucketOf(took), count: 1, longest: took },
    ...(isPair ? {} : { reason })
  }
}

/** What a storage says at an instant. */
const answer = (attempts: ReadonlyArray<Attempt>, now: number, since: number | undefined): Activity.Activity => {
  const first = Activity.minuteOf(now) - 59 * minute
  const from = Math.max(since ?? first, first)
  const until = Math.min(from + Activity.atOnce * minute, Activity.minuteOf(now) + minute)
  const there = attempts.filter(({ at }) => at <= now && at >= from && at < until)
  return { at: now, from, until, attempts: there.map(counted) }
}

const catchUp = (minutes: Minutes.Minutes, attempts: ReadonlyArray<Attempt>, now: number) => {
  for (let since = minutes.since(); ;) {
    const activity = answer(attempts, now, since)
    minutes.take(activity)
    since = activity.until
    if (since > now) return minutes.hour()
  }
}

const timesOf = (attempts: ReadonlyArray<Attempt>) =>
  attempts.filter(({ outcome }) => outcome === "refreshed").map(({ took }) => took)

/** Each percentile is as near to the one among all times as it says. */
const isLatency = (told: Minutes.Latency | undefined, times: ReadonlyArray<number>) => {
  assert.strictEqual(told === undefined, times.length === 0)
  for (const percent of told === undefined ? [] : ([50, 95, 99] as const)) {
    const exact = [...times].sort((a, b) => a - b)[Math.ceil((times.length * percent) / 100) - 1] ?? NaN
    const off = Math.abs((told?.[`p${percent}`] ?? NaN) - exact)
    assert.isAtMost(off, Math.max(1, exact * 0.04), `p${percent} of ${times.join()}`)
  }
}

/** Each of them once, and as often as it is there; the most frequent first. */
const areReasons = (told: Minutes.Minute["reasons"], attempts: ReadonlyArray<Attempt>) => {
  const failed = attempts.filter(({ outcome }) => outcome !== "refreshed")
  const alike = (reason: Activity.Reason) =>
    failed.filter((each) => Equal.equals(Data.struct(each.reason), Data.struct(reason)))
  for (const { count, ...reason } of told) assert.lengthOf(alike(reason), count)
  const counts = told.map(({ count }) => count)
  assert.strictEqual(
    counts.reduce((sum, count) => sum + count, 0),
    failed.length
  )
  assert.deepStrictEqual(
    counts,
    [...counts].sort((a, b) => b - a)
  )
}

/** All but the times and the reasons. */
const countsOf = (at: number, attempts: ReadonlyArray<Attempt>) => {
  const count = (isMeant: (attempt: Attempt) => boolean) => attempts.filter(isMeant).length
  const refreshed = (origin: Activity.Origin) => count((each) => each.origin === origin && each.outcome === "refreshed")
  const failed = (origin: Activity.Origin) => count((each) => each.origin === origin && each.outcome !== "refreshed")
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
    reauthorizationRequired: count(({ outcome }) => outcome === "reauthorizationRequired")
  }
}

describe("the hour", () => {
  it("adds up to what happened in it, with times to within 4 %, whenever it was looked at before", () => {
    FastCheck.assert(
      FastCheck.property(
        array(attempt, { maxLength: 60 }),
        array(integer({ min: 0, max: end - 1 }), { minLength: 1, maxLength: 8 }),
        (attempts, looks) => {
          const minutes = Minutes.make()
          for (const now of looks.sort((a, b) => a - b)) {
            const { latency, minutes: told } = catchUp(minutes, attempts, now)
            const first = Activity.minuteOf(now) - 59 * minute
            const there = attempts.filter(({ at }) => at >= first && at <= now)
            const within = (at: number) => there.filter((each) => Activity.minuteOf(each.at) === at)
            assert.deepStrictEqual(
              told.map((minute) => Struct.omit(minute, "latency", "reasons")),
              Array.from({ length: 60 }, (_, n) => countsOf(first + n * minute, within(first + n * minute)))
            )
            for (const { at, latency, reasons } of told) {
              isLatency(latency, timesOf(within(at)))
              areReasons(reasons, within(at))
            }
            isLatency(latency, timesOf(there))
            if (latency !== undefined) assert.strictEqual(latency.max, Math.max(...timesOf(there)))
          }
        }
      ),
      { numRuns: 100, seed: 20260115 }
    )
  })

  it("is as near with many attempts in each bucket", () => {
    const minutes = Minutes.make()
    const attempts = Array.from({ length: 5000 }, (_, n) => {
      return {
        at: 59 * minute,
        origin: "ahead",
        outcome: "refreshed",
        reason: { answer: "lapsed" },
        took: 20 + ((n * 7919) % 3000)
      } as const
    })
    isLatency(catchUp(minutes, attempts, end / 2 - 1).latency, timesOf(attempts))
  })

  it("is read anew in its last two minutes alone, and after a pause where it was left", () => {
    const minutes = Minutes.make()
    assert.isUndefined(minutes.since())
    const begin = 1000 * minute
    for (const [now, since] of [
      [begin + 5, begin - minute],
      [begin + minute - 1, begin - minute],
      [begin + minute, begin],
      [begin + 20 * minute, begin + 19 * minute]
    ] as const) {
      catchUp(minutes, [], now)
      assert.strictEqual(minutes.since(), since)
    }
  })

  it("keeps what it was told when the storage fails after some minutes", () => {
    const minutes = Minutes.make()
    const now = 1000 * minute
    const activity = answer([], now, undefined)
    minutes.take(activity)
    assert.strictEqual(minutes.since(), now - 49 * minute)
  })
})
