/** `GET /api/cal/overview`, as a page or a script gets it. */
import { gunzipSync } from "node:zlib"
import { HttpApiClient, HttpClient, HttpClientRequest } from "@effect/platform"
import { assert, describe, it } from "@effect/vitest"
import { DateTime, Effect, Redacted, TestClock } from "effect"
import { Api } from "../../src/Api.js"
import * as Sandbox from "../../src/Sandbox.js"
import { call, keys, layer } from "../support/HttpWorld.js"
import { StorageTap } from "../support/StorageTap.js"
import * as World from "../support/World.js"

const path = "/api/cal/overview"

const ask = call({ path, key: keys.manage })

describe("GET /api/cal/overview", () => {
  it.effect("is what the API value says, and holds no token and no user", () =>
    Effect.gen(function* () {
      yield* World.connectManaged(World.user(1))
      yield* World.connectOAuth2(World.user(2))
      yield* TestClock.adjust("20 seconds")
      const force = (userUlid: string) =>
        call({
          ...{ method: "POST", path: "/api/cal/refresh-token", key: keys.all },
          body: { userUlid, forceRefresh: true }
        })
      yield* force(World.user(1))
      yield* World.turn({ oauth2SecretRejected: true })
      yield* force(World.user(2))
      const client = yield* HttpApiClient.make(Api, {
        transformClient: HttpClient.mapRequest(HttpClientRequest.bearerToken(keys.manage))
      })
      const { overview } = yield* client.overview.getOverview({})
      assert.strictEqual(DateTime.toEpochMillis(overview.at), World.epoch + 20_000)
      assert.strictEqual(DateTime.toEpochMillis(overview.process.startedAt), World.epoch)
      assert.deepStrictEqual(overview.users, { active: 2, reauthorizationRequired: 0, isEstimated: false })
      assert.deepInclude(overview.refreshes.minutes.at(-1), {
        refreshed: { asked: 1, refused: 0, ahead: 0, reissue: 0 },
        failed: { asked: 1, refused: 0, ahead: 0, reissue: 0, lapsed: 0 }
      })
      assert.deepStrictEqual(
        overview.budgets.map(({ kind, limit }) => [kind, limit]),
        [
          ["managed", 500],
          ["oauth2", 500]
        ]
      )
      assert.deepStrictEqual(
        overview.circuits.map(({ cause, nextTrialAt, openedAt }) => [
          cause,
          ...[openedAt, nextTrialAt].map((at) => at && DateTime.toEpochMillis(at) - World.epoch)
        ]),
        [["client", 20_000, 50_000]]
      )
      const { headers, json, status } = yield* ask
      assert.deepStrictEqual([status, headers["cache-control"]], [200, "no-store"])
      const text = JSON.stringify(json)
      for (const n of [1, 2]) {
        const { pair, userUlid } = yield* World.stored(World.user(n))
        for (const token of [pair.accessToken, pair.refreshToken]) assert.notInclude(text, Redacted.value(token))
        assert.notInclude(text, userUlid)
      }
      for (const { clientSecret } of [Sandbox.demoManaged, Sandbox.demoOAuth2]) {
        assert.notInclude(text, Redacted.value(clientSecret ?? Redacted.make("none")))
      }
    }).pipe(Effect.provide(layer()))
  )

  it.effect("costs the storage as much for five pages as for one", () =>
    Effect.gen(function* () {
      const tap = yield* StorageTap
      const answers = yield* World.many(5, ask)
      assert.strictEqual(new Set(answers.map(({ json }) => JSON.stringify(json))).size, 1)
      assert.deepStrictEqual([tap.count("outlook"), tap.count("counts")], [1, 1])
    }).pipe(Effect.provide(layer()))
  )

  it.effect("comes packed to whoever can unpack it", () =>
    Effect.gen(function* () {
      const { json } = yield* ask
      const request = HttpClientRequest.get(path).pipe(
        HttpClientRequest.bearerToken(keys.manage),
        HttpClientRequest.setHeader("accept-encoding", "br, gzip")
      )
      const { arrayBuffer, headers, status } = yield* (yield* HttpClient.HttpClient).execute(request)
      const body = Buffer.from(yield* arrayBuffer)
      assert.deepStrictEqual([status, headers["content-encoding"], headers["vary"]], [200, "gzip", "accept-encoding"])
      assert.deepStrictEqual(JSON.parse(gunzipSync(body).toString()), json)
      assert.isBelow(body.length, JSON.stringify(json).length / 5)
    }).pipe(Effect.provide(layer()))
  )

  it.effect("says so while the storage is away, and answers again when it is back", () =>
    Effect.gen(function* () {
      const tap = yield* StorageTap
      yield* ask
      yield* TestClock.adjust("1 second")
      yield* tap.down
      const { json, status } = yield* ask
      assert.strictEqual(status, 503)
      assert.deepInclude(json, { success: false, code: "StorageUnavailable" })
      yield* tap.up
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* ask).status, 200)
    }).pipe(Effect.provide(layer()))
  )
})
