/** What a person allowed, and what they have to be asked for when Cal.com misses something, as a backend learns of it. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import { Sandbox } from "../../src/Sandbox.js"
import * as HttpWorld from "../support/HttpWorld.js"
import * as World from "../support/World.js"

const key = HttpWorld.keys.all
const [reader, managed] = [World.user(1), World.user(2)]

/** Somebody who allowed to read bookings, and a managed user, whose client needs nobody's leave. */
const connected = Effect.gen(function* () {
  const sandbox = yield* Sandbox
  const { accessToken, expiresIn, refreshToken, scope } = yield* sandbox.grantOAuth2({
    email: "reader@example.com",
    scope: "BOOKING_READ"
  })
  const body = {
    kind: "oauth2",
    accessToken: Redacted.value(accessToken),
    refreshToken: Redacted.value(refreshToken),
    scope,
    accessTokenExpiresAt: (yield* sandbox.now) + expiresIn * 1000
  }
  const path = `/api/cal/connections/${reader}`
  assert.strictEqual((yield* HttpWorld.call({ method: "PUT", path, key, body })).status, 200)
  yield* World.connectManaged(managed)
})

describe("scopes", () => {
  it.effect("stand beside an OAuth2 connection, alone and in a list", () =>
    Effect.gen(function* () {
      yield* connected
      const get = (path: string) => HttpWorld.call({ path: `/api/cal/connections${path}`, key })
      assert.deepInclude((yield* get(`/${reader}`)).json["connection"], { kind: "oauth2", scope: "BOOKING_READ" })
      assert.notProperty((yield* get(`/${managed}`)).json["connection"], "scope")
      const { connections } = (yield* get("")).json as { readonly connections: ReadonlyArray<object> }
      assert.deepStrictEqual(
        connections.map((one) => ("scope" in one ? one.scope : undefined)),
        ["BOOKING_READ", undefined]
      )
    }).pipe(Effect.provide(HttpWorld.layer()))
  )

  it.effect("that are missing are named by the proxy, beside Cal.com's own words, and by no other answer", () =>
    Effect.gen(function* () {
      yield* connected
      const proxy = (user: string, path: string, method: "GET" | "POST" = "GET") =>
        HttpWorld.call({
          method,
          path: `/api/cal/proxy/${user}${path}`,
          key,
          ...(method === "POST" ? { body: {} } : {})
        })
      const me = yield* proxy(reader, "/me")
      assert.strictEqual(me.status, 403)
      assert.include(JSON.stringify(me.json), "Required: PROFILE_READ. Token has: BOOKING_READ")
      assert.strictEqual(
        me.headers["www-authenticate"],
        'Bearer realm="Cal.com", error="insufficient_scope", error_description="ask for consent again with PROFILE_READ", scope="PROFILE_READ"'
      )
      for (const [user, path, status] of [
        [reader, "/bookings", 200],
        [reader, "/nowhere", 404],
        [managed, "/me", 200]
      ] as const) {
        const answer = yield* proxy(user, path)
        assert.deepStrictEqual([answer.status, answer.headers["www-authenticate"]], [status, undefined])
      }
      const { count } = yield* Sandbox
      assert.strictEqual(yield* count("oauth2Refresh"), 0)
    }).pipe(Effect.provide(HttpWorld.layer()))
  )
})
