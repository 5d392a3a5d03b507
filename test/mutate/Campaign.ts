/** Many answers in a row, and what to tell of them. */
import { Effect } from "effect"
import type { Case } from "./Case.js"
import * as Judge from "./Judge.js"

export interface Failure {
  readonly each: Case
  readonly wrong: string
}

export interface Tally {
  answers: number
  readonly failures: Array<Failure>
  /** How often each mutation was done, and each outcome was right. */
  readonly inclusions: Map<string, number>
  readonly exclusions: Map<string, number>
  readonly outcomes: Map<string, number>
}

export const tally = (): Tally => ({
  answers: 0,
  failures: [],
  inclusions: new Map(),
  exclusions: new Map(),
  outcomes: new Map()
})

const count = (counts: Map<string, number>, name: string) => counts.set(name, (counts.get(name) ?? 0) + 1)

const outcomeOf = ({ expected }: Case): string => {
  switch (expected._tag) {
    case "Take":
      if (expected.refresh === "new") return expected.access === "new" ? "a pair" : "a refresh token alone"
      return expected.isOpen ? "an access token alone, and the answer" : "an access token alone"
    case "Keep":
      return "nothing, and the answer is kept"
    case "Fail":
      return "nothing"
    case "TakeOrFail":
      return "as much as an encoding gives"
  }
}

/** Reads every answer and notes what is wrong. */
export const run = (
  cases: Iterable<Case>,
  result: Tally,
  reader: Effect.Effect<Judge.Reader> = Judge.client
): Promise<void> =>
  Judge.run(
    Effect.gen(function* () {
      const read = yield* reader
      for (const each of cases) {
        const made = yield* read(each)
        result.answers++
        // An answer that is foreign and mutated besides is one of each.
        each.inclusions.forEach((name) => count(result.inclusions, name))
        if (each.exclusion !== undefined) count(result.exclusions, each.exclusion)
        count(result.outcomes, outcomeOf(each))
        const wrong = Judge.wrongWith(each, made)
        if (wrong !== undefined) result.failures.push({ each, wrong })
      }
    })
  )

/** A failing answer, so that a person can see what it is about. */
export const explain = ({ each, wrong }: Failure): string =>
  [
    `seed ${each.seed}: ${wrong}`,
    `  ${each.before.kind}, ${each.before.operation}; ${each.inclusions.join(", ")}${each.exclusion === undefined ? "" : `; ${each.exclusion}`}`,
    `  expected ${JSON.stringify(each.expected)}`,
    `  status ${each.answer.status}, ${JSON.stringify(each.answer.headers)}`,
    `  ${Buffer.concat(each.answer.chunks).length} bytes${each.answer.isCut ? ", cut off" : ""} of ${JSON.stringify(each.text.slice(0, 3000))}`
  ].join("\n")

const list = (title: string, counts: ReadonlyMap<string, number>): ReadonlyArray<string> => [
  "",
  title,
  ...[...counts]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, value]) => `  ${name.padEnd(40)}${String(value).padStart(10)}`)
]

/** How often what was wrong, by what was done to the answers. */
const failuresBy = ({ failures }: Tally): ReadonlyMap<string, number> => {
  const counts = new Map<string, number>()
  for (const { each, wrong } of failures) {
    for (const name of each.exclusion === undefined ? each.inclusions : [each.exclusion])
      count(counts, `${name}: ${wrong}`)
  }
  return counts
}

export const table = (result: Tally): string =>
  [
    ...list("Done to answers", result.inclusions),
    ...list("Answers of which nothing may be taken", result.exclusions),
    ...list("Right to take", result.outcomes),
    ...(result.failures.length === 0 ? [] : list("Wrong", failuresBy(result)))
  ].join("\n")
