/** `cal-tokens import` as it is run: processes, files and pipes, a real PostgreSQL, and the simulated Cal.com. */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { Effect, Redacted } from "effect"
import { Client, type QueryResultRow } from "pg"
import { afterAll, assert, beforeAll, describe, it, vi } from "vitest"
import * as Describing from "../../src/Cli/Describing.js"
import * as Import from "../../src/Cli/Import.js"
import { makeDatabase } from "../support/Postgres.js"
import { build, exported, type Program, run } from "./Program.js"

/** Loading the program takes a few seconds of processor time, of which a busy machine has few. */
vi.setConfig({ testTimeout: 300_000, hookTimeout: 300_000 })

let directory: string
beforeAll(() => {
  directory = build()
})
afterAll(() => Fs.rmSync(directory, { recursive: true }))

const key = "SECRET-api-key-of-at-least-32-characters"

interface World {
  readonly url: string
  readonly env: Record<string, string>
  readonly query: <Row extends QueryResultRow>(text: string) => Promise<ReadonlyArray<Row>>
  /** A path of its own, with a text. */
  readonly file: (name: string, text?: string) => string
  /** In a directory of its own. */
  readonly start: (args: ReadonlyArray<string>, env?: Record<string, string>) => Program
}

let worlds = 0

/** A database of its own, a directory of its own. */
const inWorld = (body: (world: World) => Promise<void>) =>
  makeDatabase.pipe(
    Effect.map(Redacted.value),
    Effect.flatMap((url) =>
      Effect.promise(async () => {
        const home = Path.join(directory, `world-${worlds++}`)
        Fs.mkdirSync(home)
        const client = new Client({ connectionString: url })
        await client.connect()
        const env = {
          DATABASE_URL: url,
          CAL_CLIENT_ID: "client",
          CAL_CLIENT_SECRET: "SECRET-of-the-client",
          CAL_TOKENS_ENCRYPTION_KEYS: `k1:${Buffer.from("an encryption key of 32 bytes x.").toString("base64")}`
        }
        const file = (name: string, text?: string) => {
          const path = Path.join(home, name)
          if (text !== undefined) Fs.writeFileSync(path, text)
          return path
        }
        try {
          await body({
            url,
            env,
            file,
            query: async <Row extends QueryResultRow>(text: string) => (await client.query<Row>(text)).rows,
            start: (args, more = {}) =>
              run(home, [Path.join(directory, "dist/program.mjs"), "import", ...args], { ...env, ...more })
          })
        } finally {
          await client.end()
        }
      })
    ),
    Effect.scoped,
    Effect.runPromise
  )

const userOf = (n: number) => `01${String(n).padStart(24, "0")}`

/** In an hour, whenever this runs. */
const expiry = new Date(new Date().getTime() + 3_600_000)

const rowOf = (n: number, changed: object = {}) => ({
  userUlid: userOf(n),
  calManagedUserId: n,
  calAccessToken: `SECRET-access-${n}`,
  calRefreshToken: `SECRET-refresh-${n}`,
  calAccessTokenExpiresAt: expiry.toISOString(),
  ...changed
})

const jsonLines = (rows: ReadonlyArray<object>) => rows.map((row) => `${JSON.stringify(row)}\n`).join("")

const csv = (rows: ReadonlyArray<ReturnType<typeof rowOf>>) =>
  [Object.keys(rowOf(0)), ...rows.map((row) => Object.values(row))].map((values) => `${values.join(",")}\n`).join("")

const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, index) => from + index)

/** The numbers of a summary, by their names. */
const countsOf = ({ stdout }: Program) =>
  Object.fromEntries(
    Array.from(stdout().matchAll(/^ {2}([a-z ]+?) +([\d,]+)(?: |$)/gm), ([, name = "", count = ""]) => [
      name,
      Number(count.replaceAll(",", ""))
    ])
  )

const none = { imported: 0, updated: 0, unchanged: 0, "refreshed here": 0, rejected: 0 }

