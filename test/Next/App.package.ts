/**
 * The Next app of `src/Next/README.md`, as its reader has it: the packed package installed, `next build`, `next start`, and a
 * person with a browser, with Next's `cacheComponents` and without. Cal.com is the sandbox; the tokens are in PostgreSQL.
 */
import { randomBytes } from "node:crypto"
import * as Fs from "node:fs"
import * as NodeHttp from "node:http"
import type { AddressInfo } from "node:net"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import { HttpServer } from "@effect/platform"
import { NodeHttpServer } from "@effect/platform-node"
import { Effect, Exit, Layer, Logger, Redacted, Scope } from "effect"
import type { Browser, Page } from "playwright-core"
import { afterAll, assert, beforeAll, describe, inject, it, vi } from "vitest"
import * as Sandbox from "../../src/Sandbox.js"
import * as Chromium from "../browser/Chromium.js"
import * as Project from "../package/Project.js"
import { type Program, run } from "../start/Program.js"
import { freePort } from "../support/Ports.js"
import { makeDatabase } from "../support/Postgres.js"

const source = fileURLToPath(new URL("app", import.meta.url))
const ada = "01HZY9TESTSAAAAAAAAAAAAAAA"
const ben = "01HZY9TESTSBBBBBBBBBBBBBBB"

const needs = [
  ...["effect", "@effect/platform", "@effect/platform-node", "@effect/sql", "@effect/sql-pg"],
  ...["next", "react", "react-dom", "@types/node", "@types/react", "typescript"]
]

it("README.md beside the handlers shows this app, file by file", () => {
  const readme = Fs.readFileSync(fileURLToPath(new URL("../../src/Next/README.md", import.meta.url)), "utf8")
  const shown = [...readme.matchAll(/^```tsx?\n(\/\/ (\S+?)(?::.*)?\n[^]*?)^```$/gm)].map(([, text, name]) => [
    name,
    text
  ])
  assert.isAbove(shown.length, 8)
  for (const [name = "", text] of shown)
    assert.strictEqual(text, Fs.readFileSync(Path.join(source, name), "utf8"), name)
})

const executable = Chromium.executable()

