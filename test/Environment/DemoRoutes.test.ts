/** What the demo's page may have done, beside what the simulator is told. */
import { HttpServerRequest, HttpServerResponse } from "@effect/platform"
import { assert } from "@effect/vitest"
import { Effect } from "effect"
import { CalTokens } from "../../src/CalTokens.js"
import * as Demo from "../../src/Environment/Demo.js"
import * as DemoRoutes from "../../src/Environment/DemoRoutes.js"
import { Sandbox } from "../../src/Sandbox.js"
import * as World from "../support/World.js"

const ask = (method: "GET" | "POST", path: string, body?: object) =>
  Effect.gen(function* () {
    const request = new Request(`http://demo.invalid${path}`, {
      method,
      body: body === undefined ? null : JSON.stringify(body)
    })
    const answer = DemoRoutes.app.pipe(
      Effect.provideService(HttpServerRequest.HttpServerRequest, HttpServerRequest.fromWeb(request))
    )
    const response = HttpServerResponse.toWeb(yield* World.passTime(answer, 60_000))
    const text = yield* Effect.promise(() => response.text())
    // Tokens of the simulator are JWTs, or have the client's prefix.
    assert.notMatch(text, /eyJ|[0-9a-f]{32}/)
    return { status: response.status, body: JSON.parse(text) as Record<string, unknown> }
  })

const cem = `/users/${Demo.cem.userUlid}`

World.scenario(
  "the demo's users make requests, one refresh for all of them, and consent anew",
  Effect.gen(function* () {
    const tokens = yield* CalTokens
    const sandbox = yield* Sandbox
    yield* Effect.forEach(Demo.users, (user) => Demo.connect({ ...user, lasts: undefined }))
    const { body } = yield* ask("GET", "/")
    const { connection } = yield* tokens.info(Demo.cem.userUlid)
    const calUserId = connection.calUserId ?? 0
    assert.deepStrictEqual(
      (body.users as ReadonlyArray<{ readonly name: string }>).map(({ name }) => name),
      ["Ada", "Ben", "Cem"]
    )
    assert.deepInclude((body.users as ReadonlyArray<object>)[2], { ...Demo.cem, calUserId })

    const fresh = yield* ask("POST", `${cem}/requests`, { times: 3 })
    assert.deepStrictEqual(fresh.body, { status: "success", answered: 3, refreshes: 0, took: fresh.body.took })

    // Cal.com's replicas may not know a token of a few seconds.
    yield* World.passTime(Effect.sleep("15 seconds"), 20_000)
    yield* sandbox.expireAccessTokens(calUserId)
    const repaired = yield* ask("POST", `${cem}/requests`, { times: 20 })
    assert.deepInclude(repaired.body, { answered: 20, refreshes: 1 })

    yield* World.passTime(Effect.sleep("40 seconds"), 60_000)
    yield* sandbox.revokeRefreshTokens(calUserId)
    yield* sandbox.expireAccessTokens(calUserId)
    const lost = yield* ask("POST", `${cem}/requests`, { times: 2 })
    assert.deepInclude(lost.body, { status: "success", answered: 0 })
    assert.deepInclude(lost.body.failure, { code: "ReauthorizationRequired" })

    assert.deepStrictEqual(yield* ask("POST", `${cem}/consent`), { status: 200, body: { status: "success" } })
    assert.strictEqual((yield* tokens.info(Demo.cem.userUlid)).status._tag, "Active")
    assert.deepInclude((yield* ask("POST", `${cem}/requests`, { times: 1 })).body, { answered: 1, refreshes: 0 })
  })
)

World.scenario(
  "the demo's routes know nobody but its users, and say what they take",
  Effect.gen(function* () {
    const refused = (path: string, body?: object) =>
      Effect.map(ask("POST", path, body), ({ body, status }) => [status, body.message])
    const nobody = [404, "The demo has no such user: GET /_demo lists them"]
    assert.deepStrictEqual(yield* refused(`/users/${World.user()}/requests`, { times: 1 }), nobody)
    assert.deepStrictEqual(yield* refused(`/users/${World.user()}/consent`), nobody)
    const times = [400, 'The body must be {"times": 20}, a whole number from 1 to 100']
    for (const body of [undefined, {}, { times: 0 }, { times: 101 }, { times: 1.5 }, { times: "1" }]) {
      assert.deepStrictEqual(yield* refused(`${cem}/requests`, body), times)
    }
    assert.strictEqual((yield* refused("/nothing"))[0], 404)
  })
)
