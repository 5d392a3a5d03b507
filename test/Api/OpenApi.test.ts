/** The published document, and the API value as something a browser could import. */
import * as Fs from "node:fs"
import { createHash } from "node:crypto"
import { gunzipSync } from "node:zlib"
import { HttpApi, OpenApi } from "@effect/platform"
import { assert, describe, it } from "@effect/vitest"
import { Validator } from "@seriousme/openapi-schema-validator"
import { Effect, Option, Schema } from "effect"
import { build } from "esbuild"
import { expect } from "vitest"
import { Api } from "../../src/Api.js"
import { examples } from "../../src/Api/Examples.js"
import { type Fact, facts } from "../../src/ErrorFacts.js"
import { callbackPath } from "../../src/Api/OAuth.js"
import { call, layer, raw } from "../support/HttpFakes.js"
import * as OpenApiDigest from "../support/OpenApiDigest.js"

/** As it is sent. */
const spec = JSON.parse(JSON.stringify(OpenApi.fromApi(Api))) as OpenApi.OpenAPISpec

const operations = Object.entries(spec.paths).flatMap(([path, item]) =>
  Object.entries(item).map(([method, operation]) => ({ path, method, operation }))
)

const statusOf = (tag: string) => (facts as Readonly<Record<string, Fact>>)[tag]?.status

interface Media {
  readonly schema: unknown
  readonly example?: unknown
  readonly examples?: Record<string, { readonly $ref: string }>
}

const media = (response: OpenApi.OpenApiSpecResponse | undefined) =>
  (response?.content?.["application/json"] ?? Object.values(response?.content ?? {})[0]) as Media

