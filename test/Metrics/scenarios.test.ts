/** What is counted, number by number, while things happen; and that no label has a value that is not on its list. */
import * as Fs from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, TestClock } from "effect"
import * as Departure from "../../src/CalClient/TokenAnswer/Departure.js"
import * as Exposition from "../../src/Http/Exposition.js"
import * as Metrics from "../../src/Metrics.js"
import { Fault } from "../../src/Sandbox.js"
import { version } from "../../src/Version.js"
import { read, strangers } from "../support/Exposition.js"
import * as SealedAnswers from "../support/SealedAnswers.js"
import * as World from "../support/World.js"

const { scenario, user } = World

/** Everything by its series, but for buckets, and sums of times that are the machine's. */
const numbers = Effect.map(Metrics.snapshot, (pairs) => {
  const { samples } = read(Exposition.render(pairs))
  return new Map(
    samples
      .filter(({ name }) => !/_(bucket|sum)$|_(process|event_loop|build)_/.test(name))
      .map(({ labels, name, value }) => [
        [name.replace(/^cal_tokens_/, ""), ...Array.from(labels, ([label, text]) => `${label}=${text}`)].join(" "),
        Number(value)
      ])
  )
})

const gauges = /^(users|circuits_open|sealed_answers$|cal_budget|pairs_held|ahead_delay)/

/** By how much each series rose during an effect; what is not named did not. */
const counting = <E, R>(effect: Effect.Effect<unknown, E, R>) =>
  Effect.gen(function* () {
    const before = yield* numbers
    yield* effect
    const after = yield* numbers
    const rose = [...after].map(([series, value]) => [series, value - (before.get(series) ?? 0)] as const)
    return Object.fromEntries(rose.filter(([series, by]) => by !== 0 && !gauges.test(series)))
  })

/** Gauges that begin so, when what was looked up last has grown old. */
const showing = (...names: ReadonlyArray<string>) =>
  Effect.zipRight(
    TestClock.adjust("11 seconds"),
    Effect.map(numbers, (all) =>
      Object.fromEntries(
        [...all].filter(
          ([series, value]) => value !== 0 && gauges.test(series) && names.some((name) => series.startsWith(name))
        )
      )
    )
  )

const refreshed = (kind: string, trigger: string, operation = "refresh", change = "refreshed") => ({
  [`cal_call_duration_seconds_count operation=${operation}`]: 1,
  [`cal_calls_total operation=${operation} outcome=granted`]: 1,
  [`changes_total kind=${change}`]: 1,
  [`refresh_duration_seconds_count kind=${kind}`]: 1,
  [`refreshes_total kind=${kind} outcome=${change} trigger=${trigger}`]: 1
})

