/** `cal-tokens/embedded`: the same on PGlite, which keeps nothing. */
import { KeyRing, Token, TokenStorage } from "cal-tokens"
import * as Embedded from "cal-tokens/embedded"
import * as Postgres from "cal-tokens/postgres"
import { Effect, Layer, Option } from "effect"

const user = Token.UserUlid.make("01ARZ3NDEKTSV4RRFFQ69G5FAV")

const layer = Postgres.layer().pipe(
  Layer.provide(Embedded.layer({ inMemory: true })),
  Layer.provide(KeyRing.layerEphemeral)
)

const program = Effect.gen(function* () {
  const storage = yield* TokenStorage.TokenStorage
  return Option.isNone(yield* storage.find(user)) ? "nobody" : "somebody"
})

console.log(await Effect.runPromise(Effect.provide(program, layer)))
