/**
 * The HTTP API as a value: endpoints, inputs, answers and failures, without the code that answers. A program that only
 * calls the service imports this, `cal-tokens/api`, also in a browser, and derives its client:
 *
 * ```ts
 * import { HttpApiClient, HttpClient, HttpClientRequest } from "@effect/platform"
 * import { Api } from "cal-tokens/api"
 * import { Effect } from "effect"
 *
 * export const ensure = (baseUrl: string, key: string, userUlid: string) =>
 *   Effect.gen(function* () {
 *     const transformClient = HttpClient.mapRequest(HttpClientRequest.bearerToken(key))
 *     const client = yield* HttpApiClient.make(Api, { baseUrl, transformClient })
 *     return yield* client.tokens.ensureToken({ payload: { userUlid } })
 *   })
 * ```
 */
import { HttpApi, type HttpApiGroup, OpenApi } from "@effect/platform"
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
import { OverviewApi } from "./Api/Overview.js"
import { SessionsApi } from "./Api/Sessions.js"
import { TokensApi } from "./Api/Tokens.js"

export { AccessTokensApi } from "./Api/AccessTokens.js"
export { AtomsApi, AtomsFailure } from "./Api/Atoms.js"
export {
  Connection,
  ConnectionHistory,
  ConnectionsApi,
  ConnectionStatus,
  HistoryEntry,
  ImportedConnection,
  Kind,
  ListedConnection
} from "./Api/Connections.js"
export { EventsApi } from "./Api/Events.js"
export { type Failure, ServiceFailure, type Tag as FailureTag } from "./Api/Failure.js"
export { HealthApi } from "./Api/Health.js"
export { ManagedUsersApi } from "./Api/ManagedUsers.js"
export { MetricsApi } from "./Api/Metrics.js"
export { CallbackApi, OAuthApi } from "./Api/OAuth.js"
export { Overview, OverviewApi } from "./Api/Overview.js"
export { SessionsApi } from "./Api/Sessions.js"
export { TokensApi } from "./Api/Tokens.js"
export { Scope } from "./ApiKeys/Scope.js"

/** Its name, which an API that has this one in it would otherwise take from this one's title. */
const named = <Group extends HttpApiGroup.HttpApiGroup.Any & Annotated>(group: Group): Group =>
  group.annotate(OpenApi.Title, group.identifier) as Group

interface Annotated {
  annotate(tag: typeof OpenApi.Title, value: string): unknown
}
/**
 * All endpoints.
 *
 * @since 0.1.0
 * @category api
 */
export class Api extends HttpApi.make("cal-tokens")
  .add(named(TokensApi))
  .add(named(ConnectionsApi))
  .add(named(AccessTokensApi))
  .add(named(ManagedUsersApi))
  .add(named(OAuthApi))
  .add(named(CallbackApi))
  .add(named(SessionsApi))
  .add(named(AtomsApi))
  .add(named(EventsApi))
  .add(named(OverviewApi))
  .add(named(HealthApi))
  .add(named(MetricsApi))
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
