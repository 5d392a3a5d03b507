import { inspect } from "node:util"
import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Cause, Duration, FastCheck as fc, Option, Schema } from "effect"
import { UserUlid } from "../src/Token.js"
import * as TokenError from "../src/TokenError.js"

const userUlid = UserUlid.make("01ARZ3NDEKTSV4RRFFQ69G5FAV")
const seconds = Duration.seconds

/** One of each, with its message and the form in which it leaves. */
const examples: { readonly [Tag in TokenError.TokenError["_tag"]]: readonly [TokenError.TokenError, string, object] } =
  {
    InvalidInput: [
      new TokenError.InvalidInput({ field: "endpoint", expected: "must begin with a slash" }),
      "endpoint must begin with a slash.",
      {}
    ],
    TokensNotFound: [
      new TokenError.TokensNotFound({ userUlid }),
      `User ${userUlid} has no Cal.com connection: connect one first.`,
      {}
    ],
    NotManagedUser: [
      new TokenError.NotManagedUser({ userUlid }),
      `User ${userUlid} is connected through OAuth2; this operation exists for managed users only.`,
      {}
    ],
    CalAccountInUse: [
      new TokenError.CalAccountInUse({ userUlid }),
      `The Cal.com account offered for user ${userUlid} is already connected to another user: disconnect it there first.`,
      {}
    ],
    ReauthorizationRequired: [
      new TokenError.ReauthorizationRequired({ userUlid, cause: "rotationLost", since: 1 }),
      `User ${userUlid} has to reconnect Cal.com: Cal.com's answer with the new tokens was lost.`,
      {}
    ],
    RefreshCoolingDown: [
      new TokenError.RefreshCoolingDown({ userUlid, retryAfter: Duration.millis(1), lastError: "CalUnavailable" }),
      `Refreshing is cooling down for user ${userUlid} (last failure: CalUnavailable): try again in 1 s.`,
      { retryAfter: 1 }
    ],
    CalRateLimited: [
      new TokenError.CalRateLimited({ operation: "refresh", retryAfter: seconds(60) }),
      "Cal.com's rate limit is reached (refresh): try again in 60 s.",
      { retryAfter: 60 }
    ],
    CalUnavailable: [
      new TokenError.CalUnavailable({
        operation: "refresh",
        reason: "status 503",
        status: 503,
        retryAfter: seconds(2.5)
      }),
      "Cal.com is unavailable (refresh: status 503): try again in 3 s.",
      { retryAfter: 3, status: 503 }
    ],
    CalRequestRejected: [
      new TokenError.CalRequestRejected({
        operation: "GET /me",
        status: 403,
        reason: "insufficient_scope",
        missingScopes: ["PROFILE_READ"]
      }),
      "Cal.com refused GET /me with status 403: insufficient_scope",
      { status: 403, missingScopes: ["PROFILE_READ"] }
    ],
    CalProtocolError: [
      new TokenError.CalProtocolError({ operation: "refresh", issue: "data.accessToken is missing" }),
      "Cal.com's answer to refresh is not understood: data.accessToken is missing.",
      {}
    ],
    CalClientMisconfigured: [
      new TokenError.CalClientMisconfigured({
        clientId: "c",
        reason: "Invalid client secret",
        retryAfter: seconds(30)
      }),
      "Cal.com refuses the client c (Invalid client secret): check its id, secret, URL and approval. No user has to reconnect.",
      { retryAfter: 30 }
    ],
    StorageUnavailable: [
      new TokenError.StorageUnavailable({ operation: "commit", reason: "connection refused" }),
      "The token database is unavailable (commit: connection refused): try again later.",
      {}
    ],
    TokenUnreadable: [
      new TokenError.TokenUnreadable({ userUlid, reason: "unknown key k2" }),
      `The stored tokens of user ${userUlid} cannot be decrypted (unknown key k2): check the encryption keys.`,
      {}
    ]
  }

