/** What the pages say to Prometheus, held by its own tool. */
import { spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import { texts } from "../docs/Pages.js"

const page = "src/Environment/README.md"

const promtool = ["/usr/bin/promtool", "/usr/local/bin/promtool"].find((path) => Fs.existsSync(path))

let directory: string
beforeAll(() => {
  directory = Fs.mkdtempSync(Path.join(Os.tmpdir(), "cal-tokens-promtool-"))
})
afterAll(() => Fs.rmSync(directory, { recursive: true }))

/** Runs it on files of these names. */
const check = (words: ReadonlyArray<string>, files: Readonly<Record<string, string>>) => {
  for (const [name, text] of Object.entries(files)) Fs.writeFileSync(Path.join(directory, name), text)
  const { status, stderr, stdout } = spawnSync(promtool ?? "promtool", words, {
    cwd: directory,
    encoding: "utf8",
    timeout: 60_000
  })
  return { status, said: `${stdout}${stderr}` }
}

describe.skipIf(promtool === undefined)("promtool (skipped where Prometheus is not installed)", () => {
  it("takes the configuration that is shown", () => {
    const [config = ""] = texts(page, "Telemetry", "yaml")
    const here = config.replace("/etc/prometheus/cal-tokens-key", "key")
    assert.notStrictEqual(here, config)
    const { said, status } = check(["check", "config", "prometheus.yaml"], { "prometheus.yaml": here, key: "k" })
    assert.strictEqual(status, 0, said)
    assert.strictEqual(
      check(["check", "config", "wrong.yaml"], { "wrong.yaml": here.replace("static_configs", "statics") }).status,
      1
    )
  })
})