const ended = async (program: Program, code: number) => {
  assert.strictEqual(await program.exit, code, program.stdout() + program.stderr())
  assert.notMatch(program.stdout() + program.stderr(), /SECRET/)
  return countsOf(program)
}

const stored = (world: World) =>
  world.query<{ readonly user_ulid: string; readonly cal_user_id: string }>(
    "select user_ulid, cal_user_id from cal_tokens.connection order by user_ulid"
  )

describe("a file", () => {
  it("of CSV is imported row by row, which may be repeated, and tells what was rejected without a token", () =>
    inWorld(async (world) => {
      const rows = [
        rowOf(1),
        rowOf(2, { calAccessToken: "SECRET with spaces" }),
        rowOf(3, { calManagedUserId: "", calAccessToken: "", calRefreshToken: "", calAccessTokenExpiresAt: "" }),
        rowOf(4),
        rowOf(5, { userUlid: "SECRET-access-5" }),
        rowOf(6, { calManagedUserId: 4 })
      ]
      const path = world.file("users.csv", csv(rows))
      const program = world.start(["--from-csv", path])
      assert.deepStrictEqual(await ended(program, 3), { ...none, imported: 2, rejected: 3, "not connected": 1 })
      assert.match(program.stdout(), /^6 rows, in \d+ s \([\d,]+ a second\)\.\n/)
      assert.match(program.stdout(), /^ {2}rejected +3 {2}import-rejected\.jsonl says why$/m)
      assert.strictEqual(program.stderr(), "")
      assert.deepStrictEqual(await stored(world), [
        { user_ulid: userOf(1), cal_user_id: "1" },
        { user_ulid: userOf(4), cal_user_id: "4" }
      ])
      const rejected = Fs.readFileSync(world.file("import-rejected.jsonl"), "utf8")
      assert.deepStrictEqual(
        rejected
          .trim()
          .split("\n")
          .map((line) => JSON.parse(line) as object),
        [
          {
            line: 3,
            user: userOf(2),
            reason: "calAccessToken must be a token of 1 to 8192 printable characters without spaces"
          },
          { line: 6, reason: rejectedId },
          {
            line: 7,
            user: userOf(6),
            reason: `The Cal.com account offered for user ${userOf(6)} is already connected to another user: disconnect it there first.`
          }
        ]
      )
      assert.notInclude(rejected, "SECRET")
      assert.strictEqual(Fs.statSync(world.file("import-rejected.jsonl")).mode & 0o777, 0o600)
      assert.deepStrictEqual(Fs.readdirSync(world.file("")).sort(), ["import-rejected.jsonl", "users.csv"])

      // The other system has refreshed one of them meanwhile, and the rest was repaired.
      const newer = rowOf(1, { calRefreshToken: "SECRET-newer", calAccessTokenExpiresAt: later })
      world.file("users.csv", csv([newer, rowOf(4)]))
      assert.deepStrictEqual(await ended(world.start(["--from-csv", path]), 0), { ...none, updated: 1, unchanged: 1 })
      assert.deepStrictEqual(Fs.readdirSync(world.file("")), ["users.csv"])
    }))

  it("of JSON lines comes through a pipe, with columns of other names, for OAuth2", () =>
    inWorld(async (world) => {
      const rows = [
        {
          id: userOf(1),
          access: "SECRET-access",
          refresh: "SECRET-refresh",
          expires: Math.round(expiry.getTime() / 1000)
        },
        { id: userOf(2), cal: 2, access: "SECRET-access-2", refresh: "SECRET-refresh-2", expires: expiry.getTime() }
      ]
      const columns = {
        user: "id",
        "cal-user": "cal",
        "access-token": "access",
        "refresh-token": "refresh",
        expiry: "expires"
      }
      const program = run(
        world.file(""),
        [
          ...[
            "--norc",
            "-c",
            `cat users.jsonl | ${process.execPath} ${directory}/dist/program.mjs import "$@"`,
            "bash"
          ],
          ...["--from-jsonl", "-", "--kind", "oauth2"],
          ...Object.entries(columns).flatMap(([name, column]) => [`--column-${name}`, column])
        ],
        { ...world.env, CAL_OAUTH_CLIENT_ID: "oauth", CAL_OAUTH_REDIRECT_URL: "http://localhost/callback" },
        world.file("users.jsonl", jsonLines(rows)) && "bash"
      )
      assert.deepStrictEqual(await ended(program, 0), { ...none, imported: 2 })
      assert.deepStrictEqual(
        await world.query(
          "select kind, client_id, access_token_expires_at::float8 / 1000 as at from cal_tokens.connection order by user_ulid"
        ),
        [
          { kind: "OAuth2", client_id: "oauth", at: Math.round(expiry.getTime() / 1000) },
          { kind: "OAuth2", client_id: "oauth", at: expiry.getTime() / 1000 }
        ]
      )
    }))

  it("is looked at by a dry run, which says what would happen and does nothing", () =>
    inWorld(async (world) => {
      const rows = range(1, 1200).map((n) => rowOf(n))
      const path = world.file("users.jsonl", jsonLines([...rows, rowOf(1201, { calAccessToken: "SECRET SECRET" })]))
      const first = world.start(["--from-jsonl", path, "--dry-run"])
      const foretold = { new: 0, changed: 0, unchanged: 0, "refreshed here": 0, rejected: 1 }
      assert.deepStrictEqual(await ended(first, 3), { ...foretold, new: 1200 })
      assert.match(first.stdout(), / Nothing was written\.\n/)
      const named = new RegExp(
        `^1 rejected: calAccessToken must be a token [^\\n]*\\nThese are:\\n- line 1,201, user ${userOf(1201)}\\n`,
        "m"
      )
      assert.match(first.stdout(), named)
      assert.deepStrictEqual(await world.query("select 1 from pg_namespace where nspname = 'cal_tokens'"), [])
      assert.deepStrictEqual(Fs.readdirSync(world.file("")), ["users.jsonl"])

      await ended(world.start(["--from-jsonl", world.file("some.jsonl", jsonLines(rows.slice(0, 100)))]), 0)
      // What a refresh here leaves behind.
      await world.query(`update cal_tokens.connection set imported_hash = null where user_ulid <= '${userOf(30)}'`)
      const sooner = new Date(expiry.getTime() - 60_000).toISOString()
      const next = rows.map((row, index) => {
        if (index < 50) return { ...row, calRefreshToken: `SECRET-newer-${index}` }
        // Of a backup of the other system, say.
        return index < 60 ? { ...row, calRefreshToken: `SECRET-older-${index}`, calAccessTokenExpiresAt: sooner } : row
      })
      const again = [...next, rowOf(1202, { calManagedUserId: 1 }), rowOf(60, { calManagedUserId: 2000 })]
      world.file("users.jsonl", jsonLines(again))
      const before = await world.query("select * from cal_tokens.connection order by user_ulid")
      assert.deepStrictEqual(await ended(world.start(["--from-jsonl", path, "--dry-run"]), 3), {
        ...foretold,
        new: 1100,
        changed: 20,
        unchanged: 50,
        "refreshed here": 30,
        rejected: 2
      })
      assert.deepStrictEqual(await world.query("select * from cal_tokens.connection order by user_ulid"), before)
      assert.deepStrictEqual(await ended(world.start(["--from-jsonl", path]), 3), {
        imported: 1100,
        updated: 20,
        unchanged: 50,
        "refreshed here": 30,
        rejected: 2
      })
    }))
})

