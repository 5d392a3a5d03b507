/** Creating managed users of a Cal.com platform client. */
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "@effect/platform"
import { Schema } from "effect"
import { Manage } from "./Access.js"
import { ConnectFailure, EnsureFailure, NotManagedUser } from "./Failure.js"
import { person } from "./Person.js"
import { ClientId, Success, UserUlidInput } from "./Values.js"

const CreateManagedUser = Schema.Struct({ userUlid: UserUlidInput, clientId: Schema.optional(ClientId), ...person })

const ManagedUserCreated = Schema.Struct({
  success: Success,
  calUserId: Schema.Int.annotations({ description: "The user at Cal.com." })
})

/**
 * Creates users at Cal.com and connects them.
 *
 * @since 0.1.0
 * @category api
 */
export class ManagedUsersApi extends HttpApiGroup.make("managedUsers")
  .add(
    HttpApiEndpoint.post("createManagedUser", "/managed-users")
      .setPayload(CreateManagedUser)
      .addSuccess(ManagedUserCreated)
      // Whom Cal.com knows by the address is connected, and refreshed.
      .addError(ConnectFailure)
      .addError(EnsureFailure)
      .addError(NotManagedUser)
      .annotate(OpenApi.Summary, "Create a managed user")
      .annotate(
        OpenApi.Description,
        "Creates a user at Cal.com and connects it, in one call that may be repeated: a user who is connected already " +
          "is answered without asking Cal.com, and one that Cal.com knows by the e-mail address is given new tokens, " +
          "unless that account is another user's here."
      )
  )
  .middleware(Manage)
  .prefix("/api/cal")
  .annotate(OpenApi.Description, "Users that a Cal.com platform client owns.") {}
