/** Ports for programs that have to be told one, and that may stop and start again on it. */
import { randomInt } from "node:crypto"
import { readFileSync } from "node:fs"
import { createServer } from "node:net"

/** Above the ports that services are known by. */
const lowest = 10_000

/** Linux' default, and below those of other systems. */
const usualFirst = 32_768

/**
 * The first port that the system hands out by itself, to whoever asks for any and to each outgoing connection: one of
 * those may belong to somebody else between the moment it is closed and the moment it is bound again.
 */
const firstOfSystem = (): number => {
  try {
    const first = Number.parseInt(readFileSync("/proc/sys/net/ipv4/ip_local_port_range", "utf8"), 10)
    // Where it hands out nearly all, there are no better ones.
    return first > lowest + 1000 ? first : usualFirst
  } catch {
    return usualFirst
  }
}

/** No two programs of this process are told the same, even while one of them is stopped. */
const told = new Set<number>()

/** A port of 127.0.0.1 that is free, and that the system gives to nobody who does not ask for this very one. */
export const freePort = async (): Promise<number> => {
  const count = firstOfSystem() - lowest
  for (let tries = 0; tries < 100; tries++) {
    // At random, for other processes choose at the same time.
    const port = lowest + randomInt(count)
    if (told.has(port) || !(await canBeBound(port))) continue
    told.add(port)
    return port
  }
  throw new Error(`there seems to be no free port from ${lowest} to ${lowest + count - 1}`)
}

const canBeBound = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const server = createServer()
    server.once("error", () => resolve(false))
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)))
  })
