/** The HTTP service over a real socket, on services that do what a test says and remember what they were asked. */
import { createHash } from "node:crypto"
import * as Net from "node:net"
import { HttpClient, HttpClientRequest, HttpClientResponse, HttpServer } from "@effect/platform"
import { NodeHttpServer } from "@effect/platform-node"
import { Cause, Clock, Context, Effect, Either, HashMap, Layer, Logger, Option, Redacted, Ref } from "effect"
import { CalApi } from "../../src/CalApi.js"
import { callbackPath } from "../../src/Api/OAuth.js"
import { CalClient, type ConfiguredOAuth2Client } from "../../src/CalClient.js"
import * as Clients from "../../src/CalClient/Clients.js"
import { type ConnectionInfo, CalTokens, type OnStored, type ValidToken } from "../../src/CalTokens.js"
import { ConnectFlow, Return } from "../../src/ConnectFlow.js"
import * as Http from "../../src/Http.js"
import * as KeyRing from "../../src/KeyRing.js"
import * as ApiKeys from "../../src/ApiKeys.js"
import * as Edge from "../../src/Http/Edge.js"
import * as Lifecycle from "../../src/Http/Lifecycle.js"
import * as CallerLimits from "../../src/Http/CallerLimits.js"
import { type TokenPair, UserUlid } from "../../src/Token.js"
import type { TokenError } from "../../src/TokenError.js"
import { type ConnectionSummary, type StoredHistory, TokenStorage } from "../../src/TokenStorage.js"
import * as ChangeLogMemory from "../../src/TokenStorage/ChangeLogMemory.js"

export const userUlid = UserUlid.make("01HZY9TESTSAAAAAAAAAAAAAAA")

export const keys = {
  all: "all-scopes-key-0123456789abcdefghijkl",
  manage: "manage-only-key-0123456789abcdefghij",
  proxy: "proxy-only-key-0123456789abcdefghijk",
  metrics: "metrics-only-key-0123456789abcdefghi",
  reader: "read-token-only-key-0123456789abcdef"
} as const

/** A key with just this scope. */
export const scopedKeys = {
  manage: keys.manage,
  proxy: keys.proxy,
  metrics: keys.metrics,
  "read-token": keys.reader
} as const

const scopes = {
  all: "manage+read-token+proxy+metrics",
  manage: "manage",
  proxy: "proxy",
  metrics: "metrics",
  reader: "read-token"
} as const

const apiKeys = ApiKeys.parse(
  Object.entries(keys)
    .map(([name, secret]) => `${name}:${secret}:${scopes[name as keyof typeof scopes]}`)
    .join(",")
)

/** Keys with every scope that goes with their limits. */
export const limitedKeys = {
  hers: "her-users-only-key-0123456789abcdefgh",
  another: "another-users-only-key-0123456789abcd",
  reads: "reads-bookings-only-key-0123456789abc",
  ending: "a-minute-after-the-epoch-key-01234567"
} as const

const everything = ["manage", "read-token", "proxy", "metrics"]

const limited = ApiKeys.parse(
  JSON.stringify([
    { name: "hers", secret: limitedKeys.hers, scopes: everything, users: [userUlid.toLowerCase()] },
    {
      name: "another",
      sha256: createHash("sha256").update(limitedKeys.another).digest("hex"),
      scopes: everything,
      users: ["01HZY9TESTSBBBBBBBBBBBBBBB"]
    },
    { name: "reads", secret: limitedKeys.reads, scopes: ["manage", "proxy-read"], paths: ["/bookings"] },
    { name: "ending", secret: limitedKeys.ending, scopes: everything, expiresAt: "1970-01-01T00:01:00Z" }
  ])
)

export const expiresAt = Date.UTC(2030, 0, 2, 3, 4, 5)

/** A flow that has begun. */
const begun = {
  url: "https://app.cal.com/x",
  expiresAt,
  state: "state",
  redirectUrl: "https://service.example/api/cal/oauth/callback",
  scopes: ["PROFILE_READ"]
}

