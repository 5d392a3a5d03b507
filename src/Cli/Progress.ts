/** How far a command is: a bar on a terminal, a line now and then elsewhere. Goes to standard error. */
import { Writable } from "node:stream"
import CliProgress from "cli-progress"
import { Duration, Effect } from "effect"
import { number } from "./Numbers.js"

// It is a CommonJS module, of which Node names no parts.
const { Format, SingleBar } = CliProgress

export interface Progress {
  /** So many were done since; `part`: of what `total` counts, where that is something else. */
  readonly advance: (count: number, part?: number) => Effect.Effect<void>
  /** Leaves the place to other lines. Has to be called, whatever becomes of the work. */
  readonly end: Effect.Effect<void>
}

export interface Out {
  readonly isTTY?: boolean
  /** 0 where a terminal does not know. */
  readonly columns?: number
  readonly write: (text: string) => unknown
}

/** Between two lines of a log. */
const pause = Duration.toMillis(Duration.seconds(10))

/** `unit`: what is counted, in words. `total`: how much there is, where that is known. */
export const make = (out: Out, unit: string, total: number | undefined): Effect.Effect<Progress> =>
  Effect.map(Effect.clock, (clock) => {
    const began = clock.unsafeCurrentTimeMillis()
    const done = { count: 0, part: 0 }
    const seen = () => ({ ...done, unit, total, elapsed: clock.unsafeCurrentTimeMillis() - began })
    const { end, told } = out.isTTY === true ? bar(out, seen) : log(out, seen)
    return {
      advance: (count, part = count) =>
        Effect.sync(() => {
          done.count += count
          done.part += part
          told()
        }),
      end: Effect.sync(end)
    }
  })

interface Seen {
  readonly count: number
  readonly part: number
  readonly unit: string
  readonly total: number | undefined
  /** In ms. */
  readonly elapsed: number
}

const log = (out: Out, seen: () => Seen) => {
  let last = 0
  return {
    told: () => {
      const now = seen()
      if (now.elapsed - last < pause) return
      last = now.elapsed
      out.write(`${lineOf(now)}\n`)
    },
    end: () => {}
  }
}

/** Drawn ten times a second, whether or not anything was told: time passes. */
const bar = (out: Out, seen: () => Seen) => {
  const drawn = new SingleBar({
    stream: terminal(out),
    format: (options) => {
      const now = seen()
      const share = shareOf(now)
      const line = `${share === undefined ? "" : `[${Format.BarFormat(share, options)}] `}${lineOf(now)}`
      return line.slice(0, (out.columns || 80) - 1)
    },
    // With what stands beside it a line of 80 columns.
    barsize: 20,
    synchronousUpdate: false,
    // Lines are cut here, so that a program that is killed leaves the terminal as it was.
    linewrap: true,
    clearOnComplete: true
  })
  drawn.start(1, 0)
  return { told: () => {}, end: () => drawn.stop() }
}

/** At its end the bar would go back to where it began, which is another place once something else was written. */
const jumps = ["\x1b7", "\x1b8"]

const terminal = (out: Out) =>
  Object.assign(
    new Writable({
      decodeStrings: false,
      write: (text: string, _, done) => {
        if (!jumps.includes(text)) out.write(text)
        done()
      }
    }),
    { isTTY: true }
  )

const shareOf = ({ part, total }: Seen) => (total === undefined || total <= 0 ? undefined : Math.min(1, part / total))

export const lineOf = (seen: Seen): string => {
  const { count, elapsed, unit } = seen
  const rate = elapsed > 0 ? Math.round((count * 1000) / elapsed) : 0
  const share = shareOf(seen)
  return [
    `${number(count)} ${unit}`,
    ...(share === undefined ? [] : [`${Math.floor(share * 100)} %`]),
    `${number(rate)} ${unit}/s`,
    ...(share === undefined || share === 0 ? [] : [`${left((elapsed * (1 - share)) / share)} left`])
  ].join(", ")
}

/** In whole seconds: `1m 5s`. */
const left = (millis: number): string => Duration.format(Duration.seconds(Math.ceil(millis / 1000)))
