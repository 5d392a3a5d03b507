/**
 * The numbers of `TokenConfig`, all times divided by one factor, so that their ratios are those of production. What is not
 * among them, as the limits of the database's answers, is as long as ever.
 */
import { Duration } from "effect"
import * as TokenConfig from "../../src/TokenConfig.js"

/** The variable that tells a process its factor. */
export const speedVariable = "FLEET_SPEED"

/** How many times slower than usual this machine is: all times, and all limits of the tests, are longer by that. */
export const slowness = Number(process.env["TEST_FLEET_SLOWNESS"] ?? "1")

const { windows, ...defaults } = TokenConfig.defaults

/** Windows stay: the lifetime of a token does, too. */
export const settings = (speed: number): TokenConfig.Options => {
  const faster = Object.entries(defaults).map(([name, value]) => [
    name,
    Duration.isDuration(value) ? Duration.unsafeDivide(value, speed) : value
  ])
  return { ...TokenConfig.defaults, ...(Object.fromEntries(faster) as typeof defaults), windows }
}
