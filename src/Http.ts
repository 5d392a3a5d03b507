/**
 * The HTTP service: handlers of the API value, the proxy beside it, and what holds for every request.
 *
 * The order of layers decides about start and stop. Services are built first and finalised last; the server listens
 * before the handlers are installed, within the same tick; requests drain before the server goes.
 */
import {
  type HttpApi,
  HttpApiBuilder,
  HttpMiddleware,
  HttpRouter,
  HttpServer,
  HttpServerRequest,
  HttpServerResponse,
  OpenApi
} from "@effect/platform"
import { Effect, FiberRef, Layer, Option } from "effect"
import { Api } from "./Api.js"
import { withoutSlashes } from "./CalHttp/CalPath.js"
import * as Alone from "./Http/Alone.js"
import * as Audit from "./Http/Audit.js"
import * as Documentation from "./Http/Documentation.js"
import * as Edge from "./Http/Edge.js"
import * as Groups from "./Http/Groups.js"
import * as Me from "./Http/Me.js"
import * as Origins from "./Http/Origins.js"
import * as Page from "./Http/Page.js"
import * as PageSession from "./Http/PageSession.js"
import * as PublicLookups from "./Http/PublicLookups.js"
import * as Proxy from "./Http/Proxy.js"
import * as CallerLimits from "./Http/CallerLimits.js"
import * as Root from "./Http/Root.js"
import * as RouteTable from "./Http/RouteTable.js"
import * as Tokens from "./Http/Tokens.js"
import * as Yours from "./Http/Yours.js"
import * as ManagedUsers from "./ManagedUsers.js"
import * as Sessions from "./Sessions.js"

/** All paths below it are ours, whatever is there. */
const area = "/api/cal/"

/**
 * Where a request's URL leads with us, without our prefix; nowhere if it is not ours. With neither an API beside ours nor a
 * prefix everything is.
 */
const placeOf = (routes: RouteTable.RouteTable, prefix: string, isAlone: boolean) =>
  prefix === ""
    ? Option.liftPredicate<string>((url) => isAlone || url.startsWith(area) || routes.has(url))
    : Root.below(prefix)

const serve = (prefix: string) =>
  Effect.gen(function* () {
    const app = yield* HttpApiBuilder.httpApp.pipe(
      HttpRouter.withRouterConfig(RouteTable.router),
      Effect.updateService(HttpApiBuilder.Router, (service) => ({
        ...service,
        router: Effect.map(service.router, HttpRouter.transform(Edge.routed))
      }))
    )
    const routes = RouteTable.make(yield* HttpApiBuilder.Router.router)
    const yours = yield* Yours.Yours
    const answered = yield* Alone.answered
    const place = placeOf(routes, prefix, Option.isNone(yours))
    if (Option.isSome(yours)) {
      const hidden = Yours.hidden(yours.value.routes, (path) => Option.isSome(place(path)))
      if (hidden.length > 0) {
        return yield* Effect.dieMessage(
          `cal-tokens has these paths of your API too: ${hidden.join(", ")}. Give it a prefix: Http.layerWith({ api, prefix: "/cal-tokens" })`
        )
      }
    }
    const ours = Edge.around(yield* Origins.cors(Edge.guard((yield* Tokens.shortcut)(app), routes)), routes)
    const nowhere = Edge.around(Edge.guard(Effect.map(Edge.noEndpoint, Edge.respond), RouteTable.none))
    const elsewhere = Option.match(yours, { onNone: () => nowhere, onSome: ({ app }) => app })

    const isTracedElsewhere = yield* FiberRef.get(HttpMiddleware.currentTracerDisabledWhen)
    const isOurs = ({ url }: HttpServerRequest.HttpServerRequest) => Option.isNone(yours) || Option.isSome(place(url))
    return Layer.scopedDiscard(
      HttpServer.serveEffect(
        Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) => {
          const word = answered(request)
          if (word !== undefined) return Effect.as(word, HttpServerResponse.empty())
          const url = Option.map(place(request.url), (url) => Page.entrance(request.method, url))
          if (Option.isNone(url)) return elsewhere
          return url.value === request.url
            ? ours
            : Effect.provideService(ours, HttpServerRequest.HttpServerRequest, Root.at(request, url.value))
        })
      )
    ).pipe(
      // The platform's span tells the whole URL; ours takes its place.
      HttpMiddleware.withTracerDisabledWhen((request) => isOurs(request) || isTracedElsewhere(request))
    )
  }).pipe(Layer.unwrapEffect)

