/** Many histories in a row, and what to tell of them. */
import type { Variant } from "./Fleet.js"
import * as History from "./History.js"
import * as Plan from "./Plan.js"
import { shrink } from "./Shrink.js"
import type { Kind, Stats } from "./World.js"

export interface Options {
  readonly from: number
  readonly step: number
  readonly count: number
  readonly limits: Plan.Limits
}

type MakeVariant = (() => Variant) | undefined

/** A failed stack trace costs more than the failure. */
const withoutStacks = <A>(run: () => A): A => {
  const before = Error.stackTraceLimit
  Error.stackTraceLimit = 0
  try {
    return run()
  } finally {
    Error.stackTraceLimit = before
  }
}

/** Runs histories until one breaks a promise. */
export const run = (
  { count, from, limits, step }: Options,
  stats: Stats,
  variant?: MakeVariant,
  onDone?: (done: number) => void
): { readonly done: number; readonly plan: Plan.Plan | undefined } =>
  withoutStacks(() => {
    for (let i = 0; i < count; i++) {
      const plan = Plan.draw(from + i * step, limits)
      if (History.run(plan, stats, variant?.()).violations.length > 0) return { done: i + 1, plan }
      onDone?.(i + 1)
    }
    return { done: count, plan: undefined }
  })

const once = (plan: Plan.Plan, variant: MakeVariant, traces: boolean) =>
  withoutStacks(() => History.run(plan, { events: new Map() }, variant?.(), traces))

/** The shortest history that breaks the same rule. */
const smallest = (plan: Plan.Plan, variant?: MakeVariant): Plan.Plan => {
  const rule = once(plan, variant, false).violations[0]?.rule
  return shrink(plan, (candidate) => once(candidate, variant, false).violations[0]?.rule === rule)
}

const tell = (plan: Plan.Plan, variant: MakeVariant): string => {
  const { log, violations } = once(plan, variant, true)
  return [
    `seed ${plan.seed}, ${plan.nodes.length} nodes, ${plan.users.join(" and ")} users, tokens of ${plan.lifetime / 1000} s`,
    JSON.stringify(plan),
    ...log,
    ...violations.slice(0, 1).map(({ at, detail, rule }) => `BROKEN at ${(at / 1000).toFixed(3)}: ${rule}: ${detail}`)
  ].join("\n")
}

/** A failing plan, made smaller, as it happens. */
export const explain = (plan: Plan.Plan, variant?: MakeVariant): string =>
  `seed ${plan.seed} breaks a promise; the smallest history that still does:\n${tell(smallest(plan, variant), variant)}`

/** One history, as it happens. */
export const trace = (seed: number, limits: Plan.Limits): string => tell(Plan.draw(seed, limits), undefined)

const section = (events: ReadonlyMap<string, number>, kind: Kind): ReadonlyArray<readonly [string, number]> =>
  [...events]
    .filter(([event]) => event.startsWith(`${kind} `))
    .map(([event, count]) => [event.slice(kind.length + 1), count] as const)
    .sort(([a], [b]) => (a < b ? -1 : 1))

const list = (title: string, rows: ReadonlyArray<readonly [string, number]>): ReadonlyArray<string> => [
  "",
  title,
  ...rows.map(([name, count]) => `  ${name.padEnd(36)}${String(count).padStart(10)}`)
]

/** Rows of outcomes, columns of operations. */
const matrix = (title: string, rows: ReadonlyArray<readonly [string, number]>): ReadonlyArray<string> => {
  const cells = new Map(rows)
  const parts = rows.map(([name]) => name.split(": ") as [string, string])
  const operations = [...new Set(parts.map(([operation]) => operation))]
  const outcomes = [...new Set(parts.map(([, outcome]) => outcome))].sort()
  const line = (head: string, values: ReadonlyArray<string>) =>
    `  ${head.padEnd(26)}${values.map((value) => value.padStart(14)).join("")}`
  return [
    "",
    line(title, operations),
    ...outcomes.map((outcome) =>
      line(
        outcome,
        operations.map((operation) => String(cells.get(`${operation}: ${outcome}`) ?? "."))
      )
    )
  ]
}

/** What happened how often. */
export const table = (events: ReadonlyMap<string, number>): string =>
  [
    ...list("Faults injected", section(events, "fault")),
    ...list("Asked of Cal.com", section(events, "call")),
    ...matrix("What callers were told", section(events, "answer"))
  ].join("\n")
