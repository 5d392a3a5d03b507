/** Answers that come late, pairs that are displaced, people who reconnect in the middle: nothing that lives is thrown away. */
import { assert, describe } from "@effect/vitest"
import { Duration, Effect, Fiber, Option, TestClock } from "effect"
import { CalTokens } from "../../src/CalTokens.js"
import { Fault, Sandbox } from "../../src/Sandbox.js"
import { StorageUnavailable } from "../../src/TokenError.js"
import { StorageTap } from "../support/StorageTap.js"
import * as World from "../support/World.js"

const { reveal, scenario, user } = World

const reconnect = Effect.gen(function* () {
  const sandbox = yield* Sandbox
  const tokens = yield* CalTokens
  const before = yield* World.stored()
  const grant = yield* sandbox.grantOAuth2({ calUserId: before.connection.calUserId })
  const accessTokenExpiresAt = (yield* sandbox.now) + grant.expiresIn * 1000
  yield* tokens.connect(user(), { _tag: "OAuth2", calUserId: grant.calUserId }, { ...grant, accessTokenExpiresAt })
  return grant
})

/** The user's next refreshes work, without a person. */
const staysConnected = Effect.gen(function* () {
  const tokens = yield* CalTokens
  const sandbox = yield* Sandbox
  for (let i = 0; i < 2; i++) {
    const { accessTokenExpiresAt } = (yield* World.stored()).pair
    yield* TestClock.setTime(accessTokenExpiresAt + 1)
    const answer = yield* World.passTime(tokens.ensureValid(user()), 60_000)
    assert.isTrue(yield* sandbox.isAccessLive(answer.accessToken))
  }
  assert.isTrue(yield* World.isStoredPairLive())
})

scenario(
  "a process that could not store its pair, and another that probes in the meantime: nobody is asked to reconnect",
  Effect.gen(function* () {
    const { sandbox, tap, tokens } = yield* World.expired("oauth2")
    const other = yield* World.anotherNode()
    // Longer than the lease, until the other one has been refused.
    yield* tap.refuse("commit", 1000)
    yield* World.passTime(tokens.ensureValid(user()), 1000)
    yield* TestClock.adjust("31 seconds")
    const caller = yield* World.start(other.tokens.ensureValid(user()))
    yield* TestClock.adjust("1 second")
    assert.strictEqual((yield* World.presented).length, 2)
    yield* tap.relent
    const answer = yield* World.landed(caller, 20_000)
    assert.isTrue(yield* sandbox.isAccessLive(answer.accessToken))
    assert.isTrue(yield* World.isStoredPairLive())
  })
)

scenario(
  "a pair whose storing is not answered is not served over a newer one that this process has read",
  Effect.gen(function* () {
    const { tap, tokens } = yield* World.connected("oauth2")
    const other = (yield* World.anotherNode()).tokens
    yield* TestClock.adjust("1 minute")
    const unanswered = Effect.fail(new StorageUnavailable({ operation: "commit", reason: "silent" }))
    yield* tap.around("commit", { after: Effect.delay(unanswered, "5 seconds") })
    const force = (of: typeof tokens) => of.refresh(user(), { forceRefresh: true })
    const first = yield* World.start(force(tokens))
    const newer = yield* World.passTime(force(other), 1000)
    const second = yield* World.start(force(tokens))
    yield* World.untilDone(second, 20_000)
    assert.isAtLeast((yield* Fiber.join(first)).version, newer.version)
    assert.isAbove((yield* Fiber.join(second)).version, newer.version)
    yield* staysConnected
  })
)