/**
 * What is served, and where.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options<E1 = never, R1 = never, E2 = never, R2 = never> {
  /**
   * Your own API, with its handlers: `HttpApiBuilder.api(MyApi)` with the layers of all its groups, and whatever else you
   * would give to `HttpApiBuilder.serve`. What is not ours is answered by it, as `HttpApiBuilder.serve` would: with its own
   * 404, its own middleware, without our limits and headers. Paths that both have stop the start; a `prefix` parts them.
   */
  readonly api?: Layer.Layer<HttpApi.Api, E1, R1> | undefined
  /**
   * Routes that are added to this service, and all its rules hold for them: layers made with `HttpApiBuilder.Router.use`,
   * built for this server alone. `Access.protect` asks for an API key in front of them. They match exactly: escapes and the
   * like are taken below a route that ends in `*`, and by mounts.
   */
  readonly routes?: Layer.Layer<never, E2, R2> | undefined
  /** Where this service begins on its server, `/internal/tokens`: everything below it is ours. Default: at `/`. */
  readonly prefix?: Root.Path | undefined
  /**
   * Where callers find it, if that is somewhere else because a proxy in front adds or takes away a path: a path or a URL, for
   * the documentation. Default: `prefix`.
   */
  readonly publicUrl?: string | undefined
}

/**
 * Everything that is served, on whichever server there is: your API in the place of `HttpApiBuilder.serve`, and ours with it.
 *
 * ```ts
 * import { HttpApi, HttpApiBuilder, HttpApiEndpoint, HttpApiGroup } from "@effect/platform"
 * import * as Http from "cal-tokens/http"
 * import { Effect, Layer } from "effect"
 *
 * class Greetings extends HttpApiGroup.make("greetings").add(HttpApiEndpoint.get("hello", "/hello")) {}
 * class MyApi extends HttpApi.make("mine").add(Greetings) {}
 *
 * const MyGroups = HttpApiBuilder.group(MyApi, "greetings", (handlers) => handlers.handle("hello", () => Effect.void))
 *
 * export const served = Http.layerWith({
 *   api: Layer.provide(HttpApiBuilder.api(MyApi), MyGroups),
 *   prefix: "/tokens"
 * })
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layerWith = <E1 = never, R1 = never, E2 = never, R2 = never>(options: Options<E1, R1, E2, R2>) => {
  const prefix = withoutSlashes(options.prefix ?? "")
  const publicUrl = withoutSlashes(options.publicUrl ?? prefix)
  // Beside another API at the same root, what is at `/` is theirs.
  const hasPage = options.api === undefined || prefix !== ""
  const documented = Api.annotate(OpenApi.Servers, [
    { url: publicUrl === "" ? "/" : publicUrl, description: "This service" }
  ])
  return serve(prefix).pipe(
    Layer.provide(Documentation.layer),
    Layer.provide(HttpApiBuilder.api(documented)),
    Layer.provide([
      Groups.all(Api),
      Proxy.layer,
      Me.layer,
      // Theirs first: where they serve something at `/`, there is no page.
      Layer.provideMerge(Page.layer, options.routes ?? Layer.empty),
      HttpApiBuilder.middleware(Edge.decoded)
    ]),
    Layer.provide([HttpApiBuilder.Router.Live, HttpApiBuilder.Middleware.layer]),
    // The platform has one router for all who build an API; this one is for ours.
    Layer.fresh,
    // For ours alone: groups of ours in your API have no page.
    Layer.provide(hasPage ? PageSession.layer(options.publicUrl) : Layer.empty),
    Layer.provide(options.api === undefined ? Yours.layerNone : Yours.layer(options.api)),
    Layer.provide([ManagedUsers.layer, Sessions.layer]),
    Layer.provide([Audit.layer, CallerLimits.layer, PublicLookups.layer, Layer.succeed(Root.PublicUrl, publicUrl)]),
    Layer.provide(Alone.layer)
  )
}

/**
 * Everything that is served, with no routes besides.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = layerWith({})

/**
 * The handlers of all groups of ours that an API of yours has, by `addHttpApi(Api)` or one by one, whatever is in front of
 * their paths; you serve it. Each endpoint of ours keeps what holds for it elsewhere: keys, limits, JSON failures, its exact
 * path, request ids, no trace or access log of its URL. What nobody has is answered by your API. For Node's servers.
 *
 * @since 0.1.0
 * @category layers
 */
export const groups = Groups.layer

/**
 * The two ways to Cal.com's API, `/api/cal/proxy/` and `/api/cal/me/`, for the same API: they are no endpoints of a group.
 *
 * @since 0.1.0
 * @category layers
 */
export const proxies = Groups.layerProxies
