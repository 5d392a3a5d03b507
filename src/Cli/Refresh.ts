/** `cal-tokens refresh`: makes sure that a user's token is valid, or has a new one made. */
import { Command, Options } from "@effect/cli"
import { Clock, Console, Effect, Layer } from "effect"
import { CalTokens } from "../CalTokens.js"
import * as Logging from "../Environment/Logging.js"
import * as Services from "../Environment/Services.js"
import * as Ways from "../Environment/Ways.js"
import * as TokenConfig from "../TokenConfig.js"
import { relative } from "./Instants.js"
import * as Operating from "./Operating.js"

const options = {
  force: Options.boolean("force").pipe(
    Options.withDescription(
      "Also while the token is good for long. A refresh under way is joined, a cooldown is obeyed."
    )
  ),
  user: Operating.user
}

export const command = Command.make("refresh", options, ({ force, user }) =>
  Effect.gen(function* () {
    const userUlid = yield* Operating.userOf(user)
    const { cal, config, log, proxies } = yield* Operating.settings
    const services =
      cal._tag === "Sandbox" ? Services.layerSandbox(cal.database) : Services.layerCal(cal.database, cal.options)
    yield* Effect.flatMap(CalTokens, (tokens) => tokens.refresh(userUlid, { forceRefresh: force })).pipe(
      Effect.flatMap(({ expiresAt, refreshed }) =>
        Effect.flatMap(Clock.currentTimeMillis, (now) =>
          Console.log(
            refreshed
              ? `Refreshed: the access token expires ${relative(expiresAt, now)}.`
              : `Not refreshed: the access token expires ${relative(expiresAt, now)}.` +
                  (force ? "" : " --force refreshes it all the same.")
          )
        )
      ),
      Effect.catchTag("ReauthorizationRequired", ({ message }) =>
        Effect.zipRight(Console.error(`cal-tokens: ${message}`), Operating.lookAtIt)
      ),
      Operating.orStartError,
      Effect.provide(
        services.pipe(
          Layer.provide(Ways.layer(proxies)),
          Layer.provideMerge(TokenConfig.layerChanged(config)),
          Layer.provideMerge(Logging.layer(log))
        )
      )
    )
  }).pipe(Operating.answering)
).pipe(Command.withDescription("Refresh a user's token that expires soon, or any with --force."))
