/** `/_control`: everything that a test in Effect may do, over HTTP. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Redacted, Ref, TestClock } from "effect"
import { Sandbox } from "../../src/Sandbox.js"
import { C, clientHeaders, K, layer, oauth2Refresh, refresh, send } from "../support/SandboxWorld.js"

const post = (path: string, json?: unknown) => send("POST", `/_control/${path}`, json === undefined ? {} : { json })

/** A refusal says why. */
const refused = (path: string, json: unknown) =>
  Effect.map(post(path, json), (answer) => [answer.status, answer.at("message")])

const patch = (json: unknown) => send("PATCH", "/_control/switches", { json })

describe("grants over _control", () => {
  it.effect("are alive, of either kind, and of whoever is named", () =>
    Effect.gen(function* () {
      const sandbox = yield* Sandbox
      const managed = yield* post("grants", { email: "ada@example.com", name: "Ada" })
      const calUserId = Number(managed.at("calUserId"))
      assert.deepInclude(managed.body, {
        kind: "managed",
        clientId: C,
        calUserId,
        eventTypeId: calUserId * 10 + 1
      })
      assert.isTrue(yield* sandbox.isLive(String(managed.at("refreshToken"))))
      const me = yield* send("GET", "/v2/me", { token: String(managed.at("accessToken")) })
      assert.strictEqual(me.at("data.name"), "Ada")

      // Of the same person, by address and by id; a managed user's earlier tokens end.
      for (const json of [{ email: "ada@example.com" }, { calUserId }]) {
        assert.strictEqual((yield* post("grants", json)).at("calUserId"), calUserId)
      }
      assert.isFalse(yield* sandbox.isLive(String(managed.at("refreshToken"))))

      const oauth2 = yield* post("grants", { kind: "oauth2", email: "cem@example.com", scope: "READ_BOOKING" })
      assert.deepInclude(oauth2.body, { kind: "oauth2", clientId: K, scope: "READ_BOOKING" })
      assert.strictEqual((yield* oauth2Refresh(String(oauth2.at("refreshToken")))).status, 200)
      assert.strictEqual(Number(oauth2.at("accessTokenExpiresAt")), (yield* sandbox.now) + 30 * 60_000)
      // Nothing said is somebody new.
      assert.notInclude([calUserId, oauth2.at("calUserId")], (yield* post("grants")).at("calUserId"))
      assert.strictEqual((yield* post("grants", { clientId: "other" })).at("clientId"), "other")
    }).pipe(Effect.provide(layer()))
  )

  it.effect("come as codes, too", () =>
    Effect.gen(function* () {
      const { body } = yield* post("authorization-codes", { email: "cem@example.com" })
      const exchanged = yield* send("POST", "/v2/auth/oauth2/token", {
        json: {
          client_id: K,
          client_secret: "test-secret-123",
          grant_type: "authorization_code",
          code: (body as { readonly code: string }).code,
          redirect_uri: "https://example.com/callback"
        }
      })
      assert.strictEqual(exchanged.status, 200)
    }).pipe(Effect.provide(layer()))
  )

  it.effect("are refused with a reason, and then nobody is made", () =>
    Effect.gen(function* () {
      const sandbox = yield* Sandbox
      const { calUserId } = yield* sandbox.grantOAuth2({ email: "cem@example.com" })
      const before = (yield* sandbox.snapshot).users.length
      assert.deepStrictEqual(yield* refused("grants", { kind: "x" }), [400, "kind must be one of managed, oauth2"])
      assert.deepStrictEqual(yield* refused("grants", { email: "x" }), [400, "email must be an email address"])
      assert.deepStrictEqual(yield* refused("grants", { mail: "x@example.com" }), [400, "mail is not known here"])
      assert.deepStrictEqual(yield* refused("grants", [1]), [400, "The body must be an object"])
      assert.deepStrictEqual(yield* refused("grants", { clientId: "nobody" }), [
        400,
        "clientId must be one of C, other"
      ])
      assert.deepStrictEqual(yield* refused("grants", { scope: "READ_BOOKING" }), [400, "scope is for kind oauth2"])
      assert.deepStrictEqual(yield* refused("grants", { calUserId }), [400, "calUserId is that of an OAuth2 user"])
      assert.strictEqual((yield* refused("grants", { calUserId: 4711 }))[0], 404)
      assert.strictEqual((yield* refused("authorization-codes", { calUserId: 4711 }))[0], 404)
      const broken = yield* send("POST", "/_control/grants", { raw: "{" })
      assert.deepStrictEqual([broken.status, broken.at("message")], [400, "The body is no JSON"])
      assert.lengthOf((yield* sandbox.snapshot).users, before)
    }).pipe(Effect.provide(layer()))
  )
})

