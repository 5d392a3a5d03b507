import { assert, describe, it } from "@effect/vitest"
import { Duration, Either, FastCheck as fc, Option, Redacted, Schema } from "effect"
import { SignJWT } from "jose"
import {
  Connection,
  type Freshness,
  freshness,
  hash,
  isExpired,
  isExpiringSoon,
  isSameAccount,
  lifetimeMillis,
  TokenPair,
  ulidFromUuid,
  unverifiedClaims,
  UserUlid,
  uuidFromUlid
} from "../src/Token.js"
import { defaults } from "../src/TokenConfig.js"

const { windows } = defaults
const minute = 60_000
const expiresAt = Date.UTC(2026, 0, 15, 13)

const pairOf = (issuedAt?: number): TokenPair => ({
  accessToken: Redacted.make("a"),
  refreshToken: Redacted.make("r"),
  accessTokenExpiresAt: expiresAt,
  ...(issuedAt === undefined ? {} : { issuedAt })
})

const order: ReadonlyArray<Freshness> = ["fresh", "expiringSoon", "due", "expired"]
const rank = (value: Freshness) => order.indexOf(value)

describe("UserUlid", () => {
  const crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
  const ulid = fc
    .tuple(
      fc.constantFrom(..."01234567"),
      fc.array(fc.constantFrom(...crockford), { minLength: 25, maxLength: 25 }).map((chars) => chars.join(""))
    )
    .map((parts) => parts.join(""))
  const decode = Schema.decodeUnknownEither(UserUlid)
  const replaceAt = (text: string, index: number, char: string) => text.slice(0, index) + char + text.slice(index + 1)

  it("names the same user in any letter case", () => {
    fc.assert(
      fc.property(ulid, fc.array(fc.boolean(), { minLength: 26, maxLength: 26 }), (text, lower) => {
        const mixed = [...text].map((char, i) => (lower[i] ? char.toLowerCase() : char)).join("")
        assert.deepStrictEqual(decode(mixed), Either.right(text as UserUlid))
        assert.strictEqual(Schema.encodeSync(UserUlid)(UserUlid.make(text)), text)
      })
    )
  })

  it("refuses I, L, O and U everywhere", () => {
    fc.assert(
      fc.property(ulid, fc.constantFrom(..."ILOUilou"), fc.integer({ min: 0, max: 25 }), (text, char, index) => {
        assert.isTrue(Either.isLeft(decode(replaceAt(text, index, char))))
      })
    )
  })

  it("refuses a first character above 7: 128 bits cannot hold it", () => {
    fc.assert(
      fc.property(ulid, fc.constantFrom(...crockford.slice(8)), (text, char) => {
        assert.isTrue(Either.isLeft(decode(replaceAt(text, 0, char))))
      })
    )
    assert.isTrue(Either.isRight(decode("7ZZZZZZZZZZZZZZZZZZZZZZZZZ")))
  })

  it("refuses other lengths, spaces, and characters that only become letters in upper case", () => {
    const text = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
    for (const wrong of [
      "",
      text.slice(1),
      `${text}0`,
      ` ${text}`,
      `${text}\n`,
      replaceAt(text, 5, "-"),
      replaceAt(text, 5, "ſ"),
      // Twenty-five characters that would be twenty-six.
      `01ARZ3NDEKTSV4RRFFQ69G5F${"ﬀ"}`,
      26,
      null,
      undefined,
      { length: 26 }
    ]) {
      assert.isTrue(Either.isLeft(decode(wrong)), JSON.stringify(wrong))
    }
  })

  it("says what is expected and not what it got", () => {
    const error = Either.getOrThrow(Either.flip(decode("eyJhbGciOiJIUzI1NiJ9.secret")))
    assert.include(error.message, "must be a ULID")
    assert.notInclude(error.message, "eyJ")
  })
})

