/**
 * What must hold when two processes write at once.
 */
import { assert, describe, it } from "@effect/vitest"
import { Array, Duration, Effect, Exit, Option, Scope } from "effect"
import { afterAll, beforeAll } from "vitest"
import type * as Postgres from "../../src/TokenStorage/Postgres.js"
import { accountRaces } from "./StorageAccountRaces.js"
import { strays } from "./StorageAccounts.js"
import * as Lookups from "../../src/TokenStorage/Lookups.js"
import * as Fixture from "./StorageFixture.js"
import { all, connected, make, tally, type TwoProcesses } from "./TwoProcesses.js"

/** Runs the races on a database of their own. */
export const races = (name: string, options: Postgres.Options = {}) => {
  describe(name, () => {
    const scope = Effect.runSync(Scope.make())
    let built: TwoProcesses | undefined
    const processes = (): TwoProcesses => {
      if (built === undefined) throw new Error("the storages are not built")
      return built
    }
    beforeAll(async () => {
      built = await Effect.runPromise(Scope.extend(make(options), scope))
    }, 120_000)
    afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))
    describe("claims", () => claims(processes))
    describe("claims of what is due", () => dueClaims(processes))
    describe("commits", () => commits(processes))
    describe("accounts", () => accountRaces(processes))
    describe("imports", () => imports(processes))
  })
}

const claims = (processes: () => TwoProcesses) => {
  it.live("of fifty, one wins", () =>
    Effect.gen(function* () {
      const { one, two } = processes()
      for (const round of Array.range(1, 5)) {
        const { row, userUlid } = yield* connected(processes())
        const results = yield* all(
          Array.makeBy(50, (n) =>
            (n % 2 === 0 ? one : two).claim(
              Fixture.claimOf(userUlid, { attemptId: `${round}.${n}`, purpose: Fixture.refresh(row.version) })
            )
          )
        )
        assert.deepStrictEqual(tally(results), { Claimed: 1, Busy: 49 })
      }
    })
  )

  it.live("of fifty on a lapsed attempt, one wins and probes", () =>
    Effect.gen(function* () {
      const { one, two } = processes()
      const { userUlid } = yield* connected(processes())
      yield* one.claim(Fixture.claimOf(userUlid, { lease: Duration.zero }))
      const results = yield* all(
        Array.makeBy(50, (n) => (n % 2 === 0 ? one : two).claim(Fixture.claimOf(userUlid, { attemptId: `${n}` })))
      )
      assert.deepStrictEqual(tally(results), { Claimed: 1, Busy: 49 })
      assert.isTrue(results.some((result) => result._tag === "Claimed" && Option.isSome(result.probe)))
    })
  )
}

const dueClaims = (processes: () => TwoProcesses) => {
  const now = 1_000_000_000

  it.live("are shared by all who claim, each user once, whatever else is written meanwhile", () =>
    Effect.gen(function* () {
      const { one, two } = processes()
      const clientId = "client of races for what is due"
      const circuit = { clientId, fingerprint: "one", interval: Duration.seconds(30) }
      const users = yield* Effect.forEach(Array.range(1, 300), () => {
        const { calUserId, userUlid } = Fixture.newUser()
        const connection = { ...Fixture.managed(calUserId), clientId }
        const schedule = { aheadAt: now, usedAt: now }
        return Effect.as(one.connect({ userUlid, connection, pair: Fixture.pair(userUlid), schedule }), userUlid)
      })
      const request = {
        circuit,
        now,
        usedSince: 0,
        lease: Fixture.lease,
        cooldownWindow: Duration.zero,
        maxAttempts: 9
      }
      const noted = users.map((userUlid) => ({ userUlid, at: now + 1 }))
      const [rounds, waiting] = yield* Effect.all(
        [
          all(Array.makeBy(40, (n) => (n % 2 === 0 ? one : two).claimDue({ ...request, limit: 10 }))),
          all(users.slice(0, 40).map((user) => two.claim(Fixture.claimOf(user, { attemptId: `waits ${user}` })))),
          all(Array.makeBy(10, () => two.used([...noted].reverse(), 0))),
          all(Array.makeBy(10, () => one.used(noted, 0)))
        ],
        { concurrency: "unbounded" }
      )
      const claimed = [
        ...rounds.flatMap(({ claims }) => claims.map(({ claimed }) => claimed.row.userUlid)),
        ...waiting.flatMap((result) => (result._tag === "Claimed" ? [result.row.userUlid] : []))
      ]
      assert.strictEqual(new Set(claimed).size, claimed.length)
      // Who was written at that moment is passed over, and comes the next time.
      const rest = yield* one.claimDue({ ...request, limit: 300 })
      assert.sameMembers([...claimed, ...rest.claims.map(({ claimed }) => claimed.row.userUlid)], users)
    })
  )
}

