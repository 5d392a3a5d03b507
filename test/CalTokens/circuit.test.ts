/** What is wrong with the client is no user's fault: one circuit for the client, no user marked. */
import { assert, describe } from "@effect/vitest"
import { Clock, Duration, Effect, Fiber, Layer, Random, Redacted, TestClock } from "effect"
import type * as CalClient from "../../src/CalClient.js"
import { CalTokens } from "../../src/CalTokens.js"
import { demoManaged, demoOAuth2, Fault, Sandbox } from "../../src/Sandbox.js"
import * as World from "../support/World.js"

const { scenario, user, users } = World

const statuses = (n: number) =>
  Effect.map(Effect.forEach(users(n), World.stored), (rows) => rows.map(({ status }) => status._tag))

for (const { broken, kind, mended } of [
  { kind: "managed", broken: { managedSecretRejected: true }, mended: { managedSecretRejected: false } },
  { kind: "oauth2", broken: { oauth2SecretRejected: true }, mended: { oauth2SecretRejected: false } }
] as const) {
  describe(`${kind}, ${JSON.stringify(broken)}`, () => {
    scenario(
      "S20: a refused client opens the circuit: no user is marked, at most one call per 30 s, clears when mended",
      Effect.gen(function* () {
        const { refreshes, sandbox, tokens } = yield* World.allExpired(kind, 20)
        yield* World.turn(broken)
        for (let second = 0; second < 90; second += 10) {
          const errors = yield* Effect.forEach(users(20), (userUlid) => Effect.flip(tokens.ensureValid(userUlid)))
          assert.deepStrictEqual([...new Set(errors.map(({ _tag }) => _tag))], ["CalClientMisconfigured"])
          assert.strictEqual(yield* refreshes, Math.floor(second / 30) + 1)
          yield* TestClock.adjust("10 seconds")
        }
        assert.deepStrictEqual([...new Set(yield* statuses(20))], ["Active"])
        yield* World.turn(mended)
        yield* sandbox.resetCalls
        yield* TestClock.adjust("30 seconds")
        const answers = yield* Effect.forEach(users(20), (userUlid) => tokens.ensureValid(userUlid))
        assert.isTrue(answers.every(({ refreshed }) => refreshed))
        assert.strictEqual(yield* refreshes, 20)
      })
    )

    scenario(
      "an unmended client closes the circuit again, and a mended one leaves no trace of cooldown in any row",
      Effect.gen(function* () {
        const { tokens } = yield* World.expired(kind)
        const before = yield* World.peek()
        assert.strictEqual(before._tag, "Claimed")
        yield* World.turn(broken)
        for (let i = 0; i < 6; i++) {
          yield* Effect.flip(tokens.ensureValid(user()))
          yield* TestClock.adjust("30 seconds")
        }
        const after = yield* World.peek()
        assert.isTrue(after._tag === "Claimed" && after.probe._tag === "None" && after.consecutiveFailures === 0)
      })
    )
  })
}

const secrets = [Redacted.make("old-secret"), Redacted.make("new-secret")] as const
const [oldSecret, newSecret] = secrets

/** A deployment whose clients have two secrets at Cal.com, and know of these. */
const withSecrets = (known: CalClient.ClientSecret): World.Options => ({
  sandbox: {
    managed: { ...demoManaged, clientSecret: secrets },
    oauth2: { ...demoOAuth2, clientSecret: secrets }
  },
  client: clientWith(known)
})
const clientWith = (clientSecret: CalClient.ClientSecret): CalClient.Options => ({
  apiUrl: World.apiUrl,
  managed: { clientId: demoManaged.clientId, clientSecret },
  oauth2: { clientId: demoOAuth2.clientId, clientSecret }
})

