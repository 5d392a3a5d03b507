/** Where telemetry is sent, by OpenTelemetry's variables. */
import { type ConfigError, Either, Option, Redacted } from "effect"
import { withoutSlashes } from "../CalHttp/CalPath.js"
import * as Form from "./Form.js"
import * as Variable from "./Variable.js"
import * as Variables from "./Variables.js"

/** What is sent, and where. */
export interface Telemetry {
  readonly traces: string | undefined
  readonly metrics: string | undefined
  readonly logs: string | undefined
  /** Secret: collectors have keys in them. */
  readonly headers: Redacted.Redacted<Readonly<Record<string, string>>>
  readonly protocol: "http/protobuf" | "http/json"
  readonly serviceName: string
  readonly attributes: Readonly<Record<string, string>>
  readonly sampler: {
    /** Whoever began a trace elsewhere has decided about it. */
    readonly isParentBased: boolean
    /** The share of all other traces. */
    readonly ratio: number
  }
  /** In milliseconds. */
  readonly metricInterval: number
}

/** `None`: nothing is sent. */
export const judge = (
  it: Variables.TelemetryValues
): Either.Either<Option.Option<Telemetry>, ConfigError.ConfigError> => {
  const at = (endpoint: Option.Option<string>, path: string, exporter: "otlp" | "none") =>
    exporter === "none"
      ? undefined
      : Option.getOrUndefined(
          Option.orElse(endpoint, () =>
            Option.map(it.OTEL_EXPORTER_OTLP_ENDPOINT, (base) => `${withoutSlashes(base)}${path}`)
          )
        )
  const traces = at(it.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, "/v1/traces", it.OTEL_TRACES_EXPORTER)
  const metrics = at(it.OTEL_EXPORTER_OTLP_METRICS_ENDPOINT, "/v1/metrics", it.OTEL_METRICS_EXPORTER)
  const logs = at(it.OTEL_EXPORTER_OTLP_LOGS_ENDPOINT, "/v1/logs", it.OTEL_LOGS_EXPORTER)
  const [, kind] = /^(?:parentbased_)?(.*)$/.exec(it.OTEL_TRACES_SAMPLER) ?? []
  if (it.OTEL_SDK_DISABLED === "true") return Either.right(Option.none())
  if (Option.isSome(it.OTEL_TRACES_SAMPLER_ARG) && kind !== "traceidratio") {
    return Either.left(
      Variable.invalid(
        "OTEL_TRACES_SAMPLER_ARG",
        "is for traceidratio or parentbased_traceidratio as OTEL_TRACES_SAMPLER"
      )
    )
  }
  if (traces === undefined && metrics === undefined && logs === undefined) {
    return Option.isSome(it.OTEL_EXPORTER_OTLP_HEADERS) && Option.isNone(it.OTEL_EXPORTER_OTLP_ENDPOINT)
      ? Variable.missing("OTEL_EXPORTER_OTLP_ENDPOINT", "with OTEL_EXPORTER_OTLP_HEADERS", Form.collectorUrl.expected)
      : Either.right(Option.none())
  }
  return Either.right(
    Option.some({
      traces,
      metrics,
      logs,
      headers: Option.getOrElse(it.OTEL_EXPORTER_OTLP_HEADERS, () => Redacted.make({})),
      protocol: it.OTEL_EXPORTER_OTLP_PROTOCOL,
      serviceName: it.OTEL_SERVICE_NAME,
      attributes: Option.getOrElse(it.OTEL_RESOURCE_ATTRIBUTES, () => ({})),
      sampler: {
        isParentBased: it.OTEL_TRACES_SAMPLER.startsWith("parentbased_"),
        ratio:
          kind === "always_on" ? 1 : kind === "always_off" ? 0 : Option.getOrElse(it.OTEL_TRACES_SAMPLER_ARG, () => 1)
      },
      metricInterval: it.OTEL_METRIC_EXPORT_INTERVAL
    })
  )
}

const known = new Set(Object.values(Variables.all).flatMap(({ names }) => names))

/** Variables of OpenTelemetry's that do nothing here, though somebody set them: those about the way to the collector. */
export const unsupported = (names: ReadonlyArray<string>): ReadonlyArray<string> =>
  names.filter((name) => name.startsWith("OTEL_EXPORTER_OTLP_") && !known.has(name)).sort()
