/** The charts of the overview: which numbers are drawn how, and what each minute is in words. */
import { useMemo } from "preact/hooks"
import { Chart, type Plot, type Series, type Tick } from "./Chart.js"
import * as Format from "./Format.js"
import { Instant } from "./Instant.js"
import type { Colour } from "./Palette.js"
import { halves, roundUp, stacked } from "./Scales.js"
import type { Budget, ByTrigger, Overview, RefreshMinute } from "./Wire.js"
import * as Words from "./Words.js"

const hour = "The last hour"

/** In the order in which they lie on each other, from the axis. */
const triggers = [
  { of: "ahead", name: "Before anybody asked" },
  { of: "asked", name: "Asked for" },
  { of: "refused", name: "Access token refused" },
  { of: "reissue", name: "Reissue asked for" }
] as const satisfies ReadonlyArray<{ of: keyof ByTrigger; name: string }>

const lapsed = { of: "lapsed", name: "Never ended", colour: "quiet" } as const

const Swatch = ({ as, colour }: { readonly as: Series["as"]; readonly colour: Colour }) => (
  <span class={`swatch ${as} of-${colour}`} aria-hidden="true" />
)

/** So much of the height, below the axis, is for what failed. */
const strip = 0.3
const clearance = 0.08

const minutesOf = (all: ReadonlyArray<{ readonly at: string }>) => all.map(({ at }) => Date.parse(at))

const refreshPlot = (minutes: ReadonlyArray<RefreshMinute>): Plot => {
  const top = roundUp(Math.max(4, ...minutes.map(({ refreshed }) => Words.sum(refreshed))))
  const worst = roundUp(Math.max(2, ...minutes.map(Words.failures)))
  const bottom = (-top * strip) / (1 - strip)
  const base = bottom * (clearance / strip)
  /** However few of many they are, that some failed can be seen. */
  const depth = (failed: number) => base + (bottom - base) * Math.max(0.06, failed / worst)
  const refreshed = stacked(
    minutes,
    triggers.map(({ of }) => ({ of: (each: RefreshMinute) => each.refreshed[of], colour: of }))
  )
  const failed = stacked(minutes, [
    ...triggers.map(({ of }) => ({ of: (each: RefreshMinute) => each.failed[of], colour: of })),
    { of: (each: RefreshMinute) => each.failed.lapsed, colour: lapsed.colour }
  ])
  const shown = (value: number) => (value === 0 ? null : value)
  return {
    minutes: minutesOf(minutes),
    running: "last",
    range: [bottom * 1.04, top * 1.04],
    ticks: [
      ...halves(top).map((at): Tick => ({ at, label: Format.count(at) })),
      { at: base, label: "Failed" },
      { at: bottom, label: Format.count(worst) }
    ],
    series: [
      ...refreshed.map(({ part, sums }): Series => ({ as: "bars", colour: part.colour, values: sums.map(shown) })),
      ...failed.map(({ part, sums }): Series => ({
        as: "hatched",
        colour: part.colour,
        from: base,
        values: sums.map((value) => (value === 0 ? null : depth(value)))
      }))
    ]
  }
}

const RefreshLegend = ({
  minutes,
  when
}: {
  readonly minutes: ReadonlyArray<RefreshMinute>
  readonly when: string
}) => {
  const total = (of: (each: RefreshMinute) => number) => Format.count(Words.add(minutes, of))
  return (
    <table class="legend-table">
      <thead>
        <tr>
          <th scope="col">{when}</th>
          <th scope="col">Refreshed</th>
          <th scope="col">Failed</th>
        </tr>
      </thead>
      <tbody>
        {triggers.map(({ name, of }) => (
          <tr key={of}>
            <th scope="row">
              <Swatch as="bars" colour={of} />
              {name}
            </th>
            <td>{total(({ refreshed }) => refreshed[of])}</td>
            <td>{total(({ failed }) => failed[of])}</td>
          </tr>
        ))}
        <tr>
          <th scope="row">
            <Swatch as="hatched" colour={lapsed.colour} />
            {lapsed.name}
          </th>
          <td />
          <td>{total(({ failed }) => failed.lapsed)}</td>
        </tr>
      </tbody>
      <tfoot>
        <tr>
          <th scope="row">All</th>
          <td>{total(({ refreshed }) => Words.sum(refreshed))}</td>
          <td>{total(Words.failures)}</td>
        </tr>
        <tr>
          <th scope="row">Had to reconnect</th>
          <td />
          <td>{total((each) => each.reauthorizationRequired)}</td>
        </tr>
      </tfoot>
    </table>
  )
}

