/**
 * HTTP clients for Node: one for token calls, one for everything else. Neither follows redirects.
 *
 * Through a proxy both ask for a tunnel (CONNECT), for `http` too: what a proxy answers comes before anything is sent then,
 * and can never be taken for Cal.com's words; and no proxy but one that takes TLS apart sees a token.
 */
import { Effect, Layer, Redacted, type Scope } from "effect"
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import * as Undici from "@effect/platform-node/Undici"
import * as Exchange from "./Exchange.js"
import { ApiHttp, TokenHttp } from "./HttpClients.js"
import * as Opening from "./Opening.js"
import { Proxies } from "./Proxies.js"
import { exchange, notConnected, opening, reasonOf, type Through, throughProxy } from "./Transport.js"

/** How long DNS, TCP and TLS together may take, in milliseconds; through a proxy, each of the way to it, CONNECT and TLS. */
const connectTimeout = 5000

/** `http` is for this machine because nothing leaves it. */
const thisMachine = "localhost,127.0.0.1,[::1]"

/** A connector whose failures say that nothing was sent, whatever code they have. */
const saying =
  (connect: Undici.buildConnector.connector, isTunnel: boolean, through?: Through): Undici.buildConnector.connector =>
  (options, callback) =>
    connect(options, (...[error, socket]: Parameters<Undici.buildConnector.Callback>) => {
      if (error === null) return callback(null, socket)
      const said = isTunnel ? ofTunnel(error) : reasonOf(error)
      callback(Object.assign(error, { [notConnected]: said, [throughProxy]: through }), null)
    })

const ofTunnel = (error: Error) => {
  const [, status] = /^Proxy response \((\d{3})\)/.exec(error.message) ?? []
  return status === undefined ? `through the proxy: ${reasonOf(error)}` : `the proxy answered ${status} to CONNECT`
}

const text = (proxy: Redacted.Redacted | undefined) => (proxy === undefined ? "" : Redacted.value(proxy))

/** Which proxy is used for an origin, where one is. */
const proxyFor = (origin: string | URL, { httpProxy, httpsProxy }: Proxies["Type"]): Through | undefined => {
  const isHttps = text(httpsProxy) !== "" && new URL(origin).protocol === "https:"
  const proxy = text(isHttps ? httpsProxy : httpProxy)
  return URL.canParse(proxy)
    ? { proxy: new URL(proxy).origin, option: isHttps ? "httpsProxy" : "httpProxy" }
    : undefined
}

/** Connections to other servers, by the proxies at hand, until the scope ends. */
export const dispatcher = (options: Undici.Agent.Options): Effect.Effect<Undici.Dispatcher, never, Scope.Scope> =>
  Effect.flatMap(Proxies, (proxies) => {
    const { httpProxy, httpsProxy, noProxy } = proxies
    const direct = Undici.buildConnector({ timeout: connectTimeout })
    const all: Undici.Agent.Options = {
      ...options,
      connect: direct,
      // Where a proxy is used its agent puts a connector of its own in place of ours.
      factory: (origin, { connect, ...rest }: { readonly connect?: Undici.buildConnector.connector }) => {
        const isTunnel = connect !== direct
        const through = isTunnel ? proxyFor(origin, proxies) : undefined
        return new Undici.Pool(origin, { ...rest, connect: saying(connect ?? direct, isTunnel, through) })
      }
    }
    const make = () =>
      httpProxy === undefined && httpsProxy === undefined
        ? new Undici.Agent(all)
        : new Undici.EnvHttpProxyAgent({
            ...all,
            // An absent one would be looked up in the environment.
            httpProxy: text(httpProxy),
            httpsProxy: text(httpsProxy),
            noProxy: noProxy === "*" ? "*" : `${thisMachine},${noProxy ?? ""}`,
            clientFactory: (proxy, rest) => new Undici.Pool(proxy, { ...rest, headersTimeout: connectTimeout }),
            proxyTls: { timeout: connectTimeout },
            requestTls: { timeout: connectTimeout }
          })
    return Effect.acquireRelease(Effect.sync(make), (agent) => Effect.promise(() => agent.destroy()))
  })

/**
 * For token calls: a new connection for each. An idle one may have been closed by the other side unnoticed, and a token
 * sent into it would have an unknown outcome.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerTokenHttp: Layer.Layer<TokenHttp> = Layer.scoped(
  TokenHttp,
  Effect.map(dispatcher({ pipelining: 0 }), (agent) =>
    Object.assign(NodeHttpClient.makeUndici(agent), { [exchange]: Exchange.make(agent) })
  )
)

/**
 * For API requests: connections are kept alive and reused, with one request at a time on each.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerApiHttp: Layer.Layer<ApiHttp> = Layer.scoped(
  ApiHttp,
  Effect.map(dispatcher({ pipelining: 1 }), (agent) =>
    Object.assign(NodeHttpClient.makeUndici(agent), { [opening]: Opening.make(agent) })
  )
)
