/**
 * What became of the users, judged by what Cal.com knows. A pair is lost if Cal.com would still take its refresh token,
 * has given it away, and the database does not hold it. A reconnect is wrong if Cal.com would have taken a token that
 * had been given away by then.
 */
import { type Answer, type Death, type Deed, type Kind, type Truth } from "./Truth.js"

/** In ms: a pair is on its way into the database for no longer than a statement may take. */
const commitWithin = 5000

export interface Evidence {
  readonly truth: Truth
  readonly deeds: ReadonlyArray<Deed>
  readonly deaths: ReadonlyArray<Death>
  /** By Cal.com's id: what kind of user it is, and the hashes of the refresh tokens that are stored. */
  readonly users: ReadonlyMap<number, { readonly kind: Kind; readonly held: ReadonlySet<string> }>
  /** Whenever somebody was told to reconnect, or marked so. */
  readonly reconnects: ReadonlyArray<{ readonly calUserId: number; readonly at: number }>
}

export interface Verdict {
  readonly lostPairs: ReadonlyArray<Answer>
  readonly wrongReconnects: ReadonlyArray<{ readonly calUserId: number; readonly at: number }>
  /** Users who rightly had to reconnect. */
  readonly rightReconnects: number
  /** Pairs that Cal.com gave to a process that was killed before it could store them, and that nobody saw again. */
  readonly diedWithProcess: ReadonlyArray<Answer>
}

/** Whether the process that was given a pair was killed meanwhile, or before it can be expected to have stored it. */
const mayHaveDied =
  (deaths: ReadonlyArray<Death>) =>
  ({ at, begunAt, slot }: Answer): boolean =>
    deaths.some((death) => {
      return death.slot === slot && begunAt <= death.at && Math.min(death.at, death.aliveAt) <= at + commitWithin
    })

export const judge = ({ deaths, deeds, reconnects, truth, users }: Evidence): Verdict => {
  const presented = new Set(truth.spendings.map(({ presented }) => presented))
  const isSeen = ({ calUserId, hash }: Answer) => presented.has(hash) || users.get(calUserId)?.held.has(hash) === true
  const diedWithProcess = truth.answers.filter(mayHaveDied(deaths)).filter((answer) => !isSeen(answer))
  const died = new Set(diedWithProcess.map(({ hash }) => hash))
  const handedIn = new Set(deeds.flatMap(({ hash, what }) => (what === "handedIn" && hash !== undefined ? [hash] : [])))
  const answers = new Map(truth.answers.map((answer) => [answer.hash, answer]))
  /** Pairs from outside count from when they were taken. */
  const isGiven = (answer: Answer) => (answer.slot === undefined ? handedIn.has(answer.hash) : !died.has(answer.hash))
  const missing = truth.live.flatMap(({ calUserId, hash }) => {
    const answer = answers.get(hash)
    return answer === undefined || users.get(calUserId)?.held.has(hash) === true ? [] : [answer]
  })

  const standings = standingsOf(truth, deeds, isGiven)
  const isWrong = ({ at, calUserId }: { readonly at: number; readonly calUserId: number }) => {
    const before = (standings.get(calUserId) ?? []).filter((standing) => standing.at <= at)
    if (before.some(({ what }) => what === "removed")) return false
    // Cal.com issues a managed user's pair anew whenever it is asked to.
    return users.get(calUserId)?.kind === "managed" || before.at(-1)?.what === "given"
  }
  const wrongReconnects = reconnects.filter(isWrong)
  const wronged = new Set(wrongReconnects.map(({ calUserId }) => calUserId))
  return {
    lostPairs: missing.filter(isGiven),
    wrongReconnects,
    rightReconnects: new Set(
      reconnects.map(({ calUserId }) => calUserId).filter((calUserId) => !wronged.has(calUserId))
    ).size,
    diedWithProcess
  }
}

interface Standing {
  readonly at: number
  /** `given`: who asked has the token that Cal.com takes; `underWay`: it was granted and has not arrived, or never will. */
  readonly what: "given" | "underWay" | "revoked" | "removed"
}

/** What Cal.com and the fleet have in common, over time, for each user. */
const standingsOf = (
  { answers, spendings }: Truth,
  deeds: ReadonlyArray<Deed>,
  isGiven: (answer: Answer) => boolean
): ReadonlyMap<number, ReadonlyArray<Standing>> => {
  const all = new Map<number, Array<Standing>>()
  const add = (calUserId: number, standing: Standing) => {
    const known = all.get(calUserId)
    if (known === undefined) all.set(calUserId, [standing])
    else known.push(standing)
  }
  const ends = new Map<number, Array<number>>()
  for (const { at, calUserId, what } of deeds) {
    if (what !== "handedIn") ends.set(calUserId, [...(ends.get(calUserId) ?? []), at])
  }
  for (const answer of answers) {
    // What was ended while its answer was under way was dead on arrival.
    const isDead = ends.get(answer.calUserId)?.some((at) => answer.begunAt <= at && at <= answer.at) === true
    if (answer.slot !== undefined && !isDead && isGiven(answer)) add(answer.calUserId, { at: answer.at, what: "given" })
  }
  for (const { at, calUserId, issued } of spendings) {
    if (calUserId !== undefined && issued !== undefined) add(calUserId, { at, what: "underWay" })
  }
  for (const { at, calUserId, what } of deeds) add(calUserId, { at, what: what === "handedIn" ? "given" : what })
  for (const standings of all.values()) standings.sort((a, b) => a.at - b.at)
  return all
}
