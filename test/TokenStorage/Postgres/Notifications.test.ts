/** News of writes through the real PostgreSQL: heard without asking, heard again after a break, and never a hindrance. */
import { createServer } from "node:net"
import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import {
  Context,
  Deferred,
  Duration,
  Effect,
  Layer,
  Option,
  Logger,
  Queue,
  Redacted,
  Schedule,
  type Scope,
  Stream
} from "effect"
import { Notice, TokenStorage } from "../../../src/TokenStorage.js"
import * as Notifications from "../../../src/TokenStorage/Postgres/Notifications.js"
import * as Postgres from "../../../src/TokenStorage/Postgres.js"
import { layerKeys } from "../../support/Keys.js"
import * as PgBouncer from "../../support/PgBouncer.js"
import { makeDatabase } from "../../support/Postgres.js"
import { makeServer } from "../../support/PostgresServer.js"
import * as SilentProxy from "../../support/SilentProxy.js"
import * as Fixture from "../../support/StorageFixture.js"

/** A process: its storage, and what it hears from the moment its connection listens. */
const processAt = (url: Redacted.Redacted, listenUrl = url) =>
  Effect.gen(function* () {
    const layer = Postgres.layer({ listenUrl }).pipe(
      Layer.provide(Postgres.layerConnection({ url })),
      Layer.provide(layerKeys())
    )
    return Context.get(yield* Layer.build(layer), TokenStorage)
  })

const hear = (notices: Stream.Stream<Notice>): Effect.Effect<Heard, never, Scope.Scope> =>
  Effect.gen(function* () {
    const heard = yield* Queue.unbounded<Notice>()
    yield* Effect.forkScoped(Stream.runForEach(notices, (notice) => heard.offer(notice)))
    return { next: Effect.timeout(heard.take, "30 seconds"), isEmpty: Effect.map(heard.size, (size) => size === 0) }
  })

interface Heard {
  readonly next: Effect.Effect<Notice, Error>
  readonly isEmpty: Effect.Effect<boolean>
}

const listening = (notices: Stream.Stream<Notice>) =>
  Effect.gen(function* () {
    const heard = yield* hear(notices)
    assert.deepStrictEqual(yield* heard.next, Notice.Missed())
    return heard
  })

/** Asks the database itself. */
const query = <A extends object>(url: Redacted.Redacted, statement: string) =>
  Effect.flatMap(PgClient.PgClient, (sql) => sql.unsafe<A>(statement)).pipe(
    // The flood below keeps this process busy for a while.
    Effect.provide(PgClient.layer({ url, maxConnections: 1, connectTimeout: "30 seconds" })),
    Effect.orDie
  )

const listenersOf = (url: Redacted.Redacted) =>
  query<{ pid: number }>(
    url,
    "select pid from pg_stat_activity where datname = current_database() and application_name = 'cal-tokens listen'"
  )

const soon = <A, E>(effect: Effect.Effect<A, E>) =>
  Effect.retry(effect, { schedule: Schedule.spaced("50 millis"), times: 200 })

/** Runs with a logger that keeps what is said, a line each. */
const logged = <A, E, R>(body: (lines: Array<string>) => Effect.Effect<A, E, R>) =>
  Effect.suspend(() => {
    const lines: Array<string> = []
    const logger = Logger.map(Logger.logfmtLogger, (line) => void lines.push(line))
    return Effect.provide(body(lines), Logger.replace(Logger.defaultLogger, logger))
  })

const { calUserId, userUlid } = Fixture.newUser()
const connection = Fixture.managed(calUserId)

