/** The proxies between this process and the rest of the world, as `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` name them. */
import { Context, type Redacted } from "effect"

/**
 * Which proxies are used for what.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /** `http(s)://[user:password@]host[:port]`, for what is asked by `https`; without it, `httpProxy`. */
  readonly httpsProxy?: Redacted.Redacted | undefined
  /** The same for what is asked by `http`. */
  readonly httpProxy?: Redacted.Redacted | undefined
  /** Hosts that are reached directly, with all below them: `cal.internal,.example.com:8443`, or `*`. This machine always is. */
  readonly noProxy?: string | undefined
}

/**
 * For calls to Cal.com over `CalHttp/Node`, and for webhooks. Default: none.
 *
 * @since 0.1.0
 * @category references
 */
export class Proxies extends Context.Reference<Proxies>()("cal-tokens/CalHttp/Proxies", {
  defaultValue: (): Options => ({})
}) {}
