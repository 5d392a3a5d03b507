import { assert, describe, it } from "@effect/vitest"
import { Effect, Redacted, TestClock } from "effect"
import { defaultSwitches, Sandbox, type Switches } from "../../src/Sandbox.js"
import { paginate } from "../../src/Sandbox/BookingRoutes.js"
import { type Answer, C, clientHeaders, layer, refresh, secret, send, turn } from "../support/SandboxWorld.js"

const managed = Effect.flatMap(Sandbox, (sandbox) => sandbox.grantManaged({ email: "ada@example.com", name: "Ada" }))
const granted = (scope: string) =>
  Effect.flatMap(Sandbox, (sandbox) => sandbox.grantOAuth2({ scope, clientId: "public" }))
const version = (value: string) => ({ "cal-api-version": value })

const refused = (answer: Answer, status: number, message: string) => {
  assert.strictEqual(answer.status, status)
  assert.strictEqual(answer.message, message)
}

describe("authentication", () => {
  it.effect("tells what is missing", () =>
    Effect.gen(function* () {
      const nothing = yield* send("GET", "/v2/me?x=1")
      assert.strictEqual(nothing.status, 401)
      assert.match(
        String(nothing.message),
        /^ApiAuthStrategy - No authentication method provided\. Either pass an API key/
      )
      assert.strictEqual(nothing.at("status"), "error")
      assert.strictEqual(nothing.at("path"), "/v2/me?x=1")
      assert.strictEqual(nothing.at("timestamp"), "1970-01-01T00:00:00.000Z")
      assert.strictEqual(nothing.at("error.code"), "UnauthorizedException")
      assert.deepStrictEqual(nothing.at("error.details"), {
        message: nothing.message,
        error: "Unauthorized",
        statusCode: 401
      })
      const id = yield* send("GET", "/v2/me", { headers: { "x-cal-client-id": C } })
      assert.match(String(id.message), /^ApiAuthStrategy - Only 'x-cal-client-id' header provided/)
      const only = yield* send("GET", "/v2/me", { headers: clientHeaders })
      assert.match(String(only.message), /^ApiAuthStrategy - Only 'x-cal-secret-key' header provided/)
      refused(yield* send("GET", "/v2/me", { token: "garbage" }), 401, "Invalid Access Token.")
      refused(yield* send("GET", "/v2/me", { token: "cal_live_x" }), 401, "CustomThrottlerGuard - Invalid API Key")
    }).pipe(Effect.provide(layer()))
  )

  it.effect("prefers client credentials to a bearer token", () =>
    Effect.gen(function* () {
      const { accessToken, calUserId } = yield* managed
      const headers = { ...clientHeaders, "x-cal-client-id": C }
      const owner = yield* send("GET", "/v2/me", { token: accessToken, headers })
      assert.strictEqual(owner.status, 200)
      assert.notStrictEqual(owner.at("data.id"), calUserId)
      const wrong = yield* send("GET", "/v2/me", {
        token: accessToken,
        headers: { ...headers, "x-cal-secret-key": "no" }
      })
      refused(wrong, 401, "ApiAuthStrategy - oAuth client - Invalid client secret")
      const lower = yield* send("GET", "/v2/me", {
        headers: { authorization: `bearer ${Redacted.value(accessToken)}` }
      })
      refused(lower, 401, "Invalid Access Token.")
    }).pipe(Effect.provide(layer()))
  )

  it.effect("looks at the origin of managed tokens only", () =>
    Effect.gen(function* () {
      const { accessToken } = yield* managed
      const from = (token: Redacted.Redacted, origin: string) => send("GET", "/v2/me", { token, headers: { origin } })
      assert.strictEqual((yield* from(accessToken, "http://localhost:4321")).status, 200)
      const foreign = yield* from(accessToken, "https://evil.example")
      assert.strictEqual(foreign.status, 401)
      assert.include(String(foreign.message), "Invalid request origin")
      assert.include(
        String(foreign.message),
        `'https://evil.example' to the 'Redirect uris' of your OAuth client with ID 'C'`
      )
      const oauth2 = yield* granted("PROFILE_READ")
      assert.strictEqual((yield* from(oauth2.accessToken, "https://evil.example")).status, 200)
    }).pipe(Effect.provide(layer()))
  )
})

