/** What `GET /api/cal/overview` answers, as it travels. */
import type { Overview as Answer } from "../Api/Overview.js"

export type Overview = (typeof Answer)["Encoded"]
export type RefreshMinute = Overview["refreshes"]["minutes"][number]
export type Reason = RefreshMinute["reasons"][number]
export type ByTrigger = RefreshMinute["refreshed"]
export type Budget = Overview["budgets"][number]
export type Circuit = Overview["circuits"][number]
