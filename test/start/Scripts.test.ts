/** Scripts that use the actions and end without a word, and programs that hold the package twice. */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { setTimeout } from "node:timers"
import { fileURLToPath } from "node:url"
import { Effect, Redacted } from "effect"
import { buildSync, transformSync } from "esbuild"
import { afterAll, assert, beforeAll, describe, it, vi } from "vitest"
import { makeDatabase } from "../support/Postgres.js"
import { build, type Program, run } from "./Program.js"

vi.setConfig({ testTimeout: 180_000 })

let directory: string
beforeAll(() => {
  directory = build()
  const actions = fileURLToPath(new URL("../../src/Actions.ts", import.meta.url))
  for (const name of ["page", "route"]) {
    buildSync({
      entryPoints: [actions],
      outfile: Path.join(directory, `${name}.mjs`),
      bundle: true,
      external: ["@electric-sql/pglite", "pg-native"],
      platform: "node",
      format: "esm",
      target: "node20",
      // Some packages are CommonJS.
      banner: {
        js: `import { createRequire as requireFrom } from "node:module"; const require = requireFrom(import.meta.url);`
      },
      logLevel: "error"
    })
  }
})
afterAll(() => Fs.rmSync(directory, { recursive: true }))

const ada = "01JDEM0000000000000000ADA0"

const script = (text: string, env: Record<string, string>): Program =>
  run(directory, ["--input-type=module", "-e", text], env)

/** Nothing but a directory of its own: the demo on the embedded database. */
const demo = (name: string) => ({ CAL_TOKENS_DATA_DIR: Path.join(directory, name) })

const onPostgres = (body: (env: Record<string, string>) => Promise<void>) =>
  makeDatabase.pipe(
    Effect.flatMap((url) =>
      Effect.promise(() =>
        body({
          DATABASE_URL: Redacted.value(url),
          CAL_CLIENT_ID: "client",
          CAL_CLIENT_SECRET: "secret",
          CAL_TOKENS_ENCRYPTION_KEYS: `k1:${Buffer.from("an encryption key of 32 bytes x.").toString("base64")}`
        })
      )
    ),
    Effect.scoped,
    Effect.runPromise
  )

/** In milliseconds. Idle connections of the pool held for 10 s, and other things for longer. */
const patience = 5000

/** What the script says last, and that it ends then. */
const lastWords = async (program: Program, pattern: RegExp): Promise<RegExpExecArray> => {
  const found = await program.until(pattern)
  const enough = setTimeout(() => program.process.kill("SIGKILL"), patience)
  assert.strictEqual(await program.exit, 0, program.stdout() + program.stderr())
  clearTimeout(enough)
  return found
}

describe("a script that ends without dispose()", () => {
  it("ends, on PostgreSQL", () =>
    onPostgres(async (env) => {
      const program = script(
        `import * as Actions from "./dist/Actions.js"
         const cal = Actions.make({ revalidate: () => {} })
         console.log("failed with", (await cal.getCalTokenInfo("${ada}")).code)`,
        env
      )
      const [, code] = await lastWords(program, /failed with (\w+)/)
      assert.strictEqual(code, "TokensNotFound")
    }))

  it("ends, on the embedded database, and the next one finds what it left", async () => {
    const text = (force: boolean) => `
      import * as Actions from "./dist/Actions.js"
      const cal = Actions.make()
      if (${force}) await cal.refreshUserCalTokens("${ada}", true)
      console.log("expires at", (await cal.getCalTokenInfo("${ada}")).expiresAt)`
    const [, first] = await lastWords(script(text(true), demo("left")), /expires at (\S+Z)/)
    const [, second] = await lastWords(script(text(false), demo("left")), /expires at (\S+Z)/)
    assert.strictEqual(second, first)
  })

  it("ends, with actions as their page makes them, which act for who is signed in", async () => {
    const source = Fs.readFileSync(fileURLToPath(new URL("../examples/make.ts", import.meta.url)), "utf8")
    Fs.writeFileSync(Path.join(directory, "make.mjs"), transformSync(source, { loader: "ts" }).code)
    const program = script(
      `import { cal, session } from "./make.mjs"
       const refused = await cal.refreshUserCalTokens("${ada}", true)
       const refreshed = await session.run({ userUlid: "${ada}" }, () => cal.refreshUserCalTokens("${ada}", true))
       console.log(refused.code, refreshed.success)`,
      demo("make")
    )
    await lastWords(program, /^Forbidden true$/m)
    assert.include(program.stdout(), `${ada} has new tokens, for /calendar\n`)
  })

  it("ends, with refreshes ahead", async () => {
    const program = script(
      `import * as Actions from "./dist/Actions.js"
       const cal = Actions.make({ refreshAhead: true, config: { aheadInterval: "20 millis" } })
       console.log("expires at", (await cal.getCalTokenInfo("${ada}")).expiresAt)`,
      demo("ahead")
    )
    await lastWords(program, /expires at (\S+Z)/)
  })

  it("does not end before a call that only waits for its time is answered", async () => {
    // Cal.com may not know a token everywhere that is seconds old: it is tried again after half a second.
    const program = script(
      `import * as Actions from "./dist/Actions.js"
       const cal = Actions.make()
       await cal.refreshUserCalTokens("${ada}", true)
       const { accessToken } = await cal.ensureValidCalToken("${ada}")
       const refused = Response.json({ error: { message: "Invalid Access Token." } }, { status: 401 })
       const answer = await cal.handleCalApiResponse(refused, async () => new Response(), "${ada}", accessToken)
       console.log("answered", answer.status)`,
      demo("waits")
    )
    const [, status] = await lastWords(program, /answered (\d+)/)
    assert.strictEqual(status, "200")
  })

  it("does not end before dispose() has, when it asks for that", () =>
    onPostgres(async (env) => {
      const program = script(
        `import * as Actions from "./dist/Actions.js"
         const cal = Actions.make()
         await cal.getCalTokenInfo("${ada}")
         await cal.dispose()
         console.log("disposed")`,
        env
      )
      await lastWords(program, /disposed/)
    }))
})

