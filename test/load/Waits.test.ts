/** Which callers count as having waited for a refresh. */
import * as Net from "node:net"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { portOf } from "../fleet/Port.js"
import * as Requests from "./Requests.js"
import type { Answer, Spending } from "./Truth.js"
import { type Ensure, isTelling, waits } from "./Waits.js"

const settings = { latency: 200, lifetime: 100 }

/** Two pairs of one user: one of 100 s that is given at 0, and the next one at 90 s. */
const pair = (at: number): Answer => {
  return { calUserId: 1, hash: String(at), begunAt: at, at, expiresAt: at + 100_000, slot: 0 }
}
const answers = [pair(0), pair(90_000)]

const call = (at: number, fault?: string): Spending => {
  return { calUserId: 1, at, presented: undefined, issued: undefined, fault }
}
const truth = { answers, spendings: [call(0), call(25_000, "lost"), call(90_000)] }

const ensure = (sentAt: number, took: number, expiresAt: number | undefined, isActive = true): Ensure => {
  return { calUserId: 1, isActive, sentAt, took, expiresAt }
}

describe("a caller waited", () => {
  it.each([
    { why: "no", asked: ensure(50_000, 10, 100_000), waited: 0, heldUp: 0 },
    { why: "a pair that came later", asked: ensure(89_900, 150, 190_000), waited: 1, heldUp: 0 },
    { why: "it is new, and was there", asked: ensure(90_100, 10, 190_000), waited: 0, heldUp: 0 },
    { why: "none", asked: ensure(50_000, 10, undefined), waited: 1, heldUp: 0 },
    { why: "no, though it took that long", asked: ensure(60_000, 200, 100_000), waited: 0, heldUp: 0 },
    { why: "perhaps: a refresh was under way", asked: ensure(89_900, 200, 100_000), waited: 0, heldUp: 1 },
    { why: "perhaps: one had just failed", asked: ensure(50_000, 200, 100_000), waited: 0, heldUp: 1 }
  ])("if the answer says so: $why", ({ asked, heldUp, waited }) => {
    assert.deepStrictEqual(waits([asked], truth, settings).active, { asked: 1, waited, heldUp })
  })

  it.scopedLive.each([
    { server: "never answers", isTold: true, does: () => undefined },
    { server: "died", isTold: false, does: (socket: Net.Socket) => socket.resetAndDestroy() },
    { server: "fails", isTold: true, does: (socket: Net.Socket) => socket.end("HTTP/1.1 500 X\r\n\r\n") }
  ])("if nothing else is known, unless the process is gone: one that $server", ({ does, isTold }) =>
    Effect.gen(function* () {
      const server = Net.createServer((socket) => socket.on("error", () => undefined).once("data", () => does(socket)))
      yield* Effect.addFinalizer(() => Effect.sync(() => void server.close()))
      const { close, send } = Requests.make(1, 100)
      yield* Effect.addFinalizer(() => close)
      const url = `http://127.0.0.1:${yield* portOf(server)}/`
      assert.strictEqual(isTelling(yield* send({ method: "GET", url, headers: {} })), isTold)
    })
  )

  it("and met the pair that was there", () => {
    const asked = [10_000, 80_000, 89_999, 90_001, 189_999, 190_000].map((sentAt) => ensure(sentAt, 300, undefined))
    const [one, two] = [1, 2].map((n) => ({ asked: n, waited: n, heldUp: 0 }))
    assert.deepStrictEqual(waits(asked, truth, settings).met, {
      fresh: two,
      expiringSoon: two,
      due: one,
      expired: one
    })
  })

  it("but does not count for users in use if it is none of them", () => {
    const { active, met } = waits([ensure(200_000, 300, undefined, false)], truth, settings)
    assert.strictEqual(active.asked, 0)
    assert.deepStrictEqual(met.expired, { asked: 1, waited: 1, heldUp: 0 })
  })
})
