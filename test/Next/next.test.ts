/** The handlers of `cal-tokens/next`, as a framework calls them: a Web request in, a Web response out. */
import { AsyncLocalStorage } from "node:async_hooks"
import { FetchHttpClient } from "@effect/platform"
import { assert, describe, it, vi } from "@effect/vitest"
import { Context, Effect, Exit, Layer, Option, Redacted, Scope } from "effect"
import * as CalClient from "../../src/CalClient.js"
import * as HttpClients from "../../src/CalHttp/HttpClients.js"
import * as CalTokens from "../../src/CalTokens.js"
import * as FlowStorage from "../../src/FlowStorage.js"
import * as KeyRing from "../../src/KeyRing.js"
import * as Next from "../../src/Next.js"
import * as Sessions from "../../src/Sessions.js"
import * as Testing from "../../src/Testing.js"
import { UserUlid } from "../../src/Token.js"
import { TokenStorage } from "../../src/TokenStorage.js"
import { layerMemory } from "../../src/TokenStorage/Memory.js"
import { accessToken, fakes, recorder, valid } from "../support/ActionsFakes.js"

const ada = UserUlid.make("01ARZ3NDEKTSV4RRFFQ69G5FAV")
const ben = UserUlid.make("01BX5ZZKBKACTAV9WEVGEMMVRZ")
const app = "https://app.example.com"
const redirectUrl = `${app}/api/cal/callback`

type Services = Layer.Layer.Success<ReturnType<typeof Testing.layerTest>>

/** An app whose session is a header, and a browser that keeps cookies. */
const start = async (options: Partial<Next.Options> = {}, redirectUris: ReadonlyArray<string> = [redirectUrl]) => {
  const log = recorder()
  const scope = Effect.runSync(Scope.make())
  const services = await Testing.layerTest({
    oauth2: { ...Testing.demoOAuth2, redirectUris }
  }).pipe(Layer.provide(log.layer), Layer.build, Scope.extend(scope), Effect.runPromise)
  const routes = Next.make({
    layer: Layer.merge(Layer.succeedContext(services), log.layer),
    user: (request) => request.headers.get("x-user"),
    ...options
  })
  const sandbox = Context.get(services, Testing.Sandbox)
  const run = <A, E>(effect: Effect.Effect<A, E, Services>) =>
    Effect.runPromise(Effect.provide(effect, Layer.merge(Layer.succeedContext(services), log.layer)))

  /** Everything that any handler said, but for the one that answers with tokens. */
  const said: Array<string> = []
  const jar = new Map<string, string>()
  const ask = async (
    name: "atoms" | "callback" | "connect" | "me" | "signOut",
    path: string,
    { as, cookies = jar, headers = {}, ...init }: RequestInit & Asked = {}
  ) => {
    const request = new Request(`${app}/api/cal/${path}`, {
      ...init,
      headers: {
        "sec-fetch-site": "same-origin",
        cookie: [...cookies].map((pair) => pair.join("=")).join("; "),
        ...(as === undefined ? {} : { "x-user": as }),
        ...headers
      }
    })
    const response = await routes[name](request)
    const text = await response.text()
    if (name !== "atoms") said.push(JSON.stringify([...response.headers]), text)
    for (const cookie of response.headers.getSetCookie()) {
      const [, key = "", value = ""] = /^([^=]+)=([^;]*)/.exec(cookie) ?? []
      if (/Max-Age=0|1970/.test(cookie)) cookies.delete(key)
      else cookies.set(key, value)
    }
    const { headers: received, status } = response
    return { status, headers: received, text, json: () => JSON.parse(text) as Record<string, unknown> }
  }
  const connect = (as: string | undefined, query = "", asked: Asked = {}) =>
    ask("connect", `connect${query}`, { method: "POST", ...(as === undefined ? {} : { as }), ...asked })

  /** What Cal.com appends to the redirect URL when somebody allowed the access. */
  const consented = async (location: string | null, email = "ada@example.com") => {
    const state = new URL(location ?? "").searchParams.get("state") ?? ""
    const code = await Effect.runPromise(sandbox.authorizationCode({ email }))
    return `callback?${String(new URLSearchParams({ code, state }))}`
  }
  const info = (user: UserUlid) =>
    run(Effect.option(Effect.flatMap(CalTokens.CalTokens, (tokens) => tokens.info(user))))

  const stop = async () => {
    await routes.dispose()
    await Effect.runPromise(Scope.close(scope, Exit.void))
  }
  return { ask, connect, consented, info, jar, lines: log.lines, routes, run, said, sandbox, stop }
}

