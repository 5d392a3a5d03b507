/**
 * Our endpoints within the API of another program, which is served by that program: each brings along what holds for it,
 * whatever is around it. What nobody has is that program's to answer.
 */
import {
  HttpApiBuilder,
  type HttpApp,
  HttpMiddleware,
  HttpRouter,
  HttpServerError,
  HttpServerRequest,
  HttpServerRespondable,
  HttpServerResponse
} from "@effect/platform"
import { Context, Effect, Layer, Option, type Scope } from "effect"
import { Api } from "../Api.js"
import * as Atoms from "../Api/Atoms.js"
import { mePath } from "../Api/Sessions.js"
import type { CallerLimits } from "./CallerLimits.js"
import * as Edge from "./Edge.js"
import type { Lifecycle } from "./Lifecycle.js"
import * as Origins from "./Origins.js"
import { proxyPath } from "./Proxy.js"
import * as Root from "./Root.js"
import * as RouteTable from "./RouteTable.js"

/** Ours, where they are when nothing is in front of them. That a router takes more for the same is no reason to. */
const all = RouteTable.make({
  routes: [
    ...Object.values<{
      readonly endpoints: Readonly<Record<string, { readonly method: string; readonly path: string }>>
    }>(Api.groups).flatMap(({ endpoints }) => Object.values(endpoints)),
    { method: "*", path: `${proxyPath}*` },
    { method: "*", path: `${mePath}*` }
  ],
  mounts: []
})
const exactly: RouteTable.RouteTable = { ...all, isExact: all.has }

type Services = HttpRouter.HttpRouter.DefaultServices
type Handler = HttpRouter.Route<unknown, Services>

/** What a router provides its handlers with. */
type Requested =
  | HttpRouter.RouteContext
  | HttpServerRequest.HttpServerRequest
  | HttpServerRequest.ParsedSearchParams
  | Scope.Scope
  | Services

/** Routes as a layer adds them, to nobody's router. */
class Added extends Context.Tag("cal-tokens/Http/Within")<Added, ReadonlyArray<Handler>>() {}

const adding = <A, E, R>(layer: Layer.Layer<A, E, R>): Layer.Layer<Added, E, R> =>
  Layer.effect(
    Added,
    Effect.map(HttpApiBuilder.Router.router, ({ routes }): ReadonlyArray<Handler> => Array.from(routes))
  ).pipe(Layer.provide(layer), Layer.provide(HttpApiBuilder.Router.Live), Layer.fresh)

/** What holds for our requests. What fails and is none of our failures is passed on: it is of a middleware around ours. */
const guarded = <R>(handler: HttpApp.Default<unknown, R>) =>
  Effect.suspend(() => {
    let foreign = Option.none<unknown>()
    const app = Effect.catchAll(handler, (error) =>
      Effect.sync(() => {
        foreign = Option.some(error)
        return HttpServerResponse.empty()
      })
    )
    return Origins.cors(Edge.guard(app, exactly)).pipe(
      Effect.flatMap((app) => HttpMiddleware.withLoggerDisabled(Edge.around(app))),
      Effect.flatMap((response) =>
        Option.match(foreign, { onNone: () => Effect.succeed(response), onSome: Effect.fail })
      )
    )
  })

/** Where a route is in the program's router: with what in front of its path here. */
interface Place {
  readonly root: string
  readonly path: HttpRouter.PathInput
}

/** Adds the routes of `layer` to the program's router, and what holds for them. */
export const layer = <A, E, R>(
  layer: Layer.Layer<A, E, R>,
  placeOf: (path: HttpRouter.PathInput) => Place
): Layer.Layer<never, E, R | CallerLimits | Lifecycle> =>
  HttpApiBuilder.Router.use((router) =>
    Effect.gen(function* () {
      const routes = Array.from(yield* Added, (route) => ({ ...placeOf(route.path), route }))
      const context = yield* Effect.context<CallerLimits | Lifecycle>()
      const encoding = yield* HttpApiBuilder.buildMiddleware(Api)
      const roots = new Set(routes.map(({ root }) => root))
      const isOurs = ({ url }: HttpServerRequest.HttpServerRequest) =>
        [...roots].some((root) => Option.exists(Root.below(root)(url), all.has))
      // A server's span and log line tell the whole URL, and that of the callback holds a code.
      yield* Effect.locallyScopedWith(
        HttpMiddleware.currentTracerDisabledWhen,
        (before) => (request) => isOurs(request) || before(request)
      )
      for (const { path, root, route } of routes) {
        const below = Root.below(root)
        const handler = Effect.flatMap(Effect.context<Requested>(), (requested) =>
          encoding(
            Effect.provide(
              Edge.routed(Edge.decoded(Effect.flatMap(route.handler, HttpServerRespondable.toResponse))),
              requested
            )
          )
        )
        const app = Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) =>
          Option.match(below(request.url), {
            onNone: () => Effect.fail(new HttpServerError.RouteNotFound({ request })),
            onSome: (url) =>
              guarded(handler).pipe(
                Effect.provideService(HttpServerRequest.HttpServerRequest, Root.at(request, url)),
                Effect.mapInputContext((input: Context.Context<Requested>) => Context.merge(context, input))
              )
          })
        )
        yield* router.addRoute(
          HttpRouter.makeRoute(route.method, path, app, { uninterruptible: route.uninterruptible })
        )
        if (path === `${root}${Atoms.path}`) yield* router.options(path, app)
      }
    })
  ).pipe(Layer.provide(adding(layer)))