export const validToken: ValidToken = {
  accessToken: Redacted.make("access-token-that-nobody-may-see"),
  expiresAt,
  version: 7,
  refreshed: true
}

const pairOf = ({ accessToken, expiresAt }: ValidToken): TokenPair => ({
  accessToken,
  refreshToken: Redacted.make("refresh-token-that-nobody-may-see"),
  accessTokenExpiresAt: expiresAt
})

export const info: ConnectionInfo = {
  userUlid,
  connection: { _tag: "ManagedUser", clientId: "client", calUserId: 42 },
  status: { _tag: "Active" },
  isExpired: false,
  isExpiringSoon: true,
  accessTokenExpiresAt: expiresAt,
  refreshTokenExpiresAt: expiresAt + 1000,
  version: 7,
  updatedAt: expiresAt - 1000
}

export interface LogLine {
  readonly level: string
  readonly message: string
  readonly annotations: Readonly<Record<string, unknown>>
  readonly cause: string
}

/** What the fakes answer, what they were asked, and what was logged. */
export class Fake extends Context.Tag("test/Fake")<
  Fake,
  {
    readonly calls: Ref.Ref<ReadonlyArray<readonly [string, ...Array<unknown>]>>
    readonly failure: Ref.Ref<Option.Option<Effect.Effect<never, TokenError>>>
    readonly connection: Ref.Ref<ConnectionInfo>
    readonly ping: Ref.Ref<TokenStorage["Type"]["ping"]>
    readonly answer: Ref.Ref<(request: { readonly path: string }) => Response>
    /** What the storage lists. */
    readonly rows: Array<ConnectionSummary>
    readonly logs: Array<LogLine>
    /** Lines of the audit trail, which are none of `logs`. */
    readonly audit: Array<LogLine>
  }
>() {}

/** Somebody else's token, or the person. */
const history = (userUlid: UserUlid): StoredHistory => ({
  connection: {
    userUlid,
    connection: { _tag: "OAuth2", clientId: "client" },
    status: { _tag: "ReauthorizationRequired", cause: "revoked", since: 2000 },
    version: 7,
    updatedAt: 2000,
    accessTokenExpiresAt: 2000
  },
  at: 40_000,
  open: { process: "b", startedAt: 3000, leaseUntil: 33_000, token: "aaaaaaaa" },
  circuit: { clientId: "client", cause: "client", reason: "invalid_client", openedAt: 1000, trialAt: 31_000 },
  entries: [
    { at: 1000, written: "stored", event: { _tag: "Connected", process: "a", token: "aaaaaaaa", isGranted: true } },
    {
      at: 2000,
      written: "recorded",
      event: {
        _tag: "Attempt",
        process: "a",
        purpose: "refresh",
        trigger: "asked",
        took: 10,
        steps: [{ as: "own", token: "aaaaaaaa", answer: "rejected", status: 400, refusal: "revoked" }],
        end: "terminal"
      }
    }
  ]
})

const makeFake = Effect.gen(function* () {
  return {
    calls: yield* Ref.make<ReadonlyArray<readonly [string, ...Array<unknown>]>>([]),
    failure: yield* Ref.make(Option.none<Effect.Effect<never, TokenError>>()),
    connection: yield* Ref.make(info),
    ping: yield* Ref.make<TokenStorage["Type"]["ping"]>(Effect.void),
    answer: yield* Ref.make<(request: { readonly path: string }) => Response>(() => Response.json({ ok: true })),
    rows: [],
    logs: [],
    audit: []
  }
})

export const layerFake = Layer.effect(Fake, makeFake)

