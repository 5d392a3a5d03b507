/**
 * A simulator of Cal.com's API v2, as far as tokens and what they open are concerned: for tests, for demonstrations, and
 * for working without a Cal.com account. It runs on Effect's `Clock`, and serves the same behaviour over HTTP (`app`)
 * and inside the process (`layerHttpClient`).
 */
import { HttpClient, type HttpApp } from "@effect/platform"
import { Clock, Context, Duration, Effect, Layer, Redacted, Ref } from "effect"
import * as HttpClients from "./CalHttp/HttpClients.js"
import { type Call, make as makeCalls } from "./Sandbox/Calls.js"
import { type ManagedClient, make as makeClients, type OAuth2Client } from "./Sandbox/Clients.js"
import { Fault, makeQueue, type Target } from "./Sandbox/Faults.js"
import * as InProcess from "./Sandbox/InProcess.js"
import { type Kind } from "./Sandbox/Kind.js"
import { type Name as OddAnswer } from "./Sandbox/OddAnswers.js"
import * as RateLimit from "./Sandbox/RateLimit.js"
import * as Server from "./Sandbox/Server.js"
import { make as makeStore, removeAll, Snapshot, type User } from "./Sandbox/Store.js"
import { defaults, type Switches } from "./Sandbox/Switches.js"
import * as Tokens from "./Sandbox/Tokens.js"
import * as Users from "./Sandbox/Users.js"
import { type World } from "./Sandbox/World.js"

export { demoManaged, demoOAuth2 } from "./Sandbox/Clients.js"
export { names as oddAnswers } from "./Sandbox/OddAnswers.js"
export { defaults as defaultSwitches } from "./Sandbox/Switches.js"
export { Fault, Snapshot }
export type { Call, Kind, ManagedClient, OAuth2Client, OddAnswer, Switches, Target }

/**
 * Who is known to the simulator, and which Cal.com it is.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /** Platform clients; default `demoManaged`. */
  readonly managed?: ManagedClient | ReadonlyArray<ManagedClient> | undefined
  /** OAuth2 clients; default `demoOAuth2`. */
  readonly oauth2?: OAuth2Client | ReadonlyArray<OAuth2Client> | undefined
  /**
   * An exact lifetime for both kinds of access token. Default: Cal.com's own, 60 minutes floored to the minute for
   * managed users and 30 minutes for OAuth2.
   */
  readonly accessTokenLifetime?: Duration.DurationInput | undefined
  /** Changes to `Switches` from the start. */
  readonly switches?: Partial<Switches> | undefined
  /** Where an earlier simulator stopped. */
  readonly initial?: Snapshot | undefined
}

/**
 * Somebody at Cal.com: the one with this id, else the one with this email address, else a new one.
 *
 * @since 0.1.0
 * @category models
 */
export interface Person extends Partial<Users.Profile> {
  readonly calUserId?: number | undefined
  /** Whose user; default: the first client of the kind. */
  readonly clientId?: string | undefined
}

/**
 * The tokens of a managed user.
 *
 * @since 0.1.0
 * @category models
 */
export interface ManagedGrant {
  readonly calUserId: number
  readonly accessToken: Redacted.Redacted
  readonly refreshToken: Redacted.Redacted
  /** Milliseconds since the epoch. */
  readonly accessTokenExpiresAt: number
  readonly refreshTokenExpiresAt: number
}

/**
 * The tokens of somebody who consented.
 *
 * @since 0.1.0
 * @category models
 */
export interface OAuth2Grant {
  readonly calUserId: number
  readonly accessToken: Redacted.Redacted
  readonly refreshToken: Redacted.Redacted
  /** Seconds. */
  readonly expiresIn: number
  /** Space-separated. */
  readonly scope: string
}

/**
 * The simulator's handle: its HTTP application, and what a test may do and read.
 *
 * @since 0.1.0
 * @category tags
 */