describe("what Atoms ask", () => {
  it.effect("provider and access token (vectors 12 and 13)", () =>
    Effect.gen(function* () {
      refused(yield* send("GET", "/v2/provider/nope"), 401, "Unauthorized")
      const provider = yield* send("GET", `/v2/provider/${C}`)
      assert.hasAllKeys(provider.at("data"), ["clientId", "organizationId", "name"])
      assert.isNumber(provider.at("data.organizationId"))
      const path = `/api/v2/provider/${C}/access-token`
      assert.strictEqual((yield* send("GET", path)).status, 401)
      assert.deepStrictEqual((yield* send("GET", path, { headers: clientHeaders })).body, { status: "success" })
      const { accessToken, calUserId } = yield* managed
      assert.strictEqual((yield* send("GET", path, { token: accessToken })).status, 200)
      yield* Effect.flatMap(Sandbox, (sandbox) => sandbox.expireAccessTokens(calUserId))
      assert.strictEqual((yield* send("GET", path, { token: accessToken })).status, 498)
    }).pipe(Effect.provide(layer()))
  )
})

describe("profile", () => {
  it.effect("reads and writes /me", () =>
    Effect.gen(function* () {
      const { accessToken, calUserId } = yield* managed
      const me = yield* send("GET", "/v2/me", { token: accessToken })
      assert.strictEqual(me.at("data.id"), calUserId)
      assert.strictEqual(me.at("data.email"), "ada+C@example.com")
      assert.notProperty(me.at("data"), "locale")
      assert.deepStrictEqual(me.at("data.organization"), { id: me.at("data.organizationId"), isPlatform: true })
      const patch = (json: object) => send("PATCH", "/v2/me", { token: accessToken, json })
      const patched = yield* patch({ timeZone: "America/New_york", timeFormat: 24, weekStart: "Monday" })
      assert.strictEqual(patched.status, 200)
      assert.strictEqual(patched.at("data.timeZone"), "America/New_York")
      for (const wrong of [{ timeZone: "Nowhere" }, { timeFormat: 13 }, { weekStart: "Someday" }]) {
        refused(yield* patch(wrong), 400, "Bad Request Exception")
      }
      assert.strictEqual((yield* send("GET", "/v2/me", { token: accessToken })).at("data.weekStart"), "Monday")
    }).pipe(Effect.provide(layer()))
  )
})

