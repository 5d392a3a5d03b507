/** `cal-tokens import`: takes over the connections that another system kept until now, again and again if need be. */
import { Command } from "@effect/cli"
import { Clock, Console, Effect, Layer, LogLevel, Option } from "effect"
import * as NodeHttp from "../CalHttp/Node.js"
import * as CalClient from "../CalClient.js"
import * as Environment from "../Environment.js"
import { StartError } from "../Environment.js"
import * as Logging from "../Environment/Logging.js"
import * as Services from "../Environment/Services.js"
import * as Ways from "../Environment/Ways.js"
import { UserUlid } from "../Token.js"
import * as TokenConfig from "../TokenConfig.js"
import * as Counts from "./Import/Counts.js"
import * as Foretelling from "./Import/Foretelling.js"
import type { Rejected } from "./Import/Judging.js"
import * as Keeping from "./Import/Keeping.js"
import * as Run from "./Import/Run.js"
import * as Settings from "./Import/Settings.js"
import { type Source, start } from "./Import/Source.js"
import { identityOf } from "./Import/Table.js"
import * as Target from "./Import/Target.js"
import * as Verifying from "./Import/Verifying.js"
import { number } from "./Numbers.js"
import * as Operating from "./Operating.js"
import type { UsageError } from "./Usage.js"

const run = (given: Settings.Given): Effect.Effect<void, StartError | UsageError> =>
  Effect.gen(function* () {
    yield* Settings.check(given)
    const isGood = yield* Option.match(given.toHttp, {
      onNone: () => intoDatabase(given),
      onSome: (url) => overHttp(given, url)
    })
    if (!isGood) yield* Operating.lookAtIt
  }).pipe(
    Effect.scoped,
    // Whoever stops a service has what they want; an import that was stopped has not done what it was asked for.
    Effect.onInterrupt(() => Effect.dieMessage("stopped"))
  )

export const command = Command.make("import", Settings.options, run).pipe(
  Command.withDescription("Take over connections from another system's table or file.")
)

/** What an import is about besides its source. */
interface Into {
  readonly target: Target.Target
  /** What of the target tells it from others. */
  readonly identity: ReadonlyArray<unknown>
  /** Cal.com's time in ms. */
  readonly now: Effect.Effect<number>
  readonly words: Words
  readonly sample?: Verifying.Sample
}

/** What the numbers at the end are called. */
type Words = "done" | "foretold" | "valid"

const overHttp = (given: Settings.Given, to: string) =>
  Effect.gen(function* () {
    const url = yield* Settings.serviceOf(to)
    const key = yield* Settings.loadKey
    const http = Target.layerHttp(yield* Environment.loadProxies)
    const source = yield* Settings.sourceOf(given)
    return yield* Effect.gen(function* () {
      const service = yield* Target.overHttp(url, key)
      yield* service.reach
      return yield* move(given, source, {
        target: given.dryRun ? valid : service,
        identity: ["http", url],
        now: Clock.currentTimeMillis,
        words: given.dryRun ? "valid" : "done"
      })
    }).pipe(Effect.provide(http))
  })

