/** What a collector is told of a service that refreshes, and what a collector in trouble costs. */
import { FetchHttpClient, HttpClient } from "@effect/platform"
import { assert, describe, it } from "@effect/vitest"
import { Clock, type Context, Duration, Effect, Exit, Fiber, Layer, Logger, Redacted, Scope } from "effect"
import * as CalApi from "../../src/CalApi.js"
import * as CalClient from "../../src/CalClient.js"
import * as CalTokens from "../../src/CalTokens.js"
import * as HttpClients from "../../src/CalHttp/HttpClients.js"
import * as Telemetry from "../../src/Cli/Telemetry.js"
import type { Telemetry as Settings } from "../../src/Environment/Telemetry.js"
import * as Sandbox from "../../src/Sandbox.js"
import * as TokenConfig from "../../src/TokenConfig.js"
import * as Postgres from "../../src/TokenStorage/Postgres.js"
import { version } from "../../src/Version.js"
import * as Collector from "../support/Collector.js"
import { call, keys, layerOn } from "../support/HttpWorld.js"
import { layerKeys } from "../support/Keys.js"
import { layerDatabase } from "../support/Postgres.js"
import * as Secrets from "../support/Secrets.js"
import * as World from "../support/World.js"

const { user } = World

const collectorKey = "collector-key-0123456789-0123456789"

const settings = (url: string, more: Partial<Settings> = {}): Settings => ({
  traces: `${url}/v1/traces`,
  metrics: `${url}/v1/metrics`,
  logs: `${url}/v1/logs`,
  headers: Redacted.make({ "x-collector-key": collectorKey }),
  protocol: "http/json",
  serviceName: "tokens",
  attributes: { "deployment.environment.name": "test", "service.name": "not this one" },
  sampler: { isParentBased: true, ratio: 1 },
  metricInterval: 60_000,
  ...more
})

/** The simulator, and what its network sees of each request. */
const listening = () => {
  const heard: Array<Readonly<Record<string, string>>> = []
  const inner = Layer.effect(
    HttpClient.HttpClient,
    Effect.map(HttpClient.HttpClient, (client) =>
      HttpClient.make((request) => {
        heard.push(request.headers)
        return client.execute(request)
      })
    )
  ).pipe(Layer.provide(Sandbox.layerHttpClient))
  return { heard, layer: HttpClients.layerBoth(inner) }
}

/** A whole service on PostgreSQL that tells a collector, until `stop`. */
const service = (collector: string, more: Partial<Settings> = {}, lines: Array<string> = []) =>
  Effect.gen(function* () {
    const { heard, layer } = listening()
    const world = CalApi.layer.pipe(
      Layer.provideMerge(CalTokens.layer),
      Layer.provideMerge(CalClient.layer(World.clientOptions())),
      Layer.provide(layer),
      Layer.provide(TokenConfig.layer({ memoryMaxEntries: 1000 })),
      Layer.provideMerge(Postgres.layer({ clock: "effect" })),
      Layer.provide([layerDatabase(), layerKeys()]),
      Layer.provideMerge(Sandbox.layer())
    )
    const scope = yield* Scope.make()
    // The telemetry is below the service, as it is where that is served.
    const told = Layer.provide(
      Telemetry.layer(settings(collector, more)),
      Logger.replace(
        Logger.defaultLogger,
        Logger.map(Logger.logfmtLogger, (line) => void lines.push(line))
      )
    )
    const context = yield* Layer.buildWithScope(
      Layer.provide(Layer.merge(layerOn(world), Layer.effectDiscard(Effect.logInfo("begun"))), told),
      scope
    )
    const provided = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
      Effect.provide(effect, context as Context.Context<Exclude<R, Scope.Scope>>)
    const ask = (path: string, body: object = { userUlid: user() }, headers = {}) =>
      provided(
        // Whoever asks has no trace of their own but that of the headers.
        Effect.withTracerEnabled(call({ method: "POST", path, key: keys.all, body, headers }), false)
      )
    return { ask, heard, provided, stop: Scope.close(scope, Exit.void) }
  })

