/** Everything is sealed anew under the first key while others write: nothing is lost, and nothing is under another key. */
import { SqlClient } from "@effect/sql"
import { assert, describe, it } from "@effect/vitest"
import { Clock, Context, Effect, Layer, Logger, Option, Redacted } from "effect"
import * as Embedded from "../../../src/Embedded.js"
import { FlowStorage } from "../../../src/FlowStorage.js"
import { KeyRing } from "../../../src/KeyRing.js"
import { hash } from "../../../src/Token.js"
import * as Lookups from "../../../src/TokenStorage/Lookups.js"
import { TokenStorage } from "../../../src/TokenStorage.js"
import * as Flows from "../../../src/TokenStorage/Postgres/Flows.js"
import * as Postgres from "../../../src/TokenStorage/Postgres.js"
import * as Reencryption from "../../../src/TokenStorage/Postgres/Reencryption.js"
import { keyOf, layerKeys } from "../../support/Keys.js"
import { layerDatabase } from "../../support/Postgres.js"
import * as Fixture from "../../support/StorageFixture.js"

const [old, present, third] = [keyOf("old", 1), keyOf("present", 2), keyOf("third", 3)]

/** A process with these keys. */
const start = (keys: string) =>
  Effect.map(
    Layer.build(
      Layer.mergeAll(Postgres.layer(), Flows.layer(), Reencryption.layer).pipe(
        Layer.provideMerge(layerKeys(keys)),
        // It would say which keys are missing.
        Layer.provide(Logger.remove(Logger.defaultLogger))
      )
    ),
    (context) => ({
      storage: Context.get(context, TokenStorage),
      flows: Context.get(context, FlowStorage),
      ring: Context.get(context, KeyRing),
      reencryption: Context.get(context, Reencryption.Reencryption)
    })
  )

/** What is in use, without what is not. */
const inUse = ({ keysInUse }: Reencryption.Reencryption["Type"]) =>
  Effect.map(keysInUse, (used) =>
    Object.fromEntries(
      used.map(({ counts, id }) => [id, Object.fromEntries(Object.entries(counts).filter(([, count]) => count > 0))])
    )
  )

const answerOf = (connection: ReturnType<typeof Fixture.managed>) => ({
  spentHash: "spent",
  operation: "refresh" as const,
  connection,
  answer: Redacted.make(new TextEncoder().encode("SECRET-ANSWER")),
  issuedAt: 0,
  isWhole: true
})

const round = ({ round }: Reencryption.Reencryption["Type"]) => round(() => Effect.void)

/** A user with a pair, a fallback, two tokens that find them, an instant of handing out, and a sealed answer. */
const populate = ({ storage }: { readonly storage: Fixture.Storage }, kind: "managed" | "oauth") =>
  Effect.gen(function* () {
    const { calUserId, userUlid } = Fixture.newUser()
    const connection = kind === "managed" ? Fixture.managed(calUserId) : Fixture.oauth(calUserId, "A B")
    const now = yield* Clock.currentTimeMillis
    yield* storage.connect({ userUlid, connection, pair: Fixture.pair(`${userUlid} kept`) })
    yield* storage.connect({
      ...{ userUlid, connection, pair: Fixture.pair(`${userUlid} one`), granted: true },
      handedOutAt: Math.floor(now)
    })
    yield* storage.claim(Fixture.claimOf(userUlid))
    yield* Fixture.refreshing(storage, userUlid, connection, {
      pair: Fixture.pair(`${userUlid} two`),
      seen: Fixture.refreshHash(`${userUlid} one`)
    })
    yield* storage.seal({ userUlid, ...answerOf(connection) })
    return { userUlid, connection }
  })
type User = Effect.Effect.Success<ReturnType<typeof populate>>

/** All that is known of a user, by a process. */
const known = ({ storage }: { readonly storage: Fixture.Storage }, { userUlid }: User) =>
  Effect.gen(function* () {
    const row = Option.getOrThrow(yield* storage.find(userUlid))
    const found = yield* Effect.forEach(["one", "two"], (name) =>
      Effect.map(storage.findByAccessToken(hash(Redacted.make(`access-${userUlid} ${name}`))), Option.isSome)
    )
    const answers = yield* storage.sealed({ after: undefined, limit: 1000 })
    return {
      names: Fixture.names(row),
      version: row.version,
      sessionsAfter: row.sessionsAfter,
      updatedAt: row.updatedAt,
      connection: row.connection,
      handedOutAt: row.handedOutAt,
      lookups: Lookups.encode(row.lookups),
      found,
      answers: answers.filter((each) => each.userUlid === userUlid).length
    }
  })

const databases: Readonly<Record<string, Layer.Layer<SqlClient.SqlClient, unknown>>> = {
  PostgreSQL: layerDatabase(),
  PGlite: Embedded.layer({ inMemory: true })
}

