/** `cal-tokens export`: every connection, without its tokens. */
import * as Fs from "node:fs"
import { Command, Options } from "@effect/cli"
import { Console, Effect, Option, Stream } from "effect"
import { StartError } from "../Environment.js"
import * as Connections from "./Connections.js"
import { number } from "./Numbers.js"
import * as Operating from "./Operating.js"
import { UsageError } from "./Usage.js"

const options = {
  withoutSecrets: Options.boolean("without-secrets").pipe(
    Options.withDescription("Has to be given: tokens are not exported.")
  ),
  to: Options.text("to").pipe(
    Options.withPseudoName("FILE"),
    Options.withDescription("Where to write, for its owner only; by default, standard output."),
    Options.optional
  )
}

const why =
  "Tokens are not exported: whoever refreshes a copy of one logs the user out here. To move, back up the database and " +
  "keep its encryption keys; --without-secrets exports everything else"

export const command = Command.make("export", options, ({ to, withoutSecrets }) =>
  Effect.gen(function* () {
    if (!withoutSecrets) return yield* new UsageError({ message: why })
    const settings = yield* Operating.settings
    const write = yield* Option.match(to, { onNone: () => Effect.succeed(Console.log), onSome: appending })
    let count = 0
    yield* Connections.all(undefined).pipe(
      Stream.runForEach((row) =>
        Effect.zipRight(
          Effect.sync(() => count++),
          write(Connections.json(row))
        )
      ),
      Connections.provide(settings)
    )
    if (Option.isSome(to)) yield* Console.log(`${number(count)} connections, without tokens`)
  }).pipe(Effect.scoped, Operating.answering)
).pipe(Command.withDescription("Write every connection as a line of JSON, without its tokens."))

/** What was there is kept until somebody removes it. */
const appending = (path: string) => {
  const failure = (error: unknown) => {
    const code = error instanceof Error && "code" in error ? String(error.code) : "unknown reason"
    return new StartError({
      message: `${path} cannot be written (${code})${code === "EEXIST" ? ": it is there already; --to names another file" : ""}`
    })
  }
  return Effect.acquireRelease(Effect.try({ try: () => Fs.openSync(path, "wx", 0o600), catch: failure }), (file) =>
    Effect.sync(() => Fs.closeSync(file))
  ).pipe(
    Effect.map(
      (file) => (line: string) =>
        Effect.try({ try: () => Fs.writeSync(file, `${line}\n`), catch: failure }).pipe(Effect.asVoid)
    )
  )
}