const intoDatabase = (given: Settings.Given) =>
  Effect.gen(function* () {
    const { cal, config, log, proxies } = yield* Effect.provide(Environment.loadServices, Logging.layerConfig)
    if (cal._tag === "Sandbox") {
      return yield* new StartError({
        message: "import needs a Cal.com client (CAL_CLIENT_ID or CAL_OAUTH_CLIENT_ID): the demo has users of its own"
      })
    }
    const { database, options } = cal
    const layerClient = Layer.provide(CalClient.layer(options), NodeHttp.layerTokenHttp)
    const clientId = yield* Effect.provide(clientOf(given), layerClient)
    const source = yield* Settings.sourceOf(given)
    const references = Layer.mergeAll(
      Ways.layer(proxies),
      // Nobody asks for any of these users here.
      TokenConfig.layerChanged({ ...config, memoryMaxEntries: 1 }),
      // A line for each user would bury the rest.
      Logging.layer({ ...log, level: LogLevel.greaterThan(log.level, LogLevel.Warning) ? log.level : LogLevel.Warning })
    )
    const into = {
      identity: database._tag === "Postgres" ? identityOf(database.url) : [database.directory],
      words: "done"
    } as const
    if (given.dryRun) {
      return yield* Effect.gen(function* () {
        const client = yield* CalClient.CalClient
        const isKnown = database._tag === "Postgres"
        return yield* move(given, source, {
          ...into,
          target: isKnown ? yield* Foretelling.make(database.url, clientId, client.now) : valid,
          now: client.now,
          words: isKnown ? "foretold" : "valid"
        })
      }).pipe(Effect.provide(Layer.provide(layerClient, references)))
    }
    return yield* Effect.gen(function* () {
      const client = yield* CalClient.CalClient
      const sample = given.verify ? Verifying.sample(given.verifyUsers) : undefined
      const isGood = yield* move(given, source, {
        ...into,
        target: yield* Target.database,
        now: client.now,
        ...(sample === undefined ? {} : { sample })
      })
      return sample === undefined ? isGood : (yield* verify(yield* sample.users)) && isGood
    }).pipe(
      Effect.provide(
        Services.layerCal(database, options).pipe(
          Layer.provideMerge(references),
          Layer.mapError(({ message }) => new StartError({ message }))
        )
      )
    )
  })

/** One refusal instead of one for each row. */
const clientOf = ({ clientId, kind }: Settings.Given) =>
  Effect.gen(function* () {
    const { clients } = yield* CalClient.CalClient
    const named = Option.getOrUndefined(clientId)
    const chosen = yield* kind === "managed" ? clients.managed.choose(named) : clients.oauth2.choose(named)
    if (Option.isSome(chosen)) return chosen.value.clientId
    return yield* new StartError({
      message:
        kind === "managed"
          ? "--kind managed needs a platform client (CAL_CLIENT_ID)"
          : "--kind oauth2 needs an OAuth2 client (CAL_OAUTH_CLIENT_ID)"
    })
  }).pipe(Effect.catchTag("InvalidInput", ({ expected }) => new StartError({ message: `--client-id ${expected}` })))

/** Whatever is said of rows without looking anywhere else. */
const valid: Target.Target = {
  write: (rows) =>
    Effect.succeed(rows.map(({ userUlid }) => ({ outcome: "imported", userUlid: UserUlid.make(userUlid) })))
}

/** Whether nothing was rejected. */
const move = (given: Settings.Given, source: Source, into: Into): Effect.Effect<boolean, StartError> =>
  Effect.gen(function* () {
    const { dryRun, kind, rejected: path } = given
    const columns = Settings.columnsOf(given)
    const clientId = Option.getOrUndefined(given.clientId)
    const run = source.identity && [source.identity, into.identity, kind, clientId]
    const keeping = dryRun
      ? Keeping.nothing
      : yield* Keeping.make(path, { run, unit: source.unit, isAnew: given.fromStart || Option.isSome(given.after) })
    const begin = Option.getOrElse(keeping.stopped, () => ({
      ...Keeping.beginning,
      position: { ...start, user: Option.getOrUndefined(given.after) }
    }))
    if (Option.isSome(keeping.stopped)) {
      yield* Console.error(
        `Going on after ${source.unit} ${number(begin.position.place)}, where the last run was stopped; --from-start begins anew.`
      )
    }
    const began = yield* Clock.currentTimeMillis
    const reasons = new Map<string, number>()
    const first: Array<Rejected> = []
    let state = begin
    const end = yield* Run.run({
      kind,
      clientId,
      columns,
      source,
      target: into.target,
      keeping,
      begin,
      out: process.stderr,
      now: into.now,
      onStored: (users) => into.sample?.offer(users) ?? Effect.void,
      onRejected: (rows) =>
        Effect.sync(() => {
          count(reasons, rows)
          first.push(...rows.slice(0, shown - first.length))
        }),
      onState: (next) => Effect.sync(() => (state = next))
    }).pipe(
      Effect.onError(() =>
        Effect.suspend(() =>
          state === begin || dryRun
            ? Effect.void
            : Console.error(
                `${number(Counts.sum(state.counts))} rows are done.${run ? " The same command goes on from there." : ""}`
              )
        )
      )
    )
    const seconds = Math.max(1, Math.round(((yield* Clock.currentTimeMillis) - began) / 1000))
    yield* Console.log(summary(end.counts, into.words, seconds, path, Counts.sum(begin.counts)))
    // A dry run leaves no file that names them.
    if (dryRun && reasons.size > 0) {
      const named = first.map(
        ({ place, user }) => `- ${source.unit} ${number(place)}${user === undefined ? "" : `, user ${user}`}`
      )
      yield* Console.log(
        ["", reasonsOf(reasons), end.counts.rejected > shown ? `The first ${shown}:` : "These are:", ...named].join(
          "\n"
        )
      )
    }
    return end.counts.rejected === 0
  })

