/**
 * The session of the operator's page, as attackers have it: other sites that make a browser ask, cookies that are made up,
 * altered, stolen, or outlive their key. What a session opens at each endpoint, `endpoints.test.ts` tells.
 */
import { createHmac, randomBytes, randomInt } from "node:crypto"
import { HttpServer } from "@effect/platform"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Either, FastCheck, HashMap, Layer, Logger, Option, Redacted, TestClock } from "effect"
import * as ApiKeys from "../../src/ApiKeys.js"
import { type Answer, ask, type Request } from "../support/Browser.js"
import { keys, layer, type Options } from "../support/HttpWorld.js"
import { keyOf, layerKeys } from "../support/Keys.js"
import * as Secrets from "../support/Secrets.js"
import * as Witness from "../support/Witness.js"
import * as World from "../support/World.js"

const host = "tokens.example.com:4000"
const own = {
  host,
  origin: `http://${host}`,
  "x-cal-tokens-page": "1",
  "sec-fetch-site": "same-origin"
}

const send = (request: Request) =>
  Effect.flatMap(HttpServer.HttpServer, ({ address }) =>
    Effect.promise(() =>
      ask(address._tag === "TcpAddress" ? address.port : 0, { ...request, headers: { ...own, ...request.headers } })
    )
  )

const enter = (key: string = keys.manage, more: Partial<Request> = {}) =>
  send({
    method: "POST",
    path: "/page/session",
    body: JSON.stringify({ key }),
    ...more,
    headers: { "content-type": "application/json", ...more.headers }
  })

/** What a browser sends of a cookie that was set. */
const pairOf = ({ cookies: [cookie = ""] }: Pick<Answer, "cookies">) => cookie.split(";", 1)[0] ?? ""

const cookie = Effect.map(enter(), pairOf)

const look = (cookie: string, headers: Request["headers"] = {}) =>
  send({ path: "/api/cal/connections", headers: { cookie, ...headers } })

const statusOf = (cookie: string, headers?: Request["headers"]) =>
  Effect.map(look(cookie, headers), ({ status }) => status)

const json = ({ body }: Answer) => JSON.parse(body) as Readonly<Record<string, unknown>>

/** Far above what is sent here. */
const patient = { failuresPerAddress: 1_000_000, perAddress: 1_000_000, perKey: 1_000_000 }

