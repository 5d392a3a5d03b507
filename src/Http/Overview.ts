/** The endpoint of `Api/Overview`. */
import { Buffer } from "node:buffer"
import { gzipSync } from "node:zlib"
import { HttpServerRequest, HttpServerResponse } from "@effect/platform"
import { DateTime, Effect } from "effect"
import type * as Api from "../Api/Overview.js"
import * as Overview from "../Overview.js"
import * as Constant from "./Constant.js"
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

/** Written and packed once for each reading, whoever asks: pages do so each second, on phones, too. */
const answer = Edge.answersAs(
  "getOverview",
  (overview: Overview.Overview) => ({ success: true as const, overview: describe(overview) }),
  (text) => {
    const form = (body: Uint8Array, headers: Readonly<Record<string, string>>) =>
      HttpServerResponse.uint8Array(body, {
        contentType: "application/json",
        headers: { ...headers, vary: "accept-encoding" }
      })
    return { plain: form(Buffer.from(text), {}), packed: form(gzipSync(text), { "content-encoding": "gzip" }) }
  }
)

export const layer = Group.make("overview", (handlers) =>
  Effect.map(Overview.make, (read) =>
    handlers.handleRaw(
      "getOverview",
      Edge.endpoint("getOverview", () =>
        Effect.zipWith(read, HttpServerRequest.HttpServerRequest, (overview, { headers }) =>
          Constant.takesGzip(headers) ? answer(overview).packed : answer(overview).plain
        )
      )
    )
  )
)
