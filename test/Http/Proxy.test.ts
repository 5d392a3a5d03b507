import * as Http from "node:http"
import { HttpServer } from "@effect/platform"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Fiber, Option, Ref, TestClock } from "effect"
import { uuidFromUlid } from "../../src/Token.js"
import * as TokenError from "../../src/TokenError.js"
import { call, calls, Fake, keys, layer, raw, userUlid } from "../support/HttpFakes.js"

const base = `/api/cal/proxy/${userUlid}`
const key = keys.proxy

interface Sent {
  readonly method: string
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  readonly body?: { readonly bytes: Uint8Array; readonly contentType: string }
}

/** What went to Cal.com, of all users. */
const sent = Effect.map(calls, (calls) => calls.map(([, , request]) => request as Sent))

const answer = (make: () => Response) => Effect.flatMap(Fake, (fake) => Ref.set(fake.answer, make))

/** A body in chunks that fall on no boundary, without a `Content-Length`. */
const inChunks = (bytes: Uint8Array) =>
  Effect.flatMap(HttpServer.HttpServer, ({ address }) =>
    Effect.async<{ readonly status: number; readonly body: string }>((resume) => {
      const request = Http.request(
        {
          port: address._tag === "TcpAddress" ? address.port : 0,
          method: "PATCH",
          path: `${base}/x`,
          agent: false,
          headers: {
            authorization: `Bearer ${key}`,
            "transfer-encoding": "chunked",
            "content-type": "application/octet-stream"
          }
        },
        (response) => {
          let body = ""
          response.setEncoding("utf8").on("data", (chunk: string) => (body += chunk))
          response.on("end", () => resume(Effect.succeed({ status: response.statusCode ?? 0, body })))
        }
      )
      request.on("error", (error) => resume(Effect.die(error)))
      for (let from = 0; from < bytes.length; from += 50_021) request.write(bytes.subarray(from, from + 50_021))
      request.end()
    })
  )

/** A chunk goes through promises, which the clock does not wait for. */
const untilSleeping = Effect.promise(() => new Promise((resolve) => setImmediate(resolve))).pipe(Effect.repeatN(50))

