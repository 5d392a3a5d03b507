import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Fiber, Redacted, TestClock } from "effect"
import { Sandbox } from "../../src/Sandbox.js"
import { type Answer, at, C, claims, clientHeaders, layer, refresh, send, turn } from "../support/SandboxWorld.js"

const users = `/v2/oauth-clients/${C}/users`
const ada = {
  email: "ada@example.com",
  name: "Ada",
  timeZone: "Europe/Rome",
  weekStart: "Monday",
  timeFormat: 24,
  locale: "fr",
  bio: "I am a bio",
  metadata: { key: "value" }
}
const create = (changes: object = {}) => send("POST", users, { headers: clientHeaders, json: { ...ada, ...changes } })
const forceRefresh = (calUserId: number) =>
  send("POST", `${users}/${calUserId}/force-refresh`, { headers: clientHeaders })
const me = (token: Redacted.Redacted | string) => send("GET", "/v2/me", { token })

const start = Date.UTC(2026, 2, 14, 9, 26, 53, 589)
const startClock = TestClock.setTime(start)

describe("creating a managed user", () => {
  it.effect("answers with the user and a pair (vector 1)", () =>
    Effect.gen(function* () {
      yield* startClock
      const created = yield* create()
      assert.strictEqual(created.status, 201)
      assert.strictEqual(created.at("data.user.email"), `ada+${C}@example.com`)
      assert.strictEqual(created.at("data.user.username"), "ada-c-example-com")
      assert.deepStrictEqual(created.at("data.user.metadata"), ada.metadata)
      assert.notStrictEqual(created.at("data.user.defaultScheduleId"), null)
      for (const [token, type, expiresAt] of [
        [created.at("data.accessToken"), "access_token", created.at("data.accessTokenExpiresAt")],
        [created.at("data.refreshToken"), "refresh_token", created.at("data.refreshTokenExpiresAt")]
      ]) {
        const jwt = claims(token)
        assert.strictEqual(at(jwt, "clientId"), C)
        assert.strictEqual(at(jwt, "type"), type)
        assert.strictEqual(at(jwt, "expiresAt"), expiresAt)
        assert.strictEqual(at(jwt, "ownerId"), created.at("data.user.id"))
        assert.isAbove(Number(at(jwt, "iat")), 0)
        assert.strictEqual(at(jwt, "exp"), undefined)
        assert.strictEqual(at(jwt, "userId"), undefined)
      }
      assert.deepStrictEqual(Object.keys(created.at("data") ?? {}), [
        "user",
        "accessToken",
        "accessTokenExpiresAt",
        "refreshToken",
        "refreshTokenExpiresAt"
      ])
    }).pipe(Effect.provide(layer()))
  )

  it.effect("floors lifetimes to the minute and to the day", () =>
    Effect.gen(function* () {
      yield* startClock
      const created = yield* create()
      assert.strictEqual(created.at("data.accessTokenExpiresAt"), Date.UTC(2026, 2, 14, 10, 26))
      assert.strictEqual(created.at("data.refreshTokenExpiresAt"), Date.UTC(2027, 2, 14))
      yield* TestClock.setTime(Date.UTC(2028, 1, 29, 12))
      const leap = yield* create({ email: "leap@example.com" })
      assert.strictEqual(leap.at("data.refreshTokenExpiresAt"), Date.UTC(2029, 1, 28))
    }).pipe(Effect.provide(layer()))
  )

  it.effect("takes an exact lifetime for demonstrations", () =>
    Effect.gen(function* () {
      yield* startClock
      const { accessTokenExpiresAt } = yield* Effect.flatMap(Sandbox, (sandbox) => sandbox.grantManaged())
      assert.strictEqual(accessTokenExpiresAt, start + 90_000)
    }).pipe(Effect.provide(layer({ accessTokenLifetime: "90 seconds" })))
  )

  it.effect("refuses an email twice (vector 2)", () =>
    Effect.gen(function* () {
      const first = yield* create()
      const second = yield* create({ email: "ADA@example.com" })
      assert.strictEqual(second.status, 409)
      assert.strictEqual(
        second.message,
        `User with the provided e-mail already exists. Existing user ID=${String(first.at("data.user.id"))}`
      )
      assert.deepStrictEqual(second.at("error.details"), {
        message: second.message,
        error: "Conflict",
        statusCode: 409
      })
    }).pipe(Effect.provide(layer()))
  )

  it.effect("validates, corrects and defaults", () =>
    Effect.gen(function* () {
      for (const wrong of [{ timeZone: "incorrect-time-zone" }, { timeZone: "" }, { timeFormat: 100 }, { email: 1 }]) {
        const refused = yield* create(wrong)
        assert.strictEqual(refused.status, 400)
        assert.strictEqual(refused.message, "Bad Request Exception")
        assert.strictEqual(refused.at("error.details.errors.0.property"), Object.keys(wrong)[0])
      }
      const nowhere = yield* create({ timeZone: null })
      assert.strictEqual(nowhere.at("data.user.timeZone"), "Europe/London")
      assert.strictEqual(nowhere.at("data.user.defaultScheduleId"), null)
      const lower = yield* create({ email: "ny@example.com", timeZone: "america/new_york", unknown: true })
      assert.strictEqual(lower.at("data.user.timeZone"), "America/New_York")
    }).pipe(Effect.provide(layer()))
  )

  it.effect("lists users, by page and by address (vector 6)", () =>
    Effect.gen(function* () {
      const list = (query: string) => send("GET", `${users}?${query}`, { headers: clientHeaders })
      const emails = ({ text }: Answer) => [...text.matchAll(/"email":"([^"]+)"/g)].map(([, email]) => email)
      yield* create()
      yield* create({ email: "grace@example.com" })
      assert.lengthOf(emails(yield* list("limit=10&offset=0&emails=ada@example.com,grace@example.com")), 2)
      assert.deepStrictEqual(emails(yield* list("emails=ada%2BC@example.com")), ["ada+C@example.com"])
      assert.deepStrictEqual(emails(yield* list("offset=1")), ["grace+C@example.com"])
      const invalid = yield* list("emails=ada@example.com,invalid-email&limit=0")
      assert.strictEqual(invalid.status, 400)
      assert.strictEqual(invalid.message, "Invalid email invalid-email")
      for (const [query, rule, text] of [
        ["emails=", "arrayNotEmpty", "emails cannot be empty."],
        ["limit=0", "min", "limit must not be less than 1"],
        ["limit=251", "max", "limit must not be greater than 250"],
        ["offset=251", "max", "offset must not be greater than 250"],
        ["limit=x", "isNumber", "limit must be a number conforming to the specified constraints"]
      ] as const) {
        const refused = yield* list(query)
        assert.strictEqual(refused.status, 400)
        assert.strictEqual(refused.message, "Bad Request Exception")
        assert.strictEqual(at(refused.at("error.details.errors.0.constraints"), rule), text)
      }
    }).pipe(Effect.provide(layer()))
  )

  it.effect("needs credentials on every route (vector 5)", () =>
    Effect.gen(function* () {
      for (const [method, path] of [
        ["POST", ""],
        ["GET", ""],
        ["GET", "/1"],
        ["PATCH", "/1"],
        ["DELETE", "/1"],
        ["POST", "/1/force-refresh"]
      ] as const) {
        const refused = yield* send(method, `/v2/oauth-clients/100/users${path}`)
        assert.strictEqual(refused.status, 401)
        assert.match(String(refused.message), /^ApiAuthStrategy - Only 'x-cal-client-id' header provided\./)
      }
      const unknown = yield* send("GET", "/v2/oauth-clients/100/users", { headers: clientHeaders })
      assert.strictEqual(unknown.message, "ApiAuthStrategy - oAuth client - Client with ID 100 not found")
      const wrong = yield* send("GET", users, { headers: { "x-cal-secret-key": "nope" } })
      assert.strictEqual(wrong.message, "ApiAuthStrategy - oAuth client - Invalid client secret")
      const { accessToken } = yield* Effect.flatMap(Sandbox, (sandbox) => sandbox.grantManaged())
      assert.strictEqual((yield* send("GET", users, { token: accessToken })).status, 403)
    }).pipe(Effect.provide(layer()))
  )

  it.effect("reads, changes and deletes only its own users", () =>
    Effect.gen(function* () {
      const sandbox = yield* Sandbox
      const { accessToken, calUserId, refreshToken } = yield* sandbox.grantManaged({ email: "ada@example.com" })
      const path = `${users}/${calUserId}`
      assert.strictEqual((yield* send("GET", path, { headers: clientHeaders })).at("data.id"), calUserId)
      const patched = yield* send("PATCH", path, { headers: clientHeaders, json: { email: "lady@example.com" } })
      assert.strictEqual(patched.at("data.email"), "lady+C@example.com")
      const foreign = yield* send("GET", `/v2/oauth-clients/other/users/${calUserId}`, {
        headers: { "x-cal-secret-key": "other-secret" }
      })
      assert.strictEqual(foreign.status, 404)
      assert.strictEqual(foreign.message, `User with ID ${calUserId} is not part of this OAuth client.`)
      const text = yield* send("GET", `${users}/abc`, { headers: clientHeaders })
      assert.strictEqual(text.message, "Validation failed (numeric string is expected)")
      assert.strictEqual((yield* send("DELETE", path, { headers: clientHeaders })).at("data.id"), calUserId)
      assert.strictEqual((yield* me(accessToken)).status, 401)
      assert.strictEqual((yield* refresh(refreshToken)).message, "Invalid refresh token")
      assert.strictEqual((yield* forceRefresh(calUserId)).status, 404)
    }).pipe(Effect.provide(layer()))
  )
})

