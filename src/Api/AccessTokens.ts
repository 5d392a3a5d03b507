/** Handing out access tokens, to callers whose key has the scope for just that. */
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "@effect/platform"
import { Schema } from "effect"
import { ReadToken } from "./Access.js"
import { EnsureFailure } from "./Failure.js"
import { Instant, Success, UserUlidInput } from "./Values.js"

const AccessToken = Schema.Struct({
  success: Success,
  accessToken: Schema.Redacted(
    Schema.String.annotations({ description: "Valid at Cal.com now. Keep it from browsers." })
  ),
  expiresAt: Instant
})

/**
 * The token itself, for servers.
 *
 * @since 0.1.0
 * @category api
 */
export class AccessTokensApi extends HttpApiGroup.make("accessTokens")
  .add(
    HttpApiEndpoint.get("getAccessToken", "/access-token/:userUlid")
      .setPath(Schema.Struct({ userUlid: UserUlidInput }))
      .addSuccess(AccessToken)
      .annotate(OpenApi.Summary, "Get a valid access token")
      .annotate(
        OpenApi.Description,
        "The user's access token, refreshed if it has to be. The only answer to an API key that holds a token."
      )
  )
  .addError(EnsureFailure)
  .middleware(ReadToken)
  .prefix("/api/cal")
  .annotate(OpenApi.Description, "Hand out access tokens.") {}
