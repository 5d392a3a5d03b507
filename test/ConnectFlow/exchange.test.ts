/** The exchange beside everything else: refreshes of the same user, failures of Cal.com and the database, endings. */
import { assert, describe } from "@effect/vitest"
import { Duration, Effect, Exit, Fiber, Option, Redacted, Ref, Scope, TestClock } from "effect"
import { Purpose } from "../../src/TokenStorage.js"
import { CalTokens } from "../../src/CalTokens.js"
import type { ConnectFlow } from "../../src/ConnectFlow.js"
import { Fault, Sandbox } from "../../src/Sandbox.js"
import type { TokenError } from "../../src/TokenError.js"
import * as Flow from "../support/FlowWorld.js"
import * as Fixture from "../support/StorageFixture.js"
import { StorageTap } from "../support/StorageTap.js"
import * as World from "../support/World.js"

const { reveal, scenario, user } = World

type Flows = (typeof ConnectFlow)["Service"]

const email = `${user().toLowerCase()}@example.com`
const person: Flow.Person = { email }

/** A code that waits to be exchanged, of the person that `World.connectOAuth2` connects. */
const returned = (flow: Flows) =>
  Effect.gen(function* () {
    const { url } = yield* flow.begin(user())
    return Flow.broughtBack(yield* Flow.consent(url, person))
  })

const exchange = (flow: Flows) => Effect.flatMap(returned(flow), (back) => flow.exchange(user(), back))

const refreshes = Effect.flatMap(Sandbox, (sandbox) => sandbox.count("oauth2Refresh"))
const exchanges = Effect.flatMap(Sandbox, (sandbox) => sandbox.count("oauth2Code"))

/** The user's tokens stay valid from now on, without a person. */
const staysConnected = Effect.gen(function* () {
  const tokens = yield* CalTokens
  const sandbox = yield* Sandbox
  for (let i = 0; i < 2; i++) {
    yield* TestClock.adjust("31 minutes")
    const answer = yield* World.passTime(tokens.ensureValid(user()), 60_000)
    assert.isTrue(yield* sandbox.isAccessLive(answer.accessToken))
  }
  assert.isTrue(yield* World.isStoredPairLive())
})

/** The row is as nobody had touched it: free, and with no outcome open. */
const isIdle = Effect.gen(function* () {
  const found = yield* World.peek()
  assert.strictEqual(found._tag, "Claimed")
  assert(found._tag === "Claimed")
  assert.isTrue(Option.isNone(found.probe))
  assert.strictEqual(found.consecutiveFailures, 0)
})

const timeLeft = <A, E, R>(effect: Effect.Effect<A, E, R>) => World.passTime(effect, 120_000)