for (const kind of World.kinds) {
  describe(`${kind}, two secrets`, () => {
    scenario(
      "one of them is revoked: everybody is served, for one call more in each process, and no circuit opens",
      Effect.gen(function* () {
        const { refreshes, tokens } = yield* World.allExpired(kind, 3)
        yield* World.turn({ revokedSecrets: [oldSecret] })
        const other = (yield* World.anotherNode({}, clientWith([newSecret, oldSecret]))).tokens
        for (const userUlid of users(2)) assert.isTrue((yield* tokens.ensureValid(userUlid)).refreshed)
        assert.strictEqual(yield* refreshes, 3)
        assert.isTrue((yield* other.ensureValid(user(3))).refreshed)
        assert.strictEqual(yield* refreshes, 4)
        assert.deepStrictEqual(yield* statuses(3), ["Active", "Active", "Active"])
      }),
      withSecrets(secrets)
    )

    scenario(
      "both are revoked: one circuit, also for a process that lists them the other way round, and nobody is marked",
      Effect.gen(function* () {
        const { refreshes, tokens } = yield* World.allExpired(kind, 2)
        yield* World.turn({ revokedSecrets: secrets })
        const other = (yield* World.anotherNode({}, clientWith([newSecret, oldSecret]))).tokens
        assert.strictEqual((yield* Effect.flip(tokens.ensureValid(user(1))))._tag, "CalClientMisconfigured")
        assert.strictEqual(yield* refreshes, 2)
        assert.strictEqual((yield* Effect.flip(other.ensureValid(user(2))))._tag, "CalClientMisconfigured")
        assert.strictEqual(yield* refreshes, 2)
        assert.deepStrictEqual(yield* statuses(2), ["Active", "Active"])
      }),
      withSecrets(secrets)
    )

    scenario(
      "a refusal that comes after the call's deadline is not answered with the other one: the token is probed later",
      Effect.gen(function* () {
        const { refresh, refreshes, sandbox, tokens } = yield* World.expired(kind)
        yield* World.turn({ revokedSecrets: [oldSecret] })
        yield* sandbox.inject(Fault.delayBefore("9 seconds", refresh))
        const fiber = yield* World.start(Effect.either(tokens.ensureValid(user())))
        yield* TestClock.adjust("9 seconds")
        assert.strictEqual(yield* refreshes, 1)
        yield* TestClock.adjust("3 seconds")
        assert.strictEqual(yield* refreshes, 1)
        const answer = yield* World.landed(fiber, 10_000)
        assert.isTrue(answer._tag === "Right" && answer.right.refreshed)
        assert.strictEqual(yield* refreshes, 3)
        assert.isTrue(yield* World.isStoredPairLive())
      }),
      withSecrets(secrets)
    )
  })
}

scenario(
  "four processes with one wrong secret make one call every 30 s together",
  Effect.gen(function* () {
    const { refreshes, tokens } = yield* World.allExpired("oauth2", 20)
    const others = yield* Effect.forEach([2, 3, 4], () => Effect.map(World.anotherNode(), ({ tokens }) => tokens))
    yield* World.turn({ oauth2SecretRejected: true })
    for (let second = 0; second < 120; second += 5) {
      for (const node of [tokens, ...others]) {
        const errors = yield* Effect.forEach(users(20), (userUlid) => Effect.flip(node.ensureValid(userUlid)))
        assert.deepStrictEqual([...new Set(errors.map(({ _tag }) => _tag))], ["CalClientMisconfigured"])
      }
      assert.strictEqual(yield* refreshes, Math.floor(second / 30) + 1)
      yield* TestClock.adjust("5 seconds")
    }
    assert.deepStrictEqual([...new Set(yield* statuses(20))], ["Active"])
  })
)

scenario(
  "a grant of an attempt that was claimed before it opened does not close it",
  Effect.gen(function* () {
    const { refresh, refreshes, sandbox, tokens } = yield* World.allExpired("oauth2", 3)
    const other = (yield* World.anotherNode()).tokens
    yield* sandbox.inject(Fault.delayAfter("3 seconds", refresh))
    const slow = yield* World.start(tokens.ensureValid(user(1)))
    yield* TestClock.adjust("1 second")
    yield* World.turn({ oauth2SecretRejected: true })
    yield* Effect.flip(other.ensureValid(user(2)))
    yield* TestClock.adjust("2 seconds")
    assert.isTrue((yield* Fiber.join(slow)).refreshed)
    for (const node of [tokens, other]) {
      assert.strictEqual((yield* Effect.flip(node.ensureValid(user(3))))._tag, "CalClientMisconfigured")
    }
    assert.strictEqual(yield* refreshes, 2)
  })
)

