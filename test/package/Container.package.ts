/**
 * The recipe for a container in `src/Environment/README.md`, carried out instruction by instruction without an engine: each
 * stage is an empty directory, each command runs as the recipe says, and the program as process number 1 where the system
 * lets us make one.
 */
import { spawn, spawnSync } from "node:child_process"
import { randomBytes } from "node:crypto"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { assert, it } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import { afterAll, beforeAll, describe, inject } from "vitest"
import { blocks } from "../support/Document.js"
import { freePort } from "../support/Ports.js"
import { makeDatabase } from "../support/Postgres.js"
import { unprivileged } from "../support/Unprivileged.js"
import * as Project from "./Project.js"

const document = "src/Environment/README.md"

/** An instruction of a recipe, and what it is about. */
type Instruction = readonly [name: string, text: string]

const instructions = (recipe: string): ReadonlyArray<Instruction> =>
  Array.from(recipe.matchAll(/^([A-Z]+) (.+)$/gm), ([, name = "", text = ""]) => [name, text])

interface Stage {
  readonly root: string
  workdir: string
  user: string
  readonly env: Record<string, string>
  health: ReadonlyArray<string>
  command: ReadonlyArray<string>
}

/** As in a shell of one's own, with what npm has fetched before. */
const env = {
  ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^npm_/i.test(name))),
  npm_config_prefer_offline: "true",
  npm_config_audit: "false"
}

const list = (text: string) => JSON.parse(text.slice(text.indexOf("["))) as ReadonlyArray<string>

/** Follows a recipe, with the files of `context` beside it; answers its last stage. */
const follow = (recipe: string, context: string, home: string): Stage => {
  const stages = new Map<string, Stage>()
  let stage: Stage | undefined
  const present = () => stage ?? assert.fail("there is no stage yet")
  const at = ({ root, workdir }: Stage, path: string) => Path.join(root, Path.posix.resolve(workdir, path))
  for (const [name, text] of instructions(recipe)) {
    switch (name) {
      case "FROM": {
        const [, image = "", as = `stage ${stages.size}`] = /^(\S+)(?: AS (\S+))?$/.exec(text) ?? []
        assert.match(image, /^node:\d+-/)
        const root = Path.join(home, `root-${stages.size}`)
        Fs.mkdirSync(root, { mode: 0o755 })
        stage = { root, workdir: "/", user: "root", env: {}, health: [], command: [] }
        stages.set(as, stage)
        break
      }
      case "WORKDIR":
        present().workdir = text
        Fs.mkdirSync(at(present(), "."), { recursive: true })
        break
      case "COPY": {
        const [, from, paths = ""] = /^(?:--from=(\S+) )?(.+)$/.exec(text) ?? []
        const sources = paths.split(" ")
        const target = at(present(), sources.pop() ?? "")
        for (const source of sources) {
          const other = from === undefined ? undefined : (stages.get(from) ?? assert.fail(`no stage ${from}`))
          const file = other === undefined ? Path.join(context, source) : at(other, source)
          const isInto = /\/$/.test(paths) && other === undefined
          Fs.cpSync(file, isInto ? Path.join(target, source) : target, { recursive: true, verbatimSymlinks: true })
        }
        break
      }
      case "RUN": {
        const { status, stderr } = spawnSync("sh", ["-c", text], { cwd: at(present(), "."), env, encoding: "utf8" })
        assert.strictEqual(status, 0, stderr)
        break
      }
      case "ENV":
        Object.assign(present().env, Object.fromEntries(text.split(" ").map((pair) => pair.split("="))))
        break
      case "USER":
        present().user = text
        break
      case "EXPOSE":
        assert.strictEqual(text, "4000")
        break
      case "HEALTHCHECK":
        present().health = list(text)
        break
      case "CMD":
        present().command = list(text)
        break
      default:
        assert.fail(`nobody knows here what ${name} does`)
    }
  }
  return present()
}

/** Whether this system lets us begin anew with process number 1. */
const isFirst = spawnSync("unshare", ["--pid", "--fork", "true"]).status === 0

