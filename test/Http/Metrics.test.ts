/** What `GET /metrics` says after refreshes, failures and requests; and that its text is what Prometheus reads. */
import { HttpClient, HttpClientRequest } from "@effect/platform"
import { assert, describe, it } from "@effect/vitest"
import {
  Effect,
  FastCheck,
  Metric,
  MetricBoundaries,
  MetricKey,
  MetricLabel,
  MetricPair,
  MetricState,
  Option,
  Redacted,
  TestClock
} from "effect"
import * as Exposition from "../../src/Http/Exposition.js"
import { read, strangers } from "../support/Exposition.js"
import * as Sandbox from "../../src/Sandbox.js"
import { version } from "../../src/Version.js"
import { call, keys, layer } from "../support/HttpWorld.js"
import * as Secrets from "../support/Secrets.js"
import * as StorageTap from "../support/StorageTap.js"
import * as World from "../support/World.js"

// ---------------------------------------------------------------------------------------------------------------------
// Any metrics
// ---------------------------------------------------------------------------------------------------------------------

const { array, constantFrom, double, integer, nat, oneof, record, string, tuple } = FastCheck

const text = oneof(
  string({ unit: "binary", maxLength: 12 }),
  constantFrom(
    "",
    "a",
    "A:b",
    "le",
    "quantile",
    "key",
    "__x",
    'q"',
    "\\",
    "\\n",
    "\n",
    '\\"',
    "é",
    "9",
    "a_count",
    "\r"
  )
)
const value = oneof(integer(), double(), nat().map(BigInt))
const finite = double({ noNaN: true, noDefaultInfinity: true })

const state = oneof(
  value.map((value) => ({ keyType: MetricKey.counter("x", { incremental: true }).keyType, state: counterOf(value) })),
  value.map((value) => ({ keyType: MetricKey.counter("x").keyType, state: counterOf(value) })),
  value.map((value) => ({ keyType: MetricKey.gauge("x").keyType, state: gaugeOf(value) })),
  array(tuple(text, nat())).map((words) => ({
    keyType: MetricKey.frequency("x").keyType,
    state: MetricState.frequency(new Map(words))
  })),
  tuple(FastCheck.uniqueArray(finite, { selector: String }), array(double())).map(([bounds, values]) => ({
    keyType: MetricKey.histogram("x", MetricBoundaries.fromIterable([])).keyType,
    state: histogramOf(
      bounds.map((bound) => bound + 0).sort((a, b) => a - b),
      values
    )
  })),
  FastCheck.uniqueArray(double({ min: 0, max: 1, noNaN: true }), { selector: String }).chain((quantiles) =>
    array(double(), { minLength: quantiles.length, maxLength: quantiles.length }).map((values) => ({
      keyType: MetricKey.summary({ name: "x", maxAge: 1, maxSize: 1, error: 0, quantiles }).keyType,
      state: MetricState.summary({
        error: 0,
        quantiles: quantiles.map((quantile, i) => [
          quantile + 0,
          i % 2 === 0 ? Option.none() : Option.some(values[i] ?? 0)
        ]),
        count: values.length,
        min: 0,
        max: 0,
        sum: 1
      })
    }))
  )
)

const counterOf = (value: number | bigint) =>
  typeof value === "bigint" ? MetricState.counter(value) : MetricState.counter(value)
const gaugeOf = (value: number | bigint) =>
  typeof value === "bigint" ? MetricState.gauge(value) : MetricState.gauge(value)

const histogramOf = (bounds: ReadonlyArray<number>, values: ReadonlyArray<number>) =>
  MetricState.histogram({
    buckets: bounds.map((bound) => [bound, values.filter((value) => value <= bound).length]),
    count: values.length,
    min: 0,
    max: 0,
    sum: values.reduce((a, b) => a + b, 0)
  })

const pair = record({ name: text, help: text, labels: array(tuple(text, text), { maxLength: 4 }), state }).map(
  ({ help, labels, name, state: { keyType, state } }) => {
    const key = MetricKey.gauge(name, { description: help }).pipe(
      MetricKey.taggedWithLabels(labels.map(([label, value]) => MetricLabel.make(label, value)))
    )
    return MetricPair.unsafeMake(Object.assign(Object.create(key) as typeof key, { keyType }), state)
  }
)

const counted = (labels: Readonly<Record<string, string>>, help = "h", name = "n_total") =>
  MetricPair.unsafeMake(
    Object.entries(labels).reduce(
      (key, [label, value]) => MetricKey.tagged(key, label, value),
      MetricKey.counter(name, { description: help, incremental: true })
    ),
    MetricState.counter(1)
  )

