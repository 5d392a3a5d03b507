/**
 * A deterministic test of a program of your own: the clock is `TestClock`, Cal.com is the sandbox, and hours pass in
 * milliseconds.
 */
import { assert, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Ref, Schedule, Schema, TestClock } from "effect"
import { CalApi, CalClient, CalTokens, Sandbox, Token, TokenStorage } from "../../src/index.js"

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

const Cal = CalApi.layer.pipe(
  Layer.provideMerge(CalTokens.layer),
  Layer.provide(CalClient.layer({ apiUrl: "https://api.cal.com/v2", managed: Sandbox.demoManaged })),
  Layer.provide([TokenStorage.layerMemory, Sandbox.layerHttpClient]),
  Layer.provideMerge(Sandbox.layer())
)

const user = Token.UserUlid.make("01ARZ3NDEKTSV4RRFFQ69G5FAV")

const connect = Effect.gen(function* () {
  const sandbox = yield* Sandbox.Sandbox
  const tokens = yield* CalTokens.CalTokens
  const grant = yield* sandbox.grantManaged({ email: "ada@example.com" })
  yield* tokens.connect(user, { _tag: "ManagedUser", calUserId: grant.calUserId }, grant)
})

const counting = Effect.gen(function* () {
  const counts = yield* Ref.make<ReadonlyArray<number>>([])
  return { counts, fiber: yield* Effect.fork(watch(user, counts)) }
})

it.effect("a day of bookings costs one refresh an hour", () =>
  Effect.gen(function* () {
    yield* connect
    const { counts, fiber } = yield* counting
    yield* TestClock.adjust("24 hours")
    const sandbox = yield* Sandbox.Sandbox
    assert.strictEqual((yield* Ref.get(counts)).length, 145)
    assert.strictEqual(yield* sandbox.count("refresh"), 24)
    yield* Fiber.interrupt(fiber)
  }).pipe(Effect.provide(Cal))
)

it.effect("an answer with the new tokens that gets lost on the way is nobody's problem", () =>
  Effect.gen(function* () {
    yield* connect
    const sandbox = yield* Sandbox.Sandbox
    yield* sandbox.inject(Sandbox.Fault.dropAfter({ kind: "refresh" }))
    const { counts, fiber } = yield* counting
    yield* TestClock.adjust("185 minutes")
    assert.strictEqual((yield* Ref.get(counts)).length, 19)
    assert.strictEqual(yield* sandbox.count("forceRefresh"), 1)
    yield* Fiber.interrupt(fiber)
  }).pipe(Effect.provide(Cal))
)