export const Refreshes = ({ minutes }: { readonly minutes: ReadonlyArray<RefreshMinute> }) => {
  const plot = useMemo(() => refreshPlot(minutes), [minutes])
  return (
    <Chart
      title="Refreshes per minute"
      summary={Words.refreshes(minutes)}
      plot={plot}
      height={264}
      layout="beside"
      whole={hour}
      columns={[
        ...triggers.map(({ name }) => name),
        ...triggers.map(({ name }) => `Failed: ${name.toLowerCase()}`),
        "Failed: never ended",
        "Had to reconnect"
      ]}
      cells={(index) => {
        const { failed, reauthorizationRequired, refreshed } = minutes[index]!
        const numbers = [
          ...triggers.map(({ of }) => refreshed[of]),
          ...triggers.map(({ of }) => failed[of]),
          failed.lapsed,
          reauthorizationRequired
        ]
        return numbers.map(Format.count)
      }}
      legend={(index, when) => (
        <RefreshLegend when={when} minutes={index === undefined ? minutes : [minutes[index]!]} />
      )}
    />
  )
}

/** What a number is, then the number: it stays where it is when the number grows. */
const Facts = ({ all, when }: { readonly when: string; readonly all: ReadonlyArray<Fact> }) => (
  <dl class="legend-facts">
    <div class="when">
      <dt class="visually-hidden">When</dt>
      <dd>{when}</dd>
    </div>
    {all.map(({ name, swatch, value }) => (
      <div key={name}>
        <dt>
          {swatch}
          {name}
        </dt>
        <dd>{value}</dd>
      </div>
    ))}
  </dl>
)

interface Fact {
  readonly name: string
  readonly value: string
  readonly swatch?: preact.JSX.Element
}

export const Expiries = ({ expiries }: { readonly expiries: Overview["expiries"] }) => {
  const { minutes, overdue } = expiries
  const plot = useMemo((): Plot => {
    const top = roundUp(Math.max(4, ...minutes.map(({ users }) => users)))
    return {
      minutes: minutesOf(minutes),
      running: "first",
      range: [0, top * 1.04],
      ticks: halves(top).map((at) => ({ at, label: Format.count(at) })),
      series: [{ as: "bars", colour: "ahead", values: minutes.map(({ users }) => (users === 0 ? null : users)) }]
    }
  }, [minutes])
  const all = Words.add(minutes, ({ users }) => users)
  return (
    <Chart
      title="Tokens that end within the next hour"
      summary={Words.expiries(expiries)}
      plot={plot}
      height={180}
      whole="The next hour"
      columns={["Tokens that end"]}
      cells={(index) => [Format.count(minutes[index]!.users)]}
      legend={(index, when) => (
        <Facts
          when={when}
          all={[
            {
              name: "Tokens that end",
              value: Format.count(index === undefined ? all : minutes[index]!.users),
              swatch: <Swatch as="bars" colour="ahead" />
            },
            { name: "Overdue now", value: Format.count(overdue) }
          ]}
        />
      )}
    />
  )
}

const percentiles = [
  { of: "p50", name: "p50", colour: "ahead", width: 2 },
  { of: "p95", name: "p95", colour: "asked", width: 1.5, dash: [6, 3] },
  { of: "p99", name: "p99", colour: "refused", width: 1.5, dash: [2, 3] }
] as const

/** 100 ms, 1 s, 10 s: each is as far from the next. */
const decades = (from: number, to: number): ReadonlyArray<Tick> =>
  Array.from({ length: to - from + 1 }, (_, index) => ({
    at: from + index,
    label: Format.tookShort(10 ** (from + index))
  }))

export const Latency = ({ refreshes }: { readonly refreshes: Overview["refreshes"] }) => {
  const { latency, minutes } = refreshes
  const plot = useMemo((): Plot => {
    const all = minutes.flatMap((each) => (each.latency === undefined ? [] : [each.latency]))
    const lowest = Math.floor(Math.log10(Math.max(1, Math.min(100, ...all.map(({ p50 }) => p50)))))
    const highest = Math.ceil(Math.log10(Math.max(1_000, ...all.map(({ p99 }) => p99))))
    return {
      minutes: minutesOf(minutes),
      running: "last",
      range: [lowest, highest + 0.05],
      ticks: decades(lowest, highest),
      series: percentiles.map(({ of, ...drawn }) => ({
        ...drawn,
        as: "line",
        values: minutes.map((each) => (each.latency === undefined ? null : Math.log10(Math.max(1, each.latency[of]))))
      }))
    }
  }, [minutes])
  const told = (index: number | undefined, of: "p50" | "p95" | "p99" | "max"): string => {
    const found: Partial<NonNullable<typeof latency>> | undefined =
      index === undefined ? latency : minutes[index]!.latency
    const value = found?.[of]
    return value === undefined ? "–" : Format.took(value)
  }
  return (
    <Chart
      title="How long a refresh takes"
      summary={Words.latency(refreshes)}
      plot={plot}
      height={180}
      whole={hour}
      columns={percentiles.map(({ name }) => name)}
      cells={(index) => percentiles.map(({ of }) => told(index, of))}
      legend={(index, when) => (
        <Facts
          when={when}
          all={[
            ...percentiles.map(({ name, of }) => ({
              name,
              value: told(index, of),
              swatch: <span class={`swatch line ${of}`} aria-hidden="true" />
            })),
            { name: "Longest", value: told(index, "max") }
          ]}
        />
      )}
    />
  )
}

