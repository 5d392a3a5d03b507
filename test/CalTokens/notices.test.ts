/** News of other processes' writes: they shorten waiting, and nothing more. */
import { assert, describe } from "@effect/vitest"
import { Context, Deferred, Duration, Effect, Exit, Layer, Queue, Scope, Stream, TestClock } from "effect"
import { CalTokens } from "../../src/CalTokens.js"
import { Fault, Sandbox } from "../../src/Sandbox.js"
import type * as TokenConfig from "../../src/TokenConfig.js"
import { StorageUnavailable } from "../../src/TokenError.js"
import { Notice, TokenStorage } from "../../src/TokenStorage.js"
import { StorageTap } from "../support/StorageTap.js"
import * as World from "../support/World.js"

const { landed, reveal, scenario, user } = World

/** A process over the world's storage that hears what the given stream says. */
const nodeHearing = (notices: Stream.Stream<Notice>, config: Partial<TokenConfig.Options> = {}) =>
  Effect.gen(function* () {
    const storage = yield* TokenStorage
    const scope = yield* Effect.acquireRelease(Scope.make(), (scope) => Scope.close(scope, Exit.void))
    const layer = Layer.provide(World.node(config), Layer.succeed(TokenStorage, { ...storage, notices }))
    const context: Context.Context<World.Node> = yield* Layer.buildWithScope(layer, scope)
    return { tokens: Context.get(context, CalTokens), stop: Scope.close(scope, Exit.void) }
  })

/** A process that hears what the test tells it. */
const listener = (config?: Partial<TokenConfig.Options>) =>
  Effect.gen(function* () {
    const queue = yield* Queue.unbounded<Notice>()
    const { tokens } = yield* nodeHearing(Stream.fromQueue(queue), config)
    return { tokens, tell: (...notices: Array<Notice>) => Effect.zipRight(queue.offerAll(notices), World.settle) }
  })

const written = (version?: number, n = 1) => Notice.Written({ userUlid: user(n), version })

/** What is stored of the user, as a notice. */
const news = Effect.map(World.stored(), ({ version }) => written(version))

/** So seldom that no test waits for it. */
const seldom = { pollInterval: Duration.seconds(20) }

/** How often these were asked of the storage. */
const asked = Effect.map(StorageTap, (tap) => ({ find: tap.count("find"), claim: tap.count("claim") }))

describe("a caller that waits for another process", () => {
  for (const [name, notice] of [
    ["its version is told", news],
    ["it is not told which", Effect.succeed(written())],
    ["notices were missed", Effect.succeed(Notice.Missed())]
  ] as const) {
    scenario(
      `is answered when the holder has stored its pair: ${name}`,
      Effect.gen(function* () {
        const { sandbox, tokens: holder } = yield* World.expired("managed")
        const other = yield* listener(seldom)
        yield* sandbox.inject(Fault.delayAfter("2 seconds", { kind: "refresh" }))
        const first = yield* World.start(holder.ensureValid(user()))
        const waiter = yield* World.start(World.timed(other.tokens.ensureValid(user())))
        yield* TestClock.adjust("2 seconds")
        assert.isNull(waiter.unsafePoll())
        yield* other.tell(yield* notice)
        const { result, took } = yield* landed(waiter)
        assert.strictEqual(took, 2000)
        assert.isTrue(result.refreshed)
        assert.strictEqual(reveal(result.accessToken), reveal((yield* landed(first)).accessToken))
        assert.strictEqual(yield* sandbox.count("refresh"), 1)
      })
    )
  }

  scenario(
    "gets the holder's error when that has failed",
    Effect.gen(function* () {
      const { sandbox, tokens: holder } = yield* World.expired("managed")
      const other = yield* listener(seldom)
      yield* sandbox.inject(Fault.status(429, { kind: "refresh", after: "1 second" }))
      yield* World.start(Effect.flip(holder.ensureValid(user())))
      const waiter = yield* World.start(World.timed(Effect.flip(other.tokens.ensureValid(user()))))
      yield* TestClock.adjust("1 second")
      yield* other.tell(yield* news)
      const { result, took } = yield* landed(waiter)
      assert.strictEqual(took, 1000)
      assert.strictEqual(result._tag, "CalRateLimited")
    })
  )

  scenario(
    "polls when the notice is lost",
    Effect.gen(function* () {
      const { sandbox, tokens: holder } = yield* World.expired("managed")
      const other = yield* listener()
      yield* sandbox.inject(Fault.delayAfter("2 seconds", { kind: "refresh" }))
      yield* World.start(holder.ensureValid(user()))
      const { took } = yield* World.passTime(World.timed(other.tokens.ensureValid(user())), 5000)
      assert.isAbove(took, 2000)
      assert.isAtMost(took, 2250)
    })
  )

  scenario(
    "looks again for a notice that says nothing new, and goes on waiting",
    Effect.gen(function* () {
      const { sandbox, tap, tokens: holder } = yield* World.expired("managed")
      const other = yield* listener(seldom)
      yield* sandbox.inject(Fault.delayAfter("2 seconds", { kind: "refresh" }))
      yield* World.start(holder.ensureValid(user()))
      const waiter = yield* World.start(World.timed(other.tokens.ensureValid(user())))
      yield* tap.reset
      yield* other.tell(yield* news, Notice.Missed())
      assert.isNull(waiter.unsafePoll())
      assert.isAtMost(tap.count("claim"), 2)
      yield* TestClock.adjust("2 seconds")
      yield* other.tell(yield* news)
      assert.strictEqual((yield* landed(waiter)).took, 2000)
    })
  )

  scenario(
    "has not missed what was told while it asked",
    Effect.gen(function* () {
      const { sandbox, tap, tokens: holder } = yield* World.expired("managed")
      const other = yield* listener(seldom)
      yield* sandbox.inject(Fault.delayAfter("2 seconds", { kind: "refresh" }))
      yield* World.start(holder.ensureValid(user()))
      // The answer to the waiter's claim is as slow as the holder.
      yield* tap.around("claim", { after: Effect.sleep("3 seconds") })
      const waiter = yield* World.start(World.timed(other.tokens.ensureValid(user())))
      yield* TestClock.adjust("2 seconds")
      yield* other.tell(yield* news)
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* landed(waiter)).took, 3000)
    })
  )
})

