/**
 * Secrets that change while the program runs: at SIGHUP the files that hold them are read again. What is wrong there changes
 * nothing. Where a change needs a new start, that is told.
 */
import { createHash } from "node:crypto"
import * as Fs from "node:fs"
import { Clock, Effect, Either, Layer, Option, Queue, Redacted } from "effect"
import * as ApiKeys from "../ApiKeys.js"
import type * as CalClient from "../CalClient.js"
import * as Environment from "../Environment.js"
import type * as Services from "../Environment/Services.js"
import { all } from "../Environment/Variables.js"
import * as KeyRing from "../KeyRing.js"

export interface Reloading {
  /** Those of the start. What may change is asked for anew. */
  readonly settings: Environment.Settings
  readonly running: Services.Running
  /** With some that do not change. */
  readonly apiKeys: (...others: ReadonlyArray<ApiKeys.ApiKey>) => () => ReadonlyArray<ApiKeys.ApiKey>
  /** Hears SIGHUP as long as it is there. */
  readonly layer: Layer.Layer<never>
}

export const make = (settings: Environment.Settings): Reloading => {
  const files = filesIn(process.env)
  let digests = digestsOf(files)
  let now = settings
  const keys = Option.map(keysOf(settings), KeyRing.makeReplaceable)

  const reload = Effect.gen(function* () {
    if (files.length === 0) {
      return yield* Effect.logInfo("SIGHUP: there is nothing to re-read, for no variable names a file")
    }
    const found = digestsOf(files)
    const changed = files.filter(({ file }) => digests.get(file) !== found.get(file)).map(({ variable }) => variable)
    const read = yield* Effect.either(Environment.load)
    if (Either.isLeft(read)) return yield* refuse(read.left.message)
    if (changed.length === 0) return yield* Effect.logInfo("SIGHUP: no file has changed")
    const next = read.right
    // First, for it may be refused.
    const retired = replace(keys, keysOf(next))
    if (Either.isLeft(retired)) return yield* refuse(`in CAL_TOKENS_ENCRYPTION_KEYS ${retired.left}`)
    digests = found
    const late = changed.filter((variable) => !isInForce(variable, now, next))
    now = { ...now, apiKeys: next.apiKeys, webhook: next.webhook, cal: calOf(now, next) }
    const counts = changed.filter((variable) => !late.includes(variable))
    if (counts.length > 0) yield* Effect.logInfo(`SIGHUP: re-read, and in force from now on: ${counts.join(", ")}`)
    if (late.length > 0) {
      yield* Effect.logWarning(`SIGHUP: changed, and in force from the next start on only: ${late.join(", ")}`)
    }
    if (retired.right.length > 0 && changed.includes("CAL_TOKENS_ENCRYPTION_KEYS")) {
      yield* Effect.logError(
        `CAL_TOKENS_ENCRYPTION_KEYS lacks ${retired.right.join(", ")}: what these sealed opens here until this process ends, ` +
          "and nowhere after that; missingKeys at /health/ready tells whether rows need them"
      )
    }
    yield* warn(now)
  })

  return {
    settings: {
      ...settings,
      cal: withSecretOf(settings.cal, (clientId) => secretsOf(now.cal).get(clientId)),
      webhook: Option.map(settings.webhook, (webhook) => ({
        ...webhook,
        secret: () => {
          const { secret } = Option.getOrElse(now.webhook, () => webhook)
          return Redacted.isRedacted(secret) ? secret : secret()
        }
      }))
    },
    running: {
      ...(Option.isSome(keys) ? { keyRing: Layer.succeed(KeyRing.KeyRing, keys.value.ring) } : {}),
      database: () => now.cal.database
    },
    apiKeys: (...others) => {
      let last = now.apiKeys
      let list = [...last, ...others]
      return () => {
        if (now.apiKeys !== last) list = [...(last = now.apiKeys), ...others]
        return list
      }
    },
    layer: Layer.scopedDiscard(
      Effect.gen(function* () {
        yield* warn(settings)
        const signals = yield* Queue.sliding<void>(1)
        const hear = () => void Queue.unsafeOffer(signals, undefined)
        // At a terminal the signal says that it has gone, and nobody is left to run for.
        if (process.stdin.isTTY) return
        yield* Effect.acquireRelease(
          Effect.sync(() => process.on("SIGHUP", hear)),
          () => Effect.sync(() => process.off("SIGHUP", hear))
        )
        yield* Effect.forkScoped(Effect.forever(Effect.zipRight(Queue.take(signals), reload)))
      })
    )
  }
}

const refuse = (problem: string) => Effect.logError(`SIGHUP: everything stays as it was: ${problem}`)

