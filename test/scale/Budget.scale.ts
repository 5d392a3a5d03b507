/**
 * Cal.com's rate limit is the fleet's budget: what its answers say is left is the counter that all processes share. Ten
 * thousand users who are due at once are worked off by eight processes, and nobody who waits meets a 429.
 */
import { assert, describe } from "@effect/vitest"
import { Duration, Effect, Ref, Schema, TestClock } from "effect"
import { Sandbox } from "../../src/Sandbox.js"
import { UserUlid } from "../../src/Token.js"
import * as StorageTap from "../support/StorageTap.js"
import * as Workers from "../support/Workers.js"
import * as World from "../support/World.js"

const count = { users: 10_000, processes: 8, waiting: 25 } as const
const minute = 60_000
/** Who looks less often leaves no more to others, and the test clock has less to do. */
const config = { aheadInterval: Duration.seconds(6), memoryMaxEntries: 20_000 }

describe("ten thousand users who are due at once, and eight processes", () => {
  World.scenario(
    "are worked off within the budget, and who waits never meets a 429",
    Effect.gen(function* () {
      const sandbox = yield* Sandbox
      const { raw } = yield* StorageTap.StorageTap
      const began = yield* sandbox.now
      const all = Array.from({ length: count.users + 1000 }, (_, n) =>
        Schema.decodeSync(UserUlid)(`01ARZ3NDEKTSV4RRFF${String(n).padStart(8, "0")}`)
      )
      const people = all.slice(count.users)
      const circuitClient = World.clientOptions().managed?.clientId ?? ""
      yield* Effect.forEach(all, (userUlid, index) =>
        Effect.gen(function* () {
          const { accessToken, accessTokenExpiresAt, calUserId, refreshToken } = yield* sandbox.grantManaged({
            email: `user${index}@example.com`
          })
          yield* raw.connect({
            userUlid,
            connection: { _tag: "ManagedUser", clientId: circuitClient, calUserId },
            pair: { accessToken, refreshToken, accessTokenExpiresAt, issuedAt: began },
            // All of them in the very same moment; those who come by themselves were not active.
            schedule: index < count.users ? { aheadAt: began + 20 * minute, usedAt: began } : { aheadAt: began }
          })
        })
      )
      yield* Ref.update(sandbox.switches, (switches) => ({
        ...switches,
        rateLimits: { ...switches.rateLimits, enabled: true }
      }))
      yield* sandbox.resetCalls
      const nodes = yield* Effect.forEach(Array.from({ length: count.processes }), () => Workers.make(config))
      yield* TestClock.adjust("20 minutes")
      const told = new Map<string, number>()
      let person = 0
      let minutes = 0
      const left = Effect.map(
        raw.list({ limit: count.users }),
        (rows) => rows.filter(({ accessTokenExpiresAt }) => accessTokenExpiresAt <= began + 60 * minute).length
      )
      while ((yield* left) > 0) {
        assert.isBelow(++minutes, 34, `${yield* left} are left`)
        for (let n = 0; n < count.waiting; n++) {
          // Wherever in the minute they come.
          const user = people[person++ % people.length] ?? World.user()
          const tokens = nodes[n % nodes.length]?.tokens
          if (tokens === undefined) continue
          const exit = yield* Effect.either(World.passTime(tokens.refresh(user, { forceRefresh: true }), 30_000))
          const word = exit._tag === "Left" ? exit.left._tag : exit.right.refreshed ? "refreshed" : "not refreshed"
          told.set(word, (told.get(word) ?? 0) + 1)
          yield* TestClock.adjust(Duration.millis(minute / count.waiting))
        }
      }
      assert.deepStrictEqual([...told], [["refreshed", minutes * count.waiting]])
      const calls = yield* sandbox.calls
      assert.isEmpty(calls.filter(({ status }) => status === 429))
      // Nobody is refreshed twice, and the budget is made use of: 375 a minute.
      assert.strictEqual(yield* sandbox.count("refresh"), count.users + minutes * count.waiting)
      assert.isAtMost(minutes, 32)
    })
  )
})
