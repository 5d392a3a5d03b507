/**
 * `npm run screenshots`: makes the README's pictures of the page anew. `-- --all FOLDER` makes pictures of all that it can
 * show instead, light and dark, wide and narrow, for a person to look at; `--users` has more in the story. Runs in the
 * project's directory.
 */
import { mkdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { parseArgs } from "node:util"
import { Effect } from "effect"
import type { Browser } from "playwright-core"
import * as Chromium from "../browser/Chromium.js"
import * as Service from "./Service.js"
import * as States from "./States.js"

const { values } = parseArgs({
  options: {
    all: { type: "string" },
    users: { type: "string", default: "1200" }
  }
})

const executable = Chromium.executable()
if (executable === undefined) {
  console.error("no Chromium found, set CHROMIUM_PATH")
  process.exit(1)
}

/** As the README shows them. */
const readme = async (browser: Browser, service: Service.Service) => {
  const folder = "test/pictures"
  const overview = await States.open(browser, service, { scheme: "light", width: 1280 })
  await overview.show(`#/`)
  const last = overview.page.locator(".charts > :first-child")
  await last.waitFor()
  const { height, y } = (await last.boundingBox()) ?? { height: 0, y: 0 }
  writeFileSync(join(folder, "overview.png"), await overview.picture(y + height + 16))
  const person = await States.open(browser, service, { scheme: "dark", width: 1180 })
  await person.show(`#/users/${service.lost}`)
  await person.page.getByText("What happened").waitFor()
  writeFileSync(join(folder, "person.png"), await person.picture())
}

const all = async (browser: Browser, service: Service.Service, folder: string) => {
  mkdirSync(folder, { recursive: true })
  for (const [name, width] of Object.entries({ wide: 1280, narrow: 390 })) {
    for (const [state, prepare] of Object.entries(States.states(service))) {
      const view = await States.open(browser, service, { scheme: "light", width })
      await prepare(view)
      for (const scheme of ["light", "dark"] as const) {
        await view.page.emulateMedia({ colorScheme: scheme })
        writeFileSync(join(folder, `${state}-${name}-${scheme}.png`), await view.picture())
      }
      await view.close()
    }
  }
}

const work = Effect.gen(function* () {
  const service = yield* Service.make(Number(values.users))
  const browser = yield* Effect.acquireRelease(
    Effect.promise(() => Chromium.launch(executable)),
    (browser) => Effect.promise(() => browser.close())
  )
  yield* Effect.promise(() => (values.all === undefined ? readme(browser, service) : all(browser, service, values.all)))
})

Effect.runPromise(Effect.scoped(work)).then(
  () => process.exit(0),
  (error: unknown) => {
    console.error(error)
    process.exit(1)
  }
)
