/**
 * The environment variables of the service, read once at its start. What is wrong stops the start with one line that
 * names the variable and the form it should have, and never shows a value.
 */
import { createHash } from "node:crypto"
import { join } from "node:path"
import { Config, type ConfigError, Data, Duration, Effect, Either, LogLevel, Option, Redacted } from "effect"
import type * as CalClient from "./CalClient.js"
import type * as Proxies from "./CalHttp/Proxies.js"
import * as ClientsFile from "./Environment/ClientsFile.js"
import * as Form from "./Environment/Form.js"
import * as ApiKeys from "./ApiKeys.js"
import * as KeyRing from "./KeyRing.js"
import type * as Webhook from "./Webhook.js"

/** The start cannot succeed: one line for the person who starts the service. */
export class StartError extends Data.TaggedError("StartError")<{ readonly message: string }> {}

/** Where tokens are kept. */
export type Database = Data.TaggedEnum<{
  /** PGlite in this process, in a directory of its own per kind of Cal.com. */
  Embedded: {
    readonly directory: string
    /** None: one is made and kept beside the data. */
    readonly encryptionKeys: Option.Option<Redacted.Redacted>
  }
  Postgres: {
    readonly url: Redacted.Redacted
    /** Past a pooler, to hear of other processes' writes; none: `url` will do. */
    readonly directUrl: Option.Option<Redacted.Redacted>
    readonly encryptionKeys: Redacted.Redacted
    readonly poolSize: number
    readonly statementTimeout: Duration.Duration
    readonly connectTimeout: Duration.Duration
  }
}>
export const Database = Data.taggedEnum<Database>()

export type Embedded = Extract<Database, { readonly _tag: "Embedded" }>

/** Whom tokens are for, and where they are kept: what the sandbox issued never meets a real client. */
export type Cal = Data.TaggedEnum<{
  /** No client is configured: the simulator, for trying things out. */
  Sandbox: { readonly database: Embedded }
  Client: {
    readonly database: Database
    readonly options: CalClient.Options
  }
}>
export const Cal = Data.taggedEnum<Cal>()

/** Cal.com's own API. */
export const calApiUrl = "https://api.cal.com/v2"

export interface Settings {
  readonly host: string
  /** 0 takes any free one. */
  readonly port: number
  readonly cal: Cal
  /** How other servers are reached. */
  readonly proxies: Proxies.Options
  readonly apiKeys: ReadonlyArray<ApiKeys.ApiKey>
  /** Browser origins that the Atoms endpoint answers. */
  readonly allowedOrigins: ReadonlyArray<string>
  /** For so long after a server handed out a token may pages renew it. */
  readonly atomsMaxAge: Duration.Duration
  /** Where the connect flow may send a browser back to. */
  readonly returnUrls: ReadonlyArray<string>
  /** Whose `X-Forwarded-For` is believed. */
  readonly trustedProxies: ReadonlyArray<string>
  readonly log: {
    readonly level: LogLevel.LogLevel
    /** Unset: pretty on a terminal, JSON otherwise. */
    readonly format: Option.Option<"pretty" | "json" | "logfmt">
  }
  /** Where users who have to reconnect are told of. */
  readonly webhook: Option.Option<Webhook.Options>
  /** Stack traces in logs. */
  readonly development: boolean
}

const logLevels = {
  trace: LogLevel.Trace,
  debug: LogLevel.Debug,
  info: LogLevel.Info,
  warn: LogLevel.Warning,
  warning: LogLevel.Warning,
  error: LogLevel.Error,
  fatal: LogLevel.Fatal,
  none: LogLevel.None
} as const

const keyList: Form.Form<Redacted.Redacted> = {
  expected: "id:base64(32 bytes)[,id:…]",
  parse: (text) => {
    const keys = Redacted.make(text)
    return Either.mapBoth(KeyRing.parseKeys(keys), {
      onLeft: (problem) => problem.replace(/^[A-Z_]+:? /, ""),
      onRight: () => keys
    })
  }
}

/** What a program without the HTTP service needs. */
export type ServiceSettings = Pick<Settings, "cal" | "proxies" | "returnUrls">

