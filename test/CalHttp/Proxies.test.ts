/** Calls to Cal.com and webhooks through a real proxy: what it is told, and what its failures mean for a token. */
import * as Http from "node:http"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Redacted } from "effect"
import * as CalClient from "../../src/CalClient.js"
import type { TokenHttp } from "../../src/CalHttp/HttpClients.js"
import * as NodeHttp from "../../src/CalHttp/Node.js"
import * as Proxies from "../../src/CalHttp/Proxies.js"
import * as Post from "../../src/Webhook/Post.js"
import * as ConnectProxy from "../support/ConnectProxy.js"
import * as OtherHttp from "../support/OtherHttp.js"

const token = Redacted.make("SECRET-refresh-token")
const managed = { _tag: "ManagedUser", clientId: "C", calUserId: 7 } as const
const oauth2 = { _tag: "OAuth2", clientId: "O", calUserId: 7 } as const

/** Everybody's names are his: nobody but the proxy can find them. */
const calOrigin = "http://api.cal.invalid"

const pair = {
  status: "success",
  data: { accessToken: "a", refreshToken: "r", accessTokenExpiresAt: Date.UTC(new Date().getUTCFullYear() + 1, 0) },
  access_token: "a",
  refresh_token: "r",
  expires_in: 1800
}

/** A Cal.com, with the head of every request. */
const cal = Effect.acquireRelease(
  Effect.async<{ readonly port: number; readonly heads: ReadonlyArray<Http.IncomingMessage>; close: () => void }>(
    (resume) => {
      const heads: Array<Http.IncomingMessage> = []
      const server = Http.createServer((request, response) => {
        heads.push(request)
        request.resume().on("end", () => response.end(JSON.stringify(pair)))
      })
      server.listen(0, "127.0.0.1", () => {
        const address = server.address()
        const port = typeof address === "object" && address !== null ? address.port : 0
        const close = () => {
          server.closeAllConnections()
          server.close()
        }
        resume(Effect.succeed({ port, heads, close }))
      })
    }
  ),
  ({ close }) => Effect.sync(close)
)

/** A Cal.com, and the one proxy that leads to it. */
const world = Effect.gen(function* () {
  const upstream = yield* cal
  const ports = { "api.cal.invalid:80": upstream.port, "api.cal.invalid:443": upstream.port }
  const proxy = yield* ConnectProxy.make({ ...ports, "hooks.invalid:80": upstream.port })
  return { upstream, proxy, proxies: through(proxy.port) }
})

const through = (port: number, others: Proxies.Options = {}): Proxies.Options => ({
  httpsProxy: Redacted.make(`http://SECRET-user:SECRET%2Dpass@127.0.0.1:${port}`),
  httpProxy: Redacted.make(`http://SECRET-user:SECRET%2Dpass@127.0.0.1:${port}`),
  ...others
})

const withClient = (
  proxies: Proxies.Options,
  apiUrl = calOrigin,
  http: Layer.Layer<TokenHttp> = NodeHttp.layerTokenHttp
) =>
  Effect.provide(
    CalClient.layer({
      apiUrl,
      managed: { clientId: "C", clientSecret: Redacted.make("SECRET-of-C") },
      oauth2: { clientId: "O", clientSecret: Redacted.make("SECRET-of-O") }
    }).pipe(Layer.provide(fresh(http)), Layer.provide(Layer.succeed(Proxies.Proxies, proxies)))
  )

/** Built with the proxies at hand, whatever was built before. */
const fresh = (http: Layer.Layer<TokenHttp>) => Layer.fresh(http)

const refresh = (connection: typeof managed | typeof oauth2 = managed) =>
  Effect.flatMap(CalClient.CalClient, (client) => client.refresh(connection, token))

const outcome = Effect.map(Effect.flip(refresh()), (failure) => {
  const text = `${failure._tag}/${failure.error._tag}: ${failure.error.message}`
  assert.notInclude(`${text} ${JSON.stringify(failure)}`, "SECRET")
  return text
})

