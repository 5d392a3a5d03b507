/**
 * The Cal.com HTTP client for token endpoints. It speaks Cal.com's two dialects (platform and OAuth2) and says of every
 * failed call what matters to a single-use refresh token: was it spent, was it refused, or can nobody know.
 */
import { Config, type ConfigError, Context, Effect, Layer, Option, Predicate, Redacted, Struct } from "effect"
import * as Headers from "@effect/platform/Headers"
import type * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import * as Caller from "./CalClient/Caller.js"
import * as CalPath from "./CalHttp/CalPath.js"
import { TokenHttp } from "./CalHttp/HttpClients.js"
import * as CalTime from "./CalHttp/CalTime.js"
import * as Clients from "./CalClient/Clients.js"
import * as Outcome from "./CalClient/Outcome.js"
import * as RateLimits from "./CalHttp/RateLimits.js"
import * as Requests from "./CalClient/Requests.js"
import * as Secrets from "./CalClient/Secrets.js"
import * as Transport from "./CalHttp/Transport.js"
import * as Tried from "./CalHttp/Tried.js"
import * as TokenAnswer from "./CalClient/TokenAnswer.js"
import * as Departure from "./CalClient/TokenAnswer/Departure.js"
import * as Wire from "./CalClient/Wire.js"
import { type Connection, hash, type ManagedUser, type TokenPair } from "./Token.js"
import { CalClientMisconfigured, type CallError, InvalidInput, noClient } from "./TokenError.js"

export type { ManagedClient, NewManagedUser, OAuth2Client, Options } from "./CalClient/Requests.js"
export type { ClientSecret } from "./CalClient/Secrets.js"
export type { Departure, Grant, Kept, Unread } from "./CalClient/TokenAnswer.js"
export type { Budget, RateLimit } from "./CalHttp/RateLimits.js"
export {
  /** Why a call to a token endpoint brought no pair: what that means for the refresh token. */
  CallFailure
} from "./CalClient/Outcome.js"

/**
 * A configured client, as far as it is no secret.
 *
 * @since 0.1.0
 * @category models
 */
export interface ConfiguredClient {
  readonly clientId: string
}

/**
 * The same for OAuth2.
 *
 * @since 0.1.0
 * @category models
 */
export interface ConfiguredOAuth2Client extends ConfiguredClient, Omit<Requests.OAuth2Client, "clientSecret"> {
  /** Without a secret: it uses PKCE. */
  readonly isPublic: boolean
}

/**
 * What a call knows of the user and of whoever makes it.
 *
 * @since 0.1.0
 * @category models
 */
export interface Asked extends TokenAnswer.Kept {
  /**
   * Until when whoever asks waits for the answer, in milliseconds by our clock. After that no request is sent with the
   * client's other secret: somebody else may spend the token by then.
   */
  readonly deadline?: number | undefined
}

/**
 * What a client has left of Cal.com's rate limit, and had.
 *
 * @since 0.1.0
 * @category models
 */
export interface ClientBudget extends RateLimits.Budget {
  readonly kind: "managed" | "oauth2"
  readonly clientId: string
}

/**
 * Cal.com's token endpoints, for the clients that are configured.
 *
 * @since 0.1.0
 * @category tags
 */
