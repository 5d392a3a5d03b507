/** `cal-tokens migrate`: brings the database's schema up to date, which `serve` does at its start by itself. */
import { Command, Options } from "@effect/cli"
import { Console, Effect } from "effect"
import * as Logging from "../Environment/Logging.js"
import * as Services from "../Environment/Services.js"
import * as Operating from "./Operating.js"

const options = {
  dryRun: Options.boolean("dry-run").pipe(
    Options.withDescription("Print the SQL that would run, and change nothing. The role needs no right but to read.")
  )
}

const upToDate = "The schema is up to date: there is nothing to do."

export const command = Command.make("migrate", options, ({ dryRun }) =>
  Effect.gen(function* () {
    const { cal, log } = yield* Operating.settings
    yield* Effect.gen(function* () {
      const pending = yield* Services.pendingMigrations(cal.database)
      if (pending.length === 0) return yield* dryRun ? Console.log(`-- ${upToDate}`) : Console.log(upToDate)
      if (!dryRun) {
        yield* Services.migrate(cal.database)
        return yield* Console.log(
          `The schema is up to date now: ${[...new Set(pending.map(({ migration }) => migration))].join(", ")}.`
        )
      }
      yield* Console.log("begin;")
      yield* Effect.forEach(pending, ({ statement }) => Console.log(`${statement};`))
      yield* Console.log("commit;")
    }).pipe(Effect.provide(Logging.layer(log)))
  }).pipe(Operating.answering)
).pipe(Command.withDescription("Bring the database's schema up to date, as serve does at its start."))
