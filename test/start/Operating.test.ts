/** The commands for whoever operates the service, as they are run: processes, one PostgreSQL, the simulated Cal.com. */
import { spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { stripVTControlCharacters } from "node:util"
import { Effect, Exit, Layer, Redacted, Scope } from "effect"
import { afterAll, assert, beforeAll, describe, it, vi } from "vitest"
import * as KeyRing from "../../src/KeyRing.js"
import { hash, UserUlid } from "../../src/Token.js"
import { TokenStorage } from "../../src/TokenStorage.js"
import * as Postgres from "../../src/TokenStorage/Postgres.js"
import { assertClean } from "../support/Leaks.js"
import { makeDatabase } from "../support/Postgres.js"
import { build, exported, type Program, run } from "./Program.js"

/** Loading the program takes a few seconds of processor time, of which a busy machine has few. */
vi.setConfig({ testTimeout: 120_000, hookTimeout: 180_000 })

const scope = Effect.runSync(Scope.make())
const userOf = (n: number) => UserUlid.make(`01${String(n).padStart(24, "0")}`)
const ring = `k1:${Buffer.from("an encryption key of 32 bytes x.").toString("base64")}`

interface Grant {
  readonly calUserId: number
  readonly accessToken: string
  readonly refreshToken: string
}

let directory: string
let sandbox: Program
let cal: string
let url: string
let env: Record<string, string>
let grants: ReadonlyArray<Grant>
const said: Array<string> = []

const start = (args: ReadonlyArray<string>, more: Record<string, string> = {}) =>
  run(directory, ["dist/program.mjs", ...args], { ...env, ...more })

/** What a command says, which has no secret in it. */
const ended = async (code: number, args: ReadonlyArray<string>, more: Record<string, string> = {}) => {
  const program = start(args, more)
  assert.strictEqual(await program.exit, code, program.stdout() + program.stderr())
  said.push(program.stdout(), program.stderr())
  return { stdout: program.stdout(), stderr: program.stderr() }
}

const control = async (path: string, body: object = {}) =>
  (await (await fetch(`${cal}/_control${path}`, { method: "POST", body: JSON.stringify(body) })).json()) as Grant

beforeAll(async () => {
  directory = build()
  url = Redacted.value(await Effect.runPromise(Scope.extend(makeDatabase, scope)))
  sandbox = run(directory, ["dist/program.mjs", "sandbox", "--port", "0"])
  cal = (await sandbox.until(/^A simulated Cal\.com listens on (http:\S+)$/m))[1] ?? ""
  await sandbox.until(/^Stop with Ctrl-C/m)
  env = { ...exported(sandbox.stdout()), DATABASE_URL: url, CAL_TOKENS_ENCRYPTION_KEYS: ring }
  grants = await Promise.all([1, 2, 3].map((n) => control("/grants", { kind: "managed", email: `u${n}@example.com` })))
})

afterAll(async () => {
  sandbox.process.kill("SIGTERM")
  await sandbox.exit
  await Effect.runPromise(Scope.close(scope, Exit.void))
  Fs.rmSync(directory, { recursive: true })
})

const secrets = () => [
  ...grants.flatMap(({ accessToken, refreshToken }) => [accessToken, refreshToken]),
  ...Object.entries(env).flatMap(([name, value]) => (/SECRET|KEYS/.test(name) ? [value] : []))
]

describe("migrate", () => {
  it("prints the SQL that is lacking, which does what migrate does", async () => {
    const { stdout } = await ended(0, ["migrate", "--dry-run"])
    assert.match(
      stdout,
      /^begin;\ncreate schema cal_tokens;\ncreate table if not exists "cal_tokens"\."migrations" \(\n/
    )
    assert.match(stdout, /\ncommit;\n$/)
    const other = Redacted.value(await Effect.runPromise(Scope.extend(makeDatabase, scope)))
    const psql = spawnSync("psql", ["-qv", "ON_ERROR_STOP=1", other], { input: stdout, encoding: "utf8" })
    assert.strictEqual(psql.status, 0, psql.stderr)
    assert.match((await ended(0, ["migrate"])).stdout, /^The schema is up to date now: schema, 0001_first[^\n]*\.\n$/)
    const dump = (database: string) =>
      spawnSync(
        "psql",
        [
          "-qAtc",
          "select table_name::text, column_name::text, data_type::text from information_schema.columns where table_schema = 'cal_tokens' " +
            "union all select proname::text, pg_get_functiondef(oid), null from pg_proc " +
            "where pronamespace = 'cal_tokens'::regnamespace order by 1, 2, 3",
          database
        ],
        { encoding: "utf8" }
      ).stdout
    assert.isAbove(dump(url).length, 10_000)
    assert.strictEqual(dump(other), dump(url))
    assert.match((await ended(0, ["migrate"], { DATABASE_URL: other })).stdout, /there is nothing to do\.\n$/)
  })

  it("says that there is nothing to do", async () => {
    assert.strictEqual(
      (await ended(0, ["migrate", "--dry-run"])).stdout,
      "-- The schema is up to date: there is nothing to do.\n"
    )
    assert.strictEqual((await ended(0, ["migrate"])).stdout, "The schema is up to date: there is nothing to do.\n")
  })
})

describe("connections", () => {
  beforeAll(async () => {
    const rows = grants.map(({ accessToken, calUserId, refreshToken }, index) => ({
      userUlid: userOf(index + 1),
      calManagedUserId: calUserId,
      calAccessToken: accessToken,
      calRefreshToken: refreshToken,
      calAccessTokenExpiresAt: new Date(new Date().getTime() + 3_000_000).toISOString()
    }))
    Fs.writeFileSync(Path.join(directory, "users.jsonl"), rows.map((row) => `${JSON.stringify(row)}\n`).join(""))
    await ended(0, ["import", "--from-jsonl", "users.jsonl"])
  })

  it("are refreshed one by one, if need be or by force, and a user who has to reconnect is told by an exit code", async () => {
    const { stdout } = await ended(0, ["refresh", userOf(1)])
    assert.match(
      stdout,
      /^Not refreshed: the access token expires in (49|50) min\. --force refreshes it all the same\.\n$/
    )
    assert.match(
      (await ended(0, ["refresh", "--force", userOf(1)])).stdout,
      /^Refreshed: the access token expires in \d+ min\.\n$/
    )
    await fetch(`${cal}/_control/users/${grants[1]?.calUserId}`, { method: "DELETE" })
    const gone = await ended(3, ["refresh", userOf(2), "--force"])
    assert.strictEqual(gone.stdout, "")
    assert.match(gone.stderr, /^cal-tokens: User 010{23}2 has to reconnect Cal\.com: [^\n]*\n$/)
    assert.match((await ended(1, ["refresh", userOf(9)])).stderr, /^cal-tokens: User \w+ has no Cal\.com connection/m)
  })

  it("are told of as a table, of which a narrow terminal has the first columns", async () => {
    const { stderr, stdout } = await ended(0, ["status"])
    assert.strictEqual(stderr, "")
    const [heading, first, second, , ...rest] = stdout.split("\n")
    assert.match(
      heading ?? "",
      /^user {24}status {5}expires {9}kind {5}last refresh {4}last error {16}next attempt {4}refresh token$/
    )
    assert.match(first ?? "", /^010{23}1 {2}active {5}in \d+ min {7,8}managed {2}\d+ sec ago +- +- +(in \d+ days|-)$/)
    assert.match(second ?? "", /^010{23}2 {2}RECONNECT {2}in \d+ min +managed {2}- +calUserGone +- +/)
    assert.deepStrictEqual(rest, ["", "2 active, 1 have to reconnect", ""])
  })

  it("are told of one by one, by either form of the id, and by status", async () => {
    assert.match((await ended(0, ["status", userOf(3)])).stdout, /^user[^\n]*\n010{23}3 [^\n]*\n$/)
    await ended(3, ["status", userOf(2)])
    await ended(1, ["status", userOf(4)])
    const { stdout } = await ended(0, ["status", "--json", "--status", "reauthorizationRequired"])
    const [line, ...more] = stdout.split("\n")
    assert.deepStrictEqual(more, [""])
    assert.deepInclude(JSON.parse(line ?? ""), {
      userUlid: userOf(2),
      status: "reauthorizationRequired",
      cause: "calUserGone",
      lastRefreshAt: null
    })
  })

  it("are exported without tokens, and not with them", async () => {
    const refused = await ended(2, ["export"])
    assert.match(refused.stderr, /^cal-tokens: Tokens are not exported: [^\n]*\(cal-tokens export --help\)\n$/)
    const { stdout } = await ended(0, ["export", "--without-secrets"])
    const lines = stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as { readonly userUlid: string })
    assert.deepStrictEqual(
      lines.map(({ userUlid }) => userUlid),
      [1, 2, 3].map(userOf)
    )
    const file = await ended(0, ["export", "--without-secrets", "--to", "out.jsonl"])
    assert.strictEqual(file.stdout, "3 connections, without tokens\n")
    const path = Path.join(directory, "out.jsonl")
    assert.strictEqual(Fs.readFileSync(path, "utf8"), stdout)
    assert.strictEqual(Fs.statSync(path).mode & 0o777, 0o600)
    const again = await ended(1, ["export", "--without-secrets", "--to", "out.jsonl"])
    assert.match(again.stderr, /^cal-tokens: out\.jsonl cannot be written \(EEXIST\): [^\n]*\n$/)
  })

  it("have answers read again that nobody understood, and what remains is told by an exit code", async () => {
    assert.strictEqual((await ended(0, ["salvage"])).stdout, "0 read, 0 remain, of 0 users\n")
    const connection = {
      _tag: "ManagedUser",
      clientId: env["CAL_CLIENT_ID"] ?? "",
      calUserId: grants[2]?.calUserId ?? 0
    } as const
    const spent = hash(Redacted.make(grants[2]?.refreshToken ?? ""))
    const seal = (spentHash: string, answer: string) =>
      Effect.flatMap(TokenStorage, (storage) =>
        storage.seal({
          userUlid: userOf(3),
          operation: "refresh",
          spentHash,
          connection,
          answer: Redacted.make(new TextEncoder().encode(answer)),
          issuedAt: new Date().getTime(),
          isWhole: true
        })
      ).pipe(
        Effect.provide(
          Postgres.layer({}).pipe(
            Layer.provide(Postgres.layerConnection({ url: Redacted.make(url) })),
            Layer.provide(KeyRing.layer(Redacted.make(ring)))
          )
        ),
        Effect.runPromise
      )
    const data = {
      accessToken: "SECRET-new-access",
      refreshToken: "SECRET-new-refresh",
      accessTokenExpiresAt: new Date().getTime() + 3_600_000
    }
    await seal(spent, JSON.stringify({ status: "success", data }))
    await seal("other", "nobody reads this")
    assert.strictEqual((await ended(3, ["salvage"])).stdout, "1 read, 1 remain, of 1 users\n")
  })

  it("are told of in colours on a terminal, or where they are wanted", async () => {
    const onTerminal = (columns: number, command: string) => {
      const { stdout } = spawnSync(
        "script",
        ["-qec", `stty cols ${columns}; ${process.execPath} dist/program.mjs ${command}`, "/dev/null"],
        {
          cwd: directory,
          env: { PATH: process.env["PATH"] ?? "", TERM: "xterm-256color", ...env },
          encoding: "utf8"
        }
      )
      said.push(stdout)
      return stdout.replaceAll("\r", "")
    }
    const narrow = onTerminal(60, "status")
    assert.include(narrow, "\u001b[1muser")
    assert.match(narrow, /\u001b\[31m010+2 {2}RECONNECT/)
    const plain = stripVTControlCharacters(narrow)
    assert.match(plain, /^user {24}status {5}expires$/m)
    for (const line of plain.split("\n")) assert.isAtMost(line.length, 60, line)
    assert.notInclude((await ended(0, ["status"])).stdout, "\u001b")
    assert.include((await ended(0, ["status"], { FORCE_COLOR: "1" })).stdout, "\u001b[1m")
  })

  it("are told of without any secret", () => {
    assert.isAbove(said.length, 20)
    assertClean(said.join("\n"), [...secrets(), "SECRET-new"])
  })
})

describe("the embedded database", () => {
  it("that a running demo holds is told of in a line that says what to do", async () => {
    const data = { CAL_TOKENS_DATA_DIR: "held" }
    const service = run(directory, ["dist/program.mjs", "serve"], { ...data, PORT: "0" })
    try {
      await service.until(/Stop with Ctrl-C/)
      for (const args of [["status"], ["refresh", "01ARZ3NDEKTSV4RRFFQ69G5FAV"]]) {
        const program = run(directory, ["dist/program.mjs", ...args], data)
        assert.strictEqual(await program.exit, 1)
        assert.match(
          program.stderr(),
          /^cal-tokens: The embedded database in held\/sandbox cannot be opened: process \d+ on [^\n]*stop that process or[^\n]*\n$/
        )
      }
    } finally {
      service.process.kill("SIGTERM")
      await service.exit
    }
  })
})

describe("keygen", () => {
  it("prints an encryption key with an id that the ring does not have", async () => {
    const first = start(["keygen"], { CAL_TOKENS_ENCRYPTION_KEYS: "" })
    assert.strictEqual(await first.exit, 0)
    assert.match(first.stdout(), /^k1:[A-Za-z0-9+/]{43}=\n$/)
    assert.match(first.stderr(), /^For CAL_TOKENS_ENCRYPTION_KEYS\. [^\n]*\n$/)
    const next = start(["keygen"])
    assert.strictEqual(await next.exit, 0)
    assert.match(next.stdout(), /^k2:/)
    assert.notEqual(next.stdout().slice(3), first.stdout().slice(3))
    assert.strictEqual(KeyRing.parseKeys(Redacted.make(`${ring},${next.stdout().trim()}`))._tag, "Right")
  })

  it("prints an API key and the entry that knows its hash alone", async () => {
    const program = start(["keygen", "--api-key", "backend"])
    assert.strictEqual(await program.exit, 0)
    const [secret = "", entry, ...more] = program.stdout().split("\n")
    assert.deepStrictEqual(more, [""])
    assert.match(secret, /^[\w-]{43}$/)
    assert.strictEqual(entry, `backend:sha256:${hash(Redacted.make(secret))}`)
  })
})

describe("the command line", () => {
  it.each([
    [["stauts"], "There is no command stauts: is status meant? (cal-tokens --help)"],
    [["stat"], "There is no command stat: is status meant? (cal-tokens --help)"],
    [["--verison"], "A command comes first (cal-tokens --help)"],
    [["status", "--jsn"], "--jsn is not known: is --json meant? (cal-tokens status --help)"],
    [
      ["status", "--status", "SECRET"],
      "--status must be one of active, reauthorizationRequired (cal-tokens status --help)"
    ],
    [["refresh"], "<user> is missing (cal-tokens refresh --help)"],
    [["refresh", userOf(1), "SECRET"], "There is an argument too many (cal-tokens refresh --help)"],
    [
      ["status", userOf(1), "--status", "active"],
      "--status is of lists, and does not go with <user> (cal-tokens status --help)"
    ],
    [["serve", "SECRET"], "There is an argument that belongs to no option (cal-tokens serve --help)"],
    [["--completions", "SECRET"], "--completions must be one of bash, zsh, fish (cal-tokens --help)"]
  ])("explains what is wrong with it, with exit code 2: %j", async (args, line) => {
    const program = start(args)
    assert.strictEqual(await program.exit, 2)
    assert.strictEqual(program.stderr(), `cal-tokens: ${line}\n`)
    assert.strictEqual(program.stdout(), "")
  })

  it("has help that fits for 80 columns, wherever it is asked for", async () => {
    for (const args of [["status", "--help"], ["status", "--json", "-h"], ["export", "--help"], ["--help"]]) {
      const program = start(args)
      assert.strictEqual(await program.exit, 0)
      assert.match(program.stdout(), /^cal-tokens/)
      for (const line of program.stdout().split("\n")) assert.isAtMost(line.length, 80, line)
    }
  })

  it("is completed by bash", async () => {
    const program = start(["--completions", "bash"])
    assert.strictEqual(await program.exit, 0)
    const complete = (...words: ReadonlyArray<string>) =>
      spawnSync(
        "bash",
        [
          "--norc",
          "-euc",
          `${program.stdout()}\nCOMP_WORDS=(cal-tokens "$@"); COMP_CWORD=$#; _cal_tokens; echo "\${COMPREPLY[*]}"`,
          "-",
          ...words
        ],
        { encoding: "utf8" }
      ).stdout.trim()
    assert.strictEqual(complete("sta"), "status")
    assert.strictEqual(complete("status", "--"), "--status --json --help")
    assert.strictEqual(complete("--completions", ""), "bash zsh fish")
  })
})