describe("UUIDs", () => {
  const decode = Schema.decodeUnknownEither(UserUlid)
  /** Worked out by hand, and by a calculator of whole numbers. */
  const pairs = [
    ["01563e3a-b5d3-d676-4c61-efb99302bd5b", "01ARZ3NDEKTSV4RRFFQ69G5FAV"],
    ["00000000-0000-0000-0000-000000000000", "00000000000000000000000000"],
    ["ffffffff-ffff-ffff-ffff-ffffffffffff", "7ZZZZZZZZZZZZZZZZZZZZZZZZZ"],
    ["80000000-0000-0000-0000-000000000001", "40000000000000000000000001"]
  ] as const

  it("name the users of the ULIDs with the same 128 bits, both ways", () => {
    for (const [uuid, ulid] of pairs) {
      for (const text of [uuid, uuid.toUpperCase()]) {
        assert.deepStrictEqual(decode(text), Either.right(UserUlid.make(ulid)))
        assert.deepStrictEqual(ulidFromUuid(text), Option.some(UserUlid.make(ulid)))
      }
      assert.strictEqual(uuidFromUlid(UserUlid.make(ulid)), uuid)
    }
  })

  it("come back as they were, whichever they are, and stay in order", () => {
    fc.assert(
      fc.property(fc.uuid(), fc.uuid(), (one, other) => {
        const [first, second] = [one, other].map((uuid) => Option.getOrThrow(ulidFromUuid(uuid)))
        assert(first !== undefined && second !== undefined)
        assert.match(first, /^[0-7][0-9A-HJKMNP-TV-Z]{25}$/)
        assert.strictEqual(uuidFromUlid(first), one)
        assert.strictEqual(first < second, one < other)
      })
    )
  })

  it("have one form", () => {
    const uuid = pairs[0][0]
    for (const wrong of [
      uuid.replaceAll("-", ""),
      `{${uuid}}`,
      `urn:uuid:${uuid}`,
      ` ${uuid}`,
      `${uuid}\n`,
      uuid.slice(1),
      uuid.replace("-", "0"),
      uuid.replace("0", "g"),
      "x".repeat(36)
    ]) {
      assert.isTrue(Either.isLeft(decode(wrong)), JSON.stringify(wrong))
      assert.isTrue(Option.isNone(ulidFromUuid(wrong)), JSON.stringify(wrong))
    }
    // Of a ULID the caller knows already that it is one.
    assert.isTrue(Option.isNone(ulidFromUuid(pairs[0][1])))
  })
})