/** A user whose token is over by what was handed in. */
const connectExpired = Effect.gen(function* () {
  const sandbox = yield* Sandbox.Sandbox
  const tokens = yield* CalTokens.CalTokens
  const { calUserId, ...grant } = yield* sandbox.grantManaged({})
  const accessTokenExpiresAt = (yield* Clock.currentTimeMillis) - 1000
  yield* tokens.connect(user(), { _tag: "ManagedUser", calUserId }, { ...grant, accessTokenExpiresAt })
  return grant
})

const ids = (spans: ReadonlyArray<Collector.Span>) => new Map(spans.map((span) => [span.spanId, span]))

/** Names of spans by their parents', from a root down. */
const tree = (spans: ReadonlyArray<Collector.Span>, root: Collector.Span): unknown => [
  root.name,
  ...spans.filter(({ parentSpanId }) => parentSpanId === root.spanId).map((span) => tree(spans, span))
]

describe("a collector", () => {
  it.scopedLive(
    "is told of a cold refresh from the door to the database and Cal.com, and of nothing that is secret",
    () =>
      Effect.gen(function* () {
        const collector = yield* Collector.make()
        const { ask, heard, provided, stop } = yield* service(collector.url)
        const secrets = Secrets.make()
        const grant = yield* provided(connectExpired)
        for (const token of [grant.accessToken, grant.refreshToken]) secrets.add("token", Redacted.value(token))
        for (const key of Object.values(keys)) secrets.add("key", key)
        secrets.add("key", collectorKey)
        const one = yield* Effect.fork(ask("/api/cal/ensure-token"))
        const two = yield* Effect.fork(ask("/api/cal/ensure-token"))
        for (const each of [one, two]) assert.strictEqual((yield* Fiber.join(each)).status, 200)
        // Warm.
        assert.strictEqual((yield* ask("/api/cal/ensure-token")).status, 200)
        const { pair } = yield* provided(
          Effect.flatMap(CalTokens.CalTokens, (tokens) => Effect.map(tokens.ensureValid(user()), (pair) => ({ pair })))
        )
        secrets.add("token", Redacted.value(pair.accessToken))
        yield* stop

        const spans = collector.spans()
        const doors = spans.filter(({ name }) => name === "POST /api/cal/ensure-token")
        assert.strictEqual(doors.length, 3)
        const all = ids(spans)
        const refresh = spans.find(({ name }) => name === "CalTokens.refresh")
        assert(refresh !== undefined)
        const first = doors.find(({ traceId }) => traceId === refresh.traceId)
        assert(first !== undefined)
        assert.deepStrictEqual(tree(spans, first), [
          "POST /api/cal/ensure-token",
          [
            "CalTokens.ensureValid",
            [
              "CalTokens.refresh",
              ...[["TokenStorage.claim"], ["CalClient.refresh"], ["TokenStorage.commit"], ["TokenStorage.notify"]]
            ]
          ]
        ])
        const others = doors.filter((door) => door !== first).map((door) => tree(spans, door))
        assert.sameDeepMembers(others, [
          ["POST /api/cal/ensure-token"],
          ["POST /api/cal/ensure-token", ["CalTokens.ensureValid"]]
        ])
        const joiner = spans.find(({ links }) => links.length > 0)
        assert(joiner !== undefined)
        assert.deepInclude(joiner.links[0], { traceId: refresh.traceId, spanId: refresh.spanId })
        assert.strictEqual(joiner.name, "CalTokens.ensureValid")
        assert.notStrictEqual(joiner.traceId, refresh.traceId)

        const of = (name: string) =>
          Collector.plain(spans.find((span) => span.name === name && span.traceId === first.traceId)?.attributes ?? [])
        assert.deepStrictEqual(of("POST /api/cal/ensure-token"), {
          "http.request.method": "POST",
          "http.route": "/api/cal/ensure-token",
          "http.response.status_code": 200,
          operation: "ensureToken",
          apiKey: "all"
        })
        assert.deepStrictEqual(of("CalClient.refresh"), {
          "cal.client_id": Sandbox.demoManaged.clientId,
          "http.request.method": "POST",
          "http.response.status_code": 200,
          // Of the simulator, which runs in the same process.
          "http.route": "/v2/oauth/:clientId/refresh",
          "server.address": "api.cal.com",
          "server.port": 443
        })
        assert.deepStrictEqual(of("TokenStorage.claim"), {
          "db.system.name": "postgresql",
          "db.operation.name": "claim"
        })
        assert.deepStrictEqual(of("CalTokens.refresh"), {
          "cal_tokens.user_ulid": user(),
          "cal_tokens.trigger": "expired"
        })
        assert.strictEqual(all.get(refresh.parentSpanId ?? "")?.traceId, first.traceId)

        const log = collector.logs().find(({ body }) => body.stringValue === "Tokens refreshed")
        assert.strictEqual(log?.traceId, first.traceId)
        assert.strictEqual(all.get(log?.spanId ?? "")?.traceId, first.traceId)

        const refreshes = collector
          .metrics()
          .filter(({ name }) => name === "cal_tokens_refreshes_total")
          .flatMap(({ sum }) => sum?.dataPoints ?? [])
          .filter(({ attributes }) => Collector.plain(attributes)["outcome"] === "refreshed")
        assert.isAbove(refreshes.at(-1)?.asDouble ?? 0, 0)

        assert.deepStrictEqual(
          new Set(collector.requests.map(({ path }) => path)),
          new Set(["/v1/traces", "/v1/metrics", "/v1/logs"])
        )
        for (const { body, headers } of collector.requests) {
          assert.strictEqual(headers["x-collector-key"], collectorKey)
          assert.strictEqual(headers["traceparent"], undefined)
          assert.deepStrictEqual(secrets.find(body), [])
          const [told] = Object.values(
            JSON.parse(body) as Record<
              string,
              ReadonlyArray<{ readonly resource: { readonly attributes: Collector.Span["attributes"] } }>
            >
          )
          const { "service.instance.id": instance, ...resource } = Collector.plain(told?.[0]?.resource.attributes ?? [])
          assert.match(String(instance), /^[0-9a-f-]{36}$/)
          assert.deepStrictEqual(resource, {
            "deployment.environment.name": "test",
            "service.name": "tokens",
            "service.version": version
          })
        }
        assert.isAbove(heard.length, 0)
        for (const headers of heard) {
          assert.deepStrictEqual(
            Object.keys(headers).filter((name) => /^(traceparent|tracestate|b3|x-b3-.*|baggage)$/.test(name)),
            []
          )
        }
      })
  )

  it.scopedLive("sees nothing of a trace that its beginner does not sample, and the rest of one that it does", () =>
    Effect.gen(function* () {
      const collector = yield* Collector.make()
      const { ask, provided, stop } = yield* service(collector.url, { sampler: { isParentBased: true, ratio: 0 } })
      yield* provided(World.connectManaged())
      const parent = (n: string, sampled: string) => ({ traceparent: `00-${n.repeat(32)}-${n.repeat(16)}-${sampled}` })
      yield* ask("/api/cal/ensure-token", undefined, parent("a", "01"))
      yield* ask("/api/cal/ensure-token", undefined, parent("b", "00"))
      yield* ask("/api/cal/ensure-token")
      yield* stop
      assert.deepStrictEqual(
        collector.spans().map(({ name, parentSpanId, traceId }) => ({ name, parentSpanId, traceId })),
        [{ name: "POST /api/cal/ensure-token", parentSpanId: "a".repeat(16), traceId: "a".repeat(32) }]
      )
    })
  )

  it.scopedLive("is told of a fault by its name alone, and of a failure by its words", () =>
    Effect.gen(function* () {
      const collector = yield* Collector.make()
      const { ask, provided, stop } = yield* service(collector.url)
      assert.strictEqual((yield* ask("/api/cal/ensure-token")).status, 404)
      const traced = Effect.withSpan(Effect.die(new Error("SECRET-in-a-fault")), "faulty")
      yield* provided(Effect.ignore(Effect.sandbox(traced)))
      yield* stop
      const failing = collector.spans().filter(({ status }) => status.code === 2)
      assert.deepStrictEqual(
        failing.map(({ events, name, status }) => ({
          name,
          message: status.message,
          exceptions: events.map(({ attributes }) => Collector.plain(attributes))
        })),
        [
          {
            name: "CalTokens.ensureValid",
            message: `User ${user()} has no Cal.com connection: connect one first.`,
            exceptions: [
              {
                "exception.type": "TokensNotFound",
                "exception.message": `User ${user()} has no Cal.com connection: connect one first.`
              }
            ]
          },
          { name: "faulty", message: undefined, exceptions: [{ "exception.type": "Error" }] }
        ]
      )
      for (const { body } of collector.requests) assert.notInclude(body, "SECRET")
      for (const { attributes } of collector.spans()) {
        assert.notProperty(Collector.plain(attributes), "status.interrupted")
      }
    })
  )

  it.scopedLive("may ask for protobuf, and is told only what is for it", () =>
    Effect.gen(function* () {
      const collector = yield* Collector.make()
      const { ask, stop } = yield* service(collector.url, { protocol: "http/protobuf", metrics: undefined })
      yield* ask("/api/cal/ensure-token")
      yield* stop
      const kinds = new Map(collector.requests.map(({ headers, path }) => [path, headers["content-type"]]))
      assert.deepStrictEqual(
        kinds,
        new Map([
          ["/v1/logs", "application/x-protobuf"],
          ["/v1/traces", "application/x-protobuf"]
        ])
      )
      assert.isTrue(collector.requests.some(({ body }) => body.includes("POST /api/cal/ensure-token")))
    })
  )

  for (const [trouble, answer] of [
    ["answers nothing", () => undefined],
    ["refuses", () => 401]
  ] as const) {
    it.scopedLive(`that ${trouble} costs a line, and keeps nobody at the end`, () =>
      Effect.gen(function* () {
        const collector = yield* Collector.make(answer)
        const lines: Array<string> = []
        const { ask, provided, stop } = yield* service(collector.url, {}, lines)
        yield* provided(World.connectManaged())
        for (let n = 0; n < 20; n++) assert.strictEqual((yield* ask("/api/cal/ensure-token")).status, 200)
        const [took] = yield* Effect.timed(stop)
        assert.isBelow(Duration.toMillis(took), 15_000)
        assert.isAbove(collector.requests.length, 0)
        const told = lines.filter((line) => line.includes("The collector takes no telemetry"))
        assert.isAtMost(told.length, 1)
        if (trouble === "refuses") assert.include(told[0], "it answers 401")
        for (const line of lines) assert.notInclude(line, collectorKey)
      })
    )
  }

  it.scopedLive("that is away is asked a few times at most, however much there is to tell", () =>
    Effect.gen(function* () {
      const collector = yield* Collector.make(() => undefined)
      const client = Telemetry.forgiving(yield* Effect.provide(HttpClient.HttpClient, FetchHttpClient.layer))
      const fibers = yield* Effect.forEach(Array.from({ length: 50 }), () =>
        Effect.fork(Effect.flip(client.get(collector.url)))
      )
      const ended = yield* Effect.forEach(fibers.slice(8), (fiber) => Fiber.join(fiber))
      assert.isTrue(ended.every((error) => error._tag === "RequestError" && error.description === "it is too slow"))
      yield* Effect.repeat(Effect.yieldNow(), { until: () => collector.requests.length >= 8 })
      assert.strictEqual(collector.requests.length, 8)
      yield* Fiber.interruptAll(fibers)
    }).pipe(Effect.provide(Logger.remove(Logger.defaultLogger)))
  )
})
