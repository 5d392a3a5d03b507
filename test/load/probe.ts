/** Loaded before a process of the service: tells every second what it takes of the machine. */
import { monitorEventLoopDelay } from "node:perf_hooks"
import { Effect, Schedule } from "effect"
import { cpu, now } from "./Instant.js"

export interface Sample {
  /** Milliseconds since the epoch. */
  readonly at: number
  /** Resident memory in bytes. */
  readonly rss: number
  /** Processor time so far, in ms. */
  readonly cpu: number
  /** Of the event loop since the last sample, in ms: how late a timer was. */
  readonly delay: { readonly p99: number; readonly max: number }
}

// Whoever started this is gone, and could not end it any more.
process.once("disconnect", () => process.exit(1))
process.channel?.unref()

const resolution = 10
const delays = monitorEventLoopDelay({ resolution })
delays.enable()

const millis = (nanos: number) => Math.max(0, nanos / 1e6 - resolution)

const tell = Effect.sync(() => {
  const delay = { p99: millis(delays.percentile(99)), max: millis(delays.max) }
  process.send?.({ at: now(), rss: process.memoryUsage.rss(), cpu: cpu(), delay } satisfies Sample)
  delays.reset()
})

Effect.runFork(Effect.repeat(tell, Schedule.spaced("1 second")))
