/** Processes that work on the same users at the same time. */
import { assert, describe, layer } from "@effect/vitest"
import { Duration, Effect, Fiber, Redacted } from "effect"
import { vi } from "vitest"
import * as Sandbox from "../../src/Sandbox.js"
import { hash } from "../../src/Token.js"
import * as Migrations from "../../src/TokenStorage/Postgres/Migrations.js"
import { makeDatabase } from "../support/Postgres.js"
import * as SilentConnections from "./SilentConnections.js"
import { all200, Fleet, layer as layerFleet, nothingLost, refreshedOnce, routes, stored } from "./Fleet.js"
import { accessToken, ensureToken, given, isReady, me, type Node } from "./Node.js"
import type { User } from "./Cal.js"
import * as Load from "./Load.js"
import { slowness } from "./Speed.js"
import { until } from "./Until.js"

const callersPerProcess = 100

/** This release's migrations. */
const ours = Object.keys(Migrations.migrations).map((key) => {
  const [id = "", ...name] = key.split("_")
  return { migration_id: Number(id), name: name.join("_") }
})

/** Every process's share of the callers, all of whom ask at once. */
const everybodyAsks = <A, E>(
  users: ReadonlyArray<User>,
  ask: (node: Node, user: User, caller: number) => Effect.Effect<A, E>
) =>
  Effect.flatMap(Fleet, ({ nodes }) =>
    Effect.forEach(
      nodes.slice(0, 4).flatMap((node) => Array.from({ length: callersPerProcess }, (_, caller) => ({ node, caller }))),
      ({ caller, node }) => {
        const user = users[caller % users.length]
        return user === undefined
          ? Effect.dieMessage("no users")
          : Effect.map(ask(node, user, Math.floor(caller / users.length)), (answer) => ({ answer, user }))
      },
      { concurrency: "unbounded" }
    )
  )

vi.setConfig({ testTimeout: 60_000 * slowness })

describe.each(routes)("$name", (route) => {
  describe.skipIf(route.isMissing)("four processes, 400 callers", () => {
    layer(layerFleet({ route, database: makeDatabase, nodes: 6, speed: 1, databaseTimeout: 30 }), {
      excludeTestServices: true,
      timeout: Duration.seconds(90 * slowness)
    })((it) => {
      it.effect("six processes that start at once on an empty database all become ready", () =>
        Effect.gen(function* () {
          const { nodes, sql } = yield* Fleet
          for (const node of nodes) assert.isTrue(yield* isReady(node))
          const applied = yield* sql<{ migration_id: number; name: string }>`
            select migration_id, name from cal_tokens.migrations order by migration_id`
          assert.deepStrictEqual(applied, ours)
        })
      )

      it.effect("callers of expired tokens cause one refresh per user and get the same answer", () =>
        Effect.gen(function* () {
          const { newUsers } = yield* Fleet
          const users = [...(yield* newUsers("managed", 4, true)), ...(yield* newUsers("oauth2", 4, true))]
          const ways = [ensureToken, accessToken, me]
          const answers = yield* everybodyAsks(users, (node, user, caller) => {
            const way = ways[caller % ways.length] ?? me
            return way(node, user)
          })
          assert.lengthOf(answers, 400)
          all200(answers.map(({ answer }) => answer))
          for (const { answer, user } of answers) {
            const { pair } = yield* stored(user)
            const { accessToken: token, data, expiresAt } = answer.body
            if (data !== undefined) assert.strictEqual((data as { readonly id: number }).id, user.calUserId)
            else assert.strictEqual(expiresAt, new Date(pair.accessTokenExpiresAt).toISOString())
            if (typeof token === "string") assert.strictEqual(hash(Redacted.make(token)), hash(pair.accessToken))
          }
          yield* refreshedOnce(users)
        })
      )

      it.effect.each([
        { kind: "managed", status: 498 },
        { kind: "oauth2", status: 401 }
      ] as const)("tokens that Cal.com refuses before their time cause one refresh per user: %o", ({ kind, status }) =>
        Effect.gen(function* () {
          const { cal, newUsers } = yield* Fleet
          const users = yield* newUsers(kind, 5)
          for (const user of users) yield* cal.expireAccessTokens(user.calUserId)
          yield* cal.resetCalls
          const answers = yield* everybodyAsks(users, me)
          all200(answers.map(({ answer }) => answer))
          for (const { answer, user } of answers) {
            assert.strictEqual((answer.body["data"] as { readonly id: number }).id, user.calUserId)
          }
          const refused = (yield* cal.calls).filter((call) => call.status === status)
          assert.isAbove(refused.length, users.length, "Cal.com refused more than one request per user")
          yield* refreshedOnce(users)
          yield* nothingLost(users)
        })
      )

      it.scoped("a process that is told to stop under load answers whoever it let in, and the others go on", () =>
        Effect.gen(function* () {
          const { cal, newUsers, nodes } = yield* Fleet
          const [leaving, ...staying] = nodes.toReversed()
          assert(leaving !== undefined)
          const users = [...(yield* newUsers("managed", 3)), ...(yield* newUsers("oauth2", 3))]
          const flying = [...(yield* newUsers("managed", 3, true)), ...(yield* newUsers("oauth2", 3, true))]
          const load = yield* Load.start(leaving, users, 24)
          const elsewhere = yield* Effect.forEach(staying, (node) => Load.start(node, users, 4))
          yield* until(
            "under load",
            Effect.sync(() => load.answers.length >= 60),
            Duration.seconds(30 * slowness)
          )

          for (const { calUserId } of flying) yield* cal.inject(Sandbox.Fault.delayAfter("1 second", { calUserId }))
          const waiting = yield* Effect.fork(
            Effect.forEach(flying, (user) => ensureToken(leaving, user), { concurrency: "unbounded" })
          )
          const refreshes = Effect.forEach(flying, cal.refreshes)
          const isGranted = Effect.map(refreshes, (all) => all.every(({ granted }) => granted === 1))
          yield* until("Cal.com has granted the pairs", isGranted, Duration.seconds(10 * slowness))
          const [took, exit] = yield* Effect.timed(Effect.zipRight(leaving.kill("SIGTERM"), leaving.exit))
          assert.deepStrictEqual(exit, { code: 0, signal: null }, leaving.output())
          assert.isBelow(Duration.toMillis(took), 10_000 * slowness)
          all200(yield* Fiber.join(waiting))
          yield* refreshedOnce(flying)

          yield* load.stop
          for (const { body, status } of load.answers) {
            if (status !== 200) assert.deepStrictEqual([status, body["code"]], [503, "ShuttingDown"])
          }
          // Connections that the system had not handed over yet may break; one that was handed over never does, unless its
          // caller (this process, which may be held up) says nothing for a second.
          const { connections, requests, responses } = given(leaving)
          const asked = connections - SilentConnections.reported(leaving.output())
          assert.deepStrictEqual([asked, requests, responses], Array(3).fill(leaving.answers()))
          for (const { answers, failures, stop } of elsewhere) {
            yield* stop
            all200(answers)
            assert.deepStrictEqual(failures, [])
          }
          yield* nothingLost([...users, ...flying])
        })
      )
    })
  })
})
