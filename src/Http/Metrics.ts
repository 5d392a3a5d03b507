/** The endpoint of `Api/Metrics`: every metric of this process, and what the process tells of itself. */
import * as Process from "node:process"
import { Effect, Metric, MetricKey, MetricPair, MetricState } from "effect"
import * as Edge from "./Edge.js"
import * as Group from "./Group.js"
import * as Exposition from "./Exposition.js"

export const layer = Group.make("metrics", (handlers) =>
  handlers.handle("getMetrics", () =>
    Effect.gen(function* () {
      yield* Edge.operation("getMetrics")
      return Exposition.render([...(yield* Metric.snapshot), ...(yield* ofProcess)])
    })
  )
)

const gauge = (name: string, description: string, value: number, labels: Readonly<Record<string, string>> = {}) => {
  const key = Object.entries(labels).reduce(
    (key, [label, value]) => MetricKey.tagged(key, label, value),
    MetricKey.gauge(name, { description })
  )
  return MetricPair.unsafeMake(key, MetricState.gauge(value))
}

/** Looked up when somebody asks; the names are those of Prometheus' own clients. */
const ofProcess = Effect.sync(() => [
  gauge(
    "process_start_time_seconds",
    "When the process began, in seconds since the epoch.",
    performance.timeOrigin / 1000
  ),
  gauge("process_uptime_seconds", "How long the process has been running.", Process.uptime()),
  gauge("process_resident_memory_bytes", "Memory that the process occupies.", Process.memoryUsage.rss()),
  gauge("nodejs_version_info", "The version of Node.js.", 1, { version: Process.version })
])
