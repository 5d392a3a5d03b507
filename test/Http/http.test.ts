import { assert, describe, it } from "@effect/vitest"
import { HttpApiClient, HttpClient, HttpClientRequest } from "@effect/platform"
import { Chunk, DateTime, Deferred, Duration, Effect, Fiber, Option, Redacted, Ref, TestClock, Tracer } from "effect"
import { Api } from "../../src/Api.js"
import * as ApiKeys from "../../src/ApiKeys.js"
import { Lifecycle } from "../../src/Http/Lifecycle.js"
import { uuidFromUlid } from "../../src/Token.js"
import * as TokenError from "../../src/TokenError.js"
import {
  type Call,
  call,
  calls,
  expiresAt,
  Fake,
  info,
  keys,
  layer,
  layerWith,
  raw,
  userUlid
} from "../support/HttpFakes.js"

const pair = {
  kind: "managed",
  calUserId: 42,
  accessToken: "access-secret",
  refreshToken: "refresh-secret",
  accessTokenExpiresAt: expiresAt
}

const endpoints: ReadonlyArray<Call & { readonly name: string; readonly good: string }> = [
  {
    name: "refreshToken",
    path: "/api/cal/refresh-token",
    body: JSON.stringify({ userUlid }),
    good: `{"success":true,"refreshed":true,"expiresAt":"2030-01-02T03:04:05.000Z"}`
  },
  {
    name: "refreshManagedUserToken",
    path: "/api/cal/refresh-managed-user-token",
    body: JSON.stringify({ userUlid }),
    good: `{"success":true,"refreshed":true,"expiresAt":"2030-01-02T03:04:05.000Z"}`
  },
  {
    name: "ensureToken",
    path: "/api/cal/ensure-token",
    body: JSON.stringify({ userUlid }),
    good: `{"success":true,"expiresAt":"2030-01-02T03:04:05.000Z"}`
  },
  {
    name: "getConnection",
    method: "GET",
    path: `/api/cal/connections/${userUlid}`,
    good:
      `{"success":true,"connection":{"kind":"managed","clientId":"client","status":"active","calUserId":42,"isExpired":false,` +
      `"isExpiringSoon":true,"accessTokenExpiresAt":"2030-01-02T03:04:05.000Z",` +
      `"refreshTokenExpiresAt":"2030-01-02T03:04:06.000Z","version":7,"updatedAt":"2030-01-02T03:04:04.000Z"}}`
  },
  {
    name: "getHistory",
    method: "GET",
    path: `/api/cal/history/${userUlid}`,
    good:
      `{"success":true,"history":{"status":"reauthorizationRequired","cause":"anotherSystemOrPerson","conclusion":` +
      `"Asked to reconnect since 1970-01-01T00:00:02.000Z because a refresh token that this service never spent was ` +
      `refused at 1970-01-01T00:00:02.000Z: another system refreshes this user, or the person removed the access.","advice":` +
      `"Let the person consent again: send them through your connect page. Look for a second system with the same client ` +
      `and user, and stop one of the two; then ask the person.","open":{"text":"Process b began a refresh that has not ` +
      `ended: the process died or sleeps. The next one looks whether refresh token aaaaaaaa was spent.","process":"b",` +
      `"startedAt":"1970-01-01T00:00:03.000Z","leaseUntil":"1970-01-01T00:00:33.000Z","token":"aaaaaaaa"},` +
      `"circuit":{"cause":"client","reason":"invalid_client","openedAt":"1970-01-01T00:00:01.000Z","nextTrialAt":` +
      `"1970-01-01T00:00:31.000Z"},"entries":[` +
      `{"at":"1970-01-01T00:00:02.000Z","text":"Process a sent refresh token aaaaaaaa: refused (400, forgotten). The user ` +
      `has to reconnect.","written":"recorded","event":{"_tag":"Attempt","process":"a","purpose":"refresh","trigger":` +
      `"asked","took":10,"steps":[{"as":"own","token":"aaaaaaaa","answer":"rejected","status":400,"refusal":"revoked"}],` +
      `"end":"terminal"}},{"at":"1970-01-01T00:00:01.000Z","text":"Connected: Cal.com granted refresh token aaaaaaaa to ` +
      `process a.","written":"stored","event":{"_tag":"Connected","process":"a","token":"aaaaaaaa","isGranted":true}}]}}`
  },
  {
    name: "putConnection",
    method: "PUT",
    path: `/api/cal/connections/${userUlid}`,
    body: JSON.stringify(pair),
    good: `{"success":true}`
  },
  { name: "deleteConnection", method: "DELETE", path: `/api/cal/connections/${userUlid}`, good: `{"success":true}` }
]

