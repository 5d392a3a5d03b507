/** Refreshes that nobody waits for: whose they are, when, and what they leave to people who wait. */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect, Option, Ref, Redacted, TestClock } from "effect"
import type * as CalTokens from "../../src/CalTokens.js"
import * as Schedule from "../../src/CalTokens/Schedule.js"
import { Fault } from "../../src/Sandbox.js"
import { defaults } from "../../src/TokenConfig.js"
import type { TokenPair } from "../../src/Token.js"
import * as World from "../support/World.js"

const { scenario, user } = World
const minute = 60_000

/** Begins what is due, and waits for it: how many, and how many of them brought a pair. */
const round = (tokens: typeof CalTokens.CalTokens.Service, limit = 100) =>
  Effect.gen(function* () {
    const { begun, ...rest } = yield* tokens.refreshDue(limit)
    const results = yield* World.passTime(Effect.all(begun, { concurrency: "unbounded" }), 60_000)
    return { begun: begun.length, refreshed: results.filter((isDone) => isDone).length, ...rest }
  })

const none = { begun: 0, refreshed: 0, isMore: false }

/** Everybody's turn has come by then, and nobody's token expires soon. */
const leadOf = (lifetime: number) => lifetime - 5 * minute

describe("a schedule", () => {
  const pair = (extra: Partial<TokenPair> = {}): TokenPair => ({
    accessToken: Redacted.make("access"),
    refreshToken: Redacted.make("refresh"),
    accessTokenExpiresAt: 3_600_000,
    issuedAt: 0,
    ...extra
  })
  const managed = { _tag: "ManagedUser", clientId: "c", calUserId: 1 } as const
  const oauth2 = { _tag: "OAuth2", clientId: "c" } as const
  const of = (
    userUlid = user(),
    connection: typeof managed | typeof oauth2 = managed,
    extra: Partial<TokenPair> = {}
  ) => Schedule.of(defaults, userUlid, connection, pair(extra), 1000)

  it("gives tokens that expire together times of their own, evenly, and the same each time", () => {
    const turns = World.users(4000).map((each) => of(each).aheadAt / minute)
    assert.deepStrictEqual(
      turns,
      World.users(4000).map((each) => of(each).aheadAt / minute)
    )
    // From a quarter of the lifetime before the token expires soon on.
    assert.isAtLeast(Math.min(...turns), 40)
    assert.isAtMost(Math.max(...turns), 55)
    for (let at = 40; at < 55; at++) {
      const share = turns.filter((turn) => turn >= at && turn < at + 1).length / turns.length
      assert.closeTo(share, 1 / 15, 0.02)
    }
  })

  it("keeps a short token for half of its life at least, and one of unknown age by what is left of it", () => {
    const short = World.users(500).map((each) => of(each, managed, { accessTokenExpiresAt: minute }).aheadAt)
    assert.isAtLeast(Math.min(...short), minute / 2)
    assert.isAtMost(Math.max(...short), 0.75 * minute)
    const unknown = World.users(500).map((each) => of(each, managed, { issuedAt: undefined }).aheadAt)
    assert.isAtLeast(Math.min(...unknown), 3_600_000 - 5 * minute - 0.25 * 3_600_000)
  })

  it("spends a refresh token before it expires, if anybody knows when that is", () => {
    const day = 86_400_000
    assert.isUndefined(of().keepAt)
    const days = World.users(500).map((each) => (of(each, oauth2).keepAt ?? 0) / day)
    assert.isAtLeast(Math.min(...days), 23)
    assert.isAtMost(Math.max(...days), 26.5)
    const told = World.users(500).map(
      (each) => (of(each, managed, { refreshTokenExpiresAt: 4 * day }).keepAt ?? 0) / day
    )
    assert.isAtLeast(Math.min(...told), 3)
    assert.isAtMost(Math.max(...told), 3.5)
  })
})

