/** The endpoint of `Api/Overview`. */
import { DateTime, Effect } from "effect"
import type * as Api from "../Api/Overview.js"
import * as Overview from "../Overview.js"
import * as Edge from "./Edge.js"
import * as Group from "./Group.js"

const instant = DateTime.unsafeMake

const withInstant = <A extends { readonly at: number }>({ at, ...rest }: A) => ({ ...rest, at: instant(at) })

const describe = ({
  at,
  budgets,
  circuits,
  expiries,
  process,
  refreshes,
  ...rest
}: Overview.Overview): Api.Overview => ({
  ...rest,
  at: instant(at),
  process: { ...process, startedAt: instant(process.startedAt) },
  refreshes: { ...refreshes, minutes: refreshes.minutes.map(withInstant) },
  expiries: { ...expiries, minutes: expiries.minutes.map(withInstant) },
  budgets: budgets.map(({ minutes, resetsAt, ...budget }) => ({
    ...budget,
    ...(resetsAt === undefined ? {} : { resetsAt: instant(resetsAt) }),
    minutes: minutes.map(withInstant)
  })),
  circuits: circuits.map(({ nextTrialAt, openedAt, ...circuit }) => ({
    ...circuit,
    openedAt: instant(openedAt),
    nextTrialAt: instant(nextTrialAt)
  }))
})

/** Written once for each reading, whoever asks. */
const answer = Edge.answers("getOverview", (overview: Overview.Overview) => ({
  success: true as const,
  overview: describe(overview)
}))

export const layer = Group.make("overview", (handlers) =>
  Effect.map(Overview.make, (read) =>
    handlers.handleRaw(
      "getOverview",
      Edge.endpoint("getOverview", () => Effect.map(read, answer))
    )
  )
)
