/** Managed users are created once, whoever asks and whatever gets lost on the way. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Redacted, TestClock } from "effect"
import { CalClient } from "../src/CalClient.js"
import { CalTokens } from "../src/CalTokens.js"
import * as ManagedUsers from "../src/ManagedUsers.js"
import * as Sandbox from "../src/Sandbox.js"
import { call, keys, layer as layerHttp } from "./support/HttpWorld.js"
import * as StorageTap from "./support/StorageTap.js"
import * as World from "./support/World.js"

const layer = Layer.provideMerge(ManagedUsers.layer, World.layer())

const { clientId } = Sandbox.demoManaged

const ada = { email: "ada@example.com", name: "Ada", timeZone: "Europe/Paris" }

const create = (n = 1, user = ada) =>
  Effect.flatMap(ManagedUsers.ManagedUsers, (users) => users.create(World.user(n), user))

const creations = Effect.flatMap(Sandbox.Sandbox, (sandbox) => sandbox.count("createManaged"))
const reissues = Effect.flatMap(Sandbox.Sandbox, (sandbox) => sandbox.count("forceRefresh"))
const people = Effect.map(
  Effect.flatMap(Sandbox.Sandbox, (sandbox) => sandbox.snapshot),
  ({ users }) => users.filter(({ email }) => /^(ada|ben)/.test(email)).length
)

/** Cal.com made the account and its answer got lost with the process. */
const crash = Effect.gen(function* () {
  const client = yield* CalClient
  return yield* client.createManagedUser(ada)
})

describe("a managed user", () => {
  it.effect("is created and connected, and later answered without a call", () =>
    Effect.gen(function* () {
      const tokens = yield* CalTokens
      const account = yield* create()
      assert.strictEqual(account.origin, "created")
      const { connection } = yield* tokens.info(World.user())
      assert.deepInclude(connection, { _tag: "ManagedUser", calUserId: account.calUserId })
      assert.isTrue(yield* World.isStoredPairLive())
      const again = yield* create(1, { ...ada, email: "another@example.com" })
      assert.deepStrictEqual(again, { ...account, origin: "connected" })
      assert.strictEqual(yield* creations, 1)
    }).pipe(Effect.provide(layer))
  )

  it.effect("is one account for any number of calls at once", () =>
    Effect.gen(function* () {
      const accounts = yield* Effect.all(
        Array.from({ length: 50 }, (_, n) => create(1, n % 2 === 0 ? ada : { ...ada, email: "ben@example.com" })),
        { concurrency: "unbounded" }
      )
      assert.strictEqual(new Set(accounts.map(({ calUserId }) => calUserId)).size, 1)
      assert.strictEqual(yield* creations, 1)
      assert.strictEqual(yield* people, 1)
      assert.isTrue(yield* World.isStoredPairLive())
    }).pipe(Effect.provide(layer))
  )

  it.effect("is one account for two processes, and what is stored works", () =>
    Effect.gen(function* () {
      const other = yield* Layer.build(Layer.fresh(ManagedUsers.layer))
      const both = yield* Effect.all([create(), Effect.provide(create(), other)], { concurrency: 2 })
      assert.strictEqual(both[0].calUserId, both[1].calUserId)
      assert.strictEqual(yield* people, 1)
      const tokens = yield* CalTokens
      const sandbox = yield* Sandbox.Sandbox
      yield* TestClock.adjust("61 minutes")
      const { accessToken } = yield* tokens.ensureValid(World.user())
      assert.isTrue(yield* sandbox.isAccessLive(accessToken))
    }).pipe(Effect.scoped, Effect.provide(layer))
  )

  it.effect("whose creation was not stored is taken up by the next call", () =>
    Effect.gen(function* () {
      const { calUserId } = yield* crash
      assert.deepStrictEqual(yield* create(), { clientId, calUserId, origin: "recovered" })
      assert.isTrue(yield* World.isStoredPairLive())
      assert.strictEqual(yield* people, 1)
      assert.strictEqual(yield* reissues, 1)
    }).pipe(Effect.provide(layer))
  )

  it.effect("is taken up also when the database was away, or Cal.com's answer came to nothing", () =>
    Effect.gen(function* () {
      const tap = yield* StorageTap.StorageTap
      const sandbox = yield* Sandbox.Sandbox
      yield* tap.refuse("connect", Infinity)
      assert.strictEqual((yield* World.passTime(Effect.flip(create()), 30_000))._tag, "StorageUnavailable")
      yield* tap.relent
      yield* sandbox.inject(Sandbox.Fault.dropAfter({ kind: "createManaged" }))
      assert.strictEqual((yield* Effect.flip(create()))._tag, "CalUnavailable")
      assert.strictEqual((yield* create()).origin, "recovered")
      assert.isTrue(yield* World.isStoredPairLive())
      assert.strictEqual(yield* people, 1)
    }).pipe(Effect.provide(layer))
  )

  it.effect("is stored although the database was away for a moment when Cal.com had created it", () =>
    Effect.gen(function* () {
      const tap = yield* StorageTap.StorageTap
      yield* tap.refuse("connect", 3)
      assert.strictEqual((yield* World.passTime(create(), 30_000)).origin, "created")
      assert.isTrue(yield* World.isStoredPairLive())
    }).pipe(Effect.provide(layer))
  )

  it.effect("has a connection that heals by itself, if it was taken up and then nobody came back", () =>
    Effect.gen(function* () {
      const tokens = yield* CalTokens
      const sandbox = yield* Sandbox.Sandbox
      const { calUserId } = yield* crash
      yield* sandbox.inject(Sandbox.Fault.status(429, { kind: "forceRefresh" }))
      assert.strictEqual((yield* Effect.flip(create()))._tag, "CalRateLimited")
      const { pair } = yield* World.stored()
      assert.match(Redacted.value(pair.accessToken), /^none-[\w-]{43}$/)
      assert.isTrue((yield* tokens.info(World.user())).isExpired)
      yield* TestClock.adjust("61 seconds")
      assert.deepStrictEqual(yield* create(), { clientId, calUserId, origin: "connected" })
      const { accessToken } = yield* tokens.ensureValid(World.user())
      assert.isTrue(yield* sandbox.isAccessLive(accessToken))
      assert.isTrue(yield* World.isStoredPairLive())
    }).pipe(Effect.provide(layer))
  )

  it.effect("is never taken from another user, whose tokens live on", () =>
    Effect.gen(function* () {
      yield* create(2)
      const error = yield* Effect.flip(create(1))
      assert.strictEqual(error._tag, "CalAccountInUse")
      assert.strictEqual(yield* reissues, 0)
      assert.isTrue(yield* World.isStoredPairLive(World.user(2)))
      assert.strictEqual((yield* Effect.flip(World.stored()).pipe(Effect.sandbox, Effect.flip))._tag, "Die")
    }).pipe(Effect.provide(layer))
  )

  it.effect("is not made of a user who is connected through OAuth2", () =>
    Effect.gen(function* () {
      yield* World.connectOAuth2()
      assert.strictEqual((yield* Effect.flip(create()))._tag, "NotManagedUser")
      assert.strictEqual(yield* creations, 0)
    }).pipe(Effect.provide(layer))
  )

  it.effect("is made anew when Cal.com has deleted the old one", () =>
    Effect.gen(function* () {
      const sandbox = yield* Sandbox.Sandbox
      const tokens = yield* CalTokens
      const { calUserId } = yield* create()
      yield* sandbox.deleteUser(calUserId)
      yield* TestClock.adjust("61 minutes")
      assert.strictEqual((yield* Effect.flip(tokens.ensureValid(World.user())))._tag, "ReauthorizationRequired")
      const account = yield* create()
      assert.strictEqual(account.origin, "created")
      assert.notStrictEqual(account.calUserId, calUserId)
      assert.isTrue(yield* World.isStoredPairLive())
    }).pipe(Effect.provide(layer))
  )

  it.effect("costs Cal.com no more than the time of a call", () =>
    Effect.gen(function* () {
      const sandbox = yield* Sandbox.Sandbox
      yield* sandbox.inject(Sandbox.Fault.delayBefore("1 minute", { kind: "createManaged" }))
      const { result, took } = yield* World.passTime(World.timed(Effect.flip(create())), 60_000)
      assert.strictEqual(result._tag, "CalUnavailable")
      assert.strictEqual(took, 8000)
    }).pipe(Effect.provide(layer))
  )
})

