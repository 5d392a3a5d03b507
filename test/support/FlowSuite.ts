/** What every storage of flows has to do, on the test clock. */
import { assert, describe, it } from "@effect/vitest"
import { Array, Context, Duration, Effect, Exit, Layer, Option, Redacted, Scope, Struct, TestClock } from "effect"
import { afterAll, beforeAll } from "vitest"
import { type Flow, FlowStorage, type FoundFlow, lifetime, type ReturnedFlow } from "../../src/FlowStorage.js"
import { hash } from "../../src/Token.js"
import * as Fixture from "./StorageFixture.js"

type Storage = (typeof FlowStorage)["Service"]

let counter = 0
const name = () => `hash ${++counter}`

const whole: Omit<Flow, "userUlid"> = {
  clientId: "client",
  returnTo: "https://app.example/back?x=%2F",
  replace: true,
  codeVerifier: Redacted.make("verifier")
}

const plain = (flow: Flow | ReturnedFlow) => ({
  ...flow,
  codeVerifier: flow.codeVerifier && Redacted.value(flow.codeVerifier),
  ...("code" in flow ? { code: Redacted.value(flow.code) } : {})
})

/** A flow as it stands, as what was begun with and what came of it. */
const standing = (found: FoundFlow) => {
  const { codeHash, isOver } = found
  return { ...plain(Struct.omit(found, "codeHash", "isOver", "revision")), codeHash, isOver }
}

const lifetimeMillis = Duration.toMillis(lifetime)

/** A flow, begun at an instant that no other test has. */
const begun = (storage: Storage, flow: Omit<Flow, "userUlid"> = { clientId: "client", replace: false }) =>
  Effect.gen(function* () {
    yield* TestClock.adjust(Duration.days(1))
    const { userUlid } = Fixture.newUser()
    const stateHash = name()
    const expiresAt = yield* storage.begin(stateHash, { userUlid, ...flow })
    const keep = (code = "code", completionHash = name()) =>
      Effect.gen(function* () {
        const flow = yield* storage.find(stateHash)
        const kept =
          Option.isSome(flow) &&
          (yield* storage.keep({ stateHash, flow: flow.value, code: Redacted.make(code), completionHash }))
        return { kept, completionHash }
      })
    return { userUlid, stateHash, expiresAt, keep }
  })

const someOf = <A>(options: ReadonlyArray<Option.Option<A>>) => options.filter(Option.isSome).length

export const suite = <E>(title: string, layer: Layer.Layer<FlowStorage, E>) => {
  describe(title, () => {
    const scope = Effect.runSync(Scope.make())
    let built: Storage | undefined
    const storage = (): Storage => {
      if (built === undefined) throw new Error("the storage is not built")
      return built
    }
    beforeAll(async () => {
      built = Context.get(await Effect.runPromise(Layer.buildWithScope(layer, scope)), FlowStorage)
    }, 300_000)
    afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))
    tests(storage)
  })
}