describe("what memory holds", () => {
  const connected = Effect.gen(function* () {
    const { tap, tokens: writer } = yield* World.connected("managed")
    const other = yield* listener()
    const known = yield* other.tokens.ensureValid(user())
    yield* tap.reset
    return { ...other, writer, tap, known }
  })

  scenario(
    "is read again, once, when another process stored a newer pair",
    Effect.gen(function* () {
      const { known, tap, tell, tokens, writer } = yield* connected
      const fresh = yield* writer.refresh(user(), { forceRefresh: true })
      yield* tap.reset
      assert.strictEqual((yield* tokens.ensureValid(user())).version, known.version)
      assert.deepStrictEqual(yield* asked, { find: 0, claim: 0 })
      yield* tell(yield* news)
      const answer = yield* tokens.ensureValid(user())
      assert.strictEqual(reveal(answer.accessToken), reveal(fresh.accessToken))
      yield* tokens.ensureValid(user())
      assert.deepStrictEqual(yield* asked, { find: 1, claim: 0 })
    })
  )

  scenario(
    "is read again when the row is gone",
    Effect.gen(function* () {
      const { tell, tokens, writer } = yield* connected
      yield* writer.disconnect(user())
      yield* tokens.ensureValid(user())
      yield* tell(written())
      assert.strictEqual((yield* Effect.flip(tokens.ensureValid(user())))._tag, "TokensNotFound")
    })
  )

  scenario(
    "is read again, each user once, when notices were missed",
    Effect.gen(function* () {
      const { tap, tell, tokens } = yield* connected
      yield* World.connectManaged(user(2))
      yield* tokens.ensureValid(user(2))
      yield* tap.reset
      yield* tell(Notice.Missed())
      for (const n of [1, 2, 1, 2]) yield* tokens.ensureValid(user(n))
      assert.deepStrictEqual(yield* asked, { find: 2, claim: 0 })
    })
  )

  scenario(
    "goes on serving when the storage is down",
    Effect.gen(function* () {
      const { known, tap, tell, tokens } = yield* connected
      yield* tap.down
      yield* tell(written(known.version + 1), Notice.Missed())
      assert.strictEqual(reveal((yield* tokens.ensureValid(user())).accessToken), reveal(known.accessToken))
      assert.strictEqual(reveal((yield* tokens.ensureValid(user())).accessToken), reveal(known.accessToken))
      assert.deepStrictEqual(yield* asked, { find: 1, claim: 0 })
      yield* tap.up
    })
  )

  scenario(
    "is not read again for what it knows: own echoes, doubled notices, old ones, others' ones",
    Effect.gen(function* () {
      const { known, tap, tell, tokens } = yield* connected
      const own = yield* tokens.refresh(user(), { forceRefresh: true })
      yield* tap.reset
      yield* tell(written(own.version), written(known.version), written(own.version), written(own.version + 1, 2))
      yield* tokens.ensureValid(user())
      assert.deepStrictEqual(yield* asked, { find: 0, claim: 0 })
    })
  )

  scenario(
    "is not dropped while it is the only place of a pair",
    Effect.gen(function* () {
      const { tap, tell, tokens, writer } = yield* connected
      const down = new StorageUnavailable({ operation: "commit", reason: "broken by a test" })
      yield* tap.around("commit", { before: Effect.zipRight(tap.down, down) })
      const held = yield* tokens.refresh(user(), { forceRefresh: true })
      yield* tap.reset
      yield* tell(written(held.version), written(held.version + 1), written(), Notice.Missed())
      assert.strictEqual(reveal((yield* tokens.ensureValid(user())).accessToken), reveal(held.accessToken))
      assert.deepStrictEqual(yield* asked, { find: 0, claim: 0 })
      yield* tap.up
      yield* TestClock.adjust("30 seconds")
      assert.strictEqual(reveal((yield* writer.ensureValid(user())).accessToken), reveal(held.accessToken))
    })
  )

  scenario(
    "does not hold a newer pair to the cooldown of the older",
    Effect.gen(function* () {
      const { tell, tokens, writer } = yield* connected
      const sandbox = yield* Sandbox
      yield* TestClock.adjust("61 minutes")
      yield* sandbox.inject(Fault.refuseConnection({ kind: "refresh" }))
      assert.strictEqual((yield* Effect.flip(tokens.ensureValid(user())))._tag, "CalUnavailable")
      const cooling = Effect.map(Effect.flip(tokens.ensureValid(user())), ({ _tag }) => _tag)
      assert.strictEqual(yield* cooling, "RefreshCoolingDown")
      const { connection } = yield* World.stored()
      const grant = yield* sandbox.grantManaged({ email: "again@example.com" })
      yield* writer.connect(user(), { ...connection, _tag: "ManagedUser", calUserId: grant.calUserId }, grant)
      assert.strictEqual(yield* cooling, "RefreshCoolingDown")
      yield* tell(yield* news)
      assert.strictEqual(reveal((yield* tokens.ensureValid(user())).accessToken), reveal(grant.accessToken))
    })
  )
})

