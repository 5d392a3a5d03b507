/** What an answer that is at hand costs, counted instead of timed; and that the short way to it is no other way. */
import { HttpServer } from "@effect/platform"
import { assert, describe, it } from "@effect/vitest"
import { Clock, DateTime, Effect, Layer, Supervisor } from "effect"
import * as Edge from "../../src/Http/Edge.js"
import { type Call, call, keys, layerOn } from "../support/HttpWorld.js"
import * as World from "../support/World.js"
import * as Spans from "../support/Spans.js"

const userUlid = "01ARZ3NDEKTSV4RRFFQ69G5FAV"

const ensure = { method: "POST", path: "/api/cal/ensure-token", key: keys.all, body: { userUlid } } as const

const connect = Effect.gen(function* () {
  const now = yield* Clock.currentTimeMillis
  const body = {
    kind: "managed",
    calUserId: 42,
    accessToken: "access-secret",
    refreshToken: "refresh-secret",
    accessTokenExpiresAt: now + 3_600_000
  }
  const { status } = yield* call({ method: "PUT", path: `/api/cal/connections/${userUlid}`, key: keys.all, body })
  assert.strictEqual(status, 200)
})

/** Counts the fibers that begin on the server. */
class Beginnings extends Supervisor.AbstractSupervisor<number> {
  count = 0
  override value = Effect.sync(() => this.count)
  override onStart() {
    this.count++
  }
}

/** Names of all spans that begin on the server. */
const recording = () => {
  const { names, tracer } = Spans.noting()
  return { names, layer: Layer.setTracer(tracer) }
}

describe("a token that is fresh", () => {
  it.effect("is answered by the one fiber that the platform has for each request", () => {
    const beginnings = new Beginnings()
    return Effect.gen(function* () {
      yield* connect
      const { address } = yield* HttpServer.HttpServer
      const url = `http://127.0.0.1:${address._tag === "TcpAddress" ? address.port : 0}${ensure.path}`
      // Of another client than Effect's: its fibers would be counted as well.
      const ask = Effect.promise(() =>
        fetch(url, {
          method: "POST",
          headers: { authorization: `Bearer ${ensure.key}`, "content-type": "application/json" },
          body: JSON.stringify(ensure.body)
        }).then(async (response) => ({ status: response.status, text: await response.text() }))
      )
      yield* ask
      const before = beginnings.count
      for (let n = 0; n < 5; n++) assert.strictEqual((yield* ask).status, 200)
      assert.strictEqual(beginnings.count - before, 5)
    }).pipe(Effect.provide(Layer.provide(layerOn(World.layer()), Supervisor.addSupervisor(beginnings))))
  })

  it.effect("has one span where spans are looked at", () => {
    const { layer, names } = recording()
    return Effect.gen(function* () {
      yield* connect
      yield* call(ensure)
      names.length = 0
      yield* call(ensure)
      assert.deepStrictEqual(names, ["POST /api/cal/ensure-token"])
    }).pipe(Effect.withTracerEnabled(false), Effect.provide(Layer.provide(layerOn(World.layer()), layer)))
  })

  it.effect("is described once for each row that is remembered", () =>
    Effect.sync(() => {
      let described = 0
      const answer = Edge.answers("ensureToken", ({ at }: { readonly at: number }) => {
        described++
        return { success: true as const, expiresAt: DateTime.unsafeMake(at) }
      })
      const [one, other] = [{ at: 0 }, { at: 1000 }]
      assert.strictEqual(answer(one), answer(one))
      assert.strictEqual(described, 1)
      assert.notStrictEqual(answer(other), answer(one))
      assert.strictEqual(described, 2)
      assert.deepInclude(answer(other).body, {
        body: `{"success":true,"expiresAt":"1970-01-01T00:00:01.000Z"}`,
        contentType: "application/json",
        contentLength: 55
      })
    })
  )
})

describe("the short way and the router's", () => {
  const unknown = "01ARZ3NDEKTSV4RRFFQ69G5FAW"
  const asked: ReadonlyArray<Omit<Call, "path">> = [
    ensure,
    { ...ensure, body: { userUlid: userUlid.toLowerCase() } },
    { ...ensure, body: { userUlid: unknown } },
    { ...ensure, body: { userUlid: "nobody" } },
    { ...ensure, body: {} },
    { ...ensure, body: [] },
    { ...ensure, body: { userUlid: "\0" } },
    { ...ensure, headers: { "content-type": "text/plain" } },
    { ...ensure, key: "x".repeat(40) },
    { method: "POST", body: { userUlid } },
    { ...ensure, method: "PUT" },
    { method: "GET", key: keys.all },
    { method: "OPTIONS" }
  ]

  it.effect("answer alike", () =>
    Effect.gen(function* () {
      yield* connect
      for (const each of asked) {
        const headers = { ...each.headers, "x-request-id": "mine" }
        const [short, long] = yield* Effect.all(
          ["", "?"].map((query) => call({ ...each, headers, path: `${ensure.path}${query}` }))
        )
        // The one header that Node takes from the machine's clock, which may turn between the two.
        const dateless = (answer: typeof short) => ({ ...answer, headers: { ...answer?.headers, date: undefined } })
        assert.deepStrictEqual(dateless(short), dateless(long))
        assert.strictEqual(short?.headers["x-request-id"], "mine")
      }
    }).pipe(Effect.provide(layerOn(World.layer())))
  )
})
