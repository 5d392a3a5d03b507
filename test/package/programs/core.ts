/** `cal-tokens` alone: the product wired by hand over memory, for a user who never connected. */
import {
  CalApi,
  CalClient,
  CalTokens,
  HttpClients,
  KeyRing,
  Sessions,
  Token,
  TokenConfig,
  TokenStorage
} from "cal-tokens"
import { FetchHttpClient } from "@effect/platform"
import { Effect, Layer, Redacted } from "effect"

const layer = Layer.mergeAll(CalApi.layer, Sessions.layer).pipe(
  Layer.provideMerge(CalTokens.layer),
  Layer.provideMerge(
    CalClient.layer({
      apiUrl: "https://cal.invalid/v2",
      managed: { clientId: "client", clientSecret: Redacted.make("secret") }
    })
  ),
  // In production: one client for tokens that reuses no connection, and one that does (`cal-tokens/node`).
  Layer.provide(HttpClients.layerBoth(FetchHttpClient.layer)),
  Layer.provideMerge(Layer.mergeAll(TokenStorage.layerMemory, KeyRing.layerEphemeral, TokenConfig.layer({})))
)

const user = Token.UserUlid.make("01ARZ3NDEKTSV4RRFFQ69G5FAV")

const program = Effect.gen(function* () {
  const tokens = yield* CalTokens.CalTokens
  const token = yield* tokens.ensureValid(user)
  return Redacted.value(token.accessToken)
}).pipe(Effect.catchTag("TokensNotFound", ({ _tag }) => Effect.succeed(_tag)))

console.log(await Effect.runPromise(Effect.provide(program, layer)))