describe("the document", () => {
  it("is OpenAPI 3.1 to a validator", async () => {
    assert.deepStrictEqual(await new Validator().validate({ ...spec }), { valid: true })
  })

  it("promises callers what it promised", () => {
    expect(OpenApiDigest.make(spec)).toMatchSnapshot()
  })

  it("holds every endpoint, and the proxies", () => {
    const documented = operations.map(({ method, path }) => `${method.toUpperCase()} ${path}`)
    const defined: Array<string> = []
    HttpApi.reflect(Api, {
      onGroup: () => {},
      onEndpoint: ({ endpoint }) => {
        defined.push(`${endpoint.method} ${endpoint.path.replace(/:(\w+)/g, "{$1}")}`)
      }
    })
    const proxied = ["GET", "POST", "PUT", "PATCH", "DELETE"].flatMap((method) => [
      `${method} /api/cal/proxy/{userUlid}/{path}`,
      `${method} /api/cal/me/{path}`
    ])
    assert.sameMembers(documented, [...defined, ...proxied])
    assert.isAbove(defined.length, 10)
  })

  it("describes each operation, with its scope and its failures", () => {
    for (const { operation, path } of operations) {
      const where = operation.operationId
      assert.isAbove(operation.summary?.length ?? 0, 10, where)
      assert.isAbove(operation.description?.length ?? 0, 20, where)
      const isPage = path === callbackPath
      const isPublic = path.startsWith("/health/") || isPage
      const expected = isPublic
        ? []
        : path.includes("/atoms/")
          ? ["atomsToken"]
          : path.includes("/me/")
            ? ["userSession"]
            : ["apiKey"]
      assert.deepStrictEqual(operation.security.flatMap(Object.keys), expected, where)
      if (expected[0] === "apiKey") {
        assert.match(
          operation.security[0]?.["apiKey"]?.join() ?? "",
          /^(manage|manage,proxy|read-token|proxy|metrics)$/,
          where
        )
        for (const status of [401, 403, 429, 500, 503]) assert.isDefined(operation.responses[status], where)
        // What takes no input can refuse none.
        assert.strictEqual(operation.responses[400] !== undefined, path !== "/metrics", where)
      }
      for (const [status, response] of Object.entries(operation.responses)) {
        assert.isAbove(response.description.length, 0, where)
        const headers = Object.keys((response as { headers?: object }).headers ?? {})
        assert.deepStrictEqual(
          headers,
          status === "303"
            ? ["Location"]
            : status === "401"
              ? ["WWW-Authenticate"]
              : /429|50[23]/.test(status) && !isPublic
                ? ["Retry-After"]
                : headers,
          `${where} ${status}`
        )
      }
    }
  })

  it("says of every operation on a user what can come of it, and nothing else", () => {
    const told = operations.find(({ operation }) => operation.operationId === "connections.deleteConnection")
    assert.deepStrictEqual(Object.keys(told?.operation.responses ?? {}), [
      "200",
      "400",
      "401",
      "403",
      "404",
      "429",
      "500",
      "503"
    ])
  })

  it("describes the callback as what browsers meet: any query, a redirect and pages", () => {
    const operation = spec.paths[callbackPath]?.get
    assert.deepStrictEqual(
      operation?.parameters.map(({ in: where, name, required, schema }) => [
        name,
        where,
        required,
        JSON.stringify(schema)
      ]),
      ["state", "code", "error"].map((name) => [name, "query", false, `{"type":"string"}`])
    )
    assert.deepStrictEqual(
      Object.entries(operation?.responses ?? {}).map(([status, { content }]) => [status, Object.keys(content ?? {})]),
      [
        ["303", []],
        ["400", ["text/html"]],
        ["403", ["text/html"]],
        ["429", ["application/json"]],
        ["500", ["application/json"]],
        ["502", ["text/html"]],
        ["503", ["text/html", "application/json"]]
      ]
    )
    // Nothing of the query is decoded before the handler: a query that does not fit would be answered with JSON.
    HttpApi.reflect(Api, {
      onGroup: () => {},
      onEndpoint: ({ endpoint, middleware }) => {
        if (endpoint.name !== "oauthCallback") return
        assert.isTrue(Option.isNone(endpoint.urlParamsSchema))
        assert.strictEqual(middleware.size, 0)
      }
    })
  })

  it("knows nothing of the platform's own errors, nor of schemas that nobody uses", () => {
    const text = JSON.stringify(spec)
    assert.notMatch(text, /HttpApiDecodeError|"additionalProperties":false/)
    for (const name of Object.keys(spec.components.schemas)) {
      assert.include(text, `"#/components/schemas/${name}"`)
    }
  })

  it("tells each status of a failure once, and shows it", () => {
    const all = operations.flatMap(({ operation }) => Object.entries(operation.responses))
    for (const [status, response] of all) {
      for (const name of Object.keys(media(response)?.examples ?? {})) {
        const tag = name.replace(/^Atoms/, "")
        if (name !== "Unhealthy") assert.strictEqual(String(statusOf(tag)), status, name)
      }
    }
  })

  it("shows failures that their schemas take, each with words of its own", () => {
    const { examples: shown, schemas } = spec.components as unknown as {
      readonly examples: Readonly<Record<string, { readonly value: { readonly error?: string } }>>
      readonly schemas: Readonly<Record<string, { readonly description?: string }>>
    }
    const seen = new Set<string>()
    HttpApi.reflect(Api, {
      onGroup: () => {},
      onEndpoint: ({ endpoint, errors }) => {
        const operation = operations.find(({ operation }) => operation.operationId.endsWith(`.${endpoint.name}`))
        for (const [status, { ast }] of errors) {
          const takes = Schema.decodeUnknownOption(Schema.make(Option.getOrThrow(ast)))
          for (const name of Object.keys(media(operation?.operation.responses[status])?.examples ?? {})) {
            assert.isTrue(Option.isSome(takes(shown[name]?.value)), `${endpoint.name} ${name}`)
            seen.add(name)
          }
        }
      }
    })
    assert.sameMembers([...seen], Object.keys(shown))
    for (const [name, { value }] of Object.entries(shown)) {
      if (name !== "Unhealthy") assert.isAbove(value.error?.length ?? 0, 20, name)
      if (name !== "Unhealthy") assert.strictEqual(value.error, schemas[name]?.description, name)
    }
  })

  it("holds no token, not even one that was made up: those are in angle brackets", () => {
    const given = (text: string) =>
      Array.from(
        text.matchAll(/"(?:accessToken|refreshToken|code|state|completion)":"([^"]+)"/g),
        ([, value = ""]) => value
      )
    const codes = Object.keys(facts)
    for (const value of given(JSON.stringify(spec))) assert.isTrue(/^<.+>$/.test(value) || codes.includes(value), value)
    assert.notMatch(JSON.stringify(spec), /eyJ|[\w-]{40,}/)
  })

  it("shows requests and answers that its schemas take", () => {
    const seen: Array<string> = []
    HttpApi.reflect(Api, {
      onGroup: () => {},
      onEndpoint: ({ endpoint, payloads, successes }) => {
        // A redirect is all that a person sees of one.
        if (endpoint.name === "oauthCallback") return
        const { answer, request } = examples[endpoint.name] ?? {}
        seen.push(endpoint.name)
        const operation = operations.find(({ operation }) => operation.operationId.endsWith(`.${endpoint.name}`))
        assert(operation !== undefined)
        for (const { ast } of payloads.values()) {
          assert.isTrue(Option.isSome(Schema.decodeUnknownOption(Schema.make(ast))(request)), endpoint.name)
          const shown = operation.operation.requestBody?.content["application/json"] as Media
          assert.deepStrictEqual(shown.example, request)
        }
        for (const [status, { ast }] of successes) {
          const schema = Schema.make(Option.getOrThrow(ast))
          assert.isTrue(Option.isSome(Schema.decodeUnknownOption(schema)(answer)), endpoint.name)
          assert.deepStrictEqual(media(operation.operation.responses[status]).example, answer)
        }
      }
    })
    assert.sameMembers(seen, Object.keys(examples))
  })

  it("has the package's version", () => {
    const { version } = JSON.parse(Fs.readFileSync("package.json", "utf8")) as { readonly version: string }
    assert.strictEqual(spec.info.version, version)
  })
})

