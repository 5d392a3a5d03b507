import { inspect } from "node:util"
import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Either, Exit, FastCheck as fc, JSONSchema, Option, Redacted, Schema } from "effect"
import { PutConnection } from "../src/Api/Connections.js"
import { unverifiedClaims, UserUlid } from "../src/Token.js"
import { InvalidInput, toFailure } from "../src/TokenError.js"
import * as TokenInput from "../src/TokenInput.js"

const now = Date.UTC(2026, 0, 15, 12)
const twoYears = 730 * 86_400_000
const run = <A>(effect: Effect.Effect<A, InvalidInput>) => Effect.runSync(Effect.either(effect))
const refusal = <A>(effect: Effect.Effect<A, InvalidInput>) => Either.getOrThrow(Either.flip(run(effect)))

/** Everything that an error says, in any rendering. */
const said = (error: InvalidInput) =>
  [
    JSON.stringify(error),
    inspect(error, { depth: Infinity, showHidden: true }),
    String(error),
    error.stack,
    Cause.pretty(Cause.fail(error), { renderErrorCause: true }),
    JSON.stringify(toFailure(error)),
    JSON.stringify(Schema.encodeSync(InvalidInput)(error))
  ].join("\n")

const expiry = (value: unknown) => TokenInput.expiry("accessTokenExpiresAt", value, now)

describe("expiry", () => {
  it("refuses what is missing, no number, or no instant", () => {
    const wrong: ReadonlyArray<unknown> = [
      undefined,
      null,
      "",
      "abc",
      NaN,
      Infinity,
      -Infinity,
      true,
      {},
      [now],
      BigInt(now),
      new Date(now),
      // A number as text could mean seconds as well as milliseconds.
      String(now),
      `${now}`,
      "1e12",
      "0x18bcfe568"
    ]
    for (const value of wrong) assert.strictEqual(refusal(expiry(value)).field, "accessTokenExpiresAt", inspect(value))
  })

  it("refuses instants that nobody can mean: 1970, seconds, year 57000", () => {
    const wrong = [
      0,
      -1,
      -now,
      1,
      now / 1000,
      now * 1000,
      Number.MAX_SAFE_INTEGER,
      Number.MAX_VALUE,
      "1970-01-01T00:00:00Z"
    ]
    for (const value of wrong) assert.include(refusal(expiry(value)).message, "milliseconds since 1970")
  })

  it("takes two years either way and not a millisecond more", () => {
    for (const value of [now, now - 1, now + twoYears, now - twoYears]) {
      assert.deepStrictEqual(run(expiry(value)), Either.right(value))
    }
    for (const value of [now + twoYears + 1, now - twoYears - 1]) refusal(expiry(value))
    fc.assert(
      fc.property(fc.double({ noNaN: true }), (value) => {
        assert.strictEqual(Either.isRight(run(expiry(value))), Math.abs(value - now) <= twoYears)
      })
    )
  })

  it("takes whole milliseconds from fractions of them", () => {
    assert.deepStrictEqual(run(expiry(now + 0.9)), Either.right(now))
  })

  it("takes ISO 8601 with a zone", () => {
    for (const text of [
      "2026-01-15T12:00:00Z",
      "2026-01-15T12:00:00.000Z",
      "2026-01-15T12:00Z",
      "2026-01-15t12:00:00z",
      "2026-01-15T12:00:00.000000000Z",
      "2026-01-15T13:30:00+01:30",
      "2026-01-15T13:30:00+0130",
      "2026-01-14T23:00:00-13:00"
    ]) {
      assert.deepStrictEqual(run(expiry(text)), Either.right(now), text)
    }
  })

  it("refuses ISO 8601 without a zone: it would mean another instant on every server", () => {
    for (const text of ["2026-01-15T12:00:00", "2026-01-15T12:00", "2026-01-15", "20260115T120000Z", "2026-W03-4"]) {
      refusal(expiry(text))
    }
  })

  it("refuses days and times that do not exist", () => {
    for (const text of [
      "2026-02-30T00:00:00Z",
      "2026-02-29T00:00:00Z",
      "2026-04-31T00:00:00Z",
      "2026-02-30T00:00:00+05:00",
      "2026-13-01T00:00:00Z",
      "2026-00-01T00:00:00Z",
      "2026-01-00T00:00:00Z",
      "2026-01-15T25:00:00Z",
      "2026-01-15T24:01:00Z",
      "2026-01-15T12:60:00Z",
      "2026-01-15T12:00:60Z",
      "2026-01-15T12:00:00+25:00",
      "2026-01-15T12:00:00Z[UTC]",
      "2026-01-15 12:00:00Z",
      " 2026-01-15T12:00:00Z",
      "2026-01-15T12:00:00Z\n"
    ]) {
      refusal(expiry(text))
    }
    const leapDay = TokenInput.parseInstant("2024-02-29T00:00:00Z")
    assert.strictEqual(Option.getOrNull(leapDay), Date.UTC(2024, 1, 29), "a leap day exists")
  })

  it("reads back every instant in every zone", () => {
    const zone = fc.tuple(fc.constantFrom("+", "-"), fc.integer({ min: 0, max: 23 }), fc.integer({ min: 0, max: 59 }))
    const pad = (n: number) => String(n).padStart(2, "0")
    fc.assert(
      fc.property(fc.integer({ min: now - twoYears, max: now + twoYears }), zone, (millis, [sign, hours, minutes]) => {
        const offset = (hours * 60 + minutes) * 60_000 * (sign === "+" ? 1 : -1)
        const local = new Date(millis + offset).toISOString().slice(0, -1)
        assert.deepStrictEqual(run(expiry(`${local}${sign}${pad(hours)}:${pad(minutes)}`)), Either.right(millis))
      })
    )
  })

  it("takes from a text only what is exactly that instant again", () => {
    // No digit of it may be ignored or reinterpreted.
    const part = (max: number) => fc.integer({ min: 0, max }).map((n) => String(n).padStart(2, "0"))
    const text = fc
      .tuple(part(14), part(33), part(26), part(62), part(62))
      .map(([month, day, hour, minute, second]) => `2026-${month}-${day}T${hour}:${minute}:${second}Z`)
    fc.assert(
      fc.property(text, (value) => {
        const millis = TokenInput.parseInstant(value)
        if (Option.isNone(millis) || value.includes("T24:00:00")) return
        assert.strictEqual(new Date(millis.value).toISOString(), value.replace("Z", ".000Z"))
      }),
      { numRuns: 2000 }
    )
  })
})

