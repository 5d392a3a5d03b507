/**
 * Failures as they travel over HTTP: `{ "success": false, "error": "<message>", "code": "<Tag>" }`, with `retryAfter` in
 * seconds and Cal.com's `status` where they are known. A derived client gets each of them with its `_tag`, so
 * `Effect.catchTag` works on both sides although no `_tag` is sent.
 */
import { HttpApiSchema } from "@effect/platform"
import { Schema, Struct } from "effect"
import type { TokenError } from "../TokenError.js"

/** The HTTP status of each failure. */
export const statuses = {
  InvalidInput: 400,
  Unauthorized: 401,
  Forbidden: 403,
  TokensNotFound: 404,
  NotFound: 404,
  MethodNotAllowed: 405,
  NotManagedUser: 409,
  CalAccountInUse: 409,
  ReauthorizationRequired: 409,
  PayloadTooLarge: 413,
  RefreshCoolingDown: 429,
  CalRateLimited: 429,
  RateLimited: 429,
  TokenUnreadable: 500,
  InternalError: 500,
  CalRequestRejected: 502,
  CalProtocolError: 502,
  CalClientMisconfigured: 502,
  CalUnavailable: 503,
  StorageUnavailable: 503,
  ShuttingDown: 503
} as const satisfies Record<TokenError["_tag"], number> & Record<string, number>

export type Tag = keyof typeof statuses

/** The fields that every failure has. */
export const fields = <Code extends string>(code: Code) => ({
  success: Schema.Literal(false),
  error: Schema.String.annotations({
    description: "What went wrong and what to do about it, for people. Never a token."
  }),
  code: Schema.Literal(code),
  retryAfter: Schema.optional(
    Schema.Int.annotations({
      identifier: "RetryAfter",
      description: "Seconds after which the same call may succeed; also sent as the `Retry-After` header.",
      jsonSchema: { type: "integer", minimum: 1 }
    })
  ),
  status: Schema.optional(
    Schema.Int.annotations({
      identifier: "CalStatus",
      description: "The HTTP status that Cal.com answered with.",
      jsonSchema: { type: "integer", minimum: 100, maximum: 599 }
    })
  )
})

/** What the documentation says of a failure, and the status it travels with. */
export const documented = (tag: Tag, description: string, identifier: string = tag) => ({
  identifier,
  status: statuses[tag],
  description
})

const withCode = <Name extends Tag, Code extends string>(tag: Name, code: Code, description: string) =>
  Schema.Struct(fields(code)).pipe(
    Schema.attachPropertySignature("_tag", tag),
    Schema.annotations(HttpApiSchema.annotations(documented(tag, description)))
  )

const failure = <Name extends Tag>(tag: Name, description: string) => withCode(tag, tag, description)

export const InvalidInput = failure("InvalidInput", "Something in the request is malformed. Nothing was changed.")
/** `InvalidInput` with the status of a size limit. */
export const PayloadTooLarge = withCode("PayloadTooLarge", "InvalidInput", "The request body is larger than 1 MiB.")
export const Unauthorized = failure("Unauthorized", "The API key is missing or wrong.")
export const Forbidden = failure("Forbidden", "The API key lacks the scope of this endpoint.")
export const TokensNotFound = failure("TokensNotFound", "This user has no Cal.com connection.")
export const NotManagedUser = failure("NotManagedUser", "The operation exists for managed users only.")
export const CalAccountInUse = failure("CalAccountInUse", "The Cal.com account is connected to another user.")
export const ReauthorizationRequired = failure("ReauthorizationRequired", "The user has to connect again.")
export const RefreshCoolingDown = failure("RefreshCoolingDown", "Too many refreshes, or the last ones failed.")
export const CalRateLimited = failure("CalRateLimited", "Cal.com's rate limit is reached.")
export const RateLimited = failure("RateLimited", "Too many requests from this API key or address.")
export const CalUnavailable = failure("CalUnavailable", "Cal.com cannot be reached or does not answer.")
export const CalRequestRejected = failure("CalRequestRejected", "Cal.com refused a request of this service.")
export const CalProtocolError = failure("CalProtocolError", "Cal.com's answer is not understood.")
export const CalClientMisconfigured = failure("CalClientMisconfigured", "Cal.com refuses the client itself.")
export const StorageUnavailable = failure("StorageUnavailable", "The database is not available.")
export const TokenUnreadable = failure("TokenUnreadable", "The stored tokens of this user cannot be decrypted.")

export const NotFound = failure("NotFound", "There is no such endpoint.")
export const MethodNotAllowed = failure("MethodNotAllowed", "The endpoint exists, but not with this method.")
export const InternalError = failure("InternalError", "A fault of this service. It is logged there.")
export const ShuttingDown = failure("ShuttingDown", "This process is stopping: another one will answer.")

/** What a request without a sufficient API key fails with, or one too many. */
export const AccessFailure = Schema.Union(Unauthorized, Forbidden, RateLimited)
export type AccessFailure = typeof AccessFailure.Type

/** What endpoints fail with that only read the database. */
export const QueryFailure = Schema.Union(InvalidInput, PayloadTooLarge, StorageUnavailable)

/** What the operations of this package fail with. */
export const OperationFailure = Schema.Union(
  InvalidInput,
  PayloadTooLarge,
  Unauthorized,
  Forbidden,
  TokensNotFound,
  NotManagedUser,
  CalAccountInUse,
  ReauthorizationRequired,
  RefreshCoolingDown,
  CalRateLimited,
  CalUnavailable,
  CalRequestRejected,
  CalProtocolError,
  CalClientMisconfigured,
  StorageUnavailable,
  TokenUnreadable
)
export type OperationFailure = typeof OperationFailure.Type

/** What any request can meet, whatever it asks for. */
export const ServiceFailure = Schema.Union(NotFound, MethodNotAllowed, RateLimited, InternalError, ShuttingDown)
export type ServiceFailure = typeof ServiceFailure.Type

export type Failure = OperationFailure | ServiceFailure

/** A failure of the service itself, or one that it words itself. */
export const service = <Name extends Exclude<Tag, "PayloadTooLarge">>(tag: Name, error: string, retryAfter?: number) =>
  ({ _tag: tag, success: false, error, code: tag, ...(retryAfter === undefined ? {} : { retryAfter }) }) as Extract<
    Failure,
    { readonly code: Name; readonly _tag: Name }
  >

/** What is sent for a failure. */
export const toWire = (failure: Failure) => Struct.omit(failure, "_tag")

/** The HTTP status a failure is answered with. */
export const status = (failure: Failure): number => statuses[failure._tag]
