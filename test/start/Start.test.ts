import * as Fs from "node:fs"
import * as Http from "node:http"
import type { AddressInfo } from "node:net"
import * as Path from "node:path"
import { Effect } from "effect"
import { afterAll, assert, beforeAll, describe, it, vi } from "vitest"
import * as Collector from "../support/Collector.js"
import { freePort } from "../support/Ports.js"
import { makeServer } from "../support/PostgresServer.js"
import * as Refusal from "../support/Refusal.js"
import { build, type Program, run } from "./Program.js"

let directory: string
beforeAll(() => {
  directory = build()
})

/** Loading the program takes a few seconds of processor time, of which a busy machine has few. */
vi.setConfig({ testTimeout: 180_000 })

afterAll(() => Fs.rmSync(directory, { recursive: true }))

/** On a port that the system chooses, unless `env` names one: the usual one may be somebody's. */
const serve = (env: Record<string, string>): Program =>
  run(directory, ["dist/program.mjs", "serve"], { PORT: "0", ...env })

const client = { CAL_CLIENT_ID: "client", CAL_CLIENT_SECRET: "SECRET-of-the-client" }
const key = "SECRET-api-key-of-at-least-32-characters"

describe("a start that cannot succeed", () => {
  it.concurrent.each([
    [
      { NODE_ENV: "production", HOST: "0.0.0.0", CAL_TOKENS_API_KEYS: `ops:${key}` },
      /^cal-tokens: CAL_CLIENT_ID is required with NODE_ENV=production: [^\n]*CAL_TOKENS_DEMO=1[^\n]*\n$/
    ],
    [
      { OTEL_EXPORTER_OTLP_ENDPOINT: "http://localhost:1", OTEL_EXPORTER_OTLP_CERTIFICATE: "SECRET" },
      /^cal-tokens: OTEL_EXPORTER_OTLP_CERTIFICATE is not supported here: [^\n]*\n$/
    ],
    [{ PORT: "eighty" }, /^cal-tokens: PORT must be a whole number from 0 to 65535\n$/]
  ])("tells why in one line: %o", async (env, expected) => {
    const program = serve(env)
    assert.strictEqual(await program.exit, 1)
    assert.match(program.stderr(), expected)
    assert.strictEqual(program.stdout(), "")
    assert.notMatch(program.stderr(), /\bSECRET/)
  })
})

it("a start without what has another name says that, too", async () => {
  const program = serve({ ...client, CAL_TOKEN_API_KEYS: `ops:${key}` })
  assert.strictEqual(await program.exit, 1)
  const [warning, error, ...more] = program.stderr().split("\n")
  assert.strictEqual(
    warning,
    "cal-tokens: CAL_TOKEN_API_KEYS is not known and has no effect: is CAL_TOKENS_API_KEYS meant?"
  )
  assert.match(error ?? "", /^cal-tokens: CAL_TOKENS_API_KEYS is required with a Cal\.com client: /)
  assert.deepStrictEqual(more, [""])
  assert.notMatch(program.stdout() + program.stderr(), /\bSECRET/)
})

it.each(["sweep", "import"])("%s without what has another name says that, too", async (command) => {
  const args = command === "import" ? ["import", "--from-csv", "none.csv"] : [command]
  const program = run(directory, ["dist/program.mjs", ...args], {
    CAL_CLIENT_ID: "client",
    CAL_CLIENT_SECERT: "SECRET"
  })
  assert.strictEqual(await program.exit, 1)
  assert.deepInclude(JSON.parse(program.stdout()), {
    logLevel: "WARN",
    message: "CAL_CLIENT_SECERT is not known and has no effect: is CAL_CLIENT_SECRET meant?"
  })
  assert.match(program.stderr(), /^cal-tokens: CAL_CLIENT_SECRET is required with CAL_CLIENT_ID[^\n]*\n$/)
  assert.notMatch(program.stdout() + program.stderr(), /\bSECRET\b/)
})

describe("the help", () => {
  it.concurrent.each([
    [["serve", "--help"], /^SETTINGS\n\n[^]*^Server\n\n {2}PORT\n {6}The port[^]*^ {6}Default: 4000\n/m],
    [["--help"], /\n\nSettings are environment variables: `cal-tokens serve --help` lists them\.\n/],
    [["--help"], /^ {2}sandbox +Simulate Cal\.com on a port, for tests; not for production\.$/m]
  ])("says of settings what there is, without colours where nobody sees them: %s", async (args, expected) => {
    const program = run(directory, ["dist/program.mjs", ...args])
    assert.strictEqual(await program.exit, 0)
    assert.match(program.stdout(), expected)
    assert.match(program.stdout(), /^[\x20-\x7e…\n]*$/)
    for (const line of program.stdout().split("\n")) assert.isAtMost(line.length, 80, line)
  })
})

