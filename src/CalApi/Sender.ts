/** Sends prepared requests: with a user's token, again where that helps, and never more often than the rules allow. */
import { Clock, Duration, Effect, Option, Redacted, type Scope } from "effect"
import type * as HttpClient from "@effect/platform/HttpClient"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import type * as HttpClientResponse from "@effect/platform/HttpClientResponse"
import type { CalClient } from "../CalClient.js"
import * as CalPath from "../CalHttp/CalPath.js"
import { scrub } from "../CalHttp/Scrub.js"
import * as Transport from "../CalHttp/Transport.js"
import type { CalTokens } from "../CalTokens.js"
import * as Deadline from "../Fibers/Deadline.js"
import * as Spans from "../Fibers/Spans.js"
import * as Metrics from "../Metrics.js"
import * as Untold from "../CalTokens/Untold.js"
import type { UserUlid } from "../Token.js"
import type { EnsureError, InvalidInput } from "../TokenError.js"
import * as Answer from "./Answer.js"
import * as Outgoing from "./Outgoing.js"
import { isTokenRefusal, tokenExpiredStatus } from "../CalHttp/Refusal.js"
import * as Repeat from "./Repeat.js"

/** How long Cal.com may take to begin an answer. The refusal rules and repetitions each start anew. */
export const answerTimeout = Duration.seconds(30)

/** Not repeated: whoever waited this long would wait as long again. */
const timedOut = new Transport.NoReply({ phase: "unknown", reason: "timeout" })

const patience = { longest: Duration.toMillis(answerTimeout), onLate: () => timedOut }

interface Sent {
  readonly response: HttpClientResponse.HttpClientResponse
  /** Cal.com refused the token. */
  readonly refused: boolean
}

/** Sends one caller's request; see `CalApi.client` for the rules. */
export type Sender = (
  userUlid: UserUlid | undefined,
  request: HttpClientRequest.HttpClientRequest
) => Effect.Effect<HttpClientResponse.HttpClientResponse, InvalidInput | EnsureError | Transport.NoReply>

