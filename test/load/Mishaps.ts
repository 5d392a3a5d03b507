/** What happens to a share of all calls to Cal.com. */
import * as Sandbox from "../../src/Sandbox.js"
import type { Prng } from "../simulation/Prng.js"

const mishaps: ReadonlyArray<(late: number) => Sandbox.Fault> = [
  // Timeouts, before Cal.com did anything and after.
  (late) => Sandbox.Fault.delayBefore(late),
  (late) => Sandbox.Fault.delayAfter(late),
  () => Sandbox.Fault.status(500),
  () => Sandbox.Fault.status(502, { committed: true }),
  () => Sandbox.Fault.status(503),
  () => Sandbox.Fault.status(504, { committed: true }),
  () => Sandbox.Fault.dropBefore(),
  () => Sandbox.Fault.dropAfter(),
  // One that does not say for how long stops all that nobody waits for, for a minute.
  () => Sandbox.Fault.status(429, { headers: { "retry-after": "1" } })
]

/** One of them, for the next call; answers that are late are so by `late` ms. */
export const any = (prng: Prng, late: number): Sandbox.Fault => prng.pick(mishaps)(late)
