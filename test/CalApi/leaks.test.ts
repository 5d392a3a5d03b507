import * as Http from "node:http"
import * as Zlib from "node:zlib"
import { assert, describe, it } from "@effect/vitest"
import { Chunk, Effect, Fiber, Layer, Schema, Stream, TestClock } from "effect"
import * as CalApi from "../../src/CalApi.js"
import * as CalClient from "../../src/CalClient.js"
import * as CalClientNode from "../../src/CalHttp/Node.js"
import { UserUlid } from "../../src/Token.js"
import * as OtherHttp from "../support/OtherHttp.js"
import * as ScriptedCal from "../support/ScriptedCal.js"
import * as FakeCalTokens from "../support/FakeCalTokens.js"
import { assertClean, exitRenderings, recording, renderings } from "../support/Leaks.js"

const user = Schema.decodeSync(UserUlid)("01ARZ3NDEKTSV4RRFFQ69G5FAV")
// Odd ones, that nothing but knowing them gives away.
const first = "t.k-1!$"
const second = "t.k-2!$"
const secrets = [first, second]

const layer = CalApi.layer.pipe(
  Layer.provideMerge(CalClient.layer({ apiUrl: "https://api.cal.com/v2" })),
  Layer.provideMerge(Layer.merge(ScriptedCal.layer, FakeCalTokens.layer))
)
const setTokens = Effect.flatMap(FakeCalTokens.FakeTokens, (tokens) =>
  Effect.zipRight(tokens.setToken(Effect.succeed(first)), tokens.advise(FakeCalTokens.retryWith(second)))
)
const guardText = (token: string) => `PermissionsGuard - no oAuth client found for access token=${token}`
const guard = (token: string) =>
  ScriptedCal.platformError(403, guardText(token), { message: guardText(token) }, { "x-quoted": `v ${token}` })

describe("a token that Cal.com quotes", () => {
  it.effect("is replaced in body and headers, whichever token it was", () =>
    Effect.gen(function* () {
      yield* setTokens
      const http = yield* ScriptedCal.ScriptedCal
      const api = yield* CalApi.CalApi
      yield* http.reply(guard(first), guard(second), guard(first))
      const retried = yield* api.send(user, { method: "GET", path: "/bookings" })
      const givenUp = yield* api.client(user).get("/bookings")
      for (const response of [retried, givenUp]) {
        const text = yield* response.text
        assert.include(text, guardText("<redacted>"))
        assert.strictEqual(response.headers["x-quoted"], "v <redacted>")
        assert.strictEqual(response.status, 403)
        assert.notProperty(response.headers, "content-length")
        assertClean(renderings([text, response, response.headers, response.request]), secrets)
      }
      assert.deepStrictEqual(
        (yield* http.requests).map(({ headers }) => headers["authorization"]),
        [first, second, first].map((token) => `Bearer ${token}`)
      )
    }).pipe(Effect.provide(layer))
  )

  it.effect("is replaced in every other error answer, and nothing else is touched", () =>
    Effect.gen(function* () {
      yield* setTokens
      const http = yield* ScriptedCal.ScriptedCal
      const api = yield* CalApi.CalApi
      for (const status of [400, 404, 409, 422, 500]) {
        yield* http.reply({
          status,
          body: `é ${first} \u2028 x`,
          headers: { "content-type": "text/x", "x-request-id": "1" }
        })
        const response = yield* api.send(user, { method: "POST", path: "/bookings" })
        assert.strictEqual(yield* response.text, "é <redacted> \u2028 x")
        assert.strictEqual(response.headers["content-type"], "text/x; charset=utf-8")
        assert.strictEqual(response.headers["x-request-id"], "1")
      }
    }).pipe(Effect.provide(layer))
  )
})

