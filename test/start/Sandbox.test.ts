/** `cal-tokens sandbox`, told what to do by the commands of its README as they stand, with a service that takes it for Cal.com. */
import { execFile } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { promisify } from "node:util"
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import * as Pages from "../docs/Pages.js"
import { build, exported, type Program, run } from "./Program.js"

/** The shell blocks of a section of its page. */
const blocks = (heading: string): ReadonlyArray<string> => Pages.texts("src/Sandbox/README.md", heading, "sh")

interface Answer {
  readonly status?: string
  readonly message?: string
  readonly [field: string]: unknown
}

let directory: string
let sandbox: Program
let service: Program
let env: Record<string, string>

/** Each line is an answer. */
const bash = async (script: string): Promise<ReadonlyArray<Answer>> => {
  const { stdout } = await promisify(execFile)("bash", ["--norc", "-euo", "pipefail", "-c", script], {
    env: { PATH: process.env["PATH"] ?? "", ...env }
  })
  return stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Answer)
}

beforeAll(async () => {
  directory = build()
  sandbox = run(directory, ["dist/program.mjs", "sandbox", "--port", "0"])
  const [, CAL = ""] = await sandbox.until(/^A simulated Cal\.com listens on (http:\S+)$/m)
  await sandbox.until(/^Stop with Ctrl-C/m)
  const variables = exported(sandbox.stdout())
  service = run(directory, ["dist/program.mjs", "serve"], {
    ...variables,
    PORT: "0",
    CAL_TOKENS_DATA_DIR: Path.join(directory, "data")
  })
  const [, URL = ""] = await service.until(/"message":"Listening on (http:[^"]+)"/)
  const [, KEY = ""] = (variables["CAL_TOKENS_API_KEYS"] ?? "").split(":")
  env = { CAL, URL, KEY }
}, 180_000)

afterAll(async () => {
  for (const { exit, process } of [service, sandbox]) {
    process.kill("SIGTERM")
    await exit
  }
  Fs.rmSync(directory, { recursive: true })
})

const ask = (method: string, path: string, body?: object) =>
  fetch(`${env["URL"]}/api/cal${path}`, {
    method,
    headers: { authorization: `Bearer ${env["KEY"]}`, "content-type": "application/json" },
    ...(body && { body: JSON.stringify(body) })
  }).then((response) => response.json() as Promise<Answer>)

const cem = "01BX5ZZKBKACTAV9WEVGEMMVRZ"
const ada = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
const success = { status: "success" }

describe("what it prints", () => {
  it("names clients, secrets and users, the same at each start, and says what it is not for", async () => {
    const other = run(directory, ["dist/program.mjs", "sandbox", "--port", "0"])
    await other.until(/^Stop with Ctrl-C/m)
    const steady = ({ stdout }: Program) => stdout().replace(/127\.0\.0\.1:(?!4000)\d+/g, "127.0.0.1:PORT")
    assert.strictEqual(steady(other), steady(sandbox))
    other.process.kill("SIGINT")
    await other.exit
    assert.strictEqual(other.stderr(), "")
    assert.include(sandbox.stdout(), "NOT for production")
    for (const word of ["sandbox-platform-secret", "sandbox-oauth-secret", "ada@demo.example", "1000", "10001"]) {
      assert.include(sandbox.stdout(), word)
    }
    for (const line of sandbox.stdout().split("\n")) {
      assert.isTrue(line.startsWith("export ") || line.length <= 80, line)
    }
  })

  it.each([
    [["--prot", "4010"], "--prot is not known: is --port meant?"],
    [["4010"], "There is an argument that belongs to no option"],
    [["--port"], "--port needs a value"],
    [["--port", "4010x"], "--port must be a whole number from 0 to 65535"],
    [["--host", "my host"], "--host must be an address or a host name"],
    [["--port", "70000"], "--port must be a whole number from 0 to 65535"],
    [["--port", "0", "--redirect-url", "nowhere"], "--redirect-url must be an http(s) URL without fragment"],
    [
      ["--port", "0", "--access-token-lifetime", "soon"],
      '--access-token-lifetime must be a duration up to 30 days, such as "12 h" or "7 d"'
    ]
  ])("explains what is wrong with the command line: %s", async (args, line) => {
    const program = run(directory, ["dist/program.mjs", "sandbox", ...args])
    assert.strictEqual(await program.exit, 2)
    assert.strictEqual(program.stderr(), `cal-tokens: ${line} (cal-tokens sandbox --help)\n`)
  })

  it("says that an address is not to be had", async () => {
    const program = run(directory, ["dist/program.mjs", "sandbox", "--port", "0", "--host", "192.0.2.1"])
    assert.strictEqual(await program.exit, 1)
    assert.strictEqual(program.stderr(), "cal-tokens: The sandbox cannot listen on 192.0.2.1:0 (EADDRNOTAVAIL)\n")
  })

  it("has help that fits for 80 columns and names each option", async () => {
    const program = run(directory, ["dist/program.mjs", "sandbox", "--help"])
    assert.strictEqual(await program.exit, 0)
    for (const option of ["--port", "--host", "--redirect-url", "--access-token-lifetime"]) {
      assert.include(program.stdout(), `\n  ${option} `)
    }
    for (const line of program.stdout().split("\n")) assert.isAtMost(line.length, 80, line)
  })

  it("says that a port is taken, and what to do", async () => {
    const port = new URL(env["CAL"] ?? "").port
    const program = run(directory, ["dist/program.mjs", "sandbox", "--port", port])
    assert.strictEqual(await program.exit, 1)
    assert.match(program.stderr(), /^cal-tokens: [^\n]*\(EADDRINUSE\): the port is in use[^\n]*--port\n$/)
  })

  it("takes what is changed, and warns where others reach it", async () => {
    const callback = "http://localhost:3000/callback?a=1&b='2'"
    const program = run(directory, [
      ...["dist/program.mjs", "sandbox", "--port", "0", "--host", "0.0.0.0"],
      ...["--redirect-url", callback, "--access-token-lifetime", "2 m"]
    ])
    const [, port = ""] = await program.until(/listens on http:\/\/0\.0\.0\.0:(\d+)/)
    await program.until(/^Other machines may reach it: --host 0\.0\.0\.0$/m)
    await program.until(/^Stop with Ctrl-C/m)
    assert.strictEqual(exported(program.stdout())["CAL_OAUTH_REDIRECT_URL"], callback)
    const granted = await fetch(`http://127.0.0.1:${port}/_control/grants`, { method: "POST" })
    const state = await fetch(`http://127.0.0.1:${port}/_control/state`)
    const { accessTokenExpiresAt } = (await granted.json()) as { readonly accessTokenExpiresAt: number }
    const { now } = (await state.json()) as { readonly now: string }
    assert.isAtMost(accessTokenExpiresAt - Date.parse(now), 120_000)
    program.process.kill("SIGTERM")
    await program.exit
  })
})

