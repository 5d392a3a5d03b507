/** Takes the place of `TokenStorage/Postgres` in the service: the same, with the steps at which a process can die. */
import { Context, Effect, Layer, Option } from "effect"
import { TokenStorage } from "../../../src/TokenStorage.js"
import * as Postgres from "../../../src/TokenStorage/Postgres.js"
import * as Death from "./Death.js"

export * from "../../../src/TokenStorage/Postgres.js"

const within = <A, E>(name: "spend" | "commit" | "fail", call: Effect.Effect<A, E>) =>
  Death.at(`${name}:before`).pipe(Effect.zipRight(call), Effect.zipLeft(Death.at(`${name}:after`)))

const tapped = (storage: typeof TokenStorage.Service) =>
  TokenStorage.of({
    ...storage,
    claim: (request) =>
      Effect.gen(function* () {
        yield* Death.at("claim:before")
        const result = yield* storage.claim(request)
        if (result._tag === "Claimed") {
          Death.attempt.isProbe = Option.isSome(result.probe)
          yield* Death.at("claim:after")
        }
        return result
      }),
    spend: (request) => within("spend", storage.spend(request)),
    commit: (request) => within("commit", storage.commit(request)),
    fail: (request) => within("fail", storage.fail(request))
  })

export const layer: typeof Postgres.layer = (options) =>
  Layer.map(Postgres.layer(options), (context) =>
    Context.add(context, TokenStorage, tapped(Context.get(context, TokenStorage)))
  )
