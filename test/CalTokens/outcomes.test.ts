/** Every way in which Cal.com can answer, or not: what is written, what is sent again, and what the caller hears. */
import { assert, describe } from "@effect/vitest"
import { Duration, Effect, Fiber, Option, TestClock } from "effect"
import { CalTokens } from "../../src/CalTokens.js"
import { Fault } from "../../src/Sandbox.js"
import { type ClaimRequest, TokenStorage } from "../../src/TokenStorage.js"
import { StorageTap } from "../support/StorageTap.js"
import * as World from "../support/World.js"

const { reveal, scenario, user } = World

for (const kind of World.kinds) {
  describe(kind, () => {
    describe("not spent", () => {
      for (const [cause, fault, tag] of [
        ["a refused connection", Fault.refuseConnection, "CalUnavailable"],
        ["429", (target: object) => Fault.status(429, target), "CalRateLimited"]
      ] as const) {
        scenario(
          `${cause}: back-off, still active, and the same token is sent afterwards as if for the first time`,
          Effect.gen(function* () {
            const { refresh, sandbox, tokens } = yield* World.expired(kind)
            yield* sandbox.inject(fault(refresh))
            const error = yield* Effect.flip(tokens.ensureValid(user()))
            assert.strictEqual(error._tag, tag)
            const after = yield* World.peek()
            assert.strictEqual(after._tag, "CoolingDown")
            assert.strictEqual((yield* World.stored()).status._tag, "Active")
            assert.strictEqual((yield* Effect.flip(tokens.ensureValid(user())))._tag, "RefreshCoolingDown")
            yield* TestClock.adjust("61 seconds")
            const free = yield* World.peek()
            assert.isTrue(free._tag === "Claimed" && Option.isNone(free.probe))
            assert.isTrue((yield* tokens.ensureValid(user())).refreshed)
          })
        )
      }
    })

    describe("unknown", () => {
      for (const [cause, fault, rotated] of [
        ["reset before it took effect", Fault.dropBefore, false],
        ["reset after it took effect", Fault.dropAfter, true],
        ["an answer that breaks off", Fault.truncated, true],
        ["a 200 that is no JSON", Fault.garbage, true],
        ["a 200 that is a web page", Fault.html, true],
        ["a 200 page that took no effect", (target: object) => Fault.html({ ...target, committed: false }), false],
        ["500", (target: object) => Fault.status(500, target), false],
        ["500 after it took effect", (target: object) => Fault.status(500, { ...target, committed: true }), true],
        ["502", (target: object) => Fault.status(502, target), false],
        ["503", (target: object) => Fault.status(503, target), false],
        ["504 after it took effect", (target: object) => Fault.status(504, { ...target, committed: true }), true],
        ["no answer in time", (target: object) => Fault.delayBefore("60 seconds", target), true]
      ] as const) {
        scenario(
          `P4, ${cause}, token dead: probed once, 5 s later, and ${rotated ? "recovered or lost" : "healed"}`,
          Effect.gen(function* () {
            const { grant, refresh, sandbox, tokens } = yield* World.expired(kind)
            yield* sandbox.inject(fault(refresh))
            // Nothing that was sent 60 s late can be known to have been.
            const isLate = cause === "no answer in time"
            const { result, took } = yield* World.passTime(
              World.timed(Effect.either(tokens.ensureValid(user()))),
              30_000
            )
            const isLost = rotated && !isLate && kind === "oauth2"
            // A person is asked only after a while in which another process could have stored the pair.
            assert.strictEqual(took, isLate || isLost ? 13_000 : 5000)
            const presented = yield* World.presented
            const old = World.hashOf(grant.refreshToken)
            assert.deepStrictEqual(presented, isLate ? [old] : [old, old], "presented once, and once more as the probe")
            if (isLost) {
              assert.strictEqual(result._tag === "Left" && result.left._tag, "ReauthorizationRequired")
              const { status } = yield* World.stored()
              assert.strictEqual(status._tag === "ReauthorizationRequired" && status.cause, "rotationLost")
            } else {
              assert.strictEqual(result._tag, "Right")
              assert.isTrue(yield* World.isStoredPairLive())
            }
            assert.strictEqual(yield* sandbox.count("forceRefresh"), rotated && !isLate && kind === "managed" ? 1 : 0)
          })
        )

        scenario(
          `P4, P8, ${cause}, token alive: served on, and probed once when 60 s are over`,
          Effect.gen(function* () {
            const { grant, refresh, sandbox, tokens } = yield* World.expiringSoon(kind)
            yield* sandbox.inject(fault(refresh))
            yield* tokens.ensureValid(user())
            yield* TestClock.adjust("8 seconds")
            assert.strictEqual((yield* World.peek())._tag, "ProbeLater")
            // An answer that takes this long is a rotation that nobody here will see.
            if (cause === "no answer in time") return yield* TestClock.adjust("60 seconds")
            for (let i = 0; i < 5; i++) {
              yield* TestClock.adjust("10 seconds")
              const answer = yield* tokens.ensureValid(user())
              assert.strictEqual(reveal(answer.accessToken), reveal(grant.accessToken))
              yield* World.settle
              assert.strictEqual((yield* World.presented).length, 1)
            }
            yield* TestClock.adjust("2 seconds")
            const due = yield* World.peek()
            assert.isTrue(due._tag === "Claimed" && Option.contains(due.probe, World.hashOf(grant.refreshToken)))
            yield* tokens.ensureValid(user())
            yield* World.settle
            assert.strictEqual((yield* World.presented).length, 2)
            yield* TestClock.adjust("61 minutes")
            yield* Effect.either(tokens.ensureValid(user()))
            const { status } = yield* World.stored()
            const lost = rotated && kind === "oauth2"
            assert.strictEqual(status._tag, lost ? "ReauthorizationRequired" : "Active")
          })
        )
      }

      scenario(
        "P4: a token that Cal.com has refused is dead as well: whoever met that waits 5 s for the probe, and not 60",
        Effect.gen(function* () {
          const { grant, refresh, sandbox, tokens } = yield* World.connected(kind)
          yield* TestClock.adjust("11 seconds")
          yield* sandbox.expireAccessTokens(grant.calUserId)
          yield* sandbox.inject(Fault.dropAfter(refresh))
          const refusal = { accessToken: grant.accessToken, status: kind === "managed" ? 498 : 401 }
          const { result, took } = yield* World.passTime(
            World.timed(Effect.either(tokens.reportRejected(user(), refusal))),
            30_000
          )
          assert.strictEqual(took, kind === "managed" ? 5000 : 13_000)
          if (kind === "oauth2") {
            assert.strictEqual(result._tag === "Left" && result.left._tag, "ReauthorizationRequired")
          } else {
            assert.strictEqual(result._tag === "Right" && result.right._tag, "Retry")
            assert.isTrue(yield* World.isStoredPairLive())
          }
          const old = World.hashOf(grant.refreshToken)
          assert.deepStrictEqual(yield* World.presented, [old, old])
        })
      )

      scenario(
        "P4: who wakes a millisecond before the probe is due waits for that, too",
        Effect.gen(function* () {
          const { refresh, sandbox } = yield* World.expired(kind)
          const { raw } = yield* StorageTap
          const early = {
            ...raw,
            claim: (request: ClaimRequest) =>
              Effect.map(raw.claim(request), (result) =>
                result._tag === "ProbeLater" && Duration.greaterThan(result.retryAfter, "1 millis")
                  ? { ...result, retryAfter: Duration.subtract(result.retryAfter, "1 millis") }
                  : result
              )
          }
          const { tokens } = yield* Effect.provideService(World.anotherNode(), TokenStorage, early)
          yield* sandbox.inject(Fault.dropBefore(refresh))
          const { result, took } = yield* World.passTime(World.timed(Effect.either(tokens.ensureValid(user()))), 30_000)
          assert.strictEqual(took, 5000)
          assert.strictEqual(result._tag, "Right")
        })
      )

      for (const again of [500, 429]) {
        scenario(
          `P4: a probe answered ${again} leaves the outcome unknown; the next probe settles it`,
          Effect.gen(function* () {
            const { grant, refresh, sandbox, tokens } = yield* World.expired(kind)
            yield* sandbox.inject(Fault.dropAfter(refresh))
            yield* sandbox.inject(Fault.status(again, refresh))
            const first = yield* World.passTime(Effect.flip(tokens.ensureValid(user())), 30_000)
            assert.include(["CalUnavailable", "CalRateLimited"], first._tag)
            assert.strictEqual((yield* World.stored()).status._tag, "Active")
            yield* TestClock.adjust("120 seconds")
            const pending = yield* World.peek()
            assert.isTrue(
              pending._tag === "Claimed" && Option.contains(pending.probe, World.hashOf(grant.refreshToken))
            )
            const last = yield* World.passTime(Effect.either(tokens.ensureValid(user())), 30_000)
            assert.strictEqual(last._tag, kind === "managed" ? "Right" : "Left")
            assert.strictEqual(
              (yield* World.presented).filter((one) => one === World.hashOf(grant.refreshToken)).length,
              3
            )
          })
        )
      }

      scenario(
        "P4: a connection refused during the probe leaves the outcome unknown",
        Effect.gen(function* () {
          const { grant, refresh, sandbox, tokens } = yield* World.expired(kind)
          yield* sandbox.inject(Fault.dropAfter(refresh))
          yield* sandbox.inject(Fault.refuseConnection(refresh))
          yield* World.passTime(Effect.flip(tokens.ensureValid(user())), 30_000)
          yield* TestClock.adjust("120 seconds")
          const pending = yield* World.peek()
          assert.isTrue(pending._tag === "Claimed" && Option.contains(pending.probe, World.hashOf(grant.refreshToken)))
        })
      )

      scenario(
        "P4: a client-wide refusal of the probe leaves the outcome unknown, and the user active",
        Effect.gen(function* () {
          const { grant, refresh, sandbox, tokens } = yield* World.expired(kind)
          yield* sandbox.inject(Fault.dropBefore(refresh))
          const caller = yield* World.start(Effect.flip(tokens.ensureValid(user())))
          yield* World.turn({ managedSecretRejected: true, oauth2SecretRejected: true })
          yield* World.untilDone(caller, 10_000)
          const error = yield* caller.await
          assert.isTrue(error._tag === "Success" && error.value._tag === "CalClientMisconfigured")
          const pending = yield* World.peek()
          assert.isTrue(pending._tag === "Claimed" && Option.contains(pending.probe, World.hashOf(grant.refreshToken)))
          yield* World.turn({ managedSecretRejected: false, oauth2SecretRejected: false })
          yield* TestClock.adjust("30 seconds")
          assert.isTrue((yield* tokens.ensureValid(user())).refreshed)
        })
      )
    })

    describe("two mishaps in a row", () => {
      for (const first of ["dropAfter", "dropBefore", "truncated"] as const) {
        for (const second of ["dropAfter", "dropBefore", "refuseConnection"] as const) {
          scenario(
            `${first}, then ${second} of the probe: no loop, and the end is right`,
            Effect.gen(function* () {
              const { refresh, refreshes, sandbox, tokens } = yield* World.expired(kind)
              yield* sandbox.inject(Fault[first](refresh))
              yield* sandbox.inject(Fault[second](refresh))
              yield* World.passTime(Effect.either(tokens.ensureValid(user())), 30_000)
              yield* TestClock.adjust("90 seconds")
              const end = yield* World.passTime(Effect.either(tokens.ensureValid(user())), 30_000)
              assert.isAtMost(yield* refreshes, 3)
              const lost = [first, second].some((fault) => fault === "dropAfter" || fault === "truncated")
              if (lost && kind === "oauth2") {
                assert.isTrue(end._tag === "Left" && end.left._tag === "ReauthorizationRequired")
              } else {
                assert.strictEqual(end._tag, "Right")
                assert.isTrue(yield* World.isStoredPairLive())
              }
            })
          )
        }
      }
    })
  })
}

