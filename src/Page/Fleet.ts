/**
 * Processes of one service behind one address, who answer in turn. Some of what each tells only that one knows: put together,
 * it does not jump with whoever answers. Pure.
 */
import type { Budget, Overview } from "./Wire.js"

interface Own {
  readonly heardAt: number
  /** When it had read what it told last. */
  readonly at: string
  readonly pairsHeld: number
  readonly circuits: Overview["circuits"]
}

/** A process that started since the page was opened. */
export interface Start {
  readonly at: string
  /** One that was there before still answers. */
  readonly isAmongOthers: boolean
}

export interface Fleet {
  /** What the last answer told, and the others besides. */
  readonly overview: Overview
  readonly processes: ReadonlyMap<string, Own>
  /** All that started by then are nothing new. */
  readonly newest: number
  readonly start?: Start | undefined
}

/** Whoever answered nothing for so long has ended, or somebody else is asked now. */
const silence = 15_000

/** Whose clock says that it read so little before another did told what is older; of clocks further apart nothing is known. */
const alike = 5_000

/** A start that is heard of later is no news. */
const young = 5 * 60_000

const hour = 60 * 60_000

const keyOf = ({ clientId, kind }: Budget): string => `${kind} ${clientId}`

/** Cal.com counts a client's calls wherever they come from: the window that ends last, and the least in it, is the truth. */
const budget = (one: Budget, other: Budget, now: number): Budget => {
  const [first, last] = [one, other].sort((a, b) => endOf(a, now) - endOf(b, now)) as [Budget, Budget]
  const isSame = endOf(last, now) > 0 && endOf(last, now) - endOf(first, now) < 5_000
  const least = new Map<string, number>()
  for (const { at, remaining } of [...one.minutes, ...other.minutes]) {
    if (Date.parse(at) > now - hour) least.set(at, Math.min(remaining, least.get(at) ?? remaining))
  }
  return {
    ...last,
    remaining: isSame ? Math.min(one.remaining, other.remaining) : last.remaining,
    minutes: [...least].sort(([a], [b]) => (a < b ? -1 : 1)).map(([at, remaining]) => ({ at, remaining }))
  }
}

/** When the window ends; 0 where it is over, or none is known. */
const endOf = ({ resetsAt }: Budget, now: number): number => {
  const end = resetsAt === undefined ? 0 : Date.parse(resetsAt)
  return end > now ? end : 0
}

const budgets = (known: Overview["budgets"], told: Overview["budgets"], now: number): Overview["budgets"] => {
  const all = new Map(known.map((each) => [keyOf(each), each]))
  for (const each of told) {
    const before = all.get(keyOf(each))
    all.set(keyOf(each), before === undefined ? each : budget(before, each, now))
  }
  return [...all.values()].sort((one, other) => (keyOf(one) < keyOf(other) ? -1 : 1))
}

/** The same fault of several processes is one. */
const distinct = (circuits: Overview["circuits"]): Overview["circuits"] => [
  ...new Map(circuits.map((each) => [`${each.clientId} ${each.reason}`, each])).values()
]

const startOf = (before: Fleet, { process: { name, startedAt } }: Overview, now: number): Start | undefined => {
  const at = Date.parse(startedAt)
  const { newest, processes, start } = before
  if (at > newest && now - at < young) return { at: startedAt, isAmongOthers: false }
  const isOlder = start !== undefined && processes.has(name) && at < Date.parse(start.at)
  return isOlder ? { ...start, isAmongOthers: true } : start
}

const isOlder = (before: Fleet, { at, process }: Overview): boolean => {
  // A process gives the same reading for a while, which others of them are newer than by then.
  if (before.processes.get(process.name)?.at === at) return true
  const behind = Date.parse(before.overview.at) - Date.parse(at)
  return behind >= 0 && behind < alike
}

/** What is known after an answer; `now` by the service's clock. */
export const hear = (before: Fleet | undefined, overview: Overview, now: number): Fleet => {
  const startedAt = Date.parse(overview.process.startedAt)
  const isOwn = ({ cause }: Overview["circuits"][number]) => cause === "process"
  const { pairsHeld, process } = overview
  const own: Own = { heardAt: now, at: overview.at, pairsHeld, circuits: overview.circuits.filter(isOwn) }
  const others = [...(before?.processes ?? [])].filter(
    ([name, { heardAt }]) => name !== process.name && Math.abs(now - heardAt) < silence
  )
  const processes = new Map([...others, [process.name, own] as const])
  const all = [...processes.values()]
  // What a user's row says goes for all of them: whoever read it last is right.
  const facts = before !== undefined && isOlder(before, overview) ? before.overview : overview
  return {
    processes,
    newest: before === undefined ? Math.max(startedAt, Date.parse(overview.at)) : Math.max(before.newest, startedAt),
    start: before === undefined ? undefined : startOf(before, overview, now),
    overview: {
      ...facts,
      budgets: before === undefined ? overview.budgets : budgets(before.overview.budgets, overview.budgets, now),
      circuits: [
        ...facts.circuits.filter((each) => !isOwn(each)),
        ...distinct(all.flatMap(({ circuits }) => circuits))
      ],
      pairsHeld: all.reduce((sum, each) => sum + each.pairsHeld, 0)
    }
  }
}