it("capacity says in a few lines how many users a client sustains", async () => {
  const program = run(directory, ["dist/program.mjs", "capacity"], { CAL_TOKENS_ACTIVE_FOR: "2 h" })
  assert.strictEqual(await program.exit, 0)
  assert.match(program.stdout(), /^ +17,812 managed users active at once, each refreshed every 48 min or so$/m)
  assert.match(program.stdout(), /asked for within 2h /)
  for (const line of program.stdout().split("\n")) assert.isAtMost(line.length, 80, line)
})

const withDatabase = (url: string) => ({
  ...client,
  CAL_TOKENS_API_KEYS: `ops:${key}`,
  CAL_TOKENS_ENCRYPTION_KEYS: `k1:${Buffer.from("SECRET-encryption-key-32-bytes-x").toString("base64")}`,
  DATABASE_URL: url,
  LOG_FORMAT: "json"
})

/** What was told of each attempt that failed. */
const attempts = (program: Program): ReadonlyArray<unknown> =>
  program
    .stdout()
    .split("\n")
    .filter((line) => line.includes("The database is not up yet"))
    .map((line) => JSON.parse(line) as unknown)

describe("a database", () => {
  it.concurrent(
    "that is not up is tried for 30 s, with a line each time, and then the start fails in one",
    async () => {
      const startedAt = performance.now()
      const program = serve(withDatabase(`postgres://user:SECRET@127.0.0.1:${await freePort()}/none`))
      assert.strictEqual(await program.exit, 1)
      assert.isAbove(performance.now() - startedAt, 30_000)
      assert.match(
        program.stderr(),
        /^cal-tokens: The token database is unavailable \(connect: connect ECONNREFUSED [^\n]*\n$/
      )
      const told = attempts(program)
      assert.isAbove(told.length, 5)
      assert.lengthOf(program.stdout().trim().split("\n"), told.length)
      for (const line of told) {
        assert.nestedPropertyVal(line, "logLevel", "WARN")
        assert.match(JSON.stringify(line), /"reason":"connect ECONNREFUSED 127\.0\.0\.1:\d+"/)
      }
      assert.notMatch(program.stdout() + program.stderr(), /\bSECRET/)
    }
  )

  it.concurrent("that comes up meanwhile lets the start go on", async () => {
    const server = await makeServer()
    await server.stop()
    const program = serve(withDatabase(server.url))
    try {
      await program.until(/The database is not up yet/)
      await server.start()
      await program.until(/"message":"Listening on http:/)
      program.process.kill("SIGTERM")
      assert.strictEqual(await program.exit, 0)
      // Nobody calls it: it needs no API keys.
      const variables = { ...withDatabase(server.url), CAL_TOKENS_API_KEYS: "" }
      const sweep = run(directory, ["dist/program.mjs", "sweep"], variables)
      assert.strictEqual(await sweep.exit, 0, sweep.stderr())
      assert.strictEqual(sweep.stdout(), "0 refreshed, 0 not\n")
    } finally {
      program.process.kill("SIGKILL")
      await server.remove()
    }
  })

  it.concurrent("whose pooler does not know the user fails the start at once, in the pooler's words", () =>
    Effect.gen(function* () {
      const port = yield* Refusal.make("XX000", "Tenant or user not found")
      const program = serve(withDatabase(`postgres://user.tenant:SECRET@127.0.0.1:${port}/postgres`))
      assert.strictEqual(yield* Effect.promise(() => program.exit), 1)
      assert.match(
        program.stderr(),
        /^cal-tokens: [^\n]*\(connect: Tenant or user not found \(SQLSTATE XX000\)\)[^\n]*\n$/
      )
      assert.strictEqual(program.stdout(), "")
      assert.notMatch(program.stderr(), /\bSECRET/)
    }).pipe(Effect.scoped, Effect.runPromise)
  )
})

describe("the library", () => {
  it("starts nothing when it is imported", async () => {
    const program = run(directory, ["--input-type=module", "-e", `import "./dist/index.js"`])
    assert.strictEqual(await program.exit, 0)
    assert.strictEqual(program.stdout() + program.stderr(), "")
  })
})

/** A Cal.com that keeps everybody waiting. */
const startCal = async () => {
  const asked = deferred<Http.ServerResponse>()
  const server = Http.createServer((_, response) => asked.resolve(response))
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  return { asked: asked.promise, server, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v2` }
}

const deferred = <A>() => {
  let resolve: (value: A) => void = () => {}
  const promise = new Promise<A>((done) => (resolve = done))
  return { promise, resolve }
}

/** The most that a process had in memory so far, in MB; 0 where the system does not tell. */
const peakOf = ({ pid }: Program["process"]): number => {
  const status = process.platform === "linux" ? Fs.readFileSync(`/proc/${pid}/status`, "utf8") : ""
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0) / 1024
}

describe("the demo", () => {
  it("starts for the first time without what making a database takes, also after a start that was killed at it", async () => {
    const data = Path.join(directory, "demo")
    const killed = serve({ CAL_TOKENS_DATA_DIR: data })
    const files = Path.join(data, "sandbox", "postgres")
    const isBegun = () =>
      Fs.readdirSync(data, { encoding: "utf8", recursive: true }).some((path) => /postgres\.\w+.files.base$/.test(path))
    await vi.waitUntil(() => Fs.existsSync(files) && isBegun(), { timeout: 60_000 })
    killed.process.kill("SIGKILL")
    await killed.exit
    assert.deepStrictEqual(Fs.readdirSync(files), [])
    const program = serve({ CAL_TOKENS_DATA_DIR: data })
    try {
      await program.until(/Stop with Ctrl-C/)
      assert.match(program.stdout(), /^demo-key-that-everybody-knows-[\w-]+$/m)
      assert.isBelow(peakOf(program.process), 350)
      program.process.kill("SIGTERM")
      assert.strictEqual(await program.exit, 0)
      assert.strictEqual(program.stderr(), "")
    } finally {
      program.process.kill("SIGKILL")
    }
  })
})

it("a demo that others reach has a key of its own at each start", async () => {
  const program = serve({ CAL_TOKENS_DEMO: "1", HOST: "0.0.0.0", CAL_TOKENS_DATA_DIR: Path.join(directory, "reached") })
  try {
    const [, key = ""] = await program.until(/The API key is\n\n(\S+)\n/)
    assert.match(key, /^[\w-]{32}$/)
    assert.notInclude(program.stdout(), "everybody-knows")
  } finally {
    program.process.kill("SIGKILL")
  }
})

describe("the service", () => {
  it("tells where it listens and what others could read on the way, and keeps the inspector closed", async () => {
    const program = serve({
      ...client,
      HOST: "0.0.0.0",
      CAL_API_URL: "http://calcom.internal:5555/v2",
      CAL_API_ALLOW_HTTP: "1",
      CAL_TOKENS_API_KEYS: `ops:${key}`,
      CAL_TOKENS_DATA_DIR: Path.join(directory, "open"),
      CAL_TOKENS_ALLOWED_ORIGIN: "https://SECRET.example"
    })
    try {
      const [, port] = await program.until(/"message":"Listening on http:\/\/0\.0\.0\.0:(\d+)"/)
      await program.until(/Other machines reach this address without TLS/)
      await program.until(/"message":"CAL_API_URL is http [^"]*","logLevel":"WARN"/)
      await program.until(/"message":"CAL_TOKENS_ALLOWED_ORIGIN is not known [^"]*ORIGINS meant\?","logLevel":"WARN"/)
      assert.notMatch(program.stdout(), /SECRET/)
      program.process.kill("SIGUSR1")
      // A signal is taken before what comes later.
      for (let i = 0; i < 10; i++) {
        assert.strictEqual((await fetch(`http://127.0.0.1:${port}/health/live`)).status, 200)
      }
      program.process.kill("SIGTERM")
      assert.strictEqual(await program.exit, 0)
      assert.strictEqual(program.stderr(), "")
    } finally {
      program.process.kill("SIGKILL")
    }
  })

  it("sends what it is asked and what it logs to a collector, the rest of it at the end", () =>
    Effect.gen(function* () {
      const collector = yield* Collector.make()
      const program = serve({
        ...client,
        CAL_TOKENS_API_KEYS: `ops:${key}`,
        CAL_TOKENS_DATA_DIR: Path.join(directory, "told"),
        OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
        OTEL_EXPORTER_OTLP_HEADERS: "x-key=SECRET-of-the-collector",
        OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
        OTEL_RESOURCE_ATTRIBUTES: "service.name=none,team=a%2Cb"
      })
      yield* Effect.addFinalizer(() => Effect.sync(() => program.process.kill("SIGKILL")))
      const [, url = ""] = yield* Effect.promise(() => program.until(/"message":"Listening on (http:[^"]+)"/))
      const asked = fetch(`${url}/api/cal/ensure-token`, {
        method: "POST",
        headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
        body: JSON.stringify({ userUlid: "01HZY9TESTSAAAAAAAAAAAAAAA" })
      })
      assert.strictEqual((yield* Effect.promise(() => asked)).status, 404)
      program.process.kill("SIGTERM")
      assert.strictEqual(yield* Effect.promise(() => program.exit), 0)
      assert.include(
        collector.spans().map(({ name }) => name),
        "POST /api/cal/ensure-token"
      )
      assert.isTrue(collector.logs().some(({ body }) => body.stringValue?.startsWith("Listening on") === true))
      assert.isTrue(collector.metrics().some(({ name }) => name === "cal_tokens_build_info"))
      for (const { body, headers } of collector.requests) {
        assert.strictEqual(headers["x-key"], "SECRET-of-the-collector")
        assert.notMatch(body, /SECRET|"stringValue":"none"/)
        assert.include(body, `{"key":"team","value":{"stringValue":"a,b"}}`)
      }
      assert.notMatch(program.stdout() + program.stderr(), /SECRET/)
    }).pipe(Effect.scoped, Effect.runPromise))

  it("starts with the clients of a file alone, of which a user's has to be named", async () => {
    const file = Path.join(directory, "clients.json")
    const managed = ["one", "other"].map((clientId) => ({ clientId, clientSecret: "SECRET-of-the-client" }))
    Fs.writeFileSync(file, JSON.stringify({ managed }))
    const program = serve({
      CAL_TOKENS_CLIENTS_FILE: file,
      CAL_TOKENS_API_KEYS: `ops:${key}`,
      CAL_TOKENS_DATA_DIR: Path.join(directory, "clients")
    })
    try {
      const [, url] = await program.until(/"message":"Listening on (http:[^"]+)"/)
      const put = async (named: object) => {
        const answer = await fetch(`${url}/api/cal/connections/01HZY9TESTSAAAAAAAAAAAAAAA`, {
          method: "PUT",
          headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
          body: JSON.stringify({
            kind: "managed",
            ...named,
            calUserId: 7,
            accessToken: "SECRET-access",
            refreshToken: "SECRET-refresh",
            accessTokenExpiresAt: Date.UTC(new Date().getUTCFullYear() + 1, 0)
          })
        })
        return (await answer.json()) as { readonly success: boolean; readonly error?: string }
      }
      assert.strictEqual((await put({})).error, "clientId is required: one of one, other.")
      assert.deepStrictEqual(await put({ clientId: "other" }), { success: true })
      assert.notMatch(program.stdout() + program.stderr(), /SECRET/)
    } finally {
      program.process.kill("SIGKILL")
    }
  })

  it("answers what it has begun when it is told to stop, and then leaves nothing behind", async () => {
    const cal = await startCal()
    const data = Path.join(directory, "data")
    const settings = { ...client, CAL_API_URL: cal.url, CAL_TOKENS_API_KEYS: `ops:${key}` }
    const program = serve({ ...settings, CAL_TOKENS_DATA_DIR: data })
    const programs = [program]
    try {
      const [, url] = await program.until(/"message":"Listening on (http:[^"]+)"/)
      const second = serve({ ...settings, PORT: new URL(url ?? "").port, CAL_TOKENS_DATA_DIR: `${data}-2` })
      programs.push(second)
      const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" }
      const userUlid = "01HZY9TESTSAAAAAAAAAAAAAAA"
      const connected = await fetch(`${url}/api/cal/connections/${userUlid}`, {
        method: "PUT",
        headers,
        body: JSON.stringify({
          kind: "managed",
          calUserId: 7,
          accessToken: "SECRET-access",
          refreshToken: "SECRET-refresh",
          accessTokenExpiresAt: Date.UTC(new Date().getUTCFullYear() + 1, 0)
        })
      })
      assert.deepStrictEqual(await connected.json(), { success: true })
      assert.strictEqual((await fetch(`${url}/health/ready`)).status, 200)

      assert.strictEqual(await second.exit, 1)
      assert.match(second.stderr(), /^cal-tokens: Cannot listen on 127\.0\.0\.1:\d+: the port is in use[^\n]*\n$/)

      const answer = fetch(`${url}/api/cal/proxy/${userUlid}/me`, { headers })
      const waiting = await cal.asked
      // Twice, as a child of npm gets Ctrl-C: from its terminal and from npm.
      program.process.kill("SIGINT")
      program.process.kill("SIGTERM")
      await program.until(/Stopping; requests that still get their answer: 1/)
      const late = await fetch(`${url}/health/live`).then(
        () => "answered",
        () => "refused"
      )
      assert.strictEqual(late, "refused")
      waiting.writeHead(200, { "content-type": "application/json" }).end(`{"status":"success"}`)
      assert.deepStrictEqual(await (await answer).json(), { status: "success" })
      assert.strictEqual(await program.exit, 0)
      assert.notMatch(program.stdout() + program.stderr(), /\bSECRET/)
      assert.isFalse(Fs.existsSync(Path.join(data, "cal-tokens.lock")))
    } finally {
      for (const { process } of programs) process.kill("SIGKILL")
      cal.server.closeAllConnections()
      cal.server.close()
    }
  })
})
