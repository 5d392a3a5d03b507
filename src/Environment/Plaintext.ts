/** What travels unencrypted to other machines: allowed, and told at each start. */
import { Effect, Layer, Redacted } from "effect"
import { Client } from "pg"
import type * as CalClient from "../CalClient.js"
import type { Database } from "../Environment.js"
import * as Form from "./Form.js"

/** The warnings of these settings. */
export const warnings = (database: Database, { apiUrl }: CalClient.Options): ReadonlyArray<string> => [
  ...(Form.isPlaintext(apiUrl)
    ? ["CAL_API_URL is http (CAL_API_ALLOW_HTTP=1): tokens and client secrets can be read on the way to Cal.com"]
    : []),
  ...(database._tag === "Postgres" && isOpen(database.url)
    ? [
        "The connection to the database has no TLS: whoever is between can read and change what passes. " +
          "Add ?sslmode=verify-full to DATABASE_URL"
      ]
    : [])
]

/** Judged by the driver's own reading of the URL, and of PGSSLMODE. What it cannot read fails when it connects. */
const isOpen = (url: Redacted.Redacted): boolean => {
  try {
    const { host, ssl } = new Client({ connectionString: Redacted.value(url) })
    return ssl === false && !host.startsWith("/") && !Form.isLoopback(host)
  } catch {
    return false
  }
}

export const layer = (database: Database, options: CalClient.Options): Layer.Layer<never> =>
  Layer.effectDiscard(Effect.forEach(warnings(database, options), (line) => Effect.logWarning(line), { discard: true }))
