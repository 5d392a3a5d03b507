/** What `src/Environment/README.md` shows of running the service, carried out as it stands. */
import { execFileSync, spawn, spawnSync } from "node:child_process"
import { createHash } from "node:crypto"
import * as Fs from "node:fs"
import * as Http from "node:http"
import * as Https from "node:https"
import * as Os from "node:os"
import * as Path from "node:path"
import { ConfigProvider, Duration, Effect, Either, Redacted } from "effect"
import { generate } from "selfsigned"
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import * as Numbers from "../../src/Actions/Numbers.js"
import * as ApiKeys from "../../src/ApiKeys.js"
import * as Environment from "../../src/Environment.js"
import { ada, wellKnownKey } from "../../src/Environment/Demo.js"
import * as Server from "../../src/Http/Server.js"
import * as TokenConfig from "../../src/TokenConfig.js"
import { blocks } from "../support/Document.js"
import { keyOf } from "../support/Keys.js"
import { freePort } from "../support/Ports.js"
import { build, exported, type Program, run } from "./Program.js"

const document = "src/Environment/README.md"
const text = Fs.readFileSync(new URL(`../../${document}`, import.meta.url), "utf8")

const installed = (program: string) =>
  ["/usr/sbin", "/usr/bin", "/usr/local/bin"].map((at) => Path.join(at, program)).find((path) => Fs.existsSync(path))

const [nginx, caddy, analyze] = ["nginx", "caddy", "systemd-analyze"].map(installed)

let directory: string
beforeAll(() => {
  directory = build()
}, 180_000)
afterAll(() => Fs.rmSync(directory, { recursive: true }))

const apiKey = "an-api-key-of-at-least-32-characters"

const load = (variables: Readonly<Record<string, string>>) =>
  Environment.load.pipe(
    Effect.withConfigProvider(ConfigProvider.fromMap(new Map(Object.entries(variables)))),
    Effect.runSync
  )

const bash = (script: string) => execFileSync("bash", ["--norc", "-euc", script], { encoding: "utf8" }).trim()

describe("what is shown of settings", () => {
  it("writes API keys without their secrets, and with limits", () => {
    const [, , hash = ""] = blocks(document, "## What they hold", "sh")
    const [list = ""] = blocks(document, "## What they hold", "json")
    const line = bash(`openssl() { if [ "$1" = rand ]; then echo ${apiKey}; else command openssl "$@"; fi; }\n${hash}`)
    const sha256 = createHash("sha256").update(apiKey).digest("hex")
    assert.strictEqual(line, `backend:sha256:${sha256}:manage+proxy`)
    const [limited] = Either.getOrThrow(ApiKeys.parse(list.replace("…", sha256)))
    assert.deepInclude(limited, {
      name: "reports",
      secret: { sha256 },
      methods: ["GET", "HEAD"],
      paths: ["/bookings", "/slots"],
      expiresAt: Date.UTC(2027, 0, 31)
    })
    assert.deepStrictEqual([...(limited?.users ?? [])], ["01HZY9TESTSAAAAAAAAAAAAAAA"])
  })

  it("makes keys and secrets that the service takes", () => {
    const scripts = blocks(document, "## What they hold", "sh").map(bash)
    const [encryptionKeys = "", apiKeys = "", hashed = "", webhookSecret = ""] = scripts
    const { apiKeys: parsed, webhook } = load({
      CAL_CLIENT_ID: "client",
      CAL_CLIENT_SECRET: "secret",
      DATABASE_URL: "postgres://localhost/app",
      CAL_TOKENS_ENCRYPTION_KEYS: encryptionKeys,
      CAL_TOKENS_API_KEYS: `${apiKeys},${hashed.replace("backend", "hashed")}`,
      CAL_TOKENS_WEBHOOK_URL: "https://app.example.com/hooks",
      CAL_TOKENS_WEBHOOK_SECRET: webhookSecret
    })
    assert.deepStrictEqual(
      parsed.map(({ name, scopes }) => [name, [...scopes]]),
      [
        ["backend", ["manage", "proxy"]],
        ["hashed", ["manage", "proxy"]]
      ]
    )
    assert.strictEqual(webhook._tag, "Some")
  })

  it("names several clients in a file", () => {
    const [file = ""] = blocks(document, "## Several clients", "json")
    const path = Path.join(directory, "clients.json")
    Fs.writeFileSync(
      path,
      file
        .replaceAll('"…"', '"client"')
        .replace('"client",\n      "clientSecret": [', '"other",\n      "clientSecret": [')
    )
    const { cal } = load({ CAL_TOKENS_CLIENTS_FILE: path, CAL_TOKENS_API_KEYS: `ops:${apiKey}` })
    assert(cal._tag === "Client")
    assert.deepStrictEqual(
      [cal.options.others?.managed?.length, cal.options.others?.oauth2?.map(({ scopes }) => scopes)],
      [1, [["BOOKING_READ", "PROFILE_READ"]]]
    )
  })

  it("leaves a function nothing to do once it has answered, and one connection", () => {
    const [block = ""] = blocks(document, "## Serverless", "sh")
    const { cal, config, refreshAhead } = load({
      ...exported(block),
      CAL_CLIENT_ID: "client",
      CAL_CLIENT_SECRET: "secret",
      DATABASE_URL: "postgres://localhost/app",
      CAL_TOKENS_ENCRYPTION_KEYS: keyOf("k1", 1),
      CAL_TOKENS_API_KEYS: `ops:${apiKey}`
    })
    assert.isFalse(refreshAhead)
    const { windows } = TokenConfig.change(TokenConfig.defaults, config)
    assert.deepStrictEqual(windows.soon, windows.due)
    // In actions, the same.
    const [, numbers = ""] = /`config: (\{.*\})`/.exec(text) ?? []
    const given = Numbers.decode(JSON.parse(numbers.replace(/(\w+):/g, '"$1":')))
    assert(given._tag === "Right")
    assert.deepStrictEqual(
      TokenConfig.change(TokenConfig.defaults, given.right),
      TokenConfig.change(TokenConfig.defaults, config)
    )
    assert(cal._tag === "Client" && cal.database._tag === "Postgres")
    assert.strictEqual(cal.database.poolSize, 1)
  })

  it("gives a process longer to end than it may take", () => {
    const told = Array.from(
      text.matchAll(/(?:--stop-timeout |stop_grace_period: |terminationGracePeriodSeconds: |TimeoutStopSec=)(\d+)/g),
      ([, seconds]) => Number(seconds)
    )
    assert.lengthOf(told, 4)
    const longest = Duration.toSeconds(Duration.sum(Server.drainTimeout, TokenConfig.defaults.shutdownWait))
    for (const seconds of told) assert.isAbove(seconds, longest)
  })
})

