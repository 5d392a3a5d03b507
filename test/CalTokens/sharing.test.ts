/** Any number of callers, in one process and in several: one refresh, everybody's result, nobody's loss. */
import { assert, describe, it } from "@effect/vitest"
import { Context, Duration, Effect, Exit, Fiber, Layer, TestClock } from "effect"
import { Purpose } from "../../src/TokenStorage.js"
import { CalClient } from "../../src/CalClient.js"
import { CalTokens, layer as layerTokens } from "../../src/CalTokens.js"
import { Fault, layer as layerSandbox, Sandbox } from "../../src/Sandbox.js"
import * as StorageTap from "../support/StorageTap.js"
import * as World from "../support/World.js"

const { many, reveal, scenario, user } = World

describe("one process", () => {
  scenario(
    "S1: 500 callers find an expired token: one refresh, one read, one token",
    Effect.gen(function* () {
      const { grant, sandbox, tap, tokens } = yield* World.expired("managed")
      yield* tap.reset
      const answers = yield* many(500, tokens.ensureValid(user()))
      assert.strictEqual(yield* sandbox.count("refresh"), 1)
      assert.strictEqual(new Set(answers.map((answer) => reveal(answer.accessToken))).size, 1)
      assert.isTrue(answers.every((answer) => answer.refreshed))
      assert.isTrue(yield* sandbox.isAccessLive(answers[0]!.accessToken))
      assert.isFalse(yield* sandbox.isLive(grant.refreshToken))
      assert.deepStrictEqual([tap.count("find"), tap.count("claim"), tap.count("commit")], [1, 1, 1])
      assert.isTrue(yield* World.isStoredPairLive())
    })
  )

  scenario(
    "S1: callers of different users do not wait for each other",
    Effect.gen(function* () {
      const tokens = yield* CalTokens
      const sandbox = yield* Sandbox
      const slow = yield* World.connectManaged(user(1))
      yield* World.connectManaged(user(2))
      yield* TestClock.adjust("61 minutes")
      yield* sandbox.inject(Fault.delayAfter("7 seconds", { kind: "refresh", calUserId: slow.calUserId }))
      const first = yield* World.start(tokens.ensureValid(user(1)))
      const second = yield* World.timed(tokens.ensureValid(user(2)))
      assert.strictEqual(second.took, 0)
      assert.isNull(first.unsafePoll())
      yield* World.untilDone(first, 10_000)
    })
  )

  scenario(
    "S3: the first caller is interrupted: its 50 joiners get the result of its refresh, which is stored once",
    Effect.gen(function* () {
      const { sandbox, tap, tokens } = yield* World.expired("managed")
      yield* sandbox.inject(Fault.delayAfter("3 seconds", { kind: "refresh" }))
      const first = yield* World.start(tokens.ensureValid(user()))
      const joiners = yield* World.start(many(50, tokens.ensureValid(user())))
      yield* TestClock.adjust("1 second")
      assert.isTrue(Exit.isInterrupted(yield* Fiber.interrupt(first)))
      yield* TestClock.adjust("2 seconds")
      const answers = yield* Fiber.join(joiners)
      assert.strictEqual(new Set(answers.map(({ accessToken }) => reveal(accessToken))).size, 1)
      assert.strictEqual(yield* sandbox.count("refresh"), 1)
      assert.strictEqual(tap.count("commit"), 1)
      assert.isTrue(yield* World.isStoredPairLive())
    })
  )

  scenario(
    "S3: all callers are interrupted before the answer: the pair is stored all the same",
    Effect.gen(function* () {
      const { sandbox, tokens } = yield* World.expired("oauth2")
      yield* sandbox.inject(Fault.delayAfter("3 seconds", { kind: "oauth2Refresh" }))
      const callers = yield* World.start(many(20, tokens.ensureValid(user())))
      yield* Fiber.interrupt(callers)
      yield* TestClock.adjust("3 seconds")
      assert.isTrue(yield* World.isStoredPairLive())
      const { refreshed } = yield* tokens.ensureValid(user())
      assert.isFalse(refreshed)
      assert.strictEqual(yield* sandbox.count("oauth2Refresh"), 1)
    })
  )

  scenario(
    "S4: a joiner's own deadline of 100 ms ends that joiner alone",
    Effect.gen(function* () {
      const { sandbox, tokens } = yield* World.expired("managed")
      yield* sandbox.inject(Fault.delayAfter("2 seconds", { kind: "refresh" }))
      const first = yield* World.start(tokens.ensureValid(user()))
      const hurried = yield* World.start(World.timed(Effect.timeoutOption(tokens.ensureValid(user()), "100 millis")))
      const { result, took } = yield* World.landed(hurried, 1000)
      assert.strictEqual(result._tag, "None")
      assert.strictEqual(took, 100)
      assert.isNull(first.unsafePoll())
      assert.isTrue((yield* World.landed(first, 2000)).refreshed)
      assert.strictEqual(yield* sandbox.count("refresh"), 1)
    })
  )

  scenario(
    "a shared failure is everybody's, and forgotten: the next caller tries anew",
    Effect.gen(function* () {
      const { sandbox, tokens } = yield* World.expired("managed")
      yield* sandbox.inject(Fault.refuseConnection({ kind: "refresh" }))
      const errors = yield* many(30, Effect.flip(tokens.ensureValid(user())))
      assert.deepStrictEqual([...new Set(errors.map((error) => error._tag))], ["CalUnavailable"])
      yield* TestClock.adjust("5 seconds")
      assert.isTrue((yield* tokens.ensureValid(user())).refreshed)
    })
  )

  scenario(
    "a caller is told to come back after 25 s, and the refresh it waited for goes on",
    Effect.gen(function* () {
      const { sandbox, tap, tokens } = yield* World.expired("managed")
      yield* tap.around("commit", { before: Effect.sleep("40 seconds") })
      const caller = yield* World.start(World.timed(Effect.flip(tokens.ensureValid(user()))))
      const { result, took } = yield* World.landed(caller, 30_000)
      assert.strictEqual(result._tag, "CalUnavailable")
      assert.strictEqual(took, 25_000)
      yield* TestClock.adjust("15 seconds")
      assert.isTrue(yield* World.isStoredPairLive())
      yield* tokens.ensureValid(user())
      assert.strictEqual(yield* sandbox.count("refresh"), 1)
    })
  )

  scenario(
    "a forced refresh joins the running one, and is satisfied by a pair stored after it was asked for",
    Effect.gen(function* () {
      const { sandbox, tokens } = yield* World.connected("managed")
      yield* sandbox.inject(Fault.delayAfter("2 seconds", { kind: "refresh" }))
      const forced = yield* World.start(many(10, tokens.ensureValid(user(), { forceRefresh: true })))
      yield* TestClock.adjust("2 seconds")
      const answers = yield* Fiber.join(forced)
      assert.isTrue(answers.every(({ refreshed }) => refreshed))
      assert.strictEqual(yield* sandbox.count("refresh"), 1)
    })
  )

  scenario(
    "a forced refresh never answers with the pair it found",
    Effect.gen(function* () {
      const tokens = yield* CalTokens
      for (const connect of [World.connectManaged(user(1)), World.connectOAuth2(user(2))]) yield* connect
      for (const userUlid of [user(1), user(2)]) {
        const before = yield* tokens.ensureValid(userUlid)
        const after = yield* tokens.ensureValid(userUlid, { forceRefresh: true })
        assert.isTrue(after.refreshed)
        assert.isAbove(after.version, before.version)
      }
    })
  )
})