interface Asked {
  readonly as?: string
  readonly cookies?: Map<string, string>
  readonly headers?: Readonly<Record<string, string>>
}

const tokenOf = (user: UserUlid) =>
  Effect.map(
    Effect.flatMap(CalTokens.CalTokens, (tokens) => tokens.ensureValid(user)),
    ({ accessToken }) => Redacted.value(accessToken)
  )

describe("connect and callback", () => {
  it("take a person to Cal.com and back to where they wanted, connected", async () => {
    const { ask, connect, consented, info, jar, said, stop, run } = await start()
    const left = await connect(ada, "?returnTo=/settings?tab=1")
    assert.strictEqual(left.status, 303)
    const consent = new URL(left.headers.get("location") ?? "")
    assert.strictEqual(consent.searchParams.get("redirect_uri"), redirectUrl)
    const [cookie = ""] = left.headers.getSetCookie()
    assert.match(cookie, /^__Host-cal-connect-\w{16}=1; Max-Age=600; Path=\/; HttpOnly; Secure; SameSite=Lax$/)
    const back = await ask("callback", await consented(consent.href), {
      as: ada,
      headers: { "sec-fetch-site": "cross-site" }
    })
    assert.deepStrictEqual([back.status, back.headers.get("location")], [303, `${app}/settings?tab=1`])
    assert.strictEqual(jar.size, 0)
    assert.isTrue(Option.isSome(await info(ada)))
    const token = await run(tokenOf(ada))
    assert.isAbove(token.length, 20)
    for (const text of said) assert.notInclude(text, token)
    await stop()
  })

  it("connect again who has to, and the page may be loaded again", async () => {
    const { ask, connect, consented, info, run, sandbox, stop } = await start()
    const grant = await run(Testing.connectOAuth2(ada, { email: "ada@example.com" }))
    await Effect.runPromise(sandbox.revokeRefreshTokens(grant.calUserId))
    await Effect.runPromise(sandbox.expireAccessTokens(grant.calUserId))
    await run(Effect.option(Effect.flatMap(CalTokens.CalTokens, (it) => it.refresh(ada, { forceRefresh: true }))))
    assert.strictEqual(Option.getOrThrow(await info(ada)).status._tag, "ReauthorizationRequired")
    const callback = await consented((await connect(ada)).headers.get("location"))
    const back = await ask("callback", callback, { as: ada })
    assert.deepStrictEqual([back.status, back.headers.get("location")], [303, `${app}/`])
    assert.strictEqual(Option.getOrThrow(await info(ada)).status._tag, "Active")
    await stop()
  })

  it("are of use to nobody who was sent a link", async () => {
    const { ask, connect, consented, info, lines, stop } = await start()
    const callback = await consented((await connect(ada)).headers.get("location"))
    // Ben opens it, whose browser did not leave.
    const sent = await ask("callback", callback, { as: ben, cookies: new Map() })
    assert.strictEqual(sent.status, 400)
    assert.include(sent.text, "This link no longer works")
    assert.match(lines.at(-1)?.message ?? "", /in a browser that did not leave from here/)
    // Nothing was used up by that.
    assert.strictEqual((await ask("callback", callback, { as: ada })).headers.get("location"), `${app}/`)
    assert.isTrue(Option.isSome(await info(ada)) && Option.isNone(await info(ben)))
    await stop()
  })

  it("connect nobody but who left, whoever has the browser by now", async () => {
    const { ask, connect, consented, info, stop } = await start()
    const callback = await consented((await connect(ada)).headers.get("location"))
    const back = await ask("callback", callback, { as: ben })
    assert.deepStrictEqual([back.status, back.headers.get("location")], [303, `${app}/?calError=InvalidInput`])
    assert.isTrue(Option.isNone(await info(ada)) && Option.isNone(await info(ben)))
    await stop()
  })

  it("wait for who has to sign in first", async () => {
    const { ask, connect, consented, info, stop } = await start()
    const callback = await consented((await connect(ada)).headers.get("location"))
    const out = await ask("callback", callback)
    assert.strictEqual(out.status, 401)
    assert.include(out.text, "You are not signed in")
    assert.strictEqual((await ask("callback", callback, { as: ada })).status, 303)
    assert.isTrue(Option.isSome(await info(ada)))
    await stop()
  })

  it("tell why nobody was connected: who refuses on a page, the app by a code", async () => {
    const { ask, connect, consented, run, stop } = await start()
    const state =
      new URL((await connect(ada, "?returnTo=/calendar?a=1")).headers.get("location") ?? "").searchParams.get(
        "state"
      ) ?? ""
    const refused = await ask("callback", `callback?error=access_denied&state=${state}`, { as: ada })
    assert.strictEqual(refused.status, 403)
    assert.include(refused.text, "You did not allow the access")
    assert.include(refused.text, `<a href="${app}/calendar?a=1">Back to app.example.com</a>`)
    await run(Testing.connectOAuth2(ben, { email: "ada@example.com" }))
    const callback = await consented((await connect(ada, "?returnTo=/a?b=1")).headers.get("location"))
    const back = await ask("callback", callback, { as: ada })
    assert.strictEqual(back.headers.get("location"), `${app}/a?b=1&calError=CalAccountInUse`)
    await stop()
  })

  it("take an account over where the app says so", async () => {
    const { ask, connect, consented, run, stop } = await start({ replace: true })
    await run(Testing.connectOAuth2(ben, { email: "ada@example.com" }))
    const back = await ask("callback", await consented((await connect(ada)).headers.get("location")), { as: ada })
    assert.strictEqual(back.headers.get("location"), `${app}/`)
    const stored = await run(
      Effect.flatMap(TokenStorage, ({ find }) =>
        Effect.all([ada, ben].map((user) => Effect.map(find(user), Option.isSome)))
      )
    )
    assert.deepStrictEqual(stored, [true, false])
    await stop()
  })

  it.each(["https://evil.example/", "//evil.example@x", "/\\evil.example", "/a/%2e%2e/b", "/?completion=1", "app"])(
    "send nobody back to %s",
    async (returnTo) => {
      const { connect, stop } = await start()
      const answer = await connect(ada, `?${String(new URLSearchParams({ returnTo }))}`)
      assert.deepInclude(answer.json(), { code: "InvalidInput" })
      assert.deepStrictEqual([answer.status, answer.headers.get("set-cookie")], [400, null])
      await stop()
    }
  )

  it("are not begun by looking ahead, by GET, or by nobody", async () => {
    const { ask, connect, consented, info, stop } = await start()
    assert.deepInclude((await connect(undefined)).json(), { code: "Unauthorized" })
    const got = await ask("connect", "connect", { as: ada })
    assert.deepStrictEqual([got.status, got.headers.get("allow")], [405, "POST"])
    const callback = await consented((await connect(ada)).headers.get("location"))
    const ahead = await ask("callback", callback, { as: ada, headers: { "sec-purpose": "prefetch" } })
    assert.strictEqual(ahead.status, 503)
    assert.strictEqual((await ask("callback", callback, { as: ada, method: "HEAD" })).status, 200)
    assert.isTrue(Option.isNone(await info(ada)))
    await stop()
  })
})