describe("whoever signs in", () => {
  it.effect("has a session that tells the key's name and its end, and asks with it until then", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(World.epoch)
      const answer = yield* enter()
      const told = { success: true, name: "manage", expiresAt: "2026-01-16T00:00:00.000Z", demo: false }
      assert.deepStrictEqual([answer.status, json(answer)], [200, told])
      assert.strictEqual(answer.cookies.join(), `${pairOf(answer)}; Max-Age=43200; Path=/; HttpOnly; SameSite=Strict`)
      assert.match(pairOf(answer), /^cal-tokens-page4000=[\w-]+\.[\w-]{43}$/)
      assert.notInclude(answer.body + answer.cookies.join(), keys.manage)
      const session = { path: "/page/session", headers: { cookie: pairOf(answer) } }
      assert.deepStrictEqual(json(yield* send(session)), told)
      yield* TestClock.adjust("11 hours")
      assert.strictEqual(yield* statusOf(pairOf(answer)), 200)
      assert.deepStrictEqual(json(yield* send(session)), told)
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(yield* statusOf(pairOf(answer)), 401)
      const over = yield* send(session)
      assert.deepStrictEqual(
        [over.status, json(over)],
        [401, { success: false, error: "The session of this page is over: sign in again.", code: "Unauthorized" }]
      )
    }).pipe(Effect.provide(layer()))
  )

  it.effect("needs a key that is known, has the scope and is for all users, and says it in JSON", () =>
    Effect.gen(function* () {
      const body = (value: unknown) => ({ body: JSON.stringify(value) })
      for (const [key, more, status, code] of [
        ["x".repeat(40), {}, 401, "Unauthorized"],
        [`${keys.manage}x`, {}, 401, "Unauthorized"],
        [keys.manage.slice(0, -1), {}, 401, "Unauthorized"],
        [`${keys.manage} ${keys.all}`, {}, 401, "Unauthorized"],
        ["", {}, 401, "Unauthorized"],
        [proxyKey, {}, 403, "Forbidden"],
        [limitedKey, {}, 403, "Forbidden"],
        [keys.manage, { headers: { "content-type": undefined } }, 400, "InvalidInput"],
        [keys.manage, { headers: { "content-type": "text/plain" } }, 400, "InvalidInput"],
        [keys.manage, { headers: { "content-type": "application/x-www-form-urlencoded" } }, 400, "InvalidInput"],
        [keys.manage, { body: `key=${keys.manage}` }, 400, "InvalidInput"],
        [keys.manage, body({ key: [keys.manage] }), 400, "InvalidInput"],
        [keys.manage, body([keys.manage]), 400, "InvalidInput"],
        [keys.manage, body({}), 400, "InvalidInput"],
        [keys.manage, body({ key: keys.manage, padding: "x".repeat(1024 * 1024) }), 413, "InvalidInput"]
      ] as const) {
        const answer = yield* enter(key, more)
        assert.deepStrictEqual([answer.status, json(answer)["code"]], [status, code], answer.body)
        assert.deepStrictEqual(answer.cookies, [])
        assert.notInclude(answer.body, key === "" ? keys.manage : key)
      }
    }).pipe(Effect.provide(layer({ apiKeys: () => someKeys })))
  )

  it.effect("never gets further than the key's own end", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(World.epoch)
      const ends = World.epoch + 60_000
      const answer = yield* enter(endingKey)
      assert.strictEqual(json(answer)["expiresAt"], new Date(ends).toISOString())
      assert.include(answer.cookies.join(), "; Max-Age=60;")
      yield* TestClock.adjust(59_999)
      assert.strictEqual(yield* statusOf(pairOf(answer)), 200)
      yield* TestClock.adjust(1)
      assert.strictEqual(yield* statusOf(pairOf(answer)), 401)
      assert.strictEqual((yield* enter(endingKey)).status, 401)
    }).pipe(Effect.provide(layer({ apiKeys: () => someKeys })))
  )

  it.effect("is counted by address while wrong, and by key's name while right", () =>
    Effect.gen(function* () {
      for (const status of [401, 401, 401, 429]) assert.strictEqual((yield* enter("x".repeat(40))).status, status)
      const right = yield* enter()
      assert.strictEqual(right.status, 200)
      // A cookie that was made up is one more.
      assert.strictEqual(yield* statusOf(`${pairOf(right)}x`), 429)
      // One was for signing in.
      for (const status of [200, 200, 200, 429]) assert.strictEqual(yield* statusOf(pairOf(right)), status)
    }).pipe(Effect.provide(layer({ limits: { failuresPerAddress: 3, perKey: 4 } })))
  )

  it.effect("signs out: the cookie goes, and a copy of it opens nothing here", () =>
    Effect.gen(function* () {
      const [one, other] = [yield* cookie, yield* cookie]
      assert.notStrictEqual(one, other)
      const gone = yield* send({ method: "DELETE", path: "/page/session", headers: { cookie: one } })
      assert.deepStrictEqual(
        [gone.status, gone.body, gone.cookies],
        [200, `{"success":true}`, ["cal-tokens-page4000=; Max-Age=0; Path=/; HttpOnly; SameSite=Strict"]]
      )
      assert.deepStrictEqual([yield* statusOf(one), yield* statusOf(other)], [401, 200])
      const again = yield* send({ method: "DELETE", path: "/page/session" })
      assert.strictEqual(again.status, 200)
    }).pipe(Effect.provide(layer()))
  )

  it.effect("gets another session than the one that somebody gave the browser before", () =>
    Effect.gen(function* () {
      const planted = yield* Effect.map(enter(keys.all), pairOf)
      const answer = yield* enter(keys.manage, { headers: { cookie: planted } })
      assert.notStrictEqual(pairOf(answer), planted)
      const nameOf = (cookie: string) =>
        Effect.map(send({ path: "/page/session", headers: { cookie } }), (answer) => json(answer)["name"])
      assert.deepStrictEqual([yield* nameOf(pairOf(answer)), yield* nameOf(planted)], ["manage", "all"])
      const made = "cal-tokens-page4000=chosen"
      assert.notInclude((yield* enter(keys.manage, { headers: { cookie: made } })).cookies.join(), "chosen")
    }).pipe(Effect.provide(layer()))
  )
})

