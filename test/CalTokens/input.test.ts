/** What is handed in: garbage is refused at the edge and changes nothing. */
import { inspect } from "node:util"
import { assert, describe } from "@effect/vitest"
import { Effect, Redacted, TestClock } from "effect"
import { CalTokens } from "../../src/CalTokens.js"
import { Sandbox } from "../../src/Sandbox.js"
import type { PairInput } from "../../src/TokenInput.js"
import type { TokenError } from "../../src/TokenError.js"
import * as World from "../support/World.js"

const { reveal, scenario, user } = World

const year = 365 * 86_400_000

const badExpiries: ReadonlyArray<readonly [string, unknown]> = [
  ["missing", undefined],
  ["null", null],
  ["abc", "abc"],
  ["empty", ""],
  ["0", 0],
  ["negative", -1],
  ["NaN", Number.NaN],
  ["Infinity", Infinity],
  ["seconds", Math.floor(World.epoch / 1000) + 3600],
  ["a number of seconds as lifetime", 3600],
  ["the year 57000", World.epoch * 1000],
  ["more than two years ahead", World.epoch + 731 * 86_400_000],
  ["more than two years ago", World.epoch - 731 * 86_400_000],
  ["digits in a text", String(World.epoch + 3_600_000)],
  ["a date without a zone", "2026-01-15T13:00:00"],
  ["a date without a time", "2026-01-16"],
  ["a 13th month", "2026-13-01T00:00:00Z"],
  ["a bigint", BigInt(World.epoch)],
  ["a Date", { getTime: () => World.epoch }],
  ["an array", [World.epoch + 3_600_000]]
]

const badTokens: ReadonlyArray<readonly [string, unknown]> = [
  ["missing", undefined],
  ["empty", ""],
  ["with a space", "a b"],
  ["with a line break", "a\r\nx-evil: 1"],
  ["not ASCII", "tökén"],
  ["8193 characters long", "a".repeat(8193)],
  ["a number", 42],
  ["hidden and empty", Redacted.make("")]
]

const changed = (pair: PairInput, field: string, value: unknown): PairInput => ({ ...pair, [field]: value })

describe("S21: connect", () => {
  for (const [field, values] of [
    ["accessTokenExpiresAt", badExpiries],
    ["refreshTokenExpiresAt", badExpiries.slice(2)],
    ["accessToken", badTokens],
    ["refreshToken", badTokens]
  ] as const) {
    scenario(
      `a ${field} that is wrong in any way is InvalidInput, and nothing changed`,
      Effect.gen(function* () {
        const { grant, sandbox, tap, tokens } = yield* World.connected("managed")
        const before = yield* World.stored()
        const connection = { _tag: "ManagedUser", calUserId: grant.calUserId } as const
        yield* tap.reset
        for (const [what, value] of values) {
          const pair = changed(grant, field, value)
          const attempts: ReadonlyArray<Effect.Effect<unknown, TokenError>> = [
            tokens.connect(user(), connection, pair),
            tokens.connect(user(2), connection, pair, { replace: true }),
            tokens.update(user(), pair)
          ]
          for (const attempt of attempts) {
            const error = yield* Effect.flip(attempt)
            assert.strictEqual(error._tag, "InvalidInput", what)
            assert.strictEqual(error._tag === "InvalidInput" && error.field, field, what)
          }
        }
        assert.deepStrictEqual(
          ["connect", "update"].map((it) => tap.count(it as "connect")),
          [0, 0]
        )
        assert.deepStrictEqual(yield* World.stored(), before)
        assert.isFalse((yield* tokens.ensureValid(user())).refreshed)
        assert.strictEqual((yield* sandbox.calls).length, 0)
      })
    )
  }

  scenario(
    "an expiry in the recent past is fine and means expired; one in the far future of two years is fine too",
    Effect.gen(function* () {
      const tokens = yield* CalTokens
      const sandbox = yield* Sandbox
      const grant = yield* sandbox.grantManaged({})
      const connection = { _tag: "ManagedUser", calUserId: grant.calUserId } as const
      for (const accessTokenExpiresAt of [
        World.epoch - 1,
        World.epoch - 2 * year,
        World.epoch,
        World.epoch + 2 * year,
        "2026-01-15T13:00:00Z",
        "2026-01-15T14:00:00.123+01:00"
      ]) {
        const info = yield* tokens.connect(user(), connection, { ...grant, accessTokenExpiresAt })
        assert.strictEqual(
          info.isExpired,
          typeof accessTokenExpiresAt === "number" && accessTokenExpiresAt <= World.epoch
        )
      }
      const info = yield* tokens.connect(user(), connection, { ...grant, accessTokenExpiresAt: World.epoch - 1 })
      assert.isTrue(info.isExpired)
      assert.isTrue((yield* tokens.ensureValid(user())).refreshed)
    })
  )

  scenario(
    "a pair with hardly any life left, or an age that cannot be, is not refreshed on each call",
    Effect.gen(function* () {
      const { sandbox, tokens } = yield* World.connected("managed")
      for (let i = 0; i < 100; i++) {
        yield* Effect.either(tokens.ensureValid(user()))
        yield* World.settle
        yield* TestClock.adjust("100 millis")
      }
      // Lives of 8 s: soon is 2 s of them.
      assert.isAtMost(yield* sandbox.count("refresh"), 2)
    }),
    { sandbox: { accessTokenLifetime: "8 seconds" } }
  )
})

