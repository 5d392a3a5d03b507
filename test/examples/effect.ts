import { CalApi, Token } from "cal-tokens"
import * as Sandbox from "cal-tokens/sandbox"
import { Console, Effect, Schema } from "effect"

const user = Token.UserUlid.make("01ARZ3NDEKTSV4RRFFQ69G5FAV")
const Me = Schema.Struct({ data: Schema.Struct({ name: Schema.String }) })

const program = Effect.gen(function* () {
  yield* Sandbox.connectManaged(user, { name: "Grace" })
  const api = yield* CalApi.CalApi
  const { data } = yield* api.request(user, { path: "/me", schema: Me })
  yield* Console.log(data.name) // Grace
})
await Effect.runPromise(program.pipe(Effect.provide(Sandbox.layerTest()))) // live: Node.layerConfig of cal-tokens/node
