/**
 * Whoever forbids a path at their own edge forbids one spelling. So every route is tried in others, over a socket: none
 * reaches a handler. The routes are taken from the API value, so that a new one is tried as well.
 */
import { randomInt } from "node:crypto"
import { HttpApi, HttpApiBuilder, HttpServer, HttpServerResponse } from "@effect/platform"
import { NodeHttpServer } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Effect, FastCheck, Layer } from "effect"
import { Api } from "../../src/Api.js"
import * as ApiKeys from "../../src/ApiKeys.js"
import * as Http from "../../src/Http.js"
import * as Origins from "../../src/Http/Origins.js"
import * as Lifecycle from "../../src/Http/Lifecycle.js"
import { type Answer, converse, type Request } from "../support/Conversation.js"
import { calls, Fake, layer as layerOfAll, layerFake, layerServices, logger, userUlid } from "../support/HttpFakes.js"

interface Route {
  readonly method: string
  readonly path: string
}

const routes: Array<Route> = [
  { method: "GET", path: `/api/cal/proxy/${userUlid}/me` },
  { method: "GET", path: "/docs" },
  { method: "GET", path: "/openapi.json" }
]
HttpApi.reflect(Api, {
  onGroup: () => {},
  onEndpoint: ({ endpoint: { method, path } }) => {
    routes.push({ method, path: path.replace(/:\w+/g, userUlid) })
  }
})

const layer = layerOfAll.pipe(Layer.provide(Layer.succeed(Origins.AllowedOrigins, ["https://app.example.com"])))

const port = Effect.map(HttpServer.HttpServer, ({ address }) => (address._tag === "TcpAddress" ? address.port : 0))

const ask = (requests: ReadonlyArray<Request>) =>
  Effect.gen(function* () {
    const at = yield* port
    return yield* Effect.promise(() => converse(at, requests))
  })

// ---------------------------------------------------------------------------------------------------------------------
// Other spellings of a path
// ---------------------------------------------------------------------------------------------------------------------

const { array, constantFrom, nat, tuple } = FastCheck

const insertAt = (text: string, index: number, part: string) => text.slice(0, index) + part + text.slice(index)

const escape = (character: string) => `%${character.charCodeAt(0).toString(16)}`

