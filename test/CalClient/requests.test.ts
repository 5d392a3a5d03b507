import { assert, describe, it } from "@effect/vitest"
import { Config, ConfigProvider, Effect, Layer, Redacted, TestClock } from "effect"
import * as CalClient from "../../src/CalClient.js"
import type { TokenPair } from "../../src/Token.js"
import * as ScriptedCal from "../support/ScriptedCal.js"

const now = Date.UTC(2026, 2, 14, 9, 26, 53)
const date = "Sat, 14 Mar 2026 09:26:53 GMT"
const later = "Sat, 14 Mar 2026 10:00:00 GMT"

const managed = { clientId: "C/1", clientSecret: Redacted.make("platform-secret") }
const confidential = {
  clientId: "K",
  clientSecret: Redacted.make("oauth&secret"),
  redirectUrl: "https://example.com/callback?x=1"
}
const publicClient = { clientId: "K", redirectUrl: "https://example.com/callback" }
const user = { _tag: "ManagedUser", clientId: "C/1", calUserId: 7 } as const
const account = { _tag: "OAuth2", clientId: "K" } as const

const layer = (options: Partial<CalClient.Options> = {}) =>
  CalClient.layer({ apiUrl: "https://api.cal.com/v2/", managed, oauth2: confidential, ...options }).pipe(
    Layer.provideMerge(ScriptedCal.layer)
  )

const managedAnswer = (changes: object = {}) => ({
  status: 200,
  headers: { date },
  body: {
    status: "success",
    data: {
      accessToken: "managed-access",
      refreshToken: "managed-refresh",
      accessTokenExpiresAt: now + 3_600_000,
      refreshTokenExpiresAt: now + 31_000_000_000,
      ...changes
    }
  }
})
const oauth2Answer = (changes: object = {}, headers: Record<string, string> = { date }) => ({
  status: 200,
  headers,
  body: {
    access_token: "oauth-access",
    token_type: "bearer",
    refresh_token: "oauth-refresh",
    expires_in: 1800,
    scope: "BOOKING_READ PROFILE_READ",
    ...changes
  }
})

const only = Effect.gen(function* () {
  const requests = yield* (yield* ScriptedCal.ScriptedCal).requests
  assert.strictEqual(requests.length, 1)
  return requests[0] as ScriptedCal.Seen
})
const reply = (...replies: ReadonlyArray<ScriptedCal.Reply>) =>
  Effect.flatMap(ScriptedCal.ScriptedCal, (http) => http.reply(...replies))
const shown = (pair: TokenPair) => ({
  ...pair,
  accessToken: Redacted.value(pair.accessToken),
  refreshToken: Redacted.value(pair.refreshToken)
})
const form = (body: string) => [...new URLSearchParams(body)]
const jwt = (claims: object) =>
  ["eyJhbGciOiJIUzI1NiJ9", Buffer.from(JSON.stringify(claims)).toString("base64url"), "c2ln"].join(".")

