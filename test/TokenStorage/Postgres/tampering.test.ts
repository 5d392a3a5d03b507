/** Somebody who can write to the database, and has no key: what is sealed opens where it belongs, or not at all. */
import { SqlClient } from "@effect/sql"
import { assert, describe, it } from "@effect/vitest"
import { Context, Duration, Effect, Exit, Layer, Option, Redacted, Scope } from "effect"
import { afterAll, beforeAll } from "vitest"
import { CalTokens } from "../../../src/CalTokens.js"
import * as Sandbox from "../../../src/Sandbox.js"
import { type Connection, unverifiedClaims, type UserUlid } from "../../../src/Token.js"
import * as Activity from "../../../src/TokenStorage/Activity.js"
import * as Postgres from "../../../src/TokenStorage/Postgres.js"
import { TokenStorage } from "../../../src/TokenStorage.js"
import * as Webhook from "../../../src/Webhook.js"
import { layerKeys } from "../../support/Keys.js"
import { layerDatabase } from "../../support/Postgres.js"
import * as Fixture from "../../support/StorageFixture.js"
import * as World from "../../support/World.js"

const scope = Effect.runSync(Scope.make())
let storage: Fixture.Storage
let sql: SqlClient.SqlClient

beforeAll(async () => {
  const built = await Effect.runPromise(
    Postgres.layer().pipe(Layer.provideMerge(layerDatabase()), Layer.provide(layerKeys()), Layer.buildWithScope(scope))
  )
  storage = Context.get(built, TokenStorage)
  sql = Context.get(built, SqlClient.SqlClient)
})
afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))

const connected = (connectionOf: (calUserId: number) => Connection) =>
  Effect.gen(function* () {
    const { calUserId, userUlid } = Fixture.newUser()
    const connection = connectionOf(calUserId)
    yield* storage.connect({ userUlid, connection, pair: Fixture.pair(`${userUlid} one`) })
    return { userUlid, calUserId, connection }
  })

/** Changes a row of a user; the table of accounts follows, as far as it has to. */
const change = (userUlid: UserUlid, assignments: string) =>
  Effect.zipRight(
    sql`delete from cal_tokens.cal_account where user_ulid = ${userUlid}`,
    sql.unsafe(`update cal_tokens.connection set ${assignments} where user_ulid = $1`, [userUlid])
  )

/** The account that is read of a user, or why none is. */
const read = (userUlid: UserUlid) =>
  Effect.match(storage.find(userUlid), {
    onSuccess: (row) => Option.getOrThrow(row).connection,
    onFailure: (error) => error._tag
  })

describe("a row that says another account", () => {
  it.live("does not open, for whatever purpose", () =>
    Effect.gen(function* () {
      for (const [connectionOf, assignments] of [
        [Fixture.managed, "cal_user_id = 1"],
        [Fixture.managed, "client_id = 'another'"],
        [Fixture.managed, "kind = 'OAuth2'"],
        [Fixture.managed, "kind = 'OAuth2', cal_user_id = null"],
        [Fixture.oauth, "cal_user_id = 1"],
        [Fixture.oauth, "client_id = 'another'"],
        [Fixture.oauth, "kind = 'ManagedUser'"],
        [Fixture.oauth, "kind = 'ManagedUser', cal_user_id = 1"]
      ] as const) {
        const { calUserId, userUlid } = yield* connected((id) => connectionOf(id))
        yield* change(userUlid, assignments)
        assert.strictEqual(yield* read(userUlid), "TokenUnreadable", assignments)
        for (const purpose of [Fixture.refresh(), Fixture.reissue(1), Fixture.reissue(calUserId)]) {
          const claim = yield* Effect.flip(storage.claim(Fixture.claimOf(userUlid, { purpose })))
          assert.strictEqual(claim._tag, "TokenUnreadable", `${assignments} ${purpose._tag}`)
        }
      }
    })
  )

  it.live("gives a nameless account no name, and one that is hidden is nameless", () =>
    Effect.gen(function* () {
      const nameless = yield* connected(() => Fixture.oauth())
      yield* change(nameless.userUlid, "cal_user_id = 1")
      assert.deepStrictEqual(yield* read(nameless.userUlid), Fixture.oauth())
      const named = yield* connected(Fixture.oauth)
      yield* change(named.userUlid, "cal_user_id = null")
      assert.deepStrictEqual(yield* read(named.userUlid), Fixture.oauth())
    })
  )

  it.live("does not open for an account that was learned by a refresh either", () =>
    Effect.gen(function* () {
      const { calUserId, userUlid } = yield* connected(() => Fixture.oauth())
      yield* storage.claim(Fixture.claimOf(userUlid))
      const learned = Fixture.commitOf(userUlid, Fixture.oauth(calUserId), {
        seen: Fixture.refreshHash(`${userUlid} one`)
      })
      assert.strictEqual((yield* storage.commit(learned))._tag, "Stored")
      assert.deepStrictEqual(yield* read(userUlid), Fixture.oauth(calUserId))
      yield* change(userUlid, "cal_user_id = 1")
      assert.strictEqual(yield* read(userUlid), "TokenUnreadable")
    })
  )

  it.live("opens for an account whose name is another user's, and goes without that name", () =>
    Effect.gen(function* () {
      const owner = yield* connected(Fixture.oauth)
      const { userUlid } = yield* connected(() => Fixture.oauth())
      yield* storage.claim(Fixture.claimOf(userUlid))
      const result = yield* storage.commit(
        Fixture.commitOf(userUlid, owner.connection, { seen: Fixture.refreshHash(`${userUlid} one`) })
      )
      assert.strictEqual(result._tag, "Stored")
      assert.deepStrictEqual(yield* read(userUlid), Fixture.oauth())
    })
  )
})

