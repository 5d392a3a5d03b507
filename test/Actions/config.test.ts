/** The numbers of the refresh rules as options, refreshes ahead, and the status that a route should answer. */
import { assert, describe, it, vi } from "@effect/vitest"
import { Duration, Effect, Layer } from "effect"
import * as Actions from "../../src/Actions.js"
import * as Failure from "../../src/Actions/Failure.js"
import * as Numbers from "../../src/Actions/Numbers.js"
import * as CalApi from "../../src/CalApi.js"
import * as CalClient from "../../src/CalClient.js"
import * as CalTokens from "../../src/CalTokens.js"
import { facts } from "../../src/ErrorFacts.js"
import * as Sandbox from "../../src/Testing.js"
import type * as Token from "../../src/Token.js"
import { TokenConfig } from "../../src/TokenConfig.js"
import * as TokenErrors from "../../src/TokenError.js"
import { layerMemory } from "../../src/TokenStorage/Memory.js"
import { accessToken, fakes, user, valid } from "../support/ActionsFakes.js"

/** What the layers were built with. */
const built = async (config: Actions.Config, around: Layer.Layer<never> = Layer.empty) => {
  let seen: (typeof TokenConfig)["Service"] | undefined
  const look = Layer.effectDiscard(Effect.map(TokenConfig, (config) => (seen = config)))
  const { layer } = fakes({ ensureValid: () => Effect.succeed(valid(accessToken)) })
  const cal = Actions.make({ layer: Layer.provide(Layer.merge(layer, look), around), config })
  assert.deepInclude(await cal.ensureValidCalToken(user), { success: true })
  await cal.dispose()
  assert(seen !== undefined)
  return seen
}

describe("config", () => {
  it("changes what it names, in plain units, and leaves all else", async () => {
    const standard = await built({})
    const changed = await built({
      cooldownWindow: "1 minute",
      maxAttempts: 5,
      memoryMaxAge: 250,
      backgroundReserve: 0,
      windows: { soon: "4 minutes", dueFraction: 0.05 },
      lease: undefined
    })
    assert.deepStrictEqual(changed, {
      ...standard,
      cooldownWindow: Duration.minutes(1),
      maxAttempts: 5,
      memoryMaxAge: Duration.millis(250),
      backgroundReserve: 0,
      windows: { ...standard.windows, soon: Duration.minutes(4), dueFraction: 0.05 }
    })
  })

  it("holds in what is built: a cooldown of one attempt is over after one", async () => {
    for (const [config, expected] of [
      [{}, true],
      [{ maxAttempts: 1, cooldownWindow: "10 minutes" }, false]
    ] as const) {
      const cal = Actions.make({ layer: simulated(), config })
      assert.deepInclude(await cal.refreshUserCalTokens(user, true), { success: true, refreshed: true })
      assert.deepInclude(await cal.refreshUserCalTokens(user, true), { success: true, refreshed: expected })
      await cal.dispose()
    }
  })

  for (const [config, line] of [
    [7, /^config must be an object$/],
    [{ cooldownWindow: "soon" }, /^config\.cooldownWindow must be a duration, such as "30 seconds" or 30000/],
    [{ cooldownWindow: -1 }, /^config\.cooldownWindow must be a duration/],
    [{ lease: "Infinity" }, /^config\.lease must be a duration/],
    [{ lease: Infinity }, /^config\.lease must be a duration/],
    [{ maxAttempts: 0 }, /^config\.maxAttempts must be a whole number, 1 or more$/],
    [{ maxAttempts: 1.5 }, /^config\.maxAttempts must be a whole number/],
    [{ aheadSpread: 25 }, /^config\.aheadSpread must be a number from 0 to 1$/],
    [{ cooldownWindw: 1 }, /^config has no cooldownWindw: src\/TokenConfig\.ts lists them$/],
    [{ __proto__: null, constructor: 1 }, /^config has no constructor/],
    [{ windows: 5 }, /^config\.windows must be an object$/],
    [{ windows: { son: 5 } }, /^config\.windows has no son/],
    [{ windows: { due: "soon" } }, /^config\.windows\.due must be a duration/],
    [{ windows: { due: "6 minutes" } }, /^config\.windows\.due must not be longer than config\.windows\.soon$/],
    [{ attemptTimeout: "1 minute" }, /^config\.attemptTimeout must be shorter than config\.lease$/],
    [{ backoffMin: "2 minutes" }, /^config\.backoffMin must not be longer than config\.backoffMax$/]
  ] as const) {
    it(`that makes no sense is told in one line: ${JSON.stringify(config)}`, async ({ onTestFinished }) => {
      const log = vi.spyOn(globalThis.console, "log").mockImplementation(() => {})
      onTestFinished(() => log.mockRestore())
      const { layer } = fakes({ ensureValid: () => Effect.succeed(valid(accessToken)) })
      const cal = Actions.make({ layer, config: config as never })
      assert.deepInclude(await cal.ensureValidCalToken(user), { code: "StartFailed", httpStatus: 503 })
      assert.strictEqual(log.mock.calls.length, 1)
      const [, message = ""] =
        /message="?ensureValidCalToken failed: (.*?)"? \w+=/.exec(String(log.mock.calls[0])) ?? []
      assert.match(message.replaceAll("\\", ""), line)
      await cal.dispose()
    })
  }

  it("is the same for the same numbers, however they are written", () => {
    const keyOf = (config: Actions.Config) => {
      const numbers = Numbers.decode(config)
      assert(numbers._tag === "Right")
      return Numbers.keyOf(numbers.right)
    }
    const one = keyOf({ maxAttempts: 5, windows: { soon: "4 minutes", due: "1 minute" }, lease: "31 seconds" })
    assert.strictEqual(keyOf({ lease: 31_000, windows: { due: 60_000, soon: 240_000 }, maxAttempts: 5 }), one)
    assert.notStrictEqual(keyOf({ lease: 31_001, windows: { due: 60_000, soon: 240_000 }, maxAttempts: 5 }), one)
    assert.strictEqual(keyOf({}), keyOf({ windows: {}, lease: undefined }))
  })
})

