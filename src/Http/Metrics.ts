/** The endpoint of `Api/Metrics`: what this package counts in this process, and nothing of whatever else runs in it. */
import { Effect } from "effect"
import * as Metrics from "../Metrics.js"
import * as Edge from "./Edge.js"
import * as Exposition from "./Exposition.js"
import * as Group from "./Group.js"

export const layer = Group.make("metrics", (handlers) =>
  handlers.handle("getMetrics", () =>
    Effect.zipRight(Edge.operation("getMetrics"), Effect.map(Metrics.snapshot, Exposition.render))
  )
)
