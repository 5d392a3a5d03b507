/** Requests from many connections, and the processes that answer them. */
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import autocannon from "autocannon"
import { median } from "./Row.js"

export const user = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
/** Of a process that answers loopback alone, and ends with the measurement. */
export const key = "not-a-secret".padEnd(40, "-")

export interface Served {
  readonly url: string
  readonly process: ChildProcess
}

/** `which`: of `server.ts`. */
export const serve = async (which: string): Promise<Served> => {
  const script = new URL("../bench/server.mjs", import.meta.url).pathname
  const child = spawn(process.execPath, [script, which], { stdio: ["ignore", "pipe", "inherit"] })
  const [port] = (await once(child.stdout, "data")) as [Buffer]
  return { url: `http://127.0.0.1:${String(port).trim()}`, process: child }
}

export const end = async (served: Served): Promise<void> => {
  const gone = once(served.process, "exit")
  served.process.kill("SIGTERM")
  await gone
}

/** Answers per second. Anything but 200 is an error. */
const throughput = async ({ url }: Served, seconds: number): Promise<number> => {
  const result = await autocannon({
    url: `${url}/api/cal/ensure-token`,
    method: "POST",
    connections: 20,
    duration: seconds,
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
    body: JSON.stringify({ userUlid: user })
  })
  if (result.non2xx > 0 || result.errors > 0) throw new Error(`${result.non2xx} not 200, ${result.errors} errors`)
  return result.requests.total / result.duration
}

/** Medians over rounds that alternate. */
export const compare = async (rounds: number, ours: Served, floor: Served): Promise<number> => {
  const rates = { ours: new Array<number>(), floor: new Array<number>() }
  for (let round = -1; round < rounds; round++) {
    for (const who of ["ours", "floor"] as const) {
      const rate = await throughput(who === "ours" ? ours : floor, 2)
      if (round >= 0) rates[who].push(rate)
    }
  }
  return median(rates.ours) / median(rates.floor)
}
