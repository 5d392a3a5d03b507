/** Whatever the pages show is a file that is run or compiled, or is run by a test as it stands: here is which by what. */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { assert, describe, it, vi } from "vitest"
import * as Actions from "../../src/Actions.js"
import { startSandbox } from "../../src/Testing.js"
import manifest from "../../package.json" with { type: "json" }
import { descriptions } from "../../src/Cli.js"
import * as Pages from "./Pages.js"

const subcommands = descriptions.map(({ name }) => name)

/** Programs and tests that pages show parts of. Those of `test/Next/app` are held file by file by `test/Next/App.package.ts`. */
const examples = [
  ...Fs.readdirSync(Path.join(Pages.root, "test/examples"), { recursive: true, encoding: "utf8" })
    .filter((file) => /\.tsx?$/.test(file))
    .map((file) => `test/examples/${file}`),
  ...Fs.readdirSync(Path.join(Pages.root, "test/Next/app"), { recursive: true, encoding: "utf8" })
    .filter((file) => /\.tsx?$/.test(file))
    .map((file) => `test/Next/app/${file}`),
  "test/Next/frameworks.ts",
  "test/Next/hono/server.ts"
].map((file) => Pages.read(file).replace(/^ +/gm, ""))

const paragraphs = (text: string) => text.trimEnd().split(/\n\n(?=\S)/)

/** Indented otherwise in a test than on a page. */
const isExample = (text: string): boolean =>
  examples.some((example) => paragraphs(text.replace(/^ +/gm, "")).every((paragraph) => example.includes(paragraph)))

const http = "test/start/Readme.test.ts"
const packed = "test/package/Subpaths.package.ts"
const simulator = "test/start/Sandbox.test.ts"
const deployment = "test/start/Deployment.test.ts"
const container = "test/package/Container.package.ts"
const database = "test/TokenStorage/Postgres/operating.test.ts"
const here = "test/docs/Shown.test.ts"

/** Who runs what is no example: by page and heading, a test for each block, in their order. */
const run: Readonly<Record<string, Readonly<Record<string, ReadonlyArray<string>>>>> = {
  "README.md": {
    // The second of them is what CI does first.
    "cal-tokens": [".ci/run"],
    "Plain TypeScript": [packed, packed],
    "HTTP, from any language": [packed, http]
  },
  "src/Actions/README.md": { "Plain TypeScript: `cal-tokens/actions`": [here, here], Failures: [here] },
  "src/Environment/README.md": {
    "What they hold": Array(5).fill(deployment) as ReadonlyArray<string>,
    "Several clients": [deployment],
    "In a container": [container, container],
    "With systemd": [deployment],
    Telemetry: ["test/Metrics/prometheus.test.ts"],
    "Behind a reverse proxy": [deployment, deployment, deployment],
    Serverless: [deployment]
  },
  "src/Http/README.md": {
    Start: [here, http],
    "Five commands": [http],
    "Book a meeting": [http],
    "Tokens that you have already": [http],
    "The token itself": [http],
    "Rehearse a reconnect": [http],
    "Connect users with OAuth2": [http, http],
    "A webhook": [http],
    Events: [http],
    "Pages, widgets and agents: user sessions": [http, http, http, http],
    "Pages with Cal Atoms": [http, http],
    "Who was given what": [http]
  },
  "src/Next/README.md": {
    "cal-tokens in Next.js, and in Remix, SvelteKit, Hono and Bun": [here],
    "Trying consent on your machine": ["test/start/Hono.test.ts", "test/start/Hono.test.ts"]
  },
  "src/Sandbox/README.md": {
    "Without Effect": [here],
    "Over HTTP, from any language": [simulator, simulator],
    "What there is, and who": [simulator],
    Tokens: [simulator, simulator],
    "What happens to people": [simulator],
    Mishaps: [simulator],
    "Another Cal.com": [simulator],
    "What was asked": [simulator]
  },
  "src/TokenStorage/README.md": { Privileges: [database, database, database] }
}

/** Pages that a test of their own holds to what it runs. */
const held: Readonly<Record<string, string>> = { "src/Import/README.md": "test/docs/Moving.test.ts" }

/** A drawing. */
const drawn = new Set(["How a token flows"])

describe.each(Pages.pages.filter((page) => held[page] === undefined))("%s", (page) => {
  const others = Pages.blocks(page).filter(({ heading, text }) => !isExample(text) && !drawn.has(heading))

  it("shows what is an example, or what a test runs", () => {
    const known = Object.entries(run[page] ?? {}).flatMap(([heading, tests]) => tests.map(() => heading))
    assert.deepStrictEqual(
      others.map(({ heading }) => heading),
      known
    )
  })

  it("is read by the tests that run what it shows", () => {
    const tests = new Set(Object.values(run[page] ?? {}).flat())
    for (const test of tests) assert.include(Pages.read(test), page, test)
  })
})

it.each(Pages.pages.filter((page) => held[page] !== undefined))("%s is read by the test of its own", (page) => {
  assert.include(Pages.read(held[page] ?? ""), page)
})