const tests = (storage: () => Storage) => {
  it.effect("a state gives back what was begun, once", () =>
    Effect.gen(function* () {
      const { stateHash, userUlid } = yield* begun(storage(), whole)
      const found = Option.getOrThrow(yield* storage().find(stateHash))
      const expected = { userUlid, ...whole, codeVerifier: "verifier", codeHash: undefined, isOver: false }
      assert.deepStrictEqual(standing(found), expected)
      const taken = Option.getOrThrow(yield* storage().take(stateHash))
      assert.deepStrictEqual(plain(taken), { userUlid, ...whole, codeVerifier: "verifier" })
      assert.isTrue(Option.isNone(yield* storage().take(stateHash)))
      assert.isTrue(Option.isNone(yield* storage().find(stateHash)))
    })
  )

  it.effect("what was not said stays unsaid", () =>
    Effect.gen(function* () {
      const { stateHash, userUlid } = yield* begun(storage())
      const taken = Option.getOrThrow(yield* storage().take(stateHash))
      assert.deepStrictEqual(plain(taken), { userUlid, clientId: "client", replace: false, codeVerifier: undefined })
      assert.isUndefined(taken.returnTo)
    })
  )

  it.effect("a completion gives back flow and code, once, and its state only tells of it from then on", () =>
    Effect.gen(function* () {
      const { keep, stateHash, userUlid } = yield* begun(storage(), whole)
      const { completionHash, kept } = yield* keep("the code")
      assert.isTrue(kept)
      const codeHash = hash(Redacted.make("the code"))
      const found = Effect.map(storage().find(stateHash), (flow) => standing(Option.getOrThrow(flow)))
      const expected = { userUlid, ...whole, codeVerifier: "verifier", codeHash }
      assert.deepStrictEqual(yield* found, { ...expected, isOver: false })
      assert.isTrue(Option.isNone(yield* storage().take(stateHash)))
      const done = Option.getOrThrow(yield* storage().complete(completionHash))
      assert.deepStrictEqual(plain(done), { userUlid, ...whole, codeVerifier: "verifier", code: "the code" })
      assert.isTrue(Option.isNone(yield* storage().complete(completionHash)))
      assert.deepStrictEqual(yield* found, { ...expected, isOver: true })
      assert.isTrue(Option.isNone(yield* storage().take(stateHash)))
      const again = yield* keep("the code")
      assert.isFalse(again.kept)
      assert.isTrue(Option.isNone(yield* storage().complete(again.completionHash)))
      assert.deepStrictEqual(yield* found, { ...expected, isOver: true })
      yield* TestClock.adjust(lifetimeMillis)
      assert.isTrue(Option.isNone(yield* storage().find(stateHash)))
    })
  )

  it.effect("a later completion replaces the one before, and lives no longer", () =>
    Effect.gen(function* () {
      const { keep, stateHash } = yield* begun(storage())
      const first = yield* keep()
      yield* TestClock.adjust(lifetimeMillis - 1)
      const second = yield* keep()
      assert.isTrue(second.kept)
      assert.isTrue(Option.isNone(yield* storage().complete(first.completionHash)))
      assert.isTrue(Option.isSome(yield* storage().find(stateHash)))
      yield* TestClock.adjust(1)
      assert.isTrue(Option.isNone(yield* storage().find(stateHash)))
      assert.isTrue(Option.isNone(yield* storage().complete(second.completionHash)))
    })
  )

  it.effect("nothing is found by what is not known, and nothing is kept of a flow that is not as it was", () =>
    Effect.gen(function* () {
      const { keep, stateHash, userUlid } = yield* begun(storage())
      assert.isTrue(Option.isNone(yield* storage().find(name())))
      assert.isTrue(Option.isNone(yield* storage().take(name())))
      assert.isTrue(Option.isNone(yield* storage().complete(name())))
      const flow = Option.getOrThrow(yield* storage().find(stateHash))
      const stale = { stateHash, flow, code: Redacted.make("code"), completionHash: name() }
      assert.isFalse(yield* storage().keep({ ...stale, stateHash: name() }))
      assert.isTrue((yield* keep()).kept)
      assert.isFalse(yield* storage().keep(stale))
      assert.isTrue(Option.isNone(yield* storage().complete(stale.completionHash)))
      assert.strictEqual(Option.getOrThrow(yield* storage().find(stateHash)).userUlid, userUlid)
    })
  )

  it.effect("a state lives for ten minutes, to the millisecond", () =>
    Effect.gen(function* () {
      const flow = yield* begun(storage())
      const other = yield* storage().begin(name(), { userUlid: flow.userUlid, clientId: "client", replace: false })
      assert.strictEqual(other, flow.expiresAt)
      yield* TestClock.adjust(lifetimeMillis - 1)
      assert.isTrue(Option.isSome(yield* storage().find(flow.stateHash)))
      yield* TestClock.adjust(1)
      assert.isTrue(Option.isNone(yield* storage().find(flow.stateHash)))
      assert.isFalse((yield* flow.keep()).kept)
      assert.isTrue(Option.isNone(yield* storage().take(flow.stateHash)))
    })
  )

  it.effect("a completion lives for ten minutes of its own", () =>
    Effect.gen(function* () {
      const flows = yield* Effect.forEach([1, 2], () => begun(storage()))
      yield* TestClock.setTime((flows[1]?.expiresAt ?? 0) - 1)
      const [, late] = flows
      assert(late !== undefined)
      const { completionHash, kept } = yield* late.keep()
      assert.isTrue(kept)
      yield* TestClock.adjust(lifetimeMillis - 1)
      assert.isTrue(Option.isSome(yield* storage().complete(completionHash)))
      const next = yield* begun(storage())
      const returned = yield* next.keep()
      yield* TestClock.adjust(lifetimeMillis)
      assert.isTrue(Option.isNone(yield* storage().complete(returned.completionHash)))
    })
  )

  it.effect("of many at once, one uses a state or a completion", () =>
    Effect.gen(function* () {
      const many = <A, E>(effect: Effect.Effect<A, E>) =>
        Effect.all(
          Array.makeBy(8, () => effect),
          { concurrency: "unbounded" }
        )
      for (let round = 0; round < 5; round++) {
        const taken = yield* begun(storage())
        assert.strictEqual(someOf(yield* many(storage().take(taken.stateHash))), 1)
        const { stateHash } = yield* begun(storage())
        const flow = Option.getOrThrow(yield* storage().find(stateHash))
        const hashes = Array.makeBy(8, name)
        const kept = yield* Effect.filter(
          hashes,
          (completionHash) => storage().keep({ stateHash, flow, code: Redacted.make("code"), completionHash }),
          { concurrency: "unbounded" }
        )
        assert.strictEqual(kept.length, 1)
        assert.strictEqual(someOf(yield* many(storage().complete(kept[0] ?? ""))), 1)
        const both = yield* begun(storage())
        const [take, keep] = yield* Effect.all([storage().take(both.stateHash), both.keep()], {
          concurrency: "unbounded"
        })
        assert.notStrictEqual(Option.isSome(take), keep.kept)
        assert.strictEqual(Option.isSome(yield* storage().complete(keep.completionHash)), keep.kept)
      }
    })
  )
}
