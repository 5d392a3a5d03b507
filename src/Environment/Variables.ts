/**
 * The environment variables of the service: the one table that settings are read by, and that the program's help and the
 * list in the README beside this file are made of.
 */
import { type Config, Duration, Option } from "effect"
import * as ApiKeys from "../ApiKeys.js"
import { defaultApiUrl } from "../CalClient/Requests.js"
import * as TokenConfig from "../TokenConfig.js"
import * as Postgres from "../TokenStorage/Postgres/Defaults.js"
import * as ClientsFile from "./ClientsFile.js"
import * as Form from "./Form.js"
import * as Variable from "./Variable.js"

const server = {
  PORT: Variable.defaulted("PORT", Form.integer(0, 65_535), {
    default: 4000,
    description: "The port to listen on; `0` takes any free one."
  }),
  HOST: Variable.defaulted("HOST", Form.host, { default: "127.0.0.1", description: "The address to listen on." }),
  CAL_TOKENS_DEMO: Variable.defaulted("CAL_TOKENS_DEMO", Form.flag, {
    default: false,
    description: "With `1`, the demo on a simulated Cal.com starts even where something looks like a deployment."
  }),
  NODE_ENV: Variable.optional("NODE_ENV", Form.text, {
    description:
      "`development`: the log has stack traces. `production`: no demo starts by mistake, and the embedded database warns at each start."
  })
}

const calClient = {
  CAL_CLIENT_ID: Variable.optional("CAL_CLIENT_ID", Form.identifier, {
    description: "Your platform client, for managed users."
  }),
  CAL_CLIENT_SECRET: Variable.secret("CAL_CLIENT_SECRET", Form.clientSecret, {
    description: "Its secret, or two (`old,new`) while one replaces the other.",
    unset: "none; required with `CAL_CLIENT_ID`"
  }),
  CAL_TOKENS_CLIENTS_FILE: Variable.file("CAL_TOKENS_CLIENTS_FILE", ClientsFile.form, {
    description: "Names a file with more clients, platform and OAuth2 ones."
  }),
  CAL_API_URL: Variable.optional("CAL_API_URL", Form.secureUrl, {
    description: "The base of Cal.com's API, with its version.",
    unset: `\`${defaultApiUrl}\`; with no client at all, the simulator`
  }),
  CAL_API_ALLOW_HTTP: Variable.defaulted("CAL_API_ALLOW_HTTP", Form.flag, {
    default: false,
    description:
      "With `1`, `http` URLs of other machines will do, for a Cal.com of your own on a private network; each start warns."
  })
}

const oauth2 = {
  CAL_OAUTH_CLIENT_ID: Variable.optional("CAL_OAUTH_CLIENT_ID", Form.identifier, {
    description: "Your OAuth2 client."
  }),
  CAL_OAUTH_CLIENT_SECRET: Variable.secret("CAL_OAUTH_CLIENT_SECRET", Form.clientSecret, {
    description: "Its secret, or two (`old,new`) while one replaces the other.",
    unset: "none: a public client, with PKCE"
  }),
  CAL_OAUTH_REDIRECT_URL: Variable.optional("CAL_OAUTH_REDIRECT_URL", Form.browserUrl, {
    description:
      "Where Cal.com sends people back to: one of the client's redirect URLs, of your app or of this service."
  }),
  CAL_OAUTH_AUTHORIZE_URL: Variable.optional("CAL_OAUTH_AUTHORIZE_URL", Form.secureUrl, {
    description: "The page where people consent, at the same Cal.com as `CAL_API_URL`.",
    unset: "Cal.com's; required with a Cal.com of your own"
  }),
  CAL_OAUTH_SCOPES: Variable.optional("CAL_OAUTH_SCOPES", Form.scopes, {
    description: "What people are asked to allow. Cal.com requires it of all but old clients."
  }),
  CAL_TOKENS_RETURN_URLS: Variable.optional("CAL_TOKENS_RETURN_URLS", Form.list(Form.browserUrl), {
    description: "Where the connect flow may send browsers back to, with all below.",
    unset: "none; in the demo `http://localhost:3000/`"
  })
}

