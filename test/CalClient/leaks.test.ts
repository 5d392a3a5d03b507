import { assert, describe, it } from "@effect/vitest"
import { Effect, FiberRef, Layer, Redacted } from "effect"
import { Headers, HttpClient, HttpClientRequest, HttpClientResponse } from "@effect/platform"
import * as CalClient from "../../src/CalClient.js"
import { TokenHttp } from "../../src/CalHttp/HttpClients.js"
import { scrub } from "../../src/CalHttp/Scrub.js"
import * as ScriptedCal from "../support/ScriptedCal.js"
import { assertClean, exitRenderings, recording, renderings } from "../support/Leaks.js"

// Short and odd on purpose: nothing but knowing them tells that they are secrets.
const secrets = {
  refresh: "r.f-1!",
  access: "a.c-2!",
  platform: "p.s-3!",
  oauth: "o.s-4!",
  code: "c.o-5!",
  verifier: "v.e-6!",
  // Cal.com's: nobody knows these, their looks give them away.
  newAccess: "eyJhbGciOiJIUzI1NiJ9.eyJ0eXBlIjoiYWNjZXNzX3Rva2VuIn0.c2lnbmF0dXJl",
  newRefresh: "4f9d0c7be1a24e7c9f7f0d1e2a3b4c5d"
}
const all = Object.values(secrets)

const layer = CalClient.layer({
  apiUrl: "https://api.cal.com/v2",
  managed: { clientId: "C", clientSecret: Redacted.make(secrets.platform) },
  oauth2: { clientId: "K", clientSecret: Redacted.make(secrets.oauth), redirectUrl: "https://example.com/cb" }
}).pipe(Layer.provideMerge(ScriptedCal.layer))

/** What comes back, given what one call sent and what Cal.com might grant. */
const replies = (everything: string): ReadonlyArray<readonly [string, ScriptedCal.Reply]> => [
  [
    "a validation error that echoes",
    ScriptedCal.platformError(400, "Bad Request Exception", {
      message: "Bad Request Exception",
      errors: [
        {
          target: { refreshToken: secrets.refresh },
          value: everything,
          property: "refreshToken",
          constraints: { isString: everything }
        }
      ]
    })
  ],
  [
    "a 403 that quotes",
    ScriptedCal.platformError(403, `PermissionsGuard - no oAuth client found for access token=${everything}`)
  ],
  ["a 401 that quotes", ScriptedCal.platformError(401, `no ${everything}`)],
  ["a 400 that quotes", ScriptedCal.platformError(400, `Invalid refresh token ${everything}`)],
  ["an OAuth2 error that quotes", ScriptedCal.oauth2Error(400, "invalid_grant", `refresh_token_revoked ${everything}`)],
  ["an OAuth2 error code that quotes", ScriptedCal.oauth2Error(400, everything, everything)],
  ["a 500 that quotes", { status: 500, body: everything }],
  [
    "a redirect that quotes",
    { status: 302, headers: { location: `https://elsewhere.example/?${encodeURIComponent(everything)}` } }
  ],
  [
    "a 200 of another shape",
    {
      status: 200,
      body: {
        data: { accessToken: [secrets.newAccess], refreshToken: { [secrets.newRefresh]: 1 } },
        access_token: everything
      }
    }
  ],
  [
    "a 200 with a spaced token",
    {
      status: 200,
      body: { data: { accessToken: everything, refreshToken: everything, accessTokenExpiresAt: everything } }
    }
  ],
  ["a 200 that is not JSON", { status: 200, body: `{"accessToken":"${everything}` }],
  ["a 200 that breaks off", { truncated: 200 }],
  [
    "a network error whose words quote",
    { fail: Object.assign(new Error(everything), { code: "ECONNRESET", request: everything }) }
  ],
  ["a network error whose code quotes", { fail: Object.assign(new Error("x"), { code: secrets.newRefresh }) }],
  ["a defect that quotes", { defect: new Error(everything) }],
  [
    "success",
    {
      status: 200,
      body: {
        data: {
          accessToken: secrets.newAccess,
          refreshToken: secrets.newRefresh,
          accessTokenExpiresAt: 1000,
          user: { id: 1 }
        },
        access_token: secrets.newAccess,
        refresh_token: secrets.newRefresh,
        expires_in: 1800
      }
    }
  ]
]

type Client = typeof CalClient.CalClient.Service
interface Scenario {
  readonly span: string
  readonly sent: ReadonlyArray<string>
  readonly call: (client: Client) => Effect.Effect<unknown, unknown>
}

const managedUser = { _tag: "ManagedUser", clientId: "C", calUserId: 1 } as const
const scenarios: ReadonlyArray<Scenario> = [
  {
    span: "CalClient.refresh",
    sent: [secrets.refresh, secrets.platform],
    call: ({ refresh }) => refresh(managedUser, Redacted.make(secrets.refresh))
  },
  {
    span: "CalClient.refresh",
    sent: [secrets.refresh, secrets.oauth],
    call: ({ refresh }) => refresh({ _tag: "OAuth2", clientId: "K" }, Redacted.make(secrets.refresh))
  },
  { span: "CalClient.reissue", sent: [secrets.platform], call: ({ reissue }) => reissue(managedUser) },
  {
    span: "CalClient.exchange",
    sent: [secrets.oauth, secrets.code, secrets.verifier],
    call: ({ exchange }) =>
      exchange({ code: Redacted.make(secrets.code), codeVerifier: Redacted.make(secrets.verifier) })
  },
  {
    span: "CalClient.createManagedUser",
    sent: [secrets.platform],
    call: ({ createManagedUser }) => createManagedUser({ email: "a@b.c", name: "Ada" })
  },
  { span: "CalClient.me", sent: [secrets.access], call: ({ me }) => me(Redacted.make(secrets.access)) }
]

