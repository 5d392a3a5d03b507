/** The server of `src/Next/README.md` for Hono, started as its reader does: beside a simulated Cal.com, without a database. */
import { execFile } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { transformSync } from "esbuild"
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import * as Pages from "../docs/Pages.js"
import { allow } from "./Consent.js"
import { build, exported, type Program, run } from "./Program.js"

const read = (path: string) => Fs.readFileSync(fileURLToPath(new URL(`../../${path}`, import.meta.url)), "utf8")
const readme = read("src/Next/README.md")
const source = read("test/Next/hono/server.ts")

const [, flags = ""] = /^npx cal-tokens sandbox --port 4010 (.*)$/m.exec(readme) ?? []

it("is shown by the README, as a whole", () => {
  assert.include(readme, `\n\`\`\`ts\n${source}\`\`\`\n`)
})

describe("the server for Hono", () => {
  const ada = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
  let directory: string
  let sandbox: Program
  let server: Program
  let url: string

  beforeAll(async () => {
    directory = build()
    Fs.writeFileSync(Path.join(directory, "server.mjs"), transformSync(source, { loader: "ts" }).code)
    sandbox = run(directory, ["dist/program.mjs", "sandbox", "--port", "0", ...flags.split(" ")])
    await sandbox.until(/^Stop with Ctrl-C/m)
    server = run(directory, ["server.mjs"], { ...exported(sandbox.stdout()), PORT: "0" })
    const [listening = ""] = await server.until(/^http:\S+$/m)
    url = listening
  })

  afterAll(async () => {
    for (const { exit, process } of [server, sandbox]) {
      process.kill("SIGTERM")
      await exit
    }
    Fs.rmSync(directory, { recursive: true })
  })

  it("connects whoever is signed in, shows their bookings, and says as itself what went wrong", async () => {
    let cookie = `user=${ada}`
    const ask = (path: string, init: RequestInit = {}) =>
      fetch(url + path, {
        redirect: "manual",
        ...init,
        headers: { cookie, origin: "http://localhost:3000", ...init.headers }
      })

    assert.strictEqual((await fetch(`${url}/bookings`)).status, 401)
    const unknown = await ask("/bookings")
    assert.strictEqual(unknown.status, 404)
    assert.deepInclude(await unknown.json(), { success: false, code: "TokensNotFound" })

    const [, action = ""] = / action="([^"]+)"/.exec(await (await ask("/")).text()) ?? []
    const left = await ask(action, { method: "POST" })
    assert.strictEqual(left.status, 303, await left.clone().text())
    cookie += `; ${left.headers.getSetCookie()[0]?.split(";", 1)[0]}`
    const { pathname, search } = await allow(new URL(left.headers.get("location") ?? ""))
    const back = await ask(pathname + search)
    assert.strictEqual(back.headers.get("location"), "http://localhost:3000/bookings")

    assert.deepInclude(await (await ask("/bookings")).json(), { status: "success", data: [] })
    assert.deepInclude(await (await ask("/api/cal/me/me")).json(), { status: "success" })
    assert.strictEqual((await ask("/api/cal/me/schedules")).status, 403)
    const [, trouble = ""] = Pages.texts("src/Next/README.md", "Trying consent on your machine", "sh")
    const [, address = ""] = /^export CAL=(\S+)$/m.exec(trouble) ?? []
    const { stdout } = await promisify(execFile)("bash", [
      ...[
        "--norc",
        "-euo",
        "pipefail",
        "-c",
        trouble.replace(address, exported(sandbox.stdout())["CAL_API_URL"]?.replace("/v2", "") ?? "")
      ]
    ])
    const told = stdout.trim().split("\n")
    assert.deepStrictEqual(
      told,
      Array.from({ length: 2 }, () => `{"status":"success","calUserId":1000}`)
    )
    assert.deepStrictEqual(await (await ask("/api/cal/sign-out", { method: "POST" })).json(), { success: true })
  })
})
