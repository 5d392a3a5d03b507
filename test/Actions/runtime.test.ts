/** What surrounds the actions: building and releasing the layers, the caller's context, `authorize`, `revalidate`. */
import { AsyncLocalStorage } from "node:async_hooks"
import { assert, describe, it, vi } from "@effect/vitest"
import { Context, Effect, Layer, PubSub, Stream } from "effect"
import * as Actions from "../../src/Actions.js"
import type { ConnectionInfo, TokenChange } from "../../src/CalTokens.js"
import { UserUlid } from "../../src/Token.js"
import { StorageUnavailable } from "../../src/TokenError.js"
import { accessToken, fakes, newAccessToken, recorder, retryWith, user, valid } from "../support/ActionsFakes.js"

const store = new AsyncLocalStorage<string>()

const setup = (options: Omit<Actions.Options, "layer">, ...[tokens, answer]: Parameters<typeof fakes>) => {
  const log = recorder()
  const { layer, sent } = fakes(tokens, answer)
  return { sent, lines: log.lines, ...Actions.make({ ...options, layer: Layer.provideMerge(layer, log.layer) }) }
}

const ensured = { ensureValid: () => Effect.succeed(valid(accessToken)) }

describe("the layers", () => {
  class Database extends Context.Tag("Database")<Database, { readonly open: boolean }>() {}

  it("are built at the first call, once for all callers", async () => {
    let built = 0
    const layer = fakes(ensured).layer.pipe(Layer.provideMerge(Layer.effectDiscard(Effect.sync(() => void built++))))
    const actions = Actions.make({ layer })
    assert.strictEqual(built, 0)
    await Promise.all(Array.from({ length: 20 }, () => actions.ensureValidCalToken(user)))
    await actions.ensureValidCalToken(user)
    assert.strictEqual(built, 1)
  })

  it("are built again after a failure, and what the failed build had opened is closed", async ({ onTestFinished }) => {
    // There is no logger of the layers yet: what went wrong goes to the console.
    const log = vi.spyOn(globalThis.console, "log").mockImplementation(() => {})
    onTestFinished(() => log.mockRestore())
    let attempts = 0
    let open = 0
    const database = Layer.scoped(
      Database,
      Effect.acquireRelease(
        Effect.sync(() => ({ open: ++open > 0 })),
        () => Effect.sync(() => open--)
      )
    )
    const probe = Layer.effectDiscard(
      Effect.suspend(() => (attempts++ === 0 ? Effect.fail("DATABASE_URL is missing") : Effect.void))
    )
    const actions = Actions.make({
      layer: fakes(ensured).layer.pipe(Layer.provideMerge(probe), Layer.provideMerge(database))
    })
    const first = await Promise.all([actions.ensureValidCalToken(user), actions.ensureValidCalToken(user)])
    for (const failure of first) assert.deepInclude(failure, { success: false, code: "StartFailed" })
    assert.notInclude(JSON.stringify(first), "DATABASE_URL")
    assert.include(String(log.mock.calls[0]), "DATABASE_URL is missing")
    assert.deepInclude(await actions.ensureValidCalToken(user), { success: true })
    assert.deepStrictEqual({ attempts, open }, { attempts: 2, open: 1 })
    await actions.dispose()
    assert.strictEqual(open, 0)
  })

  it("that fail with an error of this package answer that error", async () => {
    const failing = Layer.fail(new StorageUnavailable({ operation: "connect", reason: "refused" }))
    const actions = Actions.make({ layer: Layer.provideMerge(fakes(ensured).layer, failing) })
    assert.deepInclude(await actions.ensureValidCalToken(user), { success: false, code: "StorageUnavailable" })
  })

  it("that die while they are built are a failure too", async () => {
    let attempts = 0
    const dying = Layer.effectDiscard(Effect.suspend(() => (attempts++ === 0 ? Effect.die("bug") : Effect.void)))
    const actions = Actions.make({ layer: Layer.provideMerge(fakes(ensured).layer, dying) })
    assert.deepInclude(await actions.ensureValidCalToken(user), { success: false, code: "StartFailed" })
    assert.deepInclude(await actions.ensureValidCalToken(user), { success: true })
  })

  it("know nothing of the request that happened to come first", async () => {
    const seen: Array<string | undefined> = []
    const look = Effect.promise(async () => {
      await Promise.resolve()
      seen.push(store.getStore())
    })
    const layer = Layer.provideMerge(
      fakes({ ensureValid: () => Effect.as(look, valid(accessToken)) }).layer,
      Layer.effectDiscard(look)
    )
    const actions = Actions.make({ layer })
    await store.run("request 1", () => actions.ensureValidCalToken(user))
    assert.deepStrictEqual(seen, [undefined, undefined])
  })
})