describe("an app that is open under another host than the one that Cal.com leads back to", () => {
  const person = { accept: "text/html" }
  const isolated = async (options: Partial<Next.Options>, redirect: string, origin: string, more = {}) => {
    const world = await start(options, [redirect])
    world.lines.length = 0
    const answer = await world.connect(ada, "", { headers: { origin, ...more } })
    return { ...world, answer }
  }

  it.each([
    ["http://localhost:3000/api/cal/callback", "http://127.0.0.1:3000", "http://localhost:3000"],
    ["http://localhost:3000/api/cal/callback", "http://localhost:3001", "http://localhost:3000"],
    [redirectUrl, "https://www.example.com", app],
    [redirectUrl, "http://app.example.com", app]
  ])("%s: is told so before anybody leaves from %s", async (redirect, origin, expected) => {
    const { answer, connect, jar, lines, stop } = await isolated({}, redirect, origin)
    assert.deepStrictEqual([answer.status, answer.json()["code"]], [403, "Forbidden"])
    assert.match(String(answer.json()["error"]), /under another host .* open it under that of CAL_OAUTH_REDIRECT_URL/)
    const read = await connect(undefined, "", { headers: { origin, ...person } })
    assert.deepStrictEqual([read.status, read.headers.get("content-type")], [403, "text/html; charset=utf-8"])
    assert.include(read.text, `<a href="${expected}">`)
    assert.strictEqual(jar.size, 0)
    assert.deepStrictEqual(
      lines.map(({ annotations: { code, ...it } }) => [code, it["origin"], it["expected"], it["operation"]]),
      Array.from({ length: 2 }, () => ["Forbidden", origin, expected, "connect"])
    )
    await stop()
  })

  it("is told otherwise where that is the callback of the HTTP service", async () => {
    const service = "https://tokens.example.com/cal/api/cal/oauth/callback"
    const { answer, connect, lines, stop } = await isolated({}, service, app)
    assert.strictEqual(answer.status, 403)
    assert.match(
      String(answer.json()["error"]),
      /callback of the HTTP service.* set CAL_OAUTH_REDIRECT_URL .* to where the app/
    )
    const read = await connect(ada, "", { headers: { origin: app, ...person } })
    assert.strictEqual(read.status, 403)
    assert.include(read.text, "its redirect URL is the callback of another service")
    assert.notInclude(read.text, "tokens.example.com")
    assert.lengthOf(lines, 2)
    for (const { annotations } of lines) {
      assert.deepInclude(annotations, { origin: app, expected: "https://tokens.example.com" })
    }
    await stop()
  })

  it.each([
    ["its own", {}, redirectUrl, app],
    ["none that is told", {}, redirectUrl, "null"],
    ["its own, where the callback is the HTTP service's path", {}, `${app}/api/cal/oauth/callback`, app],
    [
      "a port that it says",
      { origin: "http://localhost:5173" },
      "http://localhost:3000/callback",
      "http://localhost:5173"
    ]
  ])("is another thing than %s", async (_, options, redirect, origin) => {
    const { answer, stop } = await isolated(options, redirect, origin)
    assert.strictEqual(answer.status, 303)
    await stop()
  })

  it("is not mended by an origin that says so", async () => {
    const origin = "https://www.example.com"
    const { answer, stop } = await isolated({ origin }, redirectUrl, origin)
    assert.strictEqual(answer.status, 403)
    await stop()
  })
})

