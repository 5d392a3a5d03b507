import { describe, expect, it } from "@effect/vitest"
import type { ByTrigger, Circuit, Overview, RefreshMinute } from "../../src/Page/Wire.js"
import * as Words from "../../src/Page/Words.js"

const none: ByTrigger = { asked: 0, refused: 0, ahead: 0, reissue: 0 }
const fine: RefreshMinute["failed"] = { ...none, lapsed: 0 }
const begin = Date.parse("2026-11-28T09:00:00Z")
const at = (index: number) => new Date(begin + index * 60_000).toISOString()

/** Sixty minutes in which nothing happened but what is given, by the minute's index. */
const minutes = (given: Readonly<Record<number, Partial<RefreshMinute>>> = {}): ReadonlyArray<RefreshMinute> =>
  Array.from({ length: 60 }, (_, index) => ({
    at: at(index),
    refreshed: none,
    failed: fine,
    reauthorizationRequired: 0,
    reasons: [],
    ...given[index]
  }))

const overview = (given: Partial<Overview> = {}): Overview => ({
  at: at(59),
  process: { name: "a1b2c3d4", startedAt: at(0), version: "0.1.0" },
  users: { active: 3, reauthorizationRequired: 0, isEstimated: false },
  refreshes: { minutes: minutes() },
  expiries: { overdue: 0, minutes: [] },
  budgets: [],
  circuits: [],
  sealedAnswers: 0,
  pairsHeld: 0,
  ...given
})

const users = (active: number, reauthorizationRequired: number) => ({
  users: { active, reauthorizationRequired, isEstimated: false }
})

const failing = (failed: number, refreshed: number, index = 58) => ({
  refreshes: {
    minutes: minutes({ [index]: { failed: { ...fine, ahead: failed }, refreshed: { ...none, asked: refreshed } } })
  }
})

const level = (given: Partial<Overview>) => Words.verdict(overview(given))

