/** The command line. */
import { Command, CommandDescriptor } from "@effect/cli"
import { Cause, Console, Effect } from "effect"
import * as Capacity from "./Cli/Capacity.js"
import * as Colours from "./Cli/Colours.js"
import * as Completions from "./Cli/Completions.js"
import * as Describing from "./Cli/Describing.js"
import * as Export from "./Cli/Export.js"
import * as Doctor from "./Cli/Doctor.js"
import * as Explain from "./Cli/Explain.js"
import * as Help from "./Cli/Help.js"
import * as Import from "./Cli/Import.js"
import * as ImportSettings from "./Cli/Import/Settings.js"
import * as Keygen from "./Cli/Keygen.js"
import * as Migrate from "./Cli/Migrate.js"
import * as Refresh from "./Cli/Refresh.js"
import * as Salvage from "./Cli/Salvage.js"
import * as Reencrypt from "./Cli/Reencrypt.js"
import * as Serve from "./Cli/Serve.js"
import * as Simulator from "./Cli/Simulator.js"
import * as Status from "./Cli/Status.js"
import * as Sweep from "./Cli/Sweep.js"
import * as Usage from "./Cli/Usage.js"
import { StartError } from "./Environment.js"
import * as Edge from "./Http/Edge.js"
import { version } from "./Version.js"

/** In the order of the help. */
const commands = [
  Serve.command,
  Migrate.command,
  Status.command,
  Explain.command,
  Refresh.command,
  Sweep.command,
  Import.command,
  Export.command,
  Salvage.command,
  Capacity.command,
  Doctor.command,
  Reencrypt.command,
  Keygen.command,
  Simulator.command
] as const

const program = Command.make("cal-tokens").pipe(
  Command.withDescription("Keeps every user's Cal.com access token valid."),
  Command.withSubcommands(commands)
)

/** Of each command, and of the program. */
export const descriptions: ReadonlyArray<Describing.Description> = commands.map(Describing.of)

const names = descriptions.map(({ name }) => name)

/** Of those whose options say too little one by one. */
const pages: Readonly<Record<string, string>> = { import: ImportSettings.help }

const isHelp = (text: string) => text === "--help" || text === "-h"

/** What a command line whose command is known asks for. */
const runCommand = (description: Describing.Description, given: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const { name } = description
    if (given.some(isHelp)) return yield* Console.log(pages[name] ?? Help.ofCommand(description))
    yield* Usage.check(description, given)
    const directive = yield* Effect.mapError(
      CommandDescriptor.parse(program.descriptor, ["cal-tokens", name, ...given], Describing.config),
      Usage.ofValidation
    )
    // What the library answers by itself has been asked for by nobody.
    if (directive._tag === "BuiltIn" || directive.leftover.length > 0) return yield* Usage.leftover(description)
    yield* program.handler(directive.value)
  }).pipe(
    Effect.catchTag("UsageError", ({ message }) =>
      Effect.fail(new Usage.UsageError({ message: `${message} (cal-tokens ${description.name} --help)` }))
    )
  )

/** What is asked of the program itself. */
const runProgram = ([first = "", shell]: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    if (first === "--version") return yield* Console.log(version)
    const overview = Help.overview(Describing.of(program).about, version, descriptions)
    if (isHelp(first)) return yield* Console.log(overview)
    if (first === "--completions") {
      const lines = yield* Completions.of(descriptions, shell)
      return yield* Console.log(lines)
    }
    if (first === "") return yield* Effect.zipRight(Console.error(overview), new Usage.UsageError({ message: "" }))
    const { message } = Usage.noCommand(first, names)
    return yield* new Usage.UsageError({ message: `${message} (cal-tokens --help)` })
  })

/** Runs a command line (`process.argv`). What goes wrong is told in one line on standard error, then fails. */
export const run = (args: ReadonlyArray<string>) =>
  Effect.suspend(() => {
    const [, , first = "", ...given] = args
    const description = descriptions.find(({ name }) => name === first)
    return description === undefined ? runProgram(args.slice(2)) : runCommand(description, given)
  }).pipe(
    Effect.catchIf(
      (error): error is Usage.UsageError => error instanceof Usage.UsageError,
      ({ message }) =>
        Effect.zipRight(
          message === "" ? Effect.void : Console.error(`cal-tokens: ${message}`),
          Effect.sync(() => (process.exitCode = Usage.exitCode))
        )
    ),
    Effect.tapErrorCause(report),
    Colours.whereSeen
  )

const report = (cause: Cause.Cause<unknown>): Effect.Effect<void> => {
  if (Cause.isInterruptedOnly(cause)) return Effect.void
  const error = Cause.squash(cause)
  if (error instanceof StartError) return Console.error(`cal-tokens: ${error.message}`)
  if (process.env["NODE_ENV"] === "development") return Console.error(Cause.pretty(cause))
  const { at = "an unknown place", fault } = Edge.describeFault(error)
  return Console.error(`cal-tokens: unexpected ${fault} at ${at}; NODE_ENV=development shows more`)
}
