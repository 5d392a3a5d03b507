/** The command line. */
import { Command } from "@effect/cli"
import { Cause, Console, Effect } from "effect"
import * as Capacity from "./Cli/Capacity.js"
import * as Colours from "./Cli/Colours.js"
import * as Help from "./Cli/Help.js"
import * as Import from "./Cli/Import.js"
import * as Serve from "./Cli/Serve.js"
import * as Simulator from "./Cli/Simulator.js"
import * as Sweep from "./Cli/Sweep.js"
import { StartError } from "./Environment.js"
import * as Edge from "./Http/Edge.js"
import { version } from "./Version.js"

const serve = Command.make("serve", {}, () => Serve.serve).pipe(
  Command.withDescription("Serve the HTTP API; without a Cal.com client, a demo of it.")
)

const sweep = Command.make("sweep", {}, () => Sweep.sweep).pipe(
  Command.withDescription("Refresh what is due by now, and end: for your own scheduler.")
)

const capacity = Command.make("capacity", {}, () => Capacity.capacity).pipe(
  Command.withDescription("Tell how many users one Cal.com client sustains.")
)

/** These are for the list of commands: they read their own options. */
const takeOver = Command.make("import", {}, () => Effect.void).pipe(
  Command.withDescription("Take over connections from another system's table or file.")
)

const sandbox = Command.make("sandbox", {}, () => Simulator.run([])).pipe(
  Command.withDescription("Simulate Cal.com on a port, for tests; not for production.")
)

const command = Command.make("cal-tokens").pipe(
  Command.withDescription("Keeps every user's Cal.com access token valid."),
  Command.withSubcommands([serve, takeOver, sweep, capacity, sandbox])
)

/** Runs a command line (`process.argv`). What goes wrong is told in one line on standard error, then fails. */
export const run = (args: ReadonlyArray<string>) =>
  Effect.suspend(() => {
    const footer = args.includes("serve", 2) ? Help.settings : Help.whereSettingsAre
    if (args[2] === "sandbox") return Simulator.run(args.slice(3))
    if (args[2] === "import") return Import.run(args.slice(3))
    return Command.run(command, { name: "cal-tokens", version, footer })(args)
  }).pipe(Effect.tapErrorCause(report), Colours.whereSeen)

const report = (cause: Cause.Cause<unknown>): Effect.Effect<void> => {
  if (Cause.isInterruptedOnly(cause)) return Effect.void
  const error = Cause.squash(cause)
  if (error instanceof StartError) return Console.error(`cal-tokens: ${error.message}`)
  // The command line has told what is wrong with the arguments.
  if (Cause.isFailure(cause)) return Effect.void
  if (process.env["NODE_ENV"] === "development") return Console.error(Cause.pretty(cause))
  const { at = "an unknown place", fault } = Edge.describeFault(error)
  return Console.error(`cal-tokens: unexpected ${fault} at ${at}; NODE_ENV=development shows more`)
}
