/** Processes with different encryption keys over one database, as they are while keys are exchanged, and after a loss. */
import { assert, it } from "@effect/vitest"
import { Context, Duration, Effect, Exit, identity, Layer, type Redacted, Scope } from "effect"
import { CalTokens } from "../../src/CalTokens.js"
import * as Sandbox from "../../src/Sandbox.js"
import type { UserUlid } from "../../src/Token.js"
import * as Postgres from "../../src/TokenStorage/Postgres.js"
import { TokenStorage } from "../../src/TokenStorage.js"
import { keyOf, layerKeys } from "../support/Keys.js"
import { makeDatabase } from "../support/Postgres.js"
import * as World from "../support/World.js"

const { user } = World

const [oldKey, newKey] = [keyOf("k1", 1), keyOf("k2", 2)]

type Storage = typeof TokenStorage.Service

/** A process with these keys, which asks the storage at each call. `alter` stands between it and its storage. */
const processWith = (url: Redacted.Redacted, keys: string, alter: (storage: Storage) => Storage = identity) =>
  Effect.gen(function* () {
    const scope = yield* Scope.make()
    const stop = Scope.close(scope, Exit.void)
    yield* Effect.addFinalizer(() => Effect.ignore(stop))
    const storage = Postgres.layer().pipe(
      Layer.provide(Postgres.layerConnection({ url, poolSize: 2 })),
      Layer.provide(layerKeys(keys)),
      Layer.orDie,
      Layer.map((context) => Context.make(TokenStorage, alter(Context.get(context, TokenStorage))))
    )
    const context = yield* Layer.buildWithScope(
      Layer.provideMerge(World.node({ memoryMaxAge: Duration.zero, shutdownWait: Duration.seconds(2) }), storage),
      scope
    )
    return { storage: Context.get(context, TokenStorage), stop, tokens: Context.get(context, CalTokens) }
  })

/** Connects with a pair that Cal.com grants, which is said to be expired. */
const connect = (tokens: typeof CalTokens.Service, userUlid: UserUlid, account?: number) =>
  Effect.gen(function* () {
    const sandbox = yield* Sandbox.Sandbox
    const { calUserId, ...pair } = yield* sandbox.grantOAuth2({ calUserId: account })
    const accessTokenExpiresAt = (yield* sandbox.now) - 1000
    yield* tokens.connect(userUlid, { _tag: "OAuth2", calUserId }, { ...pair, accessTokenExpiresAt })
    return calUserId
  })

it.scopedLive("a token that was refreshed with a key this process does not have yet goes on until it expires", () =>
  Effect.gen(function* () {
    const url = yield* makeDatabase
    const { tokens: early } = yield* processWith(url, oldKey)
    const { tokens: late } = yield* processWith(url, `${newKey},${oldKey}`)
    yield* connect(early, user())
    const { accessToken } = yield* early.ensureValid(user())
    yield* late.refresh(user(), { forceRefresh: true })
    assert.deepStrictEqual((yield* early.ensureValid(user())).accessToken, accessToken)
    assert.strictEqual((yield* Effect.flip(early.refresh(user(), { forceRefresh: true })))._tag, "TokenUnreadable")
  }).pipe(Effect.provide(Sandbox.layer()))
)

it.scopedLive("all tokens that this process can read are refused: one attempt, and the user is not given up", () =>
  Effect.gen(function* () {
    const sandbox = yield* Sandbox.Sandbox
    const url = yield* makeDatabase
    const { tokens: before } = yield* processWith(url, oldKey)
    const { tokens } = yield* processWith(url, newKey)
    const account = yield* connect(before, user())
    // The one that is displaced stays beside it, unreadable.
    yield* connect(tokens, user(), account)
    yield* connect(tokens, user(2))
    yield* sandbox.revokeRefreshTokens(account)
    assert.strictEqual((yield* Effect.flip(tokens.ensureValid(user())))._tag, "TokenUnreadable")
    assert.strictEqual((yield* Effect.flip(tokens.ensureValid(user())))._tag, "RefreshCoolingDown")
    assert.strictEqual(yield* sandbox.count("oauth2Refresh"), 1)
    assert.isTrue((yield* tokens.ensureValid(user(2))).refreshed)
  }).pipe(Effect.provide(Sandbox.layer()))
)

it.scopedLive("a pair that was stored beside one that this process cannot read is not held in memory", () =>
  Effect.gen(function* () {
    const url = yield* makeDatabase
    const { storage: other } = yield* processWith(url, newKey)
    const { stop, tokens } = yield* processWith(url, oldKey, (storage) => ({
      ...storage,
      commit: (request) =>
        Effect.zipRight(
          Effect.orDie(other.connect({ userUlid: user(), connection: request.connection, pair: request.pair })),
          storage.commit(request)
        )
    }))
    yield* connect(tokens, user())
    assert.strictEqual((yield* Effect.flip(tokens.ensureValid(user())))._tag, "TokenUnreadable")
    yield* stop
  }).pipe(Effect.provide(Sandbox.layer()))
)