/** Every variable by itself. */
const each = {
  PORT: Form.read("PORT", Form.integer(0, 65_535)),
  HOST: Form.read("HOST", Form.host),
  DATABASE_URL: Form.readSecret("DATABASE_URL", Form.postgresUrl),
  DATABASE_DIRECT_URL: Form.readSecret("DATABASE_DIRECT_URL", Form.postgresUrl),
  DATABASE_POOL_SIZE: Form.read("DATABASE_POOL_SIZE", Form.integer(1, 1000)),
  DATABASE_STATEMENT_TIMEOUT: Form.read("DATABASE_STATEMENT_TIMEOUT", Form.duration),
  DATABASE_CONNECT_TIMEOUT: Form.read("DATABASE_CONNECT_TIMEOUT", Form.duration),
  CAL_TOKENS_DATA_DIR: Form.read("CAL_TOKENS_DATA_DIR", Form.path),
  CAL_TOKENS_DEMO: Form.read("CAL_TOKENS_DEMO", Form.flag),
  CAL_API_URL: Form.read("CAL_API_URL", Form.secureUrl),
  CAL_API_ALLOW_HTTP: Form.read("CAL_API_ALLOW_HTTP", Form.flag),
  CAL_CLIENT_ID: Form.read("CAL_CLIENT_ID", Form.identifier),
  CAL_CLIENT_SECRET: Form.readSecret("CAL_CLIENT_SECRET", Form.clientSecret),
  CAL_OAUTH_CLIENT_ID: Form.read("CAL_OAUTH_CLIENT_ID", Form.identifier),
  CAL_OAUTH_CLIENT_SECRET: Form.readSecret("CAL_OAUTH_CLIENT_SECRET", Form.clientSecret),
  CAL_OAUTH_REDIRECT_URL: Form.read("CAL_OAUTH_REDIRECT_URL", Form.browserUrl),
  CAL_OAUTH_AUTHORIZE_URL: Form.read("CAL_OAUTH_AUTHORIZE_URL", Form.secureUrl),
  CAL_OAUTH_SCOPES: Form.read("CAL_OAUTH_SCOPES", Form.scopes),
  CAL_TOKENS_CLIENTS_FILE: Form.readFile("CAL_TOKENS_CLIENTS_FILE", ClientsFile.form),
  CAL_TOKENS_ENCRYPTION_KEYS: Form.readSecret(KeyRing.variable, keyList),
  CAL_TOKENS_API_KEYS: Form.readSecret("CAL_TOKENS_API_KEYS", ApiKeys),
  CAL_TOKENS_ALLOWED_ORIGINS: Form.read("CAL_TOKENS_ALLOWED_ORIGINS", Form.list(Form.origin)),
  CAL_TOKENS_ATOMS_MAX_AGE: Form.read("CAL_TOKENS_ATOMS_MAX_AGE", Form.period),
  CAL_TOKENS_RETURN_URLS: Form.read("CAL_TOKENS_RETURN_URLS", Form.list(Form.browserUrl)),
  CAL_TOKENS_TRUSTED_PROXIES: Form.read("CAL_TOKENS_TRUSTED_PROXIES", Form.list(Form.network)),
  CAL_TOKENS_WEBHOOK_URL: Form.readSecret("CAL_TOKENS_WEBHOOK_URL", Form.hookUrl),
  CAL_TOKENS_WEBHOOK_SECRET: Form.readSecret("CAL_TOKENS_WEBHOOK_SECRET", Form.hookSecret),
  https_proxy: Form.readSecret("https_proxy", Form.proxyUrl),
  HTTPS_PROXY: Form.readSecret("HTTPS_PROXY", Form.proxyUrl),
  http_proxy: Form.readSecret("http_proxy", Form.proxyUrl),
  HTTP_PROXY: Form.readSecret("HTTP_PROXY", Form.proxyUrl),
  no_proxy: Form.read("no_proxy", Form.hosts),
  NO_PROXY: Form.read("NO_PROXY", Form.hosts),
  LOG_LEVEL: Form.read("LOG_LEVEL", Form.oneOf(...(Object.keys(logLevels) as Array<keyof typeof logLevels>))),
  LOG_FORMAT: Form.read("LOG_FORMAT", Form.oneOf("pretty", "json", "logfmt")),
  NODE_ENV: Form.read("NODE_ENV", Form.text)
}

const variables = Config.all(each)

