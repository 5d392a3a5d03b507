/**
 * Authenticated Cal.com requests: an `HttpClient` bound to a user, which carries the user's token and follows the rules
 * after a refusal. The token only ever goes to the configured Cal.com origin.
 */
import { Context, type Effect, type Schema } from "effect"
import type { HttpClient, HttpClientError, HttpClientResponse, HttpMethod } from "@effect/platform"
import type { UserUlid } from "./Token.js"
import type { TokenError } from "./TokenError.js"

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

export class CalApi extends Context.Tag("cal-tokens/CalApi")<
  CalApi,
  {
    /**
     * A client whose requests carry the user's token. Paths are relative to the Cal.com base URL; a request that would
     * leave it fails with `InvalidInput`. Answers come back with any status. A refused token is handled as
     * `CalTokens.reportRejected` advises, with at most two sends.
     */
    readonly client: (
      userUlid: UserUlid
    ) => HttpClient.HttpClient.With<HttpClientError.HttpClientError | TokenError>
    /** A decoded answer. Without a user no `Authorization` is sent. */
    readonly request: <A, I>(
      userUlid: UserUlid | undefined,
      options: RequestOptions<A, I>
    ) => Effect.Effect<A, TokenError>
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
    ) => Effect.Effect<HttpClientResponse.HttpClientResponse, TokenError>
  }
>() {}
