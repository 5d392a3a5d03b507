/**
 * `cal-tokens serve` as it is, with two differences that only tests want: its times are shorter, and it can be told to
 * die at a step of the refresh protocol. See `Death.ts` and `../Bundle.ts`.
 */
import { NodeContext, NodeRuntime } from "@effect/platform-node"
import { Effect } from "effect"
import * as Cli from "../../../src/Cli.js"
import * as Signals from "../../../src/Cli/Signals.js"
import * as TokenConfig from "../../../src/TokenConfig.js"
import * as SilentConnections from "../SilentConnections.js"
import { settings, speedVariable } from "../Speed.js"
import * as Connections from "./Connections.js"

Connections.reportAtExit()
SilentConnections.reportAtExit()

// Whoever started this is gone, and could not end it any more.
process.stdin.once("end", () => process.exit(1)).resume()

Effect.zipRight(Signals.tolerateEcho, Cli.run([process.execPath, "cal-tokens", "serve"])).pipe(
  Effect.provide(TokenConfig.layer(settings(Number(process.env[speedVariable] ?? "1")))),
  Effect.provide(NodeContext.layer),
  NodeRuntime.runMain({ disableErrorReporting: true, disablePrettyLogger: true })
)
