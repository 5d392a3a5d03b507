/** People connect through Cal.com's consent page: both ways back, and every way to come back wrong. */
import { assert, describe } from "@effect/vitest"
import {
  Array,
  Context,
  Duration,
  Effect,
  Either,
  Fiber,
  Layer,
  Option,
  Redacted,
  Ref,
  Stream,
  TestClock
} from "effect"
import { CalTokens } from "../../src/CalTokens.js"
import { type ConnectFlow, off, Return } from "../../src/ConnectFlow.js"
import * as FlowStorage from "../../src/FlowStorage.js"
import { Fault, Sandbox } from "../../src/Sandbox.js"
import type { UserUlid } from "../../src/Token.js"
import type { TokenError } from "../../src/TokenError.js"
import * as Flow from "../support/FlowWorld.js"
import { StorageTap } from "../support/StorageTap.js"
import * as World from "../support/World.js"

const { scenario, user } = World

type Flows = (typeof ConnectFlow)["Service"]

const { returnTo } = Flow

/** A user goes through the app's own callback. */
const byApp = (flow: Flows, userUlid: UserUlid = user(), person = Flow.ada) =>
  Effect.gen(function* () {
    const { url } = yield* flow.begin(userUlid)
    return yield* flow.exchange(userUlid, Flow.broughtBack(yield* Flow.consent(url, person)))
  })

/** A user's browser goes on from our callback to the app. */
const byCallback = (flow: Flows, userUlid: UserUlid = user(), person = Flow.ada) =>
  Effect.gen(function* () {
    const { url } = yield* flow.begin(userUlid, { returnTo })
    const back = yield* flow.comeBack(yield* Flow.consent(url, person))
    return yield* Flow.completionOf(back)
  })

/** The field that an input is refused for. */
const refusedFor = <A, R>(effect: Effect.Effect<A, TokenError, R>) =>
  Effect.map(Effect.flip(effect), (error) => {
    assert.strictEqual(error._tag, "InvalidInput")
    assert.match(error.message, /start again with a new authorize URL\.$/)
    return error._tag === "InvalidInput" ? error.field : ""
  })

const isConnected = (userUlid: UserUlid = user()) =>
  Effect.flatMap(StorageTap, ({ raw }) => Effect.map(raw.find(userUlid), Option.isSome))

const exchanges = Effect.flatMap(Sandbox, (sandbox) => sandbox.count("oauth2Code"))

describe("the authorize URL", () => {
  scenario(
    "of a client with a secret: state, scopes, no challenge, ten minutes",
    Effect.gen(function* () {
      const flow = yield* Flow.begun()
      const { expiresAt, url, ...parts } = yield* flow.begin(user())
      const { origin, pathname, searchParams } = new URL(url)
      assert.strictEqual(origin + pathname, "https://app.cal.com/auth/oauth2/authorize")
      const { state = "", ...others } = Object.fromEntries(searchParams)
      assert.deepStrictEqual(others, {
        client_id: "sandbox-oauth-client",
        redirect_uri: "http://127.0.0.1:4000/api/cal/oauth/callback",
        response_type: "code",
        scope: "BOOKING_READ PROFILE_READ"
      })
      assert.match(state, /^[\w-]{43}$/)
      const redirectUrl = "http://127.0.0.1:4000/api/cal/oauth/callback"
      assert.deepStrictEqual(parts, { state, redirectUrl, scopes: Flow.scopes, codeChallenge: undefined })
      assert.notStrictEqual(new URL((yield* flow.begin(user())).url).searchParams.get("state"), state)
      assert.strictEqual(expiresAt, World.epoch + Duration.toMillis("10 minutes"))
    })
  )

  scenario(
    "of a public client has a challenge, and no two the same",
    Effect.gen(function* () {
      const flow = yield* Flow.begun({ client: { scopes: [] } })
      const challenges = yield* Effect.forEach([1, 2], () =>
        Effect.map(flow.begin(user()), ({ codeChallenge, url }) => {
          const { searchParams } = new URL(url)
          assert.strictEqual(searchParams.get("code_challenge"), codeChallenge)
          assert.strictEqual(searchParams.get("code_challenge_method"), "S256")
          assert.isFalse(searchParams.has("scope"))
          return searchParams.get("code_challenge") ?? ""
        })
      )
      challenges.forEach((challenge) => assert.match(challenge, /^[\w-]{43}$/))
      assert.notStrictEqual(challenges[0], challenges[1])
    }),
    Flow.isPublic
  )

  scenario(
    "is Cal.com's or another, and is not made for a return URL that is not allowed",
    Effect.gen(function* () {
      const flow = yield* Flow.begun({ client: { authorizeUrl: "https://app.cal.eu/auth/oauth2/authorize?x=1" } })
      const { url } = yield* flow.begin(user(), { returnTo })
      assert.match(url, /^https:\/\/app\.cal\.eu\/auth\/oauth2\/authorize\?x=1&client_id=/)
      assert.notInclude(url, "app.example")
      const error = yield* Effect.flip(flow.begin(user(), { returnTo: "https://evil.example/settings" }))
      assert.include(error.message, "allowed return URLs")
      assert.strictEqual(error._tag, "InvalidInput")
    })
  )

  scenario(
    "does not exist without a client or its redirect URL; the failure names the variables",
    Effect.gen(function* () {
      const secret = Redacted.make("x")
      const halves = [null, { redirectUrl: undefined }]
      for (const flow of [...(yield* Effect.forEach(halves, (client) => Flow.begun({ client }))), off]) {
        for (const call of [
          flow.begin(user()),
          flow.exchange(user(), { code: secret, state: secret }),
          flow.confirm(user(), secret)
        ] as ReadonlyArray<Effect.Effect<unknown, TokenError>>) {
          const error = yield* Effect.flip(call)
          assert.strictEqual(error._tag, "CalClientMisconfigured")
          assert.match(error.message, /needs an OAuth2 client with a redirect URL/)
        }
        assert.deepInclude(yield* flow.comeBack(new URLSearchParams("code=c&state=s")), { problem: "unknownState" })
      }
    })
  )
})

