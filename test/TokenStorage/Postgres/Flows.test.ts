import { SqlClient } from "@effect/sql"
import { assert, describe, it } from "@effect/vitest"
import { Array, Context, Duration, Effect, Layer, Option, Redacted, TestClock } from "effect"
import { type Flow, FlowStorage, layerMemory, lifetime } from "../../../src/FlowStorage.js"
import * as Flows from "../../../src/TokenStorage/Postgres/Flows.js"
import { KeyRing } from "../../../src/KeyRing.js"
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

const rows = (sql: SqlClient.SqlClient) =>
  sql<{ state_hash: string; envelope: string }>`select * from cal_tokens.connect_flow order by 1`

const { userUlid } = Fixture.newUser()
const flow = { userUlid, clientId: "client", replace: false }

const keep = (storage: FlowStorage["Type"], stateHash: string, completionHash: string, code = "code") =>
  Effect.flatMap(storage.find(stateHash), (found) =>
    storage.keep({ stateHash, flow: Option.getOrThrow(found), code: Redacted.make(code), completionHash })
  )

/** The flow as both ways back give it. */
const outcome = (flow: Option.Option<Flow>) =>
  Option.getOrUndefined(Option.map(flow, ({ returnTo, userUlid }) => ({ returnTo, userUlid })))

describe("the table", () => {
  it.scoped("shows hashes and an end, and of a flow nothing", () =>
    Effect.gen(function* () {
      const { sql, storage } = yield* database
      const codeVerifier = Redacted.make("SECRET-VERIFIER")
      yield* storage.begin("state", { ...flow, codeVerifier, returnTo: "https://SECRET.example/" })
      const before = yield* rows(sql)
      yield* keep(storage, "state", "completion", "SECRET-CODE")
      for (const [row] of [before, yield* rows(sql)]) {
        assert.deepStrictEqual(Object.keys(row ?? {}), ["state_hash", "envelope", "completion_hash", "expires_at"])
        assert.match(String(row?.envelope), /^v1\.k1\.[\w-]+$/)
        for (const secret of ["SECRET", userUlid]) assert.notInclude(JSON.stringify(row), secret)
      }
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

describe("who can write to the database and has no key", () => {
  const [victim, attacker] = [Fixture.newUser().userUlid, Fixture.newUser().userUlid]
  const home = "https://app.example/settings"

  /** The victim's flow and the attacker's own: begun, or with codes and completions that wait. */
  const twoFlows = (returned: boolean) =>
    Effect.gen(function* () {
      const { sql, storage } = yield* database
      for (const [name, userUlid] of [
        ["victim", victim],
        ["attacker", attacker]
      ] as const) {
        yield* storage.begin(name, { ...flow, userUlid, returnTo: `${home}/${name}` })
        if (returned) yield* keep(storage, name, `${name}'s completion`, `${name}'s code`)
      }
      return { sql, storage }
    })

  it.scoped("swaps no envelopes between two states, on their way or back", () =>
    Effect.gen(function* () {
      for (const returned of [false, true]) {
        const { sql, storage } = yield* twoFlows(returned)
        yield* sql`
          update cal_tokens.connect_flow f set envelope = o.envelope
          from cal_tokens.connect_flow o where o.state_hash <> f.state_hash`
        for (const name of ["victim", "attacker"]) {
          assert.isTrue(Option.isNone(yield* storage.find(name)))
          assert.isTrue(Option.isNone(yield* storage.complete(`${name}'s completion`)))
          assert.isTrue(Option.isNone(yield* storage.take(name)))
        }
      }
    })
  )

  it.scoped("swaps no states and no completions", () =>
    Effect.gen(function* () {
      const { sql, storage } = yield* twoFlows(true)
      yield* sql`delete from cal_tokens.connect_flow where state_hash = 'attacker'`
      yield* sql`update cal_tokens.connect_flow set state_hash = 'attacker'`
      assert.isTrue(Option.isNone(yield* storage.find("attacker")))
      yield* sql`update cal_tokens.connect_flow set state_hash = 'victim', completion_hash = 'attacker''s completion'`
      assert.isTrue(Option.isNone(yield* storage.complete("attacker's completion")))
      assert.isTrue(Option.isNone(yield* storage.complete("victim's completion")))
    })
  )

  it.scoped("makes no flow of a pair's envelope, and none of words", () =>
    Effect.gen(function* () {
      const { sql, storage } = yield* twoFlows(false)
      const keys = Context.get(yield* Layer.build(layerKeys()), KeyRing)
      const text = JSON.stringify({
        userUlid: victim,
        clientId: "client",
        returnTo: "https://evil.example/",
        replace: true
      })
      const pair = yield* keys.seal({ userUlid: victim, purpose: "token-pair" }, Redacted.make(text))
      for (const envelope of [pair, text, "", "v1.k1.", pair.replace("k1", "k2")]) {
        yield* sql`update cal_tokens.connect_flow set envelope = ${envelope}`
        assert.isTrue(Option.isNone(yield* storage.find("victim")))
      }
    })
  )

  it.scoped("makes no returned flow of one on its way, and gets no more than its own user's older state", () =>
    Effect.gen(function* () {
      const { sql, storage } = yield* twoFlows(false)
      const [, before] = yield* rows(sql)
      yield* sql`update cal_tokens.connect_flow set completion_hash = 'made up' where state_hash = 'victim'`
      assert.isTrue(Option.isNone(yield* storage.complete("made up")))
      yield* sql`delete from cal_tokens.connect_flow where state_hash = 'victim'`
      yield* storage.begin("victim", { ...flow, userUlid: victim, returnTo: home })
      yield* keep(storage, "victim", "completion")
      yield* sql`update cal_tokens.connect_flow set completion_hash = null where state_hash = 'victim'`
      // Taking it is what removes it, and nothing was given.
      assert.isTrue(Option.isNone(yield* storage.take("victim")))
      yield* sql`
        insert into cal_tokens.connect_flow (state_hash, envelope, expires_at)
        values ('victim', ${before?.envelope ?? ""}, 9e15)`
      assert.deepStrictEqual(outcome(yield* storage.find("victim")), { returnTo: `${home}/victim`, userUlid: victim })
    })
  )
})
