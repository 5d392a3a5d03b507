/** Scripted `CalTokens` and `CalApi` for tests of the promise edge, and a log that can be read. */
import { HttpClient, HttpClientResponse } from "@effect/platform"
import { type Context, Duration, Effect, Layer, Logger, Redacted, Stream } from "effect"
import * as CalApi from "../../src/CalApi.js"
import * as CalClient from "../../src/CalClient.js"
import * as HttpClients from "../../src/CalHttp/HttpClients.js"
import { Advice, CalTokens, type ValidToken } from "../../src/CalTokens.js"

export const user = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
export const accessToken = "eyJhbGciOiJIUzI1NiJ9.eyJvd25lcklkIjoxfQ.signature-one"
export const newAccessToken = "eyJhbGciOiJIUzI1NiJ9.eyJvd25lcklkIjoxfQ.signature-two"

export const valid = (token: string, refreshed = false): ValidToken => ({
  accessToken: Redacted.make(token),
  expiresAt: 1_750_000_000_000,
  version: 1,
  refreshed
})

export const retryWith = (token: string, options?: { refreshed?: boolean; delay?: Duration.DurationInput }) =>
  Advice.Retry({ token: valid(token, options?.refreshed), delay: Duration.decode(options?.delay ?? 0) })

type Tokens = Context.Tag.Service<CalTokens>
export interface Sent {
  readonly method: string
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: string | undefined
}

/**
 * The given methods of `CalTokens` (any other is a bug when called) under the real `CalApi`, whose requests are answered
 * here. `sent` are the requests so far.
 */
export const fakes = (tokens: Partial<Tokens>, answer: (sent: Sent) => Response = () => new Response("{}")) => {
  const sent: Array<Sent> = []
  const http = HttpClient.make((request, url) =>
    Effect.sync(() => {
      const { body, headers, method } = request
      const text = body._tag === "Uint8Array" ? new TextDecoder().decode(body.body) : undefined
      const it: Sent = { method, url: url.href, headers, body: text }
      sent.push(it)
      return HttpClientResponse.fromWeb(request, answer(it))
    })
  )
  const layer = CalApi.layer.pipe(
    Layer.provide(CalClient.layer({ apiUrl: "https://api.cal.com/v2" })),
    Layer.provide(HttpClients.layerBoth(Layer.succeed(HttpClient.HttpClient, http))),
    Layer.provideMerge(Layer.mock(CalTokens, { changes: Stream.never, peek: () => undefined, ...tokens }))
  )
  return { sent, layer }
}

export interface Line {
  readonly level: string
  readonly message: string
  readonly annotations: Record<string, unknown>
}

/** Everything logged by what is built with `layer`. */
export const recorder = () => {
  const lines: Array<Line> = []
  const layer = Logger.replace(
    Logger.defaultLogger,
    Logger.make(({ annotations, logLevel, message }) => {
      lines.push({ level: logLevel.label, message: String(message), annotations: Object.fromEntries(annotations) })
    })
  )
  return { lines, layer }
}
