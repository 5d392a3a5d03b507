/** What somebody can make of an access token, or of an API key that reads none, at the endpoint for Atoms. */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect, Fiber, Redacted, Schema, TestClock } from "effect"
import { CalApi } from "../../src/CalApi.js"
import * as CalTokens from "../../src/CalTokens.js"
import * as Sandbox from "../../src/Sandbox.js"
import * as TokenInput from "../../src/TokenInput.js"
import { call, keys, layer, origin } from "../support/HttpWorld.js"
import * as StorageTap from "../support/StorageTap.js"
import * as World from "../support/World.js"

const user = World.user()

const ask = (token: Redacted.Redacted | string, session?: string) =>
  call({
    path: "/api/cal/atoms/refresh",
    headers: {
      origin,
      authorization: `Bearer ${typeof token === "string" ? token : Redacted.value(token)}`,
      ...(session === undefined ? {} : { "x-session": session })
    }
  })

const statusOf = (token: Redacted.Redacted | string) => Effect.map(ask(token), ({ status }) => status)

/** What the token buys, which has to be something. */
const bought = (token: Redacted.Redacted | string) =>
  Effect.map(ask(token), ({ json, status }) => {
    assert.strictEqual(status, 200, JSON.stringify(json))
    return json["accessToken"] as string
  })

/** By the door for keys with `manage` alone. */
const manage = (method: "POST" | "PUT" | "DELETE", path: string, body?: unknown) =>
  Effect.map(
    call({ method, path: `/api/cal/${path}`, key: keys.manage, ...(body === undefined ? {} : { body }) }),
    (answer) => {
      assert.strictEqual(answer.status, 200, JSON.stringify(answer.json))
      return answer.json
    }
  )

const readToken = Effect.map(
  call({ path: `/api/cal/access-token/${user}`, key: keys.all }),
  ({ json }) => json["accessToken"] as string
)

const put = (
  grant: { readonly calUserId: number },
  accessToken: string,
  refreshToken: string,
  accessTokenExpiresAt: number
) =>
  manage("PUT", `connections/${user}`, {
    kind: "managed",
    calUserId: grant.calUserId,
    accessToken,
    refreshToken,
    accessTokenExpiresAt
  })

/** A token as Cal.com makes them, but for its signature: of this client and of this time. */
const forged = (real: Redacted.Redacted, more: object) => {
  const [header, claims = ""] = Redacted.value(real).split(".")
  const parsed = JSON.parse(Buffer.from(claims, "base64url").toString()) as object
  return `${header}.${Buffer.from(JSON.stringify({ ...parsed, ...more })).toString("base64url")}.c2lnbmVk`
}

/** Time in which sockets have their say. */
const tick = Effect.withClock(Effect.sleep("5 millis"), Clock.make())

describe("a key that may not read tokens", () => {
  it.effect("puts a pair with a token of its choice, and buys nothing with it, not even when that is replaced", () =>
    Effect.gen(function* () {
      const grant = yield* World.obtainManaged()
      for (const dies of ["61 minutes", "0 minutes"] as const) {
        const now = (yield* Effect.clockWith((clock) => clock.currentTimeMillis)) + 60_000
        const chosen = forged(grant.accessToken, { jti: `chosen ${dies}`, expiresAt: now })
        yield* put(grant, chosen, `made-up-refresh-token-${now}`, now)
        assert.strictEqual(yield* statusOf(chosen), 401)
        yield* TestClock.adjust(dies)
        assert.strictEqual(yield* statusOf(chosen), 401)
        // Cal.com knows the pair that was there before, which is a fallback by now: the user goes on.
        yield* manage("POST", "refresh-token", { userUlid: user, forceRefresh: true })
        yield* TestClock.adjust("31 seconds")
        assert.isTrue(yield* World.isStoredPairLive())
        assert.strictEqual(yield* statusOf(chosen), 401)
        yield* manage("POST", "refresh-token", { userUlid: user, forceRefresh: true })
        assert.strictEqual(yield* statusOf(chosen), 401)
      }
    }).pipe(Effect.provide(layer()))
  )

  it.effect("nor does it get there through somebody's real, handed-in token", () =>
    Effect.gen(function* () {
      const grant = yield* World.connectManaged()
      assert.strictEqual(yield* statusOf(grant.accessToken), 401)
      yield* TestClock.adjust("61 minutes")
      assert.strictEqual(yield* statusOf(grant.accessToken), 401)
      yield* manage("POST", "ensure-token", { userUlid: user })
      assert.strictEqual(yield* statusOf(grant.accessToken), 401)
      // Cal.com gave this one.
      yield* TestClock.adjust("11 seconds")
      assert.strictEqual(yield* statusOf(yield* readToken), 200)
    }).pipe(Effect.provide(layer()))
  )
})

