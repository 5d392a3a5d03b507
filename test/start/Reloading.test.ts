/** Secrets that are changed under the running program. */
import * as Fs from "node:fs"
import * as Http from "node:http"
import * as Os from "node:os"
import * as Path from "node:path"
import { HttpServer } from "@effect/platform"
import { NodeHttpServer } from "@effect/platform-node"
import { assert, it } from "@effect/vitest"
import { Effect, Layer, Redacted } from "effect"
import { afterAll, beforeAll } from "vitest"
import { Sandbox } from "../../src/Sandbox.js"
import * as Sandboxes from "../../src/Sandbox.js"
import { keyOf } from "../support/Keys.js"
import { build, type Program, run } from "./Program.js"

let directory: string
beforeAll(() => {
  directory = build()
}, 180_000)
afterAll(() => Fs.rmSync(directory, { recursive: true }))

const [ada, ben] = ["01HZY9TESTSAAAAAAAAAAAAAAA", "01HZY9TESTSBBBBBBBBBBBBBBB"] as const
const [oldKey, newKey] = ["SECRET-old-0123456789abcdefghijklmnop", "SECRET-new-0123456789abcdefghijklmnop"] as const

const started = (variables: Record<string, string>) =>
  Effect.acquireRelease(
    Effect.sync(() => run(directory, ["dist/program.mjs", "serve"], { PORT: "0", ...variables })),
    ({ exit, process }) =>
      Effect.promise(() => {
        process.kill("SIGKILL")
        return exit
      })
  )

/** What the program says of a signal, after all that it said before. */
const hangUp = (program: Program, said: RegExp) =>
  Effect.promise(async () => {
    const { length } = program.stdout()
    program.process.kill("SIGHUP")
    // Never shorter than before, so that an older line is not taken for this one.
    await program.until(new RegExp(`^[^]{${length},}?${said.source}`))
  })

/** Cal.com on a port of this process. */
const cal = Effect.gen(function* () {
  const sandbox = yield* Sandbox
  yield* HttpServer.serveEffect(sandbox.app)
  const { address } = yield* HttpServer.HttpServer
  return { sandbox, url: `http://127.0.0.1:${address._tag === "TcpAddress" ? address.port : 0}/v2` }
})
const layerCal = Layer.mergeAll(
  Sandboxes.layer(),
  NodeHttpServer.layer(Http.createServer, { port: 0, host: "127.0.0.1" })
)