describe("managed users", () => {
  it.effect("refresh is a JSON POST with the secret and the client id in headers", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(now)
      yield* reply(managedAnswer({ accessToken: jwt({ ownerId: 7, iat: 1 }) }))
      const { refresh } = yield* CalClient.CalClient
      const grant = yield* refresh(user, Redacted.make("old-refresh"))
      assert.deepStrictEqual(shown(grant.pair), {
        accessToken: jwt({ ownerId: 7, iat: 1 }),
        refreshToken: "managed-refresh",
        accessTokenExpiresAt: now + 3_600_000,
        issuedAt: now,
        refreshTokenExpiresAt: now + 31_000_000_000
      })
      assert.strictEqual(grant.calUserId, 7)
      const { body, headers, method, url } = yield* only
      assert.strictEqual(`${method} ${url}`, "POST https://api.cal.com/v2/oauth/C%2F1/refresh")
      assert.strictEqual(body, '{"refreshToken":"old-refresh"}')
      assert.deepStrictEqual(
        { ...headers },
        {
          "x-cal-secret-key": "platform-secret",
          "x-cal-client-id": "C/1",
          "content-type": "application/json",
          "content-length": "30",
          accept: "application/json",
          "accept-encoding": "identity",
          "user-agent": "cal-tokens"
        }
      )
    }).pipe(Effect.provide(layer()))
  )

  it.effect("reissue is a POST without a body to force-refresh", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(now)
      yield* reply(managedAnswer())
      const { reissue } = yield* CalClient.CalClient
      assert.strictEqual(Redacted.value((yield* reissue(user)).pair.refreshToken), "managed-refresh")
      const { body, headers, method, url } = yield* only
      assert.strictEqual(`${method} ${url}`, "POST https://api.cal.com/v2/oauth-clients/C%2F1/users/7/force-refresh")
      assert.strictEqual(body, "")
      assert.strictEqual(headers["x-cal-secret-key"], "platform-secret")
      assert.strictEqual(headers["x-cal-client-id"], "C/1")
      assert.notProperty(headers, "authorization")
    }).pipe(Effect.provide(layer()))
  )

  it.effect("creation sends only the fields given and answers the new id with its pair", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(now)
      const answer = managedAnswer()
      yield* reply({
        ...answer,
        status: 201,
        body: { status: "success", data: { ...answer.body.data, user: { id: 42 } } }
      })
      const { createManagedUser } = yield* CalClient.CalClient
      const created = yield* createManagedUser({ email: "a@b.c", name: "Ada", timeZone: "Europe/Rome" })
      assert(created._tag === "Created")
      assert.strictEqual(created.calUserId, 42)
      assert.strictEqual(created.pair.issuedAt, now)
      const { body, headers, method, url } = yield* only
      assert.strictEqual(`${method} ${url}`, "POST https://api.cal.com/v2/oauth-clients/C%2F1/users")
      assert.deepStrictEqual(JSON.parse(body), { email: "a@b.c", name: "Ada", timeZone: "Europe/Rome" })
      assert.strictEqual(headers["x-cal-secret-key"], "platform-secret")
    }).pipe(Effect.provide(layer()))
  )

  it.effect("creation is read as tolerantly as a refresh, and names its user by any of its tokens", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(now)
      const { createManagedUser } = yield* CalClient.CalClient
      const create = createManagedUser({ email: "a@b.c", name: "Ada" })
      const named = (ownerId: number) => jwt({ ownerId, clientId: "C/1", type: "refresh_token" })
      const snake = { access_token: "managed-access", refresh_token: named(42) }
      for (const data of [{ ...snake, user: { id: 42 } }, { ...snake, user: { id: "42" } }, snake]) {
        yield* reply({ status: 201, body: { status: "success", data } })
        const created = yield* create
        assert(created._tag === "Created")
        assert.strictEqual(created.calUserId, 42)
        assert.strictEqual(Redacted.value(created.pair.refreshToken), named(42))
        assert.strictEqual(created.pair.accessTokenExpiresAt, now + 300_000)
      }
      for (const data of [
        { ...snake, user: { id: 43 } },
        { user: { id: 42 }, access_token: "managed-access" },
        { access_token: "opaque-access", refresh_token: "opaque-refresh" }
      ]) {
        yield* reply({ status: 201, body: { status: "success", data } })
        assert.strictEqual((yield* Effect.flip(create))._tag, "CalProtocolError")
      }
    }).pipe(Effect.provide(layer()))
  )

  it.effect("creation answers the id of a user who exists", () =>
    Effect.gen(function* () {
      yield* reply(ScriptedCal.platformError(409, "User with the provided e-mail already exists. Existing user ID=19"))
      const { createManagedUser } = yield* CalClient.CalClient
      assert.deepStrictEqual(yield* createManagedUser({ email: "a@b.c", name: "Ada" }), {
        _tag: "Exists",
        calUserId: 19
      })
    }).pipe(Effect.provide(layer()))
  )

  it.effect("creation names the fields that Cal.com refuses, not their values", () =>
    Effect.gen(function* () {
      const errors = [
        { target: { email: "x-secret-x" }, property: "email", children: [], constraints: { isEmail: "x-secret-x" } }
      ]
      yield* reply(
        ScriptedCal.platformError(400, "Bad Request Exception", { message: "Bad Request Exception", errors })
      )
      const { createManagedUser } = yield* CalClient.CalClient
      const error = yield* Effect.flip(createManagedUser({ email: "x-secret-x", name: "Ada" }))
      assert(error._tag === "CalRequestRejected")
      assert.strictEqual(error.status, 400)
      assert.strictEqual(error.reason, "Bad Request Exception: email (isEmail)")
    }).pipe(Effect.provide(layer()))
  )

  it.effect("another 409 is no existing user", () =>
    Effect.gen(function* () {
      yield* reply(ScriptedCal.platformError(409, "Invalid Input: Trying to create a record that already exists."))
      const { createManagedUser } = yield* CalClient.CalClient
      const error = yield* Effect.flip(createManagedUser({ email: "a@b.c", name: "Ada" }))
      assert(error._tag === "CalRequestRejected" && error.status === 409)
    }).pipe(Effect.provide(layer()))
  )
})

