import * as Zlib from "node:zlib"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Layer, Random, Redacted, TestClock } from "effect"
import * as CalClient from "../../src/CalClient.js"
import { notConnected } from "../../src/CalHttp/Transport.js"
import * as ScriptedCal from "../support/ScriptedCal.js"

const now = Date.UTC(2026, 2, 14, 9, 26, 53)
const user = { _tag: "ManagedUser", clientId: "C", calUserId: 7 } as const
const account = { _tag: "OAuth2", clientId: "K" } as const
const token = Redacted.make("the-refresh-token")

const layer = CalClient.layer({
  apiUrl: "https://api.cal.com/v2",
  managed: { clientId: "C", clientSecret: Redacted.make("platform-secret") },
  oauth2: { clientId: "K", clientSecret: Redacted.make("oauth-secret"), redirectUrl: "https://example.com/cb" }
}).pipe(Layer.provideMerge(ScriptedCal.layer))

const calls = {
  managed: (client: typeof CalClient.CalClient.Service) => client.refresh(user, token),
  oauth2: (client: typeof CalClient.CalClient.Service) => client.refresh(account, token),
  reissue: (client: typeof CalClient.CalClient.Service) => client.reissue(user)
}

/** What a reply means, as `Outcome/Error`. */
const outcome = (call: keyof typeof calls, reply: ScriptedCal.Reply) =>
  Effect.gen(function* () {
    yield* TestClock.setTime(now)
    yield* (yield* ScriptedCal.ScriptedCal).reply(reply)
    const client = yield* CalClient.CalClient
    const failure = yield* Effect.flip(calls[call](client))
    assert.strictEqual((yield* (yield* ScriptedCal.ScriptedCal).requests).length, 1)
    return failure
  }).pipe(Effect.provide(layer))

type Row = readonly [what: string, reply: ScriptedCal.Reply, expected: string]

const table = (call: keyof typeof calls, rows: ReadonlyArray<Row>) =>
  it.effect.each(rows)("%s", ([, reply, expected]) =>
    Effect.map(outcome(call, reply), ({ _tag, error }) => assert.strictEqual(`${_tag}/${error._tag}`, expected))
  )

const platform = ScriptedCal.platformError
const oauth2 = ScriptedCal.oauth2Error
const html = (status: number): ScriptedCal.Reply => ({
  status,
  body: "<html>nope</html>",
  headers: { "content-type": "text/html" }
})

const revoked = { status: 400, body: { error: "invalid_grant", error_description: "refresh_token_revoked" } }
const gzipped = ({ body, status }: typeof revoked): ScriptedCal.Reply => ({
  status,
  body: Zlib.gzipSync(JSON.stringify(body)),
  headers: { "content-encoding": "gzip" }
})