describe("the recipe for a container", () => {
  let home: string
  let stage: Stage
  beforeAll(() => {
    home = Fs.mkdtempSync(Path.join(Os.tmpdir(), "cal-tokens-container-"))
    Fs.chmodSync(home, 0o755)
    const { tarball } = inject("packed")
    const project = Project.make("container")
    // The published package by its name; here, what would be published, beside the recipe.
    Fs.copyFileSync(tarball, Path.join(project.directory, "cal-tokens.tgz"))
    Fs.rmSync(Path.join(project.directory, "package.json"))
    const [commands = "", more] = blocks(document, "## In a container", "sh")
    assert.isUndefined(more)
    const install = commands.replace(/ cal-tokens$/m, " ./cal-tokens.tgz")
    assert.notStrictEqual(install, commands)
    const { status, stderr } = spawnSync("bash", ["--norc", "-euc", install], {
      cwd: project.directory,
      env,
      encoding: "utf8"
    })
    assert.strictEqual(status, 0, stderr)
    const [recipe = ""] = blocks(document, "## In a container", "dockerfile")
    stage = follow(recipe.replace("COPY package.json", "COPY cal-tokens.tgz package.json"), project.directory, home)
  })
  afterAll(() => {
    Fs.rmSync(home, { recursive: true, force: true })
    Project.remove()
  })

  it("leaves the program and what it needs, for whoever has no rights", () => {
    assert.strictEqual(stage.user, "node")
    assert.deepStrictEqual(stage.env, { NODE_ENV: "production", HOST: "0.0.0.0" })
    const app = Path.join(stage.root, "app")
    assert.deepStrictEqual(Fs.readdirSync(app), ["node_modules"])
    for (const tool of ["typescript", "vitest", "@electric-sql"]) {
      assert.isFalse(Fs.existsSync(Path.join(app, "node_modules", tool)), tool)
    }
  })

  it.scopedLive("serves in it, is healthy, and ends at a signal", () =>
    Effect.gen(function* () {
      const port = yield* Effect.promise(freePort)
      const variables = {
        PATH: process.env["PATH"] ?? "",
        ...stage.env,
        // Nobody else's business here.
        HOST: "127.0.0.1",
        PORT: String(port),
        CAL_CLIENT_ID: "client",
        CAL_CLIENT_SECRET: "secret",
        CAL_TOKENS_API_KEYS: `ops:${randomBytes(24).toString("hex")}`,
        CAL_TOKENS_ENCRYPTION_KEYS: `k1:${randomBytes(32).toString("base64")}`,
        DATABASE_URL: Redacted.value(yield* makeDatabase)
      }
      const cwd = Path.join(stage.root, stage.workdir)
      const { gid, uid } = unprivileged()
      /** Node is where it is here. */
      const ours = ([command = "", ...rest]: ReadonlyArray<string>) => {
        assert.strictEqual(command, "node")
        return [process.execPath, ...rest]
      }
      const as = uid === undefined ? [] : ["setpriv", `--reuid=${uid}`, `--regid=${gid}`, "--clear-groups", "--"]
      const first = isFirst ? ["unshare", "--pid", "--fork", "--kill-child", "--"] : []
      const [command = "", ...rest] = [...first, ...as, ...ours(stage.command)]
      const child = spawn(command, rest, { cwd, env: variables, stdio: ["ignore", "pipe", "pipe"] })
      yield* Effect.addFinalizer(() => Effect.sync(() => child.kill("SIGKILL")))
      const exit = new Promise<number | null>((resolve) => child.once("close", resolve))
      let said = ""
      const listens = new Promise<void>((resolve, reject) => {
        for (const stream of [child.stdout, child.stderr]) {
          stream.setEncoding("utf8").on("data", (text: string) => {
            said += text
            if (said.includes('"Listening on http:')) resolve()
          })
        }
        child.once("close", () => reject(new Error(said)))
      })
      yield* Effect.promise(() => listens)

      const isHealthy = () => {
        const [command = "", ...rest] = ours(stage.health)
        return spawnSync(command, rest, { cwd, env: variables }).status === 0
      }
      assert.isTrue(isHealthy())
      const ready = yield* Effect.promise(() => fetch(`http://127.0.0.1:${port}/health/ready`))
      assert.strictEqual(ready.status, 200)
      yield* Effect.promise(() => ready.text())

      const program = isFirst ? childOf(child.pid ?? 0) : (child.pid ?? 0)
      if (process.platform === "linux") {
        const status = Fs.readFileSync(`/proc/${program}/status`, "utf8")
        if (uid !== undefined) assert.match(status, new RegExp(`^Uid:\\s+${uid}\\s`, "m"))
        // Its number within.
        if (isFirst) assert.match(status, /^NSpid:.*\s1$/m)
      }
      process.kill(program, "SIGTERM")
      assert.strictEqual(yield* Effect.promise(() => exit), 0, said)
      assert.isFalse(isHealthy())
    })
  )
})

const childOf = (pid: number): number =>
  Number(Fs.readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ")[0])
