import { assert, describe, it } from "@effect/vitest"
import { DateTime, Effect, Redacted } from "effect"
import { instantOf, judge } from "../../../src/Cli/Import/Judging.js"
import { type Fields, Raw } from "../../../src/Cli/Import/Source.js"

const now = DateTime.toEpochMillis(DateTime.unsafeMake("2026-03-01T12:00:00Z"))
const soon = now + 3_600_000

const columns = {
  user: "id",
  calUser: "cal_id",
  accessToken: "access",
  refreshToken: "refresh",
  expiry: "expires_at",
  refreshExpiry: undefined
}

const good: Fields = {
  user: "01arz3ndektsv4rrffq69g5fav",
  calUser: "17",
  accessToken: "SECRET-access",
  refreshToken: "SECRET-refresh",
  expiry: String(soon),
  refreshExpiry: undefined
}

const judged = (fields: Partial<Fields>, kind: "managed" | "oauth2" = "managed") =>
  judge(Raw.Row({ place: 7, done: 7, fields: { ...good, ...fields } }), { kind, clientId: undefined, columns }, now)

describe("an instant", () => {
  it.each([
    [soon, soon],
    [String(soon), soon],
    [soon / 1000, soon],
    [String(soon / 1000), soon],
    ["1772370000.25", 1_772_370_000_250],
    ["2026-03-01T13:00:00Z", "2026-03-01T13:00:00Z"],
    ["2026-03-01T13:00:00.123", "2026-03-01T13:00:00.123Z"],
    ["2026-03-01 13:00:00", "2026-03-01T13:00:00Z"],
    ["2026-03-01 13:00:00.5+00", "2026-03-01T13:00:00.5+00:00"],
    ["2026-03-01 18:30:00+05:30", "2026-03-01T18:30:00+05:30"],
    [" 2026-03-01 13:00 ", "2026-03-01T13:00Z"],
    ["tomorrow", "tomorrow"],
    ["-1", "-1"],
    [true, true],
    [undefined, undefined]
  ])("is read as systems write it: %s", (value, expected) => {
    assert.strictEqual(instantOf(value), expected)
  })
})

describe("a row", () => {
  it.effect("becomes a connection, in the form that the product takes", () =>
    Effect.gen(function* () {
      const result = yield* judged({})
      assert.deepStrictEqual(result, {
        _tag: "Connection",
        place: 7,
        user: "01arz3ndektsv4rrffq69g5fav",
        row: {
          userUlid: "01ARZ3NDEKTSV4RRFFQ69G5FAV",
          connection: { _tag: "ManagedUser", clientId: undefined, calUserId: 17 },
          tokens: {
            accessToken: Redacted.make("SECRET-access"),
            refreshToken: Redacted.make("SECRET-refresh"),
            accessTokenExpiresAt: soon,
            refreshTokenExpiresAt: undefined
          }
        }
      })
    })
  )

  it.effect("of an OAuth2 user need not say who that is at Cal.com", () =>
    Effect.gen(function* () {
      const result = yield* judged({ calUser: "" }, "oauth2")
      assert.strictEqual(result._tag, "Connection")
      if (result._tag !== "Connection") return
      assert.deepStrictEqual(result.row.connection, { _tag: "OAuth2", clientId: undefined, calUserId: undefined })
    })
  )

  it.effect("with neither account nor tokens is a user who is not connected", () =>
    Effect.gen(function* () {
      assert.strictEqual((yield* judged({ calUser: null, accessToken: "", refreshToken: undefined }))._tag, "None")
      assert.strictEqual((yield* judged({ calUser: null, accessToken: "" }))._tag, "Rejected")
    })
  )

  /** A token of `sub`, as Cal.com writes them. */
  const tokenOf = (userId: number) =>
    `e30.${Buffer.from(JSON.stringify({ type: "access_token", userId, ownerId: userId })).toString("base64url")}.c2ln`

  it.effect.each([
    [{ user: "jane@example.com" }, /^id must be a ULID, /],
    [{ calUser: undefined }, /^cal_id is required$/],
    [{ calUser: "0" }, /^cal_id must be a positive whole number$/],
    [{ calUser: "17.5" }, /^cal_id must be a positive whole number$/],
    [{ accessToken: "" }, /^access is required$/],
    [{ accessToken: "SECRET with spaces" }, /^access must be a token /],
    [{ refreshToken: { SECRET: 1 } }, /^refresh must be a token /],
    [{ expiry: "" }, /^expires_at is required$/],
    [{ expiry: "SECRET" }, /^expires_at must be an instant /],
    [{ expiry: "2031-01-01" }, /^expires_at must be an instant /],
    [{ accessToken: tokenOf(18) }, /^cal_id must be the Cal\.com user that the access token names$/]
  ] as const)("is rejected in the words of its columns, without any value: %o", ([fields, reason]) =>
    Effect.gen(function* () {
      const result = yield* judged(fields)
      assert.strictEqual(result._tag, "Rejected")
      if (result._tag !== "Rejected") return
      assert.match(result.rejected.reason, reason)
      assert.strictEqual(result.rejected.place, 7)
      assert.notInclude(JSON.stringify(result), "SECRET")
    })
  )

  it.effect("is told with its user, unless that is a token", () =>
    Effect.gen(function* () {
      const userOf = (fields: Partial<Fields>) =>
        Effect.map(judged({ expiry: "", ...fields }), (result) =>
          result._tag === "Rejected" ? result.rejected.user : assert.fail(result._tag)
        )
      assert.strictEqual(yield* userOf({}), good.user)
      assert.strictEqual(yield* userOf({ user: 12 }), "12")
      assert.strictEqual(yield* userOf({ user: "jane@example.com" }), "jane@example.com")
      assert.strictEqual(yield* userOf({ user: "SECRET-access" }), undefined)
      assert.strictEqual(yield* userOf({ user: "S".repeat(37) }), undefined)
    })
  )
})
