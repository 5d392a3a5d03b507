/** What the overview says in sentences. Pure. */
import * as Format from "./Format.js"
import type { ByTrigger, Circuit, Overview, Reason, RefreshMinute } from "./Wire.js"

export type Level = "ok" | "attention" | "broken" | "neutral"

export interface Verdict {
  readonly level: Level
  /** Whether everybody is fine, in one sentence. */
  readonly text: string
  /** What else there is to know. */
  readonly more: ReadonlyArray<string>
}

export const sum = (of: ByTrigger): number => of.asked + of.refused + of.ahead + of.reissue

export const failures = ({ failed }: RefreshMinute): number => sum(failed) + failed.lapsed

export const add = <A>(all: ReadonlyArray<A>, of: (each: A) => number): number =>
  all.reduce((total, each) => total + of(each), 0)

/** What a circuit is open for, in the order in which one wants to know. */
const circuits = {
  client: {
    verdict: "Cal.com refuses a client: its users are not refreshed.",
    title: "Cal.com refuses the client.",
    meaning:
      "Its users are not refreshed, and nobody is told to reconnect for it. Check the client and its secret at Cal.com " +
      "against the settings of this service."
  },
  drift: {
    verdict: "Cal.com's answers changed: refreshing waits for a version that reads them.",
    title: "Cal.com answers in a way that this version cannot read.",
    meaning:
      "What it answered is kept encrypted, so that no token is lost. Install the latest version: it reads what was kept."
  },
  brake: {
    verdict: "Cal.com refused many users at once: refreshing waits.",
    title: "Cal.com refused many users at once.",
    meaning: "So many are hardly all of them right: nobody else is told to reconnect. One user at a time is tried."
  },
  process: {
    verdict: "One process is set up wrongly and refreshes nobody.",
    title: "This process cannot call Cal.com as it is set up.",
    meaning: "Others of this service may go on. Check the settings of this process: its clients, and where Cal.com is."
  }
} as const satisfies Record<Circuit["cause"], { verdict: string; title: string; meaning: string }>

const causes = Object.keys(circuits) as ReadonlyArray<Circuit["cause"]>

export const circuit = ({ cause }: Circuit) => circuits[cause]

/** How it goes now is told by the last minutes: as few as have so many refreshes, and no more than three. */
const enough = 10
const longestLook = 3

/** So many that failed are no accident of one user. */
const several = 3

export const lately = ({ refreshes: { minutes } }: Pick<Overview, "refreshes">) => {
  const look = { failed: 0, refreshed: 0, minutes: 0 }
  for (const minute of minutes.slice(-longestLook).reverse()) {
    // The running minute may be a second old.
    if (look.minutes > 0 && look.failed + look.refreshed >= enough) break
    look.failed += failures(minute)
    look.refreshed += sum(minute.refreshed)
    look.minutes += 1
  }
  return look
}

/** Why refreshes fail, behind "because". */
export const reason = ({ answer, error, status }: Pick<Reason, "answer" | "error" | "status">): string => {
  const answered =
    error === "CalRateLimited"
      ? "Cal.com's rate limit was used up"
      : status !== undefined
        ? `Cal.com answered ${status}`
        : error === "CalProtocolError"
          ? "Cal.com's answer was not understood"
          : undefined
  switch (answer) {
    case "rejected":
      return "Cal.com refused the refresh token"
    case "notSpent":
      return answered ?? "Cal.com was not reached"
    case "unknown":
      return `${answered ?? "Cal.com's answer did not come, or not whole"}: the token may have been spent`
    case "unreadable":
      return "Cal.com's answer could not be read"
    case "clientWide":
      return "Cal.com refused the client"
    case "userGone":
      return "the managed user is gone at Cal.com"
    case "unsent":
      return "Cal.com was not asked"
    case "lapsed":
      return "the process died or slept"
  }
}

/** Attempts that failed for one reason. */
export interface Why {
  readonly text: string
  /** In the last minutes, so many as the verdict is about. */
  readonly lately: number
  readonly hour: number
  /** The minute of the latest. */
  readonly at: string
}

/** Why refreshes failed in the last hour: what goes on first, then what was so most often. */
export const reasons = (overview: Pick<Overview, "refreshes">): ReadonlyArray<Why> => {
  const { minutes } = overview.refreshes
  const begin = minutes.length - lately(overview).minutes
  const found = new Map<string, Why>()
  minutes.forEach(({ at, reasons }, index) => {
    for (const each of reasons) {
      const text = reason(each)
      const before = found.get(text) ?? { lately: 0, hour: 0 }
      const count = index >= begin ? each.count : 0
      found.set(text, { text, lately: before.lately + count, hour: before.hour + each.count, at })
    }
  })
  return [...found.values()].sort((one, other) => other.lately - one.lately || other.hour - one.hour)
}

const people = (value: number) => Format.counted(value, "person has", "people have")

/** What to think of it, and where to look. */
const unharmed = "Tokens that still serve go on being served, and what failed is tried again."

export const span = (minutes: number): string => (minutes === 1 ? "minute" : `${minutes} minutes`)

