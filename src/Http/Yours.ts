/**
 * The API of the program around this service, on the same server. It is served as `HttpApiBuilder.serve` would serve it:
 * what is not ours never meets our limits, our headers, our log or our words.
 */
import { type HttpApi, HttpApiBuilder, type HttpApp, type HttpRouter } from "@effect/platform"
import { Context, Effect, Layer, Option } from "effect"
import type { Routes } from "./RouteTable.js"

export interface Service {
  readonly app: HttpApp.Default<never, HttpRouter.HttpRouter.DefaultServices>
  readonly routes: Routes
}

export class Yours extends Context.Tag("cal-tokens/Http/Yours")<Yours, Option.Option<Service>>() {}

export const layerNone: Layer.Layer<Yours> = Layer.succeed(Yours, Option.none())

/** Its router is the one that everybody shares; ours is our own. */
export const layer = <E, R>(api: Layer.Layer<HttpApi.Api, E, R>): Layer.Layer<Yours, E, R> =>
  Layer.effect(
    Yours,
    Effect.map(Effect.all([HttpApiBuilder.httpApp, HttpApiBuilder.Router.router]), ([app, routes]) =>
      Option.some({ app, routes })
    )
  ).pipe(Layer.provide(api), Layer.provide([HttpApiBuilder.Router.Live, HttpApiBuilder.Middleware.layer]))

/**
 * Of `yours`, what would never be asked, because `isOurs` comes first.
 */
export const hidden = ({ mounts, routes }: Routes, isOurs: (path: string) => boolean): ReadonlyArray<string> => [
  ...Array.from(routes)
    .filter(({ path }) => isOurs(path))
    .map(({ method, path }) => `${method} ${path}`),
  ...Array.from(mounts, ([prefix]) => prefix)
    .filter((prefix) => isOurs(prefix) || isOurs(`${prefix}/`))
    .map((prefix) => `${prefix}/`)
]
