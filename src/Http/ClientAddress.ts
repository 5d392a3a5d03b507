/** Where a request comes from, as far as that can be believed. */
import type { IncomingMessage } from "node:http"
import { isIP, isIPv6 } from "node:net"
import { type HttpServerRequest } from "@effect/platform"
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import { Context, Effect, Option } from "effect"
import proxyAddr from "proxy-addr"

/**
 * Addresses and networks whose `X-Forwarded-For` is believed.
 *
 * @since 0.1.0
 * @category references
 */
export class TrustedProxies extends Context.Reference<TrustedProxies>()("cal-tokens/Http/TrustedProxies", {
  defaultValue: (): ReadonlyArray<string> => []
}) {}

type Request = HttpServerRequest.HttpServerRequest

/** The whole address, for records. None: whoever took the request did not say. */
export const exact: Effect.Effect<(request: Request) => string | undefined> = Effect.map(TrustedProxies, (proxies) => {
  const isTrusted = proxyAddr.compile([...proxies])
  return (request) => {
    const source: Partial<IncomingMessage> = NodeHttpServerRequest.toIncomingMessage(request)
    const said = source.socket?.remoteAddress ?? Option.getOrUndefined(request.remoteAddress)
    const nearest = said === undefined ? said : plain(said)
    if (source.socket === undefined || proxies.length === 0) return nearest
    const forwarded = source.headers?.["x-forwarded-for"]
    const headers = {
      "x-forwarded-for": String(forwarded ?? "")
        .split(",")
        .map(withoutPort)
        .join(",")
    }
    const address = proxyAddr({ socket: source.socket, headers } as unknown as IncomingMessage, isTrusted)
    // Whatever a proxy passes on that is no address says nothing.
    return isIP(address) === 0 ? nearest : plain(address)
  }
})

/** How a trusted proxy in front was asked, as far as it says. Nobody else is believed. */
export const forwarded: Effect.Effect<
  (request: Request) => { readonly proto?: string | undefined; readonly host?: string | undefined }
> = Effect.map(TrustedProxies, (proxies) => {
  const isTrusted = proxyAddr.compile([...proxies])
  return (request) => {
    const { socket }: Partial<IncomingMessage> = NodeHttpServerRequest.toIncomingMessage(request)
    const nearest = socket?.remoteAddress
    if (nearest === undefined || !isTrusted(nearest, 0)) return {}
    const first = (name: string) => request.headers[name]?.split(",", 1)[0]?.trim().toLowerCase()
    return { proto: first("x-forwarded-proto"), host: first("x-forwarded-host") }
  }
})

/** Some proxies write the caller's port as well, and IPv6 in brackets. */
const withoutPort = (hop: string): string => {
  const [, bracketed, dotted] = /^\s*(?:\[([^\]]*)\]|(\d+\.\d+\.\d+\.\d+))(?::\d{1,5})?\s*$/.exec(hop) ?? []
  return bracketed ?? dotted ?? hop
}

/** The address to count requests by. All that have none are counted together. */
export const make: Effect.Effect<(request: Request) => string> = Effect.map(
  exact,
  (exact) => (request) => network(exact(request) ?? "unknown")
)

/** An address from a text of somebody's making, which may be nothing of the kind. */
export const read = (text: string): Option.Option<string> =>
  Option.filter(Option.some(plain(withoutPort(text).trim())), (address) => isIP(address) !== 0)

/** An IPv4 address as such, also where IPv6 carries it. */
const plain = (address: string): string => /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1] ?? address

/** One IPv4 address, or the /64 of an IPv6 address: whoever has one of its addresses has them all. */
export const network = (whole: string): string => {
  const address = plain(whole)
  if (!address.includes(":") || !isIPv6(address)) return address
  const [head = "", tail] = (address.split("%", 1)[0] ?? "").toLowerCase().split("::")
  const groups = (part: string) => part.split(":").filter((group) => group !== "")
  const written = groups(head)
  const missing = tail === undefined ? 0 : 8 - written.length - groups(tail).length
  const all = [...written, ...Array.from({ length: Math.max(0, missing) }, () => "0"), ...groups(tail ?? "")]
  return `${all
    .slice(0, 4)
    .map((group) => group.replace(/^0+(?=.)/, ""))
    .join(":")}::/64`
}
