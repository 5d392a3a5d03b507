/** The program as operators have it: how soon it is ready, and what it takes of the machine. Linux. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process"
import { randomBytes } from "node:crypto"
import { once } from "node:events"
import * as Fs from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import autocannon from "autocannon"
import { makeServer } from "../support/PostgresServer.js"
import type { Row } from "./Row.js"
import * as TokenServer from "./TokenServer.js"

const program = fileURLToPath(new URL("../../../dist/program.mjs", import.meta.url))

let isBundled = false
const bundle = () => {
  if (isBundled) return
  isBundled = true
  const { status, stderr } = spawnSync("npm", ["run", "--silent", "bundle"], { encoding: "utf8" })
  if (status !== 0) throw new Error(stderr)
}

interface Started {
  readonly process: ChildProcess
  /** From the command to the line that says so, in seconds. */
  readonly seconds: number
  /** What the line's pattern found. */
  readonly found: RegExpExecArray
  /** Waits for another line. */
  readonly until: (pattern: RegExp) => Promise<RegExpExecArray>
}

const start = async (env: Readonly<Record<string, string>>, ready: RegExp): Promise<Started> => {
  const begun = performance.now()
  const child = spawn(process.execPath, [program, "serve"], {
    env: { PATH: process.env["PATH"] ?? "", PORT: "0", ...env },
    stdio: ["ignore", "pipe", "inherit"]
  })
  // Of a row that breaks off.
  const kill = () => child.kill("SIGKILL")
  process.on("exit", kill)
  child.once("exit", () => process.off("exit", kill))
  let told = ""
  const until = (pattern: RegExp) =>
    new Promise<RegExpExecArray>((resolve, reject) => {
      const look = () => {
        const found = pattern.exec(told)
        if (found !== null) resolve(found)
      }
      look()
      child.stdout.on("data", look)
      child.once("exit", (code) => reject(new Error(`the program ended with ${code}: ${told}`)))
    })
  child.stdout.setEncoding("utf8").on("data", (text: string) => (told += text))
  const found = await until(ready)
  return { process: child, seconds: (performance.now() - begun) / 1000, found, until }
}

const stop = async ({ process }: Started): Promise<void> => {
  const gone = once(process, "exit")
  process.kill("SIGTERM")
  await gone
}

/** In MB: what a process has in memory, or the most that it had so far. */
const memoryOf = ({ process: { pid } }: Started, which: "VmRSS" | "VmHWM"): number => {
  const found = new RegExp(`^${which}:\\s+(\\d+) kB$`, "m").exec(Fs.readFileSync(`/proc/${pid}/status`, "utf8"))
  if (found === null) throw new Error(`/proc/${pid}/status has no ${which}`)
  return Number(found[1]) / 1024
}

/** The demo in a directory of its own, as often as it is started within `use`. */
const withDemo = async <A>(use: (demo: () => Promise<Started>) => Promise<A>): Promise<A> => {
  bundle()
  const directory = Fs.mkdtempSync(join(tmpdir(), "cal-tokens-bench-"))
  try {
    return await use(() => start({ CAL_TOKENS_DATA_DIR: join(directory, "data") }, /Stop with Ctrl-C/))
  } finally {
    Fs.rmSync(directory, { recursive: true })
  }
}

const timed = async (demo: () => Promise<Started>): Promise<number> => {
  const started = await demo()
  await stop(started)
  return started.seconds
}

/** The best of several: whatever else the machine does makes a start later, and nothing makes it earlier. */
const best = async (rounds: number, measure: () => Promise<number>): Promise<number> => {
  let least = Infinity
  for (let round = 0; round < rounds; round++) least = Math.min(least, await measure())
  return least
}

const first: Row = {
  name: "start-first",
  figure: "s from `npm start` to ready, the first time",
  target: 4,
  measure: () => best(3, () => withDemo(timed))
}

const again: Row = {
  name: "start",
  figure: "s from `npm start` to ready, with its data present",
  target: 1.5,
  measure: () =>
    withDemo(async (demo) => {
      await timed(demo)
      return best(5, () => timed(demo))
    })
}