describe.skipIf(analyze === undefined)("the unit for systemd (skipped where there is none)", () => {
  it("is one, of a program that is there", () => {
    const [unit = ""] = blocks(document, "## With systemd", "ini")
    const program = Path.join(directory, "dist/program.mjs")
    const started = `ExecStart=${process.execPath} ${program} serve\n`
    const ours = unit.replace(/^ExecStart=\/usr\/bin\/node \/opt\/\S+\/dist\/program\.mjs serve\n/m, started)
    assert.include(ours, started)
    const verified = (name: string, text: string) => {
      const path = Path.join(directory, name)
      Fs.writeFileSync(path, text)
      const { status, stderr } = spawnSync(analyze ?? "", ["verify", "--man=no", path], { encoding: "utf8" })
      return { status, said: stderr.split("\n").filter((line) => line.includes(name)) }
    }
    assert.deepStrictEqual(verified("cal-tokens.service", ours), { status: 0, said: [] })
    // It does look.
    assert.notDeepEqual(verified("misspelt.service", ours.replace("KillMode=mixed", "KillMode=mxied")).said, [])
  })
})

/** A program that says on standard error when it is ready. */
const start = (command: string, args: ReadonlyArray<string>, home: string, ready: RegExp) => {
  const child = spawn(command, [...args], {
    cwd: home,
    env: { PATH: process.env["PATH"] ?? "", HOME: home },
    stdio: ["ignore", "ignore", "pipe"]
  })
  const ended = new Promise<void>((resolve) => child.once("close", () => resolve()))
  const isReady = new Promise<void>((resolve, reject) => {
    let said = ""
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      said += text
      if (ready.test(said)) resolve()
    })
    child.once("error", reject)
    child.once("close", (code) => reject(new Error(`${command} ended with ${code}: ${said}`)))
  })
  return {
    isReady,
    stop: () => {
      child.kill("SIGTERM")
      return ended
    }
  }
}

interface Answer {
  readonly status: number
  readonly text: string
  readonly headers: Http.IncomingHttpHeaders
}

interface Question {
  readonly method?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
  /** Which of this machine's addresses asks. */
  readonly from?: string
  /** Ends as soon as this is there. */
  readonly until?: RegExp
  /** Called with the first that comes. */
  readonly begun?: () => void
}

/** As the page asks, without a key. */
const byPage = { "x-cal-tokens-page": "1" }

