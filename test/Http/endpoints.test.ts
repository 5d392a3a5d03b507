/**
 * Every endpoint of the API value, and the proxy, against every kind of caller and every kind of wrong input. The
 * endpoints are taken from the value: one that is new and not told of here fails.
 */
import * as Http from "node:http"
import { HttpApi, HttpApiClient, HttpClient, HttpClientRequest, HttpServer } from "@effect/platform"
import { assert, describe, it } from "@effect/vitest"
import { DateTime, Effect, Redacted, TestClock } from "effect"
import { Api } from "../../src/Api.js"
import { Scope } from "../../src/ApiKeys/Scope.js"
import type { ConnectionSummary } from "../../src/TokenStorage.js"
import {
  type Answer,
  type Call,
  call,
  calls,
  expiresAt,
  Fake,
  keys,
  layer,
  layerWith,
  limitedKeys,
  scopedKeys,
  userUlid
} from "../support/HttpFakes.js"

/** What a test has to know of an endpoint. */
interface Told {
  /** The scope it asks for; undefined: no API key. */
  readonly scope: Scope | undefined
  /** A key for it, where the one scope is not enough. */
  readonly key?: string
  readonly good: Call
  /** Good ones, too. */
  readonly others?: ReadonlyArray<Call>
  readonly bad: ReadonlyArray<Call>
  /** What a good answer is, where it is no JSON that ends. */
  readonly stream?: string
}

const post = (path: string, body: Readonly<Record<string, unknown>>): Call => ({ path, body: JSON.stringify(body) })

/** Fields of which null says that there is none. */
const optional = ["forceRefresh", "reissue", "timeZone", "timeFormat", "replace", "ttl"]

/** Bodies that nothing takes, and the fields of a good one made wrong one by one. */
const wrongBodies = (path: string, good: Readonly<Record<string, unknown>>, method: Call["method"] = "POST") => [
  ...["", "{", "null", "[]", "1", `"x"`, "[[[[", "\u0000", "{}"].map((body): Call => ({ method, path, body })),
  { method, path, body: JSON.stringify(good), contentType: "text/plain" } as const,
  ...Object.keys(good).flatMap((field) =>
    [{}, [], "\u0000 SECRET", -1.5, ...(optional.includes(field) ? [] : [null])].map((value): Call => ({
      method,
      path,
      body: JSON.stringify({ ...good, [field]: value })
    }))
  )
]

const wrongUsers = (path: string, method: Call["method"], body?: string): ReadonlyArray<Call> =>
  ["SECRET", "8ZZZZZZZZZZZZZZZZZZZZZZZZZ", "%00", "..%2f..", "%F0%9F%98%80", `${userUlid}%20`].map((user) => ({
    method,
    path: path.replace(userUlid, user),
    body
  }))

const pair = {
  kind: "managed",
  calUserId: 42,
  accessToken: "access-secret",
  refreshToken: "refresh-secret",
  accessTokenExpiresAt: expiresAt
}
const person = { userUlid, email: "ada@example.com", name: "Ada", timeZone: "Europe/Paris", timeFormat: 24 }
const connection = `/api/cal/connections/${userUlid}`
const accessToken = `/api/cal/access-token/${userUlid}`

/** `texts`: fields whose wording is judged below the handlers, where this fixture has a fake. */
const operation = (path: string, more: Readonly<Record<string, unknown>>, texts: ReadonlyArray<string> = []): Told => {
  const body = { userUlid, ...more }
  const isText = new RegExp(`"(${texts.join("|")})":"\\\\u0000`)
  const bad = wrongBodies(path, body).filter((request) => texts.length === 0 || !isText.test(request.body ?? ""))
  const others = Object.keys(more).flatMap((field) =>
    optional.includes(field) ? [post(path, { ...body, [field]: null })] : []
  )
  return { scope: "manage", good: post(path, body), others, bad }
}

