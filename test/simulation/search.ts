/** Histories inside a test runner, which has to breathe in between. */
import * as Campaign from "./Campaign.js"
import type { Variant } from "./Fleet.js"
import type * as Plan from "./Plan.js"

/** Generous: all of a file takes about a minute on one idle core. */
export const timeout = 900_000

/** Runs histories until one fails. */
export const search = async (from: number, count: number, limits: Plan.Limits, variant?: () => Variant) => {
  const events = new Map<string, number>()
  for (let i = 0; i < count; i += 25) {
    const part = { from: from + i, step: 1, count: Math.min(25, count - i), limits }
    const { plan } = Campaign.run(part, { events }, variant)
    if (plan !== undefined) return { plan, events }
    await new Promise((resolve) => setImmediate(resolve))
  }
  return { plan: undefined, events }
}
