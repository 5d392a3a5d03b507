/**
 * A deterministic test of a program of your own: the clock is `TestClock`, Cal.com is the sandbox, and hours pass in
 * milliseconds.
 */
import { assert, it } from "@effect/vitest"
import { Effect, Fiber, Ref, Schedule, Schema, TestClock } from "effect"
import { CalApi, Token } from "cal-tokens"
import * as Sandbox from "cal-tokens/sandbox"

// ---- the program under test ------------------------------------------------------------------------------------------

const Bookings = Schema.Struct({ data: Schema.Array(Schema.Unknown) })

/** Counts somebody's bookings every ten minutes, all day long. */
const watch = (user: Token.UserUlid, counts: Ref.Ref<ReadonlyArray<number>>) =>
  Effect.gen(function* () {
    const api = yield* CalApi.CalApi
    const { data } = yield* api.request(user, { path: "/bookings", schema: Bookings })
    yield* Ref.update(counts, (counts) => [...counts, data.length])
  }).pipe(Effect.repeat(Schedule.spaced("10 minutes")))

// ---- its test --------------------------------------------------------------------------------------------------------

const user = Token.UserUlid.make("01ARZ3NDEKTSV4RRFFQ69G5FAV")

const counting = Effect.gen(function* () {
  const counts = yield* Ref.make<ReadonlyArray<number>>([])
  return { counts, fiber: yield* Effect.fork(watch(user, counts)) }
})

it.effect("a working day of bookings costs one refresh an hour", () =>
  Effect.gen(function* () {
    yield* Sandbox.connectManaged(user)
    const { counts, fiber } = yield* counting
    yield* TestClock.adjust("8 hours")
    const sandbox = yield* Sandbox.Sandbox
    assert.strictEqual((yield* Ref.get(counts)).length, 49)
    assert.strictEqual(yield* sandbox.count("refresh"), 8)
    yield* Fiber.interrupt(fiber)
  }).pipe(Effect.provide(Sandbox.layerTest()))
)

it.effect("an answer with the new tokens that gets lost on the way is nobody's problem", () =>
  Effect.gen(function* () {
    yield* Sandbox.connectManaged(user)
    const sandbox = yield* Sandbox.Sandbox
    yield* sandbox.inject(Sandbox.Fault.dropAfter({ kind: "refresh" }))
    const { counts, fiber } = yield* counting
    yield* TestClock.adjust("185 minutes")
    assert.strictEqual((yield* Ref.get(counts)).length, 19)
    assert.strictEqual(yield* sandbox.count("forceRefresh"), 1)
    yield* Fiber.interrupt(fiber)
  }).pipe(Effect.provide(Sandbox.layerTest()))
)
