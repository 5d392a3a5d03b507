/** A whole deployment in one process: the service on memory storage, against the sandbox, on the test clock. */
import { randomUUID } from "node:crypto"
import { it } from "@effect/vitest"
import {
  Clock,
  Context,
  Duration,
  Effect,
  ExecutionStrategy,
  Exit,
  Layer,
  Option,
  Redacted,
  Schema,
  Scope,
  TestClock,
  type TestServices
} from "effect"
import * as CalApi from "../../src/CalApi.js"
import * as CalClient from "../../src/CalClient.js"
import * as CalTokens from "../../src/CalTokens.js"
import * as Sandbox from "../../src/Sandbox.js"
import { hash, UserUlid } from "../../src/Token.js"
import * as TokenConfig from "../../src/TokenConfig.js"
import type * as TokenInput from "../../src/TokenInput.js"
import * as TokenStorage from "../../src/TokenStorage.js"
import * as StorageTap from "./StorageTap.js"
import { passTime, quicken } from "./TestTime.js"

export { turn } from "./SandboxWorld.js"
export * from "./TestTime.js"

/** When tests begin: a full minute, so that Cal.com's flooring does not shorten lifetimes. */
export const epoch = Date.UTC(2026, 0, 15, 12, 0, 0)

export const apiUrl = "https://api.cal.com/v2"

/** What people are asked to allow. */
export const scopes = ["BOOKING_READ", "PROFILE_READ"]

export const user = (n = 1) => Schema.decodeSync(UserUlid)(`01ARZ3NDEKTSV4RRFFQ69G${String(n).padStart(4, "0")}`)

export const users = (n: number) => Array.from({ length: n }, (_, i) => user(i + 1))

/** The client's options that match the sandbox's demo clients. */
export const clientOptions = (options?: { readonly managedSecret?: string }): CalClient.Options => ({
  apiUrl,
  managed: {
    clientId: Sandbox.demoManaged.clientId,
    clientSecret:
      options?.managedSecret === undefined ? Sandbox.demoManaged.clientSecret : Redacted.make(options.managedSecret)
  },
  oauth2: {
    clientId: Sandbox.demoOAuth2.clientId,
    ...(Sandbox.demoOAuth2.clientSecret === undefined ? {} : { clientSecret: Sandbox.demoOAuth2.clientSecret }),
    redirectUrl: Sandbox.demoOAuth2.redirectUris[0],
    scopes
  }
})

export const clientLayer = CalClient.layer(clientOptions()).pipe(Layer.provide(Sandbox.layerHttpClient))

/** One process of the service over the storage and the sandbox around it. */
export const node = (config: Partial<TokenConfig.Options> = {}, client: CalClient.Options = clientOptions()) =>
  CalApi.layer.pipe(
    Layer.provideMerge(CalTokens.layer),
    Layer.provideMerge(CalClient.layer(client)),
    Layer.provide(Sandbox.layerHttpClient),
    // The room for 100 000 users is laid out at once, which takes longer than most tests.
    Layer.provide(TokenConfig.layer({ memoryMaxEntries: 1000, ...config }))
  )

export type Node = CalTokens.CalTokens | CalClient.CalClient | CalApi.CalApi

export type World = Node | Sandbox.Sandbox | TokenStorage.TokenStorage | StorageTap.StorageTap

export interface Options {
  readonly config?: Partial<TokenConfig.Options>
  readonly sandbox?: Sandbox.Options
  readonly client?: CalClient.Options
  /** Around the service: a `Revalidation`, a logger. */
  readonly around?: Layer.Layer<never>
}

export const layer = (options?: Options): Layer.Layer<World> =>
  Layer.unwrapEffect(
    Effect.as(
      TestClock.setTime(epoch),
      node(options?.config, options?.client).pipe(
        Layer.provide(options?.around ?? Layer.empty),
        Layer.provideMerge(StorageTap.layer),
        Layer.provideMerge(Sandbox.layer(options?.sandbox))
      )
    )
  )

/**
 * A test in a world of its own, which is closed while time goes on: work that a shutdown waits for may need it. A
 * shutdown that gives up fails the test.
 */
export const scenario = <E>(
  name: string,
  body: Effect.Effect<void, E, World | Scope.Scope | TestServices.TestServices>,
  options: Options = {}
) => it.effect(name, () => run(body, options))