describe("the text", () => {
  it("is always in the format, each series once", () => {
    FastCheck.assert(
      FastCheck.property(array(pair, { maxLength: 8 }), (pairs) => void read(Exposition.render(pairs))),
      { numRuns: 500, seed: 20260115 }
    )
  })

  it("brings labels and help back as they were", () => {
    FastCheck.assert(
      FastCheck.property(text, text, (label, help) => {
        const { helps, samples } = read(Exposition.render([counted({ label }, help)]))
        assert.strictEqual(samples[0]?.labels.get("label"), label)
        assert.strictEqual(helps.get("n_total"), help)
      }),
      { numRuns: 2000, seed: 20260115 }
    )
  })

  it("does not depend on the order in which things were counted", () => {
    const pairs = [counted({ b: "2" }), counted({ a: "1", b: "1" }), counted({}, "h", "m_total"), counted({ b: "1" })]
    assert.strictEqual(Exposition.render([...pairs].reverse()), Exposition.render(pairs))
  })

  it.effect("has a histogram's buckets, which add up, its sum and its count", () =>
    Effect.gen(function* () {
      const metric = Metric.histogram("test_took_seconds", MetricBoundaries.fromIterable([0.1, 1]), "How long.")
      for (const took of [0.05, 0.5, 0.5, 7]) yield* Metric.update(metric, took)
      const pairs = (yield* Metric.snapshot).filter(({ metricKey }) => metricKey.name === "test_took_seconds")
      assert.strictEqual(
        Exposition.render(pairs),
        [
          "# HELP test_took_seconds How long.",
          "# TYPE test_took_seconds histogram",
          'test_took_seconds_bucket{le="0.1"} 1',
          'test_took_seconds_bucket{le="1"} 3',
          'test_took_seconds_bucket{le="+Inf"} 4',
          "test_took_seconds_sum 8.05",
          "test_took_seconds_count 4",
          ""
        ].join("\n")
      )
    })
  )
})

// ---------------------------------------------------------------------------------------------------------------------
// The endpoint
// ---------------------------------------------------------------------------------------------------------------------

const scrape = Effect.gen(function* () {
  const client = yield* HttpClient.HttpClient
  const request = HttpClientRequest.get("/metrics").pipe(HttpClientRequest.bearerToken(keys.all))
  const response = yield* client.execute(request)
  const text = yield* response.text
  assert.strictEqual(response.status, 200)
  assert.strictEqual(response.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8")
  const { samples } = read(text)
  /** The value of a series; metrics are the whole process's, so tests look at differences. */
  const of = (name: string, labels: Readonly<Record<string, string>> = {}) =>
    Number(
      samples.find(
        (sample) =>
          sample.name === name &&
          sample.labels.size === Object.keys(labels).length &&
          Object.entries(labels).every(([label, value]) => sample.labels.get(label) === value)
      )?.value ?? 0
    )
  return { text, samples, of }
})

/** By how much each of these series rises during an effect. */
const rises = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  series: ReadonlyArray<readonly [name: string, labels?: Readonly<Record<string, string>>]>
) =>
  Effect.gen(function* () {
    const before = yield* scrape
    yield* effect
    const after = yield* scrape
    return series.map(([name, labels]) => after.of(name, labels) - before.of(name, labels))
  })

const user = World.user()
const post = (path: string, more: object = {}) =>
  call({ method: "POST", path, key: keys.all, body: { userUlid: user, ...more } })
const force = post("/api/cal/refresh-token", { forceRefresh: true })