for (const [kind, options] of [
  ["with a secret", {}],
  ["that is public", Flow.isPublic]
] as const) {
  const begun = Flow.begun()
  describe(`a client ${kind}`, () => {
    scenario(
      "connects a person who comes back to the app",
      Effect.gen(function* () {
        const tokens = yield* CalTokens
        const flow = yield* begun
        const changes = yield* World.start(Stream.runCollect(Stream.take(tokens.changes, 1)))
        const { calUserId } = yield* byApp(flow)
        const { connection } = yield* tokens.info(user())
        assert.deepStrictEqual(
          { ...connection },
          {
            _tag: "OAuth2",
            clientId: "sandbox-oauth-client",
            calUserId: Option.getOrThrow(calUserId),
            scope: "BOOKING_READ PROFILE_READ"
          }
        )
        assert.isTrue(yield* World.isStoredPairLive())
        const [change] = yield* Fiber.join(changes)
        assert.deepInclude(change, { userUlid: user(), kind: "connected" })
        yield* TestClock.adjust("31 minutes")
        assert.isTrue((yield* World.passTime(tokens.ensureValid(user()), 30_000)).refreshed)
      }),
      options
    )

    scenario(
      "connects a person who comes back to us, once the app says so",
      Effect.gen(function* () {
        const flow = yield* begun
        const { url } = yield* flow.begin(user(), { returnTo })
        const query = yield* Flow.consent(url)
        const back = yield* flow.comeBack(query)
        assert(back._tag === "GoOn")
        const location = Redacted.value(back.location)
        assert.match(location, /^https:\/\/app\.example\/settings\/calendar\?tab=1&completion=[\w-]{43}$/)
        for (const secret of query.values()) assert.notInclude(location, secret)
        assert.isFalse(yield* isConnected())
        assert.strictEqual(yield* exchanges, 0)
        const { calUserId } = yield* flow.confirm(user(), yield* Flow.completionOf(back))
        assert.isTrue(Option.isSome(calUserId))
        assert.isTrue(yield* World.isStoredPairLive())
      }),
      options
    )
  })
}