scenario(
  "a process whose client is not configured, or whose URL leads elsewhere, holds nobody but itself",
  Effect.gen(function* () {
    const { refreshes, tokens } = yield* World.allExpired("oauth2", 3)
    const { apiUrl } = World.clientOptions()
    const unconfigured = (yield* World.anotherNode({}, { apiUrl })).tokens
    const astray = (yield* World.anotherNode({}, { ...World.clientOptions(), apiUrl: `${apiUrl}/nowhere` })).tokens
    for (const node of [unconfigured, astray]) {
      assert.strictEqual((yield* Effect.flip(node.ensureValid(user(1))))._tag, "CalClientMisconfigured")
    }
    const before = yield* refreshes
    for (const userUlid of users(3)) assert.isTrue((yield* tokens.ensureValid(userUlid)).refreshed)
    assert.strictEqual((yield* refreshes) - before, 3)
    yield* TestClock.adjust("6 seconds")
    // What the others stored serves there as well.
    for (const node of [unconfigured, astray]) assert.isFalse((yield* node.ensureValid(user(1))).refreshed)
  })
)

scenario(
  "an answer in nobody's words may be one process's alone: others with the same client go on",
  Effect.gen(function* () {
    const { refresh, refreshes, sandbox, tokens } = yield* World.allExpired("oauth2", 3)
    const other = (yield* World.anotherNode()).tokens
    yield* sandbox.inject(Fault.status(302, { ...refresh, headers: { location: "https://example.com/" } }))
    assert.strictEqual((yield* Effect.flip(tokens.ensureValid(user(1))))._tag, "CalClientMisconfigured")
    assert.strictEqual((yield* Effect.flip(tokens.ensureValid(user(2))))._tag, "CalClientMisconfigured")
    for (const userUlid of users(3)) assert.isTrue((yield* other.ensureValid(userUlid)).refreshed)
    assert.strictEqual(yield* refreshes, 4)
  })
)

scenario(
  "a reissue is made with the other secret, too",
  Effect.gen(function* () {
    const { sandbox, tokens } = yield* World.connected("managed")
    yield* World.turn({ revokedSecrets: [oldSecret] })
    assert.isTrue((yield* tokens.refresh(user(), { reissue: true })).refreshed)
    assert.strictEqual(yield* sandbox.count("forceRefresh"), 2)
    assert.isTrue(yield* World.isStoredPairLive())
  }),
  withSecrets(secrets)
)

scenario(
  "a client that waits for approval opens no circuit: each user who meets it is held for 5 to 10 minutes, and nobody is marked",
  Effect.gen(function* () {
    const { refreshes, tokens } = yield* World.allExpired("oauth2", 3)
    yield* World.turn({ oauth2ClientStatus: "PENDING" })
    const ask = Effect.forEach(users(3), (userUlid) => Effect.flip(tokens.ensureValid(userUlid)))
    const tagsOf = Effect.map(ask, (errors) => errors.map(({ _tag }) => _tag))
    const start = yield* Clock.currentTimeMillis
    const waits = (yield* ask).map((error) => {
      assert(error._tag === "CalRequestRejected" && error.retryAfter !== undefined)
      return Duration.toMillis(error.retryAfter)
    })
    yield* TestClock.adjust("299 seconds")
    assert.deepStrictEqual(yield* tagsOf, Array<string>(3).fill("RefreshCoolingDown"))
    assert.strictEqual(yield* refreshes, 3)
    assert.deepStrictEqual([...new Set(yield* statuses(3))], ["Active"])
    yield* World.turn({ oauth2ClientStatus: "APPROVED" })
    // Each of them is held for as long as the error said, and not a moment longer.
    const held = users(3).map((userUlid, n) => ({ userUlid, until: start + (waits[n] ?? 0) }))
    for (const { until, userUlid } of held.sort((one, other) => one.until - other.until)) {
      yield* TestClock.setTime(until - 1)
      assert.strictEqual((yield* Effect.flip(tokens.ensureValid(userUlid)))._tag, "RefreshCoolingDown")
      yield* TestClock.setTime(until)
      assert.isTrue((yield* tokens.ensureValid(userUlid)).refreshed)
    }
    assert.isAtMost(Math.max(...waits), 600_000)
    assert.isAbove(Math.max(...waits) - Math.min(...waits), 10_000)
  }),
  { around: Layer.setRandom(Random.make("approval")) }
)

scenario(
  "a refused client hurts nobody whose token still lives",
  Effect.gen(function* () {
    const { tokens } = yield* World.due("managed")
    yield* World.turn({ managedSecretRejected: true })
    const answer = yield* tokens.ensureValid(user())
    assert.isFalse(answer.refreshed)
  })
)

