/**
 * Runs as many histories as wanted: `npm run simulate -- --histories 1000000 [--seed N] [--nodes N] [--http SHARE]
 * [--workers N] [--variant NAME] [--reconnects N]`. Exits with 1 and the smallest failing history if a promise is broken; `--seed N
 * --histories 1 --trace` shows one history.
 */
import { randomInt } from "node:crypto"
import { availableParallelism } from "node:os"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads"
import * as Campaign from "./Campaign.js"
import * as Reconnects from "./Reconnects.js"
import { variants } from "./Variants.js"

/** One worker's part: every `step`th seed from `from` on. */
interface Part extends Campaign.Options {
  readonly variantName: string | undefined
}

type Message =
  | { readonly kind: "progress"; readonly done: number }
  | {
      readonly kind: "end"
      readonly done: number
      readonly events: ReadonlyArray<readonly [string, number]>
      readonly report: string | undefined
    }

const chunk = 100

/** A process that crashed leaves fibers which never run again, and the runtime holds them: they go with their worker. */
const perWorker = 2000

const work = (part: Part, tell: (message: Message) => void): void => {
  const variant = part.variantName === undefined ? undefined : variants[part.variantName]
  const events = new Map<string, number>()
  let reported = 0
  const failing = Campaign.run(part, { events }, variant, (done) => {
    if (done - reported < chunk) return
    tell({ kind: "progress", done: done - reported })
    reported = done
  })
  const report = failing.plan === undefined ? undefined : Campaign.explain(failing.plan, variant)
  tell({ kind: "end", done: failing.done - reported, events: [...events], report })
}

/** At least this share of those who have to reconnect is told rightly why. */
const leastRight = 0.99

/** Whether the fleet knows why people have to reconnect, and says so of none too often. */
const explained = (seed: number, histories: number): boolean => {
  if (histories === 0) return true
  const result = Reconnects.run(seed, histories)
  process.stdout.write(`\n${Reconnects.table(result)}\n`)
  for (const { lines, seed, stated, truth } of result.outcomes.filter(({ isRight }) => !isRight).slice(0, 3)) {
    process.stdout.write(`\nseed ${seed}: ${truth}, and stated is ${stated}\n${lines.join("\n")}\n`)
  }
  return result.right >= leastRight && result.largest <= 0.5
}

const main = async (): Promise<number> => {
  const { values } = parseArgs({
    options: {
      histories: { type: "string", default: "10000" },
      seed: { type: "string" },
      nodes: { type: "string" },
      http: { type: "string" },
      workers: { type: "string" },
      variant: { type: "string" },
      reconnects: { type: "string", default: "500" },
      trace: { type: "boolean", default: false }
    }
  })
  const seed = values.seed === undefined ? randomInt(2 ** 31) : Number(values.seed)
  const histories = Number(values.histories)
  const limits = {
    ...(values.nodes === undefined ? {} : { nodes: Number(values.nodes) }),
    ...(values.http === undefined ? {} : { http: Number(values.http) })
  }
  if (values.trace) {
    process.stdout.write(`${Campaign.trace(seed, limits)}\n`)
    return 0
  }
  const workers = Math.max(1, Math.min(Number(values.workers ?? availableParallelism()), histories))
  process.stdout.write(`${histories} histories from seed ${seed} on, ${workers} workers\n`)

  const startedAt = performance.now()
  const events = new Map<string, number>()
  let done = 0
  let shownAt = 0
  const rate = () => done / Math.max(0.001, (performance.now() - startedAt) / 1000)
  const show = () => {
    if (!process.stdout.isTTY || performance.now() - shownAt < 200) return
    shownAt = performance.now()
    const share = done / histories
    const bar = "#".repeat(Math.round(share * 40)).padEnd(40, ".")
    const left = Math.round((histories - done) / Math.max(1, rate()))
    process.stdout.write(`\r${bar} ${(share * 100).toFixed(1)} %  ${done}  ${rate().toFixed(0)}/s  ${left} s left   `)
  }

  const play = (part: Part) =>
    new Promise<string | undefined>((resolve, reject) => {
      const worker = new Worker(fileURLToPath(import.meta.url), {
        workerData: part,
        resourceLimits: { maxYoungGenerationSizeMb: 64 }
      })
      let report: string | undefined
      worker.on("message", (message: Message) => {
        done += message.done
        show()
        if (message.kind === "progress") return
        for (const [event, count] of message.events) events.set(event, (events.get(event) ?? 0) + count)
        report = message.report
        // By itself it does not end: what a process that crashed was about to store keeps it.
        void worker.terminate()
      })
      worker.on("error", reject)
      worker.on("exit", () => resolve(report))
    })

  /** Every so many workers-th history from `index` on, until one fails. */
  const playAll = async (index: number) => {
    const count = Math.ceil((histories - index) / workers)
    for (let played = 0; played < count; played += perWorker) {
      const report = await play({
        from: seed + index + played * workers,
        step: workers,
        count: Math.min(perWorker, count - played),
        limits,
        variantName: values.variant
      })
      if (report !== undefined) return report
    }
    return undefined
  }

  const reports = await Promise.all(Array.from({ length: workers }, (_, index) => playAll(index)))
  if (process.stdout.isTTY) process.stdout.write("\n")
  process.stdout.write(`${done} histories, ${rate().toFixed(0)}/s\n${Campaign.table(events)}\n\n`)
  const failures = reports.filter((report) => report !== undefined)
  for (const report of failures) process.stdout.write(`\n${report}\n`)
  if (failures.length === 0) process.stdout.write("every promise was kept\n")
  return failures.length === 0 && (values.variant !== undefined || explained(seed, Number(values.reconnects))) ? 0 : 1
}

// By itself it does not end: what simulated processes that crashed were about to store keeps it.
if (isMainThread) process.exit(await main())
else {
  const port = parentPort
  work(workerData as Part, (message) => port?.postMessage(message))
}
