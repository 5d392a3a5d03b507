/**
 * A hundred thousand rows are sealed anew by the program while four processes refresh: it is killed in the middle, begins again,
 * and ends. Nobody notices, and the old key can go.
 */
import { randomBytes } from "node:crypto"
import * as Fs from "node:fs"
import { availableParallelism, loadavg } from "node:os"
import { SqlClient } from "@effect/sql"
import { assert, layer } from "@effect/vitest"
import { Duration, Effect, Exit, Redacted, Schema, Scope } from "effect"
import { afterAll, beforeAll, vi } from "vitest"
import * as KeyRing from "../../src/KeyRing.js"
import { type Connection, UserUlid } from "../../src/Token.js"
import * as Lookups from "../../src/TokenStorage/Lookups.js"
import * as Sealing from "../../src/TokenStorage/Postgres/Sealing.js"
import type { User } from "../fleet/Cal.js"
import { all200, Fleet, layer as layerFleet, routes } from "../fleet/Fleet.js"
import * as Load from "../fleet/Load.js"
import { ensureToken, type Node } from "../fleet/Node.js"
import { slowness } from "../fleet/Speed.js"
import { until } from "../fleet/Until.js"
import * as Imported from "../load/Import.js"
import { build, type Program, run } from "../start/Program.js"
import { makeDatabase } from "../support/Postgres.js"
import * as Fixture from "../support/StorageFixture.js"

vi.setConfig({ testTimeout: 900_000 * slowness })

const count = 100_000

const keyOf = (id: string) => `${id}:${randomBytes(32).toString("base64")}`
const [old, next] = [keyOf("old"), keyOf("next")]
const ringOf = (keys: string) => Effect.provide(KeyRing.KeyRing, KeyRing.layer(Redacted.make(keys)))

let directory: string
beforeAll(() => {
  directory = build()
})
afterAll(() => Fs.rmSync(directory, { recursive: true }))

const ulidOf = (n: number) => Schema.decodeSync(UserUlid)(`01${n.toString().padStart(24, "0")}`)

/** As a process with the old key left them; the pairs are not tokens, only as long. */
const fill = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const keys = yield* ringOf(old)
  for (let from = 1; from <= count; from += 5000) {
    const rows = yield* Effect.forEach(
      Array.from({ length: 5000 }, (_, index) => from + index),
      (n) =>
        Effect.gen(function* () {
          const userUlid = ulidOf(n)
          const connection: Connection = { _tag: "ManagedUser", clientId: "platform", calUserId: n }
          const pair = Fixture.pair(String(n).padEnd(300, "x"))
          const [envelope, refreshHash] = yield* Sealing.seal(keys, userUlid, connection, pair)
          const [lookups, code, names] = Sealing.lookups(keys, userUlid, Lookups.granted(pair))
          const [at, handedOut] = Sealing.handedOut(keys, userUlid, n)
          return { userUlid, n, envelope, refreshHash, lookups, code, names, at, handedOut }
        })
    )
    yield* sql`
      with given as materialized (
        select * from jsonb_to_recordset(${JSON.stringify(rows)}::jsonb) as g ("userUlid" text, n bigint, envelope text,
          "refreshHash" text, lookups text, code text, names text, at bigint, "handedOut" text)
      ), rows as (
        insert into cal_tokens.connection (user_ulid, kind, client_id, cal_user_id, pair, refresh_hash,
          access_token_expires_at, version, sessions_after, updated_at, lookups, lookups_code, handed_out_at,
          handed_out_code)
        select g."userUlid", 'ManagedUser', 'platform', g.n, g.envelope, g."refreshHash", 4000000000000,
          nextval('cal_tokens.version'), 0, 0, g.lookups, g.code, g.at, g."handedOut" from given g
      )
      insert into cal_tokens.access_token_lookup (name, user_ulid)
      select g.names::jsonb ->> 0, g."userUlid" from given g`
  }
  yield* sql`analyze cal_tokens.connection`
})

const direct = routes.find(({ isPooled }) => !isPooled) ?? assert.fail("no way to the database")
let database = Redacted.make("")
const capturing = Effect.tap(makeDatabase, (url) => Effect.sync(() => (database = url)))

