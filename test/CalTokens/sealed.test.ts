/** Answers in which nobody finds a pair: kept for a program that does, and the end of all refreshing until then. */
import { assert, describe } from "@effect/vitest"
import { Duration, Effect, Fiber, Option, Redacted, TestClock } from "effect"
import { Fault, type OddAnswer, Sandbox } from "../../src/Sandbox.js"
import { hash } from "../../src/Token.js"
import { defaults } from "../../src/TokenConfig.js"
import { AttemptFailure, Purpose } from "../../src/TokenStorage.js"
import { learnToRead, sealed } from "../support/SealedAnswers.js"
import { StorageTap } from "../support/StorageTap.js"
import * as World from "../support/World.js"

const { scenario, user, users } = World

const changed = (answer: OddAnswer, refresh: { readonly kind: "refresh" | "oauth2Refresh" }) =>
  Fault.odd(answer, { ...refresh, times: Infinity })

/** Another process probes the user's token and is refused. */
const giveUpElsewhere = Effect.gen(function* () {
  const { raw } = yield* StorageTap
  const { attemptTimeout: lease, cooldownWindow, maxAttempts } = defaults
  const { version, pair } = yield* World.stored()
  const attempt = { userUlid: user(), attemptId: "another process" }
  const purpose = Purpose.Refresh({ knownVersion: version })
  yield* raw.claim({ ...attempt, purpose, lease, cooldownWindow, maxAttempts })
  const [cause, dead] = ["rotationLost" as const, [hash(pair.refreshToken)]]
  yield* raw.fail({ ...attempt, failure: AttemptFailure.Terminal({ cause, dead, probe: Option.none() }) })
})

const failureOf = (error: { readonly _tag: string }) => error._tag