describe("whether everybody is fine", () => {
  it("says so in one sentence", () => {
    expect(level({})).toEqual({ level: "ok", text: "Everybody's token is kept.", more: [] })
    expect(level(users(0, 0))).toEqual({ level: "neutral", text: "Nobody is connected yet.", more: [] })
    expect(level(users(3, 1))).toEqual({ level: "attention", text: "1 person has to reconnect.", more: [] })
    expect(level(users(0, 1_037)).text).toBe("1,037 people have to reconnect.")
  })

  it.each(["client", "drift", "brake", "process"] as const)("puts an open circuit before all: %s", (cause) => {
    const found = level({ ...users(3, 2), circuits: [{ cause }] })
    expect(found.level).toBe("broken")
    expect(found.text).not.toMatch(/kept|reconnect\./)
    expect(found.more).toEqual(["2 people have to reconnect."])
  })

  it("names the circuit that concerns most of all first", () => {
    const circuits: ReadonlyArray<Circuit> = [{ cause: "process" }, { cause: "client" }]
    expect(level({ circuits }).text).toBe("Cal.com refuses a client: its users are not refreshed.")
  })

  const told = (given: Partial<Overview>) => {
    const { level: found, more, text } = level(given)
    return [found, text, more[0]]
  }
  const fineNow = ["ok", "Everybody's token is kept.", undefined]
  const most = ["broken", "Most refreshes fail at the moment."]
  const some = ["attention", "Some refreshes fail at the moment."]

  it("says that refreshes fail when most of the last minutes' do, and not for one, for old ones or for a few of many", () => {
    expect(told(failing(4, 3))).toEqual([...most, "Of 7 refreshes in the last 3 minutes 4 failed."])
    expect(level(failing(4, 3)).more[1]).toContain("go on being served")
    expect(told(failing(4, 4))).toEqual([...some, "Of 8 refreshes in the last 3 minutes 4 failed."])
    expect(told(failing(4, 36))[0]).toBe("attention")
    expect(told(failing(4, 37))).toEqual(fineNow)
    expect(told(failing(2, 1))).toEqual(fineNow)
    expect(told(failing(40, 3, 50))).toEqual(fineNow)
  })

  it("looks no further back than to where an outage began or ended", () => {
    const good = { refreshed: { ...none, ahead: 500 } }
    const bad = { failed: { ...fine, ahead: 20 } }
    const after = (index: number) => ({ refreshes: { minutes: minutes({ 57: good, 58: good, [index]: bad }) } })
    expect(told(after(59))).toEqual([...most, "Of 20 refreshes in the last minute 20 failed."])
    const over = { refreshes: { minutes: minutes({ 57: bad, 58: bad, 59: { refreshed: { ...none, ahead: 10 } } }) } }
    expect(told(over)).toEqual(fineNow)
    // The running minute alone tells little.
    const begun = { refreshes: { minutes: minutes({ 58: bad, 59: { refreshed: { ...none, ahead: 9 } } }) } }
    expect(told(begun)[2]).toBe("Of 29 refreshes in the last 2 minutes 20 failed.")
  })

  const down = { answer: "notSpent", status: 503, error: "CalUnavailable" } as const

  it("says why most of them fail", () => {
    const why = (...reasons: RefreshMinute["reasons"]) => ({
      refreshes: {
        minutes: minutes({ 58: { failed: { ...fine, ahead: 4 }, refreshed: { ...none, asked: 3 }, reasons } })
      }
    })
    expect(told(why({ ...down, count: 4 }))[2]).toBe(
      "Of 7 refreshes in the last 3 minutes 4 failed because Cal.com answered 503."
    )
    expect(told(why({ ...down, count: 3 }, { answer: "rejected", count: 1 }))[2]).toBe(
      "Of 7 refreshes in the last 3 minutes 4 failed, 3 of them because Cal.com answered 503."
    )
  })

  it("lists why refreshes failed: what goes on first, one row for what reads alike", () => {
    const lapsed = { answer: "lapsed" } as const
    const revoked = { answer: "rejected", status: 400 } as const
    const refreshes = {
      minutes: minutes({
        3: { reasons: [{ ...lapsed, count: 9 }] },
        20: { reasons: [{ ...revoked, count: 2 }] },
        57: { reasons: [{ ...down, count: 1 }] },
        58: { reasons: [{ ...revoked, status: 401, count: 3 }, { ...down, count: 1 }] } // prettier-ignore
      })
    }
    expect(Words.reasons({ refreshes })).toEqual([
      { text: "Cal.com refused the refresh token", lately: 3, hour: 5, at: at(58) },
      { text: "Cal.com answered 503", lately: 2, hour: 2, at: at(58) },
      { text: "the process died or slept", lately: 0, hour: 9, at: at(3) }
    ])
    expect(Words.reasons({ refreshes: { minutes: minutes() } })).toEqual([])
  })

  it.each([
    [{ answer: "notSpent", status: 429, error: "CalRateLimited" }, "Cal.com's rate limit was used up"],
    [{ answer: "notSpent", error: "CalUnavailable" }, "Cal.com was not reached"],
    [{ answer: "notSpent", error: "CalProtocolError" }, "Cal.com's answer was not understood"],
    [{ answer: "notSpent", status: 403, error: "CalRequestRejected" }, "Cal.com answered 403"],
    [
      { answer: "unknown", error: "CalUnavailable" },
      "Cal.com's answer did not come, or not whole: the token may have been spent"
    ],
    [
      { answer: "unknown", status: 502, error: "CalUnavailable" },
      "Cal.com answered 502: the token may have been spent"
    ],
    [{ answer: "unreadable", error: "CalProtocolError" }, "Cal.com's answer could not be read"],
    [{ answer: "clientWide", error: "CalClientMisconfigured" }, "Cal.com refused the client"],
    [{ answer: "userGone" }, "the managed user is gone at Cal.com"],
    [{ answer: "unsent" }, "Cal.com was not asked"]
  ] as const)("tells %o", (reason, text) => expect(Words.reason(reason)).toBe(text))

  it("says that Cal.com's rate limit is used up, and what has ended while refreshes fail", () => {
    const budget = { kind: "managed", clientId: "one", limit: 500, remaining: 0, minutes: [] } as const
    const usedUp = { budgets: [{ ...budget, resetsAt: at(60) }] }
    const sentence = "Cal.com's rate limit leaves the client one no call for now."
    expect(level(usedUp)).toEqual({ level: "attention", text: "Everybody's token is kept.", more: [sentence] })
    expect(level({ budgets: [budget] }).level).toBe("ok")
    const overdue = { expiries: { overdue: 2, minutes: [] } }
    expect(level(overdue).more).toEqual([])
    const ended = "2 access tokens have ended by now."
    expect(level({ ...failing(4, 3), ...overdue, ...usedUp }).more.slice(1, 3)).toEqual([sentence, ended])
    expect(level({ circuits: [{ cause: "client" }], ...overdue, ...usedUp }).more).toEqual([ended, sentence])
  })

  it("counts attempts that never ended among those that failed", () => {
    const lapsed = { refreshes: { minutes: minutes({ 59: { failed: { ...fine, lapsed: 3 } } }) } }
    expect(level(lapsed).level).toBe("broken")
    expect(Words.refreshes(lapsed.refreshes.minutes, "UTC")).toBe(
      "0 refreshed in the last hour, 3 failed, most at 09:59."
    )
  })

  it("tells of pairs and answers that are kept apart", () => {
    expect(level({ pairsHeld: 1 })).toEqual({
      level: "broken",
      text: "New tokens cannot be stored at the moment.",
      more: ["1 new pair waits for the database, in memory only."]
    })
    expect(level({ sealedAnswers: 2 })).toEqual({
      level: "attention",
      text: "Everybody's token is kept.",
      more: ["2 answers of Cal.com are kept encrypted until a version reads them."]
    })
  })
})

