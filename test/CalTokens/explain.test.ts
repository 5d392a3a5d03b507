/** Whoever has to reconnect: what the history says of it, and which cause there is evidence for. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Option, TestClock } from "effect"
import { CalTokens } from "../../src/CalTokens.js"
import * as Explain from "../../src/Explain.js"
import type { Entry, Event } from "../../src/History.js"
import { Fault, layer as layerSandbox, Sandbox } from "../../src/Sandbox.js"
import { iso } from "../../src/Token.js"
import { type StoredHistory, TokenStorage } from "../../src/TokenStorage.js"
import * as Fixture from "../support/StorageFixture.js"
import * as StorageRestored from "../support/StorageRestored.js"
import * as World from "../support/World.js"

const { scenario, user } = World

const stored = Effect.flatMap(TokenStorage, (storage) => Effect.map(storage.find(user()), Option.getOrThrow))

const explanation = Effect.flatMap(TokenStorage, (storage) =>
  Effect.map(storage.history(user()), (history) => Explain.explain(Option.getOrThrow(history)))
)

/** What people read, with processes and tokens as the letters of their first appearance. */
const readable = ({ cause, conclusion, sentences }: Explain.Explanation) => {
  const names = new Map<string, string>()
  const plain = (text: string) =>
    text.replaceAll(/\b(process|refresh token) ([0-9a-f]{8})\b/gi, (_, kind: string, name: string) => {
      if (!names.has(name)) names.set(name, String.fromCharCode(65 + names.size))
      return `${kind} ${names.get(name)}`
    })
  return { told: sentences.map(({ text }) => plain(text)), cause, conclusion: plain(conclusion) }
}

/** Nothing but eight digits of a hash may be told of a token. */
const noSecrets = Effect.gen(function* () {
  const { pair } = yield* stored
  const text = JSON.stringify(yield* Effect.flatMap(TokenStorage, (storage) => storage.history(user())))
  for (const token of [pair.accessToken, pair.refreshToken]) assert.notInclude(text, World.reveal(token).slice(-20))
  assert.notMatch(text, /[0-9a-f]{16}/)
})

/** The user asks for a token and is told to reconnect. */
const refused = Effect.gen(function* () {
  const tokens = yield* CalTokens
  const error = yield* World.passTime(Effect.flip(tokens.ensureValid(user())), 60_000)
  assert.strictEqual(error._tag, "ReauthorizationRequired")
  yield* noSecrets
  return { ...readable(yield* explanation), now: yield* Effect.clockWith((clock) => clock.currentTimeMillis) }
})

const obtained = Effect.gen(function* () {
  const grant = yield* World.obtainOAuth2()
  yield* TestClock.setTime(grant.accessTokenExpiresAt + 1)
  return { grant, sandbox: yield* Sandbox }
})

scenario(
  "a token that this service never spent is forgotten by Cal.com: another system, or the person",
  Effect.gen(function* () {
    const { grant, sandbox } = yield* obtained
    const tokens = yield* CalTokens
    yield* tokens.ensureValid(user())
    yield* TestClock.adjust("31 minutes")
    yield* sandbox.revokeRefreshTokens(grant.calUserId)
    const { now, ...found } = yield* refused
    assert.deepStrictEqual(found, {
      told: [
        "Connected: Cal.com granted refresh token A to process B.",
        "Process B sent refresh token A: granted. The pair with refresh token C is stored.",
        "Process B sent refresh token C: refused (400, forgotten). The user has to reconnect."
      ],
      cause: "anotherSystemOrPerson",
      conclusion:
        `Asked to reconnect since ${iso(now)} because a refresh token that this service never spent was refused at ` +
        `${iso(now)}: another system refreshes this user, or the person removed the access.`
    })
  })
)

