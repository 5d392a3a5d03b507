import { assert, it } from "@effect/vitest"
import { Effect, TestClock } from "effect"
import { CalTokens } from "../src/CalTokens.js"
import { Sandbox } from "../src/Sandbox.js"
import * as World from "./support/World.js"

it.effect("500 callers find an expired token: one refresh, one token", () =>
  Effect.gen(function* () {
    const tokens = yield* CalTokens
    const sandbox = yield* Sandbox
    const grant = yield* World.connectManaged()
    yield* TestClock.adjust("61 minutes")
    const answers = yield* Effect.all(
      Array.from({ length: 500 }, () => tokens.ensureValid(World.user())),
      { concurrency: "unbounded" }
    )
    assert.strictEqual(yield* sandbox.count("refresh"), 1)
    assert.strictEqual(new Set(answers.map((answer) => World.reveal(answer.accessToken))).size, 1)
    assert.isTrue(yield* sandbox.isAccessLive(answers[0]!.accessToken))
    assert.isFalse(yield* sandbox.isLive(grant.refreshToken))
  }).pipe(Effect.provide(World.layer()))
)
it.effect("oauth2 and force", () =>
  Effect.gen(function* () {
    const tokens = yield* CalTokens
    const sandbox = yield* Sandbox
    yield* World.connectOAuth2()
    for (let i = 0; i < 3; i++) {
      const a = yield* tokens.refresh(World.user(), { forceRefresh: true })
      assert.isTrue(a.refreshed)
    }
    const e = yield* Effect.flip(tokens.refresh(World.user(), { forceRefresh: true }))
    assert.strictEqual(e._tag, "RefreshCoolingDown")
    assert.strictEqual(yield* sandbox.count("oauth2Refresh"), 3)
  }).pipe(Effect.provide(World.layer()))
)