describe("whose token", () => {
  scenario(
    "a token that names another Cal.com user than the connection is refused, by connect and by update",
    Effect.gen(function* () {
      const tokens = yield* CalTokens
      const sandbox = yield* Sandbox
      const mine = yield* World.connectManaged(user(1))
      const before = yield* World.stored(user(1))
      const other = yield* sandbox.grantManaged({ email: "other@example.com" })
      const attempts: ReadonlyArray<Effect.Effect<unknown, TokenError>> = [
        tokens.update(user(1), other),
        tokens.connect(user(1), { _tag: "ManagedUser", calUserId: mine.calUserId }, other),
        tokens.connect(user(2), { _tag: "OAuth2", calUserId: mine.calUserId }, other)
      ]
      for (const attempt of attempts) {
        const error = yield* Effect.flip(attempt)
        assert.isTrue(error._tag === "InvalidInput" && error.field === "calUserId")
      }
      assert.deepStrictEqual(yield* World.stored(user(1)), before)
    })
  )

  scenario(
    "S18: one Cal.com account for two users is refused, unless it is to be replaced",
    Effect.gen(function* () {
      const tokens = yield* CalTokens
      const sandbox = yield* Sandbox
      const grant = yield* World.connectManaged(user(1))
      const connection = { _tag: "ManagedUser", calUserId: grant.calUserId } as const
      assert.strictEqual((yield* Effect.flip(tokens.connect(user(2), connection, grant)))._tag, "CalAccountInUse")
      assert.strictEqual((yield* Effect.flip(tokens.info(user(2))))._tag, "TokensNotFound")
      yield* tokens.connect(user(2), connection, grant, { replace: true })
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual((yield* Effect.flip(tokens.ensureValid(user(1))))._tag, "TokensNotFound")
      yield* TestClock.adjust("61 minutes")
      assert.isTrue((yield* tokens.ensureValid(user(2))).refreshed)
      assert.strictEqual(yield* sandbox.count("refresh"), 1)
    })
  )

  scenario(
    "an OAuth2 connection takes the user that its token names; a managed one must be told, as a positive number",
    Effect.gen(function* () {
      const tokens = yield* CalTokens
      const sandbox = yield* Sandbox
      const oauth2 = yield* sandbox.grantOAuth2({ email: "a@example.com" })
      const accessTokenExpiresAt = World.epoch + 1_800_000
      const info = yield* tokens.connect(user(1), { _tag: "OAuth2" }, { ...oauth2, accessTokenExpiresAt })
      assert.strictEqual(info.connection.calUserId, oauth2.calUserId)
      for (const calUserId of [0, -1, 1.5, Number.NaN, Infinity]) {
        const pair = { accessToken: "opaque", refreshToken: "opaque", accessTokenExpiresAt }
        const error = yield* Effect.flip(tokens.connect(user(2), { _tag: "ManagedUser", calUserId }, pair))
        assert.strictEqual(error._tag, "InvalidInput")
      }
    })
  )

  scenario(
    "the scope of an OAuth2 connection is what a database and a page can take",
    Effect.gen(function* () {
      const tokens = yield* CalTokens
      const grant = { accessToken: "opaque", refreshToken: "opaque", accessTokenExpiresAt: World.epoch + 1_800_000 }
      const connect = (scope: unknown) => tokens.connect(user(), { _tag: "OAuth2", scope: scope as string }, grant)
      for (const scope of ["PROFILE_READ\0", "\0", "A\nB", "é", "A".repeat(2049), "A".repeat(900_000), 7, ["A"]]) {
        const error = yield* Effect.flip(connect(scope))
        assert.isTrue(error._tag === "InvalidInput" && error.field === "scope")
      }
      assert.strictEqual((yield* Effect.flip(tokens.info(user())))._tag, "TokensNotFound")
      for (const scope of ["A".repeat(2048), "PROFILE_READ BOOKING_READ", "A,B", "", null, undefined])
        yield* connect(scope)
    })
  )

  scenario(
    "an update of a user who never connected is TokensNotFound",
    Effect.gen(function* () {
      const tokens = yield* CalTokens
      const sandbox = yield* Sandbox
      const grant = yield* sandbox.grantManaged({})
      assert.strictEqual((yield* Effect.flip(tokens.update(user(), grant)))._tag, "TokensNotFound")
      assert.strictEqual((yield* Effect.flip(tokens.ensureValid(user())))._tag, "TokensNotFound")
      assert.strictEqual((yield* Effect.flip(tokens.refresh(user(), { reissue: true })))._tag, "TokensNotFound")
    })
  )

  scenario(
    "P10: no error and no information about a user contains a token",
    Effect.gen(function* () {
      const { grant, tokens } = yield* World.connected("managed")
      const seen = [
        yield* tokens.info(user()),
        yield* Effect.flip(tokens.update(user(), { ...grant, accessTokenExpiresAt: 0 })),
        yield* Effect.flip(tokens.update(user(), { ...grant, accessToken: `${reveal(grant.accessToken)} ` }))
      ]
      for (const value of seen) {
        const text = JSON.stringify(value) + inspect(value)
        assert.notInclude(text, reveal(grant.accessToken).slice(-40))
        assert.notInclude(text, reveal(grant.refreshToken).slice(-40))
      }
    })
  )
})