describe("a process whose pair takes long to be stored, and another that gave the user up meanwhile", () => {
  /** The first one has its pair in hand, the second one was refused; the row says that the user has to reconnect. */
  const givenUp = (use: "ensureValid" | "refresh") =>
    Effect.gen(function* () {
      const tokens = yield* CalTokens
      const tap = yield* StorageTap
      const other = (yield* World.anotherNode()).tokens
      const ask = (of: typeof tokens) =>
        use === "refresh" ? of.refresh(user(), { forceRefresh: true }) : of.ensureValid(user())
      yield* tap.around("commit", { before: Effect.sleep("1 minute") })
      yield* World.start(Effect.either(ask(tokens)))
      yield* TestClock.adjust("31 seconds")
      const error = yield* World.passTime(Effect.flip(ask(other)), 20_000)
      assert.strictEqual(error._tag, "ReauthorizationRequired")
    })

  scenario(
    "its callers get the token and are not told to reconnect",
    Effect.gen(function* () {
      const { sandbox, tokens } = yield* World.expired("oauth2")
      yield* givenUp("ensureValid")
      const answer = yield* tokens.ensureValid(user())
      assert.isTrue(yield* sandbox.isAccessLive(answer.accessToken))
      assert.strictEqual((yield* World.stored()).status._tag, "Active")
      yield* staysConnected
    })
  )

  scenario(
    "it advises the token when the one before is refused",
    Effect.gen(function* () {
      const {
        grant: { accessToken },
        sandbox,
        tokens
      } = yield* World.connected("oauth2")
      yield* TestClock.adjust("1 minute")
      yield* givenUp("refresh")
      const advice = yield* tokens.reportRejected(user(), { accessToken, status: 401 })
      assert.isTrue(advice._tag === "Retry" && (yield* sandbox.isAccessLive(advice.token.accessToken)))
      yield* TestClock.adjust("1 minute")
    })
  )

  scenario(
    "it looks again when the answer comes while it is writing that there is none",
    Effect.gen(function* () {
      const { sandbox, tap, tokens } = yield* World.expired("oauth2")
      // No answer, a probe, a refusal; then the answer, whose first offer hangs.
      yield* sandbox.inject(Fault.delayAfter("6 seconds", { kind: "oauth2Refresh" }))
      yield* tap.around("fail", {})
      yield* tap.around("fail", { after: Effect.sleep("3 seconds") })
      yield* tap.around("commit", { before: Effect.sleep("10 seconds") })
      const { result, took } = yield* World.passTime(World.timed(tokens.ensureValid(user())), 20_000)
      assert.isTrue(yield* sandbox.isAccessLive(result.accessToken))
      assert.isBelow(took, 10_000)
      yield* staysConnected
    }),
    {
      config: {
        callTimeout: Duration.seconds(2),
        probeDelayExpired: Duration.seconds(1),
        latePairWait: Duration.seconds(2)
      }
    }
  )
})

scenario(
  "a pair that expires while it is being stored is not handed out, but refreshed in its turn",
  Effect.gen(function* () {
    const { sandbox, tap, tokens } = yield* World.connected("managed")
    yield* TestClock.adjust("11 seconds")
    yield* tap.around("commit", { before: Effect.sleep("12 seconds") })
    const answer = yield* World.passTime(tokens.ensureValid(user()), 60_000)
    assert.isTrue(yield* sandbox.isAccessLive(answer.accessToken))
    assert.strictEqual(yield* sandbox.count("refresh"), 2)
  }),
  { sandbox: { accessTokenLifetime: "10 seconds" } }
)

