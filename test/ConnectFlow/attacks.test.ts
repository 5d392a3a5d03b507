/**
 * What an attacker does with the flows of others: as a user of the app with a browser, and with everything in the database
 * but the key. Over sockets, on PostgreSQL.
 */
import { HttpClient, HttpClientRequest } from "@effect/platform"
import { NodeHttpServer } from "@effect/platform-node"
import { SqlClient } from "@effect/sql"
import { assert, describe, it } from "@effect/vitest"
import { Array, Context, Effect, Either, Layer, Option, Redacted, type Scope } from "effect"
import * as ApiKeys from "../../src/ApiKeys.js"
import { callbackPath } from "../../src/Api/OAuth.js"
import * as ConnectFlow from "../../src/ConnectFlow.js"
import { FlowStorage } from "../../src/FlowStorage.js"
import * as Http from "../../src/Http.js"
import * as KeyRing from "../../src/KeyRing.js"
import * as Lifecycle from "../../src/Http/Lifecycle.js"
import { Sandbox } from "../../src/Sandbox.js"
import { hash, type UserUlid } from "../../src/Token.js"
import * as Flows from "../../src/TokenStorage/Postgres/Flows.js"
import * as Flow from "../support/FlowWorld.js"
import { layerKeys } from "../support/Keys.js"
import { layerDatabase } from "../support/Postgres.js"
import { StorageTap } from "../support/StorageTap.js"
import * as World from "../support/World.js"

const key = "manage-only-key-0123456789abcdefghij"
const apiKeys = Either.getOrThrow(ApiKeys.parse(`app:${key}:manage`))

const [victim, attacker] = [World.user(1), World.user(2)]
const { returnTo } = Flow
const home = "https://app.example/settings"

/** The service as it is reached from outside, by an app with a key and by browsers. */
const service = (storage: FlowStorage["Type"], returnUrls: ReadonlyArray<string> = [home]) =>
  Effect.gen(function* () {
    const client = Context.get(
      yield* Layer.build(
        Http.layer.pipe(
          Layer.provideMerge(NodeHttpServer.layerTest),
          Layer.provide([ApiKeys.layer(apiKeys), KeyRing.layerEphemeral, Lifecycle.layer]),
          Layer.provide(ConnectFlow.layer({ returnUrls }).pipe(Layer.provide(Layer.succeed(FlowStorage, storage))))
        )
      ),
      HttpClient.HttpClient
    )
    const api = (path: string, body: object) =>
      Effect.gen(function* () {
        const answer = yield* client.execute(
          HttpClientRequest.post(`/api/cal/oauth/${path}`).pipe(
            HttpClientRequest.bearerToken(key),
            HttpClientRequest.bodyText(JSON.stringify(body), "application/json")
          )
        )
        return { status: answer.status, json: (yield* answer.json) as Readonly<Record<string, unknown>> }
      })
    const callback = (query: URLSearchParams) =>
      Effect.gen(function* () {
        const { headers, status, text } = yield* client.get(`${callbackPath}?${query.toString()}`)
        return { status, location: headers["location"], text: yield* text }
      })
    return {
      api,
      callback,
      /** A user who was sent to Cal.com, and what their browser brings back. */
      leave: (userUlid: UserUlid) =>
        Effect.gen(function* () {
          const { json } = yield* api("authorize-url", { userUlid, returnTo })
          return yield* Flow.consent(String(json["url"]), { email: `${userUlid.toLowerCase()}@example.com` })
        }),
      /** The completion that a browser is sent on with. */
      arrive: (query: URLSearchParams) =>
        Effect.map(callback(query), ({ location = "", status }) => {
          assert.strictEqual(status, 303)
          assert.isTrue(location.startsWith(`${returnTo}&completion=`))
          return new URL(location).searchParams.get("completion") ?? ""
        }),
      confirm: (userUlid: UserUlid, completion: string) =>
        Effect.map(api("confirm", { userUlid, completion }), ({ status }) => status),
      exchange: (userUlid: UserUlid, query: URLSearchParams) =>
        Effect.map(api("exchange", { userUlid, ...Object.fromEntries(query) }), ({ status }) => status)
    }
  })

