/** A token endpoint that answers after a while, for whoever asks. Nothing of ours is in here. */
import * as Http from "node:http"
import type { AddressInfo } from "node:net"

/** Signed by nobody; as long as Cal.com's. */
const token = (type: "access_token" | "refresh_token", n: number, length: number): string => {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url")
  const head = part({ alg: "HS256", typ: "JWT" })
  return `${head}.${part({ token_type: type, clientId: "client", n })}.`.padEnd(length, "x")
}

export interface TokenServer {
  readonly url: string
  /** How many refreshes there were so far. */
  readonly count: () => number
  readonly close: () => Promise<void>
}

/** `latency` in milliseconds. */
export const start = async (latency: number): Promise<TokenServer> => {
  let refreshes = 0
  const server = Http.createServer((request, response) => {
    request.resume()
    const n = ++refreshes
    // A server of its own: nobody's clock is simulated here.
    // eslint-disable-next-line no-restricted-globals
    setTimeout(() => {
      response.setHeader("content-type", "application/json")
      response.end(
        JSON.stringify({
          access_token: token("access_token", n, 330),
          refresh_token: token("refresh_token", n, 420),
          token_type: "bearer",
          expires_in: 1800
        })
      )
    }, latency)
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  const { port } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}`,
    count: () => refreshes,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      })
  }
}
