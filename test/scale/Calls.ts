/**
 * What the storage's port says to a database, caught on its way there: the calls of each operation, to be run where and
 * how a test likes.
 */
import { Reactivity } from "@effect/experimental"
import { SqlClient } from "@effect/sql"
import { PgClient } from "@effect/sql-pg"
import { Effect, Layer, Stream } from "effect"
import * as Postgres from "../../src/TokenStorage/Postgres.js"
import { layerKeys } from "../support/Keys.js"
import type { Storage } from "../support/StorageFixture.js"

export interface Call {
  readonly text: string
  readonly parameters: ReadonlyArray<unknown>
}

export type Operation = (storage: Storage) => Effect.Effect<unknown, unknown>

/** The call of an operation. It was answered nothing, so whatever the operation made of that does not count. */
export const callOf = (operation: Operation): Effect.Effect<Call> =>
  Effect.gen(function* () {
    const calls: Array<Call> = []
    const note = (text: string, parameters: ReadonlyArray<unknown>) =>
      Effect.sync(() => {
        calls.push({ text, parameters })
        return []
      })
    const acquirer = Effect.succeed({
      execute: note,
      executeRaw: note,
      executeValues: note,
      executeUnprepared: note,
      executeStream: () => Stream.empty
    })
    const sql = SqlClient.make({ acquirer, compiler: PgClient.makeCompiler(), spanAttributes: [] })
    const layer = Layer.merge(Layer.effect(SqlClient.SqlClient, sql), layerKeys())
    const storage = yield* Effect.provide(Postgres.make(), Layer.provide(layer, Reactivity.layer))
    yield* Effect.exit(operation(storage))
    const [call, ...others] = calls
    if (call === undefined || others.length > 0) return yield* Effect.dieMessage(`${calls.length} calls`)
    return call
  }).pipe(Effect.scoped, Effect.orDie)
