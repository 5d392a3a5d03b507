/** Where in the refresh protocol a process kills itself, without any chance to tidy up. */
import { Effect } from "effect"
import { deathVariable, type Step } from "../Step.js"

/** Set by the storage's tap: the attempt under way begins with a token whose outcome is unknown. */
export const attempt = { isProbe: false }

/** The end, if this is the step that was named at the start. */
export const at = (step: Step): Effect.Effect<void> =>
  Effect.suspend(() => {
    if (process.env[deathVariable] !== step) return Effect.void
    process.kill(process.pid, "SIGKILL")
    return Effect.never
  })
