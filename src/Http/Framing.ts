/**
 * Requests that a server in front of this one could read differently, as far as Node takes them: it keeps the first of two
 * `Host` headers, and reads a body behind a `GET`, which others take for the next request.
 */
import type { IncomingMessage } from "node:http"

/** Of these there is one (RFC 9110, 5.3). Whoever judged another one judged another request. */
const single = ["host", "content-length", "transfer-encoding", "authorization", "content-type"] as const

/** Why this is no request, if it is none. */
export const problemOf = ({ headers, headersDistinct, method }: IncomingMessage): string | undefined => {
  const twice = single.find((name) => (headersDistinct[name]?.length ?? 0) > 1)
  if (twice !== undefined) return `must have one ${twice} header`
  const hasBody = headers["transfer-encoding"] !== undefined || !/^0*$/.test(headers["content-length"] ?? "")
  return (method === "GET" || method === "HEAD") && hasBody ? `must have no body with ${method}` : undefined
}
