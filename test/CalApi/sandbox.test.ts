/** Requests through the real token service against the simulator of Cal.com. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Option, Ref, Schema, TestClock } from "effect"
import { fromError } from "../../src/Actions/Failure.js"
import { CalApi } from "../../src/CalApi.js"
import { missingScopesOf } from "../../src/CalHttp/Refusal.js"
import { CalTokens } from "../../src/CalTokens.js"
import { demoManaged, Sandbox } from "../../src/Sandbox.js"
import * as World from "../support/World.js"

const Me = Schema.Struct({ data: Schema.Struct({ id: Schema.Number }) })
const Bookings = Schema.Struct({ data: Schema.Array(Schema.Unknown) })

const me = Effect.flatMap(CalApi, (api) => api.request(World.user(), { path: "/me", schema: Me }))
const bookings = Effect.flatMap(CalApi, (api) =>
  api.request(World.user(), { path: "/bookings?take=5", schema: Bookings })
)

describe("requests of a managed user", () => {
  World.scenario(
    "a hundred with an expired token cause one refresh and all succeed",
    Effect.gen(function* () {
      const sandbox = yield* Sandbox
      const { calUserId } = yield* World.connectManaged()
      yield* TestClock.adjust("30 minutes")
      yield* sandbox.expireAccessTokens(calUserId)
      const all = Effect.all(
        Array.from({ length: 100 }, () => me),
        { concurrency: "unbounded" }
      )
      const answers = yield* World.passTime(all, 30_000)
      assert.deepStrictEqual(new Set(answers.map(({ data }) => data.id)), new Set([calUserId]))
      assert.strictEqual(yield* sandbox.count("refresh"), 1)
    })
  )

  World.scenario(
    "a dead token on a guarded route (403) is refreshed too",
    Effect.gen(function* () {
      const sandbox = yield* Sandbox
      const { calUserId } = yield* World.connectManaged()
      const { calUserId: other, refreshToken } = yield* sandbox.grantManaged({ email: "other@example.com" })
      assert.notStrictEqual(other, calUserId)
      yield* TestClock.adjust("30 minutes")
      yield* sandbox.expireAccessTokens(calUserId)
      // Anybody's refresh purges the client's expired tokens; what was 498 becomes "unknown".
      assert.isTrue(yield* sandbox.isLive(refreshToken))
      yield* sandbox.grantManaged({ email: "other@example.com" })
      const { data } = yield* World.passTime(bookings, 30_000)
      assert.deepStrictEqual(data, [])
      assert.strictEqual(yield* sandbox.count("refresh", calUserId), 1)
    })
  )

  World.scenario(
    "a missing permission is Cal.com's last word",
    Effect.gen(function* () {
      const sandbox = yield* Sandbox
      yield* World.connectManaged()
      const error = yield* World.passTime(Effect.flip(bookings), 30_000)
      assert(error._tag === "CalRequestRejected")
      assert.strictEqual(error.status, 403)
      assert.include(error.reason, "does not have the required permissions=BOOKING_READ")
      assert.strictEqual(yield* sandbox.count("refresh"), 0)
    }),
    {
      sandbox: {
        managed: { ...demoManaged, permissions: 256 }
      }
    }
  )

  World.scenario(
    "a burst over the limit is told how long to wait",
    Effect.gen(function* () {
      const sandbox = yield* Sandbox
      yield* World.connectManaged()
      yield* Ref.update(sandbox.switches, (switches) => ({
        ...switches,
        rateLimits: { ...switches.rateLimits, accessToken: 2 }
      }))
      yield* me
      yield* me
      const error = yield* World.passTime(Effect.flip(me), 30_000)
      assert(error._tag === "CalRateLimited")
      yield* TestClock.adjust(error.retryAfter)
      assert.isNumber((yield* World.passTime(me, 30_000)).data.id)
    })
  )
})

describe("requests of an OAuth2 user", () => {
  World.scenario(
    "with an expired token (401) are repeated after one refresh",
    Effect.gen(function* () {
      const sandbox = yield* Sandbox
      const { calUserId } = yield* World.connectOAuth2()
      yield* TestClock.adjust("10 minutes")
      yield* sandbox.expireAccessTokens(calUserId)
      assert.strictEqual((yield* World.passTime(me, 30_000)).data.id, calUserId)
      assert.strictEqual(yield* sandbox.count("oauth2Refresh"), 1)
    })
  )

  World.scenario(
    "without the scope are told which one to ask for, and cause no refresh",
    Effect.gen(function* () {
      const sandbox = yield* Sandbox
      const tokens = yield* CalTokens
      const grant = yield* sandbox.grantOAuth2({ scope: "BOOKING_READ" })
      const accessTokenExpiresAt = (yield* sandbox.now) + grant.expiresIn * 1000
      const { calUserId } = grant
      yield* tokens.connect(World.user(), { _tag: "OAuth2", calUserId }, { ...grant, accessTokenExpiresAt })
      const error = yield* World.passTime(Effect.flip(me), 30_000)
      assert(error._tag === "CalRequestRejected")
      assert.deepStrictEqual([error.status, error.missingScopes], [403, ["PROFILE_READ"]])
      const { code, error: words, missingScopes } = fromError(error)
      assert.deepStrictEqual([code, missingScopes], ["CalRequestRejected", ["PROFILE_READ"]])
      assert.match(
        words,
        /^Cal\.com refused GET \/me with status 403: insufficient_scope: .+; ask for consent again with PROFILE_READ$/
      )
      assert.strictEqual(yield* sandbox.count("oauth2Refresh"), 0)
      assert.deepStrictEqual((yield* World.passTime(bookings, 30_000)).data, [])
    })
  )
})

describe("the scopes that an answer misses", () => {
  const scopes = (message: string, status = 403) =>
    Option.getOrUndefined(missingScopesOf(status, JSON.stringify({ status: "error", error: { code: "X", message } })))
  const said = (required: string) => `insufficient_scope: words. Required: ${required}. Token has: OTHER_READ`

  it("are those that it names, and never anything that is no scope", () => {
    assert.deepStrictEqual(scopes(said("A_READ")), ["A_READ"])
    assert.deepStrictEqual(scopes(said("READ_BOOKING, TEAM_X2_WRITE,C")), ["READ_BOOKING", "TEAM_X2_WRITE", "C"])
    assert.isUndefined(scopes(said("A_READ"), 401))
    assert.isUndefined(scopes(`x ${said("A_READ")}`))
    assert.isUndefined(scopes("insufficient_scope: this endpoint is not available for third-party OAuth tokens"))
    for (const wrong of ["", "a", 'A", x="', "A\r\nx: y", "A B", `A${"B".repeat(64)}`, "A, "]) {
      assert.isUndefined(scopes(said(wrong)), wrong)
    }
    assert.isTrue(Option.isNone(missingScopesOf(403, said("A_READ"))))
  })
})
