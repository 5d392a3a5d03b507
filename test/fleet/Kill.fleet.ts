/** A process that dies by `kill -9` at each step of the protocol. */
import { assert, describe, layer } from "@effect/vitest"
import { Clock, Context, Data, Duration, Effect, Equal, Fiber, Layer, Redacted } from "effect"
import { vi } from "vitest"
import * as Sandbox from "../../src/Sandbox.js"
import { hash } from "../../src/Token.js"
import { makeDatabase } from "../support/Postgres.js"
import { latency, type User } from "./Cal.js"
import { Fleet, holdsLivePair, layer as layerFleet, nothingLost, routes, stored } from "./Fleet.js"
import { type Answer, ensureToken, type Node, patiently } from "./Node.js"
import * as Speed from "./Speed.js"
import { asleep, type Signal, type Step } from "./Step.js"
import { until } from "./Until.js"

const speed = 5
const settings = Speed.settings(speed / Speed.slowness)
const lease = Duration.toMillis(settings.lease)
const latePairWait = Duration.toMillis(settings.latePairWait)

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
    const all = [
      ...steps.map((step) => start(step, "SIGKILL")),
      ...[...sleepers.map(({ at }) => at), "fail:before" as const].map((step) => start(step, "SIGSTOP"))
    ]
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

/**
 * How long those wait at most who find the lease of a dead process. A busy database may carry out a claim and answer it
 * after the limit of a statement: nobody owns that claim, and it lapses like the first.
 */
const untilLapsed = (user: User) =>
  Effect.map(Fleet, ({ nodes }) => {
    const lines = nodes.flatMap((node) => node.output().split("\n"))
    const unanswered = lines.filter((line) => line.includes(user.userUlid) && line.includes("is unavailable (claim:"))
    return lease * (1 + unanswered.length)
  })

const allEqual = (answers: ReadonlyArray<Answer>, status: number) => {
  for (const answer of answers) assert.strictEqual(answer.status, status, JSON.stringify(answer.body))
  assert.lengthOf(new Set(answers.map(({ body }) => body["expiresAt"])), 1)
}

/** What is wrong with a user's tokens or with Cal.com, so that a refresh comes to the step. */
const troubles = {
  none: () => Effect.void,
  /** Cal.com refuses the user's refresh token. */
  revoked: (user: User) => Effect.flatMap(Fleet, ({ cal }) => cal.revokeRefreshTokens(user.calUserId)),
  /** The old pair was handed in after a newer one: Cal.com takes only the newer, which is kept as a fallback. */
  displaced: (user: User) =>
    Effect.flatMap(Fleet, ({ cal, connect }) =>
      Effect.flatMap(cal.renewed(user), (renewed) => Effect.zipRight(connect(renewed, true), connect(user, true)))
    ),
  /** The connection breaks once, and nothing took effect: the outcome is unknown. */
  broken: (user: User) =>
    Effect.flatMap(Fleet, ({ cal }) =>
      cal.inject(
        Sandbox.Fault.dropBefore({
          kind: user.kind === "managed" ? "refresh" : "oauth2Refresh",
          calUserId: user.calUserId
        })
      )
    )
}

/** Somebody new with an expired access token and this trouble. */
const newUser = (kind: User["kind"], trouble: keyof typeof troubles = "none") =>
  Effect.gen(function* () {
    const { newUsers } = yield* Fleet
    const [user] = yield* newUsers(kind, 1, true)
    assert(user !== undefined)
    yield* troubles[trouble](user)
    return user
  })

/** What Cal.com saw in all: its own refresh tokens presented, pairs granted for them, reissues. */
interface Seen {
  readonly presented: number
  readonly granted: number
  readonly reissued: number
}

/** What is left to do when a process has died, by what Cal.com and the database know then. */
interface Death {
  readonly at: Step
  readonly kinds: ReadonlyArray<User["kind"]>
  readonly trouble?: keyof typeof troubles
  /** Whether the others have to wait for the lease. */
  readonly waits: boolean
  readonly seen: Seen
}

