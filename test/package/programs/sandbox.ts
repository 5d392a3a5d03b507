/** `cal-tokens/sandbox`: the whole product against the simulator. */
import { CalTokens, Token } from "cal-tokens"
import * as Sandbox from "cal-tokens/sandbox"
import { Effect } from "effect"

const user = Token.UserUlid.make("01ARZ3NDEKTSV4RRFFQ69G5FAV")

const program = Effect.gen(function* () {
  yield* Sandbox.connectManaged(user)
  const tokens = yield* CalTokens.CalTokens
  yield* tokens.refresh(user, { forceRefresh: true })
  const sandbox = yield* Sandbox.Sandbox
  return `refreshed ${yield* sandbox.count("refresh")}`
})

console.log(await Effect.runPromise(Effect.provide(program, Sandbox.layerTest())))
