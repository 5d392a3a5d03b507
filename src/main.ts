#!/usr/bin/env node
import { NodeContext, NodeRuntime } from "@effect/platform-node"
import { Effect } from "effect"
import * as Cli from "./Cli.js"
import * as Signals from "./Cli/Signals.js"

Signals.tolerateEcho.pipe(
  Effect.zipRight(Signals.keepInspectorClosed),
  Effect.zipRight(Cli.run(process.argv)),
  Effect.provide(NodeContext.layer),
  NodeRuntime.runMain({ disableErrorReporting: true, disablePrettyLogger: true })
)