describe("users over _control", () => {
  it.effect("lose their access, their refresh tokens or themselves, by id or by address", () =>
    Effect.gen(function* () {
      const sandbox = yield* Sandbox
      const { accessToken, calUserId, refreshToken } = yield* sandbox.grantManaged({ email: "ada@example.com" })
      assert.deepStrictEqual((yield* post("users/ada@example.com/expire")).body, { status: "success", calUserId })
      assert.strictEqual((yield* send("GET", "/v2/me", { token: accessToken })).status, 498)
      assert.strictEqual((yield* post(`users/${calUserId}/revoke`)).status, 200)
      assert.isFalse(yield* sandbox.isLive(refreshToken))
      assert.strictEqual((yield* refresh(refreshToken)).status, 400)
      assert.strictEqual((yield* send("DELETE", `/_control/users/${calUserId}`)).status, 200)
      const force = yield* send("POST", `/v2/oauth-clients/${C}/users/${calUserId}/force-refresh`, {
        headers: clientHeaders
      })
      assert.strictEqual(force.status, 404)
      const cem = yield* sandbox.grantOAuth2({ email: "cem@example.com" })
      assert.strictEqual((yield* post("users/cem@example.com/revoke")).at("calUserId"), cem.calUserId)
      assert.isFalse(yield* sandbox.isLive(cem.refreshToken))
      // Whom nobody knows, and the admin, without whom no client works.
      for (const user of [calUserId, "nobody@example.com", 1]) {
        assert.strictEqual((yield* send("DELETE", `/_control/users/${user}`)).status, 404)
      }
    }).pipe(Effect.provide(layer()))
  )
})

