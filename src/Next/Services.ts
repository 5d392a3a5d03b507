/** What stands behind the handlers: the services of the process, and what a door of HTTP has besides. */
import { HttpMiddleware } from "@effect/platform"
import { Context, Effect, Exit, Layer, Runtime, Scope } from "effect"
import type { Backing, Open } from "../Actions/Backing.js"
import type { CalApi } from "../CalApi.js"
import type { CalClient } from "../CalClient.js"
import type { CalTokens } from "../CalTokens.js"
import * as ConnectFlow from "../ConnectFlow.js"
import type { FlowStorage } from "../FlowStorage.js"
import * as Atoms from "../Http/Atoms.js"
import * as Audit from "../Http/Audit.js"
import * as CallerLimits from "../Http/CallerLimits.js"
import * as Lifecycle from "../Http/Lifecycle.js"
import * as Me from "../Http/Me.js"
import * as PublicLookups from "../Http/PublicLookups.js"
import type { KeyRing } from "../KeyRing.js"
import * as Sessions from "../Sessions.js"
import type { TokenStorage } from "../TokenStorage.js"
import * as Site from "./Site.js"

/**
 * What the handlers need of a layer: `cal-tokens/node` and `cal-tokens/sandbox` have it all.
 *
 * @since 0.1.0
 * @category models
 */
export type Services = CalApi | CalClient | CalTokens | FlowStorage | KeyRing | TokenStorage

/** Of these there is one of each, however many requests come: they remember and count. */
export class Doors extends Context.Tag("cal-tokens/Next/Doors")<
  Doors,
  { readonly me: Effect.Effect.Success<typeof Me.make>; readonly renew: Effect.Effect.Success<typeof Atoms.make> }
>() {}

const layerDoor = (options: Site.Options) =>
  Layer.scoped(Doors, Effect.all({ me: Me.make, renew: Atoms.make })).pipe(
    Layer.provideMerge(
      Layer.mergeAll(
        Layer.unwrapEffect(Effect.map(Site.Site, ({ returnUrls }) => ConnectFlow.layer({ returnUrls }))),
        Sessions.layer,
        Audit.layer,
        CallerLimits.layer,
        PublicLookups.layer,
        Lifecycle.layer
      )
    ),
    Layer.provideMerge(Site.layer(options))
  )

export type All = Services | Layer.Layer.Success<ReturnType<typeof layerDoor>>

/** The services, shared as they are, with a door of one's own before them. */
export const open = <E>(base: Open<Services, E>, options: Site.Options): Open<All, E | string> =>
  Object.assign(
    async (): Promise<Backing<All, E | string>> => {
      const { leave, runtime } = await base()
      const scope = Effect.runSync(Scope.make())
      // What the services have of the same kind is not ours: whoever builds them says nothing of this app.
      const build = Layer.merge(Layer.context<Services>(), layerDoor(options)).pipe(
        Layer.toRuntime,
        Scope.extend(scope),
        // The platform's span would tell the whole URL, with code and state.
        Effect.locally(HttpMiddleware.currentTracerDisabledWhen, () => true)
      )
      return {
        runtime: runtime.then((exit) =>
          Exit.isSuccess(exit)
            ? Runtime.runPromiseExit(exit.value)(build)
            : Promise.resolve<Exit.Exit<Runtime.Runtime<All>, E | string>>(Exit.failCause(exit.cause))
        ),
        leave: async () => {
          await Effect.runPromise(Scope.close(scope, Exit.void))
          return leave()
        }
      }
    },
    { logging: base.logging }
  )
