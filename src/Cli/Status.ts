/** `cal-tokens status`: how users' connections stand. */
import { Args, Command, Options } from "@effect/cli"
import { Clock, Console, Effect, Option, Stream } from "effect"
import * as Colours from "./Colours.js"
import * as Connections from "./Connections.js"
import { relative } from "./Instants.js"
import { number } from "./Numbers.js"
import * as Operating from "./Operating.js"
import { UsageError } from "./Usage.js"

/** Those who have to reconnect have another sign, for who sees no colours. */
const titleOf = ({ status }: Connections.Row) => (status === "active" ? "active" : "RECONNECT")

/** What a table has, the most important first: what a narrow terminal has no room for is left out. */
const columns: ReadonlyArray<
  readonly [title: string, width: number, text: (row: Connections.Row, now: number) => string]
> = [
  ["user", 26, ({ userUlid }) => userUlid],
  ["status", 9, titleOf],
  ["expires", 14, ({ accessTokenExpiresAt }, now) => relative(accessTokenExpiresAt, now)],
  ["kind", 7, ({ kind }) => kind],
  ["last refresh", 14, ({ lastRefreshAt: at }, now) => (at === undefined ? "-" : relative(at, now))],
  ["last error", 24, ({ cause, lastError }) => cause ?? lastError ?? "-"],
  ["next attempt", 14, ({ nextAttemptAt = 0 }, now) => (nextAttemptAt > now ? relative(nextAttemptAt, now) : "-")],
  ["refresh token", 14, ({ refreshTokenExpiresAt: at }, now) => (at === null ? "-" : relative(at, now))]
]

/** As many as there is room for. */
const fitting = () => {
  const room = process.stdout.isTTY ? process.stdout.columns : Number.POSITIVE_INFINITY
  let used = -2
  return columns.filter(([, width]) => (used += width + 2) <= room)
}

const line = (cells: ReadonlyArray<readonly [text: string, width: number]>) =>
  cells
    .map(([text, width]) => text.padEnd(width))
    .join("  ")
    .trimEnd()

const lineOf = (row: Connections.Row, now: number) => {
  const text = line(fitting().map(([, width, text]) => [text(row, now), width]))
  return row.status === "active" ? text : Colours.red(text)
}

const heading = () => Colours.bold(line(fitting().map(([title, width]) => [title, width])))

const statuses = ["active", "reauthorizationRequired"] as const

const options = {
  status: Options.text("status").pipe(
    Options.withPseudoName("STATUS"),
    Options.withDescription(`Only those who have it: ${statuses.join(" or ")}.`),
    Options.filterMap(
      (text) => Option.fromNullable(statuses.find((status) => status === text)),
      `--status must be one of ${statuses.join(", ")}`
    ),
    Options.optional
  ),
  json: Options.boolean("json").pipe(Options.withDescription("A JSON object in each line, and no counts.")),
  user: Args.optional(Operating.user)
}

export const command = Command.make("status", options, ({ json: isJson, status, user }) =>
  Effect.gen(function* () {
    const named = yield* Effect.transposeMapOption(user, Operating.userOf)
    if (Option.isSome(named) && Option.isSome(status)) {
      return yield* new UsageError({ message: "--status is of lists, and does not go with <user>" })
    }
    const settings = yield* Operating.settings
    const counts = new Map<string, number>()
    const rows = Option.isSome(named) ? Connections.one(named.value) : Connections.all(Option.getOrUndefined(status))
    // Not above a failure.
    const head = yield* Effect.once(isJson ? Effect.void : Effect.suspend(() => Console.log(heading())))
    yield* Stream.runForEach(rows, (row) =>
      Effect.gen(function* () {
        yield* head
        counts.set(row.status, (counts.get(row.status) ?? 0) + 1)
        yield* Console.log(isJson ? Connections.json(row) : lineOf(row, yield* Clock.currentTimeMillis))
      })
    ).pipe(Connections.provide(settings))
    if (Option.isSome(named)) return yield* counts.has("reauthorizationRequired") ? Operating.lookAtIt : Effect.void
    yield* head
    if (!isJson) yield* Console.log(summary(counts))
  }).pipe(Operating.answering)
).pipe(Command.withDescription("Tell how users' connections stand: all of them, or one."))

const summary = (counts: ReadonlyMap<string, number>) => {
  const [active, others] = statuses.map((status) => counts.get(status) ?? 0)
  return `\n${number(active ?? 0)} active, ${number(others ?? 0)} have to reconnect`
}
