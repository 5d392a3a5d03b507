/** The actions over everything that stands behind them, with Cal.com as the sandbox plays it. */
import { AsyncLocalStorage } from "node:async_hooks"
import { assert, describe, it } from "@effect/vitest"
import { type Context, Effect, Layer, Redacted } from "effect"
import * as Actions from "../../src/Actions.js"
import * as CalApi from "../../src/CalApi.js"
import * as CalClient from "../../src/CalClient.js"
import * as CalTokens from "../../src/CalTokens.js"
import * as Sandbox from "../../src/Sandbox.js"
import { UserUlid } from "../../src/Token.js"
import { layerMemory } from "../../src/TokenStorage/Memory.js"
import { recorder, user } from "../support/ActionsFakes.js"

const store = new AsyncLocalStorage<string>()

const start = async () => {
  const log = recorder()
  const revalidated: Array<string | undefined> = []
  let sandbox: Context.Tag.Service<Sandbox.Sandbox> | undefined
  let grant: Sandbox.ManagedGrant | undefined
  const connected = Layer.effectDiscard(
    Effect.gen(function* () {
      sandbox = yield* Sandbox.Sandbox
      grant = yield* sandbox.grantManaged({ email: "ada@example.com" })
      const tokens = yield* CalTokens.CalTokens
      yield* tokens.connect(UserUlid.make(user), { _tag: "ManagedUser", calUserId: grant.calUserId }, grant)
    })
  )
  const layer = connected.pipe(
    Layer.provideMerge(CalApi.layer),
    Layer.provideMerge(CalTokens.layer),
    Layer.provide(CalClient.layer({ apiUrl: "https://api.cal.com/v2", managed: Sandbox.demoManaged })),
    Layer.provide([layerMemory, Sandbox.layerHttpClient]),
    Layer.provideMerge(Sandbox.layer()),
    Layer.provideMerge(log.layer)
  )
  const actions = Actions.make({ layer, revalidate: () => void revalidated.push(store.getStore()) })
  assert.deepInclude(await actions.getCalTokenInfo(user), { success: true, isExpired: false })
  assert(sandbox !== undefined && grant !== undefined)
  return { actions, sandbox, grant, revalidated, lines: log.lines }
}

describe("actions over the sandbox", () => {
  it("100 requests with a token that Cal.com expired cause one refresh, seen by every caller's revalidate", async () => {
    const { actions, grant, revalidated, sandbox } = await start()
    await Effect.runPromise(sandbox.expireAccessTokens(grant.calUserId))
    const answers = await Promise.all(
      Array.from({ length: 100 }, (_, i) =>
        store.run(`request ${i}`, () => actions.makeCalApiRequest("/me", "GET", undefined, user))
      )
    )
    for (const answer of answers) assert.deepInclude(answer, { status: "success" })
    assert.strictEqual(await Effect.runPromise(sandbox.count("refresh")), 1)
    assert.sameMembers(
      revalidated,
      answers.map((_, i) => `request ${i}`)
    )
    await actions.dispose()
  })

  it("100 refused responses of one's own cause one refresh", async () => {
    const { actions, grant, sandbox } = await start()
    const token = await actions.ensureValidCalToken(user)
    assert(token.success)
    await Effect.runPromise(sandbox.expireAccessTokens(grant.calUserId))
    const send = async (accessToken: string) =>
      new Response(null, { status: (await Effect.runPromise(sandbox.isAccessLive(accessToken))) ? 200 : 498 })
    const responses = await Promise.all(
      Array.from({ length: 100 }, async () =>
        actions.handleCalApiResponse(await send(token.accessToken), send, user, token.accessToken)
      )
    )
    assert.isTrue(responses.every((response) => response.ok))
    assert.strictEqual(await Effect.runPromise(sandbox.count("refresh")), 1)
    await actions.dispose()
  })

  it("a new pair that was handed in is served", async () => {
    const { actions, grant, revalidated, sandbox } = await start()
    const next = await Effect.runPromise(sandbox.grantManaged({ calUserId: grant.calUserId }))
    const pair = {
      accessToken: Redacted.value(next.accessToken),
      refreshToken: Redacted.value(next.refreshToken),
      accessTokenExpiresAt: next.accessTokenExpiresAt
    }
    assert.deepInclude(await actions.updateCalTokens(user, { ...pair, refreshToken: "with a space" }), {
      code: "InvalidInput"
    })
    assert.deepStrictEqual(revalidated, [])
    assert.deepStrictEqual(await actions.updateCalTokens(user, pair), { success: true })
    assert.deepInclude(await actions.ensureValidCalToken(user), { accessToken: pair.accessToken })
    assert.strictEqual(revalidated.length, 1)
    await actions.dispose()
  })

  it("spend nothing at Cal.com's token endpoints, whatever the endpoint that they are given", async () => {
    const { actions, grant, sandbox } = await start()
    for (const who of [user, undefined]) {
      for (const endpoint of [
        `/oauth/${Sandbox.demoManaged.clientId}/refresh`,
        "https://api.cal.com/v2/auth/oauth2/token",
        "/v2/OAuth%2dclients/x/users"
      ]) {
        const body = { refreshToken: Redacted.value(grant.refreshToken) }
        const failure = await actions.makeCalApiRequest(endpoint, "POST", body, who)
        assert.deepInclude(failure, { success: false, code: "InvalidInput" })
      }
    }
    assert.strictEqual(await Effect.runPromise(sandbox.count("refresh")), 0)
    await actions.dispose()
  })
})
