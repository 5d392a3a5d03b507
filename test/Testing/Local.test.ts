/** The simulator by a promise, for tests in which there is no Effect. */
import { afterEach, assert, beforeEach, describe, it, vi } from "vitest"
import * as Actions from "../../src/Actions.js"
import { Fault, type LocalPerson, type LocalSandbox, startSandbox } from "../../src/Testing.js"

const ada = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
const cem = "01BX5ZZKBKACTAV9WEVGEMMVRZ"
const eve = "01BX5ZZKBKACTAV9WEVGEMMVS0"

let cal: LocalSandbox
let actions: Actions.Actions
beforeEach(async () => {
  cal = await startSandbox()
  actions = Actions.make({ layer: cal.layer })
})
afterEach(async () => {
  await actions.dispose()
  await cal.close()
})

const me = (userUlid: string) => actions.makeCalApiRequest("/me", "GET", undefined, userUlid)

/** As somebody without this package asks Cal.com. */
const ask = async (path: string, accessToken: string) =>
  (await fetch(`${cal.url}/v2${path}`, { headers: { authorization: `Bearer ${accessToken}` } })).status

/** Until a request has met the mishap that waits for one. */
const arrival = async (): Promise<void> => {
  const answer = await fetch(`${cal.url}/_control/faults`)
  const { queued } = (await answer.json()) as { readonly queued: ReadonlyArray<unknown> }
  return queued.length === 0 ? undefined : arrival()
}

