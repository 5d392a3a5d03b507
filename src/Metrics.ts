/**
 * What this package counts, in Effect's metrics: whoever exports those gets these, and `GET /metrics` shows them. Labels
 * have few values, all of them words of this package: no user, token, path or text of anybody's. All names begin with
 * `cal_tokens_`, for the process may be somebody else's.
 */
import * as Process from "node:process"
import {
  Cause,
  Effect,
  Exit,
  FiberRef,
  Metric,
  MetricBoundaries,
  MetricKey,
  type MetricKeyType,
  MetricLabel,
  Option,
  type Scope
} from "effect"
import { facts } from "./ErrorFacts.js"
import { version } from "./Version.js"

type Labels = Readonly<Record<string, string>>

/** The values that a label has: all of them, or what they look like. */
export type Values = ReadonlyArray<string> | { readonly words: string; readonly pattern: RegExp }

/** A metric as it is documented. */
export interface Described {
  readonly name: string
  readonly type: "counter" | "gauge" | "histogram"
  readonly description: string
  readonly labels: Readonly<Record<string, Values>>
}

const described: Array<Described> = []

/** All of them, for documents and tests. */
export const all: ReadonlyArray<Described> = described

/** A metric for each set of labels. Effect looks one up in its registry by all it has: that is done once for each. */
const labelled = <Type extends MetricKeyType.MetricKeyType.Untyped>(
  key: MetricKey.MetricKey<Type>,
  type: Described["type"],
  labels: Described["labels"]
) => {
  described.push({ name: key.name, type, description: Option.getOrElse(key.description, () => ""), labels })
  const make = (labels: Labels) =>
    Metric.fromMetricKey(
      MetricKey.taggedWithLabels(
        key,
        Object.entries(labels).map(([name, value]) => MetricLabel.make(name, value))
      )
    )
  const known = new Map<string, ReturnType<typeof make>>()
  return (labels: Labels = {}) => {
    const values = Object.values(labels).join("\n")
    const metric = known.get(values) ?? make(labels)
    known.set(values, metric)
    return metric
  }
}

const counter = (name: string, description: string, labels: Described["labels"] = {}) =>
  labelled(MetricKey.counter(name, { description, incremental: true }), "counter", labels)

const gauge = (name: string, description: string, labels: Described["labels"] = {}) =>
  labelled(MetricKey.gauge(name, { description }), "gauge", labels)

const histogram = (
  name: string,
  description: string,
  seconds: ReadonlyArray<number>,
  labels: Described["labels"] = {}
) => labelled(MetricKey.histogram(name, MetricBoundaries.fromIterable(seconds), description), "histogram", labels)

/** Of what takes a statement, of a call, and of what is waited for. */
const short = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5]
const medium = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30]
const long = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60]

/** What an effect may end with besides success: the tag of a failure, or none. */
const failures = [...Object.keys(facts), "interrupted", "defect"]

const kinds = ["managed", "oauth2"]

/** Why a refresh began. */
export type Trigger = (typeof triggers)[number]
const triggers = ["expired", "due", "soon", "forced", "rejected", "ahead", "reissue"] as const