const [proxyKey, limitedKey, endingKey] = ["proxy-0", "limited-1", "ending-2"].map((name) => name.repeat(9)) as [
  string,
  string,
  string
]
const someKeys = Either.getOrThrow(
  ApiKeys.parse(
    JSON.stringify([
      { name: "manage", secret: keys.manage, scopes: ["manage"] },
      { name: "proxy", secret: proxyKey, scopes: ["proxy", "metrics", "read-token"] },
      { name: "limited", secret: limitedKey, scopes: ["manage"], users: [World.user(1)] },
      { name: "ending", secret: endingKey, scopes: ["manage"], expiresAt: new Date(World.epoch + 60_000).toISOString() }
    ])
  )
)

describe("another site", () => {
  /** What a browser sends for a page of somebody else's, and what it does not. */
  const foreign: Readonly<Record<string, readonly [headers: Request["headers"], status: 401 | 403]>> = {
    "without the header, as forms and images ask": [{ "x-cal-tokens-page": undefined }, 401],
    "with another value of it": [{ "x-cal-tokens-page": "true" }, 401],
    "of another site": [{ "sec-fetch-site": "cross-site", origin: "https://evil.example" }, 403],
    "of a sibling": [{ "sec-fetch-site": "same-site", origin: "https://evil.example.com" }, 403],
    "that a person followed a link to": [{ "sec-fetch-site": "none", origin: undefined }, 403],
    "without an origin": [{ "sec-fetch-site": "cross-site", origin: undefined }, 403],
    "in a browser that says the origin alone": [{ "sec-fetch-site": undefined, origin: "https://evil.example" }, 403],
    "on another port": [{ "sec-fetch-site": undefined, origin: "http://tokens.example.com:4001" }, 403],
    "on the host's usual port": [{ "sec-fetch-site": undefined, origin: "http://tokens.example.com" }, 403],
    "in a frame without an origin": [{ "sec-fetch-site": undefined, origin: "null" }, 403],
    "with an origin that is none": [{ "sec-fetch-site": undefined, origin: host }, 403],
    "whose name begins alike": [{ "sec-fetch-site": undefined, origin: `http://${host}.evil.example` }, 403]
  }

  for (const [what, [headers, status]] of Object.entries(foreign)) {
    it.effect(`${what} does nothing with the cookie`, () =>
      Effect.gen(function* () {
        const stolen = yield* cookie
        const sent = { cookie: stolen, ...headers }
        const user = World.user()
        yield* World.connectManaged(user)
        for (const request of [
          { path: "/api/cal/connections" },
          { path: "/api/cal/events" },
          { method: "DELETE", path: `/api/cal/connections/${user}` },
          {
            method: "POST",
            path: "/api/cal/refresh-token",
            body: JSON.stringify({ userUlid: user, forceRefresh: true })
          },
          { method: "POST", path: "/api/cal/ensure-token", body: JSON.stringify({ userUlid: user }) },
          { path: "/page/session" }
        ]) {
          const answer = yield* send({ ...request, headers: sent })
          assert.strictEqual(answer.status, status, request.path)
          assert.isUndefined(answer.headers["access-control-allow-origin"])
        }
        // Neither in nor out.
        const into = yield* enter(keys.manage, { headers: sent })
        assert.deepStrictEqual([into.status, into.cookies], [403, []])
        const out = yield* send({ method: "DELETE", path: "/page/session", headers: sent })
        assert.deepStrictEqual([out.status, out.cookies], [403, []])
        const after = yield* look(stolen)
        assert.strictEqual(after.status, 200)
        assert.include(after.body, user)
      }).pipe(Effect.provide(layer()))
    )
  }

  it.effect("may not ask first, either", () =>
    Effect.gen(function* () {
      for (const path of ["/api/cal/connections", "/api/cal/events", "/page/session"]) {
        const { headers, status } = yield* send({
          method: "OPTIONS",
          path,
          headers: {
            origin: "https://app.example.com",
            "sec-fetch-site": "cross-site",
            "access-control-request-method": "GET",
            "access-control-request-headers": "x-cal-tokens-page"
          }
        })
        assert.strictEqual(status, 405, path)
        assert.isUndefined(headers["access-control-allow-origin"])
        assert.isUndefined(headers["access-control-allow-headers"])
      }
    }).pipe(Effect.provide(layer()))
  )

  it.effect("cannot put any answer of the page into a frame, or read it", () =>
    Effect.gen(function* () {
      for (const answer of [
        yield* send({ path: "/" }),
        yield* send({ path: "/page/session" }),
        yield* enter(),
        yield* enter("x".repeat(40)),
        yield* enter(keys.manage, { body: "{" }),
        yield* send({ method: "DELETE", path: "/page/session" })
      ]) {
        assert.include(answer.headers["content-security-policy"], "frame-ancestors 'none'")
        assert.deepInclude(answer.headers, {
          "x-frame-options": "DENY",
          "cross-origin-resource-policy": "same-origin",
          "cross-origin-opener-policy": "same-origin",
          "x-content-type-options": "nosniff",
          "referrer-policy": "no-referrer"
        })
      }
    }).pipe(Effect.provide(layer()))
  )
})