describe("somebody whose session is over", () => {
  it.each([
    ["sent a plain form", { "sec-fetch-dest": "document" }],
    [
      "has an old browser",
      { accept: "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8", "sec-fetch-site": "same-origin" }
    ]
  ])("reads on a page what to do who %s", async (_, headers) => {
    const { ask, connect, stop } = await start()
    const out = await connect(undefined, "?returnTo=/settings", { headers })
    assert.deepStrictEqual([out.status, out.headers.get("content-type")], [401, "text/html; charset=utf-8"])
    assert.include(out.text, "Sign in to the app you came from, then connect again.")
    assert.include(out.text, `<a href="${app}">`)
    assert.isNull(out.headers.get("set-cookie"))
    assert.strictEqual((await connect(ada, "", { headers })).status, 303)
    // Not on the way from another site.
    const foreign = { headers: { ...headers, origin: "https://evil.example", "sec-fetch-site": "cross-site" } }
    assert.deepInclude((await ask("connect", "connect", { method: "POST", ...foreign })).json(), { code: "Forbidden" })
    await stop()
  })

  it.each([{}, { accept: "*/*", "sec-fetch-dest": "empty" }, { accept: "application/json" }])(
    "is told in JSON, by a program: %o",
    async (headers) => {
      const { connect, stop } = await start()
      const out = await connect(undefined, "", { headers })
      assert.deepStrictEqual([out.status, out.json()["code"]], [401, "Unauthorized"])
      await stop()
    }
  )
})