export const make = (dependencies: {
  readonly calClient: CalClient["Type"]
  readonly calTokens: CalTokens["Type"]
  readonly http: HttpClient.HttpClient
  readonly deadline: Deadline.Deadline
  /** What goes on after a caller has its answer ends with this scope. */
  readonly scope: Scope.Scope
}): Sender => {
  const { calClient, calTokens, deadline, scope } = dependencies
  const http = Transport.harden(dependencies.http)
  const server = Spans.serverOf(calClient.apiUrl)

  /** One send; all answers but ordinary successes read and cleaned. */
  const sendOnce = (
    original: HttpClientRequest.HttpClientRequest,
    { path, request }: Outgoing.Prepared,
    token: Option.Option<Redacted.Redacted>
  ): Effect.Effect<Sent, Transport.NoReply> => {
    const secrets = Option.toArray(token)
    const sending = Effect.flatMap(Clock.currentTimeMillis, (sentAt) =>
      Effect.tap(
        Transport.open(
          http,
          Option.match(token, { onNone: () => request, onSome: (it) => withToken(request, it) })
        ).pipe(Metrics.calRequest("request")),
        ({ headers }) => calClient.observeDate(headers, sentAt)
      )
    ).pipe(
      Effect.tap(({ status }) => Spans.annotate({ "http.response.status_code": status })),
      Effect.flatMap((source) => {
        const { status } = source
        const isGrant = status < 300 && CalPath.mayAnswerToken(path)
        return (status < 300 || status === 304) && !isGrant
          ? Effect.succeed({ response: Answer.bind(original, source, secrets), refused: false })
          : Effect.map(Answer.readWithout(original, source, secrets, isGrant), ({ response, text }) => ({
              response,
              refused: Option.isSome(token) && isTokenRefusal(status, Redacted.value(text))
            }))
      }),
      Effect.catchTag("ResponseError", () => Effect.fail(Transport.brokeOff))
    )
    return Spans.within(Deadline.limited(deadline, sending, patience), "CalApi.send", () => ({
      kind: "client",
      captureStackTrace: false,
      attributes: {
        "http.request.method": request.method,
        ...server,
        "url.path": scrub(path)
      }
    }))
  }

  /** Sends until there is an answer for the caller or for the refusal rules. Answers how often it repeated as well. */
  const sendRepeatedly = (
    original: HttpClientRequest.HttpClientRequest,
    prepared: Outgoing.Prepared,
    token: Option.Option<Redacted.Redacted>,
    repeats: number
  ): Effect.Effect<Sent & { readonly repeats: number }, Transport.NoReply> =>
    Effect.gen(function* () {
      const sent = yield* Effect.either(sendOnce(original, prepared, token))
      const wait = yield* sent._tag === "Right"
        ? Repeat.afterAnswer(original.method, sent.right.response, repeats)
        : sent.left.reason === timedOut.reason || sent.left.phase === "impossible"
          ? Effect.succeedNone
          : Repeat.afterNetworkError(original.method, repeats)
      if (Option.isSome(wait)) {
        yield* Effect.sleep(wait.value)
        return yield* sendRepeatedly(original, prepared, token, repeats + 1)
      }
      return { ...(yield* sent), repeats }
    })

  /** Whether a replica of Cal.com's may not know the token yet; waits a little if so. */
  const isWorthAThird = (userUlid: UserUlid, token: Redacted.Redacted, { refused, response: { status } }: Sent) =>
    refused && status !== tokenExpiredStatus
      ? calTokens.reportRejected(userUlid, { accessToken: token, status, isSecond: true }).pipe(
          Effect.flatMap((advice) =>
            advice._tag === "Retry" && isSame(advice.token.accessToken, token)
              ? Effect.as(Effect.sleep(advice.delay), true)
              : Effect.succeed(false)
          ),
          // There is an answer for the caller, whatever has become of the storage.
          Effect.orElseSucceed(() => false)
        )
      : Effect.succeed(false)

  return (userUlid, original) =>
    Effect.gen(function* () {
      const prepared = yield* Outgoing.prepare(calClient.apiUrl, original)
      if (userUlid === undefined) return (yield* sendRepeatedly(original, prepared, Option.none(), 0)).response
      const { accessToken } = yield* calTokens.ensureValid(userUlid, { handsOut: false })
      const first = yield* sendRepeatedly(original, prepared, Option.some(accessToken), 0)
      if (!first.refused) return first.response
      const advice = yield* calTokens.reportRejected(userUlid, { accessToken, status: first.response.status })
      if (advice._tag === "GiveUp") return first.response
      yield* Effect.sleep(advice.delay)
      // Refusals come from before Cal.com's handlers, so even a POST was not processed.
      const token = advice.token.accessToken
      const second = yield* sendRepeatedly(original, prepared, Option.some(token), first.repeats)
      const last = (yield* isWorthAThird(userUlid, token, second))
        ? yield* sendRepeatedly(original, prepared, Option.some(token), second.repeats)
        : second
      if (last.refused && last.response.status === tokenExpiredStatus) {
        // Nothing is sent again; but whoever comes next shall not be given a token that is known to be dead.
        const refusal = { accessToken: token, status: last.response.status }
        const report = Effect.catchAll(calTokens.reportRejected(userUlid, refusal), (error) =>
          Untold.log(userUlid, error)
        )
        yield* Effect.forkIn(report, scope)
      }
      return last.response
    })
}

const isSame = (one: Redacted.Redacted, other: Redacted.Redacted) => Redacted.value(one) === Redacted.value(other)

/** The only place where a token enters a request: behind the judgement of its URL. */
const withToken = (prepared: HttpClientRequest.HttpClientRequest, token: Redacted.Redacted) =>
  HttpClientRequest.setHeader(prepared, "authorization", `Bearer ${Redacted.value(token)}`)