describe("dispose", () => {
  it("releases, once, and later calls answer that it is over", async () => {
    let released = 0
    const layer = fakes(ensured).layer.pipe(
      Layer.provideMerge(Layer.scopedDiscard(Effect.addFinalizer(() => Effect.sync(() => void released++))))
    )
    const actions = Actions.make({ layer })
    await actions.ensureValidCalToken(user)
    await Promise.all([actions.dispose(), actions.dispose()])
    await actions.dispose()
    assert.strictEqual(released, 1)
    assert.deepInclude(await actions.ensureValidCalToken(user), { success: false, code: "ShuttingDown" })
    assert.deepInclude(await actions.makeCalApiRequest("/me"), { success: false, code: "ShuttingDown" })
  })

  it("before the first call builds nothing, then or later", async () => {
    let built = 0
    const actions = Actions.make({
      layer: Layer.provideMerge(fakes(ensured).layer, Layer.effectDiscard(Effect.sync(() => void built++)))
    })
    await actions.dispose()
    assert.deepInclude(await actions.ensureValidCalToken(user), { code: "ShuttingDown" })
    assert.strictEqual(built, 0)
  })

  it("while the layers are being built ends the callers who wait for them", async () => {
    const actions = Actions.make({
      layer: Layer.provideMerge(fakes(ensured).layer, Layer.effectDiscard(Effect.never))
    })
    const waiting = actions.ensureValidCalToken(user)
    await Promise.resolve()
    await actions.dispose()
    assert.deepInclude(await waiting, { success: false, code: "ShuttingDown" })
  })

  it("does not reject when a finalizer is broken", async () => {
    const actions = Actions.make({
      layer: Layer.provideMerge(fakes(ensured).layer, Layer.scopedDiscard(Effect.addFinalizer(() => Effect.die("bug"))))
    })
    await actions.ensureValidCalToken(user)
    await actions.dispose()
  })
})

describe("authorize", () => {
  it("is asked in the caller's own context, with the user in upper case", async () => {
    const asked: Array<unknown> = []
    const actions = setup(
      {
        authorize: async (userUlid) => {
          await Promise.resolve()
          asked.push([store.getStore(), userUlid])
          return true
        }
      },
      ensured
    )
    await store.run("request 1", () => actions.ensureValidCalToken(user.toLowerCase()))
    await store.run("request 2", () => actions.ensureValidCalToken(user))
    assert.deepStrictEqual(asked, [
      ["request 1", user],
      ["request 2", user]
    ])
  })

  for (const [label, authorize, code] of [
    ["no", () => false, "Forbidden"],
    ["no, later", () => Promise.resolve(false), "Forbidden"],
    ["something else", () => ({ user: "x" }) as never, "Forbidden"],
    [
      "an error",
      () => {
        throw new Error("no session")
      },
      "Unauthorized"
    ],
    ["a rejection", () => Promise.reject(new Error("no session")), "Unauthorized"]
  ] as const) {
    it(`that answers ${label} lets nobody through any door`, async () => {
      // The fakes have no method at all: whatever gets past `authorize` is a bug and would answer `InternalError`.
      const actions = setup({ authorize }, {})
      const failures = [
        await actions.refreshUserCalTokens(user),
        await actions.ensureValidCalToken(user),
        await actions.updateCalTokens(user, { accessToken: "a", refreshToken: "b", accessTokenExpiresAt: 0 }),
        await actions.getCalTokenInfo(user),
        await actions.makeCalApiRequest("/me", "GET", undefined, user)
      ]
      for (const failure of failures) {
        assert.isTrue(actions.isFailure(failure))
        assert.deepInclude(failure, { code })
        assert.notInclude(JSON.stringify(failure), "no session")
      }
      const original = new Response("", { status: 498 })
      assert.strictEqual(
        await actions.handleCalApiResponse(original, () => assert.fail("not authorized"), user),
        original
      )
      assert.deepStrictEqual(actions.sent, [])
      assert.isTrue(actions.lines.every((line) => line.annotations["userUlid"] === user))
    })
  }

  it("is not asked about requests that are nobody's", async () => {
    const actions = setup({ authorize: () => false }, {})
    assert.deepStrictEqual(await actions.makeCalApiRequest("/slots"), {})
  })
})