/** Any error of a class, its durations and texts such as occur. */
const arbitrary = (member: (typeof TokenError.TokenError.members)[number]): fc.Arbitrary<TokenError.TokenError> => {
  const reads = {
    userUlid: fc.constant(userUlid),
    retryAfter: fc.oneof(
      fc.integer({ min: 0, max: 1e9 }).map(Duration.millis),
      fc.bigInt({ min: 0n, max: 10n ** 15n }).map(Duration.nanos)
    ),
    since: fc.integer(),
    importedAt: fc.integer(),
    status: fc.integer({ min: 400, max: 599 }),
    missingScopes: fc.array(fc.constantFrom("BOOKING_READ", "PROFILE_READ")),
    tooLarge: fc.boolean(),
    cause: fc.constantFrom(...TokenError.ReauthorizationCause.literals)
  }
  const text = fc.string().filter((some) => !/undefined|NaN|\[object/.test(some))
  const keys = Object.keys(member.fields).filter((key) => key !== "_tag")
  const record = fc.record(
    Object.fromEntries(keys.map((key) => [key, key in reads ? reads[key as keyof typeof reads] : text])),
    { requiredKeys: keys.filter((key) => !Schema.isPropertySignature(member.fields[key as never])) }
  )
  const construct = member as unknown as new (fields: unknown) => TokenError.TokenError
  return record.map((fields) => new construct(fields))
}

const members = TokenError.TokenError.members
const tagOf = (member: (typeof members)[number]) => member.identifier

describe("every error", () => {
  it("has an example here", () => {
    assert.deepStrictEqual(members.map(tagOf).sort(), Object.keys(examples).sort())
  })

  for (const [tag, [error, message, extra]] of Object.entries(examples)) {
    it(`${tag} says what to do, and leaves with its data`, () => {
      assert.strictEqual(error._tag, tag)
      assert.strictEqual(error.message, message)
      assert.deepStrictEqual(TokenError.toFailure(error), {
        success: false,
        error: message,
        code: error._tag,
        ...extra
      })
      assert.isTrue(TokenError.isTokenError(error))
      assert.instanceOf(error, Error)
    })
  }

  for (const member of members) {
    it(`${tagOf(member)} survives its codec and JSON`, () => {
      fc.assert(
        fc.property(arbitrary(member), (error) => {
          const wire = JSON.parse(JSON.stringify(Schema.encodeSync(TokenError.TokenError)(error))) as unknown
          const back = Schema.decodeUnknownSync(TokenError.TokenError)(wire)
          assert.strictEqual(back._tag, error._tag)
          assert.deepStrictEqual(TokenError.toFailure(back), TokenError.toFailure(error))
          const waits = [error, back].map((one) => Option.map(TokenError.retryAfter(one), Duration.toMillis))
          assert.deepStrictEqual(waits[0], waits[1])
          assert.deepStrictEqual(Schema.encodeSync(TokenError.TokenError)(back), wire)
        })
      )
    })

    it(`${tagOf(member)} always reads well`, () => {
      fc.assert(
        fc.property(arbitrary(member), (error) => {
          const failure = TokenError.toFailure(error)
          // `retryAfter` is a whole number of seconds, and nobody is told to come back at once.
          if (failure.retryAfter !== undefined) {
            assert.isTrue(Number.isInteger(failure.retryAfter) && failure.retryAfter >= 1)
            assert.isAtLeast(
              failure.retryAfter * 1000,
              Option.match(TokenError.retryAfter(error), { onNone: () => 0, onSome: Duration.toMillis })
            )
          }
          assert.deepStrictEqual(JSON.parse(JSON.stringify(failure)), failure)
          assert.include(Cause.pretty(Cause.fail(error)), error._tag)
          assert.notMatch(failure.error, /undefined|NaN|\[object /)
        })
      )
    })
  }

  it("leaves out what it does not know", () => {
    const bare: ReadonlyArray<TokenError.TokenError> = [
      new TokenError.CalUnavailable({ operation: "me", reason: "timeout" }),
      new TokenError.CalUnavailable({ operation: "me", reason: "timeout", retryAfter: undefined, status: undefined }),
      new TokenError.CalClientMisconfigured({ clientId: "c", reason: "no client is configured" }),
      new TokenError.RefreshCoolingDown({ userUlid, retryAfter: Duration.zero })
    ]
    for (const error of bare) {
      assert.notMatch(error.message, /undefined|NaN|\(\)/)
      assert.notProperty(TokenError.toFailure(error), "status")
    }
    assert.notProperty(TokenError.toFailure(bare[1]!), "retryAfter")
    assert.deepStrictEqual(TokenError.toFailure(bare[3]!).retryAfter, 1)
  })

  it("is recognised by its class, not by its looks", () => {
    assert.isFalse(TokenError.isTokenError({ _tag: "Unauthorized" }))
    assert.isFalse(TokenError.isTokenError(new Error("Unauthorized")))
    assert.isFalse(TokenError.isTokenError(undefined))
  })

  it("refuses to be made of what is not a user", () => {
    assert.throws(() => new TokenError.TokensNotFound({ userUlid: "nobody" as UserUlid }))
  })

  it("shows its data when inspected, and no foreign error", () => {
    for (const [error] of Object.values(examples)) {
      assert.isNotObject(error.cause)
      assert.include(inspect(error, { depth: Infinity }), error._tag)
    }
  })
})

describe("likelyCause", () => {
  const day = 86_400_000
  it("is a second system within a day of an import, whatever else is known, and not where the user is gone at Cal.com", () => {
    const words = (cause: TokenError.ReauthorizationCause, passed: number) =>
      TokenError.likelyCause({ cause, since: 5 * day + passed, importedAt: 5 * day })?.match(
        /imported (.*) before/
      )?.[1]
    assert.deepStrictEqual(
      [-1, 0, 59_999, 60_000, 3_599_999, 3_600_000, day, day + 1].map((passed) => words("rotationLost", passed)),
      [undefined, "less than a minute", "less than a minute", "1 min", "59 min", "1 h", "24 h", undefined]
    )
    assert.strictEqual(words("revoked", 60_000), "1 min")
    assert.isUndefined(words("calUserGone", 60_000))
    assert.isUndefined(TokenError.likelyCause({ cause: "revoked", since: 5 * day }))
  })
})

describe("toSeconds", () => {
  it("rounds up to whole seconds, at least one", () => {
    const cases: ReadonlyArray<readonly [Duration.DurationInput, number]> = [
      [0, 1],
      [-5, 1],
      [NaN, 1],
      [1, 1],
      [1000, 1],
      [1001, 2],
      ["1 nanos", 1],
      ["90 seconds", 90]
    ]
    for (const [input, expected] of cases) assert.strictEqual(TokenError.toSeconds(Duration.decode(input)), expected)
  })
})

describe("arbitrary errors of the schema itself", () => {
  it("encode and decode", () => {
    fc.assert(
      fc.property(Arbitrary.make(TokenError.ReauthorizationRequired), (error) => {
        assert.strictEqual(TokenError.toFailure(error).code, "ReauthorizationRequired")
      })
    )
  })
})
