/** `cal-tokens/node`: the service in one layer, by options and by variables. */
import { CalTokens, Token } from "cal-tokens"
import * as Node from "cal-tokens/node"
import { Config, Effect } from "effect"

const user = Token.UserUlid.make("01ARZ3NDEKTSV4RRFFQ69G5FAV")

const program = Effect.gen(function* () {
  const tokens = yield* CalTokens.CalTokens
  return (yield* Effect.flip(tokens.info(user)))._tag
})

const byOptions = Effect.gen(function* () {
  const layer = Node.layer({
    database: { url: yield* Config.redacted("DATABASE_URL") },
    encryptionKeys: yield* Config.redacted("CAL_TOKENS_ENCRYPTION_KEYS"),
    cal: { managed: { clientId: "client", clientSecret: yield* Config.redacted("CAL_CLIENT_SECRET") } },
    proxies: { noProxy: "*" }
  })
  return yield* Effect.provide(program, layer)
})

const byVariables = Effect.provide(program, Node.layerConfig)

console.log((await Effect.runPromise(Effect.all([byOptions, byVariables]))).join(" "))
