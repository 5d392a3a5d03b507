/** Counts what the process's server was given, as Node itself sees it, and tells it when the process exits. */
import { subscribe } from "node:diagnostics_channel"
import { writeSync } from "node:fs"

export const reportAtExit = () => {
  const counts = { connections: 0, requests: 0, responses: 0 }
  subscribe("net.server.socket", () => void counts.connections++)
  subscribe("http.server.request.start", () => void counts.requests++)
  subscribe("http.server.response.finish", () => void counts.responses++)
  process.once("exit", () => writeSync(1, `${JSON.stringify(counts)}\n`))
}