describe("the address of who asks", () => {
  const trail = async (options: Partial<Next.Options>, headers: Readonly<Record<string, string>> = {}) => {
    const { ask, lines, run, stop } = await start(options)
    await run(Testing.connectOAuth2(ada))
    const { status } = await ask("signOut", "sign-out", { as: ada, method: "POST", headers })
    assert.strictEqual(status, 200)
    const line = lines.find(({ annotations }) => annotations["event.name"] === "sessions.ended")
    await stop()
    return { annotations: line?.annotations ?? assert.fail("no line"), lines }
  }
  const address = (request: Request) => request.headers.get("x-real-ip")

  it("is no part of the audit trail unless the app tells it", async () => {
    assert.notProperty((await trail({})).annotations, "client.address")
    const { annotations } = await trail({ address }, { "x-forwarded-for": "192.0.2.1" })
    assert.notProperty(annotations, "client.address")
  })

  it.each([
    ["192.0.2.1", "192.0.2.1"],
    ["::ffff:192.0.2.1", "192.0.2.1"],
    ["[2001:db8::1]:443", "2001:db8::1"]
  ])("is as the app tells it: %s", async (told, expected) => {
    const { annotations } = await trail({ address }, { "x-real-ip": told })
    assert.strictEqual(annotations["client.address"], expected)
  })

  it("is nothing that is no address", async () => {
    for (const told of ["", "secret", "192.0.2.1, 192.0.2.2", "192.0.2.1 x"]) {
      const { annotations, lines } = await trail({ address }, { "x-real-ip": told })
      assert.notProperty(annotations, "client.address")
      assert.notInclude(JSON.stringify(lines), "secret")
    }
  })

  it("is asked for where the app's own context is, and what that fails with is logged", async () => {
    const context = new AsyncLocalStorage<string>()
    const { annotations } = await context.run("192.0.2.7", () => trail({ address: () => context.getStore() }))
    assert.strictEqual(annotations["client.address"], "192.0.2.7")
    const failed = await trail({
      address: () => {
        throw new Error("secret")
      }
    })
    assert.notProperty(failed.annotations, "client.address")
    const words = failed.lines.map(({ message }) => message).join("\n")
    assert.match(words, /^address failed: Error/m)
    assert.notInclude(words, "secret")
  })

  it("has limits of its own", async () => {
    const { ask, stop } = await start({ address })
    const once = async (address: string) =>
      (await ask("me", "me/me", { headers: { authorization: "Bearer unknown", "x-real-ip": address } })).status
    const codes = new Set<number>()
    for (let i = 0; i <= 60; i++) codes.add(await once("192.0.2.1"))
    assert.deepStrictEqual([...codes], [401, 429])
    assert.strictEqual(await once("192.0.2.2"), 401)
    await stop()
  })
})

describe("an OAuth2 client without a redirect URL", () => {
  it("is told to whoever wants to connect, and in the log, whatever the browser says of itself", async () => {
    const { connect, lines, stop } = await start({}, [])
    for (const headers of [{}, { origin: app, "sec-fetch-site": "" }]) {
      const answer = await connect(ada, "", { headers })
      assert.deepStrictEqual([answer.status, answer.json()["code"]], [502, "CalClientMisconfigured"])
      assert.include(String(answer.json()["error"]), "CAL_OAUTH_REDIRECT_URL is not set")
      assert.match(lines.at(-1)?.message ?? "", /CAL_OAUTH_REDIRECT_URL is not set/)
    }
    await stop()
  })

  it("is named in the log where no page can be told from others", async () => {
    const { ask, lines, stop } = await start({}, [])
    const answer = await ask("signOut", "sign-out", {
      as: ada,
      method: "POST",
      headers: { origin: app, "sec-fetch-site": "" }
    })
    assert.strictEqual(answer.status, 403)
    const { expected, origin } = lines.at(-1)?.annotations ?? {}
    assert.strictEqual(origin, app)
    assert.match(String(expected), /^none is known: CAL_OAUTH_REDIRECT_URL is not set, and Next\.make/)
    await stop()
  })

  it("is another thing than none at all", async () => {
    const { layer } = fakes({})
    const services = Layer.mergeAll(
      layer,
      Layer.orDie(CalClient.layer({ apiUrl: "https://api.cal.com/v2" })).pipe(
        Layer.provide(HttpClients.layerBoth(FetchHttpClient.layer))
      ),
      FlowStorage.layerMemory,
      KeyRing.layerEphemeral,
      layerMemory
    )
    const routes = Next.make({ layer: services, user: () => ada })
    const headers = { "sec-fetch-site": "same-origin" }
    const answer = await routes.connect(new Request(`${app}/api/cal/connect`, { method: "POST", headers }))
    assert.include(await answer.text(), "CAL_OAUTH_CLIENT_ID is not set")
    await routes.dispose()
  })
})

