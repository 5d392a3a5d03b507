/**
 * An Effect program that embeds cal-tokens. Here it runs against the sandbox and keeps tokens in memory; another
 * storage and another HTTP client are other layers, and the program stays as it is.
 */
import { assert, it } from "@effect/vitest"
import { Config, Effect, Layer, Schema, TestClock } from "effect"
import { CalApi, CalClient, CalTokens, Token } from "../../src/index.js"
import * as Sandbox from "../../src/Testing.js"
import * as NodeHttp from "../../src/CalHttp/Node.js"
import * as KeyRing from "../../src/KeyRing.js"
import * as Postgres from "../../src/TokenStorage/Postgres.js"

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

/** In production: PostgreSQL, keys, and connections that suit single-use tokens. Type-checked here, not run. */
export const CalInProduction = CalApi.layer.pipe(
  Layer.provideMerge(CalTokens.layer),
  Layer.provide(
    CalClient.layerConfig({
      apiUrl: Config.succeed("https://api.cal.com/v2"),
      managed: Config.all({
        clientId: Config.string("CAL_CLIENT_ID"),
        clientSecret: Config.redacted("CAL_CLIENT_SECRET")
      })
    }).pipe(Layer.provide(NodeHttp.layerTokenHttp))
  ),
  Layer.provide([Layer.provide(Postgres.layerConfig, KeyRing.layerConfig()), NodeHttp.layerApiHttp])
)

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
