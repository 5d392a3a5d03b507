/** Where a request comes from, as far as that can be believed. */
import type { IncomingMessage } from "node:http"
import { isIP, isIPv6 } from "node:net"
import { type HttpServerRequest } from "@effect/platform"
import { NodeHttpServerRequest } from "@effect/platform-node"
import { Context, Effect, Option } from "effect"
import proxyAddr from "proxy-addr"

/** Addresses and networks whose `X-Forwarded-For` is believed. */
export class TrustedProxies extends Context.Reference<TrustedProxies>()("cal-tokens/Http/TrustedProxies", {
  defaultValue: (): ReadonlyArray<string> => []
}) {}

/** The address to count requests by. */
export type ClientAddress = (request: HttpServerRequest.HttpServerRequest) => string

export const make: Effect.Effect<ClientAddress> = Effect.map(TrustedProxies, (proxies) => {
  const isTrusted = proxyAddr.compile([...proxies])
  return (request) => {
    const source: Partial<IncomingMessage> = NodeHttpServerRequest.toIncomingMessage(request)
    const nearest = source.socket?.remoteAddress ?? Option.getOrElse(request.remoteAddress, () => "unknown")
    if (source.socket === undefined || proxies.length === 0) return network(nearest)
    const address = proxyAddr(source as IncomingMessage, isTrusted)
    // Whatever a proxy passes on that is no address says nothing.
    return network(isIP(address) === 0 ? nearest : address)
  }
})

/** One IPv4 address, or the /64 of an IPv6 address: whoever has one of its addresses has them all. */
export const network = (address: string): string => {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1]
  if (mapped !== undefined) return mapped
  if (!isIPv6(address)) return address
  const [head = "", tail] = (address.split("%", 1)[0] ?? "").toLowerCase().split("::")
  const groups = (part: string) => part.split(":").filter((group) => group !== "")
  const written = groups(head)
  const missing = tail === undefined ? 0 : 8 - written.length - groups(tail).length
  const whole = [...written, ...Array.from({ length: Math.max(0, missing) }, () => "0"), ...groups(tail ?? "")]
  return `${whole
    .slice(0, 4)
    .map((group) => group.replace(/^0+(?=.)/, ""))
    .join(":")}::/64`
}
