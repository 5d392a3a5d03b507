import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Duration, Effect, Layer, LogLevel, Option, Redacted } from "effect"
import * as Environment from "../src/Environment.js"
import { unsupported } from "../src/Environment/Telemetry.js"
import * as Plaintext from "../src/Environment/Plaintext.js"
import * as TokenConfig from "../src/TokenConfig.js"

const key = `k1:${Buffer.from("SECRET-encryption-key-32-bytes-x").toString("base64")}`
const apiKey = "ops:SECRET-0123456789-0123456789-0123456789"

const load = (variables: Record<string, string>) =>
  Environment.load.pipe(Effect.withConfigProvider(ConfigProvider.fromMap(new Map(Object.entries(variables)))))

const webhookSecret = `whsec_${Buffer.alloc(24, 1).toString("base64")}`

/** What a service with a real client needs at least. */
const real = { CAL_CLIENT_ID: "client", CAL_CLIENT_SECRET: "SECRET-of-client", CAL_TOKENS_API_KEYS: apiKey }

describe("settings", () => {
  it.effect("without any variable are the sandbox on an embedded database of its own", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* load({}), {
        host: "127.0.0.1",
        port: 4000,
        cal: Environment.Cal.Sandbox({
          database: Environment.Database.Embedded({ directory: ".data/sandbox", encryptionKeys: Option.none() })
        }),
        proxies: { httpsProxy: undefined, httpProxy: undefined, noProxy: undefined },
        apiKeys: [],
        allowedOrigins: ["http://localhost:3000"],
        atomsMaxAge: Duration.hours(12),
        refreshAhead: true,
        config: { windows: {} },
        returnUrls: ["http://localhost:3000/"],
        trustedProxies: [],
        publicUrl: undefined,
        log: { level: LogLevel.Info, format: Option.none() },
        webhook: Option.none(),
        telemetry: Option.none(),
        development: false
      })
    })
  )

  it.effect("open to no page and send nobody anywhere with a client, nor where the demo is told otherwise", () =>
    Effect.gen(function* () {
      const { allowedOrigins, returnUrls } = yield* load(real)
      assert.deepStrictEqual([allowedOrigins, returnUrls], [[], []])
      const demo = yield* load({
        CAL_TOKENS_ALLOWED_ORIGINS: "https://a.example",
        CAL_TOKENS_RETURN_URLS: "https://b.example/"
      })
      assert.deepStrictEqual([demo.allowedOrigins, demo.returnUrls], [["https://a.example"], ["https://b.example/"]])
    })
  )

  it.effect("take an empty variable for one that is not set", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* load({ DATABASE_URL: "", CAL_CLIENT_ID: " ", PORT: "" }), yield* load({}))
    })
  )

  it.effect("with a client never share the sandbox's data", () =>
    Effect.gen(function* () {
      const directoryOf = (variables: Record<string, string>) =>
        Effect.map(load({ ...variables, CAL_TOKENS_DATA_DIR: "/data/" }), ({ cal: { _tag, database } }) => [
          _tag,
          database._tag === "Embedded" && database.directory
        ])
      assert.deepStrictEqual(yield* directoryOf(real), ["Client", "/data/"])
      assert.deepStrictEqual(yield* directoryOf({}), ["Sandbox", "/data/sandbox"])
    })
  )

  it.effect("are the demo's only where nobody else could reach it, unless it is asked for", () =>
    Effect.gen(function* () {
      for (const HOST of ["localhost", "127.0.0.1", "127.1.2.3", "::1"]) {
        assert.strictEqual((yield* load({ HOST })).cal._tag, "Sandbox")
      }
      const deployed = {
        NODE_ENV: "production",
        HOST: "0.0.0.0",
        DATABASE_URL: "postgres://u:SECRET@db/x",
        CAL_TOKENS_ENCRYPTION_KEYS: key,
        CAL_TOKENS_API_KEYS: apiKey
      }
      const { cal } = yield* load({ ...deployed, CAL_TOKENS_DEMO: "1" })
      assert(cal._tag === "Sandbox")
      assert.strictEqual(cal.database.directory, ".data/sandbox")
      assert.strictEqual((yield* load({ ...real, ...deployed, CAL_TOKENS_DEMO: "1" })).cal._tag, "Client")
    })
  )

  it.effect(
    "with nothing refreshed behind anybody's back have one window, in which all wait for as long as it takes",
    () =>
      Effect.gen(function* () {
        const { config } = yield* load({ CAL_TOKENS_REFRESH_IN_BACKGROUND: "0", CAL_TOKENS_REFRESH_DUE: "90 s" })
        const { callerWait, windows } = TokenConfig.defaults
        const due = Duration.seconds(90)
        assert.deepStrictEqual(config.windows, { soon: due, soonFraction: windows.dueFraction, due })
        assert.deepStrictEqual(config.dueWait, callerWait)
        assert.deepStrictEqual(yield* load({ CAL_TOKENS_REFRESH_IN_BACKGROUND: "1" }), yield* load({}))
      })
  )

  it.effect("leave a number alone that is not set, for an embedding program may have chosen another", () =>
    Effect.gen(function* () {
      const chosen = { ...TokenConfig.defaults, cooldownWindow: Duration.seconds(7), maxAttempts: 9 }
      const { config } = yield* load({ CAL_TOKENS_COOLDOWN_ATTEMPTS: "5", CAL_TOKENS_REFRESH_DUE: "30 s" })
      const changed = yield* TokenConfig.TokenConfig.pipe(
        Effect.provide(Layer.provide(TokenConfig.layerChanged(config), TokenConfig.layer(chosen)))
      )
      const windows = { ...chosen.windows, due: Duration.seconds(30) }
      assert.deepStrictEqual(changed, { ...chosen, maxAttempts: 5, windows })
    })
  )

  it.effect("read everything", () =>
    Effect.gen(function* () {
      const settings = yield* load({
        ...real,
        PORT: "8080",
        HOST: "::",
        DATABASE_URL: "postgres://u:SECRET@db:5432/x",
        DATABASE_DIRECT_URL: "postgresql://u:SECRET@direct/x",
        DATABASE_POOL_SIZE: "3",
        DATABASE_STATEMENT_TIMEOUT: "750 ms",
        DATABASE_CONNECT_TIMEOUT: "2s",
        CAL_API_URL: "http://localhost:5555/v2/",
        CAL_OAUTH_CLIENT_ID: "oauth",
        CAL_OAUTH_REDIRECT_URL: "https://app.example/callback",
        CAL_OAUTH_AUTHORIZE_URL: "http://localhost:3000/auth/oauth2/authorize",
        CAL_OAUTH_SCOPES: "BOOKING_READ, PROFILE_READ WEBHOOK_WRITE",
        CAL_TOKENS_ENCRYPTION_KEYS: key,
        CAL_TOKENS_API_KEYS: `${apiKey},web:${"web-".repeat(8)}:proxy+read-token`,
        CAL_TOKENS_ALLOWED_ORIGINS: "https://a.example, http://localhost:3000",
        CAL_TOKENS_REFRESH_AHEAD: "0",
        CAL_TOKENS_ACTIVE_FOR: "8 h",
        CAL_TOKENS_REFRESH_SOON: "4 m",
        CAL_TOKENS_REFRESH_DUE: "30 s",
        CAL_TOKENS_COOLDOWN_WINDOW: "1 m",
        CAL_TOKENS_COOLDOWN_ATTEMPTS: "5",
        CAL_TOKENS_MEMORY_MAX_AGE: "1 s",
        CAL_TOKENS_ATOMS_MAX_AGE: "2 d",
        CAL_TOKENS_RETURN_URLS: "https://a.example/back?x=1",
        CAL_TOKENS_TRUSTED_PROXIES: "10.0.0.0/8,::1",
        CAL_TOKENS_PUBLIC_URL: "https://app.example.com/tokens",
        LOG_LEVEL: "DEBUG",
        LOG_FORMAT: "json",
        CAL_TOKENS_WEBHOOK_URL: "https://u:SECRET@app.example/hooks?k=SECRET",
        CAL_TOKENS_WEBHOOK_SECRET: webhookSecret,
        HTTPS_PROXY: "http://u:SECRET@proxy.example:3128",
        NO_PROXY: "cal.internal",
        OTEL_EXPORTER_OTLP_ENDPOINT: "http://collector:4318/otlp/",
        OTEL_EXPORTER_OTLP_LOGS_ENDPOINT: "https://logs.example/in",
        OTEL_EXPORTER_OTLP_HEADERS: "api-key=SECRET%20one, x-tenant = 7",
        OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
        OTEL_SERVICE_NAME: "tokens",
        OTEL_RESOURCE_ATTRIBUTES: "deployment.environment.name=production,team=a%2Cb",
        OTEL_METRICS_EXPORTER: "none",
        OTEL_TRACES_SAMPLER: "traceidratio",
        OTEL_TRACES_SAMPLER_ARG: "0.25",
        OTEL_METRIC_EXPORT_INTERVAL: "30000",
        NODE_ENV: "development"
      })
      assert.deepStrictEqual(
        { ...settings, apiKeys: settings.apiKeys.map(({ name, scopes }) => [name, [...scopes]]) },
        {
          host: "::",
          port: 8080,
          cal: Environment.Cal.Client({
            database: Environment.Database.Postgres({
              url: Redacted.make("postgres://u:SECRET@db:5432/x"),
              directUrl: Option.some(Redacted.make("postgresql://u:SECRET@direct/x")),
              encryptionKeys: Redacted.make(key),
              poolSize: 3,
              statementTimeout: Duration.millis(750),
              connectTimeout: Duration.seconds(2)
            }),
            options: {
              apiUrl: "http://localhost:5555/v2",
              managed: { clientId: "client", clientSecret: Redacted.make("SECRET-of-client") },
              oauth2: {
                clientId: "oauth",
                clientSecret: undefined,
                redirectUrl: "https://app.example/callback",
                authorizeUrl: "http://localhost:3000/auth/oauth2/authorize",
                scopes: ["BOOKING_READ", "PROFILE_READ", "WEBHOOK_WRITE"]
              }
            }
          }),
          proxies: {
            httpsProxy: Redacted.make("http://u:SECRET@proxy.example:3128"),
            httpProxy: undefined,
            noProxy: "cal.internal"
          },
          apiKeys: [
            ["ops", ["manage", "proxy", "metrics"]],
            ["web", ["proxy", "read-token"]]
          ],
          allowedOrigins: ["https://a.example", "http://localhost:3000"],
          refreshAhead: false,
          config: {
            aheadActiveFor: Duration.hours(8),
            cooldownWindow: Duration.minutes(1),
            maxAttempts: 5,
            memoryMaxAge: Duration.seconds(1),
            windows: { soon: Duration.minutes(4), due: Duration.seconds(30) }
          },
          atomsMaxAge: Duration.days(2),
          returnUrls: ["https://a.example/back?x=1"],
          trustedProxies: ["10.0.0.0/8", "::1"],
          publicUrl: "https://app.example.com/tokens",
          log: { level: LogLevel.Debug, format: Option.some("json") },
          webhook: Option.some({
            url: Redacted.make("https://u:SECRET@app.example/hooks?k=SECRET"),
            secret: Redacted.make(webhookSecret)
          }),
          telemetry: Option.some({
            traces: "http://collector:4318/otlp/v1/traces",
            metrics: undefined,
            logs: "https://logs.example/in",
            headers: Redacted.make({ "api-key": "SECRET one", "x-tenant": "7" }),
            protocol: "http/json",
            serviceName: "tokens",
            attributes: { "deployment.environment.name": "production", team: "a,b" },
            sampler: { isParentBased: false, ratio: 0.25 },
            metricInterval: 30_000
          }),
          development: true
        }
      )
      assert.notInclude(JSON.stringify(settings), "SECRET")
    })
  )
})

