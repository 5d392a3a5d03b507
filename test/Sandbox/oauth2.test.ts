import { createHash } from "node:crypto"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Redacted, Struct, TestClock } from "effect"
import { Fault, Sandbox } from "../../src/Sandbox.js"
import { type Answer, at, claims, K, layer, oauth2Refresh, redirectUri, send, turn } from "../support/SandboxWorld.js"

const secret = "test-secret-123"
const codeFields = (code: string) => ({
  client_id: K,
  client_secret: secret,
  grant_type: "authorization_code",
  code,
  redirect_uri: redirectUri
})
const verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
const challenge = createHash("sha256").update(verifier).digest("base64url")
const publicFields = (code: string) => ({
  client_id: "public",
  grant_type: "authorization_code",
  code,
  redirect_uri: redirectUri,
  code_verifier: verifier
})

const token = (json: object, headers: Readonly<Record<string, string>> = {}) =>
  send("POST", "/v2/auth/oauth2/token", { json, headers })
const me = (accessToken: unknown) => send("GET", "/v2/me", { token: String(accessToken) })
const freshCode = Effect.flatMap(Sandbox, (sandbox) => sandbox.authorizationCode({ email: "ada@example.com" }))

const refused = (answer: Answer, status: number, error: string, description: string) => {
  assert.strictEqual(answer.status, status)
  assert.deepStrictEqual(answer.body, { error, error_description: description })
  assert.strictEqual(answer.headers["cache-control"], "no-store")
}

