/** Over HTTP: a fresh token, and a request that goes on to Cal.com, each against what the platform alone needs for as much. */
import * as Load from "./Load.js"
import type { Row } from "./Row.js"

interface Setting {
  readonly question: Load.Question
  /** Requests of a round. */
  readonly amount: number
  /** Whether ours tells a collector of everything it does. */
  readonly isWatched?: boolean
}

const ratios = async ({ amount, isWatched = false, question }: Setting): Promise<Load.Measured> => {
  const upstream = await Load.serve("upstream")
  const [ours, floor] = await Promise.all([
    Load.serve("ours", upstream.url, ...(isWatched ? [upstream.url] : [])),
    Load.serve("floor", upstream.url)
  ])
  try {
    return await Load.compare(ours, floor, question, amount)
  } finally {
    await Promise.all([ours, floor, upstream].map(Load.end))
  }
}

const throughput = (name: string, target: number, figure: string, measure: () => Promise<Load.Measured>): Row => ({
  name,
  figure: `× the answers per second of ${figure}`,
  target,
  isFloor: true,
  measure: async () => (await measure()).throughput
})

const endpoint = "an empty HttpApi endpoint with the same schemas"

/** One measurement tells both. */
let measured: Promise<Load.Measured> | undefined
const proxied = () => (measured ??= ratios({ question: Load.proxied, amount: 1000 }))

const latency: Row = {
  name: "proxy-p99",
  figure: "× what 99 of 100 requests take at most through a relay that knows no tokens",
  target: 1.2,
  measure: async () => (await proxied()).p99
}

export const rows: ReadonlyArray<Row> = [
  throughput("http", 0.9, endpoint, () => ratios({ question: Load.ensure, amount: 2500 })),
  throughput("http-otlp", 0.6, `${endpoint}, with spans, metrics and logs told to a collector`, () =>
    ratios({ question: Load.ensure, amount: 2000, isWatched: true })
  ),
  throughput("proxy", 0.9, "a relay that knows no tokens", proxied),
  latency
]
