import { assert, describe, it, vi } from "@effect/vitest"
import { Clock, Duration, Effect, Layer, Redacted } from "effect"
import * as Actions from "../../src/Actions.js"
import { Advice, type ConnectionInfo } from "../../src/CalTokens.js"
import type * as Token from "../../src/Token.js"
import { CalUnavailable, InvalidInput, RefreshCoolingDown, TokensNotFound } from "../../src/TokenError.js"
import { accessToken, fakes, newAccessToken, recorder, retryWith, user, valid } from "../support/ActionsFakes.js"

const userUlid = user as Token.UserUlid

const now = () => Effect.runSync(Clock.currentTimeMillis)

const make = (...args: Parameters<typeof fakes>) => {
  const { layer, sent } = fakes(...args)
  const log = recorder()
  return { sent, lines: log.lines, ...Actions.make({ layer: Layer.provideMerge(layer, log.layer) }) }
}

describe("refreshUserCalTokens", () => {
  it("answers whether it refreshed and until when the token is valid", async () => {
    const seen: Array<unknown> = []
    const actions = make({
      refresh: (user, options) => Effect.sync(() => (seen.push([user, options]), valid(accessToken, true)))
    })
    assert.deepStrictEqual(await actions.refreshUserCalTokens(user), {
      success: true,
      refreshed: true,
      expiresAt: "2025-06-15T15:06:40.000Z"
    })
    await actions.refreshUserCalTokens(user.toLowerCase(), true)
    assert.deepStrictEqual(seen, [
      [user, { forceRefresh: false }],
      [user, { forceRefresh: true }]
    ])
  })

  it("says when to force again, where the stored token is the answer because so many have just done so", async () => {
    const retryAfter = Duration.millis(17_001)
    const actions = make({ refresh: () => Effect.succeed({ ...valid(accessToken), retryAfter }) })
    assert.deepInclude(await actions.refreshUserCalTokens(user, true), {
      success: true,
      refreshed: false,
      retryAfter: 18
    })
  })

  it("answers an error as a plain object, logged once with the operation and the user", async () => {
    const actions = make({ refresh: () => new RefreshCoolingDown({ userUlid, retryAfter: Duration.millis(29_500) }) })
    const failure = await actions.refreshUserCalTokens(user)
    assert(Actions.isFailure(failure))
    assert.deepInclude(failure, { success: false, code: "RefreshCoolingDown", retryAfter: 30 })
    assert.deepStrictEqual(JSON.parse(JSON.stringify(failure)), failure)
    assert.strictEqual(actions.lines.length, 1)
    assert.deepInclude(actions.lines[0], {
      level: "INFO",
      annotations: { operation: "refreshUserCalTokens", code: "RefreshCoolingDown", userUlid: user }
    })
  })

  for (const bad of [undefined, null, "", "not-a-ulid", 42, {}, "8ZZZZZZZZZZZZZZZZZZZZZZZZZ"]) {
    it(`refuses ${JSON.stringify(bad)} as a user`, async () => {
      const actions = make({})
      const failure = await actions.refreshUserCalTokens(bad as string)
      assert.deepInclude(failure, { success: false, code: "InvalidInput" })
    })
  }
})