describe("a browser", () => {
  it.effect("that says less is believed, where the page is its own", () =>
    Effect.gen(function* () {
      const session = yield* cookie
      for (const headers of [
        { "sec-fetch-site": undefined },
        { "sec-fetch-site": undefined, origin: undefined },
        { origin: undefined },
        // What stands in front asks this server by another name, and the browser knows better than that.
        { origin: "https://elsewhere.example" }
      ]) {
        assert.strictEqual(yield* statusOf(session, headers), 200, JSON.stringify(headers))
      }
    }).pipe(Effect.provide(layer()))
  )

  it.effect("that sends a key as well is judged by the key, whatever it is", () =>
    Effect.gen(function* () {
      const session = yield* cookie
      for (const [authorization, status] of [
        [`Bearer ${keys.manage}`, 200],
        [`Bearer ${"x".repeat(40)}`, 401],
        [`Bearer ${proxyKey}`, 403],
        ["Bearer ", 401],
        ["", 401]
      ] as const) {
        assert.strictEqual(yield* statusOf(session, { authorization }), status, authorization)
      }
      const asked = { path: "/page/session", headers: { cookie: session, authorization: `Bearer ${keys.manage}` } }
      assert.strictEqual((yield* send(asked)).status, 401)
    }).pipe(Effect.provide(layer({ apiKeys: () => someKeys })))
  )
})