const because = (overview: Overview, failed: number): string => {
  const [most] = reasons(overview)
  if (most === undefined || most.lately === 0) return ""
  return most.lately === failed
    ? ` because ${most.text}`
    : `, ${Format.count(most.lately)} of them because ${most.text}`
}

export const verdict = (overview: Overview): Verdict => {
  const { budgets, expiries, pairsHeld, sealedAnswers, users } = overview
  const open = causes.find((cause) => overview.circuits.some((each) => each.cause === cause))
  const { failed, minutes, refreshed } = lately(overview)
  const isFailing = failed >= several && failed * 10 >= failed + refreshed
  const isMost = isFailing && failed > refreshed
  const reconnect =
    users.reauthorizationRequired === 0 ? [] : [`${people(users.reauthorizationRequired)} to reconnect.`]
  const kept = [
    ...(pairsHeld === 0
      ? []
      : [`${Format.counted(pairsHeld, "new pair waits", "new pairs wait")} for the database, in memory only.`]),
    ...(sealedAnswers === 0
      ? []
      : [
          `${Format.counted(sealedAnswers, "answer of Cal.com is", "answers of Cal.com are")} kept encrypted until a version reads ${sealedAnswers === 1 ? "it" : "them"}.`
        ])
  ]
  const usedUp = budgets
    .filter(({ remaining, resetsAt }) => remaining === 0 && resetsAt !== undefined)
    .map(({ clientId }) => `Cal.com's rate limit leaves the client ${clientId} no call for now.`)
  const failing = isFailing
    ? [
        `Of ${Format.counted(failed + refreshed, "refresh", "refreshes")} in the last ${span(minutes)} ${Format.count(failed)} failed${because(overview, failed)}.`
      ]
    : []
  // Without a fault those are of users whom nobody asks for.
  const ended =
    expiries.overdue === 0
      ? []
      : [`${Format.counted(expiries.overdue, "access token has", "access tokens have")} ended by now.`]
  if (open !== undefined) {
    return {
      level: "broken",
      text: circuits[open].verdict,
      more: [...failing, ...ended, ...usedUp, ...kept, ...reconnect]
    }
  }
  if (isMost) {
    return {
      level: "broken",
      text: "Most refreshes fail at the moment.",
      more: [...failing, ...usedUp, ...ended, unharmed, ...kept, ...reconnect]
    }
  }
  if (pairsHeld > 0) {
    return { level: "broken", text: "New tokens cannot be stored at the moment.", more: [...kept, ...reconnect] }
  }
  if (isFailing) {
    return {
      level: "attention",
      text: "Some refreshes fail at the moment.",
      more: [...failing, ...usedUp, ...ended, unharmed, ...kept, ...reconnect]
    }
  }
  const [text] = reconnect
  const more = [...usedUp, ...kept]
  if (text !== undefined) return { level: "attention", text, more }
  if (users.active === 0) return { level: "neutral", text: "Nobody is connected yet.", more }
  return { level: more.length === 0 ? "ok" : "attention", text: "Everybody's token is kept.", more }
}

/** The one with the most; undefined where all are 0. */
const most = <A>(all: ReadonlyArray<A>, of: (each: A) => number): A | undefined =>
  all.reduce<A | undefined>((best, each) => (of(each) > (best === undefined ? 0 : of(best)) ? each : best), undefined)

export const refreshes = (minutes: ReadonlyArray<RefreshMinute>, zone?: string): string => {
  const refreshed = add(minutes, (minute) => sum(minute.refreshed))
  const failed = add(minutes, failures)
  if (refreshed + failed === 0) return "No refresh in the last hour."
  const worst = most(minutes, failures)
  const when = worst === undefined ? "" : `, most at ${Format.clock(worst.at, zone)}`
  const of = failed === 0 ? "none failed" : `${Format.count(failed)} failed${when}`
  return `${Format.count(refreshed)} refreshed in the last hour, ${of}.`
}

export const expiries = ({ minutes, overdue }: Overview["expiries"], zone?: string): string => {
  const all = add(minutes, ({ users }) => users)
  const busiest = most(minutes, ({ users }) => users)
  const late = overdue === 0 ? "None is overdue." : `${Format.counted(overdue, "is", "are")} overdue.`
  if (busiest === undefined) return `No token ends within the next hour. ${late}`
  const when = `most at ${Format.clock(busiest.at, zone)} (${Format.count(busiest.users)})`
  return `${Format.counted(all, "token ends", "tokens end")}, ${when}. ${late}`
}

export const latency = ({ latency }: Overview["refreshes"]): string =>
  latency === undefined
    ? "No refresh in the last hour."
    : `Half took at most ${Format.took(latency.p50)}, 99 of 100 at most ${Format.took(latency.p99)}.`

/** `0.6 %` of what was tried */
export const share = (part: number, whole: number): string => {
  if (part === 0 || whole === 0) return "0 %"
  const percent = (100 * part) / whole
  return percent < 0.1 ? "< 0.1 %" : `${percent < 10 ? percent.toFixed(1) : Math.round(percent)} %`
}