describe("a token that leaked", () => {
  /** What a user's owner may do about it. */
  const cures = {
    reissue: () => manage("POST", "refresh-managed-user-token", { userUlid: user, reissue: true }),
    "a pair that is put": (calUserId: number) =>
      Effect.gen(function* () {
        const sandbox = yield* Sandbox.Sandbox
        const next = yield* sandbox.grantManaged({ calUserId })
        yield* put(next, Redacted.value(next.accessToken), Redacted.value(next.refreshToken), next.accessTokenExpiresAt)
      }),
    "a pair that is updated": (calUserId: number) =>
      Effect.gen(function* () {
        const sandbox = yield* Sandbox.Sandbox
        const tokens = yield* CalTokens.CalTokens
        yield* tokens.update(user, yield* sandbox.grantManaged({ calUserId }))
      }),
    "a disconnect and a new connection": (calUserId: number) =>
      Effect.gen(function* () {
        const sandbox = yield* Sandbox.Sandbox
        const tokens = yield* CalTokens.CalTokens
        yield* manage("DELETE", `connections/${user}`)
        const pair = yield* sandbox.grantManaged({ calUserId })
        yield* tokens.connectWith(user, Effect.succeed({ connection: { _tag: "ManagedUser", calUserId }, pair }))
      }),
    "a new consent": (calUserId: number) =>
      Effect.gen(function* () {
        const sandbox = yield* Sandbox.Sandbox
        const tokens = yield* CalTokens.CalTokens
        const pair = yield* sandbox.grantManaged({ calUserId })
        yield* tokens.connectWith(user, Effect.succeed({ connection: { _tag: "ManagedUser", calUserId }, pair }))
      })
  }

  for (const [name, cure] of Object.entries(cures)) {
    it.effect(`buys nothing from the moment of ${name}, present or replaced`, () =>
      Effect.gen(function* () {
        const { accessToken: old, calUserId } = yield* World.obtainManaged()
        yield* TestClock.adjust("40 seconds")
        yield* manage("POST", "refresh-token", { userUlid: user, forceRefresh: true })
        yield* TestClock.adjust("40 seconds")
        const present = yield* readToken
        assert.strictEqual(yield* bought(old), present)
        yield* cure(calUserId)
        const both = Effect.forEach([old, present], statusOf)
        assert.deepStrictEqual(yield* both, [401, 401])
        yield* TestClock.adjust("61 minutes")
        assert.deepStrictEqual(yield* both, [401, 401])
        // However often the user is refreshed after that.
        yield* manage("POST", "ensure-token", { userUlid: user })
        assert.deepStrictEqual(yield* both, [401, 401])
      }).pipe(Effect.provide(layer()))
    )
  }

  it.effect("buys nothing either by being presented just before, while the reissue is under way", () =>
    Effect.gen(function* () {
      const sandbox = yield* Sandbox.Sandbox
      const tap = yield* StorageTap.StorageTap
      const { accessToken } = yield* World.obtainManaged()
      yield* TestClock.adjust("61 minutes")
      yield* tap.reset
      const other = yield* World.anotherNode()
      yield* sandbox.inject(Sandbox.Fault.delayAfter("2 seconds", { kind: "forceRefresh" }))
      const reissue = yield* Effect.fork(other.tokens.refresh(user, { reissue: true }))
      while (tap.count("claim") === 0) yield* tick
      const waiting = yield* Effect.fork(statusOf(accessToken))
      for (const fiber of [reissue, waiting]) {
        while (fiber.unsafePoll() === null) yield* Effect.zipRight(tick, TestClock.adjust("50 millis"))
      }
      yield* Fiber.join(reissue)
      assert.strictEqual(yield* Fiber.join(waiting), 401)
      assert.strictEqual(yield* sandbox.count("refresh"), 0)
    }).pipe(Effect.scoped, Effect.provide(layer()))
  )

  it.effect("is no key for ever: renewed again and again, it ends some hours after one was handed out", () =>
    Effect.gen(function* () {
      const { accessToken } = yield* World.obtainManaged()
      const body = { userUlid: user }
      let token = Redacted.value(accessToken)
      let renewals = 0
      for (let hours = 1; hours <= 14; hours++) {
        yield* TestClock.adjust("61 minutes")
        // Nothing of this hands a token to anybody.
        const api = yield* CalApi
        yield* manage("POST", "ensure-token", body)
        yield* call({ path: `/api/cal/proxy/${user}/me`, key: keys.all })
        yield* api.request(user, { path: "/me", schema: Schema.Unknown })
        yield* TestClock.adjust("10 seconds")
        const { json, status } = yield* ask(token)
        if (status !== 200) break
        token = json["accessToken"] as string
        renewals++
      }
      assert.strictEqual(renewals, 11)
      assert.isTrue(yield* World.isStoredPairLive())
      // A page that is loaded again begins anew, as its server hands a token out.
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual(yield* statusOf(yield* readToken), 401)
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual(yield* statusOf(yield* readToken), 200)
    }).pipe(Effect.provide(layer()))
  )

  it.effect("has as long as is configured", () =>
    Effect.gen(function* () {
      const { accessToken } = yield* World.obtainManaged()
      yield* TestClock.adjust("31 seconds")
      yield* manage("POST", "refresh-token", { userUlid: user, forceRefresh: true })
      yield* TestClock.adjust(Duration.subtract("20 minutes", "31 seconds"))
      assert.strictEqual(yield* statusOf(accessToken), 200)
      yield* TestClock.adjust("1 millis")
      assert.strictEqual(yield* statusOf(accessToken), 401)
    }).pipe(Effect.provide(layer({ atomsMaxAge: "20 minutes" })))
  )
})

