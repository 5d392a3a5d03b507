/**
 * A chart of minutes: drawn by uPlot, read with the pointer, with arrow keys or as a table. It knows no units: whoever uses
 * it says what each minute is in words.
 */
import type { ComponentChildren } from "preact"
import { useEffect, useId, useLayoutEffect, useRef, useState } from "preact/hooks"
import UPlot from "uplot"
import "uplot/dist/uPlot.min.css"
import * as Clock from "./Clock.js"
import * as Format from "./Format.js"
import * as Palette from "./Palette.js"

const minute = 60_000

export interface Series {
  readonly values: ReadonlyArray<number | null>
  readonly colour: Palette.Colour
  readonly as: "bars" | "hatched" | "line"
  /** Where bars begin; 0 by default. */
  readonly from?: number
  readonly dash?: ReadonlyArray<number>
  readonly width?: number
}

export interface Tick {
  readonly at: number
  readonly label: string
}

export interface Plot {
  /** When each minute begins, in ms. */
  readonly minutes: ReadonlyArray<number>
  /** What covers others comes last. */
  readonly series: ReadonlyArray<Series>
  readonly range: readonly [number, number]
  readonly ticks: ReadonlyArray<Tick>
  /** Which minute is running. */
  readonly running: "first" | "last"
}

interface Props {
  readonly title: string
  /** The chart in one sentence. */
  readonly summary: string
  readonly plot: Plot
  readonly height: number
  /** Names of the table's columns after the first, and their cells. */
  readonly columns: ReadonlyArray<string>
  readonly cells: (index: number) => ReadonlyArray<string>
  /** What the colours are, with the numbers of a minute or of all. */
  readonly legend: (index: number | undefined, when: string) => ComponentChildren
  readonly whole: string
  readonly layout?: "beside" | "below"
}

const runningOf = ({ minutes, running }: Plot): number | undefined => (running === "last" ? minutes.at(-1) : minutes[0])

/** The x axis has a label each ten minutes, or fewer where it is narrow, and at the running one. */
const labelled = (plot: Plot, width: number): Array<number> => {
  const now = runningOf(plot)
  if (now === undefined) return []
  const [step, apart] = width < 400 ? [20, 8] : [10, 4]
  const tens = plot.minutes.filter(
    (at) => new Date(at).getMinutes() % step === 0 && Math.abs(at - now) > apart * minute
  )
  return [...tens, now].map((at) => at + minute / 2).sort((one, other) => one - other)
}

/** A minute between two without numbers is no line: it gets a point. */
const alone = (values: ReadonlyArray<number | null>): Array<number> =>
  values.flatMap((value, index) =>
    value !== null && (values[index - 1] ?? null) === null && (values[index + 1] ?? null) === null ? [index] : []
  )

/** The pointer and the keys choose a minute, and the chart shows it: uPlot listens to neither. */
const unbound = {
  mousedown: () => null,
  mouseup: () => null,
  click: () => null,
  dblclick: () => null,
  mousemove: () => null,
  mouseleave: () => null,
  mouseenter: () => null
}

