/** The database goes away under the fleet, and comes back. */
import { assert, describe, layer } from "@effect/vitest"
import { Clock, Context, Duration, Effect, Fiber, Layer, Redacted, Schedule } from "effect"
import { vi } from "vitest"
import * as Sandbox from "../../src/Sandbox.js"
import { makeServer, type PostgresServer } from "../support/PostgresServer.js"
import type { User } from "./Cal.js"
import { all200, Fleet, layer as layerFleet, nothingLost, refreshedOnce, type Route, routes, stored } from "./Fleet.js"
import { ensureToken, isReady, type Node, patiently } from "./Node.js"
import * as Load from "./Load.js"
import { slowness } from "./Speed.js"
import { until } from "./Until.js"

/** A PostgreSQL that a test may stop. */
class Server extends Context.Tag("test/Server")<Server, PostgresServer>() {}

const layerServer = Layer.scoped(
  Server,
  Effect.acquireRelease(
    Effect.promise(() => makeServer()),
    (server) => Effect.promise(() => server.remove())
  )
)

const layerOn = (route: Route) =>
  Layer.unwrapEffect(
    Effect.map(Server, ({ url }) =>
      layerFleet({ route, database: Effect.succeed(Redacted.make(url)), nodes: 3, speed: 4 })
    )
  ).pipe(Layer.provideMerge(layerServer))

/** For how long the database is away. */
const outage = Duration.seconds(20)

/** The longest pause between two offers of a pair that is held, and then some. */
const landed = Duration.seconds(10 * slowness)

/** Until a process notices that the database is away, or back. */
const noticed = Duration.seconds(10 * slowness)

const allReady = (expected: boolean) =>
  Effect.flatMap(Fleet, ({ nodes }) =>
    Effect.map(Effect.forEach(nodes, isReady, { concurrency: "unbounded" }), (answers) =>
      answers.every((answer) => answer === expected)
    )
  )

/** Callers of these processes who ask for these users all the time; in the end, all of them must have been answered. */
const askAllTheTime = (nodes: ReadonlyArray<Node>, users: ReadonlyArray<User>) =>
  Effect.gen(function* () {
    const paced = (node: Node, user: User) => Effect.delay(ensureToken(node, user), "50 millis")
    const loads = yield* Effect.forEach(nodes, (node) => Load.start(node, users, users.length, paced))
    return Effect.forEach(loads, ({ answers, failures, stop }) =>
      Effect.map(stop, () => {
        all200(answers)
        assert.deepStrictEqual(failures, [])
      })
    )
  })

/** Lets every process know these users. */
const warm = (users: ReadonlyArray<User>) =>
  Effect.flatMap(Fleet, ({ nodes }) =>
    Effect.forEach(nodes, (node) =>
      Effect.map(
        Effect.forEach(users, (user) => ensureToken(node, user)),
        all200
      )
    )
  )

/** Whether the stored pairs are others than the users came with. */
const areStored = (users: ReadonlyArray<User>) =>
  Effect.map(
    Effect.forEach(users, (user) => Effect.map(stored(user), ({ pair }) => ({ pair, user }))),
    (all) => all.every(({ pair, user }) => Redacted.value(pair.refreshToken) !== user.refreshToken)
  )

const delayed = (user: User, by: Duration.DurationInput) =>
  Sandbox.Fault.delayAfter(by, {
    kind: user.kind === "managed" ? "refresh" : "oauth2Refresh",
    calUserId: user.calUserId
  })

vi.setConfig({ testTimeout: 90_000 * slowness })