describe("guards", () => {
  it.effect("bookings and single event types look at permissions before they authenticate", () =>
    Effect.gen(function* () {
      const { accessToken, calUserId } = yield* managed
      const headers = version("2024-08-13")
      const bookings = (token?: Redacted.Redacted | string) =>
        send("GET", "/v2/bookings", token === undefined ? { headers } : { headers, token })
      assert.match(
        String((yield* bookings()).message),
        /^PermissionsGuard - no authentication provided\. Provide either/
      )
      assert.strictEqual((yield* bookings()).status, 403)
      refused(yield* bookings("dead"), 403, "PermissionsGuard - no oAuth client found for access token=dead")
      assert.strictEqual((yield* bookings(accessToken)).status, 200)
      yield* Effect.flatMap(Sandbox, (sandbox) => sandbox.expireAccessTokens(calUserId))
      assert.strictEqual((yield* bookings(accessToken)).status, 498)
      assert.strictEqual((yield* send("GET", `/v2/event-types/${calUserId}1`, { token: "dead" })).status, 403)
      const oauth2 = yield* granted("BOOKING_READ")
      assert.strictEqual((yield* bookings(oauth2.accessToken)).status, 200)
      yield* TestClock.adjust("30 minutes")
      assert.strictEqual((yield* bookings(oauth2.accessToken)).status, 403)
      yield* turn({ deadTokenOnGuardedRoutes: "unauthorized" })
      refused(yield* bookings("dead"), 401, "Invalid Access Token.")
    }).pipe(Effect.provide(layer()))
  )

  it.effect("public routes refuse bad credentials instead of ignoring them", () =>
    Effect.gen(function* () {
      const headers = version("2024-06-14")
      assert.deepStrictEqual((yield* send("GET", "/v2/event-types", { headers })).at("data"), [])
      refused(yield* send("GET", "/v2/event-types", { headers, token: "dead" }), 401, "Invalid Access Token.")
    }).pipe(Effect.provide(layer()))
  )

  it.effect("platform clients have permissions", () =>
    Effect.gen(function* () {
      const { accessToken } = yield* managed
      const message = (name: string) =>
        `PermissionsGuard - oAuth client with id=C does not have the required permissions=${name}. Go to platform dashboard settings and add the required permissions to the oAuth client.`
      refused(yield* send("GET", "/v2/bookings", { token: accessToken }), 403, message("BOOKING_READ"))
      refused(yield* send("PATCH", "/v2/me", { token: accessToken, json: {} }), 403, message("PROFILE_WRITE"))
      assert.strictEqual((yield* send("GET", "/v2/me", { token: accessToken })).status, 200)
    }).pipe(Effect.provide(layer({ managed: { clientId: C, clientSecret: Redacted.make(secret), permissions: 256 } })))
  )

  it.effect("OAuth2 tokens have scopes, except legacy and community ones", () =>
    Effect.gen(function* () {
      const limited = yield* granted("BOOKING_READ SCHEDULE_READ")
      refused(
        yield* send("GET", "/v2/me", { token: limited.accessToken }),
        403,
        "insufficient_scope: token does not have the required scopes. Required: PROFILE_READ. Token has: BOOKING_READ, SCHEDULE_READ"
      )
      assert.strictEqual((yield* send("GET", "/v2/schedules", { token: limited.accessToken })).status, 200)
      const legacy = yield* granted("READ_BOOKING")
      assert.strictEqual((yield* send("GET", "/v2/me", { token: legacy.accessToken })).status, 200)
      yield* turn({ line: "D" })
      assert.strictEqual((yield* send("GET", "/v2/me", { token: limited.accessToken })).status, 200)
    }).pipe(Effect.provide(layer()))
  )

  it.effect("endpoints without a scope are not for third parties", () =>
    Effect.gen(function* () {
      const save = (token: Redacted.Redacted) =>
        send("POST", "/v2/calendars/ics-feed/save", { token, json: { urls: ["https://example.com/feed.ics"] } })
      const { accessToken } = yield* granted("APPS_WRITE PROFILE_READ")
      refused(
        yield* save(accessToken),
        403,
        "insufficient_scope: this endpoint is not available for third-party OAuth tokens"
      )
      assert.strictEqual((yield* save((yield* granted("READ_BOOKING")).accessToken)).status, 201)
      const user = yield* managed
      const saved = yield* save(user.accessToken)
      assert.strictEqual(saved.status, 201)
      assert.strictEqual(saved.at("data.userId"), user.calUserId)
      yield* turn({ line: "D" })
      assert.strictEqual((yield* save(accessToken)).status, 201)
    }).pipe(Effect.provide(layer()))
  )
})

describe("versions", () => {
  it.effect("are served per resource", () =>
    Effect.gen(function* () {
      const { accessToken } = yield* managed
      const versions = ["2024-04-15", "2024-06-11", "2024-06-14", "2024-08-13", "2024-09-04", "nonsense"]
      for (const [path, missing] of [
        ["/v2/bookings", ["2024-09-04"]],
        ["/v2/event-types", ["2024-08-13", "2024-09-04"]],
        ["/v2/schedules", ["2024-08-13", "2024-09-04"]],
        ["/v2/me", []]
      ] as const) {
        for (const asked of versions) {
          const answer = yield* send("GET", path, { token: accessToken, headers: version(asked) })
          if (missing.some((version) => version === asked)) refused(answer, 404, `Cannot GET ${path}`)
          else assert.strictEqual(answer.status, 200)
        }
      }
      refused(yield* send("GET", "/v2/nothing?a=b"), 404, "Cannot GET /v2/nothing?a=b")
    }).pipe(Effect.provide(layer()))
  )

  it.effect("older ones, and none, bring older shapes without an error", () =>
    Effect.gen(function* () {
      const { accessToken, calUserId } = yield* Effect.flatMap(Sandbox, (sandbox) =>
        sandbox.grantManaged({ timeZone: "Europe/Rome" })
      )
      const get = (path: string, asked?: string) =>
        send("GET", path, { token: accessToken, headers: asked === undefined ? {} : version(asked) })
      const id = calUserId * 10 + 1
      for (const asked of [undefined, "2024-04-15", "2024-06-11"]) {
        const listed = yield* get("/v2/event-types", asked)
        assert.strictEqual(listed.at("data.eventTypeGroups.0.eventTypes.0.id"), id)
        assert.strictEqual(listed.at("data.eventTypeGroups.0.eventTypes.0.length"), 30)
        assert.strictEqual(listed.at("data.eventTypeGroups.0.eventTypes.0.lengthInMinutes"), undefined)
        assert.strictEqual((yield* get(`/v2/event-types/${id}`, asked)).at("data.eventType.length"), 30)
      }
      assert.strictEqual((yield* get("/v2/event-types", "2024-06-14")).at("data.0.lengthInMinutes"), 30)
      assert.strictEqual((yield* get(`/v2/event-types/${id}`, "2024-06-14")).at("data.lengthInMinutes"), 30)
      for (const asked of [undefined, "2024-04-15"]) {
        const schedules = yield* get("/v2/schedules", asked)
        assert.deepStrictEqual(schedules.at("data.0.workingHours"), [
          { days: [1, 2, 3, 4, 5], startTime: 540, endTime: 1020 }
        ])
        assert.strictEqual(schedules.at("data.0.availability.1.0.start"), "1970-01-01T09:00:00.000Z")
      }
      for (const asked of ["2024-06-11", "2024-06-14"]) {
        assert.strictEqual((yield* get("/v2/schedules", asked)).at("data.0.availability.0.startTime"), "09:00")
      }
      // The old list is not public.
      assert.strictEqual((yield* send("GET", "/v2/event-types")).status, 403)
    }).pipe(Effect.provide(layer()))
  )
})

