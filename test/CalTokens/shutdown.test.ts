/** The end of the service: what was sent to Cal.com is awaited and stored, for at most 30 s. */
import { assert } from "@effect/vitest"
import { Cause, Context, Duration, Effect, Exit, Fiber, HashMap, Layer, Logger, Option, Scope, TestClock } from "effect"
import { Purpose } from "../../src/TokenStorage.js"
import { CalTokens } from "../../src/CalTokens.js"
import { Fault, Sandbox } from "../../src/Sandbox.js"
import * as World from "../support/World.js"

const { scenario, user } = World

/** A process of its own, whose end can be looked at. */
const process = Effect.gen(function* () {
  const scope = yield* Scope.make()
  const lines: Array<{ readonly message: string; readonly users: unknown }> = []
  const logger = Logger.replace(
    Logger.defaultLogger,
    Logger.make(({ annotations, message }) => {
      lines.push({ message: String(message), users: Option.getOrUndefined(HashMap.get(annotations, "users")) })
    })
  )
  const context = yield* Layer.buildWithScope(World.node().pipe(Layer.provide(logger)), scope)
  return { tokens: Context.get(context, CalTokens), stop: Effect.exit(Scope.close(scope, Exit.void)), lines }
})

for (const kind of World.kinds) {
  scenario(
    `P3: a shutdown waits for the refresh under way and for its commit (${kind})`,
    Effect.gen(function* () {
      const { refresh, sandbox, tap } = yield* World.expired(kind)
      const { stop, tokens } = yield* process
      yield* sandbox.inject(Fault.delayAfter("5 seconds", refresh))
      yield* tap.around("commit", { before: Effect.sleep("3 seconds") })
      const caller = yield* World.start(tokens.ensureValid(user()))
      const { result, took } = yield* World.passTime(World.timed(stop), 60_000)
      assert.isTrue(Exit.isSuccess(result))
      assert.strictEqual(took, 8000)
      assert.isTrue(yield* World.isStoredPairLive())
      yield* Fiber.interrupt(caller)
    })
  )

  scenario(
    `P3: a late answer is awaited too (${kind})`,
    Effect.gen(function* () {
      const { refresh, sandbox } = yield* World.expired(kind)
      const { stop, tokens } = yield* process
      yield* sandbox.inject(Fault.delayAfter("20 seconds", refresh))
      const caller = yield* World.start(Effect.exit(tokens.ensureValid(user())))
      const { result, took } = yield* World.passTime(World.timed(stop), 60_000)
      assert.isTrue(Exit.isSuccess(result))
      assert.strictEqual(took, 20_000)
      assert.isTrue(yield* World.isStoredPairLive())
      yield* Fiber.interrupt(caller)
    })
  )

  scenario(
    `P3: a pair that cannot be stored: 30 s, then its user is named and the end is a defect (${kind})`,
    Effect.gen(function* () {
      const { tap } = yield* World.expired(kind)
      const { lines, stop, tokens } = yield* process
      yield* tap.refuse("commit", Infinity)
      const { accessToken } = yield* tokens.ensureValid(user())
      const { result, took } = yield* World.passTime(World.timed(stop), 60_000)
      assert.strictEqual(took, 30_000)
      assert.isTrue(Exit.isFailure(result) && Cause.isDie(result.cause))
      const text = Exit.isFailure(result) ? Cause.pretty(result.cause) : ""
      assert.include(text, user())
      assert.notInclude(text, World.reveal(accessToken))
      assert.isTrue(lines.some(({ users }) => Array.isArray(users) && users.includes(user())))
      // Whoever is gone does not go on writing.
      const commits = tap.count("commit")
      yield* TestClock.adjust("1 minute")
      assert.isAtMost(tap.count("commit"), commits + 1)
    })
  )
}

scenario(
  "P3: an answer that is still awaited after 30 s: its user is named",
  Effect.gen(function* () {
    const { sandbox } = yield* World.expired("managed")
    const { stop, tokens } = yield* process
    yield* sandbox.inject(Fault.delayAfter("36 seconds", { kind: "refresh" }))
    const caller = yield* World.start(Effect.exit(tokens.ensureValid(user())))
    const result = yield* World.passTime(stop, 60_000)
    yield* Fiber.interrupt(caller)
    yield* TestClock.adjust("1 minute")
    assert.isTrue(Exit.isFailure(result) && Cause.pretty(result.cause).includes(user()))
  })
)

scenario(
  "a storage that comes back during the shutdown gets the pair, and the end is clean",
  Effect.gen(function* () {
    const { tap } = yield* World.expired("managed")
    const { stop, tokens } = yield* process
    yield* tap.refuse("commit", 5)
    yield* tokens.ensureValid(user())
    const { result, took } = yield* World.passTime(World.timed(stop), 60_000)
    assert.isTrue(Exit.isSuccess(result))
    assert.isBelow(took, 30_000)
    assert.isTrue(yield* World.isStoredPairLive())
  })
)

scenario(
  "an idle service ends at once; one that only waits for another process does so too",
  Effect.gen(function* () {
    const { tap } = yield* World.connected("managed")
    const idle = yield* process
    assert.strictEqual((yield* World.passTime(World.timed(idle.stop), 1000)).took, 0)
    const waiting = yield* process
    const row = yield* World.stored()
    yield* TestClock.adjust("61 minutes")
    yield* tap.raw.claim({
      userUlid: user(),
      attemptId: "elsewhere",
      purpose: Purpose.Refresh({ knownVersion: row.version }),
      lease: Duration.seconds(30),
      cooldownWindow: Duration.seconds(30),
      maxAttempts: 3
    })
    const caller = yield* World.start(Effect.exit(waiting.tokens.ensureValid(user())))
    assert.strictEqual((yield* World.passTime(World.timed(waiting.stop), 1000)).took, 0)
    assert.isTrue(Exit.isFailure(yield* World.landed(caller, 1000)))
  })
)

scenario(
  "after the shutdown began nothing new is sent to Cal.com",
  Effect.gen(function* () {
    const sandbox = yield* Sandbox
    yield* World.connectManaged(user(1))
    yield* World.connectManaged(user(2))
    const { stop, tokens } = yield* process
    yield* TestClock.adjust("61 minutes")
    yield* sandbox.inject(Fault.delayAfter("5 seconds", { kind: "refresh" }))
    const caller = yield* World.start(Effect.exit(tokens.ensureValid(user(1))))
    const stopping = yield* World.start(stop)
    const error = yield* Effect.flip(tokens.ensureValid(user(2)))
    assert.strictEqual(error._tag, "CalUnavailable")
    yield* World.untilDone(stopping, 60_000)
    yield* World.untilDone(caller, 1000)
    assert.strictEqual((yield* sandbox.calls).length, 1)
  })
)