describe("ensureValidCalToken", () => {
  it("answers the token in clear", async () => {
    const actions = make({ ensureValid: () => Effect.succeed(valid(accessToken)) })
    assert.deepStrictEqual(await actions.ensureValidCalToken(user), {
      success: true,
      accessToken,
      expiresAt: "2025-06-15T15:06:40.000Z"
    })
  })

  it("takes nothing but `true` for a forced refresh", async () => {
    const seen: Array<unknown> = []
    const actions = make({
      ensureValid: (_, options) => Effect.sync(() => (seen.push(options?.forceRefresh), valid(accessToken)))
    })
    await actions.ensureValidCalToken(user, "no" as never)
    await actions.ensureValidCalToken(user, true)
    assert.deepStrictEqual(seen, [false, true])
  })

  it("answers a bug without its details, and keeps tokens out of the log", async () => {
    const actions = make({ ensureValid: () => Effect.die(new Error(`boom at ${accessToken}`)) })
    const failure = await actions.ensureValidCalToken(user)
    assert.deepInclude(failure, { success: false, code: "InternalError" })
    assert.notInclude(JSON.stringify(failure), "boom")
    assert.strictEqual(actions.lines.length, 1)
    assert.deepInclude(actions.lines[0], { level: "ERROR" })
    assert.match(actions.lines[0]?.message ?? "", /^ensureValidCalToken failed: Error at .*actions\.test\.ts/)
    assert.notInclude(actions.lines[0]?.message, "boom")
  })

  it("shows a bug's message and stack to developers, without tokens", async ({ onTestFinished }) => {
    vi.stubEnv("NODE_ENV", "development")
    onTestFinished(() => void vi.unstubAllEnvs())
    const actions = make({ ensureValid: () => Effect.die(new Error(`boom at ${accessToken}`)) })
    await actions.ensureValidCalToken(user)
    assert.include(actions.lines[0]?.message, "Error: boom at <redacted>\n    at ")
  })

  it("answers an expiry that no date can hold as a bug, instead of rejecting", async () => {
    const actions = make({ ensureValid: () => Effect.succeed({ ...valid(accessToken), expiresAt: NaN }) })
    assert.deepInclude(await actions.ensureValidCalToken(user), { success: false, code: "InternalError" })
  })
})

describe("updateCalTokens", () => {
  it("hands the pair to be judged and answers success", async () => {
    const seen: Array<unknown> = []
    const actions = make({ update: (user, pair) => Effect.sync(() => (seen.push([user, pair]), info({}))) })
    const pair = { accessToken, refreshToken: "r", accessTokenExpiresAt: "2025-06-15T15:06:40Z" }
    assert.deepStrictEqual(await actions.updateCalTokens(user, pair), { success: true })
    assert.deepStrictEqual(seen, [[user, pair]])
  })

  it("answers what was wrong with the pair", async () => {
    const actions = make({ update: () => new InvalidInput({ field: "refreshToken", expected: "must be a token" }) })
    assert.deepStrictEqual(await actions.updateCalTokens(user, null as never), {
      success: false,
      error: "refreshToken must be a token.",
      code: "InvalidInput",
      httpStatus: 400
    })
  })
})

const info = (overrides: Partial<ConnectionInfo>): ConnectionInfo => ({
  userUlid,
  connection: { _tag: "ManagedUser", clientId: "client", calUserId: 7 },
  status: { _tag: "Active" },
  isExpired: false,
  isExpiringSoon: false,
  accessTokenExpiresAt: now() + 10 * 60_000,
  version: 1,
  updatedAt: 0,
  ...overrides
})

describe("getCalTokenInfo", () => {
  it("tells of a managed user, by the buffer that was asked for", async () => {
    const accessTokenExpiresAt = now() + 10 * 60_000
    const actions = make({ info: () => Effect.succeed(info({ accessTokenExpiresAt })) })
    const known = {
      success: true,
      isExpired: false,
      expiresAt: new Date(accessTokenExpiresAt).toISOString(),
      managedUserId: 7,
      status: "active"
    }
    assert.deepStrictEqual(await actions.getCalTokenInfo(user), { ...known, isExpiringImminent: false } as never)
    assert.deepStrictEqual(await actions.getCalTokenInfo(user, 11), { ...known, isExpiringImminent: true } as never)
  })

  it("believes Cal.com's clock more than its own about what is expired", async () => {
    const actions = make({ info: () => Effect.succeed(info({ isExpired: true })) })
    assert.deepInclude(await actions.getCalTokenInfo(user), { isExpired: true, isExpiringImminent: true })
  })

  it("tells of an OAuth2 user who has to reconnect", async () => {
    const actions = make({
      info: () =>
        Effect.succeed(
          info({
            connection: { _tag: "OAuth2", clientId: "client", calUserId: 7 },
            status: { _tag: "ReauthorizationRequired", cause: "revoked", since: 0 }
          })
        )
    })
    assert.deepInclude(await actions.getCalTokenInfo(user), { managedUserId: null, status: "reauthorizationRequired" })
  })

  for (const bad of [-1, NaN, Infinity, "5"]) {
    it(`refuses a buffer of ${bad}`, async () => {
      const actions = make({ info: () => Effect.succeed(info({})) })
      assert.deepInclude(await actions.getCalTokenInfo(user, bad as number), { success: false, code: "InvalidInput" })
    })
  }
})

