/** The connect flow as a person clicks through it: website, Cal.com's consent page, our callback, and back. */
import { Effect } from "effect"
import type { Page } from "playwright-core"
import { assert } from "vitest"
import { UserUlid } from "../../src/Token.js"
import * as App from "./App.js"
import { overflow, picture } from "./Chromium.js"
import { inBrowser, type BrowserWorld } from "./BrowserWorld.js"

const ada = UserUlid.make("01HZY9TESTSAAAAAAAAAAAAAAA")
const ben = UserUlid.make("01HZY9TESTSBBBBBBBBBBBBBBB")

const open = async (world: BrowserWorld, userUlid = ada, width?: number) => {
  const app = App.make(world)
  world.serve(app.listener)
  const person = await world.person(width)
  const page = await person.newPage()
  await page.goto(app.login(userUlid))
  return { app, page, person }
}

const state = (page: Page) => page.textContent("#state")
const title = (page: Page) => page.textContent("h1")
const connect = (page: Page) => page.click("text=Connect Cal.com")
const allow = (page: Page) => page.click("text=Allow")

const isConnected = (world: BrowserWorld, userUlid: UserUlid) =>
  world.run(Effect.isSuccess(world.tokens.info(userUlid)))

inBrowser("a person", (test) => {
  test("connects by two clicks", async (world) => {
    const { app, page, person } = await open(world)
    assert.strictEqual(await state(page), "Not connected")
    await connect(page)
    assert.include(page.url(), `${world.cal}/auth/oauth2/authorize?`)
    assert.include((await page.textContent("body")) ?? "", "Sandbox app would like access")
    assert.strictEqual(await overflow(page), 0)
    await picture(page, "authorize")
    await allow(page)
    assert.strictEqual(page.url(), world.site + App.settings)
    assert.strictEqual(await state(page), "Connected")

    const { json, status } = await world.api("/ensure-token", { userUlid: ada })
    assert.strictEqual(status, 200, JSON.stringify(json))
    assert.strictEqual(await world.run(world.sandbox.count("oauth2Code")), 1)
    assert.strictEqual(await world.run(world.sandbox.count("oauth2Refresh")), 0)
    // What the addresses on the way hold goes on to nobody.
    assert.isAbove(app.referrers.length, 2)
    for (const referrer of app.referrers) assert.notMatch(referrer, /[?&](?:state|code|completion)=/)
    assert.deepStrictEqual(person.complaints, [])
    assert.deepStrictEqual(person.strays(), [])

    // The way back in history leads to the website again; nothing happens to the connection.
    await page.goto(person.requests.find((url) => url.includes("/oauth/callback?")) ?? "")
    assert.strictEqual(page.url(), world.site + App.settings)
    assert.strictEqual(await state(page), "Connected")
    assert.isTrue(await isConnected(world, ada))
    assert.strictEqual(await world.run(world.sandbox.count("oauth2Code")), 1)
  })

  test("whose browser fetches the callback ahead, or opens it in two tabs, connects all the same", async (world) => {
    const { app, page, person } = await open(world)
    const { json } = await world.api("/oauth/authorize-url", { userUlid: ada, returnTo: world.site + App.settings })
    await page.goto(String(json["url"]))
    // The callback is not opened yet.
    await page.route("**/api/cal/oauth/callback?*", (route) => route.abort())
    const asked = page.waitForRequest(/oauth\/callback\?/)
    await allow(page).catch(() => {})
    const callback = (await asked).url()
    world.serve((_, response) => {
      response.writeHead(200, { "content-type": "text/html" })
      response.end(`<!doctype html><link rel="icon" href="data:,"><link rel="prefetch" href="${callback}"><p>Ahead</p>`)
    })
    const ahead = await person.newPage()
    const fetched = ahead.waitForResponse(/oauth\/callback\?/)
    await ahead.goto(world.site)
    assert.strictEqual((await fetched).status(), 503)
    world.serve(app.listener)
    for (const tab of [ahead, await person.newPage()]) {
      await tab.goto(callback)
      assert.strictEqual(await state(tab), "Connected")
    }
    assert.strictEqual(app.completions.length, 1)
    assert.strictEqual(await world.run(world.sandbox.count("oauth2Code")), 1)
  })

  test("who just clicks is somebody new, whoever Cal.com knows already", async (world) => {
    const known = await world.run(world.sandbox.grantOAuth2({ name: "Somebody Else", email: "else@example.com" }))
    const accounts = new Set<unknown>([known.calUserId])
    for (const userUlid of [ada, ben]) {
      const { page } = await open(world, userUlid)
      await connect(page)
      await allow(page)
      assert.strictEqual(await state(page), "Connected")
      accounts.add((await world.run(world.tokens.info(userUlid))).connection.calUserId)
    }
    assert.strictEqual(accounts.size, 3)
  })

  test("who types a name and an address is that person, whoever is picked in the list", async (world) => {
    await world.run(world.sandbox.grantOAuth2({ name: "Somebody Else", email: "else@example.com" }))
    const { page } = await open(world, ada, 375)
    await connect(page)
    assert.strictEqual(await overflow(page), 0)
    await page.check("text=Somebody Else")
    await page.fill("[name=name]", "Grace")
    await page.fill("[name=email]", "grace@example.com")
    await picture(page, "authorize-375")
    await allow(page)
    assert.strictEqual(await state(page), "Connected")
    const { connection } = await world.run(world.tokens.info(ada))
    const { users } = await world.run(world.sandbox.snapshot)
    assert.strictEqual(users.find(({ id }) => id === connection.calUserId)?.email, "grace@example.com")
  })

  test("who refuses reads so and goes back to where they were", async (world) => {
    const { page, person } = await open(world)
    await connect(page)
    await page.click("button >> text=Back")
    assert.strictEqual(await title(page), "Cal.com is not connected")
    await page.click("a")
    assert.strictEqual(page.url(), world.site + App.settings)
    assert.isFalse(await isConnected(world, ada))
    assert.strictEqual(await world.run(world.sandbox.count("oauth2Code")), 0)
    assert.deepStrictEqual(person.complaints, [])
    assert.deepStrictEqual(person.strays(), [])
  })

  test("who comes too late, or goes back in the history, reads so", async (world) => {
    const { page, person } = await open(world)
    await connect(page)
    world.pass("11 minutes")
    await allow(page)
    assert.strictEqual(await title(page), "This link no longer works")
    assert.isFalse(await isConnected(world, ada))

    await page.goto(world.site + App.settings)
    await connect(page)
    await allow(page)
    assert.strictEqual(await state(page), "Connected")
    await page.goBack()
    await allow(page)
    assert.strictEqual(await title(page), "This link no longer works")
    assert.isTrue(await isConnected(world, ada))
    assert.deepStrictEqual(person.complaints, [])
  })

  test("who was sent somebody else's link connects nobody", async (world) => {
    const attacker = await open(world, ada)
    await connect(attacker.page)
    const link = attacker.page.url()
    const victim = await world.person()
    const page = await victim.newPage()
    await page.goto(attacker.app.login(ben))
    await page.goto(link)
    await allow(page)
    assert.strictEqual(await state(page), "Not connected: InvalidInput")
    // The attacker can do nothing with it either, even if the completion were known.
    const [completion] = attacker.app.completions
    const { status } = await world.api("/oauth/confirm", { userUlid: ada, completion })
    assert.strictEqual(status, 400)
    assert.isFalse(await isConnected(world, ada))
    assert.isFalse(await isConnected(world, ben))
    assert.strictEqual(await world.run(world.sandbox.count("oauth2Code")), 0)
  })
})
