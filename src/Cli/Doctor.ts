/** `cal-tokens doctor`: what is wrong, and what to do about it, whether or not the service runs. Nothing is changed by it. */
import { Command, Options } from "@effect/cli"
import { Clock, type Config, Console, Effect, Layer, Logger, Option, Redacted, Schema } from "effect"
import * as NodeHttp from "../CalHttp/Node.js"
import { Proxies } from "../CalHttp/Proxies.js"
import * as Environment from "../Environment.js"
import * as Variables from "../Environment/Variables.js"
import * as Colours from "./Colours.js"
import * as CalCom from "./Doctor/CalCom.js"
import * as Configuration from "./Doctor/Configuration.js"
import * as Database from "./Doctor/Database.js"
import { count as counted, Finding, type Level, looking, warning } from "./Doctor/Finding.js"

const options = {
  json: Options.boolean("json").pipe(Options.withDescription("Print JSON, for issue reports: it holds no secret."))
}

const run = (isJson: boolean): Effect.Effect<void> =>
  Effect.gen(function* () {
    const found = yield* Effect.provide(examine, Logger.remove(Logger.defaultLogger))
    const isWrong = found.some(({ level }) => level === "wrong")
    if (isJson) {
      const at = new Date(yield* Clock.currentTimeMillis).toISOString()
      const report = { at, node: process.version, platform: process.platform, ok: !isWrong, findings: found }
      yield* Console.log(JSON.stringify(Schema.encodeSync(Report)(report), undefined, 2))
    } else {
      yield* Console.log(lines(found))
    }
    if (isWrong) yield* Effect.sync(() => (process.exitCode = 1))
  })

export const command = Command.make("doctor", options, ({ json }) => run(json)).pipe(
  Command.withDescription("Tell what is wrong with settings, database, Cal.com's clients and rows, and what to do.")
)

/** What `--json` prints. */
export const Report = Schema.Struct({
  at: Schema.String,
  node: Schema.String,
  platform: Schema.String,
  ok: Schema.Boolean,
  findings: Schema.Array(Finding)
})

/** Where settings are wrong, whatever of them is right is looked at. */
const examine: Effect.Effect<ReadonlyArray<Finding>> = Effect.gen(function* () {
  const settings = yield* Effect.option(Environment.loadServices)
  const cal = Option.map(settings, ({ cal }) => cal)
  const database = Option.isSome(cal) ? Option.some(cal.value.database) : yield* databaseAlone
  const all = yield* Effect.all(
    [
      Configuration.look,
      Option.match(database, {
        onNone: () => Effect.succeed([]),
        onSome: (database) => looking("database", Effect.scoped(Database.look(database)))
      }),
      Option.match(Option.all([settings, cal]), {
        onNone: () =>
          Effect.succeed([
            warning("Cal.com", "It was not asked: the settings are wrong.", "Mend them, and look again.")
          ]),
        onSome: ([{ proxies }, cal]) =>
          cal._tag === "Sandbox"
            ? Effect.succeed([
                warning(
                  "Cal.com",
                  "No client is configured: this would be the demo, on a simulated Cal.com.",
                  "Set CAL_OAUTH_CLIENT_ID or CAL_CLIENT_ID, and what goes with it."
                )
              ])
            : CalCom.look(cal.options).pipe(
                Effect.provide(Layer.provide(NodeHttp.layerTokenHttp, Layer.succeed(Proxies, proxies)))
              )
      })
    ],
    { concurrency: "unbounded" }
  )
  return all.flat()
})

/** The database alone, where other settings are wrong: perhaps the keys. */
const databaseAlone: Effect.Effect<Option.Option<Environment.Database>> = Effect.gen(function* () {
  const { CAL_TOKENS_ENCRYPTION_KEYS, DATABASE_URL } = Variables.all
  const set = <A>(wanted: Config.Config<Option.Option<A>>) =>
    Effect.orElseSucceed(wanted, (): Option.Option<A> => Option.none())
  const url = yield* set(DATABASE_URL.config)
  const encryptionKeys = Option.getOrElse(yield* set(CAL_TOKENS_ENCRYPTION_KEYS.config), () => Redacted.make(""))
  return Option.map(url, (url) =>
    Environment.Database.Postgres({
      url,
      encryptionKeys,
      directUrl: Option.none(),
      poolSize: Variables.all.DATABASE_POOL_SIZE.default,
      statementTimeout: Variables.all.DATABASE_STATEMENT_TIMEOUT.default,
      connectTimeout: Variables.all.DATABASE_CONNECT_TIMEOUT.default
    })
  )
})

const colours = { ok: Colours.green, warning: Colours.yellow, wrong: Colours.red } satisfies Record<Level, unknown>

/** One line for each. */
const lines = (found: ReadonlyArray<Finding>): string => {
  const line = ({ advice, check, level, message }: Finding) =>
    `${colours[level](level.padEnd(7))}  ${check}: ${message}${advice === undefined ? "" : ` ${advice}`}`
  const count = (level: Level) => found.filter((each) => each.level === level).length
  return [
    ...found.map(line),
    "",
    `${count("ok")} ok, ${counted(count("warning"), "warning")}, ${count("wrong")} wrong`
  ].join("\n")
}