/** A connected user over the simulator, by whatever numbers are in force. */
const simulated = () =>
  Layer.effectDiscard(Sandbox.connectManaged(user)).pipe(
    Layer.provideMerge(CalApi.layer),
    Layer.provideMerge(CalTokens.layer),
    Layer.provide(CalClient.layer({ apiUrl: "https://api.cal.com/v2", managed: Sandbox.demoManaged })),
    Layer.provide([layerMemory, Sandbox.layerHttpClient]),
    Layer.provideMerge(Sandbox.layer())
  )

describe("refreshAhead", () => {
  /** Counts how often somebody looks for what is due, and opens at the third look. */
  const watched = () => {
    const limits: Array<number> = []
    const latch = Effect.unsafeMakeLatch(false)
    const { layer } = fakes({
      ensureValid: () => Effect.succeed(valid(accessToken)),
      refreshDue: (limit) =>
        Effect.sync(() => {
          if (limits.push(limit) === 3) latch.unsafeOpen()
          return { begun: [], isMore: false }
        })
    })
    return { layer, limits, third: () => Effect.runPromise(latch.await) }
  }
  const config = { aheadInterval: "5 millis", aheadConcurrency: 2 } as const

  it("looks for what is due from the first call until it is disposed of, by the numbers of `config`", async () => {
    const [on, off] = [watched(), watched()]
    const without = Actions.make({ layer: off.layer, config })
    const withIt = Actions.make({ layer: on.layer, config, refreshAhead: true })
    assert.deepStrictEqual(on.limits, [])
    await without.ensureValidCalToken(user)
    await withIt.ensureValidCalToken(user)
    await on.third()
    await withIt.dispose()
    const looks = on.limits.length
    assert.deepStrictEqual([...new Set(on.limits)], [2])
    // Had it one, too, it would have looked by now, and this one would look again.
    const [another, again] = [watched(), Actions.make({ layer: on.layer, config })]
    const clock = Actions.make({ layer: another.layer, config, refreshAhead: true })
    await again.ensureValidCalToken(user)
    await clock.ensureValidCalToken(user)
    await another.third()
    assert.deepStrictEqual([on.limits.length, off.limits.length], [looks, 0])
    await Promise.all([without.dispose(), again.dispose(), clock.dispose()])
  })
})

