/** Traces, metrics and logs for a collector, by OTLP over HTTP. */
import { randomUUID } from "node:crypto"
import * as OtlpLogger from "@effect/opentelemetry/OtlpLogger"
import * as OtlpMetrics from "@effect/opentelemetry/OtlpMetrics"
import * as OtlpSerialization from "@effect/opentelemetry/OtlpSerialization"
import * as OtlpTracer from "@effect/opentelemetry/OtlpTracer"
import { HttpClient, HttpClientError } from "@effect/platform"
import { Clock, ConfigProvider, Duration, Effect, Layer, Option, Redacted, Schedule, Struct, Tracer } from "effect"
import { ApiHttp } from "../CalHttp/HttpClients.js"
import * as NodeHttp from "../CalHttp/Node.js"
import { reasonOf } from "../CalHttp/Transport.js"
import type { Telemetry } from "../Environment/Telemetry.js"
import { facts } from "../ErrorFacts.js"
import * as Metrics from "../Metrics.js"
import { version } from "../Version.js"

/** How long a collector may take. */
const patience = Duration.seconds(10)

/** So many requests wait for it at most: what comes while it is that slow is dropped. */
const mostWaiting = 8

/** That it takes nothing is said no more often. In milliseconds. */
const silence = 60_000

/** What is left is sent at the end of the process for so long, of each kind. */
const shutdownTimeout = Duration.seconds(2)

/** What is looked up for metrics is not older than that when they are sent. In milliseconds. */
const maxAge = 10_000

export const layer = (settings: Telemetry): Layer.Layer<never> => {
  const { attributes, logs, metricInterval, metrics, sampler, serviceName, traces } = settings
  // It has a variable of its own.
  const others = Struct.omit(attributes, "service.name")
  const shared = {
    resource: { serviceName, serviceVersion: version, attributes: { "service.instance.id": randomUUID(), ...others } },
    headers: Redacted.value(settings.headers),
    shutdownTimeout
  }
  const ofMetrics = (url: string) =>
    Layer.merge(
      OtlpMetrics.layer({ ...shared, url, exportInterval: Duration.millis(metricInterval) }),
      Layer.scopedDiscard(
        Effect.forkScoped(Effect.repeat(Metrics.collect, Schedule.spaced(Math.min(metricInterval, maxAge))))
      )
    )
  const ofTraces = (url: string) =>
    Layer.unwrapScoped(
      Effect.map(OtlpTracer.make({ ...shared, url }), (tracer) => Layer.setTracer(sampling(tracer, sampler)))
    )
  return Layer.mergeAll(
    logs === undefined ? Layer.empty : OtlpLogger.layer({ ...shared, url: logs, excludeLogSpans: true }),
    metrics === undefined ? Layer.empty : ofMetrics(metrics),
    traces === undefined ? Layer.empty : ofTraces(traces)
  ).pipe(
    Layer.provide(serialization(settings.protocol)),
    Layer.provide(layerHttp),
    // The variables have been read, by whoever refuses those that are wrong.
    Layer.provide(Layer.setConfigProvider(ConfigProvider.fromMap(new Map())))
  )
}

/** Whether a trace is sent is decided by its id, so that all who have a part in it decide alike. */
const sampling = (tracer: Tracer.Tracer, { isParentBased, ratio }: Telemetry["sampler"]): Tracer.Tracer => {
  const isChosen = (traceId: string) => parseInt(traceId.slice(-13), 16) < ratio * 2 ** 52
  return Tracer.make({
    context: (run, fiber) => tracer.context(run, fiber),
    span: (name, parent, ...rest) => {
      const span = tracer.span(name, parent, ...rest)
      const above = Option.getOrUndefined(parent)
      const isRemote = above?._tag === "ExternalSpan"
      const isSampled = above === undefined || (isRemote && !isParentBased) ? isChosen(span.traceId) : above.sampled
      return isSampled ? span : Object.assign(span, { sampled: false, end: () => {} })
    }
  })
}

interface Attribute {
  readonly key: string
  readonly value: { readonly intValue?: number; readonly stringValue?: string }
}

