/**
 * Requests that a server in front of this one could read differently, as far as Node takes them: it keeps the first of two
 * `Host` headers, and reads a body behind a `GET`, which others take for the next request.
 */
import type { IncomingMessage } from "node:http"

/** Of these there is one (RFC 9110, 5.3). Whoever judged another one judged another request. */
const single = new Set(["host", "content-length", "transfer-encoding", "authorization", "content-type"])

/** Why this is no request, if it is none. */
export const problemOf = ({ headers, method, rawHeaders }: IncomingMessage): string | undefined => {
  const twice = firstTwice(rawHeaders)
  if (twice !== undefined) return `must have one ${twice} header`
  const hasBody = headers["transfer-encoding"] !== undefined || !/^0*$/.test(headers["content-length"] ?? "")
  return (method === "GET" || method === "HEAD") && hasBody ? `must have no body with ${method}` : undefined
}

/** Names and values take turns. */
const firstTwice = (rawHeaders: ReadonlyArray<string>): string | undefined => {
  const seen = new Set<string>()
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at]?.toLowerCase() ?? ""
    if (!single.has(name)) continue
    if (seen.has(name)) return name
    seen.add(name)
  }
  return undefined
}