describe("bookings, event types, schedules", () => {
  it.effect("book somebody and list it", () =>
    Effect.gen(function* () {
      const { accessToken, calUserId } = yield* managed
      const types = yield* send("GET", "/v2/event-types", { token: accessToken, headers: version("2024-06-14") })
      const eventTypeId = types.at("data.0.id")
      const headers = version("2024-08-13")
      const attendee = { name: "Grace", email: "grace@example.com", timeZone: "Europe/Rome" }
      const book = (json: object) => send("POST", "/v2/bookings", { headers, json })
      const booked = yield* book({ start: "2026-01-01T10:00:00Z", eventTypeId, attendee })
      assert.strictEqual(booked.status, 201)
      assert.strictEqual(booked.at("data.end"), "2026-01-01T10:30:00.000Z")
      assert.strictEqual(booked.at("data.hosts.0.id"), calUserId)
      assert.strictEqual(booked.at("data.hosts.0.displayEmail"), "ada@example.com")
      refused(yield* book({ start: "tomorrow", eventTypeId, attendee }), 400, "Bad Request Exception")
      const list = (query: string) => send("GET", `/v2/bookings${query}`, { token: accessToken, headers })
      const page = yield* list("?take=1")
      assert.strictEqual(page.at("data.0.uid"), booked.at("data.uid"))
      assert.strictEqual(page.at("pagination.totalItems"), 1)
      assert.strictEqual((yield* list("?take=251")).status, 400)
      assert.strictEqual((yield* list("?skip=-1")).status, 400)
      const uid = String(booked.at("data.uid"))
      assert.strictEqual((yield* send("GET", `/v2/bookings/${uid}`, { headers })).at("data.uid"), uid)
      const old = yield* send("GET", "/v2/bookings", { token: accessToken })
      assert.strictEqual(old.at("data.totalCount"), 1)
      const schedules = yield* send("GET", "/v2/schedules", { token: accessToken })
      assert.deepStrictEqual(schedules.at("data"), [])
    }).pipe(Effect.provide(layer()))
  )

  it.effect("book nobody twice at a time, as Cal.com says it", () =>
    Effect.gen(function* () {
      const sandbox = yield* Sandbox
      const [ada, ben] = [yield* sandbox.grantManaged(), yield* sandbox.grantManaged()]
      const attendee = { name: "Grace", email: "grace@example.com", timeZone: "Europe/Rome" }
      const book = (time: string, eventTypeId = ada.eventTypeId) =>
        send("POST", "/v2/bookings", {
          headers: version("2024-08-13"),
          json: { start: `2026-01-01T${time}:00Z`, eventTypeId, attendee }
        })
      assert.strictEqual((yield* book("10:00")).status, 201)
      for (const time of ["10:00", "09:31", "10:29"]) {
        refused(yield* book(time), 400, "User either already has booking at this time or is not available")
      }
      // What touches does not overlap, and others have time.
      assert.strictEqual((yield* book("09:30")).status, 201)
      assert.strictEqual((yield* book("10:30")).status, 201)
      assert.strictEqual((yield* book("10:00", ben.eventTypeId)).status, 201)
      assert.lengthOf((yield* sandbox.snapshot).bookings, 4)
    }).pipe(Effect.provide(layer()))
  )

  it.effect("selects and sorts what it lists", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(Date.UTC(2026, 0, 2))
      const { accessToken, calUserId } = yield* managed
      const headers = version("2024-08-13")
      const attendee = { name: "Grace", email: "grace@example.com", timeZone: "Europe/Rome" }
      for (const start of ["2026-01-03T10:00:00Z", "2026-01-01T10:00:00Z", "2026-01-05T10:00:00Z"]) {
        yield* send("POST", "/v2/bookings", { headers, json: { start, eventTypeId: calUserId * 10 + 1, attendee } })
      }
      const days = (query: string) =>
        Effect.map(send("GET", `/v2/bookings?${query}`, { token: accessToken, headers }), ({ text }) =>
          [...text.matchAll(/"start":"2026-01-(\d\d)T/g)].map(([, day]) => day)
        )
      assert.deepStrictEqual(yield* days(""), ["03", "01", "05"])
      assert.deepStrictEqual(yield* days("sortStart=asc"), ["01", "03", "05"])
      assert.deepStrictEqual(yield* days("sortStart=desc&take=1"), ["05"])
      assert.deepStrictEqual(yield* days("status=past"), ["01"])
      assert.deepStrictEqual(yield* days("status=upcoming,cancelled"), ["03", "05"])
      assert.deepStrictEqual(yield* days("status=cancelled"), [])
      assert.deepStrictEqual(yield* days("afterStart=2026-01-02T00:00:00Z&beforeEnd=2026-01-04T00:00:00Z"), ["03"])
      for (const wrong of ["status=done", "sortStart=up", "afterStart=soon"]) {
        const answer = yield* send("GET", `/v2/bookings?${wrong}`, { token: accessToken, headers })
        refused(answer, 400, "Bad Request Exception")
      }
    }).pipe(Effect.provide(layer()))
  )

  it("paginates", () => {
    assert.deepStrictEqual(paginate(0, 5, 10).pagination, {
      totalItems: 0,
      remainingItems: 0,
      returnedItems: 0,
      itemsPerPage: 10,
      currentPage: 0,
      totalPages: 0,
      hasNextPage: false,
      hasPreviousPage: false
    })
    assert.deepInclude(paginate(25, 10, 10).pagination, { currentPage: 2, totalPages: 3, remainingItems: 5 })
    assert.deepInclude(paginate(25, 999, 10).pagination, { currentPage: 3, returnedItems: 0, hasNextPage: false })
  })
})

