/** What Cal Atoms get for the token they hold, and what nobody gets. */
import { createHmac } from "node:crypto"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Fiber, HashMap, Logger, Redacted, TestClock, Struct } from "effect"
import * as CalTokens from "../../src/CalTokens.js"
import { Lifecycle } from "../../src/Http/Lifecycle.js"
import * as Sandbox from "../../src/Sandbox.js"
import { call, layer, origin } from "../support/HttpWorld.js"
import * as StorageTap from "../support/StorageTap.js"
import * as World from "../support/World.js"

const path = "/api/cal/atoms/refresh"

/** As Atoms ask; `from` is the page's origin. */
const ask = (token: Redacted.Redacted | string | undefined, from: string | undefined = origin) =>
  call({
    path,
    headers: {
      "content-type": "application/json",
      ...(token === undefined
        ? {}
        : { authorization: `Bearer ${typeof token === "string" ? token : Redacted.value(token)}` }),
      ...(from === "" ? {} : { origin: from })
    }
  })

const refreshes = Effect.flatMap(Sandbox.Sandbox, (sandbox) => sandbox.count("refresh"))
const upstream = Effect.map(
  Effect.flatMap(Sandbox.Sandbox, (sandbox) => sandbox.calls),
  (calls) => calls.length
)

const stored = Effect.map(World.stored(), ({ pair }) => Redacted.value(pair.accessToken))

const unknown = {
  accessToken: "",
  success: false,
  error: "This access token is unknown here, or too old: load the page again to get another one.",
  code: "Unauthorized"
}

/** Makes the present token a superseded one. */
const rotate = Effect.gen(function* () {
  const tokens = yield* CalTokens.CalTokens
  yield* TestClock.adjust("31 seconds")
  yield* tokens.refresh(World.user(), { forceRefresh: true })
})

describe("the present token", () => {
  it.effect("expired, is refreshed; whoever asks with it later gets what is stored", () =>
    Effect.gen(function* () {
      const sandbox = yield* Sandbox.Sandbox
      const { accessToken } = yield* World.obtainManaged()
      yield* TestClock.adjust("61 minutes")
      const first = yield* ask(accessToken)
      assert.deepStrictEqual(first.json, { accessToken: yield* stored })
      assert.strictEqual(first.status, 200)
      assert.isTrue(yield* sandbox.isAccessLive(yield* stored))
      assert.strictEqual(first.headers["cache-control"], "no-store")
      assert.strictEqual(first.headers["access-control-allow-origin"], origin)
      assert.strictEqual(first.headers["vary"], "Origin")
      assert.isUndefined(first.headers["access-control-allow-credentials"])
      assert.deepStrictEqual((yield* ask(accessToken)).json, first.json)
      assert.strictEqual(yield* refreshes, 1)
    }).pipe(Effect.provide(layer()))
  )

  it.effect("is refreshed once, however many tabs ask", () =>
    Effect.gen(function* () {
      const { accessToken } = yield* World.obtainManaged()
      yield* TestClock.adjust("61 minutes")
      const answers = yield* Effect.all(
        Array.from({ length: 100 }, () => ask(accessToken)),
        { concurrency: 100 }
      )
      assert.deepStrictEqual([...new Set(answers.map(({ json }) => json["accessToken"]))], [yield* stored])
      assert.strictEqual(yield* refreshes, 1)
    }).pipe(Effect.provide(layer()))
  )

  it.effect(
    "refused by Cal.com before its expiry, is refreshed once in 30 seconds, then the page is told to wait",
    () =>
      Effect.gen(function* () {
        const { accessToken } = yield* World.obtainManaged()
        yield* TestClock.adjust("20 minutes")
        const second = (yield* ask(accessToken)).json["accessToken"] as string
        assert.notStrictEqual(second, Redacted.value(accessToken))
        // So young that Cal.com's replicas may not know it: the same one, a moment later.
        const young = yield* Effect.fork(ask(second))
        while (young.unsafePoll() === null) yield* TestClock.adjust("100 millis")
        assert.deepStrictEqual((yield* Fiber.join(young)).json, { accessToken: second })
        yield* TestClock.adjust("15 seconds")
        const third = yield* ask(second)
        assert.deepInclude(third.json, { accessToken: "", success: false, code: "RefreshCoolingDown" })
        assert.deepStrictEqual([third.status, third.headers["retry-after"]], [429, "30"])
        assert.strictEqual(yield* refreshes, 1)
        yield* TestClock.adjust("16 seconds")
        assert.strictEqual((yield* ask(second)).status, 200)
        assert.strictEqual(yield* refreshes, 2)
      }).pipe(Effect.provide(layer()))
  )

  it.effect("names its user for a day after its expiry, and no longer", () =>
    Effect.gen(function* () {
      const { accessToken, accessTokenExpiresAt } = yield* World.obtainManaged()
      yield* TestClock.setTime(accessTokenExpiresAt + Duration.toMillis("24 hours") + 1)
      const late = yield* ask(accessToken)
      assert.deepStrictEqual([late.status, late.json], [401, unknown])
      assert.strictEqual(yield* upstream, 0)
      yield* TestClock.setTime(accessTokenExpiresAt + Duration.toMillis("24 hours"))
      assert.strictEqual((yield* ask(accessToken)).status, 200)
    }).pipe(Effect.provide(layer({ atomsMaxAge: "48 hours" })))
  )

  it.effect("of a user who has to reconnect says so", () =>
    Effect.gen(function* () {
      const sandbox = yield* Sandbox.Sandbox
      const { accessToken, calUserId } = yield* World.obtainOAuth2()
      yield* sandbox.revokeRefreshTokens(calUserId)
      yield* TestClock.adjust("31 minutes")
      for (const round of [1, 2]) {
        const { json, status } = yield* ask(accessToken)
        assert.strictEqual(status, 409, `${round}`)
        assert.deepInclude(json, { accessToken: "", success: false, code: "ReauthorizationRequired" })
      }
    }).pipe(Effect.provide(layer()))
  )
})