describe("what stands beside the pair", () => {
  it.live("a pair of an account that the user had before is no fallback of the present one", () =>
    Effect.gen(function* () {
      for (const [connectionOf, next] of [
        [Fixture.managed, Fixture.managed],
        [Fixture.oauth, Fixture.oauth],
        [Fixture.oauth, () => Fixture.oauth()]
      ] as const) {
        const { calUserId, userUlid } = yield* connected((id) => connectionOf(id))
        const [before] = yield* sql<{ pair: string; hash: string }>`
          select pair, refresh_hash as hash from cal_tokens.connection where user_ulid = ${userUlid}`
        const connection = next(-calUserId)
        yield* storage.connect({ userUlid, connection, pair: Fixture.pair("two") })
        yield* sql`
          update cal_tokens.connection set fallbacks = ${JSON.stringify([before])}::jsonb where user_ulid = ${userUlid}`
        assert.deepStrictEqual(yield* Fixture.namesStored(storage, userUlid), ["two"])
      }
    })
  )

  it.live("an answer that nobody could read is of its user, client and token, or of nobody", () =>
    Effect.gen(function* () {
      const { connection, userUlid } = yield* connected(Fixture.managed)
      const seal = storage.seal({
        userUlid,
        spentHash: "spent",
        operation: "refresh",
        connection,
        answer: Redacted.make(new TextEncoder().encode("answer")),
        issuedAt: 0,
        isWhole: true
      })
      const answers = Effect.map(storage.sealed({ limit: 100 }), (all) =>
        all.filter((answer) => answer.userUlid === userUlid).map((answer) => answer.spentHash)
      )
      yield* seal
      assert.deepStrictEqual(yield* answers, ["spent"])
      for (const assignment of ["spent_hash = 'other'", "client_id = 'other'"]) {
        yield* sql.unsafe(`update cal_tokens.sealed_answer set ${assignment} where user_ulid = $1`, [userUlid])
        assert.deepStrictEqual(yield* answers, [], assignment)
        yield* sql`delete from cal_tokens.sealed_answer where user_ulid = ${userUlid}`
        yield* seal
      }
      const other = yield* connected(Fixture.managed)
      yield* sql`update cal_tokens.sealed_answer set user_ulid = ${other.userUlid} where user_ulid = ${userUlid}`
      assert.isFalse((yield* storage.sealed({ limit: 100 })).some((answer) => answer.spentHash === "spent"))
    })
  )
})

describe("what finds a user", () => {
  it.live("is the user's own, also where somebody else has the same access token now", () =>
    Effect.gen(function* () {
      const connect = (name: string) =>
        Effect.gen(function* () {
          const { calUserId, userUlid } = Fixture.newUser()
          const connection = Fixture.managed(calUserId)
          yield* storage.connect({ userUlid, connection, pair: Fixture.pair(name), granted: true })
          return { userUlid, connection }
        })
      const victim = yield* connect("a team's")
      const other = yield* connect("other's")
      yield* storage.claim(Fixture.claimOf(other.userUlid))
      const request = { pair: Fixture.pair("a team's"), seen: Fixture.refreshHash("other's") }
      yield* Fixture.refreshing(storage, other.userUlid, other.connection, request)
      yield* sql`
        insert into cal_tokens.access_token_lookup (name, user_ulid)
        select name, ${victim.userUlid} from cal_tokens.access_token_lookup where user_ulid = ${other.userUlid}
        on conflict do nothing`
      yield* sql`
        update cal_tokens.connection c set lookups = o.lookups, lookups_code = o.lookups_code
        from cal_tokens.connection o where c.user_ulid = ${victim.userUlid} and o.user_ulid = ${other.userUlid}`
      const found = (userUlid: UserUlid) =>
        Effect.map(storage.findByAccessToken(Fixture.accessHash("other's"), userUlid), Option.isSome)
      assert.deepStrictEqual([yield* found(other.userUlid), yield* found(victim.userUlid)], [true, false])
    })
  )
})