const later = new Date(expiry.getTime() + 1000).toISOString()

const rejectedId =
  "userUlid must be a ULID, 26 characters such as 01ARZ3NDEKTSV4RRFFQ69G5FAV, or a UUID. Users with other ids (numbers, " +
  "e-mail addresses, cuids) need one of either beside it, or one made of it (UUID version 5)"

describe("a table", () => {
  /** The original one, with so many users. */
  const fill = (
    world: World,
    table: string,
    count: number,
    type = "timestamptz",
    value = `'${expiry.toISOString()}'`
  ) =>
    world.query(`
      create table ${table} ("userUlid" text, "calManagedUserId" integer, "calAccessToken" text,
        "calRefreshToken" text, "calAccessTokenExpiresAt" ${type});
      insert into ${table} select '01' || lpad(n::text, 24, '0'), n, 'SECRET-access-' || n, 'SECRET-refresh-' || n,
        ${value} from generate_series(1, ${count}) n`)

  it("of any size is read page by page, also where users come twice or have no id", () =>
    inWorld(async (world) => {
      await fill(world, '"public"."User"', 4500)
      await world.query(`
        insert into "User" select "userUlid", "calManagedUserId", "calAccessToken", 'SECRET-other', "calAccessTokenExpiresAt"
          - interval '1 hour' from "User" where "userUlid" in ('${userOf(2000)}', '${userOf(4500)}');
        insert into "User" values (null, 9999, 'SECRET-access', 'SECRET-refresh', now())`)
      const program = world.start(["--from-postgres", world.url, "--table", "public.User"])
      const { rejected, ...counts } = await ended(program, 3)
      assert.deepStrictEqual(
        [rejected, Object.values(counts).reduce((sum, count) => sum + count, 0), counts["refreshed here"]],
        [1, 4502, 0]
      )
      assert.strictEqual(
        Fs.readFileSync(world.file("import-rejected.jsonl"), "utf8"),
        `{"row":4503,"reason":"has no userUlid"}\n`
      )
      const users = await stored(world)
      assert.deepStrictEqual(
        users,
        range(1, 4500).map((n) => ({ user_ulid: userOf(n), cal_user_id: String(n) }))
      )
    }))

  it("has expiries of any type, and those without a zone are UTC", () =>
    inWorld(async (world) => {
      const at = `'${expiry.toISOString()}'::timestamptz`
      const types = {
        timestamptz: at,
        timestamp: `${at} at time zone 'UTC'`,
        bigint: `(extract(epoch from ${at}) * 1000)::bigint`,
        "double precision": `extract(epoch from ${at})`,
        text: `'${expiry.toISOString()}'`,
        "character varying": `(${at} at time zone 'UTC')::text`
      }
      await world.query(`alter database ${new URL(world.url).pathname.slice(1)} set timezone = 'Asia/Kolkata'`)
      for (const [index, [type, value]] of Object.entries(types).entries()) {
        await fill(world, `t${index}`, 1, type, value)
        await world.query(`update t${index} set "userUlid" = '${userOf(index)}', "calManagedUserId" = ${index + 1}`)
      }
      await world.query(
        `create view "all" as ${Object.keys(types)
          .map(
            (_, index) => `select "userUlid"::char(26), "calManagedUserId", "calAccessToken", "calRefreshToken",
          "calAccessTokenExpiresAt"::text from t${index}`
          )
          .join(" union all ")}`
      )
      for (const index of Object.keys(types).keys()) {
        const program = world.start(["--from-postgres", world.url, "--table", `t${index}`])
        assert.deepStrictEqual(await ended(program, 0), { ...none, imported: 1 }, Object.keys(types)[index])
      }
      const written = await world.query<{ readonly at: number }>(
        "select access_token_expires_at::float8 as at from cal_tokens.connection"
      )
      assert.deepStrictEqual([...new Set(written.map(({ at }) => at))], [expiry.getTime()])
      assert.lengthOf(written, 6)
      const day = expiry.toISOString().slice(0, 10)
      await fill(world, "days", 9, "date", `'${day}'::date`)
      const days = world.start(["--from-postgres", world.url, "--table", "days", "--after", userOf(8)])
      assert.deepStrictEqual(await ended(days, 0), { ...none, imported: 1 })
      assert.deepStrictEqual(
        await world.query(
          `select access_token_expires_at::float8 as at from cal_tokens.connection where user_ulid = '${userOf(9)}'`
        ),
        [{ at: Date.parse(day) }]
      )
      const view = world.start(["--from-postgres", world.url, "--table", "all", "--after", userOf(3)])
      assert.deepStrictEqual(await ended(view, 0), { ...none, unchanged: 2 })
    }))

  it("is never written to", () =>
    inWorld(async (world) => {
      await fill(world, "users", 3)
      await world.query(`create sequence touched; create view odd as select *, nextval('touched') from users`)
      const program = world.start(["--from-postgres", world.url, "--table", "odd", "--column-cal-user", "nextval"])
      await ended(program, 1)
      assert.strictEqual(program.stderr(), "cal-tokens: The table odd cannot be read: SQLSTATE 25006\n")
    }))

  it.each([
    [
      ["--table", "nothing"],
      /^cal-tokens: The table nothing cannot be read: relation "nothing" does not exist \(SQLSTATE 42P01\)\n$/
    ],
    [
      ["--table", "pg_class"],
      /^cal-tokens: The table pg_class cannot be read: column t\.userUlid does not exist \(SQLSTATE 42703\)\n$/
    ],
    [["--table", "a.b.c"], /^cal-tokens: --table must be a table such as users, public\.users or public\."My Users"\n$/]
  ])("that is none is told: %s", (args, line) =>
    inWorld(async (world) => {
      const program = world.start(["--from-postgres", world.url, ...args])
      await ended(program, 1)
      assert.match(program.stderr(), line)
    })
  )
})

