/** `cal-tokens explain <user>`: what happened to a user's tokens, and why a reconnect is needed. */
import { Command } from "@effect/cli"
import { Console, Effect, Option } from "effect"
import { explain, toLines } from "../Explain.js"
import { TokensNotFound } from "../TokenError.js"
import { TokenStorage } from "../TokenStorage.js"
import * as Connections from "./Connections.js"
import * as Operating from "./Operating.js"

export const command = Command.make("explain", { user: Operating.user }, ({ user }) =>
  Effect.gen(function* () {
    const userUlid = yield* Operating.userOf(user)
    const history = yield* Effect.flatMap(TokenStorage, (storage) => storage.history(userUlid)).pipe(
      Effect.flatMap(Option.match({ onNone: () => new TokensNotFound({ userUlid }), onSome: Effect.succeed })),
      Connections.provide(yield* Operating.settings)
    )
    yield* Console.log(toLines(explain(history)).join("\n"))
  }).pipe(Operating.answering)
).pipe(Command.withDescription("Tell what happened to a user's tokens, and why they have to reconnect."))
