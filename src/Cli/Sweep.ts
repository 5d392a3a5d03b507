/** `cal-tokens sweep`: refreshes what is due by now, and ends. */
import { Command } from "@effect/cli"
import { Console, Duration, Effect, Layer } from "effect"
import * as Environment from "../Environment.js"
import * as Logging from "../Environment/Logging.js"
import * as Services from "../Environment/Services.js"
import * as Ways from "../Environment/Ways.js"
import * as RefreshAhead from "../RefreshAhead.js"
import * as TokenConfig from "../TokenConfig.js"

const sweep: Effect.Effect<void, Environment.StartError> = Effect.gen(function* () {
  const { cal, config, log, proxies } = yield* Effect.provide(Environment.loadServices, Logging.layerConfig)
  if (cal._tag === "Sandbox") {
    return yield* new Environment.StartError({
      message: "sweep needs a Cal.com client (CAL_CLIENT_ID or CAL_OAUTH_CLIENT_ID): the demo refreshes while it runs"
    })
  }
  const services = Services.layerCal(cal.database, cal.options).pipe(
    Layer.provide(Ways.layer(proxies)),
    Layer.provideMerge(TokenConfig.layerChanged(config)),
    Layer.provideMerge(Logging.layer(log))
  )
  const { failed, refreshed, resumeIn } = yield* RefreshAhead.sweep.pipe(
    Effect.mapError(({ message }) => new Environment.StartError({ message })),
    Effect.provide(services)
  )
  yield* Console.log(
    `${refreshed} refreshed, ${failed} not` +
      (failed === 0 ? "" : " (the log says why; they serve what they have)") +
      (resumeIn === undefined ? "" : `; the rest is left for Cal.com's rate limit, for ${Duration.format(resumeIn)}`)
  )
})

export const command = Command.make("sweep", {}, () => sweep).pipe(
  Command.withDescription("Refresh what is due by now, and end: for your own scheduler.")
)