export class CalClient extends Context.Tag("cal-tokens/CalClient")<
  CalClient,
  {
    /** Base of Cal.com's API, without a trailing slash. */
    readonly apiUrl: string
    /** Who is configured. */
    readonly clients: {
      readonly managed: Clients.Clients<ConfiguredClient>
      readonly oauth2: Clients.Clients<ConfiguredOAuth2Client>
    }
    /** Cal.com's time in milliseconds: our clock, corrected by the `Date` header of its answers. */
    readonly now: Effect.Effect<number>
    /** By how many milliseconds that is ahead of our clock. */
    readonly unsafeTimeOffset: () => number
    /** Learns Cal.com's time from the headers of any of its answers; `sentAt`: when it was asked, by our clock, in ms. */
    readonly observeDate: (headers: Headers.Headers, sentAt?: number) => Effect.Effect<void>
    /** What is left of Cal.com's rate limit for a client, while its window lasts. */
    readonly rateLimit: (clientId: string) => Effect.Effect<Option.Option<RateLimits.RateLimit>>
    /** The same of the last hour, of each client of which Cal.com has said it. */
    readonly budgets: Effect.Effect<ReadonlyArray<ClientBudget>>
    /** Spends a refresh token. What is `asked` with it is known of the user's tokens besides: the answer is judged by it. */
    readonly refresh: (
      connection: Connection,
      refreshToken: Redacted.Redacted,
      asked?: Asked
    ) => Effect.Effect<TokenAnswer.Grant, Outcome.CallFailure>
    /** Cal.com's force-refresh: deletes every token of a managed user and grants a new pair. `asked` as for a refresh. */
    readonly reissue: (connection: ManagedUser, asked?: Asked) => Effect.Effect<TokenAnswer.Grant, Outcome.CallFailure>
    /** Of a client's secrets, in any order, and Cal.com's address, as they are configured here; none can be read from it. */
    readonly fingerprint: (clientId: string) => string
    /** Exchanges an authorization code (OAuth2) of the client that is named, or meant without a name. */
    readonly exchange: (input: {
      readonly clientId?: string | undefined
      readonly code: Redacted.Redacted
      readonly codeVerifier?: Redacted.Redacted | undefined
    }) => Effect.Effect<TokenAnswer.Grant, InvalidInput | CallError>
    /**
     * Creates a managed user of the client that is named, or meant without a name; an existing one with that e-mail address
     * answers its id instead of a pair.
     */
    readonly createManagedUser: (
      user: Requests.NewManagedUser,
      clientId?: string
    ) => Effect.Effect<
      | { readonly _tag: "Created"; readonly calUserId: number; readonly pair: TokenPair }
      | { readonly _tag: "Exists"; readonly calUserId: number },
      InvalidInput | CallError
    >
    /** The profile behind an access token. */
    readonly me: (
      accessToken: Redacted.Redacted
    ) => Effect.Effect<{ readonly id: number; readonly username: string; readonly email: string }, CallError>
  }
>() {}

/** What a program gets from {@link make}. */
type Service = Context.Tag.Service<CalClient>