describe("refreshing a managed user", () => {
  it.effect("spends the token for a pair (vector 9)", () =>
    Effect.gen(function* () {
      yield* startClock
      const { accessToken, calUserId, refreshToken } = yield* Effect.flatMap(Sandbox, (s) => s.grantManaged())
      const refreshed = yield* refresh(refreshToken)
      assert.strictEqual(refreshed.status, 200)
      const jwt = claims(refreshed.at("data.accessToken"))
      assert.strictEqual(at(jwt, "ownerId"), calUserId)
      assert.strictEqual(at(jwt, "userId"), calUserId)
      assert.strictEqual(at(jwt, "type"), "access_token")
      assert.strictEqual(at(jwt, "expiresAt"), refreshed.at("data.accessTokenExpiresAt"))
      // The earlier access token keeps its own life; the refresh token was spent.
      assert.strictEqual((yield* me(accessToken)).status, 200)
      const again = yield* refresh(refreshToken)
      assert.strictEqual(again.status, 400)
      assert.strictEqual(again.message, "Invalid refresh token")
    }).pipe(Effect.provide(layer()))
  )

  it.effect("refuses what is not a refresh of this client (vectors 10 and 11)", () =>
    Effect.gen(function* () {
      const { refreshToken } = yield* Effect.flatMap(Sandbox, (sandbox) => sandbox.grantManaged())
      assert.strictEqual((yield* send("POST", "/v2/oauth/100/refresh")).status, 401)
      assert.strictEqual((yield* send("POST", "/v2/oauth/100/exchange")).status, 400)
      const exchange = { headers: { authorization: "Bearer code" }, json: { clientSecret: "x" } }
      assert.strictEqual((yield* send("POST", "/v2/oauth/C/exchange", exchange)).message, "Invalid OAuth Client.")
      assert.strictEqual((yield* send("POST", "/v2/oauth/100/authorize")).status, 401)
      assert.strictEqual((yield* refresh(refreshToken, "other", "other-secret")).message, "Invalid refresh token")
      const form = yield* send("POST", `/v2/oauth/${C}/refresh`, {
        headers: clientHeaders,
        form: { refreshToken: Redacted.value(refreshToken) }
      })
      assert.strictEqual(form.message, "Bad Request Exception")
      assert.strictEqual(form.at("error.details.errors.0.property"), "refreshToken")
      assert.strictEqual((yield* refresh(refreshToken)).status, 200)
    }).pipe(Effect.provide(layer()))
  )

  it.effect("forgets the client's expired access tokens: 498 becomes 401", () =>
    Effect.gen(function* () {
      yield* startClock
      const sandbox = yield* Sandbox
      const one = yield* sandbox.grantManaged()
      const two = yield* sandbox.grantManaged()
      yield* TestClock.setTime(one.accessTokenExpiresAt)
      assert.strictEqual((yield* me(one.accessToken)).status, 200)
      yield* TestClock.adjust(1)
      const expired = yield* me(one.accessToken)
      assert.strictEqual(expired.status, 498)
      assert.strictEqual(expired.message, "ACCESS_TOKEN_IS_EXPIRED")
      assert.strictEqual(expired.at("error.details"), "ACCESS_TOKEN_IS_EXPIRED")
      assert.strictEqual(expired.at("error.code"), "TokenExpiredException")
      assert.strictEqual((yield* refresh(two.refreshToken)).status, 200)
      const gone = yield* me(one.accessToken)
      assert.strictEqual(gone.status, 401)
      assert.strictEqual(gone.message, "Invalid Access Token.")
    }).pipe(Effect.provide(layer()))
  )

  it.effect("treats a refresh token past its year by a switch", () =>
    Effect.gen(function* () {
      yield* startClock
      const sandbox = yield* Sandbox
      const { refreshToken, refreshTokenExpiresAt } = yield* sandbox.grantManaged()
      yield* TestClock.setTime(refreshTokenExpiresAt)
      assert.isFalse(yield* sandbox.isLive(refreshToken))
      assert.strictEqual((yield* refresh(refreshToken)).message, "Invalid refresh token")
      yield* turn({ expiredRefreshTokenAccepted: true })
      assert.isTrue(yield* sandbox.isLive(refreshToken))
      assert.strictEqual((yield* refresh(refreshToken)).status, 200)
    }).pipe(Effect.provide(layer()))
  )

  it.effect("lets one of two racing requests win", () =>
    Effect.gen(function* () {
      const sandbox = yield* Sandbox
      for (const [managedRaceLoser, status, message] of [
        ["notFound", 404, "Invalid Query: The requested record was not found."],
        ["invalid", 400, "Invalid refresh token"]
      ] as const) {
        yield* turn({ raceWindow: "100 millis", managedRaceLoser })
        const { refreshToken } = yield* sandbox.grantManaged()
        const race = yield* Effect.fork(Effect.all([refresh(refreshToken), refresh(refreshToken)], { concurrency: 2 }))
        yield* TestClock.adjust("100 millis")
        const answers = [...(yield* Fiber.join(race))].sort((a, b) => a.status - b.status)
        assert.strictEqual(answers[0]?.status, 200)
        assert.strictEqual(answers[1]?.status, status)
        assert.strictEqual(answers[1]?.message, message)
        assert.isTrue(yield* sandbox.isLive(String(answers[0]?.at("data.refreshToken"))))
      }
    }).pipe(Effect.provide(layer()))
  )
})

