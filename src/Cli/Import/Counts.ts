/** What became of the rows, in numbers and in words. */
import { Schema } from "effect"
import { number } from "../Numbers.js"

export const Counts = Schema.Struct({
  imported: Schema.Int,
  updated: Schema.Int,
  unchanged: Schema.Int,
  refreshedHere: Schema.Int,
  rejected: Schema.Int,
  /** Users of the other system who are not connected. */
  none: Schema.Int
})
export type Counts = typeof Counts.Type

export const zero: Counts = { imported: 0, updated: 0, unchanged: 0, refreshedHere: 0, rejected: 0, none: 0 }

export const add = (counts: Counts, outcomes: Iterable<keyof Counts>): Counts => {
  const sum = { ...counts }
  for (const outcome of outcomes) sum[outcome]++
  return sum
}

export const sum = (counts: Counts): number => Object.values(counts).reduce((all, some) => all + some, 0)

/** A line for each, fit for 80 columns. */
export const table = (lines: ReadonlyArray<readonly [name: string, count: number, hint?: string]>): string => {
  const width = Math.max(...lines.map(([, count]) => number(count).length))
  return lines
    .map(([name, count, hint = ""]) => `  ${name.padEnd(15)} ${number(count).padStart(width)}  ${hint}`.trimEnd())
    .join("\n")
}
