/** The service where the only way out is a proxy, with TLS behind it: its tokens, its proxied requests and its webhooks. */
import * as Fs from "node:fs"
import * as Https from "node:https"
import * as Os from "node:os"
import * as Path from "node:path"
import { HttpServer } from "@effect/platform"
import { NodeHttpServer } from "@effect/platform-node"
import { assert, it } from "@effect/vitest"
import { Context, Effect, Layer, Redacted } from "effect"
import { generate } from "selfsigned"
import * as Sandbox from "../../src/Sandbox.js"
import * as ConnectProxy from "../support/ConnectProxy.js"
import { build, run } from "./Program.js"

const key = "SECRET-api-key-of-at-least-32-characters"
const [managedUser, oauth2User] = ["01HZY9TESTSAAAAAAAAAAAAAAA", "01HZY9TESTSBBBBBBBBBBBBBBB"]

const directory = (make: () => string) =>
  Effect.acquireRelease(Effect.sync(make), (path) => Effect.sync(() => Fs.rmSync(path, { recursive: true })))

/** For both names, known to whoever is told of it. */
const certificate = Effect.gen(function* () {
  const at = yield* directory(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "cal-tokens-tls-")))
  const altNames = ["api.cal.test", "hooks.test"].map((value) => ({ type: 2 as const, value }))
  const extensions = [
    { name: "basicConstraints" as const, cA: true },
    { name: "subjectAltName" as const, altNames }
  ]
  const { cert, private: key } = yield* Effect.promise(() =>
    generate([{ name: "commonName", value: "cal.test" }], { keyType: "ec", algorithm: "sha256", extensions })
  )
  const certFile = Path.join(at, "cert.pem")
  Fs.writeFileSync(certFile, cert)
  return { certFile, key, cert }
})

const portOf = (server: Https.Server) => {
  const address = server.address()
  return typeof address === "object" && address !== null ? address.port : 0
}

/** Takes webhooks. */
const receiver = (tls: Https.ServerOptions) =>
  Effect.acquireRelease(
    Effect.async<{ readonly server: Https.Server; readonly port: number; readonly first: Promise<string> }>(
      (resume) => {
        let received: (body: string) => void = () => {}
        const first = new Promise<string>((resolve) => (received = resolve))
        const server = Https.createServer(tls, (request, response) => {
          let body = ""
          request.on("data", (chunk) => (body += String(chunk)))
          request.on("end", () => {
            received(body)
            response.end()
          })
        })
        server.listen(0, "127.0.0.1", () => resume(Effect.succeed({ server, port: portOf(server), first })))
      }
    ),
    ({ server }) =>
      Effect.sync(() => {
        server.closeAllConnections()
        server.close()
      })
  )

