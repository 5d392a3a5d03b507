/** A run over time: how long callers took, how often Cal.com was asked for tokens, and what memory that took. */
import { LineChart } from "echarts/charts"
import { GridComponent, LegendComponent, MarkLineComponent, TitleComponent } from "echarts/components"
import * as Echarts from "echarts/core"
import { SVGRenderer } from "echarts/renderers"
import { kinds } from "./Figures.js"
import type { Result } from "./Result.js"

Echarts.use([LineChart, GridComponent, LegendComponent, MarkLineComponent, TitleComponent, SVGRenderer])

const panels = [
  { title: "latency, ms: p99 full, p50 dotted", type: "log" },
  { title: "a second", type: "value" },
  { title: "resident memory, MiB", type: "value" }
] as const

const height = 260

/** One for each line, dotted ones like those they belong to. */
const colours = ["#4269d0", "#efb118", "#ff725c", "#3ca951", "#222", "#b00", "#9498a0", "#a463f2", "#9c6b4e", "#6cc5b0"]

/** The plot as SVG. */
export const render = ({ events, parts, settings }: Result): string => {
  const at = parts.map((part) => part.at)
  const line = (panel: number, name: string, values: ReadonlyArray<number | undefined>, isDotted = false) => ({
    type: "line" as const,
    name,
    xAxisIndex: panel,
    yAxisIndex: panel,
    showSymbol: false,
    connectNulls: panel === 2,
    lineStyle: { width: 1.5, type: isDotted ? ("dotted" as const) : ("solid" as const) },
    data: values.map((value, index) => [at[index] ?? 0, value === undefined || Number.isNaN(value) ? null : value])
  })
  const asked = kinds.filter((kind) => kind !== "newSession")
  const chart = Echarts.init(null, null, {
    renderer: "svg",
    ssr: true,
    width: 1100,
    height: height * panels.length + 60
  })
  chart.setOption({
    animation: false,
    backgroundColor: "#fff",
    color: colours,
    title: panels.map(({ title }, panel) => ({
      text: title,
      left: 60,
      top: height * panel + 34,
      textStyle: { fontSize: 12, fontWeight: "normal" as const }
    })),
    legend: { top: 4, itemHeight: 6 },
    grid: panels.map((_, panel) => ({ left: 60, right: 30, top: height * panel + 60, height: height - 90 })),
    xAxis: panels.map((_, gridIndex) => ({
      type: "value" as const,
      gridIndex,
      min: 0,
      max: settings.seconds,
      axisLabel: { formatter: "{value} s" }
    })),
    yAxis: panels.map(({ type }, gridIndex) => ({ type, gridIndex, ...(type === "log" ? { min: 1 } : {}) })),
    series: [
      ...asked.flatMap((kind) => [
        line(
          0,
          kind,
          parts.map((part) => part.kinds[kind].p99)
        ),
        line(
          0,
          kind,
          parts.map((part) => part.kinds[kind].p50),
          true
        )
      ]),
      {
        ...line(
          1,
          "refreshes",
          parts.map((part) => part.refreshes)
        ),
        // What was done to the fleet, on all that comes below.
        markLine: {
          symbol: "none",
          silent: true,
          data: events.map(({ at, what }) => ({
            xAxis: Math.min(at, settings.seconds),
            label: { formatter: what, fontSize: 9, position: "insideEndTop" as const }
          }))
        }
      },
      line(
        1,
        "mishaps",
        parts.map((part) => part.mishaps)
      ),
      ...Array.from({ length: settings.processes }, (_, slot) =>
        line(
          2,
          `process ${slot + 1}`,
          parts.map((part) => part.rss[slot])
        )
      )
    ]
  })
  const svg = chart.renderToSVGString()
  chart.dispose()
  return svg
}