describe("an error answer that is encoded, unasked", () => {
  const encodings = [
    ["gzip", Zlib.gzipSync],
    ["deflate", Zlib.deflateSync],
    ["br", Zlib.brotliCompressSync]
  ] as const

  const answer = (body: string | Uint8Array, headers: Readonly<Record<string, string>>) =>
    Effect.gen(function* () {
      yield* setTokens
      const http = yield* ScriptedCal.ScriptedCal
      yield* http.reply({ status: 404, body, headers })
      const response = yield* Effect.flatMap(CalApi.CalApi, (api) =>
        api.send(user, { method: "POST", path: "/bookings" })
      )
      assert.notProperty(response.headers, "content-encoding")
      return Buffer.from(yield* response.arrayBuffer)
    }).pipe(Effect.provide(layer))

  it.effect.each(encodings)("in %s leaves decoded, without its token", ([encoding, encode]) =>
    Effect.gen(function* () {
      for (const headers of [{ "content-encoding": encoding }, {}]) {
        const body = yield* answer(encode(`{"quoted":"é ${first}"}`), headers)
        assert.strictEqual(body.toString(), '{"quoted":"é <redacted>"}')
      }
    })
  )

  it.effect("and was decoded on the way, under its old header, leaves as it is", () =>
    Effect.map(answer(`quoted ${first}`, { "content-encoding": "gzip" }), (body) =>
      assert.strictEqual(body.toString(), "quoted <redacted>")
    )
  )

  const isWithheld = (body: Buffer) => assert.deepInclude(JSON.parse(body.toString()), { code: "CalProtocolError" })

  it.effect("and cannot be decoded leaves without its words", () =>
    Effect.map(answer(Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd, 0, 0xff, 0), { "content-encoding": "zstd" }), isWithheld)
  )

  it.effect("and is no text at all does so too", () =>
    Effect.map(answer(Uint8Array.of(0x89, 0x50, 0xff, 0xe9, 0), { "content-type": "image/png" }), isWithheld)
  )

  it.effect("and could be read as text undecoded, by the alphabet that it is said to be in, is withheld", () => {
    const quoted = (padding: string) => Zlib.brotliCompressSync(Buffer.from(`${first} ${padding}`, "utf16le"))
    const isText = (bytes: Uint8Array) => {
      try {
        return !/[\x00-\x1f\x7f]/.test(new TextDecoder("utf-16le", { fatal: true }).decode(bytes))
      } catch {
        return false
      }
    }
    const found = Array.from({ length: 5000 }, (_, n) => quoted(String(n))).filter(isText)
    assert.isAbove(found.length, 0)
    return Effect.forEach(found.slice(0, 10), (body) =>
      Effect.map(answer(body, { "content-type": "text/plain; charset=utf-16le" }), isWithheld)
    )
  })

  it.effect("does not grow beyond measure, nor is any other read beyond it", () =>
    Effect.gen(function* () {
      const long = "x".repeat(2 * 1024 * 1024)
      isWithheld(yield* answer(Zlib.gzipSync(long), { "content-encoding": "gzip" }))
      isWithheld(yield* answer(long, {}))
      assert.strictEqual((yield* answer(long.slice(0, 1024 * 1024 - 1), {})).length, 1024 * 1024 - 1)
    })
  )
})

describe("no token is in any error, response, span or log", () => {
  it.effect.each([
    ["success", { status: 200, body: { data: 1 } }],
    ["a wrong shape", { status: 200, body: { data: first, [first]: first } }],
    ["not JSON", { status: 200, body: `${first}` }],
    ["a broken body", { truncated: 200 }],
    ["a quoting 403", guard(first)],
    ["a quoting 500", { status: 500, body: first }],
    ["a 429", { status: 429, body: first }],
    ["a reset that quotes", { fail: Object.assign(new Error(first), { code: "ECONNRESET", token: first }) }],
    ["a defect that quotes", { defect: new Error(first) }],
    ["a redirect", { status: 302, headers: { location: "https://elsewhere.example" } }]
  ] as const)("after %s", ([, reply]) =>
    Effect.gen(function* () {
      const recorder = yield* recording
      const texts = yield* Effect.gen(function* () {
        const tokens = yield* FakeCalTokens.FakeTokens
        yield* tokens.setToken(Effect.succeed(first))
        const http = yield* ScriptedCal.ScriptedCal
        const api = yield* CalApi.CalApi
        yield* http.reply(reply, reply, reply)
        const calls: ReadonlyArray<Effect.Effect<unknown, unknown>> = [
          api.send(user, { method: "POST", path: "/bookings" }),
          api.client(user).post("/bookings", {}),
          api.request(user, { method: "POST", path: "/bookings", schema: Schema.Struct({ data: Schema.Number }) })
        ]
        return yield* Effect.forEach(calls, (call) =>
          call.pipe(
            Effect.tap((response) => Effect.logInfo(response, renderings(response))),
            Effect.tapErrorCause((cause) => Effect.logError("failed", cause)),
            Effect.tapError((error) => Effect.logError(error)),
            Effect.withSpan("caller"),
            Effect.exit,
            Effect.map(exitRenderings)
          )
        )
      }).pipe(Effect.provide(Layer.provideMerge(layer, recorder.layer)))
      const written = yield* recorder.text
      assert.include(written, "CalApi.send")
      assertClean(`${texts.join("\n")}\n${written}`, secrets)
    })
  )

  it.effect("when the body of a success is read and breaks off", () =>
    Effect.gen(function* () {
      yield* setTokens
      const http = yield* ScriptedCal.ScriptedCal
      const api = yield* CalApi.CalApi
      for (const read of ["text", "json", "arrayBuffer", "formData", "urlParamsBody", "stream"] as const) {
        yield* http.reply({ truncated: 200 })
        const response = yield* api.client(user).get("/bookings")
        const error = yield* Effect.flip(
          read === "stream"
            ? Stream.runCollect(response.stream)
            : Effect.asVoid<unknown, unknown, never>(response[read])
        )
        assertClean(exitRenderings(yield* Effect.exit(Effect.fail(error))), secrets)
        assertClean(renderings(error), secrets)
      }
    }).pipe(Effect.provide(layer))
  )

  it.effect("nor does Cal.com see the caller's traces", () =>
    Effect.gen(function* () {
      const http = yield* ScriptedCal.ScriptedCal
      const api = yield* CalApi.CalApi
      yield* http.reply({ status: 200 })
      yield* api.send(user, { method: "GET", path: "/me" }).pipe(Effect.withSpan("caller"))
      const [request] = yield* http.requests
      assert.deepStrictEqual(
        Object.keys(request?.headers ?? {}).filter((name) => name.includes("trace") || name === "b3"),
        []
      )
    }).pipe(Effect.provide(layer))
  )
})

