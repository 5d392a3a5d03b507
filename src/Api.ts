/**
 * The HTTP API as a value: endpoints, inputs, answers and failures, without the code that answers. A program that only
 * calls the service imports this and derives its client:
 *
 * ```ts
 * const client = yield* HttpApiClient.make(Api, { baseUrl, transformClient: HttpClient.mapRequest(bearerToken(key)) })
 * yield* client.tokens.ensureToken({ payload: { userUlid } })
 * ```
 */
import { HttpApi, OpenApi } from "@effect/platform"
import { ConnectionsApi } from "./Api/Connections.js"
import { ServiceFailure } from "./Api/Failure.js"
import { HealthApi } from "./Api/Health.js"
import { TokensApi } from "./Api/Tokens.js"

export class Api extends HttpApi.make("cal-tokens")
  .add(TokensApi)
  .add(ConnectionsApi)
  .add(HealthApi)
  .addError(ServiceFailure)
  .annotate(OpenApi.Title, "cal-tokens") {}