describe("the guide", () => {
  const guide = Fs.readFileSync(new URL("../../src/Import/README.md", import.meta.url), "utf8")
  const commands = Array.from(guide.matchAll(/^npx cal-tokens import .*$/gm), ([command]) => command)
  const statements = Array.from(
    guide.matchAll(/^(?:create table [^]*?^\)|create view .*)$/gm),
    ([statement]) => statement
  )

  it("has commands that do what it says, as they are printed", () =>
    inWorld(async (world) => {
      for (const statement of statements) await world.query(statement)
      await world.query(`
        insert into "UserCalTokens" select '01' || lpad(n::text, 24, '0'), case when n <= 3 then n end,
          'SECRET-access-' || n, 'SECRET-refresh-' || n, '${expiry.toISOString()}' from generate_series(1, 5) n`)
      const bin = world.file("bin")
      Fs.mkdirSync(bin)
      const program = `"${process.execPath}" "${Path.join(directory, "dist/program.mjs")}"`
      Fs.writeFileSync(Path.join(bin, "npx"), `#!/bin/sh\n[ "$1" = cal-tokens ] && shift && exec ${program} "$@"\n`, {
        mode: 0o755
      })
      const env = {
        ...world.env,
        CAL_OAUTH_CLIENT_ID: "oauth",
        CAL_OAUTH_CLIENT_SECRET: "SECRET-of-the-oauth-client",
        OLD_DATABASE_URL: world.url,
        PATH: `${bin}:${process.env["PATH"] ?? ""}`
      }
      /** The counts, whose names tell whether anything was written. */
      const all = (lines: ReadonlyArray<string>, codes: ReadonlyArray<number>) =>
        Promise.all(
          lines.map((line, index) => ended(run(Path.dirname(bin), ["-c", line], env, "sh"), codes[index] ?? 0))
        )
      const foretold = { new: 0, changed: 0, unchanged: 0, "refreshed here": 0, rejected: 0 }
      assert.deepStrictEqual(await all(commands, [3]), [
        { ...foretold, new: 3, rejected: 2 },
        { ...foretold, new: 3 },
        { ...foretold, new: 2 }
      ])

      // The rest of it says so of these without --dry-run, again and again.
      const views = commands.slice(1).map((command) => command.replace(" --dry-run", ' --rejected "$$.jsonl"'))
      assert.deepStrictEqual(await all(views, []), [
        { ...none, imported: 3 },
        { ...none, imported: 2 }
      ])
      await world.query(`update "UserCalTokens" set "calRefreshToken" = 'SECRET-other',
        "calAccessTokenExpiresAt" = "calAccessTokenExpiresAt" + interval '1 hour' where "userUlid" = '${userOf(5)}'`)
      assert.deepStrictEqual(await all(commands.slice(2), []), [{ ...foretold, changed: 1, unchanged: 1 }])
      assert.deepStrictEqual(await all(views, []), [
        { ...none, unchanged: 3 },
        { ...none, updated: 1, unchanged: 1 }
      ])
    }))
})

