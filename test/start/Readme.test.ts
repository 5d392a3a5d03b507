/** The commands of the README and of the page on HTTP, run as they stand against the program as a newcomer starts it. */
import { execFile, spawn } from "node:child_process"
import * as Fs from "node:fs"
import * as Http from "node:http"
import type { AddressInfo } from "node:net"
import { promisify } from "node:util"
import { Webhook } from "standardwebhooks"
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import * as Pages from "../docs/Pages.js"
import { allow } from "./Consent.js"
import { build, type Program, run } from "./Program.js"

const page = "src/Http/README.md"

const shellBlocks = (heading: string) => Pages.texts(page, heading, "sh")

/** A command that fails ends the whole, as does a variable that the README does not tell to set. */
const bash = async (script: string, env: Record<string, string>): Promise<ReadonlyArray<unknown>> => {
  const { stdout } = await promisify(execFile)("bash", ["--norc", "-euo", "pipefail", "-c", script], {
    env: { PATH: process.env["PATH"] ?? "", ...env }
  })
  return stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as unknown)
}

/** A user and tokens that somebody got from Cal.com before: the simulated one, with its well-known client. */
const tokensFromBefore = async (url: string) => {
  const response = await fetch(`${url}/_sandbox/v2/oauth-clients/sandbox-platform-client/users`, {
    method: "POST",
    headers: { "content-type": "application/json", "x-cal-secret-key": "sandbox-platform-secret" },
    body: JSON.stringify({ email: "from-before@example.com", name: "From Before" })
  })
  const { data } = (await response.json()) as {
    readonly data: Readonly<Record<"accessToken" | "refreshToken" | "accessTokenExpiresAt", string | number>> & {
      readonly user: { readonly id: number }
    }
  }
  return {
    CAL_USER_ID: String(data.user.id),
    ACCESS_TOKEN: String(data.accessToken),
    REFRESH_TOKEN: String(data.refreshToken),
    ACCESS_TOKEN_EXPIRES_AT: String(data.accessTokenExpiresAt)
  }
}

/** Somebody allows the access, and their browser comes back to the service, wherever it is. Where they end up. */
const consent = async (page: URL): Promise<URL> => {
  const callback = await allow(page)
  callback.port = page.port
  const back = await fetch(callback, { redirect: "manual" })
  return new URL(back.headers.get("location") ?? "")
}

interface SandboxUser {
  readonly name: string
  readonly eventTypes: ReadonlyArray<{ readonly id: number }>
}

/** What a page of Ben's runs, elsewhere than at the example's service. */
const asPage = async (request: string, url: string, session: string): Promise<Response> => {
  const state = await fetch(`${url}/_sandbox/_control/state`)
  const { users } = (await state.json()) as { readonly users: ReadonlyArray<SandboxUser> }
  const [eventType] = users.find(({ name }) => name === "Ben")?.eventTypes ?? []
  const elsewhere = (address: string, init: RequestInit) =>
    fetch(address.replace("https://tokens.example.com", url), init)
  const values = {
    fetch: elsewhere,
    session,
    start: "2030-01-15T10:00:00Z",
    eventTypeId: eventType?.id,
    attendee: { name: "Eve", email: "eve@example.com", timeZone: "Europe/London" }
  }
  // eslint-disable-next-line @typescript-eslint/no-implied-eval -- the page's text is what is tried
  const run = new Function(...Object.keys(values), `return ${request.replace(/^await /, "")}`) as (
    ...values: ReadonlyArray<unknown>
  ) => Promise<Response>
  return run(...Object.values(values))
}

/** The names in a value, all the way down. */
const shape = (value: unknown): unknown =>
  typeof value === "object" && value !== null && !Array.isArray(value)
    ? Object.fromEntries(Object.entries(value).map(([name, value]) => [name, shape(value)]))
    : typeof value

const success = { success: true }

/** Somebody whose tokens are spent. */
const lost = "01BX5ZZKBKACTAV9WEVGEMMVS0"

interface Delivery {
  readonly webhook: unknown
  readonly answer: () => void
}

