/**
 * How this process compiles WebAssembly, of which the embedded database is nearly all: fast and small. V8 takes 60 MB for
 * better code of it, 500 MB for a moment on Node 24, and a demo is done with before that pays.
 */
import { setFlagsFromString } from "node:v8"
import { Effect } from "effect"

/** For what is compiled from now on. A process that began with the first flag alone would have the others, too. */
export const compileOnce: Effect.Effect<void> = Effect.sync(() => {
  for (const flag of ["--liftoff-only", "--no-wasm-tier-up", "--no-wasm-dynamic-tiering"]) setFlagsFromString(flag)
})
