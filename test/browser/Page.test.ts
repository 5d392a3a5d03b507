/**
 * The operator's page of a service with PostgreSQL and API keys, in a real browser: what each state looks like, that a keyboard
 * does for it, and what becomes of it when the service, its keys or its session go away.
 */
import type { Page } from "playwright-core"
import { generate } from "selfsigned"
import { assert, beforeAll, beforeEach, it, vi } from "vitest"
import { assertClean } from "../support/Leaks.js"
import { freePort } from "../support/Ports.js"
import type { Person } from "./Chromium.js"
import * as PageWorld from "./PageWorld.js"
import { apiKey, focus, inspect, keys, says, tabTo, users, walk } from "./PageWorld.js"
import * as Recorder from "./Recorder.js"

const { ada, ben, cem } = users

const logIn = async (page: Page, key = apiKey) => {
  await page.getByLabel("API key").fill(key)
  await page.keyboard.press("Enter")
}

/** A total by its name is this, sooner or later. */
const totalIs = (page: Page, name: string, value: number) =>
  page
    .locator(".figure", { hasText: name })
    .locator(".figure-value", { hasText: new RegExp(`^${value}$`) })
    .waitFor()

const shown = async (page: Page, hash: string, heading: string | RegExp) => {
  await page.evaluate(`location.hash = ${JSON.stringify(hash)}`)
  await page.getByRole("heading", { level: 1, name: heading }).waitFor()
}

