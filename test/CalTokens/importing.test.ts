/** Moving over from another system that still refreshes the same users at Cal.com. */
import { inspect } from "node:util"
import { assert, describe } from "@effect/vitest"
import { Effect, Option, Redacted, TestClock } from "effect"
import { CalClient } from "../../src/CalClient.js"
import { CalTokens, type ImportRow, type NewConnection } from "../../src/CalTokens.js"
import { Sandbox } from "../../src/Sandbox.js"
import { iso, type UserUlid, uuidFromUlid } from "../../src/Token.js"
import type { PairInput } from "../../src/TokenInput.js"
import type { TokenError } from "../../src/TokenError.js"
import { StorageTap } from "../support/StorageTap.js"
import * as World from "../support/World.js"

const { reveal, scenario, user, users } = World

/** What the other system has of a user: as its table says, with instants as text. */
interface Theirs {
  readonly connection: NewConnection
  readonly tokens: PairInput & Record<"accessToken" | "refreshToken", string>
}

const theirs = (kind: World.Kind, userUlid: UserUlid): Effect.Effect<Theirs, never, Sandbox> =>
  Effect.gen(function* () {
    const sandbox = yield* Sandbox
    const person = { email: `${userUlid.toLowerCase()}@example.com` }
    if (kind === "managed") {
      const grant = yield* sandbox.grantManaged(person)
      return { connection: { _tag: "ManagedUser", calUserId: grant.calUserId }, tokens: pairOf(grant) }
    }
    const grant = yield* sandbox.grantOAuth2(person)
    const accessTokenExpiresAt = (yield* sandbox.now) + grant.expiresIn * 1000
    return {
      connection: { _tag: "OAuth2", calUserId: grant.calUserId },
      tokens: pairOf({ ...grant, accessTokenExpiresAt })
    }
  })

const pairOf = (pair: {
  readonly accessToken: Redacted.Redacted
  readonly refreshToken: Redacted.Redacted
  readonly accessTokenExpiresAt: number
}): Theirs["tokens"] => ({
  accessToken: reveal(pair.accessToken),
  refreshToken: reveal(pair.refreshToken),
  accessTokenExpiresAt: iso(pair.accessTokenExpiresAt)
})

/** The other system refreshes what it has, as Cal.com lets anybody who has the token. */
const refreshElsewhere = (userUlid: UserUlid, { connection, tokens }: Theirs) =>
  Effect.gen(function* () {
    const client = yield* CalClient
    const account = (yield* World.stored(userUlid)).connection
    const { pair } = yield* client.refresh(account, Redacted.make(tokens.refreshToken))
    return { connection, tokens: pairOf(pair) }
  })

const rowOf = (userUlid: UserUlid, { connection, tokens }: Theirs): ImportRow => ({ userUlid, connection, tokens })

const outcomes = (rows: ReadonlyArray<ImportRow>) =>
  Effect.flatMap(CalTokens, ({ importConnections }) =>
    Effect.map(importConnections(rows), (results) => results.map(({ outcome }) => outcome))
  )

const changesOf = Effect.gen(function* () {
  const { raw } = yield* StorageTap
  return { from: yield* raw.log.end, raw }
}).pipe(
  Effect.map(({ from, raw }) =>
    Effect.map(raw.log.read(from, 100), (page) =>
      Option.getOrThrow(page).changes.map(({ kind, userUlid }) => `${kind} ${userUlid}`)
    )
  )
)

const lostOf = (effect: Effect.Effect<unknown, TokenError, CalTokens>) =>
  Effect.map(Effect.flip(effect), (error) => {
    assert.strictEqual(error._tag, "ReauthorizationRequired")
    return error.message
  })