interface Exported {
  readonly kind: number
  attributes: ReadonlyArray<Attribute>
  events: ReadonlyArray<{ readonly name: string; attributes: ReadonlyArray<Attribute> }>
  status: { readonly code: number; readonly message?: string }
}

interface Traces {
  readonly resourceSpans: ReadonlyArray<{
    readonly scopeSpans: ReadonlyArray<{ readonly spans: ReadonlyArray<Exported> }>
  }>
}

const valueOf = (attributes: ReadonlyArray<Attribute>, name: string) =>
  attributes.find(({ key }) => key === name)?.value

/** OpenTelemetry's numbers. */
const [server, failed] = [2, 2]

/** The exporter says of each failure that it was an interruption. */
const mistaken = new Set(["span.label", "status.interrupted"])

/**
 * The messages of our failures are for people, and hold nothing that is secret. Those of faults that nobody foresaw, and
 * their stacks, may hold anything: of them the name is told.
 */
const clean = (span: Exported) => {
  span.attributes = span.attributes.filter(({ key }) => !mistaken.has(key))
  const types = span.events.map(({ attributes }) => valueOf(attributes, "exception.type")?.stringValue)
  const isForeseen = types.every((type) => type === undefined || type in facts)
  for (const event of span.events.filter(({ name }) => name === "exception")) {
    event.attributes = event.attributes.filter(
      ({ key }) => key === "exception.type" || (isForeseen && key === "exception.message")
    )
  }
  const status = Number(valueOf(span.attributes, "http.response.status_code")?.intValue)
  if (span.kind === server && status >= 500) span.status = { code: failed }
  if (span.status.code === failed && !isForeseen) span.status = { code: failed }
}

const cleaned = (data: unknown) => {
  for (const { scopeSpans } of (data as Traces).resourceSpans) {
    for (const { spans } of scopeSpans) spans.forEach(clean)
  }
  return data
}

const serialization = (protocol: Telemetry["protocol"]) =>
  Layer.effect(
    OtlpSerialization.OtlpSerialization,
    Effect.map(OtlpSerialization.OtlpSerialization, (inner) => ({
      ...inner,
      traces: (data) => inner.traces(cleaned(data))
    }))
  ).pipe(Layer.provide(protocol === "http/json" ? OtlpSerialization.layerJson : OtlpSerialization.layerProtobuf))

/** A collector that is away, slow or refuses costs a line now and then, and no more memory than what is on its way. */
export const forgiving = (client: HttpClient.HttpClient): HttpClient.HttpClient => {
  let waiting = 0
  let toldAt = -Infinity
  const tell = (reason: string) =>
    Effect.flatMap(Clock.currentTimeMillis, (now) => {
      if (now >= toldAt && now < toldAt + silence) return Effect.void
      toldAt = now
      return Effect.annotateLogs(Effect.logWarning("The collector takes no telemetry"), { reason })
    })
  return HttpClient.transform(client, (answer, request) => {
    const fail = (description: string) =>
      new HttpClientError.RequestError({ request, reason: "Transport", description })
    return Effect.suspend(() => {
      if (waiting >= mostWaiting) return fail("it is too slow")
      waiting++
      return answer.pipe(
        // To its end, which leaves the connection to the next one.
        Effect.tap((response) => Effect.ignore(response.text)),
        Effect.timeoutFail({ duration: patience, onTimeout: () => fail("no answer in time") }),
        Effect.ensuring(Effect.sync(() => void waiting--)),
        Effect.tap(({ status }) => (status >= 400 ? tell(`it answers ${status}`) : Effect.void))
      )
    }).pipe(
      Effect.tapError((error) =>
        tell(error._tag === "RequestError" && error.cause === undefined ? (error.description ?? "") : reasonOf(error))
      )
    )
  }).pipe(HttpClient.withTracerPropagation(false))
}

const layerHttp = Layer.effect(HttpClient.HttpClient, Effect.map(ApiHttp, forgiving)).pipe(
  Layer.provide(NodeHttp.layerApiHttp)
)
