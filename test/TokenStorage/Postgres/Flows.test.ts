import { SqlClient } from "@effect/sql"
import { assert, describe, it } from "@effect/vitest"
import { Array, Context, Duration, Effect, Layer, Option, Redacted, TestClock } from "effect"
import { FlowStorage, layerMemory, lifetime } from "../../../src/FlowStorage.js"
import * as Flows from "../../../src/TokenStorage/Postgres/Flows.js"
import * as Embedded from "../../../src/Embedded.js"
import { StorageUnavailable } from "../../../src/TokenError.js"
import { suite } from "../../support/FlowSuite.js"
import { keyOf, layerKeys } from "../../support/Keys.js"
import { layerDatabase } from "../../support/Postgres.js"
import * as Fixture from "../../support/StorageFixture.js"

const onPostgres = Flows.layer({ clock: "effect" }).pipe(Layer.provide(layerKeys()))

suite("in memory", layerMemory)
suite("on PGlite", onPostgres.pipe(Layer.provide(Embedded.layer({ inMemory: true }))))
suite("on PostgreSQL", onPostgres.pipe(Layer.provide(layerDatabase())))

const database = Effect.gen(function* () {
  const context = yield* Layer.build(onPostgres.pipe(Layer.provideMerge(layerDatabase())))
  return { storage: Context.get(context, FlowStorage), sql: Context.get(context, SqlClient.SqlClient) }
})

const rows = (sql: SqlClient.SqlClient) => sql<{ state_hash: string }>`select * from cal_tokens.connect_flow order by 1`

const { userUlid } = Fixture.newUser()
const flow = { userUlid, replace: false }

describe("the table", () => {
  it.scoped("shows neither code nor verifier", () =>
    Effect.gen(function* () {
      const { sql, storage } = yield* database
      const [code, codeVerifier] = [Redacted.make("SECRET-CODE"), Redacted.make("SECRET-VERIFIER")]
      yield* storage.begin("state", { ...flow, codeVerifier })
      yield* storage.keep({ stateHash: "state", userUlid, code, completionHash: "completion" })
      const text = JSON.stringify(yield* rows(sql))
      assert.include(text, userUlid)
      assert.match(text, /"code":"v1\.k1\.[^"]+"/)
      assert.notInclude(text, "SECRET")
    })
  )

  it.scoped("loses its expired rows as new ones are begun", () =>
    Effect.gen(function* () {
      const { sql, storage } = yield* database
      const begin = (name: string, n: number) =>
        Effect.forEach(Array.range(1, n), (i) => storage.begin(`${name} ${String(i).padStart(3, "0")}`, flow))
      yield* begin("old", 150)
      yield* TestClock.adjust(Duration.subtract(lifetime, Duration.millis(1)))
      yield* begin("young", 1)
      assert.strictEqual((yield* rows(sql)).length, 151)
      yield* TestClock.adjust(1)
      yield* begin("new", 2)
      assert.deepStrictEqual(
        (yield* rows(sql)).map((row) => row.state_hash),
        ["new 001", "new 002", "young 001"]
      )
      const [plan] = yield* sql<{ indexdef: string }>`
        select indexdef from pg_indexes where indexname = 'connect_flow_expiry'`
      assert.match(plan?.indexdef ?? "", /\(expires_at\)$/)
    })
  )

  it.scoped("does not give one user's code to another, and uses up a row that does not open", () =>
    Effect.gen(function* () {
      const { sql, storage } = yield* database
      const other = Fixture.newUser().userUlid
      yield* storage.begin("state", flow)
      yield* storage.keep({ stateHash: "state", userUlid, code: Redacted.make("code"), completionHash: "completion" })
      yield* sql`update cal_tokens.connect_flow set user_ulid = ${other}`
      const error = yield* Effect.flip(storage.complete("completion"))
      assert.strictEqual(error._tag, "TokenUnreadable")
      assert.isTrue(Option.isNone(yield* storage.complete("completion")))
    })
  )

  it.scoped("is judged by the database's clock unless told otherwise", () =>
    Effect.gen(function* () {
      const storage = Context.get(
        yield* Layer.build(Flows.layer().pipe(Layer.provide(layerDatabase()), Layer.provide(layerKeys()))),
        FlowStorage
      )
      const expiresAt = yield* storage.begin("state", flow)
      assert.closeTo(expiresAt, new Date().getTime() + Duration.toMillis(lifetime), 60_000)
      yield* TestClock.adjust("1 day")
      assert.isTrue(Option.isSome(yield* storage.take("state")))
    })
  )

  it.scoped("opens with an older key, and a database that is away is a typed failure", () =>
    Effect.gen(function* () {
      const { sql, storage } = yield* database
      yield* storage.begin("state", { ...flow, codeVerifier: Redacted.make("verifier") })
      const rotated = yield* Flows.make({ clock: "effect" }).pipe(
        Effect.provide(layerKeys(`${keyOf("k2", 2)},${keyOf("k1", 1)}`)),
        Effect.provideService(SqlClient.SqlClient, sql)
      )
      const taken = Option.getOrThrow(yield* rotated.take("state"))
      assert.strictEqual(taken.codeVerifier && Redacted.value(taken.codeVerifier), "verifier")
      yield* sql`drop table cal_tokens.connect_flow`
      assert.instanceOf(yield* Effect.flip(storage.take("state")), StorageUnavailable)
    })
  )
})