describe("a caller that waits for the probe", () => {
  /** The call of 8 s brings nothing; its answer comes a second later. */
  const late = Effect.gen(function* () {
    const { sandbox } = yield* World.expired("managed")
    yield* sandbox.inject(Fault.delayAfter("9 seconds", { kind: "refresh" }))
  })

  scenario(
    "gets this process' own late pair at once, without any notice",
    Effect.gen(function* () {
      const tokens = yield* CalTokens
      const sandbox = yield* Sandbox
      yield* late
      const caller = yield* World.start(World.timed(tokens.ensureValid(user())))
      yield* TestClock.adjust("8 seconds")
      assert.strictEqual((yield* World.peek())._tag, "ProbeLater")
      yield* TestClock.adjust("1 seconds")
      const { result, took } = yield* landed(caller)
      assert.strictEqual(took, 9000)
      assert.isTrue(yield* sandbox.isAccessLive(result.accessToken))
    })
  )

  scenario(
    "gets another process' late pair at once, and is not disturbed by that one's failure before",
    Effect.gen(function* () {
      const holder = yield* CalTokens
      const tap = yield* StorageTap
      const other = yield* listener()
      yield* late
      yield* World.start(holder.ensureValid(user()))
      yield* TestClock.adjust("8 seconds")
      const waiter = yield* World.start(World.timed(other.tokens.ensureValid(user())))
      yield* tap.reset
      yield* other.tell(yield* news, yield* news)
      assert.deepStrictEqual(yield* asked, { find: 0, claim: 0 })
      yield* TestClock.adjust("1 second")
      yield* other.tell(yield* news)
      assert.strictEqual((yield* landed(waiter)).took, 1000)
    })
  )

  scenario(
    "waits on when notices were missed, and still gets the probe's result",
    Effect.gen(function* () {
      const { sandbox } = yield* World.expired("managed")
      const other = yield* listener()
      yield* sandbox.inject(Fault.dropBefore({ kind: "refresh" }))
      const caller = yield* World.start(World.timed(other.tokens.ensureValid(user())))
      for (let second = 1; second <= 4; second++) {
        yield* TestClock.adjust("1 second")
        yield* other.tell(Notice.Missed())
        assert.isNull(caller.unsafePoll())
      }
      yield* TestClock.adjust("1 second")
      const { result, took } = yield* landed(caller)
      assert.strictEqual(took, 5000)
      assert.isTrue(result.refreshed)
    })
  )

  scenario(
    "is served the late pair at once also when it cannot be stored",
    Effect.gen(function* () {
      const tokens = yield* CalTokens
      const sandbox = yield* Sandbox
      const tap = yield* StorageTap
      yield* late
      const caller = yield* World.start(World.timed(tokens.ensureValid(user())))
      yield* TestClock.adjust("8500 millis")
      yield* tap.down
      yield* TestClock.adjust("500 millis")
      const { result, took } = yield* landed(caller)
      assert.strictEqual(took, 9000)
      assert.isTrue(yield* sandbox.isAccessLive(result.accessToken))
      yield* tap.up
    })
  )

  scenario(
    "hears at once that the user was disconnected",
    Effect.gen(function* () {
      const tokens = yield* CalTokens
      yield* late
      const caller = yield* World.start(World.timed(Effect.flip(tokens.ensureValid(user()))))
      yield* TestClock.adjust("8100 millis")
      yield* tokens.disconnect(user())
      yield* World.settle
      const { result, took } = yield* landed(caller)
      assert.strictEqual(took, 8100)
      assert.strictEqual(result._tag, "TokensNotFound")
    })
  )
})

