/** A user's history as the page and the command line tell it. Pure. */
import type { UserHistory } from "./Answers.js"
import * as Format from "./Format.js"

export type Entry = UserHistory["entries"][number]

/** The lines of `cal-tokens explain`: the latest last, then how it stands and what to do. */
export const toLines = ({ advice, cause, conclusion, entries, open }: UserHistory): ReadonlyArray<string> => {
  const told = [
    ...entries.toReversed().map(({ at, text }) => `${at}  ${text}`),
    ...(open === undefined ? [] : [`${open.startedAt}  ${open.text}`])
  ]
  return [
    ...told,
    ...(told.length === 0 ? [] : [""]),
    conclusion,
    advice,
    ...(cause === undefined ? [] : [`(${cause})`])
  ]
}

export interface Day {
  /** `Today`, `Yesterday`, `28 Nov` */
  readonly name: string
  readonly entries: ReadonlyArray<Entry>
}

/** The latest first: what one comes for is what happened last. */
export const byDay = (entries: ReadonlyArray<Entry>, now: number, zone?: string): ReadonlyArray<Day> =>
  entries.reduce<ReadonlyArray<Day>>((days, entry) => {
    const name = Format.capital(Format.dayName(entry.at, now, zone))
    const last = days.at(-1)
    return last?.name === name
      ? [...days.slice(0, -1), { name, entries: [...last.entries, entry] }]
      : [...days, { name, entries: [entry] }]
  }, [])

export interface Mark {
  readonly level: "ok" | "attention" | "broken" | "neutral"
  readonly word: string
}

/** An entry in a word. */
export const mark = ({ event, written }: Entry): Mark => {
  switch (event._tag) {
    case "Connected":
      return { level: "ok", word: "Connected" }
    case "Updated":
      return { level: "ok", word: "Updated" }
    case "Imported":
      return { level: "ok", word: "Imported" }
    case "Read":
      return { level: "ok", word: "Read" }
    case "Lapsed":
      return { level: "attention", word: "Never ended" }
    case "Attempt":
      if (written === "late") return { level: "neutral", word: "Too late" }
      if (event.end === "granted") return { level: "ok", word: event.purpose === "reissue" ? "Reissued" : "Refreshed" }
      if (event.end === "terminal" && written === "recorded") return { level: "broken", word: "Has to reconnect" }
      return {
        level: "attention",
        word: written === "sealed" || event.steps.at(-1)?.answer === "unreadable" ? "Kept, sealed" : "Failed"
      }
  }
}

/** A text with its instants apart, which people do not read in UTC. */
export const parts = (text: string): ReadonlyArray<Part> =>
  text
    .split(/(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z)/)
    .flatMap((part, index): ReadonlyArray<Part> =>
      index % 2 === 1 ? [{ at: part }] : part === "" ? [] : [{ text: part }]
    )

export type Part = { readonly text: string } | { readonly at: string }