describe("faults over _control", () => {
  it.effect("strike as those in code do", () =>
    Effect.gen(function* () {
      const sandbox = yield* Sandbox
      const me = Effect.either(send("GET", "/v2/me"))
      for (const [json, before, tag] of [
        [{ fault: "refuseConnection" }, "ECONNREFUSED", "Left"],
        [{ fault: "dropBefore", kind: "api" }, "ECONNRESET", "Left"],
        [{ fault: "dropAfter", method: "GET", pathPrefix: "/v2/me" }, "ECONNRESET", "Left"],
        [{ fault: "status", status: 503, headers: { "retry-after": "7" } }, "503", "Right"],
        [{ fault: "odd", answer: "garbage", committed: false }, "200", "Right"]
      ] as const) {
        assert.strictEqual((yield* post("faults", json)).status, 200, JSON.stringify(json))
        const answer = yield* me
        assert.strictEqual(answer._tag, tag)
        if (answer._tag === "Left") assert.match(String((answer.left as { cause: unknown }).cause), new RegExp(before))
        else assert.strictEqual(String(answer.right.status), before)
        if (json.fault === "status") {
          assert.strictEqual(answer._tag === "Right" ? answer.right.headers["retry-after"] : "", "7")
        }
      }
      assert.deepStrictEqual(
        (yield* sandbox.calls).map(({ fault }) => fault),
        // The first one never arrived.
        ["DropBefore", "DropAfter", "Status", "garbage"]
      )
      // Used up.
      assert.strictEqual((yield* send("GET", "/v2/me")).status, 401)
    }).pipe(Effect.provide(layer()))
  )

  it.effect("delay, and let two refreshes race", () =>
    Effect.gen(function* () {
      const sandbox = yield* Sandbox
      yield* post("faults", { fault: "delay", before: "5 seconds", after: 5000 })
      const delayed = yield* Effect.fork(send("GET", "/v2/me"))
      yield* TestClock.adjust("9 seconds")
      assert.isTrue((yield* Fiber.poll(delayed))._tag === "None")
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* Fiber.join(delayed)).status, 401)

      const { refreshToken } = yield* sandbox.grantOAuth2()
      yield* post("faults", { fault: "raceBothSucceed", window: "1 second", times: 2 })
      const both = yield* Effect.fork(
        Effect.all([oauth2Refresh(refreshToken), oauth2Refresh(refreshToken)], { concurrency: 2 })
      )
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(
        (yield* Fiber.join(both)).map(({ status }) => status),
        [200, 200]
      )
    }).pipe(Effect.provide(layer()))
  )

  it.effect("are listed as they are written, explained, and forgotten", () =>
    Effect.gen(function* () {
      const written = [
        { fault: "refuseConnection" },
        { fault: "dropBefore", kind: "api" },
        { fault: "dropAfter", kind: "refresh", calUserId: 1000, times: 3 },
        { fault: "delay", after: 5000 },
        { fault: "delay", before: 5000 },
        { fault: "status", status: 429, headers: { "retry-after": "7" }, committed: true, times: "always" },
        { fault: "odd", answer: "cut", at: 7 },
        { fault: "raceBothSucceed", window: 1000 }
      ]
      for (const json of written) assert.strictEqual((yield* post("faults", json)).status, 200, JSON.stringify(json))
      const listed = yield* send("GET", "/_control/faults")
      assert.deepStrictEqual(
        listed.at("queued"),
        written.map(({ times = 1, ...fault }) => ({ ...fault, left: times }))
      )
      const explained = listed.at("faults") as ReadonlyArray<{ readonly fault: string; readonly what: string }>
      assert.sameMembers(
        explained.map(({ fault }) => fault),
        [...new Set(written.map(({ fault }) => fault))]
      )
      for (const { what } of explained) assert.match(what, /^[A-Z].*\.$/)
      assert.deepStrictEqual((yield* send("DELETE", "/_control/faults")).at("queued"), [])
    }).pipe(Effect.provide(layer()))
  )

  it.effect("end by themselves after the time that they are given", () =>
    Effect.gen(function* () {
      const slots = Effect.map(send("GET", "/v2/slots"), ({ status }) => status)
      const usual = yield* slots
      yield* post("faults", { fault: "status", status: 503, for: "30 seconds" })
      yield* post("faults", { fault: "status", status: 502, for: 60_000, times: 1 })
      yield* post("odd-answers", { answer: "gzip", for: "1 minute" })
      const queued = Effect.map(send("GET", "/_control/faults"), (answer) => answer.at("queued"))
      const gzip = (left: number) => ({ fault: "odd", answer: "gzip", left: "always", for: left })
      assert.deepStrictEqual(yield* queued, [
        { fault: "status", status: 503, left: "always", for: 30_000 },
        { fault: "status", status: 502, left: 1, for: 60_000 },
        gzip(60_000)
      ])
      for (const wait of ["0 seconds", "15 seconds", "14999 millis"] as const) {
        yield* TestClock.adjust(wait)
        assert.strictEqual(yield* slots, 503, wait)
      }
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual([yield* slots, yield* slots], [502, usual])
      assert.deepStrictEqual(yield* queued, [gzip(30_000)])
      assert.deepStrictEqual((yield* send("GET", "/_control/odd-answers")).at("queued"), [
        { answer: "gzip", left: "always", for: 30_000 }
      ])
      yield* TestClock.adjust("30 seconds")
      assert.deepStrictEqual(yield* queued, [])
    }).pipe(Effect.provide(layer()))
  )

  it.effect("are refused with a reason", () =>
    Effect.gen(function* () {
      for (const [json, reason] of [
        [{}, "fault must be one of refuseConnection, dropBefore, dropAfter, delay, status, odd, raceBothSucceed"],
        [{ fault: "constructor" }, "fault must be one of"],
        [{ fault: "dropAfter", kind: "x" }, "kind must be one of createManaged, "],
        [{ fault: "dropAfter", times: 0 }, 'times must be a whole number from 1, or "always"'],
        [{ fault: "dropAfter", for: "ever" }, 'for must be milliseconds, or a duration such as "5 seconds"'],
        [{ fault: "dropAfter", status: 500 }, "status is not known here"],
        [{ fault: "dropAfter", method: "get" }, "method must be a method such as POST"],
        [{ fault: "dropAfter", pathPrefix: "bookings" }, "pathPrefix must be the beginning of a path"],
        [{ fault: "dropAfter", before: "soon" }, 'before must be milliseconds, or a duration such as "5 seconds"'],
        [{ fault: "dropAfter", calUserId: "7" }, "calUserId must be a whole number"],
        [{ fault: "delay" }, "before or after is required"],
        [{ fault: "status" }, "status is required"],
        [{ fault: "status", status: 700 }, "status must be a status from 200 to 599"],
        [{ fault: "status", status: 500, headers: { "a b": "c" } }, "headers"],
        [{ fault: "status", status: 500, headers: { a: "b\n" } }, "headers"],
        [{ fault: "odd", answer: "x" }, "answer must be one of"],
        [{ fault: "odd", answer: "flat", kind: "oauth2Refresh" }, "The sandbox can answer flat to"],
        [{ fault: "raceBothSucceed" }, "window is required"],
        [7, "The body must be an object"]
      ] as const) {
        const [status, message] = yield* refused("faults", json)
        assert.strictEqual(status, 400, JSON.stringify(json))
        assert.include(String(message), reason)
      }
      assert.deepStrictEqual((yield* send("GET", "/_control/faults")).at("queued"), [])
    }).pipe(Effect.provide(layer()))
  )
})

