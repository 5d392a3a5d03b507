/** A token endpoint that answers after a while, for whoever asks. Nothing of ours is in here. */
import * as Http from "node:http"
import type { AddressInfo } from "node:net"

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
          access_token: `access-${n}`.padEnd(330, "a"),
          refresh_token: `refresh-${n}`.padEnd(420, "r"),
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