for (const kind of World.kinds) {
  describe(kind, () => {
    const reissues = Effect.flatMap(Sandbox, (sandbox) => sandbox.count("forceRefresh"))

    for (const answer of ["tokensMissing", "tokensRenamed", "errorBeside"] as const) {
      scenario(
        `${answer}: one user's token is spent, the answer is kept, and no further refresh begins in any process`,
        Effect.gen(function* () {
          const { refresh, refreshes, sandbox, tokens } = yield* World.allExpired(kind, 12)
          const other = (yield* World.anotherNode()).tokens
          yield* sandbox.inject(changed(answer, refresh))
          const first = yield* World.passTime(Effect.flip(tokens.ensureValid(user(1))), 30_000)
          assert.strictEqual(first._tag, "CalProtocolError")
          assert.include(first.message, "Cal.com's answers changed")
          const told = yield* Effect.forEach(users(12), (userUlid, i) =>
            Effect.flip((i % 2 === 0 ? tokens : other).ensureValid(userUlid))
          )
          assert.deepStrictEqual([...new Set(told.map(failureOf))], ["CalProtocolError"])
          for (const { message } of told) {
            assert.include(message, "Cal.com's answers changed")
            assert.notMatch(message, /secret|wrong client/i)
          }
          assert.strictEqual(yield* refreshes, 1)
          assert.deepStrictEqual(
            (yield* sealed).map(({ userUlid, spentHash }) => [userUlid, spentHash]),
            [[user(1), hash((yield* World.stored(user(1))).pair.refreshToken)]]
          )
          assert.strictEqual((yield* World.stored(user(1))).status._tag, "Active")
        })
      )
    }

    scenario(
      "a program that reads the answer stores its pair when it starts, and everybody goes on",
      Effect.gen(function* () {
        const { refresh, refreshes, sandbox, tokens } = yield* World.allExpired(kind, 5)
        yield* sandbox.inject(changed("tokensRenamed", refresh))
        yield* World.passTime(Effect.flip(tokens.ensureValid(user(1))), 30_000)
        yield* TestClock.adjust("10 seconds")
        yield* sandbox.clearFaults
        yield* learnToRead
        const { tokens: newer } = yield* World.anotherNode()
        yield* World.settle
        assert.isTrue(yield* World.isStoredPairLive(user(1)))
        assert.deepStrictEqual(yield* sealed, [])
        yield* Effect.forEach(users(5), (userUlid) => newer.ensureValid(userUlid))
        assert.deepStrictEqual([...new Set(yield* Effect.forEach(users(5), World.isStoredPairLive))], [true])
        assert.strictEqual(yield* refreshes, 5)
      })
    )

    scenario(
      "one that runs already stores it when it hears that others do not understand Cal.com",
      Effect.gen(function* () {
        const { refresh, sandbox, tokens } = yield* World.allExpired(kind, 2)
        const { tokens: newer } = yield* World.anotherNode()
        yield* TestClock.adjust("2 seconds")
        yield* sandbox.inject(changed("tokensRenamed", refresh))
        yield* World.passTime(Effect.flip(tokens.ensureValid(user(1))), 30_000)
        yield* sandbox.clearFaults
        yield* learnToRead
        yield* Effect.flip(newer.ensureValid(user(2)))
        yield* World.settle
        assert.isTrue(yield* World.isStoredPairLive(user(1)))
        assert.deepStrictEqual(yield* sealed, [])
        yield* TestClock.adjust("30 seconds")
        assert.isTrue((yield* newer.ensureValid(user(2))).refreshed)
      })
    )

    scenario(
      "an answer that can be read by now is read by the next claim, before anything is probed",
      Effect.gen(function* () {
        const { refresh, refreshes, sandbox, tokens } = yield* World.expired(kind)
        yield* sandbox.inject(changed("tokensRenamed", refresh))
        yield* World.passTime(Effect.flip(tokens.ensureValid(user())), 30_000)
        yield* sandbox.clearFaults
        yield* learnToRead
        yield* TestClock.adjust("2 minutes")
        yield* tokens.ensureValid(user())
        assert.isTrue(yield* World.isStoredPairLive())
        assert.deepStrictEqual([yield* refreshes, yield* reissues], [1, 0])
      })
    )

    scenario(
      "nobody's token that still serves is risked: it serves on, forced or not",
      Effect.gen(function* () {
        const { refresh, refreshes, sandbox, tokens } = yield* World.allExpired(kind, 2)
        const fresh = yield* World.passTime(tokens.ensureValid(user(2)), 10_000)
        assert.isTrue(fresh.refreshed)
        yield* TestClock.adjust("1 minute")
        yield* sandbox.inject(changed("tokensMissing", refresh))
        yield* World.passTime(Effect.flip(tokens.ensureValid(user(1))), 30_000)
        for (let minute = 0; minute < 10; minute++) {
          assert.isFalse((yield* tokens.ensureValid(user(2))).refreshed)
          yield* Effect.flip(tokens.refresh(user(2), { forceRefresh: true }))
          yield* TestClock.adjust("1 minute")
        }
        assert.strictEqual(yield* refreshes, 2)
        assert.strictEqual(yield* reissues, 0)
      })
    )

    scenario(
      "a terminal user whose answer can be read by now does not have to reconnect",
      Effect.gen(function* () {
        const { refresh, sandbox, tokens } = yield* World.expired(kind)
        yield* sandbox.inject(Fault.odd("tokensRenamed", refresh))
        yield* World.passTime(Effect.flip(tokens.ensureValid(user())), 30_000)
        yield* TestClock.adjust("2 minutes")
        // It does not hold the user back as this process would.
        yield* giveUpElsewhere
        assert.strictEqual((yield* Effect.flip(tokens.ensureValid(user())))._tag, "ReauthorizationRequired")
        yield* learnToRead
        assert.isTrue((yield* tokens.ensureValid(user())).refreshed)
        assert.isTrue(yield* World.isStoredPairLive())
      })
    )

    scenario(
      "nor while nobody else is refreshed",
      Effect.gen(function* () {
        const { refresh, sandbox, tokens } = yield* World.allExpired(kind, 2)
        yield* sandbox.inject(changed("tokensRenamed", refresh))
        yield* World.passTime(Effect.flip(tokens.ensureValid(user(1))), 30_000)
        yield* giveUpElsewhere
        yield* learnToRead
        assert.strictEqual((yield* Effect.flip(tokens.ensureValid(user(2))))._tag, "CalProtocolError")
        assert.isTrue((yield* tokens.ensureValid(user(1))).refreshed)
        assert.isTrue(yield* World.isStoredPairLive(user(1)))
      })
    )

    scenario(
      "with the database down when it comes, the answer is held and offered until it is kept",
      Effect.gen(function* () {
        const { refresh, refreshes, sandbox, tap, tokens } = yield* World.expired(kind)
        yield* sandbox.inject(Fault.odd("tokensRenamed", refresh))
        yield* tap.refuse("fail")
        yield* tap.refuse("seal", Infinity)
        yield* World.passTime(Effect.either(tokens.ensureValid(user())), 60_000)
        assert.deepStrictEqual(yield* sealed, [])
        yield* tap.relent
        yield* TestClock.adjust("3 seconds")
        assert.strictEqual((yield* sealed).length, 1)
        yield* TestClock.adjust("10 seconds")
        assert.strictEqual((yield* Effect.flip(tokens.ensureValid(user())))._tag, "CalProtocolError")
        assert.strictEqual(yield* refreshes, 1)
      })
    )

    scenario(
      "an answer that comes when its attempt is over is kept all the same",
      Effect.gen(function* () {
        const { refresh, sandbox, tokens } = yield* World.expired(kind)
        yield* sandbox.inject(Fault.odd("tokensRenamed", { ...refresh, after: "9 seconds" }))
        const asking = yield* World.start(Effect.either(tokens.ensureValid(user())))
        yield* TestClock.adjust("8500 millis")
        assert.deepStrictEqual(yield* sealed, [])
        yield* TestClock.adjust("1 second")
        assert.strictEqual((yield* sealed).length, 1)
        yield* World.untilDone(asking, 60_000)
      })
    )

    scenario(
      "a page instead of JSON may be one proxy's: drift only when a second user meets it",
      Effect.gen(function* () {
        const { refresh, refreshes, sandbox, tokens } = yield* World.allExpired(kind, 4)
        yield* sandbox.inject(Fault.odd("maintenancePage", { ...refresh, times: 2 }))
        const first = yield* World.start(Effect.either(tokens.ensureValid(user(1))))
        assert.strictEqual((yield* sealed).length, 1)
        const second = yield* World.start(Effect.either(tokens.ensureValid(user(2))))
        assert.deepStrictEqual([(yield* sealed).length, yield* refreshes], [2, 2])
        assert.strictEqual((yield* Effect.flip(tokens.ensureValid(user(3))))._tag, "CalProtocolError")
        yield* World.untilDone(first, 30_000)
        yield* World.untilDone(second, 30_000)
        assert.strictEqual(yield* refreshes, 2)
      })
    )

    scenario(
      "another user's pair is neither stored nor served: it is kept, and drift when a second user gets one",
      Effect.gen(function* () {
        const { refresh, refreshes, sandbox, tokens } = yield* World.allExpired(kind, 4)
        yield* sandbox.inject(Fault.odd("otherUser", { ...refresh, times: 2 }))
        const before = yield* Effect.forEach(users(2), World.stored)
        const asking = yield* World.start(
          Effect.forEach(users(2), (userUlid) => Effect.flip(tokens.ensureValid(userUlid)), { concurrency: 2 })
        )
        assert.strictEqual((yield* Effect.flip(tokens.ensureValid(user(3))))._tag, "CalProtocolError")
        assert.strictEqual(yield* refreshes, 2)
        assert.strictEqual((yield* sealed).length, 2)
        yield* World.untilDone(asking, 30_000)
        assert.deepStrictEqual((yield* Fiber.join(asking)).map(failureOf), ["CalProtocolError", "CalProtocolError"])
        assert.deepStrictEqual(yield* Effect.forEach(users(2), World.stored), before)
      })
    )

    scenario(
      "connect, update and disconnect end what is kept, and so do thirty days",
      Effect.gen(function* () {
        const { tap, tokens } = yield* World.allExpired(kind, 1)
        const seal = Effect.gen(function* () {
          yield* tap.raw.seal({
            userUlid: user(),
            spentHash: "spent",
            operation: "refresh",
            connection: (yield* World.stored()).connection,
            answer: Redacted.make(new TextEncoder().encode("?")),
            issuedAt: 0,
            isWhole: true
          })
          assert.strictEqual((yield* sealed).length, 1)
        })
        const pair = (yield* World.stored()).pair
        yield* seal
        yield* tokens.update(user(), { ...pair, refreshToken: Redacted.make("another") })
        assert.deepStrictEqual(yield* sealed, [])
        yield* seal
        yield* TestClock.adjust(Duration.days(30))
        assert.deepStrictEqual(yield* sealed, [])
        yield* seal
        yield* tokens.disconnect(user())
        assert.deepStrictEqual(yield* sealed, [])
      })
    )
  })
}

