/**
 * Authenticated Cal.com requests: an `HttpClient` bound to a user, which carries the user's token and follows the rules
 * after a refusal. The token only ever goes to the configured Cal.com origin.
 */
import { Clock, Context, Effect, Layer, Option, Redacted, type Schema, type Scope } from "effect"
import * as HttpBody from "@effect/platform/HttpBody"
import * as HttpClient from "@effect/platform/HttpClient"
import * as HttpClientError from "@effect/platform/HttpClientError"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import type * as HttpClientResponse from "@effect/platform/HttpClientResponse"
import type * as HttpMethod from "@effect/platform/HttpMethod"
import * as Sender from "./CalApi/Sender.js"
import { CalClient } from "./CalClient.js"
import * as Outcome from "./CalClient/Outcome.js"
import { ApiHttp } from "./CalHttp/HttpClients.js"
import { scrub } from "./CalHttp/Scrub.js"
import type { NoReply } from "./CalHttp/Transport.js"
import * as Tried from "./CalHttp/Tried.js"
import * as Wire from "./CalClient/Wire.js"
import * as Decoding from "./CalHttp/Decoding.js"
import { CalTokens } from "./CalTokens.js"
import * as Deadline from "./Fibers/Deadline.js"
import type { UserUlid } from "./Token.js"
import { CalProtocolError, CalUnavailable, type EnsureError, InvalidInput } from "./TokenError.js"

/**
 * What a request fails with: what comes of asking for the token, or of asking Cal.com.
 *
 * @since 0.1.0
 * @category models
 */
export type RequestError = InvalidInput | EnsureError

/**
 * One request, and how its answer is read.
 *
 * @since 0.1.0
 * @category models
 */
export interface RequestOptions<A, I> {
  readonly method?: HttpMethod.HttpMethod | undefined
  /** Below the Cal.com base URL, with its query: `/bookings?take=10`. */
  readonly path: string
  /** Sent as JSON. */
  readonly body?: unknown
  /** Decodes Cal.com's whole JSON answer; a wrong shape is `CalProtocolError`. */
  readonly schema: Schema.Schema<A, I>
  /** Overrides the `cal-api-version` that the resource gets by default. */
  readonly apiVersion?: string | undefined
}

/**
 * Requests to Cal.com that carry a user's token, and repair a refused one.
 *
 * @since 0.1.0
 * @category tags
 */
export class CalApi extends Context.Tag("cal-tokens/CalApi")<
  CalApi,
  {
    /**
     * A client whose requests carry the user's token. Paths are relative to the Cal.com base URL; a request that would
     * leave it fails with `InvalidInput`, and so does one to Cal.com's token endpoints, which are `CalClient`'s alone:
     * what a request spends or is given there, the refresh protocol would never hear of. Answers come back with any
     * status. A refused token is handled as `CalTokens.reportRejected` advises, with at most two sends; a third one where
     * the second carried a pair of a few seconds, which Cal.com's replicas may not know yet.
     */
    readonly client: (userUlid: UserUlid) => HttpClient.HttpClient.With<HttpClientError.HttpClientError | RequestError>
    /** A decoded answer. Without a user no `Authorization` is sent. */
    readonly request: <A, I>(
      userUlid: UserUlid | undefined,
      options: RequestOptions<A, I>
    ) => Effect.Effect<A, RequestError>
    /**
     * A bare call for edges that pass Cal.com's answer on: any status is a success, network failures are
     * `CalUnavailable`, and the refusal rules apply. Idempotent requests are repeated on 429/5xx by the rate-limit
     * headers.
     */
    readonly send: (
      userUlid: UserUlid | undefined,
      request: {
        readonly method: HttpMethod.HttpMethod
        readonly path: string
        readonly headers?: Readonly<Record<string, string>> | undefined
        readonly body?: { readonly bytes: Uint8Array; readonly contentType: string } | undefined
      }
    ) => Effect.Effect<HttpClientResponse.HttpClientResponse, RequestError>
  }
>() {}

type Service = Context.Tag.Service<CalApi>

/**
 * Sends over the `ApiHttp` in the context (for Node: `CalHttp/Node.layerApiHttp`).
 *
 * @since 0.1.0
 * @category constructors
 */