describe("several processes over one storage", () => {
  scenario(
    "S2: four processes with 25 callers each: one refresh, one token for all",
    Effect.gen(function* () {
      const { sandbox } = yield* World.connected("managed")
      const nodes = [yield* CalTokens]
      for (let i = 0; i < 3; i++) nodes.push((yield* World.anotherNode()).tokens)
      yield* TestClock.adjust("61 minutes")
      yield* sandbox.inject(Fault.delayAfter("600 millis", { kind: "refresh" }))
      const answers = yield* World.passTime(
        Effect.all(
          nodes.map((tokens) => many(25, tokens.ensureValid(user()))),
          { concurrency: "unbounded" }
        ),
        5000
      )
      assert.strictEqual(yield* sandbox.count("refresh"), 1)
      assert.strictEqual(new Set(answers.flat().map(({ accessToken }) => reveal(accessToken))).size, 1)
      assert.isTrue(answers.flat().every(({ refreshed }) => refreshed))
    })
  )

  for (const kind of World.kinds) {
    scenario(
      `a waiter gets the holder's reason when that fails (${kind})`,
      Effect.gen(function* () {
        const { refresh, refreshes, sandbox, tokens } = yield* World.expired(kind)
        const other = (yield* World.anotherNode()).tokens
        yield* sandbox.inject(Fault.status(429, { ...refresh, after: "1 second" }))
        const holder = yield* World.start(Effect.flip(tokens.ensureValid(user())))
        const waiter = yield* World.start(Effect.flip(other.ensureValid(user())))
        yield* World.untilDone(waiter, 10_000)
        assert.strictEqual((yield* Fiber.join(holder))._tag, "CalRateLimited")
        assert.strictEqual((yield* Fiber.join(waiter))._tag, "CalRateLimited")
        assert.strictEqual(yield* refreshes, 1)
      })
    )
  }

  scenario(
    "S5, S6: a holder that never comes back is succeeded when its lease is over, and a managed user recovers",
    Effect.gen(function* () {
      const { sandbox, tap, tokens } = yield* World.expired("managed")
      // The holder rotated the token and died before its commit.
      const row = yield* World.stored()
      yield* tap.raw.claim({
        userUlid: user(),
        attemptId: "dead",
        purpose: Purpose.Refresh({ knownVersion: row.version }),
        lease: Duration.seconds(30),
        cooldownWindow: Duration.seconds(30),
        maxAttempts: 3
      })
      yield* sandbox.revokeRefreshTokens((yield* sandbox.calls)[0]?.calUserId ?? 1001)
      const early = yield* World.passTime(World.timed(Effect.flip(tokens.ensureValid(user()))), 30_000)
      assert.strictEqual(early.result._tag, "CalUnavailable")
      assert.isAtMost(early.took, 25_000)
      assert.strictEqual(yield* sandbox.count("refresh"), 0)
      const { result, took } = yield* World.passTime(World.timed(tokens.ensureValid(user())), 30_000)
      assert.isTrue(result.refreshed)
      assert.isAtMost(early.took + took, 31_000)
      assert.isTrue(yield* World.isStoredPairLive())
    })
  )

  scenario(
    "S9: a holder that slept through its lease changes nothing that came after; its late pair is kept beside",
    Effect.gen(function* () {
      const { sandbox, tap, tokens } = yield* World.expired("managed")
      const other = (yield* World.anotherNode()).tokens
      // Cal.com answered, and the process is paused in front of its commit.
      yield* tap.around("commit", { before: Effect.sleep("60 seconds") })
      const sleeper = yield* World.start(Effect.exit(tokens.ensureValid(user())))
      yield* TestClock.adjust("31 seconds")
      const second = yield* World.passTime(other.ensureValid(user()), 10_000)
      assert.isTrue(yield* sandbox.isAccessLive(second.accessToken))
      yield* TestClock.adjust("30 seconds")
      yield* World.untilDone(sleeper, 1000)
      const row = yield* World.stored()
      assert.strictEqual(reveal(row.pair.accessToken), reveal(second.accessToken))
      assert.strictEqual(row.fallbacks.length, 1)
      assert.strictEqual(reveal((yield* tokens.ensureValid(user())).accessToken), reveal(second.accessToken))
    })
  )

  scenario(
    "a process that has not heard of the other's refresh uses its pair instead of refreshing again",
    Effect.gen(function* () {
      const { sandbox, tokens } = yield* World.connected("managed")
      const other = (yield* World.anotherNode()).tokens
      yield* TestClock.adjust("56 minutes")
      yield* other.info(user())
      // The other's memory is 3 s old when this process refreshes, so it still counts as recent.
      yield* TestClock.adjust("3 seconds")
      yield* tokens.refresh(user(), { forceRefresh: true })
      yield* other.ensureValid(user())
      yield* World.settle
      assert.strictEqual(yield* sandbox.count("refresh"), 1)
      assert.strictEqual(
        reveal((yield* other.ensureValid(user())).accessToken),
        reveal((yield* tokens.ensureValid(user())).accessToken)
      )
    })
  )

  scenario(
    "who asks after another process has connected the user finds them, also by a read that had begun before",
    Effect.gen(function* () {
      const { grant, tap, tokens } = yield* World.connected("managed")
      yield* tokens.disconnect(user())
      const other = (yield* World.anotherNode()).tokens
      yield* tap.reset
      yield* tap.around("find", { after: Effect.sleep("1 second") })
      const early = yield* World.start(Effect.flip(other.ensureValid(user())))
      yield* TestClock.adjust("500 millis")
      yield* World.connectManaged()
      const late = yield* World.start(many(20, other.ensureValid(user())))
      const info = yield* World.start(other.info(user()))
      yield* TestClock.adjust("500 millis")
      assert.strictEqual((yield* Fiber.join(early))._tag, "TokensNotFound")
      const answers = yield* Fiber.join(late)
      assert.strictEqual(new Set(answers.map(({ accessToken }) => reveal(accessToken))).size, 1)
      assert.strictEqual((yield* Fiber.join(info)).userUlid, user())
      assert.notStrictEqual(reveal(answers[0]!.accessToken), reveal(grant.accessToken))
      assert.strictEqual(tap.count("find"), 2)
    })
  )

  scenario(
    "news of another process' disconnect arrive within 5 s without any notification",
    Effect.gen(function* () {
      const { tokens } = yield* World.connected("managed")
      const other = (yield* World.anotherNode()).tokens
      yield* other.ensureValid(user())
      yield* tokens.disconnect(user())
      yield* TestClock.adjust("4999 millis")
      yield* other.ensureValid(user())
      yield* TestClock.adjust("1 millis")
      assert.strictEqual((yield* Effect.flip(other.ensureValid(user())))._tag, "TokensNotFound")
    })
  )
})

