/** One answer from a seed: drawn, mutated, written, and what is right to make of it. */
import * as Prng from "../simulation/Prng.js"
import { type Answer, type Expected, write } from "./Answer.js"
import * as Draft from "./Draft.js"
import { exclusions } from "./Exclusions.js"
import { halves, inclusions } from "./Inclusions.js"
import type { Before } from "./Tokens.js"

export interface Case {
  readonly seed: number
  readonly before: Before
  /** The tokens that the generator put in as new. */
  readonly access: string | undefined
  readonly refresh: string | undefined
  readonly inclusions: ReadonlyArray<string>
  readonly exclusion: string | undefined
  readonly answer: Answer
  readonly expected: Expected
  readonly text: string
}

const names = Object.keys(inclusions)

/** What is not done to an answer that is foreign: a part of it may be none any more. */
const isForAll = (name: string) => !halves.has(name) && name !== "cut off"

const finish = (
  seed: number,
  draft: Draft.Draft,
  done: ReadonlyArray<string>,
  exclusion: string | undefined
): Case => ({
  seed,
  before: draft.before,
  inclusions: done,
  exclusion,
  access: draft.access,
  refresh: draft.refresh,
  ...write(draft)
})

const mutate = (draft: Draft.Draft, chosen: ReadonlySet<string>): ReadonlyArray<string> => {
  const done = names.filter((name) => chosen.has(name))
  done.forEach((name) => inclusions[name]?.(draft))
  return done
}

export const draw = (seed: number): Case => {
  const prng = Prng.make(seed, "answer")
  const draft = Draft.make(prng)
  const exclusion = prng.chance(0.4) ? prng.pick(Object.keys(exclusions)) : undefined
  const possible = names.filter((name) => exclusion === undefined || isForAll(name))
  const done = mutate(draft, new Set(Array.from({ length: prng.int(1, 4) }, () => prng.pick(possible))))
  if (exclusion !== undefined) {
    exclusions[exclusion]?.(draft)
    draft.isForeign = true
  }
  return finish(seed, draft, done, exclusion)
}

/** One answer, cut off after each of its bytes. */
export const cuts = (seed: number): ReadonlyArray<Case> => {
  const make = (share: number) => {
    const prng = Prng.make(seed, "cuts")
    const draft = Draft.make(prng)
    const possible = names.filter((name) => !["encoded", "cut off", "tokens twice"].includes(name))
    const done = mutate(draft, new Set(Array.from({ length: prng.int(0, 2) }, () => prng.pick(possible))))
    draft.share = share
    return finish(seed, draft, [...done, "cut off"], undefined)
  }
  const length = Buffer.byteLength(make(1).text)
  return Array.from({ length }, (_, index) => make((index + 0.5) / length))
}
