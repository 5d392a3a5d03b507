/** Actions without layers of one's own: the environment variables of the service decide. */
import { mkdtemp, readdir, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterEach, assert, beforeEach, describe, it, vi } from "@effect/vitest"
import * as Actions from "../../src/Actions.js"
import * as Next from "../../src/Next.js"
import { ada } from "../../src/Environment/Demo.js"
import { user } from "../support/ActionsFakes.js"
import { freePort } from "../support/Ports.js"

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

  it("that look misspelt are warned of once in a process, before the start fails for them", async () => {
    const warnings = () =>
      logged.flatMap((line) => {
        const { logLevel, message } = JSON.parse(line) as { readonly logLevel: string; readonly message: string }
        return logLevel === "WARN" && message.includes("is not known") ? [message] : []
      })
    const secert = "CAL_CLIENT_SECERT is not known and has no effect: is CAL_CLIENT_SECRET meant?"
    const colour =
      "CAL_TOKENS_COLOUR_OF_THE_SHED is not known and has no effect: `cal-tokens serve --help` lists those that are"
    vi.stubEnv("LOG_FORMAT", "json")
    vi.stubEnv("CAL_CLIENT_ID", "client")
    vi.stubEnv("CAL_CLIENT_SECERT", "client-secret")
    const cal = Actions.make()
    assert.deepInclude(await cal.ensureValidCalToken(user), { code: "StartFailed" })
    assert.deepStrictEqual(warnings(), [secert])
    assert.notInclude(logged.join("\n"), "client-secret")
    assert.deepInclude(await cal.ensureValidCalToken(user), { code: "StartFailed" })
    assert.deepStrictEqual(warnings(), [secert])

    vi.stubEnv("CAL_CLIENT_ID", undefined)
    vi.stubEnv("CAL_TOKENS_COLOUR_OF_THE_SHED", "green")
    const door = Next.make({ user: () => user, origin: "https://app.example" })
    const headers = { "sec-fetch-site": "same-origin" }
    assert.strictEqual((await door.atoms(new Request("https://app.example/api/cal/atoms", { headers }))).status, 401)
    assert.deepStrictEqual(warnings(), [secert, colour])
    await door.dispose()
    await cal.dispose()
  })

  it("say in the log where Cal.com was looked for in vain, and which variables led there", async () => {
    vi.stubEnv("LOG_FORMAT", "json")
    vi.stubEnv("CAL_CLIENT_ID", "client")
    vi.stubEnv("CAL_CLIENT_SECRET", "client-secret")
    const [cal, proxy] = await Promise.all([freePort(), freePort()])
    const proxied = `https://api.cal.invalid (set by CAL_API_URL) through the proxy http://127.0.0.1:${proxy} (set by HTTPS_PROXY)`
    for (const [apiUrl, httpsProxy, tried] of [
      [`http://127.0.0.1:${cal}/v2`, undefined, `http://127.0.0.1:${cal} (set by CAL_API_URL)`],
      ["https://api.cal.invalid/v2", `http://SECRET-user:SECRET-password@127.0.0.1:${proxy}`, proxied]
    ] as const) {
      logged.length = 0
      vi.stubEnv("CAL_API_URL", apiUrl)
      vi.stubEnv("HTTPS_PROXY", httpsProxy)
      const actions = Actions.make()
      for (const answer of [
        await actions.createManagedCalUser(user, { email: "grace@example.com", name: "Grace" }),
        await actions.makeCalApiRequest("/bookings", "POST", {})
      ]) {
        assert.deepInclude(answer, { code: "CalUnavailable" })
        assert.notMatch(JSON.stringify(answer), /127\.0\.0\.1|invalid/)
      }
      const lines = logged.map((line) => JSON.parse(line) as { readonly annotations: Record<string, unknown> })
      assert.deepStrictEqual(
        lines.flatMap(({ annotations: { code, tried } }) => (code === undefined ? [] : [[code, tried]])),
        [
          ["CalUnavailable", tried],
          ["CalUnavailable", tried]
        ]
      )
      assert.notInclude(logged.join(), "SECRET")
      await actions.dispose()
    }
  })

  it("have all that connections need", async () => {
    vi.stubEnv("CAL_TOKENS_RETURN_URLS", "https://app.example/settings")
    const cal = Actions.make()
    const made = await cal.createManagedCalUser(user, { email: "grace@example.com", name: "Grace" })
    assert.deepInclude(made, { success: true })
    const page = await cal.listCalConnections()
    assert(page.success)
    assert.includeMembers(
      page.connections.map(({ userUlid }) => userUlid),
      [ada.userUlid, user]
    )
    const returnTo = "https://app.example/settings/calendar"
    assert.deepInclude(await cal.calConnectUrl(user, { returnTo }), { success: true })
    assert.deepInclude(await cal.calConnectUrl(user, { returnTo: "https://other.example/" }), { code: "InvalidInput" })
    assert.deepInclude(await cal.createCalSession(user), { success: true })
    assert.deepInclude(await cal.sweepCalTokens(), { success: true })
    await cal.dispose()
  })

  it("have the numbers of the variables, and before those the numbers of `config`", async () => {
    vi.stubEnv("CAL_TOKENS_COOLDOWN_ATTEMPTS", "1")
    for (const [email, config, refreshed] of [
      ["grace@example.com", undefined, [true, false, false]],
      ["hedy@example.com", { maxAttempts: 2, cooldownWindow: "10 minutes" }, [true, true, false]]
    ] as const) {
      const cal = Actions.make({ config })
      const made = await cal.createManagedCalUser(user, { email, name: "Grace" })
      assert.deepInclude(made, { success: true })
      for (const isRefreshed of refreshed) {
        assert.deepInclude(await cal.refreshUserCalTokens(user, true), { success: true, refreshed: isRefreshed })
      }
      await cal.disconnectCalUser(user)
      await cal.dispose()
    }
  })

  it("log as LOG_LEVEL and LOG_FORMAT say, also of a start that failed", async () => {
    vi.stubEnv("LOG_FORMAT", "logfmt")
    vi.stubEnv("CAL_CLIENT_ID", "client")
    const cal = Actions.make()
    assert.deepInclude(await cal.ensureValidCalToken(user), { code: "StartFailed" })
    assert.match(logged.join("\n"), /^timestamp=\S+ level=ERROR .*CAL_CLIENT_SECRET is required/)
    logged.length = 0
    vi.stubEnv("LOG_FORMAT", undefined)
    assert.deepInclude(await cal.ensureValidCalToken(user), { code: "StartFailed" })
    assert.deepInclude(JSON.parse(logged.join("\n")), { logLevel: "ERROR" })
    logged.length = 0
    vi.stubEnv("CAL_CLIENT_ID", undefined)
    vi.stubEnv("LOG_LEVEL", "error")
    // Neither the demo's warning nor the caller's mistake.
    assert.deepInclude(await cal.ensureValidCalToken(user), { code: "TokensNotFound" })
    assert.deepStrictEqual(logged, [])
    await cal.dispose()

    vi.stubEnv("LOG_LEVEL", "info")
    vi.stubEnv("LOG_FORMAT", "logfmt")
    const headers = { "sec-fetch-site": "cross-site" }
    const foreign = new Request("https://app.example/api/cal/atoms", { headers })
    const door = Next.make({ user: () => user, origin: "https://app.example" })
    assert.strictEqual((await door.atoms(foreign)).status, 403)
    assert.match(
      logged.join("\n"),
      /^timestamp=\S+ level=WARN .*Cal\.com is simulated[^]*\ntimestamp=\S+ level=INFO .*operation=atoms/
    )
    await door.dispose()
  })

  it("log so what they refuse before anything is built, and build nothing for it", async () => {
    vi.stubEnv("LOG_FORMAT", "json")
    const authorize = () => Promise.resolve(false)
    const cal = Actions.make({ authorize })
    assert.deepInclude(await cal.ensureValidCalToken("nobody"), { code: "InvalidInput" })
    assert.deepInclude(await cal.ensureValidCalToken(user), { code: "Forbidden" })
    assert.deepStrictEqual(
      logged.map((line) => (JSON.parse(line) as { readonly annotations: object }).annotations),
      [
        { code: "InvalidInput", operation: "ensureValidCalToken" },
        { code: "Forbidden", operation: "ensureValidCalToken", userUlid: user }
      ]
    )
    vi.stubEnv("LOG_LEVEL", "error")
    assert.deepInclude(await cal.ensureValidCalToken(user), { code: "Forbidden" })
    assert.lengthOf(logged, 2)
    assert.deepStrictEqual(await readdir(directory), [])
    await cal.dispose()
  })

  it("that make no sense are told in one line", async () => {
    vi.stubEnv("CAL_TOKENS_REFRESH_DUE", "6 m")
    const cal = Actions.make()
    assert.deepInclude(await cal.ensureValidCalToken(user), { code: "StartFailed", httpStatus: 503 })
    assert.include(logged.join("\n"), "CAL_TOKENS_REFRESH_DUE must be at most CAL_TOKENS_REFRESH_SOON")
    await cal.dispose()
  })
})