PageWorld.inChromium("the page of a service", (world) => {
  let service: PageWorld.Service
  let recorder: Recorder.Recorder
  let person: Person
  let calUserId: number

  beforeAll(async () => {
    service = await world().acquire(PageWorld.service())
    recorder = await world().acquire(Recorder.acquire(service.url))
    person = await world().person()
  })

  beforeEach(() => {
    recorder.mood("pass")
    recorder.rewrite((_, json) => json)
  })

  /** A tab of somebody who is logged in, at this place of the page. */
  const open = async (hash: string, heading: string | RegExp) => {
    const page = await person.newPage()
    await page.goto(`${recorder.url}/${hash}`)
    await page.getByRole("heading", { level: 1, name: heading }).waitFor()
    return page
  }

  it("asks for a key that it sends once and keeps nowhere", async () => {
    const page = await person.newPage()
    await page.goto(recorder.url)
    await says(page, "Log in to cal-tokens")
    assert.deepStrictEqual(await walk(page), ["input API key", "button Log in"])
    await inspect(page, "log-in")
    for (const [key, answer] of [
      ["no-key-of-this-service-0123456789abcdef", /^This API key is not known here/],
      [PageWorld.readerKey, /scope "manage"/],
      [PageWorld.limitedKey, /for some users only/]
    ] as const) {
      await logIn(page, key)
      await page.getByRole("alert").filter({ hasText: answer }).waitFor()
      assert.strictEqual(await page.getByLabel("API key").inputValue(), "")
    }
    await inspect(page, "log-in-error")
    assert.deepStrictEqual(await person.context.cookies(), [])

    assert.lengthOf(
      recorder.of(/^\/page\/session$/).filter(({ method }) => method === "POST"),
      3
    )

    await logIn(page)
    await says(page, "Nobody is connected yet.")
    await inspect(page, "empty")
    const [cookie] = await person.context.cookies()
    assert.deepInclude(cookie, { httpOnly: true, sameSite: "Strict", secure: false, path: "/" })
    assert.strictEqual(await page.evaluate("document.cookie"), "")
    // Whoever looks again is still there.
    await page.reload()
    await says(page, "Nobody is connected yet.")

    // What comes about shows by itself.
    await page.evaluate("window.stayed = true")
    await service.connect(ada)
    await service.connect(ben, "oauth2")
    calUserId = await service.connect(cem, "oauth2")
    await says(page, "Everybody's token is kept.")
    await totalIs(page, "Connected", 3)

    await service.run(service.sandbox.revokeRefreshTokens(calUserId))
    await service.ask("POST", "/api/cal/refresh-token", { userUlid: cem, forceRefresh: true })
    await service.ask("POST", "/api/cal/refresh-token", { userUlid: ada, forceRefresh: true })
    await says(page, "1 person has to reconnect.")
    await totalIs(page, "Have to reconnect", 1)
    await totalIs(page, "Refreshed, last hour", 1)
    await totalIs(page, "Failed, last hour", 1)
    await says(page, /^1 refreshed in the last hour, 1 failed/)

    // As a table, each chart says the same.
    for (const summary of await page.getByText("As a table").all()) await summary.click()
    const rows = await page.getByRole("table", { name: "Refreshes per minute" }).locator("tbody tr").allInnerTexts()
    const numbers = rows.map((row) => row.split(/\s+/).slice(1).map(Number))
    const sums = numbers[0]?.map((_, column) => numbers.reduce((sum, row) => sum + (row[column] ?? 0), 0))
    assert.deepStrictEqual([numbers.length, sums], [60, [0, 1, 0, 0, 0, 1, 0, 0, 0, 1]])
    const why = page.getByRole("region", { name: "Why refreshes failed" }).locator("tbody tr")
    assert.deepStrictEqual(await why.locator("th, .number").allInnerTexts(), [
      "Cal.com refused the refresh token",
      "1",
      "1"
    ])
    await inspect(page, "overview")
    assert.isTrue(await page.evaluate("window.stayed"))
  })

  it("tells of each user what happened and why", async () => {
    const page = await open("#/reconnect", "1 person has to reconnect")
    await page.getByRole("link", { name: cem }).waitFor()
    await inspect(page, "reconnect")
    await shown(page, "#/users", /^Users/)
    await page.getByRole("link", { name: ada }).waitFor()
    await inspect(page, "users")
    await page.getByLabel("Find a user").fill("01HZY9TESTSC")
    await says(page, "1 user.")
    assert.strictEqual(await page.getByRole("link", { name: ada }).count(), 0)
    // Whoever goes on typing as the address follows loses nothing.
    await page.evaluate(`(() => {
      const { replaceState } = history
      history.replaceState = (...all) => {
        replaceState.apply(history, all)
        delete history.replaceState
        queueMicrotask(() => document.execCommand("insertText", false, "A"))
        setTimeout(() => document.execCommand("insertText", false, "A"), 100)
      }
    })()`)
    await page.getByLabel("Find a user").fill("01HZY9TESTS")
    await page.waitForURL(/prefix=01HZY9TESTSAA$/)
    await page.getByRole("link", { name: ada }).waitFor()
    assert.strictEqual(await page.getByLabel("Find a user").inputValue(), "01HZY9TESTSAA")
    await page.getByLabel("Find a user").fill("7ZZ")
    await says(page, "Nobody's ULID begins like that.")
    await inspect(page, "users-nobody")

    await shown(page, `#/users/${cem}`, cem)
    await says(page, "What happened")
    const { json } = await service.ask("GET", `/api/cal/history/${cem}`)
    const { advice, conclusion } = json["history"] as Readonly<Record<"advice" | "conclusion", string>>
    for (const text of [advice, conclusion]) assert.isNotEmpty(text)
    await inspect(page, "person")
    for (const action of ["Refresh", "Disconnect"]) {
      await page.getByRole("button", { name: action }).click()
      await page.getByRole("dialog", { name: new RegExp(`^${action} this user`) }).waitFor()
      await inspect(page, `dialog-${action.toLowerCase()}`)
      await page.keyboard.press("Escape")
      await page.getByRole("dialog").waitFor({ state: "detached" })
    }
    await shown(page, "#/users/01HZY9TESTSZZZZZZZZZZZZZZZ", "01HZY9TESTSZZZZZZZZZZZZZZZ")
    await says(page, "Nobody with this ULID is connected.")
    await inspect(page, "person-absent")
  })

  it("tells at a user that nobody of the client is refreshed, as soon as that is so, and when it is over", async () => {
    const fine = /^Connected; last refreshed at/
    const conclusion = "Nobody of it is refreshed."
    const nextTrialAt = "2026-01-02T03:04:05.000Z"
    /** What is told of circuits: by the overview of one for this cause, in the history of one of the client. */
    const tell = (cause: string | undefined, inHistory = cause === "client") =>
      recorder.rewrite((path, json) => {
        const { history, overview } = json as Readonly<Record<string, object | undefined>>
        const circuits = cause === undefined ? [] : [{ cause, nextTrialAt, clientId: "sandbox-platform-client" }]
        if (path.startsWith("/api/cal/overview")) return { success: true, overview: { ...overview, circuits } }
        if (!path.startsWith("/api/cal/history") || !inHistory) return json
        return { success: true, history: { ...history, circuit: { cause: "client", nextTrialAt }, conclusion } }
      })
    // It was over before any overview could tell of it, and no event makes the page read again.
    recorder.mood("hold", /^\/api\/cal\/events/)
    tell(undefined, true)
    const page = await open(`#/users/${ada}`, ada)
    await says(page, conclusion)
    tell(undefined)
    await says(page, fine)
    recorder.mood("pass")

    tell("client")
    await says(page, conclusion)
    // Once both say the same, nobody reads again.
    const heard = () => page.waitForResponse((response) => response.url().endsWith("/api/cal/overview"))
    const isQuiet = async () => {
      const before = recorder.exchanges.length
      for (let n = 0; n < 3; n++) await heard()
      return recorder.exchanges.slice(before).every(({ path }) => !path.startsWith("/api/cal/history"))
    }
    await vi.waitUntil(isQuiet, { timeout: 15_000 })

    tell("process")
    await says(page, fine)
    await says(page, /^This process cannot call Cal\.com as it is set up/)
    recorder.rewrite((_, json) => json)
    await page.getByText("This process cannot call").waitFor({ state: "detached" })
  })

  it("can be used with a keyboard alone", async () => {
    const page = await open("#/", "1 person has to reconnect.")
    const stops = await walk(page)
    for (const stop of [
      "a Skip to the content",
      "a Overview",
      "button Pause",
      "button Log out",
      "summary As a table"
    ]) {
      assert.include(stops, stop)
    }
    await tabTo(page, "a Skip to the content")
    await page.keyboard.press("Enter")
    assert.match((await focus(page)) ?? "", /^main /)

    await tabTo(page, /^slider Refreshes per minute/)
    const chart = page.getByRole("slider", { name: /^Refreshes per minute/ })
    const heard = () => chart.getAttribute("aria-valuetext")
    const whole = await heard()
    await page.keyboard.press("ArrowLeft")
    const last = await heard()
    assert.match(last ?? "", /^\d\d:\d\d: /)
    await page.keyboard.press("ArrowLeft")
    assert.notStrictEqual(await heard(), last)
    await page.keyboard.press("End")
    assert.strictEqual(await heard(), last)
    await page.keyboard.press("Escape")
    assert.strictEqual(await heard(), whole)
    await tabTo(page, "summary As a table")
    await page.keyboard.press("Enter")
    await page.getByRole("region", { name: "Refreshes per minute" }).last().waitFor()

    await tabTo(page, "button Pause")
    await page.keyboard.press("Space")
    await page.getByRole("status").getByText("Paused").waitFor()
    await page.keyboard.press("Enter")
    await page.getByRole("status").getByText("Live", { exact: true }).waitFor()

    await tabTo(page, /^a Reconnect/)
    await page.keyboard.press("Enter")
    await page.getByRole("link", { name: cem }).waitFor()
    assert.match((await focus(page)) ?? "", /^main /)
    await walk(page)
    await tabTo(page, "a Users")
    await page.keyboard.press("Enter")
    await tabTo(page, "input Find a user")
    await page.keyboard.type("01hzy9testsa")
    await says(page, "1 user.")
    await tabTo(page, `a ${ada}`)
    await page.keyboard.press("Enter")
    await says(page, "What happened")
    await walk(page)

    // What an instant is exactly shows without a pointer, too.
    await tabTo(page, /^time /)
    const tip = page.locator("[role=tooltip]:popover-open")
    assert.match((await tip.textContent()) ?? "", /\d{4}, \d\d:\d\d:\d\d .* \d{4}-\d\d-\d\dT/)
    await page.keyboard.press("Escape")
    assert.strictEqual(await tip.count(), 0)

    await tabTo(page, "button Refresh")
    await page.keyboard.press("Enter")
    await page.getByRole("dialog").waitFor()
    assert.deepStrictEqual(await walk(page), ["button Cancel", "button Refresh"])
    await page.keyboard.press("Escape")
    await page.getByRole("dialog").waitFor({ state: "detached" })
    assert.strictEqual(await focus(page), "button Refresh")
    await page.keyboard.press("Space")
    await tabTo(page, "button Refresh")
    await page.keyboard.press("Enter")
    await says(page, /^(Refreshed|Refreshed moments ago, so nothing was sent): the access token serves/)
    await page.getByRole("dialog").waitFor({ state: "detached" })
    assert.strictEqual(await focus(page), "button Refresh")
  })

  it("costs no more in five tabs than in one", async () => {
    const page = await open("#/", "1 person has to reconnect.")
    /** Statements, by what for, in so many readings of the overview. */
    const cost = async (tabs: ReadonlyArray<Page>) => {
      const counts = async () => {
        const answer = await fetch(`${service.url}/metrics`, { headers: { authorization: `Bearer ${apiKey}` } })
        const lines = (await answer.text()).matchAll(
          /^cal_tokens_storage_call_duration_seconds_count\{operation="(\w+)"\} (\d+)$/gm
        )
        return new Map(Array.from(lines, ([, operation = "", count]) => [operation, Number(count)]))
      }
      const answers = () => recorder.of(/^\/api\/cal\/overview$/).filter(({ status }) => status === 200)
      const [before, asked, began] = [await counts(), answers().length, performance.now()]
      await tabs[0]?.waitForTimeout(3_000)
      const [after, seconds] = [await counts(), (performance.now() - began) / 1000]
      const read = answers().slice(asked)
      const readings = new Set(read.map(({ body }) => (JSON.parse(body) as { overview: { at: string } }).overview.at))
      const of = (operation: string) => (after.get(operation) ?? 0) - (before.get(operation) ?? 0)
      return { asked: read.length, readings: readings.size, seconds, of }
    }
    const one = await cost([page])
    const tabs = [page]
    for (let n = 1; n < 5; n++) {
      tabs.push(await open("#/", "1 person has to reconnect."))
    }
    const five = await cost(tabs)
    assert.isAbove(five.asked, 2 * one.asked)
    for (const { of, readings, seconds } of [one, five]) {
      assert.isAtLeast(readings, 1)
      assert.isAtMost(readings, seconds + 2)
      for (const operation of ["activity", "outlook", "counts"]) assert.isAtMost(of(operation), readings + 2, operation)
      for (const operation of ["list", "find", "history"]) assert.strictEqual(of(operation), 0, operation)
    }

    // One listens for all, and another one in its place.
    const streams = () => recorder.of(/^\/api\/cal\/events/).filter(({ isOpen }) => isOpen)
    assert.lengthOf(streams(), 1)
    const last = await open("#/users", /^Users/)
    await last.getByRole("link", { name: ben }).waitFor()
    for (const tab of tabs) await tab.close()
    // Also what happens while the one takes over from the other is told.
    await service.ask("DELETE", `/api/cal/connections/${ben}`)
    await last.getByRole("link", { name: ben }).waitFor({ state: "detached" })
    // That a tab was closed is noticed at the other end a little later.
    while (streams().length !== 1) await last.waitForTimeout(50)
  })

  it("reads nothing in a tab that cannot be seen, and catches up when it is", async () => {
    const page = await open("#/users", /^Users/)
    await page.getByRole("link", { name: ada }).waitFor()
    const turn = (hidden: boolean) =>
      page.evaluate(`(() => {
        Object.defineProperty(document, "hidden", { value: ${hidden}, configurable: true })
        document.dispatchEvent(new Event("visibilitychange"))
      })()`)
    await turn(true)
    await page.getByRole("status").getByText("Paused").waitFor()
    const asked: Array<string> = []
    page.on("request", (request) => asked.push(request.url()))
    await service.connect(ben, "oauth2")
    await page.waitForTimeout(3_000)
    assert.deepStrictEqual(asked, [])
    assert.strictEqual(await page.getByRole("link", { name: ben }).count(), 0)
    await turn(false)
    await page.getByRole("link", { name: ben }).waitFor()
    await page.getByRole("status").getByText("Live", { exact: true }).waitFor()
  })

  it("shows what others wrote as what it is: text", async () => {
    const markup = `<img src=x onerror="window.foreign=1"><script>window.foreign=1</script>`
    await service.connect(ben, "oauth2", { scope: markup })
    const page = await person.newPage()
    /** Whatever an answer has for people to read ends in markup. */
    const marked = (value: unknown, name = ""): unknown => {
      if (Array.isArray(value)) return value.map((item) => marked(item, name))
      if (typeof value === "object" && value !== null) {
        return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, marked(item, name)]))
      }
      const isText = /^(name|clientId|reason|hint|text|conclusion|advice|error|cause|scope|version|process)$/.test(name)
      return isText && typeof value === "string" ? `${value}${markup}` : value
    }
    recorder.rewrite((_, json) => marked(json))
    for (const hash of [
      "#/",
      "#/reconnect",
      "#/users",
      `#/users?prefix=${encodeURIComponent(markup)}`,
      `#/users/${cem}`,
      `#/users/${ben}`,
      `#/users/${encodeURIComponent(markup)}`,
      `#/${markup}`
    ]) {
      await page.goto("about:blank")
      await page.goto(`${recorder.url}/${hash}`)
      await page.getByRole("heading", { level: 1 }).waitFor()
      await says(page, "ops<img")
      assert.strictEqual(await page.locator("img[src=x], script:not([src])").count(), 0, hash)
      assert.isUndefined(await page.evaluate("window.foreign"), hash)
      if (hash === `#/users/${ben}`) await says(page, markup)
      // Nobody tried, only to be refused by the policy.
      assert.deepStrictEqual(person.complaints, [], hash)
    }
  })

  it("says what it waits for", async () => {
    const page = await person.newPage()
    recorder.mood("hold", /^\/api\/cal\//)
    await page.goto(recorder.url)
    await says(page, "Reading how it stands")
    await inspect(page, "loading")
    recorder.mood("pass")
    await says(page, "1 person has to reconnect.")

    recorder.mood("cut")
    await says(page, "The service does not answer.")
    const of = /What is shown is of \d\d:\d\d:\d\d\./
    await says(page, of)
    await says(page, /^At \d\d:\d\d:\d\d: 1 person has to reconnect\.$/)
    await inspect(page, "away")
    await shown(page, `#/users/${cem}`, cem)
    await says(page, "Try again")
    await inspect(page, "person-away")
    // Nothing of that is undone without the service.
    await page.getByRole("button", { name: "Log out" }).click()
    await says(page, "Not logged out. The service does not answer.")
    recorder.mood("pass")
    await says(page, "What happened")
    await page.getByText(of).waitFor({ state: "detached" })
    const kept = person.complaints.filter((line) => !line.includes("net::ERR_"))
    assert.deepStrictEqual(kept, [])
    person.complaints.splice(0)
  })

  it("leads back to where one was when the session is over", async () => {
    const page = await open(`#/users/${cem}`, cem)
    await says(page, "What happened")
    await service.setKeys([keys.limited, keys.reader])
    await page.getByRole("dialog", { name: "Log in again" }).waitFor()
    assert.deepStrictEqual(await walk(page), ["input API key", "button Log in"])
    await inspect(page, "session-over")
    // Where one goes meanwhile is there after it.
    await page.evaluate(`location.hash = "#/users/${ada}"`)
    await page.evaluate(`location.hash = "#/users/${cem}"`)
    await page.keyboard.press("Escape")
    await page.getByRole("dialog", { name: "Log in again" }).waitFor()
    await service.setKeys([keys.ops])
    await logIn(page)
    await page.getByRole("dialog", { name: "Log in again" }).waitFor({ state: "detached" })
    await says(page, "What happened")
    assert.strictEqual(await page.evaluate("location.hash"), `#/users/${cem}`)
    assert.strictEqual(await page.getByText("The session of this page is over").count(), 0)

    const [cookie] = await person.context.cookies()
    await page.getByRole("button", { name: "Log out" }).click()
    await says(page, "Log in to cal-tokens")
    assert.deepStrictEqual(await person.context.cookies(), [])
    // Whoever kept the cookie has nothing by it.
    const headers = { cookie: `${cookie?.name}=${cookie?.value}`, "x-cal-tokens-page": "1" }
    const { status } = await fetch(`${recorder.url}/page/session`, { headers })
    assert.strictEqual(status, 401)

    const guess = { headers: { authorization: "Bearer a-guess-0123456789abcdefghijklmnopqr" } }
    while ((await fetch(`${service.url}/api/cal/connections`, guess)).status !== 429);
    await logIn(page, "another-guess-0123456789abcdefghijklmnop")
    await page
      .getByRole("alert")
      .filter({ hasText: /^Too many/ })
      .waitFor()
    await page.getByRole("button", { name: /^Try again in (1 min|\d+ s)$/ }).waitFor()
    await inspect(page, "log-in-limited")
    // Whoever has a key comes in as before, from there, too.
    await page.reload()
    await logIn(page)
    await says(page, "What happened")
  })

  it("gives the browser no token and no secret, but for the key in the one request that logs in", async () => {
    await person.context.clearCookies()
    const page = await person.newPage()
    await page.goto(recorder.url)
    const secrets = await service.secrets()
    assert.isAbove(secrets.length, 10)
    recorder.exchanges.splice(0)
    await logIn(page)
    for (const hash of ["#/", "#/reconnect", "#/users", ...Object.values(users).map((user) => `#/users/${user}`)]) {
      await page.evaluate(`location.hash = "${hash}"`)
      await page.getByRole("heading", { level: 1 }).waitFor()
      await service.ask("POST", "/api/cal/refresh-token", { userUlid: ada, forceRefresh: true })
      for (const summary of await page.getByText("As a table").all()) await summary.click()
      await page.waitForResponse((response) => response.url().endsWith("/api/cal/overview"))
      assertClean(await PageWorld.holdings(page), secrets)
    }
    const [entry, ...more] = recorder.exchanges.filter(
      ({ method, path }) => method === "POST" && path === "/page/session"
    )
    assert.deepStrictEqual(more, [])
    assert.deepStrictEqual(JSON.parse(entry?.sent ?? ""), { key: apiKey })
    if (entry !== undefined) entry.sent = ""
    const [cookie] = await person.context.cookies()
    assertClean(JSON.stringify(recorder.exchanges), [...secrets, ...(await service.secrets())])
    // The cookie goes to and fro in its headers, and nowhere else.
    const rest = recorder.exchanges.map((exchange) => [exchange.path, exchange.sent, exchange.body])
    assertClean(JSON.stringify([rest, await PageWorld.holdings(page)]), [cookie?.value ?? "none"])
    assert.deepStrictEqual(person.strays(), [])
  })

  it("survives the service's end, says so, and goes on with the next process", async () => {
    await person.context.clearCookies()
    const page = await person.newPage()
    // Without anybody between them.
    await page.goto(service.url)
    await logIn(page)
    await says(page, "1 person has to reconnect.")
    await page.evaluate("window.stayed = true")
    const figure = page.locator(".figure", { hasText: "Refreshed, last hour" }).locator(".figure-value")
    const before = Number(await figure.textContent())

    service.program.process.kill("SIGKILL")
    const killed = performance.now()
    await says(page, "The service does not answer.")
    assert.isBelow(performance.now() - killed, 3_000)
    await says(page, /What is shown is of \d\d:\d\d:\d\d\./)
    assert.strictEqual(Number(await figure.textContent()), before)

    service = await service.again()
    await says(page, /^The service was restarted at/)
    await page.getByText("The service does not answer.").waitFor({ state: "detached" })
    await service.connect(ben, "oauth2")
    const { json } = await service.ask("POST", "/api/cal/refresh-token", { userUlid: ben, forceRefresh: true })
    assert.isTrue(json["success"])
    await totalIs(page, "Refreshed, last hour", before + (json["refreshed"] === true ? 1 : 0))
    assert.isTrue(await page.evaluate("window.stayed"))
    assert.deepStrictEqual(
      person.complaints.splice(0).filter((line) => !line.includes("net::ERR_")),
      []
    )
  })

  it("is as much at home behind a proxy with TLS, below a path", async () => {
    const { cert, private: key } = await generate([{ name: "commonName", value: "127.0.0.1" }], { keyType: "ec" })
    const port = await freePort()
    const front = await world().acquire(Recorder.acquire(service.url, { port, tls: { cert, key }, prefix: "/tokens" }))
    service = await service.again({ CAL_TOKENS_PUBLIC_URL: front.url, CAL_TOKENS_TRUSTED_PROXIES: "127.0.0.1" })
    const other = await world().person(1280, { ignoreHTTPSErrors: true })
    const page = await other.newPage()
    await page.goto(`${front.url}/`)
    await logIn(page)
    await says(page, "1 person has to reconnect.")
    const [cookie] = await other.context.cookies()
    assert.deepInclude(cookie, { httpOnly: true, sameSite: "Strict", secure: true, path: "/tokens/" })
    assert.match(cookie?.name ?? "", /^__Secure-/)
    await shown(page, `#/users/${cem}`, cem)
    await says(page, "What happened")
    assert.isTrue(front.exchanges.every(({ path }) => path.startsWith("/tokens/")))
    await page.getByRole("button", { name: "Log out" }).click()
    await says(page, "Log in to cal-tokens")
    assert.deepStrictEqual([await other.context.cookies(), other.complaints, other.strays()], [[], [], []])
  })

  it("keeps its policy and makes no noise", () => {
    assert.deepStrictEqual(person.complaints, [])
    assert.deepStrictEqual(person.strays(), [])
  })
})
