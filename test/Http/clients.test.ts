/** Several clients, over HTTP: whoever connects a user may say which one, and is told. */
import { assert, it } from "@effect/vitest"
import { Effect, Redacted, TestClock } from "effect"
import { demoOAuth2, Sandbox } from "../../src/Sandbox.js"
import { call, keys, layerOn, origin } from "../support/HttpWorld.js"
import * as Several from "../support/SeveralClients.js"
import * as World from "../support/World.js"

const { managed, oauth2 } = Several
const { user } = World
const key = keys.all

const post = (path: string, body: object) => call({ method: "POST", path: `/api/cal/${path}`, key, body })

const connectionOf = (n: number) =>
  Effect.map(call({ path: `/api/cal/connections/${user(n)}`, key }), ({ json }) => json["connection"])

it.effect("a user is connected through the client that is named", () =>
  Effect.gen(function* () {
    const sandbox = yield* Sandbox
    const created = yield* post("managed-users", {
      userUlid: user(1),
      email: "ada@example.com",
      name: "Ada",
      clientId: managed.clientId
    })
    assert.strictEqual(created.status, 200)
    assert.deepInclude(yield* connectionOf(1), { kind: "managed", clientId: managed.clientId })
    assert.strictEqual((yield* post("refresh-managed-user-token", { userUlid: user(1) })).status, 200)

    const { accessToken, calUserId, expiresIn, refreshToken } = yield* sandbox.grantOAuth2({
      clientId: oauth2.clientId
    })
    const tokens = {
      kind: "oauth2",
      accessToken: Redacted.value(accessToken),
      refreshToken: Redacted.value(refreshToken),
      accessTokenExpiresAt: (yield* sandbox.now) + expiresIn * 1000
    }
    const put = (body: object) => call({ method: "PUT", path: `/api/cal/connections/${user(2)}`, key, body })
    const refused = yield* put({ ...tokens, clientId: "nobody" })
    assert.strictEqual(refused.status, 400)
    assert.strictEqual(refused.json["error"], `clientId must be one of ${Several.clientIds.oauth2.join(", ")}.`)
    assert.strictEqual((yield* put({ ...tokens, clientId: oauth2.clientId })).status, 200)
    assert.deepInclude(yield* connectionOf(2), { clientId: oauth2.clientId, calUserId })
    const { json } = yield* call({ path: "/api/cal/connections", key })
    assert.deepStrictEqual(
      (json["connections"] as ReadonlyArray<{ readonly clientId: string }>).map(({ clientId }) => clientId),
      [managed.clientId, oauth2.clientId]
    )
  }).pipe(Effect.provide(layerOn(World.layer(Several.options))))
)

it.effect("a person is asked to trust the client that is named, or the usual one", () =>
  Effect.gen(function* () {
    const clientOf = (body: object) =>
      Effect.map(post("oauth/authorize-url", { userUlid: user(), ...body }), ({ json }) =>
        new URL(String(json["url"])).searchParams.get("client_id")
      )
    assert.strictEqual(yield* clientOf({ clientId: oauth2.clientId }), oauth2.clientId)
    assert.strictEqual(yield* clientOf({ clientId: null }), demoOAuth2.clientId)
    assert.strictEqual(yield* clientOf({}), demoOAuth2.clientId)
  }).pipe(Effect.provide(layerOn(World.layer(Several.options))))
)

it.effect("pages with Atoms renew tokens of every client", () =>
  Effect.gen(function* () {
    const renew = (token: string) =>
      call({ path: "/api/cal/atoms/refresh", headers: { origin, authorization: `Bearer ${token}` } })
    const person = { userUlid: user(), email: "ada@example.com", name: "Ada", clientId: managed.clientId }
    assert.strictEqual((yield* post("managed-users", person)).status, 200)
    const { json } = yield* call({ path: `/api/cal/access-token/${user()}`, key })
    yield* TestClock.adjust("61 minutes")
    const renewed = yield* renew(String(json["accessToken"]))
    assert.strictEqual(renewed.status, 200)
    assert.notStrictEqual(renewed.json["accessToken"], json["accessToken"])
  }).pipe(Effect.provide(layerOn(World.layer(Several.options))))
)