const options = (current: () => Plot, width: number, height: number): UPlot.Options => {
  const { series } = current()
  const font = () => Palette.font()
  const axis = { stroke: () => Palette.colour("quiet"), font: font(), ticks: { show: false }, labelGap: 0 }
  const grid = { stroke: () => Palette.colour("line"), width: 1 }
  return {
    width,
    height,
    padding: [8, 14, 0, 0],
    legend: { show: false },
    select: { show: false, left: 0, top: 0, width: 0, height: 0 },
    cursor: { y: false, points: { show: false }, drag: { x: false, y: false }, bind: unbound },
    scales: {
      x: {
        time: false,
        range: () => [current().minutes[0] ?? 0, (current().minutes.at(-1) ?? 0) + minute]
      },
      y: { range: () => [...current().range] as UPlot.Range.MinMax }
    },
    axes: [
      {
        ...axis,
        size: 24,
        gap: 6,
        grid: { show: false },
        splits: ({ width }) => labelled(current(), width),
        values: (_, splits) =>
          splits.map((at) => (at - minute / 2 === runningOf(current()) ? "now" : Format.clock(at - minute / 2)))
      },
      {
        ...axis,
        size: 52,
        gap: 8,
        grid,
        splits: () => current().ticks.map(({ at }) => at),
        values: () => current().ticks.map(({ label }) => label)
      }
    ],
    series: [
      {},
      ...series.map(({ as, dash, from = 0, width = 1.5 }, index): UPlot.Series => {
        const found = () => current().series[index]!
        if (as === "line") {
          return {
            stroke: () => Palette.colour(found().colour),
            width,
            ...(dash === undefined ? {} : { dash: [...dash] }),
            points: {
              show: true,
              size: 5,
              fill: () => Palette.colour(found().colour),
              filter: () => alone(found().values)
            },
            spanGaps: false
          }
        }
        return {
          fill: () => (as === "hatched" ? Palette.hatched(found().colour) : Palette.colour(found().colour)),
          width: 0,
          fillTo: () => found().from ?? from,
          points: { show: false },
          paths: UPlot.paths.bars!({ size: [0.75, 40], gap: 0 })
        }
      })
    ],
    hooks: {
      drawClear: [
        (plot) => {
          const at = runningOf(current())
          if (at === undefined) return
          const left = plot.valToPos(at, "x", true)
          const right = plot.valToPos(at + minute, "x", true)
          plot.ctx.fillStyle = Palette.colour("sunken")
          plot.ctx.fillRect(left, plot.bbox.top, right - left, plot.bbox.height)
        }
      ]
    }
  }
}

const aligned = ({ minutes, series }: Plot): UPlot.AlignedData => [
  minutes.map((at) => at + minute / 2),
  ...series.map(({ values }) => values as Array<number | null>)
]

const Canvas = ({
  chosen,
  height,
  onChoose,
  plot
}: {
  readonly plot: Plot
  readonly height: number
  readonly chosen: number | undefined
  readonly onChoose: (at: number | undefined) => void
}) => {
  const place = useRef<HTMLDivElement>(null)
  const drawn = useRef<UPlot>(undefined)
  const latest = useRef({ plot, chosen, onChoose })
  latest.current = { plot, chosen, onChoose }
  /** What uPlot is told once: other series are another chart. */
  const shape = plot.series.map(({ as, colour }) => `${as} ${colour}`).join()
  useLayoutEffect(() => {
    const element = place.current
    if (element === null) return
    const ends = new AbortController()
    const begin = () => {
      const made = new UPlot(
        options(() => latest.current.plot, element.clientWidth, height),
        aligned(latest.current.plot),
        element
      )
      drawn.current = made
      const fit = new ResizeObserver(([entry]) => {
        const width = Math.floor(entry?.contentRect.width ?? 0)
        if (width > 0 && width !== made.width) made.setSize({ width, height })
      })
      fit.observe(element)
      const forget = Palette.onChange(() => made.redraw(true, true))
      const choose = ({ clientX }: PointerEvent) => {
        const index = made.posToIdx(clientX - made.over.getBoundingClientRect().left)
        latest.current.onChoose(latest.current.plot.minutes[index])
      }
      const leave = (event: PointerEvent) => event.pointerType !== "touch" && latest.current.onChoose(undefined)
      made.over.addEventListener("pointermove", choose)
      made.over.addEventListener("pointerdown", choose)
      made.over.addEventListener("pointerleave", leave)
      ends.signal.addEventListener("abort", () => {
        fit.disconnect()
        forget()
        made.destroy()
      })
    }
    // Each chart in a task of its own: what is typed or clicked meanwhile waits for one of them at most.
    const callOff = Clock.after(0, begin)
    return () => {
      callOff()
      drawn.current = undefined
      ends.abort()
    }
  }, [shape, height])
  useLayoutEffect(() => {
    drawn.current?.setData(aligned(plot))
  }, [plot])
  useLayoutEffect(() => {
    const left = chosen === undefined ? -10 : (drawn.current?.valToPos(chosen + minute / 2, "x") ?? -10)
    drawn.current?.setCursor({ left, top: chosen === undefined ? -10 : 0 }, false)
  }, [plot, chosen])
  return <div ref={place} class="chart-canvas" aria-hidden="true" />
}

