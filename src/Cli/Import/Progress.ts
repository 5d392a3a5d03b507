/** How far an import is: one line that changes on a terminal, a line now and then elsewhere. Goes to standard error. */
import { Clock, Duration, Effect } from "effect"
import { number } from "./Counts.js"

export interface Progress {
  /** `rows` of this run, and `done` of whatever the source counts. */
  readonly tell: (rows: number, done: number) => Effect.Effect<void>
  /** Leaves the place to other lines. */
  readonly end: Effect.Effect<void>
}

export interface Out {
  readonly isTTY?: boolean
  /** 0 where a terminal does not know. */
  readonly columns?: number
  readonly write: (text: string) => unknown
}

/** Between two lines, by what they are for. */
const pauses = { eyes: 100, log: Duration.toMillis(Duration.seconds(10)) }

/** `total` of what `done` counts, where that is known; `from`: what was done when this run began. */
export const make = (out: Out, total: number | undefined, from: number): Effect.Effect<Progress> =>
  Effect.map(Clock.currentTimeMillis, (began) => {
    const isSeen = out.isTTY === true
    const pause = isSeen ? pauses.eyes : pauses.log
    let told = began
    let isOpen = false
    return {
      tell: (rows, done) =>
        Effect.map(Clock.currentTimeMillis, (now) => {
          if (now - told < pause) return
          told = now
          const line = lineOf(
            { rows, done: done - from, total: total === undefined ? undefined : total - from },
            now - began
          )
          isOpen = isSeen
          out.write(isSeen ? `\r\x1b[2K${line.slice(0, (out.columns || 80) - 1)}` : `${line}\n`)
        }),
      end: Effect.sync(() => {
        if (isOpen) out.write("\r\x1b[2K")
        isOpen = false
      })
    }
  })

/** `elapsed` in ms. */
export const lineOf = (
  { done, rows, total }: { readonly rows: number; readonly done: number; readonly total: number | undefined },
  elapsed: number
): string => {
  const rate = elapsed > 0 ? Math.round((rows * 1000) / elapsed) : 0
  const share = total === undefined || total <= 0 ? undefined : Math.min(1, done / total)
  return [
    `${number(rows)} rows`,
    ...(share === undefined ? [] : [`${Math.floor(share * 100)} %`]),
    `${number(rate)} rows/s`,
    ...(share === undefined || share === 0 ? [] : [`${left((elapsed * (1 - share)) / share)} left`])
  ].join(", ")
}

/** In whole seconds: `1m 5s`. */
const left = (millis: number): string => Duration.format(Duration.seconds(Math.ceil(millis / 1000)))