/** A path as it is written, which `fetch` would tidy up. */
const ask = (base: string, path: string, { begun, body, from, headers = {}, method = "GET", until }: Question = {}) =>
  new Promise<Answer>((resolve, reject) => {
    const { hostname, port, protocol } = new URL(base)
    const client = protocol === "https:" ? Https : Http
    const request = client.request(
      {
        ...{ hostname, port, path, method, localAddress: from, rejectUnauthorized: false, agent: false },
        headers: {
          ...("x-cal-tokens-page" in headers ? {} : { authorization: `Bearer ${Redacted.value(wellKnownKey)}` }),
          "content-type": "application/json",
          ...headers
        }
      },
      (response) => {
        let text = ""
        const done = () => resolve({ status: response.statusCode ?? 0, text, headers: response.headers })
        response.setEncoding("utf8").on("data", (chunk: string) => {
          if (text === "") begun?.()
          text += chunk
          if (until?.test(text) !== true) return
          done()
          request.destroy()
        })
        response.on("end", done)
      }
    )
    request.on("error", reject)
    request.end(body)
  })

/** A reverse proxy in front of a service, by what the page shows of it. */
interface Front {
  readonly name: string
  readonly program: string | undefined
  /** A path as it is passed on. */
  readonly passed: (path: string) => string
  /** Its address without a path, and how it is stopped. */
  readonly open: (
    home: string,
    service: number
  ) => Promise<{ readonly url: string; readonly stop: () => Promise<void> }>
}

const fronts: ReadonlyArray<Front> = [
  {
    name: "nginx",
    program: nginx,
    passed: (path) => path,
    open: async (home, service) => {
      const [shown = ""] = blocks(document, "## Behind a reverse proxy", "nginx")
      const port = await freePort()
      const { cert, private: key } = await generate([{ name: "commonName", value: "app.example.com" }], {
        keyType: "ec"
      })
      Fs.writeFileSync(Path.join(home, "app.example.com.pem"), cert)
      Fs.writeFileSync(Path.join(home, "app.example.com.key"), key)
      const ours = shown
        .replace("listen 443 ssl", `listen 127.0.0.1:${port} ssl`)
        .replace("127.0.0.1:4000", `127.0.0.1:${service}`)
        .replaceAll("/etc/ssl/", `${home}/`)
      const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(
        (it) => `${it}_temp_path ${home}/${it};`
      )
      Fs.writeFileSync(
        Path.join(home, "nginx.conf"),
        [
          ...["daemon off;", "master_process off;", `pid ${home}/pid;`, "error_log stderr notice;", "events {}"],
          ...["http {", "access_log off;", ...temporary, ours, "}"]
        ].join("\n")
      )
      const { isReady, stop } = start(
        nginx ?? "",
        ["-c", Path.join(home, "nginx.conf"), "-e", "stderr"],
        home,
        /using the .* event method/
      )
      await isReady
      return { url: `https://127.0.0.1:${port}`, stop }
    }
  },
  {
    name: "Caddy",
    program: caddy,
    passed: (path) => path.replace(/\/{2,}/g, "/").replace("/../cal/", "/"),
    open: async (home, service) => {
      const [shown = ""] = blocks(document, "## Behind a reverse proxy", "caddyfile")
      const port = await freePort()
      // Certificates would come from the world.
      const ours = shown
        .replace("app.example.com", `http://127.0.0.1:${port}`)
        .replace("127.0.0.1:4000", `127.0.0.1:${service}`)
      Fs.writeFileSync(Path.join(home, "Caddyfile"), `{\n\tadmin off\n}\n${ours}`)
      const { isReady, stop } = start(
        caddy ?? "",
        ["run", "--config", Path.join(home, "Caddyfile")],
        home,
        /serving initial configuration/
      )
      await isReady
      return { url: `http://127.0.0.1:${port}`, stop }
    }
  }
]

