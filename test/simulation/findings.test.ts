/** What simulated histories brought to light, in the smallest form that shows it. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Either, Fiber, Layer, Option, Redacted, Ref, TestClock } from "effect"
import * as CalTokens from "../../src/CalTokens.js"
import * as Memory from "../../src/CalTokens/Memory.js"
import * as Sandbox from "../../src/Sandbox.js"
import * as TokenConfig from "../../src/TokenConfig.js"
import { StorageUnavailable } from "../../src/TokenError.js"
import { type StoredConnection, TokenStorage } from "../../src/TokenStorage.js"
import * as StorageMemory from "../../src/TokenStorage/Memory.js"
import * as StorageTap from "../support/StorageTap.js"
import * as World from "../support/World.js"

describe("a clock that is ahead of Cal.com's", () => {
  it.effect("does not fail a caller whose token turns out to be valid", () =>
    Effect.gen(function* () {
      const sandbox = yield* Sandbox.Sandbox
      const tokens = yield* CalTokens.CalTokens
      yield* World.connectManaged()
      // Expired by our clock; by Cal.com's, of which nothing is known yet, not for a long time.
      yield* Ref.update(sandbox.switches, (switches) => ({ ...switches, clockSkewMillis: -3_600_000 }))
      yield* World.passTime(Effect.sleep("61 minutes"), 3_700_000)
      yield* sandbox.inject(Sandbox.Fault.status(503, { kind: "refresh" }))
      const token = yield* World.passTime(tokens.ensureValid(World.user()), 60_000)
      assert.isFalse(token.refreshed)
    }).pipe(Effect.provide(World.layer()))
  )
})

describe("two people who hand in pairs at the same time", () => {
  it.effect("leave the newer one in a process that heard of it first", () =>
    Effect.gen(function* () {
      const row = (version: number): StoredConnection => ({
        userUlid: World.user(),
        connection: { _tag: "ManagedUser", clientId: "C", calUserId: 1 },
        pair: {
          accessToken: Redacted.make(`access ${version}`),
          refreshToken: Redacted.make(`refresh ${version}`),
          accessTokenExpiresAt: 1
        },
        status: { _tag: "Active" },
        version,
        sessionsAfter: 1,
        updatedAt: 0
      })
      const memory = Memory.make(TokenConfig.defaults)
      yield* memory.put(row(6))
      yield* memory.hold(row(4))
      yield* memory.adopt(row(5))
      const entry = Option.getOrThrow(memory.get(World.user()))
      assert.strictEqual(entry.row.version, 6)
      assert.isFalse(entry.pending)
    })
  )
})

describe("a process that sleeps between its claim and its call", () => {
  /** The first claim is granted, and its answer is read 31 s later. */
  const storage = Layer.sync(TokenStorage, () => {
    const memory = StorageMemory.make()
    let isFirst = true
    return {
      ...memory,
      claim: (request) =>
        Effect.tap(memory.claim(request), () => {
          const sleep = isFirst ? Effect.sleep("31 seconds") : Effect.void
          isFirst = false
          return sleep
        })
    }
  })
  const layer = CalTokens.layer.pipe(
    Layer.provideMerge(World.clientLayer),
    Layer.provideMerge(storage),
    Layer.provideMerge(Sandbox.layer())
  )

  it.effect("sends nothing in the name of a lease that is over", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(World.epoch)
      const sandbox = yield* Sandbox.Sandbox
      const tokens = yield* CalTokens.CalTokens
      yield* World.connectManaged()
      yield* World.passTime(Effect.sleep("61 minutes"), 3_700_000)
      yield* Effect.exit(World.passTime(tokens.ensureValid(World.user()), 60_000))
      yield* World.passTime(Effect.sleep("10 seconds"), 20_000)
      assert.strictEqual(yield* sandbox.count("refresh"), 0)
      const token = yield* World.passTime(tokens.ensureValid(World.user()), 60_000)
      assert.isTrue(token.refreshed)
      assert.strictEqual(yield* sandbox.count("refresh"), 1)
    }).pipe(Effect.provide(layer))
  )

  it.scoped("fails nobody for whom another process has stored a pair since", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(World.epoch)
      const sandbox = yield* Sandbox.Sandbox
      const tokens = yield* CalTokens.CalTokens
      const other = yield* World.anotherNode()
      yield* World.connectManaged()
      yield* World.passTime(Effect.sleep("61 minutes"), 3_700_000)
      const ensure = Effect.fork(tokens.ensureValid(World.user()))
      const first = yield* ensure
      yield* TestClock.adjust("10 seconds")
      const second = yield* ensure
      yield* TestClock.adjust("10 seconds")
      const email = `${World.user().toLowerCase()}@example.com`
      const pair = yield* sandbox.grantManaged({ email })
      yield* other.tokens.update(World.user(), pair)
      yield* TestClock.adjust("14 seconds")
      const token = yield* Fiber.join(second)
      assert.strictEqual(World.reveal(token.accessToken), World.reveal(pair.accessToken))
      yield* Fiber.interrupt(first)
    }).pipe(Effect.provide(layer))
  )
})

