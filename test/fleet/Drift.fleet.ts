/** What is wrong for everybody at once: Cal.com answers in a new shape, or a deploy brought a wrong secret or URL. */
import * as Http from "node:http"
import { assert, describe, layer } from "@effect/vitest"
import { Duration, Effect, Fiber, Redacted } from "effect"
import { vi } from "vitest"
import * as Sandbox from "../../src/Sandbox.js"
import { makeDatabase } from "../support/Postgres.js"
import type { User } from "./Cal.js"
import { all200, Fleet, layer as layerFleet, nothingLost, refreshedOnce, stored } from "./Fleet.js"
import * as Load from "./Load.js"
import { type Answer, ensureToken, type Node, patiently } from "./Node.js"
import { portOf } from "./Port.js"
import * as Speed from "./Speed.js"
import { until } from "./Until.js"
import * as Watch from "./Watch.js"

const speed = 4
/** Circuits stay shut for 7.5 s here. */
const settings = Speed.settings(speed / Speed.slowness)
const interval = settings.circuitInterval

const patience = Duration.seconds(20 * Speed.slowness)

const several = <A, E, R>(count: number, make: Effect.Effect<A, E, R>) =>
  Effect.all(
    Array.from({ length: count }, () => make),
    { concurrency: "unbounded" }
  )

/** Callers come back after a moment, whatever they were told. */
const paced = (node: Node, user: User) => Effect.delay(ensureToken(node, user), "100 millis")

/** So many callers at each process, each with its own share of the users; every process begins with others. */
const everybodyAsks = (nodes: ReadonlyArray<Node>, users: ReadonlyArray<User>, callers: number) =>
  Effect.map(
    Effect.forEach(nodes.entries(), ([number, node]) => {
      const share = Math.ceil(users.length / callers)
      const turn = Math.floor((share / nodes.length) * number)
      const turned = [...users.slice(turn), ...users.slice(0, turn)]
      return Effect.forEach(Array.from({ length: callers }).keys(), (caller) =>
        Load.start(node, turned.slice(caller * share, (caller + 1) * share), 1, paced)
      )
    }),
    (loads) => loads.flat()
  )

const answersOf = (loads: ReadonlyArray<Load.Load>): ReadonlyArray<Answer> => loads.flatMap(({ answers }) => answers)

const wordsOf = ({ body, status }: Answer) =>
  status === 200 ? "200" : `${status} ${String(body["code"])}: ${String(body["error"])}`

const changedAnswers = /^502 CalProtocolError: .*Cal\.com's answers changed: /

/** Callers had a token, or these words, which some had. */
const onlyTold = (answers: ReadonlyArray<Answer>, words: RegExp) => {
  const others = answers.map(wordsOf).filter((answer) => answer !== "200")
  assert.isNotEmpty(others)
  assert.deepStrictEqual([...new Set(others.filter((answer) => !words.test(answer)))], [])
}

/** Everybody gets a token of this process, some at a time. */
const refreshedAll = (node: Node, users: ReadonlyArray<User>) =>
  Effect.map(
    Effect.forEach(users, (user) => ensureToken(node, user), { concurrency: 16 }),
    all200
  )

const callsOf = (...kinds: ReadonlyArray<Sandbox.Call["kind"]>) =>
  Effect.flatMap(Fleet, ({ cal }) => Effect.map(cal.calls, (calls) => calls.filter(({ kind }) => kinds.includes(kind))))

/** As a deploy ends them. */
const stopped = (nodes: ReadonlyArray<Node>) =>
  Effect.forEach(
    nodes,
    (node) =>
      Effect.zipRight(
        node.kill("SIGTERM"),
        Effect.map(node.exit, (exit) => assert.strictEqual(exit.code, 0, node.output()))
      ),
    { concurrency: "unbounded" }
  )

/** A process is asked for a token, and dies of it. */
const diesOf = (node: Node, user: User) =>
  Effect.gen(function* () {
    yield* Effect.fork(Effect.ignore(ensureToken(node, user)))
    const exit = yield* Effect.timeoutFail(node.exit, {
      duration: patience,
      onTimeout: () => new Error(`it did not die: ${node.output()}`)
    })
    assert.strictEqual(exit.signal, "SIGKILL", node.output())
  })

const wrongSecrets = { CAL_CLIENT_SECRET: "nobodys-secret", CAL_OAUTH_CLIENT_SECRET: "nobodys-other-secret" }

const apiAt = (port: number) => ({ CAL_API_URL: `http://127.0.0.1:${port}/v2` })

const serverOf = Effect.acquireRelease(
  Effect.sync(() =>
    Http.createServer((_, response) =>
      response.writeHead(404, { "content-type": "text/html" }).end("<h1>Not Found</h1>")
    )
  ),
  (server) => Effect.sync(() => void server.close().closeAllConnections())
)

