/** Counts connections over which nobody asked anything for a while, and tells it when the process exits. */
import { subscribe } from "node:diagnostics_channel"
import { writeSync } from "node:fs"
import type { Socket } from "node:net"

/** In milliseconds. The service waits a second for a request; a timer of a process that was held up seems to be early. */
const patience = 500

export const reportAtExit = () => {
  const openedAt = new Map<Socket, number>()
  let silent = 0
  subscribe("net.server.socket", (message) => {
    const { socket } = message as { readonly socket: Socket }
    openedAt.set(socket, performance.now())
    socket.once("close", () => {
      const at = openedAt.get(socket)
      if (at !== undefined && performance.now() - at >= patience) silent++
      openedAt.delete(socket)
    })
  })
  subscribe("http.server.request.start", (message) => {
    openedAt.delete((message as { readonly socket: Socket }).socket)
  })
  process.once("exit", () => writeSync(1, `${JSON.stringify({ silent })}\n`))
}

/** How many it told of, in what the process wrote. */
export const reported = (output: string): number => Number(/^\{"silent":(\d+)\}$/m.exec(output)?.[1])
