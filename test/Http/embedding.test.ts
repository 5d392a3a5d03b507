/** The service within programs that have an HTTP API of their own: what holds for which of the two, and where ours begins. */
import {
  HttpApi,
  HttpApiBuilder,
  HttpApiEndpoint,
  HttpApiGroup,
  HttpApiMiddleware,
  HttpApiSwagger,
  HttpMiddleware,
  HttpRouter,
  HttpServerResponse,
  OpenApi
} from "@effect/platform"
import { NodeHttpServer } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Layer, Option, Schema } from "effect"
import { Api } from "../../src/Api.js"
import { HealthApi } from "../../src/Api/Health.js"
import { TokensApi } from "../../src/Api/Tokens.js"
import * as ApiKeys from "../../src/ApiKeys.js"
import * as Http from "../../src/Http.js"
import * as Lifecycle from "../../src/Http/Lifecycle.js"
import * as Origins from "../../src/Http/Origins.js"
import * as Sessions from "../../src/Sessions.js"
import * as ManagedUsers from "../../src/ManagedUsers.js"
import type { TokenStorage } from "../../src/TokenStorage.js"
import { call, calls, Fake, keys, layerFake, layerServices, logger, userUlid } from "../support/HttpFakes.js"
import { recording } from "../support/Leaks.js"

// ---------------------------------------------------------------------------------------------------------------------
// An API of somebody's
// ---------------------------------------------------------------------------------------------------------------------

class Mine extends HttpApiGroup.make("mine")
  .add(
    HttpApiEndpoint.get("greet", "/greet/:times")
      .setPath(Schema.Struct({ times: Schema.NumberFromString }))
      .addSuccess(Schema.String)
  )
  .add(HttpApiEndpoint.get("fault", "/fault").addSuccess(Schema.String)) {}

class MyApi extends HttpApi.make("my").add(Mine) {}

const handleMine = <Id extends string, Groups extends typeof Mine | HttpApiGroup.HttpApiGroup.Any, E>(
  api: HttpApi.HttpApi<Id, Groups, E>
) =>
  HttpApiBuilder.group(api as unknown as typeof MyApi, "mine", (handlers) =>
    handlers
      .handle("greet", ({ path }) => Effect.succeed("hello ".repeat(path.times)))
      .handle("fault", () => Effect.die(new Error("of my own")))
  ) as unknown as Layer.Layer<HttpApiGroup.ApiGroup<Id, "mine">>

const MyApiLive = HttpApiBuilder.api(MyApi).pipe(Layer.provide(handleMine(MyApi)))

const apiKeys = Option.getOrThrow(
  Option.getRight(ApiKeys.parse(`all:${keys.all}:manage+read-token+proxy,manage:${keys.manage}:manage`))
)

const origin = "https://app.example.com"

/** What any of them needs, and a client that asks over a socket. */
const around = <A, E, R>(served: Layer.Layer<A, E, R>) =>
  served.pipe(
    Layer.provideMerge(NodeHttpServer.layerTest),
    Layer.provide([
      ApiKeys.layer(apiKeys),
      Lifecycle.layer,
      Layer.succeed(Origins.AllowedOrigins, [origin]),
      Sessions.layer,
      ManagedUsers.layer
    ]),
    Layer.provide(layerServices),
    Layer.provide(logger),
    Layer.provideMerge(layerFake)
  )

const ensure = (path = "/api/cal/ensure-token") => call({ path, key: keys.manage, body: JSON.stringify({ userUlid }) })

const get = (path: string, more: object = {}) => call({ method: "GET", path, ...more })

const codeOf = ({ body }: { readonly body: string }) => (JSON.parse(body) as { readonly code?: string }).code

// ---------------------------------------------------------------------------------------------------------------------
// Beside it
// ---------------------------------------------------------------------------------------------------------------------

