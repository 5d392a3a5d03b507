/**
 * A Cal.com request as a plain function makes it: arguments that nobody checked in, Cal.com's JSON or a typed error out.
 */
import * as HttpMethod from "@effect/platform/HttpMethod"
import { Effect, Predicate, Schema } from "effect"
import { CalApi, type RequestError } from "../CalApi.js"
import type { UserUlid } from "../Token.js"
import { CalRequestRejected, InvalidInput } from "../TokenError.js"
import * as Body from "./Body.js"

export interface RequestOptions {
  /** Overrides the `cal-api-version` that the resource gets by default: `2024-08-13`. */
  readonly apiVersion?: string | undefined
}

/** The arguments of `makeCalApiRequest`, none of them trusted. */
export interface Arguments {
  readonly endpoint: unknown
  readonly method: unknown
  readonly body: unknown
  readonly options: unknown
}

const invalid = (field: string, expected: string) => Effect.fail(new InvalidInput({ field, expected }))

const toPath = (endpoint: unknown) =>
  typeof endpoint === "string"
    ? Effect.succeed(endpoint)
    : invalid("endpoint", "must be a path below the Cal.com API's URL")

const toMethod = (value: unknown): Effect.Effect<HttpMethod.HttpMethod, InvalidInput> => {
  const name = typeof value === "string" ? value.toUpperCase() : value
  return HttpMethod.isHttpMethod(name) ? Effect.succeed(name) : invalid("method", "must be an HTTP method")
}

/** `null` stands for no body, as `undefined` does: callers use it to reach the arguments behind it. */
const toBody = (value: unknown, method: HttpMethod.HttpMethod): Effect.Effect<unknown, InvalidInput> => {
  if (value === undefined || value === null) return Effect.void
  if (!HttpMethod.hasBody(method)) return invalid("body", `cannot be sent with ${method}`)
  return Body.plain(value)
}

const toApiVersion = (options: unknown): Effect.Effect<string | undefined, InvalidInput> => {
  const version = Predicate.isRecord(options) ? options["apiVersion"] : undefined
  if (version === undefined) return Effect.succeed(version)
  return typeof version === "string" && /^\d{4}-\d{2}-\d{2}$/.test(version)
    ? Effect.succeed(version)
    : invalid("apiVersion", "must be a date, for example 2024-08-13")
}

/** Sends the request as a user or as nobody, and answers Cal.com's JSON as it is; `null` for an answer without a body. */
export const send = (userUlid: UserUlid | undefined, input: Arguments): Effect.Effect<unknown, RequestError, CalApi> =>
  Effect.gen(function* () {
    const path = yield* toPath(input.endpoint)
    const method = yield* toMethod(input.method)
    const body = yield* toBody(input.body, method)
    const apiVersion = yield* toApiVersion(input.options)
    const api = yield* CalApi
    const answer = api.request(userUlid, { method, path, body, apiVersion, schema: Schema.Unknown })
    return yield* userUlid === undefined ? Effect.mapError(answer, sayNobody) : answer
  })

/** Somebody forgot the user, or had none: Cal.com's own words are about a token that nobody sent. */
const sayNobody = (error: RequestError): RequestError =>
  error._tag === "CalRequestRejected" && (error.status === 401 || error.status === 403)
    ? new CalRequestRejected({ ...error, reason: `${error.reason} (no \`userUlid\` was given, so no token was sent)` })
    : error
