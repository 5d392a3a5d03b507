/** The HTTP service over a real socket, on the real core, memory storage and the sandbox; time is the test clock's. */
import { HttpClient, HttpClientRequest } from "@effect/platform"
import { NodeHttpServer } from "@effect/platform-node"
import { Duration, Effect, Either, Layer, Logger, Option } from "effect"
import type * as CalApi from "../../src/CalApi.js"
import type * as CalClient from "../../src/CalClient.js"
import type * as CalTokens from "../../src/CalTokens.js"
import * as ConnectFlow from "../../src/ConnectFlow.js"
import * as FlowStorage from "../../src/FlowStorage.js"
import * as Http from "../../src/Http.js"
import * as KeyRing from "../../src/KeyRing.js"
import * as ApiKeys from "../../src/ApiKeys.js"
import * as Atoms from "../../src/Http/Atoms.js"
import * as Origins from "../../src/Http/Origins.js"
import * as Page from "../../src/Http/Page.js"
import * as AtomsTokens from "../../src/Http/AtomsTokens.js"
import * as ClientAddress from "../../src/Http/ClientAddress.js"
import * as Lifecycle from "../../src/Http/Lifecycle.js"
import * as CallerLimits from "../../src/Http/CallerLimits.js"
import type { TokenStorage } from "../../src/TokenStorage.js"
import * as World from "./World.js"

export const origin = "https://app.example.com"

export const keys = {
  all: "all-scopes-key-0123456789abcdefghijkl",
  manage: "manage-only-key-0123456789abcdefghij"
} as const

export interface Options {
  readonly origins?: ReadonlyArray<string>
  readonly proxies?: ReadonlyArray<string>
  readonly limits?: Partial<CallerLimits.Options>
  readonly session?: Atoms.AtomsSession["Type"]
  readonly atomsMaxAge?: Duration.DurationInput
  readonly flow?: ConnectFlow.Options
  /** Of sessions. Default: keys of its own. */
  readonly keyRing?: Layer.Layer<KeyRing.KeyRing>
  readonly logger?: Logger.Logger<unknown, void>
  /** Default: those of {@link keys}. */
  readonly apiKeys?: () => ReadonlyArray<ApiKeys.ApiKey>
  readonly served?: Pick<Http.Options, "prefix" | "publicUrl">
  readonly demo?: Page.DemoOptions
}

const apiKeys = Either.getOrThrow(
  ApiKeys.parse(`all:${keys.all}:manage+read-token+proxy+metrics,manage:${keys.manage}:manage`)
)

/** Everything; what is logged is not shown, unless there is a `logger`. */
export const layer = (options: Options = {}) => layerOn(World.layer(), options)

/** The same on another world. */
export const layerOn = <A, E, R>(
  world: Layer.Layer<A | CalApi.CalApi | CalClient.CalClient | CalTokens.CalTokens | TokenStorage, E, R>,
  options: Options = {}
) =>
  Http.layerWith(options.served ?? {}).pipe(
    Layer.provideMerge(NodeHttpServer.layerTest),
    Layer.provide(ApiKeys.layerReloading(options.apiKeys ?? (() => apiKeys))),
    Layer.provideMerge(Lifecycle.layer),
    Layer.provide([
      Layer.succeed(Origins.AllowedOrigins, options.origins ?? [origin]),
      Layer.succeed(ClientAddress.TrustedProxies, options.proxies ?? []),
      Layer.succeed(Page.Demo, Option.fromNullable(options.demo)),
      CallerLimits.layerConfig(options.limits ?? {}),
      options.atomsMaxAge === undefined
        ? Layer.empty
        : Layer.succeed(AtomsTokens.MaxAge, Duration.decode(options.atomsMaxAge)),
      options.session === undefined ? Layer.empty : Layer.succeed(Atoms.AtomsSession, options.session)
    ]),
    Layer.provide(ConnectFlow.layer(options.flow ?? {})),
    Layer.provide(FlowStorage.layerMemory),
    Layer.provide(options.keyRing ?? KeyRing.layerEphemeral),
    Layer.provideMerge(world),
    Layer.provide(Logger.replace(Logger.defaultLogger, options.logger ?? Logger.none))
  )

export interface Call {
  readonly method?: "GET" | "POST" | "PUT" | "DELETE" | "OPTIONS"
  readonly path: string
  readonly key?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: unknown
}

/** A request as curl would make it; an answer in JSON is parsed. */
export const call = ({ body, headers = {}, key, method = "GET", path }: Call) =>
  Effect.gen(function* () {
    const client = yield* HttpClient.HttpClient
    const request = HttpClientRequest.make(method)(path).pipe(
      HttpClientRequest.setHeaders({ ...(key === undefined ? {} : { authorization: `Bearer ${key}` }), ...headers }),
      body === undefined ? (self) => self : HttpClientRequest.bodyText(JSON.stringify(body), "application/json")
    )
    const response = yield* client.execute(request)
    const text = yield* response.text
    return {
      status: response.status,
      headers: response.headers,
      json: (text === "" ? undefined : JSON.parse(text)) as Readonly<Record<string, unknown>>
    }
  })
