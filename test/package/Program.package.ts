/** The program as an operator has it: a build, what it needs to run and nothing of what built it, on PostgreSQL. */
import { randomBytes } from "node:crypto"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { assert, it } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import { afterAll, beforeAll, describe } from "vitest"
import manifest from "../../package.json" with { type: "json" }
import { run } from "../start/Program.js"
import { makeDatabase } from "../support/Postgres.js"
import * as Project from "./Project.js"

describe(`npm ci --omit=dev && npx cal-tokens serve, on Node ${process.versions.node}`, () => {
  let project: Project.Project
  beforeAll(async () => {
    project = Project.make("checkout")
    for (const name of ["package.json", "package-lock.json", ".npmrc"]) {
      Fs.copyFileSync(Path.join(Project.root, name), Path.join(project.directory, name))
    }
    Fs.cpSync(Path.join(Project.root, "dist"), Path.join(project.directory, "dist"), { recursive: true })
    const { code, output } = await project.npm("ci", "--omit=dev")
    assert.strictEqual(code, 0, output)
  })
  afterAll(Project.remove)

  it("installs what library code imports, and no tool", () => {
    const modules = Fs.readdirSync(Path.join(project.directory, "node_modules"))
    assert.includeMembers(modules, Object.keys(manifest.dependencies))
    for (const tool of ["typescript", "esbuild", "vitest", "@electric-sql"]) assert.notInclude(modules, tool)
  })

  it.scopedLive("serves, and ends when it is told to", () =>
    Effect.gen(function* () {
      const key = "a-key-for-this-test-of-more-than-32-letters"
      const variables = {
        CAL_CLIENT_ID: "client",
        CAL_CLIENT_SECRET: "secret",
        CAL_TOKENS_API_KEYS: `ops:${key}`,
        CAL_TOKENS_ENCRYPTION_KEYS: `k1:${randomBytes(32).toString("base64")}`,
        DATABASE_URL: Redacted.value(yield* makeDatabase),
        PORT: "0"
      }
      const program = run(project.directory, ["cal-tokens", "serve"], variables, "npx")
      // As Ctrl-C does, to npx and what it started.
      const stop = Effect.try(() => process.kill(-(program.process.pid ?? Number.NaN), "SIGTERM"))
      yield* Effect.addFinalizer(() => Effect.ignore(stop))
      const [, url] = yield* Effect.promise(() => program.until(/Listening on (http:\/\/[\d.:]+)/))
      const ask = (path: string) =>
        Effect.promise(async () => {
          const answer = await fetch(`${url}${path}`, {
            headers: { authorization: `Bearer ${key}`, connection: "close" }
          })
          return [answer.status, await answer.json()]
        })
      assert.deepStrictEqual(yield* ask("/health/ready"), [200, { status: "ok", missingKeys: [] }])
      const [status, answer] = yield* ask("/api/cal/connections/01ARZ3NDEKTSV4RRFFQ69G5FAV")
      assert.deepInclude(answer as object, { code: "TokensNotFound" })
      assert.strictEqual(status, 404)
      yield* stop
      yield* Effect.promise(() => program.exit)
    })
  )
})
