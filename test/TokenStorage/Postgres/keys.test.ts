/** Keys that rows need and a process does not have: told once at its start, and to whoever asks with an API key. */
import { SqlClient } from "@effect/sql"
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer, Logger, HashMap, Redacted } from "effect"
import * as Embedded from "../../../src/Embedded.js"
import { KeyRing } from "../../../src/KeyRing.js"
import * as Sandbox from "../../../src/Sandbox.js"
import { TokenStorage } from "../../../src/TokenStorage.js"
import * as Postgres from "../../../src/TokenStorage/Postgres.js"
import * as Flows from "../../../src/TokenStorage/Postgres/Flows.js"
import { call, keys, layerOn } from "../../support/HttpWorld.js"
import { keyOf, layerKeys } from "../../support/Keys.js"
import { layerDatabase } from "../../support/Postgres.js"
import * as Fixture from "../../support/StorageFixture.js"
import * as World from "../../support/World.js"

const [old, present] = [keyOf("old", 1), keyOf("present", 2)]

/** A start with these keys on a database that is there: the storage, and what it said. */
const start = (keys: string) =>
  Effect.gen(function* () {
    const lines: Array<string> = []
    const logger = Logger.replace(
      Logger.defaultLogger,
      Logger.make(({ annotations, logLevel, message }) => {
        lines.push([logLevel.label, String(message), ...HashMap.values(annotations)].join(" | "))
      })
    )
    const context = yield* Layer.build(
      Postgres.layer().pipe(Layer.provideMerge(layerKeys(keys)), Layer.provide(logger))
    )
    return { storage: Context.get(context, TokenStorage), ring: Context.get(context, KeyRing), lines }
  })

const connect = (storage: Fixture.Storage) =>
  Effect.gen(function* () {
    const { calUserId, userUlid } = Fixture.newUser()
    const connection = Fixture.managed(calUserId)
    yield* storage.connect({ userUlid, connection, pair: Fixture.pair(userUlid) })
    return { userUlid, connection }
  })

const databases: Readonly<Record<string, Layer.Layer<SqlClient.SqlClient, unknown>>> = {
  PostgreSQL: layerDatabase(),
  PGlite: Embedded.layer({ inMemory: true })
}

for (const [name, database] of Object.entries(databases)) {
  describe(name, () => {
    it.scopedLive("a key that is gone is told by its id and the number of rows, of whatever kind", () =>
      Effect.gen(function* () {
        const before = yield* start(old)
        const users = yield* Effect.forEach([1, 2, 3], () => connect(before.storage))
        const { connection, userUlid } = users[0] ?? assert.fail()
        yield* before.storage.seal({
          userUlid,
          spentHash: "spent",
          operation: "refresh",
          connection,
          answer: Redacted.make(new Uint8Array(1)),
          issuedAt: 0,
          isWhole: true
        })
        const flows = yield* Effect.provideService(Flows.make(), KeyRing, before.ring)
        yield* flows.begin("state", {
          userUlid,
          clientId: "client",
          replace: false,
          codeVerifier: Redacted.make("verifier")
        })
        assert.deepStrictEqual([before.lines, yield* before.storage.missingKeys], [[], []])
        const rotating = yield* start(`${present},${old}`)
        yield* connect(rotating.storage)
        assert.deepStrictEqual([rotating.lines, yield* rotating.storage.missingKeys], [[], []])
        const without = yield* start(present)
        assert.deepStrictEqual(yield* without.storage.missingKeys, [{ id: "old", rows: 5 }])
        assert.deepStrictEqual(without.lines, [
          "ERROR | Encryption keys that rows need are not configured: what is sealed under them cannot be used | old (5 rows)"
        ])
        const third = yield* start(keyOf("third", 3))
        assert.deepStrictEqual(yield* third.storage.missingKeys, [
          { id: "old", rows: 5 },
          { id: "present", rows: 1 }
        ])
      }).pipe(Effect.provide(database))
    )

    it.scopedLive("so is one that fallbacks alone need; what is no key's id is told to nobody", () =>
      Effect.gen(function* () {
        const before = yield* start(old)
        const rotating = yield* start(`${present},${old}`)
        const users = yield* Effect.forEach([1, 2, 3], () => connect(before.storage))
        for (const { connection, userUlid } of users.slice(0, 2)) {
          yield* rotating.storage.connect({ userUlid, connection, pair: Fixture.pair(`${userUlid} again`) })
        }
        const without = yield* start(present)
        assert.deepStrictEqual(yield* without.storage.missingKeys, [{ id: "old", rows: 3 }])
        const [one, two, three] = users
        yield* before.storage.disconnect(three?.userUlid ?? assert.fail())
        assert.deepStrictEqual(yield* without.storage.missingKeys, [{ id: "old", rows: 2 }])
        assert.isNotEmpty((yield* start(present)).lines)
        // With the fallback goes the need.
        yield* before.storage.disconnect(two?.userUlid ?? assert.fail())
        const sql = yield* SqlClient.SqlClient
        const write = (assignment: string) =>
          sql.unsafe(`update cal_tokens.connection set ${assignment} where user_ulid = $1`, [one?.userUlid])
        yield* write("fallbacks = '[]'")
        assert.deepStrictEqual(yield* without.storage.missingKeys, [])
        yield* write(`fallbacks = '[{"pair":"v1.x\\n}.x"}]', pair = E'v1.x\n.x'`)
        assert.deepStrictEqual([yield* without.storage.missingKeys, (yield* start(present)).lines], [[], []])
      }).pipe(Effect.provide(database))
    )
  })
}

describe("/health/ready", () => {
  const world = (keys: string) =>
    layerOn(
      World.node().pipe(
        Layer.provideMerge(Postgres.layer()),
        Layer.provide(layerKeys(keys)),
        Layer.provideMerge(Sandbox.layer())
      )
    )
  const ready = (key?: string) =>
    Effect.map(call({ path: "/health/ready", ...(key === undefined ? {} : { key }) }), ({ json, status }) => {
      assert.strictEqual(status, 200)
      return json
    })

  it.scopedLive("tells of them whoever has an API key, and nobody else", () =>
    Effect.gen(function* () {
      yield* Effect.flatMap(start(old), ({ storage }) => connect(storage))
      yield* Effect.gen(function* () {
        for (const nobody of [undefined, "x", `${keys.manage}x`]) {
          assert.deepStrictEqual(yield* ready(nobody), { status: "ok" })
        }
        const told = { status: "ok", missingKeys: [{ id: "old", rows: 1 }] }
        assert.deepStrictEqual(yield* ready(keys.manage), told)
        assert.deepStrictEqual(yield* ready(keys.all), told)
      }).pipe(Effect.provide(world(present)))
      yield* Effect.gen(function* () {
        assert.deepStrictEqual(yield* ready(keys.manage), { status: "ok", missingKeys: [] })
      }).pipe(Effect.provide(world(`${present},${old}`)))
    }).pipe(Effect.provide(layerDatabase()))
  )
})