const database = Effect.gen(function* () {
  const context = yield* Layer.build(
    Flows.layer({ clock: "effect" }).pipe(Layer.provide(layerKeys()), Layer.provideMerge(layerDatabase()))
  )
  const sql = Context.get(context, SqlClient.SqlClient)
  // Connections that are open already, so that requests at the same time overlap.
  yield* Effect.all(
    Array.makeBy(8, () => sql`select pg_sleep(0.1)`),
    { concurrency: "unbounded" }
  )
  return { sql, storage: Context.get(context, FlowStorage) }
})

const stateHash = (query: URLSearchParams) => hash(Redacted.make(query.get("state") ?? ""))

const isConnected = (userUlid: UserUlid) =>
  Effect.flatMap(StorageTap, ({ raw }) => Effect.map(raw.find(userUlid), Option.isSome))

/** A page, and no way on. */
const isStopped = ({ location, status }: { readonly location: string | undefined; readonly status: number }) =>
  assert.deepStrictEqual([status, location], [400, undefined])

/** Nobody is connected, and no code was spent. */
const nothingHappened = Effect.gen(function* () {
  assert.isFalse(yield* isConnected(victim))
  assert.isFalse(yield* isConnected(attacker))
  const { count } = yield* Sandbox
  assert.strictEqual(yield* count("oauth2Code"), 0)
})

type Started = Effect.Effect.Success<ReturnType<typeof service>> & Effect.Effect.Success<typeof database>

/** On the test clock, which nobody moves while PostgreSQL works. */
const attack = (name: string, body: (started: Started) => Effect.Effect<void, unknown, World.World | Scope.Scope>) =>
  it.scoped(name, () =>
    Effect.gen(function* () {
      const { sql, storage } = yield* database
      yield* body({ sql, storage, ...(yield* service(storage)) })
    }).pipe(Effect.provide(World.layer()))
  )

type Tampering = ReadonlyArray<Effect.Effect<unknown, unknown>>

