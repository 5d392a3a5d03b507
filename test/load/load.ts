/**
 * `npm run load`: four processes of the service under the traffic of fifty thousand users, on a Cal.com that has mishaps,
 * one of them killed and one replaced on the way. `-- --seconds 3600` soaks it, `--users`, `--in-use`, `--rate`, `--lifetime`,
 * `--latency`, `--mishaps`, `--processes` and `--seed` change what is done; `--json` prints figures instead of a table,
 * `--out` names the folder for both and the plot. Settings of the service in the environment (`CAL_TOKENS_…`,
 * `DATABASE_…`) are handed on. Exits with 1 if a pair is lost or somebody has to reconnect who need not.
 */
import { randomInt } from "node:crypto"
import { mkdirSync, writeFileSync } from "node:fs"
import { cpus, loadavg } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { Effect, Redacted } from "effect"
import { makeServer } from "../support/PostgresServer.js"
import * as Plot from "./Plot.js"
import type { Result, Settings } from "./Result.js"
import * as Run from "./Run.js"
import * as Table from "./Table.js"

const number = (value: string) => ({ type: "string", default: value }) as const

const { values } = parseArgs({
  options: {
    users: number("50000"),
    "in-use": number("0.1"),
    seconds: number("60"),
    rate: number("100"),
    processes: number("4"),
    lifetime: number("120"),
    latency: number("200"),
    mishaps: number("0.02"),
    seed: { type: "string" },
    out: { type: "string", default: "node_modules/.cache/load" },
    json: { type: "boolean", default: false }
  }
})

type Name = "users" | "in-use" | "seconds" | "rate" | "processes" | "lifetime" | "latency" | "mishaps"

const given = (name: Name): number => {
  const value = Number(values[name])
  if (!(value > 0 || (name === "mishaps" && value === 0))) {
    console.error(`--${name} takes a number, not ${values[name]}`)
    process.exit(1)
  }
  return value
}

const database = Effect.acquireRelease(
  Effect.promise(() => makeServer()),
  (server) => Effect.promise(() => server.remove())
).pipe(Effect.map(({ url }) => Redacted.make(url)))

const seconds = given("seconds")

/** One line that changes on a terminal; elsewhere a line for each tenth of the run. */
const progress = (progress: Run.Progress) => {
  const isTerminal = process.stderr.isTTY
  if (progress.what === "step") return process.stderr.write(`${isTerminal ? "\r\x1b[K" : ""}${progress.text}\n`)
  const { granted, requests, second } = progress
  const line = `${second} s of ${seconds}: ${requests.toLocaleString("en")} requests, ${granted.toLocaleString("en")} pairs granted`
  if (isTerminal) return process.stderr.write(`\r\x1b[K${line}`)
  if (second % Math.max(1, Math.round(seconds / 10)) === 0) process.stderr.write(`${line}\n`)
}

const script = (name: string) => fileURLToPath(new URL(name, import.meta.url))

const settings: Settings = {
  users: given("users"),
  inUse: given("in-use"),
  seconds,
  rate: given("rate"),
  processes: given("processes"),
  lifetime: given("lifetime"),
  latency: given("latency"),
  mishaps: given("mishaps"),
  late: 12_000,
  seed: values.seed === undefined ? randomInt(2 ** 31) : Number(values.seed)
}

const isOfService = ([name]: readonly [string, unknown]) => /^(CAL_TOKENS|DATABASE|LOG)_/.test(name)

const options: Run.Options = {
  settings,
  env: Object.fromEntries(Object.entries(process.env).filter(isOfService)) as Record<string, string>,
  programs: { service: script("../../../dist/program.mjs"), probe: script("probe.mjs"), cal: script("cal.mjs") },
  database,
  progress
}

const write = (result: Result) => {
  mkdirSync(values.out, { recursive: true })
  const [json, svg] = [join(values.out, "load.json"), join(values.out, "load.svg")]
  writeFileSync(json, JSON.stringify(result, null, 2))
  writeFileSync(svg, Plot.render(result))
  return { json, svg }
}

Effect.runPromise(Effect.scoped(Run.run(options))).then(
  (result) => {
    const { json, svg } = write(result)
    if (values.json) console.log(JSON.stringify(result))
    else {
      const machine = `${cpus()[0]?.model ?? "?"}, ${cpus().length} processors, load ${loadavg()[0]?.toFixed(1)}`
      console.log(`\n${machine}; Node ${process.version}\n${Table.render(result)}\n\n${json}\n${svg}`)
    }
    process.exit(Table.isSound(result) ? 0 : 1)
  },
  (error: unknown) => {
    console.error(error)
    process.exit(2)
  }
)