describe("rate limits", () => {
  const limits: Switches["rateLimits"] = { ...defaultSwitches.rateLimits, accessToken: 5, block: "5 seconds" }
  const remaining = (answer: Answer) => Number(answer.headers["x-ratelimit-remaining-default"])

  it.effect("count down, block, and start again (vector 20)", () =>
    Effect.gen(function* () {
      yield* turn({ rateLimits: limits })
      const { accessToken } = yield* managed
      const me = send("GET", "/v2/me", { token: accessToken })
      for (const left of [4, 3, 2, 1, 0]) {
        const answer = yield* me
        assert.strictEqual(answer.status, 200)
        assert.strictEqual(answer.headers["x-ratelimit-limit-default"], "5")
        assert.strictEqual(remaining(answer), left)
        assert.strictEqual(answer.headers["x-ratelimit-reset-default"], "60")
      }
      const blocked = yield* me
      refused(blocked, 429, "CustomThrottlerGuard - Too many requests. Please try again later.")
      assert.strictEqual(blocked.at("error.details"), blocked.message)
      assert.strictEqual(remaining(blocked), 0)
      assert.strictEqual(blocked.headers["x-ratelimit-reset-default"], "5")
      assert.strictEqual(blocked.headers["retry-after"], undefined)
      yield* TestClock.adjust("4999 millis")
      assert.strictEqual((yield* me).headers["x-ratelimit-reset-default"], "1")
      yield* TestClock.adjust("1 milli")
      assert.strictEqual(remaining(yield* me), 4)
      yield* TestClock.adjust("60 seconds")
      assert.strictEqual(remaining(yield* me), 4)
    }).pipe(Effect.provide(layer()))
  )

  it.effect("count by token, by client id, by address, and on refusals too", () =>
    Effect.gen(function* () {
      const limitOf = (answer: Answer) => answer.headers["x-ratelimit-limit-default"]
      const { refreshToken } = yield* managed
      assert.strictEqual(limitOf(yield* send("GET", "/v2/me", { token: "dead" })), "500")
      assert.strictEqual(limitOf(yield* send("GET", "/v2/me", { headers: { "x-cal-client-id": C } })), "500")
      const byAddress = yield* refresh(refreshToken)
      assert.strictEqual(limitOf(byAddress), "120")
      assert.strictEqual(remaining(byAddress), 119)
      assert.strictEqual(remaining(yield* send("GET", "/v2/me")), 118)
      assert.strictEqual(remaining(yield* send("GET", "/v2/me", { headers: { "cf-connecting-ip": "1.2.3.4" } })), 119)
      // Neither the web application, nor what the body parser or the look-up of API keys turns away.
      assert.strictEqual(limitOf(yield* send("GET", "/auth/oauth2/authorize")), undefined)
      assert.strictEqual(limitOf(yield* send("POST", "/v2/bookings", { raw: "{" })), undefined)
      assert.strictEqual(limitOf(yield* send("GET", "/v2/me", { token: "cal_live_x" })), undefined)
      assert.strictEqual(remaining(yield* send("GET", "/v2/me")), 117)
      yield* turn({ rateLimits: { ...limits, enabled: false } })
      assert.strictEqual(limitOf(yield* send("GET", "/v2/me")), undefined)
    }).pipe(Effect.provide(layer()))
  )
})

