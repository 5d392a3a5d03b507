/**
 * The whole service for a program on Node: over PostgreSQL, at the real Cal.com, in one layer. This is `cal-tokens/node`.
 */
import { Duration, Effect, Layer, Option, type Redacted } from "effect"
import type * as CalClient from "./CalClient.js"
import { defaultApiUrl } from "./CalClient/Requests.js"
import { Proxies } from "./CalHttp/Proxies.js"
import * as ConnectFlow from "./ConnectFlow.js"
import * as Environment from "./Environment.js"
import * as Services from "./Environment/Services.js"
import * as Variables from "./Environment/Variables.js"
import * as Ways from "./Environment/Ways.js"
import * as ManagedUsers from "./ManagedUsers.js"
import * as RefreshAhead from "./RefreshAhead.js"
import * as Sessions from "./Sessions.js"
import * as TokenConfig from "./TokenConfig.js"

export { layerApiHttp, layerTokenHttp } from "./CalHttp/Node.js"
export { type Options as ProxyOptions, Proxies } from "./CalHttp/Proxies.js"
export { StartError } from "./Environment.js"

/**
 * What the variables of the service say, as values.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options {
  readonly database: {
    /** `postgres://user:password@host:port/database?sslmode=verify-full`. */
    readonly url: Redacted.Redacted
    /** Past a pooler, to hear of other processes' writes at once. Default: `url`. */
    readonly directUrl?: Redacted.Redacted | undefined
    /** At most so many connections. Default 10. */
    readonly poolSize?: number | undefined
    /** Default 5 s. */
    readonly statementTimeout?: Duration.DurationInput | undefined
    /** Default 5 s. */
    readonly connectTimeout?: Duration.DurationInput | undefined
    /** For how long a database that is not up yet is tried again while the layer is built. Default 0. */
    readonly startWithin?: Duration.DurationInput | undefined
  }
  /** `id:base64(32 bytes)[,id:…]`: the first one writes, all read. */
  readonly encryptionKeys: Redacted.Redacted
  /** The clients, and where Cal.com is; default `https://api.cal.com/v2`. */
  readonly cal: Partial<CalClient.Options>
  /** Where the connect flow may send browsers back to. */
  readonly returnUrls?: ReadonlyArray<string> | undefined
  readonly proxies?: Proxies["Type"] | undefined
  /** Whether this process refreshes before anybody waits; not for one that is frozen between requests. Default: yes. */
  readonly refreshAhead?: boolean | undefined
}

const wired = (
  database: Environment.Database,
  options: CalClient.Options,
  more: {
    readonly proxies: Proxies["Type"]
    readonly returnUrls: ReadonlyArray<string>
    readonly refreshAhead: boolean
    readonly startWithin?: Duration.Duration
  }
) =>
  Layer.mergeAll(ConnectFlow.layer({ returnUrls: more.returnUrls }), ManagedUsers.layer, Sessions.layer).pipe(
    Layer.merge(more.refreshAhead ? RefreshAhead.layer : Layer.empty),
    Layer.provideMerge(Services.layerCal(database, options, { startWithin: more.startWithin })),
    Layer.provide(Layer.succeed(Proxies, more.proxies))
  )

/**
 * `CalTokens`, `CalApi` and what else a program asks for. Fails with one line for the person who starts it. The numbers of
 * the refresh rules are those of `TokenConfig` where this is built.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = ({
  cal,
  database,
  encryptionKeys,
  proxies = {},
  refreshAhead = true,
  returnUrls = []
}: Options) => {
  const { connectTimeout, directUrl, poolSize, startWithin, statementTimeout, url } = database
  const { DATABASE_CONNECT_TIMEOUT, DATABASE_POOL_SIZE, DATABASE_STATEMENT_TIMEOUT } = Variables.all
  return wired(
    Environment.Database.Postgres({
      url,
      directUrl: Option.fromNullable(directUrl),
      encryptionKeys,
      poolSize: poolSize ?? DATABASE_POOL_SIZE.default,
      statementTimeout: Duration.decode(statementTimeout ?? DATABASE_STATEMENT_TIMEOUT.default),
      connectTimeout: Duration.decode(connectTimeout ?? DATABASE_CONNECT_TIMEOUT.default)
    }),
    { ...cal, apiUrl: cal.apiUrl ?? defaultApiUrl },
    {
      proxies,
      returnUrls,
      refreshAhead,
      ...(startWithin === undefined ? {} : { startWithin: Duration.decode(startWithin) })
    }
  )
}

/**
 * The same by the variables of the service (`src/Environment/README.md`), API keys excepted. Without a client it fails: the demo
 * is for `npm start`.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerConfig = Layer.unwrapEffect(
  Effect.flatMap(Environment.loadServices, ({ cal, config, proxies, refreshAhead, returnUrls }) =>
    cal._tag === "Client"
      ? Effect.succeed(
          wired(cal.database, cal.options, { proxies, returnUrls, refreshAhead }).pipe(
            Layer.provide([TokenConfig.layerChanged(config), Ways.layerNames])
          )
        )
      : new Environment.StartError({
          message: "CAL_CLIENT_ID is required: the id of a platform client (or CAL_OAUTH_CLIENT_ID)"
        })
  )
)
