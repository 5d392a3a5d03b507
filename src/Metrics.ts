/**
 * What this package counts, in Effect's metrics: whoever exports those gets these, and `GET /metrics` shows them. Labels
 * have few values, all of them words of this package: no user, token, path or text of anybody's.
 */
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
  Option
} from "effect"

type Labels = Readonly<Record<string, string>>

/** A metric for each set of labels. Effect looks one up in its registry by all it has: that is done once for each. */
const labelled = <Type extends MetricKeyType.MetricKeyType.Untyped>(key: MetricKey.MetricKey<Type>) => {
  const make = (labels: Labels) =>
    Metric.fromMetricKey(
      MetricKey.taggedWithLabels(
        key,
        Object.entries(labels).map(([name, value]) => MetricLabel.make(name, value))
      )
    )
  const known = new Map<string, ReturnType<typeof make>>()
  return (labels: Labels) => {
    const values = Object.values(labels).join("\n")
    const metric = known.get(values) ?? make(labels)
    known.set(values, metric)
    return metric
  }
}

const counter = (name: string, description: string) =>
  labelled(MetricKey.counter(name, { description, incremental: true }))

const histogramKey = (name: string, description: string, seconds: ReadonlyArray<number>) =>
  MetricKey.histogram(name, MetricBoundaries.fromIterable(seconds), description)

const refreshes = counter(
  "cal_tokens_refreshes_total",
  "Refreshes of a user's pair by their outcome; callers that share one count once."
)
const refreshDuration = Metric.fromMetricKey(
  histogramKey(
    "cal_tokens_refresh_duration_seconds",
    "From the beginning of a refresh to its end, waiting for other processes included.",
    [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60]
  )
)
const calCalls = counter(
  "cal_tokens_cal_calls_total",
  "Calls that spend a refresh token or reissue a pair, by outcome."
)
const departures = counter(
  "cal_tokens_cal_departures_total",
  "Answers of Cal.com's token endpoints that depart from its contract and were read nevertheless, by kind."
)
const changes = counter("cal_tokens_changes_total", "Changes of users' tokens that this process stored.")
const pairs = Metric.gauge("cal_tokens_pairs_held", {
  description: "Pairs that could not be stored yet and exist in this process's memory only."
})
const delay = Metric.gauge("cal_tokens_ahead_delay_seconds", {
  description:
    "How long after its time the latest refresh was begun that nobody waits for: it grows while Cal.com's limit is used up."
})
const requests = counter("http_server_requests_total", "Requests by method, route and status.")
const requestDuration = labelled(
  histogramKey(
    "http_server_request_duration_seconds",
    "From a request to the head of its answer, by method and route.",
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30]
  )
)

const increment = (metric: ReturnType<typeof counter>, labels: Labels) => Metric.update(metric(labels), 1)

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

/** Counts and times one refresh; `succeeded` is what a good end is called. */
export const refresh =
  (succeeded: "refreshed" | "reissued") =>
  <A, E extends { readonly _tag: string }, R>(flight: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    measured(flight, (exit, took) =>
      Effect.zipRight(
        increment(refreshes, { outcome: outcomeOf(exit, succeeded) }),
        Metric.update(refreshDuration, took)
      )
    )

/** Counts one call to a token endpoint. */
export const calCall =
  (operation: "refresh" | "reissue") =>
  <A, E extends { readonly _tag: string }, R>(call: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.onExit(call, (exit) => increment(calCalls, { operation, outcome: outcomeOf(exit, "granted") }))

/** Counts an answer that departs from Cal.com's contract. */
export const departure = (kind: string): Effect.Effect<void> => increment(departures, { kind })

/** Counts a change that was stored. */
export const change = (kind: string): Effect.Effect<void> => increment(changes, { kind })

/** Tells how many pairs are in memory only, after an effect that may have changed that. */
export const pairsHeld =
  (count: () => number) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.tap(effect, () => Metric.set(pairs, count()))

/** Tells how late a refresh was begun that nobody waits for, in milliseconds. */
export const aheadDelay = (late: number): Effect.Effect<void> => Metric.set(delay, late / 1000)

const methods: ReadonlySet<string> = new Set(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])

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
