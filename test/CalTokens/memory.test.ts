/** Memory is bounded: users that were seen once leave nothing that stays, and as few entries as are allowed. */
import { assert, it } from "@effect/vitest"
import { Clock, Duration, Effect, Layer, Option, Redacted, TestClock } from "effect"
import * as Cooldowns from "../../src/CalTokens/Cooldowns.js"
import * as Known from "../../src/CalTokens/Known.js"
import * as Memory from "../../src/CalTokens/Memory.js"
import { CalTokens } from "../../src/CalTokens.js"
import { Fault, Sandbox, layer as layerSandbox } from "../../src/Sandbox.js"
import * as Token from "../../src/Token.js"
import { defaults } from "../../src/TokenConfig.js"
import { TokenStorage } from "../../src/TokenStorage.js"
import { StorageTap } from "../support/StorageTap.js"
import * as StorageRestored from "../support/StorageRestored.js"
import * as World from "../support/World.js"

const { scenario, user, users } = World

it.effect("a cooldown that is over is not remembered for ever", () =>
  Effect.gen(function* () {
    const cooldowns = Cooldowns.make()
    const cool = (userUlid: Token.UserUlid) =>
      Effect.flatMap(Clock.currentTimeMillis, (since) =>
        cooldowns.set(userUlid, { since, until: since + 1000, version: 1, expired: true, lastError: undefined })
      )
    for (const userUlid of users(1000)) yield* cool(userUlid)
    assert.strictEqual(yield* cooldowns.size, 1000)
    yield* TestClock.adjust("2 seconds")
    for (let n = 2000; n < 3100; n++) yield* cool(user(n))
    assert.isAtMost(yield* cooldowns.size, 1100)
    assert.isTrue(Option.isNone(yield* cooldowns.get(user(1))))
  })
)

it.effect("memory holds `memoryMaxEntries`, and every pair that is not stored", () =>
  Effect.gen(function* () {
    const memory = Memory.make({ ...defaults, memoryMaxAge: Duration.seconds(5), memoryMaxEntries: 100 })
    const row = yield* Effect.map(World.run(Effect.zipRight(World.connectManaged(), World.stored())), (row) => row)
    for (const userUlid of users(50)) yield* memory.hold({ ...row, userUlid })
    for (const userUlid of users(5000)) yield* memory.put({ ...row, userUlid })
    const known = users(5000).filter((userUlid) => Option.isSome(memory.get(userUlid)))
    assert.strictEqual(known.length, 150)
  })
)

it.effect("memory keeps of a row what it serves: nothing that may be spent, nor names of old tokens", () =>
  Effect.gen(function* () {
    const memory = Memory.make(defaults)
    const row = yield* World.run(Effect.zipRight(World.connectManaged(), World.stored()))
    yield* memory.put({ ...row, fallbacks: [row.pair, row.pair], lookups: row.lookups } as typeof row)
    const kept = Option.getOrThrow(memory.get(row.userUlid)).row
    assert.notProperty(kept, "fallbacks")
    assert.notProperty(kept, "lookups")
    const { refreshToken, ...access } = row.pair
    assert.deepStrictEqual(kept.pair, { ...access, refreshTokenHash: Token.hash(refreshToken) })
    // Again, as after a look that brought nothing new.
    yield* memory.put(kept)
    assert.deepStrictEqual(Option.getOrThrow(memory.get(row.userUlid)).row, kept)
  })
)

it.effect("memory keeps everything of a pair that is not stored, and tells it from others like any", () =>
  Effect.gen(function* () {
    const memory = Memory.make(defaults)
    const row = yield* World.run(Effect.zipRight(World.connectManaged(), World.stored()))
    const next = { ...row, pair: { ...row.pair, refreshToken: Redacted.make("next") } }
    const stored = (yield* memory.put(row)).row
    const held = (yield* memory.hold(next)).row
    assert.strictEqual(held, next)
    assert.isTrue(Known.isSamePair(stored.pair, row.pair))
    // As with OAuth2, whose access tokens of one second are equal.
    assert.isFalse(Known.isSamePair(stored.pair, held.pair))
    assert.isFalse(Known.isSamePair(stored.pair, { ...stored.pair, accessToken: Redacted.make("other") }))
    yield* memory.release(next)
    assert.strictEqual(Option.getOrThrow(memory.get(row.userUlid)).row, stored)
    const landed = (yield* memory.put({ ...next, version: row.version + 1 })).row
    assert.isTrue(Known.isSamePair(landed.pair, held.pair))
  })
)

scenario(
  "the service keeps no more than it may: the others are read again",
  Effect.gen(function* () {
    const tokens = yield* CalTokens
    const sandbox = yield* Sandbox
    const tap = yield* StorageTap
    for (const userUlid of users(500)) {
      const grant = yield* sandbox.grantManaged({})
      yield* tokens.connect(userUlid, { _tag: "ManagedUser", calUserId: grant.calUserId }, grant)
    }
    yield* tap.reset
    for (const userUlid of users(500)) yield* tokens.ensureValid(userUlid)
    assert.strictEqual(tap.count("find"), 500)
    for (const userUlid of users(500).slice(-50)) yield* tokens.ensureValid(userUlid)
    assert.strictEqual(tap.count("find"), 500)
  }),
  { config: { memoryMaxEntries: 50 } }
)

scenario(
  "a user who is not remembered any more is refreshed once all the same",
  Effect.gen(function* () {
    const tokens = yield* CalTokens
    const sandbox = yield* Sandbox
    for (const userUlid of users(3)) yield* World.connectManaged(userUlid)
    yield* TestClock.adjust("61 minutes")
    yield* sandbox.inject(Fault.delayAfter("1 second", { kind: "refresh", times: 3 }))
    const callers = yield* World.start(
      Effect.all(
        users(3).flatMap((userUlid) => Array.from({ length: 10 }, () => tokens.ensureValid(userUlid))),
        { concurrency: "unbounded" }
      )
    )
    yield* World.untilDone(callers, 5000)
    assert.strictEqual(yield* sandbox.count("refresh"), 3)
  }),
  { config: { memoryMaxEntries: 1 } }
)

it.scoped("a storage that has gone back in time, as a restored backup has, is believed", () => {
  const { restore, restored, storage } = StorageRestored.make()
  return Effect.gen(function* () {
    const sandbox = yield* Sandbox
    const tokens = yield* CalTokens
    yield* World.connectManaged()
    const { connection, pair } = Option.getOrThrow(yield* storage.find(user()))
    for (let i = 0; i < 2; i++) yield* tokens.refresh(user(), { forceRefresh: true })
    yield* restored.connect({ userUlid: user(), connection, pair })
    restore()
    yield* TestClock.adjust("61 minutes")
    assert.isTrue((yield* World.passTime(tokens.ensureValid(user()), 20_000)).refreshed)
    const refreshes = yield* sandbox.count("refresh")
    const answer = yield* tokens.ensureValid(user())
    assert.isFalse(answer.refreshed)
    assert.isTrue(yield* sandbox.isAccessLive(answer.accessToken))
    assert.strictEqual(yield* sandbox.count("refresh"), refreshes)
  }).pipe(
    Effect.provide(
      World.node().pipe(Layer.provide(Layer.succeed(TokenStorage, storage)), Layer.provideMerge(layerSandbox()))
    )
  )
})