it.scopedLive("every write is heard by another process, with the row's user and version, and nothing else is", () =>
  Effect.gen(function* () {
    const url = yield* makeDatabase
    const writer = yield* processAt(url)
    const { isEmpty, next } = yield* listening((yield* processAt(url)).notices)
    const written = (version?: number) => Notice.Written({ userUlid, version })

    const connected = yield* writer.connect({ userUlid, connection, pair: Fixture.pair("one") })
    assert.deepStrictEqual(yield* next, written(connected.version))

    yield* writer.claim(Fixture.claimOf(userUlid))
    yield* writer.spend({ userUlid, attemptId: "mine", next: "x", dead: [] })
    yield* writer.fail({ userUlid, attemptId: "mine", failure: Fixture.notSpent() })
    assert.deepStrictEqual(yield* next, written(connected.version))

    yield* writer.claim(Fixture.claimOf(userUlid, { expiredFor: Duration.zero }))
    const committed = yield* writer.commit(Fixture.commitOf(userUlid, connection))
    assert.isTrue(committed._tag === "Stored" && committed.row.version > connected.version)
    const { version } = committed._tag === "Stored" ? committed.row : connected
    assert.deepStrictEqual(yield* next, written(version))

    // What wrote nothing says nothing.
    yield* writer.commit(Fixture.commitOf(userUlid, connection))
    yield* writer.fail({ userUlid, attemptId: "mine", failure: Fixture.notSpent() })
    yield* Fixture.update(writer, Fixture.newUser().userUlid, Fixture.pair("x"))

    const updated = yield* Fixture.update(writer, userUlid, Fixture.pair("three"))
    assert.deepStrictEqual(yield* next, written(updated._tag === "Some" ? updated.value.version : 0))

    const kept = yield* writer.commit(
      Fixture.commitOf(userUlid, connection, { attemptId: "late", pair: Fixture.pair("four"), seen: "an older one" })
    )
    assert.strictEqual(kept._tag, "KeptAsFallback")
    assert.deepStrictEqual(yield* next, written(updated._tag === "Some" ? updated.value.version : 0))

    const other = Fixture.newUser().userUlid
    const taken = yield* writer.connect({ userUlid: other, connection, pair: Fixture.pair("five"), replace: true })
    const both = [yield* next, yield* next]
    assert.deepInclude(both, written())
    assert.deepInclude(both, Notice.Written({ userUlid: other, version: taken.version }))

    yield* writer.endSessions(other)
    const { sessionsAfter } = Option.getOrThrow(yield* writer.find(other))
    assert.isAbove(sessionsAfter, taken.version)
    assert.deepStrictEqual(yield* next, Notice.Written({ userUlid: other, version: sessionsAfter }))
    yield* writer.endSessions(userUlid)

    yield* writer.disconnect(other)
    assert.deepStrictEqual(yield* next, Notice.Written({ userUlid: other, version: undefined }))
    yield* writer.disconnect(other)
    assert.isTrue(yield* isEmpty)
  })
)

it.scopedLive("what others say on the channel is no notice", () =>
  Effect.gen(function* () {
    const url = yield* makeDatabase
    const { next } = yield* listening(Notifications.stream({ url }))
    yield* query(url, "select pg_notify('cal_tokens', p) from unnest(array['', 'x', '1 2', 'select 1 2 3']) p")
    yield* query(url, `select pg_notify('other', '${userUlid} 1')`)
    yield* query(url, `select pg_notify('cal_tokens', '${userUlid.toLowerCase()} 12')`)
    assert.deepStrictEqual(yield* next, Notice.Written({ userUlid, version: 12 }))
  })
)

it.scopedLive("who is slow loses the oldest of a flood, and has the newest", () =>
  Effect.gen(function* () {
    const url = yield* makeDatabase
    const begun = yield* Deferred.make<void>()
    const go = yield* Deferred.make<void>()
    const slow = yield* Notifications.stream({ url, keepAlive: "50 millis", timeout: "20 seconds" }).pipe(
      Stream.tap(() => Effect.zipRight(Deferred.succeed(begun, undefined), Deferred.await(go))),
      Stream.takeUntil((notice) => notice._tag === "Written" && notice.version === 100_000),
      Stream.runCount,
      Effect.fork
    )
    yield* Deferred.await(begun)
    yield* query(url, `select pg_notify('cal_tokens', '${userUlid} ' || i) from generate_series(1, 100000) i`)
    // The first question afterwards is answered behind the flood, and the second is asked when that answer is there.
    const [flooded] = yield* query<{ at: string }>(url, "select clock_timestamp()::text as at")
    yield* nextQuestion(url, yield* nextQuestion(url, flooded?.at ?? ""))
    yield* Deferred.succeed(go, undefined)
    assert.isBelow(yield* Effect.timeout(slow, "10 seconds"), 5000)
  })
)