describe("trials while Cal.com's answers are not understood", () => {
  scenario(
    "OAuth2: one more waiting user after 1, 2, 4 … minutes, and nobody else",
    Effect.gen(function* () {
      const { refresh, refreshes, sandbox, tokens } = yield* World.allExpired("oauth2", 20)
      yield* sandbox.inject(changed("tokensMissing", refresh))
      yield* World.passTime(Effect.flip(tokens.ensureValid(user(1))), 30_000)
      const begun = yield* sandbox.now
      for (let minute = 0; minute < 32; minute++) {
        yield* TestClock.adjust("1 minute")
        yield* Effect.forEach(users(20), (userUlid) =>
          World.passTime(Effect.either(tokens.ensureValid(userUlid)), 60_000)
        )
      }
      const minutes = (yield* sandbox.calls).slice(1).map(({ at }) => Math.round((at - begun) / 60_000))
      assert.deepStrictEqual(minutes, [1, 3, 7, 15, 31])
      assert.strictEqual(yield* refreshes, 6)
      assert.strictEqual((yield* sealed).length, 6)
    })
  )

  scenario(
    "OAuth2: a trial that is answered as ever ends it for everybody",
    Effect.gen(function* () {
      const { grants, refresh, sandbox, tokens } = yield* World.allExpired("oauth2", 6)
      yield* sandbox.inject(Fault.odd("tokensMissing", refresh))
      yield* World.passTime(Effect.flip(tokens.ensureValid(user(1))), 30_000)
      // A trial that is refused says nothing of answers: it stays open.
      yield* sandbox.revokeRefreshTokens(grants[1]?.calUserId ?? 0)
      yield* TestClock.adjust("61 seconds")
      assert.strictEqual((yield* Effect.flip(tokens.ensureValid(user(2))))._tag, "ReauthorizationRequired")
      assert.strictEqual((yield* Effect.flip(tokens.ensureValid(user(3))))._tag, "CalProtocolError")
      yield* TestClock.adjust("2 minutes")
      for (const n of [3, 4, 5, 6]) assert.isTrue((yield* tokens.ensureValid(user(n))).refreshed)
      // Whose answer held nothing is told so, when every version had its time to read it, and nobody else.
      const other = (yield* World.anotherNode()).tokens
      const before = yield* sandbox.count("oauth2Refresh")
      for (let minute = 0; minute < 5; minute++) {
        for (const node of [tokens, other]) {
          const error = yield* World.passTime(Effect.flip(node.ensureValid(user(1))), 30_000)
          assert.strictEqual(error._tag, "CalProtocolError")
          assert.include(error.message, "is kept")
        }
        yield* TestClock.adjust("1 minute")
      }
      assert.strictEqual(yield* sandbox.count("oauth2Refresh"), before)
      const lost = yield* World.passTime(Effect.flip(tokens.ensureValid(user(1))), 30_000)
      assert.strictEqual(lost._tag === "ReauthorizationRequired" ? lost.cause : lost._tag, "rotationLost")
    })
  )

  scenario(
    "whose answer is kept is told so in plain words each time, also while a trial is due that is not theirs",
    Effect.gen(function* () {
      const { refresh, refreshes, sandbox, tokens } = yield* World.allExpired("oauth2", 2)
      yield* sandbox.inject(changed("tokensRenamed", refresh))
      yield* World.passTime(Effect.flip(tokens.ensureValid(user(1))), 30_000)
      yield* TestClock.adjust("61 seconds")
      for (let second = 0; second < 40; second++) {
        const { _tag, message } = yield* Effect.flip(tokens.ensureValid(user(1)))
        assert.strictEqual(_tag, "CalProtocolError")
        assert.include(message, "Cal.com's answers changed")
        yield* TestClock.adjust("1 second")
      }
      assert.strictEqual(yield* refreshes, 1)
    })
  )

  scenario(
    "what can be read by now is read under the brake, too",
    Effect.gen(function* () {
      const { grants, refresh, sandbox, tokens } = yield* World.allExpired("oauth2", 7)
      const other = (yield* World.anotherNode()).tokens
      yield* sandbox.inject(Fault.odd("tokensRenamed", refresh))
      yield* World.passTime(Effect.flip(tokens.ensureValid(user(1))), 30_000)
      yield* TestClock.adjust("61 seconds")
      assert.isTrue((yield* tokens.ensureValid(user(2))).refreshed)
      yield* TestClock.adjust("1 second")
      for (const { calUserId } of grants.slice(2)) yield* sandbox.revokeRefreshTokens(calUserId)
      const told = yield* Effect.forEach([3, 4, 5, 6, 7], (n) => Effect.flip(tokens.ensureValid(user(n))))
      assert.strictEqual(told.at(-1)?._tag, "CalClientMisconfigured")
      yield* learnToRead
      assert.isTrue((yield* other.ensureValid(user(1))).refreshed)
      assert.isTrue(yield* World.isStoredPairLive(user(1)))
    })
  )

  scenario(
    "a process that heard of it looks again within half a minute, however far away the next trial is",
    Effect.gen(function* () {
      const { grants, refresh, sandbox, tokens } = yield* World.allExpired("oauth2", 4)
      const other = (yield* World.anotherNode()).tokens
      yield* sandbox.inject(Fault.odd("tokensMissing", { ...refresh, times: 2 }))
      yield* World.passTime(Effect.flip(tokens.ensureValid(user(1))), 30_000)
      yield* TestClock.adjust("61 seconds")
      yield* World.passTime(Effect.flip(tokens.ensureValid(user(2))), 30_000)
      assert.strictEqual((yield* Effect.flip(tokens.ensureValid(user(3))))._tag, "CalProtocolError")
      // Elsewhere Cal.com exchanges a code, and its answer is as ever.
      const grant = yield* sandbox.grantOAuth2({ calUserId: grants[0]?.calUserId })
      const accessTokenExpiresAt = (yield* sandbox.now) + grant.expiresIn * 1000
      const connection = { _tag: "OAuth2", calUserId: grant.calUserId } as const
      yield* other.connectWith(user(1), Effect.succeed({ connection, pair: { ...grant, accessTokenExpiresAt } }))
      yield* TestClock.adjust("30 seconds")
      assert.isTrue((yield* tokens.ensureValid(user(3))).refreshed)
    })
  )

  scenario(
    "managed: they are reissues, which spend nothing, one per half minute; the first that is understood ends it",
    Effect.gen(function* () {
      const { refreshes, sandbox, tokens } = yield* World.allExpired("managed", 6)
      yield* sandbox.inject(changed("tokensMissing", { kind: "refresh" }))
      yield* sandbox.inject(Fault.odd("tokensMissing", { kind: "forceRefresh", times: 3 }))
      yield* World.passTime(Effect.flip(tokens.ensureValid(user(1))), 30_000)
      for (let i = 0; i < 3; i++) {
        yield* TestClock.adjust("30 seconds")
        yield* Effect.forEach(users(6), (userUlid) =>
          World.passTime(Effect.either(tokens.ensureValid(userUlid)), 20_000)
        )
      }
      assert.isAtMost(yield* sandbox.count("forceRefresh"), 4)
      assert.strictEqual(yield* refreshes, 1)
      yield* sandbox.clearFaults
      for (let i = 0; i < 4; i++) {
        yield* TestClock.adjust("30 seconds")
        yield* Effect.forEach(users(6), (userUlid) =>
          World.passTime(Effect.either(tokens.ensureValid(userUlid)), 20_000)
        )
      }
      for (const userUlid of users(6)) {
        yield* tokens.ensureValid(userUlid)
        assert.isTrue(yield* World.isStoredPairLive(userUlid))
      }
    })
  )
})

scenario(
  "a reissue is not answered by a pair that a refresh brought and a newer program reads",
  Effect.gen(function* () {
    const { refresh, sandbox, tokens } = yield* World.allExpired("managed", 1)
    yield* sandbox.inject(changed("tokensRenamed", refresh))
    yield* World.passTime(Effect.flip(tokens.ensureValid(user(1))), 30_000)
    yield* TestClock.adjust("2 minutes")
    yield* sandbox.clearFaults
    yield* learnToRead
    const token = yield* World.passTime(tokens.refresh(user(1), { reissue: true }), 30_000)
    assert.strictEqual(yield* sandbox.count("forceRefresh"), 1)
    assert.isTrue(yield* sandbox.isAccessLive(token.accessToken))
  })
)
