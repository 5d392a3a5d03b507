import { describe, expect, it } from "@effect/vitest"
import * as Fleet from "../../src/Page/Fleet.js"
import type { Budget, Circuit, Overview } from "../../src/Page/Wire.js"

const begin = Date.parse("2026-11-28T09:00:00Z")
const at = (seconds: number) => new Date(begin + seconds * 1_000).toISOString()

const overview = (name: string, startedAt: number, seconds: number, given: Partial<Overview> = {}): Overview => ({
  at: at(seconds),
  process: { name, startedAt: at(startedAt), version: "0.1.0" },
  users: { active: 3, reauthorizationRequired: 0, isEstimated: false },
  refreshes: { minutes: [] },
  expiries: { overdue: 0, minutes: [] },
  budgets: [],
  circuits: [],
  sealedAnswers: 0,
  pairsHeld: 0,
  ...given
})

/** Each is heard when it was read. */
const heard = (...answers: ReadonlyArray<Overview>): Fleet.Fleet =>
  answers.reduce<Fleet.Fleet | undefined>((before, each) => Fleet.hear(before, each, Date.parse(each.at)), undefined)!

describe("processes that answer in turn", () => {
  it("are no news, though one started after the other", () => {
    expect(heard(overview("a", 0, 60), overview("b", 59, 61), overview("a", 0, 62)).start).toBeUndefined()
  })

  it("are told of when one starts, as the service where no other answers any more", () => {
    const restarted = heard(overview("a", 0, 60), overview("b", 61, 63), overview("b", 61, 64))
    expect(restarted.start).toEqual({ at: at(61), isAmongOthers: false })
    const grown = Fleet.hear(restarted, overview("a", 0, 65), begin + 65_000)
    expect(grown.start).toEqual({ at: at(61), isAmongOthers: true })
    const again = Fleet.hear(grown, overview("c", 70, 71), begin + 71_000)
    expect(again.start).toEqual({ at: at(70), isAmongOthers: false })
  })

  it("are no news when they started long ago", () => {
    expect(heard(overview("a", 0, 60), overview("b", 61, 361)).start).toBeUndefined()
  })

  it("hold pairs that add up, until one was silent for a while", () => {
    const held = heard(overview("a", 0, 60, { pairsHeld: 2 }), overview("b", 0, 61, { pairsHeld: 1 }))
    expect(held.overview.pairsHeld).toBe(3)
    expect(Fleet.hear(held, overview("b", 0, 62, { pairsHeld: 0 }), begin + 62_000).overview.pairsHeld).toBe(2)
    expect(Fleet.hear(held, overview("b", 0, 75, { pairsHeld: 0 }), begin + 75_000).overview.pairsHeld).toBe(0)
  })

  it("have open circuits of their own, and see the fleet's as it is now", () => {
    const own: Circuit = { cause: "process", clientId: "one", reason: "secret" }
    const fleets: Circuit = { cause: "client", clientId: "two" }
    const first = overview("a", 0, 60, { circuits: [fleets, own] })
    expect(heard(first, overview("b", 0, 61)).overview.circuits).toEqual([own])
    expect(heard(first, overview("b", 0, 61, { circuits: [fleets, own] })).overview.circuits).toEqual([fleets, own])
    expect(heard(first, overview("a", 0, 61)).overview.circuits).toEqual([])
  })
})

describe("what the database says", () => {
  const users = (reauthorizationRequired: number) => ({
    users: { active: 3, reauthorizationRequired, isEstimated: false }
  })
  const told = ({ overview: { at, users } }: Fleet.Fleet) => [at, users.reauthorizationRequired]

  it("does not go back to what one read before another did", () => {
    const first = heard(overview("a", 0, 60, users(1)), overview("b", 0, 62, users(2)))
    expect(told(first)).toEqual([at(62), 2])
    expect(told(Fleet.hear(first, overview("c", 0, 61, users(1)), begin + 62_000))).toEqual([at(62), 2])
  })

  it("does not go back to a reading that is used again for long", () => {
    const before = heard(overview("a", 0, 60, users(1)), overview("b", 0, 70, users(2)))
    expect(told(Fleet.hear(before, overview("a", 0, 60, users(1)), begin + 71_000))).toEqual([at(70), 2])
  })

  it("goes on with whoever's clock is far off", () => {
    const first = heard(overview("a", 0, 60, users(1)), overview("b", 0, 40, users(2)))
    expect(told(first)).toEqual([at(40), 2])
  })
})

describe("what Cal.com's limit leaves", () => {
  const minute = (index: number, remaining: number) => ({ at: at(index * 60), remaining })
  const budget = (remaining: number, resetsAt: number | undefined, minutes: Budget["minutes"] = []): Budget => ({
    kind: "managed",
    clientId: "client",
    limit: 500,
    remaining,
    minutes,
    ...(resetsAt === undefined ? {} : { resetsAt: at(resetsAt) })
  })
  const both = (one: Budget, other: Budget) =>
    heard(overview("a", 0, 120, { budgets: [one] }), overview("b", 0, 121, { budgets: [other] })).overview.budgets

  it("is the least of the window that ends last, whoever answers", () => {
    for (const [one, other] of [
      [budget(400, 150), budget(410, 151)],
      [budget(400, 150), budget(500, undefined)],
      [budget(400, 180), budget(12, 140)],
      // A window that is over tells nothing any more.
      [budget(400, 150), budget(12, 100)]
    ] as const) {
      expect(both(one, other)[0]?.remaining).toBe(400)
      expect(both(other, one)[0]?.remaining).toBe(400)
    }
    // What was known of it is forgotten when it ends.
    expect(both(budget(12, 100), budget(500, undefined))[0]?.remaining).toBe(500)
  })

  it("is the least of each minute of the hour, whoever was told", () => {
    const found = both(
      budget(400, 150, [minute(-59, 7), minute(0, 480), minute(1, 450)]),
      budget(410, 150, [minute(1, 460), minute(2, 410)])
    )
    expect(found[0]?.minutes).toEqual([minute(0, 480), minute(1, 450), minute(2, 410)])
  })

  it("is told of every client that any of them knows", () => {
    const other = { ...budget(3, undefined), clientId: "another" }
    const found = both(budget(1, 150), other)
    expect(found.map(({ clientId, remaining }) => [clientId, remaining])).toEqual([
      ["another", 3],
      ["client", 1]
    ])
    expect(both(other, budget(1, 150))).toEqual(found)
  })
})
