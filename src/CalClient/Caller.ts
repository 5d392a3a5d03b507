/** Makes one call to a token endpoint and learns from its answer: Cal.com's time and what is left of the rate limit. */
import { Clock, Effect, Either, Option, Redacted } from "effect"
import { type HttpClient, HttpClientRequest } from "@effect/platform"
import * as CalTime from "../CalHttp/CalTime.js"
import * as Outcome from "./Outcome.js"
import type { RateLimits } from "../CalHttp/RateLimits.js"
import * as Transport from "../CalHttp/Transport.js"
import type { Instants, Issue } from "./Wire.js"

/** Cloudflare, which Cal.com's API is behind, challenges requests without a `User-Agent`. */
export const userAgent = "cal-tokens"

export interface Caller {
  /** An answer with any status; its absence is a failure. */
  readonly send: (
    call: Outcome.Call,
    request: HttpClientRequest.HttpClientRequest
  ) => Effect.Effect<Transport.Reply, Outcome.CallFailure>
  /** What a 2xx answer holds; every other answer is a failure. */
  readonly read: <A>(
    call: Outcome.Call,
    reply: Transport.Reply,
    decode: (body: string, instants: Instants) => Either.Either<A, Issue>
  ) => Effect.Effect<A, Outcome.CallFailure>
}

/** A span around a whole call: around its result, because a reply has headers and a body. */
export const span = ({ clientId, operation }: Outcome.Call) =>
  Effect.withSpan(`CalClient.${operation}`, {
    kind: "client",
    captureStackTrace: false,
    attributes: { "cal.client_id": clientId }
  })

export const make = (client: HttpClient.HttpClient, calTime: CalTime.CalTime, rateLimits: RateLimits): Caller => {
  const http = Transport.harden(client)
  return {
    send: (call, request) =>
      Effect.flatMap(Clock.currentTimeMillis, (sentAt) =>
        Transport.send(
          http,
          HttpClientRequest.setHeaders(request, { accept: "application/json", "user-agent": userAgent })
        ).pipe(
          Effect.mapError((noReply) => Outcome.fromNoReply(call, noReply)),
          Effect.tap(({ headers, status }) =>
            Effect.all([
              Effect.annotateCurrentSpan("http.response.status_code", status),
              calTime.observe(headers, sentAt),
              rateLimits.observe(call.clientId, headers)
            ])
          )
        )
      ),
    read: (call, reply, decode) =>
      Effect.gen(function* () {
        if (reply.status < 200 || reply.status >= 300) return yield* Effect.fail(Outcome.fromReply(call, reply))
        if (Option.isNone(reply.body)) return yield* Effect.fail(Outcome.brokenOff(call, reply.status))
        const now = yield* calTime.now
        const issuedAt = Option.getOrElse(CalTime.dateOf(reply.headers, now), () => now)
        return yield* Either.mapLeft(decode(Redacted.value(reply.body.value), { issuedAt }), (issue) =>
          Outcome.undecodable(call, issue)
        )
      })
  }
}