describe("isTokenExpiredOrExpiringSoon", () => {
  const actions = make({})
  const minutes = (n: number) => now() + n * 60_000
  const judged = (isExpired: boolean, isExpiringImminent: boolean) => ({ isExpired, isExpiringImminent })

  for (const [label, expiresAt, buffer, expected] of [
    ["milliseconds far ahead", () => minutes(30), undefined, judged(false, false)],
    ["milliseconds within the buffer", () => minutes(4), undefined, judged(false, true)],
    ["a buffer of one's own", () => minutes(4), 3, judged(false, false)],
    ["no buffer at all", () => minutes(4), 0, judged(false, false)],
    ["the past", () => minutes(-1), undefined, judged(true, true)],
    ["ISO 8601", () => new Date(minutes(30)).toISOString(), undefined, judged(false, false)],
    ["a Date", () => new Date(minutes(30)), undefined, judged(false, false)],
    ["an invalid Date", () => new Date(NaN), undefined, judged(true, true)],
    ["no text of a date", () => "tomorrow", undefined, judged(true, true)],
    ["a date without a zone", () => "2999-01-01T00:00:00", undefined, judged(true, true)],
    ["nothing", () => undefined, undefined, judged(true, true)],
    ["not a number", () => NaN, undefined, judged(true, true)],
    ["for ever", () => Infinity, undefined, judged(true, true)],
    ["the year 57000", () => minutes(30) * 1000, undefined, judged(true, true)],
    ["seconds for milliseconds", () => Math.floor(minutes(30) / 1000), undefined, judged(true, true)],
    ["an unusable buffer", () => minutes(30), NaN, judged(false, true)]
  ] as const) {
    it(label, () => {
      assert.deepStrictEqual(actions.isTokenExpiredOrExpiringSoon(expiresAt() as number, buffer), expected)
    })
  }
})

