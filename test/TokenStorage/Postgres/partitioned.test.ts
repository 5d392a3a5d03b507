/**
 * All that holds for the storage on PostgreSQL holds when its connections are partitioned.
 */
import { SqlClient } from "@effect/sql"
import { assert, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import * as Migrations from "../../../src/TokenStorage/Postgres/Migrations.js"
import * as Postgres from "../../../src/TokenStorage/Postgres.js"
import { layerKeys } from "../../support/Keys.js"
import { recording } from "../../support/Leaks.js"
import { layerDatabase } from "../../support/Postgres.js"
import { compare } from "../../support/StorageModel.js"
import { races } from "../../support/StorageRaces.js"
import { suite } from "../../support/StorageSuite.js"

const partitions = 4

const layer = Postgres.layer({ clock: "effect", partitions }).pipe(
  Layer.provideMerge(layerDatabase()),
  Layer.provide(layerKeys())
)

suite("on a partitioned PostgreSQL", layer)

compare("a partitioned PostgreSQL", layer, 15)

races("on a partitioned PostgreSQL", { partitions })

it.scopedLive("partitions are made with the table; a schema that has others is left alone, and that is logged", () =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const count = sql`
      select count(*)::integer as n from pg_inherits where inhparent = 'cal_tokens.connection'::regclass`
    const logOf = (migration: typeof Migrations.migrate) =>
      Effect.gen(function* () {
        const recorded = yield* recording
        yield* Effect.provide(migration, recorded.layer)
        return yield* recorded.text
      })
    assert.notInclude(yield* logOf(Migrations.migrateWith({ partitions })), "otherwise")
    assert.deepStrictEqual(yield* count, [{ n: partitions }])
    assert.notInclude(yield* logOf(Migrations.migrate), "otherwise")
    const text = yield* logOf(Migrations.migrateWith({ partitions: 2 }))
    assert.match(text, /partitioned otherwise than configured/)
    assert.deepStrictEqual(yield* count, [{ n: partitions }])
  }).pipe(Effect.provide(layerDatabase()))
)

it.effect("a number of partitions that makes no sense stops the migration", () =>
  Effect.forEach([0, 1, 1.5, 1025, Number.NaN], (n) =>
    Effect.map(Effect.exit(Migrations.migrateWith({ partitions: n })), (exit) => {
      assert.match(String(exit), /partitions must be an integer from 2 to 1024/)
    })
  ).pipe(Effect.provide(layerDatabase()))
)
