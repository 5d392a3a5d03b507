/** The services of actions by the environment variables of the service. A module of its own, because it needs drivers. */
import { Effect, Layer, ModuleVersion, type Runtime } from "effect"
import type { CalApi } from "../CalApi.js"
import type { CalClient } from "../CalClient.js"
import type { CalTokens } from "../CalTokens.js"
import * as ConnectFlow from "../ConnectFlow.js"
import * as Environment from "../Environment.js"
import * as Logging from "../Environment/Logging.js"
import * as Services from "../Environment/Services.js"
import * as Ways from "../Environment/Ways.js"
import * as ManagedUsers from "../ManagedUsers.js"
import * as Sessions from "../Sessions.js"
import * as TokenConfig from "../TokenConfig.js"
import type { FlowStorage } from "../FlowStorage.js"
import type { KeyRing } from "../KeyRing.js"
import type { TokenStorage } from "../TokenStorage.js"
import * as Backing from "./Backing.js"
import * as Numbers from "./Numbers.js"

export type All =
  | CalTokens
  | CalApi
  | CalClient
  | FlowStorage
  | KeyRing
  | TokenStorage
  | ConnectFlow.ConnectFlow
  | ManagedUsers.ManagedUsers
  | Sessions.Sessions

const simulated = Effect.logWarning("No Cal.com client is configured (CAL_CLIENT_ID): Cal.com is simulated.")

const layer = (numbers: Numbers.Numbers): Layer.Layer<All, Environment.StartError | string> =>
  Environment.loadServices.pipe(
    Effect.map(({ cal, config, proxies, returnUrls }) =>
      Layer.mergeAll(ConnectFlow.layer({ returnUrls }), ManagedUsers.layer, Sessions.layer).pipe(
        Layer.provideMerge(
          Environment.Cal.$match(cal, {
            Client: ({ database, options }) => Layer.provide(Services.layerCal(database, options), Ways.layer(proxies)),
            Sandbox: ({ database }) => Layer.merge(Layer.effectDiscard(simulated), Services.layerSandbox(database))
          })
        ),
        Layer.provideMerge(Layer.provideMerge(Numbers.layer(numbers), TokenConfig.layerChanged(config)))
      )
    ),
    Layer.unwrapEffect
  )

export const logging = (): Promise<Runtime.Runtime<never>> =>
  Effect.runPromise(Effect.scoped(Layer.toRuntime(Logging.layerConfig)))

/** Goes up when services of the release before cannot be shared with those of this one. */
const format = 3

/** One pool, one listener, one lock for all instances of a process, as long as variables and numbers are the same. */
export const open = (numbers: Numbers.Numbers): Promise<Backing.Backing<All, Environment.StartError | string>> =>
  Promise.resolve(
    Backing.shared(
      `${format} ${ModuleVersion.getCurrentVersion()} ${Environment.fingerprint()} ${Numbers.keyOf(numbers)}`,
      Backing.own(Layer.provideMerge(layer(numbers), Logging.layerConfig))
    )
  )