describe("startSandbox", () => {
  it("connects people of both kinds in the layer that the actions are given", async () => {
    const managed = await cal.connect(ada, { email: "ada@example.com", name: "Ada" })
    const oauth2 = await cal.connect(cem.toLowerCase(), { kind: "oauth2", name: "Cem", scope: "PROFILE_READ" })
    assert.deepInclude(managed, { kind: "managed", clientId: cal.clientId, eventTypeId: managed.calUserId * 10 + 1 })
    assert.deepInclude(oauth2, { kind: "oauth2", clientId: cal.oauth2.clientId, scope: "PROFILE_READ" })
    assert.deepInclude(await me(ada), { status: "success" })
    assert.deepInclude((await me(cem)) as object, { status: "success" })
    assert.deepInclude(await actions.getCalTokenInfo(cem), { managedUserId: null, status: "active" })
  })

  it("has one Cal.com, in the process and on its port", async () => {
    const { accessToken } = await cal.connect(ada)
    assert.strictEqual(await ask("/me", accessToken), 200)
    assert.lengthOf(cal.calls(), 1)
    await me(ada)
    assert.deepStrictEqual(
      cal.calls().map(({ kind, status }) => [kind, status]),
      [
        ["api", 200],
        ["api", 200]
      ]
    )
    cal.resetCalls()
    assert.strictEqual(cal.count("api"), 0)
  })

  it("expires, revokes and deletes whoever is named, as one likes to name them", async () => {
    const managed = await cal.connect(ada, { email: "ada@example.com" })
    const oauth2 = await cal.connect(cem, { kind: "oauth2" })
    for (const user of [ada, managed.calUserId, "ada@example.com"]) {
      cal.resetCalls()
      await cal.expire(user)
      assert.deepInclude(await me(ada), { status: "success" })
      assert.strictEqual(cal.count("refresh", managed.calUserId), 1)
    }
    await cal.expire(cem)
    assert.deepInclude(await me(cem), { status: "success" })
    assert.strictEqual(cal.count("oauth2Refresh"), 1)
    await cal.revoke(oauth2)
    assert.deepInclude(await actions.refreshUserCalTokens(cem, true), { code: "ReauthorizationRequired" })
    const { calUserId } = await cal.connect(eve)
    await cal.deleteUser(String(calUserId))
    assert.deepInclude(await actions.refreshUserCalTokens(eve, true), { code: "ReauthorizationRequired" })
  })

  it("gives tokens that live as long as is wanted", async () => {
    const quick = await startSandbox({ accessTokenLifetime: "2 seconds" })
    const { accessTokenExpiresAt } = await quick.connect(ada)
    const brief = Actions.make({ layer: quick.layer })
    vi.useFakeTimers({ toFake: ["Date"], now: accessTokenExpiresAt - 2000 })
    try {
      assert.deepInclude(await brief.ensureValidCalToken(ada), { success: true })
      assert.strictEqual(quick.count("refresh"), 0)
      vi.setSystemTime(accessTokenExpiresAt)
      assert.deepInclude(await brief.ensureValidCalToken(ada), { success: true })
      assert.strictEqual(quick.count("refresh"), 1)
    } finally {
      vi.useRealTimers()
      await quick.close()
    }
  })

  it("has Cal.com misbehave", async () => {
    await cal.connect(ada)
    cal.inject(Fault.status(503, { kind: "api", times: Infinity }))
    assert.deepInclude(await me(ada), { success: false, code: "CalUnavailable", status: 503 })
    cal.clearFaults()
    cal.turn({ managedSecretRejected: true })
    assert.deepInclude(await actions.refreshUserCalTokens(ada, true), { code: "CalClientMisconfigured" })
  })

  it("gives tokens and codes to programs that connect their users themselves", async () => {
    const { accessToken, calUserId, kind } = await cal.grant({ email: "ben@example.com" })
    assert.strictEqual(kind, "managed")
    assert.strictEqual(await ask("/me", accessToken), 200)
    assert.strictEqual((await cal.grant({ email: "ben@example.com" })).calUserId, calUserId)
    const code = await cal.authorizationCode({ email: "cem@example.com" })
    const exchange = await fetch(`${cal.url}/v2/auth/oauth2/token`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({
        grant_type: "authorization_code",
        client_id: cal.oauth2.clientId,
        client_secret: cal.oauth2.clientSecret,
        redirect_uri: cal.env["CAL_OAUTH_REDIRECT_URL"],
        code
      })
    })
    assert.strictEqual(exchange.status, 200)
  })

  it("says what is wrong in an Error, and only that", async () => {
    const fails = async (promise: Promise<unknown>) => {
      const error: unknown = await promise.then(
        () => assert.fail("succeeded"),
        (error: unknown) => error
      )
      return error instanceof Error ? error.message : assert.fail(String(error))
    }
    assert.match(await fails(cal.connect("ada")), /^userUlid must be a ULID/)
    for (const nobody of ["nobody@example.com", 4, "4", { calUserId: 4 }]) {
      assert.match(await fails(cal.expire(nobody)), /^user must be Cal\.com's number of a user of this sandbox/)
    }
    assert.match(await fails(cal.expire(ada)), /^User 01ARZ3NDEKTSV4RRFFQ69G5FAV has no/)
    assert.match(await fails(cal.connect(ada, { clientId: "nobody" })), /no client nobody/)
    // From JavaScript.
    for (const kind of ["oauth", "Managed", null] as ReadonlyArray<unknown>) {
      const person = { kind } as LocalPerson
      for (const promise of [cal.connect(ada, person), cal.grant(person)]) {
        assert.strictEqual(await fails(promise), 'kind must be "managed" or "oauth2".')
      }
    }
    assert.deepInclude(await actions.getCalTokenInfo(ada), { code: "TokensNotFound" })
    const port = Number(new URL(cal.url).port)
    assert.match(await fails(startSandbox({ port })), /cannot listen on 127\.0\.0\.1:\d+ \(EADDRINUSE\)/)
  })

  it("logs nothing, unless that is asked for", async () => {
    const written = vi.spyOn(console, "log").mockImplementation(() => {})
    try {
      await cal.connect(ada)
      assert.strictEqual(written.mock.calls.length, 0)
      const loud = await startSandbox({ logLevel: "Info" })
      await loud.connect(ada)
      await loud.close()
      assert.match(String(written.mock.calls), /Tokens connected/)
    } finally {
      written.mockRestore()
    }
  })

  it("leaves nothing behind, whatever Cal.com still had to answer", async () => {
    const { accessToken } = await cal.connect(ada)
    cal.inject(Fault.delayBefore("1 hour"))
    const pending = ask("/me", accessToken).then(
      () => "answered",
      () => "broken"
    )
    await arrival()
    await cal.close()
    assert.strictEqual(await pending, "broken")
    const again = await fetch(cal.url).then(
      () => "answered",
      () => "refused"
    )
    assert.strictEqual(again, "refused")
  })
})