for (const [name, database] of Object.entries(databases)) {
  describe(name, () => {
    it.scopedLive("whatever is sealed is read as before, and by whoever has the new key alone", () =>
      Effect.gen(function* () {
        const before = yield* start(old)
        const users = [yield* populate(before, "managed"), yield* populate(before, "oauth")]
        yield* before.flows.begin("state", {
          userUlid: users[0]?.userUlid ?? assert.fail(),
          clientId: "c",
          replace: false
        })
        const facts = yield* Effect.forEach(users, (user) => known(before, user))
        for (const { answers, found, handedOutAt, names } of facts) {
          assert.deepStrictEqual([found, answers, names.length], [[true, true], 1, 2])
          assert.isNumber(handedOutAt)
        }
        const all = { pairs: 2, fallbacks: 2, handedOut: 2, sealedAnswers: 2, flows: 1 }
        const both = yield* start(`${present},${old}`)
        assert.deepStrictEqual(yield* inUse(both.reencryption), { present: {}, old: all })

        assert.deepStrictEqual(yield* round(both.reencryption), { moved: 5, left: 0, unreadable: 0 })
        assert.deepStrictEqual(yield* inUse(both.reencryption), { present: all })
        assert.deepStrictEqual(yield* round(both.reencryption), { moved: 0, left: 0, unreadable: 0 })

        const after = yield* start(present)
        assert.deepStrictEqual(yield* Effect.forEach(users, (user) => known(after, user)), facts)
        assert.isTrue(Option.isSome(yield* after.flows.find("state")))
        // No name of the old key is left behind.
        const sql = yield* SqlClient.SqlClient
        const names = yield* sql<{ name: string }>`select name from cal_tokens.access_token_lookup`
        assert.sameMembers(
          names.map(({ name }) => name),
          users.flatMap(({ userUlid }) =>
            ["one", "two"].map(
              (pair) => after.ring.lookups(Lookups.keyOf(hash(Redacted.make(`access-${userUlid} ${pair}`))))[0]
            )
          )
        )
        const gone = yield* start(old)
        assert.strictEqual(
          (yield* Effect.flip(gone.storage.find(users[0]?.userUlid ?? assert.fail())))._tag,
          "TokenUnreadable"
        )
      }).pipe(Effect.provide(database))
    )
  })
}

describe("a round", () => {
  it.scopedLive("an instant of handing out that an older process wrote beside a new pair is not forgotten", () =>
    Effect.gen(function* () {
      const [before, both] = [yield* start(old), yield* start(`${present},${old}`)]
      const { userUlid } = yield* populate(both, "managed")
      yield* before.storage.handedOut([{ userUlid, at: 8e12 }])
      assert.deepStrictEqual((yield* inUse(both.reencryption))["old"], { handedOut: 1 })
      assert.deepStrictEqual(yield* round(both.reencryption), { moved: 1, left: 0, unreadable: 0 })
      const after = yield* start(present)
      assert.strictEqual(Option.getOrThrow(yield* after.storage.find(userUlid)).handedOutAt, 8e12)
    }).pipe(Effect.provide(layerDatabase()))
  )

  it.scopedLive("what the keys do not open stays, is counted, and holds nobody else up", () =>
    Effect.gen(function* () {
      const elsewhere = yield* start(third)
      const lost = yield* populate(elsewhere, "managed")
      const [before, both] = [yield* start(old), yield* start(`${present},${old}`)]
      const [good, altered] = [yield* populate(before, "managed"), yield* populate(before, "oauth")]
      const sql = yield* SqlClient.SqlClient
      yield* sql`update cal_tokens.connection set pair = replace(pair, right(pair, 4), 'AAAA')
        where user_ulid = ${altered.userUlid}`
      const rows = () =>
        sql`select user_ulid, pair, fallbacks from cal_tokens.connection where user_ulid = ${lost.userUlid}`
      const row = yield* rows()
      // Of the altered one, the fallback and the answer open; of the lost one nothing does.
      assert.deepStrictEqual(yield* round(both.reencryption), { moved: 4, left: 0, unreadable: 3 })
      assert.deepStrictEqual(yield* round(both.reencryption), { moved: 0, left: 0, unreadable: 3 })
      assert.deepStrictEqual(yield* rows(), row)
      assert.deepStrictEqual(yield* inUse(both.reencryption), {
        present: { pairs: 1, fallbacks: 2, handedOut: 2, sealedAnswers: 2 },
        old: { pairs: 1 },
        third: { pairs: 1, fallbacks: 1, handedOut: 1, sealedAnswers: 1 }
      })
      const after = yield* start(present)
      assert.lengthOf((yield* known(after, good)).names, 2)
    }).pipe(Effect.provide(layerDatabase()))
  )

  it.scopedLive("whoever comes back from Cal.com meanwhile is connected all the same", () =>
    Effect.gen(function* () {
      const before = yield* start(`${old},${present}`)
      const both = yield* start(`${present},${old}`)
      const flow = { userUlid: Fixture.newUser().userUlid, clientId: "c", replace: false }
      yield* before.flows.begin("state", flow)
      const found = Option.getOrThrow(yield* before.flows.find("state"))
      const keep = (found: Parameters<typeof before.flows.keep>[0]["flow"]) =>
        before.flows.keep({
          stateHash: "state",
          flow: found,
          code: Redacted.make("code"),
          completionHash: "completion"
        })
      yield* round(both.reencryption)
      // As found: the one who keeps it looks again.
      assert.isFalse(yield* keep(found))
      assert.isTrue(yield* keep(Option.getOrThrow(yield* before.flows.find("state"))))
      // Sealed anew between the look and the write.
      let rounds = 0
      const flows = yield* Effect.provideService(Flows.make(), KeyRing, {
        ...before.ring,
        openFlow: (stateHash, envelope) =>
          Effect.zipRight(
            rounds++ === 0 ? Effect.orDie(round(both.reencryption)) : Effect.void,
            before.ring.openFlow(stateHash, envelope)
          )
      })
      const completed = yield* flows.complete("completion")
      assert.strictEqual(rounds, 2)
      assert.strictEqual(Redacted.value(Option.getOrThrow(completed).code), "code")
      assert.isTrue(Option.isNone(yield* before.flows.complete("completion")))
    }).pipe(Effect.provide(layerDatabase()))
  )
})

