/** When a token is refreshed: each window at its edges, with reads and calls counted. */
import { assert, describe } from "@effect/vitest"
import { ConfigProvider, Duration, Effect, TestClock } from "effect"
import { CalTokens } from "../../src/CalTokens.js"
import * as Environment from "../../src/Environment.js"
import * as TokenConfig from "../../src/TokenConfig.js"
import { Fault, Sandbox } from "../../src/Sandbox.js"
import { StorageTap } from "../support/StorageTap.js"
import * as World from "../support/World.js"

const { reveal, scenario, user } = World

/** Connects a managed user whose pair lives so long; an opaque access token hides when it was issued. */
const connect = (options: { readonly opaque: boolean }) =>
  Effect.gen(function* () {
    const sandbox = yield* Sandbox
    const tokens = yield* CalTokens
    const grant = yield* sandbox.grantManaged({ email: "windows@example.com" })
    const pair = options.opaque ? { ...grant, accessToken: "an-opaque-token" } : grant
    yield* tokens.connect(user(), { _tag: "ManagedUser", calUserId: grant.calUserId }, pair)
    return grant
  })

/** What one call did, its entry being in memory and recent. */
const observe = (before: number) =>
  Effect.gen(function* () {
    const tokens = yield* CalTokens
    const sandbox = yield* Sandbox
    const tap = yield* StorageTap
    const { pair } = yield* World.stored()
    yield* TestClock.setTime(pair.accessTokenExpiresAt - before)
    yield* tokens.info(user())
    yield* tap.reset
    yield* sandbox.inject(Fault.delayAfter("1 second", { kind: "refresh" }))
    const caller = yield* World.start(World.timed(tokens.ensureValid(user())))
    const waited = caller.unsafePoll() === null
    const reads = tap.count("find")
    const { result } = yield* World.landed(caller, 2000)
    yield* TestClock.adjust("1 second")
    return {
      waited,
      reads,
      claims: tap.count("claim"),
      calls: yield* sandbox.count("refresh"),
      refreshed: result.refreshed,
      isNew: reveal(result.accessToken) !== reveal(pair.accessToken)
    }
  })

const expected = {
  fresh: { waited: false, reads: 0, claims: 0, calls: 0, refreshed: false, isNew: false },
  soon: { waited: false, reads: 0, claims: 1, calls: 1, refreshed: false, isNew: false },
  due: { waited: true, reads: 0, claims: 1, calls: 1, refreshed: true, isNew: true }
}

const minutes = (n: number) => n * 60_000

for (const { due, lifetime, name, opaque, soon } of [
  { name: "known age, 60 min", opaque: false, lifetime: minutes(60), soon: minutes(5), due: minutes(1) },
  {
    name: "known age, 20 min: the last that is not clamped",
    opaque: false,
    lifetime: minutes(20),
    soon: minutes(5),
    due: minutes(1)
  },
  {
    name: "known age, 10 min: clamped soon",
    opaque: false,
    lifetime: minutes(10),
    soon: minutes(2.5),
    due: minutes(1)
  },
  { name: "known age, 2 min: clamped both", opaque: false, lifetime: minutes(2), soon: 30_000, due: 12_000 },
  { name: "unknown age", opaque: true, lifetime: minutes(60), soon: minutes(5), due: minutes(1) },
  {
    name: "unknown age, 10 min: nothing to clamp by",
    opaque: true,
    lifetime: minutes(10),
    soon: minutes(5),
    due: minutes(1)
  }
]) {
  describe(name, () => {
    for (const [what, before, outcome] of [
      ["fresh 1 ms before the soon window: no I/O at all", soon + 1, "fresh"],
      ["soon exactly at its edge: the token at once, a refresh behind", soon, "soon"],
      ["soon 1 ms inside", soon - 1, "soon"],
      ["soon 1 ms before the due window", due + 1, "soon"],
      ["due exactly at its edge: waits", due, "due"],
      ["due 1 ms inside", due - 1, "due"],
      ["due 1 ms before the expiry", 1, "due"],
      ["expired exactly at the expiry", 0, "due"],
      ["expired 1 ms after", -1, "due"]
    ] as const) {
      scenario(
        what,
        Effect.gen(function* () {
          yield* connect({ opaque })
          assert.deepStrictEqual(yield* observe(before), expected[outcome])
        }),
        { sandbox: { accessTokenLifetime: Duration.millis(lifetime) } }
      )
    }
  })
}