describe("windows", () => {
  it("begin exactly at their margins and end exactly at the expiry", () => {
    const at = (before: number) => freshness(pairOf(), expiresAt - before, windows)
    assert.deepStrictEqual(
      [5 * minute + 1, 5 * minute, minute + 1, minute, 1, 0, -1].map((before) => [before, at(before)]),
      [
        [5 * minute + 1, "fresh"],
        [5 * minute, "expiringSoon"],
        [minute + 1, "expiringSoon"],
        [minute, "due"],
        [1, "due"],
        [0, "expired"],
        [-1, "expired"]
      ]
    )
  })

  it("are clamped to a quarter and a tenth of the lifetime", () => {
    // Ten minutes of life: soon in the last 2.5 minutes, due in the last one.
    const at = (before: number) => freshness(pairOf(expiresAt - 10 * minute), expiresAt - before, windows)
    assert.strictEqual(at(150_001), "fresh")
    assert.strictEqual(at(150_000), "expiringSoon")
    assert.strictEqual(at(60_001), "expiringSoon")
    assert.strictEqual(at(60_000), "due")
    // One minute of life: soon in the last 15 s, due in the last 6 s.
    const shortly = (before: number) => freshness(pairOf(expiresAt - minute), expiresAt - before, windows)
    assert.strictEqual(shortly(15_001), "fresh")
    assert.strictEqual(shortly(15_000), "expiringSoon")
    assert.strictEqual(shortly(6001), "expiringSoon")
    assert.strictEqual(shortly(6000), "due")
  })

  it("are not clamped for Cal.com's own lifetimes, nor without a credible one", () => {
    for (const issuedAt of [expiresAt - 59 * minute, expiresAt - 30 * minute, undefined, expiresAt, expiresAt + 1]) {
      assert.strictEqual(freshness(pairOf(issuedAt), expiresAt - 5 * minute, windows), "expiringSoon")
      assert.strictEqual(freshness(pairOf(issuedAt), expiresAt - 5 * minute - 1, windows), "fresh")
    }
    assert.isTrue(Option.isNone(lifetimeMillis(pairOf(expiresAt))))
    assert.isTrue(Option.isNone(lifetimeMillis(pairOf(NaN))))
    assert.strictEqual(Option.getOrNull(lifetimeMillis(pairOf(expiresAt - 1))), 1)
  })

  it("only ever advance with time", () => {
    const anyWindows = fc.record({
      soon: fc.integer({ min: 0, max: 100 * minute }).map(Duration.millis),
      soonFraction: fc.double({ min: 0, max: 1, noNaN: true }),
      due: fc.integer({ min: 0, max: 100 * minute }).map(Duration.millis),
      dueFraction: fc.double({ min: 0, max: 1, noNaN: true })
    })
    const instant = fc.integer({ min: expiresAt - 200 * minute, max: expiresAt + 10 * minute })
    fc.assert(
      fc.property(anyWindows, fc.option(instant, { nil: undefined }), instant, instant, (some, issuedAt, a, b) => {
        const pair = pairOf(issuedAt)
        const [early, late] = a < b ? [a, b] : [b, a]
        assert.isAtMost(rank(freshness(pair, early, some)), rank(freshness(pair, late, some)))
        const now = freshness(pair, a, some)
        assert.strictEqual(isExpired(pair, a), now === "expired")
        assert.strictEqual(isExpiringSoon(pair, a, some), now !== "fresh")
      })
    )
  })

  it("leave three quarters of any known lifetime alone", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1000, max: 400 * minute }),
        fc.double({ min: 0, max: 0.74, noNaN: true }),
        (life, t) => {
          const issuedAt = expiresAt - life
          assert.strictEqual(freshness(pairOf(issuedAt), issuedAt + life * t, windows), "fresh")
        }
      )
    )
  })

  it("take an expiry that is no number for an expired token", () => {
    const pair = { ...pairOf(), accessTokenExpiresAt: NaN }
    assert.strictEqual(freshness(pair, expiresAt, windows), "expired")
    assert.isTrue(isExpired(pair, expiresAt))
  })
})