/** Minutes without an answer are gaps. */
const hourUpTo = (at: string): ReadonlyArray<number> => {
  const running = Math.floor(Date.parse(at) / 60_000) * 60_000
  return Array.from({ length: 60 }, (_, index) => running - (59 - index) * 60_000)
}

const kinds = { managed: "Managed users", oauth2: "OAuth2" } as const

const Left = ({ budget }: { readonly budget: Budget }) => {
  const { limit, remaining, resetsAt } = budget
  const part = limit === 0 ? 0 : Math.max(0, Math.min(1, remaining / limit))
  return (
    <p class="left">
      <svg class={part < 0.1 ? "meter low" : "meter"} viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">
        <rect width="100" height="8" />
        <rect class="meter-part" width={100 * part} height="8" />
      </svg>
      <span>
        <strong>{Format.count(remaining)}</strong> of {Format.count(limit)} left
        {resetsAt !== undefined && (
          <>
            , resets <Instant at={resetsAt} as={Format.due} />
          </>
        )}
      </span>
    </p>
  )
}

const words = (value: number | undefined): string => (value === undefined ? "no answer" : Format.count(value))

const least = (budget: Budget): number | undefined =>
  budget.minutes.reduce<number | undefined>(
    (found, { remaining }) => Math.min(found ?? remaining, remaining),
    undefined
  )

const spent = ({ limit, remaining }: Budget): number => (limit === 0 ? 1 : 1 - remaining / limit)

/** Of many clients a row each, those with the least left first. */
export const CallsLeftTable = ({ budgets }: { readonly budgets: ReadonlyArray<Budget> }) => (
  <section class="panel wide" aria-labelledby="calls-left">
    <div class="panel-head">
      <h2 id="calls-left">Calls left at Cal.com</h2>
    </div>
    <div class="table-frame">
      <table class="table cards">
        <thead>
          <tr>
            <th scope="col">Client</th>
            <th scope="col">Kind</th>
            <th scope="col">Now</th>
            <th scope="col" class="number">
              Least in the last hour
            </th>
          </tr>
        </thead>
        <tbody>
          {[...budgets]
            .sort((one, other) => spent(other) - spent(one))
            .map((budget) => (
              <tr key={`${budget.kind} ${budget.clientId}`}>
                <th scope="row" class="mono">
                  {budget.clientId}
                </th>
                <td>{kinds[budget.kind]}</td>
                <td>
                  <Left budget={budget} />
                </td>
                <td class="number" data-label="Least in the last hour">
                  {words(least(budget))}
                </td>
              </tr>
            ))}
        </tbody>
      </table>
    </div>
  </section>
)

export const CallsLeft = ({ at, budget }: { readonly at: string; readonly budget: Budget }) => {
  const running = hourUpTo(at).at(-1)
  const { limit, minutes: told } = budget
  const minutes = useMemo(() => hourUpTo(at), [running])
  const left = useMemo(() => {
    const byMinute = new Map(told.map(({ at, remaining }) => [Date.parse(at), remaining]))
    return minutes.map((minute) => byMinute.get(minute))
  }, [minutes, told])
  const plot = useMemo((): Plot => {
    const values = left.map((value) => value ?? null)
    return {
      minutes,
      running: "last",
      range: [0, Math.max(1, limit) * 1.04],
      ticks: [0, limit].map((at) => ({ at, label: Format.count(at) })),
      series: [{ as: "bars", colour: "asked", values }]
    }
  }, [minutes, left, limit])
  const lowest = least(budget)
  return (
    <Chart
      title={`Calls left at Cal.com: ${kinds[budget.kind]}`}
      summary={
        lowest === undefined
          ? "Cal.com answered nothing in the last hour."
          : lowest === 0
            ? `At times in the last hour none of ${Format.count(limit)} calls was left.`
            : `At least ${Format.count(lowest)} of ${Format.count(limit)} calls were left throughout the last hour.`
      }
      plot={plot}
      height={120}
      whole={hour}
      columns={["Least left"]}
      cells={(index) => [words(left[index])]}
      legend={(index, when) => (
        <>
          <Left budget={budget} />
          <Facts
            when={when}
            all={[
              {
                name: "Least left",
                value: words(index === undefined ? lowest : left[index]),
                swatch: <Swatch as="bars" colour="asked" />
              }
            ]}
          />
          <p class="quiet">
            Client <span class="mono">{budget.clientId}</span>
          </p>
        </>
      )}
    />
  )
}