describe("telemetry", () => {
  const endpoint = { OTEL_EXPORTER_OTLP_ENDPOINT: "http://localhost:4318" }
  const telemetryOf = (variables: Record<string, string>) => Effect.map(load(variables), ({ telemetry }) => telemetry)

  it.effect("is sent where a collector is named, and not where it is disabled", () =>
    Effect.gen(function* () {
      const { logs, metrics, traces } = Option.getOrThrow(yield* telemetryOf(endpoint))
      assert.deepStrictEqual(
        [traces, metrics, logs],
        ["traces", "metrics", "logs"].map((signal) => `http://localhost:4318/v1/${signal}`)
      )
      const only = { OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: "http://localhost:4318/v1/traces" }
      assert.isUndefined(Option.getOrThrow(yield* telemetryOf(only)).metrics)
      const none = { OTEL_TRACES_EXPORTER: "none", OTEL_METRICS_EXPORTER: "none", OTEL_LOGS_EXPORTER: "none" }
      for (const off of [{ OTEL_SDK_DISABLED: "true" }, none]) {
        assert.isTrue(Option.isNone(yield* telemetryOf({ ...endpoint, ...off })))
      }
    })
  )

  it.effect("samples by the names of OpenTelemetry", () =>
    Effect.gen(function* () {
      for (const [name, ratio] of [
        ["always_on", 1],
        ["always_off", 0],
        ["traceidratio", 0.5]
      ] as const) {
        for (const isParentBased of [false, true]) {
          const { sampler } = Option.getOrThrow(
            yield* telemetryOf({
              ...endpoint,
              OTEL_TRACES_SAMPLER: `${isParentBased ? "parentbased_" : ""}${name}`,
              ...(name === "traceidratio" ? { OTEL_TRACES_SAMPLER_ARG: "0.5" } : {})
            })
          )
          assert.deepStrictEqual(sampler, { isParentBased, ratio })
        }
      }
    })
  )

  it.effect("is the service's: a program that embeds has these variables for itself", () =>
    Effect.gen(function* () {
      const theirs = { ...real, OTEL_TRACES_EXPORTER: "console", OTEL_EXPORTER_OTLP_PROTOCOL: "grpc" }
      const provider = ConfigProvider.fromMap(new Map(Object.entries(theirs)))
      assert.strictEqual((yield* Effect.withConfigProvider(Environment.loadServices, provider)).cal._tag, "Client")
    })
  )

  it("knows what of the way to the collector it has not", () => {
    assert.deepStrictEqual(
      unsupported([
        ...["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_HEADERS_FILE", "OTEL_PROPAGATORS", "PATH"],
        ...["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_CERTIFICATE"]
      ]),
      ["OTEL_EXPORTER_OTLP_CERTIFICATE", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"]
    )
  })
})

describe("the secret of a client", () => {
  const clientOf = (variables: Record<string, string>) =>
    Effect.map(load({ ...real, ...variables }), ({ cal }) => {
      assert(cal._tag === "Client")
      return cal.options
    })
  const [one, other] = [Redacted.make("one"), Redacted.make("other")]

  it.effect("is one, or two with a comma between them", () =>
    Effect.gen(function* () {
      const { managed, oauth2 } = yield* clientOf({
        CAL_CLIENT_SECRET: "one,other",
        CAL_OAUTH_CLIENT_ID: "oauth",
        CAL_OAUTH_CLIENT_SECRET: " other , one "
      })
      assert.deepStrictEqual(managed?.clientSecret, [one, other])
      assert.deepStrictEqual(oauth2?.clientSecret, [other, one])
      assert.deepStrictEqual((yield* clientOf({ CAL_CLIENT_SECRET: "one" })).managed?.clientSecret, one)
    })
  )
})

const clientSettings = (variables: Record<string, string>) =>
  Effect.map(load({ ...real, ...variables }), ({ cal }) => {
    assert(cal._tag === "Client")
    return cal
  })

describe("Cal.com's address", () => {
  const oauth2 = { CAL_OAUTH_CLIENT_ID: "oauth" }

  it.effect("decides where people consent: at the same of Cal.com's twins", () =>
    Effect.gen(function* () {
      const pageOf = (variables: Record<string, string>) =>
        Effect.map(clientSettings({ ...oauth2, ...variables }), ({ options }) => options.oauth2?.authorizeUrl)
      assert.strictEqual(yield* pageOf({}), "https://app.cal.com/auth/oauth2/authorize")
      const eu = { CAL_API_URL: "https://api.cal.eu/v2" }
      assert.strictEqual(yield* pageOf(eu), "https://app.cal.eu/auth/oauth2/authorize")
      const own = "https://acme.cal.eu/auth/oauth2/authorize"
      assert.strictEqual(yield* pageOf({ ...eu, CAL_OAUTH_AUTHORIZE_URL: own }), own)
    })
  )

  it.effect("may be http elsewhere if that is said, and is warned of", () =>
    Effect.gen(function* () {
      const variables = { CAL_API_URL: "http://calcom:5555/v2", CAL_API_ALLOW_HTTP: "1" }
      const { database, options } = yield* clientSettings(variables)
      assert.strictEqual(options.apiUrl, "http://calcom:5555/v2")
      assert.match(Plaintext.warnings(database, options).join("\n"), /^CAL_API_URL is http [^\n]*$/)
      const local = yield* clientSettings({ CAL_API_URL: "http://localhost:5555/v2" })
      assert.deepStrictEqual(Plaintext.warnings(local.database, local.options), [])
    })
  )
})

describe("proxies", () => {
  const proxies = (variables: Record<string, string>) =>
    Effect.map(load(variables), ({ proxies: { httpProxy, httpsProxy, noProxy } }) => [
      httpsProxy && Redacted.value(httpsProxy),
      httpProxy && Redacted.value(httpProxy),
      noProxy
    ])

  it.effect("are named in either spelling, of which the small one counts, with or without a scheme", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(
        yield* proxies({
          https_proxy: "proxy.example:3128",
          HTTPS_PROXY: "http://other.example",
          HTTP_PROXY: "https://u:p%40@[::1]:8443/",
          no_proxy: "*",
          NO_PROXY: "10.0.0.0/8"
        }),
        ["http://proxy.example:3128", "https://u:p%40@[::1]:8443/", "*"]
      )
      assert.deepStrictEqual(
        yield* proxies({ https_proxy: "", HTTPS_PROXY: "http://a", NO_PROXY: " a, 10.0.0.0/8 " }),
        ["http://a", undefined, "a, 10.0.0.0/8"]
      )
    })
  )

  it.effect("are what embedders of the services get as well", () =>
    Effect.gen(function* () {
      const { proxies } = yield* Environment.loadServices.pipe(
        Effect.withConfigProvider(ConfigProvider.fromMap(new Map([["HTTP_PROXY", "http://a"]])))
      )
      assert.deepStrictEqual(proxies.httpProxy, Redacted.make("http://a"))
    })
  )

  it.effect("are told without the rest, whatever is wrong there", () =>
    Effect.gen(function* () {
      const variables = { HTTP_PROXY: "http://a", NO_PROXY: "b", PORT: "eighty" }
      assert.deepStrictEqual(
        yield* Environment.loadProxies.pipe(
          Effect.withConfigProvider(ConfigProvider.fromMap(new Map(Object.entries(variables))))
        ),
        { httpsProxy: undefined, httpProxy: Redacted.make("http://a"), noProxy: "b" }
      )
    })
  )
})

