/**
 * What happens, as it happens. A tab that can be seen asks for the overview each second. Events come to one tab, which
 * passes them on to the others, so that five tabs cost the service no more than one.
 */
import { createParser } from "eventsource-parser"
import { useEffect, useRef } from "preact/hooks"
import * as Client from "./Client.js"
import * as Clock from "./Clock.js"
import * as Fleet from "./Fleet.js"
import * as Session from "./Session.js"
import * as Store from "./Store.js"
import type { Overview } from "./Wire.js"

export interface Live {
  /** `refused`: the service answers, but not this; `error` says why. */
  readonly is: "loading" | "live" | "paused" | "away" | "refused"
  readonly overview?: Overview
  readonly error?: Client.ServiceError
  /** When it is tried again. */
  readonly triesAt?: number
  /** A process that started while somebody looked. */
  readonly start?: Fleet.Start | undefined
}

const every = 1_000
const longestPause = 5_000

let held = false
/** Ends what waits for the next try. */
let wake = () => undefined as void

/** Whether it is to be asked for now. */
const isIdle = (): boolean => isStill() || !Session.isOpen()

/** Nobody looks, or they want it to stay as it is. */
const isStill = (): boolean => held || document.hidden

const poll = async (signal: AbortSignal): Promise<void> => {
  let failures = 0
  /** Until `ms` are over, or something says that it is worth a look now. */
  const rest = async (ms: number) => {
    const controller = new AbortController()
    wake = () => controller.abort()
    await Clock.sleep(ms, AbortSignal.any([signal, controller.signal]))
  }
  while (!signal.aborted) {
    if (isIdle()) {
      live.set({ ...live.get(), is: "paused" })
      await rest(2 ** 30)
      continue
    }
    const began = Clock.now()
    try {
      const overview = await Client.overview(signal)
      failures = 0
      live.set(heard(live.get(), overview))
      await rest(Math.max(200, every - (Clock.now() - began)))
    } catch (thrown) {
      if (signal.aborted) return
      const error = Client.toError(thrown)
      // Whoever logs in again goes on from here.
      if (!Session.isOpen()) continue
      const pause = Math.min(longestPause, Math.max(every * 2 ** failures++, (error.retryAfter ?? 0) * 1_000))
      const isAway = error.code === "Away" || error.code === "ShuttingDown"
      live.set({ ...live.get(), is: isAway ? "away" : "refused", error, triesAt: Clock.now() + pause })
      await rest(pause)
    }
  }
}

let fleet: Fleet.Fleet | undefined

const heard = (before: Live, told: Overview): Live => {
  // The service may give one reading to whoever asks for a while.
  if (before.is === "live" && before.overview?.at === told.at) return before
  fleet = Fleet.hear(fleet, told, Clock.now())
  return { is: "live", overview: fleet.overview, start: fleet.start }
}

/** Tells that something was missed while nothing was told. */
const catchUp = () => {
  if (isBehind && !isStill()) tell({ changes: [reset], position: undefined })
}

const wakeUp = () => {
  wake()
  catchUp()
}

const live: Store.Store<Live> = Store.make<Live>({ is: "loading" }, () => {
  const controller = new AbortController()
  document.addEventListener("visibilitychange", wakeUp)
  window.addEventListener("online", wakeUp)
  const unsubscribe = Session.state.subscribe(wakeUp)
  void poll(controller.signal)
  return () => {
    controller.abort()
    unsubscribe()
    document.removeEventListener("visibilitychange", wakeUp)
    window.removeEventListener("online", wakeUp)
  }
})

/** All that is known, or a part of it: what draws a part alone is not drawn again when another changes. */
export function useLive(): Live
export function useLive<A>(select: (live: Live) => A): A
export function useLive(select: (live: Live) => unknown = (all) => all): unknown {
  return Store.useSelected(live, select)
}

/** The last overview; undefined until there is one. */
export const useOverview = (): Overview | undefined => useLive((all) => all.overview)

/** Asks now. */
export const look = (): void => wake()

/** Stops asking, or goes on. */
export const hold = (still: boolean): void => {
  held = still
  wakeUp()
}

/** The note that a process was started has been read. */
export const forgetStart = (): void => {
  if (fleet !== undefined) fleet = { ...fleet, start: undefined }
  live.set({ ...live.get(), start: undefined })
}

/** Something that happened to a user's tokens, or `reset`: some of it is missing, whatever is shown may be old. */
export interface Change {
  readonly event:
    | "connected"
    | "updated"
    | "refreshed"
    | "reissued"
    | "disconnected"
    | "reauthorizationRequired"
    | "reauthorized"
    | "reset"
  /** Absent from `reset`. */
  readonly userUlid?: string
  readonly at?: string
  readonly version?: number
  readonly cause?: string
  readonly since?: string
  readonly reauthorized?: boolean
}