describe("what is to be delivered", () => {
  it.live("of somebody's making, with instants of no calendar, can be told like everything else", () =>
    Effect.gen(function* () {
      const { userUlid } = Fixture.newUser()
      for (const instant of ["9223372036854775807", "-9223372036854775808", "8640000000000001"]) {
        yield* sql.unsafe(`
          insert into cal_tokens.transition (kind, user_ulid, at, cause, since, next_at)
          values ('reauthorized', '${userUlid}', ${instant}, 'revoked', ${instant}, 0)`)
        const [transition] = yield* storage.log.claim({ holder: "x", lease: Duration.minutes(1), limit: 10 })
        assert(transition !== undefined)
        assert.match(Webhook.bodyOf(transition), /"timestamp":"[+-]\d+-/)
        yield* storage.log.settle(transition.id)
      }
    })
  )
})

describe("moving an account", () => {
  it.scopedLive("a reissue of a user whose row was pointed at somebody else's account reaches nobody", () =>
    Effect.gen(function* () {
      const sandbox = yield* Sandbox.Sandbox
      const victim = yield* sandbox.grantManaged({ email: "victim@example.com" })
      const [attacker, owner] = [World.user(1), World.user(2)]
      const process = yield* Layer.build(
        World.node({ memoryMaxAge: Duration.zero }).pipe(Layer.provide(Layer.succeed(TokenStorage, storage)))
      )
      const tokens = Context.get(process, CalTokens)
      const own = yield* Effect.provide(World.connectManaged(attacker), process)
      yield* tokens.connect(owner, { _tag: "ManagedUser", calUserId: victim.calUserId }, victim)
      yield* change(owner, `cal_user_id = ${own.calUserId + 1000}`)
      yield* change(attacker, `cal_user_id = ${victim.calUserId}`)
      for (const options of [{ reissue: true }, { forceRefresh: true }]) {
        const answer = yield* Effect.either(tokens.refresh(attacker, options))
        assert(answer._tag === "Left")
        assert.strictEqual(answer.left._tag, "TokenUnreadable")
      }
      // The process that remembers the user's own token serves that.
      assert.deepStrictEqual((yield* tokens.ensureValid(attacker)).accessToken, own.accessToken)
      assert.strictEqual(yield* sandbox.count("forceRefresh"), 0)
      // Whoever connects again has their own account, and nobody's else.
      const again = yield* sandbox.grantManaged({ calUserId: own.calUserId })
      yield* tokens.connect(attacker, { _tag: "ManagedUser", calUserId: own.calUserId }, again)
      const { accessToken } = yield* tokens.refresh(attacker, { reissue: true })
      assert.strictEqual(unverifiedClaims(accessToken).calUserId, own.calUserId)
    }).pipe(Effect.provide(Sandbox.layer()))
  )
})

describe("entries of histories that no release of this program wrote", () => {
  it.live("are not counted among attempts, and keep no others from that", () =>
    Effect.gen(function* () {
      const { connection, userUlid } = yield* connected(Fixture.managed)
      const attempt = Fixture.attempted("one", { took: 100 })
      yield* storage.connect({ userUlid, connection, pair: Fixture.pair("one"), history: attempt })
      const events = [
        ...["null", "[]", "{}", '"Attempt"', '{"_tag": "Attempt"}', '{"_tag": ["Attempt"]}'],
        ...['"x"', "1e400", "-1e400", "null", "[1]", "true"].map((took) =>
          JSON.stringify({ ...attempt, took: "took" }).replace('"took":"took"', `"took":${took}`)
        ),
        JSON.stringify({ ...attempt, trigger: "nobody's", steps: 7 }),
        ...[{ 0: [] }, 7, [7], ["granted"], [{ answer: "granted" }], [{ answer: ["unknown"] }]].map((steps) =>
          JSON.stringify({ ...attempt, end: "unknown", steps })
        ),
        ...["1e400", "-503", "503.5", "0", '"x"', "[503]"].map((status) =>
          JSON.stringify({
            ...attempt,
            end: "unknown",
            steps: [{ answer: "unknown", error: "<script>", status: "status" }]
          }).replace('"status":"status"', `"status":${status}`)
        )
      ]
      for (const event of events) {
        yield* sql.unsafe(
          `insert into cal_tokens.history (user_ulid, at, written, event)
          select user_ulid, at, 'stored', $2::jsonb from cal_tokens.history where user_ulid = $1 limit 1`,
          [userUlid, event]
        )
      }
      // When no other test was about.
      const [entry] = yield* sql<{ at: string }>`
        update cal_tokens.history set at = at - 1800000 where user_ulid = ${userUlid} returning at::text`
      const { attempts } = yield* storage.activity(Activity.minuteOf(Number(entry?.at)))
      assert.deepStrictEqual(
        attempts
          .map(({ bucket, count, longest, origin, outcome, reason }) => [
            ...[origin, outcome, bucket, count, longest],
            ...(reason === undefined ? [] : [JSON.stringify(reason)])
          ])
          .sort(),
        [
          ["asked", "failed", 0, 6, 0, `{"answer":"unknown"}`],
          ["asked", "failed", 0, 6, 0, `{"answer":"unsent"}`],
          ["asked", "refreshed", 0, 5, 0],
          ["asked", "refreshed", Activity.bucketOf(Activity.longest), 1, Activity.longest],
          ["asked", "refreshed", Activity.bucketOf(100), 1, 100]
        ]
      )
    })
  )
})