describe("an import that is stopped", () => {
  it.each(["SIGKILL", "SIGINT"] as const)("by %s goes on where it was, and ends with the same", (signal) =>
    inWorld(async (world) => {
      const rows = range(1, 2600).map((n) =>
        n === 7 || n === 2550 ? rowOf(n, { calAccessToken: "no SECRET" }) : rowOf(n)
      )
      const path = world.file("users.jsonl", jsonLines(rows))
      await ended(world.start(["--from-jsonl", world.file("one.jsonl", jsonLines(rows.slice(1699, 1700)))]), 0)
      // Whoever comes to this user waits here.
      const holder = new Client({ connectionString: world.url })
      await holder.connect()
      try {
        await holder.query(`begin; select 1 from cal_tokens.connection where user_ulid = '${userOf(1700)}' for update`)
        const program = world.start(["--from-jsonl", path])
        const state = world.file("import-rejected.jsonl.state")
        await vi.waitUntil(() => Fs.existsSync(state) && Fs.readFileSync(state, "utf8").includes('"place":1500'), {
          timeout: 200_000
        })
        program.process.kill(signal)
        assert.strictEqual(await program.exit, signal === "SIGKILL" ? null : 1)
        if (signal === "SIGINT") {
          assert.match(program.stderr(), /^[\d,]+ rows are done\. The same command goes on from there\.\n$/)
        }
        assert.notInclude(Fs.readFileSync(state, "utf8"), "SECRET")
        const there = await stored(world)
        assert.isAtLeast(there.length, 1500)
        assert.isBelow(there.length, 2598)
      } finally {
        await holder.end()
      }
      const program = world.start(["--from-jsonl", path])
      const { imported = 0, rejected, unchanged = 0, ...others } = await ended(program, 3)
      assert.match(
        program.stderr(),
        /^Going on after line [12],\d00, where the last run was stopped; --from-start begins anew\.\n/
      )
      assert.deepStrictEqual([rejected, imported + unchanged, others], [2, 2598, { updated: 0, "refreshed here": 0 }])
      assert.isAtLeast(imported, 1499)
      const rejectedLines = Fs.readFileSync(world.file("import-rejected.jsonl"), "utf8").trim().split("\n")
      assert.deepStrictEqual(
        rejectedLines.map((line) => (JSON.parse(line) as { readonly line: number }).line),
        [7, 2550]
      )
      assert.lengthOf(await stored(world), 2598)
      assert.isFalse(Fs.existsSync(world.file("import-rejected.jsonl.state")))
    })
  )

  it("begins anew where it is another one by now", () =>
    inWorld(async (world) => {
      const path = world.file("users.jsonl", jsonLines([rowOf(1)]))
      const state = {
        run: "0".repeat(64),
        place: 1,
        done: 1,
        counts: { ...Object.fromEntries(counted), imported: 1 },
        rejectedBytes: 0
      }
      world.file("import-rejected.jsonl.state", JSON.stringify(state))
      const program = world.start(["--from-jsonl", path])
      assert.deepStrictEqual(await ended(program, 0), { ...none, imported: 1 })
      assert.strictEqual(program.stderr(), "")
    }))

  it("does not overwrite a file of somebody else's", () =>
    inWorld(async (world) => {
      const path = world.file("users.csv", csv([rowOf(1)]))
      const program = world.start(["--from-csv", path, "--rejected", path])
      await ended(program, 1)
      assert.match(
        program.stderr(),
        /^cal-tokens: \S+users\.csv is no file of rejected rows: --rejected names another one\n$/
      )
      assert.strictEqual(Fs.readFileSync(path, "utf8"), csv([rowOf(1)]))
    }))
})