const both = ["managed", "oauth2"] as const

const recovered: ReadonlyArray<Death> = [
  { at: "claim:before", kinds: both, waits: false, seen: { presented: 1, granted: 1, reissued: 0 } },
  { at: "claim:after", kinds: both, waits: true, seen: { presented: 1, granted: 1, reissued: 0 } },
  { at: "refresh:before", kinds: both, waits: true, seen: { presented: 1, granted: 1, reissued: 0 } },
  { at: "commit:after", kinds: both, waits: false, seen: { presented: 1, granted: 1, reissued: 0 } },
  { at: "refresh:after", kinds: ["managed"], waits: true, seen: { presented: 2, granted: 1, reissued: 1 } },
  { at: "commit:before", kinds: ["managed"], waits: true, seen: { presented: 2, granted: 1, reissued: 1 } },
  // The others begin with the token that is journalled: the refused one again, or the fallback at once.
  {
    at: "spend:before",
    trouble: "displaced",
    kinds: ["managed"],
    waits: true,
    seen: { presented: 3, granted: 1, reissued: 0 }
  },
  {
    at: "spend:after",
    trouble: "displaced",
    kinds: ["oauth2"],
    waits: true,
    seen: { presented: 2, granted: 1, reissued: 0 }
  },
  {
    at: "spend:before",
    trouble: "revoked",
    kinds: ["managed"],
    waits: true,
    seen: { presented: 2, granted: 0, reissued: 1 }
  },
  {
    at: "spend:after",
    trouble: "revoked",
    kinds: ["managed"],
    waits: true,
    seen: { presented: 2, granted: 0, reissued: 1 }
  },
  {
    at: "reissue:before",
    trouble: "revoked",
    kinds: ["managed"],
    waits: true,
    seen: { presented: 2, granted: 0, reissued: 1 }
  },
  {
    at: "reissue:after",
    trouble: "revoked",
    kinds: ["managed"],
    waits: true,
    seen: { presented: 2, granted: 0, reissued: 2 }
  },
  {
    at: "fail:before",
    trouble: "broken",
    kinds: ["managed"],
    waits: true,
    seen: { presented: 2, granted: 1, reissued: 0 }
  },
  // The lease is given back; until the token is probed they wait less than for that.
  {
    at: "fail:after",
    trouble: "broken",
    kinds: ["oauth2"],
    waits: false,
    seen: { presented: 2, granted: 1, reissued: 0 }
  }
]

const cases = recovered.flatMap(({ kinds, trouble = "none", ...death }) =>
  kinds.map((kind) => ({ ...death, trouble, kind }))
)

/** Deaths after which only the person can help, and what they are told. */
const lost = [
  { at: "refresh:after", trouble: "none", waits: true, cause: "rotationLost", presented: 2, granted: 1 },
  { at: "commit:before", trouble: "none", waits: true, cause: "rotationLost", presented: 2, granted: 1 },
  // Nobody can tell what came of the dead process' call.
  { at: "fail:before", trouble: "revoked", waits: true, cause: "rotationLost", presented: 2, granted: 0 },
  { at: "fail:after", trouble: "revoked", waits: false, cause: "revoked", presented: 1, granted: 0 }
] as const

const probes = [
  { at: "probe:before", kind: "managed", seen: { presented: 1, granted: 1, reissued: 0 } },
  { at: "probe:before", kind: "oauth2", seen: { presented: 1, granted: 1, reissued: 0 } },
  { at: "probe:after", kind: "managed", seen: { presented: 2, granted: 1, reissued: 1 } }
] as const

