/** Scripted `CalTokens` and `CalApi` for tests of the promise edge, and a log that can be read. */
import { HttpClientRequest, HttpClientResponse } from "@effect/platform"
import { type Context, Duration, Effect, Layer, Logger, Redacted, Stream } from "effect"
import { CalApi } from "../src/CalApi.js"
import { Advice, CalTokens, type ValidToken } from "../src/CalTokens.js"

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
type Send = Context.Tag.Service<CalApi>["send"]

export interface Sent {
  readonly userUlid: string | undefined
  readonly request: Parameters<Send>[1]
}

/** Layers over the given methods; the others are bugs when called. `sent` are the requests so far. */
export const fakes = (tokens: Partial<Tokens>, answer: (sent: Sent) => Response = () => new Response("{}")) => {
  const sent: Array<Sent> = []
  const api = Layer.mock(CalApi, {
    client: () => {
      throw new Error("the actions use send only")
    },
    send: (userUlid, request) =>
      Effect.sync(() => {
        sent.push({ userUlid, request })
        return HttpClientResponse.fromWeb(HttpClientRequest.get("/"), answer({ userUlid, request }))
      })
  })
  return { sent, layer: Layer.merge(Layer.mock(CalTokens, { changes: Stream.never, ...tokens }), api) }
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
