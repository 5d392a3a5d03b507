/** Colours for eyes on a terminal only: the command line's own text has them wherever it goes. */
import { stripVTControlCharacters } from "node:util"
import { Effect } from "effect"

/** The work, whose text has no colours where the terminal, NO_COLOR or the lack of a terminal says so. */
export const whereSeen = <A, E, R>(work: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.consoleWith((console) =>
    Effect.withConsole(work, {
      ...console,
      log: (...texts) => console.log(...texts.map(fit(process.stdout))),
      error: (...texts) => console.error(...texts.map(fit(process.stderr)))
    })
  )

const fit = (stream: NodeJS.WriteStream) => (text: unknown) =>
  typeof text === "string" && !(stream.isTTY && stream.hasColors()) ? stripVTControlCharacters(text) : text
