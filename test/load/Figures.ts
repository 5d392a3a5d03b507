/** How long requests took and how they ended, in all and over time. */
import { createHistogram, type RecordableHistogram } from "node:perf_hooks"

export const kinds = ["ensure", "proxy", "session", "newSession", "atoms"] as const
export type Kind = (typeof kinds)[number]

export interface Quantiles {
  readonly requests: number
  /** In ms. */
  readonly p50: number
  readonly p95: number
  readonly p99: number
  readonly max: number
}

export interface Figures {
  /** A request that was to be made at this instant (ms since the epoch) ended after so many ms, as `label` says. */
  readonly add: (kind: Kind, at: number, took: number, label: string) => void
  readonly of: (kind: Kind) => Quantiles & { readonly answers: Readonly<Record<string, number>> }
  /** The same for each part of the run, in order. */
  readonly over: (kind: Kind) => ReadonlyArray<Quantiles>
  readonly total: () => number
}

export const none: Quantiles = { requests: 0, p50: NaN, p95: NaN, p99: NaN, max: NaN }

const micros = (figures: 2 | 3) => createHistogram({ lowest: 1, highest: 120_000_000, figures })

const quantiles = (histogram: RecordableHistogram | undefined): Quantiles => {
  if (histogram === undefined || histogram.count === 0) return none
  const at = (percentile: number) => histogram.percentile(percentile) / 1000
  return { requests: histogram.count, p50: at(50), p95: at(95), p99: at(99), max: histogram.max / 1000 }
}

/** Of a run that begins at this instant and has so many parts of `width` ms. */
export const make = (beganAt: number, width: number, parts: number): Figures => {
  const all = new Map<Kind, RecordableHistogram>()
  const over = new Map<Kind, Array<RecordableHistogram>>()
  const labels = new Map<Kind, Map<string, number>>()
  let total = 0
  const histogramOf = (kind: Kind, part: number) => {
    const histograms = over.get(kind) ?? Array.from({ length: parts }, () => micros(2))
    over.set(kind, histograms)
    return histograms[Math.min(parts - 1, Math.max(0, part))]
  }
  return {
    add: (kind, at, took, label) => {
      total++
      const value = Math.max(1, Math.round(took * 1000))
      const histogram = all.get(kind) ?? micros(3)
      all.set(kind, histogram)
      histogram.record(value)
      histogramOf(kind, Math.floor((at - beganAt) / width))?.record(value)
      const counts = labels.get(kind) ?? new Map<string, number>()
      labels.set(kind, counts)
      counts.set(label, (counts.get(label) ?? 0) + 1)
    },
    of: (kind) => ({
      ...quantiles(all.get(kind)),
      answers: Object.fromEntries([...(labels.get(kind) ?? [])].sort(([a], [b]) => (a < b ? -1 : 1)))
    }),
    over: (kind) => (over.get(kind) ?? Array.from({ length: parts }, () => undefined)).map(quantiles),
    total: () => total
  }
}
