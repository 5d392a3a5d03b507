/** Connecting people to their Cal.com accounts through OAuth 2.0. */
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "@effect/platform"
import { Schema } from "effect"
import { Manage } from "./Access.js"
import {
  CalClientMisconfigured,
  CallFailure,
  ConnectFailure,
  QueryFailure,
  ReauthorizationRequired
} from "./Failure.js"
import { ClientId, Instant, Success, UserUlidInput } from "./Values.js"

/** Where Cal.com sends browsers back to, when this service hosts the callback. */
export const callbackPath = "/api/cal/oauth/callback"

const secret = (description: string) =>
  Schema.Redacted(
    Schema.String.annotations({ description, jsonSchema: { type: "string", minLength: 1, maxLength: 8192 } })
  )

const AuthorizeUrl = Schema.Struct({
  userUlid: UserUlidInput,
  clientId: Schema.optional(ClientId),
  returnTo: Schema.optional(
    Schema.String.annotations({
      description:
        "Where the browser goes after this service's callback: an URL below one of `CAL_TOKENS_RETURN_URLS`. Leave it " +
        "out when your app hosts the callback.",
      jsonSchema: { type: "string", maxLength: 2048 }
    })
  ),
  replace: Schema.optional(
    Schema.Boolean.annotations({
      description: "Take the Cal.com account from another of your users, should it be connected to one."
    })
  )
})

const ExchangeCode = Schema.Struct({
  userUlid: UserUlidInput,
  code: secret("As Cal.com appended it to your callback."),
  state: secret("As Cal.com appended it to your callback.")
})

const ConfirmCompletion = Schema.Struct({
  userUlid: UserUlidInput,
  completion: secret("As this service appended it to `returnTo`.")
})

export const AuthorizeUrlMade = Schema.Struct({
  success: Success,
  url: Schema.String.annotations({ description: "Send the browser there, once." }),
  expiresAt: Instant,
  state: Schema.String.annotations({
    description: "What `url` says, for a page that asks Cal.com itself, as its onboarding embed does."
  }),
  redirectUri: Schema.String,
  scopes: Schema.Array(Schema.String),
  codeChallenge: Schema.optional(Schema.String.annotations({ description: "Of PKCE; for public clients." })),
  codeChallengeMethod: Schema.optional(Schema.Literal("S256"))
})

const Connected = Schema.Struct({
  success: Success,
  calUserId: Schema.NullOr(Schema.Int).annotations({
    description: "The user at Cal.com; null for a token that is not a user's but a team's."
  })
})

/** The new tokens are tried out where an account was taken over, so the person may have to begin once more. */
const ConnectingFailure = Schema.Union(ConnectFailure, CallFailure, ReauthorizationRequired)

const once =
  "The user is the one of your own session, never one that the browser names. Works once: after a failure, begin again " +
  "with a new authorize URL. What the user was connected to before stays until the new tokens are stored."

/**
 * Connects people by Cal.com's consent.
 *
 * @since 0.1.0
 * @category api
 */
export class OAuthApi extends HttpApiGroup.make("oauth")
  .add(
    HttpApiEndpoint.post("authorizeUrl", "/oauth/authorize-url")
      .setPayload(AuthorizeUrl)
      .addSuccess(AuthorizeUrlMade)
      .addError(QueryFailure)
      .addError(CalClientMisconfigured)
      .annotate(OpenApi.Summary, "Begin to connect a user")
      .annotate(
        OpenApi.Description,
        "Makes the URL of Cal.com's consent page for a user. It works for ten minutes, and once. The person comes back " +
          `to \`CAL_OAUTH_REDIRECT_URL\`: to your app, which calls \`/oauth/exchange\`, or to \`${callbackPath}\` of ` +
          "this service, which goes on to `returnTo` with a `completion`, for which your app calls `/oauth/confirm`."
      )
  )
  .add(
    HttpApiEndpoint.post("exchangeCode", "/oauth/exchange")
      .setPayload(ExchangeCode)
      .addSuccess(Connected)
      .addError(ConnectingFailure)
      .annotate(OpenApi.Summary, "Connect a user who came back to your app")
      .annotate(OpenApi.Description, `For an app that hosts the callback: exchanges the code and stores. ${once}`)
  )
  .add(
    HttpApiEndpoint.post("confirmCompletion", "/oauth/confirm")
      .setPayload(ConfirmCompletion)
      .addSuccess(Connected)
      .addError(ConnectingFailure)
      .annotate(OpenApi.Summary, "Connect a user who came back through this service")
      .annotate(
        OpenApi.Description,
        `Exchanges the code that came to this service's callback and stores, for the user it was asked for only. ${once}`
      )
  )
  .middleware(Manage)
  .prefix("/api/cal")
  .annotate(OpenApi.Description, "Connect people to their Cal.com accounts.") {}

const queryParameter = (name: string, description: string) => ({
  name,
  in: "query",
  required: false,
  description,
  schema: { type: "string" }
})

/** What a person reads where the way ends, by status. */
const pages: Readonly<Record<number, string>> = {
  400: "A page: the link was used with another code, has expired, was not made here, or is not whole.",
  403: "A page: the person did not allow the access.",
  502: "A page: Cal.com could not, or would not, connect them.",
  503: "A page: the database is not available. The same address works once it is. Empty for a browser that prefetches."
}

const withPages = (responses: OpenApi.OpenAPISpecOperation["responses"]) => ({
  ...responses,
  303: {
    description: "On to `returnTo`, with a one-time `completion` in its query unless that was used up.",
    headers: { Location: { description: "`returnTo`, with the completion.", schema: { type: "string" } } }
  },
  ...Object.fromEntries(
    Object.entries(pages).map(([status, description]) => [
      status,
      {
        description,
        content: { ...responses[Number(status)]?.content, "text/html": { schema: { type: "string" } } }
      }
    ])
  )
})

/**
 * Whoever opens it is a browser with a state, so it takes no API key. Anybody can write anything into its query and is
 * to read a page all the same: its parameters are described here, and decoded by nobody but the handler.
 *
 * @since 0.1.0
 * @category api
 */
export class CallbackApi extends HttpApiGroup.make("callback")
  .add(
    HttpApiEndpoint.get("oauthCallback", callbackPath)
      .addSuccess(Schema.Void, { status: 303 })
      .annotate(OpenApi.Summary, "Come back from Cal.com")
      .annotate(
        OpenApi.Description,
        "Where Cal.com sends browsers back to when this service hosts the callback: `CAL_OAUTH_REDIRECT_URL` is its " +
          "address. Keeps the code and sends the person on to `returnTo`, or shows a page that says why not. Connects " +
          "nobody: your app does, with `/oauth/confirm`. A browser may come again with the same state and code: until " +
          "the completion is used up it gets another one, which replaces the one before, and then none. `HEAD` and " +
          "prefetching use up nothing."
      )
      .annotate(OpenApi.Override, {
        parameters: [
          queryParameter("state", "From the authorize URL. Works for one code, for ten minutes."),
          queryParameter("code", "What Cal.com appends when the person allowed the access."),
          queryParameter(
            "error",
            "What Cal.com appends when there is no code: `access_denied` when the person refused."
          )
        ]
      })
      .annotate(OpenApi.Transform, (operation) => ({
        ...operation,
        responses: withPages((operation as OpenApi.OpenAPISpecOperation).responses)
      }))
  )
  .annotate(OpenApi.Description, "Where people's browsers come back to from Cal.com; without an API key.") {}
