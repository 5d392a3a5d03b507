/** The operator's page in a real browser, and the program that serves it in processes of its own. */
import { execFileSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import Axe from "axe-core"
import { HttpServer } from "@effect/platform"
import { NodeHttpServer } from "@effect/platform-node"
import * as NodeHttp from "node:http"
import { Effect, Exit, Layer, Redacted, Scope } from "effect"
import type { Browser, BrowserContextOptions, Page } from "playwright-core"
import { afterAll, afterEach, assert, beforeAll, describe } from "vitest"
import * as Sandbox from "../../src/Sandbox.js"
import { type ManagedGrant, type OAuth2Grant, toPlain } from "../../src/Sandbox/Grants.js"
import { keyOf } from "../support/Keys.js"
import { freePort } from "../support/Ports.js"
import { makeDatabase } from "../support/Postgres.js"
import { type Program, run } from "../start/Program.js"
import * as Chromium from "./Chromium.js"

const root = fileURLToPath(new URL("../..", import.meta.url))

let bundled: string | undefined

/** The program as it is published, made once for all files of a worker. */
const bundle = (): string => {
  if (bundled !== undefined) return bundled
  const directory = Fs.mkdtempSync(Path.join(Os.tmpdir(), "cal-tokens-page-"))
  process.once("exit", () => Fs.rmSync(directory, { recursive: true, force: true }))
  // The later one of two outfiles counts.
  const outfile = `--outfile=${Path.join(directory, "dist/program.mjs")}`
  execFileSync("npm", ["run", "--silent", "program", "--", outfile], { cwd: root })
  Fs.cpSync(Path.join(root, "dist/page"), Path.join(directory, "dist/page"), { recursive: true })
  Fs.copyFileSync(Path.join(root, "package.json"), Path.join(directory, "package.json"))
  Fs.symlinkSync(Path.join(root, "node_modules"), Path.join(directory, "node_modules"))
  return (bundled = directory)
}

const users = {
  ada: "01HZY9TESTSAAAAAAAAAAAAAAA",
  ben: "01HZY9TESTSBBBBBBBBBBBBBBB",
  cem: "01HZY9TESTSCCCCCCCCCCCCCCC"
} as const

export interface Answer {
  readonly status: number
  readonly json: Readonly<Record<string, unknown>>
}

/** A process that serves the page. */
export interface Served {
  readonly url: string
  readonly program: Program
  /** With its API key. */
  readonly ask: (method: string, path: string, body?: object) => Promise<Answer>
}

const ask =
  (url: string, key: string): Served["ask"] =>
  async (method, path, body) => {
    const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" }
    const response = await fetch(url + path, { method, headers, ...(body && { body: JSON.stringify(body) }) })
    return { status: response.status, json: (await response.json()) as Answer["json"] }
  }

export interface PageWorld {
  readonly browser: Browser
  /** A person's browser, closed at the end of the file. */
  readonly person: (width?: number, options?: BrowserContextOptions) => Promise<Chromium.Person>
  /** Is released at the end of the file. */
  readonly acquire: <A>(effect: Effect.Effect<A, never, Scope.Scope>) => Promise<A>
}

/** Tests in a browser; without one they are skipped, and their name says so. */
export const inChromium = (
  name: string,
  define: (world: () => PageWorld) => void,
  /** Names that lead to this machine. */
  names: ReadonlyArray<string> = []
): void => {
  const executable = Chromium.executable()
  const title = executable === undefined ? `${name} (skipped: no Chromium found, set CHROMIUM_PATH)` : name
  describe.skipIf(executable === undefined)(title, () => {
    const scope = Effect.runSync(Scope.make())
    let world: PageWorld
    beforeAll(async () => {
      const browser = await Chromium.launch(executable ?? "", names)
      world = {
        browser,
        person: (width, options) => Chromium.person(browser, width, options),
        acquire: (effect) => Effect.runPromise(Scope.extend(effect, scope))
      }
    })
    afterAll(async () => {
      await world.browser.close()
      await Effect.runPromise(Scope.close(scope, Exit.void))
    })
    afterEach(async ({ task }) => {
      const pages = world.browser.contexts().flatMap((context) => context.pages())
      for (const [index, page] of pages.entries()) {
        if (task.result?.state === "fail") await Chromium.picture(page, `failed-${task.id}-${index}`)
        await page.close()
      }
    })
    define(() => world)
  })
}

const ended = ({ exit, process }: Program) =>
  Effect.promise(() => {
    process.kill("SIGKILL")
    return exit
  })

const started = (env: Record<string, string>, directory = bundle()) =>
  Effect.acquireRelease(
    Effect.sync(() => run(directory, [Path.join(bundle(), "dist/program.mjs"), "serve"], env)),
    ended
  )

const demoKey = "demo-key-that-everybody-knows-of-simulated-users"

/** The demo, as `npm start` begins it. */
export const demo = (env: Record<string, string> = {}): Effect.Effect<Served, never, Scope.Scope> =>
  Effect.gen(function* () {
    const directory = yield* Effect.acquireRelease(
      Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "cal-tokens-page-demo-"))),
      (directory) => Effect.sync(() => Fs.rmSync(directory, { recursive: true }))
    )
    const program = yield* started({ PORT: "0", CAL_TOKENS_DATA_DIR: Path.join(directory, "data"), ...env }, directory)
    const [, url = ""] = yield* Effect.promise(() => program.until(/^cal-tokens listens on (http:\S+)$/m))
    return { url, program, ask: ask(url, demoKey) }
  })

