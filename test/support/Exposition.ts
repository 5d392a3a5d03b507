/** A strict reader of what `GET /metrics` says: it fails at whatever the format does not allow. */
import { assert } from "@effect/vitest"
import * as Metrics from "../../src/Metrics.js"

export interface Sample {
  readonly family: string
  readonly name: string
  readonly labels: ReadonlyMap<string, string>
  readonly value: string
}

const number = /^(-?\d+(\.\d+)?(e[+-]\d+)?|[+-]Inf|NaN)$/
const unescape = (text: string) => text.replace(/\\(.)/g, (_, char: string) => (char === "n" ? "\n" : char))

/** Fails at whatever the format does not allow. */
export const read = (text: string) => {
  const samples: Array<Sample> = []
  const types = new Map<string, string>()
  const helps = new Map<string, string>()
  const series = new Set<string>()
  let family = ""
  assert.isTrue(text === "" || text.endsWith("\n"))
  for (const line of text.split("\n").slice(0, -1)) {
    const [, help, helpText = ""] = /^# HELP ([a-zA-Z_:][a-zA-Z0-9_:]*) ((?:[^\\]|\\\\|\\n)*)$/s.exec(line) ?? []
    const [, typed, type = ""] =
      /^# TYPE ([a-zA-Z_:][a-zA-Z0-9_:]*) (counter|gauge|histogram|summary)$/.exec(line) ?? []
    if (help !== undefined) {
      assert.isFalse(helps.has(help) || types.has(help), line)
      helps.set(help, unescape(helpText))
    } else if (typed !== undefined) {
      assert.isFalse(types.has(typed), line)
      types.set(typed, type)
      family = typed
    } else {
      const [, name = "", , inner = "", value = ""] =
        /^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{((?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\]|\\\\|\\"|\\n)*",?)*)\})? (\S+)$/s.exec(
          line
        ) ?? assert.fail(line)
      assert.match(value, number)
      assert.notMatch(inner, /,$/)
      const pairs = [...inner.matchAll(/([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"/gs)]
      const labels = new Map(pairs.map(([, label = "", text = ""]) => [label, unescape(text)]))
      assert.strictEqual(labels.size, pairs.length, line)
      const suffix = name.slice(family.length)
      const type = types.get(family)
      const allowed =
        type === "histogram" ? ["_bucket", "_sum", "_count"] : type === "summary" ? ["", "_sum", "_count"] : [""]
      assert.isTrue(name.startsWith(family) && allowed.includes(suffix), line)
      assert.strictEqual(labels.has("le"), type === "histogram" ? suffix === "_bucket" : labels.has("le"), line)
      const key = JSON.stringify([name, [...labels].sort()])
      assert.isFalse(series.has(key), line)
      series.add(key)
      samples.push({ family, name, labels, value })
    }
  }
  for (const help of helps.keys()) assert.isTrue(types.has(help), help)
  return { samples, types, helps }
}

/** Labels and values that no list of ours has. What is a bucket's end is not judged. */
export const strangers = (samples: ReadonlyArray<Pick<Sample, "family" | "labels">>): ReadonlyArray<string> =>
  samples.flatMap(({ family, labels }) => {
    const described = Metrics.all.find(({ name }) => name === family)
    return [...labels].flatMap(([label, value]) => {
      const values = described?.labels[label]
      const isListed =
        values === undefined ? false : "pattern" in values ? values.pattern.test(value) : values.includes(value)
      return isListed || (label === "le" && described?.type === "histogram") ? [] : [`${family}{${label}="${value}"}`]
    })
  })