describe("a state", () => {
  scenario(
    "works once, also for many at once, and its code is spent once",
    Effect.gen(function* () {
      const flow = yield* Flow.begun()
      const { url } = yield* flow.begin(user())
      const returned = Flow.broughtBack(yield* Flow.consent(url))
      const attempts = yield* Effect.all(
        Array.makeBy(5, () => Effect.either(flow.exchange(user(), returned))),
        { concurrency: "unbounded" }
      )
      const failures = attempts.filter(Either.isLeft).map(({ left }) => left)
      assert.deepStrictEqual(
        failures.map((error) => error._tag === "InvalidInput" && error.field),
        ["state", "state", "state", "state"]
      )
      assert.strictEqual(yield* exchanges, 1)
      assert.strictEqual(yield* refusedFor(flow.exchange(user(), returned)), "state")
      assert.strictEqual(yield* exchanges, 1)
      assert.isTrue(yield* World.isStoredPairLive())
    })
  )

  scenario(
    "expires after ten minutes, and one that never was is refused alike",
    Effect.gen(function* () {
      const flow = yield* Flow.begun()
      const { url } = yield* flow.begin(user())
      const returned = Flow.broughtBack(yield* Flow.consent(url))
      yield* TestClock.adjust("10 minutes")
      assert.strictEqual(yield* refusedFor(flow.exchange(user(), returned)), "state")
      const state = Redacted.make("x".repeat(43))
      assert.strictEqual(yield* refusedFor(flow.exchange(user(), { ...returned, state })), "state")
      assert.strictEqual(yield* exchanges, 0)
    })
  )

  scenario(
    "of one user is no other's, and is burnt by the attempt",
    Effect.gen(function* () {
      const flow = yield* Flow.begun()
      const { url } = yield* flow.begin(user(1))
      const returned = Flow.broughtBack(yield* Flow.consent(url))
      assert.strictEqual(yield* refusedFor(flow.exchange(user(2), returned)), "state")
      assert.strictEqual(yield* refusedFor(flow.exchange(user(1), returned)), "state")
      assert.strictEqual(yield* exchanges, 0)
      assert.isFalse(yield* isConnected(user(1)))
      assert.isFalse(yield* isConnected(user(2)))
    })
  )

  scenario(
    "that came back to us is no use at the exchange, and the other way round",
    Effect.gen(function* () {
      const flow = yield* Flow.begun()
      const query = yield* Flow.consent((yield* flow.begin(user(), { returnTo })).url)
      const back = yield* flow.comeBack(query)
      assert.strictEqual(yield* refusedFor(flow.exchange(user(), Flow.broughtBack(query))), "state")
      yield* flow.confirm(user(), yield* Flow.completionOf(back))
      const other = yield* Flow.consent((yield* flow.begin(user(), { returnTo })).url)
      yield* flow.exchange(user(), Flow.broughtBack(other))
      assert.deepInclude(yield* flow.comeBack(other), { _tag: "Stop", problem: "unknownState" })
    })
  )
})

describe("a completion", () => {
  scenario(
    "works once, within its time",
    Effect.gen(function* () {
      const flow = yield* Flow.begun()
      const completion = yield* byCallback(flow)
      yield* TestClock.adjust(Duration.subtract("10 minutes", "1 millis"))
      yield* flow.confirm(user(), completion)
      assert.strictEqual(yield* refusedFor(flow.confirm(user(), completion)), "completion")
      const late = yield* byCallback(flow)
      yield* TestClock.adjust("10 minutes")
      assert.strictEqual(yield* refusedFor(flow.confirm(user(), late)), "completion")
      assert.strictEqual(yield* exchanges, 1)
    })
  )

  scenario(
    "a link sent to somebody connects their calendar to nobody",
    Effect.gen(function* () {
      const flow = yield* Flow.begun()
      const [attacker, victim] = [user(1), user(2)]
      // The attacker begins, and gets the victim to open the link; the victim's browser comes back to the app.
      const completion = yield* byCallback(flow, attacker, { email: "victim@example.com" })
      assert.isFalse(yield* isConnected(attacker))
      assert.strictEqual(yield* refusedFor(flow.confirm(victim, completion)), "completion")
      // Should the attacker learn of it now, it is too late.
      assert.strictEqual(yield* refusedFor(flow.confirm(attacker, completion)), "completion")
      assert.isFalse(yield* isConnected(attacker))
      assert.isFalse(yield* isConnected(victim))
      assert.strictEqual(yield* exchanges, 0)
    })
  )

  scenario(
    "nor does the attacker's own consent, brought to the victim's session",
    Effect.gen(function* () {
      const flow = yield* Flow.begun()
      yield* byApp(flow, user(2), { email: "victim@example.com" })
      const before = yield* World.stored(user(2))
      const completion = yield* byCallback(flow, user(1), { email: "attacker@example.com" })
      yield* refusedFor(flow.confirm(user(2), completion))
      assert.strictEqual((yield* World.stored(user(2))).version, before.version)
    })
  )
})