describe("force-refreshing a managed user", () => {
  it.effect("ends every earlier token of this user and of nobody else (vector 8)", () =>
    Effect.gen(function* () {
      const sandbox = yield* Sandbox
      const one = yield* sandbox.grantManaged()
      const other = yield* sandbox.grantManaged()
      const second = yield* refresh(one.refreshToken)
      assert.strictEqual((yield* me(one.accessToken)).status, 200)
      const forced = yield* forceRefresh(one.calUserId)
      assert.strictEqual(forced.status, 200)
      assert.hasAllKeys(forced.at("data"), [
        "accessToken",
        "refreshToken",
        "accessTokenExpiresAt",
        "refreshTokenExpiresAt"
      ])
      const jwt = claims(forced.at("data.accessToken"))
      assert.strictEqual(at(jwt, "ownerId"), one.calUserId)
      assert.strictEqual(at(jwt, "userId"), undefined)
      // One that Cal.com had validated is still in its cache, and fails later and differently than one it never saw.
      assert.strictEqual(
        (yield* me(one.accessToken)).message,
        "ApiAuthStrategy - access token - OAuth client not found given the access token"
      )
      assert.strictEqual((yield* me(String(second.at("data.accessToken")))).message, "Invalid Access Token.")
      assert.isFalse(yield* sandbox.isLive(String(second.at("data.refreshToken"))))
      assert.isTrue(yield* sandbox.isLive(other.refreshToken))
      assert.isTrue(yield* sandbox.isAccessLive(other.accessToken))
      assert.strictEqual((yield* me(String(forced.at("data.accessToken")))).at("data.id"), one.calUserId)
    }).pipe(Effect.provide(layer()))
  )
})