/** An app that takes webhooks, and the first about this user, which it does not answer by itself. */
const startApp = async (userUlid: string) => {
  const secret = `whsec_${Buffer.alloc(32, 7).toString("base64")}`
  let take: (delivery: Delivery) => void
  const taken = new Promise<Delivery>((resolve) => (take = resolve))
  const server = Http.createServer((request, response) => {
    let body = ""
    request.setEncoding("utf8").on("data", (chunk: string) => (body += chunk))
    request.on("end", () => {
      const webhook = new Webhook(secret).verify(body, request.headers as Record<string, string>)
      const answer = () => response.writeHead(204).end()
      if (body.includes(userUlid)) take({ webhook, answer })
      else answer()
    })
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  return { secret, taken, server, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/` }
}

describe("the README's commands", () => {
  let directory: string | undefined
  let program: Program
  let app: Awaited<ReturnType<typeof startApp>>
  let settings: { readonly URL: string; readonly KEY: string }
  /** May do what a key may that nothing is said of. */
  const managerKey = "manager-key-of-at-least-32-characters"

  beforeAll(async () => {
    app = await startApp(lost)
    directory = build()
    program = run(directory, ["dist/program.mjs", "serve"], {
      PORT: "0",
      CAL_TOKENS_DEMO: "1",
      CAL_TOKENS_API_KEYS: `manager:${managerKey}`,
      CAL_TOKENS_WEBHOOK_URL: app.url,
      CAL_TOKENS_WEBHOOK_SECRET: app.secret
    })
    const [, URL = ""] = await program.until(/^cal-tokens listens on (http:\S+)$/m)
    const [, KEY = ""] = await program.until(/The API key is\n\n(\S+)\n/)
    settings = { URL, KEY }
  }, 180_000)

  afterAll(async () => {
    app.server.close()
    if (directory === undefined) return
    program.process.kill("SIGTERM")
    await program.exit
    Fs.rmSync(directory, { recursive: true })
  })

  const [, variables = ""] = shellBlocks("Start")
  const [walk = ""] = shellBlocks("Five commands")
  const [handOver = ""] = shellBlocks("Tokens that you have already")
  const [readToken = ""] = shellBlocks("The token itself")
  const [rehearsal = ""] = shellBlocks("Rehearse a reconnect")
  const [follow = ""] = shellBlocks("Events")

  it("name the variables that they need, with the key as the program has it at each start", () => {
    assert.strictEqual(variables, `export URL=http://127.0.0.1:4000 KEY=${settings.KEY}\n`)
  })

  it("of the README ask Cal.com as Ada", async () => {
    const [, ask = ""] = Pages.texts("README.md", "HTTP, from any language", "sh")
    assert.isTrue(ask.startsWith(variables))
    const [me] = await bash(ask.slice(variables.length), settings)
    assert.nestedPropertyVal(me, "data.name", "Ada")
  })

  it("stand beside the page of all endpoints, which the program names", async () => {
    const [, page = ""] = await program.until(/^All endpoints, to be tried out in a browser: (http:\S+)$/m)
    assert.strictEqual(page, `${settings.URL}/docs`)
    assert.match(await (await fetch(page)).text(), /^<!DOCTYPE html>/)
  })

  it("stand below the address of the page to look at, which asks nobody on this machine for a key", async () => {
    const [, page = ""] = await program.until(/^Look: (http:\S+)$/m)
    assert.strictEqual(page, `${settings.URL}/`)
    const opened = await fetch(page)
    assert.match(await opened.text(), /^<!doctype html>/)
    const [cookie = ""] = (opened.headers.get("set-cookie") ?? "").split(";", 1)
    const headers = { cookie, "x-cal-tokens-page": "1" }
    const session = (await (await fetch(`${page}page/session`, { headers })).json()) as Record<string, unknown>
    assert.deepInclude(session, { success: true, name: "demo", demo: true, sandbox: "_sandbox" })
    const told = (path: string, more: object = {}) =>
      fetch(`${page}${path}`, { headers: { ...headers, ...more } }).then(({ status }) => status)
    assert.strictEqual(await told("api/cal/connections"), 200)
    assert.strictEqual(await told("_sandbox/_control/state"), 200)
    assert.strictEqual(await told("_sandbox/_control/state", { "sec-fetch-site": "cross-site" }), 403)
    assert.strictEqual(await told("api/cal/connections", { "sec-fetch-site": "cross-site" }), 403)
  })

  it("connect, ensure, ask Cal.com, look and disconnect, twice", async () => {
    const [first, second] = [await bash(walk, settings), await bash(walk, settings)]
    assert.deepStrictEqual(first[0], second[0])
    for (const [created, ensured, bookings, connection, disconnected, ...more] of [first, second]) {
      assert.match(JSON.stringify(created), /^{"success":true,"calUserId":\d+}$/)
      assert.match(JSON.stringify(ensured), /^{"success":true,"expiresAt":"[^"]+Z"}$/)
      assert.deepInclude(bookings, { status: "success", data: [] })
      assert.nestedPropertyVal(connection, "connection.kind", "managed")
      assert.nestedPropertyVal(connection, "connection.status", "active")
      assert.deepStrictEqual(disconnected, success)
      assert.deepStrictEqual(more, [])
    }
    const ensure = /^curl .*ensure-token.*\n.*$/m.exec(walk)?.[0] ?? ""
    const [refused] = await bash(ensure, settings)
    assert.deepInclude(refused, { success: false, code: "TokensNotFound" })
  })

  it("book a meeting", async () => {
    const [types, booked, ...more] = await bash(shellBlocks("Book a meeting")[0] ?? "", settings)
    assert.deepStrictEqual(more, [])
    assert.nestedPropertyVal(types, "data[0].id", 10001)
    assert.nestedPropertyVal(booked, "data.status", "accepted")
  })

  it("hand over tokens that somebody has already", async () => {
    const tokens = await tokensFromBefore(settings.URL)
    assert.deepStrictEqual(await bash(handOver, { ...settings, ...tokens }), [success])
    const [, other = ""] = /connections\/(\w+)/.exec(handOver) ?? []
    const me = await fetch(`${settings.URL}/api/cal/proxy/${other}/me`, {
      headers: { authorization: `Bearer ${settings.KEY}` }
    })
    assert.nestedPropertyVal(await me.json(), "data.name", "From Before")
  })

  it("give the token to a key that may have it, and to no other", async () => {
    const [answer] = await bash(readToken, settings)
    assert.match(JSON.stringify(answer), /^{"success":true,"accessToken":"[^"]{40,}","expiresAt":"[^"]+Z"}$/)
    const [refused] = await bash(readToken, { ...settings, KEY: managerKey })
    assert.deepInclude(refused, { success: false, code: "Forbidden" })
  })

  it.each(["once", "twice"])("rehearse that somebody has to reconnect, %s, and that he has", async () => {
    const [revoked, refreshed, listed, connected, ...more] = await bash(rehearsal, settings)
    assert.deepInclude(revoked, { status: "success" })
    assert.deepInclude(refreshed, { success: false, code: "ReauthorizationRequired" })
    const { connections } = listed as { readonly connections: ReadonlyArray<{ readonly userUlid: string }> }
    const [, cem = ""] = /"userUlid":"(\w+)"/.exec(rehearsal) ?? []
    assert.include(
      connections.map(({ userUlid }) => userUlid),
      cem
    )
    assert.deepStrictEqual([connected, ...more], [success])
    const me = await fetch(`${settings.URL}/api/cal/proxy/${cem}/me`, {
      headers: { authorization: `Bearer ${settings.KEY}` }
    })
    assert.nestedPropertyVal(await me.json(), "data.name", "Cem")
  })

  it("leave the line in the log that the page shows", async () => {
    await bash(readToken, settings)
    const [line = ""] = await program.until(/^.*"A token was handed out".*$/m)
    const [shown = ""] = Pages.texts(page, "Who was given what", "json")
    const [said, example] = [line, shown].map((text) => shape(JSON.parse(text)) as { readonly annotations: object })
    assert.includeMembers(Object.keys(said ?? {}), Object.keys(example ?? {}))
    assert.includeMembers(Object.keys(said?.annotations ?? {}), Object.keys(example?.annotations ?? {}))
  })

  it("follow what happens", async () => {
    // Its own group, for curl may be a child of the shell.
    const shell = spawn("bash", ["--norc", "-euo", "pipefail", "-c", follow], {
      detached: true,
      env: { PATH: process.env["PATH"] ?? "", ...settings },
      stdio: ["ignore", "pipe", "ignore"]
    })
    try {
      const texts = shell.stdout.setEncoding("utf8")[Symbol.asyncIterator]() as AsyncIterator<string, undefined>
      const until = async (pattern: RegExp, read = ""): Promise<string> => {
        if (pattern.test(read)) return read
        const { value } = await texts.next()
        return value === undefined ? assert.fail(`ended after: ${read}`) : until(pattern, read + value)
      }
      await until(/^retry: \d+\n/)
      await bash(walk, settings)
      const events = await until(/^event: disconnected\n/m)
      assert.match(events, /^event: connected\n(?:id: .*\n)?data: {"userUlid":"01ARZ3NDEKTSV4RRFFQ69G5FAV"/m)
    } finally {
      if (shell.pid !== undefined) process.kill(-shell.pid, "SIGTERM")
    }
  })

  it.each(["once", "twice"])("connect somebody through the demo's consent page, %s", async () => {
    const [ask = "", confirm = ""] = shellBlocks("Connect users with OAuth2")
    const [begun] = await bash(ask, settings)
    assert.match(JSON.stringify(begun), /^{"success":true,"url":"[^"]+","expiresAt":"[^"]+Z","state":/)
    const page = new URL((begun as { readonly url: string }).url)
    // The program tells the port it was given, and not the one that port 0 became.
    page.port = new URL(settings.URL).port
    const end = await consent(page)
    assert.match(end.href, /^http:\/\/localhost:3000\/settings\?completion=[\w.~-]+$/)
    const COMPLETION = end.searchParams.get("completion") ?? ""
    const [connected] = await bash(confirm, { ...settings, COMPLETION })
    assert.match(JSON.stringify(connected), /^{"success":true,"calUserId":\d+}$/)
  })

  it("make a session, use it for what it is for, and end it", async () => {
    const [make = "", use = "", end = ""] = shellBlocks("Pages, widgets and agents: user sessions")
    const [made] = await bash(make, settings)
    const { session: SESSION } = made as { readonly session: string }
    assert.match(JSON.stringify(made), /^{"success":true,"session":"eyJ[^"]+","expiresAt":"[^"]+Z"}$/)
    const [bookings, schedules] = await bash(use, { ...settings, SESSION })
    assert.deepInclude(bookings, { status: "success" })
    assert.deepInclude(schedules, { success: false, code: "Forbidden" })
    const [request = ""] = Pages.texts(page, "Pages, widgets and agents: user sessions", "js")
    const { data } = (await (await asPage(request, settings.URL, SESSION)).json()) as { readonly data: object }
    assert.deepInclude(data, { status: "accepted" })
    assert.deepStrictEqual(await bash(end, settings), [success])
    const [over] = await bash(use, { ...settings, SESSION })
    assert.deepInclude(over, { success: false, code: "Unauthorized" })
  })

  it("get another token as Atoms do, with the one that a page holds", async () => {
    const [atoms = ""] = shellBlocks("Pages with Cal Atoms")
    const [element = ""] = Pages.texts(page, "Pages with Cal Atoms", "tsx")
    const [, path = "missing"] = /refreshUrl: "https:\/\/[^/]+([^"]+)"/.exec(element) ?? []
    assert.include(atoms, `"$URL${path}"`)
    const [given] = await bash(readToken, settings)
    const { accessToken: ACCESS_TOKEN } = given as { readonly accessToken: string }
    const [first] = await bash(atoms, { ...settings, ACCESS_TOKEN })
    assert.match(JSON.stringify(first), /^{"accessToken":"[^"]{40,}"}$/)
    const headers = { authorization: `Bearer ${settings.KEY}`, "content-type": "application/json" }
    const body = JSON.stringify({ userUlid: /access-token\/(\w+)/.exec(readToken)?.[1], forceRefresh: true })
    await fetch(`${settings.URL}/api/cal/refresh-token`, { method: "POST", headers, body })
    // Of a second tab, which still holds the old one.
    const [second] = await bash(atoms, { ...settings, ACCESS_TOKEN })
    const [stored] = await bash(readToken, settings)
    const { accessToken } = stored as { readonly accessToken: string }
    assert.notStrictEqual(accessToken, ACCESS_TOKEN)
    assert.deepStrictEqual(second, { accessToken })
  })

  it("have the app told by a webhook of who has to reconnect, and go on while it does not answer", async () => {
    const headers = { authorization: `Bearer ${settings.KEY}`, "content-type": "application/json" }
    const send = async (method: string, path: string, body: object): Promise<unknown> => {
      const response = await fetch(settings.URL + path, { method, headers, body: JSON.stringify(body) })
      return response.json()
    }
    const userUlid = lost
    const tokens = {
      accessToken: "spent",
      refreshToken: "spent",
      accessTokenExpiresAt: Math.floor(performance.timeOrigin)
    }
    const connection = { kind: "oauth2", calUserId: 4711, ...tokens }
    assert.deepStrictEqual(await send("PUT", `/api/cal/connections/${userUlid}`, connection), success)
    assert.deepInclude(await send("POST", "/api/cal/ensure-token", { userUlid }), { code: "ReauthorizationRequired" })
    const { answer, webhook } = await app.taken
    const [, ada] = /access-token\/(\w+)/.exec(readToken) ?? []
    const forced = { userUlid: ada, forceRefresh: true }
    assert.deepInclude(await send("POST", "/api/cal/refresh-token", forced), { success: true, refreshed: true })
    answer()
    const { data, timestamp, type } = webhook as Readonly<Record<"data" | "timestamp" | "type", unknown>>
    assert.strictEqual(type, "connection.reauthorization_required")
    assert.deepStrictEqual(data, { userUlid, cause: "revoked", since: timestamp })
    const [shown = ""] = Pages.texts(page, "A webhook", "json")
    assert.deepStrictEqual(shape(JSON.parse(shown)), shape(webhook))
  })

  it("leave the program such that a signal ends it, with an event stream open", async () => {
    const stream = await fetch(`${settings.URL}/api/cal/events`, {
      headers: { authorization: `Bearer ${settings.KEY}` }
    })
    assert.strictEqual(stream.status, 200)
    program.process.kill("SIGTERM")
    assert.match(await stream.text(), /^retry: \d+\n/)
    assert.strictEqual(await program.exit, 0)
  })
})