describe("requests of other sites", () => {
  it.each([
    ["names its origin", { origin: "https://evil.example", "sec-fetch-site": "cross-site" }],
    ["is of a sibling", { origin: "https://other.example.com", "sec-fetch-site": "same-site" }],
    ["comes from an old browser", { origin: "https://evil.example", "sec-fetch-site": "" }],
    ["names none", { "sec-fetch-site": "cross-site" }]
  ])("are refused where the page %s", async (_, headers) => {
    const { ask, lines, run, sandbox, stop } = await start()
    await run(Testing.connectOAuth2(ada))
    const before = (await Effect.runPromise(sandbox.calls)).length
    for (const [name, path, method] of [
      ["connect", "connect", "POST"],
      ["me", "me/bookings", "POST"],
      ["me", "me/bookings", "GET"],
      ["atoms", "atoms/refresh", "GET"],
      ["signOut", "sign-out", "POST"]
    ] as const) {
      const sent = Object.fromEntries(Object.entries(headers).filter(([, value]) => value !== ""))
      const { json, status } = await ask(name, path, {
        as: ada,
        method,
        headers: { "sec-fetch-site": "none", ...sent }
      })
      assert.deepStrictEqual([name, status, json()["code"]], [name, 403, "Forbidden"])
      assert.deepInclude(lines.at(-1)?.annotations, {
        code: "Forbidden",
        origin: sent.origin ?? "cross-site",
        expected: app
      })
    }
    assert.strictEqual((await Effect.runPromise(sandbox.calls)).length, before)
    await stop()
  })

  it("are known by the origin alone where a browser says no more", async () => {
    const { ask, stop } = await start()
    const answer = await ask("signOut", "sign-out", {
      as: ada,
      method: "POST",
      headers: { origin: app, "sec-fetch-site": "same-site" }
    })
    assert.strictEqual(answer.status, 200)
    await stop()
  })
})

describe("me", () => {
  it("is Cal.com's API as the user who is signed in, and no token is in its answers", async () => {
    const { ask, run, said, stop } = await start()
    await run(Testing.connectOAuth2(ada, { name: "Ada" }))
    const answer = await ask("me", "me/me?x=1", { as: ada })
    assert.strictEqual(answer.status, 200)
    assert.include(answer.text, `"name":"Ada"`)
    assert.match(answer.headers.get("content-security-policy") ?? "", /sandbox/)
    assert.deepStrictEqual(
      ["cache-control", "x-content-type-options", "set-cookie"].map((name) => answer.headers.get(name)),
      ["no-store", "nosniff", null]
    )
    const token = await run(tokenOf(ada))
    for (const text of said) assert.notInclude(text, token)
    await stop()
  })

  it("passes bodies on, and refuses those that are too large", async () => {
    const { ask, run, sandbox, stop } = await start()
    await run(Testing.connectOAuth2(ada))
    const patched = await ask("me", "me/me", {
      as: ada,
      method: "PATCH",
      headers: { "content-type": "application/json", origin: app },
      body: JSON.stringify({ name: "Augusta" })
    })
    assert.strictEqual(patched.status, 200, patched.text)
    assert.include(patched.text, "Augusta")
    const before = (await Effect.runPromise(sandbox.calls)).length
    const large = await ask("me", "me/me", { as: ada, method: "PATCH", body: "x".repeat(1024 * 1024 + 1) })
    assert.deepStrictEqual([large.status, large.json()["code"]], [413, "InvalidInput"])
    assert.strictEqual((await Effect.runPromise(sandbox.calls)).length, before)
    await stop()
  })

  it("leads nowhere but to Cal.com's API, and within it where the app allows it", async () => {
    const { ask, run, stop } = await start({ me: { methods: ["GET"], paths: ["/bookings"] } })
    await run(Testing.connectOAuth2(ada))
    const codes = async (path: string, method = "GET") => {
      const { json, status } = await ask("me", path, { as: ada, method })
      return [status, json()["code"]]
    }
    assert.deepStrictEqual(await codes("me/me"), [403, "Forbidden"])
    assert.deepStrictEqual(await codes("me/bookings", "POST"), [403, "Forbidden"])
    assert.strictEqual((await ask("me", "me/bookings", { as: ada })).status, 200)
    assert.deepStrictEqual(await codes("me/auth/oauth2/token"), [400, "InvalidInput"])
    assert.deepStrictEqual(await codes("me/%2e%2e%2fbookings"), [400, "InvalidInput"])
    assert.deepStrictEqual(await codes("elsewhere?at=/api/cal/me/bookings"), [404, "NotFound"])
    assert.deepStrictEqual((await ask("me", "me/bookings")).json()["code"], "Unauthorized")
    await stop()
  })

  it("takes a user session, within that session's rules, until it is ended", async () => {
    const { ask, run, stop } = await start({ me: { paths: ["/nothing"] } })
    await run(Testing.connectOAuth2(ada))
    const { session } = await run(
      Effect.flatMap(Sessions.Sessions, (sessions) => sessions.create(ada, { paths: ["/bookings"] }))
    )
    const authorization = `Bearer ${Redacted.value(session)}`
    const by = (path: string) => ask("me", path, { headers: { authorization } })
    assert.deepStrictEqual([(await by("me/bookings")).status, (await by("me/me")).status], [200, 403])
    // Not whoever is signed in besides.
    const wrong = await ask("me", "me/nothing", { as: ada, headers: { authorization: "Bearer x" } })
    assert.strictEqual(wrong.status, 401)
    const out = await ask("signOut", "sign-out?returnTo=/bye", { as: ada, method: "POST" })
    assert.deepStrictEqual([out.status, out.headers.get("location")], [303, `${app}/bye`])
    assert.strictEqual((await by("me/bookings")).status, 401)
    await stop()
  })

  it("breaks off what breaks off at Cal.com, at once or in the middle", async () => {
    const log = recorder()
    const beginnings = ["", "the first half"]
    const { layer } = fakes({ ensureValid: () => Effect.succeed(valid(accessToken)) }, () => {
      const beginning = beginnings.shift() ?? ""
      const body = new ReadableStream({
        start: (controller) => controller.enqueue(new TextEncoder().encode(beginning)),
        pull: (controller) => controller.error(new Error("reset"))
      })
      return new Response(body, beginning === "" ? { headers: { "content-length": "10" } } : {})
    })
    const routes = Next.make({
      user: () => ada,
      layer: Layer.mergeAll(
        layer,
        Layer.orDie(CalClient.layer({ apiUrl: "https://api.cal.com/v2" })).pipe(
          Layer.provide(HttpClients.layerBoth(FetchHttpClient.layer))
        ),
        layerMemory,
        FlowStorage.layerMemory,
        KeyRing.layerEphemeral
      ).pipe(Layer.provideMerge(log.layer))
    })
    for (const expected of [0, 1]) {
      const response = await routes.me(new Request(`${app}/api/cal/me/bookings`))
      const end = await response.text().then(
        (text) => `whole: ${text}`,
        () => "broken off"
      )
      assert.deepStrictEqual([response.status, end, beginnings.length], [200, "broken off", 1 - expected])
    }
    assert.deepStrictEqual(
      log.lines.filter(({ level }) => level === "WARN").map(({ message }) => message),
      ["Cal.com's answer was cut: it broke off", "Cal.com's answer was cut: it broke off"]
    )
    await routes.dispose()
  })
})

