/** What is due, where not every process has every key. */
import { assert, it } from "@effect/vitest"
import { Context, Duration, Effect, Layer } from "effect"
import * as Embedded from "../../../src/Embedded.js"
import { TokenStorage } from "../../../src/TokenStorage.js"
import * as Postgres from "../../../src/TokenStorage/Postgres.js"
import { keyOf, layerKeys } from "../../support/Keys.js"
import * as Fixture from "../../support/StorageFixture.js"

const start = (keys: string) =>
  Effect.map(Layer.build(Layer.provide(Postgres.layer(), layerKeys(keys))), (context) => ({
    storage: Context.get(context, TokenStorage)
  }))

it.scopedLive("a process that lacks a key leaves what is due to those that have it", () =>
  Effect.gen(function* () {
    const able = yield* start(keyOf("present", 2))
    const without = yield* start(keyOf("old", 1))
    const now = 1_000_000_000
    for (let n = 0; n < 40; n++) {
      const { calUserId, userUlid } = Fixture.newUser()
      yield* able.storage.connect({
        userUlid,
        connection: { ...Fixture.managed(calUserId), clientId: "c" },
        pair: Fixture.pair(userUlid),
        schedule: { aheadAt: now - 1000, usedAt: now - 2000 }
      })
    }
    const claimDue = (storage: Fixture.Storage, at: number) =>
      storage.claimDue({
        circuit: { clientId: "c", fingerprint: "one", interval: Duration.seconds(30) },
        limit: 8,
        now: at,
        usedSince: now - 3_600_000,
        lease: Fixture.lease,
        cooldownWindow: Duration.seconds(30),
        maxAttempts: 3
      })
    let rounds = 0
    // As the worker does: at once again, while there may be more.
    while (rounds < 1000 && (yield* claimDue(without.storage, now)).isMore) rounds++
    const { claims } = yield* claimDue(able.storage, now + 100)
    assert.strictEqual(rounds, 0)
    assert.strictEqual(claims.length, 8)
  }).pipe(Effect.provide(Embedded.layer({ inMemory: true })))
)