layer(layerFleet({ route: direct, database: capturing, nodes: 0, speed: 1, databaseTimeout: 30 }), {
  excludeTestServices: true,
  timeout: Duration.seconds(120 * slowness)
})((it) => {
  it.scoped("a hundred thousand rows move to a new key beneath four processes", () =>
    Effect.gen(function* () {
      const { cal, sql, start } = yield* Fleet
      const startWith = (keys: string) =>
        Effect.gen(function* () {
          const scope = yield* Effect.acquireRelease(Scope.make(), (scope) => Scope.close(scope, Exit.void))
          const node = yield* Scope.extend(start({ CAL_TOKENS_ENCRYPTION_KEYS: keys }), scope)
          return { node, end: Effect.zipRight(node.kill("SIGTERM"), node.exit) }
        })
      const connectWith = (node: Node) => (kind: User["kind"]) =>
        Effect.gen(function* () {
          const user = yield* cal.newUser(kind)
          const { accessToken, calUserId, refreshToken } = user
          const accessTokenExpiresAt = new Date().getTime() + Duration.toMillis("20 minutes")
          const body = { kind, calUserId, accessToken, refreshToken, accessTokenExpiresAt }
          all200([yield* node.ask("PUT", `/api/cal/connections/${user.userUlid}`, body)])
          return user
        })

      const before = yield* startWith(old)
      yield* Effect.provideService(fill, SqlClient.SqlClient, sql)
      const connect = (kinds: ReadonlyArray<User["kind"]>) =>
        Effect.forEach(kinds, connectWith(before.node), { concurrency: 8 })
      const busy = yield* connect(Array.from({ length: 120 }, (_, n) => (n % 2 === 0 ? "managed" : "oauth2")))
      const idle = yield* connect(Array.from({ length: 10 }, (_, n) => (n % 2 === 0 ? "managed" : "oauth2")))
      yield* before.end

      const both = `${next},${old}`
      const nodes = yield* Effect.all(
        Array.from({ length: 4 }, () => startWith(both)),
        { concurrency: "unbounded" }
      )
      const refresh = (node: Node, { userUlid }: User) =>
        node.ask("POST", "/api/cal/refresh-token", { userUlid, forceRefresh: true })
      const loads = yield* Effect.forEach(nodes, ({ node }) => Load.start(node, busy, 2, refresh))

      const reencrypt = (...args: ReadonlyArray<string>) =>
        Effect.acquireRelease(
          Effect.sync(() =>
            run(directory, ["dist/program.mjs", "reencrypt", ...args], {
              ...cal.env,
              DATABASE_URL: Redacted.value(database),
              CAL_TOKENS_ENCRYPTION_KEYS: both
            })
          ),
          (program) => Effect.sync(() => program.process.kill("SIGKILL"))
        )
      const ended = (program: Program, code: number) =>
        Effect.map(
          Effect.promise(() => program.exit),
          (exit) => {
            assert.strictEqual(exit, code, program.stdout() + program.stderr())
            return program.stdout()
          }
        )
      const left = Effect.map(
        sql<{ readonly n: number }>`select count(*)::float8 as n from cal_tokens.connection where key_id = 'old'`,
        ([row]) => row?.n ?? 0
      )
      assert.match(yield* ended(yield* reencrypt("--check"), 3), /^old is still needed/m)

      const began = performance.now()
      const killed = yield* reencrypt()
      yield* until(
        "a third is moved",
        Effect.map(left, (n) => n < (count * 2) / 3),
        Duration.seconds(120 * slowness)
      )
      killed.process.kill("SIGKILL")
      yield* Effect.promise(() => killed.exit)
      const rest = yield* left
      assert.isAbove(rest, 0)
      const said = yield* ended(yield* reencrypt(), 0)
      const seconds = (performance.now() - began) / 1000
      assert.match(said, /^old can go from CAL_TOKENS_ENCRYPTION_KEYS\.$/m)
      assert.strictEqual(yield* left, 0)
      for (const load of loads) yield* load.stop
      const answers = loads.flatMap((load) => load.answers)
      const refreshed = answers.filter(({ body }) => body["refreshed"] === true).length
      console.log(
        `${count} rows, killed with ${rest} to go: ${seconds.toFixed(1)} s, beside ${refreshed} refreshes; ` +
          `${availableParallelism()} processors, load ${loadavg()[0]?.toFixed(1) ?? "?"}`
      )
      assert.deepStrictEqual(
        loads.flatMap((load) => load.failures),
        []
      )
      all200(answers)
      // Otherwise they hardly met.
      assert.isAbove(refreshed, 50)

      // Nobody's token was spent twice, and nobody was refreshed because of all this.
      for (const user of busy) {
        const { granted, presented, reissued } = yield* cal.refreshes(user)
        assert.deepStrictEqual([presented, reissued], [granted, 0])
      }
      for (const user of idle) {
        assert.deepStrictEqual(yield* cal.refreshes(user), { presented: 0, granted: 0, reissued: 0 })
      }

      for (const { end } of nodes) yield* end
      const { node } = yield* startWith(next)
      assert.deepStrictEqual((yield* node.ask("GET", "/health/ready")).body["missingKeys"], [])
      all200(yield* Effect.forEach([...busy, ...idle], (user) => ensureToken(node, user), { concurrency: 8 }))
      const everybody = [
        ...Array.from({ length: count }, (_, index) => ulidOf(index + 1)),
        ...[...busy, ...idle].map(({ userUlid }) => userUlid)
      ]
      const held = yield* Effect.provideService(Imported.held(yield* ringOf(next), everybody), SqlClient.SqlClient, sql)
      assert.deepStrictEqual(
        everybody.filter((user) => (held.get(user)?.size ?? 0) === 0),
        []
      )
    })
  )
})