/**
 * A client for Cal.com's token endpoints over the `TokenHttp` in the context (for Node:
 * `CalHttp/Node.layerTokenHttp`). Calls have no deadline of their own: whoever makes one decides how long an
 * answer is worth having.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (options: Requests.Options): Effect.Effect<Service, never, TokenHttp> =>
  Effect.gen(function* () {
    const apiUrl = CalPath.withoutSlashes(options.apiUrl)
    const calTime = yield* CalTime.make
    const rateLimits = yield* RateLimits.make
    const caller = Caller.make(yield* TokenHttp, calTime, rateLimits, yield* Departure.make, yield* Tried.make(apiUrl))

    const managed = Clients.map(Clients.make(options.managed, options.others?.managed), withManagedSecrets(options))
    const oauth2 = Clients.map(Clients.make(options.oauth2, options.others?.oauth2), withOAuth2Secrets(options))

    const fingerprint = (clientId: string, secrets: ReadonlyArray<Redacted.Redacted>) => {
      const sorted = secrets.map(Redacted.value).sort()
      return hash(Redacted.make(JSON.stringify([clientId, apiUrl, ...sorted]))).slice(0, 16)
    }
    // Each refresh asks for it.
    const fingerprints = new Map(
      [...oauth2.all.values(), ...managed.all.values()].map(({ clientId, current }) => {
        let last = current()
        let made = fingerprint(clientId, secrets({ current }))
        return [
          clientId,
          () => {
            const now = current()
            if (now !== last) made = fingerprint(clientId, secrets({ current }))
            last = now
            return made
          }
        ]
      })
    )

    const call = <Secret>(
      call: Outcome.Call,
      { secrets }: { readonly secrets: Secrets.Secrets<Secret> },
      request: (clientSecret: Secret) => HttpClientRequest.HttpClientRequest,
      expected: Caller.Expected,
      deadline?: number
    ) =>
      secrets
        .use((secret) => caller.send(call, request(secret), expected), deadline)
        .pipe(
          Effect.flatMap((reply) => caller.grant(call, reply, expected)),
          Caller.span(call)
        )

    const refresh: Service["refresh"] = (connection, refreshToken, { deadline, ...kept } = {}) => {
      const { clientId } = connection
      const expected = { ...expectedOf(connection, kept), sent: refreshToken }
      if (connection._tag === "ManagedUser") {
        const client = managed.all.get(clientId)
        return client === undefined
          ? Effect.fail(Outcome.notConfigured(clientId))
          : call(
              { operation: "refresh", clientId, secrets: secrets(client, refreshToken) },
              client,
              (clientSecret) => Requests.refreshManaged(apiUrl, { clientId, clientSecret }, refreshToken),
              expected,
              deadline
            )
      }
      const client = oauth2.all.get(clientId)
      return client === undefined
        ? Effect.fail(Outcome.notConfigured(clientId))
        : call(
            { operation: "refresh", clientId, secrets: secrets(client, refreshToken) },
            client,
            (clientSecret) => Requests.refreshOAuth2(apiUrl, { clientId, clientSecret }, refreshToken),
            expected,
            deadline
          )
    }

    const reissue: Service["reissue"] = (user, { deadline, ...kept } = {}) => {
      const { calUserId, clientId } = user
      const client = managed.all.get(clientId)
      return client === undefined
        ? Effect.fail(Outcome.notConfigured(clientId))
        : call(
            { operation: "reissue", clientId, secrets: secrets(client) },
            client,
            (clientSecret) => Requests.reissue(apiUrl, { clientId, clientSecret }, calUserId),
            expectedOf(user, kept),
            deadline
          )
    }

    const exchange: Service["exchange"] = ({ code, codeVerifier, ...named }) =>
      Effect.gen(function* () {
        const chosen = yield* oauth2.choose(named.clientId)
        const client = yield* configured(Option.getOrUndefined(chosen), "no OAuth2 client is configured")
        const { clientId } = client
        const redirectUrl = yield* configured(client.redirectUrl, "no redirect URL of the OAuth2 client is configured")
        if (client.clientSecret === undefined && codeVerifier === undefined) {
          return yield* new InvalidInput({ field: "codeVerifier", expected: "is required for a public client" })
        }
        return yield* call(
          { operation: "exchange", clientId, secrets: secrets(client, code, codeVerifier) },
          client,
          (clientSecret) => Requests.exchange(apiUrl, { clientId, clientSecret, redirectUrl }, code, codeVerifier),
          { kind: "oauth2", clientId }
        ).pipe(Effect.mapError(({ error }) => error))
      })

    const createManagedUser: Service["createManagedUser"] = (user, named) =>
      Effect.gen(function* () {
        const chosen = yield* managed.choose(named)
        const client = yield* configured(Option.getOrUndefined(chosen), "no platform client is configured")
        const { clientId } = client
        const details: Outcome.Call = { operation: "createManagedUser", clientId, secrets: secrets(client) }
        const created = Effect.gen(function* () {
          const expected = { kind: "managed", clientId } as const
          const reply = yield* client.secrets.use((clientSecret) =>
            caller.send(details, Requests.createManagedUser(apiUrl, { clientId, clientSecret }, user), expected)
          )
          const existing = Wire.existingUserId(reply)
          if (Option.isSome(existing)) return { _tag: "Exists" as const, calUserId: existing.value }
          const named = TokenAnswer.createdUserId(Redacted.value(reply.body))
          const { calUserId = named, pair } = yield* caller.grant(details, reply, { ...expected, calUserId: named })
          // Without its number there is no account to store the pair for; the next call finds it by its e-mail address.
          if (calUserId === undefined) return yield* noUserId(details)
          return { _tag: "Created" as const, calUserId, pair }
        })
        return yield* Effect.mapError(Caller.span(details)(created), ({ error }) => error)
      })

    const me: Service["me"] = (accessToken) => {
      const details: Outcome.Call = { operation: "me", clientId: noClient, secrets: [accessToken] }
      return caller.send(details, Requests.me(apiUrl, accessToken)).pipe(
        Effect.mapError(({ error }) => error),
        Effect.flatMap((reply) =>
          Effect.gen(function* () {
            // Here a 401 is about the user's token, and nothing is spent.
            const text = Transport.textOf(reply)
            if (reply.status < 200 || reply.status >= 300) {
              return yield* Outcome.toError(details, reply, Wire.errorBody(text))
            }
            if (!reply.isWhole) return yield* Outcome.brokenOff(details, reply.status).error
            return yield* Effect.mapError(Wire.profile(text), (issue) => Outcome.undecodable(details, issue))
          })
        ),
        Caller.span(details)
      )
    }

    return {
      apiUrl,
      clients: {
        managed: Clients.map(managed, Struct.pick("clientId")),
        oauth2: Clients.map(oauth2, (client) => ({
          ...Struct.omit(client, "clientSecret", "current", "secrets"),
          isPublic: client.clientSecret === undefined
        }))
      },
      now: calTime.now,
      unsafeTimeOffset: calTime.unsafeOffset,
      observeDate: calTime.observe,
      rateLimit: rateLimits.get,
      budgets: Effect.forEach(
        [
          ...Array.from(managed.all.keys(), (clientId) => ({ kind: "managed" as const, clientId })),
          ...Array.from(oauth2.all.keys(), (clientId) => ({ kind: "oauth2" as const, clientId }))
        ],
        (client) =>
          Effect.map(
            rateLimits.budget(client.clientId),
            Option.map((budget) => ({ ...client, ...budget }))
          )
      ).pipe(Effect.map((all) => all.flatMap(Option.toArray))),
      refresh,
      reissue,
      fingerprint: (clientId) => fingerprints.get(clientId)?.() ?? fingerprint(clientId, []),
      exchange,
      createManagedUser,
      me
    }
  })

/** What an answer about a connection is judged by. */
const expectedOf = (connection: Connection, kept: TokenAnswer.Kept = {}): Caller.Expected => ({
  ...kept,
  kind: connection._tag === "ManagedUser" ? "managed" : "oauth2",
  clientId: connection.clientId,
  calUserId: connection.calUserId
})

