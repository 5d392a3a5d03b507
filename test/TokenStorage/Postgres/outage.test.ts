import { SqlClient } from "@effect/sql"
import { assert, it } from "@effect/vitest"
import { Context, Duration, Effect, Layer, Logger, Redacted, Schedule, Stream } from "effect"
import * as Postgres from "../../../src/TokenStorage/Postgres.js"
import * as Notifications from "../../../src/TokenStorage/Postgres/Notifications.js"
import * as Sql from "../../../src/TokenStorage/Postgres/Sql.js"
import { TokenStorage } from "../../../src/TokenStorage.js"
import { layerKeys } from "../../support/Keys.js"
import { renderings } from "../../support/Leaks.js"
import { makeDatabase } from "../../support/Postgres.js"
import { makeServer } from "../../support/PostgresServer.js"
import * as Refusal from "../../support/Refusal.js"
import * as SilentProxy from "../../support/SilentProxy.js"
import * as Fixture from "../../support/StorageFixture.js"

const storageAt = (
  url: Redacted.Redacted,
  connection: Partial<Postgres.ConnectionOptions> = {},
  options: Postgres.Options = {}
) =>
  Layer.build(
    Postgres.layer(options).pipe(
      Layer.provideMerge(Postgres.layerConnection({ url, ...connection })),
      Layer.provide(layerKeys())
    )
  )

const { calUserId, userUlid } = Fixture.newUser()
const connection = Fixture.managed(calUserId)
const pair = Fixture.pair("one")

/** Every operation of the port. */
const operations = (
  storage: Fixture.Storage
): Record<string, Effect.Effect<unknown, Error & { readonly _tag: string }>> => ({
  find: storage.find(userUlid),
  claim: storage.claim(Fixture.claimOf(userUlid)),
  spend: storage.spend({ userUlid, attemptId: "mine", next: "x", dead: [] }),
  commit: storage.commit(Fixture.commitOf(userUlid, connection)),
  fail: storage.fail({ userUlid, attemptId: "mine", failure: Fixture.notSpent() }),
  connect: storage.connect({ userUlid, connection, pair }),
  update: storage.update({ userUlid, connection, pair }),
  disconnect: storage.disconnect(userUlid),
  endSessions: storage.endSessions(userUlid),
  findByAccessToken: storage.findByAccessToken("x"),
  handedOut: storage.handedOut([{ userUlid, at: 0 }]),
  missingKeys: storage.missingKeys,
  list: storage.list({ limit: 1 }),
  ping: storage.ping
})

/** Tries again for a while, as callers do. */
const soon = <A, E>(effect: Effect.Effect<A, E>) =>
  Effect.retry(effect, { schedule: Schedule.spaced("50 millis"), times: 200 })

it.scopedLive(
  "a database that is down fails every call, typed, and is used again when it is back",
  () =>
    Effect.gen(function* () {
      const server = yield* Effect.acquireRelease(
        Effect.promise(() => makeServer()),
        (started) => Effect.promise(() => started.remove())
      )
      const storage = yield* storageAt(Redacted.make(server.url)).pipe(
        Effect.map((context) => Context.get(context, TokenStorage))
      )
      yield* storage.connect({ userUlid, connection, pair })
      yield* Effect.promise(() => server.stop())
      for (const [operation, call] of Object.entries(operations(storage))) {
        const error = yield* Effect.flip(call)
        assert.strictEqual(error._tag, "StorageUnavailable", operation)
        assert.match(error.message, new RegExp(`unavailable \\(${operation}: .+\\): try again`))
      }
      const down = yield* Effect.flip(Effect.scoped(storageAt(Redacted.make(server.url))))
      assert.match(down.message, /\(connect: connect ECONNREFUSED 127\.0\.0\.1:\d+\)/)
      yield* Effect.promise(() => server.start())
      yield* soon(storage.ping)
      const row = yield* storage.find(userUlid)
      assert.strictEqual(row._tag, "Some")
    }),
  60_000
)

it.scopedLive("a wrong address fails in one line that shows no password", () =>
  Effect.gen(function* () {
    const right = new URL(Redacted.value(yield* makeDatabase))
    const wrong: Record<string, RegExp> = {
      [`postgres://postgres:hunter2@127.0.0.1:${right.port}/missing`]:
        /database "missing" does not exist \(SQLSTATE 3D000\)/,
      [`postgres://nobody:hunter2@127.0.0.1:${right.port}/postgres`]: /role "nobody" does not exist \(SQLSTATE 28000\)/,
      "postgres://postgres:hunter2@no-such-host.invalid/postgres": /(ENOTFOUND|EAI_AGAIN) no-such-host.invalid/,
      "postgres://postgres:hunter2@127.0.0.1:1/postgres": /ECONNREFUSED 127.0.0.1:1/,
      "postgres://postgres:hun%ter2@[::1/postgres": /./,
      "postgres://postgres:hunter2@127.0.0.1:port/postgres": /ERR_INVALID_URL/
    }
    for (const [url, says] of Object.entries(wrong)) {
      const error = yield* Effect.flip(storageAt(Redacted.make(url), { connectTimeout: "2 seconds" }))
      assert.match(error.message, says)
      assert.notMatch(renderings(error), /hunter2|hun%ter2/)
      assert.notInclude(error.message, "\n")
    }
  })
)