describe("who can write to the database and has no key", () => {
  /** What may be done to the victim's row, `of`, with the attacker's `own` at hand. */
  const tamperings: Readonly<Record<string, (sql: SqlClient.SqlClient, of: string, own: string) => Tampering>> = {
    "the attacker's envelope": (sql, of, own) => [
      sql`
        update cal_tokens.connect_flow v set envelope = a.envelope
        from cal_tokens.connect_flow a where v.state_hash = ${of} and a.state_hash = ${own}`
    ],
    "the attacker's whole row": (sql, of, own) => [
      sql`delete from cal_tokens.connect_flow where state_hash = ${of}`,
      sql`update cal_tokens.connect_flow set state_hash = ${of} where state_hash = ${own}`
    ],
    "words in clear": (sql, of) => {
      const words = JSON.stringify({ userUlid: attacker, replace: true, returnTo: "https://evil.example/" })
      return [sql`update cal_tokens.connect_flow set envelope = ${words} where state_hash = ${of}`]
    },
    "a letter that differs": (sql, of) => [
      sql`
        update cal_tokens.connect_flow set envelope =
          overlay(envelope placing (case substr(envelope, 40, 1) when 'A' then 'B' else 'A' end) from 40 for 1)
        where state_hash = ${of}`
    ]
  }

  for (const [what, tamper] of Object.entries(tamperings)) {
    attack(`sends nobody's completion elsewhere and gives it to nobody, by ${what}`, (it) =>
      Effect.gen(function* () {
        // On the way to Cal.com.
        const [away, own] = [yield* it.leave(victim), yield* it.leave(attacker)]
        yield* Effect.all(tamper(it.sql, stateHash(away), stateHash(own)))
        const met = yield* it.callback(away)
        isStopped(met)
        assert.notMatch(met.text, /evil|completion=/)
        for (const userUlid of [attacker, victim]) assert.strictEqual(yield* it.exchange(userUlid, away), 400)
        // While the completion waits.
        const [back, mine] = [yield* it.leave(victim), yield* it.leave(attacker)]
        const [completion, owned] = [yield* it.arrive(back), yield* it.arrive(mine)]
        yield* Effect.all(tamper(it.sql, stateHash(back), stateHash(mine)))
        isStopped(yield* it.callback(back))
        assert.strictEqual(yield* it.confirm(attacker, completion), 400)
        assert.strictEqual(yield* it.confirm(victim, owned), 400)
        yield* nothingHappened
      })
    )
  }

  attack("is not given somebody's code for a completion of their own", (it) =>
    Effect.gen(function* () {
      const [back, mine] = [yield* it.leave(victim), yield* it.leave(attacker)]
      yield* it.arrive(back)
      const owned = yield* it.arrive(mine)
      yield* it.sql`delete from cal_tokens.connect_flow where state_hash = ${stateHash(mine)}`
      yield* it.sql`update cal_tokens.connect_flow set completion_hash = ${hash(Redacted.make(owned))}`
      for (const userUlid of [victim, attacker]) assert.strictEqual(yield* it.confirm(userUlid, owned), 400)
      yield* nothingHappened
    })
  )

  attack("makes no flow that nobody began", (it) =>
    Effect.gen(function* () {
      const query = yield* it.leave(attacker)
      const [row] = yield* it.sql<{ readonly envelope: string }>`select envelope from cal_tokens.connect_flow`
      const state = query.get("state") ?? ""
      for (const made of [
        state.replace(/^./, (first) => (first === "_" ? "-" : "_")),
        state.replace(/\..*/, ".x"),
        "made-up"
      ]) {
        yield* it.sql`
          insert into cal_tokens.connect_flow (state_hash, envelope, completion_hash, expires_at)
          values (${hash(Redacted.make(made))}, ${row?.envelope}, ${hash(Redacted.make(`${made}-done`))}, 9e15)`
        const own = new URLSearchParams(query)
        own.set("state", made)
        isStopped(yield* it.callback(own))
        assert.strictEqual(yield* it.exchange(attacker, own), 400)
        assert.strictEqual(yield* it.confirm(attacker, `${made}-done`), 400)
      }
      yield* nothingHappened
    })
  )

  attack("who puts old rows back gets nothing that its own user did not have, and spends nothing twice", (it) =>
    Effect.gen(function* () {
      const query = yield* it.leave(victim)
      const completion = yield* it.arrive(query)
      yield* it.sql`create table old as select * from cal_tokens.connect_flow`
      const restore = it.sql`
        insert into cal_tokens.connect_flow select * from old
        on conflict (state_hash) do update set envelope = excluded.envelope, completion_hash = excluded.completion_hash`
      assert.strictEqual(yield* it.confirm(victim, completion), 200)
      const { version } = yield* World.stored(victim)
      for (const userUlid of [attacker, victim]) {
        yield* restore
        assert.strictEqual(yield* it.confirm(userUlid, completion), 400)
      }
      yield* restore
      // The victim's own browser gets a completion of a code that Cal.com takes no more.
      assert.strictEqual(yield* it.confirm(victim, yield* it.arrive(query)), 400)
      assert.isFalse(yield* isConnected(attacker))
      assert.strictEqual((yield* World.stored(victim)).version, version)
      assert.isTrue(yield* World.isStoredPairLive(victim))
    })
  )

  attack("reads neither where people go nor who they are", (it) =>
    Effect.gen(function* () {
      const [away, back] = [yield* it.leave(victim), yield* it.leave(attacker)]
      const completion = yield* it.arrive(back)
      const text = JSON.stringify(yield* it.sql`select * from cal_tokens.connect_flow`)
      const secrets = [victim, attacker, "app.example", completion, ...away.values(), ...back.values()]
      for (const secret of secrets) assert.notInclude(text, secret)
    })
  )
})

