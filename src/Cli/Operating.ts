/** What the commands for whoever operates the service share. */
import { Args } from "@effect/cli"
import { Effect } from "effect"
import * as Environment from "../Environment.js"
import { StartError } from "../Environment.js"
import * as Logging from "../Environment/Logging.js"
import * as TokenInput from "../TokenInput.js"
import { UsageError } from "./Usage.js"

/** As the table of exit codes calls it: the command has done its work, and somebody has to look at what it tells. */
export const lookAtIt: Effect.Effect<void> = Effect.sync(() => (process.exitCode = 3))

/** What is foreseen, in its own words. */
export const orStartError = <A, E extends { readonly message: string }, R>(
  work: Effect.Effect<A, E, R>
): Effect.Effect<A, StartError, R> => Effect.mapError(work, ({ message }) => new StartError({ message }))

/** As `serve` has them. */
export const settings: Effect.Effect<Environment.ServiceSettings, StartError> = Effect.provide(
  Environment.loadServices,
  Logging.layerConfig
)

/** Log lines go to standard error: what a command answers may be read by a program. */
export const answering = <A, E, R>(work: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.consoleWith((console) => {
    const error = (...texts: ReadonlyArray<unknown>) => console.unsafe.error(...texts)
    const unsafe = { ...console.unsafe, log: error, info: error, debug: error, group: error, groupCollapsed: error }
    return Effect.withConsole(work, { ...console, unsafe })
  })

export const user = Args.text({ name: "user" }).pipe(Args.withDescription("The user's id: a ULID or a UUID."))

export const userOf = (text: string) =>
  Effect.mapError(TokenInput.userUlid(text), ({ expected }) => new UsageError({ message: `<user> ${expected}` }))
