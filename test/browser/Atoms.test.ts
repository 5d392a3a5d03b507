/** The endpoint for Atoms, asked by pages of another site in a real browser, with its CORS rules. */
import type { ServerResponse } from "node:http"
import { Effect, Redacted } from "effect"
import type { Page } from "playwright-core"
import { assert } from "vitest"
import * as Sandbox from "../../src/Sandbox.js"
import { hash, UserUlid } from "../../src/Token.js"
import * as AtomsPage from "./AtomsPage.js"
import { inBrowser, type BrowserWorld } from "./BrowserWorld.js"

const userUlid = UserUlid.make("01HZY9TESTSAAAAAAAAAAAAAAA")
const { clientId } = Sandbox.demoManaged
const check = `/provider/${clientId}/access-token`
const refreshPath = "/api/cal/atoms/refresh"

/** A connected managed user, and a website whose pages hold the token of that moment. */
const connect = async (world: BrowserWorld) => {
  const grant = await world.run(world.sandbox.grantManaged({ email: "ada@example.com" }))
  const connection = { _tag: "ManagedUser", calUserId: grant.calUserId } as const
  await world.run(world.tokens.connectWith(userUlid, Effect.succeed({ connection, pair: grant })))
  const accessToken = Redacted.value(grant.accessToken)
  const page = AtomsPage.html({ calUrl: world.cal, clientId, refreshUrl: world.service + refreshPath, accessToken })
  world.serve((_, response: ServerResponse) => response.writeHead(200, { "content-type": "text/html" }).end(page))
  return hash(grant.accessToken)
}

const refreshes = (world: BrowserWorld) => world.run(world.sandbox.count("refresh"))

const shows = async (page: Page, name: "mount" | "later", text: RegExp) => {
  await page.waitForFunction(`document.querySelector("#${name}").textContent !== ""`)
  assert.match((await page.textContent(`#${name}`)) ?? "", text)
}

const steps = (page: Page) => page.evaluate<ReadonlyArray<string>>("window.steps")
/** As a hash: a failed comparison prints what it compared. */
const token = async (page: Page) => hash(Redacted.make(await page.evaluate<string>("window.token")))

inBrowser("a page with Atoms", (test) => {
  test("gets another token when Cal.com refuses the one it holds, at mount and later", async (world) => {
    const first = await connect(world)
    const person = await world.person()
    const page = await person.newPage()
    await page.goto(world.site)
    await shows(page, "mount", /^works$/)
    assert.deepStrictEqual(await steps(page), [`${check} 200`])
    assert.deepStrictEqual(world.received, [])

    world.pass("61 minutes")
    await page.click("button")
    await shows(page, "later", /^works$/)
    assert.deepStrictEqual(await steps(page), [`${check} 200`, "/me 498", "refresh 200", "/me 200"])
    const second = await token(page)
    assert.notStrictEqual(second, first)
    // The browser asked whether it may, and then did.
    assert.deepStrictEqual(world.received, [`OPTIONS ${refreshPath}`, `GET ${refreshPath}`])
    assert.strictEqual(await refreshes(world), 1)
    assert.deepStrictEqual(person.complaints, [])
    assert.deepStrictEqual(person.strays(), [])
  })

  test("at mount: two tabs at once cause one refresh, and a third with the old token none", async (world) => {
    const first = await connect(world)
    world.pass("61 minutes")
    // Long enough for the refresh of one tab to be under way when the other one asks, and neither asks alone.
    await world.run(world.sandbox.inject(Sandbox.Fault.delayAfter("1 second", { kind: "refresh" })))
    const person = await world.person()
    let refused = 0
    let goOn = () => {}
    const bothRefused = new Promise<void>((resolve) => (goOn = resolve))
    await person.context.exposeFunction("beforeRefresh", () => {
      if (++refused === 2) goOn()
      return bothRefused
    })
    const [one, two] = [await person.newPage(), await person.newPage()]
    await Promise.all([one.goto(world.site), two.goto(world.site)])
    for (const page of [one, two]) {
      await shows(page, "mount", /^works$/)
      assert.deepStrictEqual(await steps(page), [`${check} 498`, "refresh 200", `${check} 200`])
    }
    const second = await token(one)
    assert.notStrictEqual(second, first)
    assert.strictEqual(await token(two), second)
    assert.strictEqual(await refreshes(world), 1)

    // Cal.com has removed the expired token by now, and does not know it any more.
    const late = await person.newPage()
    await late.goto(world.site)
    await shows(late, "mount", /^works$/)
    assert.deepStrictEqual(await steps(late), [`${check} 401`, "refresh 200", `${check} 200`])
    assert.strictEqual(await token(late), second)
    assert.strictEqual(await refreshes(world), 1)
    await late.click("button")
    await shows(late, "later", /^works$/)
    assert.deepStrictEqual(person.complaints, [])
    assert.deepStrictEqual(person.strays(), [])
  })

  test("that was left open overnight gets nothing more, and works again once it is loaded again", async (world) => {
    await connect(world)
    // From now on the website's server asks for the token each time, as it renders the page.
    world.serve((_, response: ServerResponse) => {
      void world.api(`/access-token/${userUlid}`).then(({ json }) => {
        const accessToken = String(json["accessToken"])
        const page = AtomsPage.html({
          calUrl: world.cal,
          clientId,
          refreshUrl: world.service + refreshPath,
          accessToken
        })
        response.writeHead(200, { "content-type": "text/html" }).end(page)
      })
    })
    const person = await world.person()
    const page = await person.newPage()
    await page.goto(world.site)
    await shows(page, "mount", /^works$/)
    const first = await token(page)
    world.pass("13 hours")
    await page.click("button")
    await shows(page, "later", /^failed: no token$/)
    assert.deepStrictEqual((await steps(page)).slice(1), ["/me 498", "refresh 401"])
    assert.strictEqual(await refreshes(world), 0)

    await page.reload()
    await shows(page, "mount", /^works$/)
    const second = await token(page)
    assert.notStrictEqual(second, first)
    // That a token was handed out is written down with others.
    await page.waitForTimeout(2000)
    world.pass("61 minutes")
    await page.click("button")
    await shows(page, "later", /^works$/)
    assert.notStrictEqual(await token(page), second)
    assert.strictEqual(await refreshes(world), 2)
  })

  test("of an origin that is not allowed gets nothing", async (world) => {
    const first = await connect(world)
    world.pass("61 minutes")
    const person = await world.person()
    const page = await person.newPage()
    await page.goto(world.foreign)
    await shows(page, "mount", /^failed: Failed to fetch$/)
    assert.deepStrictEqual(await steps(page), [`${check} 498`])
    assert.strictEqual(await token(page), first)
    assert.deepStrictEqual(world.received, [`OPTIONS ${refreshPath}`])
    assert.match(person.complaints[0] ?? "", /^Access to fetch at .* has been blocked by CORS policy/)

    // Without a header that has to be asked about, the browser sends at once, and hides the answer.
    const blind = `fetch("${world.service}${refreshPath}").then(() => "read", () => "hidden")`
    assert.strictEqual(await page.evaluate<string>(blind), "hidden")
    assert.deepStrictEqual(world.received, [`OPTIONS ${refreshPath}`, `GET ${refreshPath}`])
    assert.strictEqual(await refreshes(world), 0)
  })
})