describe("through a proxy", () => {
  it.scopedLive(
    "tokens of both kinds are refreshed, each by a tunnel of its own, of which the proxy knows the host",
    () =>
      Effect.gen(function* () {
        const { proxies, proxy, upstream } = yield* world
        yield* Effect.all([refresh(managed), refresh(oauth2)]).pipe(withClient(proxies))
        assert.lengthOf(proxy.heads, 2)
        const credentials = Buffer.from("SECRET-user:SECRET-pass").toString("base64")
        for (const head of proxy.heads) {
          assert.match(head, /^CONNECT api\.cal\.invalid:80 HTTP\/1\.1\r\n/)
          assert.include(head.toLowerCase(), `proxy-authorization: basic ${credentials.toLowerCase()}`)
          assert.notMatch(head, /SECRET-(refresh|of)/)
        }
        assert.deepStrictEqual(
          upstream.heads.map(({ headers, url }) => [url, headers.host, headers.connection]),
          [
            ["/oauth/C/refresh", "api.cal.invalid", "close"],
            ["/auth/oauth2/token", "api.cal.invalid", "close"]
          ]
        )
        for (const { rawHeaders } of upstream.heads) assert.notMatch(rawHeaders.join("\n"), /^proxy-/im)
      })
  )

  it.scopedLive("API requests share a tunnel", () =>
    Effect.gen(function* () {
      const { proxies, proxy, upstream } = yield* world
      // undici lets a turn of the event loop pass before it takes a connection again.
      const turn = Effect.async<void>((resume) => void setImmediate(() => resume(Effect.void)))
      const twice = Effect.all([refresh(), turn, turn, refresh()])
      yield* twice.pipe(withClient(proxies, calOrigin, OtherHttp.reusing))
      assert.lengthOf(proxy.heads, 1)
      assert.lengthOf(upstream.heads, 2)
    })
  )

  it.scopedLive("a webhook is posted, with the credentials of its URL", () =>
    Effect.gen(function* () {
      const { proxies, proxy, upstream } = yield* world
      const post = yield* Effect.provideService(Post.make, Proxies.Proxies, proxies)
      assert.strictEqual(yield* post(Redacted.make("http://me:it%27s@hooks.invalid/x?y=1"), "{}", { a: "b" }), 200)
      assert.match(proxy.heads[0] ?? "", /^CONNECT hooks\.invalid:80 /)
      const [{ headers, url } = { headers: {} as Http.IncomingHttpHeaders, url: "" }] = upstream.heads
      assert.deepStrictEqual(
        [url, headers.authorization, headers["a"], headers["content-length"], headers.connection],
        ["/x?y=1", `Basic ${Buffer.from("me:it's").toString("base64")}`, "b", "2", "close"]
      )
      proxy.setMood({ status: 407, body: "" })
      const reason = yield* Effect.flip(post(Redacted.make("http://hooks.invalid/x"), "{}", {}))
      assert.strictEqual(reason, "the proxy answered 407 to CONNECT")
    })
  )

  it.scopedLive("what NO_PROXY names is reached directly, and so is this machine", () =>
    Effect.gen(function* () {
      const { proxy, upstream } = yield* world
      for (const noProxy of ["x.example,.cal.invalid", "api.cal.invalid:80", "*"]) {
        const text = yield* outcome.pipe(withClient(through(proxy.port, { noProxy })))
        assert.match(text, /^NotSpent\/CalUnavailable: .*(host not found|name resolution failed)/)
        assert.notInclude(text, "proxy")
      }
      yield* refresh().pipe(withClient(through(proxy.port), `http://127.0.0.1:${upstream.port}`))
      assert.lengthOf(proxy.heads, 0)
      yield* refresh().pipe(withClient(through(proxy.port, { noProxy: "cal.invalid:8080,xapi.cal.invalid" })))
      assert.lengthOf(proxy.heads, 1)
    })
  )

  it.scopedLive("the one for http is used for https where that has none, and not the other way round", () =>
    Effect.gen(function* () {
      const { proxies, proxy } = yield* world
      const asked = (options: Proxies.Options, apiUrl: string) =>
        Effect.map(outcome.pipe(withClient(options, apiUrl)), () => proxy.heads.at(-1)?.split(" ")[1])
      const secure = calOrigin.replace("http:", "https:")
      assert.strictEqual(yield* asked({ httpProxy: proxies.httpProxy }, secure), "api.cal.invalid:443")
      proxy.setMood({ status: 502, body: "" })
      assert.strictEqual(yield* asked({ httpProxy: proxies.httpProxy }, calOrigin), "api.cal.invalid:80")
      const before = proxy.heads.length
      yield* asked({ httpsProxy: proxies.httpsProxy }, calOrigin)
      assert.lengthOf(proxy.heads, before)
      yield* asked({ httpsProxy: proxies.httpsProxy }, secure)
      assert.lengthOf(proxy.heads, before + 1)
    })
  )
})

describe("a proxy that fails", () => {
  it.scopedLive("spends nothing where it is not reached", () =>
    Effect.gen(function* () {
      const { port } = yield* Effect.scoped(ConnectProxy.make({}))
      for (const apiUrl of [calOrigin, "https://api.cal.invalid"]) {
        assert.match(
          yield* outcome.pipe(withClient(through(port), apiUrl)),
          /^NotSpent\/CalUnavailable: .*through the proxy: connection refused/
        )
      }
    })
  )

  for (const status of [401, 403, 407, 429, 500, 502]) {
    it.scopedLive(`spends nothing with ${status}, whose words are not Cal.com's`, () =>
      Effect.gen(function* () {
        const { proxies, proxy, upstream } = yield* world
        const body = JSON.stringify({ error: "invalid_grant", error_description: "refresh_token_revoked", ...pair })
        proxy.setMood({ status, body })
        for (const apiUrl of [calOrigin, "https://api.cal.invalid"]) {
          assert.match(
            yield* outcome.pipe(withClient(proxies, apiUrl)),
            new RegExp(`^NotSpent/CalUnavailable: .*the proxy answered ${status} to CONNECT`)
          )
        }
        assert.lengthOf(upstream.heads, 0)
      })
    )
  }

  it.scopedLive("spends nothing by keeping silent, which is not waited for as long as for Cal.com", () =>
    Effect.gen(function* () {
      const { proxies, proxy } = yield* world
      proxy.setMood("silent")
      assert.match(
        yield* outcome.pipe(withClient(proxies), Effect.timeout("8 seconds")),
        /^NotSpent\/CalUnavailable: .*through the proxy: no answer/
      )
    })
  )

  it.scopedLive("is an unknown outcome once the request went through it, and none while TLS is agreed on", () =>
    Effect.gen(function* () {
      const { proxies, proxy } = yield* world
      proxy.setMood("mortal")
      assert.match(yield* outcome.pipe(withClient(proxies)), /^Unknown\/CalUnavailable/)
      assert.match(
        yield* outcome.pipe(withClient(proxies, "https://api.cal.invalid")),
        /^NotSpent\/CalUnavailable: .*through the proxy: connection (closed|reset)/
      )
    })
  )
})