describe("the token endpoint", () => {
  it.effect("exchanges a code once, from a form or JSON (vectors 14 to 16)", () =>
    Effect.gen(function* () {
      yield* TestClock.adjust("20 hours")
      const fields = codeFields(yield* freshCode)
      const form = yield* send("POST", "/v2/auth/oauth2/token", { form: fields })
      assert.strictEqual(form.status, 200)
      assert.strictEqual(form.at("token_type"), "bearer")
      assert.strictEqual(form.at("expires_in"), 1800)
      assert.strictEqual(form.at("scope"), "READ_BOOKING READ_PROFILE")
      assert.strictEqual(form.headers["cache-control"], "no-store")
      assert.strictEqual(form.headers.pragma, "no-cache")
      refused(yield* token(fields), 400, "invalid_grant", "code_invalid_or_expired")

      const json = yield* token(codeFields(yield* freshCode))
      assert.strictEqual(json.status, 200)
      const access = claims(json.at("access_token"))
      assert.strictEqual(at(access, "token_type"), "Access Token")
      assert.strictEqual(Number(at(access, "exp")) - Number(at(access, "iat")), 1800)
      assert.strictEqual(at(access, "jti"), undefined)
      const refresh = claims(json.at("refresh_token"))
      assert.strictEqual(at(refresh, "token_type"), "Refresh Token")
      assert.strictEqual(Number(at(refresh, "exp")) - Number(at(refresh, "iat")), 30 * 86_400)
      assert.lengthOf(String(at(refresh, "secret")), 43)
      assert.strictEqual((yield* me(json.at("access_token"))).at("data.email"), "ada@example.com")
    }).pipe(Effect.provide(layer()))
  )

  it.effect("forgets a code after ten minutes", () =>
    Effect.gen(function* () {
      const fields = codeFields(yield* freshCode)
      yield* TestClock.adjust("10 minutes")
      refused(yield* token(fields), 400, "invalid_grant", "code_invalid_or_expired")
    }).pipe(Effect.provide(layer()))
  )

  it.effect("refuses a wrong secret without consuming anything (vector 17)", () =>
    Effect.gen(function* () {
      const { refreshToken } = yield* Effect.flatMap(Sandbox, (sandbox) => sandbox.grantOAuth2())
      const fields = codeFields(yield* freshCode)
      const wrong = { client_secret: "wrong-secret" }
      refused(yield* token({ ...fields, ...wrong }), 401, "invalid_client", "invalid_client_credentials")
      refused(yield* oauth2Refresh(refreshToken, wrong), 401, "invalid_client", "invalid_client_credentials")
      yield* turn({ oauth2SecretRejected: true })
      refused(yield* oauth2Refresh(refreshToken), 401, "invalid_client", "invalid_client_credentials")
      yield* turn({ oauth2SecretRejected: false })
      assert.strictEqual((yield* token(fields)).status, 200)
      assert.strictEqual((yield* oauth2Refresh(refreshToken)).status, 200)
    }).pipe(Effect.provide(layer()))
  )

  it.effect("checks its input first, in order (vector 18)", () =>
    Effect.gen(function* () {
      const fields = codeFields(yield* freshCode)
      const invalid = (answer: Answer, description: string) => refused(answer, 400, "invalid_request", description)
      invalid(yield* send("POST", "/v2/auth/oauth2/token"), "Body is required")
      invalid(yield* token([]), "Body should be an object")
      invalid(yield* token({ grant_type: "nope" }), "client_id is required")
      const doubled = {
        raw: "client_id=a&client_id=b",
        headers: { "content-type": "application/x-www-form-urlencoded" }
      }
      invalid(yield* send("POST", "/v2/auth/oauth2/token", doubled), "client_id is required")
      const grantTypes = "grant_type must be 'authorization_code' or 'refresh_token'"
      invalid(yield* token({ ...fields, grant_type: "invalid_grant" }), grantTypes)
      invalid(yield* token({ client_id: "nobody", grant_type: "password" }), grantTypes)
      invalid(
        yield* token({ client_id: K, client_secret: secret, grant_type: "authorization_code" }),
        "code property is wrong,code must be a string , redirect_uri property is wrong,redirect_uri must be a string "
      )
      invalid(
        yield* token({ ...fields, code_verifier: verifier }),
        "code_verifier property is wrong,property code_verifier should not exist "
      )
      invalid(
        yield* oauth2Refresh("x", { scope: "PROFILE_READ" }),
        "scope property is wrong,property scope should not exist "
      )
      refused(yield* token({ ...fields, client_id: "nobody" }), 401, "invalid_client", "client_not_found")
      refused(
        yield* token({ ...fields, redirect_uri: "https://example.com/", client_secret: "wrong" }),
        400,
        "invalid_grant",
        "redirect_uri_mismatch"
      )
      assert.strictEqual((yield* token(fields)).status, 200)
    }).pipe(Effect.provide(layer()))
  )

  it.effect("names requests like no other endpoint", () =>
    Effect.gen(function* () {
      assert.strictEqual((yield* token([])).headers["x-request-id"], "unknown-request-id")
      assert.strictEqual((yield* token([], { "x-request-id": "mine" })).headers["x-request-id"], "mine")
      const malformed = yield* send("POST", "/v2/auth/oauth2/token", { raw: "{", headers: { "x-request-id": "mine" } })
      assert.strictEqual(malformed.status, 400)
      assert.strictEqual(malformed.at("error.code"), "BadRequestException")
      assert.strictEqual(malformed.headers["x-request-id"], "unknown-request-id")
      const fine = yield* token(codeFields(yield* freshCode), { "x-request-id": "mine" })
      assert.match(fine.headers["x-request-id"] ?? "", /^[0-9a-f]{8}-/)
    }).pipe(Effect.provide(layer()))
  )

  it.effect("consumes the code before it looks at approval and PKCE", () =>
    Effect.gen(function* () {
      const sandbox = yield* Sandbox
      const codeFor = (codeChallenge?: string) =>
        sandbox.authorizationCode({ clientId: "public", email: "ada@example.com", codeChallenge })
      const code = yield* codeFor(challenge)
      assert.lengthOf(code, 54)
      refused(
        yield* token({ ...publicFields(code), code_verifier: "wrong" }),
        400,
        "invalid_grant",
        "pkce_verification_failed"
      )
      refused(yield* token(publicFields(code)), 400, "invalid_grant", "code_invalid_or_expired")
      refused(
        yield* token(publicFields(yield* codeFor())),
        400,
        "invalid_request",
        "pkce_missing_parameters_or_invalid_method"
      )
      const confidential = yield* sandbox.authorizationCode({ codeChallenge: challenge })
      refused(
        yield* token(codeFields(confidential)),
        400,
        "invalid_request",
        "pkce_missing_parameters_or_invalid_method"
      )
      const done = yield* token(publicFields(yield* codeFor(challenge)))
      assert.strictEqual(done.status, 200)
      assert.strictEqual(at(claims(done.at("refresh_token")), "codeChallenge"), challenge)
      const fields = { client_id: "public", grant_type: "refresh_token", refresh_token: done.at("refresh_token") }
      const next = yield* token(fields)
      assert.strictEqual(next.status, 200)
      assert.strictEqual(at(claims(next.at("refresh_token")), "codeChallenge"), undefined)
    }).pipe(Effect.provide(layer()))
  )

  it.effect("rotates: the old refresh token is dead, the old access token is not (vector 19)", () =>
    Effect.gen(function* () {
      const sandbox = yield* Sandbox
      const first = yield* sandbox.grantOAuth2({ email: "ada@example.com" })
      const sibling = yield* sandbox.grantOAuth2({ calUserId: first.calUserId })
      yield* TestClock.adjust("10 seconds")
      const second = yield* oauth2Refresh(first.refreshToken)
      assert.strictEqual(second.status, 200)
      assert.strictEqual(second.at("scope"), "READ_BOOKING READ_PROFILE")
      assert.strictEqual((yield* me(Redacted.value(first.accessToken))).status, 200)
      refused(yield* oauth2Refresh(first.refreshToken), 400, "invalid_grant", "refresh_token_revoked")
      // Every refresh token of this client and user went with it.
      refused(yield* oauth2Refresh(sibling.refreshToken), 400, "invalid_grant", "refresh_token_revoked")
      refused(yield* oauth2Refresh("invalid-refresh-token"), 400, "invalid_grant", "invalid_refresh_token")
      refused(yield* oauth2Refresh(first.accessToken), 400, "invalid_grant", "invalid_refresh_token")
      const stolen = { client_id: "public", grant_type: "refresh_token", refresh_token: second.at("refresh_token") }
      refused(yield* token(stolen), 400, "invalid_grant", "client_id_mismatch")
      assert.strictEqual((yield* oauth2Refresh(String(second.at("refresh_token")))).status, 200)
    }).pipe(Effect.provide(layer()))
  )

  it.effect("dates tokens: 30 minutes, then 401; 30 days, then invalid", () =>
    Effect.gen(function* () {
      const sandbox = yield* Sandbox
      const { accessToken, refreshToken } = yield* sandbox.grantOAuth2()
      yield* TestClock.adjust("1799 seconds")
      assert.strictEqual((yield* me(Redacted.value(accessToken))).status, 200)
      yield* TestClock.adjust("1 second")
      const expired = yield* me(Redacted.value(accessToken))
      assert.strictEqual(expired.status, 401)
      assert.strictEqual(expired.message, "Invalid Access Token.")
      assert.isTrue(yield* sandbox.isLive(refreshToken))
      yield* TestClock.adjust("30 days")
      assert.isFalse(yield* sandbox.isLive(refreshToken))
      refused(yield* oauth2Refresh(refreshToken), 400, "invalid_grant", "invalid_refresh_token")
    }).pipe(Effect.provide(layer()))
  )

  it.effect("takes each of a client's secrets until it is revoked, which is at once and kills no grant", () =>
    Effect.gen(function* () {
      const { accessToken, refreshToken } = yield* Effect.flatMap(Sandbox, (sandbox) => sandbox.grantOAuth2())
      const first = yield* oauth2Refresh(refreshToken, { client_secret: "old" })
      const second = yield* oauth2Refresh(String(first.at("refresh_token")), { client_secret: "new" })
      const live = String(second.at("refresh_token"))
      yield* turn({ revokedSecrets: [Redacted.make("old")] })
      refused(yield* oauth2Refresh(live, { client_secret: "old" }), 401, "invalid_client", "invalid_client_credentials")
      assert.strictEqual((yield* me(Redacted.value(accessToken))).status, 200)
      assert.strictEqual((yield* oauth2Refresh(live, { client_secret: "new" })).status, 200)
    }).pipe(
      Effect.provide(
        layer({
          oauth2: {
            clientId: K,
            clientSecret: [Redacted.make("old"), Redacted.make("new")],
            redirectUris: ["https://example.com/callback"]
          }
        })
      )
    )
  )

  it.effect("refuses clients that are not approved, without killing the grant", () =>
    Effect.gen(function* () {
      const { refreshToken } = yield* Effect.flatMap(Sandbox, (sandbox) => sandbox.grantOAuth2())
      const fields = codeFields(yield* freshCode)
      yield* turn({ oauth2ClientStatus: "PENDING" })
      refused(yield* oauth2Refresh(refreshToken), 401, "unauthorized_client", "client_not_approved")
      refused(yield* token(fields), 401, "unauthorized_client", "client_not_approved")
      refused(yield* token(fields), 400, "invalid_grant", "code_invalid_or_expired")
      yield* turn({ oauth2ClientStatus: "REJECTED" })
      refused(yield* oauth2Refresh(refreshToken), 401, "unauthorized_client", "client_rejected")
      yield* turn({ oauth2ClientStatus: "APPROVED" })
      assert.strictEqual((yield* oauth2Refresh(refreshToken)).status, 200)
    }).pipe(Effect.provide(layer()))
  )

  it.effect("knows the community line by a switch", () =>
    Effect.gen(function* () {
      const sandbox = yield* Sandbox
      yield* turn({ line: "D" })
      const { refreshToken } = yield* sandbox.grantOAuth2()
      const first = yield* oauth2Refresh(refreshToken)
      assert.strictEqual(first.at("scope"), undefined)
      assert.strictEqual(at(claims(first.at("refresh_token")), "secret"), undefined)
      assert.strictEqual((yield* oauth2Refresh(refreshToken)).status, 200)
      assert.isTrue(yield* sandbox.isLive(refreshToken))
    }).pipe(Effect.provide(layer()))
  )
})