/** The port of a server that is not Cal.com. */
const stranger = Effect.flatMap(serverOf, portOf)

/** A port that somebody listened at a moment ago. */
const nobody = Effect.scoped(stranger)

vi.setConfig({ testTimeout: 90_000 * Speed.slowness })

describe("what is wrong for all", () => {
  layer(
    layerFleet({
      route: { name: "direct", isPooled: false, isMissing: false },
      database: makeDatabase,
      nodes: 3,
      speed
    }),
    {
      excludeTestServices: true,
      timeout: Duration.seconds(90 * Speed.slowness)
    }
  )((it) => {
    it.scoped(
      "the token endpoint changes its shape: no refresh begins any more, until a program reads what was kept",
      () =>
        Effect.gen(function* () {
          const { cal, newUsers, start } = yield* Fleet
          const users = yield* newUsers("oauth2", 200, true)
          const nodes = yield* several(4, start())
          const claims = yield* Watch.claims
          yield* cal.resetCalls
          const calls = callsOf("oauth2Refresh")
          const kept = Effect.map(Watch.sealed, (sealed) => sealed.length)

          const loads = yield* everybodyAsks(nodes, users, 8)
          const isUnderWay = Effect.map(calls, (calls) => calls.length >= 40)
          yield* until("a part of the users is refreshed", isUnderWay, patience)
          const changed = Sandbox.Fault.odd("tokensRenamed", {
            kind: "oauth2Refresh",
            times: Infinity,
            after: "400 millis"
          })
          yield* cal.inject(changed)
          const sealedAt = yield* Effect.timeout(Watch.firstSealed, patience)

          // What was in flight ends, and is kept too.
          const isOver = Effect.map(Watch.openAttempts, (open) => open === 0)
          yield* until("the calls in flight have ended", isOver, patience)
          assert.strictEqual(yield* claims.since(sealedAt), 0, "claims that were granted afterwards")
          const flown = yield* calls
          const unread = flown.filter(({ fault }) => fault === "tokensRenamed").length
          assert.isAbove(unread, 1, "answers in flight")
          assert.isBelow(flown.length, users.length / 2)
          assert.deepStrictEqual([yield* claims.all, yield* kept], [flown.length, unread])

          // For longer than a process remembers the circuit without asking again.
          yield* Effect.sleep(Duration.times(interval, 1.2))
          assert.deepStrictEqual([yield* claims.since(sealedAt), (yield* calls).length], [0, flown.length])

          // After a minute one more user is risked, and nobody after that.
          yield* Watch.passTime("1 minute")
          const isTried = Effect.map(kept, (kept) => kept > unread)
          yield* until("the answer to a trial is kept", isTried, patience)
          yield* Effect.sleep(Duration.times(interval, 0.3))
          assert.deepStrictEqual([yield* claims.since(sealedAt), (yield* calls).length], [1, flown.length + 1])
          assert.strictEqual(yield* kept, unread + 1)

          yield* Effect.forEach(loads, ({ stop }) => stop, { concurrency: "unbounded" })
          onlyTold(answersOf(loads), changedAnswers)
          yield* stopped(nodes)
          const newer = yield* start({}, "newer")
          const isRead = Effect.map(kept, (kept) => kept === 0)
          yield* until("what was kept is read before anybody asks", isRead, patience)
          yield* refreshedAll(newer, users)
          yield* nothingLost(users)
          yield* refreshedOnce(users)
          assert.deepStrictEqual(yield* Watch.marked(users), [])
          yield* cal.clearFaults
        })
    )

    it.scoped("four processes with one wrong secret make one call per interval together, until they are mended", () =>
      Effect.gen(function* () {
        const { cal, newUsers, start } = yield* Fleet
        const users = [...(yield* newUsers("managed", 20, true)), ...(yield* newUsers("oauth2", 20, true))]
        const nodes = yield* several(4, start(wrongSecrets))
        yield* cal.resetCalls

        const loads = yield* everybodyAsks(nodes, users, 8)
        for (const clientId of [cal.env.CAL_CLIENT_ID, cal.env.CAL_OAUTH_CLIENT_ID]) {
          const isOpen = Effect.map(Watch.circuits(clientId), (open) => open.length === 1)
          yield* until("the fleet's circuit is open", isOpen, patience)
        }
        const isOver = Effect.map(Watch.openAttempts, (open) => open === 0)
        yield* until("the calls in flight have ended", isOver, patience)
        const burst = (yield* cal.calls).length
        assert.isAtMost(burst, loads.length)

        yield* Effect.sleep(Duration.times(interval, 2.4))
        const trials = (yield* cal.calls).slice(burst)
        for (const kind of ["refresh", "oauth2Refresh"] as const) {
          const at = trials.filter((call) => call.kind === kind).map((call) => call.at)
          const pauses = at.slice(1).map((each, i) => each - (at[i] ?? 0))
          assert.include([2, 3], at.length)
          for (const pause of pauses) assert.isAbove(pause, 0.9 * Duration.toMillis(interval))
        }
        yield* Effect.forEach(loads, ({ stop }) => stop, { concurrency: "unbounded" })
        onlyTold(answersOf(loads), /^502 CalClientMisconfigured: /)
        assert.deepStrictEqual(yield* Watch.marked(users), [])

        yield* stopped(nodes)
        const mended = yield* several(4, start())
        yield* cal.resetCalls
        yield* Effect.forEach(mended, (node) => refreshedAll(node, users), { concurrency: "unbounded" })
        yield* nothingLost(users)
        yield* refreshedOnce(users)
      })
    )

    // Where nobody listens, Cal.com itself may be away: each user who meets that is left alone for a while, by all.
    const faults = [
      { what: "a wrong secret", changes: Effect.succeed(wrongSecrets), within: settings.lease },
      { what: "the URL of another server", changes: Effect.map(stranger, apiAt), within: settings.lease },
      // It goes on asking, too, and each time that it comes first to a user it doubles how long all wait for that one.
      {
        what: "a URL that nobody listens at",
        changes: Effect.map(nobody, apiAt),
        within: Duration.times(settings.backoffMax, 2)
      }
    ]
    it.scoped.each(faults)(
      "one process among four has $what: the others refresh everybody, and it serves that",
      ({ changes, within }) =>
        Effect.gen(function* () {
          const { cal, newUsers, nodes, start } = yield* Fleet
          const users = [...(yield* newUsers("managed", 12, true)), ...(yield* newUsers("oauth2", 12, true))]
          const broken = yield* start(yield* changes)
          yield* cal.resetCalls

          // It is there first, and its callers do not go away.
          const loads = yield* everybodyAsks([broken], users, 8)
          const hasFailed = Effect.sync(() => answersOf(loads).length >= users.length)
          yield* until("it has tried", hasFailed, patience)
          const isBroken = answersOf(loads).every(({ status }) => status !== 200)
          assert.isTrue(isBroken)
          const [took, answers] = yield* Effect.timed(
            Effect.forEach(
              nodes,
              (node) => Effect.forEach(users, (user) => patiently(ensureToken(node, user)), { concurrency: 8 }),
              { concurrency: "unbounded" }
            )
          )
          for (const each of answers) all200(each)
          assert.isBelow(Duration.toMillis(took), Duration.toMillis(within))
          const isServing = Effect.map(
            Effect.forEach(users, (user) => ensureToken(broken, user)),
            (answers) => answers.every(({ status }) => status === 200)
          )
          yield* until("it serves the others' pairs", isServing, patience)
          yield* Effect.forEach(loads, ({ stop }) => stop, { concurrency: "unbounded" })
          for (const user of users) assert.strictEqual((yield* cal.refreshes(user)).granted, 1)
          yield* nothingLost(users)
          assert.deepStrictEqual(yield* Watch.marked(users), [])
        })
    )

    it.scoped("kill -9 before an answer that nobody understands is recorded: what was in it is lost", () =>
      Effect.gen(function* () {
        const { cal, newUsers, nodes, start, startDoomed } = yield* Fleet
        const users = [...(yield* newUsers("managed", 1, true)), ...(yield* newUsers("oauth2", 1, true))]
        const [managed, oauth2] = users
        assert(managed !== undefined && oauth2 !== undefined)
        for (const { calUserId } of users) {
          yield* cal.inject(Sandbox.Fault.odd("tokensRenamed", { calUserId, times: Infinity }))
        }
        yield* Effect.forEach(
          users,
          (user) => Effect.flatMap(startDoomed("fail:before"), (node) => diesOf(node, user)),
          { concurrency: "unbounded" }
        )
        assert.deepStrictEqual([yield* Watch.sealed, yield* Watch.marked(users)], [[], []])

        // One probe finds each token spent. Nothing else brings an OAuth2 user's pair; a managed user gets one by the client's
        // secret, in an answer of the new shape, which is kept.
        const others = (user: User) =>
          Effect.forEach(nodes, (node) => patiently(ensureToken(node, user)), { concurrency: "unbounded" })
        const [ofManaged = [], ofOAuth2 = []] = yield* Effect.forEach(users, others, { concurrency: "unbounded" })
        onlyTold(ofManaged, changedAnswers)
        onlyTold(ofOAuth2, /^409 ReauthorizationRequired: /)
        assert.deepStrictEqual(yield* Effect.forEach(users, cal.refreshes), [
          { presented: 2, granted: 1, reissued: 1 },
          { presented: 2, granted: 1, reissued: 0 }
        ])
        assert.deepInclude((yield* stored(oauth2)).status, { _tag: "ReauthorizationRequired", cause: "rotationLost" })
        assert.deepStrictEqual(
          [yield* Watch.sealed, yield* Watch.marked(users)],
          [[managed.userUlid], [oauth2.userUlid]]
        )
        const newer = yield* start({}, "newer")
        yield* refreshedAll(newer, [managed])
        yield* nothingLost([managed])
        assert.strictEqual((yield* cal.refreshes(managed)).reissued, 1)
        yield* cal.clearFaults
      })
    )

    it.scoped("kill -9 while such an answer is recorded, or right after: nothing is lost", () =>
      Effect.gen(function* () {
        const { cal, newUsers, nodes, start, startDoomed } = yield* Fleet
        const users = yield* newUsers("oauth2", 2, true)
        const [during, after] = users
        assert(during !== undefined && after !== undefined)
        for (const { calUserId } of users) {
          yield* cal.inject(Sandbox.Fault.odd("tokensRenamed", { calUserId, times: Infinity, after: "1 second" }))
        }
        const [one, other] = yield* Effect.all([start(), startDoomed("fail:after")], { concurrency: "unbounded" })
        const dying = yield* Effect.fork(
          Effect.all([diesOf(one, during), diesOf(other, after)], { concurrency: "unbounded" })
        )
        const areGranted = Effect.map(Effect.forEach(users, cal.refreshes), (all) =>
          all.every(({ granted }) => granted === 1)
        )
        yield* until("Cal.com has granted the pairs", areGranted, patience)
        yield* Effect.scoped(
          Effect.gen(function* () {
            yield* Watch.locked(during)
            yield* until("it is being recorded", Watch.isWaiting("fail_1"), patience)
            yield* one.kill("SIGKILL")
            yield* one.exit
          })
        )
        yield* Fiber.join(dying)
        // PostgreSQL ends what it has begun, though nobody is there to hear of it.
        const areKept = Effect.map(Watch.sealed, (sealed) => sealed.length === 2)
        yield* until("both answers are kept", areKept, patience)
        const answers = yield* Effect.forEach(
          nodes.flatMap((node) => users.map((user) => [node, user] as const)),
          ([node, user]) => patiently(ensureToken(node, user)),
          { concurrency: "unbounded" }
        )
        onlyTold(answers, changedAnswers)
        const newer = yield* start({}, "newer")
        const areRead = Effect.map(Watch.sealed, (sealed) => sealed.length === 0)
        yield* until("they are read", areRead, patience)
        yield* refreshedAll(newer, users)
        yield* nothingLost(users)
        yield* refreshedOnce(users)
        assert.deepStrictEqual(yield* Watch.marked(users), [])
        yield* cal.clearFaults
      })
    )

    it.scoped(
      "a program that reads the new shape starts beside those that do not: all are healed, and nobody is marked",
      () =>
        Effect.gen(function* () {
          const { cal, newUsers, nodes, start } = yield* Fleet
          const users = yield* newUsers("oauth2", 80, true)
          yield* cal.resetCalls
          yield* cal.inject(Sandbox.Fault.odd("tokensRenamed", { kind: "oauth2Refresh", times: Infinity }))
          const older = yield* everybodyAsks(nodes, users, 8)
          yield* Effect.timeout(Watch.firstSealed, patience)
          const isOver = Effect.map(Watch.openAttempts, (open) => open === 0)
          yield* until("the calls in flight have ended", isOver, patience)

          const newer = yield* everybodyAsks([yield* start({}, "newer")], users, 8)
          const areHealed = Effect.map(Effect.forEach(users, stored), (rows) =>
            rows.every(({ pair }, i) => Redacted.value(pair.refreshToken) !== users[i]?.refreshToken)
          )
          yield* until("everybody is refreshed", areHealed, Duration.times(patience, 2))
          yield* Effect.forEach([...older, ...newer], ({ stop }) => stop, { concurrency: "unbounded" })
          onlyTold(answersOf([...older, ...newer]), changedAnswers)
          assert.deepStrictEqual(yield* Watch.sealed, [])
          yield* nothingLost(users)
          // One of the older may have tried a token again whose answer was kept, which shows nothing and costs nobody a pair.
          for (const user of users) assert.strictEqual((yield* cal.refreshes(user)).granted, 1)
          assert.deepStrictEqual(yield* Watch.marked(users), [])
          yield* cal.clearFaults
        })
    )
  })
})
