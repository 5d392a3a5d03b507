/**
 * Failures as they travel over HTTP: `{ "success": false, "error": "<message>", "code": "<Tag>" }`, with `retryAfter` in
 * seconds, Cal.com's `status` and `missingScopes` where they are known. A derived client gets each of them with its `_tag`, so
 * `Effect.catchTag` works on both sides although no `_tag` is sent.
 */
import { HttpApiSchema } from "@effect/platform"
import { Schema, Struct } from "effect"
import { facts, type HttpTag } from "../ErrorFacts.js"

/**
 * What a failure is on the wire: the tag of {@link facts}.
 *
 * @since 0.1.0
 * @category models
 */
export type Tag = HttpTag

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
export const documented = (tag: Tag, description: string = facts[tag].what, identifier: string = tag) => ({
  identifier,
  status: facts[tag].status,
  description
})

/** `more`: fields that it has besides. */
const withCode = <Name extends Tag, Code extends string, More extends Schema.Struct.Fields>(
  tag: Name,
  code: Code,
  more: More
) =>
  Schema.Struct({ ...fields(code), ...more }).pipe(
    Schema.attachPropertySignature("_tag", tag),
    Schema.annotations(HttpApiSchema.annotations(documented(tag)))
  )

const failure = <Name extends Tag>(tag: Name) => withCode(tag, tag, {})

const InvalidInput = failure("InvalidInput")
/** `InvalidInput` with the status of a size limit. */
const PayloadTooLarge = withCode("PayloadTooLarge", "InvalidInput", {})
const Unauthorized = failure("Unauthorized")
const Forbidden = failure("Forbidden")
export const TokensNotFound = failure("TokensNotFound")
export const NotManagedUser = failure("NotManagedUser")
const CalAccountInUse = failure("CalAccountInUse")
export const ReauthorizationRequired = failure("ReauthorizationRequired")
const RefreshCoolingDown = failure("RefreshCoolingDown")
const CalRateLimited = failure("CalRateLimited")
export const RateLimited = failure("RateLimited")
const CalUnavailable = failure("CalUnavailable")
const CalRequestRejected = withCode("CalRequestRejected", "CalRequestRejected", {
  missingScopes: Schema.optional(
    Schema.Array(Schema.String).annotations({
      description:
        "The scopes that the user has not allowed, where Cal.com names them: ask for consent again with these."
    })
  )
})
const CalProtocolError = failure("CalProtocolError")
export const CalClientMisconfigured = failure("CalClientMisconfigured")
const StorageUnavailable = failure("StorageUnavailable")
const TokenUnreadable = failure("TokenUnreadable")

const NotFound = failure("NotFound")
const MethodNotAllowed = failure("MethodNotAllowed")
const InternalError = failure("InternalError")
const ShuttingDown = failure("ShuttingDown")

/** What a request without a sufficient API key fails with, or one too many. */
export const AccessFailure = Schema.Union(Unauthorized, Forbidden, RateLimited)
export type AccessFailure = typeof AccessFailure.Type

/** What any request with an input can meet, and whatever asks the database. */
export const QueryFailure = Schema.Union(InvalidInput, PayloadTooLarge, StorageUnavailable)

/** What comes of calling Cal.com. */
export const CallFailure = Schema.Union(
  CalRateLimited,
  CalUnavailable,
  CalRequestRejected,
  CalProtocolError,
  CalClientMisconfigured
)

/** What comes of looking at a user's connection. */
export const ReadFailure = Schema.Union(QueryFailure, TokensNotFound, TokenUnreadable)

/** What comes of asking for a user's valid token. */
export const EnsureFailure = Schema.Union(ReadFailure, ReauthorizationRequired, RefreshCoolingDown, CallFailure)

/** What comes of storing a connection. */
export const ConnectFailure = Schema.Union(QueryFailure, CalAccountInUse, TokenUnreadable)

/**
 * What any request can meet, whatever it asks for.
 *
 * @since 0.1.0
 * @category schemas
 */
export const ServiceFailure = Schema.Union(NotFound, MethodNotAllowed, RateLimited, InternalError, ShuttingDown)
export type ServiceFailure = typeof ServiceFailure.Type

/**
 * Whatever is answered.
 *
 * @since 0.1.0
 * @category models
 */
export type Failure =
  typeof EnsureFailure.Type | typeof ConnectFailure.Type | typeof NotManagedUser.Type | AccessFailure | ServiceFailure

/** A failure of the service itself, or one that it words itself. */
export const service = <Name extends Exclude<Tag, "PayloadTooLarge">>(tag: Name, error: string, retryAfter?: number) =>
  ({ _tag: tag, success: false, error, code: tag, ...(retryAfter === undefined ? {} : { retryAfter }) }) as Extract<
    Failure,
    { readonly code: Name; readonly _tag: Name }
  >

/** What is sent for a failure. */
export const toWire = (failure: Failure) => Struct.omit(failure, "_tag")

/** The HTTP status a failure is answered with. */
export const status = (failure: Failure): number => facts[failure._tag].status