/**
 * Reads an answer that was kept because no pair was found in it: a later version of this program may find one. `at` is
 * when it came, in milliseconds; `sent` the token that was spent for it, where that is still known.
 *
 * @since 0.1.0
 * @category conversions
 */
export const readAgain = (
  connection: Connection,
  bytes: TokenAnswer.Unread["bytes"],
  { at, sent, ...kept }: TokenAnswer.Kept & { readonly at: number; readonly sent?: Redacted.Redacted | undefined }
): Option.Option<TokenAnswer.Grant> => {
  const context = { ...expectedOf(connection, kept), sent, issuedAt: at, isWhole: true }
  const reading = TokenAnswer.read(Redacted.value(bytes), context)
  // What it held besides a new refresh token was taken when it came.
  return reading._tag === "Granted" && reading.grant.news !== "accessToken" ? Option.some(reading.grant) : Option.none()
}

const noUserId = (call: Outcome.Call) =>
  Effect.fail(Outcome.CallFailure.Unknown({ error: Outcome.undecodable(call, "data.user.id is missing") }))

/** With its secrets as they are now. */
const withManagedSecrets =
  ({ secretOf }: Requests.Options) =>
  (client: Requests.ManagedClient) => {
    const current = Secrets.lists(() => secretOf?.(client.clientId) ?? client.clientSecret)
    return { ...client, current, secrets: Secrets.make<Redacted.Redacted>(client.clientId, current) }
  }

const withOAuth2Secrets =
  ({ secretOf }: Requests.Options) =>
  (client: Requests.OAuth2Client) => {
    const { clientId, clientSecret } = client
    // A public client stays one.
    const current = Secrets.lists(() =>
      clientSecret === undefined ? undefined : (secretOf?.(clientId) ?? clientSecret)
    )
    return { ...client, current, secrets: Secrets.make<Redacted.Redacted | undefined>(clientId, current) }
  }

/** What no error of a call may show. */
const secrets = (
  { current }: { readonly current: () => ReadonlyArray<Redacted.Redacted | undefined> },
  ...others: ReadonlyArray<Redacted.Redacted | undefined>
): ReadonlyArray<Redacted.Redacted> => [...current(), ...others].filter(Predicate.isNotUndefined)

const configured = <A>(value: A | undefined, reason: string) =>
  value === undefined ? Effect.fail(new CalClientMisconfigured({ clientId: noClient, reason })) : Effect.succeed(value)

/**
 * The client, with its secret header masked in everything that renders headers within the layer's reach.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (options: Requests.Options): Layer.Layer<CalClient, never, TokenHttp> =>
  Layer.scoped(
    CalClient,
    Effect.zipRight(
      Effect.locallyScopedWith(Headers.currentRedactedNames, (names) => [...names, ...Transport.secretHeaders]),
      make(options)
    )
  )

/**
 * The client, with its options from configuration.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerConfig = (
  config: Config.Config.Wrap<Requests.Options>
): Layer.Layer<CalClient, ConfigError.ConfigError, TokenHttp> =>
  Layer.unwrapEffect(Effect.map(Config.unwrap(config), layer))