describe("the cookie", () => {
  const flags = (headers: NonNullable<Request["headers"]>, path = "/page/session") =>
    Effect.map(enter(keys.manage, { path, headers }), ({ cookies: [cookie = ""] }) =>
      cookie.replace(/=[^;]*; Max-Age=43200/, "")
    )
  const plain = "; HttpOnly; SameSite=Strict"
  const secure = "; HttpOnly; Secure; SameSite=Strict"

  it.effect("is for TLS alone where the page came by TLS, as its origin or a trusted proxy says", () =>
    Effect.gen(function* () {
      const https = { host: "tokens.example.com", origin: "https://tokens.example.com" }
      assert.strictEqual(yield* flags(https), `__Host-cal-tokens-page; Path=/${secure}`)
      const proxied = { host: "tokens.example.com", origin: undefined, "x-forwarded-proto": "https" }
      assert.strictEqual(yield* flags(proxied), `__Host-cal-tokens-page; Path=/${secure}`)
      assert.strictEqual(yield* flags({ ...proxied, "x-forwarded-proto": "http" }), `cal-tokens-page; Path=/${plain}`)
      // Who opens it without TLS, through a tunnel, says so.
      assert.strictEqual(yield* flags({ "x-forwarded-proto": "https" }), `cal-tokens-page4000; Path=/${plain}`)
      const session = pairOf(yield* enter(keys.manage, { headers: https }))
      assert.strictEqual(yield* statusOf(session, https), 200)
      // Of two, the one that nobody can plant from a sibling.
      const planted = session.replace("__Host-", "").replace(/=.*/, "=planted")
      assert.strictEqual(yield* statusOf(`${planted}; ${session}`, https), 200)
    }).pipe(Effect.provide(layer({ proxies: ["loopback"] })))
  )

  it.effect("is not made secure by whoever says so", () =>
    Effect.gen(function* () {
      assert.strictEqual(
        yield* flags({ origin: undefined, "x-forwarded-proto": "https", "x-forwarded-host": "evil.example" }),
        `cal-tokens-page4000; Path=/${plain}`
      )
      const origin = { "sec-fetch-site": undefined, origin: "https://evil.example", "x-forwarded-host": "evil.example" }
      assert.strictEqual((yield* enter(keys.manage, { headers: origin })).status, 403)
    }).pipe(Effect.provide(layer({ proxies: [] })))
  )

  it.effect("is for the service's own paths, as the browser sees them", () =>
    Effect.gen(function* () {
      const at = (served: Options["served"], path: string, headers: NonNullable<Request["headers"]> = {}) =>
        Effect.provide(flags(headers, path), layer({ ...(served && { served }), proxies: ["loopback"] }))
      const https = { host: "internal:4000", origin: "https://app.example.com" }
      assert.deepStrictEqual(
        {
          prefix: yield* at({ prefix: "/internal/tokens" }, "/internal/tokens/page/session"),
          parameter: yield* at({ prefix: "/:tenant" }, "/acme/page/session"),
          odd: yield* at({ prefix: "/:tenant" }, "/acme;domain=example.com/page/session"),
          stripped: yield* at({ publicUrl: "https://app.example.com/tokens" }, "/page/session", https),
          tunnel: yield* at({ publicUrl: "https://app.example.com/tokens" }, "/page/session"),
          silent: yield* at({ publicUrl: "https://app.example.com/tokens" }, "/page/session", {
            ...https,
            host: "app.example.com",
            origin: undefined
          }),
          root: yield* at({ publicUrl: "https://app.example.com" }, "/page/session", https),
          path: yield* at({ prefix: "/a", publicUrl: "/b" }, "/a/page/session")
        },
        {
          prefix: `cal-tokens-page4000; Path=/internal/tokens/${plain}`,
          parameter: `cal-tokens-page4000; Path=/acme/${plain}`,
          odd: `cal-tokens-page4000; Path=/${plain}`,
          stripped: `__Secure-cal-tokens-page4000; Path=/tokens/${secure}`,
          tunnel: `cal-tokens-page4000; Path=/${plain}`,
          silent: `__Secure-cal-tokens-page; Path=/tokens/${secure}`,
          root: `__Host-cal-tokens-page4000; Path=/${secure}`,
          path: `cal-tokens-page4000; Path=/b/${plain}`
        }
      )
    })
  )
})

// ---------------------------------------------------------------------------------------------------------------------
// Cookies that were not made here, or not for now
// ---------------------------------------------------------------------------------------------------------------------

const ring = { keyRing: Layer.orDie(layerKeys(`${keyOf("new", 2)},${keyOf("old", 1)}`)) }