describe("an active user", () => {
  for (const kind of World.kinds) {
    scenario(
      `(${kind}) is refreshed in two statements before the token expires soon, and never waits`,
      Effect.gen(function* () {
        const { grant, refreshes, tap, tokens } = yield* World.connected(kind)
        const lifetime = grant.accessTokenExpiresAt - (yield* Clock.currentTimeMillis)
        yield* TestClock.adjust(Duration.millis(0.4 * lifetime))
        assert.deepStrictEqual(yield* round(tokens), none)
        yield* TestClock.adjust(Duration.millis(leadOf(lifetime) - 0.4 * lifetime - 1))
        yield* tap.reset
        assert.deepStrictEqual(yield* round(tokens), { begun: 1, refreshed: 1, isMore: false })
        assert.deepStrictEqual([tap.count("claim"), tap.count("claimDue"), tap.count("commit")], [0, 2, 1])
        assert.deepStrictEqual(yield* round(tokens), none)
        assert.strictEqual(yield* refreshes, 1)
        const { refreshed } = yield* tokens.ensureValid(user())
        assert.isFalse(refreshed)
      })
    )
  }

  scenario(
    "shares that refresh with whoever asks meanwhile",
    Effect.gen(function* () {
      const { refresh, refreshes, sandbox, tap, tokens } = yield* World.expired("managed")
      yield* tokens.info(user())
      yield* sandbox.inject(Fault.delayBefore("3 seconds", refresh))
      yield* tap.reset
      const { begun } = yield* tokens.refreshDue(10)
      assert.strictEqual(begun.length, 1)
      const callers = yield* World.start(World.many(5, tokens.ensureValid(user())))
      const answers = yield* World.landed(callers, 5000)
      assert.isTrue(answers.every(({ refreshed }) => refreshed))
      assert.deepStrictEqual([yield* refreshes, tap.count("claim")], [1, 0])
    })
  )

  scenario(
    "is one who was asked for within some hours, whoever it was that asked",
    Effect.gen(function* () {
      const { refreshes, tokens } = yield* World.connected("managed")
      for (let hour = 0; hour < 3; hour++) {
        yield* TestClock.adjust("70 minutes")
        yield* round(tokens)
      }
      assert.strictEqual(yield* refreshes, 3)
      yield* tokens.ensureValid(user(), { handsOut: false })
      yield* TestClock.adjust("2 seconds")
      yield* TestClock.adjust("239 minutes")
      yield* round(tokens)
      assert.strictEqual(yield* refreshes, 4)
      yield* TestClock.adjust("2 hours")
      assert.deepStrictEqual(yield* round(tokens), none)
      yield* tokens.ensureValid(user())
      assert.strictEqual(yield* refreshes, 5)
      yield* TestClock.adjust("58 minutes")
      assert.strictEqual((yield* round(tokens)).refreshed, 1)
    })
  )

  scenario(
    "is noted in a batch a moment later, and not again for some minutes",
    Effect.gen(function* () {
      const { tap, tokens } = yield* World.connected("managed")
      yield* TestClock.adjust("10 minutes")
      yield* tap.reset
      const ask = tokens.ensureValid(user(), { handsOut: false })
      for (let n = 0; n < 5; n++) yield* ask
      yield* TestClock.adjust("1 second")
      for (let n = 0; n < 290; n += 10) {
        yield* ask
        yield* TestClock.adjust("10 seconds")
      }
      assert.deepStrictEqual([tap.count("used"), tap.count("handedOut")], [1, 0])
      yield* TestClock.adjust("10 seconds")
      yield* ask
      yield* TestClock.adjust("1 second")
      assert.strictEqual(tap.count("used"), 2)
    })
  )
})

describe("a user whom nobody uses", () => {
  scenario(
    "keeps the grant: it is refreshed once before the refresh token expires",
    Effect.gen(function* () {
      const { refreshes, tokens } = yield* World.connected("oauth2")
      yield* TestClock.adjust("5 hours")
      assert.deepStrictEqual(yield* round(tokens), none)
      yield* TestClock.adjust("22 days")
      assert.deepStrictEqual(yield* round(tokens), none)
      yield* TestClock.adjust("5 days")
      assert.deepStrictEqual(yield* round(tokens), { begun: 1, refreshed: 1, isMore: false })
      yield* TestClock.adjust("20 days")
      assert.deepStrictEqual(yield* round(tokens), none)
      yield* TestClock.adjust("7 days")
      assert.strictEqual((yield* round(tokens)).refreshed, 1)
      assert.strictEqual(yield* refreshes, 2)
    })
  )
})