describe("somebody who comes back wrong", () => {
  const stop = (back: Return) => {
    assert(back._tag === "Stop")
    return [back.problem, Option.getOrUndefined(back.backTo)]
  }

  for (const [name, query, problem] of [
    ["refused", "error=access_denied", "denied"],
    ["asked for an unknown scope", "error=invalid_scope&error_description=<b>", "invalidScope"],
    ["asked for too much", "error=invalid_request", "invalidRequest"],
    ["comes from a client that is not approved", "error=unauthorized_client", "unauthorizedClient"],
    ["met a fault of Cal.com's", "error=server_error", "serverError"],
    ["met an error of an unknown code", "error=constructor", "otherError"],
    ["brings error and code", "error=access_denied&code=c", "denied"],
    ["brings no code", "", "malformed"],
    ["brings an empty code", "code=", "malformed"],
    ["brings a code that is none", "code=a%0Ab", "malformed"],
    ["brings two codes", "code=a&code=b", "malformed"],
    ["brings two errors", "error=access_denied&error=x", "malformed"],
    ["brings a token", "code=a&token=b", "malformed"],
    ["comes from another issuer", "code=a&iss=https://evil.example", "malformed"]
  ] as const) {
    scenario(
      `${name}: ${problem}, the way back is where the flow was to lead, and the state is used up`,
      Effect.gen(function* () {
        const flow = yield* Flow.begun()
        const { url } = yield* flow.begin(user(), { returnTo })
        const state = new URL(url).searchParams.get("state") ?? ""
        const parameters = new URLSearchParams(`${query}&state=${state}`)
        assert.deepStrictEqual(stop(yield* flow.comeBack(parameters)), [problem, returnTo])
        const good = new URLSearchParams({ code: "c", state })
        assert.deepStrictEqual(stop(yield* flow.comeBack(good)), ["unknownState", undefined])
      })
    )
  }

  scenario(
    "refused at the page itself, or was turned away there",
    Effect.gen(function* () {
      const flow = yield* Flow.begun()
      const denied = yield* Flow.consent((yield* flow.begin(user(), { returnTo })).url, Flow.ada, "back")
      assert.deepStrictEqual(stop(yield* flow.comeBack(denied)), ["denied", returnTo])
      for (const [scope, problem] of [
        ["NO_SUCH", "invalidScope"],
        ["READ_BOOKING", "invalidRequest"]
      ] as const) {
        const asking = yield* Flow.begun({ client: { scopes: [scope] } })
        const turned = yield* Flow.consent((yield* asking.begin(user(), { returnTo })).url)
        assert.deepStrictEqual(stop(yield* asking.comeBack(turned)), [problem, returnTo])
      }
    })
  )

  for (const [name, query] of [
    ["no state", "code=c"],
    ["an empty state", "code=c&state="],
    ["a state that nobody made", `code=c&state=${"x".repeat(43)}`],
    ["an error and no state", "error=access_denied"],
    ["nothing", ""]
  ] as const) {
    scenario(
      `with ${name}`,
      Effect.gen(function* () {
        const flow = yield* Flow.begun()
        assert.deepStrictEqual(stop(yield* flow.comeBack(new URLSearchParams(query))), ["unknownState", undefined])
      })
    )
  }

  scenario(
    "with a state twice, of which the first is good: nothing is kept",
    Effect.gen(function* () {
      const flow = yield* Flow.begun()
      const query = yield* Flow.consent((yield* flow.begin(user(), { returnTo })).url)
      query.append("state", "another")
      assert.deepStrictEqual(stop(yield* flow.comeBack(query)), ["malformed", returnTo])
    })
  )

  scenario(
    "too late",
    Effect.gen(function* () {
      const flow = yield* Flow.begun()
      const late = yield* Flow.consent((yield* flow.begin(user(), { returnTo })).url)
      yield* TestClock.adjust("10 minutes")
      assert.deepStrictEqual(stop(yield* flow.comeBack(late)), ["unknownState", undefined])
    })
  )

  scenario(
    "to where nobody may be sent any more: nothing is used up, and the same address works once it is allowed",
    Effect.gen(function* () {
      const storage = Context.get(yield* Layer.build(FlowStorage.layerMemory), FlowStorage.FlowStorage)
      const make = (returnUrls?: ReadonlyArray<string>) =>
        Effect.provideService(Flow.make(returnUrls && { returnUrls }), FlowStorage.FlowStorage, storage)
      const flow = yield* make()
      const changed = yield* make(["https://app.example/elsewhere"])
      const query = yield* Flow.consent((yield* flow.begin(user(), { returnTo })).url)
      assert.deepStrictEqual(stop(yield* changed.comeBack(query)), ["notAllowed", undefined])
      const completion = yield* Flow.completionOf(yield* flow.comeBack(query))
      // Neither with a completion that waits, nor without one.
      assert.deepStrictEqual(stop(yield* changed.comeBack(query)), ["notAllowed", undefined])
      yield* flow.confirm(user(), completion)
      assert.deepStrictEqual(stop(yield* changed.comeBack(query)), ["notAllowed", undefined])
    })
  )

  scenario(
    "to us, although the app hosts the callback itself",
    Effect.gen(function* () {
      const flow = yield* Flow.begun()
      const query = yield* Flow.consent((yield* flow.begin(user())).url)
      assert.deepStrictEqual(stop(yield* flow.comeBack(query)), ["notOurs", undefined])
      assert.strictEqual(yield* refusedFor(flow.exchange(user(), Flow.broughtBack(query))), "state")
    })
  )
})