export class Sandbox extends Context.Tag("cal-tokens/Sandbox")<
  Sandbox,
  {
    /**
     * The whole HTTP surface, mountable under a prefix, with `/_control/state`, `/_control/users/{id}/expire` and
     * `/_control/odd-answers`.
     */
    readonly app: HttpApp.Default
    /** A new managed user with a pair. One who exists gets a pair as by force-refresh, which ends all earlier ones. */
    readonly grantManaged: (person?: Person) => Effect.Effect<ManagedGrant>
    /** A pair as after consent and code exchange; earlier pairs of the user stay. */
    readonly grantOAuth2: (person?: Person & { readonly scope?: string | undefined }) => Effect.Effect<OAuth2Grant>
    /** A code as the redirect after consent carries it. */
    readonly authorizationCode: (
      person?: Person & { readonly scope?: string | undefined; readonly codeChallenge?: string | undefined }
    ) => Effect.Effect<string>
    /** Managed access tokens become expired rows (498); OAuth2 ones are treated as expired JWTs (401). */
    readonly expireAccessTokens: (calUserId: number) => Effect.Effect<void>
    readonly revokeRefreshTokens: (calUserId: number) => Effect.Effect<void>
    readonly deleteUser: (calUserId: number) => Effect.Effect<void>
    /** Would this refresh token be accepted now? */
    readonly isLive: (refreshToken: Redacted.Redacted | string) => Effect.Effect<boolean>
    readonly isAccessLive: (accessToken: Redacted.Redacted | string) => Effect.Effect<boolean>
    /** The last requests that reached Cal.com, in the order in which they were answered. */
    readonly calls: Effect.Effect<ReadonlyArray<Call>>
    /** How many there were since the start or `resetCalls`. */
    readonly count: (kind: Kind, calUserId?: number) => Effect.Effect<number>
    readonly resetCalls: Effect.Effect<void>
    /** Queues a mishap. The oldest one that matches a request strikes it, one per request. */
    readonly inject: (fault: Fault) => Effect.Effect<void>
    readonly clearFaults: Effect.Effect<void>
    readonly switches: Ref.Ref<Switches>
    /** Cal.com's time: Effect's clock and the skew. */
    readonly now: Effect.Effect<number>
    /** The database as JSON, tokens and signing key in clear. */
    readonly snapshot: Effect.Effect<Snapshot>
  }
>() {}

