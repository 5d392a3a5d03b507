/**
 * How much garbage this process lets pile up. V8 by itself collects what has lived for a while when it is three times and
 * more of what is alive: 330 MB under load, of which 50 are.
 */
import { setFlagsFromString } from "node:v8"
import { Effect } from "effect"

/** Collects when there is half as much garbage as there is alive. */
export const staySmall: Effect.Effect<void> = Effect.sync(() => setFlagsFromString("--heap-growing-percent=50"))