describe("GET /metrics", () => {
  it.effect("counts refreshes, calls, changes and requests", () =>
    Effect.gen(function* () {
      yield* World.connectManaged()
      const work = Effect.gen(function* () {
        yield* force
        // Warm: a request, and no refresh.
        yield* post("/api/cal/ensure-token")
        yield* post("/api/cal/refresh-managed-user-token", { reissue: true })
      })
      const route = (route: string) => ({ method: "POST", route, status: "200" })
      const rose = yield* rises(work, [
        ["cal_tokens_refreshes_total", { kind: "managed", trigger: "forced", outcome: "refreshed" }],
        ["cal_tokens_refreshes_total", { kind: "managed", trigger: "reissue", outcome: "reissued" }],
        ["cal_tokens_refresh_duration_seconds_count", { kind: "managed" }],
        ["cal_tokens_cal_calls_total", { operation: "refresh", outcome: "granted" }],
        ["cal_tokens_cal_calls_total", { operation: "reissue", outcome: "granted" }],
        ["cal_tokens_changes_total", { kind: "refreshed" }],
        ["cal_tokens_changes_total", { kind: "reissued" }],
        ["cal_tokens_http_requests_total", route("/api/cal/refresh-token")],
        ["cal_tokens_http_requests_total", route("/api/cal/ensure-token")],
        ["cal_tokens_http_request_duration_seconds_count", { method: "POST", route: "/api/cal/ensure-token" }],
        ["cal_tokens_http_requests_total", { method: "GET", route: "/metrics", status: "200" }]
      ])
      assert.deepStrictEqual(rose, [1, 1, 2, 1, 1, 1, 1, 1, 1, 1, 1])
    }).pipe(Effect.provide(layer()))
  )

  it.effect("counts failures by their kind", () =>
    Effect.gen(function* () {
      const sandbox = yield* Sandbox.Sandbox
      yield* World.connectManaged()
      const series = [
        ["cal_tokens_cal_calls_total", { operation: "refresh", outcome: "NotSpent" }],
        ["cal_tokens_cal_calls_total", { operation: "refresh", outcome: "Unknown" }],
        ["cal_tokens_cal_calls_total", { operation: "refresh", outcome: "granted" }],
        ["cal_tokens_refreshes_total", { kind: "managed", trigger: "forced", outcome: "CalRateLimited" }],
        ["cal_tokens_refreshes_total", { kind: "managed", trigger: "forced", outcome: "CalUnavailable" }],
        ["cal_tokens_refreshes_total", { kind: "managed", trigger: "forced", outcome: "refreshed" }]
      ] as const
      yield* sandbox.inject(Sandbox.Fault.status(429, { kind: "refresh" }))
      assert.deepStrictEqual(yield* rises(force, series), [1, 0, 0, 1, 0, 0])
      yield* TestClock.adjust("10 minutes")
      yield* sandbox.inject(Sandbox.Fault.status(500, { kind: "refresh" }))
      assert.deepStrictEqual(yield* rises(force, series), [0, 1, 0, 0, 1, 0])
    }).pipe(Effect.provide(layer()))
  )

  it.effect("tells of a pair that is in memory only, until it is stored", () =>
    Effect.gen(function* () {
      const tap = yield* StorageTap.StorageTap
      yield* World.connectManaged()
      yield* tap.refuse("commit", 2)
      yield* force
      const held = Effect.map(scrape, ({ of }) => of("cal_tokens_pairs_held"))
      const before = yield* held
      yield* TestClock.adjust("10 seconds")
      // Judged together: a service that still holds a pair would wait for it at its end, on a clock that stands.
      assert.deepStrictEqual([before, yield* held], [1, 0])
    }).pipe(Effect.provide(layer()))
  )

  it.effect("names no user, no token and no path", () =>
    Effect.gen(function* () {
      const secrets = Secrets.make()
      const grant = yield* World.connectManaged()
      for (const token of [grant.accessToken, grant.refreshToken]) secrets.add("token", Redacted.value(token))
      for (const key of Object.values(keys)) secrets.add("key", key)
      const token = Redacted.value(grant.accessToken)
      const get = (path: string, key: string = keys.all) => call({ method: "GET", path, key })
      // Metrics are the process's, and other tests of it count what they like.
      const before = new Set((yield* scrape).text.split("\n"))
      yield* force
      yield* get(`/api/cal/connections/${user}?x=${token}`)
      yield* get(`/api/cal/connections/${token}`)
      yield* get(`/api/cal/proxy/${user}/me?token=${token}`)
      yield* get(`/api/cal/nowhere/${token}`)
      yield* get("/nowhere/at-all", token)
      const { of, samples, text } = yield* scrape
      assert.deepStrictEqual(secrets.find(text), [])
      const news = text.split("\n").filter((line) => !before.has(line))
      assert.isAbove(news.length, 0)
      for (const line of news) assert.notMatch(line, /[0-9A-HJKMNP-TV-Z]{26}|nowhere|at-all|eyJ/i)
      assert.isAbove(
        of("cal_tokens_http_requests_total", { method: "GET", route: "/api/cal/connections/:userUlid", status: "200" }),
        0
      )
      assert.isAbove(of("cal_tokens_http_requests_total", { method: "GET", route: "unmatched", status: "404" }), 0)
      assert.isAbove(of("cal_tokens_process_resident_memory_bytes"), 1e6)
      assert.isAbove(of("cal_tokens_process_uptime_seconds"), 0)
      assert.closeTo(
        of("cal_tokens_process_start_time_seconds") + of("cal_tokens_process_uptime_seconds"),
        performance.timeOrigin / 1000 + performance.now() / 1000,
        60
      )
      assert.strictEqual(of("cal_tokens_build_info", { version, node: process.version }), 1)
      for (const { name } of samples) assert.match(name, /^cal_tokens_/)
      assert.deepStrictEqual(strangers(samples), [])
      const routes = new Set(samples.flatMap(({ labels }) => labels.get("route") ?? []))
      for (const route of routes) assert.match(route, /^(unmatched|\/[a-z0-9/:.*-]*(userUlid)?)$/i)
    }).pipe(Effect.provide(layer()))
  )
})
