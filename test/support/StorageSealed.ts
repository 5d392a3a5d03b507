/** What every storage has to do with answers that nobody could read. */
import { assert, it } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import type { NewSealedAnswer } from "../../src/TokenStorage.js"
import * as Fixture from "./StorageFixture.js"

const bytes = (text: string) => Redacted.make(new TextEncoder().encode(text))

export const sealed = (storage: () => Fixture.Storage) => {
  const answer = (calUserId: number, spentHash: string): NewSealedAnswer => ({
    spentHash,
    operation: "refresh",
    connection: Fixture.managed(calUserId),
    answer: bytes(`what was answered for ${spentHash}`),
    issuedAt: 5,
    isWhole: true
  })

  const page = (after: ReturnType<typeof Fixture.newUser>, limit: number) =>
    Effect.map(storage().sealed({ after: after.userUlid, limit }), (found) =>
      found.map(({ answer, userUlid, ...rest }) => ({
        userUlid,
        text: new TextDecoder().decode(Redacted.value(answer)),
        ...rest
      }))
    )

  it.effect("come back as they were, page by page, with all of a user's in one", () =>
    Effect.gen(function* () {
      const before = Fixture.newUser()
      const users = [Fixture.newUser(), Fixture.newUser(), Fixture.newUser()] as const
      for (const { calUserId, userUlid } of users) {
        const connection = Fixture.managed(calUserId)
        assert.isFalse(yield* storage().seal({ userUlid, ...answer(calUserId, "too early") }))
        yield* storage().connect({ userUlid, connection, pair: Fixture.pair(userUlid) })
        for (const spent of ["one", "two"]) {
          assert.isTrue(yield* storage().seal({ userUlid, ...answer(calUserId, spent) }))
        }
      }
      const [a, b, c] = users
      const whole = (user: typeof a) =>
        ["one", "two"].map((spentHash) => ({
          userUlid: user.userUlid,
          text: `what was answered for ${spentHash}`,
          spentHash,
          operation: "refresh",
          connection: Fixture.managed(user.calUserId),
          issuedAt: 5,
          isWhole: true,
          at: 0
        }))
      assert.sameDeepMembers([...(yield* page(before, 2))], [...whole(a), ...whole(b)])
      assert.sameDeepMembers([...(yield* page(b, 2))], whole(c))
      assert.deepStrictEqual(yield* page(c, 2), [])
      // The same token's is kept once, as it came last.
      yield* storage().seal({ userUlid: c.userUlid, ...answer(c.calUserId, "one"), answer: bytes("again") })
      const texts = (yield* page(b, 2)).map(({ text }) => text)
      assert.sameMembers(texts, ["again", "what was answered for two"])
      for (const { userUlid } of users) yield* storage().disconnect(userUlid)
      assert.deepStrictEqual(yield* page(before, 2), [])
    })
  )
}