export const run = <A, E>(
  body: Effect.Effect<A, E, World | Scope.Scope | TestServices.TestServices>,
  options: Options = {}
) =>
  Effect.gen(function* () {
    yield* quicken
    const whole = yield* Scope.make()
    const others = yield* Scope.fork(whole, ExecutionStrategy.sequential)
    const context = yield* Layer.buildWithScope(layer(options), yield* Scope.fork(whole, ExecutionStrategy.sequential))
    const exit = yield* body.pipe(Effect.provide(Context.add(context, Scope.Scope, others)), Effect.exit)
    yield* passTime(Scope.close(others, exit), 120_000)
    yield* passTime(Scope.close(whole, exit), 120_000)
    return yield* exit
  })

/** A second (third, …) process over the same storage and sandbox. Closed by the scope, or by the function returned. */
export const anotherNode = (config: Partial<TokenConfig.Options> = {}, client?: CalClient.Options) =>
  Effect.gen(function* () {
    const scope = yield* Effect.acquireRelease(Scope.make(), (scope) => Scope.close(scope, Exit.void))
    const context: Context.Context<Node> = yield* Layer.buildWithScope(node(config, client), scope)
    return { tokens: Context.get(context, CalTokens.CalTokens), stop: Scope.close(scope, Exit.void) }
  })

const managedOf = (userUlid: UserUlid, email = `${userUlid.toLowerCase()}@example.com`) =>
  Effect.gen(function* () {
    const sandbox = yield* Sandbox.Sandbox
    const grant = yield* sandbox.grantManaged({ email })
    return { grant, connection: { _tag: "ManagedUser", calUserId: grant.calUserId } as const }
  })

const oauth2Of = (userUlid: UserUlid, email = `${userUlid.toLowerCase()}@example.com`) =>
  Effect.gen(function* () {
    const sandbox = yield* Sandbox.Sandbox
    const granted = yield* sandbox.grantOAuth2({ email })
    const grant = { ...granted, accessTokenExpiresAt: (yield* sandbox.now) + granted.expiresIn * 1000 }
    return { grant, connection: { _tag: "OAuth2", calUserId: granted.calUserId } as const }
  })

type Granted = { readonly grant: TokenInput.PairInput; readonly connection: CalTokens.NewConnection }

/** Hands the pair in, as somebody who has it already. */
const handIn = (userUlid: UserUlid, { connection, grant }: Granted) =>
  Effect.flatMap(CalTokens.CalTokens, (tokens) => tokens.connect(userUlid, connection, grant))

/** The service gets the pair from Cal.com itself. */
const obtain = (userUlid: UserUlid, { connection, grant: pair }: Granted) =>
  Effect.flatMap(CalTokens.CalTokens, (tokens) => tokens.connectWith(userUlid, Effect.succeed({ connection, pair })))

/** Connects a managed user of the sandbox. */
export const connectManaged = (userUlid: UserUlid = user(), email?: string) =>
  Effect.flatMap(managedOf(userUlid, email), (granted) => Effect.as(handIn(userUlid, granted), granted.grant))

/** Connects an OAuth2 user of the sandbox. */
export const connectOAuth2 = (userUlid: UserUlid = user(), email?: string) =>
  Effect.flatMap(oauth2Of(userUlid, email), (granted) => Effect.as(handIn(userUlid, granted), granted.grant))

/** The same as by creation, or by consent. */
export const obtainManaged = (userUlid: UserUlid = user()) =>
  Effect.flatMap(managedOf(userUlid), (granted) => Effect.as(obtain(userUlid, granted), granted.grant))
export const obtainOAuth2 = (userUlid: UserUlid = user()) =>
  Effect.flatMap(oauth2Of(userUlid), (granted) => Effect.as(obtain(userUlid, granted), granted.grant))

/** The two kinds of user, which the protocol treats alike as far as it can. */
export const kinds = ["managed", "oauth2"] as const

export type Kind = (typeof kinds)[number]

const connect = (kind: Kind, userUlid: UserUlid) =>
  Effect.gen(function* () {
    return kind === "managed" ? yield* connectManaged(userUlid) : yield* connectOAuth2(userUlid)
  })

