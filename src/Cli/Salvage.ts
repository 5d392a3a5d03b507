/** `cal-tokens salvage`: reads answers again in which no version of this program had found a pair when they came. */
import { Command } from "@effect/cli"
import { Chunk, Console, Effect, Layer, Option, Stream } from "effect"
import { CalTokens } from "../CalTokens.js"
import { StartError } from "../Environment.js"
import * as Logging from "../Environment/Logging.js"
import * as Services from "../Environment/Services.js"
import * as Ways from "../Environment/Ways.js"
import * as TokenConfig from "../TokenConfig.js"
import type { UserUlid } from "../Token.js"
import { TokenStorage } from "../TokenStorage.js"
import { number } from "./Numbers.js"
import * as Operating from "./Operating.js"

/** Of how many users answers are asked for at once. */
const limit = 100

const count = Effect.gen(function* () {
  const storage = yield* TokenStorage
  const users = new Set<UserUlid>()
  let answers = 0
  yield* Stream.paginateChunkEffect(undefined as UserUlid | undefined, (after) =>
    Effect.map(
      storage.sealed({ after, limit }),
      (found) => [Chunk.unsafeFromArray(found), Option.fromNullable(found.at(-1)?.userUlid)] as const
    )
  ).pipe(
    Stream.runForEach(({ userUlid }) =>
      Effect.sync(() => {
        answers++
        users.add(userUlid)
      })
    )
  )
  return { answers, users: users.size }
})

const salvage = Effect.gen(function* () {
  const { cal, config, log, proxies } = yield* Operating.settings
  if (cal._tag === "Sandbox") {
    return yield* new StartError({
      message: "salvage needs a Cal.com client (CAL_CLIENT_ID or CAL_OAUTH_CLIENT_ID): the demo understands its Cal.com"
    })
  }
  const references = Layer.mergeAll(Ways.layer(proxies), TokenConfig.layerChanged(config), Logging.layer(log))
  const before = yield* count.pipe(
    Operating.orStartError,
    Effect.provide(Layer.provide(Services.layerStanding(cal.database), references))
  )
  // A process begins to read them when it starts: they are counted before there is one.
  const after = yield* Effect.flatMap(CalTokens, (tokens) => Effect.zipRight(tokens.salvage, count)).pipe(
    Operating.orStartError,
    Effect.provide(Layer.provideMerge(Services.layerCal(cal.database, cal.options), references))
  )
  yield* Console.log(
    `${number(Math.max(0, before.answers - after.answers))} read, ${number(after.answers)} remain, of ${number(after.users)} users`
  )
  if (after.answers > 0) yield* Operating.lookAtIt
}).pipe(Operating.answering)

export const command = Command.make("salvage", {}, () => salvage).pipe(
  Command.withDescription("Read answers of Cal.com again that no earlier version understood.")
)
