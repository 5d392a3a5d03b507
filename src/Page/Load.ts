/** What is read once, and again when it may have changed. What was read stays in sight until the next answer. */
import { useCallback, useEffect, useRef, useState } from "preact/hooks"
import * as Client from "./Client.js"
import * as Clock from "./Clock.js"
import * as Session from "./Session.js"

export interface Loaded<A> {
  readonly value?: A
  readonly error?: Client.ServiceError
  /** The value is that of what was asked for before. */
  readonly isStale: boolean
  readonly reload: () => void
}

/** What goes by without anybody's doing is tried again after so many milliseconds. */
const pause = 3_000

const passing: ReadonlySet<Client.Code> = new Set<Client.Code>(["Away", "ShuttingDown", "StorageUnavailable"])

/** Loads when the key is another, and at `reload`, of which several while one runs make one more. */
export const useLoaded = <A>(key: string, load: (signal: AbortSignal) => Promise<A>): Loaded<A> => {
  const [state, set] = useState<{ readonly key: string; readonly value?: A; readonly error?: Client.ServiceError }>({
    key
  })
  const latest = useRef(load)
  latest.current = load
  const again = useRef(() => undefined as void)
  const isOpen = Session.useOpen() !== undefined
  useEffect(() => {
    // What is in sight stays there until somebody has logged in again.
    if (!isOpen) return
    const controller = new AbortController()
    const { signal } = controller
    let isRunning = false
    let isAsked = false
    let waiting: (() => void) | undefined
    const run = async (): Promise<void> => {
      if (isRunning) return void (isAsked = true)
      isRunning = true
      waiting?.()
      try {
        const value = await latest.current(signal)
        if (!signal.aborted) set({ key, value })
      } catch (thrown) {
        const error = Client.toError(thrown)
        if (signal.aborted || error.code === "Unauthorized") return
        set((before) => ({ ...(passing.has(error.code) ? before : { key }), error }))
        if (passing.has(error.code)) waiting = Clock.after((error.retryAfter ?? 0) * 1_000 || pause, () => void run())
      }
      isRunning = false
      if (isAsked && !signal.aborted) {
        isAsked = false
        void run()
      }
    }
    again.current = () => void run()
    void run()
    return () => {
      controller.abort()
      waiting?.()
    }
  }, [key, isOpen])
  const reload = useCallback(() => again.current(), [])
  return {
    ...(state.value === undefined ? {} : { value: state.value }),
    ...(state.error === undefined ? {} : { error: state.error }),
    isStale: state.key !== key,
    reload
  }
}

/** Calls at once, then at most once in `ms`, the last call never lost. */
export const useThrottled = (ms: number, run: () => void): (() => void) => {
  const state = useRef<{ at: number; cancel?: (() => void) | undefined }>({ at: -Infinity })
  const latest = useRef(run)
  latest.current = run
  useEffect(() => () => state.current.cancel?.(), [])
  return useCallback(() => {
    const { at, cancel } = state.current
    if (cancel !== undefined) return
    const left = at + ms - Clock.now()
    const go = () => {
      state.current = { at: Clock.now() }
      latest.current()
    }
    if (left <= 0 || left > ms) go()
    else state.current.cancel = Clock.after(left, go)
  }, [ms])
}