const counted = ["imported", "updated", "unchanged", "refreshedHere", "rejected", "none"].map(
  (name) => [name, 0] as const
)

describe("a service", () => {
  it("takes what is given to it over HTTP, with a key that may", () =>
    inWorld(async (world) => {
      const service = run(directory, ["dist/program.mjs", "serve"], {
        ...world.env,
        PORT: "0",
        CAL_TOKENS_API_KEYS: `ops:${key}:manage,other:${key}2:proxy`
      })
      try {
        const [, url = ""] = await service.until(/"message":"Listening on (http:[^"]+)"/)
        const rows = [...range(1, 700).map((n) => rowOf(n)), rowOf(701, { calManagedUserId: 700 })]
        const path = world.file("users.jsonl", jsonLines(rows))
        const over = (env: Record<string, string>, ...more: ReadonlyArray<string>) =>
          run(
            world.file(""),
            [Path.join(directory, "dist/program.mjs"), "import", "--from-jsonl", path, "--to-http", url, ...more],
            env
          )
        assert.deepStrictEqual(await ended(over({ CAL_TOKENS_API_KEY: key }, "--dry-run"), 0), {
          valid: 701,
          rejected: 0
        })
        assert.deepStrictEqual(await stored(world), [])
        assert.deepStrictEqual(await ended(over({ CAL_TOKENS_API_KEY: key }), 3), {
          ...none,
          imported: 700,
          rejected: 1
        })
        assert.match(
          Fs.readFileSync(world.file("import-rejected.jsonl"), "utf8"),
          /^\{"line":701,"user":"0100+701","reason":"[^"]* already connected to another user[^"]*"\}\n$/
        )
        assert.lengthOf(await stored(world), 700)
        const long = range(1, 200).map((n) => rowOf(n, { calAccessToken: `SECRET${"x".repeat(8000)}` }))
        world.file("users.jsonl", jsonLines(long))
        assert.deepStrictEqual(await ended(over({ CAL_TOKENS_API_KEY: key }), 0), { ...none, unchanged: 200 })

        const refused = over({ CAL_TOKENS_API_KEY: `${key}2` })
        await ended(refused, 1)
        assert.match(
          refused.stderr(),
          /^cal-tokens: http:\S+ answered 403[^\n]* \(CAL_TOKENS_API_KEY has to be a key with the scope manage\)\n$/
        )
        const nameless = over({})
        await ended(nameless, 1)
        assert.match(nameless.stderr(), /^cal-tokens: CAL_TOKENS_API_KEY is required with --to-http: /)
        assert.notMatch(service.stdout() + service.stderr(), /SECRET/)
      } finally {
        service.process.kill("SIGKILL")
        await service.exit
      }
    }))
})