describe("rejected", () => {
  scenario(
    "OAuth2, revoked: one call, cause `revoked`, pair kept, and not a call more",
    Effect.gen(function* () {
      const { grant, sandbox, tokens } = yield* World.expired("oauth2")
      yield* sandbox.revokeRefreshTokens(grant.calUserId)
      for (let i = 0; i < 5; i++) {
        const error = yield* Effect.flip(tokens.ensureValid(user()))
        assert.isTrue(error._tag === "ReauthorizationRequired" && error.cause === "revoked")
        yield* TestClock.adjust("20 seconds")
      }
      assert.strictEqual(yield* sandbox.count("oauth2Refresh"), 1)
      const row = yield* World.stored()
      assert.strictEqual(reveal(row.pair.refreshToken), reveal(grant.refreshToken))
    })
  )

  scenario(
    "OAuth2: a failure before it that spent nothing does not make it `rotationLost`",
    Effect.gen(function* () {
      const { grant, sandbox, tokens } = yield* World.expired("oauth2")
      yield* sandbox.inject(Fault.refuseConnection({ kind: "oauth2Refresh" }))
      yield* Effect.flip(tokens.ensureValid(user()))
      yield* sandbox.revokeRefreshTokens(grant.calUserId)
      yield* TestClock.adjust("10 seconds")
      const error = yield* Effect.flip(tokens.ensureValid(user()))
      assert.isTrue(error._tag === "ReauthorizationRequired" && error.cause === "revoked")
    })
  )

  scenario(
    "OAuth2: a storage that is down when `revoked` is to be written leaves the attempt to lapse, which reads as a lost answer",
    Effect.gen(function* () {
      const { grant, sandbox, tap, tokens } = yield* World.expired("oauth2")
      yield* sandbox.revokeRefreshTokens(grant.calUserId)
      yield* tap.refuse("fail")
      yield* Effect.flip(tokens.ensureValid(user()))
      yield* TestClock.adjust("31 seconds")
      const error = yield* World.passTime(Effect.flip(tokens.ensureValid(user())), 30_000)
      assert.isTrue(error._tag === "ReauthorizationRequired" && error.cause === "rotationLost")
    })
  )

  scenario(
    "S16: managed, 400 Invalid refresh token: the row is read again, then one reissue",
    Effect.gen(function* () {
      const { grant, sandbox, tap, tokens } = yield* World.expired("managed")
      yield* sandbox.revokeRefreshTokens(grant.calUserId)
      yield* tap.reset
      assert.isTrue((yield* tokens.ensureValid(user())).refreshed)
      assert.strictEqual(yield* sandbox.count("refresh"), 1)
      assert.strictEqual(yield* sandbox.count("forceRefresh"), 1)
      assert.strictEqual(tap.count("spend"), 1)
      assert.isTrue(yield* World.isStoredPairLive())
    })
  )

  scenario(
    "S16: managed, 400, and the row has moved on meanwhile: no reissue, the newer pair is used",
    Effect.gen(function* () {
      const { grant, sandbox, tap, tokens } = yield* World.expired("managed")
      yield* sandbox.revokeRefreshTokens(grant.calUserId)
      const fresh = yield* sandbox.grantManaged({ calUserId: grant.calUserId })
      // Somebody hands in a pair between Cal.com's refusal and the look at the row.
      yield* tap.around("spend", { before: Effect.asVoid(Effect.orDie(tokens.update(user(), fresh))) })
      const answer = yield* tokens.ensureValid(user())
      assert.strictEqual(reveal(answer.accessToken), reveal(fresh.accessToken))
      assert.strictEqual(yield* sandbox.count("forceRefresh"), 0)
    })
  )

  scenario(
    "managed, 404 of a lost race: recovered as a refused token",
    Effect.gen(function* () {
      const { grant, sandbox, tokens } = yield* World.expired("managed")
      yield* sandbox.inject(Fault.raceBothSucceed("1 second", { kind: "refresh" }))
      const caller = yield* World.start(tokens.ensureValid(user()))
      yield* sandbox.revokeRefreshTokens(grant.calUserId)
      yield* World.untilDone(caller, 5000)
      assert.isTrue(yield* World.isStoredPairLive())
      assert.deepStrictEqual(
        (yield* sandbox.calls).map(({ status }) => status),
        [404, 200]
      )
    })
  )

  scenario(
    "managed, the user is gone at Cal.com: cause `calUserGone`, and not a call more",
    Effect.gen(function* () {
      const { grant, sandbox, tokens } = yield* World.connected("managed")
      yield* sandbox.deleteUser(grant.calUserId)
      yield* TestClock.adjust("61 minutes")
      for (let i = 0; i < 3; i++) {
        const error = yield* Effect.flip(tokens.ensureValid(user()))
        assert.isTrue(error._tag === "ReauthorizationRequired" && error.cause === "calUserGone")
        yield* TestClock.adjust("1 minute")
      }
      assert.strictEqual(yield* sandbox.count("refresh"), 1)
      assert.strictEqual(yield* sandbox.count("forceRefresh"), 1)
    })
  )

  scenario(
    "S15: managed, 500 then 429: never a reissue; the cooldown honours Cal.com's reset; the live token is served",
    Effect.gen(function* () {
      const { grant, sandbox, tokens } = yield* World.connected("managed")
      yield* TestClock.adjust("55 minutes")
      yield* sandbox.inject(Fault.status(500, { kind: "refresh" }))
      yield* sandbox.inject(Fault.status(429, { kind: "refresh", headers: { "x-ratelimit-reset-default": "47" } }))
      yield* tokens.ensureValid(user())
      yield* World.settle
      yield* TestClock.adjust("60 seconds")
      yield* tokens.ensureValid(user())
      yield* World.settle
      assert.strictEqual(yield* sandbox.count("refresh"), 2)
      const cooling = yield* World.peek()
      assert.isTrue(cooling._tag === "ProbeLater" || cooling._tag === "CoolingDown")
      for (let second = 0; second < 46; second += 2) {
        const answer = yield* tokens.ensureValid(user())
        assert.strictEqual(reveal(answer.accessToken), reveal(grant.accessToken))
        yield* World.settle
        assert.strictEqual(yield* sandbox.count("refresh"), 2)
        yield* TestClock.adjust("2 seconds")
      }
      assert.strictEqual(yield* sandbox.count("forceRefresh"), 0)
      yield* TestClock.adjust("20 seconds")
      yield* tokens.ensureValid(user())
      yield* World.settle
      assert.isTrue(yield* World.isStoredPairLive())
      assert.strictEqual(yield* sandbox.count("forceRefresh"), 0)
    })
  )
})