describe("a refresh token that leaked", () => {
  it.effect("is dead with a reissue, or with the first refresh after a new consent", () =>
    Effect.gen(function* () {
      const sandbox = yield* Sandbox.Sandbox
      const tokens = yield* CalTokens.CalTokens
      const managed = yield* World.obtainManaged()
      yield* manage("POST", "refresh-managed-user-token", { userUlid: user, reissue: true })
      assert.isFalse(yield* sandbox.isLive(managed.refreshToken))
      assert.isFalse(yield* sandbox.isAccessLive(managed.accessToken))
      const person = World.user(2)
      const { calUserId, refreshToken } = yield* World.obtainOAuth2(person)
      const again = yield* sandbox.grantOAuth2({ calUserId })
      const pair = { ...again, accessTokenExpiresAt: (yield* sandbox.now) + again.expiresIn * 1000 }
      yield* tokens.connectWith(person, Effect.succeed({ connection: { _tag: "OAuth2", calUserId }, pair }))
      assert.isTrue(yield* sandbox.isLive(refreshToken))
      yield* manage("POST", "refresh-token", { userUlid: person, forceRefresh: true })
      assert.isFalse(yield* sandbox.isLive(refreshToken))
      assert.isTrue(yield* World.isStoredPairLive(person))
    }).pipe(Effect.provide(layer()))
  )
})

