/** Makes one call to a token endpoint and learns from its answer: Cal.com's time and what is left of the rate limit. */
import { Clock, Effect, Option, Random, Redacted } from "effect"
import type * as HttpClient from "@effect/platform/HttpClient"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import type * as CalTime from "../CalHttp/CalTime.js"
import * as Outcome from "./Outcome.js"
import type { RateLimits } from "../CalHttp/RateLimits.js"
import * as Transport from "../CalHttp/Transport.js"
import type * as Tried from "../CalHttp/Tried.js"
import * as Spans from "../Fibers/Spans.js"
import * as Metrics from "../Metrics.js"
import * as TokenAnswer from "./TokenAnswer.js"
import type * as Departure from "./TokenAnswer/Departure.js"

/** Cloudflare, which Cal.com's API is behind, challenges requests without a `User-Agent`. */
export const userAgent = "cal-tokens"

export interface Caller {
  /**
   * An answer with any status; its absence is a failure. With `expected`, one that stalls is not awaited once the tokens
   * are there.
   */
  readonly send: (
    call: Outcome.Call,
    request: HttpClientRequest.HttpClientRequest,
    expected?: Expected
  ) => Effect.Effect<Transport.Reply, Outcome.CallFailure>
  /** The pair in an answer, or why there is none. */
  readonly grant: (
    call: Outcome.Call,
    reply: Transport.Reply,
    expected: Expected
  ) => Effect.Effect<TokenAnswer.Grant, Outcome.CallFailure>
}

/** What the tokens of an answer are judged by, without what the answer itself says. */
export type Expected = Omit<TokenAnswer.Context, "issuedAt" | "isWhole">

/** A span around a whole call: around its result, because a reply has headers and a body. */
export const span = ({ clientId, operation }: Outcome.Call) =>
  Effect.withSpan(`CalClient.${operation}`, {
    kind: "client",
    captureStackTrace: false,
    attributes: { "cal.client_id": clientId }
  })

export const make = (
  client: HttpClient.HttpClient,
  calTime: CalTime.CalTime,
  rateLimits: RateLimits,
  report: Departure.Report,
  note: Tried.Note
): Caller => {
  const http = Transport.harden(client)
  return {
    send: (call, request, expected) =>
      Effect.flatMap(Clock.currentTimeMillis, (sentAt) => {
        const told = Spans.annotate({ "http.request.method": request.method, ...Spans.serverOf(request.url) })
        const sending = Transport.send(
          http,
          HttpClientRequest.setHeaders(request, headers),
          expected && holdsTokens(expected)
        ).pipe(
          Metrics.calRequest(call.operation),
          Effect.mapError((noReply) => {
            const failure = Outcome.fromNoReply(call, noReply)
            note(failure.error, noReply)
            return failure
          }),
          Effect.tap((reply) => {
            const { headers, status } = reply
            return Effect.all([
              Spans.annotate({ "http.response.status_code": status }),
              calTime.observe(headers, sentAt),
              rateLimits.observe(call.clientId, reply)
            ])
          })
        )
        return Effect.zipRight(told, sending)
      }),
    grant: (call, reply, expected) =>
      Effect.gen(function* () {
        if (!isSuccess(reply)) return yield* Effect.fail(Outcome.fromReply(call, reply, yield* Random.next))
        const now = yield* calTime.now
        const issuedAt = Option.getOrElse(yield* calTime.dateOf(reply.headers), () => now)
        const reading = TokenAnswer.read(Redacted.value(reply.body), { ...expected, issuedAt, isWhole: reply.isWhole })
        switch (reading._tag) {
          case "Granted":
            yield* report(call.clientId, reading.grant.departures)
            return reading.grant
          case "BrokenOff":
            return yield* Effect.fail(Outcome.brokenOff(call, reply.status))
          case "Unreadable":
            return yield* Effect.fail(Outcome.unreadable(call, reading.answer))
        }
      })
  }
}

const isSuccess = ({ status }: Transport.Head) => status >= 200 && status < 300

/** Whether a refresh token is among what has arrived of an answer. */
const holdsTokens = (expected: Expected) => (head: Transport.Head, bytes: Uint8Array) => {
  if (!isSuccess(head)) return false
  const reading = TokenAnswer.read(bytes, { ...expected, issuedAt: head.receivedAt, isWhole: false })
  return reading._tag === "Granted" && reading.grant.news !== "accessToken"
}

/** Encoded answers are read as well; but what nobody encodes, nobody encodes wrongly. */
const headers = { accept: "application/json", "accept-encoding": "identity", "user-agent": userAgent }
