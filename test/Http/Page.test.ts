/** The operator's page as browsers get it: where it is, what holds for it, and that it stays where it belongs. */
import * as Zlib from "node:zlib"
import {
  HttpApi,
  HttpApiBuilder,
  HttpApiEndpoint,
  HttpApiGroup,
  HttpServer,
  HttpServerResponse
} from "@effect/platform"
import { NodeHttpServer } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Schema } from "effect"
import * as ApiKeys from "../../src/ApiKeys.js"
import * as Http from "../../src/Http.js"
import * as Lifecycle from "../../src/Http/Lifecycle.js"
import { call, layer, layerFake, layerServices, logger } from "../support/HttpFakes.js"
import { ask } from "../support/Browser.js"

const texts = {
  "/": "text/html; charset=utf-8",
  "/page/app.js": "text/javascript; charset=utf-8",
  "/page/app.css": "text/css; charset=utf-8",
  "/page/icon.svg": "image/svg+xml"
}

const get = (path: string, headers: Record<string, string> = {}) => call({ method: "GET", path, headers })

const served = <E1 = never, R1 = never, E2 = never, R2 = never>(options: Http.Options<E1, R1, E2, R2>) =>
  Http.layerWith(options).pipe(
    Layer.provideMerge(NodeHttpServer.layerTest),
    Layer.provide([ApiKeys.layer([]), Lifecycle.layer]),
    Layer.provide(layerServices),
    Layer.provide(logger),
    Layer.provideMerge(layerFake)
  )

const port = Effect.map(HttpServer.HttpServer, ({ address }) => (address._tag === "TcpAddress" ? address.port : 0))

describe.each(Object.entries(texts))("%s", (path, contentType) => {
  it.effect("is what the page is made of, for itself alone", () =>
    Effect.gen(function* () {
      const { body, headers, status } = yield* get(path)
      assert.deepStrictEqual([status, headers["content-type"]], [200, contentType])
      assert.isNotEmpty(body)
      assert.deepInclude(headers, {
        "content-security-policy":
          "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
          "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; " +
          "trusted-types 'none'",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "cache-control": "no-cache"
      })
      for (const name of ["set-cookie", "access-control-allow-origin", "x-powered-by"]) {
        assert.isUndefined(headers[name], name)
      }
      assert.isDefined(headers["x-request-id"])
    }).pipe(Effect.provide(layer))
  )

  it.effect("is sent packed to who takes that, and once only", () =>
    Effect.gen(function* () {
      const at = yield* port
      const plain = yield* get(path, { "accept-encoding": "identity" })
      assert.isUndefined(plain.headers["content-encoding"])
      const packed = yield* Effect.promise(() => ask(at, { path, headers: { "accept-encoding": "br, gzip" } }))
      assert.strictEqual(packed.headers["content-encoding"], "gzip")
      assert.strictEqual(Zlib.gunzipSync(packed.bytes).toString(), plain.body)
      for (const etag of [plain.headers["etag"] ?? "", packed.headers["etag"] ?? ""]) {
        const encoding = etag.includes("gzip") ? "gzip" : "identity"
        for (const known of [etag, `W/${etag}`, `"other", ${etag}`]) {
          const again = yield* get(path, { "accept-encoding": encoding, "if-none-match": known })
          assert.deepStrictEqual([again.status, again.body], [304, ""])
          assert.strictEqual(again.headers["etag"], etag)
        }
        assert.strictEqual((yield* get(path, { "accept-encoding": encoding, "if-none-match": `"x"` })).status, 200)
      }
    }).pipe(Effect.provide(layer))
  )

  it.effect("has a head, and takes nothing else", () =>
    Effect.gen(function* () {
      const whole = yield* get(path, { "accept-encoding": "identity" })
      const head = yield* call({ method: "HEAD", path, headers: { "accept-encoding": "identity" } })
      assert.deepStrictEqual([head.status, head.body, head.headers["etag"]], [200, "", whole.headers["etag"]])
      for (const method of ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] as const) {
        const { headers, status } = yield* call({ method, path })
        assert.deepStrictEqual([status, headers["allow"]], [405, "GET"], method)
      }
    }).pipe(Effect.provide(layer))
  )
})