describe("people who wait", () => {
  scenario(
    "have the trials of a client in trouble to themselves",
    Effect.gen(function* () {
      const { refreshes, sandbox, tokens } = yield* World.allExpired("managed", 3)
      yield* sandbox.inject(Fault.status(401, { kind: "refresh", times: 1 }))
      assert.strictEqual((yield* round(tokens, 1)).refreshed, 0)
      assert.deepStrictEqual(yield* round(tokens), none)
      yield* TestClock.adjust("10 minutes")
      const other = yield* World.anotherNode()
      // Of the circuit that is open the other process has heard nothing.
      assert.deepStrictEqual(yield* round(other.tokens), none)
      assert.strictEqual(yield* refreshes, 1)
      assert.isTrue((yield* tokens.ensureValid(user(2))).refreshed)
      // It may open again: for a minute it stays theirs.
      yield* TestClock.adjust("59 seconds")
      assert.deepStrictEqual(yield* round(other.tokens), none)
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual((yield* round(other.tokens)).refreshed, 2)
    })
  )

  scenario(
    "have their share of Cal.com's rate limit, and all of it after a 429",
    Effect.gen(function* () {
      const { refreshes, sandbox, tokens } = yield* World.allExpired("managed", 20)
      const limits = { enabled: true, client: 16, window: Duration.minutes(1), block: Duration.minutes(1) }
      yield* Ref.update(sandbox.switches, (switches) => ({
        ...switches,
        rateLimits: { ...switches.rateLimits, ...limits }
      }))
      // A quarter of sixteen is theirs.
      const first = yield* round(tokens, 4)
      const second = yield* round(tokens)
      assert.deepStrictEqual([first.refreshed, second.refreshed], [4, 8])
      const held = yield* round(tokens)
      assert.deepStrictEqual([held.begun, held.isMore], [0, false])
      assert.isAtMost(Duration.toMillis(held.pause ?? Duration.zero), 60_000)
      const rows = yield* Effect.forEach(World.users(20), (each) => World.stored(each))
      const now = yield* sandbox.now
      const waiting = rows.filter(({ pair }) => pair.accessTokenExpiresAt < now).map(({ userUlid }) => userUlid)
      assert.strictEqual(waiting.length, 8)
      for (const each of waiting.slice(0, 4)) assert.isTrue((yield* tokens.ensureValid(each)).refreshed)
      const refused = yield* Effect.flip(tokens.ensureValid(waiting[4] ?? user()))
      assert.strictEqual(refused._tag, "CalRateLimited")
      assert.strictEqual((yield* round(tokens)).begun, 0)
      yield* TestClock.adjust("61 seconds")
      assert.strictEqual((yield* round(tokens)).begun, 4)
      assert.strictEqual(yield* refreshes, 21)
    })
  )
})

describe("what must not be spent", () => {
  scenario(
    "is left alone while its successor is on its way into the storage",
    Effect.gen(function* () {
      const { refreshes, tap, tokens } = yield* World.expired("oauth2")
      yield* tap.refuse("commit", 1000)
      assert.isTrue((yield* tokens.ensureValid(user())).refreshed)
      // The lease is over, and the storage knows of no new pair.
      yield* TestClock.adjust("31 seconds")
      assert.strictEqual((yield* tokens.refreshDue(10)).begun.length, 1)
      yield* World.settle
      assert.strictEqual(yield* refreshes, 1)
      yield* tap.relent
      yield* TestClock.adjust("10 seconds")
      assert.isFalse(yield* tokens.holdsUnstored)
      assert.strictEqual(yield* refreshes, 1)
    })
  )

  scenario(
    "is stored when the process stops in the middle of it",
    Effect.gen(function* () {
      const { refresh, sandbox } = yield* World.expired("managed")
      yield* sandbox.inject(Fault.delayBefore("4 seconds", refresh))
      const other = yield* World.anotherNode()
      assert.strictEqual((yield* other.tokens.refreshDue(10)).begun.length, 1)
      const before = yield* World.stored()
      yield* World.passTime(other.stop, 10_000)
      const after = yield* World.stored()
      assert.isAbove(after.version, before.version)
      assert.isTrue(yield* sandbox.isLive(after.pair.refreshToken))
    })
  )

  scenario(
    "of a process that was killed is probed by another one, and nothing is lost",
    Effect.gen(function* () {
      const { refreshes, sandbox, tap, tokens } = yield* World.expired("managed")
      const storage = tap.raw
      const now = yield* sandbox.now
      // As a process leaves it that dies between its claim and the call.
      const { claims } = yield* storage.claimDue({
        circuit: {
          clientId: (yield* World.stored()).connection.clientId,
          fingerprint: "another",
          interval: Duration.seconds(30)
        },
        limit: 1,
        now,
        usedSince: 0,
        lease: defaults.lease,
        cooldownWindow: defaults.cooldownWindow,
        maxAttempts: 3
      })
      assert.strictEqual(claims.length, 1)
      assert.deepStrictEqual(yield* round(tokens), none)
      yield* TestClock.adjust("31 seconds")
      assert.strictEqual((yield* round(tokens)).refreshed, 1)
      assert.strictEqual(yield* refreshes, 1)
      assert.isTrue(Option.isSome(yield* storage.find(user())))
    })
  )
})
