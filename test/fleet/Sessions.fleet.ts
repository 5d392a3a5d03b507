/** User sessions in several processes: ended in all of them, and refused where nobody can be asked. */
import { assert, describe, layer } from "@effect/vitest"
import { Clock, Context, Duration, Effect, Layer, Redacted } from "effect"
import { vi } from "vitest"
import { makeDatabase } from "../support/Postgres.js"
import { makeServer, type PostgresServer } from "../support/PostgresServer.js"
import type { User } from "./Cal.js"
import { Fleet, layer as layerFleet, routes } from "./Fleet.js"
import { me, meWith, type Node } from "./Node.js"
import { settings, slowness } from "./Speed.js"
import { until } from "./Until.js"

const create = (node: Node, { userUlid }: User, options: object = {}) =>
  Effect.map(node.ask("POST", "/api/cal/sessions", { userUlid, ttl: 3600, ...options }), ({ body, status }) => {
    assert.strictEqual(status, 200, JSON.stringify(body))
    return String(body["session"])
  })

const statuses = (nodes: ReadonlyArray<Node>, session: string) =>
  Effect.forEach(nodes, (node) => Effect.map(meWith(node, session), ({ status }) => status), {
    concurrency: "unbounded"
  })

const allAre = (nodes: ReadonlyArray<Node>, session: string, expected: number) =>
  Effect.map(statuses(nodes, session), (all) => all.every((status) => status === expected))

/** What ends the sessions of a user, asked of one process. */
const ends = {
  "DELETE sessions": (node, { userUlid }) => node.ask("DELETE", `/api/cal/sessions/${userUlid}`),
  "a disconnect": (node, { userUlid }) => node.ask("DELETE", `/api/cal/connections/${userUlid}`),
  "a connect": (node, { accessToken, calUserId, kind, refreshToken, userUlid }) =>
    Effect.flatMap(Clock.currentTimeMillis, (now) =>
      node.ask("PUT", `/api/cal/connections/${userUlid}`, {
        ...{ kind, calUserId, accessToken, refreshToken },
        accessTokenExpiresAt: now + Duration.toMillis("20 minutes")
      })
    )
} satisfies Record<string, (node: Node, user: User) => ReturnType<Node["ask"]>>

const howTheyEnd = Object.entries(ends)

/** A user of whom all of these processes have just read, with a session that they take. */
const known = (nodes: ReadonlyArray<Node>) =>
  Effect.gen(function* () {
    const { newUsers } = yield* Fleet
    const [user] = yield* newUsers("managed", 1)
    assert(user !== undefined)
    const [first] = nodes
    assert(first !== undefined)
    const session = yield* create(first, user)
    assert.deepStrictEqual(
      yield* statuses(nodes, session),
      nodes.map(() => 200)
    )
    return { user, session, first }
  })

/** A port where nothing listens. */
const deaf = { DATABASE_DIRECT_URL: "postgres://nobody@127.0.0.1:1/none" }

/** A PostgreSQL that a test may stop. */
class Server extends Context.Tag("test/Server")<Server, PostgresServer>() {}

const layerServer = Layer.scoped(
  Server,
  Effect.acquireRelease(
    Effect.promise(() => makeServer()),
    (server) => Effect.promise(() => server.remove())
  )
)

vi.setConfig({ testTimeout: 60_000 * slowness })

describe.each(routes)("$name", (route) => {
  describe.skipIf(route.isMissing)("four processes", () => {
    layer(layerFleet({ route, database: makeDatabase, nodes: 4, speed: 1 }), {
      excludeTestServices: true,
      timeout: Duration.seconds(90 * slowness)
    })((it) => {
      it.scoped.each(howTheyEnd)("%s in one is known to all within a second", ([, end]) =>
        Effect.gen(function* () {
          const { nodes } = yield* Fleet
          // What they listen to may have been connected a moment ago only.
          yield* Effect.sleep("1 second")
          const { first, session, user } = yield* known(nodes)
          const other = yield* known(nodes)
          assert.strictEqual((yield* end(first, user)).status, 200)
          yield* until("nobody takes the session", allAre(nodes, session, 401), Duration.seconds(slowness))
          // Of another user's sessions nothing ends, and what has ended stays so.
          assert.isTrue(yield* allAre([...nodes, ...nodes], session, 401))
          assert.isTrue(yield* allAre(nodes, other.session, 200))
        })
      )

      it.scoped.each(howTheyEnd)("%s is known within memoryMaxAge to those who hear nothing", ([, end]) =>
        Effect.gen(function* () {
          const { nodes, start } = yield* Fleet
          const hearing = nodes.slice(0, 1)
          const silent = yield* Effect.forEach([1, 2, 3, 4], () => start(deaf), { concurrency: "unbounded" })
          const { first, session, user } = yield* known([...hearing, ...silent])
          assert.strictEqual((yield* end(first, user)).status, 200)
          const endedAt = yield* Clock.currentTimeMillis
          // They do hear nothing.
          assert.include(yield* statuses(silent, session), 200)
          const longest = Duration.sum(settings(1 / slowness).memoryMaxAge, Duration.millis(500 * slowness))
          yield* until("nobody takes the session", allAre(silent, session, 401), longest)
          assert.isAbove((yield* Clock.currentTimeMillis) - endedAt, 1000)
          assert.isTrue(yield* allAre([...silent, ...silent], session, 401))
          // Who makes the next one reads what it has to be.
          const [asked] = silent
          assert(asked !== undefined)
          if ((yield* asked.ask("GET", `/api/cal/connections/${user.userUlid}`)).status !== 200) return
          assert.isTrue(yield* allAre([...hearing, ...silent], yield* create(asked, user), 200))
        })
      )
    })
  })

  describe.skipIf(route.isMissing)("with the database away", () => {
    const fleet = Layer.unwrapEffect(
      Effect.map(Server, ({ url }) =>
        layerFleet({ route, database: Effect.succeed(Redacted.make(url)), nodes: 4, speed: 4 })
      )
    ).pipe(Layer.provideMerge(layerServer))
    layer(fleet, { excludeTestServices: true, timeout: Duration.seconds(90 * slowness) })((it) => {
      it.scoped("sessions are refused where API keys are served, and taken when it is back", () =>
        Effect.gen(function* () {
          const server = yield* Server
          const { nodes } = yield* Fleet
          const { session, user } = yield* known(nodes)
          for (const node of nodes) assert.strictEqual((yield* me(node, user)).status, 200)
          yield* Effect.promise(() => server.stop())
          const refused = allAre(nodes, session, 503)
          yield* until("every process refuses the session", refused, Duration.seconds(10 * slowness))
          for (const node of nodes) {
            assert.strictEqual((yield* me(node, user)).status, 200)
            const { body, status } = yield* meWith(node, session)
            assert.deepStrictEqual([status, body["code"]], [503, "StorageUnavailable"])
          }
          assert.isTrue(yield* refused)
          yield* Effect.promise(() => server.start())
          yield* until("all take it again", allAre(nodes, session, 200), Duration.seconds(20 * slowness))
        })
      )
    })
  })
})