describe("headers", () => {
  it.effect("answers preflights and exposes nothing", () =>
    Effect.gen(function* () {
      const preflight = yield* send("OPTIONS", "/v2/me", { headers: { origin: "https://a.example" } })
      assert.strictEqual(preflight.status, 204)
      assert.strictEqual(preflight.headers["access-control-allow-origin"], "*")
      assert.include(preflight.headers["access-control-allow-headers"], "cal-api-version")
      assert.strictEqual(preflight.headers["access-control-max-age"], "86400")
      const answer = yield* send("GET", "/v2/me", { headers: { "x-request-id": "mine" } })
      assert.strictEqual(answer.headers["access-control-allow-origin"], "*")
      assert.strictEqual(answer.headers["access-control-expose-headers"], undefined)
      assert.match(answer.headers["x-request-id"] ?? "", /^[0-9a-f]{8}-[0-9a-f]{4}-4/)
      const page = yield* send("GET", "/auth/oauth2/authorize")
      assert.strictEqual(page.headers["access-control-allow-origin"], undefined)
      assert.strictEqual(page.headers["x-request-id"], undefined)
    }).pipe(Effect.provide(layer()))
  )

  it.effect("always tells Cal.com's time", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(Date.UTC(2026, 0, 1))
      yield* turn({ clockSkewMillis: -600_000 })
      for (const path of ["/v2/me", "/v2/nothing", "/v2/provider/C"]) {
        assert.strictEqual((yield* send("GET", path)).headers.date, "Wed, 31 Dec 2025 23:50:00 GMT")
      }
    }).pipe(Effect.provide(layer()))
  )
})

describe("control", () => {
  it.effect("shows and expires, without tokens and outside the list of calls", () =>
    Effect.gen(function* () {
      const sandbox = yield* Sandbox
      const { accessToken, calUserId, refreshToken } = yield* managed
      const state = yield* send("GET", "/_control/state")
      assert.strictEqual(state.at("users.0.calUserId"), calUserId)
      assert.deepStrictEqual(state.at("users.0.accessTokens"), { live: 1, expired: 0 })
      for (const token of [accessToken, refreshToken]) assert.notInclude(state.text, Redacted.value(token).slice(0, 30))
      assert.strictEqual((yield* send("POST", `/_control/users/${calUserId}/expire`)).status, 200)
      assert.strictEqual((yield* send("GET", "/v2/me", { token: accessToken })).status, 498)
      assert.deepStrictEqual((yield* send("GET", "/_control/state")).at("users.0.accessTokens"), {
        live: 0,
        expired: 1
      })
      assert.strictEqual((yield* send("POST", "/_control/users/9/expire")).status, 404)
      assert.strictEqual((yield* send("GET", "/_control/nothing")).status, 404)
      assert.lengthOf(yield* sandbox.calls, 1)
    }).pipe(Effect.provide(layer()))
  )
})
