/** A proxy as companies have them: it opens tunnels by CONNECT, to whatever a name means to it, and can refuse or die. */
import { connect, createServer, type Socket } from "node:net"
import { Effect, type Scope } from "effect"

export type Mood =
  | "tunnel"
  /** Answers this instead, with words that look like Cal.com's. */
  | { readonly status: number; readonly body: string }
  /** Says nothing. */
  | "silent"
  /** Opens the tunnel, and is gone with the first bytes that come through it. */
  | "mortal"

export interface ConnectProxy {
  /** On 127.0.0.1. */
  readonly port: number
  /** What it was asked, from the first line to the empty one. */
  readonly heads: ReadonlyArray<string>
  readonly setMood: (mood: Mood) => void
}

/** `ports`: of this machine, by the authority that a client asks for (`api.cal.test:443`); others are answered 502. */
export const make = (ports: Readonly<Record<string, number>>): Effect.Effect<ConnectProxy, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.async<ConnectProxy & { readonly close: () => void }>((resume) => {
      const sockets: Array<Socket> = []
      const heads: Array<string> = []
      let mood: Mood = "tunnel"

      const answer = (client: Socket, head: string, rest: Buffer) => {
        const [, authority = ""] = /^CONNECT (\S+) HTTP\/1\.1\r\n/.exec(head) ?? []
        const port = ports[authority]
        if (mood === "silent") return
        if (typeof mood === "object" || port === undefined) {
          const { body, status } = typeof mood === "object" ? mood : { status: 502, body: "" }
          client.end(`HTTP/1.1 ${status} No\r\ncontent-length: ${body.length}\r\n\r\n${body}`)
          return
        }
        const opened = "HTTP/1.1 200 Connection established\r\n\r\n"
        if (mood === "mortal") {
          client.once("data", () => client.destroy())
          client.write(opened)
          return
        }
        const upstream = connect(port, "127.0.0.1")
        sockets.push(upstream)
        upstream.on("error", () => client.destroy()).on("close", () => client.destroy())
        client.on("close", () => upstream.destroy())
        upstream.write(rest)
        client.write(opened)
        client.pipe(upstream).pipe(client)
      }

      const server = createServer((client) => {
        sockets.push(client)
        client.on("error", () => client.destroy())
        let received = Buffer.alloc(0)
        const read = (bytes: Buffer) => {
          received = Buffer.concat([received, bytes])
          const end = received.indexOf("\r\n\r\n") + 4
          if (end < 4) return
          client.off("data", read)
          const head = received.subarray(0, end).toString("latin1")
          heads.push(head)
          answer(client, head, received.subarray(end))
        }
        client.on("data", read)
      })
      server.listen(0, "127.0.0.1", () => {
        const address = server.address()
        resume(
          Effect.succeed({
            port: typeof address === "object" && address !== null ? address.port : 0,
            heads,
            setMood: (next) => void (mood = next),
            close: () => {
              for (const socket of sockets) socket.destroy()
              server.close()
            }
          })
        )
      })
    }),
    ({ close }) => Effect.sync(close)
  )
