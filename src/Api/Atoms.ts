/**
 * What Cal Atoms (`@calcom/atoms`) call as `refreshUrl` when Cal.com refused the access token they hold: `GET` with that
 * token as the bearer token, and `{ accessToken }` as the answer. They look at the JSON and not at the status, so that
 * every failure is JSON with an empty `accessToken`.
 */
import { HttpApiEndpoint, HttpApiGroup, HttpApiSchema, OpenApi } from "@effect/platform"
import { Schema } from "effect"
import * as Failure from "./Failure.js"

export const path = "/api/cal/atoms/refresh"

/** What failures of this endpoint have besides the fields of all failures. */
export const envelope = { accessToken: "" } as const

const Refreshed = Schema.Struct({
  accessToken: Schema.Redacted(Schema.String.annotations({ description: "The user's present access token." }))
})

const failure = <Name extends Failure.Tag>(tag: Name, description?: string) =>
  Schema.Struct({ accessToken: Schema.Literal(envelope.accessToken), ...Failure.fields(tag) }).pipe(
    Schema.attachPropertySignature("_tag", tag),
    Schema.annotations(HttpApiSchema.annotations(Failure.documented(tag, description, `Atoms${tag}`)))
  )

/**
 * Failures of the endpoint that Atoms ask, which have an empty token besides.
 *
 * @since 0.1.0
 * @category schemas
 */
export const AtomsFailure = Schema.Union(
  failure("Unauthorized", "The token is none of this service's, or no longer."),
  failure("Forbidden", "The page's origin is not allowed."),
  failure("NotFound", "No origins are allowed, so the endpoint is off."),
  failure("ReauthorizationRequired"),
  failure("RefreshCoolingDown", "A refresh was just made, or the last ones failed."),
  failure("CalRateLimited"),
  failure("RateLimited", "Too many requests from this address."),
  failure("TokenUnreadable"),
  failure("InternalError"),
  failure("CalRequestRejected"),
  failure("CalProtocolError"),
  failure("CalClientMisconfigured"),
  failure("CalUnavailable"),
  failure("StorageUnavailable"),
  failure("ShuttingDown")
)
export type AtomsFailure = typeof AtomsFailure.Type

/**
 * What Cal Atoms ask for a new token.
 *
 * @since 0.1.0
 * @category api
 */
export class AtomsApi extends HttpApiGroup.make("atoms")
  .add(
    HttpApiEndpoint.get("refreshAtoms", path)
      .addSuccess(Refreshed)
      .addError(AtomsFailure)
      .annotate(OpenApi.Summary, "Refresh for Cal Atoms")
      .annotate(
        OpenApi.Description,
        "The `refreshUrl` of Cal Atoms. Takes the access token that Atoms hold, and answers with the one to use now: " +
          "refreshed if it was the present one, as stored if it was replaced within the last hour; until " +
          "`CAL_TOKENS_ATOMS_MAX_AGE` after a server got a token of the user. For pages of the origins in " +
          "`CAL_TOKENS_ALLOWED_ORIGINS`; without any, the endpoint is off."
      )
      .annotate(OpenApi.Override, { security: [{ atomsToken: [] }] })
  )
  .annotate(OpenApi.Description, "For Cal.com's components in browsers.") {}