/** With whom and what a test speaks about users of a kind. */
const about = (kind: Kind) =>
  Effect.gen(function* () {
    const sandbox = yield* Sandbox.Sandbox
    const call = kind === "managed" ? "refresh" : "oauth2Refresh"
    return {
      tokens: yield* CalTokens.CalTokens,
      tap: yield* StorageTap.StorageTap,
      sandbox,
      /** The call that refreshes such a user, as faults are told of it, and how often Cal.com got it. */
      refresh: { kind: call },
      refreshes: sandbox.count(call)
    } as const
  })

/** Lets time pass until an access token has so many milliseconds to live. */
const leave = (millis: number, { accessTokenExpiresAt }: { readonly accessTokenExpiresAt: number }) =>
  Effect.flatMap(Sandbox.Sandbox, ({ now }) =>
    Effect.flatMap(now, (now) => TestClock.adjust(accessTokenExpiresAt - millis - now))
  )

const withLeft = (millis: number) => (kind: Kind) => Effect.tap(connected(kind), ({ grant }) => leave(millis, grant))

/** A user whose token is fresh: `const { grant, tokens } = yield* World.connected("oauth2")`. */
export const connected = (kind: Kind) =>
  Effect.gen(function* () {
    const grant = yield* connect(kind, user())
    return { ...(yield* about(kind)), grant }
  })

/** A user whose token is refreshed behind the back of whoever asks for it. */
export const expiringSoon = withLeft(200_000)

/** A user whose token is refreshed while callers wait, and outlives their patience. */
export const due = withLeft(55_000)

/** A user whose token is dead. */
export const expired = withLeft(-60_000)

/** So many users whose tokens are dead. */
export const allExpired = (kind: Kind, n: number) =>
  Effect.gen(function* () {
    const grants = yield* Effect.forEach(users(n), (userUlid) => connect(kind, userUlid))
    for (const grant of grants.slice(-1)) yield* leave(-60_000, grant)
    return { ...(yield* about(kind)), grants }
  })

/** What a process that needs a refresh would be told about a user's row; leaves no trace in it. */
export const peek = (userUlid: UserUlid = user()) =>
  Effect.gen(function* () {
    const { raw } = yield* StorageTap.StorageTap
    const row = yield* stored(userUlid)
    const attemptId = randomUUID()
    const left = row.pair.accessTokenExpiresAt - (yield* Clock.currentTimeMillis)
    const result = yield* raw.claim({
      userUlid,
      attemptId,
      purpose: TokenStorage.Purpose.Refresh({ knownVersion: row.version }),
      lease: TokenConfig.defaults.lease,
      cooldownWindow: TokenConfig.defaults.cooldownWindow,
      maxAttempts: TokenConfig.defaults.maxAttempts,
      expiredFor: left > 0 ? undefined : Duration.millis(-left)
    })
    if (result._tag === "Claimed") {
      yield* raw.fail({ userUlid, attemptId, failure: TokenStorage.AttemptFailure.Released({ probe: result.probe }) })
    }
    return result
  })

/** The stored row; a user without one fails the test. */
export const stored = (userUlid: UserUlid = user()) =>
  Effect.flatMap(StorageTap.StorageTap, ({ raw }) => Effect.flatMap(raw.find(userUlid), identityOrDie))

const identityOrDie = <A>(option: Option.Option<A>) =>
  Option.match(option, { onNone: () => Effect.dieMessage("there is no row"), onSome: Effect.succeed })

export const reveal = (token: Redacted.Redacted) => Redacted.value(token)

/** The refresh tokens that reached Cal.com, as hashes, in their order. */
export const presented = Effect.flatMap(Sandbox.Sandbox, (sandbox) =>
  Effect.map(sandbox.calls, (calls) => calls.flatMap((call) => call.refreshTokenHash ?? []))
)

/** Whether Cal.com would take what is stored: the row's pair is the live one. */
export const isStoredPairLive = (userUlid: UserUlid = user()) =>
  Effect.gen(function* () {
    const sandbox = yield* Sandbox.Sandbox
    const { pair } = yield* stored(userUlid)
    return (yield* sandbox.isLive(pair.refreshToken)) && (yield* sandbox.isAccessLive(pair.accessToken))
  })

export const hashOf = hash