describe("reissue", () => {
  scenario(
    "is refused for OAuth2 users",
    Effect.gen(function* () {
      const { sandbox, tokens } = yield* World.connected("oauth2")
      assert.strictEqual((yield* Effect.flip(tokens.refresh(user(), { reissue: true })))._tag, "NotManagedUser")
      assert.strictEqual((yield* sandbox.calls).length, 0)
    })
  )

  scenario(
    "an unknown outcome is repeated once, and then the pair is the live one",
    Effect.gen(function* () {
      const { sandbox, tokens } = yield* World.connected("managed")
      yield* sandbox.inject(Fault.dropAfter({ kind: "forceRefresh" }))
      assert.isTrue((yield* tokens.refresh(user(), { reissue: true })).refreshed)
      assert.strictEqual(yield* sandbox.count("forceRefresh"), 2)
      assert.isTrue(yield* World.isStoredPairLive())
    })
  )

  scenario(
    "two unknown outcomes: no third call before the wait is over, and then it heals",
    Effect.gen(function* () {
      const { sandbox, tokens } = yield* World.connected("managed")
      yield* sandbox.inject(Fault.dropAfter({ kind: "forceRefresh", times: 2 }))
      yield* Effect.flip(tokens.refresh(user(), { reissue: true }))
      assert.strictEqual(yield* sandbox.count("forceRefresh"), 2)
      yield* TestClock.adjust("61 minutes")
      yield* tokens.ensureValid(user())
      assert.isTrue(yield* World.isStoredPairLive())
    })
  )

  scenario(
    "heals a terminal managed user",
    Effect.gen(function* () {
      const { grant, sandbox, tokens } = yield* World.expired("managed")
      yield* sandbox.revokeRefreshTokens(grant.calUserId)
      yield* sandbox.inject(Fault.status(404, { kind: "forceRefresh", times: 0 }))
      yield* tokens.refresh(user(), { reissue: true })
      assert.isTrue(yield* World.isStoredPairLive())
    })
  )

  scenario(
    "S17: processes that reissue a user at once share one: everybody is handed the token that lives",
    Effect.gen(function* () {
      const { sandbox, tokens } = yield* World.connected("managed")
      const nodes = [tokens, (yield* World.anotherNode()).tokens, (yield* World.anotherNode()).tokens]
      yield* sandbox.inject(Fault.delayAfter("1 second", { kind: "forceRefresh", times: Infinity }))
      const asking = Effect.forEach(
        nodes,
        (node, i) =>
          node.refresh(user(), { reissue: true }).pipe(
            Effect.delay(Duration.millis(i * 300)),
            Effect.tap(({ accessToken }) =>
              Effect.map(sandbox.isAccessLive(accessToken), (isLive) => assert.isTrue(isLive))
            )
          ),
        { concurrency: "unbounded" }
      )
      const answers = yield* World.passTime(asking, 20_000)
      assert.isTrue(yield* World.isStoredPairLive())
      const current = reveal((yield* World.stored()).pair.accessToken)
      assert.deepStrictEqual([...new Set(answers.map(({ accessToken }) => reveal(accessToken)))], [current])
      assert.strictEqual(yield* sandbox.count("forceRefresh"), 1)
    })
  )

  scenario(
    "an ordinary refresh is no answer to a reissue that was asked for meanwhile in another process",
    Effect.gen(function* () {
      const { sandbox, tokens } = yield* World.expired("managed")
      const other = (yield* World.anotherNode()).tokens
      yield* sandbox.inject(Fault.delayAfter("2 seconds", { kind: "refresh" }))
      const ordinary = yield* World.start(tokens.ensureValid(user()))
      const reissue = yield* World.start(other.refresh(user(), { reissue: true }))
      yield* World.untilDone(reissue, 10_000)
      yield* Fiber.join(ordinary)
      const { accessToken } = yield* Fiber.join(reissue)
      assert.isTrue(yield* sandbox.isAccessLive(accessToken))
      assert.strictEqual(yield* sandbox.count("forceRefresh"), 1)
      assert.isTrue(yield* World.isStoredPairLive())
    })
  )

  for (const where of ["this process", "another process"] as const) {
    scenario(
      `while it is under way, ${where} connects the user through OAuth2: that connection is nobody's business here`,
      Effect.gen(function* () {
        const { sandbox, tokens } = yield* World.connected("managed")
        const node = where === "this process" ? tokens : (yield* World.anotherNode()).tokens
        yield* sandbox.inject(Fault.delayAfter("3 seconds", { kind: "forceRefresh" }))
        const reissue = yield* World.start(Effect.flip(tokens.refresh(user(), { reissue: true })))
        yield* TestClock.adjust("1 second")
        const grant = yield* sandbox.grantOAuth2({ email: "ada@example.com" })
        const connection = { _tag: "OAuth2", calUserId: grant.calUserId } as const
        const accessTokenExpiresAt = (yield* sandbox.now) + grant.expiresIn * 1000
        yield* node.connect(user(), connection, { ...grant, accessTokenExpiresAt })
        yield* World.untilDone(reissue, 60_000)
        assert.strictEqual((yield* Fiber.join(reissue))._tag, "NotManagedUser")
        const row = yield* World.stored()
        assert.deepStrictEqual([row.status._tag, row.connection._tag], ["Active", "OAuth2"])
        assert.strictEqual(reveal(row.pair.refreshToken), reveal(grant.refreshToken))
        assert.deepStrictEqual(
          (yield* sandbox.calls).map(({ kind }) => kind),
          ["forceRefresh"]
        )
        assert.isTrue(yield* World.isStoredPairLive())
      })
    )

    scenario(
      `while it is under way, ${where} connects the same account anew: whoever asked gets a token that lives`,
      Effect.gen(function* () {
        const { grant, sandbox, tokens } = yield* World.connected("managed")
        const node = where === "this process" ? tokens : (yield* World.anotherNode()).tokens
        yield* sandbox.inject(Fault.delayBefore("3 seconds", { kind: "forceRefresh" }))
        const reissue = yield* World.start(tokens.refresh(user(), { reissue: true }))
        yield* TestClock.adjust("1 second")
        const anew = yield* sandbox.grantManaged({ calUserId: grant.calUserId })
        yield* node.connect(user(), { _tag: "ManagedUser", calUserId: grant.calUserId }, anew)
        yield* World.untilDone(reissue, 60_000)
        // The reissue ended what was connected meanwhile.
        assert.isFalse(yield* sandbox.isAccessLive(anew.accessToken))
        assert.isTrue(yield* sandbox.isAccessLive((yield* Fiber.join(reissue)).accessToken))
        assert.isTrue(yield* World.isStoredPairLive())
        assert.strictEqual(yield* sandbox.count("forceRefresh"), 2)
      })
    )

    scenario(
      `while it is under way, ${where} connects another managed account: that one is not reissued unasked`,
      Effect.gen(function* () {
        const { grant, sandbox, tokens } = yield* World.connected("managed")
        const node = where === "this process" ? tokens : (yield* World.anotherNode()).tokens
        yield* sandbox.inject(Fault.delayAfter("3 seconds", { kind: "forceRefresh" }))
        const reissue = yield* World.start(tokens.refresh(user(), { reissue: true }))
        yield* TestClock.adjust("1 second")
        const other = yield* sandbox.grantManaged({ email: "other@example.com" })
        yield* node.connect(user(), { _tag: "ManagedUser", calUserId: other.calUserId }, other)
        yield* World.untilDone(reissue, 60_000)
        yield* reissue.await
        assert.deepStrictEqual(
          (yield* sandbox.calls).map(({ calUserId, kind }) => [kind, calUserId]),
          [["forceRefresh", grant.calUserId]]
        )
        assert.strictEqual(reveal((yield* World.stored()).pair.refreshToken), reveal(other.refreshToken))
        assert.isTrue(yield* World.isStoredPairLive())
      })
    )
  }

  scenario(
    "S17: their commits arrive in the other order: the stored pair is live, or heals without a person",
    Effect.gen(function* () {
      const { tap, tokens } = yield* World.connected("managed")
      const other = (yield* World.anotherNode()).tokens
      // The first process is paused before its commit until its lease is over and the second has reissued.
      yield* tap.around("commit", { before: Effect.sleep("40 seconds") })
      const first = yield* World.start(Effect.either(tokens.refresh(user(), { reissue: true })))
      yield* TestClock.adjust("31 seconds")
      yield* World.passTime(other.refresh(user(), { reissue: true }), 20_000)
      yield* TestClock.adjust("30 seconds")
      yield* World.untilDone(first, 60_000)
      assert.isTrue(yield* World.isStoredPairLive())
      assert.strictEqual((yield* World.stored()).status._tag, "Active")
    })
  )

  scenario(
    "asked for while an ordinary refresh is running: waits for it, then reissues once",
    Effect.gen(function* () {
      const { sandbox, tokens } = yield* World.expired("managed")
      yield* sandbox.inject(Fault.delayAfter("2 seconds", { kind: "refresh" }))
      const ordinary = yield* World.start(tokens.ensureValid(user()))
      const reissue = yield* World.start(tokens.refresh(user(), { reissue: true }))
      assert.strictEqual(yield* sandbox.count("forceRefresh"), 0)
      yield* World.untilDone(reissue, 10_000)
      yield* ordinary.await
      assert.strictEqual(yield* sandbox.count("forceRefresh"), 1)
      assert.isTrue(yield* World.isStoredPairLive())
    })
  )
})

