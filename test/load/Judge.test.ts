/** What the judge of a run makes of what Cal.com knows. */
import { assert, describe, it } from "@effect/vitest"
import { type Evidence, judge } from "./Judge.js"
import type { Answer, Deed, Kind, Spending } from "./Truth.js"

const user = 1001

/** The pair that a user is connected with, at 0. */
const first: Answer = { calUserId: user, hash: "first", begunAt: 0, at: 0, expiresAt: 60_000, slot: undefined }
const connected: Deed = { calUserId: user, at: 0, what: "handedIn", hash: "first" }

/** Cal.com grants `second` for it at 1000; the answer is given to the first process at `at`, if at all. */
const spending: Spending = { calUserId: user, at: 1000, presented: "first", issued: "second", fault: undefined }
const answered = (at: number): Answer => ({ ...first, hash: "second", begunAt: 900, at, slot: 0 })

const evidence = ({
  deaths = [],
  deeds = [],
  held = [],
  kind = "oauth2",
  reconnectAt,
  truth = {}
}: {
  readonly truth?: Partial<Evidence["truth"]>
  readonly deeds?: Evidence["deeds"]
  readonly deaths?: Evidence["deaths"]
  readonly kind?: Kind
  readonly held?: ReadonlyArray<string>
  readonly reconnectAt?: number
}): Evidence => ({
  truth: { answers: [first], spendings: [], live: [], unknownToAll: 0, ...truth },
  deeds: [connected, ...deeds],
  deaths,
  users: new Map([[user, { kind, held: new Set(held) }]]),
  reconnects: reconnectAt === undefined ? [] : [{ calUserId: user, at: reconnectAt }]
})

const live = (hash: string) => [{ calUserId: user, hash }]

describe("a lost pair", () => {
  const lost = (...given: Parameters<typeof evidence>) => judge(evidence(...given)).lostPairs.map(({ hash }) => hash)
  const refreshed = { answers: [first, answered(1200)], spendings: [spending], live: live("second") }

  it("is one that Cal.com takes, that a process was given, and that nobody stored", () => {
    assert.deepStrictEqual(lost({ truth: refreshed, held: ["first"] }), ["second"])
    assert.deepStrictEqual(lost({ truth: refreshed, held: ["second"] }), [])
  })

  it("is one that came with the user, too", () => {
    assert.deepStrictEqual(lost({ truth: { live: live("first") } }), ["first"])
  })

  it("is none that Cal.com has given to nobody", () => {
    assert.deepStrictEqual(lost({ truth: { ...refreshed, answers: [first] }, held: ["first"] }), [])
  })

  it("is none that Cal.com does not take any more", () => {
    assert.deepStrictEqual(lost({ truth: { ...refreshed, live: [] }, held: ["first"] }), [])
  })

  it("is none of somebody who was not connected with it in the end", () => {
    const other = { ...first, hash: "other" }
    const truth = { answers: [first, other], live: live("other") }
    assert.deepStrictEqual(lost({ truth, held: ["first"] }), [])
  })

  it.each([
    { at: 950, aliveAt: 950, of: 0, isLost: false },
    { at: 1300, aliveAt: 1300, of: 0, isLost: false },
    // So long before that it should have been stored; unless the process had not had its turn.
    { at: 6300, aliveAt: 6300, of: 0, isLost: true },
    { at: 9000, aliveAt: 6100, of: 0, isLost: false },
    // Its successor was given it, or another one.
    { at: 800, aliveAt: 800, of: 0, isLost: true },
    { at: 1300, aliveAt: 1300, of: 1, isLost: true }
  ])("is one whose process was killed, if that is no excuse: %o", ({ isLost, of, ...when }) => {
    const given = { truth: refreshed, held: ["first"], deaths: [{ slot: of, ...when }] }
    assert.deepStrictEqual(lost(given), isLost ? ["second"] : [])
    assert.lengthOf(judge(evidence(given)).diedWithProcess, isLost ? 0 : 1)
  })

  it("is one that was seen after the death of its process, and not in the end", () => {
    const seen: Spending = { ...spending, at: 9000, presented: "second", issued: undefined }
    const truth = { ...refreshed, spendings: [spending, seen] }
    assert.deepStrictEqual(lost({ truth, deaths: [{ slot: 0, at: 1300, aliveAt: 1300 }] }), ["second"])
  })
})

describe("a reconnect", () => {
  const isWrong = (...given: Parameters<typeof evidence>) => {
    const verdict = judge(evidence(...given))
    assert.strictEqual(verdict.rightReconnects, 1 - verdict.wrongReconnects.length)
    return verdict.wrongReconnects.length === 1
  }
  const revoked: Deed = { calUserId: user, at: 500, what: "revoked" }
  const removed: Deed = { calUserId: user, at: 500, what: "removed" }

  it("is wrong without a reason at Cal.com, and before there is one", () => {
    assert.isTrue(isWrong({ reconnectAt: 2000 }))
    assert.isTrue(isWrong({ deeds: [revoked], reconnectAt: 400 }))
  })

  it("is right after consent was withdrawn, until it was given again", () => {
    assert.isFalse(isWrong({ deeds: [revoked], reconnectAt: 2000 }))
    const again: Deed = { ...connected, at: 1500, hash: "again" }
    assert.isFalse(isWrong({ deeds: [revoked, again], reconnectAt: 1400 }))
    assert.isTrue(isWrong({ deeds: [revoked, again], reconnectAt: 2000 }))
  })

  it("is right when Cal.com's answer was lost, or as long as it is under way", () => {
    assert.isFalse(isWrong({ truth: { spendings: [spending] }, reconnectAt: 2000 }))
    const late = { spendings: [spending], answers: [first, answered(5000)] }
    assert.isFalse(isWrong({ truth: late, reconnectAt: 2000 }))
    assert.isTrue(isWrong({ truth: late, reconnectAt: 6000 }))
  })

  it("is right when the answer died with a process", () => {
    const truth = { spendings: [spending], answers: [first, answered(1200)] }
    assert.isFalse(isWrong({ truth, deaths: [{ slot: 0, at: 1100, aliveAt: 1100 }], reconnectAt: 2000 }))
    assert.isTrue(isWrong({ truth, deaths: [{ slot: 1, at: 1100, aliveAt: 1100 }], reconnectAt: 2000 }))
  })

  it("is right when consent was withdrawn while the answer was under way", () => {
    const truth = { spendings: [spending], answers: [first, answered(5000)] }
    assert.isFalse(isWrong({ truth, deeds: [{ ...revoked, at: 2000 }], reconnectAt: 6000 }))
  })

  it("of a managed user is right only when the account is gone", () => {
    const kind = "managed"
    assert.isTrue(isWrong({ kind, deeds: [revoked], reconnectAt: 2000 }))
    assert.isTrue(isWrong({ kind, truth: { spendings: [spending] }, reconnectAt: 2000 }))
    assert.isFalse(isWrong({ kind, deeds: [removed], reconnectAt: 2000 }))
  })
})