describe("importConnections", () => {
  for (const kind of World.kinds) {
    scenario(
      `${kind}: serves the pair of the other system and refreshes nothing that nobody asks for`,
      Effect.gen(function* () {
        const tokens = yield* CalTokens
        const sandbox = yield* Sandbox
        const changes = yield* changesOf
        const given = yield* theirs(kind, user())
        assert.deepStrictEqual(yield* tokens.importConnections([rowOf(user(), given)]), [
          { userUlid: user(), outcome: "imported" }
        ])
        yield* TestClock.adjust("59 minutes")
        assert.deepStrictEqual((yield* tokens.refreshDue(10)).begun, [])
        assert.deepStrictEqual(yield* changes, [`connected ${user()}`])
        // The token of managed users lives for another minute.
        yield* tokens.ensureValid(user())
        yield* TestClock.adjust("2 minutes")
        const token = yield* tokens.ensureValid(user())
        assert.strictEqual(yield* sandbox.count(kind === "managed" ? "refresh" : "oauth2Refresh"), 1)
        assert.notStrictEqual(reveal(token.accessToken), given.tokens.accessToken)
      })
    )

    scenario(
      `${kind}: goes on with what the other system refreshed, until a user is refreshed here`,
      Effect.gen(function* () {
        const tokens = yield* CalTokens
        const changes = yield* changesOf
        const first = yield* theirs(kind, user())
        assert.deepStrictEqual(yield* outcomes([rowOf(user(), first)]), ["imported"])
        assert.strictEqual(reveal((yield* tokens.ensureValid(user())).accessToken), first.tokens.accessToken)
        yield* TestClock.adjust("50 minutes")
        const second = yield* refreshElsewhere(user(), first)
        assert.deepStrictEqual(yield* outcomes([rowOf(user(), second), rowOf(user(), second)]), [
          "updated",
          "unchanged"
        ])
        // What this process remembered is forgotten.
        assert.strictEqual(reveal((yield* tokens.ensureValid(user())).accessToken), second.tokens.accessToken)
        // A copy from before brings nothing back.
        assert.deepStrictEqual(yield* outcomes([rowOf(user(), first)]), ["unchanged"])
        yield* TestClock.adjust("61 minutes")
        const ours = yield* tokens.ensureValid(user())
        for (const late of [first, second]) {
          assert.deepStrictEqual(yield* outcomes([rowOf(user(), late)]), ["refreshedHere"])
        }
        assert.strictEqual(reveal((yield* tokens.ensureValid(user())).accessToken), reveal(ours.accessToken))
        assert.deepStrictEqual(
          yield* changes,
          ["connected", "updated", "refreshed"].map((change) => `${change} ${user()}`)
        )
      })
    )
  }

  scenario(
    "heals who was lost to the other system's own call, once that hands in the pair it got",
    Effect.gen(function* () {
      const tokens = yield* CalTokens
      const first = yield* theirs("oauth2", user())
      yield* outcomes([rowOf(user(), first)])
      const second = yield* refreshElsewhere(user(), first)
      yield* TestClock.adjust("31 minutes")
      yield* lostOf(tokens.ensureValid(user()))
      assert.deepStrictEqual(yield* outcomes([rowOf(user(), second)]), ["updated"])
      yield* tokens.ensureValid(user())
      assert.strictEqual((yield* tokens.info(user())).status._tag, "Active")
    })
  )

  scenario(
    "answers row by row, in their order, and one that is refused keeps no other back",
    Effect.gen(function* () {
      const tokens = yield* CalTokens
      const given = yield* Effect.forEach(users(4), (each) => theirs("managed", each))
      const [a, b, c, d] = given.map((each, n) => rowOf(user(n + 1), each))
      assert(a !== undefined && b !== undefined && c !== undefined && d !== undefined)
      yield* tokens.connect(user(3), c.connection, c.tokens)
      const results = yield* tokens.importConnections([
        { ...b, userUlid: uuidFromUlid(user(2)) },
        { ...a, userUlid: "SECRET" },
        { ...a, tokens: { ...a.tokens, accessTokenExpiresAt: 7 } },
        { ...d, connection: c.connection },
        { ...c, connection: { _tag: "ManagedUser", calUserId: 77_777 } },
        { ...d, connection: { _tag: "OAuth2", clientId: "SECRET" } },
        { ...c, tokens: d.tokens, connection: c.connection },
        a,
        c
      ])
      assert.deepStrictEqual(
        results.map(({ outcome, userUlid }) => `${userUlid ?? "nobody"} ${outcome}`),
        [
          `${user(2)} imported`,
          "nobody rejected",
          `${user(1)} rejected`,
          `${user(4)} rejected`,
          `${user(3)} rejected`,
          `${user(4)} rejected`,
          `${user(3)} rejected`,
          `${user(1)} imported`,
          `${user(3)} unchanged`
        ]
      )
      const reasons = results.flatMap((result) => (result.outcome === "rejected" ? [result.reason] : []))
      assert.deepStrictEqual(
        reasons.map((reason) => reason.split(" ")[0]),
        ["userUlid", "accessTokenExpiresAt", "calUserId", "calUserId", "clientId", "calUserId"]
      )
      assert.notInclude(inspect(results), "SECRET")
      for (const { tokens } of given) {
        for (const secret of [tokens.accessToken, tokens.refreshToken]) {
          assert.notInclude(inspect(results, { depth: 9 }), secret)
        }
      }
      assert.isTrue(Option.isNone(yield* Effect.option(tokens.info(user(4)))))
    })
  )

  scenario(
    "takes no Cal.com account from another user, and moves no user to another one",
    Effect.gen(function* () {
      const tokens = yield* CalTokens
      const one = yield* theirs("managed", user(1))
      const two = yield* theirs("managed", user(2))
      yield* tokens.connect(user(1), one.connection, one.tokens)
      const results = yield* tokens.importConnections([rowOf(user(2), one), rowOf(user(1), two)])
      assert.deepStrictEqual(
        results.map((result) => (result.outcome === "rejected" ? result.reason : result.outcome)),
        [
          `The Cal.com account offered for user ${user(2)} is already connected to another user: disconnect it there first.`,
          `User ${user(1)} is connected to another Cal.com account, or through another client: disconnect them first.`
        ]
      )
      assert.strictEqual(reveal((yield* World.stored(user(1))).pair.refreshToken), one.tokens.refreshToken)
    })
  )

  scenario(
    "takes 500 rows at most, and asks nobody for none",
    Effect.gen(function* () {
      const tap = yield* StorageTap
      const row = rowOf(user(), yield* theirs("managed", user()))
      const { importConnections } = yield* CalTokens
      const error = yield* Effect.flip(importConnections(Array.from({ length: 501 }, () => row)))
      assert.strictEqual(error.message, "rows must be at most 500 at once.")
      assert.deepStrictEqual(yield* importConnections([]), [])
      assert.isTrue(Option.isNone(yield* tap.raw.find(user())))
      const results = yield* outcomes(Array.from({ length: 500 }, () => row))
      assert.deepStrictEqual([results[0], ...new Set(results.slice(1))], ["imported", "unchanged"])
    })
  )
})

