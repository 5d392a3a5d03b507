/** What a run saw, in figures. */
import type { IntervalHistogram } from "node:perf_hooks"
import * as Figures from "./Figures.js"
import type { Verdict } from "./Judge.js"
import type { Sample } from "./probe.js"
import type { Truth } from "./Truth.js"
import type { Waits } from "./Waits.js"

/** What was asked for. */
export interface Settings {
  readonly users: number
  /** The share of them who are in use; the others were away for a long time, and few of them come back. */
  readonly inUse: number
  readonly seconds: number
  /** Requests a second of the whole fleet, besides those of pages with Atoms. */
  readonly rate: number
  readonly processes: number
  /** Of access tokens, in seconds. */
  readonly lifetime: number
  /** How far away Cal.com is, in ms. */
  readonly latency: number
  /** The share of calls to Cal.com that something happens to. */
  readonly mishaps: number
  /** How late late answers are, in ms: later than the service waits for one, and not so late as it listens for it. */
  readonly late: number
  readonly seed: number
}

/** In ms. */
export interface Lateness {
  readonly p99: number
  readonly max: number
}

export interface ProcessFigures {
  /** Its place in the fleet, with a stroke for each process that was there before. */
  readonly name: string
  readonly seconds: number
  /**
   * Resident, in MiB: the first and the last sample, and what is added in a minute, by least squares without the first
   * fifth; that of a process which was there for less than a minute says nothing, and is not told.
   */
  readonly rss: { readonly start: number; readonly end: number; readonly aMinute: number | undefined }
  /** The share of one processor. */
  readonly cpu: number
  /** How late the event loop was, in ms: in 99 of 100 seconds, 99 of 100 timers were less late than that; and the worst. */
  readonly delay: Lateness
}

/** What a part of the run saw. */
export interface Part {
  /** Seconds since the beginning. */
  readonly at: number
  readonly kinds: Readonly<Record<Figures.Kind, Figures.Quantiles>>
  /** Pairs that Cal.com granted, and calls that something happened to, a second. */
  readonly refreshes: number
  readonly mishaps: number
  /** In MiB, by process. */
  readonly rss: ReadonlyArray<number | undefined>
}

export interface Result {
  readonly settings: Settings
  /** Milliseconds since the epoch. */
  readonly beganAt: number
  /** How long it took to make everybody. */
  readonly setUpSeconds: number
  readonly kinds: Readonly<Record<Figures.Kind, ReturnType<Figures.Figures["of"]>>>
  /** Requests a second that were answered. */
  readonly reached: number
  readonly refreshes: {
    readonly granted: number
    /** Calls that presented a refresh token, for each token that was presented. */
    readonly perExpiry: number
    /** Tokens that were presented again although nothing had happened to their first call, nor to who made it. */
    readonly presentedAgain: number
  }
  readonly mishaps: Readonly<Record<string, number>>
  readonly waits: Waits
  readonly verdict: Verdict
  /** Refresh tokens that Cal.com would take and told nobody of. */
  readonly unknownToAll: number
  /** Of processes that were told to stop and did not end well: their last words. */
  readonly badExits: ReadonlyArray<string>
  readonly processes: ReadonlyArray<ProcessFigures>
  /** Of the process that asks, in ms: how late it was itself. */
  readonly lateness: Lateness
  /** The share of one processor that Cal.com took, and whoever asks. */
  readonly others: { readonly cal: number; readonly own: number }
  readonly events: ReadonlyArray<{ readonly at: number; readonly what: string }>
  readonly parts: ReadonlyArray<Part>
}

/** What is left when a run is over. */
export interface Run {
  readonly settings: Settings
  readonly setUpSeconds: number
  /** Milliseconds since the epoch; and so many parts of `width` ms. */
  readonly beganAt: number
  readonly width: number
  readonly parts: number
  readonly figures: Figures.Figures
  readonly truth: Truth
  readonly verdict: Verdict
  readonly waits: Waits
  readonly services: ReadonlyArray<{ readonly slot: number; readonly samples: ReadonlyArray<Sample> }>
  readonly badExits: ReadonlyArray<string>
  readonly events: Result["events"]
  readonly lateness: Lateness
  readonly others: Result["others"]
}

export const make = (run: Run): Result => {
  const {
    badExits,
    beganAt,
    events,
    figures,
    lateness,
    others,
    services,
    settings,
    setUpSeconds,
    truth,
    verdict,
    waits
  } = run
  const during = truth.spendings.filter(({ at }) => at >= beganAt)
  const kinds = byKind((kind) => figures.of(kind))
  const answered = Object.values(kinds).flatMap(({ answers }) =>
    Object.entries(answers).map(([label, n]) => (label.startsWith("0") ? 0 : n))
  )
  const mishaps: Record<string, number> = {}
  for (const { fault } of during) if (fault !== undefined) mishaps[fault] = (mishaps[fault] ?? 0) + 1
  return {
    ...{ settings, beganAt, setUpSeconds, kinds, mishaps, waits, verdict, badExits, lateness, others, events },
    reached: answered.reduce((sum, n) => sum + n, 0) / settings.seconds,
    refreshes: refreshesOf(during, verdict),
    unknownToAll: truth.unknownToAll,
    processes: services.map((service, index) => {
      const before = services.slice(0, index).filter(({ slot }) => slot === service.slot).length
      return processOf(`${service.slot + 1}${"'".repeat(before)}`, service.samples, run)
    }),
    parts: partsOf(run, during)
  }
}