for (const kind of World.kinds) {
  describe(kind, () => {
    scenario(
      "a late answer whose pair takes long to be stored: it is offered once more, and nothing is probed",
      Effect.gen(function* () {
        const { refresh, sandbox, tap, tokens } = yield* World.expired(kind)
        yield* sandbox.inject(Fault.delayAfter("9 seconds", refresh))
        yield* tap.around("commit", { before: Effect.sleep("20 seconds") })
        const answer = yield* World.passTime(tokens.ensureValid(user()), 20_000)
        assert.isTrue(yield* sandbox.isAccessLive(answer.accessToken))
        assert.strictEqual((yield* World.presented).length, 1)
        yield* TestClock.adjust("20 seconds")
        assert.isTrue(yield* World.isStoredPairLive())
        yield* staysConnected
      })
    )

    scenario(
      "S8: an answer 2 s after the deadline: nothing is sent again, the live token is served, the pair is kept",
      Effect.gen(function* () {
        const { grant, refresh, sandbox, tokens } = yield* World.due(kind)
        yield* sandbox.inject(Fault.delayAfter("10 seconds", refresh))
        const early = yield* World.passTime(World.timed(tokens.ensureValid(user())), 10_000)
        assert.strictEqual(early.took, 5000)
        yield* TestClock.adjust("3 seconds")
        const unknown = yield* World.peek()
        assert.strictEqual(unknown._tag, "ProbeLater")
        assert.strictEqual(reveal((yield* tokens.ensureValid(user())).accessToken), reveal(grant.accessToken))
        yield* TestClock.adjust("2 seconds")
        assert.isTrue(yield* World.isStoredPairLive())
        assert.notStrictEqual(reveal((yield* tokens.ensureValid(user())).accessToken), reveal(grant.accessToken))
        assert.strictEqual((yield* World.presented).length, 1)
        const idle = yield* World.peek()
        assert.isTrue(idle._tag === "Claimed" && Option.isNone(idle.probe) && idle.consecutiveFailures === 0)
        yield* staysConnected
      })
    )

    scenario(
      "S8: the token is dead: the callers get the late answer before any probe is sent",
      Effect.gen(function* () {
        const { refresh, sandbox, tokens } = yield* World.expired(kind)
        yield* sandbox.inject(Fault.delayAfter("11 seconds", refresh))
        const { result } = yield* World.passTime(World.timed(tokens.ensureValid(user())), 25_000)
        assert.isTrue(yield* sandbox.isAccessLive(result.accessToken))
        assert.strictEqual((yield* World.presented).length, 1)
        assert.strictEqual(yield* sandbox.count("forceRefresh"), 0)
      })
    )

    scenario(
      "S8: an answer 30 s after the deadline is the last one listened for, also after the user was declared lost",
      Effect.gen(function* () {
        const { refresh, sandbox, tokens } = yield* World.expired(kind)
        yield* sandbox.inject(Fault.delayAfter("37 seconds", refresh))
        yield* World.passTime(Effect.either(tokens.ensureValid(user())), 30_000)
        yield* TestClock.adjust("30 seconds")
        assert.strictEqual((yield* World.stored()).status._tag, "Active")
        yield* staysConnected
      })
    )

    scenario(
      "two processes, the holder's answer is late: the other's probe and the late pair end in one that lives",
      Effect.gen(function* () {
        const { refresh, sandbox, tokens } = yield* World.expired(kind)
        const other = (yield* World.anotherNode()).tokens
        yield* sandbox.inject(Fault.delayAfter("14 seconds", refresh))
        yield* sandbox.inject(Fault.delayAfter("3 seconds", refresh))
        const both = yield* World.start(
          Effect.all([Effect.either(tokens.ensureValid(user())), Effect.either(other.ensureValid(user()))], {
            concurrency: 2
          })
        )
        yield* World.untilDone(both, 60_000)
        yield* TestClock.adjust("60 seconds")
        assert.strictEqual((yield* World.stored()).status._tag, "Active")
        yield* staysConnected
      })
    )

    scenario(
      "S25: disconnected in the middle of a refresh: not resurrected, and the callers hear it",
      Effect.gen(function* () {
        const { refresh, sandbox, tap, tokens } = yield* World.expired(kind)
        yield* sandbox.inject(Fault.delayAfter("2 seconds", refresh))
        const caller = yield* World.start(Effect.flip(tokens.ensureValid(user())))
        yield* tokens.disconnect(user())
        assert.strictEqual((yield* World.landed(caller, 5000))._tag, "TokensNotFound")
        assert.isTrue(Option.isNone(yield* tap.raw.find(user())))
        assert.strictEqual((yield* Effect.flip(tokens.info(user())))._tag, "TokensNotFound")
        assert.strictEqual((yield* Effect.flip(tokens.disconnect(user())))._tag, "TokensNotFound")
      })
    )

    scenario(
      "S25: disconnected while the token is due: its caller is not served a token of a forgotten user",
      Effect.gen(function* () {
        const { refresh, sandbox, tokens } = yield* World.due(kind)
        yield* sandbox.inject(Fault.delayAfter("2 seconds", refresh))
        const caller = yield* World.start(Effect.flip(tokens.ensureValid(user())))
        yield* tokens.disconnect(user())
        assert.strictEqual((yield* World.landed(caller, 5000))._tag, "TokensNotFound")
      })
    )

    scenario(
      "S25: disconnected before a late answer: its pair goes nowhere",
      Effect.gen(function* () {
        const { refresh, sandbox, tap, tokens } = yield* World.due(kind)
        yield* sandbox.inject(Fault.delayAfter("12 seconds", refresh))
        yield* World.passTime(tokens.ensureValid(user()), 10_000)
        yield* TestClock.adjust("4 seconds")
        yield* tokens.disconnect(user())
        yield* TestClock.adjust("10 seconds")
        assert.isTrue(Option.isNone(yield* tap.raw.find(user())))
        assert.strictEqual((yield* Effect.flip(tokens.ensureValid(user())))._tag, "TokensNotFound")
      })
    )

    scenario(
      "an expired pair is handed in while callers wait: they do not get it, and it is refreshed in its turn",
      Effect.gen(function* () {
        const { refresh, sandbox, tokens } = yield* World.connected(kind)
        const now = yield* sandbox.now
        yield* TestClock.adjust("61 minutes")
        const row = yield* World.stored()
        const fresh =
          kind === "managed" ? undefined : yield* sandbox.grantOAuth2({ calUserId: row.connection.calUserId })
        const next = fresh ?? (yield* sandbox.grantManaged({ calUserId: row.connection.calUserId }))
        yield* sandbox.inject(Fault.refuseConnection({ ...refresh, after: "1 second" }))
        yield* sandbox.inject(Fault.dropBefore(refresh))
        const caller = yield* World.start(Effect.either(tokens.ensureValid(user())))
        yield* tokens.update(user(), { ...next, accessTokenExpiresAt: now - 1 })
        yield* World.untilDone(caller, 60_000)
        yield* TestClock.adjust("60 seconds")
        const answer = yield* World.passTime(tokens.ensureValid(user()), 60_000)
        assert.isTrue(yield* sandbox.isAccessLive(answer.accessToken))
      })
    )
  })
}

