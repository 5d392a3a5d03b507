/** `cal-tokens capacity`: how many users one Cal.com client sustains, by the settings. */
import { Command } from "@effect/cli"
import { Console, Duration, Effect } from "effect"
import * as Capacity from "../RefreshAhead/Capacity.js"
import * as Environment from "../Environment.js"
import * as TokenConfig from "../TokenConfig.js"
import { number } from "./Numbers.js"

const capacity: Effect.Effect<void, Environment.StartError> = Effect.gen(function* () {
  const settings = yield* Environment.loadServices
  const config = TokenConfig.change(yield* TokenConfig.TokenConfig, settings.config)
  const { perMinute } = Capacity.of(config, Capacity.kinds[0].lifetime)
  yield* Console.log(
    [
      `Cal.com answers ${number(Capacity.callsPerMinute)} token calls of one client a minute. ${number(perMinute)} of them may be`,
      "refreshes that nobody waits for; the rest is for people who wait.",
      "",
      ...Capacity.kinds.map(({ kind, lifetime }) => {
        const { period, users } = Capacity.of(config, lifetime)
        const minutes = Math.round(Duration.toMinutes(period))
        return `  ${number(users).padStart(7)} ${kind} active at once, each refreshed every ${minutes} min or so`
      }),
      "",
      `Active is whose token was asked for within ${Duration.format(config.aheadActiveFor)} (CAL_TOKENS_ACTIVE_FOR).`,
      "Of others there may be any number. Beyond these figures refreshes come later,",
      "and at last people wait for theirs: more clients help (CAL_TOKENS_CLIENTS_FILE),",
      "or a shorter CAL_TOKENS_ACTIVE_FOR."
    ].join("\n")
  )
})

export const command = Command.make("capacity", {}, () => capacity).pipe(
  Command.withDescription("Tell how many users one Cal.com client sustains.")
)
