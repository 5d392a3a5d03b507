/**
 * `cal-tokens doctor` and `cal-tokens reencrypt` as they are run: processes, a real PostgreSQL, the simulated Cal.com on a port,
 * and each thing wrong once.
 */
import { spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import { PgClient } from "@effect/sql-pg"
import { Effect, Layer, Redacted, Ref, Schema, type Scope, Struct } from "effect"
import { afterAll, assert, beforeAll, describe, it, vi } from "vitest"
import { Report } from "../../src/Cli/Doctor.js"
import { judgeSecondSystem } from "../../src/Cli/Doctor/Users.js"
import { variables } from "../../src/Environment/AtSandbox.js"
import * as Sandbox from "../../src/Sandbox.js"
import { TokenStorage } from "../../src/TokenStorage.js"
import * as Postgres from "../../src/TokenStorage/Postgres.js"
import { keyOf, layerKeys } from "../support/Keys.js"
import * as PgBouncer from "../support/PgBouncer.js"
import { makeDatabase } from "../support/Postgres.js"
import * as Fixture from "../support/StorageFixture.js"
import { build, run } from "./Program.js"

/** Loading the program takes a second or two of processor time, of which a busy machine has few. */
vi.setConfig({ testTimeout: 300_000, hookTimeout: 300_000 })

let directory: string
beforeAll(() => {
  directory = build()
})
afterAll(() => Fs.rmSync(directory, { recursive: true }))

const [k1, k2, otherK1] = [keyOf("k1", 1), keyOf("k2", 2), keyOf("k1", 3)]
const managed = { clientId: "platform", clientSecret: Redacted.make("hidden-of-the-platform-client") }
const oauth2 = {
  clientId: "oauth",
  clientSecret: Redacted.make("hidden-of-the-oauth2-client"),
  redirectUris: ["https://app.example.com/callback"],
  scopes: ["PROFILE_READ", "BOOKING_READ"]
}

interface World {
  readonly env: Readonly<Record<string, string>>
  readonly database: Redacted.Redacted
  readonly storage: TokenStorage["Type"]
  readonly sql: PgClient.PgClient
  readonly cal: Sandbox.Sandbox["Type"]
}

/** A database with a schema and two users, and Cal.com; whatever is printed there holds no secret. */
const makeWorld: Effect.Effect<World, unknown, Scope.Scope> = Effect.gen(function* () {
  const database = yield* makeDatabase
  const context = yield* Layer.build(
    Layer.provideMerge(Postgres.layer(), Layer.merge(Postgres.layerConnection({ url: database }), layerKeys(k1)))
  )
  const storage = yield* Effect.provide(TokenStorage, context)
  const sql = yield* Effect.provide(PgClient.PgClient, yield* Layer.build(PgClient.layer({ url: database })))
  const cal = yield* Sandbox.make({ managed, oauth2 })
  const url = yield* Effect.provideService(Sandbox.listen({ host: "127.0.0.1", port: 0 }), Sandbox.Sandbox, cal)
  for (const { calUserId, userUlid } of [Fixture.newUser(), Fixture.newUser()]) {
    yield* storage.connect({ userUlid, connection: Fixture.managed(calUserId), pair: Fixture.pair(userUlid) })
  }
  const env = {
    ...variables(url, managed, oauth2),
    DATABASE_URL: Redacted.value(database),
    CAL_TOKENS_ENCRYPTION_KEYS: k1,
    CAL_TOKENS_API_KEYS: "app:hidden-api-key-of-at-least-32-characters",
    CAL_TOKENS_RETURN_URLS: "https://app.example.com/",
    CAL_TOKENS_WEBHOOK_URL: "http://127.0.0.1:9/hidden-hook",
    CAL_TOKENS_WEBHOOK_SECRET: `whsec_${Buffer.alloc(32, "hidden").toString("base64")}`
  }
  return { env, database, storage, sql, cal }
})

const inWorld = (body: (world: World) => Effect.Effect<void, unknown, Scope.Scope>) =>
  makeWorld.pipe(Effect.flatMap(body), Effect.scoped, Effect.runPromise)

const secrets = [
  "hidden",
  ...[k1, k2, otherK1].map((key) => key.slice(3)),
  Buffer.alloc(32, "hidden").toString("base64"),
  "access-01",
  "refresh-01"
]

interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

const program = (args: ReadonlyArray<string>, env: Readonly<Record<string, string>>): Effect.Effect<Ended> =>
  Effect.promise(async () => {
    const started = run(directory, ["dist/program.mjs", ...args], env)
    const code = await started.exit
    const ended = { code, stdout: started.stdout(), stderr: started.stderr() }
    for (const secret of secrets) assert.notInclude(ended.stdout + ended.stderr, secret)
    return ended
  })

const decode = Schema.decodeUnknownSync(Schema.parseJson(Report), { onExcessProperty: "error" })

/** What is not well, a line each; every user's ULID is a U. */
const examine = (env: Readonly<Record<string, string>>) =>
  Effect.map(program(["doctor", "--json"], env), ({ code, stderr, stdout }) => {
    assert.strictEqual(stderr, "")
    const report = decode(stdout)
    const isWrong = report.findings.some(({ level }) => level === "wrong")
    assert.deepStrictEqual([code, report.ok], [isWrong ? 1 : 0, !isWrong])
    for (const { advice, level } of report.findings) assert.strictEqual(advice === undefined, level === "ok")
    // So is the server of the tests, for it holds nothing that anybody misses.
    const bad = report.findings.filter(({ level, message }) => level !== "ok" && !message.startsWith("fsync is off"))
    return {
      ok: report.findings.flatMap(({ check, level }) => (level === "ok" ? [check] : [])),
      bad: bad.map(({ check, level, message }) => `${level} ${check}: ${message.replace(/\b01\d{24}\b/g, "U")}`)
    }
  })

const matches = (lines: ReadonlyArray<string>, expected: ReadonlyArray<RegExp>) => {
  assert.strictEqual(lines.length, expected.length, lines.join("\n"))
  expected.forEach((pattern) =>
    assert.isTrue(
      lines.some((line) => pattern.test(line)),
      `${String(pattern)} in\n${lines.join("\n")}`
    )
  )
}

const checks = [
  ...["configuration", "database", "clock of the database", "TLS", "pooler", "schema", "privileges", "encryption keys"],
  ...["rows", "circuits", "sealed answers", "users", "a second system"],
  ...["platform client platform", "OAuth2 client oauth", "OAuth2 client oauth", "clock of Cal.com", "rate limit"]
]

describe("cal-tokens doctor", () => {
  it("finds nothing where nothing is wrong, in a pipe and on a terminal, and spends nothing for it", () =>
    inWorld(({ cal, env }) =>
      Effect.gen(function* () {
        assert.deepStrictEqual(yield* examine(env), { ok: checks, bad: [] })
        const calls = yield* cal.calls
        assert.lengthOf(
          calls.filter(({ status }) => status < 400),
          0
        )
        const { code, stdout } = yield* program(["doctor"], env)
        assert.strictEqual(code, 0)
        assert.match(
          stdout,
          /^((ok {7}|warning  )[^:\n]+: [^\n]+\n){18,19}\n18 ok, (?:0 warnings|1 warning), 0 wrong\n$/
        )
        assert.notInclude(stdout, "\x1b")
        const command = `${process.execPath} dist/program.mjs doctor`
        const onTerminal = spawnSync("script", ["-qec", command, "/dev/null"], {
          cwd: directory,
          env: {
            PATH: process.env["PATH"] ?? "",
            TERM: "xterm-256color",
            ...env,
            DATABASE_URL: "postgres://127.0.0.1:1/x"
          },
          encoding: "utf8"
        })
        assert.strictEqual(onTerminal.status, 1)
        assert.include(onTerminal.stdout, "\x1b[32mok     \x1b[39m  configuration: ")
        assert.include(onTerminal.stdout, "\x1b[31mwrong  \x1b[39m  database: ")
      })
    ))

  it("looks at everything else, whatever is wrong", () =>
    inWorld(({ env }) =>
      Effect.gen(function* () {
        const others = Struct.omit(env, "CAL_TOKENS_API_KEYS")
        const settings = yield* examine({ ...others, CAL_TOKENS_ENCRYPTION_KEY: "x", CAL_TOKENS_RETURN_URLS: "" })
        matches(settings.bad, [
          /^wrong configuration: CAL_TOKENS_API_KEYS is required with a Cal.com client/,
          /^warning configuration: CAL_TOKENS_ENCRYPTION_KEY is not known and has no effect: is CAL_TOKENS_ENCRYPTION_KEYS meant\?$/
        ])
        assert.includeMembers([...settings.ok], ["database", "rows", "platform client platform", "OAuth2 client oauth"])

        const keys = yield* examine({ ...env, CAL_TOKENS_ENCRYPTION_KEYS: "k1:hidden" })
        matches(keys.bad, [
          /^wrong configuration: CAL_TOKENS_ENCRYPTION_KEYS entry 1 is not base64/,
          /^wrong encryption keys: This could not be looked at: they cannot be used\.$/,
          /^wrong rows: This could not be looked at: they cannot be used\.$/,
          /^warning Cal\.com: It was not asked: the settings are wrong\.$/
        ])

        const away = yield* examine({
          ...env,
          DATABASE_URL: "postgres://user:hidden@127.0.0.1:1/x",
          CAL_API_URL: "http://127.0.0.1:1/v2"
        })
        matches(away.bad, [
          /^wrong database: PostgreSQL cannot be reached: connect ECONNREFUSED 127\.0\.0\.1:1\.$/,
          /^wrong platform client platform: Cal\.com cannot be reached: connection refused\.$/,
          /^wrong OAuth2 client oauth: Cal\.com cannot be reached: connection refused\.$/
        ])
      })
    ))

  it("tells of a client which of id, secret, URL and redirect is wrong", () =>
    inWorld(({ cal, env }) =>
      Effect.gen(function* () {
        const ids = yield* examine({ ...env, CAL_CLIENT_ID: "nobody", CAL_OAUTH_CLIENT_ID: "nobody" })
        matches(ids.bad, [
          /^wrong platform client nobody: Cal\.com does not know this id\.$/,
          /^wrong OAuth2 client nobody: Cal\.com does not know this id\.$/
        ])
        yield* Ref.update(cal.switches, (switches) => ({ ...switches, clockSkewMillis: 3_600_000 }))
        const told = yield* examine({
          ...env,
          CAL_CLIENT_SECRET: "hidden-that-is-wrong",
          CAL_OAUTH_CLIENT_SECRET: `${Redacted.value(oauth2.clientSecret)},hidden-that-is-wrong`,
          CAL_OAUTH_REDIRECT_URL: "https://app.example.com/other",
          CAL_OAUTH_SCOPES: "BOOKING_READ BOOKING_WRITE"
        })
        matches(told.bad, [
          /^wrong platform client platform: Cal\.com refuses its secret\.$/,
          /^wrong OAuth2 client oauth: Cal\.com refuses its second secret\.$/,
          /^wrong OAuth2 client oauth: Cal\.com has another redirect URL for it/,
          /^warning OAuth2 client oauth: BOOKING_READ is asked for beside the WRITE/,
          /^warning clock of Cal\.com: It is 3[56]\d\d s ahead of the clock of this machine\.$/
        ])
        yield* Ref.update(cal.switches, (switches) => ({
          ...switches,
          clockSkewMillis: 0,
          rateLimits: { ...switches.rateLimits, client: 4 }
        }))
        // It counts a minute: what was asked above, and the three questions of each look.
        yield* examine(env)
        matches((yield* examine(env)).bad, [
          /^warning OAuth2 client oauth: Cal\.com's rate limit is used up, so it could not be asked\.$/,
          /^warning rate limit: 0 of 4 calls of this minute are left\.$/
        ])
      })
    ))

  it("tells what the database does not let the service do, and what rows show", () =>
    inWorld(({ database, env, sql }) =>
      Effect.gen(function* () {
        const elsewhere = yield* examine({
          ...env,
          CAL_API_URL: (env["CAL_API_URL"] ?? "").replace("/v2", "/v9"),
          CAL_TOKENS_ENCRYPTION_KEYS: `${k2},${k1}`
        })
        matches(elsewhere.bad, [
          /^wrong platform client platform: Whoever answers at CAL_API_URL \(404\) is not Cal\.com's API\.$/,
          /^wrong OAuth2 client oauth: Whoever answers at CAL_API_URL \(404\) is not Cal\.com's API\.$/,
          /^warning encryption keys: Rows are still under older keys: k1 \(2 rows\)\.$/
        ])
        const altered = yield* examine({ ...env, CAL_TOKENS_ENCRYPTION_KEYS: otherK1 })
        matches(altered.bad, [
          /^wrong rows: Rows were altered, or are under another key of the same id, and do not open: U, U\.$/
        ])

        yield* sql`insert into cal_tokens.client (client_id, fingerprint, cause, reason, opened_at)
          values ('platform', 'f', 'drift', 'no pair in it', 1)`
        yield* sql`insert into cal_tokens.sealed_answer (user_ulid, spent_hash, answer_hash, client_id, at, envelope)
          select user_ulid, 's', 'a', 'platform', 1, 'v1.k1.x' from cal_tokens.connection limit 1`
        yield* sql`update cal_tokens.connection set status = 'reauthorization_required', cause = 'revoked', since = 5000,
          imported_at = 1000 where user_ulid = (select min(user_ulid) from cal_tokens.connection)`
        yield* sql`update cal_tokens.migrations set migration_id = migration_id - 1`
        const role = `role_${Redacted.value(database).slice(-16)}`
        const [name] = yield* sql<{ readonly name: string }>`select current_database() as name`
        yield* sql.unsafe(`create role ${role} login password 'hidden'`)
        yield* sql.unsafe(`grant usage on schema cal_tokens to ${role}`)
        yield* sql.unsafe(`grant all on all tables in schema cal_tokens to ${role}`)
        yield* sql.unsafe(`revoke delete on cal_tokens.connection from ${role}`)
        yield* sql.unsafe(`grant all on all sequences in schema cal_tokens to ${role}`)
        yield* Effect.addFinalizer(() => Effect.orDie(sql.unsafe(`drop owned by ${role}; drop role ${role}`)))
        const as = new URL(Redacted.value(database))
        as.username = role
        as.password = "hidden"
        const rows = yield* examine({ ...env, DATABASE_URL: as.href, CAL_TOKENS_ENCRYPTION_KEYS: k2 })
        matches(rows.bad, [
          /^warning schema: It is that of an older release \(0 of 1\)\.$/,
          /^wrong privileges: The database's user lacks delete on connection\.$/,
          /^wrong encryption keys: Rows need keys that are not configured: k1 \(3 rows\)\.$/,
          /^wrong circuits: Refreshes of client platform are held: no pair in it\.$/,
          /^warning sealed answers: 1 answer of Cal\.com that nobody could read, of 1 user; /,
          /^warning users: 1 user has to reconnect: 1 revoked \(revoked at Cal\.com, or spent elsewhere\)\.$/,
          /^wrong a second system: 1 user was lost within a day of being imported: another system still refreshes them \(U\)\.$/
        ])
        yield* sql.unsafe(`alter database ${name?.name ?? ""} set default_transaction_read_only = on`)
        const reading = yield* examine(env)
        assert.include(reading.bad.join("\n"), "wrong database: PostgreSQL")
        assert.match(reading.bad.join("\n"), /^wrong database: PostgreSQL \d+ only reads\.$/m)
      })
    ))

  it.skipIf(!PgBouncer.isInstalled)("knows a pooler, and its mode", () =>
    inWorld(({ database, env }) =>
      Effect.gen(function* () {
        const pooled = yield* PgBouncer.through(database)
        const { stdout } = yield* program(["doctor"], { ...env, DATABASE_URL: Redacted.value(pooled) })
        assert.match(stdout, /^ok {7}pooler: DATABASE_URL leads to a pooler in transaction mode/m)
      })
    )
  )
})

describe("a second system", () => {
  const judged = (revoked: number, refreshed: number, imported: ReadonlyArray<string> = []) =>
    judgeSecondSystem({ imported, revoked, refreshed }).level

  it("shows by users lost soon after an import, or by many who were refused within a day", () => {
    assert.deepStrictEqual(
      [judged(0, 0), judged(4, 0), judged(5, 0), judged(5, 249), judged(5, 250), judged(50, 2499), judged(0, 9, ["U"])],
      ["ok", "ok", "warning", "warning", "ok", "warning", "wrong"]
    )
  })
})

describe("cal-tokens reencrypt", () => {
  it("seals everything anew, and says which keys can go", () =>
    inWorld(({ env, sql }) =>
      Effect.gen(function* () {
        const both = { ...env, CAL_TOKENS_ENCRYPTION_KEYS: `${k2},${k1}` }
        const before = yield* program(["reencrypt", "--check"], both)
        assert.deepStrictEqual([before.code, before.stderr], [3, ""])
        assert.match(before.stdout, /^k1 +2 +0 +0 +0 +0$/m)
        assert.match(before.stdout, /^k1 is still needed: run cal-tokens reencrypt/m)
        const done = yield* program(["reencrypt"], both)
        assert.deepStrictEqual([done.code, done.stderr], [0, ""])
        assert.match(done.stdout, /^2 of 2 rows were sealed anew, in \d+ s\.$/m)
        assert.match(done.stdout, /^k1 can go from CAL_TOKENS_ENCRYPTION_KEYS\.$/m)
        const after = yield* program(["reencrypt", "--check"], { ...env, CAL_TOKENS_ENCRYPTION_KEYS: k2 })
        assert.strictEqual(after.code, 0)
        assert.match(after.stdout, /^k2 alone is in use\.$/m)
        const lost = yield* program(["reencrypt"], { ...env, CAL_TOKENS_ENCRYPTION_KEYS: keyOf("k3", 9) })
        assert.strictEqual(lost.code, 3)
        assert.match(lost.stdout, /^2 cannot be opened/m)
        assert.match(lost.stdout, /^k2 is not configured: /m)
        const left = yield* sql<{ readonly key_id: string }>`select distinct key_id from cal_tokens.connection`
        assert.deepStrictEqual(left, [{ key_id: "k2" }])
      })
    ))
})