describe("due", () => {
  scenario(
    "waits 5 s, then answers the token that is still valid; the refresh goes on and is stored",
    Effect.gen(function* () {
      const { grant, sandbox, tokens } = yield* World.due("managed")
      yield* sandbox.inject(Fault.delayAfter("7 seconds", { kind: "refresh" }))
      const { result, took } = yield* World.passTime(World.timed(tokens.ensureValid(user())), 10_000)
      assert.strictEqual(took, 5000)
      assert.isFalse(result.refreshed)
      assert.strictEqual(reveal(result.accessToken), reveal(grant.accessToken))
      yield* TestClock.adjust("2 seconds")
      assert.isTrue(yield* World.isStoredPairLive())
      assert.notStrictEqual(reveal((yield* tokens.ensureValid(user())).accessToken), reveal(grant.accessToken))
      assert.strictEqual(yield* sandbox.count("refresh"), 1)
    })
  )

  scenario(
    "a token that dies during the wait is not answered, and its caller waits as those of expired ones do",
    Effect.gen(function* () {
      const { grant, sandbox, tokens } = yield* World.connected("managed")
      yield* TestClock.setTime(grant.accessTokenExpiresAt - 3000)
      yield* sandbox.inject(Fault.delayAfter("7 seconds", { kind: "refresh" }))
      const { result, took } = yield* World.passTime(World.timed(tokens.ensureValid(user())), 30_000)
      assert.isTrue(result.refreshed)
      assert.strictEqual(took, 7000)
    })
  )

  scenario(
    "P8: while the token lives, no failure of the refresh reaches anybody",
    Effect.gen(function* () {
      const { grant, sandbox, tap, tokens } = yield* World.due("managed")
      const serve = Effect.gen(function* () {
        const answer = yield* World.passTime(tokens.ensureValid(user()), 10_000)
        assert.isFalse(answer.refreshed)
        assert.strictEqual(reveal(answer.accessToken), reveal(grant.accessToken))
      })
      for (const fault of [Fault.refuseConnection, Fault.dropBefore, Fault.garbage]) {
        yield* sandbox.inject(fault({ kind: "refresh" }))
        yield* serve
      }
      yield* sandbox.inject(Fault.status(429, { kind: "refresh" }))
      yield* serve
      for (const operation of ["find", "claim", "fail"] as const) {
        yield* tap.refuse(operation)
        yield* TestClock.adjust("6 seconds")
        yield* serve
      }
    })
  )

  scenario(
    "P8: the token of a user who has to reconnect is served until it expires",
    Effect.gen(function* () {
      const { grant, sandbox, tokens } = yield* World.due("oauth2")
      yield* sandbox.revokeRefreshTokens(grant.calUserId)
      for (let i = 0; i < 3; i++) {
        const answer = yield* tokens.ensureValid(user())
        assert.strictEqual(reveal(answer.accessToken), reveal(grant.accessToken))
      }
      assert.strictEqual((yield* World.stored()).status._tag, "ReauthorizationRequired")
      assert.strictEqual(yield* sandbox.count("oauth2Refresh"), 1)
      yield* TestClock.setTime(grant.accessTokenExpiresAt)
      assert.strictEqual((yield* Effect.flip(tokens.ensureValid(user())))._tag, "ReauthorizationRequired")
    })
  )
})

describe("expiring soon", () => {
  scenario(
    "a failing refresh behind the back is nobody's business",
    Effect.gen(function* () {
      const { sandbox, tap, tokens } = yield* World.expiringSoon("managed")
      yield* sandbox.inject(Fault.refuseConnection({ kind: "refresh" }))
      yield* tokens.ensureValid(user())
      yield* World.settle
      // Cooling down: callers in the meantime cost neither a claim each nor a call.
      yield* tokens.ensureValid(user())
      yield* World.settle
      yield* tap.reset
      for (let i = 0; i < 20; i++) yield* tokens.ensureValid(user())
      yield* World.settle
      assert.strictEqual(tap.count("claim"), 0)
      assert.strictEqual(tap.count("find"), 0)
    })
  )

  scenario(
    "P12: refreshes behind the back leave a quarter of Cal.com's rate limit to people who wait",
    Effect.gen(function* () {
      const tokens = yield* CalTokens
      const sandbox = yield* Sandbox
      const grants = yield* Effect.forEach([1, 2, 3, 4, 5, 6, 7, 8, 9], (n) => World.connectManaged(user(n)))
      yield* TestClock.setTime(grants[0]!.accessTokenExpiresAt - 200_000)
      for (let n = 1; n <= 9; n++) {
        yield* tokens.ensureValid(user(n))
        yield* World.settle
      }
      // Of 8 in the minute, 2 are reserved: once fewer than that are left, those who are not in a hurry stand back.
      assert.strictEqual(yield* sandbox.count("refresh"), 7)
      yield* tokens.refresh(user(9), { forceRefresh: true })
      assert.strictEqual(yield* sandbox.count("refresh"), 8)
    }),
    {
      sandbox: {
        switches: {
          rateLimits: { enabled: true, accessToken: 500, client: 8, ip: 120, window: "60 seconds", block: "60 seconds" }
        }
      }
    }
  )

  scenario(
    "`refresh` waits where `ensureValid` does not, and leaves a fresh token alone",
    Effect.gen(function* () {
      const { grant, sandbox, tokens } = yield* World.connected("managed")
      assert.isFalse((yield* tokens.refresh(user())).refreshed)
      yield* TestClock.setTime(grant.accessTokenExpiresAt - 200_000)
      yield* sandbox.inject(Fault.delayAfter("1 second", { kind: "refresh" }))
      const { result, took } = yield* World.passTime(World.timed(tokens.refresh(user())), 5000)
      assert.isTrue(result.refreshed)
      assert.strictEqual(took, 1000)
    })
  )
})

