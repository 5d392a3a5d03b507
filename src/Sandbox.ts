/**
 * A simulator of Cal.com's API v2, as far as tokens and what they open are concerned: for tests, for demonstrations, and
 * for working without a Cal.com account. It runs on Effect's `Clock`, and serves the same behaviour over HTTP (`app`)
 * and inside the process (`layerHttpClient`).
 */
import { HttpClient, type HttpApp } from "@effect/platform"
import { Clock, Context, Duration, Effect, Layer, Option, Redacted, Ref, type Scope } from "effect"
import * as HttpClients from "./CalHttp/HttpClients.js"
import { eventTypeIdOf } from "./Sandbox/ApiRoutes.js"
import { type Call, make as makeCalls } from "./Sandbox/Calls.js"
import { type ManagedClient, make as makeClients, type OAuth2Client } from "./Sandbox/Clients.js"
import { Fault, makeQueue, type Target } from "./Sandbox/Faults.js"
import { type ManagedGrant, type OAuth2Grant, type Person, type PlainGrant } from "./Sandbox/Grants.js"
import * as InProcess from "./Sandbox/InProcess.js"
import { type Kind } from "./Sandbox/Kind.js"
import * as Listener from "./Sandbox/Listener.js"
import { ListenError, type ListenOptions } from "./Sandbox/Listener.js"
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
export { Fault, ListenError, Snapshot }
export type {
  Call,
  Kind,
  ListenOptions,
  ManagedClient,
  ManagedGrant,
  OAuth2Client,
  OAuth2Grant,
  OddAnswer,
  Person,
  PlainGrant,
  Switches,
  Target
}

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
 * The simulator's handle: its HTTP application, and what a test may do and read.
 *
 * @since 0.1.0
 * @category tags
 */
export class Sandbox extends Context.Tag("cal-tokens/Sandbox")<
  Sandbox,
  {
    /**
     * The whole HTTP surface, mountable under a prefix, with `/_control`, by which everything here can be done over HTTP
     * (`src/Sandbox/README.md`). Whoever reaches it is in control.
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
    /** The number of whoever is named by it, or by the address that they were made with. None: nobody here is. */
    readonly find: (name: number | string) => Effect.Effect<Option.Option<number>>
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
    const initialSwitches: Switches = { ...defaults, ...options.switches }
    const switches = yield* Ref.make(initialSwitches)
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
        return {
          connection: { _tag: "ManagedUser", clientId, calUserId: user.id },
          calUserId: user.id,
          eventTypeId: eventTypeIdOf(user),
          ...pair,
          ...redacted(pair)
        }
      })

    const grantOAuth2 = (person: Person & { readonly scope?: string | undefined } = {}) =>
      Effect.map(context, (context): OAuth2Grant => {
        const { client, scope } = oauth2Client(person)
        const user = userFor(person, null, context.now)
        const { expiresIn, ...pair } = Tokens.issueOAuth2(world, client.clientId, user.id, scope, context)
        const granted = scope.join(" ")
        return {
          connection: { _tag: "OAuth2", clientId: client.clientId, calUserId: user.id, scope: granted },
          calUserId: user.id,
          eventTypeId: eventTypeIdOf(user),
          ...redacted(pair),
          accessTokenExpiresAt: context.now + expiresIn * 1000,
          expiresIn,
          scope: granted
        }
      })

    const expireAccessTokens = (calUserId: number) =>
      Effect.map(now, (now) => {
        for (const row of store.access.ofUser(calUserId)) {
          store.validated.delete(row.token)
          if (row.expiresAt >= now) store.access.set({ ...row, expiresAt: now - 1 })
        }
        for (const row of store.stateless.ofUser(calUserId)) store.revoked.add(row.token)
      })

    const revokeRefreshTokens = (calUserId: number) =>
      Effect.sync(() => {
        for (const table of [store.refresh, store.grants]) removeAll(table, table.ofUser(calUserId))
      })

    const authorizationCode: Sandbox["Type"]["authorizationCode"] = (person = {}) =>
      Effect.map(now, (now) => {
        const { client, scope } = oauth2Client(person)
        const user = userFor(person, null, now)
        return Tokens.issueCode(world, client, user.id, scope, person.codeChallenge ?? null, now)
      })

    const handle = {
      grantManaged,
      grantOAuth2,
      authorizationCode,
      expireAccessTokens,
      revokeRefreshTokens,
      deleteUser: (calUserId: number) => Effect.sync(() => store.removeUser(calUserId)),
      switches
    }
    const controls = { ...handle, initialSwitches }
    const app = Server.make({ world, context, calls, faults, rateLimit: RateLimit.make(), controls })

    return Sandbox.of({
      ...handle,
      app,
      find: (name) => Effect.sync(() => Option.map(Option.fromNullable(Users.find(world, name)), ({ id }) => id)),
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
      inject: (fault) => Effect.map(Clock.currentTimeMillis, (now) => faults.add(fault, now)),
      clearFaults: Effect.sync(() => faults.clear()),
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

/**
 * Serves the simulator on a port until the scope is closed, and answers where: `http://127.0.0.1:49152`, below which is
 * `/v2`. A `port` of 0, the default, takes any free one; `host` is by default this machine alone. Fails
 * with `ListenError` where that cannot be.
 *
 * @since 0.1.0
 * @category running
 */
export const listen = (options?: ListenOptions): Effect.Effect<string, ListenError, Sandbox | Scope.Scope> =>
  Effect.flatMap(Sandbox, ({ app }) => Listener.listen(app, options))

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
