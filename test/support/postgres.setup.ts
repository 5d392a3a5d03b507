/**
 * Runs once before all tests, in vitest's own process: tells them of a PostgreSQL, `TEST_DATABASE_URL` or one that is
 * started when a test first asks. Most files need none, and starting it takes longer than they do.
 */
import { randomUUID } from "node:crypto"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import type { TestProject } from "vitest/node"
import { makeServer, type PostgresServer } from "./PostgresServer.js"

declare module "vitest" {
  interface ProvidedContext {
    /** Whoever gets this is told a superuser's URL of a PostgreSQL server. Only Postgres.ts does. */
    readonly askForPostgres: string
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const given = process.env["TEST_DATABASE_URL"]
  let started: Promise<PostgresServer> | undefined
  let url: Promise<string> | undefined
  const provide = async () => {
    const url = given ?? (await (started ??= makeServer())).url
    const whose = given === undefined ? "started for them" : "TEST_DATABASE_URL"
    console.log(`Tests use PostgreSQL ${await version(url)} (${whose}).`)
    return url
  }

  // The URL may hold a password, which is nobody's on this machine who was not told the path.
  const path = `/${randomUUID()}`
  const server = createServer((request, response) => {
    if (request.url !== path) return response.writeHead(404).end()
    url ??= provide()
    url.then(
      (url) => response.end(url),
      (error: unknown) => response.writeHead(500).end(String(error))
    )
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  project.provide("askForPostgres", `http://127.0.0.1:${(server.address() as AddressInfo).port}${path}`)

  return async () => {
    server.closeAllConnections()
    server.close()
    await started?.then(
      (server) => server.remove(),
      () => undefined
    )
  }
}

const version = async (url: string): Promise<string> => {
  const { default: Pg } = await import("pg")
  const client = new Pg.Client({ connectionString: url })
  await client.connect()
  try {
    const { rows } = await client.query<{ readonly server_version: string }>("show server_version")
    return rows[0]?.server_version ?? "of no version"
  } finally {
    await client.end()
  }
}
