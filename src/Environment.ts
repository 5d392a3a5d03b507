/**
 * The settings of the service, read once at its start from environment variables. What is wrong stops the start with one
 * line that names the variable and the form it should have, and never shows a value.
 */
import { createHash } from "node:crypto"
import { Config, type ConfigError, Data, Duration, Effect, Either, type LogLevel, Option, Record } from "effect"
import * as ApiKeys from "./ApiKeys.js"
import type * as Proxies from "./CalHttp/Proxies.js"
import * as Cal from "./Environment/Cal.js"
import * as Form from "./Environment/Form.js"
import * as Misspelt from "./Environment/Misspelt.js"
import * as Telemetry from "./Environment/Telemetry.js"
import * as Variable from "./Environment/Variable.js"
import * as Variables from "./Environment/Variables.js"
import * as TokenConfig from "./TokenConfig.js"
import type * as Webhook from "./Webhook.js"

export { Cal } from "./Environment/Cal.js"
export { Database, type Embedded, type Postgres } from "./Environment/Database.js"

/**
 * The start cannot succeed: one line for the person who starts the service.
 *
 * @since 0.1.0
 * @category errors
 */
export class StartError extends Data.TaggedError("StartError")<{ readonly message: string }> {}

export interface Settings {
  readonly host: string
  /** 0 takes any free one. */
  readonly port: number
  readonly cal: Cal.Cal
  /** How other servers are reached. */
  readonly proxies: Proxies.Options
  readonly apiKeys: ReadonlyArray<ApiKeys.ApiKey>
  /** Browser origins that the Atoms endpoint answers. */
  readonly allowedOrigins: ReadonlyArray<string>
  /** For so long after a server handed out a token may pages renew it. */
  readonly atomsMaxAge: Duration.Duration
  /** Whether this process refreshes before anybody waits. */
  readonly refreshAhead: boolean
  /** Numbers of the refresh rules, as far as they are set. */
  readonly config: TokenConfig.Changes
  /** Where the connect flow may send a browser back to. */
  readonly returnUrls: ReadonlyArray<string>
  /** Whose `X-Forwarded-For` is believed. */
  readonly trustedProxies: ReadonlyArray<string>
  /** Where callers find the service, if that is not where it listens. */
  readonly publicUrl: string | undefined
  readonly log: {
    readonly level: LogLevel.LogLevel
    /** Unset: pretty on a terminal, JSON otherwise. */
    readonly format: Option.Option<"pretty" | "json" | "logfmt">
  }
  /** Where users who have to reconnect are told of. */
  readonly webhook: Option.Option<Webhook.Options>
  /** Where traces, metrics and logs are sent. */
  readonly telemetry: Option.Option<Telemetry.Telemetry>
  /** Stack traces in logs. */
  readonly development: boolean
}

/** What a program without the HTTP service needs. */
export type ServiceSettings = Pick<Settings, "cal" | "config" | "log" | "proxies" | "refreshAhead" | "returnUrls">

/** Of the demo: where an app runs while it is written. Its pages may call the demo, and people are sent back to it. */
const demoApp = "http://localhost:3000"

/** Those of the services behind a door, whatever the door is. */
const serviceSettingsOf = (it: Variables.Values): Either.Either<ServiceSettings, ConfigError.ConfigError> =>
  Either.zipWith(Cal.judge(it), configOf(it), (cal, config) => ({
    cal,
    config,
    proxies: proxiesOf(it),
    refreshAhead: it.CAL_TOKENS_REFRESH_AHEAD,
    returnUrls: orNone(it.CAL_TOKENS_RETURN_URLS, cal._tag === "Sandbox" ? [`${demoApp}/`] : []),
    log: logOf(it)
  }))

const proxiesOf = (it: Pick<Variables.Values, "HTTPS_PROXY" | "HTTP_PROXY" | "NO_PROXY">): Proxies.Options => ({
  httpsProxy: Option.getOrUndefined(it.HTTPS_PROXY),
  httpProxy: Option.getOrUndefined(it.HTTP_PROXY),
  noProxy: Option.getOrUndefined(it.NO_PROXY)
})

const logOf = (it: Pick<Variables.Values, "LOG_FORMAT" | "LOG_LEVEL">): Settings["log"] => ({
  level: Form.logLevels[it.LOG_LEVEL],
  format: it.LOG_FORMAT
})

const configOf = (it: Variables.Values): Either.Either<TokenConfig.Changes, ConfigError.ConfigError> => {
  const { callerWait, windows } = TokenConfig.defaults
  const set = { soon: it.CAL_TOKENS_REFRESH_SOON, due: it.CAL_TOKENS_REFRESH_DUE }
  const due = Option.getOrElse(set.due, () => windows.due)
  // A token would be due before it expires soon, and never be refreshed behind anybody's back.
  if (
    Duration.greaterThan(
      due,
      Option.getOrElse(set.soon, () => windows.soon)
    )
  ) {
    return Either.left(
      Variable.invalid("CAL_TOKENS_REFRESH_DUE", `must be at most CAL_TOKENS_REFRESH_SOON: ${Form.duration.expected}`)
    )
  }
  return Either.right({
    ...given({
      aheadActiveFor: it.CAL_TOKENS_ACTIVE_FOR,
      cooldownWindow: it.CAL_TOKENS_COOLDOWN_WINDOW,
      maxAttempts: it.CAL_TOKENS_COOLDOWN_ATTEMPTS,
      memoryMaxAge: it.CAL_TOKENS_MEMORY_MAX_AGE
    }),
    // Nobody's token only expires soon then: until it is due nothing is done, and from then on it is waited for to the end.
    ...(it.CAL_TOKENS_REFRESH_IN_BACKGROUND
      ? { windows: given(set) }
      : { dueWait: callerWait, windows: { soon: due, soonFraction: windows.dueFraction, due } })
  })
}