describe("a superseded token", () => {
  it.effect("is good for an hour, costs no refresh, and gets what is stored even if that has expired", () =>
    Effect.gen(function* () {
      const { accessToken } = yield* World.obtainManaged()
      yield* rotate
      const calls = yield* upstream
      yield* TestClock.adjust(Duration.subtract("60 minutes", "1 millis"))
      assert.deepStrictEqual((yield* ask(accessToken)).json, { accessToken: yield* stored })
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual((yield* ask(accessToken)).json, unknown)
      assert.strictEqual(yield* upstream, calls)
    }).pipe(Effect.provide(layer()))
  )

  it.effect("is one of five at most", () =>
    Effect.gen(function* () {
      yield* World.obtainManaged()
      const tokens: Array<string> = []
      for (let n = 0; n < 6; n++) {
        tokens.push(yield* stored)
        yield* rotate
      }
      const calls = yield* upstream
      const statuses = yield* Effect.forEach(tokens, (token) => Effect.map(ask(token), ({ status }) => status))
      assert.deepStrictEqual(statuses, [401, 200, 200, 200, 200, 200])
      assert.strictEqual(yield* upstream, calls)
    }).pipe(Effect.provide(layer()))
  )

  it.effect("dies with the connection, and with the account", () =>
    Effect.gen(function* () {
      const tokens = yield* CalTokens.CalTokens
      const sandbox = yield* Sandbox.Sandbox
      const { accessToken } = yield* World.obtainManaged()
      yield* rotate
      const other = yield* sandbox.grantManaged({ email: "other@example.com" })
      const connection = { _tag: "ManagedUser", calUserId: other.calUserId } as const
      yield* tokens.connectWith(World.user(), Effect.succeed({ connection, pair: other }))
      assert.strictEqual((yield* ask(accessToken)).status, 401)
      yield* TestClock.adjust("20 seconds")
      assert.strictEqual((yield* ask(other.accessToken)).status, 200)
      yield* tokens.disconnect(World.user())
      assert.strictEqual((yield* ask(other.accessToken)).status, 401)
    }).pipe(Effect.provide(layer()))
  )
})