describe("a cookie", () => {
  it.effect(
    "counts in each process of a ring, after a start, and while keys rotate; under another ring it does not",
    () =>
      Effect.gen(function* () {
        const with_ = (keys: string, more: Options = {}) => layer({ keyRing: Layer.orDie(layerKeys(keys)), ...more })
        const [a, b] = [keyOf("a", 1), keyOf("b", 2)]
        const session = yield* Effect.provide(cookie, with_(a))
        for (const [keys, status] of [
          [a, 200],
          [`${a},${b}`, 200],
          [`${b},${a}`, 200],
          [b, 401],
          // Another key of its name.
          [keyOf("a", 3), 401]
        ] as const) {
          assert.strictEqual(yield* Effect.provide(statusOf(session), with_(keys)), status)
        }
      })
  )

  const replaced = (secret: string, more: object = {}) =>
    Either.getOrThrow(ApiKeys.parse(JSON.stringify([{ name: "manage", secret, scopes: ["manage"], ...more }])))

  it.effect("ends with its key: removed, changed, narrowed or over, while the service runs", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(World.epoch)
      const before = replaced(keys.manage)
      let now: ReadonlyArray<ApiKeys.ApiKey> = before
      yield* Effect.gen(function* () {
        const session = yield* cookie
        for (const [what, next] of Object.entries({
          removed: replaced(keys.all).map((key) => ({ ...key, name: "other" })),
          "of another secret": replaced(keys.all),
          "that has lost the scope": replaced(keys.manage, { scopes: ["proxy"] }),
          "that is for some users now": replaced(keys.manage, { users: [World.user(1)] }),
          over: replaced(keys.manage, { expiresAt: new Date(World.epoch).toISOString() })
        })) {
          now = next
          assert.strictEqual(yield* statusOf(session), 401, what)
          now = before
          assert.strictEqual(yield* statusOf(session), 200)
        }
        // The same key by its hash, or longer-lived, is the same key.
        now = replaced(keys.manage, { scopes: ["manage", "proxy"], expiresAt: "2027-01-01T00:00:00Z" })
        assert.strictEqual(yield* statusOf(session), 200)
      }).pipe(Effect.provide(layer({ apiKeys: () => now })))
    })
  )

  it.effect("of a name that two have is that of the one who signed in", () =>
    Effect.gen(function* () {
      const [first, second] = [replaced(keys.all), replaced(keys.manage)]
      let now: ReadonlyArray<ApiKeys.ApiKey> = [...first, ...second]
      yield* Effect.gen(function* () {
        const session = yield* cookie
        assert.strictEqual(yield* statusOf(session), 200)
        now = first
        assert.strictEqual(yield* statusOf(session), 401)
        now = second
        assert.strictEqual(yield* statusOf(session), 200)
      }).pipe(Effect.provide(layer({ apiKeys: () => now })))
    })
  )

  it.effect("that was altered, or that somebody made up, opens nothing", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(World.epoch)
      const [name = "", value = ""] = (yield* cookie).split("=", 2)
      const [text = "", code = ""] = value.split(".")
      const claims = JSON.parse(Buffer.from(text, "base64url").toString()) as ReadonlyArray<unknown>
      const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url")
      const [id, , expiresAt] = claims
      const made = [
        "",
        ".",
        value.slice(0, -1),
        `${value}A`,
        `${value}.`,
        text,
        `${text}.`,
        `.${code}`,
        `${code}.${text}`,
        `${encode([id, "all", expiresAt])}.${code}`,
        `${encode([id, "manage", Number(expiresAt) + 1])}.${code}`,
        `${encode([id, "manage", `${String(expiresAt)}`])}.${code}`,
        `${encode([id, "manage", 8.64e15])}.${code}`,
        `${encode([...claims, "manage"])}.${code}`,
        `${encode({ ...claims })}.${code}`,
        `${Buffer.from(` ${JSON.stringify(claims)}`).toString("base64url")}.${code}`,
        // Under no key, under the claims themselves, and under a key of the ring as it is written.
        ...["", text, keyOf("old", 1), keyOf("old", 1).split(":")[1] ?? ""].map(
          (key) => `${text}.${createHmac("sha256", key).update(JSON.stringify(claims)).digest("base64url")}`
        ),
        `${encode("x".repeat(6000))}.${code}`
      ]
      for (const cookie of made) assert.strictEqual(yield* statusOf(`${name}=${cookie}`), 401, cookie)
      // Under another's name.
      for (const other of ["cal-tokens-page", "cal-tokens-page4001", "Cal-tokens-page4000", `x${name}`]) {
        assert.strictEqual(yield* statusOf(`${other}=${value}`), 401, other)
      }

      for (const seed of [20260115, randomInt(2 ** 31)]) {
        const bytes = FastCheck.sample(
          FastCheck.tuple(FastCheck.nat(value.length - 1), FastCheck.constantFrom(...'AQgw-_09.=%;, "')),
          { seed, numRuns: 250 }
        )
        for (const [at, character] of bytes) {
          const altered = value.slice(0, at) + character + value.slice(at + 1)
          if (altered === value) continue
          assert.strictEqual(yield* statusOf(`${name}=${altered}`), 401, `${seed}: ${at} ${character}`)
        }
      }
      assert.strictEqual(yield* statusOf(`${name}=${value}`), 200)
    }).pipe(Effect.provide(layer({ ...ring, limits: patient })))
  )
})