describe("--verify", () => {
  it("asks Cal.com who imported users are, and spends nothing", () =>
    inWorld(async (world) => {
      const sandbox = run(directory, ["dist/program.mjs", "sandbox", "--port", "0"])
      try {
        const [, cal = ""] = await sandbox.until(/^A simulated Cal\.com listens on (http:\S+)$/m)
        await sandbox.until(/^Stop with Ctrl-C/m)
        const control = async (path: string, body?: object) => {
          const answer = await fetch(`${cal}/_control${path}`, body && { method: "POST", body: JSON.stringify(body) })
          return (await answer.json()) as Record<string, unknown>
        }
        const granted = await Promise.all(
          range(1, 4).map((n) => control("/grants", { kind: "managed", email: `user${n}@example.com` }))
        )
        const rows = granted.map((grant, index) =>
          rowOf(index + 1, {
            calManagedUserId: grant["calUserId"],
            calAccessToken: grant["accessToken"],
            calRefreshToken: grant["refreshToken"],
            calAccessTokenExpiresAt:
              index === 0 ? new Date(expiry.getTime() - 7_200_000).toISOString() : expiry.toISOString()
          })
        )
        await control(`/users/${String(granted[1]?.["calUserId"])}/expire`, {})
        const path = world.file("users.jsonl", jsonLines(rows))
        const env = exported(sandbox.stdout())
        const program = world.start(["--from-jsonl", path, "--verify", "--verify-users", "4"], env)
        assert.deepStrictEqual(await ended(program, 3), { ...none, imported: 4 })
        assert.match(
          program.stdout(),
          /\n\nCal\.com knows 2 of 3 users as the accounts that were imported\.\n1 more were not asked about: [^\n]*\n {2}User 010+2: [^\n]*\n$/
        )
        for (const { calAccessToken, calRefreshToken } of rows) {
          assert.notInclude(program.stdout(), calAccessToken)
          assert.notInclude(program.stdout(), calRefreshToken)
        }
        const calls = (await control("/calls"))["calls"] as ReadonlyArray<{ readonly kind: string }>
        assert.deepStrictEqual(
          calls.map(({ kind }) => kind).filter((kind) => /refresh/i.test(kind)),
          []
        )
        assert.isAtLeast(calls.length, 3)
      } finally {
        sandbox.process.kill("SIGKILL")
        await sandbox.exit
      }
    }))
})