describe("nobody else", () => {
  const jwt = (header: object, claims: object, sign: (text: string) => string) => {
    const text = [header, claims].map((part) => Buffer.from(JSON.stringify(part)).toString("base64url")).join(".")
    return `${text}.${sign(text)}`
  }

  it.effect("gets a token: not for none, a made up, a forged, a refresh or a client's one; nor is Cal.com asked", () =>
    Effect.gen(function* () {
      const grant = yield* World.obtainManaged()
      yield* World.obtainOAuth2(World.user(2))
      const real = Redacted.value(grant.accessToken)
      const [header = "", claims = "", signature = ""] = real.split(".")
      const parsed = JSON.parse(Buffer.from(claims, "base64url").toString()) as object
      const forged = [
        undefined,
        "",
        " ",
        "x",
        "x".repeat(9000),
        "ключ",
        Redacted.value(grant.refreshToken),
        `${real}x`,
        real.slice(0, -1),
        `${header}.${claims}.`,
        `${header}.${claims}`,
        `${claims}.${signature}`,
        real.toUpperCase(),
        jwt({ alg: "none" }, parsed, () => ""),
        jwt({ alg: "HS256" }, parsed, (text) => createHmac("sha256", "secret").update(text).digest("base64url")),
        jwt({ alg: "HS256" }, { ...parsed, ownerId: 1, userId: 1 }, () => signature),
        Redacted.value(Sandbox.demoManaged.clientSecret)
      ]
      const tap = yield* StorageTap.StorageTap
      yield* tap.reset
      for (const token of forged) {
        const { json, status } = yield* ask(token === undefined ? undefined : encodeURI(token))
        assert.deepStrictEqual([status, json], [401, unknown])
      }
      const basic = yield* call({ path, headers: { origin, authorization: `Basic ${real}` } })
      assert.strictEqual(basic.status, 401)
      const query = yield* call({ path: `${path}?access_token=${real}&token=${real}`, headers: { origin } })
      assert.strictEqual(query.status, 401)
      assert.strictEqual(yield* upstream, 0)
    }).pipe(Effect.provide(layer()))
  )

  it.effect("gets another's token", () =>
    Effect.gen(function* () {
      const users = [World.user(1), World.user(2), World.user(3)]
      const grants = yield* Effect.forEach(users, (user) => World.obtainManaged(user))
      yield* TestClock.adjust("61 minutes")
      for (const round of [1, 2]) {
        const answers = yield* Effect.all(
          grants.map(({ accessToken }) => ask(accessToken)),
          { concurrency: 3 }
        )
        for (const [index, user] of users.entries()) {
          const { pair } = yield* World.stored(user)
          assert.deepStrictEqual(answers[index]?.json, { accessToken: Redacted.value(pair.accessToken) }, `${round}`)
        }
      }
      assert.strictEqual(yield* refreshes, 3)
    }).pipe(Effect.provide(layer()))
  )
})

describe("the page's origin", () => {
  it.effect("is one of those that are allowed, letter by letter", () =>
    Effect.gen(function* () {
      const { accessToken } = yield* World.obtainManaged()
      yield* rotate
      const wrong = [
        "https://evil.example",
        "null",
        `${origin}/`,
        `${origin}.evil.example`,
        `${origin}:443`,
        origin.replace("https", "http"),
        origin.toUpperCase(),
        `${origin}, ${origin}`,
        "*"
      ]
      for (const other of wrong) {
        const { headers, json, status } = yield* ask(accessToken, other)
        assert.deepStrictEqual([status, json["code"], json["accessToken"]], [403, "Forbidden", ""], other)
        assert.isUndefined(headers["access-control-allow-origin"])
        assert.strictEqual(headers["vary"], "Origin")
      }
      assert.strictEqual(
        (yield* ask(accessToken, "https://two.example")).headers["access-control-allow-origin"],
        "https://two.example"
      )
    }).pipe(Effect.provide(layer({ origins: [origin, "https://two.example"] })))
  )

  it.effect("is not named by a page of the same origin, nor by programs", () =>
    Effect.gen(function* () {
      const { accessToken } = yield* World.obtainManaged()
      yield* rotate
      const from = (site: string | undefined) =>
        call({
          path,
          headers: {
            authorization: `Bearer ${Redacted.value(accessToken)}`,
            ...(site === undefined ? {} : { "sec-fetch-site": site })
          }
        })
      for (const site of [undefined, "same-origin", "none"]) {
        const { headers, status } = yield* from(site)
        assert.deepStrictEqual([status, headers["access-control-allow-origin"]], [200, undefined])
      }
      for (const site of ["cross-site", "same-site"]) assert.strictEqual((yield* from(site)).status, 403)
    }).pipe(Effect.provide(layer()))
  )

  it.effect("decides about the preflight", () =>
    Effect.gen(function* () {
      const preflight = (from: string | undefined, at = path) =>
        call({
          method: "OPTIONS",
          path: at,
          headers: {
            ...(from === undefined ? {} : { origin: from }),
            "access-control-request-method": "GET",
            "access-control-request-headers": "authorization,content-type"
          }
        })
      const allowed = yield* preflight(origin)
      assert.strictEqual(allowed.status, 204)
      assert.deepInclude(allowed.headers, {
        "access-control-allow-origin": origin,
        "access-control-allow-methods": "GET",
        "access-control-allow-headers": "authorization, content-type",
        "access-control-max-age": "86400",
        vary: "Origin"
      })
      for (const other of ["https://evil.example", "null", undefined]) {
        const { headers, json, status } = yield* preflight(other)
        assert.deepStrictEqual([status, json["accessToken"], headers["vary"]], [403, "", "Origin"])
        assert.isUndefined(headers["access-control-allow-origin"])
        assert.isUndefined(headers["access-control-allow-methods"])
      }
      const elsewhere = yield* preflight(origin, "/api/cal/ensure-token")
      assert.isUndefined(elsewhere.headers["access-control-allow-origin"])
    }).pipe(Effect.provide(layer()))
  )

  it.effect("is nowhere allowed by default: the endpoint is off", () =>
    Effect.gen(function* () {
      const { accessToken } = yield* World.obtainManaged()
      for (const from of [origin, ""]) {
        const { headers, json, status } = yield* ask(accessToken, from)
        assert.deepStrictEqual([status, json["accessToken"], json["code"]], [404, "", "NotFound"])
        assert.isUndefined(headers["access-control-allow-origin"])
      }
      const { headers, status } = yield* call({ method: "OPTIONS", path, headers: { origin } })
      assert.strictEqual(status, 405)
      assert.isUndefined(headers["access-control-allow-origin"])
    }).pipe(Effect.provide(layer({ origins: [] })))
  )
})