describe("racing OAuth2 refreshes", () => {
  it.effect("both succeed and only the last rotation lives", () =>
    Effect.gen(function* () {
      const sandbox = yield* Sandbox
      const { refreshToken } = yield* sandbox.grantOAuth2()
      yield* sandbox.inject(Fault.raceBothSucceed("1 second", { kind: "oauth2Refresh" }))
      const slow = yield* Effect.fork(oauth2Refresh(refreshToken))
      yield* TestClock.adjust("500 millis")
      const fast = yield* oauth2Refresh(refreshToken)
      assert.strictEqual(fast.status, 200)
      assert.isTrue(yield* sandbox.isLive(String(fast.at("refresh_token"))))
      yield* TestClock.adjust("500 millis")
      const last = yield* Fiber.join(slow)
      assert.strictEqual(last.status, 200)
      assert.isFalse(yield* sandbox.isLive(String(fast.at("refresh_token"))))
      assert.isTrue(yield* sandbox.isLive(String(last.at("refresh_token"))))
    }).pipe(Effect.provide(layer()))
  )

  it.effect("one of them is revoked if the switch says so", () =>
    Effect.gen(function* () {
      const sandbox = yield* Sandbox
      yield* turn({ raceWindow: "1 second", oauth2RaceLoser: "revoked" })
      const { refreshToken } = yield* sandbox.grantOAuth2()
      const race = yield* Effect.fork(
        Effect.all([oauth2Refresh(refreshToken), oauth2Refresh(refreshToken)], { concurrency: 2 })
      )
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual((yield* Fiber.join(race)).map((answer) => answer.status).sort(), [200, 400])
    }).pipe(Effect.provide(layer()))
  )

  it.effect("in sequence the second one loses", () =>
    Effect.gen(function* () {
      const { refreshToken } = yield* Effect.flatMap(Sandbox, (sandbox) => sandbox.grantOAuth2())
      const answers = yield* Effect.all([oauth2Refresh(refreshToken), oauth2Refresh(refreshToken)], { concurrency: 2 })
      assert.deepStrictEqual(answers.map((answer) => answer.status).sort(), [200, 400])
    }).pipe(Effect.provide(layer()))
  )
})