// ---------------------------------------------------------------------------------------------------------------------
// What is told of it
// ---------------------------------------------------------------------------------------------------------------------

describe("a session", () => {
  it.effect("acts by its key's name in the trail, and what it may not do is told there", () => {
    const lines: Array<Readonly<Record<string, unknown>>> = []
    const logger = Logger.make(({ annotations }) => {
      if (Option.contains(HashMap.get(annotations, "logger"), "cal_tokens.audit")) {
        lines.push(Object.fromEntries(HashMap.entries(annotations)))
      }
    })
    const user = World.user()
    return Effect.gen(function* () {
      yield* World.connectManaged(user)
      const session = yield* cookie
      const asked = { headers: { cookie: session } }
      yield* send({ ...asked, method: "DELETE", path: `/api/cal/connections/${user}` })
      yield* send({ ...asked, path: `/api/cal/access-token/${user}` })
      yield* enter("x".repeat(40))
      yield* enter(limitedKey)
      assert.deepStrictEqual(
        lines.map((line) => [line["event.name"], line["api_key.name"], line["http.route"], line["user.id"]]),
        [
          ["page.opened", "manage", undefined, undefined],
          ["connection.deleted", "manage", undefined, user],
          ["key.forbidden", "manage", "/api/cal/access-token/:userUlid", undefined],
          ["key.unknown", undefined, "/page/session", undefined],
          ["key.forbidden", "limited", "/page/session", undefined]
        ]
      )
      assert.deepStrictEqual([...new Set(lines.map((line) => line["client.address"]))], ["127.0.0.1"])
    }).pipe(Effect.provide(layer({ logger, apiKeys: () => someKeys })))
  })

  it.effect("is in no log line and no span, and neither is a key that was typed", () =>
    Effect.gen(function* () {
      const witness = Witness.make()
      const typed = randomBytes(24).toString("base64url")
      for (const [name, secret] of Object.entries({ typed, key: keys.manage })) witness.secrets.add(name, secret)
      yield* Effect.gen(function* () {
        const session = yield* cookie
        for (const part of session.split(/[=.]/).slice(1)) witness.secrets.add("session", part)
        yield* enter(typed)
        yield* enter(typed, { headers: { "content-type": "text/plain" } })
        yield* enter(keys.manage, { body: `{"key":"${typed}` })
        yield* look(session)
        yield* look(session, { origin: undefined, "sec-fetch-site": "cross-site" })
        yield* look(`${session}x`)
        yield* send({ path: `/api/cal/access-token/${World.user()}`, headers: { cookie: session } })
        yield* send({ method: "DELETE", path: "/page/session", headers: { cookie: session } })
      }).pipe(Effect.provide(layer({ logger: Logger.none })), Effect.provide(witness.layer))
      yield* witness.assertClean
      assert.deepStrictEqual([...new Set(witness.secrets.names())], ["typed", "key", "session"])
      assert.isAbove(witness.seen().get("log.json") ?? 0, 5)
    })
  )

  it.effect("is given no token, whatever it asks", () =>
    Effect.gen(function* () {
      const user = World.user()
      const { accessToken, refreshToken } = yield* World.obtainManaged(user)
      const secrets = Secrets.make()
      secrets.add("access token", Redacted.value(accessToken))
      secrets.add("refresh token", Redacted.value(refreshToken))
      const headers = { cookie: yield* cookie, origin: undefined }
      const body = JSON.stringify({ userUlid: user })
      for (const [request, status] of [
        [{ path: `/api/cal/access-token/${user}` }, 403],
        [{ path: `/api/cal/proxy/${user}/me` }, 403],
        [{ method: "POST", path: `/api/cal/proxy/${user}/bookings`, body: "{}" }, 403],
        [{ path: "/api/cal/me/me" }, 401],
        [{ path: "/metrics" }, 403],
        [{ method: "POST", path: "/api/cal/sessions", body }, 403],
        [{ path: "/api/cal/atoms/refresh" }, 401],
        [{ path: "/health/ready" }, 200],
        [{ path: `/api/cal/connections/${user}` }, 200],
        [{ path: "/api/cal/connections" }, 200],
        [{ path: `/api/cal/history/${user}` }, 200],
        [{ method: "POST", path: "/api/cal/ensure-token", body }, 200],
        [{ method: "POST", path: "/api/cal/refresh-token", body }, 200],
        [{ path: "/page/session" }, 200]
      ] as const) {
        const answer = yield* send({ ...request, headers })
        assert.strictEqual(answer.status, status, `${request.path} ${answer.body}`)
        assert.deepStrictEqual(secrets.find(answer.body + JSON.stringify(answer.headers)), [], request.path)
        assert.notInclude(answer.body, "missingKeys")
      }
    }).pipe(Effect.provide(layer()))
  )
})