describe("atoms", () => {
  it("give the user a token for their last one, and nobody else", async () => {
    const { ask, connect, consented, run, stop } = await start()
    await run(Testing.connectOAuth2(ben))
    await ask("callback", await consented((await connect(ada)).headers.get("location")), { as: ada })
    const held = await run(tokenOf(ada))
    await run(Effect.flatMap(CalTokens.CalTokens, (tokens) => tokens.refresh(ada, { forceRefresh: true })))
    const headers = { authorization: `Bearer ${held}` }
    for (const as of [undefined, ben]) {
      const refused = await ask("atoms", "atoms/refresh", { headers, ...(as === undefined ? {} : { as }) })
      assert.deepInclude(refused.json(), { accessToken: "", success: false, code: "Unauthorized" })
      assert.strictEqual(refused.status, 401)
    }
    const renewed = await ask("atoms", "atoms/refresh", { as: ada, headers })
    assert.strictEqual(renewed.status, 200, renewed.text)
    assert.deepStrictEqual(renewed.json(), { accessToken: await run(tokenOf(ada)) })
    await stop()
  })
})

describe("the app's own function", () => {
  it("that fails is told in the log, and not to the browser", async () => {
    const { ask, lines, stop } = await start({ user: () => Promise.reject(new Error("the session store is down")) })
    const answer = await ask("me", "me/bookings")
    assert.deepInclude(answer.json(), { code: "Unauthorized" })
    assert.notInclude(answer.text, "session store")
    assert.isTrue(lines.some(({ message }) => message.startsWith("user failed: Error")))
    await stop()
  })

  it("that names no user is a fault of the app", async () => {
    const { ask, stop } = await start({ user: () => "ada" })
    assert.deepInclude((await ask("me", "me/bookings")).json(), { code: "InvalidInput" })
    await stop()
  })

  it("sees the request in the caller's own context", async () => {
    const seen: Array<string> = []
    const { ask, stop } = await start({
      user: ({ url }) => {
        seen.push(new URL(url).pathname)
        return undefined
      }
    })
    await ask("signOut", "sign-out", { method: "POST" })
    assert.deepStrictEqual(seen, ["/api/cal/sign-out"])
    await stop()
  })
})