/** Who sleeps where; `seen` includes what is sent after waking up. */
const sleepers: ReadonlyArray<{
  readonly at: Step
  readonly kind: User["kind"]
  readonly trouble: keyof typeof troubles
  readonly seen: Seen
}> = [
  { at: "claim:before", kind: "managed", trouble: "none", seen: { presented: 1, granted: 1, reissued: 0 } },
  // Who slept that long sends nothing any more, from whatever step it was about to.
  { at: "claim:after", kind: "oauth2", trouble: "none", seen: { presented: 1, granted: 1, reissued: 0 } },
  { at: "spend:before", kind: "managed", trouble: "revoked", seen: { presented: 2, granted: 0, reissued: 1 } },
  { at: "spend:after", kind: "managed", trouble: "revoked", seen: { presented: 2, granted: 0, reissued: 1 } },
  { at: "spend:after", kind: "oauth2", trouble: "displaced", seen: { presented: 2, granted: 1, reissued: 0 } },
  // Only a request that was on its way already is sent. A reissue so late kills the stored pair: its answer is kept.
  { at: "refresh:before", kind: "managed", trouble: "none", seen: { presented: 2, granted: 1, reissued: 0 } },
  { at: "refresh:before", kind: "oauth2", trouble: "none", seen: { presented: 2, granted: 1, reissued: 0 } },
  { at: "refresh:after", kind: "managed", trouble: "none", seen: { presented: 2, granted: 1, reissued: 1 } },
  { at: "probe:before", kind: "oauth2", trouble: "broken", seen: { presented: 3, granted: 1, reissued: 0 } },
  { at: "probe:after", kind: "managed", trouble: "broken", seen: { presented: 3, granted: 1, reissued: 1 } },
  { at: "reissue:before", kind: "managed", trouble: "revoked", seen: { presented: 2, granted: 0, reissued: 2 } },
  { at: "reissue:after", kind: "managed", trouble: "revoked", seen: { presented: 2, granted: 0, reissued: 2 } },
  { at: "commit:before", kind: "managed", trouble: "none", seen: { presented: 2, granted: 1, reissued: 1 } },
  { at: "commit:after", kind: "managed", trouble: "none", seen: { presented: 1, granted: 1, reissued: 0 } },
  { at: "fail:before", kind: "managed", trouble: "broken", seen: { presented: 2, granted: 1, reissued: 0 } },
  { at: "fail:after", kind: "oauth2", trouble: "broken", seen: { presented: 2, granted: 1, reissued: 0 } }
]

/** Every death that is tried; whoever dies of a probe does so after somebody else. */
const steps: ReadonlyArray<Step> = [
  ...[...cases, ...lost].map(({ at }) => at),
  ...probes.flatMap(({ at }) => ["claim:after", at] as const)
]

// Nearly all the time they wait for leases to lapse.
vi.setConfig({ maxConcurrency: 12, testTimeout: 60_000 * Speed.slowness })