describe("a program that holds the package twice", () => {
  const both = `
    import * as Page from "./page.mjs"
    import * as Route from "./route.mjs"
    if (Page.make === Route.make) throw new Error("they are one")
    const [page, route] = [Page.make(), Route.make()]`

  it("has one pool and one listener on PostgreSQL, until both are disposed of", () =>
    onPostgres(async (env) => {
      const program = script(
        `${both}
         import pg from "pg"
         const client = new pg.Client({ connectionString: process.env.DATABASE_URL })
         await client.connect()
         const count = async () => (await client.query(
           "select application_name as name, pid from pg_stat_activity where application_name like 'cal-tokens%'"
         )).rows
         const ask = async (cal) => (await cal.getCalTokenInfo("${ada}")).code
         const heard = async (wanted) => {
           for (;;) {
             const found = (await count()).filter(({ name }) => name === "cal-tokens listen")
             if (wanted(found)) return found
           }
         }
         console.log("codes", await ask(page), await ask(route))
         const [{ pid }] = await heard((found) => found.length === 1)
         await page.dispose()
         console.log("codes", await ask(page), await ask(route))
         const others = (await heard(() => true)).filter((found) => found.pid !== pid)
         console.log("other listeners", others.length)
         await route.dispose()
         await heard((found) => found.length === 0)
         await client.end()
         console.log("closed")`,
        env
      )
      await lastWords(program, /closed/)
      assert.match(program.stdout(), /codes TokensNotFound TokensNotFound\n/)
      assert.match(program.stdout(), /codes ShuttingDown TokensNotFound\n/)
      assert.match(program.stdout(), /other listeners 0\n/)
    }))

  it("has one embedded database, which it can open again when both are disposed of", async () => {
    const program = script(
      `${both}
       const ask = async (cal) => {
         const token = await cal.ensureValidCalToken("${ada}")
         return token.code ?? token.accessToken
       }
       const [first, second] = await Promise.all([ask(page), ask(route)])
       const grace = "01BX5ZZKBKACTAV9WEVGEMMVRZ"
       const made = await page.createManagedCalUser(grace, { email: "grace@example.com", name: "Grace" })
       const { connections } = await route.listCalConnections({ limit: 200 })
       console.log("listed", made.success && connections.some(({ userUlid }) => userUlid === grace))
       console.log("refused", (await route.calConnectUrl(grace, { clientId: "none of them" })).code)
       await Promise.all([page.dispose(), route.dispose()])
       const again = Route.make()
       console.log("same", first === second && first.length > 40, (await ask(again)).length > 40)`,
      demo("twice")
    )
    const [, ...same] = await lastWords(program, /same (\w+) (\w+)/)
    assert.deepStrictEqual(same.slice(0, 2), ["true", "true"])
    assert.match(program.stdout(), /listed true\n[^]*refused InvalidInput\n/)
  })
})