describe("beside others", () => {
  it.scopedLive("a row that somebody has is left, and nobody waits", () =>
    Effect.gen(function* () {
      const before = yield* start(`${old},${present}`)
      const users = [yield* populate(before, "managed"), yield* populate(before, "managed")]
      const both = yield* start(`${present},${old}`)
      const sql = yield* SqlClient.SqlClient
      const one = yield* sql.withTransaction(
        Effect.gen(function* () {
          yield* sql`select from cal_tokens.connection where user_ulid = ${users[0]?.userUlid ?? ""} for no key update`
          return yield* round(both.reencryption)
        })
      )
      // The answers are nobody's.
      assert.deepStrictEqual(one, { moved: 3, left: 1, unreadable: 0 })
      assert.deepStrictEqual(yield* round(both.reencryption), { moved: 1, left: 0, unreadable: 0 })
    }).pipe(Effect.provide(layerDatabase({ poolSize: 6 })))
  )

  it.scopedLive("users who are refreshed and reconnected by processes of either order keep their newest pair", () =>
    Effect.gen(function* () {
      const before = yield* start(`${old},${present}`)
      const both = yield* start(`${present},${old}`)
      const users = yield* Effect.forEach(Array.from({ length: 30 }), () => populate(before, "oauth"))
      const newest = new Map<string, string>()
      const refresh = (process: typeof before, { connection, userUlid }: User, n: number) =>
        Effect.gen(function* () {
          const attemptId = `${userUlid} ${n}`
          const claim = yield* process.storage.claim(Fixture.claimOf(userUlid, { attemptId }))
          if (claim._tag !== "Claimed") return assert.fail(claim._tag)
          const name = `${userUlid} round ${n}`
          const commit = yield* Fixture.refreshing(process.storage, userUlid, connection, {
            attemptId,
            pair: Fixture.pair(name),
            seen: hash(claim.row.pair.refreshToken)
          })
          assert.strictEqual(commit._tag, "Stored")
          newest.set(userUlid, name)
        })
      const isOver = { value: false }
      const seal = Effect.iterate(0, {
        while: () => !isOver.value,
        body: (sum) => Effect.map(round(both.reencryption), ({ moved }) => sum + moved)
      })
      const work = Effect.forEach(
        users,
        (user) =>
          Effect.forEach(Array.from({ length: 12 }).keys(), (n) => refresh(n % 3 === 0 ? both : before, user, n)),
        { concurrency: 6, discard: true }
      )
      const [, ...moved] = yield* Effect.all(
        [
          Effect.ensuring(
            work,
            Effect.sync(() => (isOver.value = true))
          ),
          seal,
          seal
        ],
        { concurrency: "unbounded" }
      )
      // Otherwise they hardly met.
      assert.isAbove(moved[0] + moved[1], 100)
      yield* round(both.reencryption)
      assert.deepStrictEqual(yield* round(both.reencryption), { moved: 0, left: 0, unreadable: 0 })
      const after = yield* start(present)
      for (const user of users) {
        const { names } = yield* known(after, user)
        assert.strictEqual(names[0], newest.get(user.userUlid))
      }
      assert.notInclude(Object.keys(yield* inUse(after.reencryption)), "old")
    }).pipe(Effect.provide(layerDatabase({ poolSize: 12 })))
  )
})