describe.each(routes)("$name", (route) => {
  describe.skipIf(route.isMissing)("the database", () => {
    layer(layerOn(route), { excludeTestServices: true, timeout: Duration.seconds(90 * slowness) })((it) => {
      it.scoped("its connections are cut, again and again, while tokens are refreshed: each once", () =>
        Effect.gen(function* () {
          const { newUsers, nodes, sql } = yield* Fleet
          const users = [...(yield* newUsers("managed", 8, true)), ...(yield* newUsers("oauth2", 8, true))]
          const valid = yield* newUsers("managed", 2)
          for (const node of nodes)
            for (const user of valid) assert.strictEqual((yield* ensureToken(node, user)).status, 200)
          const served = yield* askAllTheTime(nodes, valid)
          let cuts = 0
          const cutting = yield* sql<{ pid: number }>`
            select pg_terminate_backend(pid) from pg_stat_activity
            where datname = current_database() and pid <> pg_backend_pid()
          `.pipe(
            Effect.map((rows) => (cuts += rows.length)),
            Effect.ignore,
            Effect.repeat(Schedule.spaced("60 millis")),
            Effect.fork
          )
          const answers = yield* Effect.forEach(
            users.entries(),
            ([number, user]) =>
              Effect.forEach(nodes, (node) => patiently(ensureToken(node, user)), { concurrency: "unbounded" }).pipe(
                Effect.delay(Duration.millis(150 * number))
              ),
            { concurrency: "unbounded" }
          ).pipe(Effect.fork)
          yield* Effect.sleep(Duration.millis(150 * (users.length + 2)))
          yield* Fiber.interrupt(cutting)
          for (const each of yield* Fiber.join(answers)) all200(each)
          yield* served
          assert.isAbove(cuts, 20)
          yield* refreshedOnce(users)
          yield* nothingLost([...users, ...valid])
        })
      )

      it.scoped("it is away for 20 s while Cal.com grants pairs: they are served, and stored when it is back", () =>
        Effect.gen(function* () {
          const server = yield* Server
          const { cal, newUsers, nodes } = yield* Fleet
          const [first, ...others] = nodes
          assert(first !== undefined)
          const valid = [...(yield* newUsers("managed", 2)), ...(yield* newUsers("oauth2", 1))]
          const flying = [...(yield* newUsers("managed", 3, true)), ...(yield* newUsers("oauth2", 3, true))]
          const contested = [...(yield* newUsers("managed", 2, true)), ...(yield* newUsers("oauth2", 2, true))]
          const asleep = [...(yield* newUsers("managed", 1, true)), ...(yield* newUsers("oauth2", 1, true))]
          yield* warm(valid)
          yield* until("ready", allReady(true), noticed)

          const inFlight = [...flying, ...contested]
          for (const user of inFlight) yield* cal.inject(delayed(user, "800 millis"))
          const callers = yield* Effect.fork(
            Effect.forEach([...inFlight, ...inFlight], (user) => ensureToken(first, user), { concurrency: "unbounded" })
          )
          const refreshes = Effect.forEach(inFlight, cal.refreshes)
          yield* until(
            "Cal.com has granted the pairs",
            Effect.map(refreshes, (all) => all.every((it) => it.granted === 1)),
            Duration.seconds(5 * slowness)
          )
          yield* Effect.promise(() => server.stop())
          const stoppedAt = yield* Clock.currentTimeMillis
          all200(yield* Fiber.join(callers))

          const served = yield* askAllTheTime(nodes, valid)
          const held = yield* askAllTheTime([first], inFlight)
          for (const node of others) {
            for (const user of [...inFlight, ...asleep]) {
              const { body, status } = yield* ensureToken(node, user)
              assert.deepStrictEqual([status, body["code"]], [503, "StorageUnavailable"])
            }
          }
          yield* until("every process says that it is not ready", allReady(false), noticed)
          const away = (yield* Clock.currentTimeMillis) - stoppedAt
          yield* Effect.sleep(Math.max(0, Duration.toMillis(outage) - away))
          yield* served

          // The processes that do not hold these pairs ask for them as soon as they can.
          const contesting = yield* Effect.fork(
            Effect.forEach(
              others.flatMap((node) => contested.map((user) => [node, user] as const)),
              ([node, user]) => patiently(ensureToken(node, user)),
              { concurrency: "unbounded" }
            )
          )
          yield* Effect.promise(() => server.start())
          yield* until("every process is ready again", allReady(true), noticed)
          yield* until("the pairs are stored", areStored(flying), landed)
          yield* held
          yield* refreshedOnce(flying)
          // All that these processes can find out is that the stored token was spent: they wait for the holder's offer.
          all200(yield* Fiber.join(contesting))
          for (const node of nodes) {
            all200(
              yield* Effect.forEach([...valid, ...flying, ...contested, ...asleep], (user) => ensureToken(node, user))
            )
          }
          yield* refreshedOnce(asleep)
          yield* nothingLost([...valid, ...flying, ...contested, ...asleep])
        })
      )
    })
  })
})