describe("a user who is lost soon after an import", () => {
  const sentence = (passed: string) =>
    `The user was imported ${passed} before that: a second system may still refresh this user.`

  /** Imported, refreshed elsewhere, and asked for here so long after the import; what that comes to. */
  const lostAfter = (wait: string & Parameters<typeof TestClock.adjust>[0]) =>
    Effect.gen(function* () {
      const tokens = yield* CalTokens
      const given = yield* theirs("oauth2", user())
      yield* outcomes([rowOf(user(), given)])
      yield* refreshElsewhere(user(), given)
      yield* TestClock.adjust(wait)
      const message = yield* lostOf(tokens.ensureValid(user(), { forceRefresh: true }))
      // Told again, to whoever asks later, in the same words.
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(yield* lostOf(tokens.ensureValid(user())), message)
      return message
    })

  const without = `User ${user()} has to reconnect Cal.com: Cal.com no longer accepts the refresh token.`

  for (const [wait, passed] of [
    ["30 seconds", "less than a minute"],
    ["12 minutes", "12 min"],
    ["24 hours", "24 h"]
  ] as const) {
    scenario(
      `is told of as probably refreshed by a second system: ${passed}`,
      Effect.map(lostAfter(wait), (message) => assert.strictEqual(message, `${without} ${sentence(passed)}`))
    )
  }

  scenario(
    "is no longer after a day",
    Effect.map(lostAfter("86401 seconds"), (message) => assert.strictEqual(message, without))
  )

  scenario(
    "is told of so also where one refresh went well here, and not where the user connected since",
    Effect.gen(function* () {
      const tokens = yield* CalTokens
      const sandbox = yield* Sandbox
      const given = yield* theirs("oauth2", user())
      yield* outcomes([rowOf(user(), given)])
      yield* TestClock.adjust("31 minutes")
      yield* tokens.ensureValid(user())
      const { calUserId = 0 } = given.connection
      yield* sandbox.revokeRefreshTokens(calUserId)
      yield* TestClock.adjust("31 minutes")
      assert.strictEqual(yield* lostOf(tokens.ensureValid(user())), `${without} ${sentence("1 h")}`)

      const again = yield* theirs("oauth2", user())
      yield* tokens.connect(user(), again.connection, again.tokens)
      yield* sandbox.revokeRefreshTokens(calUserId)
      yield* TestClock.adjust("31 minutes")
      assert.strictEqual(yield* World.passTime(lostOf(tokens.ensureValid(user())), 10_000), without)
    })
  )
})