describe("the commands of its README", () => {
  it("begin with where it is", () => {
    const [start, where] = blocks("Over HTTP, from any language")
    assert.match(start ?? "", /^npx cal-tokens sandbox --port (\d+)\n$/)
    assert.strictEqual(where, `export CAL=http://127.0.0.1:${/\d+/.exec(start ?? "")?.[0]}\n`)
  })

  it("show what there is, and book Ada", async () => {
    const [list, state, booking, ...more] = await bash(blocks("What there is, and who")[0] ?? "")
    assert.deepStrictEqual(more, [])
    assert.property(list?.["endpoints"], "GET /_control/state")
    const users = state?.["users"] as ReadonlyArray<Answer>
    assert.deepInclude(users[0], { calUserId: 1000, kind: "managed", eventTypes: [{ id: 10001, slug: "30min" }] })
    assert.deepInclude(booking, success)
  })

  it("give tokens to people, and connect one of them to the service", async () => {
    const [give = "", connect = ""] = blocks("Tokens")
    const [managed, oauth2, code, ...more] = await bash(give)
    assert.deepStrictEqual(more, [])
    assert.deepInclude(managed, { kind: "managed", clientId: "sandbox-platform-client" })
    assert.deepInclude(oauth2, { kind: "oauth2", calUserId: 1002, scope: "BOOKING_READ PROFILE_READ" })
    assert.isString(code?.["code"])
    assert.deepStrictEqual(await bash(connect), [{ success: true }])
    assert.deepInclude(await ask("GET", `/proxy/${cem}/me`), success)
    assert.deepInclude(
      await ask(
        "PUT",
        `/connections/${ada}`,
        (await bash(`curl -sX POST "$CAL/_control/grants" -d '{"calUserId":1000}'`))[0]
      ),
      { success: true }
    )
  })

  it("take people's access away, of which the service makes what it promises", async () => {
    const answers = await bash(blocks("What happens to people")[0] ?? "")
    assert.deepStrictEqual(
      answers,
      [1000, 1002, 1001].map((calUserId) => ({ status: "success", calUserId }))
    )
    assert.deepInclude(await ask("GET", `/proxy/${ada}/me`), success)
    const refresh = (userUlid: string) => ask("POST", "/refresh-token", { userUlid, forceRefresh: true })
    assert.deepInclude(await refresh(cem), { success: false, code: "ReauthorizationRequired" })
  })

  it("queue each mishap that there is, and forget them", async () => {
    const [commands = ""] = blocks("Mishaps")
    const answers = await bash(commands)
    for (const answer of answers) assert.deepInclude(answer, success, answer.message)
    const [none] = answers
    const queued = answers.at(-3)?.["queued"] as ReadonlyArray<Answer>
    const kinds = (none?.["faults"] as ReadonlyArray<Answer>).map(({ fault }) => fault)
    assert.sameMembers([...new Set(queued.map(({ fault }) => fault))], kinds)
    assert.strictEqual(commands.split("\ncurl ").length, answers.length + 1)
    assert.deepStrictEqual(answers.at(-1)?.["queued"], [])
  })

  it("turn Cal.com into another one, and back", async () => {
    const [before, refused, fork, after] = await bash(blocks("Another Cal.com")[0] ?? "")
    assert.nestedPropertyVal(refused, "switches.managedSecretRejected", true)
    assert.nestedPropertyVal(refused, "switches.rateLimits.client", 3)
    assert.nestedPropertyVal(fork, "switches.line", "D")
    assert.deepStrictEqual(after, before)
  })

  it("list what was asked, and forget it", async () => {
    const [some, all, none] = await bash(blocks("What was asked")[0] ?? "")
    const of = (answer: Answer | undefined) => answer?.["calls"] as ReadonlyArray<Answer>
    assert.deepStrictEqual(
      [...new Set(of(some).map(({ calUserId, kind }) => `${String(kind)} ${String(calUserId)}`))],
      ["refresh 1000"]
    )
    assert.isAbove(of(all).length, of(some).length)
    assert.deepStrictEqual(of(none), [])
  })
})