type Variables = Config.Config.Success<typeof variables>

/** Those of the services behind a door, whatever the door is. */
const services: Config.Config<ServiceSettings> = Config.mapOrFail(variables, (it) =>
  Either.map(calOf(it), (cal) => ({ cal, proxies: proxiesOf(it), returnUrls: returnUrlsOf(it) }))
)

/** All of them together. */
export const config: Config.Config<Settings> = variables.pipe(
  Config.mapOrFail((it) =>
    Either.gen(function* () {
      const cal = yield* calOf(it)
      const none = () => []
      if (cal._tag === "Client" && Option.isNone(it.CAL_TOKENS_API_KEYS)) {
        return yield* missing("CAL_TOKENS_API_KEYS", "with a Cal.com client", ApiKeys.expected)
      }
      return {
        host: Option.getOrElse(it.HOST, () => "127.0.0.1"),
        port: Option.getOrElse(it.PORT, () => 4000),
        cal,
        proxies: proxiesOf(it),
        apiKeys: Option.getOrElse(it.CAL_TOKENS_API_KEYS, none),
        allowedOrigins: Option.getOrElse(it.CAL_TOKENS_ALLOWED_ORIGINS, none),
        atomsMaxAge: Option.getOrElse(it.CAL_TOKENS_ATOMS_MAX_AGE, () => Duration.hours(12)),
        returnUrls: returnUrlsOf(it),
        trustedProxies: Option.getOrElse(it.CAL_TOKENS_TRUSTED_PROXIES, none),
        log: { level: logLevels[Option.getOrElse(it.LOG_LEVEL, () => "info" as const)], format: it.LOG_FORMAT },
        webhook: yield* webhookOf(it),
        development: Option.contains(it.NODE_ENV, "development")
      }
    })
  )
)

/** What is set, or the one line that says which variable is wrong. */
const loading = <A>(wanted: Config.Config<A>): Effect.Effect<A, StartError> =>
  Effect.mapError(wanted, (error) => new StartError({ message: lineOf(error) }))

/** The settings of the HTTP service. */
export const load: Effect.Effect<Settings, StartError> = loading(config)

/** Tells whether settings are the same, and nothing of them. */
export const fingerprint = (): string =>
  Object.keys(each)
    .flatMap((name) => [name, `${name}_FILE`])
    .reduce((hash, name) => hash.update(JSON.stringify([name, process.env[name] ?? ""])), createHash("sha256"))
    .digest("hex")

/** The settings of a program that embeds the services without the HTTP service: no API keys are asked for. */
export const loadServices: Effect.Effect<ServiceSettings, StartError> = loading(services)

const missing = (name: string, when: string, expected: string) =>
  Either.left(Form.invalid(name, `is required ${when}: ${expected}`))

const webhookOf = (it: Variables): Either.Either<Option.Option<Webhook.Options>, ConfigError.ConfigError> => {
  const webhook = Option.all({ url: it.CAL_TOKENS_WEBHOOK_URL, secret: it.CAL_TOKENS_WEBHOOK_SECRET })
  const half = Option.isNone(webhook) ? firstSet(it, "CAL_TOKENS_WEBHOOK_URL", "CAL_TOKENS_WEBHOOK_SECRET") : undefined
  if (half === undefined) return Either.right(webhook)
  return half === "CAL_TOKENS_WEBHOOK_URL"
    ? missing("CAL_TOKENS_WEBHOOK_SECRET", `with ${half}`, Form.hookSecret.expected)
    : missing("CAL_TOKENS_WEBHOOK_URL", `with ${half}`, Form.hookUrl.expected)
}

const returnUrlsOf = (it: Variables): ReadonlyArray<string> => Option.getOrElse(it.CAL_TOKENS_RETURN_URLS, () => [])

/** Of two spellings the small one counts, as everywhere: some servers set `HTTP_PROXY` to what a request says. */
const proxiesOf = (it: Variables): Proxies.Options => {
  const either = <A>(small: Option.Option<A>, large: Option.Option<A>) =>
    Option.getOrUndefined(Option.orElse(small, () => large))
  return {
    httpsProxy: either(it.https_proxy, it.HTTPS_PROXY),
    httpProxy: either(it.http_proxy, it.HTTP_PROXY),
    noProxy: either(it.no_proxy, it.NO_PROXY)
  }
}

