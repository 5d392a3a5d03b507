/**
 * The HTTP API as a value: endpoints, inputs, answers and failures, without the code that answers. A program that only
 * calls the service imports this, also in a browser, and derives its client:
 *
 * ```ts
 * const client = yield* HttpApiClient.make(Api, { baseUrl, transformClient: HttpClient.mapRequest(bearerToken(key)) })
 * yield* client.tokens.ensureToken({ payload: { userUlid } })
 * ```
 */
import { HttpApi, OpenApi } from "@effect/platform"
import { AccessTokensApi } from "./Api/AccessTokens.js"
import { AtomsApi } from "./Api/Atoms.js"
import { ConnectionsApi } from "./Api/Connections.js"
import * as Documentation from "./Api/Documentation.js"
import { EventsApi } from "./Api/Events.js"
import { ServiceFailure } from "./Api/Failure.js"
import { HealthApi } from "./Api/Health.js"
import { ManagedUsersApi } from "./Api/ManagedUsers.js"
import { MetricsApi } from "./Api/Metrics.js"
import { CallbackApi, OAuthApi } from "./Api/OAuth.js"
import { SessionsApi } from "./Api/Sessions.js"
import { TokensApi } from "./Api/Tokens.js"

export class Api extends HttpApi.make("cal-tokens")
  .add(TokensApi)
  .add(ConnectionsApi)
  .add(AccessTokensApi)
  .add(ManagedUsersApi)
  .add(OAuthApi)
  .add(CallbackApi)
  .add(SessionsApi)
  .add(AtomsApi)
  .add(EventsApi)
  .add(HealthApi)
  .add(MetricsApi)
  .addError(ServiceFailure)
  .annotate(OpenApi.Title, "cal-tokens")
  .annotate(OpenApi.Version, "0.1.0")
  .annotate(
    OpenApi.Description,
    "Keeps every user's Cal.com access token valid. Every failure is JSON: " +
      '`{"success":false,"error":"…","code":"…","retryAfter"?:seconds}`.'
  )
  .annotate(OpenApi.License, { name: "MIT" })
  .annotate(OpenApi.Servers, [{ url: "/", description: "This service" }])
  .annotate(OpenApi.Transform, (spec) => Documentation.publish(spec as OpenApi.OpenAPISpec)) {}