export const make: Effect.Effect<Service, never, ApiHttp | CalClient | CalTokens | Scope.Scope> = Effect.gen(
  function* () {
    const calClient = yield* CalClient
    const note = yield* Tried.make(calClient.apiUrl)
    const sender = Sender.make({
      calClient,
      calTokens: yield* CalTokens,
      http: yield* ApiHttp,
      deadline: yield* Deadline.make(),
      scope: yield* Effect.scope
    })

    const client: Service["client"] = (userUlid) =>
      HttpClient.makeWith<
        HttpClientError.HttpClientError | RequestError,
        never,
        HttpClientError.HttpClientError | RequestError,
        never
      >(
        Effect.flatMap((request) =>
          Effect.catchTag(sender(userUlid, request), "NoReply", (noReply) => Effect.fail(toHttpError(request, noReply)))
        ),
        Effect.succeed
      )

    const send: Service["send"] = (userUlid, { body, headers = {}, method, path }) => {
      const request = HttpClientRequest.make(method)(path).pipe(
        HttpClientRequest.setHeaders(headers),
        body === undefined
          ? (bare) => bare
          : HttpClientRequest.setBody(HttpBody.uint8Array(body.bytes, body.contentType))
      )
      return Effect.catchTag(sender(userUlid, request), "NoReply", (noReply) =>
        Effect.fail(note(toTokenError(operationOf(method, path), noReply), noReply))
      )
    }

    const request: Service["request"] = (userUlid, options) =>
      Effect.gen(function* () {
        const { apiVersion, method = "GET", path, schema } = options
        const operation = operationOf(method, path)
        const response = yield* send(userUlid, {
          method,
          path,
          headers: apiVersion === undefined ? {} : { "cal-api-version": apiVersion },
          body: options.body === undefined ? undefined : yield* toJson(options.body)
        })
        const { headers, status } = response
        const bytes = yield* response.arrayBuffer.pipe(
          Effect.timeout(Sender.answerTimeout),
          Effect.mapBoth({
            onFailure: () => new CalUnavailable({ operation, reason: "the answer broke off", status }),
            onSuccess: (buffer) => new Uint8Array(buffer)
          })
        )
        const body = textOf(isJsonStart(bytes[0]) ? bytes : Option.getOrElse(Decoding.text(bytes), () => bytes))
        if (status < 200 || status >= 300) {
          return yield* Outcome.toError(
            { operation, secrets: [] },
            { status, headers, receivedAt: yield* Clock.currentTimeMillis },
            Wire.errorBody(Option.some(Redacted.make(body)))
          )
        }
        // An answer without a body (204) is `null` to the schema.
        return yield* Wire.decodeJson(schema, body === "" ? "null" : body).pipe(
          Effect.mapError((issue) => new CalProtocolError({ operation, issue }))
        )
      })

    return { client, send, request }
  }
)

/**
 * Over the storage and the client that `CalTokens` has.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<CalApi, never, ApiHttp | CalClient | CalTokens> = Layer.scoped(CalApi, make)

/** A request's name in errors: its query is nobody's business, and its path was chosen by a caller. */
const operationOf = (method: HttpMethod.HttpMethod, path: string) => `${method} ${scrub(path.replace(/[?#].*$/s, ""))}`

const textOf = (bytes: Uint8Array) => new TextDecoder().decode(bytes)

/** An object, or nothing: all that Cal.com answers. What begins otherwise may be encoded, though nobody asked for that. */
const isJsonStart = (byte: number | undefined) => byte === undefined || byte === 0x7b

const toJson = (body: unknown) =>
  Effect.mapBoth(HttpBody.json(body), {
    onFailure: () => new InvalidInput({ field: "body", expected: "must be a JSON value" }),
    onSuccess: ({ body: bytes, contentType }) => ({ bytes, contentType })
  })

const unsendable = new InvalidInput({ field: "headers", expected: "must be names and values that HTTP can carry" })

const toTokenError = (operation: string, { phase, reason }: NoReply) =>
  phase === "impossible" ? unsendable : new CalUnavailable({ operation, reason })

/** Carries the caller's own request: the one that was sent has the token in it. */
const toHttpError = (request: HttpClientRequest.HttpClientRequest, { phase, reason }: NoReply) =>
  new HttpClientError.RequestError({
    request,
    reason: phase === "impossible" ? "Encode" : "Transport",
    description: reason
  })