describe("switches over _control", () => {
  it.effect("are turned one by one, and all back", () =>
    Effect.gen(function* () {
      const sandbox = yield* Sandbox
      const initial = yield* Ref.get(sandbox.switches)
      const turned: Record<string, unknown> = {
        line: "D",
        clockSkewMillis: -60_000,
        expiredRefreshTokenAccepted: true,
        raceWindow: 2000,
        managedRaceLoser: "invalid",
        oauth2RaceLoser: "revoked",
        deadTokenOnGuardedRoutes: "unauthorized",
        replicaLag: 100,
        refreshReplicaLag: 200,
        managedSecretRejected: true,
        oauth2SecretRejected: true,
        oauth2ClientStatus: "PENDING"
      }
      for (const [name, value] of Object.entries(turned)) {
        assert.strictEqual((yield* patch({ [name]: value })).at(`switches.${name}`), value, name)
      }
      yield* patch({ revokedSecrets: ["secret"], rateLimits: { ip: 3, window: "10 seconds" } })
      const now = yield* Ref.get(sandbox.switches)
      assert.deepStrictEqual(now.revokedSecrets.map(Redacted.value), ["secret"])
      assert.deepStrictEqual(now.rateLimits, { ...initial.rateLimits, ip: 3, window: 10_000 })
      // All that there is can be turned.
      assert.sameMembers(Object.keys(initial), [...Object.keys(turned), "revokedSecrets", "rateLimits"])
      const shown = yield* send("GET", "/_control/switches")
      assert.notInclude(shown.text, '"secret"')
      yield* send("DELETE", "/_control/switches")
      assert.deepStrictEqual(yield* Ref.get(sandbox.switches), initial)
    }).pipe(Effect.provide(layer()))
  )

  it.effect("change how Cal.com answers", () =>
    Effect.gen(function* () {
      const { refreshToken } = yield* Effect.flatMap(Sandbox, (sandbox) => sandbox.grantManaged())
      yield* patch({ managedSecretRejected: true })
      assert.strictEqual((yield* refresh(refreshToken)).status, 401)
      yield* patch({ managedSecretRejected: false })
      assert.strictEqual((yield* refresh(refreshToken)).status, 200)
    }).pipe(Effect.provide(layer()))
  )

  it.effect("are refused with a reason, and then nothing is turned", () =>
    Effect.gen(function* () {
      const sandbox = yield* Sandbox
      const before = yield* Ref.get(sandbox.switches)
      for (const [json, reason] of [
        [{ line: "X" }, "line must be one of L, D"],
        [{ line: "D", lines: 1 }, "lines is not known here"],
        [{ raceWindow: "x" }, "raceWindow must be milliseconds"],
        [{ managedSecretRejected: 1 }, "managedSecretRejected must be true or false"],
        [{ revokedSecrets: "x" }, "revokedSecrets must be a list of secrets"],
        [{ rateLimits: { ip: -1 } }, "rateLimits.ip must be a whole number from 0"],
        [{ rateLimits: 7 }, "rateLimits must be an object"]
      ] as const) {
        const answer = yield* patch(json)
        assert.strictEqual(answer.status, 400)
        assert.include(String(answer.at("message")), reason)
      }
      assert.strictEqual(yield* Ref.get(sandbox.switches), before)
    }).pipe(Effect.provide(layer()))
  )
})