describe("the service", () => {
  it.effect("serves the document to everybody", () =>
    Effect.gen(function* () {
      const { body, headers, status } = yield* call({ method: "GET", path: "/openapi.json" })
      assert.strictEqual(status, 200)
      assert.strictEqual(headers["content-type"], "application/json")
      assert.deepStrictEqual(JSON.parse(body), spec)
    }).pipe(Effect.provide(layer))
  )

  it.effect("serves it as a page that runs its own scripts and loads nothing", () =>
    Effect.gen(function* () {
      const first = yield* call({ method: "GET", path: "/docs" })
      const { body, headers, status } = yield* call({ method: "GET", path: "/docs" })
      assert.strictEqual(status, 200)
      assert.strictEqual(first.body, body)
      assert.match(headers["content-type"] ?? "", /^text\/html/)
      assert.strictEqual(headers["x-frame-options"], "DENY")
      const policy = headers["content-security-policy"] ?? ""
      assert.notMatch(policy, /https?:|\*|unsafe-eval|script-src[^;]*unsafe-inline/)
      assert.match(policy, /^default-src 'none'; .*connect-src 'self'.*frame-ancestors 'none'$/)
      const scripts = Array.from(body.matchAll(/<script([^>]*)>([^]*?)<\/script>/g))
      assert.strictEqual(scripts.length, 2)
      for (const [, attributes = "", text = ""] of scripts) {
        assert.notInclude(attributes, "src")
        if (attributes.includes("application/json")) continue
        assert.include(policy, `'sha256-${createHash("sha256").update(text).digest("base64")}'`)
      }
      const markup = body.replace(/<(script|style)[^>]*>[^]*?<\/\1>/g, "")
      assert.match(markup, /<link rel="icon" href="data:image\/svg\+xml,/)
      assert.notMatch(markup.replace(/<link rel="icon" href="data:[^"]*"/, ""), /<link|\ssrc=|url\(|@import/)
      assert.include(body, "/api/cal/ensure-token")
    }).pipe(Effect.provide(layer))
  )

  for (const path of ["/docs", "/openapi.json"]) {
    it.effect(`sends ${path} once to each reader, and packed to those who can unpack it`, () =>
      Effect.gen(function* () {
        const get = (headers: Record<string, string> = {}) => raw(requestOf(path, headers))
        const whole = yield* get()
        const etag = tagOf(whole)
        assert.match(whole, /^HTTP\/1\.1 200 /)
        assert.match(whole, /\r\nvary: accept-encoding\r\n/i)
        assert.match(whole, /\r\ncache-control: no-cache\r\n/i)
        assert.notMatch(whole, /\r\ncontent-encoding:/i)
        for (const value of ["gzip", "br, GZIP;q=0.5", "deflate, gzip ; q=1.0"]) {
          const packed = yield* get({ "accept-encoding": value })
          assert.match(packed, /\r\ncontent-encoding: gzip\r\n/i, value)
          assert.notStrictEqual(tagOf(packed), etag)
          assert.isBelow(packed.length, whole.length / 2.5)
          assert.strictEqual(unpacked(packed), Buffer.from(bodyOf(whole), "latin1").toString())
          for (const known of [tagOf(packed), `W/${tagOf(packed)}, "x"`, "*"]) {
            const again = yield* get({ "accept-encoding": value, "if-none-match": known })
            assert.match(again, /^HTTP\/1\.1 304 /)
            assert.strictEqual(bodyOf(again), "")
            assert.strictEqual(tagOf(again), tagOf(packed))
          }
        }
        for (const value of ["gzip;q=0", "gzip; q=0.00", "gzipped", "br", ""]) {
          assert.strictEqual(tagOf(yield* get({ "accept-encoding": value })), etag, value)
        }
        assert.match(yield* get({ "if-none-match": `"x", ${etag}` }), /^HTTP\/1\.1 304 /)
        assert.match(yield* get({ "if-none-match": `"x"` }), /^HTTP\/1\.1 200 /)
        const head = yield* raw(requestOf(path, {}, "HEAD"))
        assert.match(head, /^HTTP\/1\.1 200 /)
        assert.strictEqual(bodyOf(head), "")
        assert.strictEqual(tagOf(head), etag)
      }).pipe(Effect.provide(layer))
    )
  }
})

const requestOf = (path: string, headers: Record<string, string>, method = "GET") =>
  [
    `${method} ${path} HTTP/1.1`,
    "Host: x",
    "Connection: close",
    ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`),
    "\r\n"
  ].join("\r\n")

const tagOf = (answer: string) => /\r\netag: (\S+)\r\n/i.exec(answer)?.[1] ?? ""

const bodyOf = (answer: string) => answer.slice(answer.indexOf("\r\n\r\n") + 4)

const unpacked = (answer: string) => gunzipSync(Buffer.from(bodyOf(answer), "latin1")).toString()

describe("the API value", () => {
  it("needs neither Node nor anything that answers", async () => {
    const { metafile } = await build({
      entryPoints: ["src/Api.ts"],
      bundle: true,
      platform: "browser",
      format: "esm",
      write: false,
      metafile: true,
      logLevel: "silent"
    })
    const own = Object.keys(metafile.inputs).filter((file) => file.startsWith("src/"))
    assert.deepStrictEqual(
      own.filter((file) => !/^src\/Api(\.ts$|\/)/.test(file)),
      ["src/ErrorFacts.ts", "src/History.ts", "src/ApiKeys/Scope.ts"]
    )
    assert.include(own, "src/Api/Tokens.ts")
  })
})
