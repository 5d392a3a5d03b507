/** What the log is told of a Cal.com that was not reached: which address was tried, and what set it. Callers are not. */
import * as Http from "node:http"
import type { AddressInfo } from "node:net"
import { inspect } from "node:util"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Redacted } from "effect"
import * as CalClient from "../../src/CalClient.js"
import * as NodeHttp from "../../src/CalHttp/Node.js"
import * as Proxies from "../../src/CalHttp/Proxies.js"
import * as Tried from "../../src/CalHttp/Tried.js"
import * as OtherHttp from "../support/OtherHttp.js"
import { freePort } from "../support/Ports.js"

/** Why a refresh failed at such a Cal.com, and what the log is told besides. */
const failing = (apiUrl: string, proxies: Proxies.Options = {}, http = NodeHttp.layerTokenHttp) =>
  Effect.flatMap(CalClient.CalClient, (client) =>
    client.refresh({ _tag: "ManagedUser", clientId: "C", calUserId: 7 }, Redacted.make("SECRET-token"))
  ).pipe(
    Effect.flip,
    Effect.map(({ error }) => ({ message: error.message, said: inspect(error), fields: Tried.fieldsOf(error) })),
    Effect.provide(
      CalClient.layer({ apiUrl, managed: { clientId: "C", clientSecret: Redacted.make("SECRET-of-C") } }).pipe(
        Layer.provide(Layer.fresh(http)),
        Layer.provide(Layer.succeed(Proxies.Proxies, proxies))
      )
    )
  )

/** A server without TLS that answers nothing of use. */
const plain = Effect.acquireRelease(
  Effect.async<Http.Server>((resume) => {
    const server = Http.createServer((request) => request.socket.destroy())
    server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
  }),
  (server) => Effect.sync(() => server.close())
).pipe(Effect.map((server) => (server.address() as AddressInfo).port))

const closed = Effect.promise(freePort)

describe("an address that was tried in vain is told", () => {
  it.live("of a port where nobody listens", () =>
    Effect.gen(function* () {
      const port = yield* closed
      for (const http of [NodeHttp.layerTokenHttp, OtherHttp.fetch]) {
        const { fields, message, said } = yield* failing(`http://127.0.0.1:${port}/v2`, {}, http)
        assert.include(message, "(refresh: connection refused)")
        assert.notInclude(`${message} ${said}`, String(port))
        assert.deepStrictEqual(fields, {
          "server.address": "127.0.0.1",
          "server.port": port,
          tried: `http://127.0.0.1:${port} (set by apiUrl)`
        })
      }
    })
  )

  it.live("of a host that there is not, without what else its URL holds", () =>
    Effect.gen(function* () {
      const { fields, message, said } = yield* failing("https://me:SECRET@api.cal.invalid/v2?key=SECRET")
      assert.match(message, /\(refresh: (host not found|name resolution failed)\)/)
      assert.notInclude(`${message} ${said}`, "invalid")
      assert.deepStrictEqual(fields, {
        "server.address": "api.cal.invalid",
        "server.port": 443,
        tried: "https://api.cal.invalid (set by apiUrl)"
      })
    })
  )

  it.scopedLive("of a server without TLS", () =>
    Effect.gen(function* () {
      const port = yield* plain
      const { fields } = yield* failing(`https://127.0.0.1:${port}/v2`)
      assert.deepStrictEqual(fields, {
        "server.address": "127.0.0.1",
        "server.port": port,
        tried: `https://127.0.0.1:${port} (set by apiUrl)`
      })
    })
  )

  it.live("with the proxy that was to lead there, without its credentials", () =>
    Effect.gen(function* () {
      const [http, https] = [yield* closed, yield* closed]
      const proxyAt = (port: number) => Redacted.make(`http://SECRET-user:SECRET-password@127.0.0.1:${port}`)
      const proxies = { httpProxy: proxyAt(http), httpsProxy: proxyAt(https) }
      for (const [apiUrl, options, through] of [
        ["http://api.cal.invalid", proxies, `http://127.0.0.1:${http} (set by httpProxy)`],
        ["https://api.cal.invalid", proxies, `http://127.0.0.1:${https} (set by httpsProxy)`],
        ["https://api.cal.invalid", { httpProxy: proxyAt(http) }, `http://127.0.0.1:${http} (set by httpProxy)`]
      ] as const) {
        const { fields, message, said } = yield* failing(apiUrl, options)
        assert.include(message, "through the proxy: connection refused")
        assert.notMatch(`${message} ${said}`, /127\.0\.0\.1|invalid/)
        assert.strictEqual(fields["tried"], `${apiUrl} (set by apiUrl) through the proxy ${through}`)
        assert.strictEqual(fields["server.address"], "api.cal.invalid")
        assert.notInclude(JSON.stringify(fields), "SECRET")
      }
      // This machine is reached directly.
      const port = yield* closed
      const { fields } = yield* failing(`http://127.0.0.1:${port}`, proxies)
      assert.strictEqual(fields["tried"], `http://127.0.0.1:${port} (set by apiUrl)`)
    })
  )

  it.scopedLive("of no server that was reached", () =>
    Effect.gen(function* () {
      const { fields, message } = yield* failing(`http://127.0.0.1:${yield* plain}`)
      assert.match(message, /connection (closed|reset)/)
      assert.deepStrictEqual(fields, {})
    })
  )
})