const told: Readonly<Record<string, Told>> = {
  refreshToken: operation("/api/cal/refresh-token", { forceRefresh: true }),
  refreshManagedUserToken: operation("/api/cal/refresh-managed-user-token", { reissue: true }),
  ensureToken: operation("/api/cal/ensure-token", {}),
  getConnection: {
    scope: "manage",
    good: { method: "GET", path: connection },
    bad: wrongUsers(connection, "GET")
  },
  getHistory: {
    scope: "manage",
    good: { method: "GET", path: `/api/cal/history/${userUlid}` },
    bad: wrongUsers(`/api/cal/history/${userUlid}`, "GET")
  },
  putConnection: {
    scope: "manage",
    good: { method: "PUT", path: connection, body: JSON.stringify(pair) },
    // The core judges tokens and expiries; here it is a fake that takes them.
    bad: [...wrongUsers(connection, "PUT", JSON.stringify(pair)), ...wrongBodies(connection, pair, "PUT")].filter(
      ({ body }) => !/"(access|refresh)Token(ExpiresAt)?":("\\u0000|-1\.5)/.test(body ?? "")
    )
  },
  importConnections: {
    scope: "manage",
    good: {
      method: "PUT",
      path: "/api/cal/connections",
      body: JSON.stringify({ connections: [{ ...pair, userUlid }] })
    },
    others: [
      { method: "PUT", path: "/api/cal/connections", body: JSON.stringify({ connections: ["SECRET", null, {}] }) }
    ],
    bad: [
      ...wrongBodies("/api/cal/connections", { connections: [] }, "PUT").filter(
        ({ body }) => body !== JSON.stringify({ connections: [] })
      ),
      { method: "PUT", path: "/api/cal/connections", body: JSON.stringify({ connections: Array(501).fill("SECRET") }) }
    ]
  },
  deleteConnection: {
    scope: "manage",
    good: { method: "DELETE", path: connection },
    bad: wrongUsers(connection, "DELETE")
  },
  listConnections: {
    scope: "manage",
    good: { method: "GET", path: `/api/cal/connections?status=active&limit=2&cursor=${userUlid}` },
    bad: [
      "status=SECRET",
      "status=",
      "status=active&status=active",
      "limit=0",
      "limit=201",
      "limit=1.5",
      "limit=SECRET",
      "limit=",
      "limit=1&limit=2",
      "limit=-1",
      "limit=Infinity",
      "cursor=SECRET",
      "cursor=",
      "cursor=%00",
      "cursor=a&cursor=b",
      "cursor=%ff",
      "calUserId=SECRET",
      "calUserId=0",
      "calUserId=1.5",
      "order=SECRET",
      "order=since&cursor=SECRET"
    ].map((query) => ({ method: "GET", path: `/api/cal/connections?${query}` }))
  },
  getAccessToken: {
    scope: "read-token",
    good: { method: "GET", path: accessToken },
    bad: wrongUsers(accessToken, "GET")
  },
  createManagedUser: operation("/api/cal/managed-users", person, ["name", "timeZone"]),
  authorizeUrl: operation("/api/cal/oauth/authorize-url", { replace: true }),
  exchangeCode: operation("/api/cal/oauth/exchange", { code: "code", state: "state" }, ["code", "state"]),
  confirmCompletion: operation("/api/cal/oauth/confirm", { completion: "completion" }, ["completion"]),
  // For browsers; test/HttpOAuth.test.ts has its ways.
  oauthCallback: { scope: undefined, good: { method: "GET", path: "/api/cal/oauth/callback?state=x&code=y" }, bad: [] },
  createSession: {
    ...operation("/api/cal/sessions", { ttl: 60, methods: ["GET"], paths: ["/bookings"] }),
    key: keys.all
  },
  deleteSessions: {
    scope: "manage",
    good: { method: "DELETE", path: `/api/cal/sessions/${userUlid}` },
    bad: wrongUsers(`/api/cal/sessions/${userUlid}`, "DELETE")
  },
  // Off in this fixture; test/Atoms.test.ts turns it on.
  refreshAtoms: { scope: undefined, good: { method: "GET", path: "/api/cal/atoms/refresh" }, bad: [] },
  // What it tells has test/HttpEvents.test.ts.
  streamEvents: {
    scope: "manage",
    good: { method: "GET", path: "/api/cal/events" },
    bad: [{ method: "GET", path: "/api/cal/events?lastEventId=SECRET&lastEventId=SECRET" }],
    stream: "text/event-stream"
  },
  // What it tells has test/Http/Overview.test.ts.
  getOverview: { scope: "manage", good: { method: "GET", path: "/api/cal/overview" }, bad: [] },
  getMetrics: { scope: "metrics", good: { method: "GET", path: "/metrics" }, bad: [] },
  live: { scope: undefined, good: { method: "GET", path: "/health/live" }, bad: [] },
  ready: { scope: undefined, good: { method: "GET", path: "/health/ready" }, bad: [] },
  proxy: {
    scope: "proxy",
    good: { method: "GET", path: `/api/cal/proxy/${userUlid}/me?take=1` },
    bad: [
      ...wrongUsers(`/api/cal/proxy/${userUlid}/me`, "GET"),
      { method: "GET", path: `/api/cal/proxy/${userUlid}/%2e%2e/x` },
      { method: "POST", path: `/api/cal/proxy/${userUlid}//evil.example` }
    ]
  }
}

const defined: Array<{ readonly name: string; readonly method: string; readonly path: string }> = []
HttpApi.reflect(Api, {
  onGroup: () => {},
  onEndpoint: ({ endpoint }) => {
    defined.push({ name: endpoint.name, method: endpoint.method, path: endpoint.path })
  }
})

const unauthorized = `"code":"Unauthorized"`

describe("the table", () => {
  it("tells of every endpoint of the API", () => {
    assert.sameMembers(Object.keys(told), [...defined.map(({ name }) => name), "proxy"])
    for (const { method, name, path } of defined) {
      const { good } = told[name] ?? {}
      assert.strictEqual(good?.method ?? "POST", method, name)
      const pattern = new RegExp(`^${path.replace(/:\w+/g, "[^/]+")}(\\?|$)`)
      assert.match(good?.path ?? "", pattern, name)
    }
  })
})

const endpoints = Object.entries(told).flatMap(([name, { key, scope, ...calls }]) =>
  scope === undefined ? [] : [{ name, scope, key: key ?? scopedKeys[scope], ...calls }]
)

/** {@link call} for what may never end: of a stream, the head. */
const callStream = ({ headers, key, method, path }: Call) =>
  Effect.flatMap(HttpServer.HttpServer, ({ address }) =>
    Effect.async<Answer>((resume) => {
      const port = address._tag === "TcpAddress" ? address.port : 0
      const sent = { ...headers, ...(key === undefined ? {} : { authorization: `Bearer ${key}` }) }
      const request = Http.request({ port, method, path, agent: false, headers: sent }, (response) => {
        const pairs = Object.entries(response.headers).map(([name, value]) => [name, String(value)] as const)
        const answer = { status: response.statusCode ?? 0, headers: Object.fromEntries(pairs) }
        let body = ""
        const done = () => resume(Effect.succeed({ ...answer, body }))
        if (response.headers["content-type"] === "text/event-stream") {
          response.destroy()
          return done()
        }
        response.setEncoding("utf8").on("data", (chunk: string) => (body += chunk))
        response.on("end", done)
      })
      request.on("error", (error) => resume(Effect.die(error)))
      request.end()
    })
  )

/** An escape is no spelling of a route; what is below the proxy is for its handler to judge. */
const isRoute = ({ path }: Call) => path.startsWith("/api/cal/proxy/") || !/^[^?]*%/.test(path)

/** This many wrong keys in a minute come from nobody else. */
const patient = layerWith({ limits: { failuresPerAddress: 10_000 } })

describe.each(endpoints)("$name", ({ bad, good, key: right, others: goodToo = [], scope, stream }) => {
  const others = Scope.literals.filter((other) => other !== scope)
  const ask = stream === undefined ? call : callStream

  it.effect("without a key, with a wrong one, or one of another scope, is refused whatever is asked", () =>
    Effect.gen(function* () {
      for (const request of [good, ...bad, { ...good, body: good.body && "{" }]) {
        if (!isRoute(request)) {
          assert.strictEqual((yield* ask(request)).status, 404, request.path)
          continue
        }
        for (const key of [undefined, "x".repeat(40), `${scopedKeys[scope]}x`]) {
          const { body, headers, status } = yield* ask({ ...request, key })
          assert.strictEqual(status, 401, request.path)
          assert.include(body, unauthorized)
          assert.strictEqual(headers["www-authenticate"], "Bearer")
        }
        for (const other of others) {
          const { body, status } = yield* ask({ ...request, key: scopedKeys[other] })
          assert.strictEqual(status, 403, request.path)
          assert.strictEqual(
            body,
            `{"success":false,"error":"This API key lacks the scope \\"${scope}\\".","code":"Forbidden"}`
          )
        }
      }
      assert.deepStrictEqual(yield* calls, [])
    }).pipe(Effect.provide(patient))
  )

  it.effect("with the right key answers what is well-formed, and nothing else", () =>
    Effect.gen(function* () {
      for (const request of bad) {
        const { body, headers, status } = yield* ask({ ...request, key: right })
        const what = `${request.path} ${request.body}`
        assert.include([400, 404], status, what)
        assert.match(body, /^\{"success":false,"error":".+","code":"(InvalidInput|NotFound)"\}$/, what)
        assert.notMatch(body, /SECRET|HttpApiDecodeError|actual/, what)
        assert.strictEqual(headers["cache-control"], "no-store")
        assert.strictEqual(headers["x-content-type-options"], "nosniff")
      }
      assert.deepStrictEqual(
        (yield* calls).filter(([name]) => name !== "info"),
        []
      )
      for (const request of [
        { ...good, key: keys.all },
        { ...good, key: right },
        ...goodToo.map((it) => ({ ...it, key: right }))
      ]) {
        const { body, headers, status } = yield* ask(request)
        assert.strictEqual(status, 200, body)
        if (stream !== undefined) assert.strictEqual(headers["content-type"], stream)
        assert.strictEqual(headers["x-content-type-options"], "nosniff")
        assert.strictEqual(headers["cache-control"], "no-store")
        assert.isUndefined(headers["server"])
        assert.isUndefined(headers["x-powered-by"])
        assert.isUndefined(headers["access-control-allow-origin"])
      }
      assert.deepStrictEqual(
        (yield* Fake).logs.filter(({ level }) => level !== "INFO"),
        []
      )
    }).pipe(Effect.provide(layer))
  )
})

/** The session of the operator's page for a key that may do everything. */
const session = Effect.map(
  call({ path: "/page/session", headers: { "x-cal-tokens-page": "1" }, body: JSON.stringify({ key: keys.all }) }),
  ({ headers }) => ({ cookie: headers["set-cookie"]?.split(";", 1)[0] ?? "", "x-cal-tokens-page": "1" })
)

describe.each(Object.entries(told))("$0, by a session of the operator's page", (name, { good, key, scope, stream }) => {
  const ask = stream === undefined ? call : callStream

  it.effect("is what the scope manage alone opens, and without the page's header nothing", () =>
    Effect.gen(function* () {
      const { cookie, ...header } = yield* session
      const bare = yield* ask(good)
      const answer = yield* ask({ ...good, headers: { cookie, ...header } })
      assert.notMatch(answer.body, /nobody-may-see/)
      const told = yield* calls
      const { audit } = yield* Fake
      if (scope === undefined) {
        assert.deepStrictEqual([answer.status, answer.body], [bare.status, bare.body])
      } else if (scope === "manage" && key === undefined) {
        assert.strictEqual(answer.status, 200, answer.body)
      } else {
        assert.deepStrictEqual([answer.status, told], [403, []])
        const refused = audit.find(({ annotations }) => annotations["event.name"] === "key.forbidden")
        assert.strictEqual(refused?.annotations["api_key.name"], "all", name)
      }
      for (const headers of [{ cookie }, header, { cookie, ...header, "sec-fetch-site": "same-site" }]) {
        const without = yield* ask({ ...good, headers })
        const expected = scope === undefined ? bare.status : "sec-fetch-site" in headers ? 403 : 401
        assert.strictEqual(without.status, expected, JSON.stringify(Object.keys(headers)))
      }
      assert.deepStrictEqual(yield* calls, told)
    }).pipe(Effect.provide(patient))
  )
})

/** Whether a request names its one user, in its path or as a field of its body. */
const namesUser = ({ body = "{}", path }: Call) =>
  path.split("?")[0]?.includes(userUlid) === true || "userUlid" in (JSON.parse(body) as object)

describe.each(endpoints)("$name, with a key for some users", ({ good, stream }) => {
  const ask = stream === undefined ? call : callStream
  const refused = (words: string) => `{"success":false,"error":"This API key is ${words}.","code":"Forbidden"}`

  it.effect("is for them alone, and what may concern others is closed to it", () =>
    Effect.gen(function* () {
      // To replace whoever has the account may concern others.
      const request = { ...good, body: good.body?.replace('"replace":true', '"replace":false') }
      const isHers = namesUser(request)
      const another = yield* ask({ ...request, key: limitedKeys.another })
      const words = isHers ? "not for this user" : "for some users only, and this may concern others"
      assert.deepStrictEqual([another.status, another.body], [403, refused(words)])
      assert.deepStrictEqual(yield* calls, [])
      const { audit } = yield* Fake
      assert.deepStrictEqual(
        audit.map(({ annotations }) => [annotations["event.name"], annotations["api_key.name"]]),
        [["key.forbidden", "another"]]
      )
      const hers = yield* ask({ ...request, key: limitedKeys.hers })
      assert.deepStrictEqual(
        [hers.status, isHers || hers.body],
        [isHers ? 200 : 403, isHers || refused(words)],
        hers.body
      )
    }).pipe(Effect.provide(layer))
  )
})

describe("a key with limits", () => {
  const ask = (request: Call, key: string) => Effect.map(call({ ...request, key }), ({ status }) => status)
  const proxied = (method: Call["method"], path: string): Call => ({
    method,
    path: `/api/cal/proxy/${userUlid}${path}`,
    ...(method === "POST" ? { body: "{}" } : {})
  })
  const session = (rules: object) => post("/api/cal/sessions", { userUlid, ...rules })
  /** What a session says of itself. */
  const claims = (body: string) => {
    const { session } = JSON.parse(body) as { readonly session: string }
    return JSON.parse(Buffer.from(session.split(".")[1] ?? "", "base64url").toString()) as Record<string, unknown>
  }

  it.effect("asks Cal.com with its methods, for its paths, and for nothing else", () =>
    Effect.gen(function* () {
      for (const [method, path, status] of [
        ["GET", "/bookings", 200],
        ["HEAD", "/bookings/abc?take=1", 200],
        ["POST", "/bookings", 403],
        ["DELETE", "/bookings/abc", 403],
        ["GET", "/bookings-secret", 403],
        ["GET", "/me?x=/bookings", 403],
        ["GET", "/", 403],
        ["GET", "/v2/bookings", 403],
        ["GET", "/bookings/../me", 403],
        ["GET", "/bookings/%2e%2e%2fme", 400]
      ] as const) {
        assert.strictEqual(yield* ask(proxied(method, path), limitedKeys.reads), status, `${method} ${path}`)
      }
      const sent = (yield* calls).filter(([name]) => name === "send")
      assert.lengthOf(sent, 2)
    }).pipe(Effect.provide(layer))
  )

  it.effect("makes no session that opens more than itself", () =>
    Effect.gen(function* () {
      const make = (rules: object) => call({ ...session(rules), key: limitedKeys.reads })
      const asItself = yield* make({})
      assert.strictEqual(asItself.status, 200, asItself.body)
      assert.deepInclude(claims(asItself.body), { methods: ["GET", "HEAD"], paths: ["/bookings"] })
      const narrower = yield* make({ methods: ["GET"], paths: ["/bookings/abc"] })
      assert.deepInclude(claims(narrower.body), { methods: ["GET"], paths: ["/bookings/abc"] })
      for (const rules of [
        { methods: ["POST"] },
        { methods: ["GET", "DELETE"] },
        { paths: ["/me"] },
        { paths: ["/bookings", "/schedules"] },
        { paths: ["/bookings-secret"] }
      ]) {
        const { body, status } = yield* make(rules)
        assert.deepStrictEqual([status, body.includes("opens less")], [403, true], JSON.stringify(rules))
      }
      assert.deepInclude(claims((yield* call({ ...session({}), key: limitedKeys.ending })).body), { iat: 0, exp: 60 })
    }).pipe(Effect.provide(layer))
  )

  it.effect("for some users replaces nobody's connection unseen", () =>
    Effect.gen(function* () {
      const begin = (replace: boolean) => post("/api/cal/oauth/authorize-url", { userUlid, replace })
      assert.strictEqual(yield* ask(begin(true), limitedKeys.hers), 403)
      assert.deepStrictEqual(yield* calls, [])
      assert.strictEqual(yield* ask(begin(false), limitedKeys.hers), 200)
      assert.strictEqual(yield* ask(begin(true), keys.manage), 200)
    }).pipe(Effect.provide(layer))
  )

  it.effect("for some users is told no more of rows than a stranger", () =>
    Effect.gen(function* () {
      const ready = (key: string) => call({ method: "GET", path: "/health/ready", key })
      assert.include((yield* ready(keys.metrics)).body, "missingKeys")
      for (const key of [limitedKeys.hers, `${keys.metrics}x`]) {
        assert.strictEqual((yield* ready(key)).body, `{"status":"ok"}`)
      }
    }).pipe(Effect.provide(layer))
  )

  it.effect("opens nothing once its time is over, and the log says why", () =>
    Effect.gen(function* () {
      const { audit } = yield* Fake
      const get: Call = { method: "GET", path: connection }
      yield* TestClock.adjust(59_999)
      assert.strictEqual(yield* ask(get, limitedKeys.ending), 200)
      yield* TestClock.adjust(1)
      const late = yield* call({ ...get, key: limitedKeys.ending })
      const unknown = yield* call({ ...get, key: "x".repeat(40) })
      assert.deepStrictEqual([late.status, late.body], [401, unknown.body])
      assert.include(
        (yield* call({ method: "GET", path: "/health/ready", key: limitedKeys.ending })).body,
        `{"status":"ok"}`
      )
      assert.deepStrictEqual(
        audit.map(({ annotations }) => [annotations["event.name"], annotations["api_key.name"]]),
        [
          ["key.expired", "ending"],
          ["key.unknown", undefined],
          ["key.unknown", undefined]
        ]
      )
    }).pipe(Effect.provide(layer))
  )
})

describe("a path with escapes that mean nothing", () => {
  it.effect("is no endpoint", () =>
    Effect.gen(function* () {
      for (const { good } of endpoints) {
        if (!good.path.includes(userUlid) || good.path.includes("?cursor")) continue
        for (const escape of ["%ff", "%", "%zz", "%c0%af"]) {
          const path = good.path.replace(`/${userUlid}`, `/${escape}`)
          if (path === good.path) continue
          const { body, status } = yield* call({ ...good, path, key: keys.all })
          assert.strictEqual(status, 404, path)
          assert.include(body, `"code":"NotFound"`)
        }
      }
      assert.deepStrictEqual(yield* calls, [])
    }).pipe(Effect.provide(layer))
  )
})

describe("pages of connections", () => {
  const summary = (n: number): ConnectionSummary => ({
    userUlid: `01HZY9TESTSAAAAAAAAAAAAAA${n}` as typeof userUlid,
    connection: { _tag: "ManagedUser", clientId: "client", calUserId: n },
    status: n === 2 ? { _tag: "ReauthorizationRequired", cause: "revoked", since: 5 } : { _tag: "Active" },
    version: n,
    updatedAt: expiresAt,
    accessTokenExpiresAt: n === 3 ? 0 : expiresAt,
    refreshTokenExpiresAt: undefined
  })

  const client = HttpApiClient.make(Api, {
    transformClient: HttpClient.mapRequest(HttpClientRequest.bearerToken(Redacted.make(keys.all)))
  })

  it.effect("follow one another by their cursors, and tell no token", () =>
    Effect.gen(function* () {
      const fake = yield* Fake
      fake.rows.push(...[1, 2, 3, 4, 5].map(summary))
      const { connections } = yield* client
      const first = yield* connections.listConnections({ urlParams: { limit: 2 } })
      assert.deepStrictEqual(
        first.connections.map(({ calUserId, cause, isExpired, status }) => [calUserId, status, cause, isExpired]),
        [
          [1, "active", undefined, false],
          [2, "reauthorizationRequired", "revoked", false]
        ]
      )
      assert.strictEqual(first.cursor, summary(2).userUlid)
      const second = yield* connections.listConnections({ urlParams: { limit: 2, cursor: first.cursor } })
      assert.deepStrictEqual(
        second.connections.map(({ calUserId, isExpired }) => [calUserId, isExpired]),
        [
          [3, true],
          [4, false]
        ]
      )
      const last = yield* connections.listConnections({ urlParams: { cursor: second.cursor?.toLowerCase() } })
      assert.deepStrictEqual(
        last.connections.map(({ userUlid }) => userUlid),
        [summary(5).userUlid]
      )
      assert.isUndefined(last.cursor)
      const exact = yield* connections.listConnections({ urlParams: { limit: 5 } })
      assert.deepStrictEqual([exact.connections.length, exact.cursor], [5, undefined])
      const waiting = yield* connections.listConnections({ urlParams: { status: "reauthorizationRequired" } })
      assert.deepStrictEqual(
        waiting.connections.map(({ calUserId }) => calUserId),
        [2]
      )
      const atCal = yield* connections.listConnections({ urlParams: { calUserId: 4 } })
      assert.deepStrictEqual(
        atCal.connections.map(({ userUlid }) => userUlid),
        [summary(4).userUlid]
      )
    }).pipe(Effect.provide(layer))
  )

  it.effect("have the latest first of those who have to reconnect, if that is asked for", () =>
    Effect.gen(function* () {
      const fake = yield* Fake
      const since = (n: number, since: number): ConnectionSummary => ({
        ...summary(n),
        status: { _tag: "ReauthorizationRequired", cause: "revoked", since }
      })
      fake.rows.push(summary(1), since(2, 20), since(3, 40), since(4, 30))
      const { connections } = yield* client
      const page = (cursor?: string) =>
        Effect.map(connections.listConnections({ urlParams: { order: "since", limit: 2, cursor } }), (page) => ({
          ids: page.connections.map(({ calUserId }) => calUserId),
          cursor: page.cursor
        }))
      const first = yield* page()
      assert.deepStrictEqual(first, { ids: [3, 4], cursor: `30.${summary(4).userUlid}` })
      assert.deepStrictEqual(yield* page(first.cursor), { ids: [2], cursor: undefined })
    }).pipe(Effect.provide(layer))
  )

  it.effect("name what is wrong with a parameter", () =>
    Effect.gen(function* () {
      const cases = {
        "limit=x": "limit must be a whole number from 1 to 200.",
        "status=x": "status must be one of active, reauthorizationRequired.",
        "cursor=x": "cursor must be the cursor of the page before.",
        "cursor=x&cursor=y": "cursor must be the cursor of the page before.",
        "calUserId=x": "calUserId must be the number of a user at Cal.com.",
        "order=x": "order must be one of since.",
        [`order=since&cursor=${userUlid}`]: "cursor must be the cursor of the page before.",
        "order=since&cursor=5.x": "cursor must be the cursor of the page before.",
        "order=since&status=active":
          "order must be left out with status=active and with calUserId: it is that of users who have to reconnect.",
        "order=since&calUserId=1":
          "order must be left out with status=active and with calUserId: it is that of users who have to reconnect."
      }
      for (const [query, expected] of Object.entries(cases)) {
        const { body } = yield* call({ method: "GET", path: `/api/cal/connections?${query}`, key: keys.manage })
        assert.strictEqual((JSON.parse(body) as { error: string }).error, expected)
      }
    }).pipe(Effect.provide(layer))
  )
})

describe("a derived client", () => {
  const client = HttpApiClient.make(Api, {
    transformClient: HttpClient.mapRequest(HttpClientRequest.bearerToken(Redacted.make(keys.all)))
  })

  it.effect("gets tokens redacted, accounts, and the failures of each endpoint", () =>
    Effect.gen(function* () {
      const { accessTokens, atoms, connections, managedUsers } = yield* client
      const token = yield* accessTokens.getAccessToken({ path: { userUlid } })
      assert.isTrue(Redacted.isRedacted(token.accessToken))
      assert.strictEqual(Redacted.value(token.accessToken), "access-token-that-nobody-may-see")
      assert.strictEqual(DateTime.toEpochMillis(token.expiresAt), expiresAt)
      const { calUserId } = yield* managedUsers.createManagedUser({
        payload: { userUlid, email: "ada@example.com", name: "Ada" }
      })
      assert.strictEqual(calUserId, 42)
      assert.strictEqual((yield* Effect.flip(atoms.refreshAtoms()))._tag, "NotFound")
      const bad = yield* Effect.flip(connections.getConnection({ path: { userUlid: "nobody" } }))
      assert.strictEqual(bad._tag, "InvalidInput")
    }).pipe(Effect.provide(layer))
  )
})
