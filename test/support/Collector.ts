/** A collector of telemetry: takes what OTLP sends as JSON, and shows it as it came. */
import * as Http from "node:http"
import { Effect } from "effect"

export interface Request {
  readonly path: string
  readonly headers: Http.IncomingHttpHeaders
  readonly body: string
}

interface Value {
  readonly stringValue?: string
  readonly intValue?: number
  readonly boolValue?: boolean
}

interface Attribute {
  readonly key: string
  readonly value: Value
}

export interface Span {
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId?: string
  readonly name: string
  readonly kind: number
  readonly attributes: ReadonlyArray<Attribute>
  readonly links: ReadonlyArray<{ readonly traceId: string; readonly spanId: string }>
  readonly events: ReadonlyArray<{ readonly name: string; readonly attributes: ReadonlyArray<Attribute> }>
  readonly status: { readonly code: number; readonly message?: string }
}

export interface Log {
  readonly traceId?: string
  readonly spanId?: string
  readonly severityText: string
  readonly body: Value
  readonly attributes: ReadonlyArray<Attribute>
}

interface Metric {
  readonly name: string
  readonly sum?: {
    readonly dataPoints: ReadonlyArray<{ readonly asDouble: number; readonly attributes: ReadonlyArray<Attribute> }>
  }
}

export const plain = (attributes: ReadonlyArray<Attribute>): Readonly<Record<string, unknown>> =>
  Object.fromEntries(attributes.map(({ key, value }) => [key, Object.values(value)[0]]))

/** On a port of its own until the scope ends. `answer`: the status of each request; `undefined` is none at all. */
export const make = (answer: () => number | undefined = () => 200) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.async<{ readonly server: Http.Server; readonly requests: Array<Request> }>((resume) => {
        const requests: Array<Request> = []
        const server = Http.createServer((request, response) => {
          const chunks: Array<Buffer> = []
          request.on("data", (chunk: Buffer) => chunks.push(chunk))
          request.on("end", () => {
            const body = Buffer.concat(chunks).toString("utf8")
            requests.push({ path: request.url ?? "", headers: request.headers, body })
            const status = answer()
            if (status !== undefined) response.writeHead(status, { "content-type": "application/json" }).end("{}")
          })
        })
        server.listen(0, "127.0.0.1", () => resume(Effect.succeed({ server, requests })))
      }),
      ({ server }) =>
        Effect.async<void>((resume) => {
          server.close(() => resume(Effect.void))
          server.closeAllConnections()
        })
    ),
    ({ requests, server }) => {
      const address = server.address()
      const items = <Item>(path: string, resources: string, scopes: string, name: string): ReadonlyArray<Item> =>
        requests
          .filter((request) => request.path === path)
          .flatMap(({ body }) => {
            const told = JSON.parse(body) as Record<
              string,
              ReadonlyArray<Record<string, ReadonlyArray<Record<string, unknown>>>>
            >
            return (told[resources] ?? []).flatMap((resource) =>
              (resource[scopes] ?? []).flatMap((scope) => scope[name] as ReadonlyArray<Item>)
            )
          })
      return {
        url: `http://127.0.0.1:${address !== null && typeof address === "object" ? address.port : 0}`,
        requests,
        spans: () => items<Span>("/v1/traces", "resourceSpans", "scopeSpans", "spans"),
        logs: () => items<Log>("/v1/logs", "resourceLogs", "scopeLogs", "logRecords"),
        metrics: () => items<Metric>("/v1/metrics", "resourceMetrics", "scopeMetrics", "metrics")
      }
    }
  )