it.scopedLive("what a pooler refuses connections with is told in one line, without the password", () =>
  Effect.gen(function* () {
    const said = {
      "Tenant or user not found": "(connect: Tenant or user not found (SQLSTATE XX000))",
      "no: hunter/2,\nnor hunter%2F2\u001b[2J": "(connect: no: <redacted>, nor <redacted> [2J (SQLSTATE XX000))"
    }
    for (const [message, told] of Object.entries(said)) {
      const port = yield* Refusal.make("XX000", message)
      const url = Redacted.make(`postgres://postgres.tenant:hunter%2F2@127.0.0.1:${port}/postgres`)
      const error = yield* Effect.flip(storageAt(url))
      assert.include(error.message, told)
      assert.notMatch(renderings(error), /hunter/)
      const lines: Array<string> = []
      const logger = Logger.map(Logger.logfmtLogger, (line) => void lines.push(line))
      const listening = Effect.forkScoped(Stream.runDrain(Notifications.stream({ url })))
      yield* Effect.provide(listening, Logger.replace(Logger.defaultLogger, logger))
      yield* soon(Effect.filterOrFail(Effect.succeed(lines), (lines) => lines.length > 0))
      assert.include(lines.join(), told.slice("(connect: ".length, -1))
      assert.notInclude(lines.join(), "hunter")
    }
  })
)

it.scopedLive("words of errors that may quote values are not told", () =>
  Effect.gen(function* () {
    const context = yield* storageAt(yield* makeDatabase)
    const sql = Context.get(context, SqlClient.SqlClient)
    const error = yield* Effect.flip(sql`select 'hunter2'::int`)
    assert.strictEqual(Sql.reasonOf(error), "SQLSTATE 22P02")
  })
)

it.scopedLive("connections that the server ended are replaced", () =>
  Effect.gen(function* () {
    const url = yield* makeDatabase
    const context = yield* storageAt(url, { poolSize: 4 })
    yield* Effect.gen(function* () {
      const storage = yield* TokenStorage
      const sql = yield* SqlClient.SqlClient
      yield* Effect.all(
        [1, 2, 3, 4].map(() => sql`select pg_sleep(0.1)`),
        { concurrency: 4 }
      )
      yield* Effect.ignore(
        sql`select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()`
      )
      yield* soon(
        Effect.all(
          [1, 2, 3, 4].map(() => sql`select pg_sleep(0.1)`),
          { concurrency: 4 }
        )
      )
      // One that is ended in the middle of a statement is told to its caller.
      const running = yield* Effect.fork(Effect.flip(sql`select pg_sleep(30)`))
      yield* soon(
        Effect.flatMap(
          sql`select pg_terminate_backend(pid) from pg_stat_activity where query = 'select pg_sleep(30)'`,
          (rows) => (rows.length > 0 ? Effect.void : Effect.fail("not yet"))
        )
      )
      assert.strictEqual((yield* running)._tag, "SqlError")
      yield* soon(storage.ping)
    }).pipe(Effect.provide(context))
  })
)

it.scopedLive(
  "a database that falls silent holds nobody longer than the timeout, and is left behind",
  () =>
    Effect.gen(function* () {
      const target = new URL(Redacted.value(yield* makeDatabase))
      const proxy = yield* SilentProxy.make(Number(target.port))
      const through = new URL(target)
      through.port = String(proxy.port)
      const context = yield* storageAt(
        Redacted.make(through.href),
        { poolSize: 2, maxAge: "2 seconds", connectTimeout: "5 seconds" },
        { statementTimeout: "2 seconds" }
      )
      const storage = yield* Effect.provide(TokenStorage, context)
      yield* storage.connect({ userUlid, connection, pair })
      proxy.silence()
      for (const call of [
        storage.find(userUlid),
        Effect.uninterruptible(storage.update({ userUlid, connection, pair }))
      ]) {
        const [took, error] = yield* Effect.timed(Effect.flip(call))
        assert.match(error.message, /no answer within 2s/)
        assert.isBelow(Duration.toMillis(took), 10_000)
      }
      proxy.heal()
      yield* Effect.timeout(soon(storage.ping), "40 seconds")
    }),
  120_000
)
