/**
 * One POST, and the status of its answer. No `HttpClient`: nothing of it ends in a span or in a log, for the URL may be a
 * secret. It follows no redirects, and never waits for a connection that idled.
 */
import { Effect, Redacted, type Scope } from "effect"
import { reasonOf } from "../CalHttp/Transport.js"

/** Fails with a reason for people, made of error codes; the answer's body is not read. */
export type Send = (
  url: Redacted.Redacted,
  body: string,
  headers: Readonly<Record<string, string>>
) => Effect.Effect<number, string>

/** By the proxies at hand, until the scope ends. Loaded when it is needed: programs without webhooks need no driver. */
export const make: Effect.Effect<Send, never, Scope.Scope> = Effect.gen(function* () {
  const { dispatcher } = yield* Effect.promise(() => import("../CalHttp/Node.js"))
  const agent = yield* dispatcher({ pipelining: 0 })

  return (url, body, headers) =>
    Effect.tryPromise({
      try: async (signal) => {
        const { origin, password, pathname, search, username } = new URL(Redacted.value(url))
        const answer = await agent.request({
          origin,
          path: `${pathname}${search}`,
          method: "POST",
          body,
          headers: { ...credentials(username, password), ...headers, ...common },
          signal
        })
        answer.body.on("error", () => {}).destroy()
        return answer.statusCode
      },
      catch: reasonOf
    })
})

const common = { "content-type": "application/json", "user-agent": "cal-tokens" }

/** Those of the URL. */
const credentials = (username: string, password: string) =>
  `${username}${password}` === ""
    ? {}
    : {
        authorization: `Basic ${Buffer.from([username, password].map(decodeURIComponent).join(":")).toString("base64")}`
      }
