/**
 * Keeps the process from ending while something is under way. What merely waits does not: the idle connections are
 * unreferenced, and in programs that know promises and not Effect the timers are, too.
 */
import { setInterval } from "node:timers"

let held = 0
let timer: ReturnType<typeof setInterval> | undefined

/** The longest that there is, in milliseconds. */
const longest = 2 ** 31 - 1

/** Until what is answered is called. */
export const hold = (): (() => void) => {
  if (held++ === 0) timer = setInterval(() => {}, longest)
  return () => {
    if (--held === 0) clearInterval(timer)
  }
}