/** What is set. */
const given = <A extends Readonly<Record<string, Option.Option<unknown>>>>(values: A) =>
  Record.getSomes(values) as { readonly [K in keyof A]?: Option.Option.Value<A[K]> }

const settingsOf = (it: Variables.Values): Either.Either<Omit<Settings, "telemetry">, ConfigError.ConfigError> =>
  Either.gen(function* () {
    const services = yield* serviceSettingsOf(it)
    if (services.cal._tag === "Client" && Option.isNone(it.CAL_TOKENS_API_KEYS)) {
      return yield* Variable.missing("CAL_TOKENS_API_KEYS", "with a Cal.com client", ApiKeys.expected)
    }
    return {
      ...services,
      host: it.HOST,
      port: it.PORT,
      apiKeys: orNone(it.CAL_TOKENS_API_KEYS),
      allowedOrigins: orNone(it.CAL_TOKENS_ALLOWED_ORIGINS, services.cal._tag === "Sandbox" ? [demoApp] : []),
      atomsMaxAge: it.CAL_TOKENS_ATOMS_MAX_AGE,
      trustedProxies: orNone(it.CAL_TOKENS_TRUSTED_PROXIES),
      publicUrl: Option.getOrUndefined(it.CAL_TOKENS_PUBLIC_URL),
      webhook: yield* webhookOf(it),
      development: Option.contains(it.NODE_ENV, "development")
    }
  })

const orNone = <A>(list: Option.Option<ReadonlyArray<A>>, otherwise: ReadonlyArray<A> = []): ReadonlyArray<A> =>
  Option.getOrElse(list, () => otherwise)

/** All of them together. */
const config: Config.Config<Settings> = Config.zipWith(
  Config.mapOrFail(Variables.config, settingsOf),
  Config.mapOrFail(Variables.telemetryConfig, Telemetry.judge),
  (settings, telemetry) => ({ ...settings, telemetry })
)

/** What is set, or the one line that says which variable is wrong. */
export const loading = <A>(wanted: Config.Config<A>): Effect.Effect<A, StartError> =>
  Effect.mapError(wanted, (error) => new StartError({ message: lineOf(error) }))

/** The settings of the HTTP service. */
export const load: Effect.Effect<Settings, StartError> = loading(config)

/** The settings of a program that embeds the services without the HTTP service: no API keys are asked for. */
export const loadServices: Effect.Effect<ServiceSettings, StartError> = Effect.zipRight(
  // First, because what a start lacks may be there by another name.
  Misspelt.warn,
  loading(Config.mapOrFail(Variables.config, serviceSettingsOf))
)

/** How other servers are reached, for a program that needs nothing else of all this. */
export const loadProxies: Effect.Effect<Proxies.Options, StartError> = loading(
  Config.map(
    Variable.all({
      HTTPS_PROXY: Variables.all.HTTPS_PROXY,
      HTTP_PROXY: Variables.all.HTTP_PROXY,
      NO_PROXY: Variables.all.NO_PROXY
    }),
    proxiesOf
  )
)

/** How log lines are written, whatever else is wrong; where these are wrong themselves, as if they were not set. */
export const loadLog: Effect.Effect<Settings["log"]> = Effect.orElseSucceed(
  Config.map(Variable.all(Variables.logs), logOf),
  () => logOf({ LOG_LEVEL: Variables.all.LOG_LEVEL.default, LOG_FORMAT: Option.none() })
)

/** Tells whether settings are the same, and nothing of them. */
export const fingerprint = (): string =>
  Object.values(Variables.all)
    .flatMap(({ names }) => names)
    .reduce((hash, name) => hash.update(JSON.stringify([name, process.env[name] ?? ""])), createHash("sha256"))
    .digest("hex")

const webhookOf = (it: Variables.Values): Either.Either<Option.Option<Webhook.Options>, ConfigError.ConfigError> => {
  const webhook = Option.all({ url: it.CAL_TOKENS_WEBHOOK_URL, secret: it.CAL_TOKENS_WEBHOOK_SECRET })
  const half = Option.isNone(webhook)
    ? Variables.firstSet(it, "CAL_TOKENS_WEBHOOK_URL", "CAL_TOKENS_WEBHOOK_SECRET")
    : undefined
  if (half === undefined) return Either.right(webhook)
  return half === "CAL_TOKENS_WEBHOOK_URL"
    ? Variable.missing("CAL_TOKENS_WEBHOOK_SECRET", `with ${half}`, Form.hookSecret.expected)
    : Variable.missing("CAL_TOKENS_WEBHOOK_URL", `with ${half}`, Form.hookUrl.expected)
}

/** The first problem as a line; which one comes first is the order of the variables above. */
const lineOf = (error: ConfigError.ConfigError): string => {
  switch (error._op) {
    case "And":
    case "Or":
      return lineOf(error.left)
    case "MissingData":
    case "InvalidData":
    case "SourceUnavailable":
    case "Unsupported":
      return `${error.path.join("_")} ${error.message}`
  }
}