interface News {
  readonly changes: ReadonlyArray<Change>
  readonly position: string | undefined
}

const reset: Change = { event: "reset" }

/** Comments come every 15 seconds. */
const silence = 40_000
/** Events come in swarms, and what they make draw again takes longer than they do. */
const gather = 250
/** What was missed for longer is not told one by one. */
const memory = 60_000

const listeners = new Set<(changes: ReadonlyArray<Change>) => void>()
let position: string | undefined
let toldAt = 0
/** Something happened that nobody was told, for the page is to stay as it is, or cannot be seen. */
let isBehind = false

const tell = (news: News) => {
  position = news.position ?? position
  toldAt = Clock.now()
  if (news.changes.length === 0) return
  isBehind = isStill()
  if (!isBehind) for (const listener of [...listeners]) listener(news.changes)
}

/** One stream, until it ends. */
const follow = async (pass: (news: News) => void, signal: AbortSignal): Promise<void> => {
  const controller = new AbortController()
  const both = AbortSignal.any([signal, controller.signal])
  const from = Clock.now() - toldAt > memory ? undefined : position
  let changes: Array<Change> = []
  let isDue = false
  const flush = () => {
    isDue = false
    pass({ changes, position })
    changes = []
  }
  const parser = createParser({
    onEvent: ({ data, event, id }) => {
      const told = JSON.parse(data === "" ? "{}" : data) as Omit<Change, "event">
      changes.push({ ...told, event: event as Change["event"] })
      position = id
      if (!isDue) Clock.after(gather, flush)
      isDue = true
    }
  })
  let end = Clock.after(silence, () => controller.abort())
  try {
    const response = await Client.open("api/cal/events", {
      headers: { accept: "text/event-stream", ...(from === undefined ? {} : { "last-event-id": from }) },
      signal: both
    })
    // What happened before it began is not told.
    if (from === undefined) pass({ changes: [reset], position: undefined })
    const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader()
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      end()
      end = Clock.after(silence, () => controller.abort())
      parser.feed(part.value)
    }
  } finally {
    end()
    controller.abort()
  }
}

/** Streams, one after the other, as long as the signal lasts. */
const hear = async (pass: (news: News) => void, signal: AbortSignal): Promise<void> => {
  let failures = 0
  while (!signal.aborted) {
    const began = Clock.now()
    await follow(pass, signal).catch(() => undefined)
    failures = Clock.now() - began > longestPause ? 0 : failures + 1
    await Clock.sleep(Math.min(longestPause, 500 * 2 ** failures), signal)
  }
}

/** Ends when the tab cannot be seen any more. */
const whileVisible = (signal: AbortSignal): AbortSignal => {
  const hidden = new AbortController()
  document.addEventListener("visibilitychange", () => document.hidden && hidden.abort(), { signal: hidden.signal })
  return AbortSignal.any([signal, hidden.signal])
}

const visible = (signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    if (!document.hidden || signal.aborted) return resolve()
    const done = () => resolve()
    document.addEventListener("visibilitychange", done, { once: true, signal })
    signal.addEventListener("abort", done, { once: true })
  })

/** The events, through this tab or another. Begins with the session and ends with the signal. */
export const startEvents = async (signal: AbortSignal): Promise<void> => {
  // Several services may live below one origin.
  const name = `cal-tokens events ${new URL(".", document.baseURI).pathname}`
  const channel = "BroadcastChannel" in window ? new BroadcastChannel(name) : undefined
  channel?.addEventListener("message", (message: MessageEvent<News>) => tell(message.data))
  signal.addEventListener("abort", () => channel?.close())
  const pass = (news: News) => {
    if (signal.aborted) return
    tell(news)
    channel?.postMessage(news)
  }
  // Locks are there in secure contexts alone.
  const locks = (navigator as { readonly locks?: LockManager }).locks
  while (!signal.aborted) {
    await visible(signal)
    const seen = whileVisible(signal)
    if (locks === undefined) await hear(tell, seen)
    else await locks.request(name, { signal: seen }, () => hear(pass, seen)).catch(() => undefined)
  }
}

/** Calls back with what happened, some at a time, at most four times a second. */
export const useEvents = (callback: (changes: ReadonlyArray<Change>) => void): void => {
  const latest = useRef(callback)
  latest.current = callback
  useEffect(() => {
    const listener = (changes: ReadonlyArray<Change>) => latest.current(changes)
    listeners.add(listener)
    return () => void listeners.delete(listener)
  }, [])
}