describe("makeCalApiRequest", () => {
  const tokens: Parameters<typeof fakes>[0] = {
    ensureValid: () => Effect.succeed(valid(accessToken)),
    reportRejected: () => Effect.succeed(Advice.GiveUp())
  }

  it("answers Cal.com's JSON as it is", async () => {
    const answer = { status: "success", data: { id: 7 } }
    const actions = make(tokens, () => Response.json(answer))
    assert.deepStrictEqual(await actions.makeCalApiRequest("/me", "GET", undefined, user), answer)
    const [sent] = actions.sent
    assert.deepInclude(sent, { method: "GET", url: "https://api.cal.com/v2/me", body: undefined })
    assert.strictEqual(sent?.headers["authorization"], `Bearer ${accessToken}`)
  })

  it("sends JSON, the method in any case, and a version of one's own", async () => {
    const actions = make(tokens)
    const options = { apiVersion: "2024-08-13" }
    await actions.makeCalApiRequest("/bookings?x=1", "post" as "POST", { start: "now" }, user, options)
    const [sent] = actions.sent
    assert.deepInclude(sent, { method: "POST", url: "https://api.cal.com/v2/bookings?x=1", body: `{"start":"now"}` })
    assert.strictEqual(sent?.headers["cal-api-version"], "2024-08-13")
    assert.strictEqual(sent?.headers["content-type"], "application/json")
  })

  it("takes null for no body", async () => {
    const actions = make(tokens)
    await actions.makeCalApiRequest("/me", "GET", null, user)
    assert.strictEqual(actions.sent[0]?.body, undefined)
  })

  it("sends as nobody when no user is named, and only then", async () => {
    const actions = make({})
    await actions.makeCalApiRequest("/slots")
    assert.strictEqual(actions.sent[0]?.headers["authorization"], undefined)
    for (const nobody of [null, ""]) {
      const failure = await actions.makeCalApiRequest("/slots", "GET", undefined, nobody as string)
      assert.deepInclude(failure, { code: "InvalidInput" })
    }
    assert.strictEqual(actions.sent.length, 1)
  })

  it("says that no user was named where Cal.com refuses nobody", async () => {
    const refuse = (status: number) => () => Response.json({ error: { message: "Invalid Access Token" } }, { status })
    const said = "Invalid Access Token (no `userUlid` was given, so no token was sent)"
    for (const status of [401, 403]) {
      const nobody = make({}, refuse(status))
      const failure = await nobody.makeCalApiRequest("/bookings", "GET", undefined, undefined)
      assert.deepInclude(failure, {
        code: "CalRequestRejected",
        status,
        error: `Cal.com refused GET /bookings with status ${status}: ${said}`
      })
    }
    for (const [actions, userUlid] of [
      [make({}, refuse(404)), undefined],
      [make(tokens, refuse(403)), user]
    ] as const) {
      const failure = await actions.makeCalApiRequest("/bookings", "GET", undefined, userUlid)
      assert.notInclude(Actions.isFailure(failure) ? failure.error : assert.fail(), "userUlid")
    }
  })

  it("answers null where there is no body", async () => {
    const actions = make(tokens, () => new Response(null, { status: 204 }))
    assert.isNull(await actions.makeCalApiRequest("/schedules/1", "DELETE", undefined, user))
  })

  const envelope = (status: number, message: string, headers?: Record<string, string>) =>
    Response.json({ status: "error", error: { code: "X", message, details: {} } }, { status, headers: headers ?? {} })

  for (const [label, response, expected] of [
    [
      "a refusal",
      () => envelope(404, "Booking with uid=x was not found"),
      {
        code: "CalRequestRejected",
        status: 404,
        httpStatus: 404,
        error: "Cal.com refused POST /bookings/x with status 404: Booking with uid=x was not found"
      }
    ],
    [
      "a token that no refresh can save",
      () => envelope(401, "Invalid Access Token."),
      { code: "CalRequestRejected", status: 401 }
    ],
    [
      "a scope that the user has not allowed",
      () => envelope(403, "insufficient_scope: words. Required: BOOKING_WRITE, PROFILE_READ. Token has: BOOKING_READ"),
      { code: "CalRequestRejected", status: 403, httpStatus: 502, missingScopes: ["BOOKING_WRITE", "PROFILE_READ"] }
    ],
    [
      "a refusal that quotes the token",
      () => envelope(403, `PermissionsGuard - no oAuth client found for access token=${accessToken}`),
      { code: "CalRequestRejected", status: 403 }
    ],
    [
      "the rate limit",
      () => envelope(429, "Too many", { "X-RateLimit-Reset-Default": "41" }),
      { code: "CalRateLimited", status: 429, retryAfter: 41 }
    ],
    ["an outage", () => new Response("<html>", { status: 503 }), { code: "CalUnavailable", status: 503 }],
    ["an answer that is not JSON", () => new Response("<html>"), { code: "CalProtocolError" }]
  ] as const) {
    it(`${label} is a failure`, async () => {
      const actions = make(tokens, response)
      const failure = await actions.makeCalApiRequest("/bookings/x?secret=1", "POST", {}, user)
      assert.deepInclude(failure, { success: false, ...expected })
      assert.notInclude(JSON.stringify([failure, actions.lines]), accessToken)
      assert.notInclude(JSON.stringify([failure, actions.lines]), "secret=1")
    })
  }

  const circular: Record<string, unknown> = {}
  circular["self"] = circular
  for (const [label, args] of [
    ["an endpoint that is no text", [undefined]],
    ["an endpoint elsewhere", ["https://evil.example/me"]],
    ["an endpoint above the API", ["/../admin"]],
    ["a method that is none", ["/me", "STEAL"]],
    ["a body with GET", ["/me", "GET", {}]],
    ["a circular body", ["/me", "POST", circular]],
    ["a body that JSON cannot express", ["/me", "POST", () => 1]],
    ["a version that is none", ["/me", "GET", undefined, user, { apiVersion: "1\r\nx-cal-secret-key: y" }]]
  ] as const) {
    it(`refuses ${label} before anything is sent`, async () => {
      const actions = make(tokens)
      const failure = await actions.makeCalApiRequest(
        ...(args as unknown as Parameters<typeof actions.makeCalApiRequest>)
      )
      assert.deepInclude(failure, { success: false, code: "InvalidInput" })
      assert.deepStrictEqual(actions.sent, [])
    })
  }
})

