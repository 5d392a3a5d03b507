/** Keeping a user's access token valid. No token is in any answer. */
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "@effect/platform"
import { Schema } from "effect"
import { Manage } from "./Access.js"
import { EnsureFailure, NotManagedUser } from "./Failure.js"
import { Instant, Success, UserUlidInput } from "./Values.js"

const RefreshToken = Schema.Struct({
  userUlid: UserUlidInput,
  forceRefresh: Schema.optional(
    Schema.Boolean.annotations({
      description: "Refresh whatever the token's age; joins a running refresh and obeys the cooldown."
    })
  )
})

const RefreshManagedUserToken = Schema.Struct({
  userUlid: UserUlidInput,
  reissue: Schema.optional(
    Schema.Boolean.annotations({
      description: "Have Cal.com issue a new pair with the client secret. Every older token of the user dies."
    })
  )
})

const EnsureToken = Schema.Struct({ userUlid: UserUlidInput })

const Refreshed = Schema.Struct({
  success: Success,
  refreshed: Schema.Boolean.annotations({
    description: "Whether a refresh answered this call, its own or one it joined."
  }),
  expiresAt: Instant,
  retryAfter: Schema.optional(
    Schema.Int.annotations({
      description:
        "Seconds after which a forced refresh makes sense again. Present where so many have just been that the stored " +
        "token, which is that new, is the answer.",
      jsonSchema: { type: "integer", minimum: 1 }
    })
  )
})

const Ensured = Schema.Struct({ success: Success, expiresAt: Instant })

/**
 * Refreshes tokens, without showing them.
 *
 * @since 0.1.0
 * @category api
 */
export class TokensApi extends HttpApiGroup.make("tokens")
  .add(
    HttpApiEndpoint.post("refreshToken", "/refresh-token")
      .setPayload(RefreshToken)
      .addSuccess(Refreshed)
      .annotate(OpenApi.Summary, "Refresh a token")
      .annotate(OpenApi.Description, "Refreshes a token that is expired or about to, any token if forced.")
  )
  .add(
    HttpApiEndpoint.post("refreshManagedUserToken", "/refresh-managed-user-token")
      .setPayload(RefreshManagedUserToken)
      .addSuccess(Refreshed)
      .addError(NotManagedUser)
      .annotate(OpenApi.Summary, "Refresh or reissue a managed user's token")
      .annotate(OpenApi.Description, "Refreshes the token of a managed user whatever its age, or has it reissued.")
  )
  .add(
    HttpApiEndpoint.post("ensureToken", "/ensure-token")
      .setPayload(EnsureToken)
      .addSuccess(Ensured)
      .annotate(OpenApi.Summary, "Ensure that a token is valid")
      .annotate(OpenApi.Description, "Makes sure that the user's token is valid, and refreshes it only if it has to.")
  )
  .addError(EnsureFailure)
  .middleware(Manage)
  .prefix("/api/cal")
  .annotate(OpenApi.Description, "Keep users' tokens valid. No token is in any answer.") {}
