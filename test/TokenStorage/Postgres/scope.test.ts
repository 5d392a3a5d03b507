/** What the storage runs belongs to its layer: nothing of it goes on when that has been released. */
import { SqlClient } from "@effect/sql"
import { assert, it } from "@effect/vitest"
import { Context, Deferred, Effect, Exit, Fiber, Layer, Schedule, Scope } from "effect"
import * as Migrations from "../../../src/TokenStorage/Postgres/Migrations.js"
import * as Postgres from "../../../src/TokenStorage/Postgres.js"
import { layerKeys } from "../../support/Keys.js"
import { makeDatabase } from "../../support/Postgres.js"
import * as Fixture from "../../support/StorageFixture.js"

it.scopedLive("a statement that waits ends with the layer, here and in the database, long before its own limit", () =>
  Effect.gen(function* () {
    const url = yield* makeDatabase
    const context = yield* Layer.build(Layer.merge(Postgres.layerConnection({ url, poolSize: 4 }), layerKeys()))
    const sql = Context.get(context, SqlClient.SqlClient)
    yield* Effect.provide(Migrations.migrate, context)
    const scope = yield* Scope.make()
    const storage = yield* Postgres.make({ statementTimeout: "10 minutes" }).pipe(
      Scope.extend(scope),
      Effect.provide(context)
    )
    const { calUserId, userUlid } = Fixture.newUser()
    yield* storage.connect({ userUlid, connection: Fixture.managed(calUserId), pair: Fixture.pair("one") })

    const [locked, release] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
    const holder = yield* sql`select 1 from cal_tokens.connection where user_ulid = ${userUlid} for update`.pipe(
      Effect.zipRight(Deferred.succeed(locked, undefined)),
      Effect.zipRight(Deferred.await(release)),
      sql.withTransaction,
      Effect.fork
    )
    yield* Deferred.await(locked)
    const claims = sql<{ n: number }>`
      select count(*)::integer as n from pg_stat_activity
      where datname = current_database() and state = 'active' and query like '%claim_1%' and pid <> pg_backend_pid()`
    const untilClaims = (n: number) =>
      Effect.repeat(claims, { schedule: Schedule.spaced("10 millis"), until: ([row]) => row?.n === n })

    const claim = yield* Effect.fork(storage.claim(Fixture.claimOf(userUlid)))
    yield* untilClaims(1)
    yield* Scope.close(scope, Exit.void)
    assert.isTrue(Exit.isInterrupted(yield* Fiber.await(claim)))
    yield* untilClaims(0)
    yield* Deferred.succeed(release, undefined)
    yield* Fiber.join(holder)
    // Nobody has the lease: the claim did not take place later either.
    const [row] = yield* sql`select attempt_id from cal_tokens.connection where user_ulid = ${userUlid}`
    assert.deepStrictEqual(row, { attempt_id: null })
    // Nor does it begin anything more.
    assert.isTrue(Exit.isInterrupted(yield* Effect.exit(storage.find(userUlid))))
  })
)
