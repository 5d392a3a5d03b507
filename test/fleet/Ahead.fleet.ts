/** Refreshes that nobody waits for, by real processes on one database, some of which die of it. */
import { assert, describe, layer } from "@effect/vitest"
import { Clock, Duration, Effect, Exit, Scope } from "effect"
import { vi } from "vitest"
import { makeDatabase } from "../support/Postgres.js"
import type { User } from "./Cal.js"
import { all200, Fleet, layer as layerFleet, nothingLost, refreshedOnce, routes, stored } from "./Fleet.js"
import { ensureToken, patiently } from "./Node.js"
import { slowness } from "./Speed.js"
import { until } from "./Until.js"

vi.setConfig({ testTimeout: 180_000 * slowness })

const isRefreshed = (user: User) =>
  Effect.zipWith(
    stored(user),
    Clock.currentTimeMillis,
    ({ pair }, now) => pair.accessTokenExpiresAt > now + Duration.toMillis("10 minutes")
  )

/** Without anybody's asking, within a time that many of them would not do one after the other. */
const untilRefreshed = (users: ReadonlyArray<User>, atMost: Duration.DurationInput) =>
  until("all are refreshed", Effect.every(users, isRefreshed), Duration.times(atMost, slowness))

const newUsers = (count: number) =>
  Effect.gen(function* () {
    const { newUsers } = yield* Fleet
    return [...(yield* newUsers("managed", count, true)), ...(yield* newUsers("oauth2", count, true))]
  })

// What a pooler could be in the way of is tried with claims of other kinds.
describe.each(routes.slice(0, 1))("$name", (route) => {
  describe.skipIf(route.isMissing)("what is due", () => {
    layer(layerFleet({ route, database: makeDatabase, nodes: 3, speed: 5, refreshAhead: true }), {
      excludeTestServices: true,
      timeout: Duration.seconds(90 * slowness)
    })((it) => {
      it.scoped("is refreshed once, by whichever process, and then nobody waits", () =>
        Effect.gen(function* () {
          const { nodes } = yield* Fleet
          const users = yield* newUsers(40)
          yield* untilRefreshed(users, "20 seconds")
          yield* refreshedOnce(users)
          const answers = yield* Effect.forEach(users, (user, index) => {
            const node = nodes[index % nodes.length]
            return node === undefined ? Effect.dieMessage("no node") : patiently(ensureToken(node, user))
          })
          all200(answers)
          yield* refreshedOnce(users)
        })
      )

      it.scoped("is done by others when a process dies between its claim and the call, and nothing is lost", () =>
        Effect.gen(function* () {
          const { nodes, startDoomed } = yield* Fleet
          // Nobody else is there at first, so that it has its turn.
          yield* Effect.forEach(nodes, (node) => node.kill("SIGSTOP"))
          const scope = yield* Effect.acquireRelease(Scope.make(), (scope) => Scope.close(scope, Exit.void))
          const users = yield* Effect.acquireUseRelease(
            Effect.forEach(nodes.slice(0, 1), (node) => node.kill("SIGCONT")),
            () => newUsers(10),
            () => Effect.forEach(nodes.slice(0, 1), (node) => node.kill("SIGSTOP"))
          )
          const doomed = yield* Scope.extend(startDoomed("refresh:before"), scope)
          const { signal } = yield* Effect.timeoutFail(doomed.exit, {
            duration: Duration.seconds(30 * slowness),
            onTimeout: () => new Error(`it did not die: ${doomed.output()}`)
          })
          assert.strictEqual(signal, "SIGKILL")
          yield* Effect.forEach(nodes, (node) => node.kill("SIGCONT"))
          yield* untilRefreshed(users, "60 seconds")
          yield* nothingLost(users)
        })
      )
    })
  })
})
