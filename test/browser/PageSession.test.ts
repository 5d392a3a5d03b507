/** The session of the operator's page in a real browser: what its own page does with it, and what other pages cannot. */
import type { ServerResponse } from "node:http"
import { Effect } from "effect"
import type { Page } from "playwright-core"
import { assert, vi } from "vitest"
import { UserUlid } from "../../src/Token.js"
import { apiKey, type BrowserWorld, inBrowser } from "./BrowserWorld.js"

const userUlid = UserUlid.make("01HZY9TESTSAAAAAAAAAAAAAAA")

const connect = async (world: BrowserWorld) => {
  const grant = await world.run(world.sandbox.grantManaged({ email: "ada@example.com" }))
  const connection = { _tag: "ManagedUser", calUserId: grant.calUserId } as const
  await world.run(world.tokens.connectWith(userUlid, Effect.succeed({ connection, pair: grant })))
}

const signIn = async (page: Page, world: BrowserWorld) => {
  await page.goto(`${world.service}/`)
  await page.fill("input[type=password]", apiKey)
  const answered = page.waitForResponse(
    (response) => response.url().endsWith("/page/session") && response.request().method() === "POST"
  )
  await page.press("input[type=password]", "Enter")
  assert.strictEqual((await answered).status(), 200)
}

/** The status of what a page asks as the page does; 0: the browser keeps it to itself. */
const ask = (page: Page, url: string, options: object = {}) =>
  page.evaluate<number>(
    `fetch(${JSON.stringify(url)}, { credentials: "include", headers: { "x-cal-tokens-page": "1" }, ...${JSON.stringify(options)} })
      .then(({ status }) => status, () => 0)`
  )

inBrowser("the session of the operator's page", (test) => {
  test("is begun with a key, kept from scripts, and there again after a reload", async (world) => {
    await connect(world)
    const person = await world.person()
    const page = await person.newPage()
    await signIn(page, world)
    const [cookie, ...more] = await person.context.cookies()
    assert.deepInclude(cookie, { httpOnly: true, sameSite: "Strict", path: "/", domain: "127.0.0.1" })
    assert.deepStrictEqual(more, [])
    assert.notInclude(JSON.stringify(cookie), apiKey)
    await page.reload()
    assert.strictEqual(await page.evaluate<string>("document.cookie"), "")
    const kept = "JSON.stringify({ ...localStorage, ...sessionStorage }) + location.href + document.body.outerHTML"
    assert.notInclude(await page.evaluate<string>(kept), apiKey)
    assert.strictEqual(await ask(page, `/api/cal/connections/${userUlid}`), 200)
    assert.strictEqual(await ask(page, `/api/cal/access-token/${userUlid}`), 403)
    assert.strictEqual(await ask(page, "/page/session", { method: "DELETE" }), 200)
    assert.deepStrictEqual(await person.context.cookies(), [])
    assert.strictEqual(await ask(page, `/api/cal/connections/${userUlid}`), 401)
    assert.deepStrictEqual(person.complaints, [])
    assert.deepStrictEqual(person.strays(), [])
  })

  // Cookies are a host's, whatever its ports: to another port of the same host the browser sends them along.
  for (const [what, siteOf] of [
    ["another port of its host", ({ site }: BrowserWorld) => site.replace("localhost", "127.0.0.1")],
    ["another site", ({ site }: BrowserWorld) => site]
  ] as const) {
    test(`is of no use to a page of ${what}`, async (world) => {
      await connect(world)
      const { service } = world
      const site = siteOf(world)
      const refresh = JSON.stringify({ userUlid, forceRefresh: true })
      const [begin = "", end = ""] = JSON.stringify({ userUlid, forceRefresh: true, x: "|" }).split("|")
      const escaped = (text: string) => text.replaceAll('"', "&quot;")
      world.serve((_, response: ServerResponse) =>
        response.writeHead(200, { "content-type": "text/html" }).end(`<!doctype html><title>evil</title>
          <iframe name="sink"></iframe><iframe name="framed" src="${service}/"></iframe>
          <script src="${service}/page/app.js"></script><script src="${service}/api/cal/connections"></script>
          <form id="refresh" method="post" enctype="text/plain" target="sink" action="${service}/api/cal/refresh-token">
            <input name="${escaped(begin)}" value="${escaped(end)}"></form>
          <form id="enter" method="post" enctype="text/plain" target="sink" action="${service}/page/session">
            <input name="${escaped(`{"key":"${apiKey}","x":"`)}" value="${escaped('"}')}"></form>`)
      )
      const person = await world.person()
      await signIn(await person.newPage(), world)
      const before = await person.context.cookies()

      const evil = await person.newPage()
      await evil.goto(site)
      await evil.waitForLoadState("load")
      assert.notInclude(evil.frame("framed")?.url() ?? "", service)
      // With the header the browser asks first, and without it there is no session.
      const path = `${service}/api/cal/connections/${userUlid}`
      assert.strictEqual(await ask(evil, path), 0)
      assert.strictEqual(await ask(evil, path, { method: "DELETE" }), 0)
      assert.strictEqual(await ask(evil, `${service}/api/cal/events`), 0)
      assert.strictEqual(await ask(evil, path, { headers: {} }), 0)
      assert.strictEqual(await ask(evil, path, { headers: {}, mode: "no-cors" }), 0)
      const blind = { method: "POST", mode: "no-cors", headers: { "content-type": "text/plain" }, body: refresh }
      await ask(evil, `${service}/api/cal/refresh-token`, blind)
      // The browser does not always tell of answers to a frame of another site: the service does.
      const answers = () => world.answered.filter((line) => line.startsWith("POST ")).slice(1)
      for (const [n, form] of ["refresh", "enter"].entries()) {
        await evil.evaluate(`document.querySelector("#${form}").submit()`)
        await vi.waitUntil(() => answers().length >= n + 2, { timeout: 15_000, interval: 20 })
      }
      const refused =
        /^POST \/api\/cal\/refresh-token 40[013],POST \/api\/cal\/refresh-token 40[013],POST \/page\/session 40[013]$/
      assert.match(answers().join(), refused)
      assert.strictEqual(await world.run(world.sandbox.count("forceRefresh")), 0)
      assert.strictEqual(await world.run(world.sandbox.count("refresh")), 0)
      assert.notInclude(world.received, `DELETE /api/cal/connections/${userUlid}`)
      assert.strictEqual((await world.api(`/connections/${userUlid}`)).status, 200)
      assert.deepStrictEqual(await person.context.cookies(), before)
    })
  }
})