describe("who has a browser", () => {
  attack("asks the database nothing with states that were made up, which is away meanwhile", (it) =>
    Effect.gen(function* () {
      const query = yield* it.leave(victim)
      const state = query.get("state") ?? ""
      const [text = "", code = ""] = state.split(".")
      yield* it.sql`alter table cal_tokens.connect_flow rename to away`
      for (const made of [
        "",
        "x",
        text,
        `${text}.`,
        `.${code}`,
        `${code}.${text}`,
        `${state}.`,
        `${state}A`,
        `A${state}`,
        `${text}.${code.slice(0, -1)}`,
        state.toLowerCase(),
        "x".repeat(4000)
      ]) {
        const own = new URLSearchParams(query)
        own.set("state", made)
        assert.strictEqual((yield* it.callback(own)).status, 400, made)
      }
      assert.strictEqual((yield* it.callback(query)).status, 503)
      yield* it.sql`alter table cal_tokens.away rename to connect_flow`
      assert.strictEqual(yield* it.confirm(victim, yield* it.arrive(query)), 200)
    })
  )

  attack("does not keep the database's connections from refreshes with a state that they have", (it) =>
    Effect.gen(function* () {
      let [now, most, all] = [0, 0, 0]
      const storage: FlowStorage["Type"] = {
        ...it.storage,
        find: (stateHash) =>
          Effect.acquireUseRelease(
            Effect.sync(() => void (all++, (most = Math.max(most, ++now)))),
            // Long enough for all requests to be there.
            () => Effect.zipRight(it.sql`select pg_sleep(0.02)`.pipe(Effect.orDie), it.storage.find(stateHash)),
            () => Effect.sync(() => void now--)
          )
      }
      const { callback, leave } = yield* service(storage)
      const query = yield* leave(victim)
      query.delete("code")
      query.set("error", "access_denied")
      const met = yield* Effect.all(
        Array.makeBy(40, () => callback(query)),
        { concurrency: "unbounded" }
      )
      assert.isTrue(met.every(({ status }) => status === 400 || status === 403))
      assert.deepStrictEqual([most, all], [2, 40])
    })
  )

  attack("gets nothing for another user's completion, which is burnt", (it) =>
    Effect.gen(function* () {
      const query = yield* it.leave(victim)
      const completion = yield* it.arrive(query)
      assert.strictEqual(yield* it.confirm(attacker, completion), 400)
      assert.strictEqual(yield* it.confirm(victim, completion), 400)
      yield* nothingHappened
      // The victim's browser is sent back to the app, which sends it on its way once more.
      assert.deepInclude(yield* it.callback(query), { status: 303, location: returnTo })
      assert.strictEqual(yield* it.confirm(victim, yield* it.arrive(yield* it.leave(victim))), 200)
    })
  )

  attack("does not get a code of their own into somebody's flow, before or after", (it) =>
    Effect.gen(function* () {
      const [back, mine] = [yield* it.leave(victim), yield* it.leave(attacker)]
      const completion = yield* it.arrive(back)
      const mixed = new URLSearchParams(back)
      mixed.set("code", mine.get("code") ?? "")
      const refused = it
        .callback(mixed)
        .pipe(Effect.map(({ location, status }) => assert.deepStrictEqual([status, location], [400, undefined])))
      yield* refused
      assert.strictEqual(yield* it.confirm(victim, completion), 200)
      yield* refused
      const { users } = yield* Effect.flatMap(Sandbox, ({ snapshot }) => snapshot)
      const { connection } = yield* World.stored(victim)
      const email = users.find(({ id }) => id === connection.calUserId)?.email
      assert.strictEqual(email, `${victim.toLowerCase()}@example.com`)
    })
  )

  attack("uses a completion once, however many processes are asked at the same time", (it) =>
    Effect.gen(function* () {
      const other = yield* service(it.storage)
      const completion = yield* it.arrive(yield* it.leave(victim))
      const statuses = yield* Effect.all(
        Array.makeBy(8, (n) => (n % 2 === 0 ? it : other).confirm(victim, completion)),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(statuses.sort(), [200, 400, 400, 400, 400, 400, 400, 400])
      const { count } = yield* Sandbox
      assert.strictEqual(yield* count("oauth2Code"), 1)
    })
  )

  attack("opens the callback in many tabs at once: each is sent on, and one completion works", (it) =>
    Effect.gen(function* () {
      const other = yield* service(it.storage)
      const query = yield* it.leave(victim)
      const completions = yield* Effect.all(
        Array.makeBy(4, (n) => (n % 2 === 0 ? it : other).arrive(query)),
        { concurrency: "unbounded" }
      )
      const statuses = yield* Effect.forEach(completions, (completion) => it.confirm(victim, completion))
      assert.deepStrictEqual(statuses.sort(), [200, 400, 400, 400])
    })
  )

  attack("is sent nowhere that is not allowed any more, by whichever process", (it) =>
    Effect.gen(function* () {
      const other = yield* service(it.storage, ["https://app.example/elsewhere"])
      const query = yield* it.leave(victim)
      const closed = Effect.map(other.callback(query), (met) => {
        isStopped(met)
        const { text } = met
        assert.match(text, /<h1>The way back is closed<\/h1>/)
        assert.notInclude(text, "app.example")
      })
      yield* closed
      const completion = yield* it.arrive(query)
      yield* closed
      assert.strictEqual(yield* it.confirm(victim, completion), 200)
      yield* closed
    })
  )
})
