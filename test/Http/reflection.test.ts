/** A Cal.com that tells the user's token in its answers, in whatever form: no proxied answer and no action passes it on. */
import * as NodeHttp from "node:http"
import { HttpServer } from "@effect/platform"
import { NodeHttpServer } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Either, Layer, Logger } from "effect"
import * as Actions from "../../src/Actions.js"
import * as ApiKeys from "../../src/ApiKeys.js"
import * as CalApi from "../../src/CalApi.js"
import * as CalClient from "../../src/CalClient.js"
import * as CalClientNode from "../../src/CalHttp/Node.js"
import * as Http from "../../src/Http.js"
import * as CallerLimits from "../../src/Http/CallerLimits.js"
import * as Lifecycle from "../../src/Http/Lifecycle.js"
import * as FakeCalTokens from "../support/FakeCalTokens.js"
import { keys, layerFake, layerServices, userUlid } from "../support/HttpFakes.js"
import * as Reflections from "../support/Reflections.js"
import * as Secrets from "../support/Secrets.js"

const jwt = (n: number) => {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url")
  const signature = Array.from({ length: 32 }, (_, i) => (i * 89 + n * 37 + 11) & 0xff)
  return [
    part({ alg: "HS256", typ: "JWT" }),
    part({ type: "access_token", clientId: "cal-client", ownerId: 42, expiresAt: 1900000000000, iat: 1800000000 + n }),
    Buffer.from(signature).toString("base64url")
  ].join(".")
}
const token = jwt(1)

const secrets = Secrets.make()
secrets.add("token", token)

/** What a text tells of the token, for any reader; `written` is the form in which the token was told. */
const found = (bytes: Buffer, written: string): ReadonlyArray<string> =>
  Reflections.readings(bytes).flatMap((text) => {
    const pieces = Array.from({ length: Math.floor(written.length / 60) }, (_, i) => written.slice(i * 60, i * 60 + 60))
    return [
      ...secrets.find(text).map(({ form }) => form),
      ...pieces.filter((piece) => piece.length === 60 && text.includes(piece)).map(() => "as it was written")
    ]
  })

interface Answer {
  readonly status: number
  readonly headers: NodeHttp.IncomingHttpHeaders
  readonly head: string
  readonly body: Buffer
}

/** The service on the way to a Cal.com that answers what a test says. */
const start = Effect.gen(function* () {
  const cal = yield* Effect.acquireRelease(
    Effect.async<NodeHttp.Server>((resume) => {
      const server = NodeHttp.createServer()
      server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
    }),
    (server) =>
      Effect.sync(() => {
        server.closeAllConnections()
        server.close()
      })
  )
  const address = cal.address()
  assert(address !== null && typeof address === "object")
  const logs: Array<string> = []
  const logger = Logger.replace(
    Logger.defaultLogger,
    Logger.make((options) => void logs.push(Logger.jsonLogger.log(options)))
  )
  const api = CalApi.layer.pipe(
    Layer.provideMerge(CalClient.layer({ apiUrl: `http://127.0.0.1:${address.port}/v2` })),
    Layer.provideMerge(Layer.mergeAll(CalClientNode.layerTokenHttp, CalClientNode.layerApiHttp, FakeCalTokens.layer)),
    Layer.tap((context) => Context.get(context, FakeCalTokens.FakeTokens).setToken(Effect.succeed(token)))
  )
  const context = yield* Http.layer.pipe(
    Layer.provideMerge(NodeHttpServer.layerTest),
    Layer.provide(Layer.merge(Layer.provide(layerServices, layerFake), api)),
    Layer.provide(ApiKeys.layer(Either.getOrThrow(ApiKeys.parse(`proxy:${keys.proxy}:proxy`)))),
    Layer.provide(Lifecycle.layer),
    Layer.provide(CallerLimits.layerConfig({})),
    Layer.provide(logger),
    Layer.build
  )
  const server = Context.get(context, HttpServer.HttpServer).address
  assert(server._tag === "TcpAddress")
  const ask = (path: string, method = "POST") =>
    Effect.async<Answer>((resume) => {
      const request = NodeHttp.request(
        {
          port: server.port,
          method,
          path: `/api/cal/proxy/${userUlid}${path}`,
          headers: { authorization: `Bearer ${keys.proxy}` }
        },
        (response) => {
          const chunks: Array<Buffer> = []
          response.on("data", (chunk: Buffer) => chunks.push(chunk))
          response.on("end", () =>
            resume(
              Effect.succeed({
                status: response.statusCode ?? 0,
                headers: response.headers,
                head: response.rawHeaders.join("\n"),
                body: Buffer.concat(chunks)
              })
            )
          )
        }
      )
      request.on("error", (error) => resume(Effect.die(error)))
      request.end()
      return Effect.sync(() => request.destroy())
    })
  /** What Cal.com answers, by the path that it is asked for. */
  const answer = (make: (path: string) => Pick<Reflections.Reflection, "status" | "headers" | "body">) => {
    cal.removeAllListeners("request")
    cal.on("request", (request: NodeHttp.IncomingMessage, response: NodeHttp.ServerResponse) => {
      assert.strictEqual(request.headers.authorization, `Bearer ${token}`)
      const { body, headers, status } = make(request.url?.replace("/v2", "") ?? "")
      request.resume()
      response.writeHead(status, headers).end(body)
    })
  }
  return { api: Layer.provide(api, logger), answer, ask, logs }
})