describe("every failure", () => {
  it.effect("is JSON that Atoms understand, and that the page may read", () =>
    Effect.gen(function* () {
      const tap = yield* StorageTap.StorageTap
      const sandbox = yield* Sandbox.Sandbox
      const { accessToken } = yield* World.obtainManaged()
      const seen: Array<unknown> = []
      const note = Effect.map(ask(accessToken), ({ headers, json, status }) => {
        assert.deepInclude(json, { accessToken: "", success: false })
        assert.strictEqual(headers["access-control-allow-origin"], origin)
        assert.strictEqual(headers["content-type"], "application/json")
        seen.push([status, json["code"]])
      })
      yield* TestClock.adjust("61 minutes")
      yield* tap.refuse("findByAccessToken")
      yield* note
      yield* tap.around("findByAccessToken", { before: Effect.die(new Error("a fault")) })
      yield* note
      yield* sandbox.inject(Sandbox.Fault.status(429, { kind: "refresh" }))
      yield* note
      const post = yield* call({ method: "POST", path, headers: { origin } })
      assert.deepInclude(post.json, { accessToken: "", code: "MethodNotAllowed" })
      yield* Effect.flatMap(Lifecycle, (lifecycle) => lifecycle.stop)
      yield* note
      assert.deepStrictEqual(seen, [
        [503, "StorageUnavailable"],
        [500, "InternalError"],
        [429, "CalRateLimited"],
        [503, "ShuttingDown"]
      ])
    }).pipe(Effect.provide(layer()))
  )

  const lines: Array<Readonly<Record<string, unknown>>> = []

  it.effect("is logged once, with its operation and, where there is one, its user; no token", () =>
    Effect.gen(function* () {
      const sandbox = yield* Sandbox.Sandbox
      const { accessToken, calUserId } = yield* World.obtainOAuth2()
      yield* sandbox.revokeRefreshTokens(calUserId)
      yield* TestClock.adjust("31 minutes")
      yield* ask(accessToken)
      yield* ask("nobody")
      yield* ask(accessToken, "https://evil.example")
      const operation = "refreshAtoms"
      assert.deepStrictEqual(
        lines.filter((line) => line["operation"] === operation).map((line) => Struct.omit(line, "requestId")),
        [
          { operation, userUlid: World.user(), code: "ReauthorizationRequired", status: 409 },
          { operation, address: "127.0.0.1", code: "Unauthorized", status: 401 },
          {
            operation,
            code: "Forbidden",
            status: 403,
            origin: "https://evil.example",
            expected: "https://app.example.com"
          }
        ]
      )
      assert.notInclude(JSON.stringify(lines), Redacted.value(accessToken))
    }).pipe(
      Effect.provide(
        layer({
          logger: Logger.make(({ annotations, message }) => {
            lines.push(Object.fromEntries(HashMap.entries(annotations)))
            lines.push({ message })
          })
        })
      )
    )
  )

  it.effect("counts: an address has so many requests, and so many unknown tokens", () =>
    Effect.gen(function* () {
      const { accessToken } = yield* World.obtainManaged()
      yield* rotate
      const from = (address: string, token: Redacted.Redacted | string) =>
        call({
          path,
          headers: {
            origin,
            "x-forwarded-for": address,
            authorization: `Bearer ${typeof token === "string" ? token : Redacted.value(token)}`
          }
        })
      const statuses = (address: string, token: Redacted.Redacted | string, times: number) =>
        Effect.map(
          Effect.forEach(Array.from({ length: times }), () => from(address, token)),
          (answers) => answers.map(({ status }) => status).join()
        )
      assert.strictEqual(yield* statuses("203.0.113.1", "nobody", 4), "401,401,401,429")
      // A good token is good from there; other addresses are not concerned.
      assert.strictEqual(yield* statuses("203.0.113.1", accessToken, 6), "200,200,200,200,200,200")
      const over = yield* from("203.0.113.1", accessToken)
      assert.deepInclude(over.json, { accessToken: "", success: false, code: "RateLimited" })
      assert.strictEqual(over.headers["retry-after"], String(over.json["retryAfter"]))
      assert.strictEqual(yield* statuses("2001:db8::1", "nobody", 3), "401,401,401")
      assert.strictEqual(yield* statuses("2001:db8::2:2", "nobody", 1), "429")
      assert.strictEqual(yield* statuses("2001:db8:0:1::2", "nobody", 1), "401")
      // What a client writes itself is behind what the proxy adds.
      assert.strictEqual(yield* statuses("198.51.100.7, 203.0.113.1", accessToken, 1), "429")
      yield* TestClock.adjust("60 seconds")
      assert.strictEqual(yield* statuses("203.0.113.1", accessToken, 1), "200")
    }).pipe(
      Effect.provide(layer({ proxies: ["127.0.0.0/8", "::1"], limits: { atomsPerAddress: 10, failuresPerAddress: 3 } }))
    )
  )

  it.effect("counts for the address of the connection, if no proxy is trusted", () =>
    Effect.gen(function* () {
      const from = (address: string) =>
        Effect.map(
          call({ path, headers: { origin, "x-forwarded-for": address, authorization: "Bearer nobody" } }),
          ({ status }) => status
        )
      assert.deepStrictEqual(
        yield* Effect.forEach(["203.0.113.1", "203.0.113.2", "203.0.113.3"], from),
        [401, 401, 429]
      )
    }).pipe(Effect.provide(layer({ limits: { failuresPerAddress: 2 } })))
  )
})