const refreshes = counter(
  "cal_tokens_refreshes_total",
  "Refreshes of a user's pair by kind of user, by why they began and by outcome; callers that share one count once. `found`: another process had the pair.",
  { kind: kinds, trigger: triggers, outcome: ["refreshed", "reissued", "found", ...failures] }
)
const refreshDuration = histogram(
  "cal_tokens_refresh_duration_seconds",
  "From the beginning of a refresh to its end, waiting for other processes included.",
  long,
  { kind: kinds }
)
const refreshWait = histogram(
  "cal_tokens_refresh_wait_seconds",
  "Of refreshes that waited: how long for another process that holds the lease, and for the time of a probe.",
  long,
  { for: ["holder", "probe"] }
)
const joinWait = histogram(
  "cal_tokens_join_wait_seconds",
  "How long callers waited for a refresh that others had begun.",
  long
)
const cacheLookups = counter(
  "cal_tokens_cache_lookups_total",
  "Questions for a token that memory answered at once, and all others.",
  { result: ["hit", "miss"] }
)
const calCalls = counter(
  "cal_tokens_cal_calls_total",
  "Calls that spend a refresh token or reissue a pair, by outcome.",
  {
    operation: ["refresh", "reissue"],
    outcome: [
      ...["granted", "NotSpent", "Rejected", "UserGone", "ClientWide", "Unknown", "Unreadable"],
      ...["interrupted", "defect"]
    ]
  }
)
const calDuration = histogram(
  "cal_tokens_cal_call_duration_seconds",
  "From a call to Cal.com to its answer, or to none; `request` is one with a user's token, to the head of its answer.",
  medium,
  { operation: ["refresh", "reissue", "exchange", "createManagedUser", "me", "request"] }
)
const departures = counter(
  "cal_tokens_cal_departures_total",
  "Answers of Cal.com's token endpoints that depart from its contract and were read nevertheless, by kind.",
  { kind: ["encoded", "cutOff", "wrapped", "renamed", "expiry", "noAccessToken", "noRefreshToken"] }
)
const budgetLeft = gauge(
  "cal_tokens_cal_budget_remaining",
  "Calls that Cal.com's rate limit leaves until it starts anew, as its last answer said: of the client with the least.",
  { kind: kinds }
)
const budgetRatio = gauge("cal_tokens_cal_budget_ratio", "The same as a share of the limit, from 0 to 1.", {
  kind: kinds
})
const circuits = gauge(
  "cal_tokens_circuits_open",
  "Circuits that are open, by cause: of clients in the whole fleet, and `process`, of this process alone.",
  { cause: ["client", "brake", "drift", "process"] }
)
const users = gauge(
  "cal_tokens_users",
  "Users by status, in the whole storage. Above 10,000 it is the database's own estimate.",
  { status: ["active", "reauthorization_required"] }
)
const sealedAnswers = gauge(
  "cal_tokens_sealed_answers",
  "Answers of Cal.com that nobody could read, kept for a program that can; 10,000 stand for more."
)
const sealedRead = counter(
  "cal_tokens_sealed_answers_read_total",
  "Answers that had been kept, and held a pair when they were read again."
)
const changes = counter("cal_tokens_changes_total", "Changes of users' tokens that this process stored.", {
  kind: ["connected", "updated", "refreshed", "reissued", "disconnected", "reauthorizationRequired"]
})
const pairs = gauge(
  "cal_tokens_pairs_held",
  "Pairs that could not be stored yet and exist in this process's memory only."
)
const delay = gauge(
  "cal_tokens_ahead_delay_seconds",
  "How long after its time the latest refresh was begun that nobody waits for: it grows while Cal.com's limit is used up."
)
const storageOperations = [
  ...["activity", "attempts", "changes", "claim", "claimDue", "commit", "connect", "connectFlow.begin"],
  ...["connectFlow.find", "connectFlow.findCompletion", "connectFlow.replace", "connectFlow.take", "counts"],
  ...["disconnect", "endSessions", "fail", "find", "findByAccessToken", "handedOut", "history", "import"],
  ...["keysInUse", "list", "migrate", "missingKeys", "notify", "outlook", "ping", "reconnecting", "reencrypt"],
  ...["seal", "sealed", "spend", "transitions", "update", "used"]
]
const storageDuration = histogram(
  "cal_tokens_storage_call_duration_seconds",
  "From a statement to the database's answer, the wait for a connection included.",
  short,
  { operation: storageOperations }
)
const storageFailures = counter("cal_tokens_storage_failures_total", "Statements that the database did not answer.", {
  operation: storageOperations
})

const methods: ReadonlySet<string> = new Set(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
const httpMethods = [...methods, "other"]
const routes = { words: "a route's template, or `unmatched`", pattern: /^(unmatched|\/[\w\-.~:*/]*)$/ }

const requests = counter("cal_tokens_http_requests_total", "Requests by method, route and status.", {
  method: httpMethods,
  route: routes,
  status: { words: "an HTTP status, or `aborted`", pattern: /^([1-5]\d\d|aborted)$/ }
})
const requestDuration = histogram(
  "cal_tokens_http_request_duration_seconds",
  "From a request to the head of its answer, by method and route.",
  medium,
  { method: httpMethods, route: routes }
)

const started = gauge("cal_tokens_process_start_time_seconds", "When the process began, in seconds since the epoch.")
const uptime = gauge("cal_tokens_process_uptime_seconds", "How long the process has been running.")
const resident = gauge("cal_tokens_process_resident_memory_bytes", "Memory that the process occupies.")
const processor = counter("cal_tokens_process_cpu_seconds_total", "Processor time that the process has used.")
const loopActive = counter(
  "cal_tokens_event_loop_active_seconds_total",
  "How long the event loop was at work: its rate is 1 where requests wait for it."
)
const build = gauge("cal_tokens_build_info", "The version of this package, and of Node.js.", {
  version: { words: "this package's", pattern: /^\d+\.\d+\.\d+(-[\w.]+)?$/ },
  node: { words: "that of Node.js", pattern: /^v\d+\.\d+\.\d+(-[\w.]+)?$/ }
})

const increment = (metric: ReturnType<typeof counter>, labels: Labels = {}) => Metric.update(metric(labels), 1)

/** `succeeded`, or the failure's tag. */
const outcomeOf = (exit: Exit.Exit<unknown, { readonly _tag: string }>, succeeded: string): string =>
  Exit.match(exit, {
    onSuccess: () => succeeded,
    onFailure: (cause) =>
      Option.match(Cause.failureOption(cause), {
        onSome: (error) => error._tag,
        onNone: () => (Cause.isInterruptedOnly(cause) ? "interrupted" : "defect")
      })
  })

const measured = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  end: (exit: Exit.Exit<A, E>, took: number) => Effect.Effect<void>
): Effect.Effect<A, E, R> =>
  Effect.clockWith((clock) => {
    // Of a clock that nobody sets.
    const begun = clock.unsafeCurrentTimeNanos()
    return Effect.onExit(effect, (exit) => {
      const took = Number(clock.unsafeCurrentTimeNanos() - begun) / 1e9
      return end(exit, Math.max(0, took))
    })
  })

