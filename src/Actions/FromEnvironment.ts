/** The layers of actions by the environment variables of the service. A module of its own, because it needs drivers. */
import { ConfigProvider, Effect, Layer } from "effect"
import type { CalApi } from "../CalApi.js"
import type { CalTokens } from "../CalTokens.js"
import * as Services from "../Cli/Services.js"
import * as Environment from "../Environment.js"

/** The HTTP service does not start without API keys. Actions have no door for them, so this one opens nothing. */
const withoutApiKeys = ConfigProvider.fromMap(new Map([["CAL_TOKENS_API_KEYS", `unused:${"-".repeat(32)}`]]))

const simulated = Effect.logWarning("No Cal.com client is configured (CAL_CLIENT_ID): Cal.com is simulated.")

export const layer: Layer.Layer<CalTokens | CalApi, Environment.StartError> = Environment.load.pipe(
  Effect.withConfigProvider(ConfigProvider.orElse(ConfigProvider.fromEnv(), () => withoutApiKeys)),
  Effect.map(({ cal }) =>
    Environment.Cal.$match(cal, {
      Client: ({ database, options }): Layer.Layer<CalTokens | CalApi, Environment.StartError> =>
        Services.layerCal(database, options),
      Sandbox: ({ database }) => Layer.merge(Layer.effectDiscard(simulated), Services.layerSandbox(database))
    })
  ),
  Layer.unwrapEffect
)