describe("OAuth2", () => {
  it.effect("a confidential client's refresh is a form of four fields", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(now + 1)
      yield* reply(oauth2Answer({ access_token: jwt({ userId: 5 }) }))
      const { refresh } = yield* CalClient.CalClient
      const grant = yield* refresh(account, Redacted.make("old&=refresh"))
      assert.deepStrictEqual(shown(grant.pair), {
        accessToken: jwt({ userId: 5 }),
        refreshToken: "oauth-refresh",
        accessTokenExpiresAt: now + 1_800_000,
        issuedAt: now
      })
      assert.strictEqual(grant.scope, "BOOKING_READ PROFILE_READ")
      assert.strictEqual(grant.calUserId, 5)
      const { body, headers, method, url } = yield* only
      assert.strictEqual(`${method} ${url}`, "POST https://api.cal.com/v2/auth/oauth2/token")
      assert.deepStrictEqual(form(body), [
        ["client_id", "K"],
        ["grant_type", "refresh_token"],
        ["refresh_token", "old&=refresh"],
        ["client_secret", "oauth&secret"]
      ])
      assert.strictEqual(headers["content-type"], "application/x-www-form-urlencoded")
      assert.strictEqual(headers["x-cal-client-id"], "K")
      assert.strictEqual(headers["accept-encoding"], "identity")
      assert.sameMembers(Object.keys(headers), [
        "content-type",
        "content-length",
        "accept",
        "accept-encoding",
        "user-agent",
        "x-cal-client-id"
      ])
    }).pipe(Effect.provide(layer()))
  )

  it.effect("a public client's refresh has no secret, not even an empty one", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(now)
      yield* reply(oauth2Answer())
      const { refresh } = yield* CalClient.CalClient
      yield* refresh(account, Redacted.make("old-refresh"))
      assert.deepStrictEqual(form((yield* only).body), [
        ["client_id", "K"],
        ["grant_type", "refresh_token"],
        ["refresh_token", "old-refresh"]
      ])
    }).pipe(Effect.provide(layer({ oauth2: publicClient })))
  )

  it.effect("a confidential exchange has the secret and never a verifier", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(now)
      yield* reply(oauth2Answer())
      const { exchange } = yield* CalClient.CalClient
      yield* exchange({ code: Redacted.make("the-code"), codeVerifier: Redacted.make("the-verifier") })
      assert.deepStrictEqual(form((yield* only).body), [
        ["client_id", "K"],
        ["grant_type", "authorization_code"],
        ["code", "the-code"],
        ["redirect_uri", "https://example.com/callback?x=1"],
        ["client_secret", "oauth&secret"]
      ])
    }).pipe(Effect.provide(layer()))
  )

  it.effect("a public exchange has the verifier and no secret, and needs one", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(now)
      yield* reply(oauth2Answer())
      const { exchange } = yield* CalClient.CalClient
      const code = Redacted.make("the-code")
      const error = yield* Effect.flip(exchange({ code }))
      assert(error._tag === "InvalidInput" && error.field === "codeVerifier")
      yield* exchange({ code, codeVerifier: Redacted.make("the-verifier") })
      assert.deepStrictEqual(form((yield* only).body), [
        ["client_id", "K"],
        ["grant_type", "authorization_code"],
        ["code", "the-code"],
        ["redirect_uri", "https://example.com/callback"],
        ["code_verifier", "the-verifier"]
      ])
    }).pipe(Effect.provide(layer({ oauth2: publicClient })))
  )

  it.effect("an exchange whose code is refused says so, and needs a refresh token in its answer", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(now)
      const { exchange } = yield* CalClient.CalClient
      yield* reply(ScriptedCal.oauth2Error(400, "invalid_grant", "code_invalid_or_expired"))
      const refused = yield* Effect.flip(exchange({ code: Redacted.make("the-code") }))
      assert(refused._tag === "CalRequestRejected")
      assert.strictEqual(refused.reason, "invalid_grant: code_invalid_or_expired")
      yield* reply(oauth2Answer({ refresh_token: undefined }))
      const incomplete = yield* Effect.flip(exchange({ code: Redacted.make("the-code") }))
      assert(incomplete._tag === "CalProtocolError")
      assert.strictEqual(incomplete.issue, "it holds no refresh token")
    }).pipe(Effect.provide(layer()))
  )

  it.effect("an exchange is read as tolerantly as a refresh", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(now)
      const { exchange } = yield* CalClient.CalClient
      const code = Redacted.make("the-code")
      const { access_token, refresh_token } = oauth2Answer().body
      yield* reply({ status: 200, body: { data: { accessToken: access_token, refreshToken: refresh_token } } })
      const { pair } = yield* exchange({ code })
      assert.strictEqual(Redacted.value(pair.refreshToken), "oauth-refresh")
      assert.strictEqual(pair.accessTokenExpiresAt, now + 300_000)
      for (const user of [5, 6]) {
        const tokens = { access_token: jwt({ userId: 5 }), refresh_token: jwt({ userId: user, jti: 1 }) }
        yield* reply({ status: 200, body: tokens })
        const result = yield* Effect.either(exchange({ code }))
        assert.strictEqual(result._tag, user === 5 ? "Right" : "Left")
      }
    }).pipe(Effect.provide(layer()))
  )

  it.effect("the spent refresh token stays in use when the answer has none (RFC 6749 section 6)", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(now)
      yield* reply(oauth2Answer({ refresh_token: undefined }), oauth2Answer({ refresh_token: null, scope: undefined }))
      const { refresh } = yield* CalClient.CalClient
      for (const scope of ["BOOKING_READ PROFILE_READ", undefined]) {
        const grant = yield* refresh(account, Redacted.make("kept-refresh"))
        assert.strictEqual(Redacted.value(grant.pair.refreshToken), "kept-refresh")
        assert.strictEqual(grant.scope, scope)
      }
    }).pipe(Effect.provide(layer()))
  )

  it.effect("expiry counts from the answer's date, and from Cal.com's time without one", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(now)
      const { now: calNow, refresh } = yield* CalClient.CalClient
      // A date half an hour ahead: our clock is wrong, and that is learned.
      yield* reply(oauth2Answer({ expires_in: 90 }, { date: later }))
      const first = yield* refresh(account, Redacted.make("r"))
      assert.strictEqual(first.pair.accessTokenExpiresAt, Date.parse(later) + 90_000)
      assert.strictEqual(yield* calNow, Date.parse(later))
      yield* TestClock.adjust(5000)
      yield* reply(oauth2Answer({ expires_in: 90 }, {}))
      const second = yield* refresh(account, Redacted.make("r"))
      assert.strictEqual(second.pair.issuedAt, Date.parse(later) + 5000)
      assert.strictEqual(second.pair.accessTokenExpiresAt, Date.parse(later) + 95_000)
    }).pipe(Effect.provide(layer()))
  )
})

