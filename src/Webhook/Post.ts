/**
 * One POST, and the status of its answer. Node's own client: it follows no redirects, and nothing of it ends in a span or
 * in a log, for the URL may be a secret.
 */
import * as Http from "node:http"
import * as Https from "node:https"
import { Effect, Redacted } from "effect"

/** Fails with a reason for people, made of an error code; the answer's body is not read. */
export const send = (
  url: Redacted.Redacted,
  body: string,
  headers: Readonly<Record<string, string>>
): Effect.Effect<number, string> =>
  Effect.async<number, string>((resume) => {
    const target = new URL(Redacted.value(url))
    const { request } = target.protocol === "https:" ? Https : Http
    const call = request(
      target,
      {
        method: "POST",
        // A connection of its own: one that idled may be gone.
        agent: false,
        headers: {
          ...headers,
          "content-type": "application/json",
          "content-length": Buffer.byteLength(body),
          "user-agent": "cal-tokens",
          connection: "close"
        }
      },
      (response) => {
        resume(Effect.succeed(response.statusCode ?? 0))
        response.destroy()
      }
    )
    call.on("error", (error: NodeJS.ErrnoException) => resume(Effect.fail(error.code ?? "network failure")))
    call.end(body)
    return Effect.sync(() => void call.destroy())
  })
