/** `cal-tokens/postgres`: tokens and flows on PostgreSQL, wired by hand. */
import { FlowStorage, Token, TokenStorage } from "cal-tokens"
import * as Postgres from "cal-tokens/postgres"
import { Config, Effect, Layer, Option } from "effect"

const user = Token.UserUlid.make("01ARZ3NDEKTSV4RRFFQ69G5FAV")

const layer = Layer.unwrapEffect(
  Effect.map(Config.redacted("DATABASE_URL"), (url) =>
    Layer.merge(Postgres.layer({ listenUrl: url }), Postgres.layerFlows()).pipe(
      Layer.provide(Postgres.layerConnection({ url, poolSize: 2 }))
    )
  )
).pipe(Layer.provideMerge(Postgres.KeyRing.layerConfig(Config.redacted("CAL_TOKENS_ENCRYPTION_KEYS"))))

const program = Effect.gen(function* () {
  yield* FlowStorage.FlowStorage
  const storage = yield* TokenStorage.TokenStorage
  yield* storage.ping
  return Option.isNone(yield* storage.find(user)) ? "nobody" : "somebody"
})

console.log(await Effect.runPromise(Effect.provide(program, layer)))
