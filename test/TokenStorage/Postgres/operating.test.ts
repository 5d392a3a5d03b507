/** What `src/TokenStorage/README.md` tells whoever operates the database: privileges, TLS, and what a disconnect erases. */
import { execFile } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { SqlClient } from "@effect/sql"
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer, Option, Redacted } from "effect"
import { generate } from "selfsigned"
import { FlowStorage } from "../../../src/FlowStorage.js"
import * as Lookups from "../../../src/TokenStorage/Lookups.js"
import * as Flows from "../../../src/TokenStorage/Postgres/Flows.js"
import * as Migrations from "../../../src/TokenStorage/Postgres/Migrations.js"
import * as Postgres from "../../../src/TokenStorage/Postgres.js"
import { TokenStorage } from "../../../src/TokenStorage.js"
import { blocks } from "../../support/Document.js"
import { layerKeys } from "../../support/Keys.js"
import { makeDatabase } from "../../support/Postgres.js"
import { makeServer } from "../../support/PostgresServer.js"
import * as Fixture from "../../support/StorageFixture.js"

const document = "src/TokenStorage/README.md"

const connections = (url: string) => Postgres.layerConnection({ url: Redacted.make(url), poolSize: 2 })

/** A process's storages; it migrates first. */
const processAt = (url: string) =>
  Layer.merge(Postgres.layer(), Flows.layer()).pipe(
    Layer.provideMerge(connections(url)),
    Layer.provide(layerKeys()),
    Layer.build,
    Effect.map((context) => ({
      storage: Context.get(context, TokenStorage),
      flows: Context.get(context, FlowStorage),
      sql: Context.get(context, SqlClient.SqlClient)
    }))
  )

/** Runs statements as the user of a URL. */
const run = (url: string, statements: string) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) => sql.unsafe(statements)).pipe(Effect.provide(connections(url)))

/** A user with a row in every table, who has to reconnect. */
const fill = ({ flows, storage }: Effect.Effect.Success<ReturnType<typeof processAt>>) =>
  Effect.gen(function* () {
    const { calUserId, userUlid } = Fixture.newUser()
    const connection = Fixture.managed(calUserId)
    const schedule = { aheadAt: 1, keepAt: 2, usedAt: 3 }
    yield* storage.connect({ userUlid, connection, pair: Fixture.pair("one"), schedule, granted: true })
    yield* storage.claim(Fixture.claimOf(userUlid))
    const lookups = { before: Lookups.granted(Fixture.pair("one")), after: Lookups.granted(Fixture.pair("two")) }
    const committed = yield* storage.commit(Fixture.commitOf(userUlid, connection, { lookups, schedule }))
    assert.strictEqual(committed._tag, "Stored")
    const answer = Redacted.make(new TextEncoder().encode("unreadable"))
    yield* storage.seal({
      ...{ userUlid, spentHash: "spent", operation: "refresh", connection, answer, issuedAt: 5, isWhole: true }
    })
    yield* storage.claim(Fixture.claimOf(userUlid))
    yield* storage.fail({
      userUlid,
      attemptId: "mine",
      failure: Fixture.terminal([Fixture.refreshHash("two"), Fixture.refreshHash("one")]),
      history: Fixture.attempted("two", { end: "terminal" })
    })
    yield* flows.begin("state", { userUlid, clientId: "client", replace: false })
    return userUlid
  })

const tablesOf = (sql: SqlClient.SqlClient) =>
  Effect.map(
    sql<{ name: string }>`
      select table_name::text as name from information_schema.tables
      where table_schema = 'cal_tokens' and table_name <> 'migrations' order by 1`,
    (rows) => rows.map(({ name }) => name)
  )

/** The tables in which a user is named. */
const naming = (sql: SqlClient.SqlClient, userUlid: string) =>
  Effect.flatMap(tablesOf(sql), (tables) =>
    Effect.filter(tables, (table) =>
      Effect.map(
        sql.unsafe(`select 1 from cal_tokens.${table} t where t::text like '%${userUlid}%'`),
        (rows) => rows.length > 0
      )
    )
  )

describe("a disconnect", () => {
  const table = Fs.readFileSync(new URL(`../../../${document}`, import.meta.url), "utf8")
  const told = Array.from(table.matchAll(/^\| `(\w+)` \|.*\| (gone|stays)\b.* \|$/gm), ([, name = "", fate = ""]) => ({
    name,
    fate
  }))
  const names = (fate: string) => told.filter((row) => row.fate === fate).map(({ name }) => name)

  it.scopedLive("erases what it is said to, and leaves the rest", () =>
    Effect.gen(function* () {
      const process = yield* processAt(Redacted.value(yield* makeDatabase))
      const { sql, storage } = process
      // What is wrong with a client is about nobody.
      assert.sameMembers(
        told.map(({ name }) => name),
        (yield* tablesOf(sql)).filter((name) => name !== "client")
      )
      const userUlid = yield* fill(process)
      // A flow names nobody in clear.
      const named = told.map(({ name }) => name).filter((name) => name !== "connect_flow")
      assert.sameMembers(yield* naming(sql, userUlid), named)
      assert.isTrue(yield* storage.disconnect(userUlid))
      assert.sameMembers([...(yield* naming(sql, userUlid)), "connect_flow"], names("stays"))
      assert.lengthOf(yield* sql`select from cal_tokens.connect_flow`, 1)
    })
  )
})