describe.skipIf(executable === undefined)("an app of Next's", () => {
  let project: Project.Project
  beforeAll(async () => {
    const { tarball } = inject("packed")
    project = Project.make("next")
    Fs.cpSync(source, project.directory, { recursive: true })
    const { code, output } = await project.npm("install", "--no-package-lock", tarball, ...needs.map(Project.tested))
    assert.strictEqual(code, 0, output)
    // What somebody sees renewed has to be a page that is kept.
    rewrite("lib/cal.ts", /\["\/"\]/, `["/", "/stamp"]`)
  }, 900_000)
  afterAll(Project.remove)

  const rewrite = (file: string, from: RegExp, to: string) => {
    const text = Fs.readFileSync(Path.join(source, file), "utf8")
    assert.match(text, from)
    project.write(file, text.replace(from, to))
  }

  describe.each([
    ["with cacheComponents, as create-next-app writes it", true],
    ["without cacheComponents", false]
  ])("%s", (_name, cacheComponents) => {
    const scope = Effect.runSync(Scope.make())
    const runScoped = <A, E>(effect: Effect.Effect<A, E, Scope.Scope>) =>
      effect.pipe(Effect.provide(Logger.remove(Logger.defaultLogger)), Scope.extend(scope), Effect.runPromise)
    let browser: Browser
    let site: string
    let cal: string
    let sandbox: Sandbox.Sandbox["Type"]
    let program: Program
    let built = ""

    beforeAll(async () => {
      if (!cacheComponents) {
        // Types are the same, and were checked by then.
        rewrite(
          "next.config.ts",
          /^  cacheComponents.*\n  partialPrefetching.*\n/m,
          "  typescript: { ignoreBuildErrors: true }\n"
        )
        // There, a page that asks for nothing of a request is kept without it.
        rewrite("app/stamp/page.tsx", /^  "use cache"\n/m, "")
      }
      const next = Path.join(project.directory, "node_modules/next/dist/bin/next")
      // Nothing that is needed is set: what is missing must not stop a build. With a client, and without DATABASE_URL, whoever
      // built the services would leave a directory.
      const build = await project.node([next, "build"], {
        CAL_OAUTH_CLIENT_ID: "client",
        CAL_OAUTH_CLIENT_SECRET: "client-secret",
        CAL_OAUTH_SCOPES: "BOOKING_READ",
        CAL_OAUTH_REDIRECT_URL: "http://localhost:3000/api/cal/callback",
        NEXT_TELEMETRY_DISABLED: "1",
        NODE_ENV: "production"
      })
      assert.strictEqual(build.code, 0, build.output)
      built = build.output

      const server = NodeHttp.createServer()
      const context = await runScoped(Layer.build(NodeHttpServer.layer(() => server, { port: 0, host: "127.0.0.1" })))
      cal = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
      site = `http://localhost:${await freePort()}`
      const oauth2 = { ...Sandbox.demoOAuth2, redirectUris: [`${site}/api/cal/callback`] as const }
      sandbox = await runScoped(Sandbox.make({ oauth2 }))
      await runScoped(Layer.build(Layer.provide(HttpServer.serve(sandbox.app), Layer.succeedContext(context))))
      await runScoped(Effect.addFinalizer(() => Effect.sync(() => server.closeAllConnections())))

      program = run(project.directory, [next, "start", "-p", new URL(site).port, "-H", "localhost"], {
        CAL_API_URL: `${cal}/v2`,
        CAL_OAUTH_AUTHORIZE_URL: `${cal}/auth/oauth2/authorize`,
        CAL_OAUTH_CLIENT_ID: oauth2.clientId,
        CAL_OAUTH_CLIENT_SECRET: Redacted.value(oauth2.clientSecret),
        CAL_OAUTH_REDIRECT_URL: oauth2.redirectUris[0],
        CAL_OAUTH_SCOPES: oauth2.scopes.join(" "),
        CAL_TOKENS_ENCRYPTION_KEYS: `k1:${randomBytes(32).toString("base64")}`,
        DATABASE_URL: Redacted.value(await runScoped(makeDatabase)),
        NEXT_TELEMETRY_DISABLED: "1",
        NODE_ENV: "production"
      })
      await runScoped(
        Effect.addFinalizer(() =>
          Effect.promise(async () => {
            program.process.kill("SIGTERM")
            await program.exit
          })
        )
      )
      await program.until(/Ready in/)
      browser = await Chromium.launch(executable ?? "")
      // A build that has a processor for itself takes half a minute.
    }, 900_000)
    afterAll(async () => {
      await browser?.close()
      await Effect.runPromise(Scope.close(scope, Exit.void))
    })

    /** A person who is signed in, and every answer of the app's that their browser got. */
    const open = async (user: string) => {
      const person = await Chromium.person(browser)
      const answers: Array<Promise<string>> = []
      person.context.on("response", (response) => {
        if (!response.url().startsWith(site)) return
        const body = response.text().catch(() => "")
        answers.push(Promise.all([response.allHeaders(), body]).then((parts) => JSON.stringify(parts)))
      })
      const page = await person.newPage()
      await page.goto(`${site}/login?user=${user}`)
      await page.goto(site)
      return { page, person, said: async () => (await Promise.all(answers)).join("\n") }
    }

    const consent = async (page: Page, label: string, email: string) => {
      await page.click(`text=${label}`)
      assert.include(page.url(), `${cal}/auth/oauth2/authorize?`)
      await page.fill("[name=email]", email)
      await page.click("text=Allow")
      assert.strictEqual(page.url(), `${site}/`)
    }

    const idOf = async (email: string) =>
      (await Effect.runPromise(sandbox.snapshot)).users.find((user) => user.email === email)?.id ?? 0

    /** Of Cal.com's tokens, each is one. */
    const jwt = /eyJ[\w-]+\.[\w-]+\.[\w-]+/

    it("is built without asking a handler, and without the database that is not installed", () => {
      assert.strictEqual(built.includes("Cache Components enabled"), cacheComponents)
      assert.match(built, /ƒ \/api\/cal\/callback/)
      assert.match(built, /ƒ \/api\/cal\/atoms\/refresh/)
      assert.notMatch(built, /StartFailed|level=/)
      assert.isFalse(Fs.existsSync(Path.join(project.directory, ".data")))
      assert.isFalse(Fs.existsSync(Path.join(project.directory, "node_modules/@electric-sql")))
    })

    it("connects a person, shows their bookings, books by a server action, and never shows a token", async () => {
      const { page, person, said } = await open(ada)
      await consent(page, "Connect Cal.com", "ada@example.com")
      assert.deepStrictEqual(await page.locator("li").allTextContents(), [])
      await page.click("text=Book")
      await page.waitForSelector("li")
      assert.strictEqual(await page.locator("li").count(), 1)
      await page.click("text=Who am I?")
      await page.waitForSelector("text=You are ada@example.com")

      const whole = await said()
      assert.include(whole, "ada@example.com")
      assert.notMatch(whole, jwt)
      assert.deepStrictEqual(person.complaints, [])
      assert.deepStrictEqual(person.strays(), [])
    })

    it("asks Cal.com once for each view of the page", async () => {
      const { page } = await open(ada)
      const asked = async () => {
        const calls = await Effect.runPromise(sandbox.calls)
        return calls.filter(({ method, path }) => method === "GET" && path.endsWith("/bookings")).length
      }
      for (let view = 0; view < 2; view++) {
        const before = await asked()
        await page.goto(site)
        assert.strictEqual(await page.locator("li").count(), 1)
        assert.strictEqual((await asked()) - before, 1)
      }
      assert.notInclude(program.stdout() + program.stderr(), "Date.now")
    })

    it("says why nobody was connected, and why nothing was booked", async () => {
      const { page, person } = await open(ada)
      const said = () => page.locator("[role=alert]").allTextContents()
      assert.notInclude((await said()).join(), "Cal.com")
      await page.goto(`${site}/?calError=CalAccountInUse`)
      assert.include(await said(), "This Cal.com account is connected to somebody else.")
      await page.goto(`${site}/?calError=StorageUnavailable`)
      assert.include(await said(), "Cal.com could not be connected. Please try again.")
      await person.context.clearCookies()
      await page.click("text=Book")
      await page.waitForSelector("text=Please sign in.")
    })

    // A token of less than ten seconds is tried again first, in case that a part of Cal.com does not know it yet. Until it is
    // older, the next two load their page again.

    if (cacheComponents) {
      it("connects again who has to", async () => {
        const { page } = await open(ben)
        await consent(page, "Connect Cal.com", "ben@example.com")
        const id = await idOf("ben@example.com")
        await Effect.runPromise(Effect.zipRight(sandbox.revokeRefreshTokens(id), sandbox.expireAccessTokens(id)))
        await page.goto(`${site}/api/runtime?refresh&user=${ben}`)
        await vi.waitUntil(
          async () => {
            await page.goto(site)
            return (await page.locator("text=Connect Cal.com again").count()) === 1
          },
          { timeout: 60_000 }
        )
        await consent(page, "Connect Cal.com again", "ben@example.com")
        // What needs the user follows the page.
        await page.waitForSelector("text=Book")
      })
    }

    it("has one runtime for pages, routes and server actions, each in a bundle of its own", async () => {
      const { page } = await open(ada)
      const own = await page.goto(`${site}/api/runtime?user=${ada}`)
      const { info, users } = (await own?.json()) as { readonly info: object; readonly users: ReadonlyArray<number> }
      assert.deepInclude(info, { success: true, status: "active" })
      // One of them all; and those who share it are more than the two that one bundle has.
      assert.strictEqual(users.length, 1)
      assert.isAbove(users[0] ?? 0, 2)
    })

    it("revalidates what a page's rendering made stale, after that", async () => {
      const { page } = await open(ada)
      const stamp = async () => {
        const answer = await fetch(`${site}/stamp`)
        return /id="stamp">([^<]+)</.exec(await answer.text())?.[1]
      }
      const before = await stamp()
      assert.strictEqual(await stamp(), before)
      await Effect.runPromise(sandbox.expireAccessTokens(await idOf("ada@example.com")))
      const isStale = async () => {
        await page.goto(site)
        return (await stamp()) !== before
      }
      await vi.waitUntil(isStale, { timeout: 60_000 })
      assert.strictEqual(await page.locator("li").count(), 1)
      assert.notInclude(program.stdout() + program.stderr(), "revalidate failed")
    })

    it("refuses other sites, and takes no user from the browser", async () => {
      const cookie = `user=${ada}`
      const ask = async (path: string, init: RequestInit) => {
        const response = await fetch(`${site}/api/cal/${path}`, { redirect: "manual", ...init })
        return [response.status, ((await response.json()) as { readonly code: string }).code]
      }
      const evil = { cookie, origin: "https://evil.example", "sec-fetch-site": "cross-site" }
      assert.deepStrictEqual(await ask("connect", { method: "POST", headers: evil }), [403, "Forbidden"])
      assert.deepStrictEqual(await ask("me/me", { headers: evil }), [403, "Forbidden"])
      assert.deepStrictEqual(await ask("me/schedules", { headers: { cookie } }), [403, "Forbidden"])
      assert.deepStrictEqual(await ask(`me/me?user=${ada}`, {}), [401, "Unauthorized"])
    })

    it("has nothing of the server in what browsers load, and no secret in its log", () => {
      const files = Fs.readdirSync(Path.join(project.directory, ".next/static"), {
        recursive: true,
        withFileTypes: true
      })
      const scripts = files
        .filter((file) => file.isFile() && file.name.endsWith(".js"))
        .map((file) => Fs.readFileSync(Path.join(file.parentPath, file.name), "utf8"))
        .join("\n")
      assert.include(scripts, "Who am I?")
      assert.notMatch(scripts, /CAL_OAUTH|cal-tokens|refreshToken/)
      assert.notMatch(program.stdout() + program.stderr(), jwt)
    })
  })
})