/** When the listening connection was asked something after this instant. */
const nextQuestion = (url: Redacted.Redacted, after: string) =>
  query<{ at: string }>(
    url,
    `select query_start::text as at from pg_stat_activity where datname = current_database()
       and application_name = 'cal-tokens listen' and query_start > '${after}'`
  ).pipe(
    Effect.flatMap(([row]) => (row === undefined ? Effect.fail("not yet") : Effect.succeed(row.at))),
    soon
  )

describe("a connection that goes", () => {
  it.scopedLive("is replaced when the server ended it: what was missed is said to be, and it is logged once", () =>
    logged((lines) =>
      Effect.gen(function* () {
        const url = yield* makeDatabase
        const storage = yield* processAt(url)
        const { next } = yield* listening(storage.notices)
        assert.deepStrictEqual(lines, [])
        const [before] = yield* listenersOf(url)
        yield* query(url, `select pg_terminate_backend(${before?.pid ?? 0})`)
        assert.deepStrictEqual(yield* next, Notice.Missed())
        const after = yield* listenersOf(url)
        assert.strictEqual(after.length, 1)
        assert.notStrictEqual(after[0]?.pid, before?.pid)
        const row = yield* storage.connect({ userUlid, connection, pair: Fixture.pair("one") })
        assert.deepStrictEqual(yield* next, Notice.Written({ userUlid, version: row.version }))
        assert.strictEqual(lines.length, 2)
        assert.match(
          lines[0] ?? "",
          /level=WARN .*are not heard.* reason="terminating connection .*\(SQLSTATE 57P01\)"/
        )
        assert.match(lines[1] ?? "", /level=INFO .*are heard again/)
      })
    )
  )

  it.scopedLive(
    "is replaced when the database is back, with one line for its absence, and the storage works meanwhile",
    () =>
      logged((lines) =>
        Effect.gen(function* () {
          const server = yield* Effect.acquireRelease(
            Effect.promise(() => makeServer()),
            (started) => Effect.promise(() => started.remove())
          )
          const storage = yield* processAt(Redacted.make(server.url))
          const { isEmpty, next } = yield* listening(storage.notices)
          yield* Effect.promise(() => server.stop())
          yield* soon(Effect.suspend(() => (lines.length > 0 ? Effect.void : Effect.fail("not yet"))))
          yield* refusing(Number(new URL(server.url).port), 3)
          assert.isTrue(yield* isEmpty)
          assert.strictEqual(lines.length, 1)
          yield* Effect.promise(() => server.start())
          assert.deepStrictEqual(yield* next, Notice.Missed())
          const row = yield* soon(storage.connect({ userUlid, connection, pair: Fixture.pair("one") }))
          assert.deepStrictEqual(yield* next, Notice.Written({ userUlid, version: row.version }))
          assert.strictEqual(lines.length, 2)
        })
      ),
    60_000
  )

  it.scopedLive("is replaced when it fell silent, which only asking tells", () =>
    Effect.gen(function* () {
      const direct = yield* makeDatabase
      const target = new URL(Redacted.value(direct))
      const proxy = yield* SilentProxy.make(Number(target.port))
      target.port = String(proxy.port)
      const url = Redacted.make(target.href)
      const { next } = yield* listening(Notifications.stream({ url, keepAlive: "200 millis", timeout: "2 seconds" }))
      proxy.silence()
      yield* query(direct, `select pg_notify('cal_tokens', '${userUlid} 1')`)
      proxy.heal()
      assert.deepStrictEqual(yield* next, Notice.Missed())
      yield* query(direct, `select pg_notify('cal_tokens', '${userUlid} 2')`)
      assert.deepStrictEqual(yield* next, Notice.Written({ userUlid, version: 2 }))
    })
  )

  it.scopedLive("that never comes hinders nobody, and its password is not in the log", () =>
    logged((lines) =>
      Effect.gen(function* () {
        const url = yield* makeDatabase
        const nowhere = Redacted.make("postgres://nobody:hunter2@127.0.0.1:1/nowhere")
        const storage = yield* processAt(url, nowhere)
        yield* hear(storage.notices)
        yield* soon(Effect.suspend(() => (lines.length > 0 ? Effect.void : Effect.fail("not yet"))))
        assert.match(lines[0] ?? "", /level=WARN .*are not heard.*ECONNREFUSED/)
        assert.notInclude(lines.join("\n"), "hunter2")
        yield* storage.connect({ userUlid, connection, pair: Fixture.pair("one") })
      })
    )
  )
})

