/** Ports of this machine. */
import type * as Net from "node:net"
import { Effect } from "effect"

/** Lets a server listen on a free port. */
export const portOf = (server: Net.Server): Effect.Effect<number> =>
  Effect.async((resume) => {
    server.listen(0, "127.0.0.1", () => {
      const address = server.address()
      resume(
        typeof address === "object" && address !== null
          ? Effect.succeed(address.port)
          : Effect.dieMessage("the server has no port")
      )
    })
  })
