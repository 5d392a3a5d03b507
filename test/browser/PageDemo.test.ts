/** The page of the demo in a real browser: it shows at once what happens, and pages of other origins play nothing there. */
import * as Http from "node:http"
import type { AddressInfo } from "node:net"
import { Effect } from "effect"
import { assert, beforeAll, it, vi } from "vitest"
import type { Page } from "playwright-core"
import type { Person } from "./Chromium.js"
import * as PageWorld from "./PageWorld.js"
import { inspect, says, tabTo, walk } from "./PageWorld.js"

const jwts = /eyJ[\w-]+\.[\w-]+\.[\w-]+/

/** Leads to this machine, as a name does that somebody else points there. */
const rebound = "rebound.test"

interface Overview {
  readonly at: string
  readonly refreshes: { readonly minutes: ReadonlyArray<{ readonly refreshed: Readonly<Record<string, number>> }> }
}

const refreshedOf = ({ refreshes }: Overview) =>
  refreshes.minutes.flatMap(({ refreshed }) => Object.values(refreshed)).reduce((sum, count) => sum + count, 0)

PageWorld.inChromium(
  "the page of the demo",
  (world) => {
    let demo: PageWorld.Served
    let person: Person

    beforeAll(async () => {
      demo = await world().acquire(PageWorld.demo())
      person = await world().person()
    })

    const users = async () =>
      (
        (await demo.ask("GET", "/_sandbox/_demo")).json as {
          readonly users: ReadonlyArray<{ userUlid: string; name: string; calUserId: number }>
        }
      ).users

    it("opens by itself, and shows a refresh as soon as it is in the numbers", async () => {
      const page = await person.newPage()
      const overviews: Array<Overview> = []
      page.on("response", (response) => {
        if (!response.url().endsWith("/api/cal/overview") || response.status() !== 200) return
        void response.json().then(
          ({ overview }: { overview: Overview }) => overviews.push(overview),
          // The page was closed.
          () => undefined
        )
      })
      await page.goto(demo.url)
      await says(page, "Everybody's token is kept.")
      const figure = page.locator(".figure", { hasText: "Refreshed, last hour" }).locator(".figure-value")
      await page.getByRole("radio", { name: /^Ada/ }).check()
      const before = Number(await figure.textContent())
      await page.getByRole("button", { name: "Expire the token" }).click()
      await page.getByText("Promise kept").waitFor({ timeout: 40_000 })

      const ada = (await users()).find(({ name }) => name === "Ada")?.userUlid ?? ""
      const { json } = await demo.ask("GET", `/api/cal/history/${ada}`)
      const [entry] = (json["history"] as { readonly entries: ReadonlyArray<{ readonly at: string }> }).entries
      const at = entry?.at ?? ""
      while (Number(await figure.textContent()) <= before) await page.waitForTimeout(50)
      // The first reading after it has it; the page asks each second, and readings serve for no more than one. What the page
      // shows already may still be on its way to the test.
      const first = () => overviews.find((overview) => overview.at >= at)
      const reading = await vi.waitUntil(first, { timeout: 10_000, interval: 20 })
      assert.isAbove(refreshedOf(reading), before)
      const summary = page.getByText(/^\d+ refreshed in the last hour, none failed\.$/)
      assert.strictEqual(
        await summary.textContent(),
        `${await figure.textContent()} refreshed in the last hour, none failed.`
      )

      await inspect(page, "demo")
      await walk(page)
      await tabTo(page, /^input Ada/)
      await page.keyboard.press("ArrowDown")
      assert.isTrue(await page.getByRole("radio", { name: /^Ben/ }).isChecked())
      assert.notMatch(await PageWorld.holdings(page), jwts)
      assert.deepStrictEqual(person.complaints, [])
      assert.deepStrictEqual(person.strays(), [])
    })

    /** Whatever changes or tells something, in any way that a page has to make its reader's browser ask. */
    const attack = async (page: Page, target: string) => {
      const { json } = await demo.ask("GET", "/openapi.json")
      const paths = Object.entries(json["paths"] as Record<string, object>).flatMap(([path, methods]) =>
        Object.keys(methods).map((method) => [method.toUpperCase(), path] as const)
      )
      const { json: controls } = await demo.ask("GET", "/_sandbox/_control")
      const controlled = Object.keys(controls["endpoints"] as object).map((line) => line.split(" ") as [string, string])
      const [ada, ...others] = await users()
      const all = [
        ...paths,
        ...controlled.map(([method, path]) => [method, `/_sandbox${path}`] as const),
        ["GET", "/_sandbox/_demo"] as const,
        ["POST", `/_sandbox/_demo/users/${ada?.userUlid}/requests`] as const,
        ["POST", `/_sandbox/_demo/users/${ada?.userUlid}/consent`] as const,
        ...(["GET", "POST", "DELETE"] as const).map((method) => [method, "/page/session"] as const)
      ].map(
        ([method, path]) =>
          [
            method,
            path
              .replace("{userUlid}", ada?.userUlid ?? "")
              .replace("{calUserId}", String(ada?.calUserId))
              .replace(/\{\w+\}|\*/g, "x")
          ] as const
      )
      assert.isAbove(all.length, 40)
      assert.lengthOf(others, 2)
      const body = JSON.stringify({
        ...{ userUlid: ada?.userUlid, forceRefresh: true, times: 3, key: "a-key-that-nobody-has-0123456789abcdef" },
        ...{ fault: "refuseConnection", answer: "otherCase", kind: "managed", email: "eve@example.com" }
      })
      return page.evaluate<ReadonlyArray<string>>(
        `(async () => {
          const read = []
          const target = ${JSON.stringify(target)}
          const body = ${JSON.stringify(body)}
          const ended = (element, src) => new Promise((resolve) => {
            element.onload = () => resolve("loaded")
            element.onerror = () => resolve("failed")
            element.src = src
            document.body.append(element)
          })
          for (const [method, path] of ${JSON.stringify(all)}) {
            const url = target + path
            const patience = () => AbortSignal.timeout(3000)
            for (const headers of [{}, { "x-cal-tokens-page": "1" }, { "content-type": "application/json", "x-cal-tokens-page": "1" }]) {
              for (const credentials of ["include", "omit"]) {
                const options = { method, headers, credentials, signal: patience(), ...(method === "GET" || method === "HEAD" ? {} : { body }) }
                await fetch(url, options).then(
                  async (answer) => read.push(method + " " + path + " " + answer.status + " " + (await answer.text()).slice(0, 80)),
                  () => undefined
                )
              }
            }
            if (method === "GET") {
              await Promise.race([ended(new Image(), url), new Promise((resolve) => setTimeout(resolve, 1000))])
              continue
            }
            if (method !== "POST") continue
            await fetch(url, { method, mode: "no-cors", credentials: "include", body, signal: patience() }).catch(() => undefined)
            navigator.sendBeacon(url, body)
            const frame = document.createElement("iframe")
            frame.name = "sink"
            document.body.append(frame)
            const form = document.createElement("form")
            Object.assign(form, { method: "post", action: url, target: "sink", enctype: "text/plain" })
            const input = document.createElement("input")
            Object.assign(input, { name: body.slice(0, -1) + ', "x":"', value: '"}' })
            form.append(input)
            document.body.append(form)
            const loaded = new Promise((resolve) => (frame.onload = resolve))
            form.submit()
            await Promise.race([loaded, new Promise((resolve) => setTimeout(resolve, 1000))])
            frame.remove()
          }
          const events = new EventSource(target + "/api/cal/events", { withCredentials: true })
          read.push(...(await new Promise((resolve) => {
            events.onerror = () => resolve([])
            events.onopen = () => resolve(["events"])
          })))
          events.close()
          return read
        })()`
      )
    }

    /** What a play would leave behind. */
    const state = async () => {
      const read = (path: string) => demo.ask("GET", path).then(({ json }) => json)
      const { connections } = (await read("/api/cal/connections")) as {
        readonly connections: ReadonlyArray<{
          readonly userUlid: string
          readonly status: string
          readonly calUserId: number
        }>
      }
      return {
        connections: connections.map(({ calUserId, status, userUlid }) => [userUlid, status, calUserId]),
        faults: ((await read("/_sandbox/_control/faults")) as { readonly queued: unknown }).queued,
        odd: ((await read("/_sandbox/_control/odd-answers")) as { readonly queued: unknown }).queued,
        switches: (await read("/_sandbox/_control/switches"))["switches"],
        users: (await read("/_sandbox/_control/users"))["users"]
      }
    }

    it("is played by no page of another port, another site, or another name that leads there", async () => {
      const attacker = await world().acquire(
        Effect.acquireRelease(
          Effect.async<Http.Server>((resume) => {
            const server = Http.createServer((_, response) =>
              response.writeHead(200, { "content-type": "text/html" }).end("<!doctype html><title>x</title><body>")
            )
            server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
          }),
          (server) => Effect.sync(() => void server.close().closeAllConnections())
        )
      )
      const { port } = attacker.address() as AddressInfo
      const foreign = await world().person()
      const own = await foreign.newPage()
      await own.goto(demo.url)
      await says(own, "Play Cal.com")
      assert.lengthOf(await foreign.context.cookies(), 1)
      await own.close()
      const before = await state()

      const done: Array<string> = []
      const harmless = /^\/(health\/(live|ready)|docs|openapi\.json|page\/app\.(js|css)|page\/icon\.svg|favicon\.ico)?$/
      const watch = (page: Page) =>
        page.on("response", (response) => {
          const { pathname, port } = new URL(response.url())
          if (port !== new URL(demo.url).port || harmless.test(pathname) || response.status() >= 400) return
          done.push(`${response.request().method()} ${pathname} ${response.status()}`)
        })
      for (const site of [`http://127.0.0.1:${port}`, `http://localhost:${port}`]) {
        const page = watch(await foreign.newPage())
        await page.goto(site)
        const read = await attack(page, demo.url)
        assert.deepStrictEqual(read, [], site)
        assert.deepStrictEqual(done, [], site)
        const opened = page.waitForEvent("popup")
        const seen = await page.evaluate<string>(`(async () => {
          const opened = window.open(${JSON.stringify(`${demo.url}/`)})
          await new Promise((resolve) => setTimeout(resolve, 500))
          try { return opened.document.title } catch { return "closed" }
        })()`)
        assert.include(["closed", ""], seen)
        await (await opened).close()
        await page.close()
      }

      // The demo's own page by that name has nothing, and gives nothing.
      const alias = demo.url.replace("127.0.0.1", rebound)
      const page = watch(await foreign.newPage())
      await page.goto(`${alias}/`)
      await says(page, "Log in to cal-tokens")
      assert.deepStrictEqual(await foreign.context.cookies(alias), [])
      // To end a session that one does not have is nothing.
      const read = (await attack(page, alias)).filter((line) => !line.startsWith("DELETE /page/session 200 "))
      const told = read.filter((line) => / [23]\d\d /.test(line) && !harmless.test(line.split(" ")[1] ?? ""))
      assert.deepStrictEqual(told, [])
      assert.deepStrictEqual(
        done.filter((line) => line !== "DELETE /page/session 200"),
        []
      )

      // No page shows it inside of its own.
      await page.goto(`http://localhost:${port}`)
      foreign.complaints.splice(0)
      await page.evaluate(`document.body.innerHTML = '<iframe src="${demo.url}/"></iframe>'`)
      while (!foreign.complaints.some((line) => line.includes("frame-ancestors"))) await page.waitForTimeout(20)
      assert.deepStrictEqual(await state(), before)
    })
  },
  [rebound]
)