describe("unverifiedClaims", () => {
  const claimsOf = (claims: unknown) =>
    unverifiedClaims(Redacted.make(`e30.${Buffer.from(JSON.stringify(claims)).toString("base64url")}.c2ln`))

  it("reads what Cal.com's tokens say", async () => {
    const iat = Math.floor(expiresAt / 1000)
    const sign = (claims: Record<string, unknown>) =>
      new SignJWT(claims).setProtectedHeader({ alg: "HS256" }).sign(new Uint8Array(32))
    const read = async (claims: Record<string, unknown>) => unverifiedClaims(Redacted.make(await sign(claims)))
    const managed = { type: "access_token", clientId: "c", ownerId: 7, expiresAt, jti: "x", iat }
    assert.deepStrictEqual(await read(managed), { issuedAt: expiresAt, calUserId: 7 })
    assert.deepStrictEqual(await read({ ...managed, userId: 7 }), { issuedAt: expiresAt, calUserId: 7 })
    const oauth2 = {
      userId: 9,
      teamId: null,
      scope: ["BOOKING_READ"],
      token_type: "Access Token",
      iat,
      exp: iat + 1800
    }
    assert.deepStrictEqual(await read(oauth2), { issuedAt: expiresAt, calUserId: 9 })
  })

  it("takes nothing that cannot be a user or an instant", () => {
    for (const id of [0, -1, 1.5, 1e300, 2 ** 53, "7", null, [7], true]) {
      assert.deepStrictEqual(claimsOf({ ownerId: id, userId: id }), {}, JSON.stringify(id))
    }
    // A finite number of seconds need not be one of milliseconds.
    for (const iat of [1e306, -1e306, "1", null]) assert.deepStrictEqual(claimsOf({ iat }), {}, JSON.stringify(iat))
    assert.deepStrictEqual(claimsOf({ ownerId: "x", userId: 3 }), { calUserId: 3 })
  })

  it("never throws, whatever the text", () => {
    const tokenLike = fc.tuple(fc.string(), fc.anything(), fc.string()).map(([head, claims, tail]) => {
      const payload = JSON.stringify(claims, (_, part: unknown) => (typeof part === "bigint" ? null : part)) ?? ""
      return `${head}.${Buffer.from(payload).toString("base64url")}.${tail}`
    })
    const text = fc.oneof(fc.string(), fc.string({ unit: "binary" }), fc.base64String(), tokenLike)
    fc.assert(
      fc.property(text, (value) => {
        const claims = unverifiedClaims(Redacted.make(value))
        assert.isTrue(
          claims.calUserId === undefined || (Number.isSafeInteger(claims.calUserId) && claims.calUserId > 0)
        )
        assert.isTrue(claims.issuedAt === undefined || Number.isFinite(claims.issuedAt))
      }),
      { numRuns: 1000 }
    )
    for (const part of ["null", "[]", "7", '"x"', "{", '{"__proto__":{"ownerId":7}}']) {
      assert.deepStrictEqual(unverifiedClaims(Redacted.make(`e30.${Buffer.from(part).toString("base64url")}.`)), {})
    }
  })
})

describe("isSameAccount", () => {
  const managed = (calUserId: number, clientId = "c"): Connection => ({ _tag: "ManagedUser", clientId, calUserId })
  const oauth2 = (calUserId?: number, clientId = "c"): Connection => ({
    _tag: "OAuth2",
    clientId,
    ...(calUserId === undefined ? {} : { calUserId })
  })

  it("is the same kind, client and user, and the user has to be known", () => {
    assert.isTrue(isSameAccount(managed(1), managed(1)))
    assert.isTrue(isSameAccount(oauth2(1), { ...oauth2(1), scope: "X" } as Connection))
    assert.isFalse(isSameAccount(managed(1), managed(2)))
    assert.isFalse(isSameAccount(managed(1), managed(1, "d")))
    assert.isFalse(isSameAccount(managed(1), oauth2(1)))
    assert.isFalse(isSameAccount(oauth2(), oauth2()))
    assert.isFalse(isSameAccount(oauth2(1), oauth2()))
  })
})

describe("TokenPair", () => {
  it("hashes as SHA-256", () => {
    assert.strictEqual(hash(Redacted.make("abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
  })

  it("survives its codec, and shows no token in between", () => {
    const pair = { ...pairOf(expiresAt - minute), refreshTokenExpiresAt: expiresAt * 2 }
    const decoded = Schema.decodeSync(TokenPair)(Schema.encodeSync(TokenPair)(pair))
    assert.deepStrictEqual(decoded, pair)
    assert.strictEqual(Redacted.value(decoded.accessToken), "a")
    assert.notInclude(JSON.stringify({ ...pair, accessToken: Redacted.make("sesame") }), "sesame")
  })

  it("keeps connections apart by their tag", () => {
    const codec = Schema.decodeUnknownEither(Connection)
    assert.isTrue(Either.isRight(codec({ _tag: "OAuth2", clientId: "c" })))
    assert.isTrue(Either.isLeft(codec({ _tag: "ManagedUser", clientId: "c" })))
    assert.isTrue(Either.isLeft(codec({ _tag: "ManagedUser", clientId: "c", calUserId: 1.5 })))
  })
})