const Table = ({ caption, cells, columns, plot }: Pick<Props, "cells" | "columns" | "plot"> & { caption: string }) => (
  <div class="table-frame" tabIndex={0} role="region" aria-label={`${caption}, as a table`}>
    <table class="table">
      <caption class="visually-hidden">{caption}</caption>
      <thead>
        <tr>
          <th scope="col">Minute</th>
          {columns.map((name) => (
            <th key={name} scope="col" class="number">
              {name}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {plot.minutes.map((at, index) => (
          <tr key={at}>
            <th scope="row">{Format.clock(at)}</th>
            {cells(index).map((text, column) => (
              <td key={columns[column]} class="number">
                {text}
              </td>
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  </div>
)

const steps: Readonly<Record<string, (index: number, last: number) => number>> = {
  ArrowLeft: (index) => index - 1,
  ArrowDown: (index) => index - 1,
  ArrowRight: (index) => index + 1,
  ArrowUp: (index) => index + 1,
  PageDown: (index) => index - 10,
  PageUp: (index) => index + 10,
  Home: () => 0,
  End: (_, last) => last
}

export const Chart = ({ cells, columns, height, layout = "below", legend, plot, summary, title, whole }: Props) => {
  const id = useId()
  const [chosen, choose] = useState<number | undefined>(undefined)
  const [isTable, showTable] = useState(false)
  const { minutes, running } = plot
  const last = minutes.length - 1
  const found = chosen === undefined ? -1 : minutes.indexOf(chosen)
  const index = found < 0 ? undefined : found
  const isRunning = index === (running === "last" ? last : 0)
  const when = index === undefined ? whole : `${Format.clock(minutes[index]!)}${isRunning ? ", still running" : ""}`
  const resting = running === "last" ? last : 0
  const words = (at: number) => {
    const said = cells(at).map((text, column) => `${columns[column]} ${text}`)
    return `${Format.clock(minutes[at]!)}: ${said.join(", ")}`
  }
  const onKeyDown = (event: KeyboardEvent) => {
    const step = steps[event.key]
    if (event.key === "Escape") choose(undefined)
    if (step === undefined || event.altKey || event.ctrlKey || event.metaKey) return
    event.preventDefault()
    const next = index === undefined ? (event.key === "Home" ? 0 : resting) : step(index, last)
    choose(minutes[Math.max(0, Math.min(last, next))])
  }
  useEffect(() => {
    if (chosen !== undefined && index === undefined) choose(undefined)
  }, [chosen, index])
  return (
    <section class="panel chart" aria-labelledby={id}>
      <div class="panel-head">
        <h2 id={id}>{title}</h2>
        <p class="quiet">{summary}</p>
      </div>
      <div class={`chart-body ${layout}`}>
        <div
          class="chart-place"
          data-height={height}
          role="slider"
          tabIndex={0}
          aria-label={`${title}, minute by minute`}
          aria-roledescription="chart"
          aria-valuemin={0}
          aria-valuemax={Math.max(0, last)}
          aria-valuenow={index ?? resting}
          aria-valuetext={index === undefined ? summary : words(index)}
          onKeyDown={onKeyDown}
          onBlur={() => choose(undefined)}
        >
          <Canvas plot={plot} height={height} chosen={index === undefined ? undefined : chosen} onChoose={choose} />
        </div>
        <div class="chart-legend">{legend(index, when)}</div>
      </div>
      <details class="chart-table" onToggle={(event) => showTable(event.currentTarget.open)}>
        <summary>As a table</summary>
        {isTable && <Table caption={title} cells={cells} columns={columns} plot={plot} />}
      </details>
    </section>
  )
}