/** Of what a process measured of itself with timers of 10 ms. */
export const late = (histogram: IntervalHistogram): Lateness => {
  const millis = (nanos: number) => Math.max(0, nanos / 1e6 - 10)
  return { p99: millis(histogram.percentile(99)), max: millis(histogram.max) }
}

const byKind = <A>(of: (kind: Figures.Kind) => A): Readonly<Record<Figures.Kind, A>> =>
  Object.fromEntries(Figures.kinds.map((kind) => [kind, of(kind)])) as Record<Figures.Kind, A>

const refreshesOf = (spendings: Truth["spendings"], { diedWithProcess }: Verdict): Result["refreshes"] => {
  const died = new Set(diedWithProcess.map(({ hash }) => hash))
  const first = new Map<string, Truth["spendings"][number]>()
  let presented = 0
  let presentedAgain = 0
  for (const spending of spendings) {
    if (spending.presented === undefined) continue
    presented++
    const known = first.get(spending.presented)
    if (known === undefined) first.set(spending.presented, spending)
    else if (known.fault === undefined && !died.has(known.issued ?? "")) presentedAgain++
  }
  return {
    granted: spendings.filter(({ issued }) => issued !== undefined).length,
    perExpiry: presented / first.size,
    presentedAgain
  }
}

const mebi = (bytes: number) => bytes / 2 ** 20

/** A process of less than that, in ms, is too young to say what it grows by. */
const young = 60_000

const processOf = (
  name: string,
  all: ReadonlyArray<Sample>,
  { beganAt, settings }: Pick<Run, "beganAt" | "settings">
): ProcessFigures => {
  const samples = all.filter(({ at }) => beganAt <= at && at <= beganAt + settings.seconds * 1000)
  const [first, last] = [samples[0], samples.at(-1)]
  if (first === undefined || last === undefined) {
    const rss = { start: NaN, end: NaN, aMinute: undefined }
    return { name, seconds: 0, rss, cpu: NaN, delay: { p99: NaN, max: NaN } }
  }
  const took = last.at - first.at
  const delays = samples.map(({ delay }) => delay.p99).sort((a, b) => a - b)
  const steady = samples.slice(Math.floor(samples.length / 5))
  const points = steady.map(({ at, rss }) => [at / 60_000, mebi(rss)] as const)
  return {
    name,
    seconds: took / 1000,
    rss: { start: mebi(first.rss), end: mebi(last.rss), aMinute: took < young ? undefined : slopeOf(points) },
    cpu: (last.cpu - first.cpu) / took,
    delay: {
      p99: delays[Math.floor(delays.length * 0.99)] ?? NaN,
      max: Math.max(...samples.map(({ delay }) => delay.max))
    }
  }
}

/** By least squares. */
const slopeOf = (points: ReadonlyArray<readonly [x: number, y: number]>): number => {
  const mean = (of: (point: readonly [number, number]) => number) =>
    points.reduce((sum, point) => sum + of(point), 0) / points.length
  const [x, y] = [mean(([x]) => x), mean(([, y]) => y)]
  return mean((point) => (point[0] - x) * (point[1] - y)) / mean((point) => (point[0] - x) ** 2)
}

const partsOf = (
  { beganAt, figures, parts, services, settings, width }: Run,
  spendings: Truth["spendings"]
): ReadonlyArray<Part> => {
  const partOf = (at: number) => Math.floor((at - beganAt) / width)
  const granted = new Array<number>(parts).fill(0)
  const struck = new Array<number>(parts).fill(0)
  for (const { at, fault, issued } of spendings) {
    const part = partOf(at)
    if (part >= parts) continue
    if (issued !== undefined) granted[part] = (granted[part] ?? 0) + 1
    if (fault !== undefined) struck[part] = (struck[part] ?? 0) + 1
  }
  const rss = Array.from({ length: settings.processes }, (_, slot) => {
    const samples = services.flatMap((service) => (service.slot === slot ? service.samples : []))
    return new Map(samples.map(({ at, rss }) => [partOf(at), mebi(rss)]))
  })
  const over = byKind((kind) => figures.over(kind))
  return Array.from({ length: parts }, (_, part) => ({
    at: (part * width) / 1000,
    kinds: byKind((kind) => over[kind][part] ?? Figures.none),
    refreshes: ((granted[part] ?? 0) * 1000) / width,
    mishaps: ((struck[part] ?? 0) * 1000) / width,
    rss: rss.map((samples) => samples.get(part))
  }))
}
