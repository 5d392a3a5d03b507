/** The simulator on a port, by Node's own server: for tests without any package but this one. */
import * as Http from "node:http"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Redacted, Scope, TestClock } from "effect"
import { Fault, layer, listen, Sandbox } from "../../src/Sandbox.js"
import * as Listener from "../../src/Sandbox/Listener.js"
import { C, options, secret } from "../support/SandboxWorld.js"

interface Arrived {
  readonly status: number
  readonly headers: Http.IncomingHttpHeaders
  readonly text: string
  /** What broke the connection, if anything did. */
  readonly broken?: string
}

/** One request on a connection of its own. */
const ask = (url: string, init: Http.RequestOptions = {}, body = "") =>
  Effect.async<Arrived>((resume) => {
    const code = (error: Error) => ("code" in error ? String(error.code) : error.name)
    const request = Http.request(url, { ...init, agent: false }, (response) => {
      const { headers, statusCode: status = 0 } = response
      let text = ""
      response.setEncoding("utf8").on("data", (chunk: string) => (text += chunk))
      response.on("error", (error) => resume(Effect.succeed({ status, headers, text, broken: code(error) })))
      response.on("end", () => resume(Effect.succeed({ status, headers, text })))
    })
    request.on("error", (error) => resume(Effect.succeed({ status: 0, headers: {}, text: "", broken: code(error) })))
    request.end(body)
  })

const refresh = (url: string, refreshToken: Redacted.Redacted) =>
  ask(
    `${url}/v2/oauth/${C}/refresh`,
    { method: "POST", headers: { "content-type": "application/json", "x-cal-secret-key": secret } },
    JSON.stringify({ refreshToken: Redacted.value(refreshToken) })
  )

describe("listen", () => {
  it.scopedLive("serves on a free port of this machine, whatever the method", () =>
    Effect.gen(function* () {
      const sandbox = yield* Sandbox
      const url = yield* listen()
      assert.match(url, /^http:\/\/127\.0\.0\.1:\d+$/)
      const { accessToken, calUserId, refreshToken } = yield* sandbox.grantManaged({ name: "Zoë" })
      const me = yield* ask(`${url}/v2/me`, { headers: { authorization: `Bearer ${Redacted.value(accessToken)}` } })
      assert.strictEqual(me.status, 200)
      const { data } = JSON.parse(me.text) as { readonly data: { readonly id: number; readonly name: string } }
      assert.deepInclude(data, { id: calUserId, name: "Zoë" })
      assert.strictEqual((yield* refresh(url, refreshToken)).status, 200)
      const preflight = yield* ask(`${url}/v2/me`, { method: "OPTIONS" })
      assert.strictEqual(preflight.status, 204)
      assert.notProperty(preflight.headers, "content-length")
      assert.strictEqual((yield* ask(`${url}/_control/state?x=1`)).status, 200)
      assert.strictEqual((yield* ask(`${url}/api/v2/nothing`)).status, 404)
    }).pipe(Effect.provide(layer(options)))
  )

  it.scopedLive("counts addresses as Cal.com does", () =>
    Effect.gen(function* () {
      const url = yield* listen()
      const asks = Effect.map(ask(`${url}/v2/provider/${C}`), ({ status }) => status)
      assert.deepStrictEqual(yield* Effect.all([asks, asks, asks]), [200, 200, 429])
    }).pipe(
      Effect.provide(
        layer({
          ...options,
          switches: {
            rateLimits: {
              enabled: true,
              accessToken: 500,
              client: 500,
              ip: 2,
              window: "60 seconds",
              block: "60 seconds"
            }
          }
        })
      )
    )
  )

  for (const [name, fault, isSpent] of [
    ["before Cal.com did anything", Fault.dropBefore(), false],
    ["after Cal.com did it", Fault.dropAfter(), true],
    ["as if nobody listened", Fault.refuseConnection(), false]
  ] as const) {
    it.scopedLive(`breaks the connection ${name}`, () =>
      Effect.gen(function* () {
        const sandbox = yield* Sandbox
        const url = yield* listen()
        const { refreshToken } = yield* sandbox.grantManaged()
        yield* sandbox.inject(fault)
        const { broken, status } = yield* refresh(url, refreshToken)
        assert.deepStrictEqual([status, broken], [0, "ECONNRESET"])
        assert.strictEqual(!(yield* sandbox.isLive(refreshToken)), isSpent)
        assert.strictEqual((yield* ask(`${url}/_control/state`)).status, 200)
      }).pipe(Effect.provide(layer(options)))
    )
  }

  it.scopedLive.each([0, 100])("breaks the connection after %d bytes of an answer", (at) =>
    Effect.gen(function* () {
      const sandbox = yield* Sandbox
      const url = yield* listen()
      const { refreshToken } = yield* sandbox.grantManaged()
      yield* sandbox.inject(Fault.odd("cut", { at }))
      const { broken, status, text } = yield* refresh(url, refreshToken)
      assert.deepStrictEqual([status, text.length, broken], [200, at, "ECONNRESET"])
      assert.isFalse(yield* sandbox.isLive(refreshToken))
    }).pipe(Effect.provide(layer(options)))
  )

  it.scoped("goes on when the caller hangs up", () =>
    Effect.gen(function* () {
      const sandbox = yield* Sandbox
      const { refreshToken } = yield* sandbox.grantManaged()
      yield* sandbox.inject(Fault.delayBefore("10 seconds"))
      const arrived = yield* Deferred.make<void>()
      const hungUp = yield* Deferred.make<void>()
      const url = yield* Listener.listen(Effect.zipRight(Deferred.succeed(arrived, undefined), sandbox.app))
      const request = Http.request(`${url}/v2/oauth/${C}/refresh`, {
        agent: false,
        method: "POST",
        headers: { "content-type": "application/json", "x-cal-secret-key": secret }
      })
      request.on("error", () => Deferred.unsafeDone(hungUp, Effect.void))
      request.end(JSON.stringify({ refreshToken: Redacted.value(refreshToken) }))
      yield* Deferred.await(arrived)
      request.destroy()
      yield* Deferred.await(hungUp)
      assert.isTrue(yield* sandbox.isLive(refreshToken))
      yield* TestClock.adjust("10 seconds")
      assert.isFalse(yield* sandbox.isLive(refreshToken))
      assert.strictEqual((yield* sandbox.calls)[0]?.status, 200)
    }).pipe(Effect.provide(layer(options)))
  )

  it.scopedLive("says why it cannot, and gives the port back when it is closed", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const url = yield* Scope.extend(listen(), scope)
      const port = Number(new URL(url).port)
      const error = yield* Effect.flip(listen({ port }))
      assert.strictEqual(error.message, `The sandbox cannot listen on 127.0.0.1:${port} (EADDRINUSE)`)
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(yield* listen({ port }), url)
    }).pipe(Effect.provide(layer(options)))
  )
})
