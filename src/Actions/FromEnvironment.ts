/** The services of actions by the environment variables of the service. A module of its own, because it needs drivers. */
import { Effect, Layer, ModuleVersion } from "effect"
import type { CalApi } from "../CalApi.js"
import { Proxies } from "../CalHttp/Proxies.js"
import type { CalTokens } from "../CalTokens.js"
import * as Environment from "../Environment.js"
import * as Services from "../Environment/Services.js"
import * as Backing from "./Backing.js"

const simulated = Effect.logWarning("No Cal.com client is configured (CAL_CLIENT_ID): Cal.com is simulated.")

const layer: Layer.Layer<CalTokens | CalApi, Environment.StartError> = Environment.loadServices.pipe(
  Effect.map(({ cal, proxies }) =>
    Environment.Cal.$match(cal, {
      Client: ({ database, options }): Layer.Layer<CalTokens | CalApi, Environment.StartError> =>
        Layer.provide(Services.layerCal(database, options), Layer.succeed(Proxies, proxies)),
      Sandbox: ({ database }) => Layer.merge(Layer.effectDiscard(simulated), Services.layerSandbox(database))
    })
  ),
  Layer.unwrapEffect
)

/** Goes up when services of the release before cannot be shared with those of this one. */
const format = 1

/** One pool, one listener, one lock for all instances of a process, as long as the variables are the same. */
export const open: Backing.Open<CalTokens | CalApi, Environment.StartError> = () =>
  Promise.resolve(
    Backing.shared(`${format} ${ModuleVersion.getCurrentVersion()} ${Environment.fingerprint()}`, Backing.own(layer))
  )