describe("the database's address", () => {
  const warned = (url: string) =>
    Effect.map(
      clientSettings({ DATABASE_URL: url, CAL_TOKENS_ENCRYPTION_KEYS: key }),
      ({ database, options }) => Plaintext.warnings(database, options).length > 0
    )

  it.effect("is what the driver takes, and is warned of where it leads to another host without TLS", () =>
    Effect.gen(function* () {
      for (const url of [
        "postgres://u:SECRET@db/x",
        "postgresql://u:SECRET@10.0.0.1:5432/x?sslmode=disable",
        "postgres://u:SECRET@127.0.0.1.evil.example/x",
        "postgres://u:SECRET@/x?host=db"
      ]) {
        assert.isTrue(yield* warned(url), url)
      }
      for (const url of [
        "postgres://u:SECRET@localhost/x",
        "postgres://u:SECRET@[::1]/x",
        "postgres://u:SECRET@/x?host=/cloudsql/project:region:instance",
        "postgres://u:SECRET@%2Fvar%2Frun%2Fpostgresql/x",
        "postgres://u:SECRET@db/x?sslmode=verify-full",
        "postgres://u:SECRET@db/x?sslmode=no-verify"
      ]) {
        assert.isFalse(yield* warned(url), url)
      }
    })
  )
})