export const apiKey = "SECRET-of-the-operator-0123456789abcdef"
export const limitedKey = "SECRET-of-one-user-only-0123456789abcdef"
export const readerKey = "SECRET-without-manage-0123456789abcdefgh"

/** A service on PostgreSQL with a Cal.com of its own in this process. */
export interface Service extends Served {
  readonly sandbox: Sandbox.Sandbox["Type"]
  readonly run: <A, E>(effect: Effect.Effect<A, E>) => Promise<A>
  readonly database: string
  /** Another process instead of this one, on the same port and data. */
  readonly again: (env?: Record<string, string>) => Promise<Service>
  /** Connects a user with a new pair. */
  readonly connect: (userUlid: string, kind?: "managed" | "oauth2", more?: object) => Promise<number>
  /** What API keys there are from the next SIGHUP on. */
  readonly setKeys: (keys: Keys) => Promise<void>
  /** All that must never reach a browser. */
  readonly secrets: () => Promise<ReadonlyArray<string>>
}

/** Those that there are at the start. */
export const keys = {
  ops: { name: "ops", secret: apiKey, scopes: ["manage", "read-token", "proxy", "metrics"] },
  limited: { name: "limited", secret: limitedKey, scopes: ["manage"], users: [users.ada] },
  reader: { name: "reader", secret: readerKey, scopes: ["read-token"] }
} as const

type Keys = ReadonlyArray<(typeof keys)[keyof typeof keys]>

