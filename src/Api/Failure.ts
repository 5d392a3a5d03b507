/**
 * Failures as they travel over HTTP: `{ "success": false, "error": "<message>", "code": "<Tag>" }`, with `retryAfter` in
 * seconds and Cal.com's `status` where they are known. A derived client gets each of them with its `_tag`, so
 * `Effect.catchTag` works on both sides although no `_tag` is sent.
 */
import { HttpApiSchema } from "@effect/platform"
import { Schema, Struct } from "effect"
import { toFailure, type TokenError } from "../TokenError.js"

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
  TokenUnreadable: 500,
  InternalError: 500,
  CalRequestRejected: 502,
  CalProtocolError: 502,
  CalClientMisconfigured: 502,
  CalUnavailable: 503,
  StorageUnavailable: 503,
  ShuttingDown: 503
} as const satisfies Record<TokenError["_tag"], number> & Record<string, number>

const withCode = <Tag extends keyof typeof statuses, Code extends string>(tag: Tag, code: Code, description: string) =>
  Schema.Struct({
    success: Schema.Literal(false),
    /** What went wrong and what to do about it, for people. */
    error: Schema.String,
    code: Schema.Literal(code),
    /** Seconds; also sent as the `Retry-After` header. */
    retryAfter: Schema.optional(Schema.Int),
    /** The status that Cal.com answered with. */
    status: Schema.optional(Schema.Int)
  }).pipe(
    Schema.attachPropertySignature("_tag", tag),
    Schema.annotations(HttpApiSchema.annotations({ identifier: tag, status: statuses[tag], description }))
  )

const failure = <Tag extends keyof typeof statuses>(tag: Tag, description: string) => withCode(tag, tag, description)

export const InvalidInput = failure("InvalidInput", "Something in the request is malformed. Nothing was changed.")
/** `InvalidInput` with the status of a size limit. */
export const PayloadTooLarge = withCode("PayloadTooLarge", "InvalidInput", "The request body is too large.")
export const Unauthorized = failure("Unauthorized", "The API key is missing or wrong.")
export const Forbidden = failure("Forbidden", "The API key lacks the scope of this endpoint.")
export const TokensNotFound = failure("TokensNotFound", "This user has no Cal.com connection.")
export const NotManagedUser = failure("NotManagedUser", "The operation exists for managed users only.")
export const CalAccountInUse = failure("CalAccountInUse", "The Cal.com account is connected to another user.")
export const ReauthorizationRequired = failure("ReauthorizationRequired", "The user has to connect again.")
export const RefreshCoolingDown = failure("RefreshCoolingDown", "Too many refreshes, or the last ones failed.")
export const CalRateLimited = failure("CalRateLimited", "Cal.com's rate limit is reached.")
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

/** What a request without a sufficient API key fails with. */
export const AccessFailure = Schema.Union(Unauthorized, Forbidden)
export type AccessFailure = typeof AccessFailure.Type

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
export const ServiceFailure = Schema.Union(NotFound, MethodNotAllowed, InternalError, ShuttingDown)
export type ServiceFailure = typeof ServiceFailure.Type

export type Failure = OperationFailure | ServiceFailure

/** The failure that stands for an error of this package. */
export const fromError = <E extends TokenError>(error: E) =>
  ({
    _tag: error._tag === "InvalidInput" && error.tooLarge === true ? "PayloadTooLarge" : error._tag,
    ...toFailure(error)
  }) as Extract<OperationFailure, { readonly code: E["_tag"] }>

/** A failure of the service itself. */
export const service = (tag: ServiceFailure["_tag"], error: string) =>
  ({ _tag: tag, success: false, error, code: tag }) as ServiceFailure

/** What is sent for a failure. */
export const toWire = (failure: Failure) => Struct.omit(failure, "_tag")

/** The HTTP status a failure is answered with. */
export const status = (failure: Failure): number => statuses[failure._tag]
