/** Variables that look like ours and are not: set by somebody who waits for their effect in vain. */
import { Effect } from "effect"
import { closest, distance } from "fastest-levenshtein"
import * as Variables from "./Variables.js"

/** Beginnings that nobody else's variables are likely to have, with the slips that are likely in them. */
const ours = /^CAL_(?:TOKENS?|CLIENTS?|OAUTH2?|API)_/

const known = Object.values(Variables.all).flatMap(({ names }) => names)

/** One line for each such name. No value is looked at. */
export const warnings = (names: ReadonlyArray<string>): ReadonlyArray<string> =>
  names
    .filter((name) => ours.test(name) && !known.includes(name))
    .sort()
    .map((name) => `${name} is not known and has no effect: ${adviceFor(name)}`)

const adviceFor = (name: string): string => {
  const nearest = closest(name, known)
  // A third of the letters, or nothing is near.
  return distance(name, nearest) * 3 <= name.length
    ? `is ${nearest} meant?`
    : "`cal-tokens serve --help` lists those that are"
}

/** Those of this process. */
export const found = (): ReadonlyArray<string> => warnings(Object.keys(process.env))

const toldKey = Symbol.for("cal-tokens/Misspelt")

/** Hangs on the process, which may hold this module more than once. */
const told = (): Set<string> => {
  const process = globalThis as { [toldKey]?: Set<string> }
  return (process[toldKey] ??= new Set())
}

/** Warns of each such variable of this process that was not warned of before: whoever starts anew knows. */
export const warn: Effect.Effect<void> = Effect.suspend(() => {
  const before = told()
  const lines = found().filter((line) => !before.has(line))
  lines.forEach((line) => before.add(line))
  return Effect.forEach(lines, (line) => Effect.logWarning(line), { discard: true })
})
