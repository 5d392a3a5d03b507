/**
 * Cal.com's refusals. Facts: the exception filters of Cal.com API v2 (`apps/api/v2/src/filters`) and what NestJS puts
 * into the response of each exception class.
 */
import { HttpServerResponse } from "@effect/platform"
import { Data } from "effect"
import { type Incoming } from "./World.js"

export class Refusal extends Data.TaggedClass("Refusal")<{
  readonly status: number
  readonly error:
    | { readonly _tag: "Platform"; readonly code: string; readonly message: string; readonly details?: unknown }
    | { readonly _tag: "OAuth2"; readonly error: string; readonly description: string }
  /** Instead of the id that the server made for this request. */
  readonly requestId?: string | undefined
}> {}

/** A NestJS exception: `details` repeats the message beside the standard name of the status. */
const exception = (status: number, code: string, name: string) => (message: string) =>
  new Refusal({
    status,
    error: {
      _tag: "Platform",
      code,
      message,
      details: message === name ? { message, statusCode: status } : { message, error: name, statusCode: status }
    }
  })

export const badRequest = exception(400, "BadRequestException", "Bad Request")
export const unauthorized = exception(401, "UnauthorizedException", "Unauthorized")
export const forbidden = exception(403, "ForbiddenException", "Forbidden")
export const notFound = exception(404, "NotFoundException", "Not Found")
export const conflict = exception(409, "ConflictException", "Conflict")

/** An expired managed access token whose row is still there. 498 is Cal.com's own choice, not an IANA code. */
export const tokenExpired = new Refusal({
  status: 498,
  error: {
    _tag: "Platform",
    code: "TokenExpiredException",
    message: "ACCESS_TOKEN_IS_EXPIRED",
    details: "ACCESS_TOKEN_IS_EXPIRED"
  }
})

const tooMany = "CustomThrottlerGuard - Too many requests. Please try again later."
export const throttled = new Refusal({
  status: 429,
  error: { _tag: "Platform", code: "ThrottlerException", message: tooMany, details: tooMany }
})

/** The database found no record to delete or update: what the loser of a managed refresh race gets. */
export const recordNotFound = new Refusal({
  status: 404,
  error: { _tag: "Platform", code: "NOT_FOUND", message: "Invalid Query: The requested record was not found." }
})

/** One property that failed validation. `target` and `value` echo what was sent, tokens included. */
export interface Violation {
  readonly target: unknown
  readonly value?: unknown
  readonly property: string
  readonly children: ReadonlyArray<never>
  readonly constraints: Readonly<Record<string, string>>
}

export const invalid = (errors: ReadonlyArray<Violation>) =>
  new Refusal({
    status: 400,
    error: { _tag: "Platform", code: "BadRequestException", message: "Bad Request Exception", details: { errors } }
  })

export const noRoute = (request: Incoming) => notFound(`Cannot ${request.method} ${request.url}`)

/** The body parser runs before the request gets its id. */
export const malformedJson = (message: string) =>
  new Refusal({ ...badRequest(message), requestId: "unknown-request-id" })

/** The one endpoint with its own envelope, `POST /v2/auth/oauth2/token`. It echoes the caller's request id. */
export const oauth2 = (request: Incoming, status: number, error: string, description: string) =>
  new Refusal({
    status,
    error: { _tag: "OAuth2", error, description },
    requestId: request.headers["x-request-id"] ?? "unknown-request-id"
  })

export const toResponse = (refusal: Refusal, request: Incoming): HttpServerResponse.HttpServerResponse =>
  toEnvelope(refusal, request.url, request.now)

export const toEnvelope = (refusal: Refusal, path: string, now: number): HttpServerResponse.HttpServerResponse => {
  const headers = refusal.requestId === undefined ? {} : { "x-request-id": refusal.requestId }
  if (refusal.error._tag === "OAuth2") {
    const { description, error } = refusal.error
    return json(refusal.status, { error, error_description: description }, { ...noStore, ...headers })
  }
  const { code, details, message } = refusal.error
  return json(
    refusal.status,
    { status: "error", timestamp: new Date(now).toISOString(), path, error: { code, message, details } },
    headers
  )
}

export const noStore = { "cache-control": "no-store", pragma: "no-cache" } as const

export const json = (
  status: number,
  body: unknown,
  headers: Readonly<Record<string, string>> = {}
): HttpServerResponse.HttpServerResponse =>
  HttpServerResponse.text(JSON.stringify(body), { status, headers, contentType: "application/json; charset=utf-8" })

/** Cal.com's envelope of a success. */
export const success = (data: unknown, status = 200): HttpServerResponse.HttpServerResponse =>
  json(status, { status: "success", data })
