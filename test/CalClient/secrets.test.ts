/** A client with two secrets: which one a call carries, and when it is made with the other. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Option, Redacted, TestClock } from "effect"
import * as CalClient from "../../src/CalClient.js"
import type { TokenError } from "../../src/TokenError.js"
import { assertClean, exitRenderings, recording } from "../support/Leaks.js"
import * as ScriptedCal from "../support/ScriptedCal.js"

// Short and odd on purpose: nothing but knowing them tells that they are secrets.
const secrets = { platformOld: "p.o-1!", platformNew: "p.n-2!", oauthOld: "o.o-3!", oauthNew: "o.n-4!" }
const two = (one: string, other: string) => [Redacted.make(one), Redacted.make(other)] as const

const options: CalClient.Options = {
  apiUrl: "https://api.cal.com/v2",
  managed: { clientId: "C", clientSecret: two(secrets.platformOld, secrets.platformNew) },
  oauth2: {
    clientId: "K",
    clientSecret: two(secrets.oauthOld, secrets.oauthNew),
    redirectUrl: "https://example.com/cb"
  }
}
const layer = (changes: Partial<CalClient.Options> = {}) =>
  Layer.provideMerge(CalClient.layer({ ...options, ...changes }), ScriptedCal.layer)

const user = { _tag: "ManagedUser", clientId: "C", calUserId: 7 } as const
const account = { _tag: "OAuth2", clientId: "K" } as const
const token = Redacted.make("the-refresh-token")

type Client = typeof CalClient.CalClient.Service

const invalidSecret = "ApiAuthStrategy - oAuth client - Invalid client secret"
const platformRefusal = ScriptedCal.platformError(401, invalidSecret)
const oauth2Refusal = ScriptedCal.oauth2Error(401, "invalid_client", "invalid_client_credentials")
const data = { accessToken: "a", refreshToken: "r", accessTokenExpiresAt: 3_600_000 }
const pair = { status: 200, body: { status: "success", data: { ...data, user: { id: 7 } } } }
const oauth2Pair = {
  status: 200,
  body: { access_token: "a", token_type: "bearer", refresh_token: "r", expires_in: 1800, scope: "" }
}

interface Case {
  readonly call: (client: Client) => Effect.Effect<unknown, CalClient.CallFailure | TokenError>
  readonly refusal: ScriptedCal.Reply
  readonly granted: ScriptedCal.Reply
}
const calls: Readonly<Record<string, Case>> = {
  refresh: { call: (client) => client.refresh(user, token), refusal: platformRefusal, granted: pair },
  reissue: { call: (client) => client.reissue(user), refusal: platformRefusal, granted: pair },
  createManagedUser: {
    call: (client) => client.createManagedUser({ email: "a@b.c", name: "Ada" }),
    refusal: platformRefusal,
    granted: pair
  },
  "refresh (OAuth2)": {
    call: (client) => client.refresh(account, token),
    refusal: oauth2Refusal,
    granted: oauth2Pair
  },
  exchange: {
    call: (client) => client.exchange({ code: Redacted.make("c") }),
    refusal: oauth2Refusal,
    granted: oauth2Pair
  }
}

const reply = (...replies: ReadonlyArray<ScriptedCal.Reply>) =>
  Effect.flatMap(ScriptedCal.ScriptedCal, (http) => http.reply(...replies))

/** The secrets that requests carried, as `old` and `new`, in their order. */
const shown = Effect.gen(function* () {
  const requests = yield* (yield* ScriptedCal.ScriptedCal).requests
  return requests.map(({ body, headers }) => {
    const secret = headers["x-cal-secret-key"] ?? new URLSearchParams(body).get("client_secret")
    return secret === secrets.platformOld || secret === secrets.oauthOld ? "old" : "new"
  })
})

const outcomeOf = <A>(call: Effect.Effect<A, CalClient.CallFailure>) =>
  Effect.match(call, { onFailure: ({ _tag, error }) => `${_tag}/${error._tag}`, onSuccess: () => "granted" })