const anywhere: ReadonlyArray<Row> = [
  [
    "429",
    platform(429, "CustomThrottlerGuard - Too many requests. Please try again later."),
    "NotSpent/CalRateLimited"
  ],
  ["a bare 429", html(429), "NotSpent/CalRateLimited"],
  ["500", platform(500, "There was an error, please try again later."), "Unknown/CalUnavailable"],
  ["502 of a proxy", html(502), "Unknown/CalUnavailable"],
  ["503", html(503), "Unknown/CalUnavailable"],
  ["504", html(504), "Unknown/CalUnavailable"],
  ["301", { status: 301, headers: { location: "https://elsewhere.example/v2" } }, "ClientWide/CalClientMisconfigured"],
  ["307", { status: 307, headers: { location: "https://elsewhere.example/v2" } }, "ClientWide/CalClientMisconfigured"],
  ["403 of a firewall", html(403), "ClientWide/CalClientMisconfigured"],
  ["401 without a body", { status: 401 }, "ClientWide/CalClientMisconfigured"],
  ["404 of another server", html(404), "ClientWide/CalClientMisconfigured"],
  ["404 for the route", platform(404, "Cannot POST /v2/v2/x"), "ClientWide/CalClientMisconfigured"],
  ["405", html(405), "ClientWide/CalRequestRejected"],
  ["415", html(415), "ClientWide/CalRequestRejected"],
  ["408", html(408), "Unknown/CalRequestRejected"],
  ["409", platform(409, "Invalid Input: Trying to create a record that already exists."), "Unknown/CalRequestRejected"],
  ["418", html(418), "Unknown/CalRequestRejected"],
  ["400 of a proxy", html(400), "Unknown/CalRequestRejected"],
  ["400 whose body broke off", { truncated: 400 }, "Unknown/CalRequestRejected"],
  ["401 whose body broke off", { truncated: 401 }, "ClientWide/CalClientMisconfigured"],
  ["200 whose body broke off", { truncated: 200 }, "Unknown/CalUnavailable"],
  ["200 that is not JSON", { status: 200, body: "<html>hello</html>" }, "Unreadable/CalProtocolError"],
  ["200 without a body", { status: 200 }, "Unreadable/CalProtocolError"],
  ["204", { status: 204 }, "Unreadable/CalProtocolError"],
  ["200 of another shape", { status: 200, body: { status: "success", data: {} } }, "Unreadable/CalProtocolError"],
  [
    "refused connection",
    { fail: ScriptedCal.systemError("ECONNREFUSED", { syscall: "connect" }) },
    "NotSpent/CalUnavailable"
  ],
  [
    "unknown host",
    { fail: ScriptedCal.systemError("ENOTFOUND", { syscall: "getaddrinfo" }) },
    "NotSpent/CalUnavailable"
  ],
  ["name server trouble", { fail: ScriptedCal.systemError("EAI_AGAIN") }, "NotSpent/CalUnavailable"],
  ["connect timeout (undici)", { fail: ScriptedCal.systemError("UND_ERR_CONNECT_TIMEOUT") }, "NotSpent/CalUnavailable"],
  [
    "connect timeout (system)",
    { fail: ScriptedCal.systemError("ETIMEDOUT", { syscall: "connect" }) },
    "NotSpent/CalUnavailable"
  ],
  ["no route", { fail: ScriptedCal.systemError("EHOSTUNREACH", { syscall: "connect" }) }, "NotSpent/CalUnavailable"],
  ["no network", { fail: ScriptedCal.systemError("ENETUNREACH", { syscall: "connect" }) }, "NotSpent/CalUnavailable"],
  ["expired certificate", { fail: ScriptedCal.systemError("CERT_HAS_EXPIRED") }, "NotSpent/CalUnavailable"],
  ["wrong host name", { fail: ScriptedCal.systemError("ERR_TLS_CERT_ALTNAME_INVALID") }, "NotSpent/CalUnavailable"],
  ["self-signed", { fail: ScriptedCal.systemError("DEPTH_ZERO_SELF_SIGNED_CERT") }, "NotSpent/CalUnavailable"],
  ["no TLS there", { fail: ScriptedCal.systemError("ERR_SSL_WRONG_VERSION_NUMBER") }, "NotSpent/CalUnavailable"],
  [
    "reset while connecting",
    { fail: Object.assign(ScriptedCal.systemError("ECONNRESET"), { [notConnected]: true }) },
    "NotSpent/CalUnavailable"
  ],
  [
    "fetch's nested cause",
    { fail: new TypeError("fetch failed", { cause: ScriptedCal.systemError("ECONNREFUSED") }) },
    "NotSpent/CalUnavailable"
  ],
  [
    "all addresses refused",
    {
      fail: Object.assign(
        new AggregateError([
          ScriptedCal.systemError("ECONNREFUSED"),
          ScriptedCal.systemError("ENETUNREACH", { syscall: "connect" })
        ]),
        { code: "ECONNREFUSED" }
      )
    },
    "NotSpent/CalUnavailable"
  ],
  [
    "an aggregate with one that was connected",
    {
      fail: Object.assign(
        new AggregateError([ScriptedCal.systemError("ECONNREFUSED"), ScriptedCal.systemError("ECONNRESET")]),
        {
          code: "ECONNREFUSED"
        }
      )
    },
    "Unknown/CalUnavailable"
  ],
  ["reset", { fail: ScriptedCal.systemError("ECONNRESET", { syscall: "read" }) }, "Unknown/CalUnavailable"],
  [
    "timeout after sending",
    { fail: ScriptedCal.systemError("ETIMEDOUT", { syscall: "read" }) },
    "Unknown/CalUnavailable"
  ],
  [
    "no route any more",
    { fail: ScriptedCal.systemError("EHOSTUNREACH", { syscall: "write" }) },
    "Unknown/CalUnavailable"
  ],
  ["other side closed", { fail: ScriptedCal.systemError("UND_ERR_SOCKET") }, "Unknown/CalUnavailable"],
  ["headers timeout", { fail: ScriptedCal.systemError("UND_ERR_HEADERS_TIMEOUT") }, "Unknown/CalUnavailable"],
  ["anything thrown", { fail: "what?" }, "Unknown/CalUnavailable"],
  ["a defect of the client", { defect: new Error("assertion") }, "Unknown/CalUnavailable"],
  [
    "a request that cannot be built",
    { fail: ScriptedCal.systemError("UND_ERR_INVALID_ARG") },
    "ClientWide/CalClientMisconfigured"
  ]
]

