/**
 * Effect's metrics as text of the Prometheus exposition format 0.0.4
 * (https://prometheus.io/docs/instrumenting/exposition_formats/). Effect has no module for it, and Prometheus' client
 * for Node.js keeps a registry of its own, in which everything would have to be counted a second time.
 */
import { Array as Arr, type MetricPair, MetricKeyType, MetricState, Option, Order } from "effect"

type Pair = MetricPair.MetricPair.Untyped
type Kind = "counter" | "frequency" | "gauge" | "histogram" | "summary"
type Label = readonly [name: string, value: string]

interface Sample {
  readonly suffix: "" | "_bucket" | "_sum" | "_count"
  readonly label?: Label
  readonly value: number | bigint
}

/** Metrics of one name and kind. */
interface Family {
  readonly name: string
  readonly kind: Kind
  readonly pairs: ReadonlyArray<Pair>
}

/** Which samples a family has besides those of its own name; and the label that only the format may set. */
const forms: Readonly<
  Record<Kind, { readonly suffixes: ReadonlyArray<Sample["suffix"]>; readonly reserved?: string }>
> = {
  counter: { suffixes: [""] },
  frequency: { suffixes: [""], reserved: "key" },
  gauge: { suffixes: [""] },
  histogram: { suffixes: ["", "_bucket", "_sum", "_count"], reserved: "le" },
  summary: { suffixes: ["", "_sum", "_count"], reserved: "quantile" }
}

/** All metrics as text, in an order that only depends on their names and labels. */
export const render = (pairs: Iterable<Pair>): string => {
  const taken = new Set<string>()
  return familiesOf(pairs)
    .flatMap((family) => {
      const { suffixes } = forms[family.kind]
      let name = metricName(family.name)
      while (suffixes.some((suffix) => taken.has(name + suffix))) name += "_"
      suffixes.forEach((suffix) => taken.add(name + suffix))
      return linesOf(name, family)
    })
    .map((line) => `${line}\n`)
    .join("")
}

const byName = Order.mapInput(
  Order.tuple(Order.string, Order.string, Order.string),
  ({ kind, name }: Family) => [metricName(name), name, kind] as const
)

const familiesOf = (pairs: Iterable<Pair>): ReadonlyArray<Family> => {
  const families = new Map<string, { readonly name: string; readonly kind: Kind; readonly pairs: Array<Pair> }>()
  for (const pair of pairs) {
    const { name } = pair.metricKey
    const kind = kindOf(pair)
    const key = `${kind} ${name}`
    const family = families.get(key) ?? { name, kind, pairs: [] }
    family.pairs.push(pair)
    families.set(key, family)
  }
  return Arr.sort(families.values(), byName)
}

/** A counter that may also fall is a gauge to Prometheus. */
const kindOf = ({ metricKey: { keyType }, metricState }: Pair): Kind => {
  if (MetricState.isHistogramState(metricState)) return "histogram"
  if (MetricState.isSummaryState(metricState)) return "summary"
  if (MetricState.isFrequencyState(metricState)) return "frequency"
  return MetricKeyType.isCounterKey(keyType) && (keyType as MetricKeyType.MetricKeyType.Counter<number>).incremental
    ? "counter"
    : "gauge"
}

const linesOf = (name: string, { kind, pairs }: Family): ReadonlyArray<string> => {
  // A frequency is a counter for each word.
  const type = kind === "frequency" ? "counter" : kind
  const help = pairs.flatMap(({ metricKey }) => Option.toArray(metricKey.description)).sort()[0]
  const lines = [...(help === undefined ? [] : [`# HELP ${name} ${escapeHelp(help)}`]), `# TYPE ${name} ${type}`]
  // Keys that differ in more than their labels are one series here: the first is told of.
  const series = new Map<string, Pair>()
  for (const pair of pairs) {
    const labels = labelsOf(pair, forms[kind].reserved).map(writeLabel).join(",")
    if (!series.has(labels)) series.set(labels, pair)
  }
  for (const [labels, pair] of Arr.sortWith(series, ([labels]) => labels, Order.string)) {
    for (const { label, suffix, value } of samplesOf(pair)) {
      const all = [...(labels === "" ? [] : [labels]), ...(label === undefined ? [] : [writeLabel(label)])].join(",")
      lines.push(`${name}${suffix}${all === "" ? "" : `{${all}}`} ${writeNumber(value)}`)
    }
  }
  return lines
}

const samplesOf = ({ metricState: state }: Pair): ReadonlyArray<Sample> => {
  if (MetricState.isHistogramState(state)) {
    // Effect's buckets are cumulative already. The last one is everything.
    const buckets = state.buckets.filter(([boundary]) => boundary !== Infinity)
    return [
      ...[...buckets, [Infinity, state.count] as const].map(([boundary, value]): Sample => ({
        suffix: "_bucket",
        label: ["le", writeNumber(boundary)],
        value
      })),
      { suffix: "_sum", value: state.sum },
      { suffix: "_count", value: state.count }
    ]
  }
  if (MetricState.isSummaryState(state)) {
    return [
      ...state.quantiles.map(([quantile, value]): Sample => ({
        suffix: "",
        label: ["quantile", writeNumber(quantile)],
        value: Option.getOrElse(value, () => NaN)
      })),
      { suffix: "_sum", value: state.sum },
      { suffix: "_count", value: state.count }
    ]
  }
  if (MetricState.isFrequencyState(state)) {
    return Arr.sortWith(state.occurrences, ([word]) => word, Order.string).map(([word, value]) => ({
      suffix: "",
      label: ["key", word],
      value
    }))
  }
  if (MetricState.isGaugeState(state)) return [{ suffix: "", value: state.value }]
  if (MetricState.isCounterState(state)) return [{ suffix: "", value: state.count }]
  return []
}

/** Sorted by name; names that became the same, or one that is reserved, get underscores. */
const labelsOf = ({ metricKey: { tags } }: Pair, reserved: string | undefined): ReadonlyArray<Label> => {
  const taken = new Set(reserved === undefined ? [] : [reserved])
  const sorted = Arr.sort(
    tags,
    Order.mapInput(
      Order.tuple(Order.string, Order.string),
      ({ key, value }: (typeof tags)[number]) => [key, value] as const
    )
  )
  return sorted.map(({ key, value }) => {
    let name = labelName(key)
    while (taken.has(name)) name += "_"
    taken.add(name)
    return [name, value]
  })
}

/** A name as the format has it: `[a-zA-Z_:][a-zA-Z0-9_:]*`. */
const metricName = (name: string) => name.replace(/[^a-zA-Z0-9_:]/g, "_").replace(/^(?![a-zA-Z_:])/, "_")

/** The same for labels, which have no colons and do not begin with the two underscores of Prometheus' own. */
const labelName = (name: string) =>
  name
    .replace(/[^a-zA-Z0-9_]/g, "_")
    .replace(/^(?![a-zA-Z_])/, "_")
    .replace(/^_{2,}/, "_")

const escapeHelp = (text: string) => text.replace(/\\/g, "\\\\").replace(/\n/g, "\\n")

const writeLabel = ([name, value]: Label) => `${name}="${escapeHelp(value).replace(/"/g, '\\"')}"`

const writeNumber = (value: number | bigint) =>
  value === Infinity ? "+Inf" : value === -Infinity ? "-Inf" : String(value)