describe.each(routes)("$name", (route) => {
  describe.skipIf(route.isMissing).concurrent("kill -9", () => {
    layer(Layer.provideMerge(layerDoomed, layerFleet({ route, database: makeDatabase, nodes: 3, speed })), {
      excludeTestServices: true,
      timeout: Duration.seconds(90 * Speed.slowness)
    })((it) => {
      it.scoped.each(cases)(
        "$at, $kind user, trouble: $trouble: the others finish",
        ({ at, kind, seen, trouble, waits }) =>
          Effect.gen(function* () {
            const { cal } = yield* Fleet
            const user = yield* newUser(kind, trouble)
            yield* dieOf(user, at)
            const { answers, took } = yield* askOthers(user)
            allEqual(answers, 200)
            assert.deepStrictEqual(yield* cal.refreshes(user), seen)
            const calls = Duration.toMillis(latency) * (seen.presented + seen.reissued)
            // Nobody waits for a late pair: Cal.com takes a token of each OAuth2 user, and reissues for managed ones.
            assert.isBelow(took, (waits ? yield* untilLapsed(user) : 0) + calls + slack)
            yield* nothingLost([user])
          })
      )

      it.scoped.each(lost)(
        "$at, oauth2 user, trouble: $trouble: no live pair is left, which one probe at most finds out",
        ({ at, cause, granted, presented, trouble, waits }) =>
          Effect.gen(function* () {
            const { cal } = yield* Fleet
            const user = yield* newUser("oauth2", trouble)
            yield* dieOf(user, at)
            const { answers, took } = yield* askOthers(user)
            allEqual(answers, 409)
            // An OAuth2 user is told to reconnect after an unknown outcome, or after the refusal of a displaced token, only
            // when the pair that somebody may have got for the token has not come for a while.
            const waited = waits ? (yield* untilLapsed(user)) + latePairWait : 0
            assert.isBelow(took, waited + 2 * Duration.toMillis(latency) + slack)
            const { status } = yield* stored(user)
            assert.deepInclude(status, { _tag: "ReauthorizationRequired", cause })
            allEqual((yield* askOthers(user)).answers, 409)
            assert.deepStrictEqual(yield* cal.refreshes(user), { presented, granted, reissued: 0 })
          })
      )

      it.scoped.each(probes)(
        "$at, $kind user: who looks after the dead dies too, and the others finish",
        ({ at, kind, seen }) =>
          Effect.gen(function* () {
            const { cal } = yield* Fleet
            const user = yield* newUser(kind)
            yield* dieOf(user, "claim:after")
            yield* dieOf(user, at)
            const { answers, took } = yield* askOthers(user)
            allEqual(answers, 200)
            assert.deepStrictEqual(yield* cal.refreshes(user), seen)
            const calls = Duration.toMillis(latency) * (seen.presented + seen.reissued)
            assert.isBelow(took, (yield* untilLapsed(user)) + calls + slack)
            yield* nothingLost([user])
          })
      )

      it.scoped.each(sleepers)(
        "$at, $kind user, trouble: $trouble: who sleeps until the others are done changes nothing when it wakes up",
        ({ at, kind, seen, trouble }) =>
          Effect.gen(function* () {
            const { cal } = yield* Fleet
            const user = yield* newUser(kind, trouble)
            const node = yield* doomed(at, "SIGSTOP")
            const asking = yield* Effect.fork(patiently(ensureToken(node, user)))
            yield* node.until(new RegExp(asleep))
            const { answers } = yield* askOthers(user)
            allEqual(answers, 200)
            const before = yield* stored(user)
            yield* node.kill("SIGCONT")
            allEqual([...answers, yield* Fiber.join(asking)], 200)
            // The caller is answered from the row, and does not wait for what was on its way.
            const isSent = Effect.map(cal.refreshes(user), (sent) => Equal.equals(Data.struct(sent), Data.struct(seen)))
            yield* until("what was on its way was sent", isSent, Duration.millis(slack))
            yield* until("its answer was kept", holdsLivePair(user), Duration.millis(slack))
            const after = yield* stored(user)
            assert.strictEqual(hash(after.pair.refreshToken), hash(before.pair.refreshToken))
            assert.deepStrictEqual(yield* cal.refreshes(user), seen)
            yield* nothingLost([user])
          })
      )

      it.scoped(
        "fail:before, oauth2 user who connects again: who sleeps meanwhile does not take the new pair for dead",
        () =>
          Effect.gen(function* () {
            const { cal, connect } = yield* Fleet
            const user = yield* newUser("oauth2", "revoked")
            const node = yield* doomed("fail:before", "SIGSTOP")
            const asking = yield* Effect.fork(patiently(ensureToken(node, user)))
            yield* node.until(new RegExp(asleep))
            const renewed = yield* cal.renewed(user)
            yield* connect(renewed, false)
            yield* node.kill("SIGCONT")
            allEqual([yield* Fiber.join(asking), ...(yield* askOthers(user)).answers], 200)
            const { pair } = yield* stored(user)
            assert.strictEqual(Redacted.value(pair.refreshToken), renewed.refreshToken)
            assert.deepStrictEqual(yield* cal.refreshes(user), { presented: 1, granted: 0, reissued: 0 })
            yield* nothingLost([user])
          })
      )
    })
  })
})
