/** Ports of this machine. */
import * as Net from "node:net"
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

/** A port for a program that cannot choose one itself. */
export const free: Effect.Effect<number> = Effect.scoped(
  Effect.flatMap(
    Effect.acquireRelease(
      Effect.sync(() => Net.createServer()),
      (server) => Effect.async<void>((resume) => void server.close(() => resume(Effect.void)))
    ),
    portOf
  )
)
