/** A page of another site that uses Cal.com with a user session, in a real browser, with its CORS rules. */
import type { ServerResponse } from "node:http"
import { Redacted } from "effect"
import type { Page } from "playwright-core"
import { assert } from "vitest"
import { UserUlid } from "../../src/Token.js"
import { inBrowser, type BrowserWorld } from "./BrowserWorld.js"
import type { Person } from "./Chromium.js"

const userUlid = UserUlid.make("01HZY9TESTSAAAAAAAAAAAAAAA")
const path = "/api/cal/me/bookings"

const jwts = /eyJ[\w-]+\.[\w-]+\.[\w-]+/g

const html = (options: { readonly bookingsUrl: string; readonly session: string; readonly eventTypeId: number }) =>
  `<!doctype html>
<html lang="en">
<title>Book a meeting</title>
<link rel="icon" href="data:,">
<button id="book">Book</button> <button id="list">List</button> <button id="cancel">Cancel</button>
<p id="shown"></p>
<script>
const { bookingsUrl, session, eventTypeId } = ${JSON.stringify(options)}

const ask = async (url, options = {}) => {
  const headers = { Authorization: "Bearer " + session, "cal-api-version": "2024-08-13" }
  if (options.body) headers["Content-Type"] = "application/json"
  const answer = await fetch(url, { ...options, headers })
  return { status: answer.status, ...(await answer.json()) }
}
const show = (work) => work.then(
  (answer) => { shown.textContent = JSON.stringify(answer) },
  (error) => { shown.textContent = "failed: " + error.message }
)
const attendee = { name: "Bob", email: "bob@example.com", timeZone: "Europe/Paris" }
const start = new Date(Date.now() + 86400000 * 2).toISOString()
book.onclick = () => show(ask(bookingsUrl, { method: "POST", body: JSON.stringify({ start, eventTypeId, attendee }) }))
list.onclick = () => show(ask(bookingsUrl + "?take=10"))
cancel.onclick = () => show(ask(bookingsUrl + "/x", { method: "DELETE" }))
</script>
</html>
`

/** A connected user, and a website whose server makes a session for its page and serves the page on both origins. */
const connect = async (world: BrowserWorld) => {
  const grant = await world.run(world.sandbox.grantManaged({ email: "ada@example.com" }))
  await world.run(world.tokens.connect(userUlid, { _tag: "ManagedUser", calUserId: grant.calUserId }, grant))
  const options = { userUlid, methods: ["GET", "POST"], paths: ["/bookings"], ttl: 86_400 }
  const { json, status } = await world.api("/sessions", options)
  assert.strictEqual(status, 200)
  const session = String(json["session"])
  const page = html({ bookingsUrl: world.service + path, session, eventTypeId: grant.calUserId * 10 + 1 })
  world.serve((_, response: ServerResponse) => response.writeHead(200, { "content-type": "text/html" }).end(page))
  const tokens = [grant.accessToken, grant.refreshToken].map(Redacted.value)
  return { tokens, session }
}

const click = async (page: Page, button: string) => {
  await page.evaluate(`document.querySelector("#shown").textContent = ""`)
  await page.click(`#${button}`)
  await page.waitForFunction(`document.querySelector("#shown").textContent !== ""`)
  return (await page.textContent("#shown")) ?? ""
}

/** Everything that the browser sends and gets. */
const watch = ({ context }: Person) => {
  const seen: Array<Promise<string>> = []
  context.on("response", (response) => {
    const body = response.body().then(
      (bytes) => bytes.toString("utf8"),
      // A preflight has none.
      () => ""
    )
    const headers = Promise.all([response.request().allHeaders(), response.allHeaders()])
    seen.push(Promise.all([headers, body]).then((parts) => JSON.stringify([response.url(), ...parts])))
  })
  return async () => [...(await Promise.all(seen)), JSON.stringify(await context.storageState())].join("\n")
}

inBrowser("a page with a user session", (test) => {
  test("books a meeting from another origin, with preflight, and sees no token", async (world) => {
    const { session, tokens } = await connect(world)
    const person = await world.person()
    const everything = watch(person)
    const page = await person.newPage()
    await page.goto(world.site)
    const booked = JSON.parse(await click(page, "book")) as { status: number; data: { uid: string } }
    assert.isString(booked.data.uid)
    assert.deepStrictEqual(world.received.splice(0), ["POST /api/cal/sessions", `OPTIONS ${path}`, `POST ${path}`])
    // Its token expires, which is none of the page's business.
    world.pass("61 minutes")
    const listed = JSON.parse(await click(page, "list")) as { data: ReadonlyArray<{ uid: string }> }
    assert.deepStrictEqual(
      listed.data.map(({ uid }) => uid),
      [booked.data.uid]
    )
    assert.strictEqual(await world.run(world.sandbox.count("refresh")), 1)
    tokens.push(Redacted.value((await world.run(world.tokens.ensureValid(userUlid))).accessToken))
    const text = await everything()
    assert.include(text, booked.data.uid)
    // All of these are JWTs; what the browser knows of one is the session.
    for (const token of tokens) assert.deepStrictEqual(token.match(jwts), [token])
    assert.deepStrictEqual([...new Set(text.match(jwts))], [session])
    assert.deepStrictEqual(person.complaints, [])
    assert.deepStrictEqual(person.strays(), [])
  })

  test("can do no more than its session, and nothing once that is ended", async (world) => {
    await connect(world)
    const person = await world.person()
    const page = await person.newPage()
    await page.goto(world.site)
    assert.include(await click(page, "cancel"), `"code":"Forbidden"`)
    assert.include(await click(page, "list"), `"status":"success"`)
    await world.run(world.tokens.endSessions(userUlid))
    assert.include(await click(page, "list"), `"code":"Unauthorized"`)
    assert.deepStrictEqual(person.complaints, [])
  })

  test("of an origin that is not allowed gets nothing, and books nothing", async (world) => {
    const { session } = await connect(world)
    const person = await world.person()
    const page = await person.newPage()
    await page.goto(world.foreign)
    world.received.splice(0)
    for (const button of ["book", "list"]) assert.strictEqual(await click(page, button), "failed: Failed to fetch")
    assert.deepStrictEqual(world.received, [`OPTIONS ${path}`, `OPTIONS ${path}`])
    assert.match(person.complaints[0] ?? "", /^Access to fetch at .* has been blocked by CORS policy/)
    // A form needs no preflight, and cannot carry the session.
    const form = `fetch("${world.service}${path}?session=${session}", { method: "POST", mode: "no-cors", body: "{}" })`
    await page.evaluate(`${form}.then(() => "sent")`)
    const { json } = await world.api(`/proxy/${userUlid}/bookings`)
    assert.deepStrictEqual(json["data"], [])
  })
})