describe("no secret is in any error, span or log after", () => {
  const names = replies("").map(([name], index) => [name, index] as const)

  it.effect.each(names)("%s", ([, index]) =>
    Effect.forEach(scenarios, ({ call, sent, span }) =>
      Effect.gen(function* () {
        const recorder = yield* recording
        const text = yield* Effect.gen(function* () {
          const http = yield* ScriptedCal.ScriptedCal
          const reply = replies([...sent, secrets.newAccess, secrets.newRefresh].join(" "))[index]?.[1]
          yield* http.reply(reply ?? assert.fail())
          const client = yield* CalClient.CalClient
          const exit = yield* call(client).pipe(
            Effect.tapErrorCause((cause) => Effect.logDebug("failed", cause, renderings(cause))),
            Effect.tapError((error) => Effect.logError(error)),
            Effect.withSpan("caller"),
            Effect.exit
          )
          return exitRenderings(exit)
        }).pipe(Effect.provide(Layer.provideMerge(layer, recorder.layer)))
        const written = yield* recorder.text
        assert.include(written, span)
        assertClean(`${text}\n${written}`, all)
        assert.isAbove(text.length, 50)
      })
    )
  )
})

describe("the layer", () => {
  it.effect("masks the secret header for everything around it", () =>
    Effect.gen(function* () {
      const recorder = yield* recording
      yield* Effect.gen(function* () {
        yield* (yield* ScriptedCal.ScriptedCal).reply({ status: 200, body: {} })
        const request = HttpClientRequest.get("https://api.cal.com/v2/x").pipe(
          HttpClientRequest.setHeader("x-cal-secret-key", secrets.platform)
        )
        yield* (yield* HttpClient.HttpClient).execute(request)
      }).pipe(Effect.provide(Layer.provideMerge(layer, recorder.layer)))
      const spans = recorder.spans.map(({ attributes }) => renderings([...attributes])).join()
      assert.include(spans, "x-cal-secret-key")
      assertClean(spans, all)
    })
  )

  it.effect("masks it for the HTTP client below, without the layer as well", () =>
    Effect.gen(function* () {
      const names: Array<string | RegExp> = []
      const http = HttpClient.make((request) =>
        Effect.map(FiberRef.get(Headers.currentRedactedNames), (current) => {
          names.push(...current)
          return HttpClientResponse.fromWeb(request, new Response(null, { status: 401 }))
        })
      )
      const client = yield* CalClient.make({ apiUrl: "https://api.cal.com/v2" }).pipe(
        Effect.provideService(TokenHttp, http)
      )
      yield* Effect.exit(client.me(Redacted.make("a")))
      assert.include(names, "x-cal-secret-key")
      assert.include(names, "authorization")
    })
  )

  it.effect("does not tell Cal.com about traces", () =>
    Effect.gen(function* () {
      const http = yield* ScriptedCal.ScriptedCal
      yield* http.reply({ status: 401 })
      const client = yield* CalClient.CalClient
      yield* Effect.exit(client.me(Redacted.make("a")).pipe(Effect.withSpan("caller")))
      const [request] = yield* http.requests
      assert.deepStrictEqual(
        Object.keys(request?.headers ?? {}).filter((name) => name.includes("trace") || name === "b3"),
        []
      )
    }).pipe(Effect.provide(layer))
  )
})

describe("scrub", () => {
  const known = [Redacted.make("abc"), Redacted.make("abcdef"), Redacted.make("")]

  it("replaces known secrets, the longer one first", () => {
    assert.strictEqual(scrub("x abcdef abc y", known), "x <redacted> <redacted> y")
  })
  it("replaces what looks like a token", () => {
    assert.strictEqual(scrub(`token=${secrets.newAccess}!`), "token=<redacted>!")
    assert.strictEqual(scrub(`code=${secrets.newRefresh}==`), "code=<redacted>")
    assert.strictEqual(scrub("cal_live_0123456789abcdef0123456789abcdef"), "<redacted>")
    assert.strictEqual(scrub("eyJhbGciOiJIUzI1NiJ9.eyJ0eXBlIjoiYWN"), "<redacted>")
  })
  it("keeps Cal.com's words", () => {
    for (const text of [
      "invalid_grant: pkce_missing_parameters_or_invalid_method",
      "ApiAuthStrategy - oAuth client - Invalid client secret",
      "OrganizationRolesGuard - User must have one of the roles: ADMIN, OWNER.",
      "User with ID 17 is not part of this OAuth client.",
      "client with id=my-client does not have the required permissions=BOOKING_READ."
    ]) {
      assert.strictEqual(scrub(text), text)
    }
  })
  it("takes a token out before it cuts, and keeps to one line", () => {
    const text = scrub(`${"a ".repeat(148)}abcdef and more`, known)
    assert.isAtMost(text.length, 300)
    assertClean(text, ["abc"])
    assert.strictEqual(scrub("a\r\nb\u001b[31m"), "a b [31m")
  })
})
