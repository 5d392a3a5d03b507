/** A connection in between that can stop passing anything on, as a broken network does. */
import { connect, createServer, type Socket } from "node:net"
import { Effect, type Scope } from "effect"

export interface SilentProxy {
  /** On 127.0.0.1. */
  readonly port: number
  readonly silence: () => void
  /** Helps new connections only. */
  readonly heal: () => void
  /** Breaks all connections, and tells both sides. */
  readonly reset: () => void
  /** How many connections there have been. */
  readonly opened: () => number
}

/** A proxy for a port of this machine, until the scope ends. */
export const make = (port: number): Effect.Effect<SilentProxy, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.promise(
      () =>
        new Promise<SilentProxy & { readonly close: () => void }>((resolve) => {
          const sockets: Array<Socket> = []
          let silent = false
          let opened = 0
          const server = createServer((client) => {
            const upstream = connect(port, "127.0.0.1")
            opened++
            sockets.push(client, upstream)
            for (const [from, to] of [
              [client, upstream],
              [upstream, client]
            ] as const) {
              from.on("error", () => to.destroy())
              from.on("close", () => to.destroy())
              if (!silent) from.pipe(to)
            }
          })
          server.listen(0, "127.0.0.1", () => {
            const address = server.address()
            resolve({
              port: typeof address === "object" && address !== null ? address.port : 0,
              silence: () => {
                silent = true
                for (const socket of sockets) socket.unpipe().pause()
              },
              heal: () => (silent = false),
              reset: () => {
                for (const socket of sockets.splice(0)) socket.resetAndDestroy()
              },
              opened: () => opened,
              close: () => {
                for (const socket of sockets) socket.destroy()
                server.close()
              }
            })
          })
        })
    ),
    (proxy) => Effect.sync(proxy.close)
  )
