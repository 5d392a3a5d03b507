/** 3,000 users whose tokens have expired at once, refreshed 100 at a time. Cal.com answers after 20 ms. */
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import * as BareCalls from "./BareCalls.js"
import { median, roundsOf, type Row } from "./Row.js"
import { serverTime } from "./ServerTime.js"
import * as World from "./World.js"

const atATime = 100
const rounds = roundsOf(3)

/** A token endpoint in a process of its own, so that its time is not ours. */
const upstream = async (latency: number): Promise<{ readonly url: string; readonly process: ChildProcess }> => {
  const script = new URL("../bench/tokenEndpoint.mjs", import.meta.url).pathname
  const child = spawn(process.execPath, [script, String(latency)], { stdio: ["ignore", "pipe", "inherit"] })
  const [url] = (await once(child.stdout, "data")) as [Buffer]
  return { url: String(url).trim(), process: child }
}

interface Cost {
  /** Of all users, in ms. */
  readonly wall: number
  /** Of one refresh, in ms: the processor time of this process, and of PostgreSQL. */
  readonly own: number
  readonly postgres: number
}

const measure = async (): Promise<Cost> => {
  const cal = await upstream(20)
  const world = await World.make(`${cal.url}/v2`)
  const bare = BareCalls.caller(cal.url)
  const postgresTime = await serverTime(world.database)

  const costOf = async (work: () => Promise<unknown>): Promise<Cost> => {
    globalThis.gc?.()
    const before = { wall: performance.now(), own: process.cpuUsage(), postgres: postgresTime() }
    await work()
    const own = process.cpuUsage(before.own)
    return {
      wall: performance.now() - before.wall,
      own: (own.user + own.system) / 1000 / World.users.length,
      postgres: (postgresTime() - before.postgres) / World.users.length
    }
  }
  const refreshAll = () => world.ensureAll(atATime)
  const callAll = () => BareCalls.each(World.users, atATime, (user) => bare.refresh(World.firstRefreshToken(user)))

  const costs = { ours: new Array<Cost>(), bare: new Array<Cost>() }
  // In the first round code is compiled.
  for (let round = -1; round < rounds; round++) {
    await world.connectAll("expired")
    const each = { ours: await costOf(refreshAll), bare: await costOf(callAll) }
    if (round < 0) continue
    costs.ours.push(each.ours)
    costs.bare.push(each.bare)
  }
  await bare.close()
  await world.close()
  cal.process.kill()
  const of = (all: ReadonlyArray<Cost>, key: keyof Cost) => median(all.map((cost) => cost[key]))
  return {
    wall: of(costs.ours, "wall") / of(costs.bare, "wall"),
    own: of(costs.ours, "own"),
    postgres: of(costs.ours, "postgres")
  }
}

/** One storm tells all three. */
let measured: Promise<Cost> | undefined
const figure = (key: keyof Cost) => async () => (await (measured ??= measure()))[key]

export const rows: ReadonlyArray<Row> = [
  {
    name: "storm",
    figure: "× the bare calls to Cal.com, 3,000 refreshes on PostgreSQL, 100 at a time",
    target: 2.5,
    measure: figure("wall")
  },
  {
    name: "storm-cpu",
    figure: "ms of our processor time a refresh, the call to Cal.com included",
    target: 0.8,
    measure: figure("own")
  },
  {
    name: "storm-postgres",
    figure: "ms of PostgreSQL's processor time a refresh (Linux)",
    target: 0.8,
    measure: figure("postgres")
  }
]
