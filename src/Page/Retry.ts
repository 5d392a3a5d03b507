/** Counts down until the service says that the same may succeed. */
import { useMemo } from "preact/hooks"
import * as Clock from "./Clock.js"
import * as Format from "./Format.js"

/** How long it still is after an error with `retryAfter`, `54 s`; undefined when it is over, or nothing said so. */
export const useWait = (error: { readonly retryAfter?: number | undefined } | undefined): string | undefined => {
  const after = error?.retryAfter
  const until = useMemo(() => (after === undefined ? 0 : Clock.now() + after * 1_000), [error])
  const left = Clock.useNow((now) => Math.ceil(Math.max(0, until - now) / 1_000))
  return left === 0 ? undefined : Format.duration(left * 1_000)
}