describe("where nothing is refreshed behind anybody's back", () => {
  const config = Environment.loadServices.pipe(
    Effect.map(({ config }) => TokenConfig.change(TokenConfig.defaults, config)),
    Effect.withConfigProvider(ConfigProvider.fromMap(new Map([["CAL_TOKENS_REFRESH_IN_BACKGROUND", "0"]]))),
    Effect.runSync
  )

  scenario(
    "a token that expires soon is served, and no refresh begins",
    Effect.gen(function* () {
      const { grant, refreshes, tokens } = yield* World.expiringSoon("managed")
      assert.strictEqual(reveal((yield* tokens.ensureValid(user())).accessToken), reveal(grant.accessToken))
      yield* World.settle
      assert.strictEqual(yield* refreshes, 0)
    }),
    { config }
  )

  scenario(
    "one that is due is waited for until its refresh is stored, however long Cal.com takes",
    Effect.gen(function* () {
      const { refresh, sandbox, tokens } = yield* World.due("oauth2")
      yield* sandbox.inject(Fault.delayAfter("7 seconds", refresh))
      const { result, took } = yield* World.passTime(World.timed(tokens.ensureValid(user())), 10_000)
      assert.isTrue(result.refreshed)
      assert.strictEqual(took, 7000)
      assert.isTrue(yield* World.isStoredPairLive())
    }),
    { config }
  )

  scenario(
    "of a token with a short life, too, none is refreshed that nobody waits for",
    Effect.gen(function* () {
      const { grant, sandbox, tokens } = yield* World.connected("managed")
      const starts = [45_000, 30_500, 29_500]
      const calls = yield* Effect.forEach(starts, (left) =>
        Effect.gen(function* () {
          yield* TestClock.setTime(grant.accessTokenExpiresAt - left)
          yield* tokens.ensureValid(user())
          return yield* sandbox.count("refresh")
        })
      )
      assert.deepStrictEqual(calls, [0, 0, 1])
    }),
    { config, sandbox: { accessTokenLifetime: "5 minutes" } }
  )
})

describe("memory", () => {
  scenario(
    "an entry serves without a read for 5 s, and is read again at 5 s",
    Effect.gen(function* () {
      const { tap, tokens } = yield* World.connected("managed")
      yield* tap.reset
      yield* TestClock.adjust("4999 millis")
      yield* tokens.ensureValid(user())
      assert.strictEqual(tap.count("find"), 0)
      yield* TestClock.adjust("1 millis")
      yield* tokens.ensureValid(user())
      assert.strictEqual(tap.count("find"), 1)
    })
  )

  scenario(
    "with the storage down an unexpired token is served on, and an expired one is not",
    Effect.gen(function* () {
      const { grant, tap, tokens } = yield* World.connected("managed")
      yield* tap.down
      yield* TestClock.adjust("30 minutes")
      for (let i = 0; i < 10; i++) yield* tokens.ensureValid(user())
      // One read per five seconds, not one per call.
      assert.isAtMost(tap.count("find"), 1)
      yield* TestClock.setTime(grant.accessTokenExpiresAt - 1)
      yield* tokens.ensureValid(user())
      yield* TestClock.setTime(grant.accessTokenExpiresAt)
      assert.strictEqual((yield* Effect.flip(tokens.ensureValid(user())))._tag, "StorageUnavailable")
      yield* tap.up
      assert.isTrue((yield* tokens.ensureValid(user())).refreshed)
    })
  )
})