describe("a secret that Cal.com refuses", () => {
  for (const [name, { call, granted, refusal }] of Object.entries(calls)) {
    it.effect(`${name}: the other one is tried in the same call, and first from then on`, () =>
      Effect.gen(function* () {
        const client = yield* CalClient.CalClient
        yield* reply(refusal, granted, granted)
        yield* call(client)
        assert.deepStrictEqual(yield* shown, ["old", "new"])
        yield* call(client)
        assert.deepStrictEqual(yield* shown, ["old", "new", "new"])
        const [first, second] = yield* (yield* ScriptedCal.ScriptedCal).requests
        assert.strictEqual(second?.url, first?.url)
        assert.strictEqual(second?.body, first?.body.replace("o.o-3", "o.n-4"))
      }).pipe(Effect.provide(layer()))
    )

    it.effect(`${name}: once; if both are refused that is the answer, and their order stays`, () =>
      Effect.gen(function* () {
        const client = yield* CalClient.CalClient
        yield* reply(refusal, refusal, refusal, granted)
        const failure = yield* Effect.flip(call(client))
        const error = "error" in failure ? failure.error : failure
        assert.strictEqual(error._tag, "CalClientMisconfigured")
        assert.deepStrictEqual(yield* shown, ["old", "new"])
        yield* call(client)
        assert.deepStrictEqual(yield* shown, ["old", "new", "old", "new"])
      }).pipe(Effect.provide(layer()))
    )
  }

  it.effect("a client that has one is not asked for another; nor one whose two are the same", () =>
    Effect.gen(function* () {
      const client = yield* CalClient.CalClient
      yield* reply(platformRefusal, oauth2Refusal)
      assert.strictEqual(yield* outcomeOf(client.refresh(user, token)), "ClientWide/CalClientMisconfigured")
      assert.strictEqual(yield* outcomeOf(client.refresh(account, token)), "ClientWide/CalClientMisconfigured")
      assert.deepStrictEqual(yield* shown, ["old", "old"])
    }).pipe(
      Effect.provide(
        layer({
          managed: { clientId: "C", clientSecret: [Redacted.make(secrets.platformOld)] },
          oauth2: { clientId: "K", clientSecret: two(secrets.oauthOld, secrets.oauthOld) }
        })
      )
    )
  )

  it.effect("a public client has none to try", () =>
    Effect.gen(function* () {
      const client = yield* CalClient.CalClient
      yield* reply(oauth2Refusal)
      assert.strictEqual(yield* outcomeOf(client.refresh(account, token)), "ClientWide/CalClientMisconfigured")
    }).pipe(Effect.provide(layer({ oauth2: { clientId: "K" } })))
  )

  it.effect.each([
    ["the platform's second look", user, ScriptedCal.platformError(400, "Invalid OAuthClient credentials."), true],
    [
      "an unknown platform client",
      user,
      ScriptedCal.platformError(401, "ApiAuthStrategy - oAuth client - Client with ID C not found"),
      false
    ],
    ["a refused refresh token", user, ScriptedCal.platformError(400, "Invalid refresh token"), false],
    ["another 401", user, ScriptedCal.platformError(401, "Unauthorized"), false],
    ["a firewall", user, { status: 403, body: "<html>" }, false],
    ["the rate limit", user, { status: 429 }, false],
    ["an outage", user, ScriptedCal.platformError(500, "Invalid client secret"), false],
    ["invalid_client in other words", account, ScriptedCal.oauth2Error(401, "invalid_client"), true],
    ["invalid_client as RFC 6749 has it, too", account, ScriptedCal.oauth2Error(400, "invalid_client", "no"), true],
    ["an unknown OAuth2 client", account, ScriptedCal.oauth2Error(401, "invalid_client", "client_not_found"), false],
    [
      "a client that was rejected",
      account,
      ScriptedCal.oauth2Error(401, "unauthorized_client", "client_rejected"),
      false
    ],
    ["a revoked refresh token", account, ScriptedCal.oauth2Error(400, "invalid_grant", "refresh_token_revoked"), false],
    ["a server that fails", account, ScriptedCal.oauth2Error(500, "invalid_client"), false]
  ] as const)("%s: is that a refusal of the secret?", ([, connection, answer, isRefusal]) =>
    Effect.gen(function* () {
      const client = yield* CalClient.CalClient
      yield* reply(answer, connection === user ? pair : oauth2Pair)
      assert.strictEqual((yield* outcomeOf(client.refresh(connection, token))) === "granted", isRefusal)
      assert.deepStrictEqual(yield* shown, isRefusal ? ["old", "new"] : ["old"])
    }).pipe(Effect.provide(layer()))
  )

  it.effect.each([
    ["a limit", { status: 429 }, "NotSpent/CalRateLimited"],
    ["an outage", { status: 503 }, "Unknown/CalUnavailable"],
    ["a refused token", ScriptedCal.platformError(400, "Invalid refresh token"), "Rejected/CalRequestRejected"],
    ["a broken connection", { fail: ScriptedCal.systemError("ECONNRESET") }, "Unknown/CalUnavailable"]
  ] as const)("what the other one meets is the outcome: %s", ([, answer, expected]) =>
    Effect.gen(function* () {
      const client = yield* CalClient.CalClient
      yield* reply(platformRefusal, answer)
      assert.strictEqual(yield* outcomeOf(client.refresh(user, token)), expected)
    }).pipe(Effect.provide(layer()))
  )

  it.effect("is the last word after the deadline: the token may be somebody else's to spend by then", () =>
    Effect.gen(function* () {
      const client = yield* CalClient.CalClient
      yield* TestClock.setTime(1000)
      for (const call of [
        client.refresh(user, token, { deadline: 1000 }),
        client.refresh(account, token, { deadline: 1000 }),
        client.reissue(user, { deadline: 1000 })
      ]) {
        yield* reply(platformRefusal)
        assert.strictEqual(yield* outcomeOf(call), "ClientWide/CalClientMisconfigured")
      }
      assert.deepStrictEqual(yield* shown, ["old", "old", "old"])
      yield* reply(platformRefusal, pair)
      assert.strictEqual(yield* outcomeOf(client.reissue(user, { deadline: 1001 })), "granted")
    }).pipe(Effect.provide(layer()))
  )

  it.effect("both requests share the time that the call is given", () =>
    Effect.gen(function* () {
      const client = yield* CalClient.CalClient
      yield* reply(platformRefusal, { never: true })
      const ask = client.createManagedUser({ email: "a@b.c", name: "Ada" })
      const fiber = yield* Effect.fork(Effect.timeoutOption(ask, "8 seconds"))
      yield* TestClock.adjust("8 seconds")
      assert.isTrue(Option.isNone(yield* Fiber.join(fiber)))
      assert.deepStrictEqual(yield* shown, ["old", "new"])
    }).pipe(Effect.provide(layer()))
  )

  it.effect("neither of them is in an error, a span or a log, and the log says which one is refused", () =>
    Effect.gen(function* () {
      const recorder = yield* recording
      const platform = `${secrets.platformOld} ${secrets.platformNew}`
      const oauth2 = `${secrets.oauthOld} ${secrets.oauthNew}`
      const text = yield* Effect.gen(function* () {
        const client = yield* CalClient.CalClient
        const exits: Array<string> = []
        for (const { call, refusal } of Object.values(calls)) {
          const [words, quoted] =
            refusal === oauth2Refusal
              ? [oauth2, ScriptedCal.oauth2Error(401, "invalid_client", oauth2)]
              : [platform, ScriptedCal.platformError(401, `${invalidSecret} ${platform}`)]
          // Both are refused, and then the other one is taken and something else is wrong.
          yield* reply(quoted, quoted, quoted, ScriptedCal.platformError(401, `no ${words}`))
          for (let n = 0; n < 2; n++) {
            exits.push(exitRenderings(yield* Effect.exit(Effect.tapErrorCause(call(client), Effect.logError))))
          }
        }
        return exits.join("\n")
      }).pipe(Effect.provide(Layer.provideMerge(layer(), recorder.layer)))
      const written = yield* recorder.text
      assert.include(written, "Cal.com refuses the first of the client's two secrets")
      assert.include(text, invalidSecret)
      assertClean(`${text}\n${written}`, Object.values(secrets))
    })
  )
})

