/** Our groups in an API of somebody else's: which of them it has, and their handlers for it. */
import type { HttpApi, HttpApiEndpoint, HttpApiGroup, HttpApiMiddleware, HttpRouter } from "@effect/platform"
import { Layer } from "effect"
import { Api } from "../Api.js"
import type { ApiKeys } from "../ApiKeys.js"
import { withoutSlashes } from "../CalHttp/CalPath.js"
import * as Access from "./Access.js"
import * as AccessTokens from "./AccessTokens.js"
import * as Atoms from "./Atoms.js"
import * as Audit from "./Audit.js"
import * as CallerLimits from "./CallerLimits.js"
import * as Connections from "./Connections.js"
import * as Events from "./Events.js"
import type * as Group from "./Group.js"
import * as Health from "./Health.js"
import * as ManagedUsersHttp from "./ManagedUsers.js"
import type { Lifecycle } from "./Lifecycle.js"
import * as Me from "./Me.js"
import * as Metrics from "./Metrics.js"
import * as OAuth from "./OAuth.js"
import * as Overview from "./Overview.js"
import * as Proxy from "./Proxy.js"
import * as PublicLookups from "./PublicLookups.js"
import type * as Root from "./Root.js"
import * as SessionsHttp from "./Sessions.js"
import * as Tokens from "./Tokens.js"
import * as Within from "./Within.js"

/** Our handlers, by the names of their groups. */
const handlers = {
  tokens: Tokens.layer,
  connections: Connections.layer,
  accessTokens: AccessTokens.layer,
  managedUsers: ManagedUsersHttp.layer,
  oauth: OAuth.layer,
  callback: OAuth.layerCallback,
  sessions: SessionsHttp.layer,
  atoms: Atoms.layer,
  events: Events.layer,
  overview: Overview.layer,
  health: Health.layer,
  metrics: Metrics.layer
}

/** All of them, for an API that has all groups of ours. */
export const all = (api: typeof Api) =>
  Layer.mergeAll(
    handlers.tokens(api),
    handlers.connections(api),
    handlers.accessTokens(api),
    handlers.managedUsers(api),
    handlers.oauth(api),
    handlers.callback(api),
    handlers.sessions(api),
    handlers.atoms(api),
    handlers.events(api),
    handlers.overview(api),
    handlers.health(api),
    handlers.metrics(api)
  ).pipe(Layer.provide(Access.layer))

type Needed<Name extends Group.Name> = Layer.Layer.Context<ReturnType<(typeof handlers)[Name]>>

/** What each server has of its own. */
const layerServer = Layer.mergeAll(Audit.layer, CallerLimits.layer, PublicLookups.layer)

type OfServer = Layer.Layer.Success<typeof layerServer>
type Keys = Layer.Layer.Success<typeof Access.layer>

type EndpointsOf<G> = HttpApiEndpoint.HttpApiEndpoint.Name<HttpApiGroup.HttpApiGroup.Endpoints<G>>
type Ours<Name extends string> = EndpointsOf<HttpApiGroup.HttpApiGroup.WithName<Group.Groups, Name>>

/** Of groups the names of those that are ours: a group of that name with other endpoints is not. */
export type NamesIn<G> = G extends HttpApiGroup.HttpApiGroup.Any
  ? HttpApiGroup.HttpApiGroup.Name<G> extends infer Name extends Group.Name
    ? [EndpointsOf<G>, Ours<Name>] extends [Ours<Name>, EndpointsOf<G>]
      ? Name
      : never
    : never
  : never

type Around<G, Name extends string> =
  | HttpApiGroup.HttpApiGroup.MiddlewareWithName<Extract<G, HttpApiGroup.HttpApiGroup.Any>, Name>
  | HttpApiMiddleware.HttpApiMiddleware.Only<
      HttpApiEndpoint.HttpApiEndpoint.Context<
        HttpApiGroup.HttpApiGroup.Endpoints<HttpApiGroup.HttpApiGroup.WithName<G, Name>>
      >
    >

/** What their handlers need: services of ours, and what the API has put around its groups. */
export type Needs<G> = Exclude<Needed<NamesIn<G>> | Around<G, NamesIn<G>> | ApiKeys | Lifecycle, OfServer | Keys>

interface Described {
  readonly endpoints: Readonly<Record<string, { readonly path: string }>>
}

const isSame = (theirs: Described, ours: Described) =>
  Object.keys(theirs.endpoints).sort().join() === Object.keys(ours.endpoints).sort().join()

/** What is in front of each path of ours in `group`. */
const placesOf = (group: Described, ours: Described) => {
  const roots = new Map(
    Object.entries(group.endpoints).map(([name, { path }]) => [
      path,
      path.slice(0, -(ours.endpoints[name]?.path ?? path).length)
    ])
  )
  return (path: HttpRouter.PathInput) => ({ path, root: roots.get(path) ?? "" })
}

const isName = (name: string): name is Group.Name => name in handlers

/** Handlers of all groups of ours that `api` has, on the router of whoever serves it. */
export const layer = <Id extends string, G extends HttpApiGroup.HttpApiGroup.Any, E, R>(
  api: HttpApi.HttpApi<Id, G, E, R>
): Layer.Layer<HttpApiGroup.ApiGroup<Id, NamesIn<G>>, never, Needs<G>> => {
  const described: Readonly<Record<string, Described>> = Api.groups
  const layers = Object.entries(api.groups as unknown as Readonly<Record<string, Described>>).flatMap(
    ([name, group]) => {
      const ours = described[name]
      return isName(name) && ours !== undefined && isSame(group, ours)
        ? [
            Within.layer(
              Layer.provide(handlersOf(name)(api as unknown as typeof Api), Access.layer),
              placesOf(group, ours)
            )
          ]
        : []
    }
  )
  return Layer.mergeAll(Layer.empty, ...layers).pipe(Layer.provide(layerServer)) as unknown as Layer.Layer<
    HttpApiGroup.ApiGroup<Id, NamesIn<G>>,
    never,
    Needs<G>
  >
}

/** Which of them it is, only the name knows. */
const handlersOf = (name: Group.Name) => handlers[name] as (api: typeof Api) => Layer.Layer<never, never, Keys>

/** The ways to Cal.com's API, which are no endpoints of the value, on the same router: below `prefix`. */
export const layerProxies = (prefix: Root.Path = "/") => {
  const root = withoutSlashes(prefix)
  return Within.layer(Layer.merge(Proxy.layer, Me.layer), (path) => ({
    root,
    path: `${root}${path}` as Root.Path
  })).pipe(Layer.provide(layerServer))
}