/** The services below the handlers. */
export const layerServices = Layer.unwrapEffect(
  Effect.map(Fake, (fake) => {
    /** Fails with what the test says, be it an error that the method's type knows or not. */
    const answer = <A>(name: string, args: ReadonlyArray<unknown>, value: Effect.Effect<A>) =>
      Effect.gen(function* () {
        yield* Ref.update(fake.calls, (calls) => [...calls, [name, ...args] as const])
        const failure = yield* Ref.get(fake.failure)
        return yield* Option.getOrElse(failure, () => value)
      }) as Effect.Effect<A>
    const connected = (onStored: OnStored = () => Effect.void) =>
      Effect.as(onStored(Option.none()), { calUserId: Option.some(42) })
    return Layer.mergeAll(
      KeyRing.layerEphemeral,
      Layer.mock(CalTokens, {
        standing: Effect.succeed({ process: "fake", startedAt: 0, pairsHeld: 0, circuits: [] }),
        peek: () => undefined,
        ensureValid: (...args) => answer("ensureValid", args, Effect.succeed(validToken)),
        refresh: (...args) => answer("refresh", args, Effect.succeed(validToken)),
        connect: (...args) => answer("connect", args, Effect.succeed(info)),
        connectWith: (...args) => answer("connectWith", args, Effect.as(connected(args[2]?.onStored), info)),
        importConnections: (...args) =>
          answer(
            "importConnections",
            args,
            Effect.succeed(args[0].map(() => ({ userUlid, outcome: "imported" as const })))
          ),
        disconnect: (...args) => answer("disconnect", args, Effect.void),
        beginSession: (...args) => answer("beginSession", args, Effect.succeed(7)),
        sessionsAfter: (...args) => answer("sessionsAfter", args, Effect.succeed(7)),
        endSessions: (...args) => answer("endSessions", args, Effect.void),
        info: (...args) => answer("info", args, Ref.get(fake.connection))
      }),
      Layer.mock(ConnectFlow, {
        begin: (...args) => answer("begin", args, Effect.succeed(begun)),
        exchange: (...[user, returned, onStored]) => answer("exchange", [user, returned], connected(onStored)),
        confirm: (...[user, completion, onStored]) => answer("confirm", [user, completion], connected(onStored)),
        comeBack: () => Effect.succeed(Return.Stop({ problem: "unknownState", backTo: Option.none() }))
      }),
      Layer.mock(CalApi, {
        client: () => {
          throw new Error("not used here")
        },
        send: (...args) =>
          answer(
            "send",
            args,
            Effect.map(Ref.get(fake.answer), (respond) =>
              HttpClientResponse.fromWeb(HttpClientRequest.get("https://api.cal.com"), respond(args[1]))
            )
          )
      }),
      Layer.mock(CalClient, {
        apiUrl: "https://api.cal.com/v2",
        clients: { managed: Clients.make({ clientId: "managed" }), oauth2: Clients.make(fakeClient) },
        fingerprint: () => "fake",
        now: Clock.currentTimeMillis,
        unsafeTimeOffset: () => 0,
        budgets: Effect.succeed([]),
        createManagedUser: (...args) =>
          answer(
            "createManagedUser",
            args,
            Effect.succeed({ _tag: "Created", calUserId: 42, pair: pairOf(validToken) } as const)
          )
      }),
      Layer.mock(TokenStorage, {
        ping: Effect.flatten(Ref.get(fake.ping)),
        missingKeys: Effect.succeed([]),
        counts: Effect.succeed({
          users: { active: 0, reauthorizationRequired: 0 },
          circuits: { client: 0, brake: 0, drift: 0 },
          sealed: 0
        }),
        activity: () => Effect.succeed({ at: 0, from: 0, until: 60_000, attempts: [] }),
        outlook: () => Effect.succeed({ overdue: 0, minutes: [], circuits: [] }),
        find: () => Effect.succeedNone,
        log: ChangeLogMemory.make().service,
        history: (userUlid) => answer("history", [userUlid], Effect.succeedSome(history(userUlid))),
        list: ({ after = "", calUserId, limit, status }) =>
          Effect.sync(() =>
            fake.rows
              .filter((row) => row.userUlid > after && (status === undefined || row.status._tag === status))
              .filter(({ connection }) => calUserId === undefined || connection.calUserId === calUserId)
              .slice(0, limit)
          ),
        reconnecting: ({ before, limit }) =>
          Effect.sync(() => {
            const since = ({ status }: ConnectionSummary) => (status._tag === "Active" ? 0 : status.since)
            return fake.rows
              .filter((row) => row.status._tag !== "Active" && (before === undefined || since(row) < before.since))
              .sort((a, b) => since(b) - since(a))
              .slice(0, limit)
          })
      })
    )
  })
)

