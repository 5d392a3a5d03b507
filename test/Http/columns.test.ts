/**
 * Somebody who can write to the database, has no key, and writes whatever a column takes. That is one user's misfortune:
 * each door says something that means something, lists and others go on, and to connect anew is the cure.
 */
import { SqlClient } from "@effect/sql"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Layer, Redacted, TestClock } from "effect"
import * as CalTokens from "../../src/CalTokens.js"
import * as Sandbox from "../../src/Sandbox.js"
import { unverifiedClaims } from "../../src/Token.js"
import * as Postgres from "../../src/TokenStorage/Postgres.js"
import { type Call, call, keys, layerOn, origin } from "../support/HttpWorld.js"
import { layerKeys } from "../support/Keys.js"
import { layerDatabase } from "../support/Postgres.js"
import * as World from "../support/World.js"

/** The service on PostgreSQL, which it asks each time; time is the test clock's, in the database too. */
const layer = layerOn(
  World.node({ memoryMaxAge: Duration.zero }).pipe(
    Layer.provideMerge(Postgres.layer({ clock: "effect" })),
    Layer.provideMerge(layerDatabase()),
    Layer.provide(layerKeys()),
    Layer.provideMerge(Sandbox.layer())
  )
)

const [victim, other] = [World.user(1), World.user(2)]
const key = keys.all

/** No calendar shows these, and JavaScript does not count that far. */
const numbers = ["9223372036854775807", "-9223372036854775808", "9007199254740993"]
const instants = ["updated_at", "access_token_expires_at", "refresh_token_expires_at", "next_attempt_at"]
const counts = ["version", "cal_user_id", "window_started_at", "rejected_refresh_at"]

const tamperings: ReadonlyArray<string> = [
  ...["null", "7", '"x"', "{}", "[7]", "[null]", "[[]]", '[{"hash":7,"pair":7}]', '[{"hash":{},"pair":{}}]'].map(
    (json) => `fallbacks = '${json}'`
  ),
  ...[...instants, ...counts].flatMap((column) => numbers.map((number) => `${column} = ${number}`)),
  ...numbers.map((number) => `status = 'reauthorization_required', cause = 'revoked', since = ${number}`),
  ...numbers.map((number) => `journal = 'x', probe_not_before = ${number}`),
  ...["null", "7", '{"_tag":"CalUnavailable"}', '{"_tag":"__proto__"}'].map(
    (json) => `last_error = '${json}', next_attempt_at = 9e15`
  ),
  ...["", "x", "v1.k1.", "v1.__proto__.AAAA"].map((envelope) => `pair = '${envelope}'`),
  "lookups = 'x'",
  "lookups = '[7]', lookups_code = ''",
  "client_id = 'x'"
]

/** What a user may be told whose row was tampered with. */
const told = ["TokenUnreadable", "ReauthorizationRequired", "RefreshCoolingDown", "CalUnavailable", "Unauthorized"]

const post = (path: string, body: object): Call => ({ method: "POST", path: `/api/cal/${path}`, key, body })
const readToken: Call = { path: `/api/cal/access-token/${victim}`, key }

describe("whatever is written into a column", () => {
  it.effect(
    "no door fails without a reason, lists and others go on, and a new connection is the cure",
    () =>
      Effect.gen(function* () {
        yield* TestClock.setTime(World.epoch)
        const sandbox = yield* Sandbox.Sandbox
        const sql = yield* SqlClient.SqlClient
        const tokens = yield* CalTokens.CalTokens
        yield* World.obtainManaged(other)
        for (const tampering of tamperings) {
          const { calUserId } = yield* World.obtainManaged(victim)
          yield* TestClock.adjust("12 seconds")
          const own = (yield* tokens.ensureValid(victim, { handsOut: false })).accessToken
          const session = (yield* call(post("sessions", { userUlid: victim }))).json["session"] as string
          yield* sql`delete from cal_tokens.cal_account where user_ulid = ${victim}`
          yield* sql.unsafe(`update cal_tokens.connection set ${tampering} where user_ulid = $1`, [victim])

          const doors: ReadonlyArray<Call> = [
            { path: `/api/cal/connections/${victim}`, key },
            readToken,
            { path: "/api/cal/atoms/refresh", headers: { origin, authorization: `Bearer ${Redacted.value(own)}` } },
            { path: "/api/cal/me/me", key: session },
            post("refresh-token", { userUlid: victim, forceRefresh: true }),
            post("refresh-managed-user-token", { userUlid: victim, reissue: true }),
            { method: "DELETE", path: `/api/cal/sessions/${victim}`, key }
          ]
          for (const door of doors) {
            const { json, status } = yield* call(door)
            if (status !== 200) assert.include(told, json["code"], `${tampering}: ${door.path}`)
            else if (json["accessToken"] !== undefined) {
              const { calUserId: of } = unverifiedClaims(Redacted.make(json["accessToken"] as string))
              assert.strictEqual(of, calUserId, `${tampering}: ${door.path}`)
            }
          }
          for (const path of ["connections", "connections?status=active", `access-token/${other}`]) {
            const { json, status } = yield* call({ path: `/api/cal/${path}`, key })
            assert.strictEqual(status, 200, `${tampering}: ${path} ${JSON.stringify(json)}`)
          }

          const again = yield* sandbox.grantManaged({ calUserId })
          const put = yield* call({
            method: "PUT",
            path: `/api/cal/connections/${victim}`,
            key,
            body: {
              kind: "managed",
              calUserId,
              accessToken: Redacted.value(again.accessToken),
              refreshToken: Redacted.value(again.refreshToken),
              accessTokenExpiresAt: again.accessTokenExpiresAt
            }
          })
          assert.strictEqual(put.status, 200, tampering)
          // A process may serve what it knows for as long as `memoryMaxAge`.
          yield* TestClock.adjust("1 millis")
          assert.strictEqual((yield* call(readToken)).json["accessToken"], Redacted.value(again.accessToken), tampering)
          assert.strictEqual(
            (yield* call({ method: "DELETE", path: `/api/cal/connections/${victim}`, key })).status,
            200
          )
        }
      }).pipe(Effect.provide(layer)),
    120_000
  )
})