describe("somebody who comes back again", () => {
  const locationOf = (back: Return) => {
    assert(back._tag === "GoOn")
    return Redacted.value(back.location)
  }

  /** A person at our callback, and what their browser brings. */
  const atCallback = (flow: Flows) => Effect.flatMap(flow.begin(user(), { returnTo }), ({ url }) => Flow.consent(url))

  scenario(
    "gets another completion each time, of which the last one works, once",
    Effect.gen(function* () {
      const flow = yield* Flow.begun()
      const query = yield* atCallback(flow)
      const completions = yield* Effect.forEach(Array.range(1, 4), () =>
        Effect.flatMap(flow.comeBack(query), Flow.completionOf)
      )
      assert.strictEqual(new Set(completions.map(Redacted.value)).size, 4)
      for (const completion of completions.slice(0, -1)) {
        assert.strictEqual(yield* refusedFor(flow.confirm(user(), completion)), "completion")
      }
      const [last] = completions.slice(-1)
      assert(last !== undefined)
      yield* flow.confirm(user(), last)
      assert.strictEqual(yield* refusedFor(flow.confirm(user(), last)), "completion")
      assert.strictEqual(yield* exchanges, 1)
      assert.isTrue(yield* World.isStoredPairLive())
    })
  )

  scenario(
    "after the app confirmed: is sent on without a completion, and nothing happens",
    Effect.gen(function* () {
      const flow = yield* Flow.begun()
      const query = yield* atCallback(flow)
      yield* flow.confirm(user(), yield* Flow.completionOf(yield* flow.comeBack(query)))
      const { version } = yield* World.stored()
      for (let time = 0; time < 2; time++) assert.strictEqual(locationOf(yield* flow.comeBack(query)), returnTo)
      assert.strictEqual((yield* World.stored()).version, version)
      assert.strictEqual(yield* exchanges, 1)
      yield* TestClock.adjust("10 minutes")
      assert.deepInclude(yield* flow.comeBack(query), { _tag: "Stop", problem: "unknownState" })
    })
  )

  scenario(
    "with another code, or with none: is refused, and what waits or is done stays",
    Effect.gen(function* () {
      const flow = yield* Flow.begun()
      const query = yield* atCallback(flow)
      const others = ["code=another", "error=access_denied", ""].map(
        (rest) => new URLSearchParams(`${rest}&state=${query.get("state")}`)
      )
      const refuseOthers = Effect.forEach(others, (other) =>
        Effect.map(flow.comeBack(other), (back) =>
          assert.deepStrictEqual(back, Return.Stop({ problem: "unknownState", backTo: Option.some(returnTo) }))
        )
      )
      const completion = yield* Flow.completionOf(yield* flow.comeBack(query))
      yield* refuseOthers
      yield* flow.confirm(user(), completion)
      yield* refuseOthers
      assert.strictEqual(locationOf(yield* flow.comeBack(query)), returnTo)
      assert.isTrue(yield* World.isStoredPairLive())
    })
  )

  /** Flows to which something happens between the first look at a flow and the write that follows it. */
  const disturbed = Effect.gen(function* () {
    const storage = Context.get(yield* Layer.build(FlowStorage.layerMemory), FlowStorage.FlowStorage)
    const between = yield* Ref.make<Effect.Effect<void>>(Effect.void)
    const flow = yield* Effect.provideService(Flow.make(), FlowStorage.FlowStorage, {
      ...storage,
      keep: (request) => Effect.zipRight(Effect.flatten(Ref.getAndSet(between, Effect.void)), storage.keep(request))
    })
    return {
      flow,
      by: (effect: Effect.Effect<unknown, unknown>) => Ref.set(between, Effect.asVoid(Effect.orDie(effect)))
    }
  })

  scenario(
    "from another tab at the same time: both are sent on, and the later completion works",
    Effect.gen(function* () {
      const { by, flow } = yield* disturbed
      const query = yield* atCallback(flow)
      const comeBack = Effect.flatMap(flow.comeBack(query), Flow.completionOf)
      const earlier = yield* Ref.make(Redacted.make("none"))
      yield* by(Effect.flatMap(comeBack, (completion) => Ref.set(earlier, completion)))
      const later = yield* comeBack
      assert.strictEqual(yield* refusedFor(flow.confirm(user(), yield* Ref.get(earlier))), "completion")
      assert.notStrictEqual(Redacted.value(yield* Ref.get(earlier)), "none")
      yield* flow.confirm(user(), later)
      assert.isTrue(yield* World.isStoredPairLive())
    })
  )

  scenario(
    "while the app confirms: is sent on without a completion",
    Effect.gen(function* () {
      const { by, flow } = yield* disturbed
      const query = yield* atCallback(flow)
      const completion = yield* Flow.completionOf(yield* flow.comeBack(query))
      yield* by(flow.confirm(user(), completion))
      assert.strictEqual(locationOf(yield* flow.comeBack(query)), returnTo)
      assert.isTrue(yield* World.isStoredPairLive())
    })
  )
})