scenario(
  "a row of a client that is not configured fails without a call, and leaves the configured one alone",
  Effect.gen(function* () {
    const tokens = yield* CalTokens
    const sandbox = yield* Sandbox
    yield* World.connectManaged(user(1))
    const grant = yield* sandbox.grantManaged({ email: "other@example.com" })
    const former = { clientId: "former", clientSecret: Redacted.make("secret") }
    const before = yield* World.anotherNode({}, { ...World.clientOptions(), others: { managed: [former] } })
    const connection = { _tag: "ManagedUser", clientId: "former", calUserId: grant.calUserId } as const
    yield* before.tokens.connect(user(2), connection, grant)
    yield* TestClock.adjust("61 minutes")
    const error = yield* Effect.flip(tokens.ensureValid(user(2)))
    assert.strictEqual(error._tag, "CalClientMisconfigured")
    assert.strictEqual(yield* sandbox.count("refresh"), 0)
    assert.isTrue((yield* tokens.ensureValid(user(1))).refreshed)
  })
)

scenario(
  "the brake: the fifth confirmed rejection within a minute opens the circuit instead of marking the user",
  Effect.gen(function* () {
    const { grants, sandbox, tokens } = yield* World.allExpired("oauth2", 8)
    for (const { calUserId } of grants) yield* sandbox.revokeRefreshTokens(calUserId)
    const errors = yield* Effect.forEach(users(8), (userUlid) => Effect.flip(tokens.ensureValid(userUlid)))
    assert.deepStrictEqual(
      errors.map(({ _tag }) => _tag),
      [...Array<string>(4).fill("ReauthorizationRequired"), ...Array<string>(4).fill("CalClientMisconfigured")]
    )
    assert.deepStrictEqual(yield* statuses(8), [
      ...Array<"ReauthorizationRequired">(4).fill("ReauthorizationRequired"),
      ...Array<"Active">(4).fill("Active")
    ])
    assert.strictEqual(yield* sandbox.count("oauth2Refresh"), 5)
  })
)

scenario(
  "the brake counts a minute: four rejections, and a fifth 61 s after the first, mark five users",
  Effect.gen(function* () {
    const { grants, sandbox, tokens } = yield* World.allExpired("oauth2", 5)
    for (const { calUserId } of grants) yield* sandbox.revokeRefreshTokens(calUserId)
    for (const userUlid of users(5)) {
      assert.strictEqual((yield* Effect.flip(tokens.ensureValid(userUlid)))._tag, "ReauthorizationRequired")
      yield* TestClock.adjust("15250 millis")
    }
  })
)

scenario(
  "the brake looks at all refreshes: five rejections among six successes mark five users",
  Effect.gen(function* () {
    const { grants, sandbox, tokens } = yield* World.allExpired("oauth2", 11)
    for (const userUlid of users(6)) yield* tokens.ensureValid(userUlid)
    for (const { calUserId } of grants.slice(6)) yield* sandbox.revokeRefreshTokens(calUserId)
    for (const userUlid of users(11).slice(6)) {
      assert.strictEqual((yield* Effect.flip(tokens.ensureValid(userUlid)))._tag, "ReauthorizationRequired")
    }
  })
)

scenario(
  "a brake pulled by a wrong URL or key lets go when the first trial succeeds",
  Effect.gen(function* () {
    const { grants, sandbox, tokens } = yield* World.allExpired("oauth2", 7)
    for (const { calUserId } of grants.slice(0, 5)) yield* sandbox.revokeRefreshTokens(calUserId)
    yield* Effect.forEach(users(5), (userUlid) => Effect.flip(tokens.ensureValid(userUlid)))
    assert.strictEqual((yield* Effect.flip(tokens.ensureValid(user(6))))._tag, "CalClientMisconfigured")
    yield* TestClock.adjust("30 seconds")
    assert.isTrue((yield* tokens.ensureValid(user(6))).refreshed)
    assert.isTrue((yield* tokens.ensureValid(user(7))).refreshed)
  })
)

scenario(
  "while the circuit is open, a user whom Cal.com refuses cannot keep it open for everybody else",
  Effect.gen(function* () {
    const { grants, sandbox, tokens } = yield* World.allExpired("oauth2", 7)
    for (const { calUserId } of grants.slice(0, 6)) yield* sandbox.revokeRefreshTokens(calUserId)
    yield* Effect.forEach(users(5), (userUlid) => Effect.flip(tokens.ensureValid(userUlid)))
    // User 6 polls and is always there first when a trial is let through; user 7 is well.
    let served = false
    for (let i = 0; i < 20 && !served; i++) {
      yield* TestClock.adjust("10 seconds")
      yield* Effect.either(tokens.ensureValid(user(6)))
      served = (yield* Effect.either(tokens.ensureValid(user(7))))._tag === "Right"
    }
    assert.isTrue(served)
  })
)

