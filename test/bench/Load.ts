/** Requests from many connections, and the processes that answer them. */
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import type { Readable } from "node:stream"
import autocannon from "autocannon"
import { median, roundsOf } from "./Row.js"

export const user = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
/** Of a process that answers loopback alone, and ends with the measurement. */
export const key = "not-a-secret".padEnd(40, "-")

export interface Served {
  readonly url: string
  readonly process: ChildProcess
}

/** `args`: of `server.ts`. */
export const serve = async (...args: ReadonlyArray<string>): Promise<Served> => {
  const script = new URL("../bench/server.mjs", import.meta.url).pathname
  const child = spawn(process.execPath, [script, ...args], { stdio: ["ignore", "pipe", "inherit", "ipc"] })
  const [port] = (await once(child.stdout as Readable, "data")) as [Buffer]
  return { url: `http://127.0.0.1:${String(port).trim()}`, process: child }
}

export const end = async (served: Served): Promise<void> => {
  const gone = once(served.process, "exit")
  served.process.kill("SIGTERM")
  await gone
}

/** What all requests of a measurement ask for. */
export interface Question {
  readonly method: "GET" | "POST"
  readonly path: string
  readonly body?: string
}

/** A fresh token. */
export const ensure: Question = {
  method: "POST",
  path: "/api/cal/ensure-token",
  body: JSON.stringify({ userUlid: user })
}

/** A page of bookings, as the user. */
export const proxied: Question = { method: "GET", path: `/api/cal/proxy/${user}/bookings?take=10` }

export interface Measured {
  /**
   * Answers per second that the server's process worked. What the rest of the machine does, and what it costs to ask, is not in
   * it: a server that has a processor for itself gives as many.
   */
  readonly throughput: number
  /** Milliseconds. */
  readonly p99: number
}

/** Seconds that a process has worked. */
const worked = async ({ process }: Served): Promise<number> => {
  const told = once(process, "message")
  process.send("worked?")
  const [{ system, user }] = (await told) as [NodeJS.CpuUsage]
  return (user + system) / 1e6
}

/** Anything but 200 is an error. */
const measure = async (served: Served, { body, method, path }: Question, amount: number): Promise<Measured> => {
  const before = await worked(served)
  const result = await autocannon({
    url: `${served.url}${path}`,
    method,
    connections: 20,
    amount,
    headers: {
      authorization: `Bearer ${key}`,
      ...(body === undefined ? {} : { "content-type": "application/json" })
    },
    ...(body === undefined ? {} : { body })
  })
  if (result.non2xx > 0 || result.errors > 0) throw new Error(`${result.non2xx} not 200, ${result.errors} errors`)
  return { throughput: amount / ((await worked(served)) - before), p99: result.latency.p99 }
}

/** Ours by the floor's, of each figure: medians over rounds that alternate, after one in which code is compiled. */
export const compare = async (ours: Served, floor: Served, question: Question, amount: number): Promise<Measured> => {
  const rounds = roundsOf(5)
  const all = { ours: new Array<Measured>(), floor: new Array<Measured>() }
  for (let round = -1; round < rounds; round++) {
    for (const who of round % 2 === 0 ? (["ours", "floor"] as const) : (["floor", "ours"] as const)) {
      const measured = await measure(who === "ours" ? ours : floor, question, round < 0 ? 3 * amount : amount)
      if (round >= 0) all[who].push(measured)
    }
  }
  const ratio = (of: (measured: Measured) => number) => median(all.ours.map(of)) / median(all.floor.map(of))
  return { throughput: ratio(({ throughput }) => throughput), p99: ratio(({ p99 }) => p99) }
}