for (const kind of World.kinds) {
  describe(kind, () => {
    scenario(
      "answers from memory are hits, by a look as well, and nothing else is counted",
      Effect.gen(function* () {
        const { tokens } = yield* World.connected(kind)
        yield* tokens.ensureValid(user())
        const warm = Effect.gen(function* () {
          for (let n = 0; n < 3; n++) yield* tokens.ensureValid(user())
          assert.isDefined(tokens.peek(user()))
        })
        assert.deepStrictEqual(yield* counting(warm), { "cache_lookups_total result=hit": 4 })
      })
    )

    scenario(
      "callers who join are counted, and their refresh once",
      Effect.gen(function* () {
        const { tokens } = yield* World.expired(kind)
        const five = Effect.forEach([1, 2, 3, 4, 5], () => tokens.ensureValid(user()), { concurrency: "unbounded" })
        assert.deepStrictEqual(yield* counting(five), {
          ...refreshed(kind, "expired"),
          "cache_lookups_total result=miss": 5,
          join_wait_seconds_count: 4
        })
      })
    )

    scenario(
      "a refresh is told by why it began",
      Effect.gen(function* () {
        const { tokens } = yield* World.expiringSoon(kind)
        const soon = Effect.zipRight(tokens.ensureValid(user()), TestClock.adjust(0))
        assert.deepStrictEqual(yield* counting(soon), {
          ...refreshed(kind, "soon"),
          "cache_lookups_total result=miss": 1
        })
        yield* TestClock.adjust("1 minute")
        const forced = tokens.ensureValid(user(), { forceRefresh: true })
        assert.deepStrictEqual(yield* counting(forced), refreshed(kind, "forced"))
        yield* TestClock.adjust("1 minute")
        const { accessToken } = (yield* World.stored()).pair
        const rejected = tokens.reportRejected(user(), { accessToken, status: 401 })
        assert.deepStrictEqual(yield* counting(rejected), refreshed(kind, "rejected"))
        if (kind === "managed") {
          yield* TestClock.adjust("1 minute")
          const reissued = tokens.refresh(user(), { reissue: true })
          assert.deepStrictEqual(yield* counting(reissued), refreshed(kind, "reissue", "reissue", "reissued"))
        }
      })
    )

    scenario(
      "so is one that callers wait for while the token lives",
      Effect.gen(function* () {
        const { tokens } = yield* World.due(kind)
        assert.deepStrictEqual(yield* counting(tokens.ensureValid(user())), {
          ...refreshed(kind, "due"),
          "cache_lookups_total result=miss": 1
        })
      })
    )

    scenario(
      "and one that nobody waits for",
      Effect.gen(function* () {
        const { tokens } = yield* World.expiringSoon(kind)
        const round = Effect.flatMap(tokens.refreshDue(10), ({ begun }) => Effect.all(begun))
        assert.deepStrictEqual(yield* counting(round), refreshed(kind, "ahead"))
      })
    )

    scenario(
      "who waits for another process's refresh found it, and did not refresh",
      Effect.gen(function* () {
        const { refresh, sandbox, tokens } = yield* World.expired(kind)
        const other = (yield* World.anotherNode()).tokens
        yield* sandbox.inject(Fault.delayBefore("2 seconds", refresh))
        const both = Effect.gen(function* () {
          const first = yield* Effect.fork(tokens.ensureValid(user()))
          yield* TestClock.adjust("100 millis")
          const second = yield* Effect.fork(other.ensureValid(user()))
          yield* World.passTime(Fiber.join(first), 10_000)
          yield* World.passTime(Fiber.join(second), 10_000)
        })
        assert.deepStrictEqual(yield* counting(both), {
          ...refreshed(kind, "expired"),
          [`refreshes_total kind=${kind} outcome=found trigger=expired`]: 1,
          [`refresh_duration_seconds_count kind=${kind}`]: 2,
          "refresh_wait_seconds_count for=holder": 1,
          "cache_lookups_total result=miss": 2
        })
      })
    )

    scenario(
      "an outcome that is unknown, the wait for the probe and what the probe brings",
      Effect.gen(function* () {
        const { refresh, sandbox, tokens } = yield* World.expired(kind)
        yield* sandbox.inject(Fault.dropBefore(refresh))
        const ask = World.passTime(tokens.ensureValid(user()), 30_000)
        assert.deepStrictEqual(yield* counting(ask), {
          ...refreshed(kind, "expired"),
          "cal_call_duration_seconds_count operation=refresh": 2,
          "cal_calls_total operation=refresh outcome=Unknown": 1,
          "refresh_wait_seconds_count for=probe": 1,
          "cache_lookups_total result=miss": 1
        })
      })
    )

    scenario(
      "users, and what the limit leaves of calls",
      Effect.gen(function* () {
        const { sandbox, tokens } = yield* World.allExpired(kind, 3)
        assert.deepStrictEqual(yield* showing("users"), { "users status=active": 3 })
        yield* tokens.ensureValid(user(1))
        const budget = yield* Effect.map(numbers, (all) => [
          all.get(`cal_budget_remaining kind=${kind}`),
          all.get(`cal_budget_ratio kind=${kind}`)
        ])
        assert.deepStrictEqual(budget, [499, 499 / 500])
        yield* TestClock.adjust("2 minutes")
        assert.deepStrictEqual(yield* showing(`cal_budget_ratio kind=${kind}`), {
          [`cal_budget_ratio kind=${kind}`]: 1
        })
        const { connection } = yield* World.stored(user(2))
        const calUserId = connection.calUserId ?? 0
        yield* kind === "managed" ? sandbox.deleteUser(calUserId) : sandbox.revokeRefreshTokens(calUserId)
        const refused = kind === "managed" ? "reissue" : "refresh"
        assert.deepStrictEqual(yield* counting(Effect.flip(tokens.ensureValid(user(2)))), {
          "cache_lookups_total result=miss": 1,
          "cal_call_duration_seconds_count operation=refresh": 1,
          "cal_calls_total operation=refresh outcome=Rejected": 1,
          ...(kind === "oauth2"
            ? {}
            : {
                [`cal_call_duration_seconds_count operation=${refused}`]: 1,
                [`cal_calls_total operation=${refused} outcome=UserGone`]: 1
              }),
          "changes_total kind=reauthorizationRequired": 1,
          [`refresh_duration_seconds_count kind=${kind}`]: 1,
          [`refreshes_total kind=${kind} outcome=ReauthorizationRequired trigger=expired`]: 1
        })
        assert.deepStrictEqual(yield* showing("users"), {
          "users status=active": 2,
          "users status=reauthorization_required": 1
        })
      })
    )

    scenario(
      "a client that Cal.com refuses",
      Effect.gen(function* () {
        const { tokens } = yield* World.expired(kind)
        yield* World.turn({ managedSecretRejected: true, oauth2SecretRejected: true })
        assert.deepStrictEqual(yield* counting(Effect.flip(tokens.ensureValid(user()))), {
          "cache_lookups_total result=miss": 1,
          "cal_call_duration_seconds_count operation=refresh": 1,
          "cal_calls_total operation=refresh outcome=ClientWide": 1,
          [`refresh_duration_seconds_count kind=${kind}`]: 1,
          [`refreshes_total kind=${kind} outcome=CalClientMisconfigured trigger=expired`]: 1
        })
        assert.deepStrictEqual(yield* showing("circuits_open"), { "circuits_open cause=client": 1 })
        yield* World.turn({ managedSecretRejected: false, oauth2SecretRejected: false })
        yield* TestClock.adjust("30 seconds")
        yield* tokens.ensureValid(user())
        assert.deepStrictEqual(yield* showing("circuits_open"), {})
      })
    )

    scenario(
      "a client that this process does not know",
      Effect.gen(function* () {
        yield* World.expired(kind)
        const { apiUrl } = World.clientOptions()
        const { stop, tokens } = yield* World.anotherNode({}, { apiUrl })
        yield* Effect.flip(tokens.ensureValid(user()))
        assert.deepStrictEqual(yield* showing("circuits_open"), { "circuits_open cause=process": 1 })
        yield* stop
        assert.deepStrictEqual(yield* showing("circuits_open"), {})
      })
    )

    scenario(
      "answers that nobody can read, and that are read later",
      Effect.gen(function* () {
        const { refresh, sandbox, tokens } = yield* World.expired(kind)
        yield* sandbox.inject(Fault.odd("tokensRenamed", refresh))
        const ask = World.passTime(Effect.flip(tokens.ensureValid(user())), 30_000)
        assert.deepStrictEqual(yield* counting(ask), {
          "cache_lookups_total result=miss": 1,
          "cal_call_duration_seconds_count operation=refresh": 1,
          "cal_calls_total operation=refresh outcome=Unreadable": 1,
          "refresh_wait_seconds_count for=probe": 1,
          [`refresh_duration_seconds_count kind=${kind}`]: 1,
          [`refreshes_total kind=${kind} outcome=CalProtocolError trigger=expired`]: 1
        })
        assert.deepStrictEqual(yield* showing("circuits_open", "sealed_answers"), {
          "circuits_open cause=drift": 1,
          sealed_answers: 1
        })
        const again = Effect.gen(function* () {
          yield* SealedAnswers.learnToRead
          yield* TestClock.adjust("1 minute")
          yield* World.passTime(tokens.ensureValid(user()), 30_000)
        })
        const rose = yield* counting(again)
        assert.strictEqual(rose["sealed_answers_read_total"], 1)
        assert.deepStrictEqual(yield* showing("circuits_open", "sealed_answers"), {})
      })
    )
  })
}