describe("behind a reverse proxy", () => {
  let service: Program
  let direct: string

  beforeAll(async () => {
    const [shown = ""] = blocks(document, "## Behind a reverse proxy", "sh")
    service = run(directory, ["dist/program.mjs", "serve"], {
      ...exported(shown),
      PORT: "0",
      CAL_TOKENS_DEMO: "1",
      CAL_TOKENS_DATA_DIR: Path.join(directory, "data"),
      LOG_FORMAT: "json"
    })
    const [, url = ""] = await service.until(/^cal-tokens listens on (http:\S+)$/m)
    direct = url
  }, 180_000)

  afterAll(async () => {
    service.process.kill("SIGTERM")
    await service.exit
  })

  describe.each(fronts)("$name (skipped where it is not installed)", ({ name, open, passed, program }) => {
    let home: string
    let front: Awaited<ReturnType<Front["open"]>>

    beforeAll(async () => {
      if (program === undefined) return
      home = Fs.mkdtempSync(Path.join(Os.tmpdir(), "cal-tokens-front-"))
      front = await open(home, Number(new URL(direct).port))
    }, 60_000)

    afterAll(async () => {
      if (program === undefined) return
      await front.stop()
      Fs.rmSync(home, { recursive: true })
    })

    it.skipIf(program === undefined)(
      "paths are passed on as the page says, and mean what they do without it",
      async () => {
        const paths = [
          `/api/cal/connections/${ada.userUlid}`,
          `/api/cal/proxy/${ada.userUlid}/me`,
          `/api/cal/proxy/${ada.userUlid}/bookings?take=1&attendeeEmail=a%2Bb%40example.com`,
          `/api/cal/proxy/${ada.userUlid}/bookings%2Fmine`,
          `/api/cal/proxy/${ada.userUlid}/oauth%2Fclients`,
          `/api/cal/proxy/${ada.userUlid}//me`,
          `/api/cal/%63onnections/${ada.userUlid}`,
          `/api//cal/connections/${ada.userUlid}`,
          `/api/cal/../cal/connections/${ada.userUlid}`,
          "/nothing"
        ]
        const codes = (base: string, written: (path: string) => string) =>
          Promise.all(
            paths.map(async (path) => {
              const { status, text } = await ask(base, written(path))
              return [path, status, (JSON.parse(text) as { readonly code?: string }).code]
            })
          )
        assert.deepStrictEqual(await codes(front.url, (path) => `/tokens${path}`), await codes(direct, passed))
      }
    )

    it.skipIf(program === undefined)("the page is below the path, and its session for that path alone", async () => {
      const page = await ask(front.url, "/tokens/")
      assert.include(page.text, "<!doctype html>")
      const script = await ask(front.url, "/tokens/page/app.js")
      assert.strictEqual(script.status, 200)
      const enter = (origin: string) =>
        ask(front.url, "/tokens/page/session", {
          method: "POST",
          headers: { ...byPage, origin, "sec-fetch-site": "same-origin" },
          body: JSON.stringify({ key: Redacted.value(wellKnownKey) })
        })
      const { headers, status, text } = await enter("https://app.example.com")
      assert.strictEqual(status, 200, text)
      const [cookie = ""] = headers["set-cookie"] ?? []
      assert.match(
        cookie,
        /^__Secure-cal-tokens-page\d*=[^;]+; Max-Age=43200; Path=\/tokens\/; HttpOnly; Secure; SameSite=Strict$/
      )
      const asked = { ...byPage, cookie: cookie.split(";", 1)[0] ?? "" }
      const path = `/tokens/api/cal/connections/${ada.userUlid}`
      assert.strictEqual((await ask(front.url, path, { headers: asked })).status, 200)
      const foreign = { ...asked, origin: "https://evil.example" }
      assert.strictEqual((await ask(front.url, path, { headers: foreign })).status, 403)
    })

    it.skipIf(program === undefined)("what happens is told while it does", async () => {
      let begun = () => {}
      const hasBegun = new Promise<void>((resolve) => (begun = resolve))
      const events = ask(front.url, "/tokens/api/cal/events", { begun: () => begun(), until: /^event: refreshed\n/m })
      await hasBegun
      const refreshed = await ask(front.url, "/tokens/api/cal/refresh-token", {
        method: "POST",
        body: JSON.stringify({ userUlid: ada.userUlid, forceRefresh: true })
      })
      assert.deepInclude(JSON.parse(refreshed.text), { success: true })
      assert.match((await events).text, /^event: refreshed\n/m)
    })

    it.skipIf(program === undefined)("a body that is too large is refused by the service, in JSON", async () => {
      const body = JSON.stringify({ userUlid: ada.userUlid, padding: "x".repeat(1024 * 1024) })
      const { status, text } = await ask(front.url, "/tokens/api/cal/ensure-token", { method: "POST", body })
      assert.strictEqual(status, 413)
      assert.deepInclude(JSON.parse(text), { success: false, code: "InvalidInput" })
    })

    it.skipIf(program === undefined)("callers are known by their own address, not by what they say it is", async () => {
      const [from, id] = ["127.0.0.2", `request-through-${name}`]
      const headers = { "x-forwarded-for": "203.0.113.9", "x-request-id": id }
      const read = await ask(front.url, `/tokens/api/cal/access-token/${ada.userUlid}`, { from, headers })
      assert.strictEqual(read.status, 200)
      const [line] = await service.until(new RegExp(`^.*"token\\.read".*"request\\.id":"${id}".*$`, "m"))
      assert.include(line, `"client.address":"${from}"`)
    })

    it.skipIf(program === undefined)("the documentation names the address that callers have", async () => {
      const { text } = await ask(front.url, "/tokens/openapi.json")
      const { servers } = JSON.parse(text) as { readonly servers: ReadonlyArray<{ readonly url: string }> }
      assert.deepStrictEqual(
        servers.map(({ url }) => url),
        ["https://app.example.com/tokens"]
      )
    })
  })
})