describe("a refresh of the same user", () => {
  for (const where of ["this process", "another process"] as const) {
    const refresher = where === "this process" ? CalTokens : Effect.map(World.anotherNode(), (node) => node.tokens)

    scenario(
      `of ${where} that is asked for during the exchange waits, and is answered with the new tokens`,
      Effect.gen(function* () {
        const sandbox = yield* Sandbox
        const flow = yield* Flow.begun()
        const tokens = yield* refresher
        yield* World.connectOAuth2()
        yield* tokens.ensureValid(user())
        // Cal.com has granted, and its answer is on the way.
        yield* sandbox.inject(Fault.delayAfter("3 seconds", { kind: "oauth2Code" }))
        const connecting = yield* World.start(exchange(flow))
        const refreshing = yield* World.start(tokens.refresh(user(), { forceRefresh: true }))
        yield* timeLeft(Fiber.join(connecting))
        assert.isTrue(yield* World.isStoredPairLive())
        const answer = yield* timeLeft(Fiber.join(refreshing))
        assert.strictEqual(reveal(answer.accessToken), reveal((yield* World.stored()).pair.accessToken))
        assert.strictEqual(yield* refreshes, 0)
        yield* staysConnected
      })
    )

    scenario(
      `of ${where} that is under way ends first`,
      Effect.gen(function* () {
        const sandbox = yield* Sandbox
        const flow = yield* Flow.begun()
        const tokens = yield* refresher
        yield* World.connectOAuth2()
        yield* sandbox.inject(Fault.delayBefore("3 seconds", { kind: "oauth2Refresh" }))
        const refreshing = yield* World.start(tokens.refresh(user(), { forceRefresh: true }))
        const connecting = yield* World.start(exchange(flow))
        yield* TestClock.adjust("2999 millis")
        assert.strictEqual(yield* exchanges, 0)
        yield* timeLeft(Fiber.join(refreshing))
        yield* timeLeft(Fiber.join(connecting))
        assert.strictEqual(yield* exchanges, 1)
        assert.isTrue(yield* World.isStoredPairLive())
        assert.strictEqual((yield* World.stored()).connection._tag === "OAuth2" && (yield* refreshes), 1)
        yield* staysConnected
      })
    )
  }

  scenario(
    "holds the exchange for 25 s at most; then nothing was spent and the person starts again",
    Effect.gen(function* () {
      const { raw } = yield* StorageTap
      const flow = yield* Flow.begun()
      yield* World.connectOAuth2()
      const holder = { lease: Duration.minutes(2), cooldownWindow: Duration.zero, maxAttempts: 9 }
      yield* raw.claim({
        userUlid: user(),
        attemptId: "other",
        purpose: Purpose.Refresh({ knownVersion: Number.MAX_SAFE_INTEGER }),
        ...holder
      })
      const { result, took } = yield* timeLeft(World.timed(Effect.flip(exchange(flow))))
      assert.strictEqual(result._tag, "CalUnavailable")
      assert.match(result.message, /refresh of this user's tokens has not finished; .*start again/)
      assert.isAtLeast(took, 24_000)
      assert.isAtMost(took, 25_000)
      assert.strictEqual(yield* exchanges, 0)
      assert.strictEqual((yield* World.peek())._tag, "Busy")
    })
  )

  for (const [name, probeIn, waits] of [
    ["soon is awaited, for it may rotate", "5 seconds", 5000],
    ["later than an exchange takes is not", "60 seconds", 0]
  ] as const) {
    scenario(
      `with an unknown outcome that is probed ${name}`,
      Effect.gen(function* () {
        const { raw } = yield* StorageTap
        const sandbox = yield* Sandbox
        const flow = yield* Flow.begun()
        yield* World.connectOAuth2()
        const limits = { lease: Duration.seconds(30), cooldownWindow: Duration.zero, maxAttempts: 9 }
        yield* raw.claim({
          userUlid: user(),
          attemptId: "other",
          purpose: Purpose.Refresh({ knownVersion: Number.MAX_SAFE_INTEGER }),
          ...limits
        })
        yield* raw.fail({ userUlid: user(), attemptId: "other", failure: Fixture.unknown(probeIn) })
        const { took } = yield* timeLeft(World.timed(exchange(flow)))
        assert.strictEqual(took, waits)
        assert.isTrue(yield* World.isStoredPairLive())
        yield* isIdle
        assert.strictEqual(yield* sandbox.count("oauth2Refresh"), 0)
        yield* staysConnected
      })
    )
  }

  scenario(
    "that failed, cools down or cannot work any more is no reason to wait",
    Effect.gen(function* () {
      const sandbox = yield* Sandbox
      const tokens = yield* CalTokens
      const flow = yield* Flow.begun()
      const first = yield* World.connectOAuth2()
      // Cal.com is away, and the user backs off.
      yield* sandbox.inject(Fault.refuseConnection({ kind: "oauth2Refresh", times: 9 }))
      yield* Effect.flip(timeLeft(tokens.refresh(user(), { forceRefresh: true })))
      assert.strictEqual((yield* World.peek())._tag, "CoolingDown")
      yield* TestClock.adjust("1 millis")
      assert.strictEqual((yield* timeLeft(World.timed(exchange(flow)))).took, 0)
      assert.isTrue(yield* World.isStoredPairLive())
      yield* isIdle
      yield* sandbox.clearFaults
      // The person revoked the access, and has to reconnect.
      yield* sandbox.revokeRefreshTokens(first.calUserId)
      yield* TestClock.adjust("31 minutes")
      yield* Effect.flip(timeLeft(tokens.ensureValid(user())))
      assert.strictEqual((yield* World.peek())._tag, "Terminal")
      yield* timeLeft(exchange(flow))
      yield* staysConnected
    })
  )
})

/** An exchange that fails beside a connection: the connection is as it was, and serves on. */
const failing = <E>(
  name: string,
  body: (flow: Flows) => Effect.Effect<TokenError, E, World.World>,
  check: (error: TokenError) => void
) =>
  scenario(
    name,
    Effect.gen(function* () {
      const flow = yield* Flow.begun()
      const granted = yield* World.connectOAuth2()
      const before = yield* World.stored()
      check(yield* body(flow))
      const sandbox = yield* Sandbox
      yield* sandbox.clearFaults
      const after = yield* World.stored()
      assert.strictEqual(after.version, before.version)
      assert.strictEqual(reveal(after.pair.refreshToken), reveal(granted.refreshToken))
      yield* isIdle
      yield* staysConnected
    })
  )

describe("an exchange that fails leaves the connection as it was", () => {
  for (const [name, fault, took] of [
    ["the answer is lost", Fault.dropAfter({ kind: "oauth2Code" }), 0],
    ["Cal.com answers 500", Fault.status(500, { kind: "oauth2Code", committed: true }), 0],
    ["Cal.com does not answer in time", Fault.delayAfter("20 seconds", { kind: "oauth2Code" }), 8000],
    ["the connection is refused", Fault.refuseConnection({ kind: "oauth2Code" }), 0]
  ] as const) {
    failing(
      name,
      (flow) =>
        Effect.gen(function* () {
          const sandbox = yield* Sandbox
          yield* sandbox.inject(fault)
          const back = yield* returned(flow)
          const end = yield* timeLeft(World.timed(Effect.flip(flow.exchange(user(), back))))
          assert.strictEqual(end.took, took)
          // The same once more is in vain, and asks nobody.
          const calls = yield* exchanges
          const again = yield* Effect.flip(flow.exchange(user(), back))
          assert.deepInclude(again, { _tag: "InvalidInput", field: "state" })
          assert.strictEqual(yield* exchanges, calls)
          return end.result
        }),
      (error) => {
        assert.strictEqual(error._tag, "CalUnavailable")
        assert.match(error.message, /the state is used up, so start again with a new authorize URL/)
        assert.isFalse("retryAfter" in error && error.retryAfter !== undefined)
      }
    )
  }

  for (const [name, fault, tag] of [
    ["the answer is no JSON", Fault.garbage({ kind: "oauth2Code" }), "CalProtocolError"],
    ["Cal.com's rate limit is reached", Fault.status(429, { kind: "oauth2Code" }), "CalRateLimited"]
  ] as const) {
    failing(
      name,
      (flow) =>
        Effect.gen(function* () {
          const sandbox = yield* Sandbox
          yield* sandbox.inject(fault)
          return yield* timeLeft(Effect.flip(exchange(flow)))
        }),
      (error) => {
        assert.strictEqual(error._tag, tag)
        assert.strictEqual(/the state is used up, so start again/.test(error.message), tag === "CalRateLimited")
      }
    )
  }

  failing(
    "the code is unknown to Cal.com",
    (flow) =>
      Effect.gen(function* () {
        const { state } = yield* returned(flow)
        return yield* Effect.flip(flow.exchange(user(), { state, code: Redacted.make("nonsense") }))
      }),
    (error) => {
      assert.deepInclude(error, { _tag: "InvalidInput", field: "code" })
      assert.match(error.message, /start again/)
      assert.notInclude(error.message, "nonsense")
    }
  )

  failing(
    "the code expired at Cal.com while the completion waited",
    (flow) =>
      Effect.gen(function* () {
        const { url } = yield* flow.begin(user(), { returnTo: Flow.returnTo })
        const query = yield* Flow.consent(url, person)
        yield* TestClock.adjust("5 minutes")
        const completion = yield* Flow.completionOf(yield* flow.comeBack(query))
        yield* TestClock.adjust("6 minutes")
        return yield* Effect.flip(flow.confirm(user(), completion))
      }),
    (error) => assert.deepInclude(error, { _tag: "InvalidInput", field: "code" })
  )

  scenario(
    "the secret is wrong: the client's circuit opens, so that nobody's refresh is tried in vain",
    Effect.gen(function* () {
      const sandbox = yield* Sandbox
      const tokens = yield* CalTokens
      const flow = yield* Flow.begun()
      yield* World.connectOAuth2()
      const back = yield* returned(flow)
      const settings = sandbox.switches
      yield* Ref.update(settings, (all) => ({ ...all, oauth2SecretRejected: true }))
      const error = yield* Effect.flip(flow.exchange(user(), back))
      assert.strictEqual(error._tag, "CalClientMisconfigured")
      yield* isIdle
      const refused = yield* Effect.flip(tokens.refresh(user(), { forceRefresh: true }))
      assert.strictEqual(refused._tag, "CalClientMisconfigured")
      assert.strictEqual(yield* refreshes, 0)
      yield* Ref.update(settings, (all) => ({ ...all, oauth2SecretRejected: false }))
      // A person who connects is not made to wait for it.
      yield* exchange(flow)
      assert.isTrue(yield* World.isStoredPairLive())
      yield* TestClock.adjust("31 seconds")
      yield* timeLeft(tokens.refresh(user(), { forceRefresh: true }))
    })
  )

  scenario(
    "the client is not approved any more: that is no reason to hold anybody else",
    Effect.gen(function* () {
      const sandbox = yield* Sandbox
      const tokens = yield* CalTokens
      const flow = yield* Flow.begun()
      yield* World.connectOAuth2()
      const back = yield* returned(flow)
      yield* Ref.update(sandbox.switches, (all) => ({ ...all, oauth2ClientStatus: "PENDING" as const }))
      const error = yield* Effect.flip(flow.exchange(user(), back))
      assert.strictEqual(error._tag, "CalRequestRejected")
      yield* isIdle
      yield* Ref.update(sandbox.switches, (all) => ({ ...all, oauth2ClientStatus: "APPROVED" as const }))
      assert.isTrue((yield* tokens.refresh(user(), { forceRefresh: true })).refreshed)
      assert.strictEqual(yield* refreshes, 1)
    })
  )
})

describe("the database", () => {
  scenario(
    "that is away for a moment after Cal.com granted costs nobody anything",
    Effect.gen(function* () {
      const tap = yield* StorageTap
      const flow = yield* Flow.begun()
      yield* World.connectOAuth2()
      yield* tap.refuse("connect", 3)
      yield* tap.reset
      const back = yield* returned(flow)
      yield* timeLeft(flow.exchange(user(), back))
      assert.strictEqual(tap.count("connect"), 4)
      assert.strictEqual(yield* exchanges, 1)
      assert.isTrue(yield* World.isStoredPairLive())
      yield* tap.loseAnswer("connect")
      yield* timeLeft(exchange(flow))
      assert.strictEqual((yield* World.stored()).fallbacks.length, 2)
      assert.isTrue(yield* World.isStoredPairLive())
    })
  )

  scenario(
    "that stays away ends the exchange while the lease runs; the old tokens recover when it lapses",
    Effect.gen(function* () {
      const tap = yield* StorageTap
      const tokens = yield* CalTokens
      const flow = yield* Flow.begun()
      const granted = yield* World.connectOAuth2()
      yield* tap.around("claim", { after: tap.down })
      const { result, took } = yield* timeLeft(World.timed(Effect.flip(exchange(flow))))
      assert.strictEqual(result._tag, "StorageUnavailable")
      assert.isBelow(took, 12_000)
      yield* tap.up
      // As after a crash of the process: the lease lapses, and what it held is probed.
      assert.strictEqual((yield* World.peek())._tag, "Busy")
      yield* TestClock.adjust("30 seconds")
      const found = yield* World.peek()
      assert(found._tag === "Claimed")
      assert.deepStrictEqual(Option.getOrThrow(found.probe), World.hashOf(granted.refreshToken))
      yield* timeLeft(tokens.refresh(user(), { forceRefresh: true }))
      assert.deepStrictEqual(yield* World.presented, [World.hashOf(granted.refreshToken)])
      yield* staysConnected
    })
  )

  scenario(
    "that is away before that spends no code",
    Effect.gen(function* () {
      const tap = yield* StorageTap
      const flow = yield* Flow.begun()
      yield* World.connectOAuth2()
      const back = yield* returned(flow)
      yield* tap.refuse("claim")
      assert.strictEqual((yield* Effect.flip(flow.exchange(user(), back)))._tag, "StorageUnavailable")
      assert.strictEqual(yield* exchanges, 0)
    })
  )
})

describe("once begun", () => {
  for (const [name, connected] of [
    ["a user with a connection", true],
    ["a new user", false]
  ] as const) {
    scenario(
      `the exchange goes on without its caller: ${name}`,
      Effect.gen(function* () {
        const sandbox = yield* Sandbox
        const flow = yield* Flow.begun()
        if (connected) yield* World.connectOAuth2()
        yield* sandbox.inject(Fault.delayAfter("3 seconds", { kind: "oauth2Code" }))
        const back = yield* returned(flow)
        const caller = yield* World.start(flow.exchange(user(), back))
        yield* Fiber.interrupt(caller)
        yield* TestClock.adjust("3 seconds")
        assert.isTrue(yield* World.isStoredPairLive())
        assert.strictEqual(yield* exchanges, 1)
      })
    )
  }

  scenario(
    "a caller that leaves while a refresh is awaited changes nothing either",
    Effect.gen(function* () {
      const sandbox = yield* Sandbox
      const tokens = yield* CalTokens
      const flow = yield* Flow.begun()
      yield* World.connectOAuth2()
      yield* sandbox.inject(Fault.delayBefore("3 seconds", { kind: "oauth2Refresh" }))
      yield* World.start(tokens.refresh(user(), { forceRefresh: true }))
      const back = yield* returned(flow)
      const caller = yield* World.start(flow.exchange(user(), back))
      yield* Fiber.interrupt(caller)
      yield* TestClock.adjust("4 seconds")
      assert.strictEqual(yield* exchanges, 1)
      assert.isTrue(yield* World.isStoredPairLive())
    })
  )

  scenario(
    "a shutdown waits for it",
    Effect.gen(function* () {
      const sandbox = yield* Sandbox
      const scope = yield* Scope.make()
      const flow = yield* Scope.extend(Flow.begun(), scope)
      const back = yield* returned(flow)
      yield* sandbox.inject(Fault.delayAfter("3 seconds", { kind: "oauth2Code" }))
      const connecting = yield* World.start(flow.exchange(user(), back))
      const closing = yield* World.start(Scope.close(scope, Exit.void))
      yield* TestClock.adjust("2999 millis")
      assert.isNull(closing.unsafePoll())
      yield* TestClock.adjust("1 millis")
      yield* Fiber.join(closing)
      yield* Fiber.join(connecting)
      assert.isTrue(yield* World.isStoredPairLive())
    })
  )

  scenario(
    "two codes of one user at once connect one after the other, each exchanged for itself",
    Effect.gen(function* () {
      const flow = yield* Flow.begun()
      yield* World.connectOAuth2()
      const [one, two] = [yield* returned(flow), yield* returned(flow)]
      yield* timeLeft(Effect.all([flow.exchange(user(), one), flow.exchange(user(), two)], { concurrency: 2 }))
      assert.strictEqual(yield* exchanges, 2)
      assert.isTrue(yield* World.isStoredPairLive())
      yield* staysConnected
    })
  )
})
