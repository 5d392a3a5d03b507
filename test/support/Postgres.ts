/**
 * A database of its own on the real PostgreSQL that the run provides.
 */
import { randomBytes } from "node:crypto"
import { PgClient } from "@effect/sql-pg"
import { Effect, Layer, Redacted, type Scope } from "effect"
import { inject } from "vitest"
import * as Postgres from "../../src/TokenStorage/Postgres.js"
import "./postgres.setup.js"

/** The URL of a new, empty database, which is dropped when the scope ends. */
export const makeDatabase: Effect.Effect<Redacted.Redacted, never, Scope.Scope> = Effect.gen(function* () {
  const url = new URL(inject("postgresUrl"))
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

/** Connections to a database of its own. */
export const layerDatabase = (options: Partial<Postgres.ConnectionOptions> = {}) =>
  Layer.unwrapScoped(Effect.map(makeDatabase, (url) => Postgres.layerConnection({ url, ...options })))