describe("proxy", () => {
  it.effect("sends on no method that Cal.com has no use for", () =>
    Effect.gen(function* () {
      for (const method of ["TRACE", "PROPFIND", "PURGE"]) {
        const text = yield* raw(
          `${method} ${base}/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${key}\r\nConnection: close\r\n\r\n`
        )
        assert.match(text, /^HTTP\/1\.1 405 [^]*"code":"MethodNotAllowed"/)
      }
      assert.deepStrictEqual(yield* sent, [])
    }).pipe(Effect.provide(layer))
  )

  it.effect("is for keys with its scope", () =>
    Effect.gen(function* () {
      const statuses = yield* Effect.forEach(
        [undefined, "x".repeat(40), keys.manage, keys.metrics, key, keys.all],
        (key) =>
          Effect.map(call({ method: "GET", path: `${base}/me`, key }), ({ headers, status }) => [
            status,
            headers["www-authenticate"]
          ])
      )
      assert.deepStrictEqual(statuses, [
        [401, "Bearer"],
        [401, "Bearer"],
        [403, undefined],
        [403, undefined],
        [200, undefined],
        [200, undefined]
      ])
      assert.strictEqual((yield* calls).length, 2)
    }).pipe(Effect.provide(layer))
  )

  it.effect("takes a UUID in its path for the user that it names", () =>
    Effect.gen(function* () {
      const uuid = uuidFromUlid(userUlid)
      for (const name of [uuid, uuid.toUpperCase()]) {
        const { status } = yield* call({ method: "GET", path: `${base.replace(userUlid, name)}/me`, key })
        assert.strictEqual(status, 200)
      }
      assert.deepStrictEqual(
        (yield* calls).map(([, user]) => user),
        [userUlid, userUlid]
      )
    }).pipe(Effect.provide(layer))
  )

  it.effect("passes method, path, query and body on as they are, and only harmless headers", () =>
    Effect.gen(function* () {
      const body = `{ "start" :"2030-01-01" ,"emoji":"\u{1F600}" }`
      yield* call({
        method: "PATCH",
        path: `${base.toLowerCase().replace("/api/cal/proxy", "/api/cal/proxy")}/bookings/a%20b?take=10&ids[]=1&x=%2Fy`,
        key,
        body,
        contentType: "application/merge-patch+json; charset=utf-8",
        headers: {
          accept: "application/json",
          "accept-language": "fr",
          "cal-api-version": "2024-08-13",
          cookie: "session=SECRET",
          origin: "https://app.example",
          referer: "https://app.example/x",
          "x-cal-secret-key": "SECRET",
          "x-cal-client-id": "client",
          "x-forwarded-for": "10.0.0.1",
          "x-custom": "1",
          "x-request-id": "mine",
          te: "trailers"
        }
      })
      const [request] = yield* sent
      assert.deepStrictEqual(
        { ...request, body: request?.body && { ...request.body, bytes: new TextDecoder().decode(request.body.bytes) } },
        {
          method: "PATCH",
          path: "/bookings/a%20b?take=10&ids[]=1&x=%2Fy",
          headers: {
            accept: "application/json",
            "accept-language": "fr",
            "cal-api-version": "2024-08-13",
            "x-request-id": "mine"
          },
          body: { bytes: body, contentType: "application/merge-patch+json; charset=utf-8" }
        }
      )
      assert.deepStrictEqual((yield* calls)[0]?.[1], userUlid)
    }).pipe(Effect.provide(layer))
  )

  it.effect("passes the request's own id on, and answers with that and not with Cal.com's", () =>
    Effect.gen(function* () {
      yield* answer(() => new Response("", { headers: { "x-request-id": "of-cal" } }))
      for (const headers of [{ "X-Request-Id": "mine" }, { "X-Request-Id": "a, b" }, {}]) {
        const told = (yield* call({ method: "GET", path: `${base}/me`, key, headers })).headers["x-request-id"]
        assert.strictEqual((yield* sent).at(-1)?.headers["x-request-id"], told)
        if (headers["X-Request-Id"] === "mine") assert.strictEqual(told, "mine")
        else assert.match(told ?? "", /^[0-9a-f-]{36}$/)
      }
    }).pipe(Effect.provide(layer))
  )

  it.effect("takes every method", () =>
    Effect.gen(function* () {
      const methods = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"] as const
      for (const method of methods) {
        assert.strictEqual((yield* call({ method, path: `${base}/me`, key })).status, 200, method)
      }
      assert.deepStrictEqual(
        (yield* sent).map((request) => [request.method, request.body]),
        methods.map((method) => [method, undefined])
      )
    }).pipe(Effect.provide(layer))
  )

  it.effect("brings Cal.com's answer back byte for byte, with its status and safe headers", () =>
    Effect.gen(function* () {
      const bytes = Uint8Array.from({ length: 256 }, (_, index) => index)
      yield* answer(
        () =>
          new Response(bytes, {
            status: 201,
            headers: {
              "content-type": "image/png",
              "content-length": "256",
              "cache-control": "public, max-age=3",
              etag: `"x"`,
              "retry-after": "7",
              "x-request-id": "id",
              "x-ratelimit-remaining-default": "119",
              "set-cookie": "session=SECRET",
              "access-control-allow-origin": "*",
              server: "cal",
              "x-powered-by": "Express",
              "keep-alive": "timeout=5",
              "strict-transport-security": "max-age=1",
              "www-authenticate": "Basic"
            }
          })
      )
      const head = yield* raw(
        `GET ${base}/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${key}\r\nConnection: close\r\n\r\n`
      )
      const [headers = "", body] = head.split("\r\n\r\n")
      assert.match(headers, /^HTTP\/1\.1 201 /)
      assert.strictEqual(body, Buffer.from(bytes).toString("latin1"))
      assert.deepStrictEqual(
        headers
          .split("\r\n")
          .slice(1)
          .filter((line) => !/^(date|connection|x-request-id):/i.test(line))
          .sort(),
        [
          "cache-control: no-store",
          "content-length: 256",
          "content-type: image/png",
          `etag: "x"`,
          "retry-after: 7",
          "x-content-type-options: nosniff",
          "x-ratelimit-remaining-default: 119"
        ]
      )
    }).pipe(Effect.provide(layer))
  )

  it.effect("passes refusals on: 498, 403, 429 and 500 are the caller's to see", () =>
    Effect.gen(function* () {
      for (const status of [400, 401, 403, 404, 429, 498, 500, 503]) {
        const text = `{"status":"error","error":{"code":"X","n":${status}}}`
        yield* answer(() => Object.defineProperty(new Response(text), "status", { value: status }))
        const { body, status: got } = yield* call({ method: "GET", path: `${base}/me`, key })
        assert.deepStrictEqual([got, body], [status, text])
      }
    }).pipe(Effect.provide(layer))
  )

  it.effect("answers without a body where there is none", () =>
    Effect.gen(function* () {
      for (const status of [204, 304]) {
        yield* answer(() => new Response(null, { status }))
        const { body, status: got } = yield* call({ method: "DELETE", path: `${base}/x`, key })
        assert.deepStrictEqual([got, body], [status, ""])
      }
    }).pipe(Effect.provide(layer))
  )

  it.effect("passes a redirect on, with its target only if that is Cal.com", () =>
    Effect.gen(function* () {
      const targets = {
        "/v2/bookings": true,
        "https://api.cal.com/v2/me": true,
        "https://evil.example/": false,
        "//evil.example/": false,
        "http://api.cal.com/v2/me": false,
        "javascript:alert(1)": false
      }
      for (const [location, kept] of Object.entries(targets)) {
        yield* answer(() => new Response(null, { status: 302, headers: { location } }))
        const { headers, status } = yield* call({ method: "HEAD", path: `${base}/me`, key })
        assert.deepStrictEqual([status, headers["location"]], [302, kept ? location : undefined])
      }
    }).pipe(Effect.provide(layer))
  )

  it.effect("fails in the form of every edge", () =>
    Effect.gen(function* () {
      const fake = yield* Fake
      const error = new TokenError.RefreshCoolingDown({ userUlid, retryAfter: Duration.seconds(3) })
      yield* Ref.set(fake.failure, Option.some(Effect.fail(error)))
      const answer = yield* call({ method: "GET", path: `${base}/me`, key })
      assert.deepStrictEqual(
        [answer.status, answer.body, answer.headers["retry-after"]],
        [429, JSON.stringify(TokenError.toFailure(error)), "3"]
      )
      assert.deepStrictEqual(
        fake.logs.map(({ annotations }) => annotations),
        [
          {
            operation: "proxy",
            apiKey: "proxy",
            userUlid,
            code: "RefreshCoolingDown",
            status: 429,
            requestId: answer.headers["x-request-id"]
          }
        ]
      )
    }).pipe(Effect.provide(layer))
  )

  it.effect("cuts off what breaks off or stalls for a minute, and nothing that is only slow", () =>
    Effect.gen(function* () {
      const get = `GET ${base}/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${key}\r\nConnection: close\r\n\r\n`
      const piece = new TextEncoder().encode("half")
      yield* answer(() => new Response(new ReadableStream({ start: (it) => it.error(new Error("SECRET")) })))
      assert.notInclude(yield* raw(get), "\r\n0\r\n")
      const { logs } = yield* Fake
      assert.deepStrictEqual(
        logs.splice(0).map(({ message }) => message),
        ["Cal.com's answer was cut: it broke off"]
      )

      const body = yield* Deferred.make<ReadableStreamDefaultController<Uint8Array>>()
      yield* answer(
        () => new Response(new ReadableStream({ start: (it) => Deferred.unsafeDone(body, Effect.succeed(it)) }))
      )
      const fiber = yield* Effect.fork(raw(get))
      const controller = yield* Deferred.await(body)
      for (const seconds of [59, 59, 59]) {
        controller.enqueue(piece)
        yield* untilSleeping
        yield* TestClock.adjust(Duration.seconds(seconds))
      }
      assert.isNull(fiber.unsafePoll())
      assert.deepStrictEqual(logs, [])
      yield* TestClock.adjust("1 seconds")
      const text = yield* Fiber.join(fiber)
      assert.match(text, /^HTTP\/1\.1 200 [^]*half[^]*half[^]*half/)
      assert.notInclude(text, "\r\n0\r\n")
      assert.deepStrictEqual(
        logs.map(({ message }) => message),
        ["Cal.com's answer was cut: nothing came for 1m"]
      )
      assert.notInclude(JSON.stringify(logs), "SECRET")
    }).pipe(Effect.provide(layer))
  )

  it.effect("takes bodies up to 1 MiB", () =>
    Effect.gen(function* () {
      const limit = 1024 * 1024
      const fits = yield* call({ path: `${base}/x`, key, body: "x".repeat(limit), contentType: "text/plain" })
      assert.strictEqual(fits.status, 200)
      assert.strictEqual((yield* sent)[0]?.body?.bytes.length, limit)
      const large = yield* call({ path: `${base}/x`, key, body: "x".repeat(limit + 1), contentType: "text/plain" })
      assert.strictEqual(large.status, 413)
      assert.strictEqual((yield* sent).length, 1)
    }).pipe(Effect.provide(layer))
  )

  it.effect("takes as much in chunks, whose sum nobody tells beforehand", () =>
    Effect.gen(function* () {
      const limit = 1024 * 1024
      for (const length of [limit - 1, limit]) {
        // No two chunks are alike, so that none can be lost, or take another's place.
        const bytes = Buffer.from(Array.from({ length }, (_, index) => (index * 31 + (index >> 8) * 7) & 0xff))
        const fits = yield* inChunks(bytes)
        assert.deepStrictEqual([fits.status, fits.body], [200, `{"ok":true}`])
        const got = (yield* sent).at(-1)
        assert(got?.body !== undefined)
        assert.deepStrictEqual([got.method, got.body.contentType], ["PATCH", "application/octet-stream"])
        assert.strictEqual(got.body.bytes.length, length)
        assert.isTrue(bytes.equals(got.body.bytes))
      }
      const large = yield* inChunks(Buffer.alloc(limit + 1, "x"))
      assert.strictEqual(large.status, 413)
      assert.deepInclude(JSON.parse(large.body), { success: false, code: "InvalidInput" })
      assert.strictEqual((yield* sent).length, 2)
    }).pipe(Effect.provide(layer))
  )
})

