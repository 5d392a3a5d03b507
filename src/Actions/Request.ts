/**
 * A Cal.com request as a plain function makes it: untrusted arguments in, Cal.com's JSON or a typed error out.
 */
import { type Headers, type HttpClientResponse, HttpMethod } from "@effect/platform"
import { Duration, Effect, Option, Predicate, Schema } from "effect"
import { CalApi } from "../CalApi.js"
import type { UserUlid } from "../Token.js"
import {
  CalProtocolError,
  CalRateLimited,
  CalRequestRejected,
  CalUnavailable,
  InvalidInput,
  type TokenError
} from "../TokenError.js"
import { mask } from "./Failure.js"

export interface RequestOptions {
  /** Overrides the `cal-api-version` that the resource gets by default: `2024-08-13`. */
  readonly apiVersion?: string | undefined
}

/** The arguments of `makeCalApiRequest`, none of them trusted. */
export interface Arguments {
  readonly endpoint: unknown
  readonly method: unknown
  readonly body: unknown
  readonly userUlid: UserUlid | undefined
  readonly options: RequestOptions | undefined
}

const invalid = (field: string, expected: string) => Effect.fail(new InvalidInput({ field, expected }))

const method = (value: unknown): Effect.Effect<HttpMethod.HttpMethod, InvalidInput> => {
  const name = typeof value === "string" ? value.toUpperCase() : value
  return HttpMethod.isHttpMethod(name) ? Effect.succeed(name) : invalid("method", "must be an HTTP method")
}

const headers = (options: unknown): Effect.Effect<Record<string, string>, InvalidInput> => {
  const version = Predicate.isRecord(options) ? options["apiVersion"] : undefined
  if (version === undefined) return Effect.succeed({ accept: "application/json" })
  return typeof version === "string" && /^\d{4}-\d{2}-\d{2}$/.test(version)
    ? Effect.succeed({ accept: "application/json", "cal-api-version": version })
    : invalid("apiVersion", "must be a date, for example 2024-08-13")
}

const body = (value: unknown, method: HttpMethod.HttpMethod) => {
  if (value === undefined || value === null) return Effect.succeed(undefined)
  if (!HttpMethod.hasBody(method)) return invalid("body", `cannot be sent with ${method}`)
  const expected = "must be a value that JSON can express"
  return Effect.try({
    try: (): unknown => JSON.stringify(value),
    catch: () => new InvalidInput({ field: "body", expected })
  }).pipe(
    Effect.flatMap((json) =>
      typeof json === "string"
        ? Effect.succeed({ bytes: new TextEncoder().encode(json), contentType: "application/json" })
        : invalid("body", expected)
    )
  )
}

/** Cal.com's own words: `error.message` on the platform's endpoints, `error_description` on OAuth2's. */
const words = (json: Option.Option<unknown>): string => {
  const answer = Option.getOrUndefined(json)
  const record = Predicate.isRecord(answer) ? answer : {}
  const error = record["error"]
  const text = [
    Predicate.isRecord(error) ? error["message"] : record["error_description"],
    error,
    record["message"]
  ].find((text) => typeof text === "string")
  return text === undefined ? "no reason given" : mask(String(text))
}

/** Cal.com sends no `Retry-After`, but the seconds left in `x-ratelimit-reset-<limit>`; a block lasts 60 s. */
const resetIn = (headers: Headers.Headers): Duration.Duration => {
  const seconds = Object.keys(headers)
    .filter((name) => name.startsWith("x-ratelimit-reset"))
    .map((name) => Number(headers[name]))
    .filter((seconds) => seconds > 0 && seconds <= 3600)
  return Duration.seconds(seconds.length === 0 ? 60 : Math.max(...seconds))
}

const refusal = (
  operation: string,
  response: HttpClientResponse.HttpClientResponse,
  json: Option.Option<unknown>
): TokenError => {
  const { status } = response
  if (status === 429) return new CalRateLimited({ operation, retryAfter: resetIn(response.headers) })
  if (status >= 500) return new CalUnavailable({ operation, reason: `status ${status}`, status })
  return new CalRequestRejected({ operation, status, reason: words(json) })
}

const parse = Schema.decodeOption(Schema.parseJson())

/** Sends a request and reads the answer: `null` when it has no body. */
export const send = (input: Arguments): Effect.Effect<unknown, TokenError, CalApi> =>
  Effect.gen(function* () {
    if (typeof input.endpoint !== "string")
      return yield* invalid("endpoint", "must be a path below the Cal.com API's URL")
    const request = {
      method: yield* method(input.method),
      path: input.endpoint,
      headers: yield* headers(input.options)
    }
    const content = yield* body(input.body, request.method)
    const api = yield* CalApi
    const response = yield* api.send(input.userUlid, content === undefined ? request : { ...request, body: content })
    const operation = `${request.method} ${request.path.split(/[?#]/, 1)[0]}`
    const text = yield* Effect.mapError(
      response.text,
      () => new CalUnavailable({ operation, reason: "the answer broke off" })
    )
    const ok = response.status >= 200 && response.status < 300
    if (ok && text === "") return null
    const json = parse(text)
    if (!ok) return yield* Effect.fail(refusal(operation, response, json))
    return yield* Option.match(json, {
      onNone: () => Effect.fail(new CalProtocolError({ operation, issue: "it is not JSON" })),
      onSome: Effect.succeed
    })
  })
