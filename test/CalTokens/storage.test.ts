/** The database fails at the worst moments: what Cal.com granted is never lost, and no refresh token is spent twice. */
import { assert, describe } from "@effect/vitest"
import { Effect, Fiber, TestClock } from "effect"
import { Fault } from "../../src/Sandbox.js"
import * as World from "../support/World.js"

const { reveal, scenario, user } = World

for (const kind of World.kinds) {
  describe(kind, () => {
    scenario(
      "S10: the commit fails three times: the fresh token is served from memory and the write repeated until it lands",
      Effect.gen(function* () {
        const { grant, sandbox, tap, tokens } = yield* World.expired(kind)
        yield* tap.refuse("commit", 3)
        const { result, took } = yield* World.timed(tokens.ensureValid(user()))
        assert.strictEqual(took, 0)
        assert.isTrue(yield* sandbox.isAccessLive(result.accessToken))
        assert.strictEqual(reveal((yield* World.stored()).pair.refreshToken), reveal(grant.refreshToken))
        const again = yield* tokens.ensureValid(user())
        assert.strictEqual(reveal(again.accessToken), reveal(result.accessToken))
        yield* TestClock.adjust("1 second")
        assert.isTrue(yield* World.isStoredPairLive())
        assert.strictEqual((yield* World.presented).length, 1)
        assert.strictEqual(reveal((yield* World.stored()).pair.accessToken), reveal(result.accessToken))
      })
    )

    scenario(
      "an old token is refused while the storage is down: the caller gets the one that is remembered",
      Effect.gen(function* () {
        const { grant, tap, tokens } = yield* World.expired(kind)
        const fresh = yield* tokens.ensureValid(user())
        yield* tap.down
        const advice = yield* tokens.reportRejected(user(), { accessToken: grant.accessToken, status: 401 })
        assert.strictEqual(advice._tag === "Retry" ? reveal(advice.token.accessToken) : "", reveal(fresh.accessToken))
        const error = yield* Effect.flip(tokens.reportRejected(user(), { accessToken: fresh.accessToken, status: 498 }))
        assert.strictEqual(error._tag, "StorageUnavailable")
      })
    )

    scenario(
      "S10: the storage is down for 50 minutes after the commit failed: every caller is served, nothing is evicted",
      Effect.gen(function* () {
        const { sandbox, tap, tokens } = yield* World.expired(kind)
        yield* tap.around("claim", { after: tap.down })
        const answer = yield* tokens.ensureValid(user())
        yield* TestClock.setTime(answer.expiresAt - 400_000)
        for (let n = 2; n <= 20; n++) yield* Effect.either(tokens.ensureValid(user(n)))
        assert.strictEqual(reveal((yield* tokens.ensureValid(user())).accessToken), reveal(answer.accessToken))
        yield* tap.up
        yield* TestClock.adjust("5 seconds")
        assert.isTrue(yield* World.isStoredPairLive())
        assert.strictEqual((yield* World.presented).length, 1)
        assert.strictEqual(yield* sandbox.count("forceRefresh"), 0)
      }),
      { config: { memoryMaxEntries: 2 } }
    )

    scenario(
      "S10: the storage commits and its answers are lost: one pair, one version more, one change told",
      Effect.gen(function* () {
        const { tap, tokens } = yield* World.expired(kind)
        const before = yield* World.stored()
        yield* tap.loseAnswer("commit", 2)
        yield* tokens.ensureValid(user())
        yield* TestClock.adjust("10 seconds")
        const after = yield* World.stored()
        assert.strictEqual(after.version, before.version + 1)
        assert.isTrue(yield* World.isStoredPairLive())
        assert.strictEqual((yield* World.presented).length, 1)
        assert.strictEqual((yield* tokens.ensureValid(user())).version, after.version)
      })
    )

    scenario(
      "S10: forced refreshes while a pair is held put it in the storage first, and never spend the old token",
      Effect.gen(function* () {
        const { grant, tap, tokens } = yield* World.expired(kind)
        yield* tap.refuse("commit", 6)
        yield* tokens.ensureValid(user())
        yield* Effect.either(tokens.refresh(user(), { forceRefresh: true }))
        yield* TestClock.adjust("1 minute")
        yield* tokens.refresh(user(), { forceRefresh: true })
        const presented = yield* World.presented
        assert.strictEqual(presented.filter((one) => one === World.hashOf(grant.refreshToken)).length, 1)
        assert.isTrue(yield* World.isStoredPairLive())
      })
    )

    scenario(
      "S10: disconnected while its pair is held: the pair goes nowhere",
      Effect.gen(function* () {
        const { tap, tokens } = yield* World.expired(kind)
        yield* tap.refuse("commit", 3)
        yield* tokens.ensureValid(user())
        yield* tokens.disconnect(user())
        assert.strictEqual((yield* Effect.flip(tokens.ensureValid(user())))._tag, "TokensNotFound")
        yield* TestClock.adjust("1 minute")
        assert.strictEqual((yield* Effect.flip(tokens.ensureValid(user())))._tag, "TokensNotFound")
      })
    )

    scenario(
      "S25: disconnected while Cal.com is asked, and then the storage fails: nobody is served from what cannot be stored",
      Effect.gen(function* () {
        const { refresh, sandbox, tap, tokens } = yield* World.expired(kind)
        yield* sandbox.inject(Fault.delayAfter("2 seconds", refresh))
        const caller = yield* World.start(Effect.flip(tokens.ensureValid(user())))
        yield* tokens.disconnect(user())
        yield* tap.down
        yield* TestClock.adjust("3 seconds")
        assert.strictEqual((yield* Fiber.join(caller))._tag, "StorageUnavailable")
        assert.strictEqual((yield* Effect.flip(tokens.ensureValid(user())))._tag, "StorageUnavailable")
        yield* tap.up
        yield* TestClock.adjust("5 seconds")
        assert.strictEqual((yield* Effect.flip(tokens.ensureValid(user())))._tag, "TokensNotFound")
      })
    )

    scenario(
      "the answer of a claim is lost: nobody is locked out for longer than its lease, and nothing is lost",
      Effect.gen(function* () {
        const { refreshes, tap, tokens } = yield* World.expired(kind)
        yield* tap.loseAnswer("claim")
        assert.strictEqual((yield* Effect.flip(tokens.ensureValid(user())))._tag, "StorageUnavailable")
        yield* TestClock.adjust("30 seconds")
        const answer = yield* World.passTime(tokens.ensureValid(user()), 30_000)
        assert.isTrue(answer.refreshed)
        assert.strictEqual(yield* refreshes, 1)
      })
    )

    scenario(
      "the storage is down when a failure is to be written: nothing is sent twice, and it heals after the lease",
      Effect.gen(function* () {
        const { refresh, refreshes, sandbox, tap, tokens } = yield* World.expired(kind)
        yield* sandbox.inject(Fault.refuseConnection(refresh))
        yield* tap.refuse("fail")
        assert.strictEqual((yield* Effect.flip(tokens.ensureValid(user())))._tag, "CalUnavailable")
        yield* World.passTime(Effect.either(tokens.ensureValid(user())), 30_000)
        yield* TestClock.adjust("30 seconds")
        const answer = yield* World.passTime(tokens.ensureValid(user()), 30_000)
        assert.isTrue(yield* sandbox.isAccessLive(answer.accessToken))
        assert.strictEqual(yield* refreshes, 1)
      })
    )
  })
}