describe("POST /api/cal/managed-users", () => {
  const post = (body: unknown) => call({ method: "POST", path: "/api/cal/managed-users", key: keys.manage, body })

  it.effect("creates, and may be repeated", () =>
    Effect.gen(function* () {
      const body = { userUlid: World.user().toLowerCase(), ...ada, timeFormat: 24, metadata: { team: "blue" } }
      const answers = yield* Effect.all([post(body), post(body), post(body)], { concurrency: 3 })
      const { calUserId } = (yield* World.stored()).connection
      for (const { json, status } of answers)
        assert.deepStrictEqual([status, json], [200, { success: true, calUserId }])
      assert.deepStrictEqual((yield* post({ ...body, userUlid: World.user(2) })).status, 409)
      assert.strictEqual(yield* creations, 2)
    }).pipe(Effect.provide(layerHttp()))
  )

  it.effect("names the field that is wrong, and nothing of its value", () =>
    Effect.gen(function* () {
      const good = { userUlid: World.user(), ...ada }
      const cases: ReadonlyArray<readonly [object, RegExp]> = [
        [{ ...good, email: "SECRET" }, /^email must be an e-mail address\.$/],
        [{ ...good, email: undefined }, /^email is required\.$/],
        [{ ...good, name: "" }, /^name must be a text of 1 to 255 characters\.$/],
        [{ ...good, name: "SECRET".repeat(100) }, /^name must be a text/],
        [{ ...good, timeFormat: 13 }, /^timeFormat must be 12 \| 24\.$/],
        [{ ...good, weekStart: "SECRET" }, /^weekStart must be "Monday"/],
        [{ ...good, metadata: { SECRET: 1 } }, /^metadata must be an object of up to 50 texts/],
        [{ ...good, metadata: ["SECRET"] }, /^metadata must be/]
      ]
      for (const [body, expected] of cases) {
        const { json, status } = yield* post(body)
        assert.deepStrictEqual([status, json["code"]], [400, "InvalidInput"])
        assert.match(String(json["error"]), expected)
        assert.notInclude(JSON.stringify(json), "SECRET")
      }
      assert.strictEqual(yield* creations, 0)
    }).pipe(Effect.provide(layerHttp()))
  )
})
