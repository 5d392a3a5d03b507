/** A database of its own on the real PostgreSQL of the run, which starts when the first test asks for one. */
import { randomBytes } from "node:crypto"
import { PgClient } from "@effect/sql-pg"
import { Effect, Layer, Redacted, type Scope } from "effect"
import { inject } from "vitest"
import * as Postgres from "../../src/TokenStorage/Postgres.js"
import type {} from "./postgres.setup.js"

/** The URL of a new, empty database on a server, which is dropped when the scope ends. */
export const makeDatabaseOn = Effect.fnUntraced(function* (server: string) {
  const url = new URL(server)
  const name = `test_${randomBytes(8).toString("hex")}`
  const admin = (statement: string) =>
    PgClient.PgClient.pipe(
      Effect.flatMap((sql) => sql.unsafe(statement)),
      Effect.provide(PgClient.layer({ url: Redacted.make(url.href), maxConnections: 1 })),
      Effect.orDie
    )
  yield* Effect.acquireRelease(admin(`create database ${name}`), () => admin(`drop database ${name} with (force)`))
  const own = new URL(url)
  own.pathname = `/${name}`
  return Redacted.make(own.href)
})

const ask = async (): Promise<string> => {
  const response = await fetch(inject("askForPostgres"))
  const text = await response.text()
  if (!response.ok) throw new Error(`There is no PostgreSQL for the tests: ${text}`)
  return text
}

/** Once for all files of a worker. */
let asked: Promise<string> | undefined

/** The same on the server of the run. */
export const makeDatabase: Effect.Effect<Redacted.Redacted, never, Scope.Scope> = Effect.flatMap(
  Effect.promise(() => (asked ??= ask())),
  makeDatabaseOn
)

/** Connections to a database of its own. */
export const layerDatabase = (options: Partial<Postgres.ConnectionOptions> = {}, database = makeDatabase) =>
  Layer.unwrapScoped(Effect.map(database, (url) => Postgres.layerConnection({ url, ...options })))
