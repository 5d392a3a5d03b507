import { assert, it } from "@effect/vitest"
import { Deferred, Effect, Queue } from "effect"
import * as Telling from "../../../src/TokenStorage/Postgres/Telling.js"
import * as Fixture from "../../support/StorageFixture.js"

/** What is told, as it goes out, and how a statement ends. */
const telling = Effect.gen(function* () {
  const sent = yield* Queue.unbounded<{ readonly payloads: ReadonlyArray<string>; readonly end: Effect.Effect<void> }>()
  const notify = (payloads: ReadonlyArray<string>) =>
    Effect.flatMap(Deferred.make<void, string>(), (ended) =>
      Effect.zipRight(sent.offer({ payloads, end: Effect.asVoid(Deferred.fail(ended, "away")) }), Deferred.await(ended))
    )
  return { sent, tell: Telling.make(notify, yield* Effect.scope) }
})

it.scoped("what is written while a statement tells is told by the next, whatever became of the first", () =>
  Effect.gen(function* () {
    const { sent, tell } = yield* telling
    const [one, two, three] = [Fixture.newUser().userUlid, Fixture.newUser().userUlid, Fixture.newUser().userUlid]
    yield* tell({ userUlid: one, version: 1 })
    const first = yield* sent.take
    assert.deepStrictEqual(first.payloads, [`${one} 1`])
    yield* tell({ userUlid: two, version: 3 }, { userUlid: three, version: 4 })
    yield* tell({ userUlid: two, version: 2 })
    yield* tell({ userUlid: three })
    yield* first.end
    const second = yield* sent.take
    assert.deepStrictEqual(second.payloads, [`${two} 3`, three])
    yield* second.end
    yield* Effect.yieldNow()
    // The next one goes out at once again.
    yield* tell({ userUlid: one, version: 5 })
    assert.deepStrictEqual((yield* sent.take).payloads, [`${one} 5`])
  })
)

it.scoped("a database that does not answer keeps no more than some of it waiting", () =>
  Effect.gen(function* () {
    const { sent, tell } = yield* telling
    const all = Array.from({ length: 10_501 }, () => Fixture.newUser().userUlid)
    yield* tell({ userUlid: Fixture.newUser().userUlid })
    const first = yield* sent.take
    for (const userUlid of all) yield* tell({ userUlid })
    yield* first.end
    let told = 0
    for (let last = 0; last !== all.length;) {
      const { end, payloads } = yield* sent.take
      told += payloads.length
      assert.isAtMost(payloads.length, 500)
      last = payloads.at(-1) === all.at(-1) ? all.length : 0
      yield* end
    }
    assert.strictEqual(told, 10_000)
  })
)