/** The OAuth2 client of the fakes. */
export const fakeClient: ConfiguredOAuth2Client = {
  clientId: "client",
  redirectUrl: `https://service.example${callbackPath}`,
  isPublic: true
}

/** Keeps what is logged. */
export const logger = Layer.unwrapEffect(
  Effect.map(Fake, ({ audit, logs }) =>
    Logger.replace(
      Logger.defaultLogger,
      Logger.make(({ annotations, cause, logLevel, message }) => {
        const isAudit = Option.contains(HashMap.get(annotations, "logger"), "cal_tokens.audit")
        ;(isAudit ? audit : logs).push({
          level: logLevel.label,
          message: Array.isArray(message) ? message.map(String).join(" ") : String(message),
          annotations: Object.fromEntries(HashMap.entries(annotations)),
          cause: Cause.isEmpty(cause) ? "" : Cause.pretty(cause)
        })
      })
    )
  )
)

export const layerWith = (
  options: { readonly development?: boolean; readonly limits?: Partial<CallerLimits.Options> } = {}
) =>
  Http.layer.pipe(
    Layer.provideMerge(NodeHttpServer.layerTest),
    Layer.provide(layerServices),
    Layer.provide(ApiKeys.layer([apiKeys, limited].flatMap(Either.getOrThrow))),
    Layer.provideMerge(Lifecycle.layer),
    Layer.provide(Layer.succeed(Edge.Development, options.development ?? false)),
    Layer.provide(CallerLimits.layerConfig(options.limits ?? {})),
    Layer.provide(logger),
    Layer.provideMerge(layerFake)
  )

export const layer = layerWith()

export interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

export interface Call {
  readonly method?: "GET" | "POST" | "PUT" | "DELETE" | "PATCH" | "OPTIONS" | "HEAD" | undefined
  readonly path: string
  readonly key?: string | undefined
  readonly headers?: Record<string, string>
  readonly body?: string | undefined
  readonly contentType?: string
}

/** A request as curl would make it. */
export const call = ({ body, contentType, headers, key, method = "POST", path }: Call) =>
  Effect.gen(function* () {
    const client = yield* HttpClient.HttpClient
    const request = HttpClientRequest.make(method)(path).pipe(
      HttpClientRequest.setHeaders({ ...(key === undefined ? {} : { authorization: `Bearer ${key}` }), ...headers }),
      body === undefined ? (self) => self : HttpClientRequest.bodyText(body, contentType ?? "application/json")
    )
    const response = yield* client.execute(request)
    return { status: response.status, headers: response.headers, body: yield* response.text } satisfies Answer
  })

/** Bytes on a socket, and everything that comes back until it closes. */
export const raw = (text: string) =>
  Effect.flatMap(HttpServer.HttpServer, ({ address }) =>
    Effect.async<string>((resume) => {
      if (address._tag !== "TcpAddress") return resume(Effect.dieMessage("no port"))
      let answer = ""
      const socket = Net.connect(address.port, "127.0.0.1", () => socket.write(text))
      socket.setEncoding("latin1")
      socket.on("data", (chunk: string) => (answer += chunk))
      socket.on("error", () => resume(Effect.succeed(answer)))
      socket.on("close", () => resume(Effect.succeed(answer)))
    })
  )

export const calls = Effect.flatMap(Fake, (fake) => Ref.get(fake.calls))