describe("a program's own session", () => {
  it.effect("is asked before anything is looked up, and may allow its own user only", () =>
    Effect.gen(function* () {
      const { accessToken } = yield* World.obtainManaged()
      yield* rotate
      const tap = yield* StorageTap.StorageTap
      const as = (session: string) =>
        call({
          path,
          headers: { origin, authorization: `Bearer ${Redacted.value(accessToken)}`, "x-session": session }
        })
      yield* tap.reset
      const refused = yield* as("none")
      assert.deepStrictEqual([refused.status, refused.json], [401, unknown])
      assert.strictEqual(tap.count("findByAccessToken"), 0)
      const other = yield* as(World.user(2))
      assert.deepStrictEqual([other.status, other.json], [401, unknown])
      assert.strictEqual((yield* as(World.user())).status, 200)
      assert.strictEqual((yield* as("any")).status, 200)
      const fault = yield* as("fault")
      assert.deepInclude(fault.json, { accessToken: "", code: "InternalError" })
    }).pipe(
      Effect.provide(
        layer({
          session: ({ headers }) => {
            const session = headers["x-session"] ?? ""
            if (session === "fault") return Effect.die(new Error("a fault"))
            if (session === "any") return Effect.succeed(true)
            return Effect.succeed(session === "none" ? false : World.user(session === World.user() ? 1 : 2))
          }
        })
      )
    )
  )
})
