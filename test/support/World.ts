/** A whole deployment in one process: the service on memory storage, against the sandbox, on the test clock. */
import { type Context, Effect, Exit, Fiber, Layer, Redacted, Scope, TestClock } from "effect"
import { Schema } from "effect"
import * as CalClient from "../../src/CalClient.js"
import * as CalTokens from "../../src/CalTokens.js"
import * as Sandbox from "../../src/Sandbox.js"
import { UserUlid } from "../../src/Token.js"
import * as TokenConfig from "../../src/TokenConfig.js"
import * as TokenStorage from "../../src/TokenStorage.js"

/** When tests begin: a full minute, so that Cal.com's flooring does not shorten lifetimes. */
export const epoch = Date.UTC(2026, 0, 15, 12, 0, 0)

export const apiUrl = "https://api.cal.com/v2"

export const user = (n = 1) => Schema.decodeSync(UserUlid)(`01ARZ3NDEKTSV4RRFFQ69G${String(n).padStart(4, "0")}`)

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
    redirectUrl: Sandbox.demoOAuth2.redirectUris[0]
  }
})

export const clientLayer = CalClient.layer(clientOptions()).pipe(Layer.provide(Sandbox.layerHttpClient))

/** One process of the service over the storage and the sandbox around it. */
export const node = (config: Partial<TokenConfig.Options> = {}) =>
  CalTokens.layer.pipe(Layer.provideMerge(clientLayer), Layer.provide(TokenConfig.layer(config)))

export type World = CalTokens.CalTokens | CalClient.CalClient | Sandbox.Sandbox | TokenStorage.TokenStorage

export const layer = (options?: {
  readonly config?: Partial<TokenConfig.Options>
  readonly sandbox?: Sandbox.Options
}): Layer.Layer<World> =>
  Layer.unwrapEffect(
    Effect.as(
      TestClock.setTime(epoch),
      node(options?.config).pipe(
        Layer.provideMerge(TokenStorage.layerMemory),
        Layer.provideMerge(Sandbox.layer(options?.sandbox))
      )
    )
  )

/** A second (third, …) process over the same storage and sandbox. Closed by the scope, or by the function returned. */
export const anotherNode = (config: Partial<TokenConfig.Options> = {}) =>
  Effect.gen(function* () {
    const scope = yield* Effect.acquireRelease(Scope.make(), (scope) => Scope.close(scope, Exit.void))
    const context: Context.Context<CalTokens.CalTokens | CalClient.CalClient> = yield* Layer.buildWithScope(
      node(config),
      scope
    )
    const tokens = Effect.runSync(Effect.provide(CalTokens.CalTokens, context))
    return { tokens, stop: Scope.close(scope, Exit.void) }
  })

/** A managed user of the sandbox, connected. */
export const connectManaged = (userUlid: UserUlid = user(), email = `${userUlid.toLowerCase()}@example.com`) =>
  Effect.gen(function* () {
    const sandbox = yield* Sandbox.Sandbox
    const tokens = yield* CalTokens.CalTokens
    const grant = yield* sandbox.grantManaged({ email })
    yield* tokens.connect(userUlid, { _tag: "ManagedUser", calUserId: grant.calUserId }, grant)
    return grant
  })

/** An OAuth2 user of the sandbox, connected. */
export const connectOAuth2 = (userUlid: UserUlid = user(), email = `${userUlid.toLowerCase()}@example.com`) =>
  Effect.gen(function* () {
    const sandbox = yield* Sandbox.Sandbox
    const tokens = yield* CalTokens.CalTokens
    const grant = yield* sandbox.grantOAuth2({ email })
    const accessTokenExpiresAt = (yield* sandbox.now) + grant.expiresIn * 1000
    yield* tokens.connect(userUlid, { _tag: "OAuth2", calUserId: grant.calUserId }, { ...grant, accessTokenExpiresAt })
    return { ...grant, accessTokenExpiresAt }
  })

/** Runs an effect while the clock moves in small steps, until it ends or `atMost` has passed. */
export const passTime = <A, E, R>(effect: Effect.Effect<A, E, R>, atMost: number, step = 100) =>
  Effect.gen(function* () {
    const fiber = yield* Effect.fork(effect)
    for (let passed = 0; passed < atMost && fiber.unsafePoll() === null; passed += step) yield* TestClock.adjust(step)
    return yield* Fiber.join(fiber)
  })

export const reveal = (token: Redacted.Redacted) => Redacted.value(token)