describe("the command line", () => {
  const start = (...args: ReadonlyArray<string>) =>
    run(directory, ["dist/program.mjs", "import", ...args], { CAL_CLIENT_ID: "client", CAL_CLIENT_SECRET: "SECRET" })

  const hint = " (cal-tokens import --help)"
  const sources = "--from-postgres URL --table NAME, --from-csv FILE or --from-jsonl FILE"

  it.each([
    [[], `import needs a source: ${sources}${hint}`],
    [["--from-csv", "a", "--from-jsonl", "b"], `import needs one source, not several: ${sources}${hint}`],
    [["--from-csv"], `--from-csv needs a value${hint}`],
    [["--form-csv", "SECRET"], `--form-csv is not known: is --from-csv meant?${hint}`],
    [["--from-csv", "a", "SECRET"], `There is an argument that belongs to no option${hint}`],
    [["--from-postgres", "postgres://u:SECRET@h/d"], `--from-postgres needs --table NAME${hint}`],
    [["--from-csv", "a", "--table", "users"], `--table belongs to --from-postgres URL${hint}`],
    [
      ["--from-postgres", "SECRET", "--table", "users"],
      `--from-postgres must be a URL postgres://user:password@host:port/database${hint}`
    ],
    [["--from-csv", "a", "--kind", "SECRET"], `--kind must be one of managed, oauth2${hint}`],
    [["--from-csv", "a", "--kind", "oauth2"], "--kind oauth2 needs an OAuth2 client (CAL_OAUTH_CLIENT_ID)"],
    [["--from-csv", "a", "--client-id", "other"], "--client-id must be one of client"],
    [["--from-csv", "a", "--verify-users", "0"], `--verify-users must be a whole number from 1 to 1000${hint}`],
    [
      ["--from-csv", "a", "--verify", "--dry-run"],
      `--verify asks about what was stored, and --dry-run stores nothing${hint}`
    ],
    [["--from-csv", "a", "--column-user", "calAccessToken"], `Two of the --column options name the same column${hint}`],
    [
      ["--from-csv", "a", "--to-http", "http://tokens.internal"],
      `--to-http must be an https URL (http only to this machine): API key and tokens go there${hint}`
    ]
  ])("explains itself: %j", async (args, line) => {
    Fs.writeFileSync(Path.join(directory, "a"), csv([rowOf(1)]))
    const program = start(...args)
    assert.strictEqual(await program.exit, line.endsWith(hint) ? 2 : 1)
    assert.strictEqual(program.stderr(), `cal-tokens: ${line}\n`)
    assert.strictEqual(program.stdout(), "")
  })

  it("has help that fits for 80 columns, and names each option and each exit code", async () => {
    const program = start("--help")
    assert.strictEqual(await program.exit, 0)
    const { options } = Describing.of(Import.command)
    assert.isAbove(options.length, 15)
    for (const { title } of options) {
      assert.match(program.stdout(), new RegExp(`${title.split(" ", 1)[0]}(?= |$)`, "m"))
    }
    assert.match(program.stdout(), /The exit code is 0; 3 if [^]*\n1 if /)
    for (const line of program.stdout().split("\n")) assert.isAtMost(line.length, 80, line)
  })
})
