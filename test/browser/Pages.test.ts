/** Every page that people see of the service: readable on a small screen, at peace with its own policy, and by itself. */
import type { Page } from "playwright-core"
import { assert } from "vitest"
import { UserUlid } from "../../src/Token.js"
import { overflow, picture } from "./Chromium.js"
import { apiKey, inBrowser, type BrowserWorld } from "./BrowserWorld.js"

const userUlid = UserUlid.make("01HZY9TESTSAAAAAAAAAAAAAAA")

const begin = async ({ api }: BrowserWorld, returnTo?: string) => {
  const { json } = await api("/oauth/authorize-url", { userUlid, returnTo })
  return new URL(String(json["url"]))
}

/** Addresses under which the callback ends with a page, by a name. */
const endings = async (world: BrowserWorld): Promise<ReadonlyArray<readonly [string, string]>> => {
  const callback = `${world.service}/api/cal/oauth/callback`
  const returnTo = `${world.site}/settings`
  const errors = ["access_denied", "invalid_scope", "invalid_request", "unauthorized_client", "server_error", "other"]
  const state = async (to?: string) => (await begin(world, to)).searchParams.get("state")
  return [
    ...(await Promise.all(
      errors.map(async (error) => [error, `${callback}?error=${error}&state=${await state(returnTo)}`] as const)
    )),
    ["malformed", `${callback}?code=&state=${await state(returnTo)}`],
    ["not-ours", `${callback}?code=c&state=${await state()}`],
    ["unknown", `${callback}?code=c&state=none`]
  ]
}

/** How the text stands out from its background; 4.5 is what people with poor eyes need. */
const contrast = (page: Page): Promise<number> =>
  page.evaluate<number>(`(() => {
    const channels = (color) => color.match(/[\\d.]+/g).map(Number)
    const light = (color) => {
      const [r, g, b] = channels(color).map((c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
      return 0.2126 * r + 0.7152 * g + 0.0722 * b
    }
    const canvas = document.createElement("div")
    document.body.append(canvas)
    canvas.style.color = "Canvas"
    const background = light(getComputedStyle(canvas).color)
    canvas.remove()
    return Math.min(...[...document.querySelectorAll("h1, p, a")].map((element) => {
      const [low, high] = [light(getComputedStyle(element).color), background].sort((a, b) => a - b)
      return (high + 0.05) / (low + 0.05)
    }))
  })()`)

inBrowser("a page of the service", (test) => {
  test("after the consent can be read anywhere, and leads on", async (world) => {
    for (const [width, colorScheme] of [
      [1280, "light"],
      [375, "light"],
      [375, "dark"]
    ] as const) {
      const person = await world.person(width)
      const page = await person.newPage()
      await page.emulateMedia({ colorScheme })
      const titles = new Set<string>()
      for (const [name, address] of await endings(world)) {
        await page.goto(address)
        assert.strictEqual(await overflow(page), 0, name)
        assert.isAbove(await contrast(page), 4.5, name)
        titles.add((await page.textContent("h1")) ?? "")
        const links = await page.$$eval("a", (found) => found.map(String))
        assert.deepStrictEqual(links, ["not-ours", "unknown"].includes(name) ? [] : [`${world.site}/settings`], name)
        await picture(page, `${name}-${width}-${colorScheme}`)
      }
      assert.strictEqual(titles.size, 9)
      assert.deepStrictEqual(person.complaints, [])
      assert.deepStrictEqual(person.strays(), [])
    }
  })

  test("may not be shown inside a page of somebody else's", async (world) => {
    const person = await world.person()
    const page = await person.newPage()
    for (const address of [
      `${world.service}/docs`,
      `${world.service}/api/cal/oauth/callback`,
      (await begin(world)).href
    ]) {
      world.serve((_, response) =>
        response.writeHead(200, { "content-type": "text/html" }).end(`<iframe src="${address}"></iframe>`)
      )
      const before = person.complaints.length
      await page.goto(world.foreign)
      await page.waitForLoadState("networkidle")
      assert.match(person.complaints.slice(before).join("\n"), /frame-ancestors/, address)
    }
  })

  test("documents every endpoint without anything from elsewhere", async (world) => {
    const document = (await (await fetch(`${world.service}/openapi.json`)).json()) as {
      readonly paths: Readonly<Record<string, object>>
    }
    const operations = Object.values(document.paths).flatMap(Object.keys).length
    const person = await world.person()
    const page = await person.newPage()
    await page.goto(`${world.service}/docs`)
    await page.waitForSelector(".opblock")
    assert.strictEqual(await page.locator(".opblock").count(), operations)
    await picture(page, "docs")

    // It can be tried out right there. What is typed goes where it seems to go: first to the first field.
    await page.click(".authorize.unlocked >> nth=0")
    const inputs = page.locator(".auth-container input")
    const typed = () =>
      inputs.evaluateAll((found) => (found as unknown as Array<{ value: string }>).map(({ value }) => value))
    await page.keyboard.type("first")
    assert.deepStrictEqual(await typed(), ["first", "", ""])
    await page.locator(".auth-container label >> nth=1").click()
    await page.keyboard.type("second")
    await page.getByLabel("userSession").fill("third")
    assert.deepStrictEqual(await typed(), ["first", "second", "third"])
    await picture(page, "docs-authorize")
    await page.fill(".auth-container input >> nth=0", apiKey)
    await page.click(".auth-btn-wrapper .authorize >> nth=0")
    await page.click(".btn-done")
    const operation = page.locator(".opblock", { hasText: "/api/cal/ensure-token" })
    await operation.locator(".opblock-summary").click()
    await operation.locator("text=Try it out").click()
    await operation.locator("text=Execute").click()
    const answer = operation.locator(".live-responses-table .response-col_status >> nth=1")
    assert.match((await answer.textContent()) ?? "", /^404/)
    await picture(page, "docs-tried")

    assert.deepStrictEqual(person.complaints, [])
    assert.deepStrictEqual(person.strays(), [])
    assert.isAtLeast(person.requests.length, 2)
  })
})
