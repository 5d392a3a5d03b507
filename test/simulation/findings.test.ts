/** What simulated histories brought to light, in the smallest form that shows it. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Ref } from "effect"
import * as CalTokens from "../../src/CalTokens.js"
import * as Sandbox from "../../src/Sandbox.js"
import * as World from "../support/World.js"

describe("a clock that is ahead of Cal.com's", () => {
  it.effect("does not fail a caller whose token turns out to be valid", () =>
    Effect.gen(function* () {
      const sandbox = yield* Sandbox.Sandbox
      const tokens = yield* CalTokens.CalTokens
      yield* World.connectManaged()
      // Expired by our clock; by Cal.com's, of which nothing is known yet, not for a long time.
      yield* Ref.update(sandbox.switches, (switches) => ({ ...switches, clockSkewMillis: -3_600_000 }))
      yield* World.passTime(Effect.sleep("61 minutes"), 3_700_000, 60_000)
      yield* sandbox.inject(Sandbox.Fault.status(503, { kind: "refresh" }))
      const token = yield* World.passTime(tokens.ensureValid(World.user()), 60_000)
      assert.isFalse(token.refreshed)
    }).pipe(Effect.provide(World.layer()))
  )
})