const database = {
  DATABASE_URL: Variable.secret("DATABASE_URL", Form.postgresUrl, {
    description: "The PostgreSQL that all processes share.",
    unset: "embedded PGlite, **not for production**"
  }),
  DATABASE_DIRECT_URL: Variable.secret("DATABASE_DIRECT_URL", Form.postgresUrl, {
    description: "Where `DATABASE_URL` leads through a pooler: the way past it, to hear of other processes' refreshes.",
    unset: "`DATABASE_URL`"
  }),
  DATABASE_POOL_SIZE: Variable.defaulted("DATABASE_POOL_SIZE", Form.integer(1, 1000), {
    default: Postgres.poolSize,
    description: "At most so many connections of this process."
  }),
  DATABASE_STATEMENT_TIMEOUT: Variable.defaulted("DATABASE_STATEMENT_TIMEOUT", Form.duration, {
    default: Postgres.statementTimeout,
    description: "How long a statement may take."
  }),
  DATABASE_CONNECT_TIMEOUT: Variable.defaulted("DATABASE_CONNECT_TIMEOUT", Form.duration, {
    default: Postgres.connectTimeout,
    description: "How long to wait for a connection, a free one or a new one."
  }),
  CAL_TOKENS_DATA_DIR: Variable.defaulted("CAL_TOKENS_DATA_DIR", Form.path, {
    default: ".data",
    description: "The directory of the embedded database."
  })
}

const keys = {
  CAL_TOKENS_ENCRYPTION_KEYS: Variable.secret("CAL_TOKENS_ENCRYPTION_KEYS", Form.encryptionKeys, {
    description:
      "What tokens are sealed with. The first key writes, all read; make one with `openssl rand -base64 32`.",
    unset: "none; required with `DATABASE_URL`, and made by the embedded database"
  }),
  CAL_TOKENS_API_KEYS: Variable.secret("CAL_TOKENS_API_KEYS", ApiKeys, {
    description: "Who may call this service, and for what. No key has `read-token` unless that is said.",
    unset: "none; required with a client; the demo has one"
  })
}

const browsers = {
  CAL_TOKENS_ALLOWED_ORIGINS: Variable.optional("CAL_TOKENS_ALLOWED_ORIGINS", Form.list(Form.origin), {
    description: "Origins of the pages that use user sessions or Atoms.",
    unset: "none: no browser may use sessions or Atoms; the demo: `http://localhost:3000`"
  }),
  CAL_TOKENS_ATOMS_MAX_AGE: Variable.defaulted("CAL_TOKENS_ATOMS_MAX_AGE", Form.period, {
    default: Duration.hours(12),
    description:
      "For so long after your server last handed out a token of a user, made a session of theirs, or the user connected, " +
      "pages may renew theirs."
  })
}

const refreshing = {
  CAL_TOKENS_REFRESH_AHEAD: Variable.defaulted("CAL_TOKENS_REFRESH_AHEAD", Form.flag, {
    default: true,
    description:
      "With `0`, this process refreshes only for people who wait. A scheduler of yours may run `cal-tokens sweep` instead."
  }),
  CAL_TOKENS_REFRESH_IN_BACKGROUND: Variable.defaulted("CAL_TOKENS_REFRESH_IN_BACKGROUND", Form.flag, {
    default: true,
    description:
      "With `0`, whoever asks waits for each refresh that they cause: for functions that are frozen once they have answered."
  }),
  CAL_TOKENS_ACTIVE_FOR: Variable.replacing("CAL_TOKENS_ACTIVE_FOR", Form.period, {
    default: TokenConfig.defaults.aheadActiveFor,
    description:
      "For so long after somebody last asked for a user's token it is refreshed before it expires: `cal-tokens capacity` says " +
      "what that costs."
  }),
  CAL_TOKENS_REFRESH_SOON: Variable.replacing("CAL_TOKENS_REFRESH_SOON", Form.duration, {
    default: TokenConfig.defaults.windows.soon,
    description:
      "So long before it expires a token is refreshed behind the back of whoever asks; at most a quarter of its lifetime."
  }),
  CAL_TOKENS_REFRESH_DUE: Variable.replacing("CAL_TOKENS_REFRESH_DUE", Form.duration, {
    default: TokenConfig.defaults.windows.due,
    description:
      "So long before it expires whoever asks waits for the refresh, 5 s at most; at most a tenth of its lifetime."
  }),
  CAL_TOKENS_COOLDOWN_WINDOW: Variable.replacing("CAL_TOKENS_COOLDOWN_WINDOW", Form.duration, {
    default: TokenConfig.defaults.cooldownWindow,
    description:
      "Within this time `CAL_TOKENS_COOLDOWN_ATTEMPTS` refreshes of one user begin at most. The same for all processes."
  }),
  CAL_TOKENS_COOLDOWN_ATTEMPTS: Variable.replacing("CAL_TOKENS_COOLDOWN_ATTEMPTS", Form.integer(1, 1000), {
    default: TokenConfig.defaults.maxAttempts,
    description: "So many, successes included. Further callers are told when to come back."
  }),
  CAL_TOKENS_MEMORY_MAX_AGE: Variable.replacing("CAL_TOKENS_MEMORY_MAX_AGE", Form.duration, {
    default: TokenConfig.defaults.memoryMaxAge,
    description:
      "For so long a token is served from memory before the database is looked at again, lest another process changed it."
  })
}

