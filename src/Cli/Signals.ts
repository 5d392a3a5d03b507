/**
 * A stop that was asked for twice at once. A terminal sends Ctrl-C to every process in the foreground, and npm passes it
 * on to its child, which so gets two: the second one would kill it in the middle of its shutdown.
 */
import { Effect } from "effect"

/** A signal so long after the first one is meant: whoever sends it does not want to wait. Milliseconds. */
const echo = 1000

/** Makes the echo of a signal harmless; one that is meant ends the process at once. */
export const tolerateEcho: Effect.Effect<void> = Effect.sync(() => {
  let first: number | undefined
  const onSignal = (code: number) => () => {
    // Before and after any fiber runs, hence not Effect's clock.
    const now = performance.now()
    first ??= now
    if (now - first > echo) process.exit(code)
  }
  process.on("SIGINT", onSignal(130))
  process.on("SIGTERM", onSignal(143))
})

/** Node opens its inspector at SIGUSR1, and with it everything in memory to whoever reaches its port. */
export const keepInspectorClosed: Effect.Effect<void> = Effect.sync(() => {
  process.on("SIGUSR1", () => {})
})