export const service = (env: Record<string, string> = {}): Effect.Effect<Service, never, Scope.Scope> =>
  Effect.gen(function* () {
    const runtime = yield* Effect.runtime<Scope.Scope>()
    const calServer = NodeHttp.createServer()
    const context = yield* Layer.build(
      Layer.unwrapEffect(Effect.map(Sandbox.Sandbox, ({ app }) => HttpServer.serve(app))).pipe(
        Layer.provideMerge(NodeHttpServer.layer(() => calServer, { port: 0, host: "127.0.0.1" })),
        Layer.provideMerge(Sandbox.layer())
      )
    ).pipe(Effect.orDie)
    const sandbox = yield* Effect.provide(Sandbox.Sandbox, context)
    const { address } = yield* Effect.provide(HttpServer.HttpServer, context)
    const cal = `http://127.0.0.1:${address._tag === "TcpAddress" ? address.port : 0}`
    const directory = yield* Effect.acquireRelease(
      Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "cal-tokens-page-service-"))),
      (directory) => Effect.sync(() => Fs.rmSync(directory, { recursive: true }))
    )
    const keysFile = Path.join(directory, "keys")
    const write = (keys: Keys) => Fs.writeFileSync(keysFile, JSON.stringify(keys))
    write(Object.values(keys))
    const database = Redacted.value(yield* makeDatabase)
    const port = yield* Effect.promise(freePort)
    const variables = {
      PORT: String(port),
      DATABASE_URL: database,
      CAL_API_URL: `${cal}/v2`,
      CAL_CLIENT_ID: Sandbox.demoManaged.clientId,
      CAL_CLIENT_SECRET: Redacted.value(Sandbox.demoManaged.clientSecret),
      CAL_OAUTH_CLIENT_ID: Sandbox.demoOAuth2.clientId,
      CAL_OAUTH_CLIENT_SECRET: Redacted.value(Sandbox.demoOAuth2.clientSecret),
      CAL_OAUTH_AUTHORIZE_URL: `${cal}/auth/oauth2/authorize`,
      CAL_TOKENS_ENCRYPTION_KEYS: keyOf("k1", 1),
      CAL_TOKENS_API_KEYS_FILE: keysFile,
      ...env
    }
    const start = Effect.fnUntraced(function* (env: Record<string, string> = {}) {
      const program = yield* started({ ...variables, ...env })
      const [, url = ""] = yield* Effect.promise(() => program.until(/"message":"Listening on (http:[^"]+)"/))
      return { program, url }
    })
    const of = ({ program, url }: Effect.Effect.Success<ReturnType<typeof start>>): Service => {
      const asked = ask(url, apiKey)
      return {
        url,
        program,
        ask: asked,
        sandbox,
        database,
        run: (effect) => Effect.runPromise(effect),
        again: async (env) => {
          await Effect.runPromise(ended(program))
          return of(await Effect.runPromise(Effect.provide(start(env), runtime)))
        },
        connect: async (userUlid, kind = "managed", more = {}) => {
          const grant = toPlain(
            await Effect.runPromise<ManagedGrant | OAuth2Grant, never>(
              kind === "managed" ? sandbox.grantManaged() : sandbox.grantOAuth2()
            )
          )
          const { accessToken, accessTokenExpiresAt, calUserId, refreshToken } = grant
          const { status } = await asked("PUT", `/api/cal/connections/${userUlid}`, {
            ...{ kind, accessToken, refreshToken, accessTokenExpiresAt },
            ...(kind === "managed" && { calUserId }),
            ...more
          })
          assert.strictEqual(status, 200)
          return calUserId
        },
        setKeys: async (keys) => {
          write(keys)
          const { length } = program.stdout()
          program.process.kill("SIGHUP")
          await program.until(new RegExp(`^[^]{${length},}?in force from now on: CAL_TOKENS_API_KEYS"`))
        },
        secrets: async () => {
          const { accessTokens, oauth2AccessTokens, oauth2RefreshTokens, refreshTokens, signingKey } =
            await Effect.runPromise(sandbox.snapshot)
          const rows = [...accessTokens, ...refreshTokens, ...oauth2AccessTokens, ...oauth2RefreshTokens]
          return [
            ...rows.map(({ token }) => token),
            signingKey,
            variables.CAL_CLIENT_SECRET,
            variables.CAL_OAUTH_CLIENT_SECRET,
            variables.CAL_TOKENS_ENCRYPTION_KEYS.slice("k1:".length),
            ...[apiKey, limitedKey, readerKey]
          ]
        }
      }
    }
    return of(yield* start())
  })

export { users }

// ---------------------------------------------------------------------------------------------------------------------
// What a page looks like
// ---------------------------------------------------------------------------------------------------------------------

/** What is not accessible, by rule and element. `rules`: only these. */
const findings = async (page: Page, rules?: ReadonlyArray<string>): Promise<ReadonlyArray<string>> => {
  if (!(await page.evaluate<boolean>("'axe' in window"))) await page.evaluate(Axe.source)
  const options = { resultTypes: ["violations"], ...(rules && { runOnly: { type: "rule", values: rules } }) }
  return page.evaluate<ReadonlyArray<string>>(
    `axe.run(document, ${JSON.stringify(options)}).then(({ violations }) => violations.flatMap(({ id, nodes }) =>
      nodes.map(({ failureSummary, target }) => id + " " + target + ": " + failureSummary)))`
  )
}

const widths = [360, 390, 768, 1280, 1920]

/** Looks at a state at all widths, in light and dark, and tells what is wrong with it. */
export const inspect = async (page: Page, name: string): Promise<void> => {
  const found: Array<string> = []
  const height = 800
  for (const width of widths) {
    await page.setViewportSize({ width, height })
    const over = await Chromium.overflow(page)
    if (over > 0) found.push(`${width} px: ${over} px too wide`)
    const look = async (colorScheme: "dark" | "light", rules?: ReadonlyArray<string>) => {
      await page.emulateMedia({ colorScheme })
      found.push(...(await findings(page, rules)).map((finding) => `${width} px, ${colorScheme}: ${finding}`))
      await Chromium.picture(page, `${name}-${width}-${colorScheme}`)
    }
    if (width === 390) await look("dark", ["color-contrast"])
    if (width === 390 || width === 1280) await look("light")
  }
  await page.setViewportSize({ width: 1280, height })
  assert.deepStrictEqual(found, [], name)
}

