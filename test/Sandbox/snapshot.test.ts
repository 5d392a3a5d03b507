import { HttpApp, HttpRouter, HttpServerRequest } from "@effect/platform"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Redacted, Schema } from "effect"
import { make, Sandbox, Snapshot } from "../../src/Sandbox.js"
import { layer, oauth2Refresh, options, refresh, send } from "../support/SandboxWorld.js"

describe("a snapshot", () => {
  it.effect("lets another sandbox continue: old tokens still work", () =>
    Effect.gen(function* () {
      const [saved, managed, oauth2, expired, code] = yield* Effect.gen(function* () {
        const sandbox = yield* Sandbox
        const managed = yield* sandbox.grantManaged({ email: "ada@example.com" })
        const oauth2 = yield* sandbox.grantOAuth2({ email: "grace@example.com" })
        const expired = yield* sandbox.grantOAuth2({ email: "gone@example.com" })
        yield* sandbox.expireAccessTokens(expired.calUserId)
        const code = yield* sandbox.authorizationCode({ calUserId: oauth2.calUserId })
        const json = JSON.stringify(yield* sandbox.snapshot)
        return [json, managed, oauth2, expired, code] as const
      }).pipe(Effect.provide(layer()))

      const initial = yield* Schema.decode(Schema.parseJson(Snapshot))(saved)
      yield* Effect.gen(function* () {
        const sandbox = yield* Sandbox
        assert.deepStrictEqual(yield* sandbox.snapshot, initial)
        const me = (token: Redacted.Redacted) => send("GET", "/v2/me", { token })
        assert.strictEqual((yield* me(managed.accessToken)).at("data.id"), managed.calUserId)
        assert.strictEqual((yield* me(oauth2.accessToken)).at("data.id"), oauth2.calUserId)
        assert.strictEqual((yield* me(expired.accessToken)).status, 401)
        assert.strictEqual((yield* refresh(managed.refreshToken)).status, 200)
        assert.strictEqual((yield* oauth2Refresh(oauth2.refreshToken)).status, 200)
        const exchanged = yield* send("POST", "/v2/auth/oauth2/token", {
          json: {
            client_id: "K",
            client_secret: "test-secret-123",
            grant_type: "authorization_code",
            code,
            redirect_uri: "https://example.com/callback"
          }
        })
        assert.strictEqual(exchanged.status, 200)
        const somebody = yield* sandbox.grantManaged()
        assert.isAbove(somebody.calUserId, expired.calUserId)
        const again = yield* sandbox.grantManaged({ email: "ada@example.com" })
        assert.strictEqual(again.calUserId, managed.calUserId)
      }).pipe(Effect.provide(layer({ initial })))
    })
  )
})

describe("the app", () => {
  it("is mountable under a prefix", async () => {
    const sandbox = await Effect.runPromise(make(options))
    const { accessToken } = await Effect.runPromise(sandbox.grantManaged())
    const mounted = HttpRouter.empty.pipe(HttpRouter.mountApp("/_sandbox", sandbox.app))
    const handler = HttpApp.toWebHandler(mounted)
    const ask = (path: string) =>
      handler(
        new Request(`http://127.0.0.1:4000${path}`, {
          headers: { authorization: `Bearer ${Redacted.value(accessToken)}` }
        })
      )
    assert.strictEqual((await ask("/_sandbox/v2/me")).status, 200)
    assert.strictEqual((await ask("/_sandbox/api/v2/me")).status, 200)
    assert.strictEqual((await ask("/_sandbox/_control/state")).status, 200)
    const page = "/_sandbox/auth/oauth2/authorize?client_id=K&redirect_uri=https://example.com/callback"
    assert.strictEqual((await ask(page)).status, 200)
    assert.deepInclude(await (await ask("/_sandbox/v2/no")).json(), { path: "/v2/no" })
  })

  it.effect("is reached in process whatever the base URL", () =>
    Effect.gen(function* () {
      const { accessToken } = yield* Effect.flatMap(Sandbox, (sandbox) => sandbox.grantManaged())
      for (const path of ["/v2/me", "/api/v2/me", "/_sandbox/v2/me", "/a/b/api/v2/me?x=/v2/other"]) {
        assert.strictEqual((yield* send("GET", path, { token: accessToken })).status, 200)
      }
    }).pipe(Effect.provide(layer()))
  )

  it.effect("serves any platform's request", () =>
    Effect.gen(function* () {
      const { app } = yield* Sandbox
      const web = HttpServerRequest.fromWeb(new Request("http://localhost/v2/provider/C"))
      const response = yield* Effect.provideService(app, HttpServerRequest.HttpServerRequest, web)
      assert.strictEqual(response.status, 200)
    }).pipe(Effect.provide(layer()))
  )
})