it.scopedLive(
  "files that hold secrets are read again at SIGHUP, and nothing else is disturbed",
  () =>
    Effect.gen(function* () {
      const { url: calUrl } = yield* cal
      const folder = yield* Effect.acquireRelease(
        Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "cal-tokens-secrets-"))),
        (folder) => Effect.sync(() => Fs.rmSync(folder, { recursive: true }))
      )
      const write = (name: string, text: string) => {
        const file = Path.join(folder, name)
        Fs.writeFileSync(file, text)
        return file
      }
      const apiKeys = (...keys: ReadonlyArray<string>) =>
        write("api", keys.map((key) => `${key === oldKey ? "old" : "new"}:${key}:manage+proxy`).join(",") + "\n")
      const encryption = (...keys: ReadonlyArray<string>) => write("encryption", keys.join(","))
      const [k1, k2] = [keyOf("k1", 1), keyOf("k2", 2)]
      const program = yield* started({
        CAL_API_URL: calUrl,
        CAL_CLIENT_ID: Sandboxes.demoManaged.clientId,
        CAL_CLIENT_SECRET_FILE: write("client", "SECRET-that-is-none"),
        CAL_TOKENS_DATA_DIR: Path.join(folder, "data"),
        CAL_TOKENS_API_KEYS_FILE: apiKeys(oldKey),
        CAL_TOKENS_ENCRYPTION_KEYS_FILE: encryption(k1),
        HTTP_PROXY_FILE: write("proxy", "http://127.0.0.1:1"),
        // So that each request looks into the database.
        CAL_TOKENS_MEMORY_MAX_AGE: "1 ms"
      })
      const [, url] = yield* Effect.promise(() => program.until(/"message":"Listening on (http:[^"]+)"/))
      const send = (key: string, method: string, path: string, body?: object) =>
        fetch(`${url}${path}`, {
          method,
          headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
          ...(body && { body: JSON.stringify(body) })
        })
      const ask = (key: string, method: string, path: string, body?: object) =>
        Effect.promise(async () => {
          const answer = await send(key, method, path, body)
          return [answer.status, (await answer.json()) as Record<string, unknown>] as const
        })
      const pageOf = (cookie: string) => ({ headers: { cookie, "x-cal-tokens-page": "1" } })
      const paged = (cookie: string) =>
        Effect.promise(async () => (await fetch(`${url}/api/cal/connections/${ada}`, pageOf(cookie))).status)
      const status = (key: string, path: string) => Effect.map(ask(key, "GET", path), ([status]) => status)
      const connect = (userUlid: string, name: string) =>
        ask(oldKey, "POST", "/api/cal/managed-users", { userUlid, name, email: `${name}@example.com` })

      // A client's secret.
      const [refused, why] = yield* connect(ada, "ada")
      assert.deepStrictEqual([refused, why["code"]], [502, "CalClientMisconfigured"])
      write("client", Redacted.value(Sandboxes.demoManaged.clientSecret))
      yield* hangUp(program, /re-read, and in force from now on: CAL_CLIENT_SECRET"/)
      assert.strictEqual((yield* connect(ada, "ada"))[0], 200)
      assert.strictEqual((yield* connect(ben, "ben"))[0], 200)
      const [, { session }] = yield* ask(oldKey, "POST", "/api/cal/sessions", { userUlid: ben })

      // Somebody who looks at the page.
      const signedIn = yield* Effect.promise(() =>
        fetch(`${url}/page/session`, {
          method: "POST",
          headers: { "x-cal-tokens-page": "1", "content-type": "application/json" },
          body: JSON.stringify({ key: oldKey })
        })
      )
      const [cookie = ""] = (signedIn.headers.get("set-cookie") ?? "").split(";", 1)
      assert.strictEqual(yield* paged(cookie), 200)

      // Who is there before, and stays.
      const stream = yield* Effect.promise(() => send(oldKey, "GET", "/api/cal/events"))
      const reader = (stream.body as ReadableStream<Uint8Array>).getReader()
      const news = (async () => {
        let heard = ""
        for (let part = await reader.read(); !part.done; part = await reader.read()) {
          heard += new TextDecoder().decode(part.value)
          if (heard.includes(`"userUlid":"${ben}","kind":"disconnected"`)) return "heard"
        }
        return "ended"
      })().catch(() => "broken")

      // An API key, while others ask.
      const beside = Promise.all(
        Array.from({ length: 20 }, async () => (await send(oldKey, "GET", `/api/cal/connections/${ada}`)).status)
      )
      apiKeys(oldKey, newKey)
      yield* hangUp(program, /re-read, and in force from now on: CAL_TOKENS_API_KEYS"/)
      assert.deepStrictEqual(yield* Effect.promise(() => beside), Array(20).fill(200))
      for (const key of [oldKey, newKey]) assert.strictEqual(yield* status(key, `/api/cal/connections/${ada}`), 200)

      // Encryption keys: one more, and then the first one less, under which Ben is sealed and his session signed.
      encryption(k2, k1)
      yield* hangUp(program, /re-read, and in force from now on: CAL_TOKENS_ENCRYPTION_KEYS"/)
      const force = { userUlid: ada, forceRefresh: true }
      assert.strictEqual((yield* ask(newKey, "POST", "/api/cal/refresh-token", force))[0], 200)
      encryption(k2)
      yield* hangUp(program, /"CAL_TOKENS_ENCRYPTION_KEYS lacks k1: /)
      for (const user of [ada, ben]) {
        assert.strictEqual((yield* ask(newKey, "POST", "/api/cal/ensure-token", { userUlid: user }))[0], 200)
      }
      assert.strictEqual(yield* status(String(session), "/api/cal/me/me"), 200)
      assert.strictEqual(yield* paged(cookie), 200)
      const [, ready] = yield* ask(newKey, "GET", "/health/ready")
      const missing = (ready["missingKeys"] as ReadonlyArray<{ readonly id: string }>).map(({ id }) => id)
      assert.deepStrictEqual(missing, ["k1"])

      // What is wrong.
      encryption(keyOf("k2", 3))
      yield* hangUp(program, /everything stays as it was: in CAL_TOKENS_ENCRYPTION_KEYS the key k2 is another one/)
      encryption(k2)
      yield* hangUp(program, /SIGHUP: no file has changed/)
      write("api", "SECRET")
      yield* hangUp(
        program,
        /everything stays as it was: CAL_TOKENS_API_KEYS_FILE must name a file whose text is right/
      )
      Fs.rmSync(Path.join(folder, "api"))
      yield* hangUp(program, /everything stays as it was: CAL_TOKENS_API_KEYS_FILE must name a file that can be read/)
      for (const key of [oldKey, newKey]) assert.strictEqual(yield* status(key, `/api/cal/connections/${ada}`), 200)

      // The old key goes, and whoever came with it stays.
      apiKeys(newKey)
      yield* hangUp(program, /re-read, and in force from now on: CAL_TOKENS_API_KEYS"/)
      assert.strictEqual(yield* status(oldKey, `/api/cal/connections/${ada}`), 401)
      assert.strictEqual(yield* paged(cookie), 401)
      assert.strictEqual((yield* ask(newKey, "DELETE", `/api/cal/connections/${ben}`))[0], 200)
      assert.strictEqual(yield* Effect.promise(() => news), "heard")

      // What others were made with.
      write("proxy", "http://127.0.0.1:2")
      yield* hangUp(program, /changed, and in force from the next start on only: HTTP_PROXY"/)

      assert.notMatch(program.stdout() + program.stderr(), /SECRET-/)
      assert.strictEqual(program.stderr(), "")
      program.process.kill("SIGTERM")
      assert.strictEqual(yield* Effect.promise(() => program.exit), 0)
    }).pipe(Effect.provide(layerCal)),
  180_000
)

it.scopedLive(
  "without files SIGHUP ends nothing, and says so",
  () =>
    Effect.gen(function* () {
      const program = yield* started({
        CAL_CLIENT_ID: "client",
        CAL_CLIENT_SECRET: "secret",
        CAL_TOKENS_API_KEYS: `ops:${oldKey}`,
        CAL_TOKENS_DATA_DIR: Path.join(directory, "without-files")
      })
      const [, url] = yield* Effect.promise(() => program.until(/"message":"Listening on (http:[^"]+)"/))
      yield* hangUp(program, /SIGHUP: there is nothing to re-read/)
      yield* hangUp(program, /SIGHUP: there is nothing to re-read/)
      assert.strictEqual((yield* Effect.promise(() => fetch(`${url}/health/live`))).status, 200)
    }),
  180_000
)
