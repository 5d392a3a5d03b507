/** A process that dies by `kill -9` at each step of the protocol. */
import { assert, describe, layer } from "@effect/vitest"
import { Clock, Context, Duration, Effect, Fiber, Layer } from "effect"
import { vi } from "vitest"
import { hash } from "../../src/Token.js"
import { makeDatabase } from "../support/Postgres.js"
import { latency, type User } from "./Cal.js"
import { Fleet, layer as layerFleet, nothingLost, routes, stored } from "./Fleet.js"
import { type Answer, ensureToken, type Node, patiently } from "./Node.js"
import * as Speed from "./Speed.js"
import { asleep, type Signal, type Step } from "./Step.js"

const speed = 5
const lease = Duration.toMillis(Speed.settings(speed / Speed.slowness).lease)

/** What a busy machine may add, in milliseconds. Less than a lease: who need not wait for one shows it. */
const slack = 5000 * Speed.slowness

/** Processes that are to die, by their step. They have started before anything is measured. */
class Doomed extends Context.Tag("test/Doomed")<Doomed, Map<string, Array<Node>>>() {}

const doomed = (step: Step, signal: Signal = "SIGKILL") =>
  Effect.map(Doomed, (all) => {
    const node = all.get(`${signal} ${step}`)?.pop()
    assert(node !== undefined, "a process was started for this")
    return node
  })

const layerDoomed = Layer.scoped(
  Doomed,
  Effect.gen(function* () {
    const { startDoomed } = yield* Fleet
    const doomed = new Map<string, Array<Node>>()
    const start = (step: Step, signal: Signal) =>
      Effect.map(startDoomed(step, signal), (node) => {
        const key = `${signal} ${step}`
        doomed.set(key, [...(doomed.get(key) ?? []), node])
      })
    const all = [...steps.map((step) => start(step, "SIGKILL")), ...sleepers.map(({ at }) => start(at, "SIGSTOP"))]
    yield* Effect.all(all, { concurrency: 4, discard: true })
    return doomed
  })
)

/** A process is asked for a token until it has died of it at this step. */
const dieOf = (user: User, step: Step) =>
  Effect.gen(function* () {
    const node = yield* doomed(step)
    yield* Effect.fork(Effect.ignore(patiently(ensureToken(node, user))))
    const exit = yield* Effect.timeoutFail(node.exit, {
      duration: Duration.seconds(30 * Speed.slowness),
      onTimeout: () => `it did not die: ${node.output()}`
    })
    assert.strictEqual(exit.signal, "SIGKILL", node.output())
  })

/** Three callers at each of the other processes, from now on; how long it takes until all of them are answered. */
const askOthers = (user: User) =>
  Effect.gen(function* () {
    const { nodes } = yield* Fleet
    const startedAt = yield* Clock.currentTimeMillis
    const answers = yield* Effect.forEach(
      [...nodes, ...nodes, ...nodes],
      (node) => patiently(ensureToken(node, user)),
      { concurrency: "unbounded" }
    )
    return { answers, took: (yield* Clock.currentTimeMillis) - startedAt }
  })

const allEqual = (answers: ReadonlyArray<Answer>, status: number) => {
  for (const answer of answers) assert.strictEqual(answer.status, status, JSON.stringify(answer.body))
  assert.lengthOf(new Set(answers.map(({ body }) => body["expiresAt"])), 1)
}

/** What is left to do when a process has died, by what Cal.com and the database know then. */
interface Death {
  readonly at: Step
  readonly kinds: ReadonlyArray<User["kind"]>
  /** Whether the others have to wait for the lease. */
  readonly waits: boolean
  /** What Cal.com saw in all: refresh tokens presented, pairs granted for them, reissues. */
  readonly seen: { readonly presented: number; readonly granted: number; readonly reissued: number }
}

const both = ["managed", "oauth2"] as const

const recovered: ReadonlyArray<Death> = [
  { at: "claim:before", kinds: both, waits: false, seen: { presented: 1, granted: 1, reissued: 0 } },
  { at: "claim:after", kinds: both, waits: true, seen: { presented: 1, granted: 1, reissued: 0 } },
  { at: "refresh:before", kinds: both, waits: true, seen: { presented: 1, granted: 1, reissued: 0 } },
  { at: "commit:after", kinds: both, waits: false, seen: { presented: 1, granted: 1, reissued: 0 } },
  { at: "refresh:after", kinds: ["managed"], waits: true, seen: { presented: 2, granted: 1, reissued: 1 } },
  { at: "commit:before", kinds: ["managed"], waits: true, seen: { presented: 2, granted: 1, reissued: 1 } }
]

const cases = recovered.flatMap(({ kinds, ...death }) => kinds.map((kind) => ({ ...death, kind })))

const lost = ["refresh:after", "commit:before"] as const

const reissues = ["reissue:before", "reissue:after"] as const

const probes = [
  { at: "probe:before", kind: "managed", seen: { presented: 1, granted: 1, reissued: 0 } },
  { at: "probe:before", kind: "oauth2", seen: { presented: 1, granted: 1, reissued: 0 } },
  { at: "probe:after", kind: "managed", seen: { presented: 2, granted: 1, reissued: 1 } }
] as const