describe("me", () => {
  it.effect("sends the user's token and nothing of a client", () =>
    Effect.gen(function* () {
      yield* reply({
        status: 200,
        body: { status: "success", data: { id: 3, username: "ada", email: "a@b.c", timeZone: "UTC" } }
      })
      const { me } = yield* CalClient.CalClient
      assert.deepStrictEqual(yield* me(Redacted.make("access-1")), { id: 3, username: "ada", email: "a@b.c" })
      const { headers, method, url } = yield* only
      assert.strictEqual(`${method} ${url}`, "GET https://api.cal.com/v2/me")
      assert.deepStrictEqual(
        { ...headers },
        {
          authorization: "Bearer access-1",
          accept: "application/json",
          "accept-encoding": "identity",
          "user-agent": "cal-tokens"
        }
      )
    }).pipe(Effect.provide(layer()))
  )

  it.effect("a refused token is the user's matter, not the client's", () =>
    Effect.gen(function* () {
      yield* reply(
        ScriptedCal.platformError(401, "Invalid Access Token."),
        ScriptedCal.platformError(498, "ACCESS_TOKEN_IS_EXPIRED")
      )
      const { me } = yield* CalClient.CalClient
      for (const status of [401, 498]) {
        const error = yield* Effect.flip(me(Redacted.make("access-1")))
        assert(error._tag === "CalRequestRejected" && error.status === status)
      }
    }).pipe(Effect.provide(layer()))
  )
})

