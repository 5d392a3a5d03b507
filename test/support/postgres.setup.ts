/**
 * Runs once before all tests: provides the URL of a real PostgreSQL, `TEST_DATABASE_URL` or one started for this run.
 */
import { PgClient } from "@effect/sql-pg"
import { Effect, Redacted } from "effect"
import type { TestProject } from "vitest/node"
import { makeServer } from "./PostgresServer.js"

declare module "vitest" {
  interface ProvidedContext {
    /** A superuser's URL of a PostgreSQL server. */
    readonly postgresUrl: string
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const given = process.env["TEST_DATABASE_URL"]
  const server = given === undefined ? await makeServer() : undefined
  const url = server?.url ?? given ?? ""
  const [row] = await Effect.runPromise(
    PgClient.PgClient.pipe(
      Effect.flatMap((sql) => sql<{ version: string }>`select current_setting('server_version') as version`),
      Effect.provide(PgClient.layer({ url: Redacted.make(url) }))
    )
  )
  console.log(
    `Tests use PostgreSQL ${row?.version} (${given === undefined ? "started for them" : "TEST_DATABASE_URL"}).`
  )
  project.provide("postgresUrl", url)
  return async () => server?.remove()
}
