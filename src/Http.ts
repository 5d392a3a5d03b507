/**
 * The HTTP service: handlers of the API value, the proxy beside it, and what holds for every request.
 *
 * The order of layers decides about start and stop. Services are built first and finalised last; the server listens
 * before the handlers are installed, within the same tick; requests drain before the server goes.
 */
import { HttpApiBuilder, HttpMiddleware, HttpRouter, HttpServer } from "@effect/platform"
import { Effect, Layer } from "effect"
import { Api } from "./Api.js"
import * as Access from "./Http/Access.js"
import * as AccessTokens from "./Http/AccessTokens.js"
import * as Atoms from "./Http/Atoms.js"
import * as Audit from "./Http/Audit.js"
import * as Connections from "./Http/Connections.js"
import * as Documentation from "./Http/Documentation.js"
import * as Edge from "./Http/Edge.js"
import * as Events from "./Http/Events.js"
import * as Health from "./Http/Health.js"
import * as ManagedUsersHttp from "./Http/ManagedUsers.js"
import * as Metrics from "./Http/Metrics.js"
import * as Me from "./Http/Me.js"
import * as OAuth from "./Http/OAuth.js"
import * as Origins from "./Http/Origins.js"
import * as PublicLookups from "./Http/PublicLookups.js"
import * as Proxy from "./Http/Proxy.js"
import * as CallerLimits from "./Http/CallerLimits.js"
import * as RequestId from "./Http/RequestId.js"
import * as RouteTable from "./Http/RouteTable.js"
import * as SessionsHttp from "./Http/Sessions.js"
import * as Tokens from "./Http/Tokens.js"
import * as ManagedUsers from "./ManagedUsers.js"
import * as Sessions from "./Sessions.js"

const groups = Layer.mergeAll(
  Tokens.layer,
  Connections.layer,
  AccessTokens.layer,
  Layer.provide(ManagedUsersHttp.layer, ManagedUsers.layer),
  OAuth.layer,
  SessionsHttp.layer,
  Atoms.layer,
  Events.layer,
  Health.layer,
  Metrics.layer
).pipe(Layer.provide(Access.layer))

const serve = Effect.gen(function* () {
  const app = yield* HttpRouter.withRouterConfig(HttpApiBuilder.httpApp, RouteTable.router)
  const routes = RouteTable.make(yield* HttpApiBuilder.Router.router)
  const guarded = yield* Origins.cors(Edge.guard(app, routes))
  return HttpServer.serve(RequestId.named(Edge.traced(guarded))).pipe(
    // The platform's span tells the whole URL; ours takes its place.
    HttpMiddleware.withTracerDisabledWhen(() => true)
  )
}).pipe(Layer.unwrapEffect)

/**
 * Routes besides those of this module: layers made with `HttpApiBuilder.Router.use`. `Access.protect` asks for an API key
 * in front of them. They match exactly: escapes and the like are taken below a route that ends in `*`, and by mounts.
 */
export interface Options<E, R> {
  readonly routes: Layer.Layer<never, E, R>
}

/** Everything that is served, on whichever server there is. */
export const layerWith = <E, R>({ routes }: Options<E, R>) =>
  serve.pipe(
    Layer.provide(Documentation.layer),
    Layer.provide(HttpApiBuilder.api(Api)),
    Layer.provide([groups, Proxy.layer, Me.layer, routes, HttpApiBuilder.middleware(Edge.decoded)]),
    Layer.provide(Sessions.layer),
    Layer.provide([
      HttpApiBuilder.Router.Live,
      HttpApiBuilder.Middleware.layer,
      Audit.layer,
      CallerLimits.layer,
      PublicLookups.layer
    ])
  )

export const layer = layerWith({ routes: Layer.empty })