/** What a refresh has come to besides its result. */
export interface Flown {
  /** Nobody else brought the pair. */
  isOurs: boolean
  /** In milliseconds. */
  readonly waited: { holder: number; probe: number }
}

export const flown = (): Flown => ({ isOurs: false, waited: { holder: 0, probe: 0 } })

/** Counts and times one refresh. */
export const refresh =
  ({ kind, trigger }: { readonly kind: "managed" | "oauth2"; readonly trigger: Trigger }, flown: Flown) =>
  <A, E extends { readonly _tag: string }, R>(flight: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    measured(flight, (exit, took) => {
      const { isOurs, waited } = flown
      const succeeded = !isOurs ? "found" : trigger === "reissue" ? "reissued" : "refreshed"
      for (const [what, millis] of Object.entries(waited)) {
        if (millis > 0) refreshWait({ for: what }).unsafeUpdate(millis / 1000, [])
      }
      return Effect.zipRight(
        increment(refreshes, { kind, trigger, outcome: outcomeOf(exit, succeeded) }),
        Metric.update(refreshDuration({ kind }), took)
      )
    })

/** Times the wait for what somebody else has begun. */
export const joined = <A, E, R>(wait: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  measured(wait, (_, took) => Metric.update(joinWait(), took))

/** Questions that memory answered at once, and all others: numbers that a scrape reads, for the answers cost little more. */
export const lookups = { hit: 0, miss: 0 }

/** Counts one call to a token endpoint. */
export const calCall =
  (operation: "refresh" | "reissue") =>
  <A, E extends { readonly _tag: string }, R>(call: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.onExit(call, (exit) => increment(calCalls, { operation, outcome: outcomeOf(exit, "granted") }))

/** Times one request to Cal.com. */
export const calRequest =
  (operation: string) =>
  <A, E, R>(request: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    measured(request, (_, took) => Metric.update(calDuration({ operation }), took))

/** Times one statement, and counts it where it brought no answer. Whoever gave it up did so for reasons of their own. */
export const storageCall =
  (operation: string) =>
  <A, E, R>(call: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    measured(call, (exit, took) => {
      storageDuration({ operation }).unsafeUpdate(took, [])
      if (Exit.isFailure(exit) && !Cause.isInterruptedOnly(exit.cause))
        storageFailures({ operation }).unsafeUpdate(1, [])
      return Effect.void
    })

/** Counts an answer that departs from Cal.com's contract. */
export const departure = (kind: string): Effect.Effect<void> => increment(departures, { kind })

/** An answer that was kept held a pair. */
export const sealedAnswerRead: Effect.Effect<void> = Effect.suspend(() => increment(sealedRead))

/** Counts a change that was stored. */
export const change = (kind: string): Effect.Effect<void> => increment(changes, { kind })

/** Tells how many pairs are in memory only, after an effect that may have changed that. */
export const pairsHeld =
  (count: () => number) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.tap(effect, () => Metric.set(pairs(), count()))

/** Tells how late a refresh was begun that nobody waits for, in milliseconds. */
export const aheadDelay = (late: number): Effect.Effect<void> => Metric.set(delay(), late / 1000)

/**
 * Counts and times one request. `routeOf`: the template of the route that took it, once it is answered; what has none is
 * `unmatched`, such as answers that came before routing.
 */
export const request =
  (name: string, routeOf: () => string | undefined) =>
  <A extends { readonly status: number }, E, R>(answer: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    measured(answer, (exit, took) => {
      const route = routeOf() ?? "unmatched"
      const method = methods.has(name) ? name : "other"
      // Without an answer the caller went away.
      const status = Exit.isSuccess(exit) ? String(exit.value.status) : "aborted"
      return FiberRef.getWith(FiberRef.currentMetricLabels, (labels) => {
        requests({ method, route, status }).unsafeUpdate(1, labels)
        requestDuration({ method, route }).unsafeUpdate(took, labels)
        return Effect.void
      })
    })

/** What a storage holds, or a process knows, at a moment. */
export interface Reading {
  readonly users?: { readonly active: number; readonly reauthorizationRequired: number }
  readonly circuits?: Readonly<Record<string, number>>
  readonly sealed?: number
  readonly budgets?: ReadonlyArray<{
    readonly kind: "managed" | "oauth2"
    readonly limit: number
    readonly remaining: number
  }>
}

interface Source {
  /** Several processes in one, as in tests, may share what is read: it counts once. */
  readonly of: object
  readonly read: Effect.Effect<Reading>
}

/** What dies with its process, as simulated ones do, never ends its scope: nothing is kept for being read here. */
const sources = new Set<WeakRef<Source>>()

/** What is not counted but looked up when somebody reads metrics, as long as the scope lasts, which alone keeps it. */
export const source = (of: object, read: Effect.Effect<Reading>): Effect.Effect<void, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const source = { of, read }
      const reference = new WeakRef(source)
      sources.add(reference)
      return { source, reference }
    }),
    ({ reference }) => Effect.sync(() => void sources.delete(reference))
  ).pipe(Effect.asVoid)

/** Those that there are still. */
const living = (): ReadonlyArray<Source> =>
  [...sources].flatMap((reference) => {
    const source = reference.deref()
    if (source !== undefined) return [source]
    sources.delete(reference)
    return []
  })

const set = (metric: ReturnType<typeof gauge>, labels: Labels, value: number) => metric(labels).unsafeUpdate(value, [])

/** Brings a counter up to what is counted elsewhere. */
const reaching = (metric: ReturnType<typeof counter>, labels: Labels, count: () => number) => {
  let told = 0
  return () => {
    const now = Math.max(told, count())
    metric(labels).unsafeUpdate(now - told, [])
    told = now
  }
}

const reached = [
  reaching(cacheLookups, { result: "hit" }, () => lookups.hit),
  reaching(cacheLookups, { result: "miss" }, () => lookups.miss),
  reaching(processor, {}, () => {
    const { system, user } = Process.cpuUsage()
    return (system + user) / 1e6
  }),
  reaching(loopActive, {}, () => performance.eventLoopUtilization().active / 1000)
]

const valuesOf = (name: string, label: string): ReadonlyArray<string> => {
  const values = all.find((each) => each.name === name)?.labels[label]
  return values === undefined || "pattern" in values ? [] : values
}

const sum = (numbers: ReadonlyArray<number>) => numbers.reduce((one, other) => one + other, 0)

/** What counts rare things begins at 0: of what begins at 1 nobody sees that it rose. */
const rare = [
  ...valuesOf("cal_tokens_cal_departures_total", "kind").map((kind) => departures({ kind })),
  ...valuesOf("cal_tokens_changes_total", "kind").map((kind) => changes({ kind })),
  ...storageOperations.map((operation) => storageFailures({ operation })),
  sealedRead()
]

const tell = (readings: ReadonlyArray<Reading>) => {
  const each = <A>(pick: (reading: Reading) => A | undefined) => readings.flatMap((reading) => pick(reading) ?? [])
  set(users, { status: "active" }, sum(each(({ users }) => users?.active)))
  set(users, { status: "reauthorization_required" }, sum(each(({ users }) => users?.reauthorizationRequired)))
  for (const cause of ["client", "brake", "drift", "process"]) {
    set(circuits, { cause }, sum(each(({ circuits }) => circuits?.[cause])))
  }
  set(sealedAnswers, {}, sum(each(({ sealed }) => sealed)))
  for (const kind of kinds) {
    const known = readings.flatMap(({ budgets = [] }) => budgets).filter((budget) => budget.kind === kind)
    if (known.length === 0) continue
    set(budgetLeft, { kind }, Math.min(...known.map(({ remaining }) => remaining)))
    set(budgetRatio, { kind }, Math.min(...known.map(({ limit, remaining }) => remaining / Math.max(1, limit))))
  }
  set(started, {}, performance.timeOrigin / 1000)
  set(uptime, {}, Process.uptime())
  set(resident, {}, Process.memoryUsage.rss())
  set(build, { version, node: Process.version }, 1)
  for (const metric of rare) metric.unsafeUpdate(0, [])
  for (const reach of reached) reach()
}

/** Brings what is looked up into the metrics, for whoever reads them next. */
export const collect: Effect.Effect<void> = Effect.suspend(() => {
  const distinct = new Map(living().map((source) => [source.of, source.read]))
  return Effect.map(Effect.all([...distinct.values()], { concurrency: "unbounded" }), tell)
})

/** Those of this package, after {@link collect}. */
export const snapshot = Effect.zipRight(
  collect,
  Effect.map(Metric.snapshot, (pairs) => pairs.filter(({ metricKey }) => metricKey.name.startsWith("cal_tokens_")))
)
