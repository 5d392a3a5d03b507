/** Keeping a user's access token valid. No token is in any answer. */
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "@effect/platform"
import { Schema } from "effect"
import { Manage } from "./Access.js"
import { OperationFailure } from "./Failure.js"

/** A user's ULID; lower case names the same user. */
export const UserUlidInput = Schema.String.annotations({
  title: "a ULID",
  examples: ["01ARZ3NDEKTSV4RRFFQ69G5FAV"]
})

export const RefreshToken = Schema.Struct({
  userUlid: UserUlidInput,
  /** Refresh whatever the token's age; joins a running refresh and obeys the cooldown. */
  forceRefresh: Schema.optional(Schema.Boolean)
})

export const RefreshManagedUserToken = Schema.Struct({
  userUlid: UserUlidInput,
  /** Have Cal.com issue a new pair with the client secret. Every older token of the user dies. */
  reissue: Schema.optional(Schema.Boolean)
})

export const EnsureToken = Schema.Struct({ userUlid: UserUlidInput })

export const Refreshed = Schema.Struct({
  success: Schema.Literal(true),
  /** Whether a refresh answered this call, its own or one it joined. */
  refreshed: Schema.Boolean,
  expiresAt: Schema.DateTimeUtc
})

export const Ensured = Schema.Struct({
  success: Schema.Literal(true),
  expiresAt: Schema.DateTimeUtc
})

export class TokensApi extends HttpApiGroup.make("tokens")
  .add(
    HttpApiEndpoint.post("refreshToken", "/refresh-token")
      .setPayload(RefreshToken)
      .addSuccess(Refreshed)
      .annotate(OpenApi.Description, "Refreshes a token that is expired or about to, any token if forced.")
  )
  .add(
    HttpApiEndpoint.post("refreshManagedUserToken", "/refresh-managed-user-token")
      .setPayload(RefreshManagedUserToken)
      .addSuccess(Refreshed)
      .annotate(OpenApi.Description, "Refreshes the token of a managed user whatever its age, or has it reissued.")
  )
  .add(
    HttpApiEndpoint.post("ensureToken", "/ensure-token")
      .setPayload(EnsureToken)
      .addSuccess(Ensured)
      .annotate(OpenApi.Description, "Makes sure that the user's token is valid.")
  )
  .addError(OperationFailure)
  .middleware(Manage)
  .prefix("/api/cal") {}
