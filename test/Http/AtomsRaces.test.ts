/**
 * Somebody with access tokens of a user that leaked, at Atoms' doors of two processes at once, in the moment in which the
 * user's owner ends them at one of the two. Each process has a memory of its own, and one PostgreSQL is everything that they
 * share, with and without notifications.
 */
import { assert, describe, it } from "@effect/vitest"
import { Clock, type Context, Effect, Fiber, Layer, Redacted, TestClock } from "effect"
import * as Sandbox from "../../src/Sandbox.js"
import * as Postgres from "../../src/TokenStorage/Postgres.js"
import { type Call, call, keys, layerOn, origin } from "../support/HttpWorld.js"
import { layerKeys } from "../support/Keys.js"
import { makeDatabase } from "../support/Postgres.js"
import * as World from "../support/World.js"

const user = World.user()

const layerProcess = (url: Redacted.Redacted, listens: boolean) =>
  layerOn(
    World.node().pipe(
      Layer.provideMerge(Postgres.layer({ clock: "effect", ...(listens ? { listenUrl: url } : {}) })),
      Layer.provide(Postgres.layerConnection({ url, poolSize: 4 })),
      Layer.provide(layerKeys())
    )
  )

type Process = Context.Context<Layer.Layer.Success<ReturnType<typeof layerProcess>>>

const at = (process: Process, request: Call) => Effect.provide(call(request), process)

const post = (path: string, body: object): Call => ({
  method: "POST",
  path: `/api/cal/${path}`,
  key: keys.manage,
  body
})

/** The tokens that somebody has buy these. */
const buy = (processes: ReadonlyArray<Process>, tokens: ReadonlyArray<string>) =>
  Effect.map(
    Effect.all(
      processes.flatMap((process) =>
        tokens.map((token) =>
          at(process, { path: "/api/cal/atoms/refresh", headers: { origin, authorization: `Bearer ${token}` } })
        )
      ),
      { concurrency: "unbounded" }
    ),
    (answers) => answers.flatMap(({ json, status }) => (status === 200 ? [json["accessToken"] as string] : []))
  )

/** Time in which sockets have their say. */
const tick = Effect.withClock(Effect.sleep("1 millis"), Clock.make())

/** While sockets and the database do their work, time goes on. */
const meanwhile = <A, E, R>(work: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const fiber = yield* Effect.fork(work)
    while (fiber.unsafePoll() === null) {
      yield* tick
      yield* TestClock.adjust("20 millis")
    }
    return yield* Fiber.join(fiber)
  })

const cures: Readonly<Record<string, (calUserId: number) => Effect.Effect<Call, never, Sandbox.Sandbox>>> = {
  "a reissue": () => Effect.succeed(post("refresh-managed-user-token", { userUlid: user, reissue: true })),
  "a new pair": (calUserId) =>
    Effect.gen(function* () {
      const sandbox = yield* Sandbox.Sandbox
      const grant = yield* sandbox.grantManaged({ calUserId })
      return {
        method: "PUT",
        path: `/api/cal/connections/${user}`,
        key: keys.manage,
        body: {
          kind: "managed",
          calUserId,
          accessToken: Redacted.value(grant.accessToken),
          refreshToken: Redacted.value(grant.refreshToken),
          accessTokenExpiresAt: grant.accessTokenExpiresAt
        }
      }
    }),
  "a disconnect": () => Effect.succeed({ method: "DELETE", path: `/api/cal/connections/${user}`, key: keys.manage }),
  "the end of all sessions": () =>
    Effect.succeed({ method: "DELETE", path: `/api/cal/sessions/${user}`, key: keys.manage })
}

describe("what leaked buys nothing any more, in no process,", () => {
  for (const listens of [true, false]) {
    for (const [name, cure] of Object.entries(cures)) {
      it.scoped(
        `from the moment of ${name}, ${listens ? "heard of" : "unheard"}`,
        () =>
          Effect.gen(function* () {
            yield* TestClock.setTime(World.epoch)
            const url = yield* makeDatabase
            const one: Process = yield* Layer.build(layerProcess(url, listens))
            const two: Process = yield* Layer.build(layerProcess(url, listens))
            const both = [one, two]
            // Listening keeps a connection alive, which makes hours long.
            for (const age of listens ? (["40 seconds"] as const) : (["40 seconds", "61 minutes"] as const)) {
              for (const lead of listens ? [1] : [0, 2]) {
                const { accessToken, calUserId } = yield* Effect.provide(World.obtainManaged(user), one)
                yield* TestClock.adjust("40 seconds")
                yield* meanwhile(at(two, post("refresh-token", { userUlid: user, forceRefresh: true })))
                const { json } = yield* at(two, { path: `/api/cal/access-token/${user}`, key: keys.all })
                const leaked = [Redacted.value(accessToken), json["accessToken"] as string]
                yield* TestClock.adjust(age)
                // They do buy, up to then.
                if (age === "40 seconds") assert.lengthOf(yield* meanwhile(buy(both, leaked.slice(0, 1))), 2)

                const request = yield* cure(calUserId)
                const [bought, cured] = yield* meanwhile(
                  Effect.all([buy(both, leaked), Effect.zipRight(Effect.repeatN(tick, lead), at(one, request))], {
                    concurrency: "unbounded"
                  })
                )
                assert.strictEqual(cured.status, 200, JSON.stringify(cured.json))
                const all = [...new Set([...leaked, ...bought])]
                assert.deepStrictEqual(yield* meanwhile(buy(both, all)), [])
                if (name === "a disconnect") continue
                const now = (yield* meanwhile(at(one, { path: `/api/cal/access-token/${user}`, key: keys.all }))).json
                if (name !== "the end of all sessions") assert.notInclude(all, now["accessToken"])
                // However often the user is refreshed after that.
                yield* TestClock.adjust("61 minutes")
                yield* meanwhile(at(two, post("refresh-token", { userUlid: user, forceRefresh: true })))
                assert.deepStrictEqual(yield* meanwhile(buy(both, all)), [])
                assert.strictEqual(
                  (yield* at(one, { method: "DELETE", path: `/api/cal/connections/${user}`, key: keys.manage })).status,
                  200
                )
              }
            }
          }).pipe(Effect.provide(Sandbox.layer())),
        60_000
      )
    }
  }
})