scenario(
  "S10: another process takes over while a managed pair is held here: in the end the stored pair is live",
  Effect.gen(function* () {
    const { sandbox, tap, tokens } = yield* World.expired("managed")
    const other = (yield* World.anotherNode()).tokens
    // Only this process cannot write.
    yield* tap.around("commit", { before: Effect.sleep("45 seconds") })
    const here = yield* World.start(Effect.either(tokens.ensureValid(user())))
    yield* TestClock.adjust("31 seconds")
    yield* World.passTime(other.ensureValid(user()), 25_000)
    yield* World.untilDone(here, 60_000)
    yield* TestClock.adjust("60 seconds")
    assert.isTrue(yield* World.isStoredPairLive())
    for (const node of [tokens, other]) {
      assert.isTrue(yield* sandbox.isAccessLive((yield* node.ensureValid(user())).accessToken))
    }
  })
)

scenario(
  "S10: another process finds a held OAuth2 pair's old token spent and says reconnect: the late commit takes that back",
  Effect.gen(function* () {
    const { sandbox, tap, tokens } = yield* World.expired("oauth2")
    const other = (yield* World.anotherNode()).tokens
    yield* tap.around("commit", { before: Effect.sleep("60 seconds") })
    const here = yield* World.start(Effect.either(tokens.ensureValid(user())))
    yield* TestClock.adjust("31 seconds")
    const error = yield* World.passTime(Effect.flip(other.ensureValid(user())), 25_000)
    assert.strictEqual(error._tag, "ReauthorizationRequired")
    yield* World.untilDone(here, 60_000)
    yield* TestClock.adjust("60 seconds")
    assert.strictEqual((yield* World.stored()).status._tag, "Active")
    assert.isTrue(yield* World.isStoredPairLive())
    assert.isTrue(yield* sandbox.isAccessLive((yield* other.ensureValid(user())).accessToken))
  })
)

scenario(
  "P4, P9: a late answer that arrives during the probe is used: nobody is told to reconnect",
  Effect.gen(function* () {
    const { sandbox, tokens } = yield* World.expired("oauth2")
    // Sent at 0, given up at 8 s, answered at 14 s; probed at 13 s, and refused at 16 s.
    yield* sandbox.inject(Fault.delayAfter("14 seconds", { kind: "oauth2Refresh" }))
    yield* sandbox.inject(Fault.delayAfter("3 seconds", { kind: "oauth2Refresh" }))
    const caller = yield* World.start(Effect.either(tokens.ensureValid(user())))
    const answer = yield* World.landed(caller, 60_000)
    assert.isTrue(answer._tag === "Right" && (yield* sandbox.isAccessLive(answer.right.accessToken)))
    yield* TestClock.adjust("1 second")
    assert.strictEqual((yield* World.stored()).status._tag, "Active")
    assert.isTrue(yield* World.isStoredPairLive())
  })
)
