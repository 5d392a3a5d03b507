/** Where in the refresh protocol a process kills itself, without any chance to tidy up. */
import { writeSync } from "node:fs"
import { Effect } from "effect"
import { asleep, deathVariable, signalVariable, type Step } from "../Step.js"

/** Set by the storage's tap: the attempt under way begins with a token whose outcome is unknown. */
export const attempt = { isProbe: false }

/** The end, if this is the step that was named at the start; or, once, sleep until somebody wakes the process. */
export const at = (step: Step): Effect.Effect<void> =>
  Effect.suspend(() => {
    if (process.env[deathVariable] !== step) return Effect.void
    if (process.env[signalVariable] !== "SIGSTOP") {
      process.kill(process.pid, "SIGKILL")
      return Effect.never
    }
    delete process.env[deathVariable]
    writeSync(1, `${asleep}\n`)
    process.kill(process.pid, "SIGSTOP")
    return Effect.void
  })
