/** HTTP clients for Node: one for token calls, one for everything else. Neither follows redirects. */
import { Effect, Layer } from "effect"
import { HttpClient } from "@effect/platform"
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import * as Undici from "@effect/platform-node/Undici"
import { notConnected } from "./Transport.js"

/** How long DNS, TCP and TLS together may take, in milliseconds. */
const connectTimeout = 5000

/** A connector whose failures say that nothing was sent, whatever code they have. */
const connector = (): Undici.buildConnector.connector => {
  const connect = Undici.buildConnector({ timeout: connectTimeout })
  return (options, callback) =>
    connect(options, (...[error, socket]: Parameters<Undici.buildConnector.Callback>) =>
      error === null ? callback(null, socket) : callback(Object.assign(error, { [notConnected]: true }), null)
    )
}

const layer = (options: Undici.Agent.Options): Layer.Layer<HttpClient.HttpClient> =>
  Layer.scoped(
    HttpClient.HttpClient,
    Effect.map(
      Effect.acquireRelease(
        Effect.sync(() => new Undici.Agent({ ...options, connect: connector() })),
        (agent) => Effect.promise(() => agent.destroy())
      ),
      NodeHttpClient.makeUndici
    )
  )

/**
 * For token calls: a new connection for each. An idle one may have been closed by the other side unnoticed, and a token
 * sent into it would have an unknown outcome.
 */
export const layerTokenHttp: Layer.Layer<HttpClient.HttpClient> = layer({ pipelining: 0 })

/** For API requests: connections are kept alive and reused, with one request at a time on each. */
export const layerApiHttp: Layer.Layer<HttpClient.HttpClient> = layer({ pipelining: 1 })
