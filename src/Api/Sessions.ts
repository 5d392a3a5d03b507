/** User sessions: keys for one user, for browsers, widgets and agents. What they open is described in `Documentation.ts`. */
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "@effect/platform"
import { Schema } from "effect"
import { Manage } from "./Access.js"
import { QueryFailure, ReadFailure, TokensNotFound } from "./Failure.js"
import { Done, Instant, Success, UserUlidInput } from "./Values.js"

/** Below this is Cal.com's API, for whoever has a session. */
export const mePath = "/api/cal/me/"

export const CreateSession = Schema.Struct({
  userUlid: UserUlidInput,
  ttl: Schema.optional(
    Schema.Number.annotations({
      description: "How many seconds the session lasts: 15 minutes unless you say so, a day at most.",
      jsonSchema: { type: "integer", minimum: 1, maximum: 86_400, default: 900 }
    })
  ),
  methods: Schema.optional(
    Schema.Array(
      Schema.String.annotations({
        jsonSchema: { type: "string", enum: ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] }
      })
    ).annotations({
      title: "an array of texts",
      description: "What it may be used for. All of them, unless you say so."
    })
  ),
  paths: Schema.optional(
    Schema.Array(Schema.String.annotations({ examples: ["/bookings"] })).annotations({
      title: "an array of texts",
      description:
        "Paths below the Cal.com base URL that it opens, with all that is below them, by whole segments: `/bookings` " +
        "opens `/bookings/abc` and not `/bookings-secret`. Everything, unless you say so. At most 32."
    })
  )
})

const SessionCreated = Schema.Struct({
  success: Success,
  session: Schema.Redacted(
    Schema.String.annotations({ description: "The key, as `Authorization: Bearer …` for `/api/cal/me/…`." })
  ),
  expiresAt: Instant
})

/**
 * Keys for one user, for code outside of your servers.
 *
 * @since 0.1.0
 * @category api
 */
export class SessionsApi extends HttpApiGroup.make("sessions")
  .add(
    HttpApiEndpoint.post("createSession", "/sessions")
      .setPayload(CreateSession)
      .addSuccess(SessionCreated)
      .addError(ReadFailure)
      .annotate(OpenApi.Summary, "Make a user session")
      .annotate(
        OpenApi.Description,
        "A signed key with which a page, a widget or an agent uses Cal.com as one user, under `/api/cal/me/`. It ends by " +
          "itself, with `DELETE`, and when the user is disconnected or connected anew. The API key needs both scopes."
      )
      .annotate(OpenApi.Override, { security: [{ manage: [], proxy: [] }] })
  )
  .add(
    HttpApiEndpoint.del("deleteSessions", "/sessions/:userUlid")
      .setPath(Schema.Struct({ userUlid: UserUlidInput }))
      .addSuccess(Done)
      .addError(QueryFailure)
      .addError(TokensNotFound)
      .annotate(OpenApi.Summary, "End all sessions of a user")
      .annotate(
        OpenApi.Description,
        "No session that was made so far is taken any more, and no access token renews itself at the Atoms endpoint, in " +
          "all processes: at once where they hear of each other, within five seconds otherwise."
      )
  )
  .middleware(Manage)
  .prefix("/api/cal")
  .annotate(OpenApi.Description, "Keys for one user, for browsers, widgets and agents.") {}
