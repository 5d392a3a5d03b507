/** Creating managed users of a Cal.com platform client. */
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "@effect/platform"
import { Schema } from "effect"
import { Manage } from "./Access.js"
import { ConnectFailure, EnsureFailure, NotManagedUser } from "./Failure.js"
import { ClientId, Success, text, UserUlidInput } from "./Values.js"

const isMetadata = (texts: ReadonlyArray<readonly [key: string, text: string]>) =>
  texts.length <= 50 && texts.every(([key, text]) => key.length <= 40 && text.length <= 500)

/** Cal.com judges the values; what is here only keeps nonsense and excess from it. */
const CreateManagedUser = Schema.Struct({
  userUlid: UserUlidInput,
  clientId: Schema.optional(ClientId),
  email: Schema.String.pipe(
    Schema.pattern(/^[^\s@]{1,64}@[^\s@]{1,189}$/),
    Schema.annotations({
      title: "an e-mail address",
      description: "Cal.com stores it with the client's id in it, and knows one managed user by it.",
      jsonSchema: { type: "string", format: "email", maxLength: 254 }
    })
  ),
  name: text(255, "Shown to people who book."),
  timeZone: Schema.optional(text(64, "An IANA time zone; Cal.com's default is Europe/London, without a schedule.")),
  timeFormat: Schema.optional(Schema.Literal(12, 24)),
  weekStart: Schema.optional(
    Schema.Literal("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
  ),
  locale: Schema.optional(text(16, "A language that Cal.com knows, such as `en` or `pt-BR`.")),
  avatarUrl: Schema.optional(text(2048, "An URL.")),
  bio: Schema.optional(text(5000, "Some words about the user.")),
  metadata: Schema.optional(
    Schema.Record({ key: Schema.String, value: Schema.String }).pipe(
      Schema.filter((texts) => isMetadata(Object.entries(texts)), {
        title: "an object of up to 50 texts of up to 500 characters, under keys of up to 40",
        description: "Up to 50 texts of up to 500 characters, under keys of up to 40."
      })
    )
  )
})

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
