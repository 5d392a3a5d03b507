/** Actions without layers of one's own: the environment variables of the service decide. */
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterEach, assert, beforeEach, describe, it, vi } from "@effect/vitest"
import * as Actions from "../../src/Actions.js"
import { ada } from "../../src/Environment/Demo.js"
import { user } from "../support/ActionsFakes.js"

// Each starts a database.
describe("actions from the environment", { timeout: 120_000 }, () => {
  let directory = ""
  const logged: Array<string> = []

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "cal-tokens-actions-"))
    logged.length = 0
    vi.spyOn(globalThis.console, "log").mockImplementation((...line) => void logged.push(line.join(" ")))
    for (const name of Object.keys(process.env)) {
      if (/^(CAL|DATABASE)_/.test(name)) vi.stubEnv(name, undefined)
    }
    vi.stubEnv("CAL_TOKENS_DATA_DIR", directory)
  })
  afterEach(async () => {
    vi.unstubAllEnvs()
    vi.restoreAllMocks()
    await rm(directory, { recursive: true })
  })

  it("without a client speak to the simulated Cal.com, and say so", async () => {
    const cal = Actions.make()
    const me = await cal.makeCalApiRequest("/me", "GET", undefined, ada.userUlid)
    assert.deepInclude(me, { status: "success" })
    assert.deepInclude(await cal.getCalTokenInfo(user), { code: "TokensNotFound" })
    assert.include(logged.join("\n"), "Cal.com is simulated")
    await cal.dispose()
  })

  it("that is wrong fail, log the variable, and start once it is right, without API keys", async () => {
    vi.stubEnv("CAL_CLIENT_ID", "client")
    const cal = Actions.make()
    assert.deepInclude(await cal.ensureValidCalToken(user), { code: "StartFailed" })
    assert.include(logged.join("\n"), "CAL_CLIENT_SECRET is required with CAL_CLIENT_ID")
    vi.stubEnv("CAL_CLIENT_SECRET", "client-secret")
    assert.deepInclude(await cal.ensureValidCalToken(user), { code: "TokensNotFound" })
    await cal.dispose()
  })
})