describe("a managed refresh that gets", () => {
  table("managed", [
    ...anywhere,
    ["Invalid refresh token", platform(400, "Invalid refresh token"), "Rejected/CalRequestRejected"],
    [
      "a lost race",
      platform(404, "Invalid Query: The requested record was not found.", undefined),
      "Rejected/CalRequestRejected"
    ],
    [
      "a validation error",
      platform(400, "Bad Request Exception", {
        errors: [{ property: "refreshToken", constraints: { isString: "x" } }]
      }),
      "ClientWide/CalRequestRejected"
    ],
    ["malformed JSON", platform(400, "Unexpected token } in JSON at position 3"), "Unknown/CalRequestRejected"],
    [
      "invalid credentials (400)",
      platform(400, "Invalid OAuthClient credentials."),
      "ClientWide/CalClientMisconfigured"
    ],
    [
      "wrong secret",
      platform(401, "ApiAuthStrategy - oAuth client - Invalid client secret"),
      "ClientWide/CalClientMisconfigured"
    ],
    [
      "unknown client",
      platform(401, "ApiAuthStrategy - oAuth client - Client with ID C not found"),
      "ClientWide/CalClientMisconfigured"
    ],
    [
      "an organization without rights",
      platform(403, "OrganizationRolesGuard - Organization is not a platform (SHP)."),
      "ClientWide/CalClientMisconfigured"
    ],
    [
      "the text of a rejection with another status",
      platform(409, "Invalid refresh token"),
      "Unknown/CalRequestRejected"
    ],
    ["the text of a rejection with 500", platform(500, "Invalid refresh token"), "Unknown/CalUnavailable"],
    ["the text of a rejection with 401", platform(401, "Invalid refresh token"), "ClientWide/CalClientMisconfigured"],
    [
      "the text of a gone user",
      platform(404, "User with ID 7 is not part of this OAuth client."),
      "Unknown/CalRequestRejected"
    ],
    [
      "a foreign key error",
      platform(400, "Invalid input: The referenced data does not exist."),
      "Unknown/CalRequestRejected"
    ]
  ])
})

describe("a reissue that gets", () => {
  table("reissue", [
    ["a gone user", platform(404, "User with ID 7 is not part of this OAuth client."), "UserGone/CalRequestRejected"],
    ["a lost race", platform(404, "Invalid Query: The requested record was not found."), "Unknown/CalRequestRejected"],
    ["404 for the route", platform(404, "Cannot POST /v2/x"), "ClientWide/CalClientMisconfigured"],
    ["a wrong id", platform(400, "Validation failed (numeric string is expected)"), "ClientWide/CalRequestRejected"],
    [
      "wrong secret",
      platform(401, "ApiAuthStrategy - oAuth client - Invalid client secret"),
      "ClientWide/CalClientMisconfigured"
    ],
    ["429", platform(429, "CustomThrottlerGuard - Too many requests."), "NotSpent/CalRateLimited"],
    ["500", html(500), "Unknown/CalUnavailable"]
  ])
})

describe("an OAuth2 refresh that gets", () => {
  table("oauth2", [
    ...anywhere,
    ["refresh_token_revoked", oauth2(400, "invalid_grant", "refresh_token_revoked"), "Rejected/CalRequestRejected"],
    ["invalid_refresh_token", oauth2(400, "invalid_grant", "invalid_refresh_token"), "Rejected/CalRequestRejected"],
    ["client_id_mismatch", oauth2(400, "invalid_grant", "client_id_mismatch"), "ClientWide/CalClientMisconfigured"],
    ["another invalid_grant", oauth2(400, "invalid_grant", "something_new"), "Unknown/CalRequestRejected"],
    ["client_not_found", oauth2(401, "invalid_client", "client_not_found"), "ClientWide/CalClientMisconfigured"],
    [
      "invalid_client_credentials",
      oauth2(401, "invalid_client", "invalid_client_credentials"),
      "ClientWide/CalClientMisconfigured"
    ],
    ["invalid_client with 400", oauth2(400, "invalid_client"), "ClientWide/CalClientMisconfigured"],
    ["client_not_approved", oauth2(401, "unauthorized_client", "client_not_approved"), "NotSpent/CalRequestRejected"],
    ["client_rejected", oauth2(401, "unauthorized_client", "client_rejected"), "ClientWide/CalClientMisconfigured"],
    [
      "invalid_request",
      oauth2(400, "invalid_request", "client_secret property is wrong,property client_secret should not exist "),
      "ClientWide/CalRequestRejected"
    ],
    ["unsupported_grant_type", oauth2(400, "unsupported_grant_type"), "ClientWide/CalRequestRejected"],
    ["server_error", oauth2(500, "server_error", "An unexpected error occurred"), "Unknown/CalUnavailable"],
    ["invalid_grant with 500", oauth2(500, "invalid_grant", "refresh_token_revoked"), "Unknown/CalUnavailable"],
    ["a platform envelope", platform(400, "Invalid refresh token"), "Rejected/CalRequestRejected"],
    ["refresh_token_revoked in gzip", gzipped(revoked), "Rejected/CalRequestRejected"],
    [
      "refresh_token_revoked, decoded on the way",
      { ...revoked, headers: { "content-encoding": "gzip" } },
      "Rejected/CalRequestRejected"
    ],
    [
      "refresh_token_revoked beside what is no UTF-8",
      {
        status: 400,
        body: Buffer.from('{"error":"invalid_grant","error_description":"refresh_token_revoked \xe9"}', "latin1")
      },
      "Rejected/CalRequestRejected"
    ]
  ])
})

