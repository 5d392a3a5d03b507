/** All that the page can show, as somebody sees it who comes there. */
import type { Browser, Route } from "playwright-core"
import * as Service from "./Service.js"
import * as Story from "./Story.js"

interface Options {
  readonly scheme: "light" | "dark"
  readonly width: number
}

export type View = Awaited<ReturnType<typeof open>>

const height = 900

/** For the last frame of what moves, and the answers to what was asked. */
const settle = 600

/** A browser that nobody has logged in with. Its clock stands where the service's does. */
export const open = async (browser: Browser, { url }: Service.Service, { scheme, width }: Options) => {
  const context = await browser.newContext({
    viewport: { width, height },
    colorScheme: scheme,
    timezoneId: "Europe/Berlin",
    locale: "en-GB",
    reducedMotion: "reduce"
  })
  const page = await context.newPage()
  await page.clock.setFixedTime(Story.end)
  const logIn = async (key = Service.apiKey) => {
    await page.getByLabel("API key").fill(key)
    await page.keyboard.press("Enter")
  }
  return {
    page,
    logIn,
    come: async () => {
      await page.goto(`${url}/`)
      await page.getByLabel("API key").waitFor()
    },
    /** Logs in, and goes there. */
    show: async (hash: string) => {
      await page.goto(`${url}/${hash}`)
      await logIn()
      await page.getByRole("link", { name: "Overview" }).waitFor()
      await page.waitForTimeout(settle)
    },
    /** What answers to a path become from now on. */
    answer: (path: string, how: (route: Route) => Promise<void>) => page.route(`**/${path}`, how),
    /** Of the whole page, or from its head to so many pixels below. */
    picture: async (to?: number) => {
      await page.waitForTimeout(settle)
      const clip = to === undefined ? {} : { clip: { x: 0, y: 0, width, height: to } }
      return page.screenshot({ fullPage: true, ...clip })
    },
    close: async () => {
      await page.unrouteAll({ behavior: "ignoreErrors" })
      await context.close()
    }
  }
}

type Facts = Record<string, unknown>

/** The service's own answer with some of it changed. */
const changed = (change: (overview: Facts) => Facts) => async (route: Route) => {
  const response = await route.fetch()
  const body = (await response.json()) as { readonly overview: Facts }
  await route.fulfill({ response, json: { ...body, overview: { ...body.overview, ...change(body.overview) } } })
}

const failing = (status: number, code: string, error: string, retryAfter?: number) => (route: Route) =>
  route.fulfill({ status, json: { success: false, code, error, retryAfter } })

const at = (before: number) => new Date(Story.end - before).toISOString()

const nobody = ({ expiries, refreshes }: Facts): Facts => {
  const { minutes } = refreshes as { readonly minutes: ReadonlyArray<Facts> }
  const none = { asked: 0, refused: 0, ahead: 0, reissue: 0, lapsed: 0 }
  return {
    users: { active: 0, reauthorizationRequired: 0, isEstimated: false },
    refreshes: {
      minutes: minutes.map(({ at }) => ({ at, refreshed: none, failed: none, reauthorizationRequired: 0, reasons: [] }))
    },
    expiries: {
      overdue: 0,
      minutes: (expiries as { readonly minutes: ReadonlyArray<Facts> }).minutes.map(({ at }) => ({ at, users: 0 }))
    },
    budgets: []
  }
}

const trouble = (): Facts => ({
  circuits: [
    {
      cause: "client",
      clientId: Story.clients.managed.clientId,
      reason: "Cal.com refuses the client's secret",
      openedAt: at(754_000),
      nextTrialAt: at(-41_000)
    },
    {
      cause: "drift",
      clientId: Story.clients.oauth2.clientId,
      reason: "no refresh token in the answer",
      openedAt: at(95_000),
      nextTrialAt: at(-205_000)
    }
  ],
  sealedAnswers: 17,
  pairsHeld: 2
})

const person = ({ lost }: Service.Service) => `#/users/${lost}`

const inDemo =
  (service: Service.Service) =>
  async ({ answer }: View) => {
    await answer("page/session", async (route) => {
      const response = await route.fetch()
      await route.fulfill({
        response,
        json: { ...((await response.json()) as object), demo: true, sandbox: "_sandbox" }
      })
    })
    const users = [
      { userUlid: service.saved, name: "Ada", kind: "managed" },
      { userUlid: service.lost, name: "Cem", kind: "oauth2" }
    ]
    await answer("_sandbox/_demo", (route) => route.fulfill({ json: { success: true, users } }))
  }