describe("a person reconnects in the middle (Cal.com deletes every refresh token of the user at each rotation)", () => {
  scenario(
    "S25: the code is exchanged before the rotation: the new row is not overwritten, its dead pair has a living fallback",
    Effect.gen(function* () {
      const { sandbox, tokens } = yield* World.expired("oauth2")
      yield* sandbox.inject(Fault.delayBefore("2 seconds", { kind: "oauth2Refresh" }))
      const caller = yield* World.start(tokens.ensureValid(user()))
      const grant = yield* reconnect
      assert.strictEqual(reveal((yield* World.landed(caller, 5000)).accessToken), reveal(grant.accessToken))
      const row = yield* World.stored()
      assert.strictEqual(reveal(row.pair.refreshToken), reveal(grant.refreshToken))
      assert.isFalse(yield* sandbox.isLive(row.pair.refreshToken))
      yield* staysConnected
    })
  )

  scenario(
    "S25: the rotation comes first: the new row is live and stays, the late pair is kept beside it",
    Effect.gen(function* () {
      const { sandbox, tokens } = yield* World.expired("oauth2")
      yield* sandbox.inject(Fault.delayAfter("2 seconds", { kind: "oauth2Refresh" }))
      const caller = yield* World.start(tokens.ensureValid(user()))
      const grant = yield* reconnect
      yield* World.untilDone(caller, 5000)
      const row = yield* World.stored()
      assert.strictEqual(reveal(row.pair.refreshToken), reveal(grant.refreshToken))
      assert.isTrue(yield* sandbox.isLive(row.pair.refreshToken))
      yield* staysConnected
    })
  )

  scenario(
    "S25: another process finds every token refused while the pair that lives is on its way into the storage: it waits",
    Effect.gen(function* () {
      const { sandbox, tap, tokens } = yield* World.expired("oauth2")
      const other = (yield* World.anotherNode()).tokens
      yield* sandbox.inject(Fault.delayBefore("2 seconds", { kind: "oauth2Refresh" }))
      const silent = Effect.fail(new StorageUnavailable({ operation: "commit", reason: "silent" }))
      yield* tap.around("commit", { before: Effect.delay(silent, "5 seconds") })
      yield* World.start(tokens.ensureValid(user()))
      yield* reconnect
      yield* TestClock.adjust("2 seconds")
      assert.isFalse(yield* World.isStoredPairLive())
      const caller = yield* World.start(other.refresh(user(), { forceRefresh: true }))
      assert.isTrue(yield* sandbox.isAccessLive((yield* World.landed(caller, 20_000)).accessToken))
      yield* staysConnected
    })
  )

  scenario(
    "S25: in the middle of a probe, in both orders",
    Effect.gen(function* () {
      const { sandbox, tokens } = yield* World.connected("oauth2")
      for (const delay of [Fault.delayBefore, Fault.delayAfter]) {
        yield* TestClock.setTime((yield* World.stored()).pair.accessTokenExpiresAt + 60_000)
        yield* sandbox.inject(Fault.dropBefore({ kind: "oauth2Refresh" }))
        yield* sandbox.inject(delay("2 seconds", { kind: "oauth2Refresh" }))
        const caller = yield* World.start(tokens.ensureValid(user()))
        yield* TestClock.adjust("6 seconds")
        yield* reconnect
        yield* World.landed(caller, 60_000)
        yield* staysConnected
      }
    })
  )

  scenario(
    "S25: a reconnect clears a terminal state, a cooldown and an unknown outcome",
    Effect.gen(function* () {
      const { grant, sandbox, tokens } = yield* World.expired("oauth2")
      yield* sandbox.revokeRefreshTokens(grant.calUserId)
      assert.strictEqual((yield* Effect.flip(tokens.ensureValid(user())))._tag, "ReauthorizationRequired")
      yield* reconnect
      assert.strictEqual((yield* tokens.info(user())).status._tag, "Active")
      yield* TestClock.adjust("31 minutes")
      yield* sandbox.inject(Fault.status(429, { kind: "oauth2Refresh" }))
      yield* Effect.flip(tokens.ensureValid(user()))
      assert.strictEqual((yield* Effect.flip(tokens.ensureValid(user())))._tag, "RefreshCoolingDown")
      yield* reconnect
      assert.isTrue((yield* tokens.refresh(user(), { forceRefresh: true })).refreshed)
      yield* sandbox.inject(Fault.dropBefore({ kind: "oauth2Refresh" }))
      yield* Effect.flip(tokens.refresh(user(), { forceRefresh: true }))
      yield* reconnect
      assert.isTrue((yield* tokens.refresh(user(), { forceRefresh: true })).refreshed)
      yield* staysConnected
    })
  )

  scenario(
    "S25: another process' terminal state is cleared by a reconnect here, and it hears of it at the next call",
    Effect.gen(function* () {
      const { grant, sandbox } = yield* World.expired("oauth2")
      const other = (yield* World.anotherNode()).tokens
      yield* sandbox.revokeRefreshTokens(grant.calUserId)
      assert.strictEqual((yield* Effect.flip(other.ensureValid(user())))._tag, "ReauthorizationRequired")
      const fresh = yield* reconnect
      assert.strictEqual(reveal((yield* other.ensureValid(user())).accessToken), reveal(fresh.accessToken))
    })
  )

  scenario(
    "another Cal.com account is connected in the middle: the old account's pair is dropped",
    Effect.gen(function* () {
      const { sandbox, tokens } = yield* World.expired("oauth2")
      yield* sandbox.inject(Fault.delayAfter("2 seconds", { kind: "oauth2Refresh" }))
      const caller = yield* World.start(tokens.ensureValid(user()))
      const grant = yield* World.connectOAuth2(user(), "somebody-else@example.com")
      assert.strictEqual(reveal((yield* World.landed(caller, 5000)).accessToken), reveal(grant.accessToken))
      const row = yield* World.stored()
      assert.strictEqual(row.fallbacks.length, 0)
      assert.strictEqual(row.connection.calUserId, grant.calUserId)
    })
  )
})

