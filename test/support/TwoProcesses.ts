/**
 * Two processes' worth of connections to one database of their own.
 */
import { SqlClient } from "@effect/sql"
import { Context, Effect, Layer } from "effect"
import * as Postgres from "../../src/TokenStorage/Postgres.js"
import { TokenStorage } from "../../src/TokenStorage.js"
import { layerKeys } from "./Keys.js"
import { makeDatabase } from "./Postgres.js"
import * as Fixture from "./StorageFixture.js"

export interface TwoProcesses {
  readonly one: Fixture.Storage
  readonly two: Fixture.Storage
  readonly sql: SqlClient.SqlClient
}

export const make = (options: Postgres.Options, database = makeDatabase) =>
  Effect.gen(function* () {
    const url = yield* database
    const build = Layer.build(
      Postgres.layer(options).pipe(
        Layer.provideMerge(Postgres.layerConnection({ url, poolSize: 25 })),
        Layer.provide(layerKeys())
      )
    )
    const [first, second] = [yield* build, yield* build]
    return {
      one: Context.get(first, TokenStorage),
      two: Context.get(second, TokenStorage),
      sql: Context.get(first, SqlClient.SqlClient)
    }
  })

export const all = <A, E, R = never>(effects: ReadonlyArray<Effect.Effect<A, E, R>>) =>
  Effect.all(effects, { concurrency: "unbounded" })
export const tally = (results: ReadonlyArray<{ readonly _tag: string }>) =>
  results.reduce<Record<string, number>>((sum, { _tag }) => ({ ...sum, [_tag]: (sum[_tag] ?? 0) + 1 }), {})

export const connected = ({ one }: TwoProcesses) =>
  Effect.gen(function* () {
    const { calUserId, userUlid } = Fixture.newUser()
    const connection = Fixture.managed(calUserId)
    const row = yield* one.connect({ userUlid, connection, pair: Fixture.pair(`${userUlid} 0`) })
    return { userUlid, connection, row, seen: Fixture.refreshHash(`${userUlid} 0`) }
  })