describe("handleCalApiResponse", () => {
  const expired = () => new Response("{}", { status: 498 })
  const dead = () => Response.json({ error: { message: "Invalid Access Token." } }, { status: 401 })
  const ok = () => Response.json({ fine: true })

  /** `retry` that answers by the token it is given and remembers them. */
  const retrying = (answers: Record<string, () => Response>) => {
    const used: Array<string> = []
    return {
      used,
      retry: (token: string) => {
        used.push(token)
        return Promise.resolve((answers[token] ?? (() => assert.fail("unexpected token")))())
      }
    }
  }

  for (const [label, response] of [
    ["an ok response", ok()],
    [
      "a response that is no refusal of a token",
      Response.json({ error: { message: "no such booking" } }, { status: 404 })
    ],
    ["a 401 about something else", Response.json({ error: { message: "Invalid request origin" } }, { status: 401 })]
  ] as const) {
    it(`${label} is handed back as it is`, async () => {
      const actions = make({})
      const { retry, used } = retrying({})
      assert.strictEqual(await actions.handleCalApiResponse(response, retry, user), response)
      assert.deepStrictEqual(used, [])
      assert.isFalse(response.bodyUsed)
    })
  }

  it("repeats with the stored token first, and refreshes nothing if that helps", async () => {
    const actions = make({ ensureValid: () => Effect.succeed(valid(newAccessToken)) })
    const { retry, used } = retrying({ [newAccessToken]: ok })
    const response = await actions.handleCalApiResponse(dead(), retry, user, accessToken)
    assert.deepStrictEqual(await response.json(), { fine: true })
    assert.deepStrictEqual(used, [newAccessToken])
  })

  it("does not repeat with the token that was refused", async () => {
    const reported: Array<unknown> = []
    const actions = make({
      ensureValid: () => Effect.succeed(valid(accessToken)),
      reportRejected: (_, refusal) =>
        Effect.sync(() => {
          reported.push([Redacted.value(refusal.accessToken), refusal.status])
          return retryWith(newAccessToken)
        })
    })
    const { retry, used } = retrying({ [newAccessToken]: ok })
    assert.isTrue((await actions.handleCalApiResponse(expired(), retry, user, accessToken)).ok)
    assert.deepStrictEqual(used, [newAccessToken])
    assert.deepStrictEqual(reported, [[accessToken, 498]])
  })

  it("reports a stored token that is refused too, and repeats once more", async () => {
    const reported: Array<unknown> = []
    const actions = make({
      ensureValid: () => Effect.succeed(valid(accessToken)),
      reportRejected: (_, refusal) =>
        Effect.sync(() => {
          reported.push([Redacted.value(refusal.accessToken), refusal.status])
          return retryWith(newAccessToken, { delay: "1 millis" })
        })
    })
    const { retry, used } = retrying({ [accessToken]: dead, [newAccessToken]: dead })
    const response = await actions.handleCalApiResponse(expired(), retry, user)
    assert.strictEqual(response.status, 401)
    assert.deepStrictEqual(used, [accessToken, newAccessToken])
    assert.deepStrictEqual(reported, [[accessToken, 401]])
  })

  for (const [label, third, used, status] of [
    ["and it is young, repeats with it once more", newAccessToken, [newAccessToken, newAccessToken], 200],
    ["and it is not young, hands that answer on", undefined, [newAccessToken], 401],
    ["and another one is advised, hands that answer on", accessToken, [newAccessToken], 401]
  ] as const) {
    it(`where the token that replaced the refused one is refused, too, ${label}`, async () => {
      const reported: Array<unknown> = []
      const actions = make({
        ensureValid: () => Effect.succeed(valid(accessToken)),
        reportRejected: (_, { isSecond, ...refusal }) =>
          Effect.sync(() => {
            reported.push([Redacted.value(refusal.accessToken), refusal.status, isSecond])
            if (isSecond !== true) return retryWith(newAccessToken)
            return third === undefined ? Advice.GiveUp() : retryWith(third, { delay: "1 millis" })
          })
      })
      const tried = retrying({ [newAccessToken]: () => (tried.used.length < 2 ? dead() : ok()) })
      const response = await actions.handleCalApiResponse(expired(), tried.retry, user, accessToken)
      assert.strictEqual(response.status, status)
      assert.isFalse(response.bodyUsed)
      assert.deepStrictEqual(tried.used, [...used])
      assert.deepStrictEqual(reported, [
        [accessToken, 498, undefined],
        [newAccessToken, 401, true]
      ])
    })
  }

  it("never sends a fourth time", async () => {
    for (const rejected of [accessToken, undefined]) {
      const actions = make({
        ensureValid: () => Effect.succeed(valid(accessToken)),
        reportRejected: () => Effect.succeed(retryWith(newAccessToken))
      })
      const { retry, used } = retrying({ [accessToken]: dead, [newAccessToken]: dead })
      assert.strictEqual((await actions.handleCalApiResponse(dead(), retry, user, rejected)).status, 401)
      assert.strictEqual(used.length, 2)
    }
  })

  for (const [label, tokens, used] of [
    ["there is no connection", { ensureValid: () => new TokensNotFound({ userUlid }) }, []],
    [
      "the refresh fails",
      {
        ensureValid: () => Effect.succeed(valid(accessToken)),
        reportRejected: () => new CalUnavailable({ operation: "refresh", reason: "timeout" })
      },
      [accessToken]
    ],
    [
      "no refresh can cure it",
      {
        ensureValid: () => Effect.succeed(valid(accessToken)),
        reportRejected: () => Effect.succeed({ _tag: "GiveUp" })
      },
      [accessToken]
    ]
  ] as const) {
    it(`hands the original response back, unread, when ${label}`, async () => {
      const actions = make(tokens as Parameters<typeof fakes>[0])
      const tried = retrying({ [accessToken]: dead })
      const original = dead()
      assert.strictEqual(await actions.handleCalApiResponse(original, tried.retry, user), original)
      assert.isFalse(original.bodyUsed)
      assert.deepStrictEqual(tried.used, [...used])
    })
  }

  it("hands the original back for a user that is none", async () => {
    const actions = make({})
    const original = dead()
    assert.strictEqual(await actions.handleCalApiResponse(original, retrying({}).retry, "nobody"), original)
  })

  it("cannot judge a body that was read before", async () => {
    const actions = make({})
    const original = dead()
    await original.text()
    assert.strictEqual(await actions.handleCalApiResponse(original, retrying({}).retry, user), original)
  })

  it("passes a rejection of retry through", async () => {
    const actions = make({ ensureValid: () => Effect.succeed(valid(newAccessToken)) })
    const error = new Error("socket hang up")
    const outcome = await actions
      .handleCalApiResponse(expired(), () => Promise.reject(error), user)
      .catch((e: unknown) => e)
    assert.strictEqual(outcome, error)
  })
})

describe("isFailure", () => {
  for (const value of [null, undefined, "x", { success: true }, { success: false }, { status: "error", error: "x" }]) {
    it(`${JSON.stringify(value)} is none`, () => assert.isFalse(Actions.isFailure(value)))
  }
})