scenario(
  "Cal.com's answer is lost on its way",
  Effect.gen(function* () {
    const { sandbox } = yield* obtained
    const at = yield* Effect.clockWith((clock) => clock.currentTimeMillis)
    yield* sandbox.inject(Fault.dropAfter({ kind: "oauth2Refresh" }))
    const { now, ...found } = yield* refused
    assert.deepStrictEqual(found, {
      told: [
        "Connected: Cal.com granted refresh token A to process B.",
        "Process B sent refresh token A: no answer that tells (CalUnavailable). The token may have been spent; it is " +
          "tried once more later.",
        "Process B sent to find out refresh token A: refused (400, forgotten). The user has to reconnect."
      ],
      cause: "answerLost",
      conclusion:
        `Asked to reconnect since ${iso(now)} because Cal.com's answer of ${iso(at)} to process B never arrived whole, ` +
        `and the next refresh token was in it: the one before was spent, and refused at ${iso(now)}.`
    })
  })
)

scenario(
  "a process dies between sending the token and storing the next one",
  Effect.gen(function* () {
    const { grant, sandbox } = yield* obtained
    const storage = yield* TokenStorage
    yield* storage.claim(Fixture.claimOf(user(), { attemptId: "feedbeef.1" }))
    yield* sandbox.revokeRefreshTokens(grant.calUserId)
    yield* TestClock.adjust("31 seconds")
    const { told, cause, conclusion } = yield* refused
    assert.strictEqual(cause, "processDied")
    assert.match(told[1] ?? "", /^A refresh of .* by process C never ended: .* refresh token A may have been spent\.$/)
    assert.match(conclusion, /because process C began a refresh at .* and never ended it: it died, or slept too long/)
  })
)

scenario(
  "nobody uses the user for thirty days",
  Effect.gen(function* () {
    yield* obtained
    yield* TestClock.adjust("29 days")
    yield* Effect.flatMap(CalTokens, (tokens) => tokens.refresh(user()))
    yield* TestClock.adjust("31 days")
    const { cause, told } = yield* refused
    assert.strictEqual(cause, "refreshTokenExpired")
    assert.include(told.at(-1) ?? "", "refused (400, not valid, its time was over)")
  })
)

describe("a token that was handed in", () => {
  const handedIn = (left: number) =>
    Effect.gen(function* () {
      const sandbox = yield* Sandbox
      const tokens = yield* CalTokens
      const grant = yield* sandbox.grantOAuth2({ email: "a@example.com" })
      const accessTokenExpiresAt = (yield* sandbox.now) + left
      yield* tokens.connect(user(), { _tag: "OAuth2", calUserId: grant.calUserId }, { ...grant, accessTokenExpiresAt })
      yield* sandbox.revokeRefreshTokens(grant.calUserId)
    })

  scenario(
    "is refused at once: it was dead",
    Effect.gen(function* () {
      yield* handedIn(-1000)
      const { cause, conclusion } = yield* refused
      assert.strictEqual(cause, "deadWhenHandedIn")
      assert.include(conclusion, "was dead already")
    })
  )

  scenario(
    "is refused later: whether it was dead, nobody can tell",
    Effect.gen(function* () {
      yield* handedIn(600_000)
      yield* TestClock.adjust("11 minutes")
      const { cause, conclusion } = yield* refused
      assert.strictEqual(cause, "lostSinceHandedIn")
      assert.include(conclusion, "dead already, or whoever handed it in, or another system, spent it since")
    })
  )
})

scenario(
  "Cal.com refused the access token before its time, too: the account is gone",
  Effect.gen(function* () {
    const grant = yield* World.obtainOAuth2()
    const sandbox = yield* Sandbox
    const tokens = yield* CalTokens
    yield* TestClock.adjust("1 minute")
    yield* sandbox.revokeRefreshTokens(grant.calUserId)
    const { accessToken } = yield* tokens.ensureValid(user())
    yield* World.passTime(Effect.flip(tokens.reportRejected(user(), { accessToken, status: 401 })), 60_000)
    const { cause, told } = readable(yield* explanation)
    assert.strictEqual(cause, "accountGone")
    assert.include(told.at(-1) ?? "", "(Cal.com had refused the access token)")
  })
)