const temporary = Effect.acquireRelease(
  Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "cal-tokens-secrets-"))),
  (directory) => Effect.sync(() => Fs.rmSync(directory, { recursive: true }))
)

describe("clients in a file", () => {
  /** With such a file, and whatever else. */
  const withFile = (content: unknown, variables: Record<string, string> = {}) =>
    Effect.flatMap(temporary, (directory) => {
      const path = Path.join(directory, "clients.json")
      Fs.writeFileSync(path, typeof content === "string" ? content : JSON.stringify(content))
      return load({ CAL_TOKENS_API_KEYS: apiKey, ...variables, CAL_TOKENS_CLIENTS_FILE: path })
    }).pipe(Effect.scoped)

  const managed = { clientId: "m-1", clientSecret: "SECRET-of-m-1" }
  const oauth2 = { clientId: "o-1", redirectUrl: "https://app.example/back" }

  it.effect("are any number of either kind, beside those of the environment or without them", () =>
    Effect.gen(function* () {
      const file = {
        managed: [managed, { clientId: "m-2", clientSecret: ["SECRET-old", "SECRET-new"] }],
        oauth2: [
          { ...oauth2, clientSecret: "SECRET-of-o-1", scopes: ["BOOKING_READ", "PROFILE_READ"] },
          {
            ...oauth2,
            clientId: "o-2",
            clientSecret: ["SECRET-one"],
            scopes: "PROFILE_READ",
            authorizeUrl: "https://acme.cal.com/auth/oauth2/authorize"
          }
        ]
      }
      const others = {
        managed: [
          { clientId: "m-1", clientSecret: Redacted.make("SECRET-of-m-1") },
          { clientId: "m-2", clientSecret: [Redacted.make("SECRET-old"), Redacted.make("SECRET-new")] }
        ],
        oauth2: [
          {
            ...oauth2,
            clientSecret: Redacted.make("SECRET-of-o-1"),
            scopes: ["BOOKING_READ", "PROFILE_READ"],
            authorizeUrl: "https://app.cal.com/auth/oauth2/authorize"
          },
          {
            ...oauth2,
            clientId: "o-2",
            clientSecret: Redacted.make("SECRET-one"),
            scopes: ["PROFILE_READ"],
            authorizeUrl: "https://acme.cal.com/auth/oauth2/authorize"
          }
        ]
      }
      const { cal } = yield* withFile(file)
      assert(cal._tag === "Client")
      assert.deepStrictEqual(cal.options, {
        apiUrl: "https://api.cal.com/v2",
        managed: undefined,
        oauth2: undefined,
        others
      } as typeof cal.options)
      assert.notInclude(JSON.stringify(cal), "SECRET")

      const beside = yield* withFile(file, { ...real, CAL_OAUTH_CLIENT_ID: "oauth" })
      assert(beside.cal._tag === "Client")
      assert.strictEqual(beside.cal.options.managed?.clientId, "client")
      assert.strictEqual(beside.cal.options.oauth2?.clientId, "oauth")
      assert.deepStrictEqual<unknown>(beside.cal.options.others, others)
    })
  )

  it.effect("ask for API keys, as any client does", () =>
    Effect.gen(function* () {
      const { message } = yield* Effect.flip(withFile({ managed: [managed] }, { CAL_TOKENS_API_KEYS: "" }))
      assert.match(message, /^CAL_TOKENS_API_KEYS is required with a Cal\.com client: /)
      const absent = yield* Effect.flip(load({ ...real, CAL_TOKENS_CLIENTS_FILE: "/nowhere/at/all" }))
      assert.strictEqual(absent.message, "CAL_TOKENS_CLIENTS_FILE must name a file that can be read (ENOENT)")
    })
  )

  const cases: ReadonlyArray<readonly [unknown, string, Record<string, string>?]> = [
    ["SECRET", "what stands must be JSON"],
    [`{"managed":"SECRET`, "what stands must be JSON"],
    ["", "what stands must be JSON"],
    [["SECRET"], `all of it must be an object with the lists "managed" and "oauth2"`],
    [{}, "at least one client must stand"],
    [{ managed: [], oauth2: [] }, "at least one client must stand"],
    [{ managed: "SECRET" }, "managed must be a list"],
    [{ managed: { SECRET: 1 } }, "managed must be a list"],
    [{ managed: null }, "managed must be a list"],
    [{ clients: [managed] }, "clients is not known"],
    [{ "SECRET is here": [managed] }, "? is not known"],
    [{ managed: ["SECRET"] }, "managed[0] must be an object"],
    [{ managed: [managed, { clientId: "m-2" }] }, "managed[1].clientSecret is required"],
    [{ managed: [{ clientSecret: "SECRET" }] }, "managed[0].clientId is required"],
    [{ managed: [{ ...managed, secret: "SECRET" }] }, "managed[0].secret is not known"],
    [{ managed: [{ ...managed, clientId: "SECRET/x" }] }, "managed[0].clientId must be letters, digits, - and _"],
    [{ managed: [{ ...managed, clientId: 5 }] }, "managed[0].clientId must be letters, digits, - and _"],
    ...["SECRET with spaces", 5, null, [], ["SECRET", 5], ["a", "b", "SECRET"], { a: "SECRET" }].map(
      (clientSecret): (typeof cases)[number] => [
        { managed: [{ ...managed, clientSecret }] },
        "managed[0].clientSecret must be printable text without spaces, or two such with a comma between them"
      ]
    ),
    [{ oauth2: [{ clientId: "o" }] }, "oauth2[0].redirectUrl is required"],
    [
      { oauth2: [{ ...oauth2, redirectUrl: "SECRET" }] },
      "oauth2[0].redirectUrl must be an http(s) URL without fragment"
    ],
    [
      { oauth2: [oauth2, { ...oauth2, clientId: "o-2", scopes: ['"SECRET'] }] },
      "oauth2[1].scopes must be a list of scopes such as BOOKING_READ PROFILE_READ"
    ],
    [
      { oauth2: [{ ...oauth2, authorizeUrl: "http://calcom:3000/SECRET" }] },
      "oauth2[0].authorizeUrl must be an https URL without query (http only for localhost, or with CAL_API_ALLOW_HTTP=1)"
    ],
    [
      { oauth2: [oauth2, { ...oauth2, clientId: "o-2", authorizeUrl: "https://app.cal.eu/SECRET" }] },
      "oauth2[1].authorizeUrl must be at the same Cal.com as CAL_API_URL (cal.com, cal.eu or your own)"
    ],
    [
      { oauth2: [oauth2] },
      "oauth2[0].authorizeUrl is required with an OAuth2 client and a CAL_API_URL of one's own: the page https://<your Cal.com>/auth/oauth2/authorize",
      { CAL_API_URL: "https://cal.example/v2" }
    ],
    [{ managed: [managed, managed] }, "managed[1].clientId must be that of no other client"],
    [
      { managed: [managed], oauth2: [{ ...oauth2, clientId: "m-1" }] },
      "oauth2[0].clientId must be that of no other client"
    ],
    [{ managed: [{ ...managed, clientId: "client" }] }, "managed[0].clientId must be that of no other client", real]
  ]
  it.effect.each(cases)(
    "that are wrong are one line with the place and without the value: %j",
    ([content, problem, variables]) =>
      Effect.gen(function* () {
        const { message } = yield* Effect.flip(withFile(content, variables))
        assert.strictEqual(message, `CAL_TOKENS_CLIENTS_FILE names a file in which ${problem}`)
      })
  )
})