/**
 * Without a layer.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (options: Options = {}): Effect.Effect<Sandbox["Type"]> =>
  Effect.gen(function* () {
    const switches = yield* Ref.make<Switches>({ ...defaults, ...options.switches })
    const calls = makeCalls()
    const faults = makeQueue()
    const { accessTokenLifetime } = options
    const world: World = {
      clients: makeClients(options.managed, options.oauth2),
      store: makeStore(options.initial),
      accessTokenLifetimeMillis: accessTokenLifetime === undefined ? undefined : Duration.toMillis(accessTokenLifetime)
    }
    const { store } = world
    const context = Effect.zipWith(Clock.currentTimeMillis, Ref.get(switches), (clock, switches) => ({
      clock,
      now: clock + switches.clockSkewMillis,
      switches
    }))
    const now = Effect.map(context, (context) => context.now)
    Users.seedOwner(world, yield* now)

    let people = 0
    const userFor = (person: Person, managedBy: string | null, now: number): User => {
      const { calUserId, name } = person
      const email = person.email ?? `user${++people}@sandbox.example`
      const known =
        calUserId === undefined
          ? store.userByEmail(managedBy === null ? email : Users.managedEmail(email, managedBy))
          : store.users.get(calUserId)
      return known ?? Users.create(world, { ...person, email, name: name ?? email }, managedBy, now)
    }
    const managedClient = (person: Person) => clientFor(world.clients.managed, person.clientId)
    const oauth2Client = (person: Person & { readonly scope?: string | undefined }) => {
      const client = clientFor(world.clients.oauth2, person.clientId)
      return { client, scope: person.scope?.split(/[\s,]+/).filter((scope) => scope !== "") ?? client.scopes ?? [] }
    }

    const grantManaged = (person: Person = {}) =>
      Effect.map(now, (now): ManagedGrant => {
        const { clientId } = managedClient(person)
        const user = userFor(person, clientId, now)
        const pair = Tokens.forceRefresh(world, clientId, user.id, now)
        return { calUserId: user.id, ...pair, ...redacted(pair) }
      })

    const grantOAuth2 = (person: Person & { readonly scope?: string | undefined } = {}) =>
      Effect.map(context, (context): OAuth2Grant => {
        const { client, scope } = oauth2Client(person)
        const user = userFor(person, null, context.now)
        const pair = Tokens.issueOAuth2(world, client.clientId, user.id, scope, context)
        return { calUserId: user.id, ...redacted(pair), expiresIn: pair.expiresIn, scope: scope.join(" ") }
      })

    const expireAccessTokens = (calUserId: number) =>
      Effect.map(now, (now) => {
        for (const row of store.access.ofUser(calUserId)) {
          store.validated.delete(row.token)
          if (row.expiresAt >= now) store.access.set({ ...row, expiresAt: now - 1 })
        }
        for (const row of store.stateless.ofUser(calUserId)) store.revoked.add(row.token)
      })

    const app = Server.make({ world, context, calls, faults, rateLimit: RateLimit.make(), expireAccessTokens })

    return Sandbox.of({
      app,
      grantManaged,
      grantOAuth2,
      authorizationCode: (person = {}) =>
        Effect.map(now, (now) => {
          const { client, scope } = oauth2Client(person)
          const user = userFor(person, null, now)
          return Tokens.issueCode(world, client, user.id, scope, person.codeChallenge ?? null, now)
        }),
      expireAccessTokens,
      revokeRefreshTokens: (calUserId) =>
        Effect.sync(() => {
          for (const table of [store.refresh, store.grants]) removeAll(table, table.ofUser(calUserId))
        }),
      deleteUser: (calUserId) => Effect.sync(() => store.removeUser(calUserId)),
      isLive: (refreshToken) =>
        Effect.map(context, (context) => {
          const token = plain(refreshToken)
          const row = store.refresh.get(token)
          if (row !== undefined) return Tokens.findManagedRefresh(world, row.clientId, token, context) !== undefined
          const claims = Tokens.verifyOAuth2(world, token, "Refresh Token", context.now)
          return claims !== undefined && Tokens.isStored(world, claims, context.switches.line)
        }),
      isAccessLive: (accessToken) =>
        Effect.map(now, (now) => {
          const token = plain(accessToken)
          const row = store.access.get(token)
          if (row !== undefined) return now <= row.expiresAt
          const claims = Tokens.verifyOAuth2(world, token, "Access Token", now)
          return claims !== undefined && store.users.has(claims.userId)
        }),
      calls: Effect.sync(calls.all),
      count: (kind, calUserId) => Effect.sync(() => calls.count(kind, calUserId)),
      resetCalls: Effect.sync(calls.reset),
      inject: (fault) => Effect.sync(() => faults.add(fault)),
      clearFaults: Effect.sync(() => faults.clear()),
      switches,
      now,
      snapshot: Effect.sync(store.snapshot)
    })
  })

/**
 * A simulator of its own.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (options?: Options): Layer.Layer<Sandbox> => Layer.effect(Sandbox, make(options))

/**
 * Every request of the program goes to the simulator, whatever its host and whichever client sends it.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerHttpClient: Layer.Layer<
  HttpClients.TokenHttp | HttpClients.ApiHttp | HttpClient.HttpClient,
  never,
  Sandbox
> = HttpClients.layerBoth(
  Layer.effect(
    HttpClient.HttpClient,
    Effect.map(Sandbox, (sandbox) => InProcess.make(sandbox.app))
  )
)

const clientFor = <Client>(clients: ReadonlyMap<string, Client>, clientId: string | undefined): Client => {
  const client = clientId === undefined ? clients.values().next().value : clients.get(clientId)
  if (client === undefined) throw new Error(`The sandbox has no client ${clientId ?? "of this kind"}`)
  return client
}

const redacted = ({ accessToken, refreshToken }: { readonly accessToken: string; readonly refreshToken: string }) => ({
  accessToken: Redacted.make(accessToken),
  refreshToken: Redacted.make(refreshToken)
})

const plain = (token: Redacted.Redacted | string) => (typeof token === "string" ? token : Redacted.value(token))