describe("an OAuth2 client that waits for approval", () => {
  it.effect("costs its user a pause, and the client nothing", () =>
    Effect.gen(function* () {
      const { _tag, error } = yield* outcome("oauth2", oauth2(401, "unauthorized_client", "client_not_approved"))
      assert(_tag === "NotSpent" && error._tag === "CalRequestRejected" && error.retryAfter !== undefined)
      assert.isTrue(Duration.between(error.retryAfter, { minimum: "5 minutes", maximum: "10 minutes" }))
      assert.include(error.message, "approve")
    })
  )

  it.effect("which differs from user to user, between 5 and 10 minutes, and comes from Effect's Random", () =>
    Effect.gen(function* () {
      const waitOf = (seed: number) =>
        outcome("oauth2", oauth2(401, "unauthorized_client", "client_not_approved")).pipe(
          Effect.map(({ error }) => ("retryAfter" in error && error.retryAfter) || assert.fail()),
          Effect.map(Duration.toMillis),
          Effect.withRandom(Random.make(seed))
        )
      const seeds = Array.from({ length: 50 }, (_, seed) => seed)
      const waits = yield* Effect.forEach(seeds, waitOf)
      assert.isTrue(waits.every((wait) => wait >= 300_000 && wait <= 600_000))
      assert.isBelow(Math.min(...waits), 330_000)
      assert.isAbove(Math.max(...waits), 570_000)
      assert.strictEqual(yield* waitOf(7), waits[7])
    })
  )
})

describe("retryAfter", () => {
  const seconds = (headers: Record<string, string>, status = 429) =>
    Effect.map(outcome("managed", { status, headers }), ({ error }) => {
      assert("retryAfter" in error)
      return error.retryAfter === undefined ? undefined : Duration.toSeconds(error.retryAfter)
    })

  it.effect.each([
    [{ "X-RateLimit-Reset-Default": "17" }, 17],
    [{ "X-RateLimit-Reset-Short": "3", "X-RateLimit-Reset-Long": "40" }, 40],
    [{ "X-RateLimit-Reset-Default": "17", "Retry-After": "5" }, 17],
    [{ "Retry-After": "5" }, 5],
    [{}, 60],
    [{ "X-RateLimit-Reset-Default": "0" }, 1],
    [{ "X-RateLimit-Reset-Default": "-4" }, 60],
    [{ "X-RateLimit-Reset-Default": "1773480413" }, 60],
    [{ "X-RateLimit-Reset-Default": "999999" }, 3600],
    [{ "Retry-After": "Sat, 14 Mar 2026 09:27:13 GMT" }, 20],
    // The clock of the server that wrote it is an hour behind ours.
    [{ "Retry-After": "Sat, 14 Mar 2026 08:27:13 GMT", Date: "Sat, 14 Mar 2026 08:26:53 GMT" }, 20],
    [{ "Retry-After": "Sat, 14 Mar 2026 09:26:53 GMT" }, 1],
    [{ "Retry-After": "Fri, 13 Mar 2026 09:26:53 GMT" }, 1],
    [{ "Retry-After": "Sat, 14 Mar 2026 12:26:53 GMT" }, 3600],
    [{ "Retry-After": "Sat, 14 Mar 2076 09:27:13 GMT" }, 60],
    [{ "Retry-After": "soon" }, 60]
  ] as const)("of a 429 with %j is %s s", ([headers, expected]) =>
    Effect.map(seconds(headers), (actual) => assert.strictEqual(actual, expected))
  )

  it.effect("of a 503 is only what Retry-After says", () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* seconds({ "Retry-After": "9" }, 503), 9)
      assert.strictEqual(yield* seconds({ "Retry-After": "Sat, 14 Mar 2026 09:27:02 GMT" }, 503), 9)
      assert.strictEqual(
        (yield* outcome("managed", { status: 503, headers: { "X-RateLimit-Reset-Default": "9" } })).error.message,
        "Cal.com is unavailable (refresh: status 503): try again later."
      )
    })
  )
})