describe("calls over _control", () => {
  it.effect("are listed, selected and forgotten, without tokens", () =>
    Effect.gen(function* () {
      const sandbox = yield* Sandbox
      const { calUserId, refreshToken } = yield* sandbox.grantManaged()
      yield* refresh(refreshToken)
      yield* send("GET", "/v2/me")
      const all = yield* send("GET", "/_control/calls")
      assert.deepStrictEqual(all.at("calls"), JSON.parse(JSON.stringify(yield* sandbox.calls)))
      assert.notInclude(all.text, Redacted.value(refreshToken).slice(-20))
      const kinds = (query: string) =>
        Effect.map(send("GET", `/_control/calls${query}`), (answer) =>
          (answer.at("calls") as ReadonlyArray<{ readonly kind: string }>).map(({ kind }) => kind)
        )
      assert.deepStrictEqual(yield* kinds("?kind=refresh"), ["refresh"])
      assert.deepStrictEqual(yield* kinds(`?calUserId=${calUserId}`), ["refresh"])
      assert.deepStrictEqual(yield* kinds(""), ["refresh", "api"])
      const refusedQuery = yield* send("GET", "/_control/calls?kind=x")
      assert.include(String(refusedQuery.at("message")), "kind must be one of")
      yield* send("DELETE", "/_control/calls")
      assert.deepStrictEqual(yield* kinds(""), [])
      assert.strictEqual(yield* sandbox.count("refresh"), 0)
    }).pipe(Effect.provide(layer()))
  )
})

describe("what there is", () => {
  it.effect("is told to whoever asks, and to whoever guesses wrong", () =>
    Effect.gen(function* () {
      const { at } = yield* send("GET", "/_control")
      const endpoints = at("endpoints") as Readonly<Record<string, string>>
      assert.isAbove(Object.keys(endpoints).length, 15)
      for (const what of Object.values(endpoints)) assert.match(what, /^[A-Z].*[.}]$/)
      const wrong = yield* send("POST", "/_control/fault")
      assert.strictEqual(wrong.status, 404)
      for (const endpoint of Object.keys(endpoints)) assert.include(String(wrong.at("message")), endpoint)
    }).pipe(Effect.provide(layer()))
  )

  it.effect("tells the event type of each user, which can be booked", () =>
    Effect.gen(function* () {
      const { eventTypeId } = yield* Effect.flatMap(Sandbox, (sandbox) => sandbox.grantManaged())
      const state = yield* send("GET", "/_control/state")
      assert.deepStrictEqual(state.at("users.0.eventTypes"), [{ id: eventTypeId, slug: "30min" }])
      const booked = yield* send("POST", "/v2/bookings", {
        headers: { "cal-api-version": "2024-08-13" },
        json: {
          start: "2030-01-15T10:00:00Z",
          eventTypeId,
          attendee: { name: "Eve", email: "eve@example.com", timeZone: "Europe/London" }
        }
      })
      assert.strictEqual(booked.status, 201)
    }).pipe(Effect.provide(layer()))
  )
})

describe("a browser at _control", () => {
  const local = { origin: "https://api.cal.com" }

  it.effect("is heard from this very origin, and from where there is none", () =>
    Effect.gen(function* () {
      for (const headers of [
        { ...local, "sec-fetch-site": "same-origin" },
        { "sec-fetch-site": "same-origin" },
        { "sec-fetch-site": "none" },
        local,
        {}
      ]) {
        assert.strictEqual((yield* send("DELETE", "/_control/calls", { headers })).status, 200)
      }
    }).pipe(Effect.provide(layer()))
  )

  it.effect("does nothing for a page of somebody else's", () =>
    Effect.gen(function* () {
      const sandbox = yield* Sandbox
      const { calUserId, refreshToken } = yield* sandbox.grantManaged({ email: "ada@example.com" })
      for (const headers of [
        { ...local, "sec-fetch-site": "cross-site" },
        { ...local, "sec-fetch-site": "same-site" },
        { "sec-fetch-site": "cross-site" },
        { origin: "https://evil.example" },
        { origin: "https://api.cal.com:4001" },
        { origin: "https://api.cal.com.evil.example" },
        { origin: "api.cal.com" },
        { origin: "null" }
      ]) {
        for (const [method, path] of [
          ["POST", `/_control/users/${calUserId}/revoke`],
          ["DELETE", `/_control/users/${calUserId}`],
          ["POST", "/_control/grants"],
          ["GET", "/_control/state"]
        ] as const) {
          const { at, headers: answered, status } = yield* send(method, path, { headers })
          const message = "Pages of other origins may not tell this sandbox anything"
          assert.deepStrictEqual([status, at("message")], [403, message], path)
          assert.isUndefined(answered["access-control-allow-origin"])
        }
      }
      assert.isTrue(yield* sandbox.isLive(refreshToken))
    }).pipe(Effect.provide(layer()))
  )
})
