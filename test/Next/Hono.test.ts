/** The same handlers in a framework that is not Next, on a server of Node's, asked over real sockets. */
import type { AddressInfo } from "node:net"
import { type ServerType, serve } from "@hono/node-server"
import { assert, it } from "@effect/vitest"
import { Context, Effect, Exit, Layer, Option, Scope } from "effect"
import { Hono } from "hono"
import { getCookie } from "hono/cookie"
import * as CalTokens from "../../src/CalTokens.js"
import * as Next from "../../src/Next.js"
import * as Testing from "../../src/Testing.js"
import { UserUlid } from "../../src/Token.js"
import { recorder } from "../support/ActionsFakes.js"

const ada = UserUlid.make("01ARZ3NDEKTSV4RRFFQ69G5FAV")
const site = "http://app.test"

/** The app of somebody who has Hono. */
const appOf = (options: Omit<Next.Options, "user">) => {
  const app = new Hono()
  const routes = Next.make({
    ...options,
    user: (request) => /(?:^|; )user=(\w+)/.exec(request.headers.get("cookie") ?? "")?.[1]
  })
  app.post("/api/cal/connect", (c) => routes.connect(c.req.raw))
  app.get("/api/cal/callback", (c) => routes.callback(c.req.raw))
  app.all("/api/cal/me/*", (c) => routes.me(c.req.raw))
  app.post("/api/cal/sign-out", (c) => routes.signOut(c.req.raw))
  app.get("/", (c) => c.text(`hello ${getCookie(c, "user")}`))
  return { app, routes }
}

const listen = (app: Hono) =>
  new Promise<{ readonly server: ServerType; readonly url: string }>((resolve) => {
    const server = serve({ fetch: app.fetch, port: 0, hostname: "127.0.0.1" }, ({ port }: AddressInfo) =>
      resolve({ server, url: `http://127.0.0.1:${port}` })
    )
  })

it("connect a person, pass requests on and end sessions under Hono", async () => {
  const log = recorder()
  const scope = Effect.runSync(Scope.make())
  const services = await Testing.layerTest({
    oauth2: { ...Testing.demoOAuth2, redirectUris: [`${site}/api/cal/callback`] }
  }).pipe(Layer.provide(log.layer), Layer.build, Scope.extend(scope), Effect.runPromise)
  const { app, routes } = appOf({ layer: Layer.merge(Layer.succeedContext(services), log.layer) })
  const { server, url } = await listen(app)
  let cookie = `user=${ada}`
  const ask = (path: string, init: RequestInit = {}, headers: Record<string, string> = {}) =>
    fetch(url + path, { redirect: "manual", ...init, headers: { cookie, origin: site, ...headers } })

  const left = await ask("/api/cal/connect?returnTo=/settings", { method: "POST" })
  assert.strictEqual(left.status, 303)
  const [set = ""] = left.headers.getSetCookie()
  assert.match(set, /^cal-connect-\w{16}=1; Max-Age=600; Path=\/; HttpOnly; SameSite=Lax$/)
  cookie += `; ${set.split(";", 1)[0]}`
  const state = new URL(left.headers.get("location") ?? "").searchParams.get("state") ?? ""
  const code = await Effect.runPromise(Context.get(services, Testing.Sandbox).authorizationCode({ name: "Ada" }))
  const query = String(new URLSearchParams({ code, state }))
  const back = await fetch(`${url}/api/cal/callback?${query}`, { redirect: "manual", headers: { cookie } })
  assert.deepStrictEqual([back.status, back.headers.get("location")], [303, `${site}/settings`])
  const info = Effect.flatMap(CalTokens.CalTokens, (tokens) => tokens.info(ada))
  assert.isTrue(Option.isSome(await Effect.runPromise(Effect.provide(Effect.option(info), services))))

  const patched = await ask(
    "/api/cal/me/me",
    { method: "PATCH", body: JSON.stringify({ name: "Augusta" }) },
    { "content-type": "application/json" }
  )
  assert.strictEqual(patched.status, 200)
  assert.include(await patched.text(), "Augusta")
  const large = await ask("/api/cal/me/me", { method: "PATCH", body: "x".repeat(2 * 1024 * 1024) })
  assert.strictEqual(large.status, 413)
  const foreign = await ask("/api/cal/me/me", {}, { origin: "https://evil.example" })
  assert.strictEqual(foreign.status, 403)
  assert.deepStrictEqual(await (await ask("/api/cal/sign-out", { method: "POST" })).json(), { success: true })

  await new Promise((resolve) => server.close(resolve))
  await routes.dispose()
  await Effect.runPromise(Scope.close(scope, Exit.void))
})
