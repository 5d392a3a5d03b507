/** Promise backends: callers of one user share an answer, and a fresh token is there at once. */
import { assert, describe, it } from "vitest"
import { Effect, Layer, ManagedRuntime } from "effect"
import * as Actions from "../../src/Actions.js"
import { startFailed } from "../../src/Actions/Failure.js"
import * as Together from "../../src/Actions/Together.js"
import * as CalTokens from "../../src/CalTokens.js"
import * as Sandbox from "../../src/Testing.js"

const unavailable = { success: false, error: "no result in time", code: "CalUnavailable" } as const

describe("calls together", () => {
  const user = "01ARZ3NDEKTSV4RRFFQ69G5FAV"

  const asking = () => {
    const ends = new Array<(answer: object) => void>()
    const ask = Together.make(() => new Promise<object>((resolve) => ends.push(resolve)))
    return { ends, ask }
  }

  it("ask once per user, and nobody holds what another may change", async () => {
    const { ask, ends } = asking()
    const answers = [ask(user), ask(user), ask("another"), ask(user)]
    assert.strictEqual(ends.length, 2)
    ends.forEach((end, n) => end({ n }))
    const [first, second, other, third] = await Promise.all(answers)
    assert.deepStrictEqual([first, second, other, third], [{ n: 0 }, { n: 0 }, { n: 1 }, { n: 0 }])
    assert.strictEqual(new Set([first, second, third]).size, 3)
  })

  it("are no longer together with one that is over", async () => {
    const { ask, ends } = asking()
    const first = ask(user)
    ends[0]?.({ n: 1 })
    await first
    const second = ask(user)
    assert.strictEqual(ends.length, 2)
    ends[1]?.({ n: 2 })
    assert.deepStrictEqual(await second, { n: 2 })
  })

  it("wait for themselves where the first one's patience is over, and share any other failure", async () => {
    const { ask, ends } = asking()
    const [first, second] = [ask(user), ask(user)]
    ends[0]?.(unavailable)
    assert.deepStrictEqual(await first, unavailable)
    await Promise.resolve()
    assert.strictEqual(ends.length, 2)
    ends[1]?.({ n: 2 })
    assert.deepStrictEqual(await second, { n: 2 })
    const [third, fourth] = [ask(user), ask(user)]
    ends[2]?.(startFailed)
    assert.deepStrictEqual(await Promise.all([third, fourth]), [startFailed, startFailed])
    assert.strictEqual(ends.length, 3)
  })
})

describe("a promise backend", () => {
  const user = "01ARZ3NDEKTSV4RRFFQ69G5FAV"

  const started = async (options: Omit<Actions.Options, "layer"> = {}) => {
    const runtime = ManagedRuntime.make(Sandbox.layerTest())
    const services = await runtime.runtime()
    await runtime.runPromise(Sandbox.connectManaged(user))
    const cal = Actions.make({ ...options, layer: Layer.succeedContext(services.context) })
    return {
      cal,
      run: <A, E>(effect: Effect.Effect<A, E, CalTokens.CalTokens | Sandbox.Sandbox>) => runtime.runPromise(effect),
      end: async () => {
        await cal.dispose()
        await runtime.dispose()
      }
    }
  }

  it("has a fresh token before anything else runs", async () => {
    const { cal, end } = await started()
    await cal.ensureValidCalToken(user)
    let turns = 0
    const other = Promise.resolve().then(() => turns++)
    const token = await cal.ensureValidCalToken(user)
    assert.isAtMost(turns, 1)
    assert.isFalse(Actions.isFailure(token))
    assert.deepStrictEqual(token, await cal.ensureValidCalToken(user))
    await other
    await end()
  })

  it("asks `authorize` before each answer, however fresh the token is", async () => {
    let asked = 0
    const { cal, end } = await started({ authorize: () => ++asked < 3 })
    for (const success of [true, true, false]) {
      assert.strictEqual((await cal.ensureValidCalToken(user)).success, success)
    }
    assert.strictEqual(asked, 3)
    await end()
  })

  it("refreshes an expired token once for thousands of callers", async () => {
    const { cal, end, run } = await started()
    await run(
      Effect.gen(function* () {
        const sandbox = yield* Sandbox.Sandbox
        const tokens = yield* CalTokens.CalTokens
        const grant = yield* sandbox.grantManaged({ email: "expired@example.com" })
        const now = yield* sandbox.now
        yield* tokens.connect(
          "01ARZ3NDEKTSV4RRFFQ69G5FAW" as never,
          { _tag: "ManagedUser", calUserId: grant.calUserId },
          { ...grant, accessTokenExpiresAt: now - 1 }
        )
        yield* sandbox.resetCalls
      })
    )
    const answers = await Promise.all(
      Array.from({ length: 5000 }, () => cal.ensureValidCalToken("01ARZ3NDEKTSV4RRFFQ69G5FAW"))
    )
    assert.strictEqual(new Set(answers.map((answer) => JSON.stringify(answer))).size, 1)
    assert.isTrue(answers[0]?.success)
    assert.strictEqual(await run(Effect.flatMap(Sandbox.Sandbox, ({ count }) => count("refresh"))), 1)
    await end()
  })

  it("has nothing for what is no user", async () => {
    const { cal, end } = await started()
    for (const odd of [undefined, null, "", 7, {}, user.toLowerCase()]) {
      const answer = await cal.ensureValidCalToken(odd as string)
      assert.strictEqual(answer.success, odd === user.toLowerCase(), JSON.stringify(odd))
    }
    await end()
  })
})
