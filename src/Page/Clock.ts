/** The browser's clock, set by the service's where the two disagree, and whatever waits. */
import * as Store from "./Store.js"

let skew = 0

/** Milliseconds since 1970 by the service's clock, as far as its answers tell. */
export const now = (): number => Date.now() + skew

/** The `Date` of an answer that has just come, which has no parts of seconds. */
export const adjust = (date: string | null): void => {
  const found = date === null ? NaN : Date.parse(date) + 500 - Date.now()
  if (!Number.isNaN(found)) skew = Math.abs(found) > 2_000 ? found : 0
}

/** Ends early when the signal does. */
export const sleep = (ms: number, signal?: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    if (signal?.aborted === true) return resolve()
    const done = () => {
      clearTimeout(timer)
      signal?.removeEventListener("abort", done)
      resolve()
    }
    const timer = setTimeout(done, ms)
    signal?.addEventListener("abort", done)
  })

/** Runs after a while, unless it is called off. */
export const after = (ms: number, run: () => void): (() => void) => {
  const timer = setTimeout(run, ms)
  return () => clearTimeout(timer)
}

/** Beats once a second while somebody watches and the tab can be seen. */
const ticks = Store.make(now(), () => {
  const beat = () => {
    if (!document.hidden) ticks.set(now())
  }
  beat()
  const timer = setInterval(beat, 1_000)
  document.addEventListener("visibilitychange", beat)
  return () => {
    clearInterval(timer)
    document.removeEventListener("visibilitychange", beat)
  }
})

/** What is made of the time, drawn again only when that changes. By itself: the time, each second. */
export function useNow(): number
export function useNow<A>(select: (now: number) => A): A
export function useNow(select: (now: number) => unknown = (now) => now): unknown {
  return Store.useSelected(ticks, (tick) => select(Math.max(tick, now() - 1_000)))
}
