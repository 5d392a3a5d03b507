/** Requests over connections that are kept, as a backend makes them. */
import * as Http from "node:http"
import { Effect } from "effect"

export interface Answer {
  readonly status: number
  readonly body: Readonly<Record<string, unknown>>
}

/** No whole answer came; the system's word for it. */
export interface NoAnswer {
  readonly status: 0
  readonly code: string
}

export interface Request {
  readonly method: "GET" | "POST" | "PUT"
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
  readonly body?: unknown
}

/** Nothing that is asked takes longer, in ms. */
const longest = 60_000

/** The word for an answer that was not awaited any longer. */
export const late = "timeout"

export const make = (connections: number, patience = longest) => {
  const agent = new Http.Agent({ keepAlive: true, maxSockets: connections, scheduling: "lifo" })
  const send = ({ body, headers, method, url }: Request): Effect.Effect<Answer | NoAnswer> =>
    Effect.async((resume) => {
      const failed = (error: NodeJS.ErrnoException) =>
        resume(Effect.succeed({ status: 0, code: error.code ?? error.message }))
      const text = body === undefined ? undefined : JSON.stringify(body)
      const sent = { ...headers, ...(text === undefined ? {} : { "content-type": "application/json" }) }
      const request = Http.request(url, { method, headers: sent, agent, timeout: patience }, (response) => {
        let text = ""
        response
          .setEncoding("utf8")
          .on("data", (chunk: string) => (text += chunk))
          .once("error", failed)
          .once("end", () => resume(Effect.succeed({ status: response.statusCode ?? 0, body: parse(text) })))
      })
      request.once("timeout", () => request.destroy(new Error(late)))
      request.once("error", failed).end(text)
    })
  return { send, close: Effect.sync(() => agent.destroy()) }
}

/** Cal.com's gateways answer pages. */
const parse = (text: string): Answer["body"] => {
  try {
    return JSON.parse(text) as Answer["body"]
  } catch {
    return {}
  }
}
