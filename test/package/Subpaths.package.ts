/**
 * The package as strangers get it: packed, installed into empty projects with nothing but what the table of `src/CalTokens/README.md` says,
 * type-checked there without mercy, and run.
 */
import { randomBytes } from "node:crypto"
import * as Path from "node:path"
import { stripVTControlCharacters } from "node:util"
import { assert, it } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import { afterAll, beforeAll, describe, inject } from "vitest"
import manifest from "../../package.json" with { type: "json" }
import * as Pages from "../docs/Pages.js"
import { run } from "../start/Program.js"
import * as Browser from "../support/BrowserBundle.js"
import { makeDatabase } from "../support/Postgres.js"
import * as Project from "./Project.js"

const packed = inject("packed")
afterAll(Project.remove)

const core = ["effect", "@effect/platform"]

/** What has to be installed, as that table has it, and the programs that need no more. */
const projects = [
  { name: "core", needs: core, types: false, programs: ["core.ts", "api.ts", "sandbox.ts"] },
  {
    name: "node",
    needs: [...core, "@effect/platform-node", "@effect/sql", "@effect/sql-pg"],
    types: true,
    programs: ["actions.ts", "next.ts", "node.ts"]
  },
  {
    name: "postgres",
    needs: [...core, "@effect/sql", "@effect/sql-pg"],
    types: false,
    programs: ["postgres.ts"]
  },
  {
    name: "embedded",
    needs: [...core, "@effect/sql", "@effect/sql-pg", "@electric-sql/pglite"],
    types: false,
    programs: ["embedded.ts"]
  },
  {
    name: "http",
    needs: [...core, "@effect/platform-node", "@effect/experimental"],
    types: true,
    programs: ["http.ts"]
  }
] as const

/** What each program says when all is well. */
const says = {
  "core.ts": "TokensNotFound",
  "api.ts": "2026-01-15T12:00:00.000Z TokensNotFound none",
  "sandbox.ts": "refreshed 1",
  "actions.ts": "TokensNotFound Forbidden",
  "next.ts": "401 Unauthorized 404 TokensNotFound",
  "node.ts": "TokensNotFound TokensNotFound",
  "postgres.ts": "nobody",
  "embedded.ts": "nobody",
  "http.ts": "200 200"
}

const strict = {
  target: "ES2022",
  strict: true,
  exactOptionalPropertyTypes: true,
  noUncheckedIndexedAccess: true,
  skipLibCheck: false
}

/** How TypeScript looks for modules: as Node does, and as bundlers do. */
const resolutions = {
  nodenext: { module: "nodenext" },
  bundler: { module: "esnext", moduleResolution: "bundler", noEmit: true }
}

const js = (program: string) => program.replace(/\.ts$/, ".js")

describe.each(projects)("a project for $name", ({ name, needs, programs, types }) => {
  let project: Project.Project
  beforeAll(async () => {
    project = Project.make(name)
    project.add(...programs)
    const wanted = [...needs, ...(types ? ["@types/node"] : [])].map(Project.tested)
    const { code, output } = await project.npm("install", "--no-package-lock", packed.tarball, ...wanted)
    assert.strictEqual(code, 0, output)
  })

  it("is type-checked, declarations and all, whichever way modules are found", async () => {
    const settings = { ...strict, types: types ? ["node"] : [] }
    const outcomes = await Promise.all(
      Object.entries(resolutions).map(([name, resolution]) =>
        project.compile(`tsconfig.${name}.json`, programs, { ...settings, ...resolution })
      )
    )
    for (const { code, output } of outcomes) assert.strictEqual(code, 0, output)
  })

  it.scopedLive.each(programs)("runs %s", (program) =>
    Effect.gen(function* () {
      const url = yield* makeDatabase
      const variables = {
        DATABASE_URL: Redacted.value(url),
        CAL_CLIENT_ID: "client",
        CAL_CLIENT_SECRET: "secret",
        CAL_TOKENS_ENCRYPTION_KEYS: `k1:${randomBytes(32).toString("base64")}`
      }
      const { code, output } = yield* Effect.promise(() => project.node([js(program)], variables))
      // What is logged comes before it.
      assert.strictEqual(output.trim().split("\n").at(-1), says[program])
      assert.strictEqual(code, 0, output)
    })
  )

  if (name === "core") {
    it("sees what the table shows, and nothing behind it", async () => {
      const closed = [
        "CalTokens",
        "CalTokens/Flight",
        "Http/Public",
        "TokenStorage/Postgres",
        "dist/index.js",
        "src/index.ts"
      ]
      const text = `
        for (const path of ${JSON.stringify(closed)}) {
          await import("cal-tokens/" + path).then(() => console.log("open", path), ({ code }) => console.log(code))
        }
        console.log(import.meta.resolve("cal-tokens/package.json").endsWith("/cal-tokens/package.json"))`
      const { output } = await project.node(["--input-type=module", "-e", text])
      assert.deepStrictEqual(output.trim().split("\n"), [...closed.map(() => "ERR_PACKAGE_PATH_NOT_EXPORTED"), "true"])
    })

    it("bundles the API for browsers, where it runs", async () => {
      const bundle = await Browser.bundle(Path.join(project.directory, "api.js"))
      assert.deepStrictEqual(await Browser.run(bundle.text), [says["api.ts"]])
    })
  }

  if (name === "node") {
    it("stays as small as Effect lets it", () => {
      const modules = Path.join(project.directory, "node_modules")
      const weigh = (...names: ReadonlyArray<string>) =>
        names.reduce((sum, name) => sum + Project.weigh(Path.join(modules, name)).bytes / 1e6, 0)
      const types = weigh("@types", "undici-types")
      const effect = weigh("effect", "@effect/platform")
      const own = weigh("cal-tokens")
      const others = weigh(".") - types - effect - own
      console.log(
        `MB: effect and its platform ${effect.toFixed(1)}, cal-tokens ${own.toFixed(1)}, others ${others.toFixed(1)}`
      )
      // Of this, 6.2 are the bundled program, 1.9 of them Swagger's page, which @effect/platform brings; 1.1 are maps to the
      // sources, 0.2 the pages that people read, 0.3 the README's pictures, and 0.2 the operator's page for who embeds it.
      assert.isBelow(own, 12.3)
      assert.isBelow(others, 17)
    })
  }
})