describe("token endpoints", () => {
  it.effect("are for nobody, whatever their spelling", () =>
    Effect.gen(function* () {
      for (const path of [
        "/oauth/client/refresh",
        "/oauth-clients/client/users/1/force-refresh",
        "/auth/oauth2/token",
        "/v2/oauth/client/refresh",
        "/api/v2/OAUTH/client/refresh",
        "/%6f%61uth/client/refresh",
        "/oauth;jsessionid=1/client/refresh",
        "/oauth.json",
        "/%EF%BD%8Fauth/client/refresh"
      ]) {
        const text = yield* raw(
          `POST ${base}${path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${key}\r\nContent-Length: 0\r\n` +
            `Connection: close\r\n\r\n`
        )
        assert.match(text, /^HTTP\/1\.1 400 [^]*"code":"InvalidInput"/, path)
      }
      assert.deepStrictEqual(yield* sent, [])
    }).pipe(Effect.provide(layer))
  )
})

describe("what leaves Cal.com's API is refused on the raw request target", () => {
  const attacks = [
    base,
    `${base}?x=/me`,
    `${base}//evil.example/me`,
    `${base}/http://evil.example/`,
    `${base}/\\evil.example`,
    `${base}/%5cevil.example`,
    `${base}/@evil.example/`,
    `${base}/%40evil.example`,
    `${base}/../admin`,
    `${base}/me/..`,
    `${base}/.`,
    `${base}/%2e%2e/admin`,
    `${base}/%2E./admin`,
    `${base}/..;/admin`,
    `${base}/x%2f..%2fadmin`,
    `${base}/%252e%252e/admin`,
    `${base}/me%00`,
    `${base}/me%0d%0aX-Evil:%201`,
    `${base}/me%`,
    `${base}/me%zz`,
    `${base}/%ff`,
    `${base}/me#fragment`,
    `${base}/%EF%BC%8E%EF%BC%8E/admin`,
    `/api/cal/%70roxy/${userUlid}/me`,
    `/api/cal/proxy/${userUlid}%2Fme`,
    `/api/cal/proxy/%30${userUlid.slice(1)}/me`,
    `/api/cal/proxy/../proxy/${userUlid}/me`,
    `/api/cal/proxy//${userUlid}/me`,
    `/api/cal/proxy/not-a-ulid/me`,
    `http://evil.example${base}/me`
  ]

  it.effect("whatever its spelling", () =>
    Effect.gen(function* () {
      for (const target of attacks) {
        const answer = yield* raw(
          `GET ${target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${key}\r\nConnection: close\r\n\r\n`
        )
        assert.match(answer, /^HTTP\/1\.1 (400|404) [^]*"success":false[^]*"code":"(InvalidInput|NotFound)"/, target)
        assert.notInclude(answer, "evil.example")
      }
      assert.deepStrictEqual(
        (yield* sent).map(({ path }) => path),
        []
      )
    }).pipe(Effect.provide(layer))
  )
})