const count = (reasons: Map<string, number>, rows: ReadonlyArray<Rejected>) => {
  for (const { reason } of rows) reasons.set(reason, (reasons.get(reason) ?? 0) + 1)
}

/** So many rejected rows, and so many reasons, are told of. */
const shown = 10

/** The most frequent ones. */
const reasonsOf = (reasons: ReadonlyMap<string, number>) =>
  [...reasons]
    .sort(([, one], [, other]) => other - one)
    .slice(0, shown)
    .map(([reason, count]) => `${number(count)} rejected: ${reason}`)
    .join("\n")

const summary = (counts: Counts.Counts, words: Words, seconds: number, path: string, before: number): string => {
  const all = Counts.sum(counts)
  const rate = number(Math.round((all - before) / seconds))
  const lines = {
    done: [
      ["imported", counts.imported],
      ["updated", counts.updated],
      ["unchanged", counts.unchanged],
      ["refreshed here", counts.refreshedHere, "since they were imported, and left alone"],
      ["rejected", counts.rejected, counts.rejected === 0 ? "" : `${path} says why`]
    ],
    foretold: [
      ["new", counts.imported, "would be imported"],
      ["changed", counts.updated, "would be updated"],
      ["unchanged", counts.unchanged],
      ["refreshed here", counts.refreshedHere, "would be left alone"],
      ["rejected", counts.rejected]
    ],
    valid: [
      ["valid", counts.imported, "what is stored already was not looked at"],
      ["rejected", counts.rejected]
    ]
  } as const
  return [
    `${number(all)} rows, in ${seconds} s (${rate} a second).${words === "done" ? "" : " Nothing was written."}`,
    Counts.table([
      ...lines[words],
      ...(counts.none === 0 ? [] : ([["not connected", counts.none, "users without any token"]] as const))
    ])
  ].join("\n")
}

/** Whether nobody is somebody else. */
const verify = (users: Parameters<typeof Verifying.verify>[0]) =>
  Effect.gen(function* () {
    const { asked, expired, right, wrong } = yield* Verifying.verify(users)
    yield* Console.log(
      [
        "",
        asked + expired === 0
          ? "Cal.com was asked about nobody: whoever was not rejected has been refreshed here since, which says the same."
          : `Cal.com knows ${right} of ${asked} users as the accounts that were imported.`,
        ...(expired === 0
          ? []
          : [
              `${expired} more were not asked about: their access tokens have expired, and nothing is refreshed for this.`
            ]),
        ...wrong.map((line) => `  ${line}`)
      ].join("\n")
    )
    return wrong.length === 0
  })