/** Whatever of it a script can reach. */
export const holdings = (page: Page): Promise<string> =>
  page.evaluate<string>(`(async () => {
    const databases = await Promise.all((await indexedDB.databases()).map(({ name }) => name))
    return JSON.stringify([
      document.documentElement.outerHTML,
      [...document.querySelectorAll("input, textarea")].map(({ value }) => value),
      { ...localStorage }, { ...sessionStorage }, databases, await caches.keys(), document.cookie,
      location.href, history.state, window.name, performance.getEntries().map(({ name }) => name)
    ])
  })()`)

/** Waits until the page says something. */
export const says = (page: Page, text: string | RegExp, timeout = 10_000): Promise<void> =>
  page.locator("body").getByText(text).first().waitFor({ timeout })

// ---------------------------------------------------------------------------------------------------------------------
// The keyboard
// ---------------------------------------------------------------------------------------------------------------------

/** What has the focus, in words. */
const focused = `(() => {
  const element = document.activeElement
  if (element === null || element === document.body || element === document.documentElement) return undefined
  const { bottom, left, right, top } = element.getBoundingClientRect()
  const { boxShadow, outlineStyle, outlineWidth } = getComputedStyle(element)
  const inside = [[left + 3, top + 3], [right - 3, bottom - 3], [(left + right) / 2, (top + bottom) / 2]]
    .some(([x, y]) => element.contains(document.elementFromPoint(x, y)))
  const labels = [...(element.labels ?? [])].map(({ textContent }) => textContent)
  const text = element.getAttribute("aria-label") ?? (labels.join(" ") || element.textContent)
  return {
    index: window.stops?.indexOf(element),
    name: (element.getAttribute("role") ?? element.localName) + " " + text.trim().replace(/\\s+/g, " ").slice(0, 60),
    isMarked: (outlineStyle !== "none" && parseFloat(outlineWidth) >= 1) || boxShadow !== "none",
    isInSight: inside
  }
})()`

interface Focused {
  readonly index: number
  readonly name: string
  readonly isMarked: boolean
  readonly isInSight: boolean
}

/** Finds all that can be used, in its order, and keeps it for {@link focused}. */
const collect = `(() => {
  const within = document.querySelector("dialog[open]") ?? document
  window.stops = [...within.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex]")].filter(
    (element) => element.tabIndex >= 0 && !element.disabled && (element.type !== "radio" || element.checked) && element.checkVisibility({ visibilityProperty: true })
  )
  return window.stops.length
})()`

/**
 * Goes through all that can be used by Tab, once around, and tells what was passed: each once, in the order of the document,
 * in sight and marked.
 */
export const walk = async (page: Page): Promise<ReadonlyArray<string>> => {
  const count = await page.evaluate<number>(collect)
  const passed: Array<Focused> = []
  // One step more: between the last and the first comes the browser itself.
  for (let step = 0; step <= count && passed.length < count; step++) {
    await page.keyboard.press("Tab")
    const found = await page.evaluate<Focused | undefined>(focused)
    if (found !== undefined) passed.push(found)
  }
  const [first] = passed
  const faults = passed.flatMap(({ index, isInSight, isMarked, name }, place) => [
    ...(first !== undefined && index === (first.index + place) % count ? [] : [`${name} is not in its place`]),
    ...(isMarked ? [] : [`${name} does not show that it has the focus`]),
    ...(isInSight ? [] : [`${name} has the focus out of sight`])
  ])
  assert.deepStrictEqual(faults, [])
  assert.lengthOf(passed, count)
  return passed.toSorted((one, other) => one.index - other.index).map(({ name }) => name)
}

/** Presses Tab until this has the focus. */
export const tabTo = async (page: Page, name: string | RegExp): Promise<void> => {
  const passed: Array<string> = []
  for (let step = 0; step < 200; step++) {
    await page.keyboard.press("Tab")
    const found = await page.evaluate<Focused | undefined>(focused)
    if (found === undefined) continue
    if (typeof name === "string" ? found.name === name : name.test(found.name)) return
    passed.push(found.name)
  }
  assert.fail(`no way to ${name} past ${passed.slice(0, 40).join(", ")}`)
}

/** What has the focus. */
export const focus = async (page: Page): Promise<string | undefined> =>
  (await page.evaluate<Focused | undefined>(focused))?.name