const imports = (processes: () => TwoProcesses) => {
  const deadlocks = (sql: TwoProcesses["sql"]) =>
    Effect.map(
      sql<{ deadlocks: number }>`select deadlocks::float8 from pg_stat_database where datname = current_database()`,
      ([row]) => row?.deadlocks
    )

  it.live("of the same users, in any order, with claims, commits, and what people do: none waits in a circle", () =>
    Effect.gen(function* () {
      const { one, sql, two } = processes()
      const before = yield* deadlocks(sql)
      const users = Array.makeBy(60, () => {
        const { calUserId, userUlid } = Fixture.newUser()
        return { userUlid, connection: Fixture.managed(calUserId) }
      })
      const requests = (n: number) =>
        users.map((user) => ({
          ...user,
          pair: Fixture.pair(`${user.userUlid} ${n}`, { accessTokenExpiresAt: 3_600_000 + n }),
          schedule: { aheadAt: n, keepAt: n }
        }))
      const first = requests(0)
      const begun = yield* all([one.import(first), two.import([...first].reverse())])
      // Each by one of the two.
      assert.deepStrictEqual(tally(begun.flat()), { Imported: 60, Unchanged: 60 })

      for (const n of Array.range(1, 8)) {
        const batch = requests(n)
        const others = users.map(({ connection, userUlid }, index) => {
          const storage = index % 2 === 0 ? one : two
          const claim = storage.claim(Fixture.claimOf(userUlid, { attemptId: `${n}` }))
          const commit = Fixture.commitOf(userUlid, connection, {
            attemptId: `${n}`,
            pair: Fixture.pair(`${userUlid} here ${n}`),
            seen: Fixture.refreshHash(`${userUlid} ${n - 1}`)
          })
          return index % 10 === n
            ? storage.disconnect(userUlid)
            : index % 10 === n + 1
              ? storage.connect({ userUlid, connection, pair: commit.pair })
              : Effect.zipRight(claim, storage.commit(commit))
        })
        const [ahead, back] = yield* Effect.all(
          [one.import(batch), two.import([...batch].reverse()), all<unknown, unknown>(others)],
          { concurrency: "unbounded" }
        )
        assert.deepStrictEqual([ahead.length, back.length], [60, 60])
      }
      assert.deepStrictEqual(yield* strays(sql), [])
      assert.strictEqual(yield* deadlocks(sql), before)
      const rows = yield* Effect.forEach(users, ({ userUlid }) => one.find(userUlid))
      const last = rows.flatMap((row) => (Option.isSome(row) ? [Fixture.names(row.value)[0] ?? ""] : []))
      // Of those who are disconnected in the last round, some may be gone.
      assert.isAtLeast(last.length, 54)
      for (const name of last) assert.match(name, / (8|here \d)$/)
    })
  )

  it.live("and a commit: what was refreshed here is never replaced", () =>
    Effect.gen(function* () {
      const { one, two } = processes()
      for (const round of Array.range(1, 30)) {
        const { calUserId, userUlid } = Fixture.newUser()
        const connection = Fixture.managed(calUserId)
        yield* one.import([{ userUlid, connection, pair: Fixture.pair(`${userUlid} theirs`) }])
        yield* one.claim(Fixture.claimOf(userUlid))
        const seen = Fixture.refreshHash(`${userUlid} theirs`)
        const commit = one.commit(
          Fixture.commitOf(userUlid, connection, { pair: Fixture.pair(`${userUlid} ours`), seen })
        )
        const again = two.import([{ userUlid, connection, pair: Fixture.pair(`${userUlid} newer`) }])
        const { committed, results } = yield* Effect.all(
          round % 2 === 0 ? { committed: commit, results: again } : { results: again, committed: commit },
          { concurrency: "unbounded" }
        )
        const [taken] = results
        const names = yield* Fixture.namesStored(one, userUlid)
        // Whoever came second found what the first one had left.
        if (taken?._tag === "RefreshedHere")
          assert.deepStrictEqual([committed._tag, names[0]], ["Stored", `${userUlid} ours`])
        else {
          assert.deepStrictEqual([taken?._tag, committed._tag], ["Updated", "KeptAsFallback"])
          assert.deepStrictEqual(names.slice(0, 2), [`${userUlid} newer`, `${userUlid} ours`])
        }
      }
    })
  )
}

