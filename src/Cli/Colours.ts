/** Colours for eyes on a terminal only: the command line's own text has them wherever it goes. */
import { WriteStream } from "node:tty"
import { stripVTControlCharacters } from "node:util"
import { Effect } from "effect"

const style = (open: number, close: number) => (text: string) => `\u001b[${open}m${text}\u001b[${close}m`

export const bold = style(1, 22)
export const red = style(31, 39)
export const green = style(32, 39)
export const yellow = style(33, 39)

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
  typeof text === "string" && !areSeen(stream) ? stripVTControlCharacters(text) : text

/** FORCE_COLOR wants them in a pipe, too. Node knows what it, NO_COLOR and the kind of terminal mean together. */
const areSeen = (stream: NodeJS.WriteStream): boolean =>
  (stream.isTTY || "FORCE_COLOR" in process.env) && WriteStream.prototype.getColorDepth() > 1