/** Commands within sentences, and who runs them. */
const commands: ReadonlyArray<readonly [command: RegExp, by: string, how: string]> = [
  [/^npm ci$/, ".ci/run", "npm ci "],
  [/^npm ci && npm start$|^npm start$/, ".ci/run", "npm start"],
  [/^npm test$/, ".ci/run", "npm test"],
  [/^npm run simulate\b/, ".ci/run", "npm run --silent simulate"],
  [/^npm run mutate\b/, ".ci/run", "npm run --silent mutate"],
  [/^npm run bench( |$)/, ".ci/run", "npm run --silent bench"],
  [/^npm run bench:storage$/, "test/bench/storage.ts", "npm run bench:storage"],
  [/^npm run load\b/, "test/load/Load.fleet.ts", "npm run load"],
  [/^npm run test:fleet$/, ".ci/run", "npm run test:fleet"],
  [/^npm run test:package$/, ".ci/run", "npm run test:package"],
  [/^npm run test:scale$/, ".ci/run", "npm run test:scale"],
  [/^npm run docs$/, "test/docs/docs.ts", "npm run docs"]
]

describe("commands within sentences", () => {
  const named = Pages.pages.flatMap((page) =>
    Array.from(
      Pages.read(page)
        .replace(/^```[^]*?^```$/gm, "")
        .matchAll(/`((?:npm|npx|node) [^`]+)`/g),
      ([, command = ""]) => ({ page, command: command.replace(/\s+/g, " ") })
    )
  )

  it("name scripts, files and subcommands that there are", () => {
    for (const { command, page } of named) {
      const where = `${page}: ${command}`
      const [, script] = /^npm run (?:--silent )?([\w:]+)/.exec(command) ?? []
      if (script !== undefined) assert.property(manifest.scripts, script, where)
      const [, file] = /^npx vitest run(?: --mode \w+)? ([\w./]+)/.exec(command) ?? []
      if (file !== undefined) assert.isTrue(exists(file), where)
      const [, subcommand] = /^npx cal-tokens (\w+)/.exec(command) ?? []
      if (subcommand !== undefined) assert.include(subcommands, subcommand, where)
    }
  })

  it("are run by somebody", () => {
    for (const [, by, how] of commands) assert.include(Pages.read(by), how, by)
    const unknown = named.filter(
      ({ command }) => /^npm (?:ci|start|test|run)/.test(command) && !commands.some(([known]) => known.test(command))
    )
    assert.deepStrictEqual(unknown, [])
  })
})

it("what is installed is the same on all pages: what the packed package's test installs", () => {
  const [, first = ""] = /`(npm i cal-tokens [^`]+)` in an empty folder/.exec(Pages.read("README.md")) ?? []
  const [plain = ""] = Pages.texts("README.md", "Plain TypeScript", "sh")
  const [service] = Pages.texts("README.md", "HTTP, from any language", "sh")
  const embedded = "@electric-sql/pglite"
  const [actions = "", more = ""] = Pages.texts("src/Actions/README.md", "Plain TypeScript: `cal-tokens/actions`", "sh")
  assert.strictEqual(plain, actions.replace("\n", ` ${embedded}\n`))
  assert.isTrue(more.startsWith(`npm i ${embedded} #`))
  const [next] = Pages.texts("src/Next/README.md", "cal-tokens in Next.js, and in Remix, SvelteKit, Hono and Bun", "sh")
  assert.strictEqual(next, actions)
  const [start] = Pages.texts("src/Http/README.md", "Start", "sh")
  assert.strictEqual(start, service)
  assert.deepStrictEqual(Pages.texts("src/Sandbox/README.md", "Without Effect", "sh"), [`${first}\n`])
})

/** A file, or files whose names begin so. */
const exists = (path: string): boolean =>
  Fs.existsSync(Path.join(Pages.root, path)) ||
  Fs.readdirSync(Path.join(Pages.root, Path.dirname(path))).some((name) => name.startsWith(Path.basename(path)))

describe.each(["README.md", "test/README.md"])("the promises in %s", (page) => {
  const rows = Array.from(Pages.read(page).matchAll(/^\| (\d+) \| .* \| ([^|]+) \|$/gm), ([, number, tests = ""]) => ({
    number: Number(number),
    tests: Array.from(tests.matchAll(/`([^`]+)`/g), ([, test = ""]) => `test/${test}`)
  }))

  it("are sixteen", () => {
    assert.deepStrictEqual(
      rows.map(({ number }) => number),
      Array.from({ length: 16 }, (_, index) => index + 1)
    )
  })

  it("name tests that there are", () => {
    for (const { number, tests } of rows) {
      assert.isNotEmpty(tests, String(number))
      for (const test of tests) assert.isTrue(exists(`${test}.`), test)
    }
  })
})

describe("scripts that are shown as a whole", () => {
  it.each([
    ["js", "first.ts", () => import("../examples/first.js")],
    ["ts", "effect.ts", () => import("../examples/effect.js")]
  ] as const)("say what they say they say: %s, %s", async (language, file, load) => {
    const text = Pages.read(`test/examples/${file}`)
    assert.include(Pages.read("README.md"), `\n\`\`\`${language}\n${text}\`\`\`\n`)
    const [, said = ""] = /[cC]onsole\.log\(.*\) \/\/ (.*)$/m.exec(text) ?? []
    const log = vi.spyOn(console, "log").mockImplementation(() => {})
    try {
      await load()
      assert.deepStrictEqual(log.mock.calls.at(-1), [said])
    } finally {
      log.mockRestore()
    }
  })
})

it("a failure of the actions looks as their page shows it", async () => {
  const [text = ""] = Pages.texts("src/Actions/README.md", "Failures", "json")
  const shown = JSON.parse(text) as Actions.Failure
  const cal = await startSandbox()
  try {
    const user = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
    await cal.connect(user)
    await cal.deleteUser(user)
    const failure = await Actions.make({ layer: cal.layer }).ensureValidCalToken(user, true)
    assert(Actions.isFailure(failure))
    assert.deepStrictEqual({ ...failure, error: shown.error }, shown)
  } finally {
    await cal.close()
  }
})
