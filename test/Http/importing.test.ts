/** Moving over by HTTP: rows of another system's table, an answer for each. */
import { randomBytes } from "node:crypto"
import { assert, describe, it } from "@effect/vitest"
import { Array, Effect, Redacted, TestClock } from "effect"
import { Sandbox } from "../../src/Sandbox.js"
import { iso, type UserUlid } from "../../src/Token.js"
import * as HttpWorld from "../support/HttpWorld.js"
import { StorageTap } from "../support/StorageTap.js"
import * as World from "../support/World.js"

const key = HttpWorld.keys.manage

/** A row as a backend sends it. */
const rowOf = (userUlid: UserUlid) =>
  Effect.gen(function* () {
    const sandbox = yield* Sandbox
    const grant = yield* sandbox.grantManaged({ email: `${userUlid.toLowerCase()}@example.com` })
    return {
      userUlid,
      kind: "managed",
      calUserId: grant.calUserId,
      accessToken: Redacted.value(grant.accessToken),
      refreshToken: Redacted.value(grant.refreshToken),
      accessTokenExpiresAt: iso(grant.accessTokenExpiresAt)
    }
  })

const send = (connections: ReadonlyArray<unknown>) =>
  HttpWorld.call({ method: "PUT", path: "/api/cal/connections", key, body: { connections } })

interface Result {
  readonly userUlid?: string
  readonly outcome: string
  readonly reason?: string
}

const resultsOf = (answer: { readonly json: Readonly<Record<string, unknown>> }) =>
  answer.json["results"] as ReadonlyArray<Result>

describe("PUT /api/cal/connections", () => {
  it.effect("answers row by row what became of each, in their order and in words for people", () =>
    Effect.gen(function* () {
      const one = yield* rowOf(World.user(1))
      const two = yield* rowOf(World.user(2))
      const answer = yield* send([
        { ...two, userUlid: World.user(2).toLowerCase(), refreshTokenExpiresAt: null },
        { ...one, kind: "SECRET" },
        { ...one, calUserId: undefined },
        { ...one, accessToken: "SECRET\0" },
        { ...one, userUlid: 7 },
        null,
        "SECRET",
        { ...one, calUserId: two.calUserId },
        one,
        one
      ])
      assert.strictEqual(answer.status, 200)
      assert.deepStrictEqual(answer.json["success"], true)
      const [user1, user2] = [World.user(1), World.user(2)]
      assert.deepStrictEqual(resultsOf(answer), [
        { userUlid: user2, outcome: "imported" },
        { userUlid: user1, outcome: "rejected", reason: 'kind must be "managed" | "oauth2".' },
        { userUlid: user1, outcome: "rejected", reason: "calUserId is required for managed users." },
        {
          userUlid: user1,
          outcome: "rejected",
          reason: "accessToken must have at most 8192 characters, and no NUL among them."
        },
        { outcome: "rejected", reason: "userUlid must be a ULID or a UUID." },
        { outcome: "rejected", reason: "connection must be a JSON object." },
        { outcome: "rejected", reason: "connection must be a JSON object." },
        {
          userUlid: user1,
          outcome: "rejected",
          reason: "calUserId must be the Cal.com user that the access token names."
        },
        { userUlid: user1, outcome: "imported" },
        { userUlid: user1, outcome: "unchanged" }
      ])
      const { connection } = (yield* HttpWorld.call({ path: `/api/cal/connections/${user1}`, key })).json
      assert.deepInclude(connection, { status: "active", calUserId: one.calUserId })
    }).pipe(Effect.provide(HttpWorld.layer()))
  )

  it.effect("takes 500 rows with tokens as long as Cal.com's", () =>
    Effect.gen(function* () {
      const token = (length: number) => randomBytes(length).toString("base64url").slice(0, length)
      const rows = Array.makeBy(500, (n) => ({
        userUlid: World.user(n + 1),
        kind: "oauth2",
        clientId: "demo-oauth2-client",
        calUserId: 100_000 + n,
        scope: "BOOKING_READ BOOKING_WRITE PROFILE_READ",
        accessToken: token(700),
        refreshToken: token(700),
        accessTokenExpiresAt: iso(World.epoch + 1_800_000),
        refreshTokenExpiresAt: iso(World.epoch + 86_400_000)
      }))
      const [first] = rows
      const { raw } = yield* StorageTap
      const unknown = yield* send(rows)
      // Whichever client it is that is configured.
      const answer = yield* send(rows.map((row) => ({ ...row, clientId: null })))
      assert.deepStrictEqual([unknown.status, answer.status], [200, 200])
      assert.deepStrictEqual([...new Set(resultsOf(unknown).map(({ outcome }) => outcome))], ["rejected"])
      assert.deepStrictEqual([...new Set(resultsOf(answer).map(({ outcome }) => outcome))], ["imported"])
      assert.strictEqual((yield* raw.list({ limit: 1000 })).length, 500)
      assert.strictEqual((yield* raw.list({ limit: 1 }))[0]?.userUlid, first?.userUlid)
      const tooMany = yield* send([...rows, ...rows.slice(0, 1)])
      assert.strictEqual(tooMany.status, 400)
      assert.strictEqual(tooMany.json["error"], "connections must be at most 500 at once.")
    }).pipe(Effect.provide(HttpWorld.layer()))
  )

  it.effect("names what probably became of a user who is lost soon after, in the connection and in lists", () =>
    Effect.gen(function* () {
      const sandbox = yield* Sandbox
      const grant = yield* sandbox.grantOAuth2({ email: "ada@example.com" })
      const userUlid = World.user(1)
      const row = {
        userUlid,
        kind: "oauth2",
        accessToken: Redacted.value(grant.accessToken),
        refreshToken: Redacted.value(grant.refreshToken),
        accessTokenExpiresAt: (yield* sandbox.now) + grant.expiresIn * 1000
      }
      assert.deepStrictEqual(resultsOf(yield* send([row])), [{ userUlid, outcome: "imported" }])
      const look = Effect.map(HttpWorld.call({ path: `/api/cal/connections/${userUlid}`, key }), ({ json }) => json)
      assert.notProperty((yield* look)["connection"], "hint")
      yield* sandbox.revokeRefreshTokens(grant.calUserId)
      yield* TestClock.adjust("45 minutes")
      const body = { userUlid }
      const { json, status } = yield* HttpWorld.call({ method: "POST", path: "/api/cal/ensure-token", key, body })
      const hint = "The user was imported 45 min before that: a second system may still refresh this user."
      assert.strictEqual(status, 409)
      assert.include(json["error"], hint)
      assert.deepInclude((yield* look)["connection"], { status: "reauthorizationRequired", cause: "revoked", hint })
      const { connections } = (yield* HttpWorld.call({ path: "/api/cal/connections", key })).json
      assert.deepInclude((connections as ReadonlyArray<object>)[0], { userUlid, hint })
    }).pipe(Effect.provide(HttpWorld.layer()))
  )
})
