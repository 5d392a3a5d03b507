/** A real browser that reaches nothing but this machine, and remembers what its pages asked for and complained about. */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { type Browser, type BrowserContext, type BrowserContextOptions, chromium, type Page } from "playwright-core"

const usual = [
  "/usr/bin/chromium",
  "/usr/bin/chromium-browser",
  "/usr/bin/google-chrome",
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
]

/** `CHROMIUM_PATH`, or where it usually is. */
export const executable = (): string | undefined => {
  const given = process.env["CHROMIUM_PATH"] ?? ""
  return given === "" ? usual.find((path) => Fs.existsSync(path)) : given
}

/** `names` lead to this machine, too. */
export const launch = (executablePath: string, names: ReadonlyArray<string> = []): Promise<Browser> =>
  chromium.launch({
    executablePath,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      `--host-resolver-rules=${[...names.map((name) => `MAP ${name} 127.0.0.1`), "MAP * ~NOTFOUND"].join(", ")}, EXCLUDE 127.0.0.1, EXCLUDE localhost`
    ]
  })

/** A person's browser, with cookies of its own. */
export interface Person {
  readonly context: BrowserContext
  readonly newPage: () => Promise<Page>
  /** Whatever any page asked for, in its order. */
  readonly requests: ReadonlyArray<string>
  /** Errors of any page's console and scripts, but for the lines that only repeat the status of an answer. */
  readonly complaints: Array<string>
  /** Requests that would have left this machine. */
  readonly strays: () => ReadonlyArray<string>
}

export const person = async (browser: Browser, width = 1280, more: BrowserContextOptions = {}): Promise<Person> => {
  const context = await browser.newContext({ viewport: { width, height: 800 }, colorScheme: "light", ...more })
  // No answer of this machine's takes longer.
  context.setDefaultTimeout(15_000)
  const requests: Array<string> = []
  const complaints: Array<string> = []
  context.on("request", (request) => requests.push(request.url()))
  context.on("console", (message) => {
    if (message.type() === "error" && !message.text().startsWith("Failed to load resource: the server responded")) {
      complaints.push(message.text())
    }
  })
  // What a policy refuses that is only reported, and whatever else escapes the console.
  await context.addInitScript(
    `document.addEventListener("securitypolicyviolation", ({ blockedURI, violatedDirective }) =>
      console.error("refused by policy: " + violatedDirective + " " + blockedURI))`
  )
  context.on("weberror", (error) => complaints.push(String(error.error())))
  return {
    context,
    newPage: () => context.newPage(),
    requests,
    complaints,
    strays: () =>
      requests.filter((url) => {
        const { hostname, protocol } = new URL(url)
        return protocol !== "data:" && protocol !== "blob:" && hostname !== "127.0.0.1" && hostname !== "localhost"
      })
  }
}

/** Pixels by which a page is wider than its window. */
export const overflow = (page: Page): Promise<number> =>
  page.evaluate<number>("document.documentElement.scrollWidth - document.documentElement.clientWidth")

/** Keeps a picture of the whole page for a person to look at, when `SCREENSHOTS` names a directory. */
export const picture = async (page: Page, name: string): Promise<void> => {
  const directory = process.env["SCREENSHOTS"]
  if (directory === undefined) return
  await page.screenshot({ path: Path.join(directory, `${name}.png`), fullPage: true })
}