describe("revalidate", () => {
  const recording = () => {
    const calls: Array<unknown> = []
    return {
      calls,
      revalidate: (paths: ReadonlyArray<string>, userUlid: string) => {
        calls.push([store.getStore(), paths, userUlid])
      }
    }
  }

  it("runs in the caller's own context, for each caller whose token was refreshed", async () => {
    const { calls, revalidate } = recording()
    const actions = setup(
      { revalidate, revalidatePaths: (user) => [`/calendar/${user}`] },
      { ensureValid: () => Effect.as(Effect.sleep("1 millis"), valid(accessToken, true)) }
    )
    await Promise.all([
      store.run("request 1", () => actions.ensureValidCalToken(user)),
      store.run("request 2", () => actions.ensureValidCalToken(user))
    ])
    assert.sameDeepMembers(calls, [
      ["request 1", [`/calendar/${user}`], user],
      ["request 2", [`/calendar/${user}`], user]
    ])
  })

  it("runs after an update", async () => {
    const { calls, revalidate } = recording()
    const actions = setup(
      { revalidate, revalidatePaths: ["/a", "/b"] },
      { update: () => Effect.succeed({} as ConnectionInfo) }
    )
    await actions.updateCalTokens(user, { accessToken: "a", refreshToken: "b", accessTokenExpiresAt: 0 })
    assert.deepStrictEqual(calls, [[undefined, ["/a", "/b"], user]])
  })

  it("does not run when nothing changed", async () => {
    const { calls, revalidate } = recording()
    const actions = setup({ revalidate }, ensured)
    await actions.ensureValidCalToken(user)
    await actions.makeCalApiRequest("/me", "GET", undefined, user)
    assert.deepStrictEqual(calls, [])
  })

  it("notices changes of this user deep inside a request", async () => {
    const changes = Effect.runSync(PubSub.unbounded<TokenChange>())
    const publish = (userUlid: string) =>
      PubSub.publish(changes, { userUlid: UserUlid.make(userUlid), kind: "refreshed", at: 0 })
    const subscribed = await Effect.runPromise(Effect.makeLatch(false))
    const { calls, revalidate } = recording()
    const stream = Stream.unwrapScoped(
      Effect.map(PubSub.subscribe(changes), (queue) => Stream.fromQueue(queue)).pipe(Effect.tap(subscribed.open))
    )
    const other = "01BX5ZZKBKACTAV9WEVGEMMVRZ"
    const actions = setup({ revalidate }, { ...ensured, changes: stream }, () => {
      Effect.runSync(publish(calls.length === 0 ? user : other))
      return new Response("{}")
    })
    await actions.makeCalApiRequest("/slots")
    await Effect.runPromise(subscribed.await)
    await store.run("request", () => actions.makeCalApiRequest("/me", "GET", undefined, user))
    await actions.makeCalApiRequest("/me", "GET", undefined, user)
    assert.deepStrictEqual(calls, [["request", ["/"], user]])
  })

  it("runs once after a refused response was repaired, even if retry rejects", async () => {
    const { calls, revalidate } = recording()
    const actions = setup(
      { revalidate },
      { ...ensured, reportRejected: () => Effect.succeed(retryWith(newAccessToken, { refreshed: true })) }
    )
    const refused = () => new Response("", { status: 498 })
    await actions.handleCalApiResponse(refused(), () => Promise.resolve(new Response()), user, accessToken)
    await actions
      .handleCalApiResponse(refused(), () => Promise.reject(new Error("reset")), user, accessToken)
      .catch(() => {})
    assert.strictEqual(calls.length, 2)
  })

  for (const [label, revalidate] of [
    [
      "throws",
      () => {
        throw new Error("no request store")
      }
    ],
    ["rejects", () => Promise.reject(new Error("no request store"))]
  ] as const) {
    it(`changes no answer when it ${label}`, async () => {
      const actions = setup({ revalidate }, { ensureValid: () => Effect.succeed(valid(accessToken, true)) })
      assert.deepInclude(await actions.ensureValidCalToken(user), { success: true, accessToken })
      assert.strictEqual(actions.lines.length, 1)
      assert.deepInclude(actions.lines[0], {
        level: "WARN",
        annotations: { operation: "ensureValidCalToken", userUlid: user }
      })
      assert.match(actions.lines[0]?.message ?? "", /^revalidate failed: Error at /)
      assert.notInclude(actions.lines[0]?.message, "no request store")
    })
  }

  it("says once, and so that one can act, that Next refuses it while a page is rendered", async () => {
    const refuse = () => {
      throw new Error(
        'Route "/calendar": `revalidatePath("/calendar")` can\'t be called during render. Call it from a Server Action instead.'
      )
    }
    const actions = setup({ revalidate: refuse }, { ensureValid: () => Effect.succeed(valid(accessToken, true)) })
    for (let n = 0; n < 3; n++)
      assert.deepInclude(await actions.ensureValidCalToken(user), { success: true, accessToken })
    assert.strictEqual(actions.lines.length, 1)
    assert.match(
      actions.lines[0]?.message ?? "",
      /^revalidate failed: Next takes no revalidatePath while it renders a page/
    )
    assert.include(actions.lines[0]?.message, "revalidating({ after, revalidatePath })")
  })

  it("holds nobody up for ever", async ({ onTestFinished }) => {
    vi.useFakeTimers()
    onTestFinished(() => void vi.useRealTimers())
    const actions = setup(
      { revalidate: () => new Promise(() => {}) },
      { ensureValid: () => Effect.succeed(valid(accessToken, true)) }
    )
    const answer = actions.ensureValidCalToken(user)
    await vi.advanceTimersByTimeAsync(5000)
    assert.deepInclude(await answer, { success: true })
  })
})
