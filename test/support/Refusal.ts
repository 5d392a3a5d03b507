/** A pooler that turns every connection away, in the words given. */
import { createServer, type Socket } from "node:net"
import { Effect, type Scope } from "effect"

/** Its port on 127.0.0.1, until the scope ends. */
export const make = (code: string, message: string): Effect.Effect<number, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.promise(
        () =>
          new Promise<{ readonly port: number; readonly close: () => void }>((resolve) => {
            const sockets = new Set<Socket>()
            const server = createServer((socket) => {
              sockets.add(socket)
              socket.on("error", () => socket.destroy()).once("data", () => socket.end(fatal(code, message)))
            })
            server.listen(0, "127.0.0.1", () => {
              const address = server.address()
              resolve({
                port: typeof address === "object" && address !== null ? address.port : 0,
                close: () => {
                  for (const socket of sockets) socket.destroy()
                  server.close()
                }
              })
            })
          })
      ),
      ({ close }) => Effect.sync(close)
    ),
    ({ port }) => port
  )

/** An ErrorResponse, as the protocol has it. */
const fatal = (code: string, message: string): Buffer => {
  const fields = Buffer.from([`SFATAL`, `VFATAL`, `C${code}`, `M${message}`, ""].map((field) => `${field}\0`).join(""))
  const head = Buffer.alloc(5)
  head.write("E")
  head.writeInt32BE(fields.length + 4, 1)
  return Buffer.concat([head, fields])
}
