/** Cal.com refused an access token: what is done about it, and what is not. */
import { assert, describe } from "@effect/vitest"
import { Duration, Effect, Option, Redacted, TestClock } from "effect"
import { CalApi } from "../../src/CalApi.js"
import { CalTokens } from "../../src/CalTokens.js"
import { Fault, Sandbox } from "../../src/Sandbox.js"
import * as TokenError from "../../src/TokenError.js"
import * as World from "../support/World.js"

const { reveal, scenario, user } = World

/** A client's circuit does not hold for long. */
const brief = { circuitInterval: Duration.seconds(1) }

const me = Effect.flatMap(CalApi, (api) => api.send(user(), { method: "GET", path: "/me" }))

const apiCalls = Effect.flatMap(Sandbox, (sandbox) => sandbox.count("api"))

describe("through CalApi", () => {
  scenario(
    "S11: 100 requests in flight with one token all get 498: 1 refresh, 100 repetitions, 0 force-refreshes",
    Effect.gen(function* () {
      const { grant, sandbox } = yield* World.connected("managed")
      yield* sandbox.expireAccessTokens(grant.calUserId)
      const answers = yield* Effect.all(
        Array.from({ length: 100 }, () => me),
        { concurrency: "unbounded" }
      )
      assert.isTrue(answers.every(({ status }) => status === 200))
      assert.strictEqual(yield* sandbox.count("refresh"), 1)
      assert.strictEqual(yield* sandbox.count("forceRefresh"), 0)
      assert.strictEqual(yield* apiCalls, 200)
    })
  )

  scenario(
    "S11: the same for OAuth2, whose dead tokens are 401",
    Effect.gen(function* () {
      const { grant, sandbox } = yield* World.connected("oauth2")
      yield* TestClock.adjust("11 seconds")
      yield* sandbox.expireAccessTokens(grant.calUserId)
      const answers = yield* Effect.all(
        Array.from({ length: 100 }, () => me),
        { concurrency: "unbounded" }
      )
      assert.isTrue(answers.every(({ status }) => status === 200))
      assert.strictEqual(yield* sandbox.count("oauth2Refresh"), 1)
    })
  )

  scenario(
    "a refresh under way ends with the very token that was refused: it is not advised",
    Effect.gen(function* () {
      const { grant, sandbox, tap, tokens } = yield* World.expired("managed")
      const lost = Effect.fail(new TokenError.StorageUnavailable({ operation: "commit", reason: "broken by a test" }))
      yield* tap.around("commit", { after: Effect.zipRight(Effect.sleep("4 seconds"), lost) })
      const first = yield* World.start(tokens.ensureValid(user()))
      const { accessToken } = (yield* World.stored()).pair
      yield* sandbox.expireAccessTokens(grant.calUserId)
      const advice = yield* World.passTime(tokens.reportRejected(user(), { accessToken, status: 498 }), 20_000)
      assert(advice._tag === "Retry")
      assert.notStrictEqual(reveal(advice.token.accessToken), reveal(accessToken))
      assert.isTrue(yield* sandbox.isAccessLive(advice.token.accessToken))
      assert.strictEqual(yield* sandbox.count("refresh"), 2)
      yield* World.untilDone(first, 1000)
    })
  )

  scenario(
    "a pair is refused before it is stored: storing it makes it no other one",
    Effect.gen(function* () {
      const { grant, sandbox, tap, tokens } = yield* World.expired("managed")
      // Once at the commit and once when it is offered again.
      yield* tap.refuse("commit", 2)
      const { accessToken } = yield* tokens.ensureValid(user())
      yield* sandbox.expireAccessTokens(grant.calUserId)
      const advice = yield* World.passTime(tokens.reportRejected(user(), { accessToken, status: 498 }), 20_000)
      assert(advice._tag === "Retry")
      assert.isTrue(yield* sandbox.isAccessLive(advice.token.accessToken))
      assert.strictEqual(yield* sandbox.count("refresh"), 2)
    })
  )

  scenario(
    "S14: a token that a replica does not know for 400 ms: repeated once after 500 ms, no rotation",
    Effect.gen(function* () {
      const { sandbox } = yield* World.connected("managed")
      const { result, took } = yield* World.passTime(World.timed(me), 5000)
      assert.strictEqual(result.status, 200)
      assert.strictEqual(took, 500)
      assert.strictEqual(yield* sandbox.count("refresh"), 0)
      assert.strictEqual(yield* apiCalls, 2)
    }),
    { sandbox: { switches: { replicaLag: "400 millis" } } }
  )

  scenario(
    "S13: a 401 that no refresh cures, on a 5 s old token: two repetitions of it, then Cal.com's answer",
    Effect.gen(function* () {
      const { sandbox } = yield* World.connected("managed")
      yield* TestClock.adjust("5 seconds")
      yield* World.turn({ replicaLag: 3_600_000 })
      for (let i = 1; i <= 3; i++) {
        assert.strictEqual((yield* World.passTime(me, 5000)).status, 401)
        assert.strictEqual(yield* apiCalls, 3 * i)
      }
      assert.strictEqual(yield* sandbox.count("refresh"), 0)
    })
  )

  scenario(
    "S14: a pair that was refreshed for the request, and that a replica does not know for 400 ms: a third send",
    Effect.gen(function* () {
      const { grant, sandbox } = yield* World.connected("managed")
      yield* TestClock.adjust("1 minute")
      yield* sandbox.expireAccessTokens(grant.calUserId)
      const { result, took } = yield* World.passTime(World.timed(me), 5000)
      assert.strictEqual(result.status, 200)
      assert.strictEqual(took, 500)
      assert.strictEqual(yield* sandbox.count("refresh"), 1)
      assert.strictEqual(yield* apiCalls, 3)
    }),
    { sandbox: { switches: { replicaLag: "400 millis" } } }
  )

  for (const [age, sends] of [
    [9499, 3],
    [9500, 2]
  ] as const) {
    scenario(
      `S14: refused for the second time when the pair is ${age + 500} ms old: ${sends} sends, and no refresh`,
      Effect.gen(function* () {
        const { sandbox } = yield* World.connected("managed")
        yield* TestClock.adjust(age)
        yield* World.turn({ replicaLag: 3_600_000 })
        const { result, took } = yield* World.passTime(World.timed(me), 5000)
        assert.strictEqual(result.status, 401)
        assert.strictEqual(took, (sends - 1) * 500)
        assert.strictEqual(yield* apiCalls, sends)
        assert.strictEqual(yield* sandbox.count("refresh"), 0)
      })
    )
  }

  scenario(
    "a second refusal, of an older pair that was stored meanwhile, is the caller's: nothing is refreshed for it",
    Effect.gen(function* () {
      const { sandbox, tokens } = yield* World.connected("managed")
      const other = (yield* World.anotherNode()).tokens
      yield* TestClock.adjust("1 minute")
      yield* tokens.ensureValid(user())
      yield* other.refresh(user(), { forceRefresh: true })
      // This process remembers the old token for 5 s, and its request takes long.
      yield* World.turn({ replicaLag: 3_600_000 })
      yield* sandbox.inject(Fault.delayBefore("15 seconds", { kind: "api" }))
      assert.strictEqual((yield* World.passTime(me, 20_000)).status, 401)
      assert.strictEqual(yield* apiCalls, 2)
      assert.strictEqual(yield* sandbox.count("refresh"), 1)
    })
  )

  scenario(
    "S13, P7: a 401 that no refresh cures costs at most one refresh per 30 s, however many ask",
    Effect.gen(function* () {
      const { sandbox } = yield* World.connected("managed")
      yield* TestClock.adjust("1 minute")
      yield* World.turn({ replicaLag: 3_600_000 })
      for (let second = 0; second < 90; second += 3) {
        const answers = yield* World.passTime(Effect.all([me, me, me], { concurrency: 3 }), 2000)
        assert.isTrue(answers.every(({ status }) => status === 401))
        yield* TestClock.setTime(World.epoch + 60_000 + (second + 3) * 1000)
        assert.isAtMost(yield* sandbox.count("refresh"), Math.floor((second + 3) / 30) + 1)
      }
      assert.strictEqual(yield* sandbox.count("forceRefresh"), 0)
    })
  )
})

