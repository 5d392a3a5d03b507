/** Claims and commits that travel together: what becomes of each, whatever becomes of the others. */
import { assert, describe, it } from "@effect/vitest"
import { Array, Deferred, Duration, Effect, Exit, Fiber, Option, Schedule, Scope, TestClock } from "effect"
import { afterAll, beforeAll } from "vitest"
import type { CallOf } from "../../../src/TokenStorage/Postgres/Call.js"
import * as Sql from "../../../src/TokenStorage/Postgres/Sql.js"
import * as Writing from "../../../src/TokenStorage/Postgres/Writing.js"
import type { CircuitRequest } from "../../../src/TokenStorage.js"
import { StorageUnavailable } from "../../../src/TokenError.js"
import * as Fixture from "../../support/StorageFixture.js"
import { all, connected, make, tally, type TwoProcesses } from "../../support/TwoProcesses.js"

describe("statements", () => {
  interface Row {
    readonly n: number
    readonly by: string
  }
  type Outcome = ReadonlyArray<number> | "refused" | "late"
  const reasons = { refused: "SQLSTATE 23514", late: "no answer within 5s" }

  /** What is called, in its order; of several together those are answered that `outcome` lists. */
  const writing = (outcome: (size: number) => Outcome) =>
    Effect.gen(function* () {
      const sent = new globalThis.Array<string>()
      const single: CallOf<Row> = ([name]) => {
        sent.push(String(name))
        return Effect.succeed([{ n: 0, by: `${String(name)} alone` }])
      }
      const many: CallOf<Row> = ([text]) => {
        const names = (JSON.parse(String(text)) as ReadonlyArray<[string]>).map(([name]) => name)
        sent.push(names.join(" "))
        const answered = outcome(names.length)
        return typeof answered === "string"
          ? Effect.fail(new StorageUnavailable({ operation: "claim", reason: reasons[answered] }))
          : Effect.succeed(answered.map((n) => ({ n, by: `${names[n - 1]} together` })))
      }
      const write = yield* Writing.make("claim", single, many)
      const by = (name: string) =>
        write([name]).pipe(
          Effect.map((row) => row?.by),
          Effect.catchAll(({ reason }) => Effect.succeed(reason))
        )
      return { sent, by }
    })

  it.live("a call that is alone in its turn is a statement of its own", () =>
    Effect.gen(function* () {
      const { by, sent } = yield* writing(() => [])
      assert.strictEqual(yield* by("a"), "a alone")
      assert.strictEqual(yield* by("b"), "b alone")
      assert.deepStrictEqual(sent, ["a", "b"])
    })
  )

  it.live("those of one turn are one, and each gets what is its own, in whatever order it comes", () =>
    Effect.gen(function* () {
      const { by, sent } = yield* writing(() => [3, 1, 2])
      assert.deepStrictEqual(yield* all(["a", "b", "c"].map(by)), ["a together", "b together", "c together"])
      assert.deepStrictEqual(sent, ["a b c"])
    })
  )

  it.live("one that is left out is made by itself", () =>
    Effect.gen(function* () {
      const { by, sent } = yield* writing(() => [3, 1])
      assert.deepStrictEqual(yield* all(["a", "b", "c"].map(by)), ["a together", "b alone", "c together"])
      assert.deepStrictEqual(sent, ["a b c", "b"])
    })
  )

  it.live("where they fail together, each is made by itself, unless their time is over", () =>
    Effect.gen(function* () {
      const refused = yield* writing(() => "refused")
      assert.deepStrictEqual(yield* all(["a", "b"].map(refused.by)), ["a alone", "b alone"])
      assert.deepStrictEqual(refused.sent, ["a b", "a", "b"])
      const late = yield* writing(() => "late")
      assert.deepStrictEqual(yield* all(["a", "b"].map(late.by)), [reasons.late, reasons.late])
      assert.deepStrictEqual(late.sent, ["a b"])
    })
  )

  it.effect("one that is made by itself afterwards has what is left of its time", () =>
    Effect.gen(function* () {
      const clock = yield* TestClock.testClock()
      const passed = new globalThis.Array<number | undefined>()
      const single: CallOf<Row> = (_, __, since) => Effect.sync(() => (passed.push(since), []))
      const write = yield* Writing.make("claim", single, () => Effect.as(clock.adjust("3 seconds"), []))
      yield* all([write(["a"]), write(["b"])])
      yield* write(["c"])
      assert.deepStrictEqual(passed, [3000, 3000, undefined])
    })
  )

  it.scoped("and is given up on when that is over, whatever runs it", () =>
    Effect.gen(function* () {
      const options = { operation: "claim", timeout: Duration.seconds(5), passed: 3000 }
      const asking = yield* Sql.makeAsking(() => (stopped) => stopped())
      const run = yield* Sql.make
      const calls = yield* Effect.fork(
        all([asking("select 1", [], options), run(Effect.never, options)].map((call) => Effect.flip(call)))
      )
      yield* TestClock.adjust("1999 millis")
      assert.isTrue(Option.isNone(yield* Fiber.poll(calls)))
      yield* TestClock.adjust("1 millis")
      assert.isTrue(Option.isSome(yield* Fiber.poll(calls)))
      assert.deepStrictEqual(
        (yield* Fiber.join(calls)).map(({ reason }) => reason),
        [reasons.late, reasons.late]
      )
    })
  )

  it.live("fifty travel together at most", () =>
    Effect.gen(function* () {
      const { by, sent } = yield* writing((size) => Array.range(1, size))
      const names = Array.makeBy(101, String)
      const rows = yield* all(names.map(by))
      assert.deepStrictEqual(
        sent.map((each) => each.split(" ").length),
        [50, 50, 1]
      )
      assert.deepStrictEqual(rows, [...names.slice(0, 100).map((name) => `${name} together`), "100 alone"])
    })
  )

  it.live("one that was given up on before its turn never takes place", () =>
    Effect.gen(function* () {
      const { by, sent } = yield* writing((size) => Array.range(1, size))
      const [a, b] = [yield* Effect.fork(by("a")), yield* Effect.fork(by("b"))]
      // Both have begun to wait, and the turn is not over.
      yield* Effect.yieldNow()
      yield* Fiber.interrupt(a)
      assert.strictEqual(yield* Fiber.join(b), "b alone")
      assert.deepStrictEqual(sent, ["b"])
    })
  )
})

