/** One process of the service, and how it is asked. */
import * as Http from "node:http"
import { Data, Duration, Effect, Schema, type Scope } from "effect"
import type { User } from "./Cal.js"
import * as Process from "./Process.js"

export interface Answer {
  readonly status: number
  readonly body: Readonly<Record<string, unknown>>
}

/** No whole answer came; `code` is the system's word for it. */
export class NoAnswer extends Data.TaggedError("NoAnswer")<{ readonly code: string }> {
  override get message() {
    return `no answer: ${this.code}`
  }
}

export interface Node extends Process.Process {
  readonly url: string
  /** One request, on a connection of its own; with the fleet's API key, unless with another one. */
  readonly ask: (method: string, path: string, body?: unknown, key?: string) => Effect.Effect<Answer, NoAnswer>
  /** How many whole answers there were. */
  readonly answers: () => number
}

/** A process that takes longer to start is stuck, not slow. */
const startsWithin = Duration.seconds(60)

export const make = (options: {
  readonly program: string
  readonly key: string
  readonly env: Readonly<Record<string, string>>
}): Effect.Effect<Node, never, Scope.Scope> =>
  Effect.gen(function* () {
    const child = yield* Process.make(process.execPath, [options.program], {
      env: { PATH: process.env["PATH"] ?? "", ...options.env }
    })
    const [, url = ""] = yield* child
      .until(/"message":"Listening on (http:[^"]+)"/)
      .pipe(
        Effect.timeoutFail({ duration: startsWithin, onTimeout: () => `a process does not start:\n${child.output()}` }),
        Effect.orDie
      )
    let answers = 0
    return {
      ...child,
      url,
      answers: () => answers,
      ask: (method, path, body, key = options.key) =>
        Effect.tap(send(`${url}${path}`, { method, key, body }), () => Effect.sync(() => answers++))
    }
  })

const Body = Schema.parseJson(Schema.Record({ key: Schema.String, value: Schema.Unknown }))

const send = (
  url: string,
  { body, key, method }: { readonly method: string; readonly key: string; readonly body: unknown }
) =>
  Effect.async<Answer, NoAnswer>((resume) => {
    const failed = (error: NodeJS.ErrnoException) =>
      resume(Effect.fail(new NoAnswer({ code: error.code ?? error.message })))
    const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" }
    const request = Http.request(url, { method, headers, agent: false }, (response) => {
      let text = ""
      response
        .setEncoding("utf8")
        .on("data", (chunk: string) => (text += chunk))
        .once("error", failed)
        .once("end", () =>
          resume(
            response.complete
              ? Effect.succeed({ status: response.statusCode ?? 0, body: Schema.decodeSync(Body)(text) })
              : Effect.fail(new NoAnswer({ code: "cut off" }))
          )
        )
    })
    request.once("error", failed).end(body === undefined ? undefined : JSON.stringify(body))
    return Effect.sync(() => request.destroy())
  })

/** The ways in which a caller wants a valid token. */
export const ensureToken = (node: Node, { userUlid }: User) => node.ask("POST", "/api/cal/ensure-token", { userUlid })
export const accessToken = (node: Node, { userUlid }: User) => node.ask("GET", `/api/cal/access-token/${userUlid}`)
export const me = (node: Node, { userUlid }: User) => node.ask("GET", `/api/cal/proxy/${userUlid}/me`)
/** The same with a user session. */
export const meWith = (node: Node, session: string) => node.ask("GET", "/api/cal/me/me", undefined, session)

export const isReady = (node: Node) => Effect.map(node.ask("GET", "/health/ready"), ({ status }) => status === 200)

/** Asks again when it is told to come back, as callers do, though sooner than they are told. */
export const patiently = (ask: Effect.Effect<Answer, NoAnswer>): Effect.Effect<Answer, NoAnswer> =>
  Effect.flatMap(ask, (answer) =>
    answer.status === 503 || answer.status === 429
      ? Effect.zipRight(Effect.sleep("50 millis"), patiently(ask))
      : Effect.succeed(answer)
  )

const Given = Schema.Struct({ connections: Schema.Number, requests: Schema.Number, responses: Schema.Number })

/** What the process's server was given in all, and how much of it was answered. A process tells it when it exits. */
export const given = (node: Node) => {
  const [line = "{}"] = /^\{"connections".*$/m.exec(node.output()) ?? []
  return Schema.decodeSync(Schema.parseJson(Given))(line)
}