it.scopedLive(
  "everything goes through the proxy, which sees where to and nothing else",
  () =>
    Effect.gen(function* () {
      const { cert, certFile, key: privateKey } = yield* certificate
      const tls = { key: privateKey, cert }
      const calServer = Https.createServer(tls)
      const context = yield* Layer.build(
        Layer.unwrapEffect(Effect.map(Sandbox.Sandbox, ({ app }) => HttpServer.serve(app))).pipe(
          Layer.provide(NodeHttpServer.layer(() => calServer, { port: 0, host: "127.0.0.1" })),
          Layer.provideMerge(Sandbox.layer())
        )
      )
      const sandbox = Context.get(context, Sandbox.Sandbox)
      const hooks = yield* receiver(tls)
      const proxy = yield* ConnectProxy.make({ "api.cal.test:443": portOf(calServer), "hooks.test:443": hooks.port })

      const built = yield* directory(build)
      const program = yield* Effect.acquireRelease(
        Effect.sync(() =>
          run(built, ["dist/main.js", "serve"], {
            PORT: "0",
            NODE_EXTRA_CA_CERTS: certFile,
            https_proxy: `http://me:SECRET-of-the-proxy@127.0.0.1:${proxy.port}`,
            CAL_API_URL: "https://api.cal.test/v2",
            CAL_CLIENT_ID: Sandbox.demoManaged.clientId,
            CAL_CLIENT_SECRET: Redacted.value(Sandbox.demoManaged.clientSecret),
            CAL_OAUTH_CLIENT_ID: Sandbox.demoOAuth2.clientId,
            CAL_OAUTH_CLIENT_SECRET: Redacted.value(Sandbox.demoOAuth2.clientSecret),
            CAL_OAUTH_AUTHORIZE_URL: "https://app.cal.test/auth/oauth2/authorize",
            CAL_TOKENS_API_KEYS: `ops:${key}`,
            CAL_TOKENS_WEBHOOK_URL: "https://hooks.test/SECRET-path",
            CAL_TOKENS_WEBHOOK_SECRET: `whsec_${Buffer.alloc(32, 9).toString("base64")}`
          })
        ),
        ({ exit, process }) =>
          Effect.promise(() => {
            process.kill("SIGKILL")
            return exit
          })
      )
      const [, url] = yield* Effect.promise(() => program.until(/"message":"Listening on (http:[^"]+)"/))
      const ask = (method: string, path: string, body?: object) =>
        Effect.promise(async () => {
          const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" }
          const answer = await fetch(`${url}${path}`, { method, headers, ...(body && { body: JSON.stringify(body) }) })
          return (await answer.json()) as Record<string, unknown>
        })
      const force = (userUlid: string) => ask("POST", "/api/cal/refresh-token", { userUlid, forceRefresh: true })

      const person = { userUlid: managedUser, email: "ada@example.com", name: "Ada" }
      assert.isTrue((yield* ask("POST", "/api/cal/managed-users", person))["success"])
      const { accessToken, calUserId, expiresIn, refreshToken } = yield* sandbox.grantOAuth2()
      const connected = yield* ask("PUT", `/api/cal/connections/${oauth2User}`, {
        kind: "oauth2",
        accessToken: Redacted.value(accessToken),
        refreshToken: Redacted.value(refreshToken),
        accessTokenExpiresAt: (yield* sandbox.now) + expiresIn * 1000
      })
      assert.deepStrictEqual(connected, { success: true })

      assert.isTrue((yield* force(managedUser))["refreshed"])
      assert.isTrue((yield* force(oauth2User))["refreshed"])
      const me = yield* ask("GET", `/api/cal/proxy/${oauth2User}/me`)
      assert.strictEqual((me["data"] as { readonly id: number }).id, calUserId)

      // Nothing is spent by asking a proxy that lets nobody through.
      proxy.setMood({ status: 407, body: "" })
      const refused = yield* force(managedUser)
      assert.strictEqual(refused["code"], "CalUnavailable", JSON.stringify(refused))
      assert.include(refused["error"], "the proxy answered 407 to CONNECT")
      assert.notInclude(JSON.stringify(refused), "cal.test")
      assert.include(
        program.stdout(),
        `"tried":"https://api.cal.test (set by CAL_API_URL) through the proxy http://127.0.0.1:${proxy.port} (set by HTTPS_PROXY)"`
      )
      proxy.setMood("tunnel")

      yield* sandbox.revokeRefreshTokens(calUserId)
      yield* force(oauth2User)
      const hook = JSON.parse(yield* Effect.promise(() => hooks.first)) as { readonly type: string }
      assert.strictEqual(hook.type, "connection.reauthorization_required")

      const targets = proxy.heads.map((head) => head.split(" ", 2).join(" "))
      assert.sameMembers([...new Set(targets)], ["CONNECT api.cal.test:443", "CONNECT hooks.test:443"])
      assert.notMatch(proxy.heads.join(""), /\/v2|SECRET-path|bearer/i)
      assert.notMatch(program.stdout() + program.stderr(), /SECRET/)
    }),
  180_000
)
