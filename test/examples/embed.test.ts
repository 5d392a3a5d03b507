/**
 * An Effect program that embeds cal-tokens. Here it runs against the sandbox and keeps tokens in memory; another
 * storage and another HTTP client are other layers, and the program stays as it is.
 */
import { randomBytes } from "node:crypto"
import * as Http from "node:http"
import { NodeHttpServer } from "@effect/platform-node"
import { assert, it } from "@effect/vitest"
import { ConfigProvider, Effect, Redacted, Schema, TestClock } from "effect"
import { CalApi, Token } from "cal-tokens"
import * as Node from "cal-tokens/node"
import * as Sandbox from "cal-tokens/sandbox"
import { portOf } from "../fleet/Port.js"
import { makeDatabase } from "../support/Postgres.js"

// ---- the program -----------------------------------------------------------------------------------------------------

const Bookings = Schema.Struct({ data: Schema.Array(Schema.Struct({ uid: Schema.String, title: Schema.String })) })

/** What is on somebody's calendar. Fails with a typed error, for example when they have to reconnect. */
const bookings = (user: Token.UserUlid) =>
  Effect.gen(function* () {
    const api = yield* CalApi.CalApi
    const { data } = yield* api.request(user, { path: "/bookings?take=10", schema: Bookings })
    return data
  })

const titles = (user: Token.UserUlid) =>
  bookings(user).pipe(
    Effect.map((bookings) => bookings.map((booking) => booking.title)),
    Effect.catchTag("ReauthorizationRequired", (error) => Effect.succeed([`Please reconnect: ${error.cause}`])),
    Effect.catchTag("TokensNotFound", () => Effect.succeed(["Please connect your calendar"]))
  )

// ---- the layers ------------------------------------------------------------------------------------------------------

/** In production: PostgreSQL, the keys and the clients, by the variables of the service. */
const CalInProduction = Node.layerConfig

// ---- it works --------------------------------------------------------------------------------------------------------

const user = Token.UserUlid.make("01ARZ3NDEKTSV4RRFFQ69G5FAV")

it.effect("a program that embeds cal-tokens", () =>
  Effect.gen(function* () {
    assert.deepStrictEqual(yield* titles(user), ["Please connect your calendar"])

    const { calUserId } = yield* Sandbox.connectManaged(user)
    assert.deepStrictEqual(yield* titles(user), [])

    const sandbox = yield* Sandbox.Sandbox
    yield* sandbox.deleteUser(calUserId)
    yield* TestClock.adjust("2 hours")
    assert.deepStrictEqual(yield* titles(user), ["Please reconnect: calUserGone"])
  }).pipe(Effect.provide(Sandbox.layerTest()))
)

it.scopedLive("the same program in production", () =>
  Effect.gen(function* () {
    const sandbox = yield* Sandbox.make()
    const server = Http.createServer(yield* NodeHttpServer.makeHandler(sandbox.app))
    yield* Effect.addFinalizer(() => Effect.sync(() => void server.close().closeAllConnections()))
    const variables = {
      DATABASE_URL: Redacted.value(yield* makeDatabase),
      CAL_TOKENS_ENCRYPTION_KEYS: `k1:${randomBytes(32).toString("base64")}`,
      CAL_API_URL: `http://127.0.0.1:${yield* portOf(server)}/v2`,
      CAL_CLIENT_ID: Sandbox.demoManaged.clientId,
      CAL_CLIENT_SECRET: Redacted.value(Sandbox.demoManaged.clientSecret)
    }
    yield* Effect.gen(function* () {
      assert.deepStrictEqual(yield* titles(user), ["Please connect your calendar"])
      yield* Effect.provideService(Sandbox.connectManaged(user), Sandbox.Sandbox, sandbox)
      assert.deepStrictEqual(yield* titles(user), [])
    }).pipe(
      Effect.provide(CalInProduction),
      Effect.withConfigProvider(ConfigProvider.fromMap(new Map(Object.entries(variables))))
    )
    assert.strictEqual(yield* sandbox.count("api"), 1)
  })
)
