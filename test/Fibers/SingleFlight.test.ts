/** The gate in front of a user's refresh, where the whole service would take luck to come to it. */
import { assert, it } from "@effect/vitest"
import { Duration, Effect, Exit, Scope } from "effect"
import * as Gate from "../../src/Fibers/SingleFlight.js"
import * as Owned from "../../src/Fibers/Owned.js"
import * as World from "../support/World.js"

it.live("work that a shutdown interrupts before it begins is awaited by nobody", () =>
  Effect.gen(function* () {
    const scope = yield* Scope.make()
    const onAbandoned = () => Effect.void
    const owned = yield* Owned.make({ shutdownWait: Duration.seconds(1), onAbandoned }).pipe(Scope.extend(scope))
    const gates = Gate.make<string, never>(owned)
    const admit = () => Effect.void
    yield* gates.start(World.user(), "refresh", admit, Effect.never)
    // No fiber but this one has run since.
    yield* Scope.close(scope, Exit.void)
    const other = gates.join(World.user(), "reissue", admit, Effect.succeed("done"))
    assert.strictEqual(yield* Effect.timeout(other, "10 seconds"), "done")
    assert.strictEqual(yield* gates.size, 0)
  })
)