describe("an API beside ours", () => {
  const beside = around(Http.layerWith({ api: MyApiLive }))

  it.effect("is answered as it would be alone, and ours as ever", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual((yield* get("/greet/2")).body, JSON.stringify("hello hello "))
      const ours = yield* ensure()
      assert.strictEqual(ours.status, 200)
      assert.strictEqual(ours.headers["cache-control"], "no-store")
      assert.isDefined(ours.headers["x-request-id"])
      assert.strictEqual((yield* get("/health/live")).status, 200)
      assert.strictEqual((yield* get("/docs")).status, 200)
    }).pipe(Effect.provide(beside))
  )

  it("has handlers for all its groups, by type", () => {
    type Needed = Layer.Layer.Context<typeof Http.layer>
    const whole: Layer.Layer<never, never, Needed> = Http.layerWith({ api: MyApiLive })
    // @ts-expect-error: nobody has handlers for `mine`
    const empty: Layer.Layer<never, never, Needed> = Http.layerWith({ api: HttpApiBuilder.api(MyApi) })
    assert.isTrue([whole, empty].every(Layer.isLayer))
  })

  it.effect("keeps its own 404, its own 400 and its own faults", () =>
    Effect.gen(function* () {
      const alone = around(HttpApiBuilder.serve().pipe(Layer.provide(MyApiLive)))
      const paths = ["/nothing", "/greet/x", "/fault", "/health/other", "/api/other", "/API/CAL/ensure-token"]
      const ask = Effect.forEach(paths, (path) =>
        Effect.map(get(path), ({ body, headers, status }) => ({
          status,
          body,
          headers: { ...headers, date: undefined, "x-request-id": headers["x-request-id"] }
        }))
      )
      const { answers, logs } = yield* Effect.gen(function* () {
        return { answers: yield* ask, logs: (yield* Fake).logs.map(({ message }) => message) }
      }).pipe(Effect.provide(beside))
      assert.deepStrictEqual(answers, yield* Effect.provide(ask, alone))
      assert.deepStrictEqual(
        answers.map(({ status }) => status),
        [404, 400, 500, 404, 404, 404]
      )
      assert.notInclude(logs.join("\n"), "Unexpected fault")
    })
  )

  it.effect("has no part in what is below /api/cal/", () =>
    Effect.gen(function* () {
      const answer = yield* get("/api/cal/nothing")
      assert.strictEqual(answer.status, 404)
      assert.strictEqual(codeOf(answer), "NotFound")
      const method = yield* get("/api/cal/ensure-token")
      assert.strictEqual(method.status, 405)
      assert.deepStrictEqual(yield* calls, [])
    }).pipe(Effect.provide(beside))
  )

  it.effect("has its own middleware, which ours never meets", () =>
    Effect.gen(function* () {
      const tagged = HttpApiBuilder.middleware(
        HttpMiddleware.make(Effect.map(HttpServerResponse.setHeader("x-mine", "1")))
      )
      yield* Effect.gen(function* () {
        assert.strictEqual((yield* get("/greet/1")).headers["x-mine"], "1")
        assert.isUndefined((yield* ensure()).headers["x-mine"])
      }).pipe(Effect.provide(around(Http.layerWith({ api: Layer.merge(MyApiLive, tagged) }))))
    })
  )

  it.effect("has the platform's spans, and ours tell no URL", () =>
    Effect.gen(function* () {
      const recorder = yield* recording
      yield* Effect.gen(function* () {
        yield* get("/greet/1?q=mine")
        yield* get("/health/live?q=SECRET")
      }).pipe(Effect.provide(Layer.provideMerge(beside, recorder.layer)))
      const spans = recorder.spans
        .filter(({ name }) => name === "http.server GET" || name === "GET /health/live")
        .map(({ attributes }) => JSON.stringify([...attributes]))
      assert.lengthOf(spans, 2)
      assert.include(spans[0], "q=mine")
      assert.notInclude(spans[1], "SECRET")
    })
  )

  it.effect("with a path of ours stops the start, and says which", () =>
    Effect.gen(function* () {
      class Twice extends MyApi.add(
        HttpApiGroup.make("twice")
          .add(HttpApiEndpoint.get("one", "/metrics").addSuccess(Schema.String))
          .add(HttpApiEndpoint.post("two", "/api/cal/mine/:id").addSuccess(Schema.String))
      ) {}
      const twice = HttpApiBuilder.group(Twice, "twice", (handlers) =>
        handlers.handle("one", () => Effect.succeed("1")).handle("two", () => Effect.succeed("2"))
      )
      const api = HttpApiSwagger.layer().pipe(
        Layer.provideMerge(HttpApiBuilder.api(Twice)),
        Layer.provide([handleMine(Twice), twice])
      )
      const message = yield* failing(around(Http.layerWith({ api })))
      assert.include(message, "has these paths of your API too: GET /metrics, POST /api/cal/mine/:id, GET /docs.")
      assert.include(message, `Http.layerWith({ api, prefix: "/cal-tokens" })`)
      yield* Effect.gen(function* () {
        assert.include((yield* get("/docs")).body, "greet")
        assert.strictEqual((yield* ensure("/cal-tokens/api/cal/ensure-token")).status, 200)
      }).pipe(Effect.provide(around(Http.layerWith({ api, prefix: "/cal-tokens" }))))
    })
  )
})