scenario(
  "a managed user is deleted at Cal.com",
  Effect.gen(function* () {
    const grant = yield* World.obtainManaged()
    yield* TestClock.setTime(grant.accessTokenExpiresAt + 1)
    yield* Effect.flatMap(Sandbox, (sandbox) => sandbox.deleteUser(grant.calUserId))
    const { cause, told } = yield* refused
    assert.strictEqual(cause, "managedUserGone")
    assert.include(told.at(-1) ?? "", ", then had Cal.com reissue the pair: no such user (404")
  })
)

it.scoped("a storage that has gone back in time is said to have", () => {
  const { restore, restored, storage } = StorageRestored.make()
  return Effect.gen(function* () {
    const tokens = yield* CalTokens
    yield* World.obtainOAuth2()
    const { connection, pair } = yield* stored
    yield* restored.connect({
      userUlid: user(),
      connection,
      pair,
      history: { _tag: "Connected", process: "p", token: "00000000", isGranted: true }
    })
    for (let i = 0; i < 2; i++) yield* tokens.refresh(user(), { forceRefresh: true })
    restore()
    yield* TestClock.adjust("31 minutes")
    const { cause, told } = yield* refused
    assert.strictEqual(cause, "storageWentBack")
    assert.include(told.at(-1) ?? "", "(it knew a newer token than was stored)")
  }).pipe(
    Effect.provide(
      World.node().pipe(Layer.provideMerge(Layer.succeed(TokenStorage, storage)), Layer.provideMerge(layerSandbox()))
    )
  )
})