describe("a secret in a file", () => {
  it.scoped("is read without its last newline", () =>
    Effect.gen(function* () {
      const directory = yield* temporary
      const file = (name: string, text: string) => {
        const path = Path.join(directory, name)
        Fs.writeFileSync(path, text)
        return path
      }
      const url = "postgres://u:SECRET@db/x"
      const inFiles = {
        CAL_CLIENT_ID: "client",
        CAL_CLIENT_SECRET_FILE: file("client", "SECRET-of-client\n"),
        CAL_TOKENS_API_KEYS_FILE: file("api", `${apiKey}\n`),
        CAL_TOKENS_ENCRYPTION_KEYS_FILE: file("keys", `${key}\n`),
        CAL_OAUTH_CLIENT_ID: "oauth",
        CAL_OAUTH_CLIENT_SECRET_FILE: file("oauth", "SECRET-too"),
        DATABASE_URL_FILE: file("url", `${url}\n`),
        DATABASE_DIRECT_URL_FILE: file("direct", url),
        CAL_TOKENS_WEBHOOK_URL_FILE: file("hook", "https://a.example/SECRET\n"),
        CAL_TOKENS_WEBHOOK_SECRET_FILE: file("whsec", `${webhookSecret}\n`)
      }
      const variables = Object.fromEntries(
        Object.entries(inFiles).map(([name, value]) =>
          name.endsWith("_FILE") ? [name.slice(0, -5), Fs.readFileSync(value, "utf8").trim()] : [name, value]
        )
      )
      assert.deepStrictEqual(yield* load(inFiles), yield* load(variables))

      const refused = (variables: Record<string, string>) =>
        Effect.map(Effect.flip(load({ ...inFiles, ...variables })), ({ message }) => message)
      assert.match(
        yield* refused({ CAL_CLIENT_SECRET: "SECRET" }),
        /^CAL_CLIENT_SECRET must not be set beside CAL_CLIENT_SECRET_FILE$/
      )
      assert.match(
        yield* refused({ CAL_CLIENT_SECRET_FILE: Path.join(directory, "none") }),
        /^CAL_CLIENT_SECRET_FILE must name a file that can be read \(ENOENT\)$/
      )
      assert.match(
        yield* refused({ DATABASE_URL_FILE: file("wrong", "mysql://SECRET") }),
        /^DATABASE_URL_FILE must name a file whose text is right: it must be a URL postgres:[^\n]*database$/
      )
    })
  )
})