/** Where segments begin, after their slashes. */
const beginnings = (path: string) => Array.from(path.matchAll(/\//g), ({ index }) => index + 1)

const pick = <A>(all: ReadonlyArray<A>, n: number): A => all[n % all.length] as A

/** Each makes of a path another one, which a reader that is kind, or different, might take for the same. */
const changes: Readonly<Record<string, (path: string, n: number) => string>> = {
  "one letter in another case": (path, n) => {
    const letters = Array.from(path.replace(userUlid, "").matchAll(/[a-z]/g), ({ index }) => index)
    const at = pick(
      letters.map((index) =>
        index > path.indexOf(userUlid) && path.includes(userUlid) ? index + userUlid.length : index
      ),
      n
    )
    return path.slice(0, at) + path.charAt(at).toUpperCase() + path.slice(at + 1)
  },
  "all in upper case": (path) => path.toUpperCase(),
  "one character escaped": (path, n) => {
    const at = 1 + (n % (path.length - 1))
    return path.slice(0, at) + escape(path.charAt(at)) + path.slice(at + 1)
  },
  "one character escaped twice": (path, n) => {
    const at = 1 + (n % (path.length - 1))
    return path.slice(0, at) + escape(path.charAt(at)).replace("%", "%25") + path.slice(at + 1)
  },
  "more slashes": (path, n) => insertAt(path, pick(beginnings(path), n), pick(["/", "//", "/./", "\\"], n >> 4)),
  "a dot segment": (path, n) =>
    insertAt(path, pick(beginnings(path), n), pick(["./", "../", "x/../", "%2e/", "x/%2e%2e/", "..;/", ".;/"], n >> 4)),
  "a way around": (path, n) => insertAt(path, pick(beginnings(path), n), `${pick(path.split("/").slice(1), n)}/../`),
  "an end": (path, n) =>
    path +
    pick(
      [
        "/",
        "//",
        "/.",
        "/..",
        ";",
        ";x=1",
        ";x=1/",
        "%20",
        "%00",
        "%09",
        "%3f",
        "%23",
        "#",
        "#x",
        "%2f",
        "\\",
        ".",
        ".json",
        "&",
        "%"
      ],
      n
    ),
  "a parameter within": (path, n) =>
    path
      .split("/")
      .map((segment, index, all) =>
        index === 1 + (n % (all.length - 1)) ? `${segment}${pick([";", ";a=b", ";.", "#"], n >> 4)}` : segment
      )
      .join("/"),
  "a backslash": (path, n) => {
    const at = pick(beginnings(path), n) - 1
    return `${path.slice(0, at)}${pick(["\\", "%5c", "%2f", "%2F"], n >> 4)}${path.slice(at + 1)}`
  },
  "an origin": (path, n) =>
    pick([`http://x${path}`, `https://x:80${path}`, `//x${path}`, `http://x/..${path}`, `/x/..${path}`], n)
}

/** One change, or a few on top of each other. */
const spelling = (path: string) =>
  array(tuple(constantFrom(...Object.keys(changes)), nat(10_000)), { minLength: 1, maxLength: 3 }).map((steps) =>
    steps.reduce((spelt, [name, n]) => changes[name]?.(spelt, n) ?? spelt, path)
  )

// ---------------------------------------------------------------------------------------------------------------------

const isProxy = (path: string) => path.startsWith("/api/cal/proxy/")

/** Below the proxy's prefix its handler judges what is written. */
const check = (request: Request, answer: Answer | undefined) => {
  const what = `${request.method} ${request.target}\n${answer?.text}`
  assert(answer !== undefined, what)
  const isJudged = isProxy(request.target) && answer.status === 400
  assert.strictEqual(answer.status, isJudged ? 400 : 404, what)
  assert.include(answer.text, `"success":false`, what)
  assert.include(answer.text, isJudged ? `"code":"InvalidInput"` : `"code":"NotFound"`, what)
}

/** No other spelling: of a route with a parameter, another value of it, and of the proxy, another path behind it. */
const isSame = (path: string, target: string) =>
  target === path ||
  (isProxy(path)
    ? target.startsWith(`/api/cal/proxy/${userUlid}/`)
    : path.endsWith(userUlid) && target.startsWith(path) && /^[\w.&]*$/.test(target.slice(path.length)))

/** A value of another route's parameter, which takes other methods: `/sessions/.json` is one of `DELETE /sessions/…`. */
const isAnother = (target: string) =>
  routes.some(({ path }) => {
    const prefix = path.endsWith(`/${userUlid}`) ? path.slice(0, -userUlid.length) : undefined
    return (
      prefix !== undefined && target.startsWith(prefix) && /^(?!\.{1,2}$)[\w.&]+$/.test(target.slice(prefix.length))
    )
  })

/** What is more than odd Node's parser refuses, and hangs up. */
const isRequest = (target: string) => /^(https?:\/\/x(:80)?)?\/[\x21-\x7e]*$/i.test(target)

describe.each(routes)("$method $path", ({ method, path }) => {
  const request = (target: string): Request => ({ method, target, body: undefined })

  it.effect("is found as it is written, with a query too", () =>
    Effect.gen(function* () {
      // Its answer never ends.
      if (path === "/api/cal/events") return
      const answers = yield* ask([request(path), request(`${path}?x=;#%2e`)])
      assert.strictEqual(answers.length, 2)
      for (const { text } of answers) assert.notMatch(text, /^[^{]*\{[^{]*"code":"(NotFound|MethodNotAllowed)"/)
    }).pipe(Effect.provide(layer))
  )

  it.effect("and in no other spelling", () =>
    Effect.gen(function* () {
      const numbers = Array.from({ length: 200 }, (_, n) => n)
      const each = Object.values(changes).flatMap((change) => [...new Set(numbers.map((n) => change(path, n)))])
      const seed = randomInt(2 ** 31)
      const made = FastCheck.sample(spelling(path), { numRuns: 300, seed })
      const targets = [...each, ...made].filter(
        (target) => isRequest(target) && !isSame(path, target) && !isAnother(target)
      )
      assert.isAbove(targets.length, 200)
      const requests = targets.map(request)
      const answers = yield* ask(requests)
      requests.forEach((request, index) => check(request, answers[index]))
      assert.deepStrictEqual(yield* calls, [], `seed ${seed}`)
      assert.deepStrictEqual(
        (yield* Fake).logs.filter(({ annotations }) => annotations["operation"] !== "proxy"),
        []
      )
    }).pipe(Effect.provide(layer))
  )
})

describe("routes beside those of the API", () => {
  const said = (text: string) => Effect.succeed(HttpServerResponse.text(text))

  const layerWithMore = Http.layerWith({
    routes: HttpApiBuilder.Router.use((router) =>
      Effect.gen(function* () {
        yield* router.get("/", said("root"))
        yield* router.get("/slash/", said("slash"))
        yield* router.get("/files/:name", said("file"))
        yield* router.get("/below/*", said("below"))
        yield* router.all("/*", said("all"))
        yield* router.mountApp("/mounted", said("mounted"))
      })
    )
  }).pipe(
    Layer.provideMerge(NodeHttpServer.layerTest),
    Layer.provide(layerServices),
    Layer.provide(ApiKeys.layer([])),
    Layer.provide(Lifecycle.layer),
    Layer.provide(logger),
    Layer.provideMerge(layerFake)
  )

  it.effect("match exactly as well, but for what is below a wildcard or a mount", () =>
    Effect.gen(function* () {
      const expected: Readonly<Record<string, string | undefined>> = {
        "/": "root",
        "/slash/": "slash",
        "/slash": "all",
        "/files/a:b@c,d": "file",
        "/files/a%20b": undefined,
        "/files/a/": undefined,
        "/below/a%20b/../;c//": "below",
        "/%62elow/a": undefined,
        "/mounted": "mounted",
        "/mounted/%2e": "mounted",
        "/other": "all",
        // Were it taken, an escape could lead from the wildcard to another route.
        "/%66iles/a": undefined,
        "/api/cal/access-toke%6e/x": undefined
      }
      const targets = Object.keys(expected)
      const answers = yield* ask(targets.map((target) => ({ method: "GET", target, body: undefined })))
      targets.forEach((target, index) => {
        const text = answers[index]?.text ?? ""
        const words = expected[target]
        if (words === undefined) assert.match(text, /^HTTP\/1\.1 404 [^]*"code":"NotFound"/, target)
        else assert.isTrue(text.endsWith(`\r\n\r\n${words}`), `${target}\n${text}`)
      })
    }).pipe(Effect.provide(layerWithMore))
  )
})