describe("in the database", () => {
  const scope = Effect.runSync(Scope.make())
  let processes: TwoProcesses
  beforeAll(async () => {
    processes = await Effect.runPromise(Scope.extend(make({}), scope))
  }, 120_000)
  afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))

  const several = (count: number) => Effect.forEach(Array.range(1, count), () => connected(processes))
  const commitOf = ({ connection, seen, userUlid }: Effect.Effect.Success<ReturnType<typeof connected>>) =>
    Fixture.commitOf(userUlid, connection, { attemptId: userUlid, pair: Fixture.pair(`${userUlid} 1`), seen })
  const claimOf = (userUlid: Parameters<typeof Fixture.claimOf>[0]) =>
    Fixture.claimOf(userUlid, { attemptId: userUlid })

  /** Until so many statements with this text wait for a lock. */
  const untilWaiting = (text: string, count: number) =>
    Effect.repeat(
      processes.sql<{ readonly n: number }>`
        select count(*)::integer as n from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock' and query like ${`%${text}%`}`,
      { schedule: Schedule.spaced("10 millis"), until: ([row]) => row?.n === count }
    )

  /** Holds what the statement locks while the work is done. */
  const holding = <A, E>(statement: string, work: Effect.Effect<A, E>) =>
    Effect.gen(function* () {
      const [locked, release] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
      const holder = yield* processes.sql
        .unsafe(statement)
        .pipe(
          Effect.zipRight(Deferred.succeed(locked, undefined)),
          Effect.zipRight(Deferred.await(release)),
          processes.sql.withTransaction,
          Effect.fork
        )
      yield* Deferred.await(locked)
      const result = yield* work
      yield* Deferred.succeed(release, undefined)
      yield* Fiber.join(holder)
      return result
    })

  it.live("a row that somebody has in hand keeps nobody else waiting, and its own claim waits for it", () =>
    Effect.gen(function* () {
      const [a, b, c] = (yield* several(3)).map(({ userUlid }) => userUlid)
      assert(a !== undefined && b !== undefined && c !== undefined)
      const mine = yield* holding(
        `select 1 from cal_tokens.connection where user_ulid = '${b}' for update`,
        Effect.gen(function* () {
          const own = yield* Effect.fork(processes.one.claim(claimOf(b)))
          const others = yield* all([a, c].map((userUlid) => processes.one.claim(claimOf(userUlid))))
          assert.deepStrictEqual(tally(others), { Claimed: 2 })
          yield* untilWaiting("claim_1", 1)
          return own
        })
      )
      assert.strictEqual((yield* Fiber.join(mine))._tag, "Claimed")
    })
  )

  it.live("a row whose write fails fails its own call, and no other", () =>
    Effect.gen(function* () {
      const users = yield* several(5)
      const odd = users[2]?.userUlid ?? ""
      yield* processes.sql.unsafe(
        `alter table cal_tokens.connection add constraint odd check (user_ulid <> '${odd}' or attempt_id is null) not valid`
      )
      const claims = yield* all(users.map(({ userUlid }) => Effect.either(processes.one.claim(claimOf(userUlid)))))
      yield* processes.sql`alter table cal_tokens.connection drop constraint odd`
      const went = claims.map((each) => (each._tag === "Right" ? each.right._tag : each.left.message))
      assert.match(went[2] ?? "", /violates check constraint "odd"/)
      assert.deepStrictEqual(went.toSpliced(2, 1), ["Claimed", "Claimed", "Claimed", "Claimed"])
    })
  )

  it.live("processes that write many users at once, in opposite orders, wait in no circle and lose no pair", () =>
    Effect.gen(function* () {
      const { one, two } = processes
      const began = yield* deadlocks
      const round = Effect.gen(function* () {
        const users = yield* several(40)
        const claims = yield* all([
          ...users.map(({ userUlid }) => one.claim(claimOf(userUlid))),
          ...users.toReversed().map(({ userUlid }) => two.claim(claimOf(userUlid)))
        ])
        assert.deepStrictEqual(tally(claims), { Claimed: 40, Busy: 40 })
        const commits = yield* all([
          ...users.map((user) => one.commit(commitOf(user))),
          ...users.toReversed().map((user) => two.commit(commitOf(user)))
        ])
        assert.deepStrictEqual(tally(commits), { Stored: 40, AlreadyStored: 40 })
        for (const { userUlid } of users) {
          assert.deepStrictEqual(yield* Fixture.namesStored(one, userUlid), [`${userUlid} 1`])
        }
      })
      yield* Effect.repeatN(round, 4)
      assert.strictEqual(yield* deadlocks, began)
    })
  )

  it.live("nor do they where two clients' circuits are open", () =>
    Effect.gen(function* () {
      const { one, sql, two } = processes
      const circuits = ["first", "second"].map((clientId): CircuitRequest & { readonly clientId: string } => ({
        clientId,
        fingerprint: "one",
        interval: Duration.zero
      }))
      const began = yield* deadlocks
      const round = Effect.gen(function* () {
        for (const { clientId } of circuits) {
          yield* sql`
            insert into cal_tokens.client (client_id, fingerprint, cause, reason, opened_at, trial_at)
            values (${clientId}, 'one', 'client', 'closed', 0, 0)
            on conflict (client_id, fingerprint) do update set cause = 'client', trial_at = 0`
        }
        const users = yield* several(40)
        const requests = users.flatMap(({ userUlid }, n) => {
          const circuit = circuits[n % 2]
          return circuit === undefined ? [] : [Fixture.claimOf(userUlid, { attemptId: userUlid, circuit })]
        })
        const [firsts, seconds] = [requests.slice(0, 20), requests.slice(20).toReversed()]
        const claims = yield* all([
          ...firsts.map((request) => one.claim(request)),
          ...seconds.map((request) => two.claim(request))
        ])
        assert.deepStrictEqual(tally(claims), { Claimed: 40 })
      })
      yield* Effect.repeatN(round, 9)
      assert.strictEqual(yield* deadlocks, began)
    })
  )

  it.live("nor do they where their commits learn the same accounts, each of which becomes one user's", () =>
    Effect.gen(function* () {
      const { one, sql, two } = processes
      const began = yield* deadlocks
      const round = Effect.gen(function* () {
        const accounts = Array.makeBy(20, () => Fixture.newUser().calUserId)
        /** A user of each account, which nobody knows yet. */
        const nameless = Effect.forEach(accounts, (calUserId) => {
          const { userUlid } = Fixture.newUser()
          const commit = Fixture.commitOf(userUlid, Fixture.oauth(calUserId), {
            attemptId: userUlid,
            pair: Fixture.pair(`${userUlid} 1`)
          })
          return one
            .connect({ userUlid, connection: Fixture.oauth(), pair: Fixture.pair("one") })
            .pipe(Effect.zipRight(one.claim(claimOf(userUlid))), Effect.as(commit))
        })
        const [firsts, seconds] = [yield* nameless, (yield* nameless).toReversed()]
        const commits = yield* all([
          ...firsts.map((request) => one.commit(request)),
          ...seconds.map((request) => two.commit(request))
        ])
        assert.deepStrictEqual(tally(commits), { Stored: 40 })
        const owned = yield* sql<{ readonly n: number }>`
          select count(*)::integer as n from cal_tokens.cal_account
          where cal_user_id in ${sql.in(accounts)} and kind = 'OAuth2'`
        assert.deepStrictEqual(owned, [{ n: 20 }])
      })
      yield* Effect.repeatN(round, 4)
      assert.strictEqual(yield* deadlocks, began)
    })
  )

  /** Circles that the database had to break. */
  const deadlocks = Effect.suspend(() =>
    Effect.map(
      processes.sql<{ readonly n: number }>`
        select pg_stat_clear_snapshot(), pg_stat_get_db_deadlocks(oid)::integer as n from pg_database
        where datname = current_database()`,
      ([row]) => row?.n
    )
  )

  it.live("what died with the process between its claims and its commits is probed by the next, each user's own", () =>
    Effect.gen(function* () {
      const users = yield* several(20)
      yield* all(users.map(({ userUlid }) => processes.one.claim({ ...claimOf(userUlid), lease: Duration.zero })))
      const claims = yield* all(
        users.map(({ userUlid }) => processes.two.claim(Fixture.claimOf(userUlid, { attemptId: `${userUlid} again` })))
      )
      assert.deepStrictEqual(
        claims.map((each) => each._tag === "Claimed" && Option.getOrUndefined(each.probe)),
        users.map(({ seen }) => seen)
      )
      // What the first process was answered after all comes late, and is stored.
      assert.deepStrictEqual(tally(yield* all(users.map((user) => processes.two.commit(commitOf(user))))), {
        Stored: 20
      })
    })
  )

  it.live("commits whose session is killed are stored nevertheless, each once", () =>
    Effect.gen(function* () {
      const users = yield* several(20)
      yield* all(users.map(({ userUlid }) => processes.one.claim(claimOf(userUlid))))
      const commits = yield* holding(
        "lock table cal_tokens.change in exclusive mode",
        Effect.gen(function* () {
          const commits = yield* Effect.fork(all(users.map((user) => processes.one.commit(commitOf(user)))))
          yield* untilWaiting("commit_many_1", 1)
          yield* processes.sql`
            select pg_terminate_backend(pid) from pg_stat_activity
            where datname = current_database() and wait_event_type = 'Lock' and query like '%commit_many_1%'`
          return commits
        })
      )
      assert.deepStrictEqual(tally(yield* Fiber.join(commits)), { Stored: 20 })
      for (const { userUlid } of users) {
        assert.deepStrictEqual(yield* Fixture.namesStored(processes.one, userUlid), [`${userUlid} 1`])
      }
    })
  )
})