describe("the fingerprint of a client", () => {
  const fingerprint = (changes: Partial<CalClient.Options>, clientId = "C") =>
    Effect.map(CalClient.CalClient, (client) => client.fingerprint(clientId)).pipe(Effect.provide(layer(changes)))
  const of = (clientSecret: CalClient.ClientSecret) => fingerprint({ managed: { clientId: "C", clientSecret } })

  it.effect("is of the set of secrets, whatever their order", () =>
    Effect.gen(function* () {
      const [a, b] = two("a", "b")
      assert.strictEqual(yield* of([a, b]), yield* of([b, a]))
      assert.strictEqual(yield* of(a), yield* of([a]))
      assert.strictEqual(yield* of(a), yield* of([a, a]))
      const all = [yield* of(a), yield* of(b), yield* of([a, b]), yield* fingerprint({}, "unknown")]
      assert.strictEqual(new Set(all).size, all.length)
      const oauth2 = { clientId: "K" }
      const ofAccount = (clientSecret: CalClient.ClientSecret) =>
        fingerprint({ oauth2: { ...oauth2, clientSecret } }, "K")
      assert.strictEqual(yield* ofAccount([a, b]), yield* ofAccount([b, a]))
      assert.notStrictEqual(yield* ofAccount(a), yield* fingerprint({ oauth2 }, "K"))
    })
  )
})