scenario(
  "a storage that cannot be asked: what it said last is told again",
  Effect.gen(function* () {
    const { tap } = yield* World.connected("managed")
    assert.deepStrictEqual(yield* showing("users"), { "users status=active": 1 })
    yield* World.connectManaged(user(2))
    yield* tap.refuse("counts")
    assert.deepStrictEqual(yield* showing("users"), { "users status=active": 1 })
    assert.deepStrictEqual(yield* showing("users"), { "users status=active": 2 })
    assert.strictEqual(tap.count("counts"), 3)
    for (let n = 0; n < 5; n++) yield* numbers
    assert.strictEqual(tap.count("counts"), 3)
  })
)

describe("labels", () => {
  it.effect("have no value that is not on their list", () =>
    Effect.gen(function* () {
      const { samples, types } = read(Exposition.render(yield* Metrics.snapshot))
      assert.isAbove(types.size, 20)
      assert.deepStrictEqual(strangers(samples), [])
      const made = [{ family: "cal_tokens_users", labels: new Map([["status", "01ARZ3NDEKTSV4RRFFQ69G5FAV"]]) }]
      assert.strictEqual(strangers(made).length, 1)
    })
  )

  it("list every operation of the storage, and every departure", () => {
    const listed = (name: string, label: string) => Metrics.all.find((each) => each.name === name)?.labels[label]
    const folder = "src/TokenStorage/Postgres"
    const files = ["src/TokenStorage/Postgres.ts", ...Fs.readdirSync(folder).map((file) => `${folder}/${file}`)]
    const operations = files
      .filter((file) => file.endsWith(".ts"))
      .flatMap((file) =>
        Array.from(
          Fs.readFileSync(file, "utf8").matchAll(
            /\b(?:call|statement)(?:<[^(]*>)?\(\s*"([\w.]+)"|operation: "(\w+)", timeout/g
          ),
          ([, one, other]) => one ?? other ?? ""
        )
      )
    assert.deepStrictEqual(
      [...new Set(operations)].sort(),
      listed("cal_tokens_storage_call_duration_seconds", "operation")
    )
    assert.deepStrictEqual(Departure.kinds, listed("cal_tokens_cal_departures_total", "kind"))
  })

  it("tell the version that the package has", () => {
    assert.strictEqual(version, (JSON.parse(Fs.readFileSync("package.json", "utf8")) as { version: string }).version)
  })
})
