/** The service within a program that has an HTTP API of its own, on one server. What `src/Http/README.md` shows is taken from here. */
import { createServer } from "node:http"
import {
  HttpApi,
  HttpApiBuilder,
  HttpApiClient,
  HttpApiEndpoint,
  HttpApiGroup,
  HttpClient,
  HttpClientRequest,
  HttpServer
} from "@effect/platform"
import { NodeHttpClient, NodeHttpServer } from "@effect/platform-node"
import { assert, it } from "@effect/vitest"
import { Effect, Layer, Redacted, Schema } from "effect"
import { Api } from "cal-tokens/api"
import * as Http from "cal-tokens/http"
import * as Sandbox from "cal-tokens/sandbox"

// ---- an API of your own ----------------------------------------------------------------------------------------------

class Greetings extends HttpApiGroup.make("greetings").add(
  HttpApiEndpoint.get("greet", "/greetings/:name")
    .setPath(Schema.Struct({ name: Schema.NonEmptyString.pipe(Schema.maxLength(20)) }))
    .addSuccess(Schema.Struct({ greeting: Schema.String }))
) {}

class MyApi extends HttpApi.make("my-api").add(Greetings) {}

const GreetingsLive = HttpApiBuilder.group(MyApi, "greetings", (handlers) =>
  handlers.handle("greet", ({ path }) => Effect.succeed({ greeting: `Hello ${path.name}` }))
)

const MyApiLive = HttpApiBuilder.api(MyApi).pipe(Layer.provide(GreetingsLive))

// ---- served with the service, in the place of HttpApiBuilder.serve() -------------------------------------------------

const served = Http.layerWith({ api: MyApiLive, prefix: "/tokens" })

const key = Redacted.make("a-key-of-at-least-32-characters-for-you")

const server = NodeHttpServer.layer(() => createServer(), { port: 0, host: "127.0.0.1" })

const services = Layer.mergeAll(
  Http.ApiKeys.layer([{ name: "me", secret: key, scopes: new Set(["manage", "proxy"]) }]),
  Http.Lifecycle.layer
)

const main = served.pipe(Layer.provideMerge(server), Layer.provide(services), Layer.provideMerge(Sandbox.layerTest()))

// ---- it works --------------------------------------------------------------------------------------------------------

const userUlid = "01ARZ3NDEKTSV4RRFFQ69G5FAV"

it.scopedLive("both APIs are asked on one server", () =>
  Effect.gen(function* () {
    yield* Sandbox.connectManaged(userUlid)
    const origin = yield* HttpServer.addressFormattedWith(Effect.succeed)

    const mine = yield* HttpApiClient.make(MyApi, { baseUrl: origin })
    assert.deepStrictEqual(yield* mine.greetings.greet({ path: { name: "Ada" } }), { greeting: "Hello Ada" })

    const tokens = yield* HttpApiClient.make(Api, {
      baseUrl: `${origin}/tokens`,
      transformClient: HttpClient.mapRequest(HttpClientRequest.bearerToken(key))
    })
    const { success } = yield* tokens.tokens.ensureToken({ payload: { userUlid } })
    assert.isTrue(success)
  }).pipe(Effect.provide(Layer.merge(main, NodeHttpClient.layerUndici)))
)

// ---- or both in one API, with one client and one document --------------------------------------------------------------

it.scopedLive("one client asks both", () => {
  class MyApi extends HttpApi.make("my-api").add(Greetings).addHttpApi(Api).prefix("/v1") {}

  const GreetingsLive = HttpApiBuilder.group(MyApi, "greetings", (handlers) =>
    handlers.handle("greet", ({ path }) => Effect.succeed({ greeting: `Hello ${path.name}` }))
  )

  const MyApiLive = HttpApiBuilder.api(MyApi).pipe(
    Layer.provide([GreetingsLive, Http.groups(MyApi), Http.proxies("/v1")])
  )

  const main = HttpApiBuilder.serve().pipe(
    Layer.provide(MyApiLive),
    Layer.provideMerge(server),
    Layer.provide(services),
    Layer.provideMerge(Sandbox.layerTest())
  )

  return Effect.gen(function* () {
    yield* Sandbox.connectManaged(userUlid)
    const client = yield* HttpApiClient.make(MyApi, {
      baseUrl: yield* HttpServer.addressFormattedWith(Effect.succeed),
      transformClient: HttpClient.mapRequest(HttpClientRequest.bearerToken(key))
    })
    assert.deepStrictEqual(yield* client.greetings.greet({ path: { name: "Ada" } }), { greeting: "Hello Ada" })
    const { success } = yield* client.tokens.ensureToken({ payload: { userUlid } })
    assert.isTrue(success)
  }).pipe(Effect.provide(Layer.merge(main, NodeHttpClient.layerUndici)))
})