/** Why a layer cannot be built. */
const failing = <A, E>(layer: Layer.Layer<A, E>) =>
  Effect.map(Effect.exit(Effect.scoped(Layer.build(layer))), (exit) =>
    Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "it was built"
  )

describe("a second app on one server", () => {
  const mine = HttpApiBuilder.serve().pipe(Layer.provide(MyApiLive))

  it.effect("that is served after ours stops the start, and says what to do", () =>
    Effect.gen(function* () {
      const message = yield* failing(around(Layer.provideMerge(mine, Http.layer)))
      assert.include(message, "Something else is served beside cal-tokens on the same server")
      assert.include(message, "Http.layerWith({ api })")
    })
  )

  it.effect("that was served before ours is told of with the first request", () =>
    Effect.gen(function* () {
      yield* ensure()
      yield* ensure()
      const told = (yield* Fake).logs.filter(({ message }) => message.includes("Something else is served"))
      assert.deepStrictEqual(
        told.map(({ level }) => level),
        ["ERROR"]
      )
    }).pipe(Effect.provide(around(Layer.provideMerge(Http.layer, mine))))
  )

  it.effect("of the same program, on another server, is nobody's business here", () =>
    Effect.gen(function* () {
      assert.strictEqual((yield* ensure()).status, 200)
      assert.strictEqual(codeOf(yield* get("/greet/1")), "NotFound")
    }).pipe(
      Effect.provide(
        around(Http.layer.pipe(Layer.provideMerge(Layer.provide(mine, Layer.fresh(NodeHttpServer.layerTest)))))
      )
    )
  )
})

// ---------------------------------------------------------------------------------------------------------------------
// Below a prefix
// ---------------------------------------------------------------------------------------------------------------------

describe("below a prefix", () => {
  const prefixed = around(Http.layerWith({ prefix: "/internal/tokens" }))

  it.effect("everything is there, and nowhere else", () =>
    Effect.gen(function* () {
      assert.strictEqual((yield* ensure("/internal/tokens/api/cal/ensure-token")).status, 200)
      assert.strictEqual((yield* get("/internal/tokens/health/ready")).status, 200)
      const proxied = yield* get(`/internal/tokens/api/cal/proxy/${userUlid}/me?x=1`, { key: keys.all })
      assert.strictEqual(proxied.status, 200)
      assert.include(JSON.stringify(yield* calls), "/me?x=1")
      for (const path of [
        "/api/cal/ensure-token",
        "/Internal/tokens/api/cal/ensure-token",
        "/internal/%74okens/api/cal/ensure-token",
        "/internal//tokens/api/cal/ensure-token",
        "/internal/tokens/internal/tokens/api/cal/ensure-token",
        "/internal/tokens",
        "/internal/tokens-not/api/cal/ensure-token"
      ]) {
        const answer = yield* ensure(path)
        assert.strictEqual(answer.status, 404, path)
        assert.strictEqual(codeOf(answer), "NotFound", path)
        assert.include(answer.body, "/internal/tokens/docs", path)
      }
    }).pipe(Effect.provide(prefixed))
  )

  it.effect("paths with rules of their own keep them", () =>
    Effect.gen(function* () {
      const atoms = yield* get("/internal/tokens/api/cal/atoms/refresh", { headers: { origin } })
      assert.include(atoms.body, `"accessToken":""`)
      assert.strictEqual(atoms.headers["access-control-allow-origin"], origin)
      const made = yield* call({
        path: "/internal/tokens/api/cal/sessions",
        key: keys.all,
        body: JSON.stringify({ userUlid, paths: ["/bookings"] })
      })
      const { session } = JSON.parse(made.body) as { readonly session: string }
      assert.strictEqual((yield* get("/internal/tokens/api/cal/me/bookings?x=2", { key: session })).status, 200)
      assert.strictEqual(codeOf(yield* get("/internal/tokens/api/cal/me/me", { key: session })), "Forbidden")
      assert.include(JSON.stringify(yield* calls), "/bookings?x=2")
      const me = yield* call({ method: "OPTIONS", path: "/internal/tokens/api/cal/me/x", headers: { origin } })
      assert.strictEqual(me.status, 204)
      assert.strictEqual(codeOf(yield* get("/internal/tokens/api/cal/me/x")), "Unauthorized")
      const page = yield* get("/internal/tokens/api/cal/oauth/callback?state=x")
      assert.include(page.headers["content-type"], "text/html")
    }).pipe(Effect.provide(prefixed))
  )

  it.effect("the documentation says so, or what a proxy in front makes of it", () =>
    Effect.gen(function* () {
      const serversAt = (path: string) =>
        Effect.map(get(path), ({ body }) => (JSON.parse(body) as OpenApi.OpenAPISpec).servers?.map(({ url }) => url))
      assert.deepStrictEqual(yield* Effect.provide(serversAt("/openapi.json"), around(Http.layer)), ["/"])
      yield* Effect.gen(function* () {
        assert.deepStrictEqual(yield* serversAt("/internal/tokens/openapi.json"), ["/internal/tokens"])
        assert.include((yield* get("/internal/tokens/docs")).body, `"url":"/internal/tokens"`)
      }).pipe(Effect.provide(prefixed))
      const publicUrl = "https://example.com/tokens"
      yield* Effect.gen(function* () {
        assert.deepStrictEqual(yield* serversAt("/openapi.json"), [publicUrl])
        assert.include((yield* get("/nothing")).body, `${publicUrl}/docs`)
      }).pipe(Effect.provide(around(Http.layerWith({ publicUrl: `${publicUrl}/` }))))
    })
  )
})

