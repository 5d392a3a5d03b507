/**
 * The program as it runs with very many users, some of whom it refreshes all the time, over PostgreSQL and a Cal.com in
 * processes of their own; and browsers that look at its page.
 */
import * as Fs from "node:fs"
import { PgClient } from "@effect/sql-pg"
import { Context, Duration, Effect, Layer, Redacted, Schedule } from "effect"
import type { Browser, Page } from "playwright-core"
import * as KeyRing from "../../src/KeyRing.js"
import * as Migrations from "../../src/TokenStorage/Postgres/Migrations.js"
import * as Postgres from "../../src/TokenStorage/Postgres.js"
import { serverTime } from "../bench/ServerTime.js"
import * as Chromium from "../browser/Chromium.js"
import type { Functions, Options as CalOptions } from "../load/cal.js"
import * as Child from "../load/Child.js"
import { now } from "../load/Instant.js"
import * as Ipc from "../load/Ipc.js"
import * as Population from "../load/Population.js"
import * as Scripts from "../load/Scripts.js"
import * as Service from "../load/Service.js"
import { build } from "../start/Program.js"
import * as Exposition from "../support/Exposition.js"
import { makeDatabase } from "../support/Postgres.js"
import * as Crowd from "./Crowd.js"

const apiKey = "page-key-0123456789abcdefghijklmnop"

/** Seconds that the tokens of those live who are refreshed: each of them about thrice in two minutes. */
const lifetime = 60

const clients = {
  managed: { clientId: "managed-client", clientSecret: "secret-of-the-managed-client" },
  oauth2: { clientId: "oauth2-client", clientSecret: "secret-of-the-oauth2-client" }
}

/** What the service has done and taken by now. */
interface Standing {
  /** ms since the epoch. */
  readonly at: number
  /** Calls of the storage, by operation. */
  readonly calls: ReadonlyMap<string, number>
  /** Processor time in ms: of the process, and of PostgreSQL. */
  readonly process: number
  readonly database: number
}

/** What it does and takes in a second. */
export interface Cost {
  readonly calls: number
  readonly byOperation: Readonly<Record<string, number>>
  /** Shares of one processor. */
  readonly process: number
  readonly database: number
  /** How late the event loop was, in ms: the worst second's 99th percentile, and the worst of all. */
  readonly delay: { readonly p99: number; readonly max: number }
}

/** Of so many users; one in `reconnects` has to reconnect, and `refreshed` more are refreshed all the time. */
export const make = (users: number, reconnects: number, refreshed: number) =>
  Effect.gen(function* () {
    const scripts = yield* Scripts.bundle("page-scale")
    const directory = yield* Effect.acquireRelease(Effect.sync(build), (directory) =>
      Effect.sync(() => Fs.rmSync(directory, { recursive: true }))
    )
    const calOptions: CalOptions = {
      ...{ clients, seed: 1, slots: 1, latency: 50, late: 0, lifetime: lifetime * 1000 },
      perMinute: 100 * refreshed
    }
    const child = yield* Child.make(scripts.cal, { arguments: [JSON.stringify(calOptions)], env: {} })
    const cal = Ipc.caller<Functions>(child)
    const [port] = yield* cal("ports")

    const url = yield* makeDatabase
    const encryptionKeys = Redacted.make(`k1:${Buffer.from("an encryption key of 32 bytes x.").toString("base64")}`)
    const context = yield* Layer.build(
      Layer.merge(
        Layer.provideMerge(Migrations.layer, Postgres.layerConnection({ url, poolSize: 2 })),
        KeyRing.layer(encryptionKeys)
      )
    )
    const sql = Context.get(context, PgClient.PgClient)
    const keys = Context.get(context, KeyRing.KeyRing)
    const [took] = yield* Effect.timed(Effect.provide(Crowd.fill(users, reconnects, clients), context))
    yield* Effect.log(`${users} users, made in ${Duration.format(took)}`)

    const service = yield* Service.start({
      slot: 0,
      program: `${directory}/dist/program.mjs`,
      probe: scripts.probe,
      env: {
        PORT: "0",
        LOG_FORMAT: "json",
        DATABASE_URL: Redacted.value(url),
        CAL_API_URL: `http://127.0.0.1:${port}/v2`,
        CAL_CLIENT_ID: clients.managed.clientId,
        CAL_CLIENT_SECRET: clients.managed.clientSecret,
        CAL_OAUTH_CLIENT_ID: clients.oauth2.clientId,
        CAL_OAUTH_CLIENT_SECRET: clients.oauth2.clientSecret,
        CAL_OAUTH_AUTHORIZE_URL: `http://127.0.0.1:${port}/auth/oauth2/authorize`,
        CAL_TOKENS_ENCRYPTION_KEYS: Redacted.value(encryptionKeys),
        CAL_TOKENS_API_KEYS: `page:${apiKey}:manage+metrics`
      }
    })
    const population = yield* Effect.provide(
      Population.make(
        {
          ...{ users: refreshed, inUse: 1, lifetime, seed: 1 },
          ...{ seconds: 0, rate: 0, processes: 1, latency: 0, mishaps: 0, late: 0 }
        },
        { cal, clients, keys }
      ),
      context
    )
    const databaseTime = yield* Effect.promise(() => serverTime(Redacted.value(url)))

    const granted = Effect.map(cal("counts"), (counts) => counts.granted)

    const standing: Effect.Effect<Standing> = Effect.promise(async () => {
      const response = await fetch(`${service.url}/metrics`, { headers: { authorization: `Bearer ${apiKey}` } })
      const { samples } = Exposition.read(await response.text())
      const calls = samples.filter(({ name }) => name === "cal_tokens_storage_call_duration_seconds_count")
      return {
        at: now(),
        calls: new Map(calls.map(({ labels, value }) => [labels.get("operation") ?? "", Number(value)])),
        process: service.samples.at(-1)?.cpu ?? NaN,
        database: databaseTime()
      }
    })

    /** What a time costs. */
    const costOf = (duration: Duration.DurationInput): Effect.Effect<Cost> =>
      Effect.gen(function* () {
        // Samples come once a second: begins with one.
        const seen = service.samples.length
        yield* Effect.repeat(Effect.void, {
          until: () => service.samples.length > seen,
          schedule: Schedule.spaced("10 millis")
        })
        const before = yield* standing
        const first = service.samples.length
        yield* Effect.sleep(duration)
        const after = yield* standing
        const seconds = (after.at - before.at) / 1000
        const rates = [...after.calls].map(
          ([operation, count]) => [operation, (count - (before.calls.get(operation) ?? 0)) / seconds] as const
        )
        const delays = service.samples.slice(first).map(({ delay }) => delay)
        return {
          calls: rates.reduce((sum, [, rate]) => sum + rate, 0),
          byOperation: Object.fromEntries(rates.filter(([, rate]) => rate > 0)),
          process: (after.process - before.process) / 1000 / seconds,
          database: (after.database - before.database) / 1000 / seconds,
          delay: {
            p99: Math.max(...delays.map(({ p99 }) => p99)),
            max: Math.max(...delays.map(({ max }) => max))
          }
        }
      })

    return {
      url: service.url,
      database: Redacted.value(url),
      costOf,
      granted,
      users: population.users,
      sql,
      tail: service.tail
    }
  })