describe("the page", () => {
  it.effect("loads by relative URLs what is there, and nothing from elsewhere", () =>
    Effect.gen(function* () {
      const { body } = yield* get("/")
      const urls = Array.from(body.matchAll(/(?:href|src)="([^"]*)"/g), ([, url = ""]) => url)
      assert.isNotEmpty(urls)
      for (const url of urls) {
        assert.match(url, /^page\/[a-z.]+$/)
        assert.strictEqual((yield* get(`/${url}`)).status, 200, url)
      }
      // The policy would refuse these.
      assert.notMatch(body, /<script(?![^>]* src=)|<style| style=| on[a-z]+=/)
    }).pipe(Effect.provide(layer))
  )

  it.effect("has one spelling, and what is beside it is as it was", () =>
    Effect.gen(function* () {
      for (const path of [
        "//",
        "/?x",
        "/page",
        "/page/",
        "/page/app.js/",
        "/Page/app.js",
        "/page//app.js",
        "/page/%61pp.js",
        "/page/app.js;x",
        "/page/session/",
        "/page/other.js",
        "/index.html"
      ]) {
        const { body, status } = yield* get(path)
        if (path === "/?x") {
          assert.strictEqual(status, 200)
          continue
        }
        assert.strictEqual(status, 404, path)
        assert.include(body, `"code":"NotFound"`)
      }
    }).pipe(Effect.provide(layer))
  )

  it.effect("is below a prefix, and where its slash is missing browsers are sent to it, whatever is in front", () =>
    Effect.gen(function* () {
      for (const prefix of ["/internal/tokens", "/acme/tokens"]) {
        assert.strictEqual((yield* get(`${prefix}/page/app.js`)).status, 200)
        assert.include((yield* get(`${prefix}/`)).body, "<!doctype html>")
        for (const method of ["GET", "HEAD"] as const) {
          for (const query of ["", "?x=1"]) {
            const { headers, status } = yield* call({ method, path: `${prefix}${query}` })
            assert.deepStrictEqual([status, headers["location"]], [308, "./tokens/"])
          }
        }
        assert.strictEqual((yield* call({ method: "POST", path: prefix })).status, 404)
      }
      for (const path of ["/", "/page/app.js", "/internal", "/internal/", "/internal/tokens//", "/internal/tokensx"]) {
        assert.strictEqual((yield* get(path)).status, 404, path)
      }
    }).pipe(Effect.provide(served({ prefix: "/:tenant/tokens" })))
  )

  it.effect("gives way to a route of the program at the same place", () =>
    Effect.gen(function* () {
      for (const path of ["/", "/page/session"] as const) {
        const own = HttpApiBuilder.Router.use((router) => router.get(path, HttpServerResponse.text("mine")))
        const answers = yield* Effect.all([get(path), get("/page/app.js"), get("/docs")]).pipe(
          Effect.provide(served({ routes: own }))
        )
        assert.deepStrictEqual(
          answers.map(({ body, status }) => [status, body === "mine"]),
          [
            [200, true],
            [404, false],
            [200, false]
          ]
        )
      }
    })
  )

  class Mine extends HttpApiGroup.make("mine").add(HttpApiEndpoint.get("root", "/").addSuccess(Schema.String)) {}
  class MyApi extends HttpApi.make("my").add(Mine) {}
  const mine = HttpApiBuilder.api(MyApi).pipe(
    Layer.provide(HttpApiBuilder.group(MyApi, "mine", (handlers) => handlers.handle("root", () => Effect.succeed("x"))))
  )

  it.effect("is not there beside another API at the same root, and below a prefix it is", () =>
    Effect.gen(function* () {
      const beside = yield* Effect.all([get("/"), get("/page/app.js"), get("/page/session")]).pipe(
        Effect.provide(served({ api: mine }))
      )
      assert.deepStrictEqual(
        beside.map(({ body, status }) => [status, body]),
        [
          [200, `"x"`],
          [404, ""],
          [404, ""]
        ]
      )
      const below = yield* Effect.all([get("/"), get("/tokens/"), get("/tokens"), get("/tokens/page/session")]).pipe(
        Effect.provide(served({ api: mine, prefix: "/tokens" }))
      )
      assert.deepStrictEqual(
        below.map(({ status }) => status),
        [200, 200, 308, 401]
      )
    })
  )
})
