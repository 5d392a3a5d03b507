/** Several clients of one kind: each user is one of theirs, and nothing of one is another's. */
import { assert, describe } from "@effect/vitest"
import { Context, Effect, Layer, Option, Redacted, Ref, TestClock } from "effect"
import { CalClient } from "../../src/CalClient.js"
import { CalTokens } from "../../src/CalTokens.js"
import * as ManagedUsers from "../../src/ManagedUsers.js"
import { demoManaged, demoOAuth2, Sandbox } from "../../src/Sandbox.js"
import * as Flow from "../support/FlowWorld.js"
import * as Several from "../support/SeveralClients.js"
import * as World from "../support/World.js"

const { scenario, user } = World

const { client, clientIds, managed, oauth2, options } = Several

/** Connects `user(n)` through a client; the first one of its kind is not named. */
const connect = (kind: World.Kind, n: 1 | 2) =>
  Effect.gen(function* () {
    const sandbox = yield* Sandbox
    const tokens = yield* CalTokens
    const person = { clientId: clientIds[kind][n - 1], email: `${kind}-${n}@example.com` }
    const grant = yield* kind === "managed" ? sandbox.grantManaged(person) : sandbox.grantOAuth2(person)
    const connection = {
      _tag: kind === "managed" ? "ManagedUser" : "OAuth2",
      calUserId: grant.calUserId,
      clientId: n === 1 ? undefined : person.clientId
    } as const
    yield* tokens.connect(user(n), connection, { ...grant, accessTokenExpiresAt: (yield* sandbox.now) - 1000 })
    return grant
  })

for (const kind of World.kinds) {
  describe(`two clients, ${kind}`, () => {
    scenario(
      "refresh each their own users, each from a budget of its own",
      Effect.gen(function* () {
        const tokens = yield* CalTokens
        const calClient = yield* CalClient
        yield* connect(kind, 2)
        assert.isTrue((yield* tokens.ensureValid(user(2))).refreshed)
        assert.isTrue(Option.isSome(yield* calClient.rateLimit(clientIds[kind][1])))
        assert.isTrue(Option.isNone(yield* calClient.rateLimit(clientIds[kind][0])))
        yield* connect(kind, 1)
        assert.isTrue((yield* tokens.ensureValid(user(1))).refreshed)
        for (const n of [1, 2] as const) {
          assert.isTrue(yield* World.isStoredPairLive(user(n)))
          assert.strictEqual((yield* World.stored(user(n))).connection.clientId, clientIds[kind][n - 1])
        }
        // Other secrets of the second client are no news to the first one.
        const renewed = [{ ...Several[kind], clientSecret: Redacted.make("another") }]
        const others = { ...client.others, [kind]: renewed }
        const after = yield* Layer.build(Layer.fresh(World.node({}, { ...client, others })))
        const { fingerprint } = Context.get(after, CalClient)
        const [usual, second] = clientIds[kind]
        assert.strictEqual(fingerprint(usual), calClient.fingerprint(usual))
        assert.notStrictEqual(fingerprint(second), calClient.fingerprint(second))
      }),
      options
    )

    scenario(
      "have circuits of their own: one with a wrong secret stops nobody else's users",
      Effect.gen(function* () {
        const tokens = yield* CalTokens
        const sandbox = yield* Sandbox
        yield* connect(kind, 1)
        yield* connect(kind, 2)
        const secret = { managed, oauth2 }[kind].clientSecret
        yield* Ref.update(sandbox.switches, (switches) => ({ ...switches, revokedSecrets: [secret] }))
        for (let i = 0; i < 2; i++) {
          const error = yield* Effect.flip(tokens.ensureValid(user(2)))
          assert(error._tag === "CalClientMisconfigured")
          assert.strictEqual(error.clientId, clientIds[kind][1])
        }
        assert.isTrue((yield* tokens.ensureValid(user(1))).refreshed)
        yield* World.turn({ revokedSecrets: [] })
        yield* TestClock.adjust("30 seconds")
        assert.isTrue((yield* tokens.ensureValid(user(2))).refreshed)
      }),
      options
    )

    scenario(
      "are known by name: no other is taken, and users of one that is gone cost no call",
      Effect.gen(function* () {
        const sandbox = yield* Sandbox
        const tokens = yield* CalTokens
        const grant = yield* connect(kind, 2)
        const pair = { ...grant, accessTokenExpiresAt: (yield* sandbox.now) + 60_000 }
        const { calUserId } = grant
        const _tag = kind === "managed" ? "ManagedUser" : "OAuth2"
        const error = yield* Effect.flip(tokens.connect(user(3), { _tag, calUserId, clientId: "nobody" }, pair))
        assert.strictEqual(error.message, `clientId must be one of ${clientIds[kind].join(", ")}.`)

        const without = yield* World.anotherNode({}, World.clientOptions())
        yield* sandbox.resetCalls
        const gone = yield* Effect.flip(without.tokens.ensureValid(user(2)))
        assert(gone._tag === "CalClientMisconfigured")
        assert.deepStrictEqual([gone.clientId, gone.reason], [clientIds[kind][1], "this client is not configured"])
        assert.deepStrictEqual(yield* sandbox.calls, [])
        assert.isTrue((yield* tokens.ensureValid(user(2))).refreshed)
      }),
      options
    )

    scenario(
      "of which none is the usual one have to be named",
      Effect.gen(function* () {
        const sandbox = yield* Sandbox
        const calClient = yield* CalClient
        const { tokens } = yield* World.anotherNode(
          {},
          {
            apiUrl: World.apiUrl,
            others: {
              managed: [demoManaged, managed],
              oauth2: [{ ...client.oauth2, clientId: demoOAuth2.clientId }, oauth2]
            }
          }
        )
        const { calUserId, ...pair } = yield* kind === "managed" ? sandbox.grantManaged() : sandbox.grantOAuth2()
        const _tag = kind === "managed" ? "ManagedUser" : "OAuth2"
        const input = { ...pair, accessTokenExpiresAt: (yield* sandbox.now) + 60_000 }
        const error = yield* Effect.flip(tokens.connect(user(), { _tag, calUserId }, input))
        assert.strictEqual(error.message, `clientId is required: one of ${clientIds[kind].join(", ")}.`)
        const { connection } = yield* tokens.connect(user(), { _tag, calUserId, clientId: clientIds[kind][0] }, input)
        assert.strictEqual(connection.clientId, clientIds[kind][0])
        assert.strictEqual(calClient.clients[kind].all.size, 2)
      }),
      options
    )
  })
}

