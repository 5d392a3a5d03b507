/**
 * The two HTTP clients to Cal.com. They are two tags because they must not be mixed up: a token that is sent into an idle
 * connection which the other side has closed has an unknown outcome, and a request of the API that opens a connection of
 * its own each time is slow. `CalHttp/Node` has both for Node. Neither may retry or follow redirects.
 */
import * as HttpClient from "@effect/platform/HttpClient"
import { Context, Effect, Layer } from "effect"

/**
 * For token calls: no connection is used twice.
 *
 * @since 0.1.0
 * @category tags
 */
export class TokenHttp extends Context.Tag("cal-tokens/CalHttp/TokenHttp")<TokenHttp, HttpClient.HttpClient>() {}

/**
 * For requests with a user's token: connections may be kept and reused.
 *
 * @since 0.1.0
 * @category tags
 */
export class ApiHttp extends Context.Tag("cal-tokens/CalHttp/ApiHttp")<ApiHttp, HttpClient.HttpClient>() {}

/**
 * One client for both, and for whatever else asks for one. For a client without connections, such as a simulator inside the
 * process, or one that opens a new connection for each request.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerBoth = <E, R>(
  http: Layer.Layer<HttpClient.HttpClient, E, R>
): Layer.Layer<TokenHttp | ApiHttp | HttpClient.HttpClient, E, R> =>
  Layer.effectContext(
    Effect.map(HttpClient.HttpClient, (client) => Context.make(TokenHttp, client).pipe(Context.add(ApiHttp, client)))
  ).pipe(Layer.provideMerge(http))
