/** A process that is frozen for 12 s in the middle of a refresh, longer than a call may take, and wakes with dead sockets. */
import { assert, describe, layer } from "@effect/vitest"
import { Context, Duration, Effect, Fiber, Layer, Redacted } from "effect"
import { vi } from "vitest"
import * as Sandbox from "../../src/Sandbox.js"
import { makeDatabase } from "../support/Postgres.js"
import * as SilentProxy from "../support/SilentProxy.js"
import type { User } from "./Cal.js"
import { all200, Fleet, layer as layerFleet, nothingLost, routes } from "./Fleet.js"
import { ensureToken, patiently } from "./Node.js"
import { slowness } from "./Speed.js"
import { until } from "./Until.js"

/** Of the fleet, for ways to it of one's own. */
class Database extends Context.Tag("test/Database")<Database, Redacted.Redacted>() {}

const frozen = Duration.seconds(12)

const soon = Duration.seconds(20 * slowness)

/** What becomes of a socket meanwhile: the other side says that it is closed, or nobody ever says anything again. */
type End = "reset" | "silent"

const both = ["managed", "oauth2"] as const

const ways: ReadonlyArray<readonly [User["kind"], End]> = [
  ["managed", "reset"],
  ["oauth2", "reset"],
  ["oauth2", "silent"]
]

/** The same URL, through a proxy of its own. */
const through = (url: string) =>
  Effect.gen(function* () {
    const way = new URL(url)
    const proxy = yield* SilentProxy.make(Number(way.port))
    way.port = String(proxy.port)
    return { ...proxy, url: way.href }
  })

/** Somebody with an expired token, and a process of their own whose sockets can be cut. */
const setup = (kind: User["kind"], database: Redacted.Redacted) =>
  Effect.gen(function* () {
    const { cal, newUsers, nodes, start } = yield* Fleet
    const [toCal, toDatabase] = [yield* through(cal.env.CAL_API_URL), yield* through(Redacted.value(database))]
    const node = yield* start({ CAL_API_URL: toCal.url, DATABASE_URL: toDatabase.url })
    const [user] = yield* newUsers(kind, 1, true)
    assert(user !== undefined)
    const granted = until(
      "Cal.com has granted a pair",
      Effect.map(cal.refreshes(user), (seen) => seen.granted === 1),
      soon
    )
    /** Cal.com grants at once, and takes a second until it answers. */
    const slowly = cal.inject(
      Sandbox.Fault.delayAfter("1 second", {
        kind: kind === "managed" ? "refresh" : "oauth2Refresh",
        calUserId: user.calUserId
      })
    )
    const ask = Effect.fork(patiently(ensureToken(node, user)))
    /** Everybody is answered, whoever they ask, and nothing is lost; what Cal.com saw. */
    const wake = (asking: Fiber.Fiber<Effect.Effect.Success<ReturnType<typeof ensureToken>>, unknown>) =>
      Effect.gen(function* () {
        const others = yield* Effect.fork(Effect.forEach(nodes, (other) => patiently(ensureToken(other, user))))
        yield* Effect.sleep(frozen)
        yield* node.kill("SIGCONT")
        all200([yield* Fiber.join(asking), ...(yield* Fiber.join(others))])
        yield* nothingLost([user])
        all200([yield* patiently(ensureToken(node, user))])
        return yield* cal.refreshes(user)
      })
    return { ask, granted, node, slowly, toCal, toDatabase, wake }
  })

const cut = (proxy: SilentProxy.SilentProxy, end: End) =>
  Effect.sync(() => {
    if (end === "reset") proxy.reset()
    else proxy.silence()
    proxy.heal()
  })

vi.setConfig({ maxConcurrency: 4, testTimeout: 120_000 * slowness })

describe.each(routes.filter(({ isPooled }) => !isPooled))("$name", (route) => {
  describe.concurrent("frozen for 12 s", () => {
    // As long as in production: what counts is that 12 s are more than a call has, and less than a lease.
    const fleet = Layer.unwrapScoped(
      Effect.map(makeDatabase, (database) =>
        Layer.merge(
          layerFleet({ route, database: Effect.succeed(database), nodes: 1, speed: 1 }),
          Layer.succeed(Database, database)
        )
      )
    )
    layer(fleet, { excludeTestServices: true, timeout: Duration.seconds(90 * slowness) })((it) => {
      it.scoped.each(both)("Cal.com's answer lies in a socket that was reset, %s user: it is read", (kind) =>
        Effect.gen(function* () {
          const { ask, granted, node, slowly, toCal, wake } = yield* setup(kind, yield* Database)
          yield* slowly
          const asking = yield* ask
          yield* granted
          yield* node.kill("SIGSTOP")
          // All of it has arrived at the frozen process by then.
          yield* Effect.sleep("3 seconds")
          toCal.reset()
          assert.deepStrictEqual(yield* wake(asking), { presented: 1, granted: 1, reissued: 0 })
        })
      )

      it.scoped("Cal.com's answer is gone with the socket, managed user: a pair is issued anew", () =>
        Effect.gen(function* () {
          const { ask, granted, node, slowly, toCal, wake } = yield* setup("managed", yield* Database)
          yield* slowly
          const asking = yield* ask
          yield* granted
          yield* node.kill("SIGSTOP")
          toCal.silence()
          yield* cut(toCal, "reset")
          assert.deepStrictEqual(yield* wake(asking), { presented: 2, granted: 1, reissued: 1 })
        })
      )

      it.scoped.each(ways)(
        "the request has not reached Cal.com, %s user, the socket %s: it is sent again",
        ([kind, end]) =>
          Effect.gen(function* () {
            const { ask, node, toCal, wake } = yield* setup(kind, yield* Database)
            toCal.silence()
            const asking = yield* ask
            yield* until(
              "it has connected",
              Effect.sync(() => toCal.opened() > 0),
              soon
            )
            yield* node.kill("SIGSTOP")
            yield* cut(toCal, end)
            assert.deepStrictEqual(yield* wake(asking), { presented: 1, granted: 1, reissued: 0 })
          })
      )

      it.scoped.each(ways)("the database's sockets, %s user, %s: the new pair is stored", ([kind, end]) =>
        Effect.gen(function* () {
          const { ask, granted, node, slowly, toDatabase, wake } = yield* setup(kind, yield* Database)
          yield* slowly
          const asking = yield* ask
          yield* granted
          yield* node.kill("SIGSTOP")
          yield* cut(toDatabase, end)
          assert.deepStrictEqual(yield* wake(asking), { presented: 1, granted: 1, reissued: 0 })
        })
      )
    })
  })
})