const commits = (processes: () => TwoProcesses) => {
  it.live("a commit, its repetitions and new claims meet", () =>
    Effect.gen(function* () {
      const { one, two } = processes()
      for (const round of Array.range(1, 20)) {
        const { connection, row, seen, userUlid } = yield* connected(processes())
        yield* one.claim(Fixture.claimOf(userUlid))
        const commit = Fixture.commitOf(userUlid, connection, { pair: Fixture.pair(`${userUlid} 1`), seen })
        const claim = Fixture.claimOf(userUlid, { attemptId: `next ${round}`, purpose: Fixture.refresh(row.version) })
        const [first, claimed, again] = yield* Effect.all([one.commit(commit), two.claim(claim), two.commit(commit)], {
          concurrency: "unbounded"
        })
        assert.deepStrictEqual([first._tag, again._tag].sort(), ["AlreadyStored", "Stored"])
        assert.include(["Busy", "Newer"], claimed._tag)
      }
    })
  )

  it.live("a commit and a connect leave the connected pair, and the late one as a fallback", () =>
    Effect.gen(function* () {
      const { one, two } = processes()
      for (const round of Array.range(1, 30)) {
        const { connection, seen, userUlid } = yield* connected(processes())
        yield* one.claim(Fixture.claimOf(userUlid))
        const late = Fixture.pair(`${userUlid} late`)
        const handed = Fixture.pair(`${userUlid} handed`)
        const commit = Fixture.refreshing(one, userUlid, connection, { pair: late, seen })
        const connect = two.connect({ userUlid, connection, pair: handed, granted: true })
        yield* all<unknown, unknown>(round % 2 === 0 ? [commit, connect] : [connect, commit])
        const row = Option.getOrThrow(yield* one.find(userUlid))
        const [main, ...fallbacks] = Fixture.names(row)
        assert.strictEqual(main, `${userUlid} handed`)
        assert.include(fallbacks, `${userUlid} late`)
        const owner = Option.getOrThrow(yield* two.findByAccessToken(Fixture.accessHash(`${userUlid} handed`)))
        assert.strictEqual(owner.row.userUlid, userUlid)
        assert.deepStrictEqual(owner.row.lookups, Lookups.granted(handed))
      }
    })
  )

  it.live("versions never go back under concurrent writes", () =>
    Effect.gen(function* () {
      const { one, two } = processes()
      const { connection, userUlid } = yield* connected(processes())
      const write = (n: number) =>
        Effect.map(
          (n % 2 === 0 ? one : two).connect({ userUlid, connection, pair: Fixture.pair(`${userUlid} w${n}`) }),
          (row) => row.version
        )
      const versions = yield* all(Array.makeBy(40, write))
      assert.strictEqual(new Set(versions).size, 40)
      const row = Option.getOrThrow(yield* one.find(userUlid))
      assert.strictEqual(row.version, Math.max(...versions))
    })
  )

  it.live("a disconnect meets a commit: nothing comes back", () =>
    Effect.gen(function* () {
      const { one, sql, two } = processes()
      for (const round of Array.range(1, 10)) {
        const { connection, seen, userUlid } = yield* connected(processes())
        yield* one.claim(Fixture.claimOf(userUlid))
        const pair = Fixture.pair(`${userUlid} ${round} late`)
        yield* all<unknown, unknown>([
          one.commit(Fixture.commitOf(userUlid, connection, { pair, seen })),
          two.disconnect(userUlid)
        ])
        assert.isTrue(Option.isNone(yield* one.find(userUlid)))
        const rows = yield* sql`select 1 from cal_tokens.access_token_lookup where user_ulid = ${userUlid}`
        assert.deepStrictEqual(rows, [])
      }
    })
  )
}