it("a layer that cannot be built answers 503, and so does one that was disposed of", async () => {
  // Nothing was built that could log elsewhere.
  const console = vi.spyOn(globalThis.console, "log").mockImplementation(() => {})
  const log = recorder()
  const routes = Next.make({
    user: () => ada,
    layer: Layer.fail("no database").pipe(Layer.merge(Testing.layerTest()), Layer.provideMerge(log.layer))
  })
  const ask = () => routes.signOut(new Request(`${app}/api/cal/sign-out`, { method: "POST" }))
  const failed = await ask()
  assert.strictEqual(failed.status, 503)
  assert.deepInclude(await failed.json(), { success: false, code: "StartFailed" })
  const atoms = await routes.atoms(new Request(`${app}/api/cal/atoms/refresh`))
  assert.deepInclude(await atoms.json(), { accessToken: "", success: false, code: "StartFailed" })
  await routes.dispose()
  const stopped = await ask()
  assert.deepStrictEqual(
    [stopped.status, ((await stopped.json()) as { readonly code: string }).code],
    [503, "ShuttingDown"]
  )
  assert.include(String(console.mock.calls[0]), "signOut failed: no database")
  console.mockRestore()
})

it.each(["atoms", "callback"] as const)("%s builds nothing where Next breaks off a prerender", async (name) => {
  let builds = 0
  let asked = 0
  const layer = Layer.unwrapEffect(
    Effect.sync(() => {
      builds++
      return Testing.layerTest()
    })
  )
  const user = () => {
    asked++
    return ada
  }
  const routes = Next.make({ user, layer })
  // As Next hands it to a route while it builds: what depends on the request throws.
  const ended = new Error("couldn't be rendered statically because it used `request.headers`")
  const request = new Proxy(new Request(`${app}/api/cal/${name}`), {
    get: (target, key) => {
      if (key === "headers" || key === "url") throw ended
      return Reflect.get(target, key, target) as unknown
    }
  })
  const outcome = await routes[name](request).catch((error: unknown) => error)
  assert.strictEqual(outcome, ended)
  assert.deepStrictEqual([builds, asked], [0, 0])
  await routes[name](new Request(`${app}/api/cal/${name}`))
  assert.deepStrictEqual([builds, asked], [1, 1])
  await routes.dispose()
})

it.each([
  [{ origin: "app.example.com" }, "origin of Next.make must be an URL, such as https://app.example.com"],
  [{ returnUrls: ["/settings"] }, "returnUrls of Next.make must be an URL, such as https://app.example.com"]
])("options that make no sense are told in the log: %j", async (options, words) => {
  const console = vi.spyOn(globalThis.console, "log").mockImplementation(() => {})
  const { ask, stop } = await start(options)
  const answer = await ask("signOut", "sign-out", { as: ada, method: "POST" })
  assert.deepInclude(answer.json(), { code: "StartFailed" })
  assert.include(String(console.mock.calls[0]), `signOut failed: ${words}`)
  console.mockRestore()
  await stop()
})

describe("revalidating", () => {
  const words = [
    'Route "/calendar": `revalidatePath("/calendar")` can\'t be called during render. Call it from a Server Action instead.',
    'Route /calendar used "revalidatePath /calendar" during render which is unsupported.'
  ]

  it.each(words)("waits until a page is sent: %s", (message) => {
    const tasks: Array<() => void> = []
    const paths: Array<string> = []
    let isRendering = true
    const revalidate = Next.revalidating({
      after: (task) => void tasks.push(task),
      revalidatePath: (path) => {
        if (isRendering) throw new Error(message)
        paths.push(path)
      }
    })
    revalidate(["/a", "/b"])
    isRendering = false
    tasks.forEach((task) => task())
    assert.deepStrictEqual([tasks.length, paths], [1, ["/a", "/b"]])
  })

  it("does it at once elsewhere, and hides no other error", () => {
    const paths: Array<string> = []
    const after = () => assert.fail("not needed")
    Next.revalidating({ after, revalidatePath: (path) => void paths.push(path) })(["/a"])
    assert.deepStrictEqual(paths, ["/a"])
    const broken = Next.revalidating({
      after,
      revalidatePath: () => {
        throw new Error("Invariant: static generation store missing in revalidatePath /a")
      }
    })
    assert.throws(() => broken(["/a"]), /store missing/)
  })
})