describe("charts in one sentence", () => {
  it("sums refreshes up, with the worst minute", () => {
    const some = minutes({
      3: { refreshed: { ...none, ahead: 1_200, reissue: 1 } },
      7: { failed: { ...fine, asked: 2 } },
      9: { failed: { ...fine, asked: 1, refused: 2 } }
    })
    expect(Words.refreshes(some, "Europe/Berlin")).toBe("1,201 refreshed in the last hour, 5 failed, most at 10:09.")
    expect(Words.refreshes(minutes({ 3: { refreshed: { ...none, ahead: 1 } } }))).toBe(
      "1 refreshed in the last hour, none failed."
    )
    expect(Words.refreshes(minutes())).toBe("No refresh in the last hour.")
  })

  it("tells whose tokens end", () => {
    const ends = [2, 5, 5].map((users, index) => ({ at: at(index), users }))
    expect(Words.expiries({ overdue: 1, minutes: ends }, "UTC")).toBe("12 tokens end, most at 09:01 (5). 1 is overdue.")
    expect(Words.expiries({ overdue: 0, minutes: [] }, "UTC")).toBe(
      "No token ends within the next hour. None is overdue."
    )
  })

  it("tells how long a refresh takes", () => {
    const latency = { p50: 189.6, p95: 505, p99: 1_240, max: 8_100 }
    expect(Words.latency({ minutes: [], latency })).toBe("Half took at most 190 ms, 99 of 100 at most 1.24 s.")
    expect(Words.latency({ minutes: [] })).toBe("No refresh in the last hour.")
  })

  it.each([
    [0, 0, "0 %"],
    [1, 10_000, "< 0.1 %"],
    [26, 1_000, "2.6 %"],
    [5, 25, "20 %"]
  ])("tells that %d of %d are %s", (part, whole, text) => expect(Words.share(part, whole)).toBe(text))
})