describe("of entries that are hard to come by", () => {
  const granted: Event = { _tag: "Connected", process: "p", token: "aaaaaaaa", isGranted: true }
  const attempt = (extra: Partial<Extract<Event, { _tag: "Attempt" }>>): Event => ({
    _tag: "Attempt",
    process: "p",
    purpose: "refresh",
    trigger: "asked",
    took: 10,
    steps: [{ as: "own", token: "aaaaaaaa", answer: "rejected", status: 400, refusal: "revoked" }],
    end: "terminal",
    ...extra
  })
  const history = (
    events: ReadonlyArray<readonly [event: Event, written?: Entry["written"]]>,
    extra: Partial<StoredHistory> = {},
    active = false
  ): StoredHistory => ({
    connection: {
      userUlid: user(),
      connection: { _tag: "OAuth2", clientId: "client" },
      status: active ? { _tag: "Active" } : { _tag: "ReauthorizationRequired", cause: "revoked", since: 100_000 },
      version: 1,
      updatedAt: 0,
      accessTokenExpiresAt: 5_000_000
    },
    at: 200_000,
    entries: events.map(([event, written = "recorded"], n) => ({ at: n * 1000, written, event })),
    ...extra
  })
  const causeOf = (events: Parameters<typeof history>[0]) => Explain.explain(history(events)).cause
  const step = (answer: "unreadable" | "rejected", refusal?: "invalid") => [
    { as: "own" as const, token: "aaaaaaaa", answer, ...(refusal === undefined ? {} : { refusal }) }
  ]

  it("the cause is told as far as it is known", () => {
    assert.strictEqual(causeOf([]), "untold")
    assert.strictEqual(causeOf([[granted, "stored"]]), "untold")
    const unreadable = attempt({ end: "unknown", steps: step("unreadable") })
    assert.strictEqual(causeOf([[granted, "stored"], [unreadable], [attempt({})]]), "answerUnreadable")
    assert.strictEqual(
      causeOf([[granted, "stored"], [attempt({ steps: step("rejected", "invalid") })]]),
      "unknownToCal"
    )
    const updated: Event = { _tag: "Updated", process: "p", token: "bbbbbbbb" }
    // What came before another token was stored has nothing to do with that one.
    assert.strictEqual(
      causeOf([[granted, "stored"], [unreadable], [updated, "stored"], [attempt({})]]),
      "deadWhenHandedIn"
    )
    // Whoever was spared has not been marked, and who came too late neither.
    assert.strictEqual(
      causeOf([
        [granted, "stored"],
        [attempt({}), "spared"],
        [attempt({}), "late"]
      ]),
      "untold"
    )
    assert.strictEqual(causeOf([[attempt({})]]), "anotherSystemOrPerson")
    // A token whose time was over is spent by nobody, whatever became of the call.
    const over = { as: "own", token: "aaaaaaaa", isExpired: true } as const
    const lost = attempt({ end: "unknown", steps: [{ ...over, answer: "unknown" }] })
    const late = attempt({ steps: [{ ...over, answer: "rejected", refusal: "invalid" }] })
    assert.strictEqual(causeOf([[granted, "stored"], [lost], [late]]), "refreshTokenExpired")
  })

  it("who was imported, or lost again and again, is told what speaks for another system", () => {
    const again = [[granted, "stored"], [attempt({})]] as const
    const told = history([...again, ...again, ...again])
    const { connection } = told
    const status = { _tag: "ReauthorizationRequired", cause: "revoked", since: 0, importedAt: 7000 } as const
    const { conclusion } = Explain.explain({ ...told, connection: { ...connection, status } })
    assert.include(
      conclusion,
      "The user was imported at 1970-01-01T00:00:07.000Z: the system before may refresh them still."
    )
    assert.include(conclusion, "It is the third time in this history")
  })

  it("who is connected hears that nobody of the client is refreshed, whatever happened before", () => {
    const open = { clientId: "app", reason: "invalid_client", openedAt: 1000, trialAt: 31_000 }
    const told = (cause: "client" | "brake" | "drift", isActive = true) =>
      Explain.explain(history([[granted, "stored"]], { circuit: { ...open, cause } }, isActive))
    const { advice, conclusion } = told("client")
    assert.include(
      conclusion,
      "Connected, but since 1970-01-01T00:00:01.000Z nobody of the client app is refreshed: Cal.com refuses the client. " +
        "The access token serves until"
    )
    assert.include(conclusion, "; the next trial is at 1970-01-01T00:00:31.000Z.")
    assert.include(advice, "client's id and secret")
    assert.include(told("brake").advice, "second system")
    assert.include(told("drift").advice, "Install the latest version")
    // Who has to reconnect has to whatever the circuit is.
    assert.include(told("client", false).conclusion, "Asked to reconnect")
  })

  it("who is connected hears how the last refresh went", () => {
    const told = (events: Parameters<typeof history>[0], extra?: Partial<StoredHistory>) => {
      const { cause, conclusion } = Explain.explain(history(events, extra, true))
      assert.isUndefined(cause)
      return conclusion
    }
    assert.include(told([]), "Connected; nothing was refreshed in the last 30 days.")
    assert.include(told([[granted, "stored"]]), "Connected; nothing was refreshed since 1970-01-01T00:00:00.000Z.")
    // What became of the pair before is over with a new consent.
    const before = attempt({ end: "terminal" })
    assert.include(told([[before], [granted, "stored"]]), "Connected; nothing was refreshed since 1970")
    assert.include(told([[before], [granted, "kept"]]), "nobody is asked to reconnect for that")
    assert.include(told([[attempt({ end: "granted" }), "stored"]]), "last refreshed at 1970-01-01T00:00:00.000Z")
    assert.include(told([[attempt({ end: "unknown" })]]), "whether Cal.com spent the token is not known yet")
    assert.include(told([[attempt({ end: "notSpent" })]]), "did not take the token")
    assert.include(told([[attempt({ end: "terminal" }), "spared"]]), "nobody is asked to reconnect for that")
    const sealed = history([[attempt({ end: "unknown", steps: step("unreadable") })]], {}, true)
    const { advice, conclusion, sentences } = Explain.explain(sealed)
    assert.include(sentences[0]?.text ?? "", "an answer that nobody can read. The answer is kept, sealed.")
    assert.include(conclusion, "could not be read, and is kept, sealed, with the next token in it")
    assert.include(advice, "Install the latest version")
    const open = { process: "p", startedAt: 0, leaseUntil: 199_999, token: "aaaaaaaa" }
    const lines = (leaseUntil: number) =>
      Explain.toLines(Explain.explain(history([], { open: { ...open, leaseUntil } }, true)))[0]
    assert.include(
      lines(199_999) ?? "",
      "the process died or sleeps. The next one looks whether refresh token aaaaaaaa"
    )
    assert.include(lines(200_001) ?? "", "a refresh is under way")
  })
})