describe("a pair that is seconds old", () => {
  for (const kind of World.kinds) {
    const forced = Effect.flatMap(CalTokens, (tokens) => tokens.refresh(user(), { forceRefresh: true }))

    scenario(
      `is refused only when it is refused twice, half a second apart: a replica may not know it (${kind})`,
      Effect.gen(function* () {
        const { refreshes, sandbox } = yield* World.connected(kind)
        yield* forced
        yield* World.turn({ refreshReplicaLag: "400 millis" })
        const answer = yield* World.timed(World.passTime(forced, 10_000))
        assert.isTrue(answer.result.refreshed)
        assert.strictEqual(answer.took, 500)
        assert.deepStrictEqual([yield* refreshes, yield* sandbox.count("forceRefresh")], [3, 0])
        assert.isTrue(yield* World.isStoredPairLive())
      })
    )

    for (const [age, sends] of [
      ["9 seconds", 2],
      ["10 seconds", 1]
    ] as const) {
      scenario(
        `that is refused for good is sent ${sends === 1 ? "once" : "twice"} when it is ${age} old (${kind})`,
        Effect.gen(function* () {
          const { grant, refreshes, sandbox } = yield* World.connected(kind)
          yield* forced
          yield* TestClock.adjust(age)
          yield* sandbox.revokeRefreshTokens(grant.calUserId)
          yield* World.passTime(Effect.either(forced), 10_000)
          assert.strictEqual(yield* refreshes, 1 + sends)
        })
      )
    }
  }
})
