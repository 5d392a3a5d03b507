/** An app moves its users from token code of its own to this package, a few at a time, and goes on answering. */
import { Duration } from "effect"
import { afterEach, assert, beforeEach, describe, it, vi } from "vitest"
import { makeWorld } from "../../support/MovingWorld.js"
import { type Failure, name } from "./before.js"

const ada = "01ARZ3NDEKTSV4RRFFQ69G5FA0"
const bob = "01ARZ3NDEKTSV4RRFFQ69G5FA1"
const cem = "01ARZ3NDEKTSV4RRFFQ69G5FA2"
const dia = "01ARZ3NDEKTSV4RRFFQ69G5FA3"
const everybody = [ada, bob, cem, dia]

interface Asking {
  readonly makeCalApiRequest: <A>(
    endpoint: string,
    method: "GET" | "POST",
    body: unknown,
    userUlid: string
  ) => Promise<A | Failure>
}

interface Me {
  readonly data: { readonly id: number }
}

describe("an app that moves", () => {
  let world: Awaited<ReturnType<typeof makeWorld>>
  const ids = new Map<string, number>()

  /** Two managed users, and two who consented. */
  beforeEach(async () => {
    vi.useFakeTimers({ toFake: ["Date"] }) // the clock alone: what waits goes on waiting in real time
    // Hours pass in seconds here, and the storage has a clock of its own.
    world = await makeWorld({ maxAttempts: 100, latePairWait: Duration.millis(50) })
    for (const user of everybody) {
      const grant = await world.cal.grant({ kind: user < cem ? "managed" : "oauth2", email: `${user}@example.com` })
      await world.add(user, grant)
      ids.set(user, grant.calUserId)
    }
  })
  afterEach(async () => {
    await world.end()
    vi.useRealTimers()
  })

  const later = (minutes: number) => vi.setSystemTime(new Date().getTime() + minutes * 60_000)

  /** Of either kind. */
  const expire = () => later(61)

  /** Whom Cal.com takes the app for: the user at Cal.com, or why it does not know. */
  const me = async (app: Asking, user: string) => {
    const answer = await app.makeCalApiRequest<Me>("/me", "GET", undefined, user)
    return "data" in answer ? answer.data.id : answer.error
  }
  const all = (app: Asking) => Promise.all(everybody.map((user) => me(app, user)))
  const known = () => everybody.map((user) => ids.get(user) ?? 0)

  /** Who refreshed whom since this was asked last. */
  const refreshes = () => {
    const calls = world.cal.calls().filter(({ kind }) => kind !== "api")
    world.cal.resetCalls()
    return Object.fromEntries(
      everybody.map((user) => [
        user,
        calls.filter(({ calUserId }) => calUserId === ids.get(user)).map(({ userAgent }) => userAgent)
      ])
    )
  }

  const post = (user: string, body: unknown = {}) =>
    new Request("https://app.example.com/api/cal/refresh-token", {
      method: "POST",
      headers: { user },
      body: JSON.stringify(body)
    })

  it("answers before, while users move one by one, and afterwards", async () => {
    assert.deepStrictEqual(await all(world.before), known())
    refreshes()
    for (const [place, user] of everybody.entries()) {
      assert.strictEqual(await world.move([user]), 1)
      expire()
      assert.deepStrictEqual(await all(world.during), known())
      const moved = everybody.slice(0, place + 1)
      assert.deepStrictEqual(
        refreshes(),
        Object.fromEntries(everybody.map((user) => [user, [moved.includes(user) ? "cal-tokens" : name]]))
      )
    }
    expire()
    assert.deepStrictEqual(await all(world.after), known())
  })

  it("moves many at once, and may say so again while both run", async () => {
    assert.strictEqual(await world.move([ada, cem]), 2)
    assert.strictEqual(await world.move(everybody), 2)
    assert.strictEqual(await world.move(everybody), 0)
    later(1)
    assert.deepInclude(await world.during.refreshUserCalTokens(cem, true), { success: true })
    assert.deepStrictEqual(
      (await world.again(everybody)).map(({ outcome }) => outcome),
      ["unchanged", "unchanged", "refreshedHere", "unchanged"]
    )
    assert.deepStrictEqual(await all(world.during), known())
  })

  it("leaves for later whom the old code may be refreshing", async () => {
    later(57)
    assert.strictEqual(await world.move(everybody), 0)
    assert.deepStrictEqual(await all(world.during), known())
    assert.deepStrictEqual(refreshes(), Object.fromEntries(everybody.map((user) => [user, [name]])))
    assert.strictEqual(await world.move(everybody), 4)
  })

  it("takes the pair of a refresh that was under way when its user moved", async () => {
    await world.move(everybody)
    later(1)
    for (const user of everybody)
      assert.deepStrictEqual(await world.before.refreshUserCalTokens(user, true), { success: true })
    assert.deepStrictEqual(
      (await world.again(everybody)).map(({ outcome }) => outcome),
      ["updated", "updated", "updated", "updated"]
    )
    expire()
    refreshes()
    assert.deepStrictEqual(await all(world.during), known())
    assert.deepStrictEqual(refreshes(), Object.fromEntries(everybody.map((user) => [user, ["cal-tokens"]])))
  })

  it("has the same routes and functions", async () => {
    for (const app of [world.before, world.during, world.after]) {
      if (app === world.after) await world.move(everybody)
      refreshes()
      world.revalidated.length = 0
      const refreshed = await app.refreshToken(post(ada, { forceRefresh: true }))
      assert.deepInclude(await refreshed.json(), { success: true })
      const managed = await app.refreshManagedUserToken(post(bob))
      assert.deepInclude(await managed.json(), { success: true })
      assert.strictEqual((await app.refreshManagedUserToken(post(cem))).status, 400)
      const by = app === world.after ? "cal-tokens" : name
      assert.deepStrictEqual(refreshes(), { [ada]: [by], [bob]: [by], [cem]: [], [dia]: [] })
      assert.deepStrictEqual(world.revalidated, ["/calendar", "/calendar"])

      const token = await app.ensureValidCalToken(dia)
      assert(token.success)
      later(1)
      await world.cal.expire(ids.get(dia) ?? 0)
      const ask = (accessToken: string) =>
        fetch(`${world.cal.url}/v2/me`, { headers: { authorization: `Bearer ${accessToken}` } })
      const response = await app.handleCalApiResponse(await ask(token.accessToken), ask, dia)
      assert.strictEqual(response.status, 200)
    }
  })

  it("gives back who was not refreshed here yet, and nobody else", async () => {
    await world.move(everybody)
    assert.strictEqual(await world.moveBack(cem), true)
    expire()
    refreshes()
    assert.deepStrictEqual(await all(world.during), known())
    assert.deepStrictEqual(refreshes()[cem], [name])
    for (const user of [ada, bob, dia]) assert.strictEqual(await world.moveBack(user), false)
    assert.deepStrictEqual(await all(world.during), known())
  })

  it("loses who consented to old code that was forgotten, and is told so; managed users recover", async () => {
    await world.move(everybody)
    later(1)
    for (const user of everybody) await world.before.refreshUserCalTokens(user, true)
    expire()
    const [one, another, ...lost] = await all(world.after)
    assert.deepStrictEqual([one, another], [ids.get(ada), ids.get(bob)])
    for (const said of lost)
      assert.match(String(said), /has to reconnect Cal\.com: .*a second system may still refresh/)
    const list = await world.after.listCalConnections({ status: "reauthorizationRequired" })
    assert(list.success)
    assert.deepStrictEqual(
      list.connections.map(({ hint, userUlid }) => [userUlid, hint?.includes("second system")]),
      [
        [cem, true],
        [dia, true]
      ]
    )
  })
})