describe("a flood of tokens", () => {
  it.effect("that are no access tokens of this client and this time costs no query", () =>
    Effect.gen(function* () {
      const tap = yield* StorageTap.StorageTap
      const { accessToken, accessTokenExpiresAt, refreshToken } = yield* World.obtainManaged()
      yield* tap.reset
      for (const token of [
        "x",
        "a.b.c",
        refreshToken,
        forged(accessToken, { clientId: "another" }),
        forged(accessToken, { clientId: undefined }),
        forged(accessToken, { type: "refresh_token" }),
        forged(accessToken, { expiresAt: undefined }),
        forged(accessToken, { expiresAt: accessTokenExpiresAt - Duration.toMillis("27 hours") })
      ]) {
        assert.strictEqual(yield* statusOf(token), 401)
      }
      assert.strictEqual(tap.count("findByAccessToken"), 0)
      assert.strictEqual(yield* statusOf(forged(accessToken, {})), 401)
      assert.strictEqual(tap.count("findByAccessToken"), 1)
    }).pipe(Effect.provide(layer()))
  )

  it.effect("of one that is nobody's costs a query in two seconds, unless a pair waits to be stored", () =>
    Effect.gen(function* () {
      const tap = yield* StorageTap.StorageTap
      const tokens = yield* CalTokens.CalTokens
      const { accessToken } = yield* World.obtainManaged()
      const nobodys = forged(accessToken, { jti: "nobody" })
      yield* tap.reset
      for (const [wait, queries] of [
        [0, 1],
        [1999, 1],
        [1, 2],
        [1999, 2]
      ] as const) {
        yield* TestClock.adjust(wait)
        assert.strictEqual(yield* statusOf(nobodys), 401)
        assert.strictEqual(tap.count("findByAccessToken"), queries)
      }
      yield* tap.refuse("commit", 1000)
      yield* TestClock.adjust("31 seconds")
      yield* tokens.refresh(user, { forceRefresh: true })
      const asked = tap.count("findByAccessToken")
      yield* statusOf(nobodys)
      yield* statusOf(nobodys)
      assert.strictEqual(tap.count("findByAccessToken"), asked + 2)
      yield* tap.relent
      yield* TestClock.adjust("5 seconds")
      assert.isFalse(yield* tokens.holdsUnstored)
    }).pipe(Effect.provide(layer()))
  )

  it.effect("has two look-ups at a time, and whoever waits too long is told so", () =>
    Effect.gen(function* () {
      const tap = yield* StorageTap.StorageTap
      const { accessToken } = yield* World.obtainManaged()
      yield* tap.reset
      const slow = Effect.sleep("3 seconds")
      yield* tap.around("findByAccessToken", { before: slow, times: 10 })
      const flood = yield* Effect.fork(
        Effect.all(
          Array.from({ length: 6 }, (_, n) => statusOf(forged(accessToken, { jti: String(n) }))),
          { concurrency: 6 }
        )
      )
      while (tap.count("findByAccessToken") < 2) yield* tick
      yield* Effect.repeatN(tick, 20)
      assert.strictEqual(tap.count("findByAccessToken"), 2)
      while (flood.unsafePoll() === null) yield* Effect.zipRight(tick, TestClock.adjust("100 millis"))
      assert.deepStrictEqual((yield* Fiber.join(flood)).toSorted(), [401, 401, 503, 503, 503, 503])
    }).pipe(Effect.provide(layer()))
  )
})

describe("an access token of two users", () => {
  it.effect("gives whoever is logged in their own, and nobody else's", () =>
    Effect.gen(function* () {
      const sandbox = yield* Sandbox.Sandbox
      const tokens = yield* CalTokens.CalTokens
      const people = [World.user(1), World.user(2), World.user(3)]
      const grants = yield* Effect.forEach(people, (person) => sandbox.grantOAuth2({ email: `${person}@example.com` }))
      const now = yield* sandbox.now
      const [first] = grants
      assert(first !== undefined)
      // As of one team, whose tokens name nobody. The third one has their own.
      const shared = forged(first.accessToken, { userId: null, teamId: 7 })
      for (const [index, grant] of grants.entries()) {
        const accessToken = index < 2 ? shared : grant.accessToken
        const pair = { ...grant, accessToken, accessTokenExpiresAt: now + grant.expiresIn * 1000 }
        yield* tokens.connectWith(
          World.user(index + 1),
          Effect.succeed({ connection: { _tag: "OAuth2" } as const, pair })
        )
      }
      yield* TestClock.adjust("31 minutes")
      const as = (session: string) =>
        Effect.map(ask(shared, session), ({ json, status }) => [status, json["accessToken"]])
      assert.deepStrictEqual(yield* as(World.user(3)), [401, ""])
      for (const person of people.slice(0, 2)) {
        const [status, accessToken] = yield* as(person)
        const { pair } = yield* World.stored(person)
        assert.deepStrictEqual([status, accessToken], [200, Redacted.value(pair.accessToken)])
        assert.isTrue(yield* sandbox.isAccessLive(pair.accessToken))
      }
      const [one, two] = yield* Effect.forEach(people.slice(0, 2), as)
      assert.notDeepEqual(one, two)
    }).pipe(
      Effect.provide(layer({ session: ({ headers }) => Effect.orDie(TokenInput.userUlid(headers["x-session"])) }))
    )
  )
})
