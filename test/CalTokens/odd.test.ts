/** Answers of Cal.com that differ from its contract in a side field: no pair in them is lost. */
import { assert, describe } from "@effect/vitest"
import { Effect } from "effect"
import { Fault, type OddAnswer } from "../../src/Sandbox.js"
import * as World from "../support/World.js"

const { scenario, user } = World

/** Each holds a new refresh token that can be read. */
const readable: ReadonlyArray<OddAnswer> = [
  "expiryMissing",
  "expiryText",
  "expiryIso",
  "expiryZero",
  "expiryNull",
  "nested",
  "otherCase",
  "idTokenBeside",
  "accessTokenMissing",
  "refreshTokenKept",
  "gzip",
  "br",
  "deflate",
  "cutAfterRefreshToken"
]

for (const kind of World.kinds) {
  describe(kind, () => {
    for (const answer of readable) {
      scenario(
        `${answer}: the pair is stored, and the user goes on`,
        Effect.gen(function* () {
          const { refresh, refreshes, sandbox, tokens } = yield* World.expired(kind)
          yield* sandbox.inject(Fault.odd(answer, refresh))
          const token = yield* World.passTime(tokens.ensureValid(user()), 30_000)
          assert.isTrue(token.refreshed)
          assert.isTrue(yield* World.isStoredPairLive())
          // The stored access token, which an answer without one leaves in place, had expired.
          assert.strictEqual(yield* refreshes, answer === "accessTokenMissing" ? 2 : 1)
          assert.strictEqual((yield* World.stored()).status._tag, "Active")
        })
      )
    }
  })
}