const webhook = {
  CAL_TOKENS_WEBHOOK_URL: Variable.secret("CAL_TOKENS_WEBHOOK_URL", Form.hookUrl, {
    description: "Where users who have to reconnect are told of."
  }),
  CAL_TOKENS_WEBHOOK_SECRET: Variable.secret("CAL_TOKENS_WEBHOOK_SECRET", Form.hookSecret, {
    description: "What is told there is signed with it.",
    unset: "none; required with `CAL_TOKENS_WEBHOOK_URL`"
  })
}

const network = {
  CAL_TOKENS_TRUSTED_PROXIES: Variable.optional("CAL_TOKENS_TRUSTED_PROXIES", Form.list(Form.network), {
    description: "In front of this service: whose `X-Forwarded-For` is believed, with or without ports."
  }),
  CAL_TOKENS_PUBLIC_URL: Variable.optional("CAL_TOKENS_PUBLIC_URL", Form.browserUrl, {
    description:
      "Where callers find this service, if a proxy in front of it adds a path: `https://app.example.com/tokens`. `/docs` " +
      "names it, the page's cookie is for it.",
    unset: "none: where they were loaded from"
  }),
  HTTPS_PROXY: Variable.inEitherCase("HTTPS_PROXY", (name) =>
    Variable.secret(name, Form.proxyUrl, {
      description: "The proxy for calls to Cal.com and webhooks. Also in small letters.",
      unset: "`HTTP_PROXY`"
    })
  ),
  HTTP_PROXY: Variable.inEitherCase("HTTP_PROXY", (name) =>
    Variable.secret(name, Form.proxyUrl, {
      description: "The same for those that go by `http`. Also in small letters."
    })
  ),
  NO_PROXY: Variable.inEitherCase("NO_PROXY", (name) =>
    Variable.optional(name, Form.hosts, {
      description: "What is reached without a proxy, with all below; this machine always is. Also in small letters."
    })
  )
}

export const logs = {
  LOG_LEVEL: Variable.defaulted("LOG_LEVEL", Form.logLevel, {
    default: "info",
    description: "The least that is logged. Audit lines are written at any level."
  }),
  LOG_FORMAT: Variable.optional("LOG_FORMAT", Form.oneOf("pretty", "json", "logfmt"), {
    description: "How log lines are written.",
    unset: "pretty on a terminal, JSON otherwise"
  })
}