describe("a wrong or missing variable is one line without its value", () => {
  const cases: ReadonlyArray<readonly [Record<string, string>, RegExp]> = [
    [{ PORT: "SECRET" }, /^PORT must be a whole number from 0 to 65535$/],
    [{ PORT: "65536" }, /^PORT must be/],
    [{ PORT: "80.5" }, /^PORT must be/],
    [{ PORT: "-1" }, /^PORT must be/],
    [{ HOST: "not a host" }, /^HOST must be an address or a host name$/],
    [{ CAL_CLIENT_ID: "client" }, /^CAL_CLIENT_SECRET is required with CAL_CLIENT_ID: /],
    [{ CAL_CLIENT_SECRET: "SECRET" }, /^CAL_CLIENT_ID is required with CAL_CLIENT_SECRET: /],
    [{ ...real, CAL_CLIENT_ID: "a/b" }, /^CAL_CLIENT_ID must be letters, digits, - and _$/],
    [{ ...real, CAL_CLIENT_SECRET: "SECRET with spaces" }, /^CAL_CLIENT_SECRET must be printable text/],
    ...[",SECRET", "SECRET,", "SECRET,,SECRET", ",", "SECRET,SECRET2,SECRET3", "SECRET,with spaces"].flatMap(
      (value): typeof cases => [
        [
          { ...real, CAL_CLIENT_SECRET: value },
          /^CAL_CLIENT_SECRET must be printable text without spaces, or two such with a comma between them$/
        ],
        [{ ...real, CAL_OAUTH_CLIENT_ID: "o", CAL_OAUTH_CLIENT_SECRET: value }, /^CAL_OAUTH_CLIENT_SECRET must be /]
      ]
    ),
    [{ CAL_OAUTH_CLIENT_SECRET: "SECRET" }, /^CAL_OAUTH_CLIENT_ID is required with CAL_OAUTH_CLIENT_SECRET: /],
    [{ ...real, CAL_OAUTH_REDIRECT_URL: "https://a.example" }, /^CAL_OAUTH_CLIENT_ID is required with/],
    [{ ...real, CAL_API_URL: "http://api.cal.com/v2" }, /^CAL_API_URL must be an https URL without query \(http only/],
    [{ ...real, CAL_API_URL: "http://127.0.0.1.evil.example/v2" }, /^CAL_API_URL must be an https URL/],
    [{ ...real, CAL_API_URL: "https://u:SECRET@api.cal.com/v2" }, /^CAL_API_URL must be an https URL/],
    [{ ...real, CAL_API_URL: "SECRET" }, /^CAL_API_URL must be an https URL/],
    [{ ...real, CAL_API_URL: "http://calcom:5555", CAL_API_ALLOW_HTTP: "0" }, /^CAL_API_URL must be an https URL/],
    [
      { ...real, CAL_OAUTH_CLIENT_ID: "o", CAL_API_URL: "https://cal.example/v2" },
      /^CAL_OAUTH_AUTHORIZE_URL is required with an OAuth2 client and a CAL_API_URL of one's own: /
    ],
    ...[
      ["https://api.cal.com/v2", "https://app.cal.eu/auth/oauth2/authorize"],
      ["https://api.cal.eu/v2", "https://app.cal.com/auth/oauth2/authorize"],
      ["https://api.cal.com/v2", "https://notcal.com/auth/oauth2/authorize"],
      ["https://cal.example/v2", "https://app.cal.com/auth/oauth2/authorize"]
    ].map(([api = "", page = ""]): (typeof cases)[number] => [
      { ...real, CAL_OAUTH_CLIENT_ID: "o", CAL_API_URL: api, CAL_OAUTH_AUTHORIZE_URL: page },
      /^CAL_OAUTH_AUTHORIZE_URL must be at the same Cal\.com as CAL_API_URL/
    ]),
    [{ CAL_API_URL: "https://api.cal.com/v2" }, /^CAL_CLIENT_ID is required with CAL_API_URL: /],
    [
      { CAL_CLIENT_ID: "client", CAL_CLIENT_SECRET: "SECRET" },
      /^CAL_TOKENS_API_KEYS is required with a Cal\.com client: /
    ],
    [{ CAL_TOKENS_API_KEYS: "SECRET" }, /^CAL_TOKENS_API_KEYS must be a list .*; entry 1 is not$/],
    [{ CAL_TOKENS_API_KEYS: `ops:${"SECRET".repeat(5)}` }, /^CAL_TOKENS_API_KEYS must be a list .*; entry 1 is not$/],
    [{ CAL_TOKENS_API_KEYS: `${apiKey},SECRET` }, /entry 2 is not$/],
    [{ CAL_TOKENS_API_KEYS: `${apiKey}:manage+SECRET` }, /entry 1 is not$/],
    [{ CAL_TOKENS_API_KEYS: `ops:${"S".repeat(32)}` }, /entry 1 has a secret of one repeated letter$/],
    [{ CAL_TOKENS_API_KEYS: `${apiKey}:manage+root` }, /entry 1 has an unknown scope$/],
    [{ CAL_TOKENS_API_KEYS: `${apiKey},${apiKey}` }, /must not name two keys alike$/],
    [{ CAL_TOKENS_API_KEYS: `${apiKey},b${apiKey}` }, /must not give two keys the same secret$/],
    [{ DATABASE_URL: "postgres://u:SECRET@db/x" }, /^CAL_CLIENT_ID is required with DATABASE_URL: .*CAL_TOKENS_DEMO=1/],
    [{ CAL_TOKENS_ENCRYPTION_KEYS: key }, /^CAL_CLIENT_ID is required with CAL_TOKENS_ENCRYPTION_KEYS: /],
    [{ CAL_TOKENS_API_KEYS: apiKey }, /^CAL_CLIENT_ID is required with CAL_TOKENS_API_KEYS: /],
    [{ NODE_ENV: "production" }, /^CAL_CLIENT_ID is required with NODE_ENV=production: /],
    ...["0.0.0.0", "::", "10.0.0.1", "service.internal", "127.0.0.1.evil.example"].map(
      (HOST): (typeof cases)[number] => [{ HOST }, /^CAL_CLIENT_ID is required with a HOST that others reach: /]
    ),
    [{ HOST: "0.0.0.0", CAL_TOKENS_DEMO: "0" }, /^CAL_CLIENT_ID is required with a HOST/],
    [{ CAL_TOKENS_DEMO: "yes" }, /^CAL_TOKENS_DEMO must be 1 or 0$/],
    [
      { ...real, DATABASE_URL: "postgres://u:SECRET@db/x" },
      /^CAL_TOKENS_ENCRYPTION_KEYS is required with DATABASE_URL: /
    ],
    [{ ...real, DATABASE_URL: "mysql://u:SECRET@db/x" }, /^DATABASE_URL must be a URL postgres:\/\//],
    [{ DATABASE_POOL_SIZE: "0" }, /^DATABASE_POOL_SIZE must be a whole number from 1 to 1000$/],
    [{ DATABASE_STATEMENT_TIMEOUT: "5" }, /^DATABASE_STATEMENT_TIMEOUT must be a duration/],
    [{ DATABASE_CONNECT_TIMEOUT: "0 s" }, /^DATABASE_CONNECT_TIMEOUT must be a duration/],
    [{ CAL_TOKENS_ENCRYPTION_KEYS: "SECRET" }, /^CAL_TOKENS_ENCRYPTION_KEYS .*expected id:base64\(32 bytes\)/],
    [{ CAL_TOKENS_ENCRYPTION_KEYS: "k1:SECRET" }, /^CAL_TOKENS_ENCRYPTION_KEYS .*expected id:base64\(32 bytes\)/],
    [{ CAL_TOKENS_ALLOWED_ORIGINS: "https://a.example/" }, /^CAL_TOKENS_ALLOWED_ORIGINS must be .*an origin/],
    [{ CAL_TOKENS_REFRESH_AHEAD: "yes" }, /^CAL_TOKENS_REFRESH_AHEAD must be 1 or 0/],
    [{ CAL_TOKENS_REFRESH_IN_BACKGROUND: "no" }, /^CAL_TOKENS_REFRESH_IN_BACKGROUND must be 1 or 0/],
    [{ CAL_TOKENS_ACTIVE_FOR: "31 d" }, /^CAL_TOKENS_ACTIVE_FOR must be a duration up to 30 days/],
    [{ CAL_TOKENS_REFRESH_SOON: "never" }, /^CAL_TOKENS_REFRESH_SOON must be a duration up to 10 minutes/],
    [{ CAL_TOKENS_REFRESH_DUE: "0 s" }, /^CAL_TOKENS_REFRESH_DUE must be a duration/],
    [{ CAL_TOKENS_REFRESH_DUE: "6 m" }, /^CAL_TOKENS_REFRESH_DUE must be at most CAL_TOKENS_REFRESH_SOON: a duration/],
    [{ CAL_TOKENS_COOLDOWN_WINDOW: "-30 s" }, /^CAL_TOKENS_COOLDOWN_WINDOW must be a duration up to 10 minutes/],
    [{ CAL_TOKENS_COOLDOWN_ATTEMPTS: "0" }, /^CAL_TOKENS_COOLDOWN_ATTEMPTS must be a whole number from 1 to 1000/],
    [{ CAL_TOKENS_MEMORY_MAX_AGE: "1 h" }, /^CAL_TOKENS_MEMORY_MAX_AGE must be a duration up to 10 minutes/],
    [{ CAL_TOKENS_ATOMS_MAX_AGE: "31 d" }, /^CAL_TOKENS_ATOMS_MAX_AGE must be a duration up to 30 days/],
    [{ CAL_TOKENS_ATOMS_MAX_AGE: "0 h" }, /^CAL_TOKENS_ATOMS_MAX_AGE must be/],
    [{ CAL_TOKENS_ALLOWED_ORIGINS: "*" }, /^CAL_TOKENS_ALLOWED_ORIGINS must be/],
    [{ CAL_TOKENS_RETURN_URLS: "javascript:alert(1)" }, /^CAL_TOKENS_RETURN_URLS must be/],
    [{ ...real, CAL_OAUTH_CLIENT_ID: "oauth", CAL_OAUTH_SCOPES: ',"' }, /^CAL_OAUTH_SCOPES must be a list of scopes/],
    [{ ...real, CAL_OAUTH_SCOPES: "BOOKING_READ" }, /^CAL_OAUTH_CLIENT_ID is required with/],
    [{ CAL_TOKENS_TRUSTED_PROXIES: "10.0.0.0/33" }, /^CAL_TOKENS_TRUSTED_PROXIES must be/],
    [{ CAL_TOKENS_WEBHOOK_URL: "https://a.example/SECRET" }, /^CAL_TOKENS_WEBHOOK_SECRET is required with CAL_TOKENS_/],
    [
      { CAL_TOKENS_WEBHOOK_SECRET: webhookSecret },
      /^CAL_TOKENS_WEBHOOK_URL is required with CAL_TOKENS_WEBHOOK_SECRET: /
    ],
    [{ CAL_TOKENS_WEBHOOK_URL: "http://a.example/SECRET" }, /^CAL_TOKENS_WEBHOOK_URL must be an https URL/],
    [{ CAL_TOKENS_WEBHOOK_URL: "https://a.example/#SECRET" }, /^CAL_TOKENS_WEBHOOK_URL must be an https URL/],
    [{ CAL_TOKENS_WEBHOOK_SECRET: "SECRET" }, /^CAL_TOKENS_WEBHOOK_SECRET must be whsec_ and the base64 of 24 to 64/],
    [{ CAL_TOKENS_WEBHOOK_SECRET: `whsec_${btoa("SECRET")}` }, /^CAL_TOKENS_WEBHOOK_SECRET must be whsec_/],
    [{ CAL_TOKENS_WEBHOOK_SECRET: `${webhookSecret}!` }, /^CAL_TOKENS_WEBHOOK_SECRET must be whsec_/],
    ...[
      "socks5://SECRET@proxy",
      "http://SECRET@proxy",
      "http://proxy/SECRET",
      "http://u:SECRET%@proxy",
      "SECRET path"
    ].map((HTTPS_PROXY): (typeof cases)[number] => [
      { HTTPS_PROXY },
      /^HTTPS_PROXY must be a URL http\(s\):\/\/user:password@/
    ]),
    [{ LOG_LEVEL: "loud" }, /^LOG_LEVEL must be one of trace, debug, info/],
    [{ LOG_FORMAT: "xml" }, /^LOG_FORMAT must be one of pretty, json, logfmt$/],
    [
      { OTEL_EXPORTER_OTLP_ENDPOINT: "http://u:SECRET@collector" },
      /^OTEL_EXPORTER_OTLP_ENDPOINT must be an http\(s\) URL/
    ],
    [
      { OTEL_EXPORTER_OTLP_PROTOCOL: "grpc" },
      /^OTEL_EXPORTER_OTLP_PROTOCOL must be one of http\/protobuf, http\/json$/
    ],
    [{ OTEL_EXPORTER_OTLP_HEADERS: "SECRET" }, /^OTEL_EXPORTER_OTLP_HEADERS must be a list key=value/],
    [{ OTEL_EXPORTER_OTLP_HEADERS: "a=SECRET%0Ab" }, /^OTEL_EXPORTER_OTLP_HEADERS must be a list key=value/],
    [
      { OTEL_EXPORTER_OTLP_HEADERS: "a=SECRET" },
      /^OTEL_EXPORTER_OTLP_ENDPOINT is required with OTEL_EXPORTER_OTLP_HEADERS/
    ],
    [{ OTEL_TRACES_EXPORTER: "console" }, /^OTEL_TRACES_EXPORTER must be one of otlp, none$/],
    [{ OTEL_TRACES_SAMPLER: "sometimes" }, /^OTEL_TRACES_SAMPLER must be one of always_on/],
    [{ OTEL_TRACES_SAMPLER_ARG: "2" }, /^OTEL_TRACES_SAMPLER_ARG must be a number from 0 to 1$/],
    [{ OTEL_TRACES_SAMPLER_ARG: "0.5" }, /^OTEL_TRACES_SAMPLER_ARG is for traceidratio/],
    [{ PORT: "x", LOG_FORMAT: "xml" }, /^PORT must be a whole number from 0 to 65535$/]
  ]

  it.effect.each(cases)("%o", ([variables, expected]) =>
    Effect.gen(function* () {
      const { message } = yield* Effect.flip(load(variables))
      assert.match(message, expected)
      assert.notMatch(message, /\bSECRET|\n/)
    })
  )
})