const ofDemo: Row = {
  name: "rss-demo",
  figure: "MB, the most that the demo takes on its first start",
  target: 350,
  measure: () =>
    withDemo(async (demo) => {
      const started = await demo()
      // What it does by itself a moment later.
      await started.until(/Tokens refreshed/)
      const peak = memoryOf(started, "VmHWM")
      await stop(started)
      return peak
    })
}

const key = "not-a-secret".padEnd(40, "-")

/** The service on a PostgreSQL and a Cal.com of this machine. */
const withService = async <A>(use: (service: Started, url: string) => Promise<A>): Promise<A> => {
  bundle()
  const [postgres, cal] = await Promise.all([makeServer(), TokenServer.start(20)])
  try {
    const service = await start(
      {
        CAL_API_URL: cal.url,
        CAL_OAUTH_CLIENT_ID: "client",
        CAL_OAUTH_CLIENT_SECRET: "not-a-secret",
        CAL_OAUTH_REDIRECT_URL: "http://127.0.0.1/callback",
        CAL_OAUTH_AUTHORIZE_URL: "http://127.0.0.1/authorize",
        CAL_TOKENS_API_KEYS: `bench:${key}`,
        CAL_TOKENS_ENCRYPTION_KEYS: `k1:${randomBytes(32).toString("base64")}`,
        DATABASE_URL: postgres.url
      },
      /Listening on (http:\/\/[\d.:]+)/
    )
    const result = await use(service, service.found[1] ?? "")
    await stop(service)
    return result
  } finally {
    await Promise.all([postgres.remove(), cal.close()])
  }
}

const ofService: Row = {
  name: "rss-service",
  figure: "MB that the service takes after its start, on PostgreSQL",
  target: 150,
  measure: () =>
    withService(async (service, url) => {
      const { status } = await fetch(`${url}/health/ready`)
      if (status !== 200) throw new Error(`not ready: ${status}`)
      return memoryOf(service, "VmRSS")
    })
}

const users = Array.from({ length: 2000 }, (_, n) => `01ARZ3NDEKTSV4RRFF${String(n).padStart(8, "0")}`)

/** The requests, `times` over, on 50 connections that divide them among themselves. */
const send = async (url: string, requests: ReadonlyArray<autocannon.Request>, times = 1): Promise<void> => {
  const connections = 50
  let client = 0
  const { errors, non2xx } = await autocannon({
    url,
    amount: requests.length * times,
    // A machine that is slow is not wrong.
    timeout: 60,
    connections,
    setupClient: (each) => {
      const mine = client++
      each.setHeaders({ authorization: `Bearer ${key}`, "content-type": "application/json" })
      each.setRequests(requests.filter((_, n) => n % connections === mine))
    }
  })
  // What a starved machine does not answer in time matters to no memory, as long as it is little.
  if ((errors + non2xx) * 100 > requests.length) throw new Error(`${errors} errors, ${non2xx} not 200`)
}

const underLoad: Row = {
  name: "rss-load",
  figure: "MB, the most that it takes while 2,000 users connect, are refreshed and ask 10,000 times",
  target: 250,
  measure: () =>
    withService(async (service, url) => {
      const expired = new Date(performance.timeOrigin + performance.now() - 1000).toISOString()
      const connect = users.map((user): autocannon.Request => ({
        method: "PUT",
        path: `/api/cal/connections/${user}`,
        body: JSON.stringify({
          kind: "oauth2",
          accessToken: `access-${user}`.padEnd(330, "a"),
          refreshToken: `refresh-${user}`.padEnd(420, "r"),
          accessTokenExpiresAt: expired
        })
      }))
      const ensure = users.map((userUlid): autocannon.Request => ({
        method: "POST",
        path: "/api/cal/ensure-token",
        body: JSON.stringify({ userUlid })
      }))
      await send(url, connect)
      await send(url, ensure)
      await send(url, ensure, 5)
      return memoryOf(service, "VmHWM")
    })
}

export const rows: ReadonlyArray<Row> = [first, again, ofDemo, ofService, underLoad]