describe("what a test can do to a managed user", () => {
  it.effect("revoke one of two secrets, at once and without an end to any token", () =>
    Effect.gen(function* () {
      const { accessToken, refreshToken } = yield* Effect.flatMap(Sandbox, (sandbox) => sandbox.grantManaged())
      const next = yield* refresh(refreshToken, C, "old")
      yield* turn({ revokedSecrets: [Redacted.make("old")] })
      const live = String(next.at("data.refreshToken"))
      const refused = yield* refresh(live, C, "old")
      assert.strictEqual(refused.status, 401)
      assert.strictEqual(refused.message, "ApiAuthStrategy - oAuth client - Invalid client secret")
      assert.strictEqual((yield* me(accessToken)).status, 200)
      assert.strictEqual((yield* refresh(live, C, "new")).status, 200)
    }).pipe(
      Effect.provide(layer({ managed: { clientId: C, clientSecret: [Redacted.make("old"), Redacted.make("new")] } }))
    )
  )

  it.effect("expire, revoke, delete, lag, skew, reject the secret", () =>
    Effect.gen(function* () {
      yield* startClock
      const sandbox = yield* Sandbox
      const { accessToken, calUserId, refreshToken } = yield* sandbox.grantManaged()
      yield* sandbox.expireAccessTokens(calUserId)
      assert.strictEqual((yield* me(accessToken)).status, 498)
      assert.isFalse(yield* sandbox.isAccessLive(accessToken))
      yield* turn({ managedSecretRejected: true })
      assert.strictEqual((yield* refresh(refreshToken)).status, 401)
      yield* turn({ managedSecretRejected: false, replicaLag: "1 second" })
      const refreshed = yield* refresh(refreshToken)
      const next = String(refreshed.at("data.accessToken"))
      assert.strictEqual((yield* me(next)).message, "Invalid Access Token.")
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* me(next)).status, 200)
      yield* turn({ clockSkewMillis: Duration.toMillis("2 hours") })
      const skewed = yield* me(next)
      assert.strictEqual(skewed.status, 498)
      assert.strictEqual(Date.parse(skewed.headers.date ?? ""), Math.floor(start / 1000 + 1 + 7200) * 1000)
      yield* sandbox.revokeRefreshTokens(calUserId)
      assert.strictEqual((yield* refresh(String(refreshed.at("data.refreshToken")))).message, "Invalid refresh token")
      yield* sandbox.deleteUser(calUserId)
      assert.strictEqual((yield* forceRefresh(calUserId)).status, 404)
    }).pipe(Effect.provide(layer()))
  )

  it.effect("read what was called, without tokens", () =>
    Effect.gen(function* () {
      yield* startClock
      const sandbox = yield* Sandbox
      const { accessToken, calUserId, refreshToken } = yield* sandbox.grantManaged()
      yield* refresh(refreshToken)
      yield* refresh(refreshToken)
      yield* send("GET", "/api/v2/me?x=secret-query", { token: accessToken })
      const calls = yield* sandbox.calls
      assert.deepStrictEqual(
        calls.map(({ calUserId, kind, method, path, status }) => ({ calUserId, kind, method, path, status })),
        [
          { calUserId, kind: "refresh", method: "POST", path: "/v2/oauth/C/refresh", status: 200 },
          { calUserId, kind: "refresh", method: "POST", path: "/v2/oauth/C/refresh", status: 400 },
          { calUserId, kind: "api", method: "GET", path: "/v2/me", status: 200 }
        ]
      )
      assert.strictEqual(calls[0]?.refreshTokenHash, calls[1]?.refreshTokenHash)
      assert.strictEqual(yield* sandbox.count("refresh", calUserId), 2)
      assert.strictEqual(yield* sandbox.count("refresh", calUserId + 1), 0)
      const text = JSON.stringify(calls)
      for (const token of [accessToken, refreshToken]) assert.notInclude(text, Redacted.value(token).slice(-20))
      assert.notInclude(text, "secret-query")
      yield* sandbox.resetCalls
      assert.strictEqual(yield* sandbox.count("refresh"), 0)
      assert.deepStrictEqual(yield* sandbox.calls, [])
    }).pipe(Effect.provide(layer()))
  )
})