export type World = Effect.Effect.Success<ReturnType<typeof make>>

/** When something was there, in ms from the beginning of a load. */
export interface Look {
  readonly painted: number
  readonly told: number
}

/** What a page loaded by somebody who is logged in shows, and when; nothing of it was there before. */
export const firstLook = async (browser: Browser, world: World): Promise<Look> => {
  const { context } = await person(browser, world)
  const page = await context.newPage()
  const cdp = await context.newCDPSession(page)
  await cdp.send("Network.setCacheDisabled", { cacheDisabled: true })
  await page.goto(`${world.url}/`)
  await page.locator("canvas").first().waitFor()
  const look = await page.evaluate<Look>(`({
    painted: performance.getEntriesByName("first-contentful-paint")[0].startTime,
    told: performance.now()
  })`)
  await context.close()
  return look
}

/** What waits in a page waits for so much less. */
const quicker = (times: number) => `
  for (const name of ["setTimeout", "setInterval"]) {
    const real = window[name]
    window[name] = (run, ms) => real(run, ms / ${times})
  }
`

/** Somebody who is logged in, and looks at the overview, so many times as often as people's pages do. */
export const person = async (browser: Browser, { url }: World, pace = 1) => {
  const made = await Chromium.person(browser)
  if (pace > 1) await made.context.addInitScript(quicker(pace))
  const page = await made.newPage()
  await page.goto(`${url}/`)
  await page.getByLabel("API key").fill(apiKey)
  await page.keyboard.press("Enter")
  await page.getByRole("navigation", { name: "Pages" }).first().waitFor()
  const cdp = await made.context.newCDPSession(page)
  await cdp.send("Performance.enable")
  let answers = 0
  page.on("response", (response) => void (answers += response.url().endsWith("/overview") ? 1 : 0))
  return {
    ...made,
    page,
    /** Waits until the page was told how it stands so many times more. */
    look: async (times: number) => {
      const last = answers + times
      await page.waitForResponse(() => answers >= last, { timeout: 300_000 })
    },
    /** What the page holds after all that is of no use is gone: bytes, elements and texts, also those in no document, and listeners. */
    holds: async (): Promise<Holding> => {
      await cdp.send("HeapProfiler.collectGarbage")
      const { metrics } = await cdp.send("Performance.getMetrics")
      const of = (name: string) => metrics.find((metric) => metric.name === name)?.value ?? NaN
      return { bytes: of("JSHeapUsedSize"), nodes: of("Nodes"), listeners: of("JSEventListeners") }
    }
  }
}

export interface Holding {
  readonly bytes: number
  readonly nodes: number
  readonly listeners: number
}

/** What kept a page from answering. */
export interface Task {
  /** In ms. */
  readonly took: number
  /** How much of that its thread computed, in ms: the rest of the time the machine did something else. */
  readonly computed: number
}

interface TraceEvent {
  readonly name: string
  readonly ph: string
  readonly pid: number
  readonly tid: number
  readonly dur?: number
  readonly tdur?: number
  readonly args?: { readonly name?: string }
}

/** The tasks of a page's main thread meanwhile, the longest first. */
export const tasksOf = async (
  browser: Browser,
  page: Page,
  work: () => Promise<void>
): Promise<ReadonlyArray<Task>> => {
  await browser.startTracing(page, { categories: ["toplevel", "__metadata"] })
  await work()
  const { traceEvents } = JSON.parse((await browser.stopTracing()).toString()) as {
    readonly traceEvents: ReadonlyArray<TraceEvent>
  }
  const isMain = new Set(
    traceEvents
      .filter(({ args, name }) => name === "thread_name" && args?.name === "CrRendererMain")
      .map(({ pid, tid }) => `${pid} ${tid}`)
  )
  return traceEvents
    .filter(({ name, ph, pid, tid }) => ph === "X" && name.endsWith("::RunTask") && isMain.has(`${pid} ${tid}`))
    .map(({ dur = 0, tdur = 0 }) => ({ took: dur / 1000, computed: tdur / 1000 }))
    .sort((a, b) => b.computed - a.computed)
}
