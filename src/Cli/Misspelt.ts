/** Variables that look like ours and are not: set by somebody who waits for their effect in vain. */
import { AutoCorrect, CliConfig } from "@effect/cli"
import * as Variables from "../Environment/Variables.js"

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
  const [nearest] = known
    .map((other) => ({ other, distance: AutoCorrect.levensteinDistance(name, other, CliConfig.defaultConfig) }))
    .sort((one, other) => one.distance - other.distance)
  // A third of the letters, or nothing is near.
  return nearest !== undefined && nearest.distance * 3 <= name.length
    ? `is ${nearest.other} meant?`
    : "`cal-tokens serve --help` lists those that are"
}