describe("losers and winners", () => {
  for (const loser of ["succeeds", "revoked"] as const) {
    scenario(
      `S19: two refreshes race at Cal.com after a lapsed lease (the loser ${loser}): active, and the stored pair works`,
      Effect.gen(function* () {
        const { sandbox, tap, tokens } = yield* World.expired("oauth2")
        const other = (yield* World.anotherNode()).tokens
        // The first process claims and is paused before it sends, for longer than its lease.
        yield* tap.around("claim", { after: Effect.sleep("31 seconds") })
        yield* sandbox.inject(Fault.raceBothSucceed("2 seconds", { kind: "oauth2Refresh", times: 2 }))
        const first = yield* World.start(Effect.either(tokens.ensureValid(user())))
        yield* TestClock.adjust("30 seconds")
        const second = yield* World.start(Effect.either(other.ensureValid(user())))
        yield* World.untilDone(second, 60_000)
        yield* World.untilDone(first, 60_000)
        yield* TestClock.adjust("60 seconds")
        assert.strictEqual((yield* World.stored()).status._tag, "Active")
        yield* staysConnected
      }),
      { sandbox: { switches: { oauth2RaceLoser: loser } } }
    )
  }

  scenario(
    "S19: `invalid_grant` while the winner's pair is already stored: the loser returns the winner's token",
    Effect.gen(function* () {
      const { grant, sandbox, tap, tokens } = yield* World.expired("oauth2")
      yield* sandbox.revokeRefreshTokens(grant.calUserId)
      const winner = yield* sandbox.grantOAuth2({ calUserId: grant.calUserId })
      const accessTokenExpiresAt = (yield* sandbox.now) + 1_800_000
      // The winner's pair lands between Cal.com's refusal and the write of it.
      yield* tap.around("spend", {
        before: Effect.asVoid(Effect.orDie(tokens.update(user(), { ...winner, accessTokenExpiresAt })))
      })
      yield* tap.around("fail", {
        before: Effect.asVoid(Effect.orDie(tokens.update(user(), { ...winner, accessTokenExpiresAt })))
      })
      const answer = yield* tokens.ensureValid(user())
      assert.strictEqual(reveal(answer.accessToken), reveal(winner.accessToken))
      assert.strictEqual((yield* World.stored()).status._tag, "Active")
    })
  )

  scenario(
    "a displaced pair is spent when the row's is refused, and refused ones are not kept",
    Effect.gen(function* () {
      const { sandbox, tokens } = yield* World.connected("oauth2")
      yield* TestClock.adjust("10 minutes")
      const live = yield* reconnect
      yield* tokens.update(user(), {
        accessToken: "handed-in",
        refreshToken: "handed-in-and-never-valid",
        accessTokenExpiresAt: yield* sandbox.now
      })
      const answer = yield* tokens.ensureValid(user())
      assert.isTrue(yield* sandbox.isAccessLive(answer.accessToken))
      const presented = yield* World.presented
      assert.strictEqual(presented.length, 2)
      assert.strictEqual(presented[1], World.hashOf(live.refreshToken))
      // The oldest pair, which Cal.com deleted by this rotation, is the only one left to try.
      assert.strictEqual((yield* World.stored()).fallbacks.length, 1)
      yield* staysConnected
    })
  )

  scenario(
    "all of them are refused: each was presented once, then no pair comes late, and reconnect is asked for",
    Effect.gen(function* () {
      const { grant, sandbox, tokens } = yield* World.connected("oauth2")
      yield* reconnect
      yield* reconnect
      yield* sandbox.revokeRefreshTokens(grant.calUserId)
      yield* TestClock.adjust("31 minutes")
      const error = yield* World.passTime(Effect.flip(tokens.ensureValid(user())), 10_000)
      assert.isTrue(error._tag === "ReauthorizationRequired" && error.cause === "revoked")
      const presented = yield* World.presented
      assert.strictEqual(presented.length, 3)
      assert.strictEqual(new Set(presented).size, 3)
    })
  )

  scenario(
    "a fallback whose outcome is unknown is the one that is probed",
    Effect.gen(function* () {
      const { sandbox, tokens } = yield* World.connected("oauth2")
      const live = yield* reconnect
      yield* tokens.update(user(), {
        accessToken: "handed-in",
        refreshToken: "handed-in-and-never-valid",
        accessTokenExpiresAt: yield* sandbox.now
      })
      yield* sandbox.inject(Fault.delayBefore(0, { kind: "oauth2Refresh" }))
      yield* sandbox.inject(Fault.dropBefore({ kind: "oauth2Refresh" }))
      const answer = yield* World.passTime(tokens.ensureValid(user()), 30_000)
      assert.isTrue(yield* sandbox.isAccessLive(answer.accessToken))
      assert.deepStrictEqual((yield* World.presented).slice(1), Array(2).fill(World.hashOf(live.refreshToken)))
    })
  )
})