describe("the end of the scope", () => {
  it.scopedLive("ends the connection", () =>
    Effect.gen(function* () {
      const url = yield* makeDatabase
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* listening((yield* processAt(url)).notices)
          assert.strictEqual((yield* listenersOf(url)).length, 1)
        })
      )
      const none = Effect.filterOrFail(listenersOf(url), (rows) => rows.length === 0)
      assert.deepStrictEqual(yield* soon(none), [])
    })
  )

  it.scopedLive("does not wait for a server that never answers", () =>
    Effect.gen(function* () {
      const port = yield* silentServer
      const url = Redacted.make(`postgres://postgres@127.0.0.1:${port.number}/x`)
      const [took] = yield* Effect.timed(
        Effect.scoped(
          Effect.zipRight(hear(Notifications.stream({ url, timeout: "1 minute" })), Deferred.await(port.reached))
        )
      )
      // A goodbye has a second, and what was asked a minute.
      assert.isBelow(Duration.toMillis(took), 10_000)
    })
  )
})

describe.skipIf(!PgBouncer.isInstalled)("behind PgBouncer (skipped where it is not installed)", () => {
  it.scopedLive("listening is declined, once, with the name of the variable that helps", () =>
    logged((lines) =>
      Effect.gen(function* () {
        const direct = yield* makeDatabase
        const url = yield* PgBouncer.through(direct)
        const storage = yield* processAt(url)
        assert.strictEqual(yield* Effect.timeout(Stream.runCount(storage.notices), "10 seconds"), 0)
        assert.strictEqual(lines.length, 1)
        assert.match(lines[0] ?? "", /level=INFO .*pooler.*direct URL/)
        yield* storage.connect({ userUlid, connection, pair: Fixture.pair("one") })
      })
    )
  )

  it.scopedLive("the direct address beside it is listened to", () =>
    logged((lines) =>
      Effect.gen(function* () {
        const direct = yield* makeDatabase
        const url = yield* PgBouncer.through(direct)
        const writer = yield* processAt(url, direct)
        const { next } = yield* listening((yield* processAt(url, direct)).notices)
        const row = yield* writer.connect({ userUlid, connection, pair: Fixture.pair("one") })
        assert.deepStrictEqual(yield* next, Notice.Written({ userUlid, version: row.version }))
        assert.deepStrictEqual(lines, [])
      })
    )
  )
})

/** Takes so many connections in a server's place and ends each. */
const refusing = (port: number, times: number) =>
  Effect.async<void>((resume) => {
    let left = times
    const server = createServer((socket) => {
      socket.on("error", () => undefined).destroy()
      if (--left === 0) server.close(() => resume(Effect.void))
    })
    server.once("error", (error) => resume(Effect.die(error))).listen(port, "127.0.0.1")
  })

/** Takes connections and says nothing. */
const silentServer = Effect.gen(function* () {
  const reached = yield* Deferred.make<void>()
  const number = yield* Effect.acquireRelease(
    Effect.async<{ readonly server: ReturnType<typeof createServer>; readonly port: number }>((resume) => {
      const server = createServer((socket) => {
        socket.on("error", () => undefined)
        Deferred.unsafeDone(reached, Effect.void)
      })
      server.listen(0, "127.0.0.1", () => {
        const address = server.address()
        resume(Effect.succeed({ server, port: typeof address === "object" && address !== null ? address.port : 0 }))
      })
    }),
    ({ server }) => Effect.sync(() => server.close())
  )
  return { number: number.port, reached }
})