it.scoped("a forced refresh is answered by the first, also when the refresh token lives on", () =>
  Effect.gen(function* () {
    const { grant, refreshes, sandbox, tokens } = yield* World.connected("oauth2")
    yield* TestClock.adjust("1 minute")
    const answer = yield* World.passTime(tokens.refresh(user(), { forceRefresh: true }), 60_000)
    assert.isTrue(yield* sandbox.isAccessLive(answer.accessToken))
    assert.strictEqual(yield* refreshes, 1)
    const { pair } = yield* World.stored()
    assert.strictEqual(reveal(pair.accessToken), reveal(answer.accessToken))
    assert.strictEqual(reveal(pair.refreshToken), reveal(grant.refreshToken))
  }).pipe(
    Effect.provide(
      layerTokens.pipe(
        Layer.provideMerge(
          // Cal.com rotates each of them.
          Layer.map(World.clientLayer, (context) => {
            const client = Context.get(context, CalClient)
            return Context.make(CalClient, {
              ...client,
              refresh: (connection, refreshToken) =>
                Effect.map(client.refresh(connection, refreshToken), (granted) => ({
                  ...granted,
                  pair: { ...granted.pair, refreshToken }
                }))
            })
          })
        ),
        Layer.provideMerge(StorageTap.layer),
        Layer.provideMerge(layerSandbox())
      )
    )
  )
)