// ---------------------------------------------------------------------------------------------------------------------
// The demo
// ---------------------------------------------------------------------------------------------------------------------

describe("the demo's page", () => {
  const demo = { sandbox: "_sandbox", key: Option.some(Redacted.make<string>(keys.all)) }
  const open = (headers: Request["headers"]) =>
    send({ path: "/", headers: { origin: undefined, "x-cal-tokens-page": undefined, ...headers } })

  it.effect("opens for whoever is at this machine, once", () =>
    Effect.gen(function* () {
      for (const host of ["127.0.0.1:4000", "localhost:4000", "LOCALHOST", "[::1]:4000", "127.8.9.1:1"]) {
        const answer = yield* open({ host, "sec-fetch-site": "none" })
        assert.strictEqual(answer.status, 200)
        const session = pairOf(answer)
        assert.match(session, /^cal-tokens-page\d*=/, host)
        const again = yield* open({ host, cookie: session })
        assert.deepStrictEqual(again.cookies, [], host)
        const told = yield* send({ path: "/page/session", headers: { host, cookie: session } })
        assert.deepInclude(json(told), { success: true, name: "all", demo: true, sandbox: "_sandbox" })
        // Whatever else the key opens.
        const token = yield* send({ path: `/api/cal/access-token/${World.user()}`, headers: { host, cookie: session } })
        assert.strictEqual(token.status, 403)
        const known = { host, "if-none-match": answer.headers["etag"] }
        assert.isNotEmpty((yield* open(known)).cookies)
      }
    }).pipe(Effect.provide(layer({ demo })))
  )

  it.effect("opens for no other name that leads here", () =>
    Effect.gen(function* () {
      for (const host of [
        "evil.example:4000",
        "127.0.0.1.evil.example:4000",
        "localhost.evil.example",
        "127.0.0.1:4000.evil.example",
        "x127.0.0.1",
        "[::2]"
      ]) {
        const answer = yield* open({ host })
        assert.deepStrictEqual([answer.status, answer.cookies], [200, []], host)
      }
    }).pipe(Effect.provide(layer({ demo })))
  )

  it.effect("that others reach asks them for the key, and a service that is no demo asks everybody", () =>
    Effect.gen(function* () {
      const others = layer({ demo: { ...demo, key: Option.none() } })
      const host = { host: "127.0.0.1:4000" }
      assert.deepStrictEqual((yield* Effect.provide(open(host), others)).cookies, [])
      assert.deepInclude(json(yield* Effect.provide(enter(keys.all), others)), { demo: true, sandbox: "_sandbox" })
      assert.deepStrictEqual((yield* Effect.provide(open(host), layer())).cookies, [])
      // Its key may be gone.
      const without = layer({ demo, apiKeys: () => someKeys })
      assert.deepStrictEqual((yield* Effect.provide(open(host), without)).cookies, [])
    })
  )
})