describe("the README's own lines", () => {
  /** What an `npm i cal-tokens …` installs, with the package that was just packed. */
  const install = async (project: Project.Project, line: string) => {
    const [, wanted = ""] = /^npm i cal-tokens ([^&\n]+)/.exec(line) ?? assert.fail(`nothing is installed by ${line}`)
    const { code, output } = await project.npm(
      ...["install", "--no-package-lock", packed.tarball],
      ...wanted.trim().split(" ")
    )
    assert.strictEqual(code, 0, output)
  }

  it("have its first script run with what they install", async () => {
    const [script = ""] = Pages.texts("README.md", "cal-tokens", "js")
    const [, line = ""] = /`(npm i cal-tokens [^`]+)` in an empty folder/.exec(Pages.read("README.md")) ?? []
    const project = Project.make("first")
    await install(project, line)
    project.write("first.mjs", script)
    const { code, output } = await project.node(["first.mjs"])
    assert.strictEqual(output, "100 answers, 1 refresh\n")
    assert.strictEqual(code, 0)
  })

  it("have promises start without any variable", async () => {
    const [line = ""] = Pages.texts("README.md", "Plain TypeScript", "sh")
    const [script = ""] = Pages.texts("README.md", "Plain TypeScript", "js")
    const project = Project.make("promises")
    await install(project, line)
    project.write("promises.mjs", script)
    const { code, output } = await project.node(["promises.mjs"], { DATABASE_URL: "" })
    assert.strictEqual(output.trim().split("\n").at(-1), "Ada", output)
    assert.strictEqual(code, 0)
  })

  it("have the service start, and ask Cal.com", async () => {
    const [line = "", ask = ""] = Pages.texts("README.md", "HTTP, from any language", "sh")
    const [, path = ""] = /"\$URL([^"]+)"/.exec(ask) ?? []
    const [, key = ""] = /KEY=(\S+)/.exec(ask) ?? []
    const [, command = ""] = /&& npx (.*)$/m.exec(line) ?? []
    const project = Project.make("service")
    await install(project, line)
    const program = run(project.directory, command.split(" "), { PORT: "0" }, "npx")
    try {
      const [, url = ""] = await program.until(/^cal-tokens listens on (http:\S+)$/m)
      const me = await fetch(url + path, { headers: { authorization: `Bearer ${key}`, connection: "close" } })
      assert.nestedPropertyVal(await me.json(), "data.name", "Ada")
    } finally {
      // As Ctrl-C does, to npx and what it started.
      process.kill(-(program.process.pid ?? Number.NaN), "SIGTERM")
      await program.exit
    }
  })
})

/** The newest that it was tried with. Nobody here needs it but this test. */
const jest = "jest@30.5.2"

describe("a project whose tests know no Effect", () => {
  let project: Project.Project
  beforeAll(async () => {
    project = Project.make("suite")
    project.add("suite.ts")
    const wanted = [...[...core, "vitest"].map(Project.tested), jest]
    const { code, output } = await project.npm("install", "--no-package-lock", packed.tarball, ...wanted)
    assert.strictEqual(code, 0, output)
    const compiled = await project.compile("tsconfig.json", ["suite.ts"], {
      ...strict,
      types: [],
      ...resolutions.nodenext
    })
    assert.strictEqual(compiled.code, 0, compiled.output)
  })

  it("has them run by Vitest", async () => {
    project.write("vitest.config.mjs", `export default { test: { globals: true, include: ["suite.js"] } }`)
    const { code, output } = await project.node(["node_modules/vitest/vitest.mjs", "run"])
    assert.strictEqual(code, 0, output)
    assert.match(stripVTControlCharacters(output), /Tests +1 passed/)
  })

  it("has them run by Jest, which then has nothing to wait for", async () => {
    const { code, output } = await project.node([
      ...["--experimental-vm-modules", "node_modules/jest/bin/jest.js"],
      ...["--testMatch", "**/suite.js"]
    ])
    assert.strictEqual(code, 0, output)
    assert.match(stripVTControlCharacters(output), /Tests: +1 passed/)
    assert.notMatch(output, /did not exit/)
  })

  it("has them run by Node itself, which ends when they do", async () => {
    project.write(
      "node.test.mjs",
      `import assert from "node:assert"
       import { test } from "node:test"
       import * as Actions from "cal-tokens/actions"
       import { Fault, startSandbox } from "cal-tokens/sandbox"

       test("a token that ended is replaced", async () => {
         const ada = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
         const cal = await startSandbox()
         await cal.connect(ada)
         await cal.expire(ada)
         const actions = Actions.make({ layer: cal.layer })
         const me = await actions.makeCalApiRequest("/me", "GET", undefined, ada)
         assert.strictEqual(me.status, "success")
         assert.strictEqual(cal.count("refresh"), 1)

         // Somebody still waits for an answer.
         cal.inject(Fault.delayBefore("1 hour"))
         const waiting = assert.rejects(fetch(cal.url + "/v2/me"))
         let left
         do {
           const answer = await fetch(cal.url + "/_control/faults")
           left = (await answer.json()).queued.length
         } while (left > 0)
         await cal.close()
         await waiting
       })`
    )
    const { code, output } = await project.node(["--test", "node.test.mjs"])
    assert.strictEqual(code, 0, output)
    assert.match(output, /pass 1\b/)
  })
})

describe("what is published", () => {
  it("is the library, its sources and the bundled program, without what only builds it", () => {
    const unwanted = packed.files.filter((path) => /tsbuildinfo|tsconfig|(^|\/)main\.|^(dist|src)\/Cli/.test(path))
    assert.deepStrictEqual(unwanted, [])
    for (const path of [
      "dist/program.mjs",
      "dist/index.d.ts",
      "src/index.ts",
      "README.md",
      "test/examples/embed.test.ts"
    ]) {
      assert.include(packed.files, path)
    }
  })

  it("has the program, which starts with nothing but the package", async () => {
    const project = Project.make("program")
    const install = await project.npm("install", "--no-package-lock", packed.tarball)
    assert.strictEqual(install.code, 0, install.output)
    const { code, output } = await project.npm("exec", "--offline", "--", "cal-tokens", "--version")
    assert.strictEqual(code, 0, output)
    assert.match(output, /\b\d+\.\d+\.\d+\b/)
  })

  it.each([
    ["vitest 3 and its Effect", ["effect", "@effect/platform", "@effect/vitest", "vitest"].map(Project.tested)],
    ["the newest of Effect 3", ["effect@3", "@effect/platform@0", "@effect/platform-node@0", "@effect/sql-pg@0"]],
    ["all that it can use", Object.keys(manifest.peerDependencies).map(Project.tested)]
  ])("is installed beside %s", async (name, others) => {
    const project = Project.make(name.replaceAll(" ", "-"))
    const { code, output } = await project.npm("install", "--dry-run", "--strict-peer-deps", packed.tarball, ...others)
    assert.strictEqual(code, 0, output)
  })

  it("is not installed beside an Effect that it was never tested with", async () => {
    const project = Project.make("old")
    const { code, output } = await project.npm("install", "--dry-run", packed.tarball, "effect@3.19.0")
    assert.notStrictEqual(code, 0)
    assert.match(output, /ERESOLVE/)
  })
})