describe("what a test can do to an OAuth2 user", () => {
  it.effect("expire: 401, and the next token is another one even in the same second", () =>
    Effect.gen(function* () {
      const sandbox = yield* Sandbox
      const { accessToken, calUserId, refreshToken } = yield* sandbox.grantOAuth2()
      yield* sandbox.expireAccessTokens(calUserId)
      assert.isFalse(yield* sandbox.isAccessLive(accessToken))
      assert.strictEqual((yield* me(Redacted.value(accessToken))).message, "Invalid Access Token.")
      const next = yield* oauth2Refresh(refreshToken)
      assert.notStrictEqual(next.at("access_token"), Redacted.value(accessToken))
      assert.strictEqual((yield* me(next.at("access_token"))).status, 200)
    }).pipe(Effect.provide(layer()))
  )

  it.effect("revoke and delete", () =>
    Effect.gen(function* () {
      const sandbox = yield* Sandbox
      const { accessToken, calUserId, refreshToken } = yield* sandbox.grantOAuth2()
      yield* sandbox.revokeRefreshTokens(calUserId)
      refused(yield* oauth2Refresh(refreshToken), 400, "invalid_grant", "refresh_token_revoked")
      yield* sandbox.deleteUser(calUserId)
      const gone = yield* me(Redacted.value(accessToken))
      assert.strictEqual(gone.status, 401)
      assert.match(String(gone.message), /^ApiAuthStrategy - third-party token - No user/)
    }).pipe(Effect.provide(layer()))
  )
})