/** By their names. */
export const states = (service: Service.Service): Readonly<Record<string, (view: View) => Promise<unknown>>> => ({
  login: ({ come }) => come(),
  "login-refused": async ({ come, logIn, page }) => {
    await come()
    await logIn("not-a-key-of-this-service-0123456789")
    await page.getByRole("alert").filter({ hasText: /./ }).waitFor()
  },
  "login-limited": async ({ answer, come, logIn }) => {
    await come()
    await answer("page/session", failing(429, "RateLimited", "Too many attempts.", 42))
    await logIn()
  },
  loading: async ({ answer, show }) => {
    await answer("overview", () => new Promise(() => {}))
    await show("#/")
  },
  overview: ({ show }) => show("#/"),
  "overview-tables": async ({ page, show }) => {
    await show("#/")
    for (const summary of await page.getByText("As a table").all()) await summary.click()
  },
  "overview-pointed": async ({ page, show }) => {
    await show("#/")
    await page.getByRole("slider").first().focus()
    for (let n = 0; n < 20; n++) await page.keyboard.press("ArrowLeft")
  },
  "overview-empty": async ({ answer, show }) => {
    await answer("overview", changed(nobody))
    await show("#/")
  },
  "overview-trouble": async ({ answer, show }) => {
    await answer("overview", changed(trouble))
    await show("#/")
  },
  "overview-huge": async ({ answer, show }) => {
    await answer(
      "overview",
      changed(() => ({ users: { active: 1_284_511, reauthorizationRequired: 10_000, isEstimated: true } }))
    )
    await show("#/")
  },
  "overview-demo": async (view) => {
    await inDemo(service)(view)
    await view.show("#/")
  },
  away: async ({ answer, page, show }) => {
    await show("#/")
    await answer("overview", (route) => route.abort())
    await page.getByRole("button", { name: "Try now" }).waitFor()
  },
  "database-away": async ({ answer, page, show }) => {
    await show("#/")
    await answer("overview", failing(503, "StorageUnavailable", "The database cannot be reached.", 3))
    await page.getByRole("button", { name: "Try now" }).waitFor()
  },
  restarted: async ({ answer, page, show }) => {
    await show("#/")
    await answer(
      "overview",
      changed(() => ({ at: at(-1000), process: { name: "p7k2m9xq", startedAt: at(-500), version: "0.1.0" } }))
    )
    await page.getByText("was restarted").waitFor()
  },
  paused: async ({ page, show }) => {
    await show("#/")
    await page.getByRole("button", { name: "Pause" }).click()
  },
  "session-over": async ({ answer, page, show }) => {
    await show("#/")
    await answer("overview", failing(401, "Unauthorized", "The session of this page is over: sign in again."))
    await page.getByRole("dialog").waitFor()
  },
  reconnect: ({ show }) => show("#/reconnect"),
  "reconnect-nobody": async ({ answer, show }) => {
    await answer("connections?**", (route) => route.fulfill({ json: { success: true, connections: [] } }))
    await show("#/reconnect")
  },
  users: ({ show }) => show("#/users"),
  "users-unavailable": async ({ answer, show }) => {
    await answer("connections?**", failing(503, "StorageUnavailable", "The database cannot be reached.", 3))
    await show("#/users")
  },
  search: ({ show }) => show(`#/users?prefix=${service.lost.slice(0, 3)}`),
  "search-nothing": ({ show }) => show("#/users?prefix=Ada"),
  person: ({ show }) => show(person(service)),
  "person-saved": ({ show }) => show(`#/users/${service.saved}`),
  "person-unknown": ({ show }) => show("#/users/01ARZ3NDEKTSV4RRFFQ69G5FAV"),
  "person-instant": async ({ page, show }) => {
    await show(person(service))
    await page.locator("time").nth(1).focus()
  },
  "confirm-refresh": async ({ page, show }) => {
    await show(`#/users/${service.saved}`)
    await page.getByRole("button", { name: "Refresh", exact: true }).click()
  },
  "confirm-disconnect": async ({ page, show }) => {
    await show(person(service))
    await page.getByRole("button", { name: "Disconnect", exact: true }).click()
  }
})
