/** Which client takes which requests is decided by their tags: a client in the other's place does not compile. */
import { HttpClient, HttpClientResponse } from "@effect/platform"
import { assert, it } from "@effect/vitest"
import { Effect, Layer, Redacted, Ref } from "effect"
import * as CalApi from "../../src/CalApi.js"
import * as CalClient from "../../src/CalClient.js"
import { ApiHttp, TokenHttp } from "../../src/CalHttp/HttpClients.js"
import * as NodeHttp from "../../src/CalHttp/Node.js"
import * as Sandbox from "../../src/Sandbox.js"
import { UserUlid } from "../../src/Token.js"
import * as FakeCalTokens from "../support/FakeCalTokens.js"

const client = CalClient.layer({ apiUrl: "https://api.cal.com/v2" })

/** Takes what needs nothing. */
const whole = <A, E>(layer: Layer.Layer<A, E>) => Layer.isLayer(layer)

const services = Layer.merge(FakeCalTokens.layer, Layer.provide(client, NodeHttp.layerTokenHttp))
const unsaid = Layer.succeed(
  HttpClient.HttpClient,
  HttpClient.make(() => Effect.never)
)

it("clients that are swapped do not compile", () => {
  const wired = [
    whole(client.pipe(Layer.provide(NodeHttp.layerTokenHttp))),
    // @ts-expect-error: token calls would go into connections that idled
    whole(client.pipe(Layer.provide(NodeHttp.layerApiHttp))),
    // @ts-expect-error: nobody has said what this one is fit for
    whole(client.pipe(Layer.provide(unsaid))),
    whole(CalApi.layer.pipe(Layer.provide(services), Layer.provide(NodeHttp.layerApiHttp))),
    // @ts-expect-error: each request would open a connection of its own
    whole(CalApi.layer.pipe(Layer.provide(services), Layer.provide(NodeHttp.layerTokenHttp))),
    // The simulator has no connections, so it is fit for both.
    whole(client.pipe(Layer.provide(Sandbox.layerHttpClient), Layer.provide(Sandbox.layer())))
  ]
  assert.lengthOf(wired, 6)
})

it.scoped("each request goes to the client of its kind", () =>
  Effect.gen(function* () {
    const seen = yield* Ref.make<ReadonlyArray<string>>([])
    const recording = (name: string) =>
      HttpClient.make((request, url) =>
        Effect.as(
          Ref.update(seen, (all) => [...all, `${name} ${request.method} ${url.pathname}`]),
          HttpClientResponse.fromWeb(request, new Response("{}"))
        )
      )
    yield* Effect.gen(function* () {
      yield* Effect.exit((yield* CalClient.CalClient).me(Redacted.make("a")))
      yield* (yield* CalApi.CalApi).send(UserUlid.make("01ARZ3NDEKTSV4RRFFQ69G5FAV"), {
        method: "GET",
        path: "/bookings"
      })
    }).pipe(
      Effect.provide(
        CalApi.layer.pipe(
          Layer.provideMerge(Layer.merge(client, FakeCalTokens.layer)),
          Layer.provide(Layer.succeed(TokenHttp, recording("token"))),
          Layer.provide(Layer.succeed(ApiHttp, recording("api")))
        )
      )
    )
    assert.deepStrictEqual(yield* Ref.get(seen), ["token GET /v2/me", "api GET /v2/bookings"])
  })
)