describe("privileges", () => {
  /** A database, its roles as a block has them, and their URLs. */
  const prepare = (script: string) =>
    Effect.gen(function* () {
      let admin = ""
      const roles = new Set<string>()
      // Once the database is gone, which they have rights in.
      yield* Effect.addFinalizer(() =>
        Effect.orDie(Effect.forEach(roles, (role) => run(admin, `drop role if exists ${role}`), { discard: true }))
      )
      const url = new URL(Redacted.value(yield* makeDatabase))
      const name = url.pathname.slice(1)
      const other = new URL(url)
      other.pathname = "/postgres"
      admin = other.href
      const ours = (text: string) =>
        text
          .replaceAll("database app", `database ${name}`)
          .replace(/\b(?<!schema )cal_tokens(_owner|_service)?\b/g, (_, role = "") => {
            const own = `${name}${role}`
            roles.add(own)
            return own
          })
      yield* run(url.href, ours(script))
      return {
        ours,
        as: (role: string) => {
          const own = new URL(url)
          own.username = `${name}${role}`
          own.password = "change-me"
          return own.href
        }
      }
    })

  const [single = "", roles = "", grants = ""] = blocks(document, "## Privileges", "sql")

  it.scopedLive("of one role are enough to migrate and to work", () =>
    Effect.gen(function* () {
      const { as } = yield* prepare(single)
      yield* fill(yield* processAt(as("")))
    })
  )

  it.scopedLive("of two are enough for each, for a later release too, and not for more", () =>
    Effect.gen(function* () {
      const { as, ours } = yield* prepare(roles)
      const [owner, service] = [as("_owner"), as("_service")]
      const early = yield* Effect.flip(processAt(service))
      assert.match(early.message, /permission denied for database \w+ \(SQLSTATE 42501\)/)

      yield* Effect.scoped(processAt(owner))
      yield* run(owner, ours(grants))
      const process = yield* processAt(service)
      const userUlid = yield* fill(process)
      yield* process.storage.ping
      assert.isTrue(Option.isSome(yield* process.storage.find(userUlid)))

      const later = {
        ...Migrations.migrations,
        "9999_later": Effect.flatMap(
          SqlClient.SqlClient,
          (sql) => sql`create table cal_tokens.later (id bigint generated always as identity, note text)`
        )
      }
      const refused = yield* Effect.flip(Effect.provide(Migrations.apply(later), connections(service)))
      assert.match(refused.message, /permission denied for schema cal_tokens/)
      yield* Effect.provide(Migrations.apply(later), connections(owner))
      yield* run(service, "insert into cal_tokens.later (note) values ('by the service')")
      assert.isTrue(yield* process.storage.disconnect(userUlid))
    })
  )
})

const asking = `
  import { Client } from "pg"
  const client = new Client({ connectionString: process.env.URL })
  await client.connect()
  const { rows } = await client.query("select ssl from pg_stat_ssl where pid = pg_backend_pid()")
  console.log(rows[0].ssl)
  await client.end()`

describe("TLS", () => {
  it.scopedLive("is checked as the page says, and a failure says what is missing", () =>
    Effect.gen(function* () {
      const extensions = [
        { name: "basicConstraints" as const, cA: true },
        { name: "subjectAltName" as const, altNames: [{ type: 2 as const, value: "localhost" }] }
      ]
      const { cert, private: key } = yield* Effect.promise(() =>
        generate([{ name: "commonName", value: "localhost" }], { keyType: "ec", algorithm: "sha256", extensions })
      )
      const directory = yield* Effect.acquireRelease(
        Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "cal-tokens-tls-"))),
        (path) => Effect.sync(() => Fs.rmSync(path, { recursive: true }))
      )
      const authority = Path.join(directory, "ca.pem")
      Fs.writeFileSync(authority, cert)
      const server = yield* Effect.acquireRelease(
        Effect.promise(() => makeServer({ cert, key })),
        (server) => Effect.promise(() => server.remove())
      )
      const at = (host: string, query: string) => {
        const url = new URL(server.url)
        url.hostname = host
        return `${url.href}?${query}`
      }
      /** Whether the session is encrypted, or why there is none. */
      const outcome = (url: string) =>
        Effect.flatMap(
          SqlClient.SqlClient,
          (sql) => sql<{ ssl: boolean }>`select ssl from pg_stat_ssl where pid = pg_backend_pid()`
        ).pipe(
          Effect.provide(connections(url)),
          Effect.match({ onFailure: ({ message }) => message, onSuccess: ([row]) => row?.ssl })
        )
      const trusted = `sslrootcert=${authority}`
      assert.isTrue(yield* outcome(at("localhost", `sslmode=verify-full&${trusted}`)))
      assert.isTrue(yield* outcome(at("localhost", `sslmode=require&${trusted}`)))
      assert.isTrue(yield* outcome(at("127.0.0.1", "sslmode=no-verify")))
      assert.isFalse(yield* outcome(at("127.0.0.1", "sslmode=disable")))
      // A process of its own, for Node reads that when it starts.
      const told = yield* Effect.promise(() =>
        promisify(execFile)(process.execPath, ["--input-type=module", "-e", asking], {
          cwd: fileURLToPath(new URL("../../..", import.meta.url)),
          env: { URL: at("localhost", "sslmode=verify-full"), NODE_EXTRA_CA_CERTS: authority }
        })
      )
      assert.strictEqual(told.stdout, "true\n")
      for (const mode of ["verify-full", "require"]) {
        assert.match(String(yield* outcome(at("localhost", `sslmode=${mode}`))), /self[- ]signed|SELF_SIGNED/i)
        assert.match(String(yield* outcome(at("127.0.0.1", `sslmode=${mode}&${trusted}`))), /ALTNAME|does not match/)
      }
    })
  )
})