describe("clients", () => {
  it.effect("one that is not configured fails without a call", () =>
    Effect.gen(function* () {
      const client = yield* CalClient.CalClient
      for (const call of [
        client.refresh({ ...user, clientId: "other" }, Redacted.make("r")),
        client.refresh({ ...account, clientId: "C/1" }, Redacted.make("r")),
        client.reissue({ ...user, clientId: "K" })
      ]) {
        const failure = yield* Effect.flip(call)
        assert.strictEqual(failure._tag, "ClientWide")
        assert.strictEqual(failure.error._tag, "CalClientMisconfigured")
      }
      assert.deepStrictEqual(yield* (yield* ScriptedCal.ScriptedCal).requests, [])
    }).pipe(Effect.provide(layer()))
  )

  it.effect("without any, creation and exchange say which one is missing", () =>
    Effect.gen(function* () {
      const client = yield* CalClient.CalClient
      const errors = yield* Effect.all([
        Effect.flip(client.createManagedUser({ email: "a@b.c", name: "Ada" })),
        Effect.flip(client.exchange({ code: Redacted.make("c") }))
      ])
      assert.deepStrictEqual(
        errors.map(({ _tag }) => _tag),
        ["CalClientMisconfigured", "CalClientMisconfigured"]
      )
      const { managed, oauth2 } = client.clients
      assert.deepStrictEqual([managed.all.size, oauth2.all.size], [0, 0])
    }).pipe(Effect.provide(layer({ managed: undefined, oauth2: undefined })))
  )

  it.effect("are read from configuration", () =>
    Effect.gen(function* () {
      const client = yield* CalClient.CalClient
      assert.strictEqual(client.apiUrl, "https://api.cal.eu/v2")
      assert.deepStrictEqual([...client.clients.managed.all.keys()], ["from-env"])
    }).pipe(
      Effect.provide(
        CalClient.layerConfig({
          apiUrl: Config.string("CAL_API_URL"),
          managed: { clientId: Config.string("CAL_CLIENT_ID"), clientSecret: Config.redacted("CAL_CLIENT_SECRET") }
        }).pipe(Layer.provide(ScriptedCal.layer))
      ),
      Effect.withConfigProvider(
        ConfigProvider.fromMap(
          new Map([
            ["CAL_API_URL", "https://api.cal.eu/v2/"],
            ["CAL_CLIENT_ID", "from-env"],
            ["CAL_CLIENT_SECRET", "s"]
          ])
        )
      )
    )
  )
})