const warn = ({ apiKeys }: Environment.Settings) =>
  Effect.flatMap(Clock.currentTimeMillis, (now) =>
    Effect.forEach(ApiKeys.expiries(apiKeys, now), (line) => Effect.logWarning(line), { discard: true })
  )

interface File {
  readonly variable: string
  readonly file: string
}

/** Those that hold the values of variables. */
const filesIn = (env: NodeJS.ProcessEnv): ReadonlyArray<File> =>
  Object.values(all).flatMap(({ name, names }) =>
    names
      .filter((each) => each.endsWith("_FILE") && (env[each] ?? "").trim() !== "")
      .map((each) => ({ variable: name, file: (env[each] ?? "").trim() }))
  )

/** What tells that a file has changed, and nothing of it. */
const digestsOf = (files: ReadonlyArray<File>): ReadonlyMap<string, string> =>
  new Map(
    files.map(({ file }) => [
      file,
      Either.getOrElse(
        Either.try(() => createHash("sha256").update(Fs.readFileSync(file)).digest("hex")),
        () => "none"
      )
    ])
  )

/** Those of the database, unless it makes its own. */
const keysOf = ({ cal: { database } }: Environment.Settings): Option.Option<KeyRing.Keys> =>
  Option.flatMap(
    database._tag === "Postgres" ? Option.some(database.encryptionKeys) : database.encryptionKeys,
    (text) => Either.getRight(KeyRing.parseKeys(text))
  )

const replace = (keys: Option.Option<KeyRing.Replaceable>, next: Option.Option<KeyRing.Keys>) =>
  Option.match(
    Option.zipWith(keys, next, ({ replace }, next) => replace(next)),
    {
      onNone: () => Either.right([]),
      onSome: (replaced) => replaced
    }
  )

/** Whether a change of this variable counts at once. */
const isInForce = (variable: string, now: Environment.Settings, next: Environment.Settings): boolean => {
  switch (variable) {
    case "CAL_TOKENS_API_KEYS":
    case "CAL_TOKENS_ENCRYPTION_KEYS":
    case "CAL_TOKENS_WEBHOOK_SECRET":
      return true
    case "CAL_CLIENT_SECRET":
    case "CAL_OAUTH_CLIENT_SECRET":
    case "CAL_TOKENS_CLIENTS_FILE":
      return areSameClients(now, next)
    case "DATABASE_URL":
    case "DATABASE_DIRECT_URL":
      return isSameDatabase(now, next)
    default:
      return false
  }
}

/** The new secrets, where nothing else of the clients has changed, and the new passwords, where nothing else of the database has. */
const calOf = (now: Environment.Settings, next: Environment.Settings): Environment.Settings["cal"] =>
  now.cal._tag === "Client" && next.cal._tag === "Client"
    ? Environment.Cal.Client({
        options: areSameClients(now, next) ? next.cal.options : now.cal.options,
        database: isSameDatabase(now, next) ? next.cal.database : now.cal.database
      })
    : now.cal

type Client = CalClient.ManagedClient | CalClient.OAuth2Client

const clientsOf = (cal: Environment.Settings["cal"]): ReadonlyArray<Client> =>
  cal._tag === "Sandbox"
    ? []
    : [
        cal.options.managed,
        cal.options.oauth2,
        ...(cal.options.others?.managed ?? []),
        ...(cal.options.others?.oauth2 ?? [])
      ].filter((client) => client !== undefined)

const secretsOf = (cal: Environment.Settings["cal"]) =>
  new Map(clientsOf(cal).map(({ clientId, clientSecret }) => [clientId, clientSecret]))

const withSecretOf = (
  cal: Environment.Settings["cal"],
  secretOf: NonNullable<CalClient.Options["secretOf"]>
): Environment.Settings["cal"] =>
  cal._tag === "Sandbox" ? cal : Environment.Cal.Client({ ...cal, options: { ...cal.options, secretOf } })

/** Apart from their secrets. That of a public client would make another one of it. */
const areSameClients = (now: Environment.Settings, next: Environment.Settings): boolean => {
  const [before, after] = [now, next].map(({ cal }) =>
    JSON.stringify(
      clientsOf(cal).map(({ clientSecret, ...client }) => ({ ...client, isPublic: clientSecret === undefined }))
    )
  )
  return before === after
}

/** Apart from names and passwords of its users. */
const isSameDatabase = (now: Environment.Settings, next: Environment.Settings): boolean => {
  const [before, after] = [now, next].map(({ cal: { database } }) =>
    database._tag === "Embedded"
      ? "embedded"
      : JSON.stringify([addressOf(database.url), Option.getOrNull(Option.map(database.directUrl, addressOf))])
  )
  return before === after
}

/** Without whatever stands before its host. */
const addressOf = (url: Redacted.Redacted) => Redacted.value(url).replace(/^([a-z]+:\/\/)[^/?#]*@/, "$1")
