/** A small run of `npm run load`: that it finds nothing where nothing is wrong, and that it would find it. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Bundle from "../fleet/Bundle.js"
import { slowness, speedVariable } from "../fleet/Speed.js"
import { makeDatabase } from "../support/Postgres.js"
import * as Plot from "./Plot.js"
import type { Settings } from "./Result.js"
import * as Run from "./Run.js"
import * as Scripts from "./Scripts.js"
import * as Table from "./Table.js"

const programs = Effect.gen(function* () {
  return { service: yield* Bundle.make(), ...(yield* Scripts.bundle("load-test")) }
})

/** What the times of `TokenConfig` are divided by. */
const speed = 5

/** Tokens of which each user in use needs another one on the way, and far more mishaps than usual. */
const settings: Settings = {
  users: 300,
  inUse: 0.5,
  seconds: 10 * slowness,
  rate: 40 / slowness,
  processes: 4,
  lifetime: 10 * slowness,
  latency: 200,
  mishaps: 0.1,
  late: (12_000 / speed) * slowness,
  seed: 1
}

const run = (behindItsBack?: (world: Run.World) => Effect.Effect<void>) =>
  Effect.gen(function* () {
    return yield* Run.run({
      settings,
      env: {
        [speedVariable]: String(speed / slowness),
        DATABASE_STATEMENT_TIMEOUT: "30 s",
        DATABASE_CONNECT_TIMEOUT: "30 s"
      },
      programs: yield* programs,
      database: makeDatabase,
      progress: () => {},
      ...(behindItsBack === undefined ? {} : { behindItsBack })
    })
  }).pipe(Effect.scoped)

describe("a fleet under load", () => {
  it.live("loses nothing, and nobody has to reconnect who need not", () =>
    Effect.gen(function* () {
      const result = yield* run()
      assert.deepStrictEqual(result.verdict.lostPairs, [])
      assert.deepStrictEqual(result.verdict.wrongReconnects, [])
      assert.deepStrictEqual(result.badExits, [])
      assert.isTrue(Table.isSound(result))
      // And that is not because nothing happened.
      for (const [kind, { answers }] of Object.entries(result.kinds)) assert.isAbove(answers["200"] ?? 0, 0, kind)
      assert.isAbove(result.refreshes.granted, 50)
      assert.isAbove(
        Object.values(result.mishaps).reduce((sum, n) => sum + n, 0),
        5
      )
      assert.isAbove(result.verdict.rightReconnects, 0)
      assert.deepStrictEqual(
        result.events.map(({ what }) => what),
        [
          "process 1 is killed (kill -9)",
          "process 1 is there again",
          "process 2 is told to stop",
          "process 2 is there again"
        ]
      )
      assert.deepStrictEqual(result.processes.map(({ name }) => name.padEnd(2)).sort(), [
        "1 ",
        "1'",
        "2 ",
        "2'",
        "3 ",
        "4 "
      ])
      for (const { rss } of result.processes) if (!Number.isNaN(rss.start)) assert.isAbove(rss.start, 20)
      const svg = Plot.render(result)
      assert.match(svg, /^<svg [\s\S]*<\/svg>\s*$/)
      for (const { what } of result.events) assert.include(svg, what)
    })
  )

  it.live("is found out when it loses something, and when Cal.com takes back what nobody was told of", () =>
    Effect.gen(function* () {
      let [revoked, forgotten] = [0, 0]
      const result = yield* run(({ cal, sql, users }) =>
        Effect.gen(function* () {
          const asked = users.find(({ kind }) => kind === "oauth2")
          const away = users.findLast(({ kind }) => kind === "oauth2")
          if (asked === undefined || away === undefined) return yield* Effect.dieMessage("nobody there")
          revoked = asked.calUserId
          forgotten = away.calUserId
          yield* cal("revoke", revoked)
          yield* Effect.orDie(sql`delete from cal_tokens.connection where user_ulid = ${away.userUlid}`)
        })
      )
      const users = (some: ReadonlyArray<{ readonly calUserId: number }>) => [
        ...new Set(some.map(({ calUserId }) => calUserId))
      ]
      assert.deepStrictEqual(users(result.verdict.wrongReconnects), [revoked])
      assert.deepStrictEqual(users(result.verdict.lostPairs), [forgotten])
      assert.isFalse(Table.isSound(result))
    })
  )
})