describe("a person", () => {
  scenario(
    "who consents to one client gets tokens of that one, whichever way they come back",
    Effect.gen(function* () {
      const flow = yield* Flow.begun()
      const begun = yield* flow.begin(user(), { clientId: oauth2.clientId })
      assert.match(begun.url, /^https:\/\/app\.cal\.com\/auth\/oauth2\/authorize\?second=1&client_id=second-oauth&/)
      assert.deepStrictEqual([begun.redirectUrl, begun.scopes], [oauth2.redirectUrl, oauth2.scopes])
      yield* flow.exchange(user(), Flow.broughtBack(yield* Flow.consent(begun.url)))
      const { connection } = yield* World.stored()
      assert.deepInclude(connection, { clientId: oauth2.clientId, scope: "PROFILE_READ" })
      assert.isTrue(yield* World.isStoredPairLive())

      const other = yield* flow.begin(user(2), { clientId: oauth2.clientId, returnTo: Flow.returnTo })
      const back = yield* flow.comeBack(yield* Flow.consent(other.url, { email: "ben@example.com" }))
      yield* flow.confirm(user(2), yield* Flow.completionOf(back))
      assert.strictEqual((yield* World.stored(user(2))).connection.clientId, oauth2.clientId)

      const usual = yield* flow.begin(user(3))
      yield* flow.exchange(user(3), Flow.broughtBack(yield* Flow.consent(usual.url, { email: "cem@example.com" })))
      assert.strictEqual((yield* World.stored(user(3))).connection.clientId, demoOAuth2.clientId)
      const error = yield* Effect.flip(flow.begin(user(), { clientId: managed.clientId }))
      assert.strictEqual(error.message, `clientId must be one of ${clientIds.oauth2.join(", ")}.`)
    }),
    options
  )

  scenario(
    "who comes back to a process that does not know the client is not connected by another one",
    Effect.gen(function* () {
      const storage = yield* Flow.storage
      const [flow, without] = yield* Effect.all([Flow.make(), Flow.make({ client: {} })]).pipe(Effect.provide(storage))
      const sandbox = yield* Sandbox
      const leave = Effect.flatMap(
        flow.begin(user(), { clientId: oauth2.clientId, returnTo: Flow.returnTo }),
        ({ url }) => Flow.consent(url)
      )
      const error = yield* Effect.flip(without.exchange(user(), Flow.broughtBack(yield* leave)))
      assert(error._tag === "CalClientMisconfigured")
      assert.deepStrictEqual([error.clientId, error.reason], [oauth2.clientId, "this client is not configured"])
      assert.deepInclude(yield* without.comeBack(yield* leave), { problem: "unknownState" })
      assert.strictEqual(yield* sandbox.count("oauth2Code"), 0)
    }),
    options
  )
})

describe("a managed user", () => {
  const create = (n: number, clientId?: string) =>
    Effect.flatMap(ManagedUsers.ManagedUsers, (users) =>
      users.create(user(n), { email: `${n}@example.com`, name: "Ada" }, { clientId })
    )

  scenario(
    "is created by the client that is named, taken up by it, and is no other's",
    Effect.gen(function* () {
      const sandbox = yield* Sandbox
      const calClient = yield* CalClient
      assert.deepInclude(yield* create(1, managed.clientId), { clientId: managed.clientId, origin: "created" })
      assert.isTrue(yield* World.isStoredPairLive())
      assert.deepInclude(yield* create(2), { clientId: demoManaged.clientId, origin: "created" })
      const { calUserId } = yield* calClient.createManagedUser(
        { email: "3@example.com", name: "Ada" },
        managed.clientId
      )
      assert.deepStrictEqual(yield* create(3, managed.clientId), {
        clientId: managed.clientId,
        calUserId,
        origin: "recovered"
      })
      assert.isTrue(yield* World.isStoredPairLive(user(3)))

      yield* sandbox.resetCalls
      assert.deepInclude(yield* create(1), { clientId: managed.clientId, origin: "connected" })
      const error = yield* Effect.flip(create(1, demoManaged.clientId))
      assert.strictEqual(error.message, "clientId is not that of the account the user has.")
      const unknown = yield* Effect.flip(create(4, "nobody"))
      assert.strictEqual(unknown.message, `clientId must be one of ${clientIds.managed.join(", ")}.`)
      assert.deepStrictEqual(yield* sandbox.calls, [])
    }).pipe(Effect.provide(Layer.fresh(ManagedUsers.layer))),
    options
  )

  scenario(
    "who is created for one client is not handed to a call for another one at the same time",
    Effect.gen(function* () {
      const sandbox = yield* Sandbox
      const both = yield* Effect.all(
        clientIds.managed.map((id) => Effect.either(create(1, id))),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(
        both.map(({ _tag }) => _tag),
        ["Right", "Left"]
      )
      assert.strictEqual(yield* sandbox.count("createManaged"), 1)
    }).pipe(Effect.provide(Layer.fresh(ManagedUsers.layer))),
    options
  )
})