describe("the stream", () => {
  scenario(
    "may be a flood: nothing is read, nobody waits, and the one that matters is heard",
    Effect.gen(function* () {
      const { sandbox, tap, tokens: holder } = yield* World.connected("managed")
      yield* World.connectManaged(user(2))
      const { version } = yield* World.stored()
      const flood = Stream.map(Stream.range(1, 100_000), (i) =>
        i % 3 === 0 ? written(version, 2) : written(i % 3, 3 + (i % 5000))
      )
      const open = yield* Deferred.make<void>()
      const done = yield* Deferred.make<Notice>()
      const notices = Stream.unwrap(Effect.as(Deferred.await(open), flood)).pipe(
        Stream.concat(Stream.fromEffect(Deferred.await(done))),
        Stream.concat(Stream.never)
      )
      const { tokens } = yield* nodeHearing(notices, seldom)
      yield* tokens.ensureValid(user(2))
      yield* TestClock.adjust("61 minutes")
      yield* sandbox.inject(Fault.delayAfter("2 seconds", { kind: "refresh" }))
      yield* World.start(holder.ensureValid(user()))
      const waiter = yield* World.start(World.timed(tokens.ensureValid(user())))
      yield* tap.reset
      yield* Deferred.succeed(open, undefined)
      yield* TestClock.adjust("2 seconds")
      assert.deepStrictEqual(yield* asked, { find: 0, claim: 0 })
      yield* Deferred.succeed(done, yield* news)
      yield* World.settle
      assert.strictEqual((yield* landed(waiter)).took, 2000)
    })
  )

  for (const [name, notices] of [
    ["end", Stream.empty],
    ["die", Stream.die("a driver's defect")],
    ["be interrupted", Stream.fromEffect(Effect.interrupt)]
  ] as const) {
    scenario(
      `may ${name}: the service does without`,
      Effect.gen(function* () {
        const { tokens } = yield* nodeHearing(notices)
        yield* World.connectManaged()
        yield* TestClock.adjust("61 minutes")
        assert.isTrue((yield* tokens.ensureValid(user())).refreshed)
      })
    )
  }

  scenario(
    "ends with the service",
    Effect.gen(function* () {
      let state = "none"
      const notices = Stream.never.pipe(
        Stream.onStart(Effect.sync(() => (state = "running"))),
        Stream.ensuring(Effect.sync(() => (state = "ended")))
      )
      const { stop } = yield* nodeHearing(notices)
      yield* World.settle
      assert.strictEqual(state, "running")
      yield* stop
      assert.strictEqual(state, "ended")
    })
  )
})