/** OpenTelemetry's own names: of those that it has, these count here. */
const telemetry = {
  OTEL_EXPORTER_OTLP_ENDPOINT: Variable.optional("OTEL_EXPORTER_OTLP_ENDPOINT", Form.collectorUrl, {
    description: "The collector that traces, metrics and logs are sent to: `http://localhost:4318`.",
    unset: "none: nothing is sent"
  }),
  OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: Variable.optional("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", Form.collectorUrl, {
    description: "The whole URL for traces.",
    unset: "`/v1/traces` of the collector"
  }),
  OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: Variable.optional("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", Form.collectorUrl, {
    description: "The whole URL for metrics.",
    unset: "`/v1/metrics` of the collector"
  }),
  OTEL_EXPORTER_OTLP_LOGS_ENDPOINT: Variable.optional("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", Form.collectorUrl, {
    description: "The whole URL for logs.",
    unset: "`/v1/logs` of the collector"
  }),
  OTEL_EXPORTER_OTLP_HEADERS: Variable.secret("OTEL_EXPORTER_OTLP_HEADERS", Form.headers, {
    description: "Headers for the collector, such as its key."
  }),
  OTEL_EXPORTER_OTLP_PROTOCOL: Variable.defaulted(
    "OTEL_EXPORTER_OTLP_PROTOCOL",
    Form.oneOf("http/protobuf", "http/json"),
    { default: "http/protobuf", description: "How it is sent. There is no gRPC here." }
  ),
  OTEL_SERVICE_NAME: Variable.defaulted("OTEL_SERVICE_NAME", Form.text, {
    default: "cal-tokens",
    description: "What the service is called there."
  }),
  OTEL_RESOURCE_ATTRIBUTES: Variable.optional("OTEL_RESOURCE_ATTRIBUTES", Form.attributes, {
    description: "What else is said of it: `deployment.environment.name=production`."
  }),
  OTEL_TRACES_EXPORTER: Variable.defaulted("OTEL_TRACES_EXPORTER", Form.oneOf("otlp", "none"), {
    default: "otlp",
    description: "With `none`, no traces are sent."
  }),
  OTEL_METRICS_EXPORTER: Variable.defaulted("OTEL_METRICS_EXPORTER", Form.oneOf("otlp", "none"), {
    default: "otlp",
    description: "With `none`, no metrics are sent."
  }),
  OTEL_LOGS_EXPORTER: Variable.defaulted("OTEL_LOGS_EXPORTER", Form.oneOf("otlp", "none"), {
    default: "otlp",
    description: "With `none`, no logs are sent; they are written to standard output in any case."
  }),
  OTEL_TRACES_SAMPLER: Variable.defaulted(
    "OTEL_TRACES_SAMPLER",
    Form.oneOf(
      ...(["always_on", "always_off", "traceidratio"] as const),
      ...(["parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio"] as const)
    ),
    { default: "parentbased_always_on", description: "Which traces are sent." }
  ),
  OTEL_TRACES_SAMPLER_ARG: Variable.optional("OTEL_TRACES_SAMPLER_ARG", Form.share, {
    description: "Of the two samplers by ratio: the share of traces.",
    unset: "all"
  }),
  OTEL_METRIC_EXPORT_INTERVAL: Variable.defaulted("OTEL_METRIC_EXPORT_INTERVAL", Form.integer(1000, 3_600_000), {
    default: 60_000,
    description: "How often metrics are sent, in milliseconds."
  }),
  OTEL_SDK_DISABLED: Variable.defaulted("OTEL_SDK_DISABLED", Form.oneOf("true", "false"), {
    default: "false",
    description: "With `true`, nothing is sent."
  })
}

/** For people, in this order. */
export const groups: ReadonlyArray<{
  readonly title: string
  readonly variables: ReadonlyArray<Variable.Variable<unknown>>
}> = [
  { title: "Server", variables: Object.values(server) },
  { title: "Cal.com client", variables: Object.values(calClient) },
  { title: "OAuth2", variables: Object.values(oauth2) },
  { title: "Database", variables: Object.values(database) },
  { title: "Keys", variables: Object.values(keys) },
  { title: "Refreshing", variables: Object.values(refreshing) },
  { title: "Browsers", variables: Object.values(browsers) },
  { title: "Webhook", variables: Object.values(webhook) },
  { title: "Network", variables: Object.values(network) },
  { title: "Logs", variables: Object.values(logs) },
  { title: "Telemetry", variables: Object.values(telemetry) }
]

const own = {
  ...server,
  ...calClient,
  ...oauth2,
  ...database,
  ...keys,
  ...refreshing,
  ...browsers,
  ...webhook,
  ...network,
  ...logs
}

/** By their names. Of several that are wrong the first one here is told. */
export const all = { ...own, ...telemetry }

/** What is set, each variable by itself. */
export const config = Variable.all(own)

export type Values = Config.Config.Success<typeof config>

/** The same of those that a program which embeds the services has for itself, and reads by rules of its own. */
export const telemetryConfig = Variable.all(telemetry)

export type TelemetryValues = Config.Config.Success<typeof telemetryConfig>

/** The first of these that is set. */
export const firstSet = <Name extends keyof Values>(
  it: { readonly [N in Name]: Option.Option<unknown> },
  ...names: ReadonlyArray<Name>
): Name | undefined => names.find((name) => Option.isSome(it[name]))