describe("sweepCalTokens", () => {
  /** Whose token expired a moment ago is due at once. */
  const expired = Layer.effectDiscard(
    Effect.gen(function* () {
      const grant = yield* Sandbox.connectManaged(user)
      const { now } = yield* Sandbox.Sandbox
      const tokens = yield* CalTokens.CalTokens
      yield* tokens.update(user as Token.UserUlid, { ...grant, accessTokenExpiresAt: (yield* now) - 1 })
    })
  )

  it("refreshes what is due, asks nobody, and says what came of it", async () => {
    const layer = Layer.provideMerge(expired, simulated())
    const cal = Actions.make({ layer, authorize: () => assert.fail("it concerns nobody") })
    for (const refreshed of [1, 0]) {
      assert.deepStrictEqual(await cal.sweepCalTokens(), { success: true, refreshed, failed: 0 })
    }
    await cal.dispose()
  })

  it("fails as the others do", async () => {
    const error = new TokenErrors.StorageUnavailable({ operation: "claimDue", reason: "refused" })
    const { layer } = fakes({ refreshDue: () => Effect.fail(error) })
    const failure = await Actions.make({ layer }).sweepCalTokens()
    assert.deepInclude(failure, { code: "StorageUnavailable", httpStatus: 503 })
  })

  it("says when Cal.com's rate limit has room for the rest", async () => {
    const { layer } = fakes({
      refreshDue: () => Effect.succeed({ begun: [], isMore: false, pause: Duration.millis(41_001) })
    })
    assert.deepInclude(await Actions.make({ layer }).sweepCalTokens(), { refreshed: 0, resumeIn: 42 })
  })
})

describe("httpStatus", () => {
  const userUlid = user as Token.UserUlid
  const retryAfter = Duration.seconds(7)

  const errors: { readonly [T in TokenErrors.TokenError["_tag"]]: Extract<TokenErrors.TokenError, { _tag: T }> } = {
    InvalidInput: new TokenErrors.InvalidInput({ field: "x", expected: "must be" }),
    TokensNotFound: new TokenErrors.TokensNotFound({ userUlid }),
    NotManagedUser: new TokenErrors.NotManagedUser({ userUlid }),
    CalAccountInUse: new TokenErrors.CalAccountInUse({ userUlid }),
    ReauthorizationRequired: new TokenErrors.ReauthorizationRequired({ userUlid, cause: "revoked", since: 0 }),
    RefreshCoolingDown: new TokenErrors.RefreshCoolingDown({ userUlid, retryAfter }),
    CalRateLimited: new TokenErrors.CalRateLimited({ operation: "x", retryAfter }),
    CalUnavailable: new TokenErrors.CalUnavailable({ operation: "x", reason: "x", status: 500 }),
    CalRequestRejected: new TokenErrors.CalRequestRejected({ operation: "x", reason: "x", status: 403 }),
    CalProtocolError: new TokenErrors.CalProtocolError({ operation: "x", issue: "x" }),
    CalClientMisconfigured: new TokenErrors.CalClientMisconfigured({ clientId: "x", reason: "x" }),
    StorageUnavailable: new TokenErrors.StorageUnavailable({ operation: "x", reason: "x" }),
    TokenUnreadable: new TokenErrors.TokenUnreadable({ userUlid, reason: "x" })
  }

  it("is what the HTTP service answers for the same failure, and not Cal.com's status", () => {
    for (const error of Object.values(errors)) {
      assert.strictEqual(Failure.fromError(error).httpStatus, facts[error._tag].status, error._tag)
    }
    assert.deepInclude(Failure.fromError(errors.CalRequestRejected), { status: 403, httpStatus: 502 })
    assert.deepInclude(Failure.fromError(errors.CalRateLimited), { status: 429, httpStatus: 429, retryAfter: 7 })
    const tooLarge = new TokenErrors.InvalidInput({ field: "x", expected: "must be small", tooLarge: true })
    assert.deepInclude(Failure.fromError(tooLarge), { code: "InvalidInput", httpStatus: 413 })
  })

  it.each([
    [400, 400],
    [401, 502],
    [403, 502],
    [404, 404],
    [405, 502],
    [409, 409],
    [410, 410],
    [413, 502],
    [422, 422],
    [498, 502]
  ])("of what Cal.com refused with %i is %i: its own where it is about what was asked", (status, httpStatus) => {
    const refused = new TokenErrors.CalRequestRejected({ operation: "x", reason: "x", status })
    assert.deepInclude(Failure.fromError(refused), { status, httpStatus })
  })

  it("is there for what goes wrong in the door itself", () => {
    const { forbidden, internalError, shuttingDown, startFailed, unauthorized } = Failure
    assert.deepStrictEqual(
      [forbidden, internalError, shuttingDown, startFailed, unauthorized].map(({ httpStatus }) => httpStatus),
      [403, 500, 503, 503, 401]
    )
  })
})