// ---------------------------------------------------------------------------------------------------------------------
// Within it
// ---------------------------------------------------------------------------------------------------------------------

class Closed extends Schema.TaggedError<Closed>()("Closed", {}) {}
class Gate extends HttpApiMiddleware.Tag<Gate>()("test/Gate", { failure: Closed }) {}

describe("our groups in an API of somebody's", () => {
  class Whole extends HttpApi.make("whole").add(Mine).addHttpApi(Api).prefix("/v1") {}
  const groups = Layer.mergeAll(Http.groups(Whole), handleMine(Whole))
  const whole = around(
    HttpApiBuilder.serve().pipe(
      Layer.provide(HttpApiBuilder.api(Whole)),
      Layer.provide(Layer.merge(groups, Http.proxies("/v1")))
    )
  )

  it.effect("are answered there, with what holds for them elsewhere", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual((yield* get("/v1/greet/1")).body, JSON.stringify("hello "))
      const ours = yield* ensure("/v1/api/cal/ensure-token")
      assert.strictEqual(ours.status, 200)
      assert.strictEqual(ours.headers["cache-control"], "no-store")
      assert.isDefined(ours.headers["x-request-id"])
      const unknown = yield* call({ path: "/v1/api/cal/ensure-token", key: "no-such-key" })
      assert.strictEqual(unknown.headers["www-authenticate"], "Bearer")
      assert.strictEqual(codeOf(unknown), "Unauthorized")
      const wrong = yield* get("/v1/api/cal/connections?limit=SECRET", { key: keys.manage })
      assert.strictEqual(codeOf(wrong), "InvalidInput")
      assert.notInclude(wrong.body, "SECRET")
      assert.strictEqual((yield* get("/v1/health/ready")).body, `{"status":"ok"}`)
      const atoms = yield* get("/v1/api/cal/atoms/refresh", { headers: { origin } })
      assert.include(atoms.body, `"accessToken":""`)
      const preflight = { method: "OPTIONS", headers: { origin } } as const
      assert.strictEqual((yield* call({ ...preflight, path: "/v1/api/cal/atoms/refresh" })).status, 204)
      assert.strictEqual((yield* call({ ...preflight, path: "/v1/api/cal/me/x" })).status, 204)
      assert.strictEqual((yield* get(`/v1/api/cal/proxy/${userUlid}/me`, { key: keys.all })).status, 200)
    }).pipe(Effect.provide(whole))
  )

  it.effect("have one spelling, and what is not found is theirs", () =>
    Effect.gen(function* () {
      const nothing = yield* ensure("/v1/nothing")
      for (const path of [
        "ENSURE-token",
        "ensure-token/",
        "ensure-%74oken",
        "/ensure-token",
        "ensure-token;x",
        "nothing"
      ]) {
        const { body, headers, status } = yield* ensure(`/v1/api/cal/${path}`)
        assert.strictEqual(status, 404, path)
        if (path === "nothing") assert.deepStrictEqual([body, headers["cache-control"]], [nothing.body, undefined])
      }
      assert.strictEqual((yield* get("/v1/GREET/1")).status, 200)
      assert.deepStrictEqual(yield* calls, [])
    }).pipe(Effect.provide(Layer.provide(whole, HttpRouter.setRouterConfig({ caseSensitive: false }))))
  )

  it.effect("leave no URL in the spans and access logs of whoever serves them", () =>
    Effect.gen(function* () {
      const recorder = yield* recording
      const served = around(
        HttpApiBuilder.serve(HttpMiddleware.logger).pipe(
          Layer.provide(HttpApiBuilder.api(Whole)),
          Layer.provide(groups)
        )
      )
      const logs = yield* Effect.gen(function* () {
        yield* get("/v1/api/cal/oauth/callback?code=SECRET")
        yield* get("/v1/greet/1?q=mine")
        return JSON.stringify((yield* Fake).logs)
      }).pipe(Effect.provide(Layer.provideMerge(served, recorder.layer)))
      const spans = recorder.spans
        .filter(({ name }) => name.startsWith("http.server"))
        .map(({ attributes }) => JSON.stringify([...attributes]))
      assert.notInclude(`${spans.join()}${logs}`, "SECRET")
      assert.include(spans.join(), "q=mine")
      assert.include(logs, "q=mine")
    })
  )

  it.effect("obey what is put around them, whose failures are theirs", () =>
    Effect.gen(function* () {
      class Gated extends HttpApi.make("gated").add(TokensApi.middleware(Gate)).add(HealthApi) {}
      const served = around(
        HttpApiBuilder.serve().pipe(
          Layer.provide(HttpApiBuilder.api(Gated)),
          Layer.provide(Http.groups(Gated)),
          Layer.provide(Layer.succeed(Gate, Effect.fail(new Closed())))
        )
      )
      yield* Effect.gen(function* () {
        assert.strictEqual((yield* get("/health/live")).status, 200)
        const closed = yield* ensure()
        assert.deepStrictEqual([closed.status, closed.body], [500, JSON.stringify({ _tag: "Closed" })])
        assert.deepStrictEqual(yield* calls, [])
      }).pipe(Effect.provide(served))
    })
  )

  it("are those that the API has, by type", () => {
    type Needed = ApiKeys.ApiKeys | Lifecycle.Lifecycle
    class Single extends HttpApi.make("single").add(HealthApi).add(Mine) {}
    const single: Layer.Layer<HttpApiGroup.ApiGroup<"single", "health">, never, Needed | TokenStorage> = Http.groups(
      Single
    )
    // @ts-expect-error: nobody has handlers for `mine`
    const whole: Layer.Layer<HttpApi.Api, never, Needed | TokenStorage> = Layer.provide(
      HttpApiBuilder.api(Single),
      single
    )
    // A group that only has the name of one of ours is not ours.
    class Other extends HttpApi.make("other").add(
      HttpApiGroup.make("tokens").add(HttpApiEndpoint.get("mine", "/tokens").addSuccess(Schema.String))
    ) {}
    // @ts-expect-error: nobody has handlers for it
    const other: Layer.Layer<HttpApiGroup.ApiGroup<"other", "tokens">, never, Needed> = Http.groups(Other)
    assert.isTrue([single, whole, other].every(Layer.isLayer))
  })

  it("are documented with their own names", () => {
    const { paths, tags } = OpenApi.fromApi(Whole)
    assert.includeMembers(
      tags.map(({ name }) => name),
      ["mine", "tokens", "health"]
    )
    assert.deepStrictEqual(paths["/v1/api/cal/ensure-token"]?.post?.tags, ["tokens"])
  })
})