describe("a success", () => {
  it.effect("comes as a stream, untouched, and can be interrupted", () =>
    Effect.gen(function* () {
      const http = yield* ScriptedCal.ScriptedCal
      const api = yield* CalApi.CalApi
      yield* http.reply({ status: 200, body: "some text", headers: { "x-request-id": "r", "set-cookie": "a=b" } })
      const response = yield* api.client(user).get("/bookings")
      const chunks = yield* Stream.runCollect(response.stream)
      assert.strictEqual(Buffer.concat(Chunk.toReadonlyArray(chunks)).toString(), "some text")
      assert.strictEqual(response.headers["x-request-id"], "r")
      yield* http.reply({ never: true })
      const fiber = yield* Effect.fork(api.client(user).get("/bookings"))
      yield* TestClock.adjust(1)
      yield* Fiber.interrupt(fiber)
    }).pipe(Effect.provide(layer))
  )
})

describe("over a socket", () => {
  const listen = (handler: Http.RequestListener) =>
    Effect.acquireRelease(
      Effect.async<{ readonly url: string; readonly server: Http.Server }>((resume) => {
        const server = Http.createServer(handler)
        server.listen(0, "127.0.0.1", () => {
          const address = server.address()
          assert(address !== null && typeof address === "object")
          resume(Effect.succeed({ server, url: `http://127.0.0.1:${address.port}` }))
        })
      }),
      ({ server }) =>
        Effect.sync(() => {
          server.closeAllConnections()
          server.close()
        })
    )

  for (const [name, http] of [
    ["undici", CalClientNode.layerApiHttp],
    ["fetch", OtherHttp.fetch]
  ] as const) {
    it.scopedLive(`a redirect is the caller's answer, the token does not follow it (${name})`, () =>
      Effect.gen(function* () {
        const elsewhere: Array<string | undefined> = []
        const other = yield* listen((request, response) => {
          elsewhere.push(request.headers.authorization)
          response.end("{}")
        })
        const { url } = yield* listen((_, response) => {
          response.writeHead(302, { location: `${other.url}/v2/me` }).end()
        })
        const response = yield* Effect.flatMap(CalApi.CalApi, (api) =>
          api.send(user, { method: "GET", path: "/me" })
        ).pipe(
          Effect.provide(
            CalApi.layer.pipe(
              Layer.provide(CalClient.layer({ apiUrl: `${url}/v2` }).pipe(Layer.provide(CalClientNode.layerTokenHttp))),
              Layer.provide(Layer.merge(http, FakeCalTokens.layer))
            )
          )
        )
        assert.strictEqual(response.status, 302)
        assert.deepStrictEqual(elsewhere, [])
      })
    )

    it.scopedLive.each([
      { status: 600, path: "/me", answered: 502 },
      { status: 205, path: "/provider/a/access-token", answered: 205 }
    ])(`a status that no answer can be made with is an answer (${name}): $status`, ({ answered, path, status }) =>
      Effect.gen(function* () {
        const { url } = yield* listen((_, response) => response.writeHead(status, { "content-length": 2 }).end("{}"))
        const response = yield* Effect.flatMap(CalApi.CalApi, (api) => api.send(user, { method: "POST", path })).pipe(
          Effect.provide(
            CalApi.layer.pipe(
              Layer.provide(CalClient.layer({ apiUrl: `${url}/v2` }).pipe(Layer.provide(CalClientNode.layerTokenHttp))),
              Layer.provide(Layer.merge(http, FakeCalTokens.layer))
            )
          )
        )
        assert.strictEqual(response.status, answered)
      })
    )

    it.scopedLive(`the path arrives as it was judged (${name})`, () =>
      Effect.gen(function* () {
        const seen: Array<string | undefined> = []
        const { url } = yield* listen((request, response) => {
          seen.push(`${request.url} ${request.headers["accept-encoding"]} ${request.headers.authorization}`)
          response.end("{}")
        })
        const path = "/bookings/a%20b?emails[]=a%40b.c&x=%2e%2e%2f&y='"
        yield* Effect.flatMap(CalApi.CalApi, (api) => api.send(user, { method: "GET", path })).pipe(
          Effect.provide(
            CalApi.layer.pipe(
              Layer.provide(CalClient.layer({ apiUrl: `${url}/v2` }).pipe(Layer.provide(CalClientNode.layerTokenHttp))),
              Layer.provide(Layer.merge(http, FakeCalTokens.layer))
            )
          )
        )
        assert.deepStrictEqual(seen, ["/v2/bookings/a%20b?emails[]=a%40b.c&x=%2e%2e%2f&y=%27 identity Bearer token-1"])
      })
    )
  }
})