const seedOf = (path: string) => Number(path.split("/").at(-1))

describe("a token that Cal.com tells", () => {
  it.scopedLive(
    "in 2,000 answers, in every form, comes out of the proxy in none",
    () =>
      Effect.gen(function* () {
        const { answer, ask, logs } = yield* start
        answer((path) => Reflections.make(seedOf(path), token))
        const seeds = Array.from({ length: 2000 }, (_, i) => i)
        const told = yield* Effect.forEach(
          seeds,
          (seed) =>
            Effect.gen(function* () {
              const sent = Reflections.make(seed, token)
              const { body, head, headers, status } = yield* ask(`/bookings/${seed}`)
              assert.deepStrictEqual(found(body, sent.written), [], sent.name)
              assert.deepStrictEqual(found(Buffer.from(head), sent.written), [], sent.name)
              assert.strictEqual(status, sent.status, sent.name)
              assert.isUndefined(headers["content-encoding"], sent.name)
              assert.match(headers["content-type"] ?? "", /; charset=utf-8$/, sent.name)
              assert.strictEqual(headers["content-length"], String(body.length), sent.name)
              assert.isUndefined(headers.etag, sent.name)
              const text = new TextDecoder("utf-8", { fatal: true }).decode(body)
              if (sent.isOrdinary) assert.include(text, "<redacted>", sent.name)
              return text.includes('"code":"CalProtocolError"') ? "withheld" : "cleaned"
            }),
          { concurrency: 16 }
        )
        // Withholding everything would be no art.
        assert.isAbove(told.filter((it) => it === "cleaned").length, 300)
        assert.isAbove(told.filter((it) => it === "withheld").length, 300)
        assert.deepStrictEqual(found(Buffer.from(logs.join("\n")), "-"), [])
      }),
    240_000
  )

  it.scopedLive("in a header, of a failure or of a success, does not come with it", () =>
    Effect.gen(function* () {
      const { answer, ask } = yield* start
      const names = [
        "cache-control",
        "content-disposition",
        "content-language",
        "etag",
        "expires",
        "last-modified",
        "location",
        "vary",
        "x-request-id",
        "x-ratelimit-remaining-default",
        "set-cookie"
      ]
      const cases = Object.entries(Reflections.writings).flatMap(([name, write], i) => {
        const written = write(token, Reflections.random(i)).replace(/[\s\u00ad\u200b\u2060]+/g, " ")
        // A header holds ASCII.
        if (/[^\x20-\x7e]/.test(written)) return []
        return [200, 201, 204, 404, 302].map((status) => ({
          name,
          written,
          status,
          header: names[(i + status) % 11] ?? ""
        }))
      })
      answer((path) => {
        const { header, status, written } = cases[seedOf(path)] ?? assert.fail()
        const headers = {
          "content-type": `application/json; x="${written.replaceAll('"', "")}"`,
          "x-ratelimit-limit-default": "120",
          [header]: header === "location" ? `/v2/me?x=${written}` : written
        }
        return { status, headers, body: Buffer.from(status === 204 ? "" : '{"ok":true}') }
      })
      let kept = 0
      for (const [i, { header, name, status, written }] of cases.entries()) {
        const got = yield* ask(`/bookings/${i}`)
        const title = `${name} in ${header} of ${status}`
        assert.strictEqual(got.status, status, title)
        // One that is in base 64 twice is not looked for in successes.
        if (!(status < 300 && /twice|hex of/.test(name))) {
          assert.deepStrictEqual(found(Buffer.from(got.head), written), [], title)
        }
        assert.isUndefined(got.headers["set-cookie"], title)
        assert.strictEqual(got.headers["x-ratelimit-limit-default"], "120", title)
        if (got.head.includes("<redacted>")) kept++
      }
      assert.isAbove(kept, 0)
    })
  )

  it.scopedLive("where it is asked for, comes as nobody's", () =>
    Effect.gen(function* () {
      const { answer, ask } = yield* start
      const other = jwt(2)
      const grants: ReadonlyArray<readonly [body: string, status: number]> = [
        [
          JSON.stringify({ status: "success", data: { accessToken: token, refreshToken: other, expiresIn: 3600 } }),
          200
        ],
        [JSON.stringify({ access_token: "opaque-1", "refresh-token": "opaque-2", clientSecret: "opaque-3" }), 200],
        [JSON.stringify({ data: [other, { note: `Bearer ${other}`, [other]: 1 }] }), 200],
        [`{"data":{"\\u0061ccessToken":"opaque-1"}}`, 200],
        [`<token>${other}</token>`, 502],
        [JSON.stringify({ x: Buffer.from(token).toString("base64") }), 200],
        [JSON.stringify({ x: Buffer.from(token).toString("hex") }), 502]
      ]
      answer((path) => ({
        status: 200,
        headers: { "content-type": "application/json" },
        body: Buffer.from(grants[Number(/\d+$/.exec(path)?.[0])]?.[0] ?? "")
      }))
      for (const [i, [, status]] of grants.entries()) {
        for (const path of ["/provider/client/access-token", "/v2/Provider/c/%61ccess-token"]) {
          const got = yield* ask(`${path}?${i}`, "GET")
          assert.strictEqual(got.status, status, `${i}`)
          assert.deepStrictEqual(found(got.body, "-"), [], `${i}`)
          assert.notMatch(got.body.toString(), /opaque/, `${i}`)
          assert.notInclude(got.body.toString(), other.slice(-30), `${i}`)
        }
      }
      answer(() => ({ status: 200, headers: {}, body: Buffer.from('{"status":"success"}') }))
      assert.strictEqual((yield* ask("/provider/c/access-token", "GET")).body.toString(), '{"status":"success"}')
    })
  )

  it.scopedLive(
    "comes out of no action either, nor is it logged",
    () =>
      Effect.gen(function* () {
        const { answer, api, logs } = yield* start
        answer((path) => Reflections.make(seedOf(path), token))
        const actions = Actions.make({ layer: api })
        for (let seed = 10_000; seed < 10_400; seed++) {
          const failure = yield* Effect.promise(() =>
            actions.makeCalApiRequest(`/bookings/${seed}`, "POST", { x: 1 }, userUlid)
          )
          const sent = Reflections.make(seed, token)
          assert.isTrue(Actions.isFailure(failure), sent.name)
          assert.deepStrictEqual(found(Buffer.from(JSON.stringify(failure)), sent.written), [], sent.name)
        }
        assert.isAbove(logs.length, 300)
        assert.deepStrictEqual(found(Buffer.from(logs.join("\n")), "-"), [])
        yield* Effect.promise(() => actions.dispose())
      }),
    120_000
  )
})