describe("the web application's older endpoints", () => {
  const form = (path: "token" | "refreshToken", fields: Readonly<Record<string, string>>, bearer?: string) =>
    send("POST", `/api/auth/oauth/${path}`, {
      form: fields,
      ...(bearer === undefined ? {} : { token: bearer })
    })
  const client = { client_id: K, client_secret: secret }

  it.effect("exchange and refresh, from forms only", () =>
    Effect.gen(function* () {
      const sandbox = yield* Sandbox
      const { refreshToken } = yield* sandbox.grantOAuth2()
      const fields = { ...client, grant_type: "refresh_token", refresh_token: Redacted.value(refreshToken) }
      const json = yield* send("POST", "/api/auth/oauth/refreshToken", { json: fields })
      assert.strictEqual(json.status, 400)
      assert.deepStrictEqual(json.body, { error: "invalid_request" })
      const malformed = yield* send("POST", "/api/auth/oauth/refreshToken", { raw: "{" })
      assert.deepStrictEqual(malformed.body, { error: "invalid_request" })
      assert.isTrue(yield* sandbox.isLive(refreshToken))

      const first = yield* form("refreshToken", fields)
      assert.strictEqual(first.status, 200)
      assert.hasAllKeys(first.body, ["access_token", "token_type", "refresh_token", "expires_in"])
      assert.isFalse(yield* sandbox.isLive(refreshToken))
      const rest = Struct.omit(fields, "refresh_token")
      const second = yield* form("refreshToken", rest, String(first.at("refresh_token")))
      assert.strictEqual(second.status, 200)
      assert.strictEqual((yield* me(second.at("access_token"))).status, 200)
      assert.strictEqual(yield* sandbox.count("oauth2Refresh"), 2)

      const code = yield* sandbox.authorizationCode({ email: "ada@example.com", codeChallenge: challenge })
      const exchanged = yield* form("token", { ...codeFields(code), code_verifier: verifier })
      assert.strictEqual(exchanged.status, 200)
      assert.strictEqual((yield* me(exchanged.at("access_token"))).at("data.email"), "ada@example.com")
    }).pipe(Effect.provide(layer()))
  )

  it.effect("refuse in few words, in fewer on the community line", () =>
    Effect.gen(function* () {
      for (const fields of [
        { client_secret: secret, grant_type: "refresh_token" },
        { ...client, grant_type: "authorization_code" }
      ]) {
        const answer = yield* form("refreshToken", fields)
        assert.strictEqual(answer.status, 400)
        assert.deepStrictEqual(answer.body, { error: "invalid_request" })
      }
      const fields = { ...client, grant_type: "refresh_token", refresh_token: "x" }
      const refused = yield* form("refreshToken", fields)
      assert.strictEqual(refused.status, 400)
      assert.deepStrictEqual(refused.body, { error: "invalid_grant", error_description: "invalid_refresh_token" })
      const code = Struct.omit(codeFields("x"), "redirect_uri")
      assert.strictEqual((yield* form("token", code)).at("error_description"), "redirect_uri_mismatch")
      yield* turn({ line: "D" })
      assert.deepStrictEqual((yield* form("refreshToken", fields)).body, { error: "invalid_grant" })
      const wrong = yield* form("refreshToken", { ...fields, client_secret: "wrong" })
      assert.strictEqual(wrong.status, 401)
      assert.deepStrictEqual(wrong.body, { error: "invalid_client" })
    }).pipe(Effect.provide(layer()))
  )
})