scenario(
  "nor can several such users who take turns",
  Effect.gen(function* () {
    const { grants, sandbox, tokens } = yield* World.allExpired("oauth2", 8)
    for (const { calUserId } of grants.slice(0, 7)) yield* sandbox.revokeRefreshTokens(calUserId)
    yield* Effect.forEach(users(5), (userUlid) => Effect.flip(tokens.ensureValid(userUlid)))
    let served = false
    for (let i = 0; i < 30 && !served; i++) {
      yield* TestClock.adjust("10 seconds")
      for (const n of [5, 6, 7]) yield* Effect.either(tokens.ensureValid(user(n)))
      served = (yield* Effect.either(tokens.ensureValid(user(8))))._tag === "Right"
    }
    assert.isTrue(served)
  })
)

scenario(
  "a code that Cal.com exchanges shows that nothing is wrong with the client, and closes it",
  Effect.gen(function* () {
    const { grants, sandbox, tokens } = yield* World.allExpired("oauth2", 6)
    for (const { calUserId } of grants) yield* sandbox.revokeRefreshTokens(calUserId)
    yield* Effect.forEach(users(5), (userUlid) => Effect.flip(tokens.ensureValid(userUlid)))
    assert.strictEqual((yield* Effect.flip(tokens.ensureValid(user(5))))._tag, "CalClientMisconfigured")
    const grant = yield* sandbox.grantOAuth2({ calUserId: grants[0]?.calUserId })
    const accessTokenExpiresAt = (yield* sandbox.now) + grant.expiresIn * 1000
    const connection = { _tag: "OAuth2", clientId: demoOAuth2.clientId, calUserId: grant.calUserId } as const
    yield* tokens.connectWith(user(1), Effect.succeed({ connection, pair: { ...grant, accessTokenExpiresAt } }))
    assert.strictEqual((yield* Effect.flip(tokens.ensureValid(user(5))))._tag, "ReauthorizationRequired")
  })
)

scenario(
  "a trial that never reaches Cal.com does not use up the interval",
  Effect.gen(function* () {
    const { refreshes, tokens } = yield* World.allExpired("managed", 2)
    const other = (yield* World.anotherNode()).tokens
    yield* World.turn({ managedSecretRejected: true })
    yield* Effect.flip(tokens.ensureValid(user(1)))
    yield* World.turn({ managedSecretRejected: false })
    yield* TestClock.adjust("30 seconds")
    yield* tokens.info(user(1))
    yield* other.ensureValid(user(1))
    // The trial finds the other process' pair; nothing is known about the client by that.
    yield* tokens.ensureValid(user(1))
    assert.strictEqual(yield* refreshes, 2)
    assert.isTrue((yield* tokens.ensureValid(user(2))).refreshed)
  })
)

scenario(
  "S20: one node's wrong secret does not stop another's right one, nor mark its users",
  Effect.gen(function* () {
    const { tokens } = yield* World.expired("managed")
    const wrong = (yield* World.anotherNode({}, World.clientOptions({ managedSecret: "wrong" }))).tokens
    assert.strictEqual((yield* Effect.flip(wrong.ensureValid(user())))._tag, "CalClientMisconfigured")
    assert.isTrue((yield* tokens.ensureValid(user())).refreshed)
    yield* TestClock.adjust("5 seconds")
    assert.isFalse((yield* wrong.ensureValid(user())).refreshed)
  })
)

scenario(
  "an open circuit fails forced refreshes and reissues alike, without a word of the secret",
  Effect.gen(function* () {
    const { sandbox, tokens } = yield* World.connected("managed")
    yield* World.turn({ managedSecretRejected: true })
    const first = yield* Effect.flip(tokens.refresh(user(), { forceRefresh: true }))
    const second = yield* Effect.flip(tokens.refresh(user(), { reissue: true }))
    for (const error of [first, second]) {
      assert.strictEqual(error._tag, "CalClientMisconfigured")
      assert.notInclude(JSON.stringify(error) + error.message, Redacted.value(demoManaged.clientSecret))
    }
    assert.strictEqual(yield* sandbox.count("forceRefresh"), 0)
  })
)