describe("a reissue that is asked for while the pair of the last one is held in memory", () => {
  /** The storage takes the pair, and what it says of that gets lost twice. */
  const storage = Layer.sync(TokenStorage, () => {
    const memory = StorageMemory.make()
    let losses = 2
    return {
      ...memory,
      commit: (request) =>
        Effect.flatMap(memory.commit(request), (result) =>
          losses-- > 0
            ? Effect.fail(new StorageUnavailable({ operation: "commit", reason: "no answer" }))
            : Effect.succeed(result)
        )
    }
  })
  const layer = CalTokens.layer.pipe(
    Layer.provideMerge(World.clientLayer),
    Layer.provideMerge(storage),
    Layer.provideMerge(Sandbox.layer())
  )

  it.effect("is not answered by that pair", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(World.epoch)
      const sandbox = yield* Sandbox.Sandbox
      const tokens = yield* CalTokens.CalTokens
      yield* World.connectManaged()
      const reissue = World.passTime(tokens.refresh(World.user(), { reissue: true }), 50)
      const first = yield* reissue
      const second = yield* reissue
      yield* World.passTime(Effect.sleep("1 second"), 2000)
      assert.strictEqual(yield* sandbox.count("forceRefresh"), 2)
      assert.notStrictEqual(World.reveal(second.accessToken), World.reveal(first.accessToken))
    }).pipe(Effect.provide(layer))
  )
})

describe("a reissue whose answer holds a refresh token alone", () => {
  it.effect("is followed by a refresh, because it ended the access token that is stored", () =>
    Effect.gen(function* () {
      const sandbox = yield* Sandbox.Sandbox
      const tokens = yield* CalTokens.CalTokens
      yield* World.connectManaged()
      yield* sandbox.inject(Sandbox.Fault.odd("accessTokenMissing", { kind: "forceRefresh" }))
      const token = yield* World.passTime(tokens.refresh(World.user(), { reissue: true }), 1000)
      assert.isTrue(yield* sandbox.isAccessLive(token.accessToken))
      assert.strictEqual(yield* sandbox.count("forceRefresh"), 1)
      assert.strictEqual(yield* sandbox.count("refresh"), 1)
    }).pipe(Effect.provide(World.layer()))
  )
})

describe("a refresh whose answer holds a refresh token alone", () => {
  /** Cal.com has refused the access token that is stored. */
  const rejected = Effect.gen(function* () {
    const sandbox = yield* Sandbox.Sandbox
    const tokens = yield* CalTokens.CalTokens
    const { accessToken, calUserId } = yield* World.connectManaged()
    yield* sandbox.expireAccessTokens(calUserId)
    yield* sandbox.inject(Sandbox.Fault.odd("accessTokenMissing", { kind: "refresh" }))
    return { sandbox, tokens, report: tokens.reportRejected(World.user(), { accessToken, status: 498 }) }
  })

  it.effect("is followed by another one where Cal.com has refused the access token that is stored", () =>
    Effect.gen(function* () {
      const { report, sandbox } = yield* rejected
      const advice = yield* World.passTime(report, 1000)
      assert(advice._tag === "Retry")
      assert.isTrue(yield* sandbox.isAccessLive(advice.token.accessToken))
      assert.strictEqual(yield* sandbox.count("refresh"), 2)
    }).pipe(Effect.provide(World.layer()))
  )

  it.effect("serves nobody else the refused token either", () =>
    Effect.gen(function* () {
      const { report, sandbox, tokens } = yield* rejected
      yield* sandbox.inject(Sandbox.Fault.status(503, { kind: "refresh" }))
      yield* Effect.exit(World.passTime(report, 30_000))
      const token = yield* Effect.either(World.passTime(tokens.ensureValid(World.user()), 60_000))
      assert.isTrue(Either.isLeft(token) || (yield* sandbox.isAccessLive(token.right.accessToken)))
    }).pipe(Effect.provide(World.layer()))
  )
})

describe("who waits in vain for the claim of a token that is remembered and has expired", () => {
  it.effect("is served what another process has stored meanwhile", () =>
    World.run(
      Effect.gen(function* () {
        const tokens = yield* CalTokens.CalTokens
        const tap = yield* StorageTap.StorageTap
        yield* World.connectManaged()
        yield* tokens.ensureValid(World.user())
        const other = yield* World.anotherNode()
        yield* TestClock.adjust("61 minutes")
        yield* other.tokens.ensureValid(World.user())
        yield* tap.around("claim", { after: Effect.sleep("40 seconds") })
        const token = yield* World.passTime(tokens.ensureValid(World.user()), 30_000)
        assert.isFalse(token.refreshed)
      })
    )
  )
})