describe("an account that another user is connected to", () => {
  scenario(
    "stays with that user, whose tokens stay alive",
    Effect.gen(function* () {
      const flow = yield* Flow.begun()
      yield* byApp(flow, user(1))
      const error = yield* Effect.flip(byApp(flow, user(2)))
      assert.strictEqual(error._tag, "CalAccountInUse")
      assert.isFalse(yield* isConnected(user(2)))
      assert.isTrue(yield* World.isStoredPairLive(user(1)))
      yield* TestClock.adjust("31 minutes")
      const tokens = yield* CalTokens
      yield* World.passTime(tokens.ensureValid(user(1)), 30_000)
    })
  )

  scenario(
    "is taken if that was asked for at the beginning, by either way",
    Effect.gen(function* () {
      const flow = yield* Flow.begun()
      yield* byApp(flow, user(1))
      const { url } = yield* flow.begin(user(2), { replace: true })
      yield* flow.exchange(user(2), Flow.broughtBack(yield* Flow.consent(url)))
      assert.isFalse(yield* isConnected(user(1)))
      const again = yield* flow.begin(user(3), { replace: true, returnTo })
      const back = yield* flow.comeBack(yield* Flow.consent(again.url))
      yield* flow.confirm(user(3), yield* Flow.completionOf(back))
      assert.isFalse(yield* isConnected(user(2)))
      assert.isTrue(yield* World.isStoredPairLive(user(3)))
    })
  )

  scenario(
    "is taken while the other user's tokens are refreshed, which ends the new ones: that is said at once",
    Effect.gen(function* () {
      const flow = yield* Flow.begun()
      const tap = yield* StorageTap
      const sandbox = yield* Sandbox
      const { tokens: other } = yield* World.anotherNode()
      yield* byApp(flow, user(1))
      yield* TestClock.adjust("1 minute")
      const { url } = yield* flow.begin(user(2), { replace: true })
      const brought = Flow.broughtBack(yield* Flow.consent(url))
      yield* tap.around("connect", {
        before: Effect.asVoid(Effect.orDie(other.refresh(user(1), { forceRefresh: true })))
      })
      const error = yield* World.passTime(Effect.flip(flow.exchange(user(2), brought)), 10_000)
      assert.strictEqual(error._tag, "ReauthorizationRequired")
      const next = yield* flow.begin(user(2), { replace: true })
      yield* flow.exchange(user(2), Flow.broughtBack(yield* Flow.consent(next.url)))
      assert.isTrue(yield* World.isStoredPairLive(user(2)))
      assert.isAbove(yield* sandbox.count("oauth2Refresh"), 1)
    })
  )

  scenario(
    "is kept although the new tokens cannot be tried out",
    Effect.gen(function* () {
      const flow = yield* Flow.begun()
      const sandbox = yield* Sandbox
      yield* byApp(flow, user(1))
      yield* sandbox.inject(Fault.status(429, { kind: "oauth2Refresh" }))
      const { url } = yield* flow.begin(user(2), { replace: true })
      yield* flow.exchange(user(2), Flow.broughtBack(yield* Flow.consent(url)))
      assert.isTrue(yield* World.isStoredPairLive(user(2)))
    })
  )
})
