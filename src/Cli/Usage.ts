/** What is wrong with a command line, for whoever typed it. No value is ever shown: it may be a token, or hold a password. */
import { stripVTControlCharacters } from "node:util"
import { HelpDoc, type ValidationError } from "@effect/cli"
import { Data, Either } from "effect"
import { closest, distance } from "fastest-levenshtein"
import type { Description } from "./Describing.js"

/** The program cannot tell what is wanted. Whose help says more is added where the command is known. */
export class UsageError extends Data.TaggedError("UsageError")<{ readonly message: string }> {}

/** Of a program that was called in a way that there is not. */
export const exitCode = 2

/** Options that there are not, and those without their values: the library would take them for arguments and values. */
export const check = ({ options }: Description, args: ReadonlyArray<string>): Either.Either<void, UsageError> => {
  const known = new Map(options.map(({ title }) => [title.split(" ", 1)[0] ?? "", title.includes(" ")]))
  const names = [...known.keys()]
  const end = args.indexOf("--")
  const given = end === -1 ? args : args.slice(0, end)
  for (const [index, text] of given.entries()) {
    if (!text.startsWith("-") || text === "-") continue
    const [, name, value] = /^(--[a-z][a-z-]{0,30})(=?)/i.exec(text) ?? []
    if (name === undefined) return wrong("There is an option that is not known")
    const needsValue = known.get(name)
    if (needsValue === undefined) return wrong(`${name} is not known${meant(name, names)}`)
    const next = given[index + 1]
    if (needsValue && value === "" && (next === undefined || /^-./.test(next))) return wrong(`${name} needs a value`)
  }
  return Either.void
}

/** What the library says. */
export const ofValidation = ({ error }: ValidationError.ValidationError): UsageError => {
  const text = stripVTControlCharacters(HelpDoc.toAnsiText(error)).replace(/\s+/g, " ").trim()
  const [, option, argument] = /^Expected to find option: '(--[a-z-]+)'$|^Missing argument <([a-z-]+)>/.exec(text) ?? []
  if (option !== undefined) return new UsageError({ message: `${option} is missing` })
  if (argument !== undefined) return new UsageError({ message: `<${argument}> is missing` })
  return new UsageError({ message: text })
}

/** Of what nothing took. */
export const leftover = ({ args }: Description): UsageError =>
  new UsageError({
    message: args.length === 0 ? "There is an argument that belongs to no option" : "There is an argument too many"
  })

/** Who typed no command that there is. What is no word may be anything. */
export const noCommand = (name: string, names: ReadonlyArray<string>): UsageError =>
  new UsageError({
    message: /^[a-z][a-z-]{0,30}$/i.test(name)
      ? `There is no command ${name}${meant(name, names)}`
      : "A command comes first"
  })

/** What begins like that; else what is off by a third of the letters at most. */
const meant = (name: string, names: ReadonlyArray<string>): string => {
  const begun = names.find((each) => name.length > 1 && each.startsWith(name))
  const nearest = begun ?? closest(name, names)
  const isNear = begun !== undefined || (names.length > 0 && distance(name, nearest) * 3 <= name.length)
  return isNear ? `: is ${nearest} meant?` : ""
}

const wrong = (message: string) => Either.left(new UsageError({ message }))