describe("token", () => {
  const token = (value: unknown) => TokenInput.token("accessToken", value)

  it("takes printable ASCII, plain or redacted", () => {
    const text = fc.string({
      unit: fc.integer({ min: 0x21, max: 0x7e }).map((code) => String.fromCharCode(code)),
      minLength: 1
    })
    fc.assert(
      fc.property(text, fc.boolean(), (value, redacted) => {
        const taken = Either.getOrThrow(run(token(redacted ? Redacted.make(value) : value)))
        assert.strictEqual(Redacted.value(taken), value)
      })
    )
    const longest = "x".repeat(TokenInput.maxTokenLength)
    assert.strictEqual(Redacted.value(Either.getOrThrow(run(token(longest)))), longest)
  })

  const bad: ReadonlyArray<readonly [string, unknown]> = [
    ["missing", undefined],
    ["null", null],
    ["empty", ""],
    ["a number", 7],
    ["an object", { token: "eyJsecretsecret" }],
    ["a list", ["eyJsecretsecret"]],
    ["over-long", "eyJsecretsecret".repeat(1000)],
    ["one too long", "x".repeat(TokenInput.maxTokenLength + 1)],
    ["with CR and LF", "eyJsecretsecret\r\nx-cal-secret-key: 1"],
    ["with a trailing LF", "eyJsecretsecret\n"],
    ["with a space", "eyJ secretsecret"],
    ["with a leading tab", "\teyJsecretsecret"],
    ["with NUL", "eyJsecretsecret\0"],
    ["with DEL", "eyJsecretsecret\x7f"],
    ["not ASCII", "eyJsecretsecret€"],
    ["a scheme and a token", "Bearer eyJsecretsecret"]
  ]

  for (const [name, value] of bad) {
    it(`refuses one that is ${name}, echoing nothing of it`, () => {
      for (const input of [value, Redacted.make(value)]) {
        const error = refusal(token(input))
        assert.strictEqual(error.field, "accessToken")
        assert.notInclude(said(error), "secretsecret")
        assert.notInclude(said(error), "xxxx")
      }
    })
  }
})