/** The first of these variables that is set. */
const firstSet = <Name extends keyof Variables>(it: Variables, ...names: ReadonlyArray<Name>): Name | undefined =>
  names.find((name) => Option.isSome<unknown>(it[name]))

const calOf = (it: Variables): Either.Either<Cal, ConfigError.ConfigError> =>
  Either.gen(function* () {
    const managed = Option.all({ clientId: it.CAL_CLIENT_ID, clientSecret: it.CAL_CLIENT_SECRET })
    const half = Option.isNone(managed) ? firstSet(it, "CAL_CLIENT_ID", "CAL_CLIENT_SECRET") : undefined
    if (half === "CAL_CLIENT_ID") {
      return yield* missing("CAL_CLIENT_SECRET", `with ${half}`, "the secret of the platform client")
    }
    if (half !== undefined) return yield* missing("CAL_CLIENT_ID", `with ${half}`, "the id of the platform client")
    const orphan = firstSet(
      it,
      "CAL_OAUTH_CLIENT_SECRET",
      "CAL_OAUTH_REDIRECT_URL",
      "CAL_OAUTH_AUTHORIZE_URL",
      "CAL_OAUTH_SCOPES"
    )
    if (Option.isNone(it.CAL_OAUTH_CLIENT_ID) && orphan !== undefined) {
      return yield* missing("CAL_OAUTH_CLIENT_ID", `with ${orphan}`, "the id of the OAuth2 client")
    }
    if (firstSet(it, "CAL_CLIENT_ID", "CAL_OAUTH_CLIENT_ID", "CAL_TOKENS_CLIENTS_FILE") !== undefined) {
      const apiUrl = Option.getOrElse(it.CAL_API_URL, () => calApiUrl)
      if (isTooOpen(it, apiUrl)) {
        return yield* Either.left(Form.invalid("CAL_API_URL", `must be ${Form.secureUrl.expected}`))
      }
      return Cal.Client({
        database: yield* databaseOf(it),
        options: {
          apiUrl,
          managed: Option.getOrUndefined(managed),
          oauth2: yield* oauth2Of(it, apiUrl),
          ...(Option.isNone(it.CAL_TOKENS_CLIENTS_FILE)
            ? {}
            : { others: yield* othersOf(it, apiUrl, it.CAL_TOKENS_CLIENTS_FILE.value) })
        }
      })
    }
    const demo = Cal.Sandbox({ database: embedded(it, "sandbox") })
    const deployed = Option.contains(it.CAL_TOKENS_DEMO, true) ? undefined : signOfDeployment(it)
    return deployed === undefined
      ? demo
      : yield* missing(
          "CAL_CLIENT_ID",
          `with ${deployed}`,
          "the id of a platform client (or CAL_OAUTH_CLIENT_ID). Without a client this is a demo on a simulated Cal.com; " +
            "CAL_TOKENS_DEMO=1 starts it all the same"
        )
  })

/** What nobody sets who only wants to look: whoever did forgot the client, and would be given a demo open to others. */
const signOfDeployment = (it: Variables): string | undefined => {
  if (Option.contains(it.NODE_ENV, "production")) return "NODE_ENV=production"
  if (Option.exists(it.HOST, (host) => !Form.isLoopback(host))) return "a HOST that others reach"
  return firstSet(it, "DATABASE_URL", "CAL_API_URL", "CAL_TOKENS_ENCRYPTION_KEYS", "CAL_TOKENS_API_KEYS")
}

/** The OAuth2 client of the environment. */
const oauth2Of = (
  it: Variables,
  apiUrl: string
): Either.Either<CalClient.OAuth2Client | undefined, ConfigError.ConfigError> =>
  Either.gen(function* () {
    if (Option.isNone(it.CAL_OAUTH_CLIENT_ID)) return undefined
    return {
      clientId: it.CAL_OAUTH_CLIENT_ID.value,
      clientSecret: Option.getOrUndefined(it.CAL_OAUTH_CLIENT_SECRET),
      redirectUrl: Option.getOrUndefined(it.CAL_OAUTH_REDIRECT_URL),
      authorizeUrl: yield* authorizeUrlOf(it, apiUrl, it.CAL_OAUTH_AUTHORIZE_URL, (problem) =>
        Form.invalid("CAL_OAUTH_AUTHORIZE_URL", problem)
      ),
      scopes: Option.getOrUndefined(it.CAL_OAUTH_SCOPES)
    }
  })

