/** A scripted Cal.com behind the `HttpClient`: replies are queued, requests can be read back. */
import { Context, Effect, Layer, Ref } from "effect"
import { HttpClient, HttpClientError, type HttpClientRequest, HttpClientResponse } from "@effect/platform"
import { ApiHttp, TokenHttp } from "../../src/CalHttp/HttpClients.js"

export interface Seen {
  readonly method: string
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

export type Reply =
  | { readonly status: number; readonly body?: unknown; readonly headers?: Readonly<Record<string, string>> }
  /** The connection fails; `code` and the like are the cause's. */
  | { readonly fail: unknown }
  /** The headers arrive, the body does not. */
  | { readonly truncated: number }
  | { readonly never: true }
  | { readonly defect: unknown }

export class ScriptedCal extends Context.Tag("test/ScriptedCal")<
  ScriptedCal,
  {
    readonly requests: Effect.Effect<ReadonlyArray<Seen>>
    /** Replies to the next requests, in this order. A request without one is a defect of the test. */
    readonly reply: (...replies: ReadonlyArray<Reply>) => Effect.Effect<void>
  }
>() {}

const bodyText = (request: HttpClientRequest.HttpClientRequest) => {
  const { body } = request
  switch (body._tag) {
    case "Empty":
      return ""
    case "Uint8Array":
      return new TextDecoder().decode(body.body)
    case "Raw":
      return String(body.body)
    case "FormData":
      return JSON.stringify([...body.formData.entries()])
    case "Stream":
      return "(stream)"
  }
}

const broken = () =>
  new ReadableStream<Uint8Array>({
    start: (controller) => controller.enqueue(new TextEncoder().encode('{"status":"success","data":{')),
    pull: (controller) => controller.error(new TypeError("terminated"))
  })

const toWeb = (reply: { readonly status: number; readonly body?: unknown; readonly headers?: object }) =>
  new Response(
    reply.body === undefined
      ? null
      : typeof reply.body === "string" || reply.body instanceof Uint8Array
        ? reply.body
        : JSON.stringify(reply.body),
    { status: reply.status, headers: { "content-type": "application/json", ...reply.headers } }
  )

export const layer: Layer.Layer<ScriptedCal | HttpClient.HttpClient | TokenHttp | ApiHttp> = Layer.effectContext(
  Effect.gen(function* () {
    const seen = yield* Ref.make<ReadonlyArray<Seen>>([])
    const queue = yield* Ref.make<ReadonlyArray<Reply>>([])
    const client = HttpClient.make((request, url) =>
      Effect.gen(function* () {
        const { headers, method } = request
        yield* Ref.update(seen, (all) => [...all, { method, url: url.href, headers, body: bodyText(request) }])
        const reply = yield* Ref.modify(queue, ([first, ...rest]) => [first, rest])
        if (reply === undefined) return yield* Effect.dieMessage(`no reply scripted for ${method} ${url.pathname}`)
        if ("fail" in reply) {
          return yield* new HttpClientError.RequestError({ request, reason: "Transport", cause: reply.fail })
        }
        if ("never" in reply) return yield* Effect.never
        if ("defect" in reply) return yield* Effect.die(reply.defect)
        return HttpClientResponse.fromWeb(
          request,
          "truncated" in reply ? new Response(broken(), { status: reply.truncated }) : toWeb(reply)
        )
      })
    )
    return Context.make(HttpClient.HttpClient, client).pipe(
      Context.add(TokenHttp, client),
      Context.add(ApiHttp, client),
      Context.add(ScriptedCal, {
        requests: Ref.get(seen),
        reply: (...replies) => Ref.update(queue, (all) => [...all, ...replies])
      })
    )
  })
)

/** A platform error answer, in the envelope of API v2. */
export const platformError = (
  status: number,
  message: string,
  details: unknown = { message, statusCode: status },
  headers: Readonly<Record<string, string>> = {}
): Reply => ({
  status,
  headers,
  body: {
    status: "error",
    timestamp: "2026-03-14T09:26:53.589Z",
    path: "/v2/x",
    error: { code: "X", message, details }
  }
})

/** An error of the OAuth2 token endpoint. */
export const oauth2Error = (status: number, error: string, description?: string): Reply => ({
  status,
  body: { error, ...(description === undefined ? {} : { error_description: description }) }
})

/** A system error as Node makes them. */
export const systemError = (code: string, rest: object = {}) =>
  Object.assign(new Error(`${code} 127.0.0.1:443`), { code, ...rest })