describe("pair", () => {
  const jwt = (claims: object) => `e30.${Buffer.from(JSON.stringify(claims)).toString("base64url")}.c2ln`
  const issuedAt = now - 60_000
  const accessToken = jwt({ ownerId: 7, iat: issuedAt / 1000 })
  const input = { accessToken, refreshToken: "r", accessTokenExpiresAt: now + 3_600_000 }
  const decode = (changes: object = {}) => run(TokenInput.pair({ ...input, ...changes }, now))
  const decoded = (changes: object = {}) => Either.getOrThrow(decode(changes))

  it("is as handed in, with the age and the user that its access token names", () => {
    const { calUserId, pair } = decoded({ refreshTokenExpiresAt: "2026-12-15T12:00:00Z" })
    assert.deepStrictEqual(Option.getOrThrow(calUserId), 7)
    assert.deepStrictEqual(pair, {
      accessToken: Redacted.make(accessToken),
      refreshToken: Redacted.make("r"),
      accessTokenExpiresAt: now + 3_600_000,
      issuedAt,
      refreshTokenExpiresAt: Date.UTC(2026, 11, 15, 12)
    })
    assert.deepStrictEqual(unverifiedClaims(pair.accessToken), { issuedAt, calUserId: 7 })
  })

  it("has no age when its token's cannot be true", () => {
    const ages = [now + 11_000, now + 3_600_000, now + 4_000_000, now - twoYears, 0, -1e18]
    for (const millis of ages) {
      const { pair } = decoded({ accessToken: jwt({ iat: millis / 1000 }) })
      assert.notProperty(pair, "issuedAt", String(millis))
    }
    // Clocks differ a little.
    assert.strictEqual(decoded({ accessToken: jwt({ iat: now / 1000 + 5 }) }).pair.issuedAt, now + 5000)
    assert.notProperty(decoded({ accessToken: "opaque" }).pair, "issuedAt")
  })

  it("takes an expiry of the recent past: the token is expired, not wrong", () => {
    assert.strictEqual(decoded({ accessTokenExpiresAt: now - 1 }).pair.accessTokenExpiresAt, now - 1)
  })

  it("names the field that is wrong", () => {
    const field = (changes: object) => Either.getOrThrow(Either.flip(decode(changes))).field
    assert.strictEqual(field({ accessToken: "" }), "accessToken")
    assert.strictEqual(field({ refreshToken: undefined }), "refreshToken")
    assert.strictEqual(field({ accessTokenExpiresAt: undefined }), "accessTokenExpiresAt")
    assert.strictEqual(field({ refreshTokenExpiresAt: now / 1000 }), "refreshTokenExpiresAt")
  })

  it("says of what is missing that it is required, and takes null for what is not there", () => {
    const message = (changes: object) => Either.getOrThrow(Either.flip(decode(changes))).message
    for (const nothing of [undefined, null]) {
      for (const field of ["accessToken", "refreshToken", "accessTokenExpiresAt"]) {
        assert.include(message({ [field]: nothing }), `${field} is required`)
      }
      assert.notProperty(decoded({ refreshTokenExpiresAt: nothing }).pair, "refreshTokenExpiresAt")
    }
  })

  it("fails as InvalidInput and nothing else, whatever comes", () => {
    const value = fc.anything()
    const record = fc.record(
      { accessToken: value, refreshToken: value, accessTokenExpiresAt: value, refreshTokenExpiresAt: value },
      { requiredKeys: [] }
    )
    fc.assert(
      fc.property(fc.oneof(value, record), (anything) => {
        const exit = Effect.runSyncExit(TokenInput.pair(anything, now))
        assert.isTrue(Exit.isSuccess(exit) || (exit.cause._tag === "Fail" && exit.cause.error instanceof InvalidInput))
      }),
      { numRuns: 1000 }
    )
  })

  it("never echoes a value, whichever field is wrong", () => {
    const secret = fc
      .string({ unit: "grapheme-ascii", minLength: 12, maxLength: 60 })
      .filter((text) => !/^[a-z ]*$/.test(text))
    const field = fc.constantFrom("accessToken", "refreshToken", "accessTokenExpiresAt", "refreshTokenExpiresAt")
    fc.assert(
      fc.property(secret, secret, field, (token, value, name) => {
        const changes = { accessToken: token, refreshToken: `${token}r`, [name]: `\u0000${value}` }
        const text = said(Either.getOrThrow(Either.flip(decode(changes))))
        for (const piece of [token, value, JSON.stringify(token).slice(1, -1), JSON.stringify(value).slice(1, -1)]) {
          assert.isFalse(text.includes(piece))
        }
      })
    )
  })
})

describe("userUlid and calUserId", () => {
  it("name what is expected", () => {
    for (const value of ["", "nobody", 7, null, "01ARZ3NDEKTSV4RRFFQ69G5FAU", "eyJsecretsecret"]) {
      const error = refusal(TokenInput.userUlid(value))
      assert.strictEqual(error.field, "userUlid")
      assert.notInclude(said(error), "secretsecret")
    }
    assert.deepStrictEqual(
      run(TokenInput.userUlid("01arz3ndektsv4rrffq69g5fav")),
      Either.right(UserUlid.make("01ARZ3NDEKTSV4RRFFQ69G5FAV"))
    )
  })

  it("take positive whole numbers only", () => {
    assert.deepStrictEqual(run(TokenInput.calUserId(1)), Either.right(1))
    for (const value of [0, -1, 1.5, NaN, Infinity, 2 ** 53, "7", null, undefined, 7n]) {
      assert.strictEqual(refusal(TokenInput.calUserId(value)).field, "calUserId")
    }
  })
})

describe("the HTTP API's document", () => {
  // The API is a value that browsers load, so it imports nothing of the judging.
  it("tells the bounds that are judged by", () => {
    const { properties } = JSONSchema.make(PutConnection) as {
      readonly properties?: Record<string, { readonly maxLength?: number }>
    }
    const told = ["accessToken", "refreshToken", "scope"].map((name) => properties?.[name]?.maxLength)
    const { maxScopeLength, maxTokenLength } = TokenInput
    assert.deepStrictEqual(told, [maxTokenLength, maxTokenLength, maxScopeLength])
  })
})