/** Those of the file, which have ids of their own. */
const othersOf = (it: Variables, apiUrl: string, file: ClientsFile.Clients) =>
  Either.gen(function* () {
    const wrong = (place: ReadonlyArray<PropertyKey>) => (problem: string) =>
      Form.wrongIn("CAL_TOKENS_CLIENTS_FILE", `${ClientsFile.placeOf(place)} ${problem}`)
    const taken = new Set([it.CAL_CLIENT_ID, it.CAL_OAUTH_CLIENT_ID].flatMap(Option.toArray))
    for (const kind of ["managed", "oauth2"] as const) {
      for (const [index, { clientId }] of file[kind].entries()) {
        if (taken.has(clientId)) {
          return yield* Either.left(wrong([kind, index, "clientId"])("must be that of no other client"))
        }
        taken.add(clientId)
      }
    }
    const oauth2 = yield* Either.all(
      file.oauth2.map(({ authorizeUrl, ...client }, index) =>
        Either.map(
          authorizeUrlOf(it, apiUrl, Option.fromNullable(authorizeUrl), wrong(["oauth2", index, "authorizeUrl"])),
          (authorizeUrl) => ({ ...client, authorizeUrl })
        )
      )
    )
    return { managed: file.managed, oauth2 }
  })

const isTooOpen = (it: Variables, url: string) =>
  Form.isPlaintext(url) && !Option.contains(it.CAL_API_ALLOW_HTTP, true)

/** Cal.com runs twice, and nobody who consented at the one is known at the other. */
const twinOf = (url: string) => /(?:^|\.)(cal\.(?:com|eu))$/.exec(new URL(url).hostname)?.[1]

/** The consent page is at the same Cal.com as the API. */
const authorizeUrlOf = (
  it: Variables,
  apiUrl: string,
  given: Option.Option<string>,
  wrong: (problem: string) => ConfigError.ConfigError
): Either.Either<string, ConfigError.ConfigError> => {
  const twin = twinOf(apiUrl)
  if (Option.isNone(given)) {
    return twin === undefined
      ? Either.left(
          wrong(
            "is required with an OAuth2 client and a CAL_API_URL of one's own: " +
              "the page https://<your Cal.com>/auth/oauth2/authorize"
          )
        )
      : Either.right(`https://app.${twin}/auth/oauth2/authorize`)
  }
  if (isTooOpen(it, given.value)) return Either.left(wrong(`must be ${Form.secureUrl.expected}`))
  return twinOf(given.value) === twin
    ? Either.right(given.value)
    : Either.left(wrong("must be at the same Cal.com as CAL_API_URL (cal.com, cal.eu or your own)"))
}

const embedded = (it: Variables, ...below: ReadonlyArray<string>): Embedded =>
  Database.Embedded({
    directory: join(
      Option.getOrElse(it.CAL_TOKENS_DATA_DIR, () => ".data"),
      ...below
    ),
    encryptionKeys: it.CAL_TOKENS_ENCRYPTION_KEYS
  })

const databaseOf = (it: Variables): Either.Either<Database, ConfigError.ConfigError> => {
  const encryptionKeys = it.CAL_TOKENS_ENCRYPTION_KEYS
  if (Option.isNone(it.DATABASE_URL)) return Either.right(embedded(it))
  if (Option.isNone(encryptionKeys)) {
    return missing(
      KeyRing.variable,
      "with DATABASE_URL",
      `${keyList.expected}, for example k1:$(openssl rand -base64 32)`
    )
  }
  return Either.right(
    Database.Postgres({
      url: it.DATABASE_URL.value,
      directUrl: it.DATABASE_DIRECT_URL,
      encryptionKeys: encryptionKeys.value,
      poolSize: Option.getOrElse(it.DATABASE_POOL_SIZE, () => 10),
      statementTimeout: Option.getOrElse(it.DATABASE_STATEMENT_TIMEOUT, () => Duration.seconds(5)),
      connectTimeout: Option.getOrElse(it.DATABASE_CONNECT_TIMEOUT, () => Duration.seconds(5))
    })
  )
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