const unauthorized = `{"success":false,"error":"Missing or unknown API key: send it as \`Authorization: Bearer <key>\`.","code":"Unauthorized"}`

describe.each(endpoints)("$name", ({ good, ...endpoint }) => {
  it.effect("answers a caller with the right key", () =>
    Effect.gen(function* () {
      for (const key of [keys.all, keys.manage]) {
        const { body, headers, status } = yield* call({ ...endpoint, key })
        assert.deepStrictEqual({ status, body }, { status: 200, body: good })
        assert.strictEqual(headers["content-type"], "application/json")
        assert.strictEqual(headers["cache-control"], "no-store")
        assert.isUndefined(headers["x-powered-by"])
      }
    }).pipe(Effect.provide(layer))
  )

  it.effect("turns away everybody else, before it looks at the body", () =>
    Effect.gen(function* () {
      const wrong: ReadonlyArray<Record<string, string>> = [
        {},
        { authorization: "" },
        { authorization: keys.manage },
        { authorization: `Bearer${keys.manage}` },
        { authorization: `1234567${keys.manage}` },
        { authorization: `Basic  ${keys.manage}` },
        { authorization: `Bearer ${keys.manage}x` },
        { authorization: `Bearer ${keys.manage.slice(0, -1)}` },
        { authorization: `Bearer ${keys.manage} ${keys.manage}` },
        { authorization: "Bearer " }
      ]
      for (const headers of wrong) {
        const answer = yield* call({ ...endpoint, headers, ...malformed(endpoint) })
        assert.deepStrictEqual([answer.status, answer.body], [401, unauthorized], JSON.stringify(headers))
        assert.strictEqual(answer.headers["www-authenticate"], "Bearer")
      }
      for (const key of [keys.proxy, keys.metrics]) {
        const answer = yield* call({ ...endpoint, key, ...malformed(endpoint) })
        assert.deepStrictEqual(
          [answer.status, answer.body],
          [403, `{"success":false,"error":"This API key lacks the scope \\"manage\\".","code":"Forbidden"}`]
        )
      }
      assert.deepStrictEqual(yield* calls, [])
    }).pipe(Effect.provide(layer))
  )

  it.effect("takes the scheme in any case", () =>
    Effect.gen(function* () {
      const { status } = yield* call({ ...endpoint, headers: { authorization: `bEaReR ${keys.manage}` } })
      assert.strictEqual(status, 200)
    }).pipe(Effect.provide(layer))
  )

  it.effect("takes a ULID in lower case, or its UUID, as the same user, and no other text as one", () =>
    Effect.gen(function* () {
      const rename = (name: string): Call => ({
        ...endpoint,
        key: keys.manage,
        path: endpoint.path.replace(userUlid, name),
        body: endpoint.body?.replace(userUlid, name)
      })
      const uuid = uuidFromUlid(userUlid)
      for (const name of [userUlid.toLowerCase(), uuid, uuid.toUpperCase()]) {
        assert.strictEqual((yield* call(rename(name))).status, 200)
      }
      assert.isAtLeast((yield* calls).length, 3)
      assert.isTrue((yield* calls).every(([, user]) => user === userUlid))
      for (const name of [
        "8ZZZZZZZZZZZZZZZZZZZZZZZZZ",
        `${userUlid}0`,
        userUlid.slice(1),
        "IIIIIIIIIIIIIIIIIIIIIIIIII",
        uuid.replaceAll("-", ""),
        uuid.slice(1)
      ]) {
        const { body, status } = yield* call(rename(name))
        assert.strictEqual(status, 400)
        assert.match(body, /"error":"userUlid must be a ULID.*"code":"InvalidInput"/)
        assert.notInclude(body, name)
      }
    }).pipe(Effect.provide(layer))
  )

  it.effect("says what failed in the form of every edge", () =>
    Effect.gen(function* () {
      const fake = yield* Fake
      for (const [error, status] of failures) {
        yield* Ref.set(fake.failure, Option.some(Effect.fail(error)))
        const answer = yield* call({ ...endpoint, key: keys.manage })
        const failure = TokenError.toFailure(error)
        assert.deepStrictEqual([answer.status, answer.body], [status, JSON.stringify(failure)])
        assert.strictEqual(answer.headers["retry-after"], failure.retryAfter?.toString())
      }
    }).pipe(Effect.provide(layer))
  )
})

/** A body that could not be parsed, for endpoints that have one. */
const malformed = (endpoint: Call): Pick<Call, "body"> => (endpoint.body === undefined ? {} : { body: "{" })

const failures: ReadonlyArray<readonly [TokenError.TokenError, number]> = [
  [new TokenError.InvalidInput({ field: "accessToken", expected: "must be a token" }), 400],
  [new TokenError.TokensNotFound({ userUlid }), 404],
  [new TokenError.NotManagedUser({ userUlid }), 409],
  [new TokenError.CalAccountInUse({ userUlid }), 409],
  [new TokenError.ReauthorizationRequired({ userUlid, cause: "revoked", since: 1 }), 409],
  [new TokenError.RefreshCoolingDown({ userUlid, retryAfter: Duration.millis(1) }), 429],
  [new TokenError.CalRateLimited({ operation: "refresh", retryAfter: Duration.millis(41_001) }), 429],
  [new TokenError.CalUnavailable({ operation: "refresh", reason: "timeout", retryAfter: Duration.seconds(2) }), 503],
  [new TokenError.CalUnavailable({ operation: "refresh", reason: "status 503", status: 503 }), 503],
  [new TokenError.CalRequestRejected({ operation: "refresh", status: 400, reason: "no" }), 502],
  [
    new TokenError.CalRequestRejected({ operation: "x", status: 403, reason: "no", missingScopes: ["PROFILE_READ"] }),
    502
  ],
  [new TokenError.CalProtocolError({ operation: "refresh", issue: "data.accessToken is missing" }), 502],
  [new TokenError.CalClientMisconfigured({ clientId: "c", reason: "secret", retryAfter: Duration.seconds(30) }), 502],
  [new TokenError.StorageUnavailable({ operation: "find", reason: "no connection" }), 503],
  [new TokenError.TokenUnreadable({ userUlid, reason: "unknown key" }), 500]
]

describe("bodies", () => {
  const path = "/api/cal/refresh-token"
  const key = keys.manage

  it.effect("name the field and never the value", () =>
    Effect.gen(function* () {
      const cases: ReadonlyArray<readonly [Partial<Call>, RegExp]> = [
        [{ body: "" }, /^body must be JSON\.$/],
        [{ body: "{" }, /^body must be JSON\.$/],
        [{ body: `{"userUlid":"SECRET"` }, /^body must be JSON\.$/],
        [{ body: `"SECRET"` }, /^body must be a JSON object\.$/],
        [{ body: "null" }, /^body must be a JSON object\.$/],
        [{ body: `["SECRET"]` }, /^body must be a JSON object\.$/],
        [{ body: "{}" }, /^userUlid is required\.$/],
        [{ body: `{"userUlid":null,"forceRefresh":null}` }, /^userUlid is required\.$/],
        [{ body: `{"userUlid":{"SECRET":"SECRET"}}` }, /^userUlid must be a ULID or a UUID\.$/],
        [{ body: `{"userUlid":"${userUlid}","forceRefresh":"SECRET"}` }, /^forceRefresh must be boolean/],
        [{ body: `userUlid=${userUlid}`, contentType: "application/x-www-form-urlencoded" }, /^content-type must be/],
        [{ body: "SECRET", contentType: "text/plain" }, /^content-type must be/],
        [{ body: "SECRET", contentType: "multipart/form-data; boundary=x" }, /^content-type must be/]
      ]
      for (const [input, expected] of cases) {
        const { body, status } = yield* call({ path, key, ...input })
        const failure = JSON.parse(body) as TokenError.Failure
        assert.deepStrictEqual([status, failure.code], [400, "InvalidInput"])
        assert.match(failure.error, expected)
        assert.notInclude(body, "SECRET")
      }
      assert.deepStrictEqual(yield* calls, [])
    }).pipe(Effect.provide(layer))
  )

  it.effect("of a connection are checked field by field, tokens unseen", () =>
    Effect.gen(function* () {
      const cases: ReadonlyArray<readonly [Record<string, unknown>, RegExp]> = [
        [{ kind: "SECRET" }, /^kind must be "managed" \| "oauth2"\.$/],
        [{ calUserId: undefined }, /^calUserId is required for managed users\.$/],
        [{ calUserId: 1.5 }, /^calUserId must be a positive whole number\.$/],
        [{ calUserId: "SECRET" }, /^calUserId must be number/],
        [{ accessToken: ["SECRET"] }, /^accessToken must be string\.$/],
        [{ refreshToken: undefined }, /^refreshToken is required\.$/],
        [{ accessToken: null }, /^accessToken is required\.$/],
        [{ accessTokenExpiresAt: null }, /^accessTokenExpiresAt is required\.$/],
        [{ calUserId: null }, /^calUserId is required for managed users\.$/],
        [{ accessTokenExpiresAt: ["SECRET"] }, /^accessTokenExpiresAt must be number \| string\.$/]
      ]
      const put = (change: Record<string, unknown>) =>
        call({
          method: "PUT",
          path: `/api/cal/connections/${userUlid}`,
          key,
          body: JSON.stringify({ ...pair, ...change })
        })
      for (const [change, expected] of cases) {
        const { body, status } = yield* put(change)
        const failure = JSON.parse(body) as TokenError.Failure
        assert.deepStrictEqual([status, failure.code], [400, "InvalidInput"])
        assert.match(failure.error, expected)
        assert.notMatch(body, /secret"/i)
      }
      assert.deepStrictEqual(yield* calls, [])
      const accessTokenExpiresAt = "2030-01-02T03:04:05Z"
      yield* put({ kind: "oauth2", clientId: "O", calUserId: undefined, scope: "A B", accessTokenExpiresAt })
      const connected = (yield* calls)[0]
      assert.deepStrictEqual(connected?.slice(0, 3), [
        "connect",
        userUlid,
        { _tag: "OAuth2", clientId: "O", calUserId: undefined, scope: "A B" }
      ])
      assert.include(JSON.stringify(connected), `"accessToken":"<redacted>"`)
      const { status } = yield* put({
        kind: "oauth2",
        clientId: null,
        calUserId: null,
        scope: null,
        refreshTokenExpiresAt: null
      })
      assert.strictEqual(status, 200)
      assert.deepStrictEqual((yield* calls)[1]?.[2], {
        _tag: "OAuth2",
        clientId: undefined,
        calUserId: undefined,
        scope: undefined
      })
    }).pipe(Effect.provide(layer))
  )

  it.effect("above 1 MiB are 413, whether or not the length was announced", () =>
    Effect.gen(function* () {
      const large = `{"userUlid":"${"x".repeat(1024 * 1024)}"}`
      const announced = yield* call({ path, key, body: large })
      assert.deepStrictEqual(
        [announced.status, announced.body],
        [413, `{"success":false,"error":"body must be at most 1 MiB large.","code":"InvalidInput"}`]
      )
      const chunked = yield* raw(
        `POST ${path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${key}\r\nTransfer-Encoding: chunked\r\n\r\n` +
          `${large.length.toString(16)}\r\n${large}\r\n0\r\n\r\n`
      )
      assert.match(chunked, /^HTTP\/1\.1 413 /)
      const endless = yield* raw(
        `POST ${path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${key}\r\nTransfer-Encoding: chunked\r\n\r\n` +
          `${large.length.toString(16)}\r\n${large}\r\n`.repeat(17)
      )
      assert.match(endless, /^HTTP\/1\.1 413 |^$/)
    }).pipe(Effect.provide(layer))
  )
})

describe("what no endpoint answers", () => {
  it.effect("is JSON: no such endpoint, not this method, not HTTP", () =>
    Effect.gen(function* () {
      const unknown = yield* call({ method: "GET", path: "/nope?access_token=SECRET" })
      assert.deepStrictEqual(
        [unknown.status, unknown.body],
        [404, `{"success":false,"error":"There is no such endpoint: /docs shows all.","code":"NotFound"}`]
      )
      const wrong = yield* call({ method: "PATCH", path: `/api/cal/connections/${userUlid}` })
      assert.deepStrictEqual([wrong.status, wrong.headers["allow"]], [405, "DELETE, GET, PUT"])
      assert.strictEqual((yield* call({ method: "GET", path: "/api/cal/ensure-token" })).status, 405)
      assert.strictEqual((yield* call({ method: "GET", path: "/api/cal/ensure-token/" })).status, 404)
      const fragment = yield* raw("GET //evil.example/api HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
      assert.match(fragment, /^HTTP\/1\.1 404 /)
      assert.deepStrictEqual((yield* Fake).logs, [])
    }).pipe(Effect.provide(layer))
  )

  it.effect("is a fault: 500 without details, logged without its message", () =>
    Effect.gen(function* () {
      const fake = yield* Fake
      yield* Ref.set(fake.failure, Option.some(Effect.die(new RangeError("SECRET"))))
      const { body, status } = yield* call({
        path: "/api/cal/ensure-token",
        key: keys.manage,
        body: JSON.stringify({ userUlid })
      })
      assert.deepStrictEqual(
        [status, body],
        [500, `{"success":false,"error":"Something went wrong here. It is logged.","code":"InternalError"}`]
      )
      assert.strictEqual(fake.logs.length, 1)
      assert.notInclude(JSON.stringify(fake.logs), "SECRET")
      const { annotations, level } = fake.logs[0]!
      assert.strictEqual(level, "ERROR")
      assert.deepInclude(annotations, { fault: "RangeError", operation: "ensureToken", userUlid, apiKey: "manage" })
      assert.match(String(annotations["at"]), /http\.test\.ts/)
    }).pipe(Effect.provide(layer))
  )
})

describe("logs", () => {
  const cooling = new TokenError.RefreshCoolingDown({ userUlid, retryAfter: Duration.seconds(3) })
  const request = { path: "/api/cal/ensure-token", key: keys.manage, body: JSON.stringify({ userUlid }) }

  it.effect("hold each failure once, by operation, user, key name and code", () =>
    Effect.gen(function* () {
      const fake = yield* Fake
      yield* Ref.set(fake.failure, Option.some(Effect.fail(cooling)))
      yield* call({ ...request, headers: { "x-request-id": "mine-1" } })
      yield* call({
        ...request,
        key: "not-a-key-but-long-enough-to-be-one-0123",
        headers: { "x-request-id": "mine-2" }
      })
      assert.deepStrictEqual(fake.logs, [
        {
          level: "INFO",
          message: cooling.message,
          annotations: {
            operation: "ensureToken",
            apiKey: "manage",
            userUlid,
            code: "RefreshCoolingDown",
            status: 429,
            requestId: "mine-1"
          },
          cause: ""
        },
        {
          level: "INFO",
          message: new ApiKeys.Unauthorized({}).message,
          annotations: {
            operation: "authorize",
            endpoint: "POST /api/cal/ensure-token",
            address: "127.0.0.1",
            code: "Unauthorized",
            status: 401,
            requestId: "mine-2"
          },
          cause: ""
        }
      ])
      for (const secret of Object.values(keys)) assert.notInclude(JSON.stringify(fake.logs), secret)
    }).pipe(Effect.provide(layer))
  )

  it.effect("hold stacks in development only", () =>
    Effect.gen(function* () {
      const fake = yield* Fake
      yield* Ref.set(fake.failure, Option.some(Effect.fail(cooling)))
      yield* call(request)
      assert.match(String(fake.logs[0]?.annotations["stack"]), /http\.test\.ts/)
      yield* Ref.set(fake.failure, Option.some(Effect.die(new RangeError("a fault"))))
      yield* call(request)
      assert.match(fake.logs[1]!.cause, /RangeError: a fault[^]*http\.test\.ts/)
    }).pipe(Effect.provide(layerWith({ development: true })))
  )
})

describe("health", () => {
  const live = { method: "GET", path: "/health/live" } as const
  const ready = { method: "GET", path: "/health/ready" } as const

  it.effect("is live and ready without a key", () =>
    Effect.gen(function* () {
      for (const request of [live, ready]) {
        const { body, status } = yield* call(request)
        assert.deepStrictEqual([status, body], [200, `{"status":"ok"}`])
      }
    }).pipe(Effect.provide(layer))
  )

  it.effect("is not ready while storage is away, and tells nothing about why", () =>
    Effect.gen(function* () {
      const fake = yield* Fake
      yield* Ref.set(
        fake.ping,
        Effect.fail(new TokenError.StorageUnavailable({ operation: "ping", reason: "10.0.0.7" }))
      )
      const { body, status } = yield* call(ready)
      assert.deepStrictEqual([status, body], [503, `{"status":"unavailable"}`])
      assert.strictEqual((yield* call(live)).status, 200)
    }).pipe(Effect.provide(layer))
  )

  it.effect("does not wait for a storage that hangs, nor ask it once per request", () =>
    Effect.gen(function* () {
      const fake = yield* Fake
      const asked = yield* Ref.make(0)
      const started = yield* Deferred.make<void>()
      const hang = Effect.all([Ref.update(asked, (n) => n + 1), Deferred.succeed(started, undefined), Effect.never])
      yield* Ref.set(fake.ping, Effect.uninterruptible(Effect.asVoid(hang)))
      const answers = yield* Effect.fork(Effect.all([call(ready), call(ready), call(ready)], { concurrency: 3 }))
      yield* Deferred.await(started)
      // The timer starts a moment after what it limits.
      yield* Effect.repeat(Effect.zipLeft(TestClock.sleeps(), Effect.yieldNow()), { until: Chunk.isNonEmpty })
      yield* TestClock.adjust(Duration.seconds(2))
      assert.deepStrictEqual(
        (yield* Fiber.join(answers)).map(({ status }) => status),
        [503, 503, 503]
      )
      assert.strictEqual(yield* Ref.get(asked), 1)
      assert.strictEqual((yield* call(ready)).status, 503)
      assert.strictEqual(yield* Ref.get(asked), 1)
    }).pipe(Effect.provide(layer))
  )

  it.effect("is not ready during the shutdown, which takes no new work", () =>
    Effect.gen(function* () {
      yield* Effect.flatMap(Lifecycle, (lifecycle) => lifecycle.stop)
      assert.strictEqual((yield* call(ready)).status, 503)
      assert.strictEqual((yield* call(live)).status, 200)
      const refused = yield* call({
        path: "/api/cal/ensure-token",
        key: keys.manage,
        body: JSON.stringify({ userUlid })
      })
      assert.deepStrictEqual([refused.status, refused.headers["connection"]], [503, "close"])
      assert.include(refused.body, `"code":"ShuttingDown"`)
      assert.deepStrictEqual(yield* calls, [])
    }).pipe(Effect.provide(layer))
  )
})

describe("a derived client", () => {
  const client = HttpApiClient.make(Api, {
    transformClient: HttpClient.mapRequest(HttpClientRequest.bearerToken(Redacted.make(keys.manage)))
  })

  it.effect("gets typed answers and typed failures", () =>
    Effect.gen(function* () {
      const fake = yield* Fake
      const { connections, health, tokens } = yield* client
      const { expiresAt: at } = yield* tokens.ensureToken({ payload: { userUlid } })
      assert.strictEqual(DateTime.toEpochMillis(at), expiresAt)
      yield* connections.putConnection({
        path: { userUlid },
        payload: {
          kind: "managed",
          calUserId: 42,
          accessToken: Redacted.make("a"),
          refreshToken: Redacted.make("r"),
          accessTokenExpiresAt: expiresAt
        }
      })
      yield* Ref.set(fake.connection, {
        ...info,
        connection: { _tag: "OAuth2", clientId: "client" },
        status: { _tag: "ReauthorizationRequired", cause: "rotationLost", since: 5 },
        refreshTokenExpiresAt: undefined
      })
      const { connection } = yield* connections.getConnection({ path: { userUlid } })
      assert.deepInclude(connection, {
        kind: "oauth2",
        status: "reauthorizationRequired",
        cause: "rotationLost",
        calUserId: null,
        refreshTokenExpiresAt: null
      })
      const conflict = yield* tokens.refreshManagedUserToken({ payload: { userUlid } }).pipe(Effect.flip)
      assert.strictEqual(conflict._tag, "NotManagedUser")
      yield* Ref.set(
        fake.failure,
        Option.some(Effect.fail(new TokenError.RefreshCoolingDown({ userUlid, retryAfter: Duration.seconds(3) })))
      )
      const seconds = yield* tokens.refreshToken({ payload: { userUlid } }).pipe(
        Effect.as(0),
        Effect.catchTag("RefreshCoolingDown", (failure) => Effect.succeed(failure.retryAfter))
      )
      assert.strictEqual(seconds, 3)
      assert.deepStrictEqual(yield* health.ready(), { status: "ok", missingKeys: [] })
    }).pipe(Effect.provide(layer))
  )
})

describe("the span of a request", () => {
  const spans: Array<Tracer.Span> = []
  const recorder = Tracer.make({
    context: (f) => f(),
    span: (name, parent, context, links, startTime, kind, options) => {
      const attributes = new Map<string, unknown>(Object.entries(options?.attributes ?? {}))
      const span: Tracer.Span = {
        _tag: "Span",
        name,
        spanId: "1".repeat(16),
        traceId: "2".repeat(32),
        parent,
        context,
        status: { _tag: "Started", startTime },
        attributes,
        links,
        sampled: true,
        kind,
        attribute: (key, value) => attributes.set(key, value),
        event: () => {},
        addLinks: () => {},
        end: () => {}
      }
      spans.push(span)
      return span
    }
  })

  it.effect("tells method, route, status and caller, belongs to the caller's trace, and holds nothing of the URL", () =>
    Effect.gen(function* () {
      const traceparent = `00-${"a".repeat(32)}-${"b".repeat(16)}-01`
      yield* call({
        method: "GET",
        path: `/api/cal/connections/${userUlid}?token=secret`,
        key: keys.manage,
        headers: { traceparent }
      }).pipe(Effect.withTracerEnabled(false))
      const [span, ...others] = spans.filter(({ kind }) => kind === "server")
      assert(span !== undefined)
      assert.deepStrictEqual(others, [])
      assert.strictEqual(span.name, "GET /api/cal/connections/:userUlid")
      assert.deepInclude(Option.getOrThrow(span.parent), { traceId: "a".repeat(32), spanId: "b".repeat(16) })
      assert.deepStrictEqual(Object.fromEntries(span.attributes), {
        "http.request.method": "GET",
        "http.route": "/api/cal/connections/:userUlid",
        "http.response.status_code": 200,
        operation: "getConnection",
        apiKey: "manage"
      })
    }).pipe(Effect.provide(layer), Effect.withTracer(recorder))
  )
})