describe("reportRejected", () => {
  scenario(
    "S12: a slow refusal of the old token, after the new one is stored: the new one at once, no refresh",
    Effect.gen(function* () {
      const { grant, sandbox, tokens } = yield* World.connected("managed")
      const fresh = yield* tokens.refresh(user(), { forceRefresh: true })
      for (const status of [401, 403, 498]) {
        const advice = yield* tokens.reportRejected(user(), { accessToken: grant.accessToken, status })
        assert.isTrue(advice._tag === "Retry" && reveal(advice.token.accessToken) === reveal(fresh.accessToken))
      }
      assert.strictEqual(yield* sandbox.count("refresh"), 1)
    })
  )

  scenario(
    "S12: the new one was stored by another process a moment ago",
    Effect.gen(function* () {
      const { grant, sandbox, tokens } = yield* World.connected("managed")
      const other = (yield* World.anotherNode()).tokens
      const fresh = yield* other.refresh(user(), { forceRefresh: true })
      const advice = yield* tokens.reportRejected(user(), { accessToken: grant.accessToken, status: 498 })
      assert.isTrue(advice._tag === "Retry" && reveal(advice.token.accessToken) === reveal(fresh.accessToken))
      assert.strictEqual(yield* sandbox.count("refresh"), 1)
    })
  )

  for (const [age, delay, refreshes] of [
    [9999, 500, 0],
    [10_000, 0, 1]
  ] as const) {
    scenario(
      `401 on a token that is ${age} ms old: ${refreshes === 0 ? "repeated after 500 ms" : "refreshed"}`,
      Effect.gen(function* () {
        const { grant, sandbox, tokens } = yield* World.connected("managed")
        yield* TestClock.adjust(age)
        const advice = yield* tokens.reportRejected(user(), { accessToken: grant.accessToken, status: 401 })
        assert.strictEqual(advice._tag === "Retry" && Duration.toMillis(advice.delay), delay)
        assert.strictEqual(yield* sandbox.count("refresh"), refreshes)
      })
    )
  }

  for (const [what, age, status, expected] of [
    ["young", 9999, 401, "Retry"],
    ["young, at the guard", 9999, 403, "Retry"],
    ["old", 10_000, 401, "GiveUp"],
    ["young and expired", 0, 498, "GiveUp"]
  ] as const) {
    scenario(
      `the second refusal of a request, of a pair that is ${what}: ${expected}, and no refresh`,
      Effect.gen(function* () {
        const { grant, sandbox, tokens } = yield* World.connected("managed")
        yield* TestClock.adjust(age)
        const { accessToken } = grant
        const advice = yield* tokens.reportRejected(user(), { accessToken, status, isSecond: true })
        assert.strictEqual(advice._tag, expected)
        if (advice._tag === "Retry") {
          assert.strictEqual(Duration.toMillis(advice.delay), 500)
          assert.strictEqual(reveal(advice.token.accessToken), reveal(accessToken))
        }
        assert.strictEqual(yield* sandbox.count("refresh"), 0)
        // Whoever comes next is not given what is known to be dead.
        assert.strictEqual((yield* tokens.ensureValid(user())).refreshed, status === 498)
      })
    )
  }

  scenario(
    "nor is another token advised at the second refusal",
    Effect.gen(function* () {
      const { grant, tokens } = yield* World.connected("managed")
      yield* tokens.refresh(user(), { forceRefresh: true })
      const refusal = { accessToken: grant.accessToken, status: 401, isSecond: true }
      assert.strictEqual((yield* tokens.reportRejected(user(), refusal))._tag, "GiveUp")
    })
  )

  scenario(
    "401 on a token of unknown age is refreshed: nobody can say that it is young",
    Effect.gen(function* () {
      const tokens = yield* CalTokens
      const sandbox = yield* Sandbox
      const grant = yield* sandbox.grantManaged({})
      const opaque = Redacted.make("opaque")
      yield* tokens.connect(
        user(),
        { _tag: "ManagedUser", calUserId: grant.calUserId },
        { ...grant, accessToken: opaque }
      )
      const advice = yield* tokens.reportRejected(user(), { accessToken: opaque, status: 401 })
      assert.strictEqual(advice._tag, "Retry")
      assert.strictEqual(yield* sandbox.count("refresh"), 1)
    })
  )

  for (const [after, refreshes] of [
    [29_999, 1],
    [30_000, 2]
  ] as const) {
    scenario(
      `P7: a second refusal ${after} ms after the first one's refresh: ${refreshes} refreshes in all`,
      Effect.gen(function* () {
        const { grant, sandbox, tokens } = yield* World.connected("managed")
        yield* TestClock.adjust("1 minute")
        const first = yield* tokens.reportRejected(user(), { accessToken: grant.accessToken, status: 401 })
        assert.strictEqual(first._tag, "Retry")
        yield* TestClock.adjust(after)
        const { accessToken } = yield* tokens.ensureValid(user())
        const second = yield* tokens.reportRejected(user(), { accessToken, status: 401 })
        assert.strictEqual(second._tag, refreshes === 1 ? "GiveUp" : "Retry")
        assert.strictEqual(yield* sandbox.count("refresh"), refreshes)
      })
    )
  }

  scenario(
    "P7: the 30 s hold for the whole fleet",
    Effect.gen(function* () {
      const { grant, sandbox, tokens } = yield* World.connected("managed")
      const other = (yield* World.anotherNode()).tokens
      yield* TestClock.adjust("1 minute")
      yield* tokens.reportRejected(user(), { accessToken: grant.accessToken, status: 401 })
      yield* TestClock.adjust("15 seconds")
      const { accessToken } = yield* other.ensureValid(user())
      assert.strictEqual((yield* other.reportRejected(user(), { accessToken, status: 401 }))._tag, "GiveUp")
      assert.strictEqual(yield* sandbox.count("refresh"), 1)
    })
  )

  scenario(
    "P7: a refusal does not open the way for a loop of forced refreshes, nor the other way round",
    Effect.gen(function* () {
      const { sandbox, tokens } = yield* World.connected("managed")
      yield* TestClock.adjust("1 minute")
      for (let i = 0; i < 20; i++) {
        const { accessToken } = (yield* World.stored()).pair
        yield* Effect.either(tokens.reportRejected(user(), { accessToken, status: 498 }))
        yield* Effect.either(tokens.refresh(user(), { forceRefresh: true }))
      }
      assert.strictEqual(yield* sandbox.count("refresh"), 3)
    })
  )

  scenario(
    "498 and the refresh fails: the refused token is not served again until it was replaced",
    Effect.gen(function* () {
      const { grant, sandbox, tokens } = yield* World.connected("managed")
      yield* sandbox.expireAccessTokens(grant.calUserId)
      yield* sandbox.inject(Fault.refuseConnection({ kind: "refresh" }))
      const refusal = { accessToken: grant.accessToken, status: 498 }
      assert.strictEqual((yield* Effect.flip(tokens.reportRejected(user(), refusal)))._tag, "CalUnavailable")
      assert.strictEqual((yield* Effect.flip(tokens.ensureValid(user())))._tag, "RefreshCoolingDown")
      assert.isTrue((yield* tokens.info(user())).isExpired)
      yield* TestClock.adjust("6 seconds")
      assert.isTrue((yield* tokens.ensureValid(user())).refreshed)
      assert.isFalse((yield* tokens.info(user())).isExpired)
    })
  )

  for (const [what, fault] of [
    ["without an answer", Fault.dropBefore({ kind: "oauth2Refresh" })],
    ["503", Fault.status(503, { kind: "oauth2Refresh" })]
  ] as const) {
    scenario(
      `401 and the refresh is ${what}: who asks waits for the probe, and others are told when to come back`,
      Effect.gen(function* () {
        const { grant, sandbox } = yield* World.connected("oauth2")
        const other = (yield* World.anotherNode()).tokens
        yield* TestClock.adjust("1 minute")
        yield* sandbox.expireAccessTokens(grant.calUserId)
        yield* sandbox.inject(fault)
        const asking = yield* World.start(me)
        const refusal = { accessToken: grant.accessToken, status: 401 }
        const error = yield* Effect.flip(other.reportRejected(user(), refusal))
        assert.isTrue(error._tag === "RefreshCoolingDown" && error.lastError === "CalUnavailable")
        assert.isTrue(Option.exists(TokenError.retryAfter(error), Duration.greaterThan(Duration.zero)))
        yield* TestClock.adjust(5000 - 1)
        assert.strictEqual(yield* sandbox.count("oauth2Refresh"), 1)
        yield* TestClock.adjust(1)
        yield* World.untilDone(asking, 1000)
        assert.strictEqual((yield* asking).status, 200)
        assert.strictEqual(yield* sandbox.count("oauth2Refresh"), 2)
        assert.strictEqual((yield* other.reportRejected(user(), refusal))._tag, "Retry")
      })
    )
  }

  // An access token that nobody but Cal.com knows to be dead, and the first refresh of it does not succeed.
  for (const [what, fault, first, calls] of [
    ["never sent", Fault.refuseConnection({ kind: "oauth2Refresh" }), "CalUnavailable", 0],
    ["429", Fault.status(429, { kind: "oauth2Refresh", headers: { "retry-after": "7" } }), "CalRateLimited", 1]
  ] as const) {
    scenario(
      `401 and the refresh is ${what}: who asks is told of that, here and elsewhere, until it is tried again`,
      Effect.gen(function* () {
        const { grant, sandbox, tokens } = yield* World.connected("oauth2")
        const other = (yield* World.anotherNode()).tokens
        yield* TestClock.adjust("1 minute")
        yield* sandbox.expireAccessTokens(grant.calUserId)
        yield* sandbox.inject(fault)
        const failed = yield* Effect.flip(me)
        assert.strictEqual(failed._tag, first)
        const refusal = { accessToken: grant.accessToken, status: 401 }
        for (const process of [tokens, other]) {
          const error = yield* Effect.flip(process.reportRejected(user(), refusal))
          assert.isTrue(error._tag === "RefreshCoolingDown" && error.lastError === first)
          assert.isTrue(Option.exists(TokenError.retryAfter(error), Duration.greaterThan(Duration.zero)))
        }
        assert.strictEqual((yield* Effect.flip(me))._tag, "RefreshCoolingDown")
        yield* TestClock.adjust(30_000 - 1)
        assert.include(["RefreshCoolingDown", "CalUnavailable"], (yield* Effect.flip(me))._tag)
        assert.strictEqual(yield* sandbox.count("oauth2Refresh"), calls)
        yield* TestClock.adjust(1)
        assert.strictEqual((yield* me).status, 200)
      })
    )
  }

  scenario(
    "401 and the refresh brought a pair that is refused too: that is no matter of a refresh, and Cal.com's answer stands",
    Effect.gen(function* () {
      const { grant, sandbox, tokens } = yield* World.connected("oauth2")
      yield* TestClock.adjust("1 minute")
      yield* sandbox.expireAccessTokens(grant.calUserId)
      assert.strictEqual((yield* me).status, 200)
      yield* TestClock.adjust("11 seconds")
      yield* sandbox.expireAccessTokens(grant.calUserId)
      const { accessToken } = yield* tokens.ensureValid(user())
      assert.strictEqual((yield* me).status, 401)
      assert.strictEqual((yield* tokens.reportRejected(user(), { accessToken, status: 401 }))._tag, "GiveUp")
    })
  )

  scenario(
    "a probe that fails as well says when the next one is due",
    Effect.gen(function* () {
      const { sandbox, tokens } = yield* World.expired("oauth2")
      yield* sandbox.inject(Fault.status(503, { kind: "oauth2Refresh", times: 2 }))
      const error = yield* Effect.flip(World.passTime(tokens.ensureValid(user()), 20_000))
      assert.strictEqual(error._tag, "CalUnavailable")
      assert.isTrue(Option.exists(TokenError.retryAfter(error), Duration.greaterThanOrEqualTo("5 seconds")))
    })
  )

  scenario(
    "a refusal of a user who has to reconnect says so",
    Effect.gen(function* () {
      const { grant, sandbox, tokens } = yield* World.connected("oauth2")
      yield* sandbox.revokeRefreshTokens(grant.calUserId)
      yield* TestClock.adjust("20 seconds")
      const refusal = { accessToken: grant.accessToken, status: 401 }
      assert.strictEqual((yield* Effect.flip(tokens.reportRejected(user(), refusal)))._tag, "ReauthorizationRequired")
      assert.strictEqual((yield* Effect.flip(tokens.reportRejected(user(), refusal)))._tag, "ReauthorizationRequired")
      assert.strictEqual(yield* sandbox.count("oauth2Refresh"), 1)
    })
  )

  scenario(
    "a refusal of an unknown user costs no call",
    Effect.gen(function* () {
      const tokens = yield* CalTokens
      const sandbox = yield* Sandbox
      const error = yield* Effect.flip(
        tokens.reportRejected(user(), { accessToken: Redacted.make("whose?"), status: 498 })
      )
      assert.strictEqual(error._tag, "TokensNotFound")
      assert.strictEqual((yield* sandbox.calls).length, 0)
    })
  )

  scenario(
    "a token that was not refused for 30 s leaves a claim that failed without trace: a client-wide fault does not count",
    Effect.gen(function* () {
      const { grant, tap, tokens } = yield* World.connected("managed")
      yield* TestClock.adjust("1 minute")
      yield* World.turn({ managedSecretRejected: true })
      const refusal = { accessToken: grant.accessToken, status: 401 }
      yield* Effect.flip(tokens.reportRejected(user(), refusal))
      yield* World.turn({ managedSecretRejected: false })
      yield* TestClock.adjust("1 second")
      const other = (yield* World.anotherNode(brief)).tokens
      assert.strictEqual((yield* other.reportRejected(user(), refusal))._tag, "Retry")
      assert.isTrue(Option.isSome(yield* tap.raw.find(user())))
    }),
    { config: brief }
  )
})