describe("about an OAuth2 client", () => {
  it.effect("the API tells those who authenticate, Atoms everybody", () =>
    Effect.gen(function* () {
      const { accessToken } = yield* Effect.flatMap(Sandbox, (sandbox) => sandbox.grantOAuth2())
      assert.strictEqual((yield* send("GET", `/v2/auth/oauth2/clients/${K}`)).status, 401)
      const known = yield* send("GET", `/v2/auth/oauth2/clients/${K}`, { token: accessToken })
      assert.strictEqual(known.at("data.client_type"), "CONFIDENTIAL")
      assert.notInclude(known.text, secret)
      const unknown = yield* send("GET", "/v2/auth/oauth2/clients/nope", { token: accessToken })
      assert.strictEqual(unknown.status, 404)
      assert.strictEqual(unknown.message, "unauthorized_client")
      const atoms = yield* send("GET", `/v2/atoms/auth/oauth2/clients/${K}`)
      assert.deepStrictEqual(atoms.at("data"), { clientId: K, organizationId: null })
      assert.strictEqual((yield* send("GET", "/v2/atoms/auth/oauth2/clients/nope")).status, 404)
    }).pipe(Effect.provide(layer()))
  )
})

describe("the authorize page", () => {
  const query = (changes: Readonly<Record<string, string>> = {}) =>
    new URLSearchParams({
      client_id: "public",
      redirect_uri: redirectUri,
      state: "a&b",
      scope: "PROFILE_READ,BOOKING_READ",
      code_challenge: challenge,
      code_challenge_method: "S256",
      ...changes
    })
  const show = (changes?: Readonly<Record<string, string>>) =>
    send("GET", `/auth/oauth2/authorize?${query(changes).toString()}`)
  const decide = (changes: Readonly<Record<string, string>>) =>
    send("POST", "/auth/oauth2/authorize", { form: Object.fromEntries(query(changes)) })
  const location = (answer: Answer) => new URL(answer.headers.location ?? "about:blank")

  it.effect("asks, and returns with a code that works", () =>
    Effect.gen(function* () {
      const { calUserId } = yield* Effect.flatMap(Sandbox, (sandbox) =>
        sandbox.grantOAuth2({ email: "grace@example.com", name: "Grace <Hopper>" })
      )
      const page = yield* show()
      assert.strictEqual(page.status, 200)
      assert.match(page.headers["content-type"] ?? "", /^text\/html/)
      assert.include(page.text, "Public &#60;app&#62;")
      assert.include(page.text, "Grace &#60;Hopper&#62;")
      assert.include(page.text, `value="${calUserId}"`)
      const allowed = yield* decide({ decision: "allow", user: String(calUserId) })
      assert.strictEqual(allowed.status, 302)
      const to = location(allowed)
      assert.strictEqual(to.origin + to.pathname, redirectUri)
      assert.strictEqual(to.searchParams.get("state"), "a&b")
      const done = yield* token(publicFields(to.searchParams.get("code") ?? ""))
      assert.strictEqual(done.at("scope"), "PROFILE_READ BOOKING_READ")
      assert.strictEqual((yield* me(done.at("access_token"))).at("data.id"), calUserId)
      const somebody = yield* decide({ decision: "allow", user: "new", email: "new@example.com", name: "New" })
      const created = yield* token(publicFields(location(somebody).searchParams.get("code") ?? ""))
      assert.strictEqual((yield* me(created.at("access_token"))).at("data.email"), "new@example.com")
    }).pipe(Effect.provide(layer()))
  )

  it.effect("takes whoever says no more for somebody new, each time for another one", () =>
    Effect.gen(function* () {
      const sandbox = yield* Sandbox
      const known = yield* sandbox.grantOAuth2({ email: "grace.hopper@example.com", name: "Grace" })
      const seen = new Set<unknown>([known.calUserId])
      for (const [index, name] of [
        "Ada Lovelace",
        "Edith Clarke",
        "Mary Jackson",
        "Visitor 5",
        "Visitor 6"
      ].entries()) {
        const page = yield* show()
        assert.deepStrictEqual(page.text.match(/<[^>]* checked>/g), [
          '<input type="radio" name="user" value="new" checked>'
        ])
        assert.include(page.text, `placeholder="${name}"`)
        const allowed = yield* decide({ decision: "allow", user: "new", name: "", email: "" })
        const done = yield* token(publicFields(location(allowed).searchParams.get("code") ?? ""))
        const profile = yield* me(done.at("access_token"))
        assert.strictEqual(profile.at("data.name"), name)
        seen.add(profile.at("data.id"))
        assert.strictEqual(seen.size, index + 2)
      }
      // The owner of the platform and managed users cannot consent here.
      const managed = yield* sandbox.grantManaged()
      assert.notInclude((yield* show()).text, `value="${managed.calUserId}"`)
      for (const user of [managed.calUserId, 1, ""]) {
        assert.strictEqual((yield* decide({ decision: "allow", user: String(user) })).status, 400)
      }
    }).pipe(Effect.provide(layer()))
  )

  it.effect("goes back without a description", () =>
    Effect.gen(function* () {
      const back = location(yield* decide({ decision: "back" }))
      assert.deepStrictEqual(
        [...back.searchParams],
        [
          ["error", "access_denied"],
          ["state", "a&b"]
        ]
      )
    }).pipe(Effect.provide(layer()))
  )

  it.effect("tells the app or the person what is wrong", () =>
    Effect.gen(function* () {
      for (const [changes, text] of [
        [{ client_id: "nope" }, "OAuth client with ID not found"],
        [{ redirect_uri: "https://evil.example" }, "redirect_uri does not match any"],
        [{ scope: "" }, "scope parameter is required for this OAuth client"]
      ] as const) {
        const shown = yield* show(changes)
        assert.strictEqual(shown.headers.location, undefined)
        assert.include(shown.text.replaceAll("&#39;", "'"), text)
        assert.strictEqual((yield* decide({ ...changes, decision: "allow", user: "1" })).headers.location, undefined)
      }
      for (const [changes, error, description] of [
        [{ scope: "NONSENSE" }, "invalid_scope", "Requested scope is not a recognized scope"],
        [{ scope: "APPS_WRITE" }, "invalid_request", "Requested scope exceeds the client's registered scopes"],
        [{ code_challenge: "" }, "invalid_request", "code_challenge required for public clients"]
      ] as const) {
        const to = location(yield* show(changes)).searchParams
        assert.deepStrictEqual(
          [to.get("error"), to.get("error_description"), to.get("state")],
          [error, description, "a&b"]
        )
      }
      yield* turn({ oauth2ClientStatus: "PENDING" })
      assert.include((yield* show()).text, "OAuth client is not approved")
      yield* turn({ oauth2ClientStatus: "REJECTED" })
      assert.include((yield* show()).text, "OAuth client has been rejected")
    }).pipe(Effect.provide(layer()))
  )
})