const sleepers = [
  { at: "commit:before", kind: "managed" },
  { at: "refresh:after", kind: "managed" },
  { at: "refresh:before", kind: "managed" },
  { at: "refresh:before", kind: "oauth2" }
] as const

/** Every death that is tried; whoever dies of a probe does so after somebody else. */
const steps: ReadonlyArray<Step> = [
  ...cases.map(({ at }) => at),
  ...lost,
  ...reissues,
  ...probes.flatMap(({ at }) => ["claim:after", at] as const)
]

vi.setConfig({ maxConcurrency: 6, testTimeout: 60_000 * Speed.slowness })

describe.each(routes)("$name", (route) => {
  describe.skipIf(route.isMissing).concurrent("kill -9", () => {
    layer(Layer.provideMerge(layerDoomed, layerFleet({ route, database: makeDatabase, nodes: 3, speed })), {
      excludeTestServices: true,
      timeout: Duration.seconds(90 * Speed.slowness)
    })((it) => {
      it.scoped.each(cases)("$at, $kind user: the others finish", ({ at, kind, seen, waits }) =>
        Effect.gen(function* () {
          const { cal, newUsers } = yield* Fleet
          const users = yield* newUsers(kind, 1, true)
          for (const user of users) {
            yield* dieOf(user, at)
            const { answers, took } = yield* askOthers(user)
            allEqual(answers, 200)
            assert.deepStrictEqual(yield* cal.refreshes(user), seen)
            const calls = Duration.toMillis(latency) * (seen.presented + seen.reissued)
            assert.isBelow(took, (waits ? lease : 0) + calls + slack)
          }
          yield* nothingLost(users)
        })
      )

      it.scoped.each(lost)(
        "%s, oauth2 user: the answer with the pair is lost for good, which one probe finds out",
        (at) =>
          Effect.gen(function* () {
            const { cal, newUsers } = yield* Fleet
            for (const user of yield* newUsers("oauth2", 1, true)) {
              yield* dieOf(user, at)
              const { answers, took } = yield* askOthers(user)
              allEqual(answers, 409)
              assert.isBelow(took, lease + 2 * Duration.toMillis(latency) + slack)
              const { status } = yield* stored(user)
              assert.deepInclude(status, { _tag: "ReauthorizationRequired", cause: "rotationLost" })
              allEqual((yield* askOthers(user)).answers, 409)
              assert.deepStrictEqual(yield* cal.refreshes(user), { presented: 2, granted: 1, reissued: 0 })
            }
          })
      )

      it.scoped.each(reissues)("%s, managed user: the others finish", (at) =>
        Effect.gen(function* () {
          const { cal, newUsers } = yield* Fleet
          const users = yield* newUsers("managed", 1, true)
          for (const user of users) {
            yield* cal.revokeRefreshTokens(user.calUserId)
            yield* dieOf(user, at)
            const { answers, took } = yield* askOthers(user)
            allEqual(answers, 200)
            assert.isBelow(took, lease + 2 * Duration.toMillis(latency) + slack)
            const reissued = at === "reissue:before" ? 1 : 2
            assert.deepStrictEqual(yield* cal.refreshes(user), { presented: 2, granted: 0, reissued })
          }
          yield* nothingLost(users)
        })
      )

      it.scoped.each(probes)(
        "$at, $kind user: who looks after the dead dies too, and the others finish",
        ({ at, kind, seen }) =>
          Effect.gen(function* () {
            const { cal, newUsers } = yield* Fleet
            const users = yield* newUsers(kind, 1, true)
            for (const user of users) {
              yield* dieOf(user, "claim:after")
              yield* dieOf(user, at)
              const { answers, took } = yield* askOthers(user)
              allEqual(answers, 200)
              assert.deepStrictEqual(yield* cal.refreshes(user), seen)
              assert.isBelow(took, lease + Duration.toMillis(latency) * (seen.presented + seen.reissued) + slack)
            }
            yield* nothingLost(users)
          })
      )

      it.scoped.each(sleepers)(
        "$at, $kind user: who sleeps longer than its lease changes nothing when it wakes up",
        ({ at, kind }) =>
          Effect.gen(function* () {
            const { newUsers } = yield* Fleet
            const users = yield* newUsers(kind, 1, true)
            for (const user of users) {
              const node = yield* doomed(at, "SIGSTOP")
              const asking = yield* Effect.fork(patiently(ensureToken(node, user)))
              yield* node.until(new RegExp(asleep))
              const { answers } = yield* askOthers(user)
              allEqual(answers, 200)
              const before = yield* stored(user)
              yield* node.kill("SIGCONT")
              allEqual([...answers, yield* Fiber.join(asking)], 200)
              const after = yield* stored(user)
              assert.strictEqual(hash(after.pair.refreshToken), hash(before.pair.refreshToken))
            }
            yield* nothingLost(users)
          })
      )
    })
  })
})
